"""Our time never goes back and never stands still."""

import time

from hypothesis import given
from hypothesis import strategies as st

from forward_auth.clock import SteadyClock


class Wall:
    """The clock of a machine that somebody sets."""

    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def test_time_goes_on_as_the_machine_says() -> None:
    """Set forward, it follows: a session may end early."""
    wall = Wall()
    clock = SteadyClock(wall)
    assert 1_800_000_000.0 == clock()
    wall.now += 5
    assert 1_800_000_005.0 == clock()
    wall.now += 86_400
    assert 1_800_086_405.0 == clock()


def test_SESS_05_a_clock_set_back_lengthens_no_session() -> None:
    """Time stays where it was at that instant, and goes on from there."""
    wall = Wall()
    clock = SteadyClock(wall)
    clock()
    wall.now -= 3600
    assert 1_800_000_000.0 == clock()
    wall.now += 10
    assert 1_800_000_010.0 == clock()
    wall.now -= 7200
    assert 1_800_000_010.0 == clock()
    wall.now += 1
    assert 1_800_000_011.0 == clock()


@given(st.lists(st.floats(min_value=-1e6, max_value=1e6), max_size=30))
def test_whatever_is_done_to_the_machines_clock_ours_only_goes_on(steps: list[float]) -> None:
    """Never back; and after any step a second of the machine is a second of ours."""
    wall = Wall()
    clock = SteadyClock(wall)
    last = clock()
    for step in steps:
        wall.now += step
        now = clock()
        assert now >= last
        wall.now += 1
        last = clock()
        assert abs(last - now - 1) < 1e-6


def test_by_default_it_is_the_machines_time() -> None:
    """Unix seconds."""
    before = time.time()
    assert before <= SteadyClock()() <= time.time()
