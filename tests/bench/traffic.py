"""Small programs that the bench runs beside the server: one that asks at a steady pace and times each answer, one that is slow on purpose.

    python traffic.py probe PORT SECONDS RATE FILE     checks, RATE a second over eight connections: prints microseconds, one a line
    python traffic.py slow PORT COUNT                  COUNT connections that send a head byte by byte; prints "ready", runs until told to end
    python traffic.py pages PORT SECONDS RATE FILE     requests to the outer door, each on its own connection: prints how many were answered

FILE: the bytes of the request. For: latency as a proxy sees it. Refuses: an answer that is not 200 (the program fails).
"""

import contextlib
import os
import selectors
import socket
import sys
import time
from pathlib import Path


def _connect(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), timeout=10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _answer(sock: socket.socket, data: bytes) -> bytes:
    sock.sendall(data)
    got = sock.recv(65536)
    while b"\r\n\r\n" not in got:
        more = sock.recv(65536)
        if not more:
            break
        got += more
    return got


def probe(port: int, seconds: float, rate: float, data: bytes) -> None:
    with contextlib.suppress(OSError):
        os.nice(-10)  # it shares its core with what makes the load, and must not wait for that
    socks = [_connect(port) for _ in range(8)]
    for sock in socks:
        _answer(sock, data)
    took: list[float] = []
    began = due = time.perf_counter()
    number = 0
    while due < began + seconds:
        wait = due - time.perf_counter()
        if wait > 0:
            time.sleep(wait)
        sent = time.perf_counter()
        got = _answer(socks[number % 8], data)
        took.append((time.perf_counter() - sent) * 1e6)
        if not got.startswith(b"HTTP/1.1 200 "):
            sys.exit(f"not 200: {got[:100]!r}")
        number += 1
        due = max(due + 1 / rate, sent)  # who comes late does not send a burst
    print("\n".join(f"{each:.1f}" for each in took))


def slow(port: int, count: int) -> None:
    """A byte on each connection every four seconds; who is closed comes back."""
    selector = selectors.DefaultSelector()
    open_: list[socket.socket] = []

    def come() -> None:
        sock = _connect(port)
        sock.sendall(b"GET /auth/nginx HTTP/1.1\r\nHost: slow\r\nX-Slow: ")
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_READ)
        open_.append(sock)

    while len(open_) < count:
        come()
        if len(open_) % 100 == 0:
            time.sleep(0.002)
    print("ready", flush=True)
    at = 0
    while True:
        for key, _ in selector.select(0.01):
            sock = key.fileobj
            assert isinstance(sock, socket.socket)
            selector.unregister(sock)
            sock.close()
            place = open_.index(sock)
            open_[place] = open_[-1]
            open_.pop()
        for _ in range(min(20, count - len(open_))):
            come()
        for _ in range(max(1, count // 400)):  # a hundredth of a second's share
            at = (at + 1) % len(open_)
            with contextlib.suppress(OSError):
                open_[at].send(b"x")


def pages(port: int, seconds: float, rate: float, data: bytes) -> None:
    count = 0
    began = due = time.perf_counter()
    while due < began + seconds:
        time.sleep(max(0.0, due - time.perf_counter()))
        with _connect(port) as sock:
            sock.sendall(data)
            got = b""
            while more := sock.recv(65536):
                got += more
        if not got.startswith(b"HTTP/1.1 200 ") or b"text/html" not in got:
            sys.exit(f"not a page: {got[:200]!r}")
        count += 1
        due += 1 / rate
    print(count)


if __name__ == "__main__":
    kind, port, *rest = sys.argv[1:]
    if kind == "slow":
        slow(int(port), int(rest[0]))
    else:
        {"probe": probe, "pages": pages}[kind](int(port), float(rest[0]), float(rest[1]), Path(rest[2]).read_bytes())
