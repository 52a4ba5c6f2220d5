"""Why somebody was refused, for five minutes: the link between a 403 of the inner door and the page of the outer door.

For: giving a refusal a short reference, the same for the same login and rule while it is fresh, and finding its details again by reference.
Refuses: to show the details to another ticket than the one they were made for (the page compares the login), and to grow: bounded, and
what is refused again and again is counted, not stored again.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from cachetools import TTLCache

FRESH: Final = 300  # seconds
_MOST: Final = 10_000
_ALPHABET: Final = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"  # nothing that is misheard on the telephone


def new_reference() -> str:
    """`ABCD-1234`-like, 40 random bits."""
    letters = [secrets.choice(_ALPHABET) for _ in range(8)]
    return "".join(letters[:4]) + "-" + "".join(letters[4:])


@dataclass(slots=True)
class Refusal:
    """One refusal: of which login, in which app, by which rule; `count`: how many times since it was fresh; `told`: whether the audit
    trail knows of it."""

    reference: str
    login_id: bytes
    app: str
    rule: int
    required: tuple[str, ...]
    count: int = 0
    told: bool = field(default=False)


class Refusals:
    """Those of the last five minutes."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._by_reference: TTLCache[str, Refusal] = TTLCache(_MOST, FRESH, clock)
        self._by_cause: TTLCache[tuple[bytes, str, int], Refusal] = TTLCache(_MOST, FRESH, clock)

    def note(self, login_id: bytes, app: str, rule: int, required: tuple[str, ...]) -> Refusal:
        """Count one refusal; the same Refusal for the same login, app and rule within five minutes."""
        cause = (login_id, app, rule)
        refusal = self._by_cause.get(cause)
        if refusal is None:
            refusal = Refusal(new_reference(), login_id, app, rule, required)
            self._by_cause[cause] = refusal
            self._by_reference[refusal.reference] = refusal
        refusal.count += 1
        return refusal

    def find(self, reference: str) -> Refusal | None:
        """The refusal of that reference, if it is still fresh."""
        return self._by_reference.get(reference)
