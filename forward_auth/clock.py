"""The time of the running program: Unix seconds that never go back and never stand still.

For: limits of sessions. If the machine's clock is set back, time goes on from where it was (a session is never lengthened by it, R14); if it is
set forward, time follows (a session may end early, which is only a new sign-in). Refuses: to hide a wrong clock; the skew against PSC is a
metric and an alert.
"""

import time
from collections.abc import Callable


class SteadyClock:
    """Call it. `wall`: the clock of the machine, given for tests. What is lost when the clock is set back is the time since the last
    call; the service calls several times a second, if only to hear of changes."""

    __slots__ = ("_ahead", "_last", "_wall")

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._ahead = 0.0
        self._last = 0.0

    def __call__(self) -> float:
        now = self._wall() + self._ahead
        if now < self._last:
            self._ahead += self._last - now
            return self._last
        self._last = now
        return now
