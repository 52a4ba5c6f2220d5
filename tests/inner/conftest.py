"""One running service for a whole file of tests that change nothing of it, with somebody signed in."""

import logging
from collections.abc import Iterator

import pytest
from inner_entry import Entry, enter
from running import CLIENT, Clock, Running, SimulatorThread, shared_key


class _Faults(logging.Handler):
    def __init__(self, faults: list[str]) -> None:
        super().__init__(logging.ERROR)
        self.faults = faults

    def emit(self, record: logging.LogRecord) -> None:
        self.faults.append(record.getMessage())


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
