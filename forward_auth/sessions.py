"""Sessions: the memory, the store, the ring and the audit trail, brought together.

For: everything that happens to a login between its beginning and its end, asked by both doors. Refuses: to invent a login the store does not
know, to open a row that was not sealed for it, to forget an ending that it has acknowledged.

A store that cannot be asked is said so (StoreUnavailable); who is known in memory goes on for STORE_GRACE seconds, since no ending by another
process can be heard meanwhile, and then is asked of the store again like everybody else.
"""

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from secrets import token_bytes
from typing import Final

from cachetools import TTLCache

from forward_auth.audit import Audit
from forward_auth.decision import Refuse
from forward_auth.errors import StoreUnavailable
from forward_auth.gate import PURPOSE, Gate, Lookup
from forward_auth.identity import Identity
from forward_auth.logins import (
    Listing,
    Login,
    Memory,
    Record,
    listing_bytes,
    read_listing,
    read_record,
    record_bytes,
)
from forward_auth.metrics import Metrics
from forward_auth.original import Original
from forward_auth.refusals import Refusals
from forward_auth.sealing import Found, KeyRing, NotOurs, open_record, seal_record
from forward_auth.settings import SessionSettings
from forward_auth.stores import LoginRow, Selection, Store, TicketRow

log = logging.getLogger("forward_auth.sessions")

HANDOFF: Final = "handoff"
HANDOFF_SECONDS: Final = 30
STORE_GRACE: Final = 300.0
_LEFT: Final = ("person", "another_person")
_POLL: Final = 0.25
_DEAF: Final = 300.0  # the store keeps changes for ten minutes; after half of that without hearing any, nothing in memory is trusted


@dataclass(frozen=True, slots=True)
class Ended:
    """A login that was ended here, as far as the caller may know it."""

    login_id: bytes
    listing: Listing | None


class Sessions:
    """Owns the store and the tasks that keep memory and store together."""

    def __init__(
        self,
        *,
        store: Store,
        memory: Memory,
        ring: KeyRing,
        audit: Audit,
        metrics: Metrics,
        refusals: Refusals,
        settings: SessionSettings,
        clock: Callable[[], float],
        issuer: str,
        address_of: Callable[[bytes], str],
    ) -> None:
        self.store = store
        self.memory = memory
        self.ring = ring
        self.audit = audit
        self.refusals = refusals
        self.settings = settings
        self.trouble = "the store is not open yet"
        self.unwritable = ""  # why nobody can sign in or out, although reading goes on: a full disk, a lock
        self.gate: Gate | None = None
        self._metrics = metrics
        self._clock = clock
        self._issuer = issuer
        self._address_of = address_of
        self._fetching: dict[bytes, asyncio.Task[None]] = {}
        # Ended here lately: what a reader of the store had in its hands at that instant must not come back to life.
        self._just_ended: TTLCache[bytes, bool] = TTLCache(100_000, 60)
        self._sequence = -1
        self._heard = 0.0

    # -- life ------------------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Open the store; poll, write back and expire until left; write back what waits, close."""
        with self._counted("open"):
            await self.store.open()
        self._sequence, _ = await self.store.changes(-1)
        self._heard = self._clock()
        self.trouble = ""
        tasks = [
            asyncio.create_task(self._poll()),
            asyncio.create_task(self._write_back()),
            asyncio.create_task(self._expire()),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            try:
                await self._write_touches()
            except StoreUnavailable as error:
                log.warning("the last activity was not written: %s", error.detail)
            await self.store.close()

    def _now(self) -> int:
        return int(self._clock())

    @contextmanager
    def _counted(self, operation: str) -> Iterator[None]:
        try:
            yield
        except StoreUnavailable:
            self._metrics.store_errors.labels(operation).inc()
            raise

    # -- a check needs -----------------------------------------------------------------------------------------------------------

    async def fetch(self, lookup: Lookup, now: float) -> None:
        """Bring a ticket of ours from the store into memory, or remember that it is over. One query for any number of waiting checks,
        and none of them can cancel it for the others (CACHE-07). Raises StoreUnavailable."""
        digest = lookup.found.digest
        task = self._fetching.get(digest)
        if task is None:
            task = self._fetching[digest] = asyncio.get_running_loop().create_task(self._fetch(lookup, now))
            task.add_done_callback(lambda done: self._fetched(digest, done))
        await asyncio.shield(task)

    def _fetched(self, digest: bytes, task: asyncio.Task[None]) -> None:
        self._fetching.pop(digest, None)
        if not task.cancelled():
            task.exception()  # retrieved, in case everybody who waited has gone

    async def _fetch(self, lookup: Lookup, now: float) -> None:
        try:
            rows = await self.store.find(lookup.found.digest, int(now))
        except StoreUnavailable:
            self._metrics.store_errors.labels("find").inc()
            raise
        login = self._opened(rows, lookup.found, lookup.host.name, PURPOSE) if rows is not None else None
        if login is None:
            self.memory.remember_ended(lookup.found.digest)
        else:
            self.memory.remember(lookup.host, lookup.ticket, login)

    def _opened(self, rows: tuple[TicketRow, LoginRow], found: Found, host: str, purpose: str) -> Login | None:
        """A login out of its two rows; None when they do not belong together: a forged, moved or foreign row opens nothing (COOK-06)."""
        ticket, row = rows
        if row.id in self._just_ended:
            return None
        belongs = (ticket.digest, ticket.host, ticket.kind, ticket.login_id) == (found.digest, host, purpose, row.id)
        try:
            if not belongs:
                raise NotOurs("the store gave another row than was asked for")  # noqa: TRY301 - one road for all that is not ours
            key = self.ring.unwrap(ticket.wrapped, found, purpose, row.id)
            return self._login(row, key)
        except (NotOurs, ValueError, KeyError, TypeError) as error:
            log.error("a stored login was not believed and counts as ended: %s", error)
            return None

    def _login(self, row: LoginRow, key: bytes) -> Login:
        record = read_record(open_record(key, row.sealed, row.id, row.version))
        auth_time = int(str(record.claims["auth_time"]))  # the sealed one: the row's own column only serves to select
        return Login(
            id_=row.id,
            key=key,
            identity=record.identity,
            sid=record.sid,
            auth_time=auth_time,
            created=row.created,
            seen=row.seen,
            idle=min(row.idle, self.settings.idle),
            ends=min(row.ends, auth_time + self.settings.absolute),
            version=row.version,
            entered=record.entered,
            renew_after=renew_after(record),
            lapses=lapses(record),
        )

    def refused(self, original: Original, ticket: bytes, decision: Refuse, now: float) -> str:
        """A signed-in professional was refused by a rule: -> the reference; the audit trail hears of it once per five minutes."""
        login = self._in_memory(original.origin, ticket)
        if login is None:
            return ""
        refusal, count = self.refusals.note(login.id, decision.app, decision.rule)
        if count:
            more = {"app": decision.app, "rule": decision.rule, "reference": refusal.reference, "count": count}
            self._audit("refused", login.identity, login.id, original, **more)
        return refusal.reference

    def _in_memory(self, origin: str, ticket: bytes) -> Login | None:
        site = self.gate.sites.get(origin) if self.gate is not None else None
        return None if site is None else site.host.live.get(ticket)

    def tell(self, original: Original) -> None:
        """The audit trail hears of logins that entered an app for the first time; the listing learns of it in the background."""
        while self.memory.news:
            app, login = self.memory.news.popleft()
            self._audit("enter", login.identity, login.id, original, app=app)
            _owned(asyncio.get_running_loop().create_task(self._note_entered(login)))

    async def _note_entered(self, login: Login) -> None:
        """Write the apps entered into the record; best effort, for people who read lists."""
        try:
            row = await self.store.login(login.id, self._now())
            if row is None or row.version != login.version:
                return
            record = replace(
                read_record(open_record(login.key, row.sealed, row.id, row.version)), entered=login.entered
            )
            await self.replace(login, row, record)
        except (StoreUnavailable, NotOurs, ValueError, KeyError, TypeError) as error:
            log.info("the apps entered were not written: %s", error)

    # -- a sign-in needs -----------------------------------------------------------------------------------------------------------

    async def find(self, ticket: bytes | None, hostname: str) -> Login | None:
        """The live login of a ticket presented to the outer door. Raises StoreUnavailable."""
        if ticket is None:
            return None
        now = self._clock()
        host = self.memory.host(hostname)
        login = self.memory.find(host, ticket)
        if login is None:
            found = self.ring.read_ticket(ticket, PURPOSE, hostname)
            if found is None or self.memory.ended_ticket(found.digest) is not None:
                return None
            await self.fetch(Lookup(host, ticket, found), now)
            login = self.memory.find(host, ticket)
        if login is not None and login.over(now):
            self.memory.forget(login.id)
            return None
        return login

    async def begin(
        self,
        record: Record,
        hostname: str,
        auth_time: int,
        address: str,
        *,
        previous: Login | None,
        old_ticket: bytes | None,
    ) -> tuple[str, Login] | None:
        """A new login, or the same professional's login in place (all its tickets stay). -> (ticket for `hostname`, login); None when a
        sign-out for it has arrived before it (BCL-08). `previous`: the live login of this browser, of the same professional. The audit
        trail is told by the caller. Raises StoreUnavailable."""
        now = self._now()
        identity = record.identity
        login_id, key, version = (
            (token_bytes(16), token_bytes(32), 1)
            if previous is None
            else (previous.id, previous.key, previous.version + 1)
        )
        if previous is not None:
            record = replace(record, entered=previous.entered)
        row = LoginRow(
            id=login_id,
            sealed=seal_record(key, record_bytes(record), login_id, version),
            listing=self._sealed_listing(login_id, identity, record.entered, address),
            sid_tag=self.tag("sid", record.sid) if record.sid else None,
            sub_tag=self.tag("sub", identity.sub),
            person_tag=self.tag("person", identity.subject),
            auth_time=auth_time,
            created=now,
            seen=now,
            idle=self.settings.idle,
            ends=auth_time + self.settings.absolute,
            version=version,
        )
        text, found = self.ring.new_ticket(PURPOSE, hostname)
        ticket = self._ticket_row(found, PURPOSE, hostname, login_id, key, row.ends, now, None)
        with self._counted("add"):
            for sid_tag, sub_tag in zip(self.tags("sid", record.sid), self.tags("sub", identity.sub), strict=True):
                if await self.store.is_ended(sid_tag if record.sid else None, sub_tag, auth_time, now):
                    return None  # also what was ended under an older key of the ring
            if previous is None:
                written = await self.store.add_login(row, ticket, now)
            else:
                written = await self.store.replace_login(row, previous.version, now) and await self.store.add_ticket(
                    ticket, now
                )
        if not written:
            return (
                None
                if previous is None
                else await self.begin(record, hostname, auth_time, address, previous=None, old_ticket=old_ticket)
            )
        host = self.memory.host(hostname)
        login = self._login(row, key)
        self.memory.replaced(login)
        login = self.memory.remember(host, text.encode(), login)
        if old_ticket is not None:
            await self.drop(hostname, old_ticket)
        return text, login

    async def drop(self, hostname: str, ticket: bytes) -> None:
        """A ticket that was replaced by another: it opens nothing any more, its login lives on."""
        host = self.memory.host(hostname)
        self.memory.forget_ticket(host, ticket)
        found = self.ring.read_ticket(ticket, PURPOSE, host.name)
        if found is not None:
            self.memory.remember_ended(found.digest)
            with contextlib.suppress(
                StoreUnavailable
            ):  # it opens nothing more than the new one does, and ends with the login
                await self.store.drop_ticket(found.digest)

    async def replace(self, login: Login, row: LoginRow, record: Record) -> Login | None:
        """Write a new state of a login if it is still the one of `row`; None when somebody else was faster or it has ended. Remembered
        decisions fall unless only the apps entered changed."""
        version = row.version + 1
        new = replace(
            row,
            sealed=seal_record(login.key, record_bytes(record), row.id, version),
            listing=self._sealed_listing(row.id, record.identity, record.entered, self._address_in(row)),
            seen=max(row.seen, int(login.seen)),
            version=version,
        )
        with self._counted("replace"):
            if not await self.store.replace_login(new, row.version, self._now()):
                return None
        if record.identity == login.identity:
            login.version = version
            login.renew_after = renew_after(record)
            login.lapses = lapses(record)
            login.check_after = 0
            return login
        fresh = self._login(new, login.key)
        self.memory.replaced(fresh)
        return fresh

    async def issue(self, login: Login, hostname: str) -> str | None:
        """A ticket of this login for another hostname; None when the login has ended meanwhile. Raises StoreUnavailable."""
        text, found = self.ring.new_ticket(PURPOSE, hostname)
        now = self._now()
        with self._counted("add"):
            if not await self.store.add_ticket(
                self._ticket_row(found, PURPOSE, hostname, login.id, login.key, login.ends, now, None), now
            ):
                self.memory.forget(login.id)
                return None
        self.memory.remember(self.memory.host(hostname), text.encode(), login)
        return text

    async def make_code(self, login: Login, hostname: str, bind: bytes) -> str | None:
        """A one-time code that turns into a ticket at `hostname`, in the browser that holds the secret whose SHA-256 is `bind`; None when the
        login has ended meanwhile. Then it is forgotten here too: the store has said so before the poll could, and the next step must not find
        it alive again and go in circles."""
        text, found = self.ring.new_ticket(HANDOFF, hostname)
        now = self._now()
        row = self._ticket_row(
            found, HANDOFF, hostname, login.id, login.key, min(login.ends, now + HANDOFF_SECONDS), now, bind
        )
        with self._counted("add"):
            if not await self.store.add_ticket(row, now):
                self.memory.forget(login.id)
                return None
        return text

    async def take_code(self, code: bytes, hostname: str, binds: Collection[bytes]) -> tuple[str, Login, bytes] | None:
        """Consume a code, whatever comes of it. -> (ticket for `hostname`, login, its bind) if it was for this host and one of the
        browser's secrets; None otherwise. Raises StoreUnavailable."""
        found = self.ring.read_ticket(code, HANDOFF, hostname)
        if found is None:
            await self._spoil(code)
            return None
        with self._counted("find"):
            rows = await self.store.take(found.digest, self._now())
        if rows is None:
            return None
        login = self._opened(rows, found, hostname, HANDOFF)
        bind = rows[0].bind
        if login is None or bind is None or bind not in binds:
            return None
        known = self.memory.by_id.get(login.id)
        if known is not None and not known.ended and known.version >= login.version:
            login = known
        ticket = await self.issue(login, hostname)
        return None if ticket is None else (ticket, login, bind)

    async def _spoil(self, code: bytes) -> None:
        """A code of another of our hosts, presented where it does not belong: somebody else has it, so nobody gets anything for it."""
        for name in {site.host.name for site in self.gate.sites.values()} if self.gate is not None else ():
            found = self.ring.read_ticket(code, HANDOFF, name)
            if found is not None:
                with self._counted("find"):
                    await self.store.drop_ticket(found.digest)

    def _ticket_row(
        self,
        found: Found,
        kind: str,
        hostname: str,
        login_id: bytes,
        key: bytes,
        ends: int,
        now: int,
        bind: bytes | None,
    ) -> TicketRow:
        wrapped = self.ring.wrap(key, found, kind, login_id)
        return TicketRow(found.digest, kind, hostname, login_id, wrapped, bind, now, ends)

    async def record(self, login: Login) -> tuple[LoginRow, Record] | None:
        """The stored row and the opened record, tokens included; None when it has ended or was replaced. Raises StoreUnavailable."""
        with self._counted("find"):
            row = await self.store.login(login.id, self._now())
        if row is None:
            return None
        try:
            return row, read_record(open_record(login.key, row.sealed, row.id, row.version))
        except (NotOurs, ValueError, KeyError, TypeError) as error:
            log.error("a stored login was not believed and counts as ended: %s", error)
            return None

    async def claim(self, name: str, seconds: int) -> bool:
        """Whether we are the first with this name: replay memory and single flight, across processes and restarts."""
        now = self._now()
        with self._counted("add"):
            return await self.store.claim(name, now + seconds, now)

    # -- an end needs ----------------------------------------------------------------------------------------------------------------

    async def end(
        self,
        which: Selection,
        cause: str,
        *,
        address: str = "",
        reference: str = "",
        same: Callable[[Login], bool] | None = None,
    ) -> Sequence[Ended]:
        """End logins everywhere; durable when this returns, known to every other process within a second. The trail hears of each. `same`: the
        selection as it is told of a login in memory. Raises StoreUnavailable: then nothing was acknowledged."""
        now = self._now()
        with self._counted("end"):
            ended = await self.store.end(which, now, now + self.settings.absolute)
        gone = {each.login_id: each.listing for each in ended}
        # An earlier try may have ended it, and only its answer was lost: then it is in no list, but still in memory.
        if which.login_id in self.memory.by_id:
            gone.setdefault(which.login_id, b"")
        if same is not None:
            for login in filter(same, self.memory):
                gone.setdefault(login.id, b"")
        out = []
        for login_id, sealed in gone.items():
            self._just_ended[login_id] = True
            known = self.memory.by_id.get(login_id)
            for host, ticket in known.places if known is not None and cause in _LEFT else ():
                found = self.ring.read_ticket(ticket, PURPOSE, host.name)
                if found is not None:  # who left needs no notice that the session is over
                    self.memory.remember_ended(found.digest, by_itself=False)
            self.memory.forget(login_id)
            listing = self.listing(login_id, sealed)
            out.append(Ended(login_id, listing))
            self._metrics.sign_outs.labels(cause).inc()
            event = "sign_out" if cause == "person" else "ended"
            subject = listing.subject if listing else "" if known is None else known.identity.subject
            self.audit.write(
                event,
                outcome="ended",
                cause=cause,
                login=login_id.hex()[:16],
                subject=subject,
                address=address,
                reference=reference,
            )
        return out

    async def ended_here(self, login: Login, cause: str) -> None:
        """A login found past its limits, or refused at renewal: ended in the store as well."""
        await self.end(Selection(login_id=login.id), cause)

    def listing(self, login_id: bytes, sealed: bytes) -> Listing | None:
        """The listing record, if it is ours."""
        try:
            return read_listing(self.ring.open("listing", sealed, login_id))
        except (NotOurs, ValueError, KeyError, TypeError):
            return None

    def _sealed_listing(self, login_id: bytes, identity: Identity, entered: frozenset[str], address: str) -> bytes:
        listing = Listing(
            identity.subject,
            identity.given_name,
            identity.family_name,
            tuple(sorted(entered)),
            identity.acr,
            identity.auth_mode,
            address,
        )
        return self.ring.seal("listing", listing_bytes(listing), login_id)

    def _address_in(self, row: LoginRow) -> str:
        listing = self.listing(row.id, row.listing)
        return listing.address if listing is not None else ""

    def tag(self, kind: str, value: str) -> bytes:
        """The look-up column of a sid, sub or person of this issuer."""
        return self.ring.tag(kind, self._issuer + "\n" + value)

    def tags(self, kind: str, value: str) -> tuple[bytes, ...]:
        """The same under every key of the ring."""
        return self.ring.tags(kind, self._issuer + "\n" + value)

    def _audit(self, event: str, identity: Identity, login_id: bytes, original: Original, **fields: object) -> None:
        situation = identity.situations[0] if identity.situations else None
        self.audit.write(
            event,
            outcome="refused" if event == "refused" else "allowed",
            login=login_id.hex()[:16],
            subject=identity.subject,
            structure=situation.structure if situation else "",
            acr=identity.acr,
            origin=original.origin,
            method=original.method.decode("latin-1"),
            address=self._address_of(original.client),
            **fields,
        )

    # -- tasks -----------------------------------------------------------------------------------------------------------------------

    async def _poll(self) -> None:
        """Hear of what other processes (and `sessions end`) did."""
        while True:
            await asyncio.sleep(_POLL)
            try:
                sequence, changes = await self.store.changes(self._sequence)
                now = self._clock()
                if sequence < self._sequence or now - self._heard > _DEAF:
                    await self._write_touches()  # who worked meanwhile is not idle because we forget it
                    self.memory.forget_everything()  # another file than before, or deaf for too long: read everything again
                self._sequence, self._heard = sequence, now
                for change in changes:
                    if change.ended:
                        self.memory.forget(change.login_id)
                    else:
                        await self._again(change.login_id)
                if self.trouble:
                    log.warning("the store answers again")
                self.trouble = ""
            except StoreUnavailable as error:
                self._store_failed(error)
            except Exception:
                log.exception("hearing of changes failed")

    def _store_failed(self, error: StoreUnavailable) -> None:
        self._metrics.store_errors.labels("changes").inc()
        if not self.trouble:
            log.error("the store cannot be asked; who is signed in goes on for %d s: %s", STORE_GRACE, error.detail)
        self.trouble = error.detail or error.code
        if self._clock() - self._heard > STORE_GRACE:
            self.memory.forget_everything()

    async def _again(self, login_id: bytes) -> None:
        """A login was replaced, perhaps by us: read it again unless we know that state."""
        known = self.memory.by_id.get(login_id)
        if known is None:
            return
        row = await self.store.login(login_id, self._now())
        if row is None:
            self.memory.forget(login_id)
        elif row.version > known.version:
            try:
                self.memory.replaced(self._login(row, known.key))
            except (NotOurs, ValueError, KeyError, TypeError) as error:
                log.error("a stored login was not believed and counts as ended: %s", error)
                self.memory.forget(login_id)

    async def _write_back(self) -> None:
        while True:
            await asyncio.sleep(1)
            try:
                await self._write_touches()
            except StoreUnavailable as error:
                log.debug("last activity waits to be written: %s", error.detail)
            except Exception:
                log.exception("writing activity failed")
            try:
                await self._look()
            except Exception:
                log.exception("looking after the store failed")

    async def _look(self) -> None:
        """Say it once, with the cure, when the store can be read and not written: the poll would never notice."""
        said = await self.store.health() or ""
        if said and not self.unwritable and not self.trouble:
            log.error("the store cannot be written, nobody can sign in or out: %s", said)
        elif self.unwritable and not said:
            log.warning("the store can be written again")
        self.unwritable = said

    async def _write_touches(self) -> None:
        waiting = dict(self.memory.to_touch)
        if waiting:
            seen = {login_id: int(login.seen) for login_id, login in waiting.items()}
            with self._counted("touch"):
                await self.store.touch(seen, self._now())
            for login_id, login in waiting.items():
                if self.memory.to_touch.get(login_id) is login and int(login.seen) == seen[login_id]:
                    del self.memory.to_touch[login_id]  # unless it was used again meanwhile

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(30)
            try:
                await self._lapse()
                while await self.store.expire(self._now()):  # noqa: ASYNC110 - not waiting, but in slices
                    await asyncio.sleep(0)
                now = self._clock()
                for login in self.memory:
                    if login.over(now):
                        self.memory.forget(login.id)
            except StoreUnavailable:
                self._metrics.store_errors.labels("expire").inc()
            except Exception:
                log.exception("removing what has expired failed")

    async def _lapse(self) -> None:
        """Logins that ended by themselves: removed, counted, and in the trail."""
        while True:
            await self._write_touches()  # activity that this process knows of and the store does not yet
            lapsed = await self.store.lapse(self._now(), 500)
            for each in lapsed:
                cause = "absolute" if each.absolute else "idle"
                self.memory.forget(each.login_id)
                listing = self.listing(each.login_id, each.listing)
                self._metrics.sign_outs.labels(cause).inc()
                subject = listing.subject if listing else ""
                self.audit.write("ended", outcome="ended", cause=cause, login=each.login_id.hex()[:16], subject=subject)
            if len(lapsed) < 500:
                return


def bind_of(secret: bytes) -> bytes:
    """What a hand-off code is bound to: the SHA-256 of the secret in the browser's cookie."""
    return hashlib.sha256(secret).digest()


def lapses(record: Record) -> int | None:
    """When the refresh token is no longer good at PSC."""
    return record.refresh_issued + record.refresh_lives if record.refresh_token and record.refresh_lives else None


def renew_after(record: Record) -> int | None:
    """From when activity renews a login: a third into its refresh token's life; None when PSC gave no refresh token."""
    return record.refresh_issued + record.refresh_lives // 3 if record.refresh_token and record.refresh_lives else None


_TASKS: Final[set[asyncio.Task[None]]] = set()


def _owned(task: asyncio.Task[None]) -> None:
    """Keep a reference until it is done: the loop itself keeps only a weak one."""
    _TASKS.add(task)
    task.add_done_callback(_TASKS.discard)
