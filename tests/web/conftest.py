"""One running service for the tests of a module that leave nothing behind."""

from collections.abc import Iterator

import pytest
from running import CLIENT, Clock, Running, SimulatorThread, shared_key

from forward_auth import renewal, sessions


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The service of `running`, started once for a whole module."""
    clock = Clock()
    with (
        SimulatorThread(clients=[CLIENT], clock=clock, key=shared_key()) as simulator,
        Running(tmp_path_factory.mktemp("shared"), simulator, clock) as service,
    ):
        yield service


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the service looks for in the background it looks for twenty times a second, so that no test waits for it."""
    monkeypatch.setattr(renewal, "_LOOK", 0.05)
    monkeypatch.setattr(sessions, "_POLL", 0.05)
