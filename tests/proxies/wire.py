"""Both ends of a proxy, byte for byte: a server that plays a script and keeps what it got, and a client that sends what it is told.

The scripted server stands for the application, and for our own server where a test is about the proxy's file alone: it plays the
answers of the contract. Refuses: to tidy anything. Names keep their case, lines their order, targets their bytes.
"""

import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self


@dataclass(frozen=True, slots=True)
class Heard:
    """One request or answer as it arrived. `start`: its first line; `connection`: which one it came on, counted from 1."""

    start: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    connection: int = 0

    @property
    def method(self) -> bytes:
        return self.start.split(b" ")[0]

    @property
    def target(self) -> bytes:
        return self.start.split(b" ", 1)[1].rsplit(b" ", 1)[0]

    @property
    def status(self) -> int:
        return int(self.start.split(b" ")[1])

    def all(self, name: str) -> list[bytes]:
        """Every value under that name, in any case."""
        return [value for key, value in self.headers if key.lower() == name.lower().encode()]

    def one(self, name: str) -> bytes | None:
        """The value; None when absent; AssertionError when there are several."""
        values = self.all(name)
        assert len(values) < 2, values
        return values[0] if values else None


class Wire:
    """Reads HTTP/1 messages from a socket."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._held = b""

    def _more(self) -> bool:
        piece = self.connection.recv(65536)
        self._held += piece
        return bool(piece)

    def read(self, size: int) -> bytes:
        while len(self._held) < size and self._more():
            pass
        taken, self._held = self._held[:size], self._held[size:]
        return taken

    def rest(self) -> bytes:
        while self._more():
            pass
        taken, self._held = self._held, b""
        return taken

    def head(self) -> tuple[bytes, tuple[tuple[bytes, bytes], ...]] | None:
        while b"\r\n\r\n" not in self._held:
            if not self._more():
                return None
        head, _, self._held = self._held.partition(b"\r\n\r\n")
        start, *lines = head.split(b"\r\n")
        pairs = (line.partition(b":") for line in lines)
        return start, tuple((name, value.strip(b" \t")) for name, _, value in pairs)

    def _chunks(self) -> bytes:
        whole = b""
        while True:
            while b"\r\n" not in self._held and self._more():
                pass
            line, _, self._held = self._held.partition(b"\r\n")
            size = int(line or b"0", 16)
            whole += self.read(size)
            self.read(2)
            if not size:
                return whole

    def message(self, connection: int = 0, *, request: bool) -> Heard | None:
        head = self.head()
        if head is None:
            return None
        start, headers = head
        named = {name.lower(): value for name, value in headers}
        body = b""
        if b"chunked" in named.get(b"transfer-encoding", b""):
            body = self._chunks()
        elif b"content-length" in named:
            body = self.read(int(named[b"content-length"]))
        elif not request and start.split(b" ")[1] not in (b"101", b"204", b"304"):
            body = self.rest()
        return Heard(start, headers, body, connection)


Answer = bytes | Callable[[Wire], None] | None
Script = Callable[[Heard], Answer]


@dataclass
class Server:
    """Listens on 127.0.0.1 (`port`), or at `path`; answers each request with what `script` gives: bytes; None to hang up; or a
    function that takes over the connection (WebSocket, slowness). `requests`: all that were heard."""

    script: Script
    path: Path | None = None
    tls: ssl.SSLContext | None = None
    requests: list[Heard] = field(default_factory=list)
    connections: int = 0
    port: int = 0

    def __enter__(self) -> Self:
        if self.path is None:
            self._socket = socket.create_server(("127.0.0.1", self.port), backlog=128)
            self.port = int(self._socket.getsockname()[1])
        else:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.bind(str(self.path))
            self._socket.listen(128)
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()
        return self

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                self._open.add(connection)
                thread = threading.Thread(target=self._serve, args=(connection, self.connections), daemon=True)
                self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        wire = Wire(connection)
        with suppress(OSError, ValueError):
            while (heard := wire.message(number, request=True)) is not None:
                with self._lock:
                    self.requests.append(heard)
                answer = self.script(heard)
                if isinstance(answer, bytes):
                    connection.sendall(answer)
                    continue
                if answer is not None:
                    answer(wire)
                break
        with self._lock:
            self._open.discard(connection)
        connection.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        with self._lock:
            left = list(self._open)
        for connection in left:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._accepting.join(5)
        for thread in self._threads:
            thread.join(5)
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def answer(status: str, headers: Iterable[tuple[str, str]] = (), body: bytes = b"") -> bytes:
    """An HTTP/1.1 answer with its length."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{lines}\r\n".encode() + body


class Client:
    """One connection. `tls`: a context; `name`: the server's name in the handshake."""

    def __init__(self, port: int, *, tls: ssl.SSLContext | None = None, name: str = "") -> None:
        plain = socket.create_connection(("127.0.0.1", port), timeout=20)
        try:
            self.socket = plain if tls is None else tls.wrap_socket(plain, server_hostname=name)
        except BaseException:
            plain.close()
            raise
        self.wire = Wire(self.socket)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, raw: bytes) -> Heard:
        """Sends the bytes, reads one answer."""
        self.socket.sendall(raw)
        heard = self.wire.message(request=False)
        assert heard is not None, "the connection was closed without an answer"
        return heard


def request(
    target: str, host: str, headers: Iterable[tuple[str, str]] = (), *, method: str = "GET", body: bytes = b""
) -> bytes:
    """The bytes of one request. Headers stand as given, in the order given."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    if body:
        lines += f"Content-Length: {len(body)}\r\n"
    return f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n".encode() + body
