"""Why somebody was refused, for five minutes: the link between a 403 of the inner door and the page of the outer door.

For: giving a refusal a short reference, the same for the same login and rule while it is fresh, and finding its details again by reference.
Refuses: to show the details to another ticket than the one they were made for (the page compares the login), and to grow: bounded, and
what is refused again and again is counted, not stored again.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cachetools import LRUCache, TTLCache

FRESH: Final = 300  # seconds
_MOST: Final = 10_000
_ALPHABET: Final = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"  # nothing that is misheard on the telephone


def new_reference() -> str:
    """`ABCD-1234`-like, 40 random bits."""
    letters = [secrets.choice(_ALPHABET) for _ in range(8)]
    return "".join(letters[:4]) + "-" + "".join(letters[4:])


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refusal: of which login, in which app, by which rule."""

    reference: str
    login_id: bytes
    app: str
    rule: int


class Refusals:
    """Those of the last five minutes by reference; how often by cause."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._by_reference: TTLCache[str, Refusal] = TTLCache(_MOST, FRESH, clock)
        self._fresh: TTLCache[tuple[bytes, str, int], Refusal] = TTLCache(_MOST, FRESH, clock)
        self._untold: LRUCache[tuple[bytes, str, int], int] = LRUCache(_MOST)

    def note(self, login_id: bytes, app: str, rule: int) -> tuple[Refusal, int]:
        """Count one refusal. -> (the Refusal, the same for the same login, app and rule within five minutes; how many refusals the audit
        trail has not heard of: 0 when it was told within five minutes, else all since then, this one included)."""
        cause = (login_id, app, rule)
        refusal = self._fresh.get(cause)
        if refusal is not None:
            self._untold[cause] = self._untold.get(cause, 0) + 1
            return refusal, 0
        refusal = Refusal(new_reference(), login_id, app, rule)
        self._fresh[cause] = refusal
        self._by_reference[refusal.reference] = refusal
        return refusal, self._untold.pop(cause, 0) + 1

    def find(self, reference: str) -> Refusal | None:
        """The refusal of that reference, if it is still fresh."""
        return self._by_reference.get(reference)
