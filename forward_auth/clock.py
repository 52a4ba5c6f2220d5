"""The time of the running program: Unix seconds that never go back and never stand still.

For: limits of sessions. If the machine's clock is set back, time goes on from where it was (a session is never lengthened by it, R14); if it is
set forward, time follows (a session may end early, which is only a new sign-in). Refuses: to hide a wrong clock; the skew against PSC is a
metric and an alert.
"""

import time
from collections.abc import Callable


class SteadyClock:
    """Call it. wall and steady are the two clocks of the machine, given for tests."""

    __slots__ = ("_ahead", "_steady", "_wall")

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic) -> None:
        self._wall = wall
        self._steady = steady
        self._ahead = wall() - steady()

    def __call__(self) -> float:
        steady = self._steady()
        ahead = self._wall() - steady
        if ahead > self._ahead:
            self._ahead = ahead
        return steady + self._ahead
