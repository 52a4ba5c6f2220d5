"""What every test may ask for: a clock, the simulator, the running service, the service as a process."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from running import CLIENT, Clock, Program, Running, SimulatorThread, shared_key

from forward_auth.simulator import Simulator


@pytest.fixture
def clock() -> Clock:
    """A clock that the test turns; service and simulator go by it."""
    return Clock()


@pytest.fixture
def psc(clock: Clock) -> Iterator[Simulator]:
    """The simulator of PSC, alone."""
    with SimulatorThread(clients=[CLIENT], clock=clock, key=shared_key()) as simulator:
        yield simulator


@pytest.fixture
def running(tmp_path: Path, psc: Simulator, clock: Clock) -> Iterator[Running]:
    """The service with two apps on two domains."""
    with Running(tmp_path, psc, clock) as service:
        yield service


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    """The service as a process, on the real clock."""
    with SimulatorThread(clients=[CLIENT], key=shared_key()) as simulator, Program(tmp_path, simulator) as service:
        yield service
