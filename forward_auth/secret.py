"""A secret that cannot be printed by accident.

For: client secrets, tokens, keys, passed around as values. Refuses: to appear in a repr, a str, a format or a traceback;
whoever wants the value calls `reveal()`, which is easy to find in a review.
"""

from typing import Final

_HIDDEN: Final = "«secret»"


class Secret:
    """Wraps a str. `==` is not defined on purpose: compare with hmac.compare_digest(a.reveal(), b.reveal())."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself, for the one place that needs it."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return _HIDDEN

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(_HIDDEN, spec)

    def __reduce__(self) -> str:
        raise TypeError("a secret is not pickled")
