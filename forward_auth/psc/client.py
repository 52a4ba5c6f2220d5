"""The only file that sends a request to PSC, and what is known of PSC at this moment.

Learns metadata and keys at start and keeps trying until it has them, renews them every hour, keeps the last good copy through an
outage, and notices within seconds that PSC is back, asking once in five seconds at most. Refuses: redirects, whatever their target;
compressed bodies; more than 1 MiB; more than 2 s to connect or 5 s in all; to send a code twice; to wait in an endless queue.
"""

import asyncio
import hmac
import logging
import os
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from typing import Final, Protocol, TypeVar

import aiohttp
from yarl import URL

from forward_auth.errors import ForwardAuthError, PSCAnswerRefused, PSCDenied, PSCUnavailable, StoreUnavailable
from forward_auth.psc import messages
from forward_auth.psc.flight import Flight
from forward_auth.psc.keys import KeySet, SigningKeys
from forward_auth.psc.messages import (
    ISSUERS,
    PLAIN_DISCOVERY,
    WALLET_DISCOVERY,
    Answer,
    ClientConfig,
    Provider,
    Request,
    Tokens,
)
from forward_auth.psc.notes import KEPT, Copy, Notes, note_name
from forward_auth.psc.strict import encode_base64url
from forward_auth.psc.tokens import SKEW, IdClaims, LogoutClaims, UnknownKey
from forward_auth.psc.wire import CONNECT_SECONDS, TOTAL_SECONDS, make_session
from forward_auth.secret import Secret

T = TypeVar("T")

ENDPOINTS: Final = ("discovery", "keys", "token", "refresh", "userinfo", "revoke")
OUTCOMES: Final = ("ok", "denied", "refused", "unavailable", "cancelled")
"""The values of `observe`'s first two arguments; there are no others, so that metrics can be bound at start."""

# Pauses until PSC is known for the first time, as parts of `probe_every`: often both are just being started.
_FIRST_PAUSES: Final = (0.05, 0.1, 0.2, 0.4)
_FIRST_WAIT: Final = 1.0
_ANSWER_WAIT: Final = 2.5  # a person is waiting for the page that says PSC does not answer
_ANSWER_FRESH: Final = 1.0
_KEYS_TOO_YOUNG: Final = 600.0
_MOST_AT_ONCE: Final = 256


class Settings(messages.Configured, Protocol):
    """What is needed of `[psc]` here (settings.PSCSettings has it)."""

    @property
    def environment(self) -> str: ...
    @property
    def issuer(self) -> str: ...
    @property
    def discovery_url(self) -> str | None: ...
    @property
    def http_proxy(self) -> str | None: ...
    @property
    def http_proxy_auth(self) -> Secret | None: ...


@dataclass(frozen=True, slots=True, eq=False)
class Authentication:
    """What PSC says of a person at sign-in or renewal, every part checked. `userinfo` is {} when it was not asked for."""

    tokens: Tokens
    id_claims: IdClaims
    userinfo: dict[str, object] = field(repr=False)


class PSC:
    """One issuer.

    `http`: from make_session. `clock`: Unix seconds. `notes`: where the last good copy is kept; what comes back is believed, so give
    a SealedNotes. `observe(endpoint, outcome, seconds)`: see ENDPOINTS and OUTCOMES. `probe_every`, `refresh_every`: seconds between
    two attempts while PSC does not answer, and while it does. Raises ValueError for settings that config would have refused.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        redirect_uri: str,
        post_logout_redirect_uri: str,
        http: aiohttp.ClientSession,
        clock: Callable[[], float],
        notes: Notes,
        observe: Callable[[str, str, float], None],
        log: logging.Logger,
        probe_every: float = 5.0,
        refresh_every: float = 3600.0,
    ) -> None:
        self.client = ClientConfig.of(
            settings, redirect_uri=redirect_uri, post_logout_redirect_uri=post_logout_redirect_uri
        )
        self.issuer = settings.issuer or ISSUERS.get(settings.environment, "")
        if not self.issuer:
            raise ValueError("no issuer")
        self._addresses = _discovery_addresses(settings, self.issuer)
        self._proxy = None if settings.http_proxy is None else URL(settings.http_proxy)
        self._proxy_authorization = _proxy_authorization(settings.http_proxy_auth)
        self._http = http
        self._clock = clock
        self._notes = notes
        self._observe = observe
        self._log = log
        self._probe_every = probe_every
        self._refresh_every = refresh_every

        self._provider: Provider | None = None
        self._metadata = b""
        self._keys = SigningKeys(self._fetch_keys, clock, log)
        self._learning = Flight(self._learn, "psc-metadata")
        self._upkeep: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._reachable = False
        self._answered: float | None = None  # loop time of the last answer
        self._asked: float | None = None  # loop time at which learning last began
        self._clock_skew: float | None = None
        self._in_flight = 0
        self._kept: Copy | None = None
        self._trouble = ""

    # -- life ---------------------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to know PSC. Never raises, and returns after a second at the latest: what is not known then is still being asked."""
        await self._restore()
        self._upkeep = asyncio.create_task(self._keep_up(), name="psc-upkeep")
        await self._learn_within(_FIRST_WAIT)

    async def close(self) -> None:
        """End what is under way. The session is the caller's to close. Idempotent."""
        if self._upkeep is not None:
            self._upkeep.cancel()
            await asyncio.wait({self._upkeep})
            self._upkeep = None
        await self._learning.close()
        await self._keys.close()

    @property
    def ready(self) -> bool:
        """Whether metadata and keys are known, be it from the kept copy. Once true it stays true (decision 11)."""
        return self._provider is not None and self._keys.known

    @property
    def provider(self) -> Provider | None:
        """The metadata in use."""
        return self._provider

    @property
    def reachable(self) -> bool:
        """Whether PSC answered the last time it was asked anything; False before the first answer."""
        return self._reachable

    @property
    def keys_age(self) -> float | None:
        """Seconds since the signing keys were last received; None when there are none."""
        return self._keys.age()

    @property
    def clock_skew(self) -> float | None:
        """Our clock minus PSC's, in seconds, from its last Date header; to ± 1 s, positive when ours is ahead."""
        return self._clock_skew

    @property
    def trouble(self) -> str:
        """Why metadata or keys could not be refreshed the last time, one English line; "" when they could."""
        return self._trouble

    async def answering(self) -> bool:
        """Whether PSC answers now: for the moment before somebody is sent there.

        Known from any answer of the last second; otherwise asked now, by one caller for all, for 2.5 s at most; and once it did not
        answer, not again before `probe_every` seconds. Never raises.
        """
        now = asyncio.get_running_loop().time()
        if self._reachable and self._answered is not None and now - self._answered < _ANSWER_FRESH:
            return True
        asked_lately = self._asked is not None and now - self._asked < self._probe_every
        if not self._reachable and asked_lately and not self._learning.under_way:
            return False
        return await self._learn_within(_ANSWER_WAIT) and self._reachable

    # -- what a sign-in needs -----------------------------------------------------------------------------------------------------

    def authorization_url(
        self,
        *,
        state: str,
        nonce: str,
        verifier: str,
        prompt: str | None = None,
        max_age: int | None = None,
        acr_values: Sequence[str] | None = None,
        ui_locales: str | None = None,
    ) -> str:
        """See messages.authorization_url. Raises PSCUnavailable `metadata_unknown`."""
        return messages.authorization_url(
            self._known(),
            self.client,
            state=state,
            nonce=nonce,
            verifier=verifier,
            prompt=prompt,
            max_age=max_age,
            acr_values=acr_values,
            ui_locales=ui_locales,
        )

    def sign_in_url(
        self,
        state: str,
        seed: bytes,
        *,
        anew: bool = False,
        max_age: int | None = None,
        levels: Sequence[str] | None = None,
    ) -> str:
        """Where a browser signs in. `seed`: 32 secret bytes of this sign-in, kept by that browser; from it come the two values that bind
        PSC's answer to it. `anew`: whoever is signed in there authenticates again. Raises PSCUnavailable."""
        return self.authorization_url(
            state=state,
            nonce=_from_seed(seed, b"nonce"),
            verifier=_from_seed(seed, b"verifier"),
            prompt="login" if anew else None,
            max_age=max_age,
            acr_values=levels,
        )

    async def finish_sign_in(
        self, code: str, seed: bytes, *, max_age: int | None = None, levels: Sequence[str] | None = None
    ) -> "Authentication":
        """The end of what sign_in_url began with this seed: see redeem."""
        return await self.redeem(
            code, _from_seed(seed, b"verifier"), _from_seed(seed, b"nonce"), acr_values=levels, max_age=max_age
        )

    def read_callback(self, pairs: Sequence[tuple[str, str]]) -> str:
        """See messages.read_callback. Raises PSCUnavailable `metadata_unknown` besides."""
        return messages.read_callback(pairs, self._known())

    async def redeem(
        self,
        code: str,
        verifier: str,
        nonce: str,
        *,
        acr_values: Sequence[str] | None = None,
        max_age: int | None = None,
    ) -> Authentication:
        """Exchange a code, once, and check all that comes of it. `acr_values` None: those of the configuration.

        Raises PSCDenied, PSCUnavailable, PSCAnswerRefused (`no_id_token`, and those of read_tokens, check_id_token, read_userinfo,
        check_subject).
        After any of them the code is spent: the sign-in begins anew, it is not repeated.
        """
        if not nonce:
            raise ValueError("a sign-in has a nonce")
        provider = self._known()
        request = messages.code_grant(provider, self.client, code=code, verifier=verifier)
        tokens = await self._ask("token", request, messages.read_tokens)
        if tokens.id_token is None:
            raise PSCAnswerRefused("no_id_token", "PSC gave no ID token for a code")
        id_token, access_token = tokens.id_token.reveal(), tokens.access_token.reveal()
        acceptable = self.client.acr_values if acr_values is None else tuple(acr_values)
        claims = await self._with_keys(
            lambda keys: messages.check_id_token(
                id_token,
                keys,
                provider,
                self.client,
                nonce=nonce,
                access_token=access_token,
                acr_values=acceptable,
                max_age=max_age,
                now=self._clock(),
            )
        )
        userinfo = await self._userinfo(provider, tokens, claims) if self.client.userinfo else {}
        return Authentication(tokens, claims, userinfo)

    async def refresh(
        self,
        refresh_token: Secret,
        was: IdClaims,
        *,
        acr_values: Sequence[str] | None = None,
        userinfo: bool = False,
    ) -> Authentication:
        """Renew a login. `was`: its claims so far. `userinfo`: ask for it too (only if the configuration does).

        PSC may keep the refresh token: then the old one is in `tokens` again. Without a new ID token `tokens.id_token` is None and
        `id_claims` is `was`. Raises PSCDenied (`invalid_grant`: the session at PSC is over), PSCUnavailable, PSCAnswerRefused.
        """
        provider = self._known()
        request = messages.refresh_grant(provider, self.client, refresh_token=refresh_token)
        tokens = await self._ask("refresh", request, messages.read_tokens)
        if tokens.refresh_token is None:
            tokens = replace(tokens, refresh_token=refresh_token)
        claims = was
        if tokens.id_token is not None:
            id_token, access_token = tokens.id_token.reveal(), tokens.access_token.reveal()
            acceptable = self.client.acr_values if acr_values is None else tuple(acr_values)
            claims = await self._with_keys(
                lambda keys: messages.check_refreshed(
                    id_token,
                    keys,
                    provider,
                    self.client,
                    was,
                    access_token=access_token,
                    acr_values=acceptable,
                    now=self._clock(),
                )
            )
        wanted = userinfo and self.client.userinfo
        return Authentication(tokens, claims, await self._userinfo(provider, tokens, claims) if wanted else {})

    async def check_logout_token(self, token: str, *, accept_plain_typ: bool = False) -> LogoutClaims:
        """See messages.check_logout_token. Raises PSCUnavailable besides, when there are no keys to check with."""
        provider = self._known()
        return await self._with_keys(
            lambda keys: messages.check_logout_token(
                token, keys, provider, self.client, now=self._clock(), accept_plain_typ=accept_plain_typ
            )
        )

    async def revoke(self, token: Secret, hint: str = "refresh_token") -> bool:
        """Ask PSC to forget a token; whether it said it did. Never raises: a sign-out does not depend on PSC (threats LO-02)."""
        if self._provider is None:
            return False
        request = messages.revoke_request(self._provider, self.client, token=token, hint=hint)
        if request is None:
            return False
        try:
            await self._ask("revoke", request, messages.read_revoked)
        except ForwardAuthError as error:
            self._log.info("psc: token not revoked: %s", error)
            return False
        return True

    def end_session_url(self, id_token: str | None, state: str) -> str | None:
        """See messages.end_session_url; None also when nothing is known of PSC."""
        if self._provider is None:
            return None
        return messages.end_session_url(self._provider, self.client, id_token=id_token, state=state)

    async def _userinfo(self, provider: Provider, tokens: Tokens, claims: IdClaims) -> dict[str, object]:
        request = messages.userinfo_request(provider, access_token=tokens.access_token)
        found = await self._ask("userinfo", request, lambda answer: messages.read_userinfo(answer, claims.sub))
        messages.check_subject(claims, found, self.client.subject_claim)
        return found

    async def _with_keys(self, check: Callable[[KeySet], T]) -> T:
        keys = await self._keys.current()
        try:
            return check(keys)
        except UnknownKey:
            newer = await self._keys.newer(keys)
            if newer is None:
                raise
            return check(newer)

    def _known(self) -> Provider:
        if self._provider is None:
            raise PSCUnavailable("metadata_unknown", "PSC has not answered since the start")
        return self._provider

    # -- knowing PSC --------------------------------------------------------------------------------------------------------------

    async def _keep_up(self) -> None:
        """Owns the rhythm: quick at first, once in `probe_every` while PSC is away, once in `refresh_every` when all is well."""
        loop = asyncio.get_running_loop()
        first_pauses = iter([part * self._probe_every for part in _FIRST_PAUSES])
        while True:
            began = loop.time()
            self._wake.clear()
            try:
                await self._learning.join()
            except ForwardAuthError:
                well = False
            except Exception:  # this task must outlive a fault of ours, or PSC would stay away for ever
                self._log.exception("psc: could not be learnt")
                well = False
            else:
                well = True
            if well:
                await self._sleep(self._refresh_every)
            elif not self.ready:
                await asyncio.sleep(next(first_pauses, began + self._probe_every - loop.time()))
                continue
            elif self._reachable:
                # It answers, but something we do not believe: the old copy serves on, and asking faster mends nothing.
                await self._sleep(min(self._refresh_every, 12 * self._probe_every))
            await asyncio.sleep(began + self._probe_every - loop.time())

    async def _learn_within(self, seconds: float) -> bool:
        """Join the learning for so long; whether it landed, well or not (_learn has logged why)."""
        try:
            async with asyncio.timeout(seconds):
                await self._learning.join()
        except TimeoutError:
            return False
        except ForwardAuthError:
            pass
        return True

    async def _sleep(self, seconds: float) -> None:
        """Until the time is over, or some request has found that PSC does not answer."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _learn(self) -> None:
        """Metadata, then keys unless they are young, then the kept copy. Raises what the last of them raised."""
        self._asked = asyncio.get_running_loop().time()
        try:
            body, provider = await self._fetch_metadata()
            if self._provider is None:
                self._log.info("psc: metadata of %s learnt", self.issuer)
            elif provider != self._provider:
                self._log.warning("psc: metadata of %s changed", self.issuer)
            self._provider, self._metadata = provider, body
            age = self._keys.age()
            if age is None or age > min(_KEYS_TOO_YOUNG, self._refresh_every / 2):
                await self._keys.refresh()
        except ForwardAuthError as error:
            if str(error) != self._trouble:  # once per trouble, not once per attempt
                self._trouble = str(error)
                level = logging.WARNING if isinstance(error, PSCUnavailable) else logging.ERROR
                self._log.log(level, "psc: metadata or keys not refreshed: %s", error)
            raise
        self._trouble = ""
        await self._keep_copy()

    async def _fetch_metadata(self) -> tuple[bytes, Provider]:
        for address in self._addresses[:-1]:
            try:
                return await self._ask("discovery", messages.document_request(address), self._read_metadata)
            except PSCAnswerRefused as error:
                if error.code != "not_found":
                    raise
        return await self._ask("discovery", messages.document_request(self._addresses[-1]), self._read_metadata)

    def _read_metadata(self, answer: Answer) -> tuple[bytes, Provider]:
        """Judged while it is counted: metadata of somebody else is a refused answer in the metrics too (IDP-09)."""
        body = messages.document(answer)
        return body, messages.read_metadata(body, self.issuer)

    async def _fetch_keys(self) -> bytes:
        return await self._ask("keys", messages.document_request(self._known().jwks_uri), messages.document)

    async def _restore(self) -> None:
        try:
            note = await self._notes.get_note(note_name(self.issuer), int(self._clock()))
            copy = None if note is None else Copy.from_note(note, self._clock())
            if copy is None:
                return
            self._provider = messages.read_metadata(copy.metadata, self.issuer)
            self._metadata = copy.metadata
            self._keys.restore(copy.keys, float(copy.seen))
        except ForwardAuthError as error:
            self._log.warning("psc: kept copy of the metadata not used: %s", error)
        else:
            self._kept = copy
            self._log.info("psc: started with the copy of %d s ago", int(self._clock()) - copy.seen)

    async def _keep_copy(self) -> None:
        copy = Copy(self._metadata, self._keys.body, int(self._keys.fetched))
        old = self._kept
        if old is not None and (old.metadata, old.keys) == (copy.metadata, copy.keys) and copy.seen - old.seen < 600:
            return
        try:
            await self._notes.put_note(note_name(self.issuer), copy.to_note(), copy.seen + KEPT)
        except StoreUnavailable as error:
            self._log.warning("psc: metadata not kept for the next start: %s", error)
            return
        self._kept = copy

    # -- one request --------------------------------------------------------------------------------------------------------------

    async def _ask(self, endpoint: str, request: Request, read: Callable[[Answer], T]) -> T:
        """Send and read; observed and remembered as the state of PSC. Never sent a second time by us."""
        if self._in_flight >= _MOST_AT_ONCE:
            raise PSCUnavailable("busy", "too many requests to PSC under way")
        loop = asyncio.get_running_loop()
        began, outcome = loop.time(), "cancelled"
        answer: Answer | None = None
        self._in_flight += 1
        try:
            answer = await self._send(request)
            result = read(answer)
            outcome = "ok"
            self._answers(loop.time())
            return result
        except PSCUnavailable as error:
            outcome = "unavailable"
            if answer is None or endpoint == "discovery":
                self._does_not_answer(endpoint, error)
            else:
                # One endpoint is in trouble, perhaps for one person only: no reason to turn everybody away, but one to look.
                self._answered = None
                self._wake.set()
            raise
        except (PSCDenied, PSCAnswerRefused) as error:
            outcome = "denied" if isinstance(error, PSCDenied) else "refused"
            self._answers(loop.time())
            raise
        finally:
            self._in_flight -= 1
            self._observe(endpoint, outcome, loop.time() - began)

    def _answers(self, now: float) -> None:
        self._answered = now
        if not self._reachable:
            self._reachable = True
            self._log.info("psc: answers")

    def _does_not_answer(self, endpoint: str, error: PSCUnavailable) -> None:
        if self._reachable:
            self._log.warning("psc: does not answer: endpoint=%s %s", endpoint, error)
        self._reachable = False
        self._wake.set()

    async def _send(self, request: Request) -> Answer:
        messages.check_url(request.url, "address")
        headers = dict(request.headers)
        proxy_headers: dict[str, str] | None = None
        if self._proxy is not None and self._proxy_authorization is not None:
            # A tunnel is asked for with the proxy's own headers; a plain request carries them itself.
            if request.url.startswith("https:"):
                proxy_headers = {"Proxy-Authorization": self._proxy_authorization}
            else:
                headers["Proxy-Authorization"] = self._proxy_authorization
        try:
            async with (
                asyncio.timeout(TOTAL_SECONDS),
                self._http.request(
                    request.method,
                    URL(request.url, encoded=True),
                    data=request.body,
                    headers=headers,
                    proxy=self._proxy,
                    proxy_headers=proxy_headers,
                    allow_redirects=False,
                    auto_decompress=False,
                    timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS, sock_connect=CONNECT_SECONDS),
                ) as response,
            ):
                self._read_date(response.headers.get("Date", ""))
                if any(coding.lower() != "identity" for coding in response.headers.getall("Content-Encoding", ())):
                    raise PSCAnswerRefused("content_encoding", "a compressed answer, which was not asked for")
                body = await _read_body(response)
                return Answer(response.status, response.headers.get("Content-Type", ""), body)
        except TimeoutError:
            raise PSCUnavailable("timeout", "no answer in time") from None
        except aiohttp.ClientConnectorCertificateError as error:
            raise PSCUnavailable("tls", _tls_detail(error.certificate_error)) from None
        except aiohttp.ClientSSLError as error:
            raise PSCUnavailable("tls", _tls_detail(error)) from None
        except aiohttp.ClientHttpProxyError as error:
            raise PSCUnavailable("proxy", f"the proxy answered {error.status}") from None
        except (aiohttp.ClientError, OSError) as error:
            raise PSCUnavailable("no_answer", _no_answer_detail(error)) from None

    def _read_date(self, text: str) -> None:
        before = self._clock_skew
        try:
            self._clock_skew = self._clock() - parsedate_to_datetime(text).timestamp()
        except (ValueError, TypeError, OverflowError):
            return  # no Date, no skew: the gauge keeps the last one
        if abs(self._clock_skew) > SKEW and (before is None or abs(before) <= SKEW):
            self._log.error("psc: our clock differs from PSC's by %.0f s: tokens will be refused", self._clock_skew)


async def _read_body(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > messages.BODY_LIMIT:
            response.close()
            raise PSCAnswerRefused("too_large", "an answer of more than 1 MiB")
    return bytes(body)


def _no_answer_detail(error: BaseException) -> str:
    """The kind of failure, always the same text for the same cause. What the error says itself may quote what was received."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, socket.gaierror):
        return "the name is not known to DNS"
    number = cause.errno if isinstance(cause, OSError) else None
    return f"{type(error).__name__}: {os.strerror(number)}" if number else type(error).__name__


def _from_seed(seed: bytes, purpose: bytes) -> str:
    """256 bits that nobody knows who does not know the seed, as 43 characters of base64url (RFC 7636 §4.1)."""
    return encode_base64url(hmac.digest(seed, purpose, "sha256"))


def _tls_detail(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate refused: {error.verify_message}"
    return f"no TLS connection: {type(error).__name__}"


def _discovery_addresses(settings: Settings, issuer: str) -> tuple[str, ...]:
    """Decision 19: what is configured, else PSC's own document; for other issuers the standard one after that."""
    if settings.discovery_url:
        return (settings.discovery_url,)
    home = issuer.rstrip("/")
    if settings.environment in ISSUERS:
        return (home + WALLET_DISCOVERY,)
    return (home + WALLET_DISCOVERY, home + PLAIN_DISCOVERY)


def _proxy_authorization(secret: Secret | None) -> str | None:
    if secret is None:
        return None
    user, _, password = secret.reveal().partition(":")
    return aiohttp.encode_basic_auth(user, password)


__all__ = ["ENDPOINTS", "OUTCOMES", "PSC", "Authentication", "make_session"]
