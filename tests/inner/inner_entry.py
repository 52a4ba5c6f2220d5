"""Somebody who is signed in at the first app, for the tests of the inner door."""

from dataclasses import dataclass, field

from inner_wire import FORWARDED, Heard, ask
from running import Browser, Running


@dataclass
class Entry:
    """`running` with a browser that is in at the first app; `faults`: what the log called an error."""

    running: Running
    cookie: bytes
    faults: list[str] = field(default_factory=list)

    @property
    def inner(self) -> tuple[str, int]:
        host, port = self.running.inner
        return str(host), int(port)

    def head(self, more: bytes = b"", *, dialect: bytes = b"nginx", forwarded: bytes = FORWARDED) -> bytes:
        """A whole good request, with the cookie, and with `more` header lines."""
        return b"GET /auth/" + dialect + b" HTTP/1.1\r\nHost: inner\r\n" + forwarded + self.cookie + more + b"\r\n"

    def ask(self, data: bytes) -> list[Heard]:
        return ask(self.inner, data)


def enter(running: Running, browser: Browser | None = None) -> Entry:
    browser = Browser() if browser is None else browser
    assert 200 == running.sign_in(browser, "docteur-dupont").status
    return Entry(running, b"Cookie: " + browser.cookies("dossier.hopital.example").encode() + b"\r\n")
