"""Sockets that systemd holds (decision 39, sd_listen_fds(3)): which are taken, which are refused, and what stays when the process is gone."""

import os
import socket
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from commands import until
from running import CLIENT, DOSSIER, Browser, Program, SimulatorThread, configuration, free_port, shared_key
from soak.hospital import listening, started

from forward_auth.listening import CannotStart, handed_down

ISSUER = "http://psc.localhost:9/auth/realms/esante-wallet"


def said_at_start(folder: Path, held: list[socket.socket], path: Path) -> tuple[int, str]:
    """Exit code and output of a start that is refused."""
    process = started(["serve", "--config", str(path)], held, log=folder / "log", names="psc.socket")
    return process.wait(20), (folder / "log").read_text()


def test_the_queue_outlives_the_process(tmp_path: Path) -> None:
    """Who connects while nobody runs is answered by the next process; the socket's file is systemd's and stays; a session goes on."""
    with SimulatorThread(clients=[CLIENT], key=shared_key()) as simulator, ExitStack() as stack:
        program = Program(tmp_path, simulator)
        places = [f"127.0.0.1:{program.port}", f"unix:{program.inner_unix}", f"127.0.0.1:{program.outer[1]}"]
        held = [stack.enter_context(listening(place)) for place in places]

        def start() -> None:
            program.process = started(["serve", "--config", str(program.path)], held, log=tmp_path / "log")

        start()
        stack.callback(program.end)
        browser = Browser()
        assert until(lambda: program.ready()[0] == 200)
        assert 200 == program.sign_in(browser, "docteur-dupont").status
        assert 0 == program.end()
        assert Path(program.inner_unix).exists()
        waiting = stack.enter_context(closing(socket.socket(socket.AF_UNIX)))
        waiting.settimeout(20)
        waiting.connect(program.inner_unix)
        waiting.sendall(b"GET /livez HTTP/1.1\r\nHost: inner\r\n\r\n")
        start()
        assert waiting.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
        assert 200 == program.check(browser, DOSSIER + "/").status
        assert "Traceback" not in program.log()


def test_a_door_without_a_socket_is_opened_as_ever(tmp_path: Path) -> None:
    """One socket for three listeners: the other two are bound by the service itself, and the one of a path is removed at the end."""
    with SimulatorThread(clients=[CLIENT], key=shared_key()) as simulator, ExitStack() as stack:
        program = Program(tmp_path, simulator)
        held = [stack.enter_context(listening(f"127.0.0.1:{program.port}"))]
        program.process = started(["serve", "--config", str(program.path)], held, log=tmp_path / "log")
        stack.callback(program.end)
        assert until(lambda: program.ready()[0] == 200)
        assert 200 == program.sign_in(Browser(), "docteur-dupont").status
        assert 0 == program.end()
        assert not Path(program.inner_unix).exists()


def test_a_socket_that_fits_no_listener_is_refused(tmp_path: Path) -> None:
    """Exit 1 and one line with both addresses and both cures; nothing is opened beside it: people would wait in a queue that nobody reads."""
    port = free_port()
    path = configuration(tmp_path, ISSUER, inner=f"127.0.0.1:{port}", outer="127.0.0.1:0")
    with listening("127.0.0.1:0") as other:
        code, said = said_at_start(tmp_path, [other], path)
        notation = f"127.0.0.1:{other.getsockname()[1]}"
    said = "\n".join(
        line for line in said.splitlines() if not line.startswith("{")
    )  # a key ring was made, says the log
    assert (1, 1) == (code, len(said.splitlines()))
    assert (
        f"systemd handed down a socket on {notation}, and the configuration listens on 127.0.0.1:{port}, unix:" in said
    )
    assert f"write {notation} in server.inner or server.outer, or another ListenStream= in the .socket unit" in said
    assert not (tmp_path / "inner.sock").exists()


def test_what_is_not_a_listening_socket_is_refused(tmp_path: Path) -> None:
    """A datagram socket, one that does not listen: exit 1, the descriptor, its name and the directive to write."""
    path = configuration(tmp_path, ISSUER)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram, socket.socket() as quiet:
        for sock in (datagram, quiet):
            sock.bind(("127.0.0.1", 0))
            (tmp_path / "log").unlink(missing_ok=True)
            code, said = said_at_start(tmp_path, [sock], path)
            assert (1, 1) == (code, len(said.splitlines()))
            assert "descriptor 3 (psc.socket) is not a listening stream socket: use ListenStream= and Accept=no" in said


@pytest.mark.parametrize("count", ["x", "-1", "99999", "٣"])
def test_a_count_that_is_none_is_refused(count: str) -> None:
    """LISTEN_FDS written by hand: the sentence says so."""
    with pytest.raises(CannotStart, match="is not a number of sockets"):
        handed_down({"LISTEN_PID": "7", "LISTEN_FDS": count}, 7)


def test_sockets_meant_for_another_process_are_left_alone() -> None:
    """LISTEN_PID is not ours, or missing: the variables were inherited, and descriptor 3 may be anything."""
    for environment in ({}, {"LISTEN_FDS": "1"}, {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid() + 1)}):
        assert {} == handed_down(environment, os.getpid())
