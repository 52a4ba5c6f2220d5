"""What every test may ask for: a clock, the simulator, the running service, the service as a process. And the last lines of a run: which attacks
were tried, alone and through which proxy."""

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from attacks.attack_ids import ALONE, KNOWN, NGINX, TRAEFIK, ids_in, in_short, ways_of
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


# -- the attacks of this run -------------------------------------------------------------------------------------------------------


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What an attack's test is about travels with its report, from whichever process runs it."""
    for item in items:
        ids = ids_in(getattr(item, "originalname", ""))
        if not ids:
            continue
        file = item.path.relative_to(Path(__file__).parent)
        arguments = set(getattr(item, "fixturenames", ()))
        ways = ways_of(file, arguments)
        if len(ways) > 1:
            ways = (item.callspec.params["place"],)  # type: ignore[attr-defined]  # a function's, as the fixture is parametrised
        item.user_properties.extend(("attack", f"{each} {way}") for each in ids for way in ways)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The ids whose tests passed in this run; one that also failed is not counted."""
    ran: dict[str, set[str]] = {ALONE: set(), NGINX: set(), TRAEFIK: set()}
    failed: set[str] = set()
    for outcome in ("passed", "failed", "error"):
        for report in terminalreporter.getreports(outcome):
            for kind, told in getattr(report, "user_properties", ()):  # a file that cannot be read has none
                if kind == "attack":
                    each, way = told.split()
                    if outcome != "passed":
                        failed.add(told)
                    elif report.when == "call":
                        ran[way].add(each)
    for way, ids in ran.items():
        ids.difference_update(told.split()[0] for told in failed if told.endswith(" " + way))
    if not any(ran.values()):
        return
    terminalreporter.section("attacks")
    for way, ids in ran.items():
        what = way if way == ALONE else f"through {way}"
        terminalreporter.write_line(f"{what}: {len(ids)} of {len(KNOWN)}: {in_short(ids)}")
    reasons = tomllib.loads((Path(__file__).parent / "attacks/coverage.toml").read_text(encoding="utf-8"))
    terminalreporter.write_line(f"not in this version: {len(reasons['not_yet'])}: {in_short(reasons['not_yet'])}")
    if failed:
        terminalreporter.write_line(f"FAILED: {', '.join(sorted(failed))}")
