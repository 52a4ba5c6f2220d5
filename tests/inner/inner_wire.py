"""Bytes to the inner door and the answers that come back, told apart; nothing is tidied on the way.

For: tests that care for single bytes, for the order of answers and for who closes. Refuses: to send a header that the test did not write.
"""

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

FORWARDED = b"X-Forwarded-Method: GET\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: dossier.hopital.example\r\nX-Forwarded-Uri: /a\r\n"


@dataclass(frozen=True)
class Heard:
    """One answer. `lines`: its header lines as they came; `head`: all bytes up to the empty line."""

    status: int
    head: bytes
    body: bytes

    def all(self, name: bytes) -> list[bytes]:
        lines = self.head.split(b"\r\n")[1:]
        return [line.partition(b":")[2].strip() for line in lines if line.partition(b":")[0].lower() == name.lower()]

    def __getitem__(self, name: bytes) -> bytes:
        found = self.all(name)
        return found[0] if found else b""

    @property
    def closes(self) -> bool:
        return self.all(b"Connection") == [b"close"]


def answers(data: bytes, *, heads_only: bool = False) -> list[Heard]:
    """The answers in `data`, all of it; fails on anything that is not a whole answer."""
    found = []
    while data:
        head, end, data = data.partition(b"\r\n\r\n")
        assert end, head
        assert head.startswith(b"HTTP/1.1 "), head
        heard = Heard(int(head[9:12]), head, b"")
        lengths = heard.all(b"Content-Length")
        assert 1 == len(lengths), head
        size = 0 if heads_only else int(lengths[0])
        assert len(data) >= size, "a body was cut"
        found.append(Heard(heard.status, head, data[:size]))
        data = data[size:]
    return found


class Wire:
    """One connection to a door: `address` is (host, port) or the path of a unix socket."""

    def __init__(self, address: Any, source: str | None = None) -> None:
        if isinstance(address, str):
            self.sock = socket.socket(socket.AF_UNIX)
        else:
            self.sock = socket.socket()
            if source is not None:
                self.sock.bind((source, 0))
        self.sock.settimeout(5)
        try:
            self.sock.connect(address if isinstance(address, str) else tuple(address))
        except OSError:
            self.sock.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        """A door that closes while we still send is allowed to."""
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def finish(self) -> bytes:
        """Say that nothing more is coming; everything that came back."""
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        return self.until_closed()

    def until_closed(self) -> bytes:
        """Everything until the door closes; TimeoutError when it does not."""
        got = b""
        while True:
            try:
                more = self.sock.recv(65536)
            except ConnectionResetError:
                return got
            if not more:
                return got
            got += more

    def hear(self) -> Heard:
        """The next answer, no byte more."""
        got = b""
        while not got.endswith(b"\r\n\r\n"):
            byte = self.sock.recv(1)
            assert byte, f"closed in an answer: {got!r}"
            got += byte
        size = int(Heard(0, got[:-4], b"")[b"Content-Length"])
        body = b""
        while len(body) < size:
            body += self.sock.recv(size - len(body))
        return answers(got + body)[0]


def ask(address: Any, data: bytes, *, source: str | None = None, heads_only: bool = False) -> list[Heard]:
    """Send, end, and everything that was answered."""
    with Wire(address, source) as wire:
        wire.send(data)
        return answers(wire.finish(), heads_only=heads_only)


def closed_after(address: Any, data: bytes, *, source: str | None = None) -> list[Heard]:
    """Send, end nothing, and what was answered before the door closed by itself."""
    with Wire(address, source) as wire:
        wire.send(data)
        return answers(wire.until_closed())


def until(true: Callable[[], bool]) -> None:
    """Wait for what the door's own thread is about to do."""
    end = time.monotonic() + 3
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)
