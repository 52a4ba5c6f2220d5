"""Where logins live: one contract, several engines.

The store is not trusted: every record it keeps is sealed by us (sealing.py), every look-up column is a keyed hash. A store
answers «no such row» only when it knows; when it cannot answer it raises StoreUnavailable. Refuses: to decide anything.

Times are Unix seconds (int) and are given. A permission ends *at* its instant, a prohibition *after* it: a login is live while
`now < ends` and `now < seen + idle`, a ticket or note while `now < ends` (`until`); a tombstone or claim holds while
`now <= until`. Every method that writes has written durably when it returns; one that raised StoreUnavailable, or whose
caller was cancelled, may have written or not, but never half. ValueError and TypeError are our own mistakes, never the store's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class LoginRow:
    """One authentication at PSC, as the store keeps it."""

    id: bytes  # 16 random bytes
    sealed: bytes  # the record under the login's own key; the store cannot read it
    listing: bytes  # what `sessions list` shows, under the ring
    sid_tag: bytes | None  # HMAC of PSC's sid, None when PSC gave none
    sub_tag: bytes | None  # HMAC of (issuer, sub)
    person_tag: bytes  # HMAC of the national id
    auth_time: int
    created: int
    seen: int  # last activity, coarse
    idle: int  # seconds without activity after which the login ends
    ends: int  # absolute end
    version: int  # grows with every replacement


@dataclass(frozen=True, slots=True)
class TicketRow:
    """A secret that opens a login: a browser's ticket or a one-time hand-off code."""

    digest: bytes  # SHA-256 of the secret; the secret itself is never stored
    kind: str  # "ticket" | "handoff"
    host: str  # the hostname it is for
    login_id: bytes
    wrapped: bytes  # the login's key, wrapped under a key derived from the secret and the ring
    bind: bytes | None  # hand-off: SHA-256 of the secret in the browser's cookie
    created: int
    ends: int


@dataclass(frozen=True, slots=True)
class Change:
    """What other processes must hear: a login was ended or replaced. `sequence` grows."""

    sequence: int
    login_id: bytes
    ended: bool  # False: replaced, read it again


@dataclass(frozen=True, slots=True)
class Ended:
    """A login that `end` has just ended."""

    login_id: bytes
    listing: bytes


@dataclass(frozen=True, slots=True)
class Lapsed:
    """A login that `lapse` has just removed. `absolute`: past its absolute end, else idle for too long."""

    login_id: bytes
    listing: bytes
    absolute: bool


@dataclass(frozen=True, slots=True)
class Selection:
    """Which logins to end. Exactly one field is given (`before` goes with `sub_tag`)."""

    login_id: bytes | None = None
    sid_tag: bytes | None = None
    sub_tag: bytes | None = None
    before: int | None = None  # with sub_tag: only logins whose auth_time <= before
    person_tag: bytes | None = None
    everyone: bool = False


class Store(Protocol):
    """The contract that every engine passes (tests/contracts)."""

    async def open(self) -> None:
        """Ready the store; again does nothing. Raises StoreUnavailable with the cure in `detail`."""

    async def close(self) -> None:
        """Finish what was asked, let go of everything. Idempotent. Afterwards everything but `open` is StoreUnavailable."""

    async def health(self) -> str | None:
        """None when it can be read and written; else one English sentence with the cure. Never raises StoreUnavailable."""

    async def add_login(self, login: LoginRow, ticket: TicketRow, now: int) -> bool:
        """Add both rows in one transaction. False (and nothing written) when a tombstone forbids it: a logout for its sid,
        or for its sub with `before >= login.auth_time`, arrived first. ValueError for an id or digest that exists, or a ticket
        of another login."""

    async def replace_login(self, login: LoginRow, was: int, now: int) -> bool:
        """Replace the row of that id if its version is still `was`; False otherwise, also when it has ended or is past its
        limits. Records a Change. Tombstones as in add_login. The tickets stay. `seen` never moves back: it becomes the later
        of both. ValueError unless `login.version > was`."""

    async def add_ticket(self, ticket: TicketRow, now: int) -> bool:
        """False when its login is not live (ended, expired, unknown). ValueError for a digest that exists."""

    async def find(self, digest: bytes, now: int) -> tuple[TicketRow, LoginRow] | None:
        """The live ticket and its live login; None when either is unknown, ended or past its limits (`ends`, `seen + idle`)."""

    async def login(self, login_id: bytes, now: int) -> LoginRow | None:
        """The live login of that id."""

    async def take(self, digest: bytes, now: int) -> tuple[TicketRow, LoginRow] | None:
        """As find, and the ticket row is gone: of many callers at once exactly one gets it. An expired row is removed too."""

    async def drop_ticket(self, digest: bytes) -> None:
        """Forget one ticket; its login lives on."""

    async def touch(self, seen: Mapping[bytes, int], now: int) -> None:
        """Move `seen` of these logins forward, never back, never beyond `now`. Unknown ids are ignored. Activity that fell
        inside the limits counts, even when it is written a little after them; later activity revives nobody."""

    async def end(self, which: Selection, now: int, keep_until: int) -> Sequence[Ended]:
        """End the selected logins and all their tickets, and say which of them were live, by id.

        Records a Change for each, and for a `login_id` also when no row was found. Tombstones until keep_until: for the
        sid_tag or sub_tag asked for, even when no login was found (a sub's covers `auth_time <= before`, without `before`
        those up to now), and then for the sid of each login ended. Any other end leaves none: the session at PSC may live
        on, and the professional may come back with it. ValueError unless exactly one thing is selected.
        """

    async def is_ended(self, sid_tag: bytes | None, sub_tag: bytes | None, auth_time: int, now: int) -> bool:
        """Whether a tombstone covers this sid, or this sub for that auth_time. None is covered by nothing."""

    async def changes(self, after: int) -> tuple[int, Sequence[Change]]:
        """(newest sequence, changes with sequence > after, in order). `after = -1` gives only the newest sequence. Cheap when
        nothing changed.

        Of several changes to one login only the newest is kept. A newest sequence below `after` means another file or a
        restart of `memory:`: whoever sees that forgets what it holds in memory.
        """

    async def logins(self, now: int) -> Sequence[LoginRow]:
        """All live logins, newest first."""

    async def lapse(self, now: int, most: int = 1000) -> Sequence[Lapsed]:
        """Remove up to `most` logins that are past their limits, the oldest first, with their tickets. Of several callers exactly one is
        told of each, so that the audit trail hears of it once."""

    async def expire(self, now: int, most: int = 1000) -> int:
        """Remove up to `most` rows of each other kind that are past their limits, the oldest first; how many. Changes stay at least 10 min, and until the login itself would have ended: a process
        that could not listen for so long must still hear of it."""

    async def put_note(self, name: str, value: bytes, until: int) -> None:
        """A small durable note (PSC's last good metadata and keys). Replaces the one of that name."""

    async def get_note(self, name: str, now: int) -> bytes | None:
        """The note, unless past its `until`."""

    async def claim(self, name: str, until: int, now: int) -> bool:
        """True for exactly one caller per name until `until` passes (replay memory, single flight between processes)."""

    async def release(self, name: str) -> None:
        """Give a claim back early."""
