"""What every engine means by the same words: live, past, kept, exactly one selection. Pure.

A permission ends *at* its instant (`now >= ends` is over), a prohibition ends *after* it (`now > until` is over): on the very
second both fall on the safe side. Refuses: a Selection that names nothing or two things (an empty one must never be read as
«everyone»), and rows that do not belong together.
"""

from typing import Final, Literal

from forward_auth.errors import StoreUnavailable
from forward_auth.stores import LoginRow, Selection, TicketRow

Column = Literal["id", "sid_tag", "sub_tag", "person_tag", "everyone"]

ANY_TIME: Final = (1 << 62) - 1
"""`before` of a tombstone for a sid: later than every auth_time, for that PSC session has no later authentication."""

AT_PSC: Final = frozenset({"sid_tag", "sub_tag"})
"""What PSC names when it says that its own session is over. Only then is the sid itself dead: after any other end (idle, administrator,
another person, a sign-out that PSC was not told of) the professional may come back with the same session at PSC."""

CHANGE_KEPT: Final = 600
"""Seconds a Change is kept at least. It is kept longer, until the login's own end: a process that could not listen for an
hour must still hear of a logout as long as its memory could hold that login."""


def lapses(login: LoginRow) -> int:
    """The second from which the login is no longer live."""
    return min(login.ends, login.seen + login.idle)


def is_live(login: LoginRow, now: int) -> bool:
    """Whether the login is inside its limits."""
    return now < lapses(login)


def column_of(which: Selection) -> tuple[Column, bytes]:
    """(the column that selects, its value); ("everyone", b"") for all. ValueError unless exactly one field is given."""
    asked: list[tuple[Column, bytes]] = []
    if which.login_id is not None:
        asked.append(("id", which.login_id))
    if which.sid_tag is not None:
        asked.append(("sid_tag", which.sid_tag))
    if which.sub_tag is not None:
        asked.append(("sub_tag", which.sub_tag))
    if which.person_tag is not None:
        asked.append(("person_tag", which.person_tag))
    if which.everyone:
        asked.append(("everyone", b""))
    if len(asked) != 1:
        raise ValueError(f"a Selection names exactly one thing, this one names {len(asked)}")
    if which.before is not None and which.sub_tag is None:
        raise ValueError("`before` goes with `sub_tag` only")
    return asked[0]


def must_belong(ticket: TicketRow, login: LoginRow) -> None:
    """ValueError when a login is added together with a ticket of another login."""
    if ticket.login_id != login.id:
        raise ValueError("the ticket is for another login")


def must_grow(login: LoginRow, was: int) -> None:
    """ValueError when a replacement does not raise the version: compare-and-swap would then let an older writer win."""
    if login.version <= was:
        raise ValueError(f"version {login.version} does not follow {was}")


def closed() -> StoreUnavailable:
    """The error of a store that is used before `open` or after `close`."""
    return StoreUnavailable("store_closed", "the store is not open; a programming error, or the service is stopping")
