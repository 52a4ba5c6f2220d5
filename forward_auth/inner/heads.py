"""Heads seen before: what need not be parsed again.

For: a browser that asks for the next address of an application sends, through a proxy, byte for byte the head it sent before, but for the target.
Such a head was parsed by llhttp and read by the careful road once; with everything around the target equal and the target itself plain, that
reading stands. Refuses: to learn a head that was not whole, single and plain; a target with any byte outside printable ASCII; to decide
anything (the endpoint does). What was refused is remembered apart, so that a flood of strangers never pushes out who is signed in.
"""

import re
from typing import Any, Final, NamedTuple

_MOST: Final = 4096  # heads of each kind; at most 3 KiB each, about 1.5 KiB as browsers send them
_LARGEST: Final = 2048  # bytes of a head worth remembering
_TARGET_LINE: Final = re.compile(rb"\r\n[Xx]-[Ff]orwarded-[Uu]ri: ")
PLAIN: Final = re.compile(
    rb"[!\"$-~]{0,8192}"
).fullmatch  # printable ASCII without `#`; longer: limits are the careful road's
CRLF: Final = b"\r\n"
DEFAULT_MARK: Final = b"\r\nX-Forwarded-Uri: "


class Head(NamedTuple):
    """`endpoint`: whose it is; `reading`: what that endpoint made of it; `last`: it asked for the connection to be closed. The header lines
    are not kept: they would cost more than all the rest."""

    endpoint: Any
    reading: Any
    last: bool


class Heads:
    """Of one door. `known[before the target, after the target]`."""

    __slots__ = ("_once", "known", "mark", "refused")

    def __init__(self) -> None:
        self.mark = DEFAULT_MARK  # as the last proxy spelled it: where a new connection begins to look
        self._once: set[int] = set()
        self.known: dict[tuple[bytes, bytes], Head] = {}
        self.refused: dict[tuple[bytes, bytes], Head] = {}

    def clear(self) -> None:
        self.known.clear()
        self.refused.clear()
        self._once.clear()

    def again(self, before: bytes, after: bytes) -> bool:
        """Whether this head came before: only then is it worth learning. A flood of heads that never come twice costs a hash each."""
        mark = hash((before, after))
        if mark in self._once:
            self._once.discard(mark)
            return True
        if len(self._once) >= 4 * _MOST:
            self._once.clear()
        self._once.add(mark)
        return False

    def learn(self, data: bytes, endpoint: Any, headers: dict[bytes, bytes], last: bool) -> bytes | None:
        """`data` was one whole head, read as `headers`, none of them twice, without a body. -> how this proxy spells the line of the target,
        None when there is nothing to learn."""
        if len(data) > _LARGEST or data.count(b"\n") != len(headers) + 2:
            return None
        line = _TARGET_LINE.search(data)
        if line is None:
            return None
        before, mark, rest = data.partition(line[0])
        target, _, after = rest.partition(CRLF)
        if target != headers[b"x-forwarded-uri"] or PLAIN(target) is None:
            return None
        reading = endpoint.reading(headers)
        if reading is not None:
            table = self.known if reading.ticket is not None else self.refused
            if len(table) >= _MOST:
                table.clear()  # cheaper than keeping an order; what is used comes back with one careful reading
            table[before, after] = Head(endpoint, reading, last)
        self.mark = mark
        return mark
