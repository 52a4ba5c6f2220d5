"""Renewal: a login in use is kept as fresh at PSC as PSC's own limits ask.

For: exchanging the refresh token in the background, when activity finds it older than a third of its life, and once more shortly before it lapses
if our idle limit is later. What PSC says then is believed at once: a changed profession changes decisions, a refused renewal ends the login, another
person in its place ends it and raises an alert. Refuses: to renew twice at once (one attempt per login, also among processes), to make a check
wait, to end anybody because PSC cannot be reached: that login lives to its own limits.

The intent is written before PSC is asked. After a crash in between, the old refresh token is tried once more; refused, the login ends like any other.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

from forward_auth.errors import ForwardAuthError, PSCAnswerRefused, PSCDenied, PSCUnavailable, StoreUnavailable
from forward_auth.identity import Identity, IdentityError, read_identity
from forward_auth.logins import Login, Record
from forward_auth.metrics import Metrics
from forward_auth.psc.client import PSC, Authentication
from forward_auth.psc.messages import IdClaims
from forward_auth.sessions import Sessions
from forward_auth.stores import LoginRow

log = logging.getLogger("forward_auth.renewal")

AT_ONCE: Final = 16
AGAIN: Final = 60  # seconds until a renewal that failed for no fault of the login's is tried again
BEFORE_LAPSE: Final = 60
_CLAIM_SECONDS: Final = 30
_LOOK: Final = 1.0


class Renewals:
    """The task that renews. `psc`: the client in use now."""

    def __init__(
        self,
        sessions: Sessions,
        psc: Callable[[], PSC],
        metrics: Metrics,
        clock: Callable[[], float],
        subject_claim: str,
    ) -> None:
        self._sessions = sessions
        self._psc = psc
        self._metrics = metrics
        self._clock = clock
        self._subject_claim = subject_claim
        self._under_way: dict[bytes, asyncio.Task[None]] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if self._under_way:  # what PSC may have answered already must be written: wait, briefly
                await asyncio.wait(self._under_way.values(), timeout=6)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_LOOK)
            self._begin(self._lapsing())
            due = [
                self._sessions.memory.to_renew.popitem()[1]
                for _ in range(min(AT_ONCE, len(self._sessions.memory.to_renew)))
            ]
            self._begin(due)

    def _lapsing(self) -> list[Login]:
        """Logins without activity whose refresh token lapses before our own idle limit does."""
        now = self._clock()
        return [
            login
            for login in self._sessions.memory
            if login.lapses is not None
            and login.renew_after is not None
            and login.renew_after <= now
            and login.lapses - BEFORE_LAPSE <= now < login.lapses < login.seen + login.idle
        ][:AT_ONCE]

    def _begin(self, logins: list[Login]) -> None:
        for login in logins:
            if login.ended or login.id in self._under_way:
                continue
            if len(self._under_way) >= AT_ONCE:
                self._sessions.memory.to_renew[login.id] = login
                continue
            task = asyncio.get_running_loop().create_task(self._renew_safely(login))
            self._under_way[login.id] = task
            task.add_done_callback(self._done(login.id))

    def _done(self, login_id: bytes) -> Callable[[asyncio.Task[None]], None]:
        def forget(task: asyncio.Task[None]) -> None:
            self._under_way.pop(login_id, None)

        return forget

    async def _renew_safely(self, login: Login) -> None:
        login.renew_after = int(self._clock()) + AGAIN  # whatever comes of it, not again at once
        name = f"renew {login.id.hex()}"
        try:
            if not await self._sessions.claim(name, _CLAIM_SECONDS):
                return  # another process is at it; its result is heard of like any change
            try:
                await self.renew(login)
            finally:
                await self._sessions.store.release(name)
        except StoreUnavailable as error:
            log.info("a login was not renewed, the store cannot be asked: %s", error.detail)
        except Exception:
            self._metrics.renewals.labels("error").inc()
            log.exception("a renewal failed")

    async def renew(self, login: Login) -> None:
        """One renewal. Raises StoreUnavailable."""
        kept = await self._sessions.record(login)
        if kept is None:
            self._sessions.memory.forget(login.id)
            return
        row, record = kept
        if not record.refresh_token:
            return
        if not record.renewing:  # the intent first
            record = replace(record, renewing=True)
            row = await self._written(login, row, record) or row
            if row.version != login.version:
                return
        try:
            answer = await self._psc().refresh(record.refresh_token, IdClaims.from_record(record.claims), userinfo=True)
            identity = self._identity(answer, record)
        except PSCUnavailable as error:
            self._metrics.renewals.labels("unreachable").inc()
            log.warning("a login could not be renewed, PSC does not answer: %s", error)
            return
        except PSCDenied as error:
            await self._end(login, "refused", "renewal", error)
            return
        except (PSCAnswerRefused, IdentityError) as error:
            if error.code == "refreshed_other":
                await self._end(login, "changed", "subject_changed", error)
            else:
                self._metrics.renewals.labels("error").inc()
                log.error("a renewal was not believed; the login lives to its limits: %s", error)
            return
        if identity.subject != record.identity.subject:
            await self._end(
                login,
                "changed",
                "subject_changed",
                PSCAnswerRefused("refreshed_other", "another national id than at sign-in"),
            )
            return
        tokens = answer.tokens
        renewed = replace(
            record,
            identity=identity,
            claims=answer.id_claims.to_record(),
            id_token=tokens.id_token or record.id_token,
            refresh_token=tokens.refresh_token or record.refresh_token,
            refresh_issued=int(self._clock()),
            refresh_lives=tokens.refresh_expires_in or record.refresh_lives,
            entered=login.entered,
            renewing=False,
        )
        await self._written(login, row, renewed)
        self._metrics.renewals.labels("renewed").inc()

    async def _written(self, login: Login, row: LoginRow, record: Record) -> LoginRow | None:
        """The row as it is now; tried again on top of what another process wrote in between (the apps entered, say)."""
        for _ in range(3):
            if await self._sessions.replace(login, row, record) is not None:
                return await self._sessions.store.login(login.id, int(self._clock()))
            kept = await self._sessions.store.login(login.id, int(self._clock()))
            if kept is None:
                self._sessions.memory.forget(login.id)
                return None
            row = kept
        return None

    def _identity(self, answer: Authentication, record: Record) -> Identity:
        """Who PSC says it is now. Without userinfo, or without an ID token, what was known before stands."""
        if not answer.userinfo:
            return record.identity
        before = record.identity
        claims: dict[str, object] = {self._subject_claim: before.subject, **answer.id_claims.claims}
        claims |= {"sub": before.sub, "acr": answer.id_claims.acr, "auth_time": before.auth_time}
        return read_identity(answer.userinfo, claims, issuer=before.issuer, subject_claim=self._subject_claim)

    async def _end(self, login: Login, outcome: str, cause: str, error: ForwardAuthError) -> None:
        self._metrics.renewals.labels(outcome).inc()
        log.log(logging.ERROR if outcome == "changed" else logging.INFO, "a login ended at its renewal: %s", error)
        await self._sessions.ended_here(login, cause)
