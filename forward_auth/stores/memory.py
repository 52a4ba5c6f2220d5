"""The store in this process's memory: for tests and throw-away runs (`memory:`).

Plain dictionaries, the same contract as every engine. Nothing survives `close` and no other process sees any of it, which is
why `sessions …` refuses it. Refuses: to be used before `open`; to evict anything (it grows until `expire`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from forward_auth.stores import Change, Ended, Lapsed, LoginRow, Selection, TicketRow
from forward_auth.stores.rules import (
    ANY_TIME,
    AT_PSC,
    CHANGE_KEPT,
    closed,
    column_of,
    is_live,
    lapses,
    must_belong,
    must_grow,
)

_K = TypeVar("_K", bytes, str, tuple[tuple[str, bytes], int], tuple[int, bytes])  # what can be ordered


@dataclass(slots=True)
class _Rows:
    """Everything there is, so that `close` can let go of it at once."""

    logins: dict[bytes, LoginRow] = field(default_factory=dict)
    tickets: dict[bytes, TicketRow] = field(default_factory=dict)
    tickets_of: dict[bytes, set[bytes]] = field(default_factory=dict)  # login id -> digests
    tombstones: dict[tuple[str, bytes], dict[int, int]] = field(default_factory=dict)  # (kind, tag) -> before -> until
    changes: dict[bytes, tuple[Change, int]] = field(default_factory=dict)  # login id -> (newest change, until)
    sequence: int = 0
    notes: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    claims: dict[str, int] = field(default_factory=dict)


class MemoryStore:
    """See forward_auth.stores.Store for what each method promises. No method awaits, so each is one step for everybody."""

    def __init__(self) -> None:
        self._open: _Rows | None = None

    @property
    def _rows(self) -> _Rows:
        if self._open is None:
            raise closed()
        return self._open

    async def open(self) -> None:
        """Ready the store. A second call changes nothing."""
        if self._open is None:
            self._open = _Rows()

    async def close(self) -> None:
        """Forget everything. Idempotent."""
        self._open = None

    async def health(self) -> str | None:
        """None when fine, else one English sentence."""
        return None if self._open is not None else "the store is not open"

    async def add_login(self, login: LoginRow, ticket: TicketRow, now: int) -> bool:
        """See Store.add_login. ValueError for an id or digest that is already there, or a ticket of another login."""
        must_belong(ticket, login)
        rows = self._rows
        if self._is_forbidden(login.sid_tag, login.sub_tag, login.auth_time, now):
            return False
        if login.id in rows.logins or ticket.digest in rows.tickets:
            raise ValueError("this login or ticket exists already")
        rows.logins[login.id] = login
        self._put_ticket(ticket)
        return True

    async def replace_login(self, login: LoginRow, was: int, now: int) -> bool:
        """See Store.replace_login. ValueError when the version does not grow."""
        must_grow(login, was)
        rows = self._rows
        old = rows.logins.get(login.id)
        if old is None or old.version != was or not is_live(old, now):
            return False
        if self._is_forbidden(login.sid_tag, login.sub_tag, login.auth_time, now):
            return False
        # Another process may have touched it since the caller read it: `seen` never moves back.
        rows.logins[login.id] = replace(login, seen=max(old.seen, login.seen))
        self._record(login.id, ended=False, until=max(now + CHANGE_KEPT, login.ends))
        return True

    async def add_ticket(self, ticket: TicketRow, now: int) -> bool:
        """See Store.add_ticket. ValueError for a digest that is already there."""
        rows = self._rows
        login = rows.logins.get(ticket.login_id)
        if login is None or not is_live(login, now):
            return False
        if ticket.digest in rows.tickets:
            raise ValueError("this ticket exists already")
        self._put_ticket(ticket)
        return True

    async def find(self, digest: bytes, now: int) -> tuple[TicketRow, LoginRow] | None:
        """See Store.find."""
        rows = self._rows
        ticket = rows.tickets.get(digest)
        if ticket is None or now >= ticket.ends:
            return None
        login = rows.logins[ticket.login_id]
        return (ticket, login) if is_live(login, now) else None

    async def login(self, login_id: bytes, now: int) -> LoginRow | None:
        """See Store.login."""
        login = self._rows.logins.get(login_id)
        return login if login is not None and is_live(login, now) else None

    async def take(self, digest: bytes, now: int) -> tuple[TicketRow, LoginRow] | None:
        """See Store.take."""
        found = await self.find(digest, now)  # does not suspend: see the class
        self._remove_ticket(digest)
        return found

    async def drop_ticket(self, digest: bytes) -> None:
        """See Store.drop_ticket."""
        self._remove_ticket(digest)

    async def touch(self, seen: Mapping[bytes, int], now: int) -> None:
        """See Store.touch."""
        logins = self._rows.logins
        for login_id, instant in seen.items():
            login = logins.get(login_id)
            instant = min(instant, now)
            if login is not None and login.seen < instant < lapses(login):
                logins[login_id] = replace(login, seen=instant)

    async def end(self, which: Selection, now: int, keep_until: int) -> Sequence[Ended]:
        """See Store.end. ValueError unless exactly one thing is selected."""
        column, value = column_of(which)
        rows = self._rows
        before = ANY_TIME if which.before is None else which.before
        if column == "sid_tag":
            self._bury("sid", value, ANY_TIME, keep_until)
        elif column == "sub_tag":
            self._bury("sub", value, now if which.before is None else before, keep_until)
        chosen = [
            login
            for login in rows.logins.values()
            if column == "everyone" or (getattr(login, column) == value and login.auth_time <= before)
        ]
        if column == "id" and not chosen:
            # Another process may hold it in memory, its last touch not yet written: it must hear of this all the same.
            self._record(value, ended=True, until=max(now + CHANGE_KEPT, keep_until))
        ended = []
        for login in sorted(chosen, key=lambda login: login.id):
            if is_live(login, now):
                ended.append(Ended(login.id, login.listing))
            if login.sid_tag is not None and column in AT_PSC:
                self._bury("sid", login.sid_tag, ANY_TIME, keep_until)
            self._record(login.id, ended=True, until=max(now + CHANGE_KEPT, keep_until, login.ends))
            self._remove_login(login.id)
        return ended

    async def is_ended(self, sid_tag: bytes | None, sub_tag: bytes | None, auth_time: int, now: int) -> bool:
        """See Store.is_ended."""
        return self._is_forbidden(sid_tag, sub_tag, auth_time, now)

    async def changes(self, after: int) -> tuple[int, Sequence[Change]]:
        """See Store.changes."""
        rows = self._rows
        if after < 0 or after >= rows.sequence:
            return rows.sequence, ()
        newer = [change for change, _ in rows.changes.values() if change.sequence > after]
        return rows.sequence, sorted(newer, key=lambda change: change.sequence)

    async def logins(self, now: int) -> Sequence[LoginRow]:
        """See Store.logins."""
        live = [login for login in self._rows.logins.values() if is_live(login, now)]
        return sorted(live, key=lambda login: (-login.created, login.id))

    async def lapse(self, now: int, most: int = 1000) -> Sequence[Lapsed]:
        """See Store.lapse."""
        rows = self._rows
        over = _first({key: lapses(row) for key, row in rows.logins.items()}, lambda end: end <= now, most)
        gone = [rows.logins[login_id] for login_id in over]
        for login in gone:
            self._remove_login(login.id)
        return [Lapsed(login.id, login.listing, now >= login.ends) for login in gone]

    async def expire(self, now: int, most: int = 1000) -> int:
        """See Store.expire."""
        rows = self._rows
        count = 0
        for digest in _first({key: row.ends for key, row in rows.tickets.items()}, lambda end: end <= now, most):
            self._remove_ticket(digest)
            count += 1
        stones = {(tag, before): until for tag, kept in rows.tombstones.items() for before, until in kept.items()}
        for tag, before in _first(stones, lambda end: end < now, most):
            del rows.tombstones[tag][before]
            if not rows.tombstones[tag]:
                del rows.tombstones[tag]
            count += 1
        changes = {(change.sequence, login_id): until for login_id, (change, until) in rows.changes.items()}
        for _, login_id in _first(changes, lambda end: end < now, most):
            del rows.changes[login_id]
            count += 1
        for name in _first({key: until for key, (_, until) in rows.notes.items()}, lambda end: end <= now, most):
            del rows.notes[name]
            count += 1
        for name in _first(rows.claims, lambda end: end < now, most):
            del rows.claims[name]
            count += 1
        return count

    async def put_note(self, name: str, value: bytes, until: int) -> None:
        """See Store.put_note."""
        self._rows.notes[name] = (value, until)

    async def get_note(self, name: str, now: int) -> bytes | None:
        """See Store.get_note."""
        value, until = self._rows.notes.get(name, (b"", now))
        return value if now < until else None

    async def claim(self, name: str, until: int, now: int) -> bool:
        """See Store.claim."""
        claims = self._rows.claims
        if name in claims and now <= claims[name]:
            return False
        claims[name] = until
        return True

    async def release(self, name: str) -> None:
        """See Store.release."""
        self._rows.claims.pop(name, None)

    def _is_forbidden(self, sid_tag: bytes | None, sub_tag: bytes | None, auth_time: int, now: int) -> bool:
        stones = self._rows.tombstones
        return any(
            auth_time <= before and now <= until
            for kind, tag in (("sid", sid_tag), ("sub", sub_tag))
            if tag is not None
            for before, until in stones.get((kind, tag), {}).items()
        )

    def _bury(self, kind: str, tag: bytes, before: int, until: int) -> None:
        stones = self._rows.tombstones.setdefault((kind, tag), {})
        stones[before] = max(until, stones.get(before, until))

    def _record(self, login_id: bytes, *, ended: bool, until: int) -> None:
        """One change per login, the newest: an older one says nothing more."""
        rows = self._rows
        rows.sequence += 1
        rows.changes[login_id] = (Change(rows.sequence, login_id, ended), until)

    def _put_ticket(self, ticket: TicketRow) -> None:
        rows = self._rows
        rows.tickets[ticket.digest] = ticket
        rows.tickets_of.setdefault(ticket.login_id, set()).add(ticket.digest)

    def _remove_ticket(self, digest: bytes) -> None:
        rows = self._rows
        ticket = rows.tickets.pop(digest, None)
        if ticket is not None:
            rows.tickets_of[ticket.login_id].discard(digest)

    def _remove_login(self, login_id: bytes) -> None:
        rows = self._rows
        del rows.logins[login_id]
        for digest in rows.tickets_of.pop(login_id, ()):
            del rows.tickets[digest]


def _first(limits: Mapping[_K, int], is_past: Callable[[int], bool], most: int) -> list[_K]:
    """Up to `most` keys whose limit is past, the oldest first, then by key."""
    past = sorted((limit, key) for key, limit in limits.items() if is_past(limit))
    return [key for _, key in past[:most]]
