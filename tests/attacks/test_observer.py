"""HDR-04, HDR-09: who may read the metrics may not ask a check, whatever a proxy's connection has taught the door."""

import socket

from running import DOSSIER, Browser, Running


def from_address(running: Running, source: str, data: bytes) -> bytes:
    """Bytes from another loopback address: 127.0.0.2 is an observer and no trusted proxy."""
    with socket.create_connection(running.inner, timeout=2, source_address=(source, 0)) as sock:
        sock.sendall(data)
        sock.settimeout(0.3)
        got = b""
        try:
            while more := sock.recv(65536):
                got += more
        except (TimeoutError, ConnectionResetError):
            pass
        return got


def test_HDR_09_an_observer_learns_nothing_from_a_proxy(running: Running) -> None:
    """A head that a proxy has sent often enough to be remembered gets an observer the same 404 as any check."""
    browser = Browser()
    running.sign_in(browser, "docteur-dupont")
    ticket = browser.jar["dossier.hopital.example"]["__Host-psc"]
    head = (
        f"GET /auth/nginx HTTP/1.1\r\nHost: a\r\nCookie: __Host-psc={ticket}\r\nX-Forwarded-Method: GET\r\nX-Forwarded-Proto: https\r\n"
        f"X-Forwarded-Host: {DOSSIER[8:]}\r\nX-Forwarded-Uri: /\r\n\r\n"
    ).encode()
    for _ in range(4):
        assert from_address(running, "127.0.0.1", head * 1).startswith(b"HTTP/1.1 200 OK\r\n")
    answer = from_address(running, "127.0.0.2", head)
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"X-PSC" not in answer
    assert from_address(running, "127.0.0.2", b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n").startswith(
        b"HTTP/1.1 200 OK\r\n"
    )
