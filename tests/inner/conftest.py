"""One running service for a whole file of tests that change nothing of it, with somebody signed in."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from inner_wire import FORWARDED, Heard, ask
from running import CLIENT, Browser, Clock, Running, SimulatorThread, shared_key


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
        return (
            b"GET /auth/" + dialect + b" HTTP/1.1\r\nHost: inner\r\n" + forwarded + self.cookie + more + b"\r\n"
        )

    def ask(self, data: bytes) -> list[Heard]:
        return ask(self.inner, data)


class _Faults(logging.Handler):
    def __init__(self, faults: list[str]) -> None:
        super().__init__(logging.ERROR)
        self.faults = faults

    def emit(self, record: logging.LogRecord) -> None:
        self.faults.append(record.getMessage())


def enter(running: Running) -> Entry:
    browser = Browser()
    assert 200 == running.sign_in(browser, "docteur-dupont").status
    return Entry(running, b"Cookie: " + browser.cookies("dossier.hopital.example").encode() + b"\r\n")


@pytest.fixture
def entry(running: Running) -> Entry:
    """A service of one's own."""
    return enter(running)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Entry]:
    """The service of this file."""
    clock = Clock()
    with (
        SimulatorThread(clients=[CLIENT], clock=clock, key=shared_key()) as simulator,
        Running(tmp_path_factory.mktemp("inner"), simulator, clock) as running,
    ):
        found = enter(running)
        handler = _Faults(found.faults)
        loggers = [logging.getLogger(name) for name in ("forward_auth", "asyncio")]
        for logger in loggers:
            logger.addHandler(handler)
        yield found
        for logger in loggers:
            logger.removeHandler(handler)
        assert [] == found.faults
