"""Where the doors listen: sockets that we bind ourselves, and sockets that systemd holds and hands down to us.

For: a listening socket for each listener of the configuration. A socket that systemd holds (decision 39, sd_listen_fds(3)) outlives this process, and
so does the queue of connections that wait in it: a restart keeps them waiting for half a second and loses none. Refuses: a socket that fits no listener
of the configuration, one that is not listening, a path on which somebody else listens.
"""

import contextlib
import errno
import grp
import os
import socket
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from forward_auth.errors import ForwardAuthError
from forward_auth.settings import Listener

FIRST: Final = 3  # SD_LISTEN_FDS_START
# What arrives while nobody accepts: a second of 2 000 requests/s, twice. The kernel's own limit (net.core.somaxconn) is the same number.
BACKLOG: Final = 4096


class CannotStart(ForwardAuthError):
    """A door cannot be opened, or a file that must be there is not; `detail` says which and the cure."""


class Listening:
    """All listening sockets of one process. `handed`: those that systemd gave it, see `handed_down`."""

    def __init__(self, handed: Mapping[str, socket.socket] | None = None) -> None:
        self._handed = dict(handed or {})
        self._own: list[tuple[socket.socket, Path | None]] = []

    def must_fit(self, *listeners: Listener) -> None:
        """Every socket handed down is one of these listeners. Raises CannotStart with the line to write; then none is kept open."""
        known = [str(listener) for listener in listeners]
        for notation in self._handed:
            if notation not in known:
                self.close()
                raise CannotStart(
                    "listen",
                    f"systemd handed down a socket on {notation}, and the configuration listens on {', '.join(known)}:"
                    f" write {notation} in server.inner or server.outer, or another ListenStream= in the .socket unit",
                )

    def open(self, listener: Listener, group: str | None) -> socket.socket:
        """A bound socket: the one that was handed down, else our own. Raises CannotStart."""
        handed = self._handed.pop(str(listener), None)
        if handed is not None:
            self._own.append((handed, None))
            return handed
        try:
            sock = _unix_socket(listener, group) if listener.kind == "unix" else _tcp_socket(listener)
        except OSError as error:
            cure = (
                "its directory must exist and be ours"
                if listener.kind == "unix" and error.errno != errno.EADDRINUSE
                else "is another program listening there?"
            )
            raise CannotStart("listen", f"cannot listen on {listener}: {error.strerror or error}; {cure}") from None
        self._own.append((sock, listener.path))
        return sock

    def close(self) -> None:
        """Close all of them; what we made in the file system is removed, what systemd made stays systemd's."""
        for sock, path in self._own:
            sock.close()
            if path is not None:
                with contextlib.suppress(OSError):
                    path.unlink()
        for sock in self._handed.values():
            sock.close()
        self._own, self._handed = [], {}


def handed_down(environment: Mapping[str, str], process: int) -> dict[str, socket.socket]:
    """The sockets that systemd has handed to this process, by their address as the configuration writes it. Raises CannotStart."""
    count = environment.get("LISTEN_FDS", "")
    if not count or environment.get("LISTEN_PID") != str(process):
        return {}  # none, or meant for the process that started us
    if not count.isascii() or not count.isdigit() or int(count) > 64:
        raise CannotStart(
            "listen", f"LISTEN_FDS={count!r} is not a number of sockets; it is set by systemd, not by hand"
        )
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    found: dict[str, socket.socket] = {}
    for number in range(int(count)):
        descriptor = FIRST + number
        name = names[number] if number < len(names) and names[number] else "without a name"
        try:
            sock = socket.socket(fileno=descriptor)
            fits = sock.type == socket.SOCK_STREAM and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
            notation = address(sock)
        except OSError as error:
            raise CannotStart(
                "listen",
                f"LISTEN_FDS says {count}, but descriptor {descriptor} ({name}) is no socket: {error.strerror or error}",
            ) from None
        if not fits:
            raise CannotStart(
                "listen",
                f"descriptor {descriptor} ({name}) is not a listening stream socket: use ListenStream= and Accept=no in the .socket unit",
            )
        sock.set_inheritable(False)
        sock.setblocking(False)
        found[notation_of(notation)] = sock
    return found


def address(sock: socket.socket) -> tuple[str, int] | str:
    """Host and port, or a path."""
    name = sock.getsockname()
    return name if isinstance(name, str) else (name[0], name[1])


def notation_of(place: tuple[str, int] | str) -> str:
    """As it is written in the configuration."""
    if isinstance(place, str):
        return f"unix:{place}"
    host, port = place
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _tcp_socket(listener: Listener) -> socket.socket:
    family = socket.AF_INET6 if ":" in listener.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((listener.host, listener.port))
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def _unix_socket(listener: Listener, group: str | None) -> socket.socket:
    path = listener.path
    assert path is not None
    _remove_stale(path)
    group_id = -1 if group is None else _group_id(group)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o117)  # born 0660: there is no moment in which others may connect
    try:
        sock.bind(str(path))
    except OSError:
        sock.close()
        raise
    finally:
        os.umask(before)
    try:
        os.chown(path, -1, group_id)
    except OSError as error:
        sock.close()
        path.unlink(missing_ok=True)
        raise CannotStart(
            "socket_group",
            f"{path}: cannot be given to server.socket_group {group} ({error.strerror}); let the service's user be in that group",
        ) from None
    sock.setblocking(False)
    return sock


def _group_id(group: str) -> int:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise CannotStart(
            "socket_group",
            f"server.socket_group: there is no group {group} on this machine; name the group of the proxy's user",
        ) from None


def _remove_stale(path: Path) -> None:
    """A socket that a killed process left behind; one that somebody listens on stays, and binding fails."""
    try:
        if not stat.S_ISSOCK(path.stat().st_mode):
            return
    except OSError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
        except OSError:
            return
