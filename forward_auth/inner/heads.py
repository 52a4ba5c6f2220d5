"""Heads seen before: what need not be parsed again.

For: a browser that asks for the next address of an application sends, through a proxy, byte for byte the head it sent before, but for the
target and, after another sign-in, for the ticket. Such a head was parsed by llhttp and read by the careful road once; with everything around
them equal, the target plain and the ticket of a ticket's form, that reading stands. Refuses: to learn a head that was not whole, single and
plain, or in which our cookie's name stands anywhere but once, at our cookie; a target with any byte outside printable ASCII; to decide
anything (the endpoint does). What strangers sent is remembered apart, so that a flood of them never pushes out who is signed in.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from forward_auth.sealing import TICKET_LENGTH

_MOST: Final = 4096  # heads of each kind; at most 3 KiB each, about 1.5 KiB as browsers send them
_LARGEST: Final = 2048  # bytes of a head worth remembering
_TARGET_LINE: Final = re.compile(rb"\r\n[Xx]-[Ff]orwarded-[Uu]ri: ")
PLAIN: Final = re.compile(
    rb"[!\"$-~]{0,8192}"
).fullmatch  # printable ASCII without `#`; longer: limits are the careful road's
_CRLF: Final = b"\r\n"
DEFAULT_MARK: Final = b"\r\nX-Forwarded-Uri: "

# What is around the target and the ticket: two parts without a ticket, three with one, four when it comes before the target.
Shape = tuple[bytes, ...]


class Head(NamedTuple):
    """`endpoint`: whose it is; `reading`: what that endpoint made of it; `last`: it asked for the connection to be closed. The header lines
    are not kept: they would cost more than all the rest."""

    endpoint: Any
    reading: Any
    last: bool


class Heads:
    """Of one door. `ticket_mark`: our cookie's name and `=`. `known`: heads of people, `refused`: of strangers, each by shape."""

    __slots__ = ("_once", "known", "mark", "refused", "ticket_mark")

    def __init__(self, ticket_mark: bytes) -> None:
        self.ticket_mark = ticket_mark
        self.mark = DEFAULT_MARK  # as the last proxy spelled it: where a new connection begins to look
        self._once: set[int] = set()
        self.known: dict[Shape, Head] = {}
        self.refused: dict[Shape, Head] = {}

    def clear(self) -> None:
        self.known.clear()
        self.refused.clear()
        self._once.clear()

    def split(self, data: bytes, mark: bytes) -> tuple[Shape, bytes, bytes | None] | None:
        """-> what is around them, the target, and the bytes where a ticket would stand; None when no line begins with `mark`. The three,
        put together again, are `data`; what they mean is known only of a shape that was learnt."""
        before, found, rest = data.partition(mark)
        if not found:
            return None
        target, _, after = rest.partition(_CRLF)
        left, found, right = after.partition(self.ticket_mark)
        if found:
            return (before, left, right[TICKET_LENGTH:]), target, right[:TICKET_LENGTH]
        left, found, right = before.partition(self.ticket_mark)
        if found:
            return (left, right[TICKET_LENGTH:], after, _CRLF), target, right[:TICKET_LENGTH]
        return (before, after), target, None

    def again(self, shape: Shape) -> bool:
        """Whether this shape came before: only then is it worth learning. A flood of heads that never come twice costs a hash each."""
        mark = hash(shape)
        if mark in self._once:
            self._once.discard(mark)
            return True
        if len(self._once) >= 4 * _MOST:
            self._once.clear()
        self._once.add(mark)
        return False

    def learn(self, data: bytes, endpoint: Any, headers: Mapping[bytes, bytes], last: bool) -> bytes | None:
        """`data` was one whole head, read as `headers`, none of them twice, without a body. -> how this proxy spells the line of the target,
        None when there is nothing to learn."""
        if len(data) > _LARGEST or data.count(b"\n") != len(headers) + 2:
            return None
        line = _TARGET_LINE.search(data)
        if line is None:
            return None
        mark = line[0]
        parts = self.split(data, mark)
        assert parts is not None  # it has just been found
        shape, target, ticket = parts
        if target != headers[b"x-forwarded-uri"] or PLAIN(target) is None:
            return None
        if any(self.ticket_mark in part for part in shape):
            return None  # a second ticket, or one that is no cookie
        reading = endpoint.reading(headers, ticket)
        if reading is not None:
            table = self.known if reading.somebody else self.refused
            if len(table) >= _MOST:
                table.clear()  # cheaper than keeping an order; what is used comes back with one careful reading
            table[shape] = Head(endpoint, reading, last)
        self.mark = mark
        return mark
