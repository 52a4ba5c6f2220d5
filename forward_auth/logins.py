"""Logins: one authentication at PSC each, their limits, the tickets that point at them, and the local memory of the live ones.

For: answering the hot path from dictionaries. Refuses: to outlive PSC. A login ends at its absolute limit (counted from the
authentication at PSC) or when nobody has used it for its idle limit, whichever comes first, and a login that has ended never lives again.

Memory. Logins are remembered per hostname and ticket, in two generations: when the young one is full it becomes the old one and what is
used moves back. So a look-up costs one dictionary, memory is bounded (LOGINS_IN_MEMORY), and what falls out is still in the store. Tickets found
absent or ended are remembered elsewhere (bounded too), so that a flood of them never evicts a live login.
"""

import json
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from cachetools import LRUCache

from forward_auth.decision import Decision
from forward_auth.identity import Identity, IdentityError, from_record, to_record
from forward_auth.secret import Secret

LOGINS_IN_MEMORY: Final = 20_000  # about 4 KiB each; the store holds the others
_ENDED_TICKETS: Final = 32_768
_TOUCHES_PER_IDLE: Final = 60
LONGEST_LOOK: Final = 30.0  # seconds; no app's own idle limit is shorter than twice this, so none is overlooked


class Remembered(NamedTuple):
    """A decision that stands for one login and one rule, until a time and for one generation of policy, lists and situation."""

    decision: Decision
    until: int
    generation: int


class Login:
    """One authentication at PSC, as this process knows it. No token is here: they stay sealed in the store.

    renew_after: from then on activity renews it at PSC; lapses: when PSC's refresh token is no longer good; None where there is none.
    seen: last allowed check (Unix seconds), exact here, written coarsely; check_after: until then the remembered road need not look at
    any limit; decisions: rule id -> Remembered; entered: names of the apps this login has entered.
    """

    __slots__ = (
        "auth_time",
        "check_after",
        "created",
        "decisions",
        "ended",
        "ends",
        "entered",
        "id",
        "identity",
        "idle",
        "key",
        "lapses",
        "passes",
        "places",
        "renew_after",
        "seen",
        "sid",
        "touched",
        "version",
    )

    def __init__(
        self,
        *,
        id_: bytes,
        key: bytes,
        identity: Identity,
        sid: str,
        auth_time: int,
        created: int,
        seen: float,
        idle: int,
        ends: int,
        version: int,
        entered: frozenset[str] = frozenset(),
        renew_after: int | None = None,
        lapses: int | None = None,
    ) -> None:
        self.id = id_
        self.key = key
        self.identity = identity
        self.sid = sid
        self.auth_time = auth_time
        self.created = created
        self.seen = seen
        self.touched = seen
        self.idle = idle
        self.ends = ends
        self.version = version
        self.entered = entered
        self.renew_after = renew_after
        self.lapses = lapses
        self.decisions: dict[int, Remembered] = {}
        self.ended = False
        self.check_after: float = 0
        self.places: list[tuple[Host, bytes]] = []
        self.passes: dict[str, list[float]] = {}

    def __repr__(self) -> str:
        return f"Login({self.id.hex()[:8]}, version {self.version})"

    def over(self, now: float) -> bool:
        """Past a limit, or ended."""
        return self.ended or now >= self.ends or now - self.seen >= self.idle

    @property
    def _between_touches(self) -> float:
        return min(self.idle / _TOUCHES_PER_IDLE, LONGEST_LOOK)

    def touch_due(self, now: float) -> bool:
        return now - self.touched >= self._between_touches

    def next_look(self, now: float) -> float:
        """Until when the remembered road need not look at limits, touching and renewal."""
        soon = min(self.ends, self.touched + max(1, self._between_touches), self.seen + self.idle)
        return min(soon, self.renew_after) if self.renew_after is not None and self.renew_after > now else soon


class Host:
    """One application hostname: the tickets of this process that are for it. Ports share it, as cookies do."""

    __slots__ = ("live", "name", "old")

    def __init__(self, name: str) -> None:
        self.name = name
        self.live: dict[bytes, Login] = {}
        self.old: dict[bytes, Login] = {}


class Memory:
    """The live logins of this process."""

    def __init__(self, limit: int = LOGINS_IN_MEMORY) -> None:
        self._half = max(1, limit // 2)
        self._young = 0
        self._hosts: dict[str, Host] = {}
        self._ended: LRUCache[bytes, bool] = LRUCache(_ENDED_TICKETS)
        self.by_id: dict[bytes, Login] = {}
        self.to_touch: dict[bytes, Login] = {}
        self.to_renew: dict[bytes, Login] = {}
        self.news: deque[tuple[str, Login]] = deque(maxlen=10_000)  # («app name», login): entered for the first time

    def host(self, name: str) -> Host:
        """The one Host of that name; only names of the configuration are ever asked for."""
        host = self._hosts.get(name)
        if host is None:
            host = self._hosts[name] = Host(name)
        return host

    def find(self, host: Host, ticket: bytes) -> Login | None:
        """Live or about to fall out; the latter is kept for another round."""
        login = host.live.get(ticket)
        if login is None:
            login = host.old.pop(ticket, None)
            if login is not None:
                self._keep(host, ticket, login)
        return login

    def remember(self, host: Host, ticket: bytes, login: Login) -> Login:
        """Keep this ticket of this login. If the login is known already under another ticket, that object stays the one."""
        known = self.by_id.get(login.id)
        if known is not None and not known.ended and known.version >= login.version:
            login = known
        elif known is not None:
            self._replace(known, login)
        self.by_id[login.id] = login
        if host.live.get(ticket) is not login:
            self._keep(host, ticket, login)
        return login

    def _keep(self, host: Host, ticket: bytes, login: Login) -> None:
        if self._young >= self._half:
            self._turn()
        host.live[ticket] = login
        self._young += 1
        # The turn may have just forgotten it; whoever is answered from memory must be found there when the login ends.
        self.by_id[login.id] = login
        if (host, ticket) not in login.places:
            login.places.append((host, ticket))

    def _turn(self) -> None:
        """The young generation becomes the old one; the old one is forgotten (it is still in the store)."""
        for host in self._hosts.values():
            host.old = host.live
            host.live = {}
        self._young = 0
        # What waits to be written stays known until it is written; what has a ticket comes last, for it may have replaced that.
        kept = {**self.to_touch, **self.to_renew}
        kept.update((login.id, login) for host in self._hosts.values() for login in host.old.values())
        self.by_id = kept
        for login in kept.values():
            login.places = [(host, ticket) for host, ticket in login.places if host.old.get(ticket) is login]

    def replaced(self, login: Login) -> None:
        """A new state of a login we may know: every ticket of it now means the new object, no remembered decision survives."""
        known = self.by_id.get(login.id)
        if known is None or known is login or known.version >= login.version:
            return
        self._replace(known, login)
        self.by_id[login.id] = login

    def _replace(self, known: Login, login: Login) -> None:
        login.seen = max(login.seen, known.seen)
        login.passes = known.passes
        login.entered |= known.entered
        for host, ticket in known.places:
            for tickets in (host.live, host.old):
                if tickets.get(ticket) is known:
                    tickets[ticket] = login
        login.places = [*known.places, *(place for place in login.places if place not in known.places)]
        known.places = []
        known.ended = True  # whoever still holds the old object: it says no

    def forget(self, login_id: bytes) -> Login | None:
        """The login has ended, or must be read again: no ticket of it is answered from memory any more."""
        login = self.by_id.pop(login_id, None)
        self.to_touch.pop(login_id, None)
        self.to_renew.pop(login_id, None)
        if login is not None:
            login.ended = True
            login.check_after = 0
            login.decisions.clear()
            for host, ticket in login.places:
                if host.live.pop(ticket, None) is not None:
                    self._young = max(0, self._young - 1)
                host.old.pop(ticket, None)
            login.places = []
        return login

    def forget_ticket(self, host: Host, ticket: bytes) -> None:
        """This ticket is no longer answered from memory (it was replaced by another)."""
        login = host.live.pop(ticket, None) or host.old.pop(ticket, None)
        if login is not None:
            login.places = [place for place in login.places if place != (host, ticket)]

    def forget_everything(self) -> None:
        """After a change that this process cannot follow (the store was replaced): everything is read again."""
        for login_id in list(self.by_id):
            self.forget(login_id)

    def ended_ticket(self, digest: bytes) -> bool | None:
        """None, or: this ticket was found absent or ended before; True when its login ended by itself, False when the professional left.
        It never comes to life again, so this never expires."""
        return self._ended.get(digest)

    def remember_ended(self, digest: bytes, *, by_itself: bool = True) -> None:
        self._ended[digest] = by_itself

    def __iter__(self) -> Iterator[Login]:
        return iter(tuple(self.by_id.values()))

    def __len__(self) -> int:
        return len(self.by_id)


@dataclass(frozen=True, slots=True)
class Record:
    """What a login's sealed record holds. Tokens are Secrets; `renewing`: a renewal was begun with this refresh token and its outcome
    is not known (a crash in between)."""

    identity: Identity
    claims: Mapping[str, object]  # the ID token's, as psc/ wrote them down; compared at renewal
    sid: str
    id_token: Secret
    refresh_token: Secret
    refresh_issued: int
    refresh_lives: int  # seconds
    entered: frozenset[str] = frozenset()
    renewing: bool = False


@dataclass(frozen=True, slots=True)
class Listing:
    """What `sessions list` shows of a login: no token, nothing that opens anything."""

    subject: str
    given_name: str
    family_name: str
    apps: tuple[str, ...]
    acr: str
    auth_mode: str
    address: str


def record_bytes(record: Record) -> bytes:
    document = {
        "v": 1,
        "identity": to_record(record.identity),
        "claims": dict(record.claims),
        "sid": record.sid,
        "id_token": record.id_token.reveal(),
        "refresh_token": record.refresh_token.reveal(),
        "refresh_issued": record.refresh_issued,
        "refresh_lives": record.refresh_lives,
        "entered": sorted(record.entered),
        "renewing": record.renewing,
    }
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def read_record(plain: bytes) -> Record:
    """Raises ValueError (also KeyError, TypeError) when another version wrote it: then the login is over, never guessed at."""
    document: Mapping[str, object] = json.loads(plain.decode())  # told bytes, json guesses among five encodings
    if document["v"] != 1:
        raise ValueError("a login record of another version")
    identity = document["identity"]
    claims = document["claims"]
    entered = document["entered"]
    if not isinstance(identity, dict) or not isinstance(claims, dict) or not isinstance(entered, list):
        raise TypeError("a login record of another shape")
    try:
        known = from_record(identity)
    except IdentityError as error:
        raise ValueError(str(error)) from None
    return Record(
        identity=known,
        claims=claims,
        sid=str(document["sid"]),
        id_token=Secret(str(document["id_token"])),
        refresh_token=Secret(str(document["refresh_token"])),
        refresh_issued=int(str(document["refresh_issued"])),
        refresh_lives=int(str(document["refresh_lives"])),
        entered=frozenset(map(str, entered)),
        renewing=bool(document["renewing"]),
    )


def listing_bytes(listing: Listing) -> bytes:
    fields = ("subject", "given_name", "family_name", "acr", "auth_mode", "address")
    document: dict[str, object] = {name: getattr(listing, name) for name in fields}
    document["apps"] = list(listing.apps)
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def read_listing(plain: bytes) -> Listing:
    document = json.loads(plain)
    fields = ("subject", "given_name", "family_name", "acr", "auth_mode", "address")
    return Listing(apps=tuple(map(str, document["apps"])), **{name: str(document[name]) for name in fields})
