"""The pretend Pro Santé Connect itself: its endpoints over HTTP, honest unless a fault is switched on.

For: demonstration, integrators, tests. Written from what is known of the real service, not from our client: it imports nothing
of this project outside its own folder, so that the two are independent witnesses. Refuses: to be mistaken for the real one, and
whatever Keycloak would refuse (unknown client, inexact redirect URI, wrong secret, reused code, missing `acr_values` …).
How to use it: see the docstring of the package.
"""

import asyncio
import json
import secrets
import socket
import ssl
import time
import uuid
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit

import aiohttp
import jwt
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from . import authorization, control, discovery, hand, pages, transport
from .authentication import authenticate
from .faults import Faults
from .jose import Key, KeyRing, dumps, half_hash
from .people import Person
from .people import people as read_people
from .realm import BackchannelRequest, Client, Code, Grant, Lifetimes, OAuthError, Realm, Session
from .token_faults import Draft

COOKIE: Final = "psc-simulator-sso"
CIBA_GRANT: Final = "urn:openid:params:grant-type:ciba"
_LOGOUT_EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"
_GRANT_NAMES: Final = {"authorization_code": "code", "refresh_token": "refresh", CIBA_GRANT: "poll"}
_HIDDEN: Final = frozenset({"client_secret"})
_PAGE_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as it arrived. `endpoint`: discovery, jwks, authorize, token … `grant`: code, refresh, poll or "".
    `authorization`: the scheme only. The client secret is left out of `form`. `certificate`: common name, "" without."""

    endpoint: str
    method: str
    host: str
    query: dict[str, str]
    form: dict[str, str]
    grant: str
    authorization: str
    certificate: str
    at: float


@dataclass(frozen=True, slots=True)
class Ask:
    """A request as the endpoints read it."""

    request: web.Request
    query: tuple[tuple[str, str], ...]
    form: tuple[tuple[str, str], ...]
    places: tuple[str, ...]

    @property
    def all(self) -> dict[str, str]:
        """Query and form together; the form wins."""
        return dict(self.query) | dict(self.form)


@dataclass(frozen=True, slots=True)
class Notice:
    """A back-channel logout that was sent. `status` 0: it could not be delivered."""

    client_id: str
    uri: str
    token: str
    status: int


class _Loopback(AbstractResolver):
    """localhost and *.localhost are this machine (RFC 6761), whatever the resolver of the machine thinks."""

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET) -> list[ResolveResult]:
        address = host
        if host == "localhost" or host.endswith(".localhost"):
            address = "127.0.0.1"
        found = await asyncio.get_running_loop().getaddrinfo(address, port, type=socket.SOCK_STREAM)
        return [
            ResolveResult(hostname=host, host=str(entry[4][0]), port=port, family=entry[0], proto=entry[2], flags=0)
            for entry in found
        ]

    async def close(self) -> None:
        """Nothing is held."""


class Simulator:
    """A pretend PSC.

    `issuer`: None = derived from the port, `http://psc.localhost:PORT/auth/realms/esante-wallet`. `clients` None: open house
    (any client id, any non-empty secret, redirect URIs on localhost, *.localhost, *.example). `clock`: Unix seconds.
    `host`/`port`: where it listens (port 0: any free one), or `sock`: an already bound socket. `tls`: serve https with it.
    `refresh_rotation`: "keep" or "revoke". `ciba_auto`: what happens to a CIBA request by itself: "", "approve", "deny".
    `key`: the first signing key (`Key.rsa()`), for tests that start many simulators and would rather make one key only.
    """

    def __init__(
        self,
        *,
        issuer: str | None = None,
        people: Mapping[str, Person] | None = None,
        clients: Iterable[Client] | None = None,
        clock: Callable[[], float] = time.time,
        host: str = "127.0.0.1",
        port: int = 0,
        sock: socket.socket | None = None,
        tls: ssl.SSLContext | None = None,
        lifetimes: Lifetimes | None = None,
        refresh_rotation: str = "keep",
        ciba_auto: str = "",
        key: Key | None = None,
    ) -> None:
        self.people: dict[str, Person] = dict(read_people() if people is None else people)
        self.lifetimes = lifetimes or Lifetimes()
        self.realm = Realm(clients, self.lifetimes, refresh_rotation)
        self.faults = Faults()
        self.keys = KeyRing(key)
        self.requests: deque[Seen] = deque(maxlen=10_000)
        self.counts: Counter[str] = Counter()
        self.notices: deque[Notice] = deque(maxlen=10_000)
        self.ciba_auto = ciba_auto
        self.host = host
        self.port = port
        self.clock_offset = 0.0
        self.loop: asyncio.AbstractEventLoop | None = None
        self._clock = clock
        self._issuer = issuer
        self._sock = sock
        self._tls = tls
        self._runner: web.AppRunner | None = None
        self._http: aiohttp.ClientSession | None = None

    # ------------------------------------------------------------------------------------------ life

    @property
    def issuer(self) -> str:
        """The issuer; known once started when it derives from the port."""
        if self._issuer is not None:
            return self._issuer
        return f"{'https' if self._tls else 'http'}://psc.localhost:{self.port}/auth/realms/esante-wallet"

    @property
    def discovery_url(self) -> str:
        """Where PSC's own discovery document is."""
        return f"{self.issuer}/.well-known/wallet-openid-configuration"

    @property
    def authorization_endpoint(self) -> str:
        """On another host than the issuer, as at the real PSC."""
        parts = urlsplit(self.issuer)
        return f"{parts.scheme}://wallet.{parts.netloc}/auth"

    def endpoint(self, path: str) -> str:
        """`token` -> issuer + /protocol/openid-connect/token"""
        return f"{self.issuer}/protocol/openid-connect/{path}"

    def now(self) -> int:
        """The clock, whole seconds, with what it was turned by."""
        return int(self._clock() + self.clock_offset)

    def advance(self, seconds: float) -> None:
        """Turns the simulator's clock."""
        self.clock_offset += seconds

    async def start(self) -> None:
        """Listens. After `stop` it can be started again: same port, same sessions and keys."""
        self.loop = asyncio.get_running_loop()
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(resolver=_Loopback(), use_dns_cache=False, force_close=True),
            timeout=aiohttp.ClientTimeout(total=5),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        app = web.Application()
        app.on_response_prepare.append(self._date)
        self._add_routes(app)
        control.add_routes(app, self)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        site: web.BaseSite
        if self._sock is not None:
            site = web.SockSite(self._runner, self._sock, ssl_context=self._tls)
        else:
            site = web.TCPSite(self._runner, self.host, self.port, ssl_context=self._tls, reuse_address=True)
        try:
            await site.start()
        except BaseException:
            await self.stop()
            raise
        self.port = int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Closes the door; connections are refused until the next `start`."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        if self._http is not None:
            await self._http.close()
            self._http = None

    def call(self, work: Coroutine[Any, Any, T], timeout: float = 10) -> T:
        """Runs a coroutine of the simulator from another thread, e.g. `simulator.call(simulator.end_session(sid))`."""
        if self.loop is None:
            raise RuntimeError("not started")
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout)

    async def _date(self, request: web.Request, response: web.StreamResponse) -> None:
        """The Date header follows the turned clock: clients measure their skew by it."""
        ahead = self.faults.take("date.off")
        off = float(ahead) if isinstance(ahead, (int, float)) else 0.0
        response.headers["Date"] = formatdate(self.now() + off, usegmt=True)
        response.headers["Server"] = "psc-simulator"

    # ------------------------------------------------------------------------------------------ routes

    def _add_routes(self, app: web.Application) -> None:
        base = urlsplit(self.issuer).path.rstrip("/")
        oidc = f"{base}/protocol/openid-connect"
        for methods, path, place, handler in (
            (("GET",), f"{base}/.well-known/wallet-openid-configuration", "discovery", self._discovery),
            (("GET",), f"{base}/.well-known/openid-configuration", "discovery", self._discovery),
            (("GET",), f"{oidc}/certs", "jwks", self._certs),
            (("GET", "POST"), f"{oidc}/auth", "authorize", self._authorize),
            (("GET", "POST"), "/auth", "authorize", self._authorize),
            (("GET", "POST"), "/auth/", "authorize", self._authorize),
            (("POST",), f"{oidc}/token", "token", self._token),
            (("GET", "POST"), f"{oidc}/userinfo", "userinfo", self._userinfo),
            (("POST",), f"{oidc}/token/introspect", "introspect", self._introspect),
            (("POST",), f"{oidc}/revoke", "revoke", self._revoke),
            (("GET", "POST"), f"{oidc}/logout", "end_session", self._end_session),
            (("POST",), f"{oidc}/ext/ciba/auth", "ciba", self._ciba),
        ):
            for method in methods:
                app.router.add_route(method, path, self._endpoint(place, handler))

    def _endpoint(
        self, place: str, handler: Callable[[Ask], Awaitable[web.StreamResponse]]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def answer(request: web.Request) -> web.StreamResponse:
            if not self._right_host(request, place):
                return web.Response(status=404, text="not on this host\n")
            ask = await self._read(request, place)
            response = await transport.before(self.faults, ask.places, request)
            if response is None:
                try:
                    response = await handler(ask)
                except OAuthError as error:
                    response = _error(error)
            return await transport.after(self.faults, ask.places, request, response)

        return answer

    def _right_host(self, request: web.Request, place: str) -> bool:
        """The wallet host knows only the authorization page, the issuer host everything else; an address knows both."""
        host = (urlsplit(f"//{request.host}").hostname or "").lower()
        issuer = urlsplit(self.issuer).hostname or ""
        wallet_page = request.path in ("/auth", "/auth/")
        if host == f"wallet.{issuer}":
            return wallet_page
        return not (host == issuer and wallet_page)

    async def _read(self, request: web.Request, place: str) -> Ask:
        query = tuple(parse_qsl(request.rel_url.raw_query_string, keep_blank_values=True))
        form: tuple[tuple[str, str], ...] = ()
        if request.method == "POST" and request.content_type == "application/x-www-form-urlencoded":
            form = tuple(parse_qsl((await request.read()).decode("utf-8", "replace"), keep_blank_values=True))
        grant = _GRANT_NAMES.get(dict(form).get("grant_type", ""), "") if place == "token" else ""
        seen = Seen(
            endpoint=place,
            method=request.method,
            host=request.host,
            query=dict(query),
            form={name: value for name, value in form if name not in _HIDDEN},
            grant=grant,
            authorization=request.headers.get("Authorization", "").partition(" ")[0],
            certificate=_common_name(request),
            at=self._clock() + self.clock_offset,
        )
        self.requests.append(seen)
        self.counts[place] += 1
        if grant:
            self.counts[grant] += 1
        return Ask(request, query, form, ("all", place, grant) if grant else ("all", place))

    def _json(self, ask: Ask, document: dict[str, Any], *, context: object = None, cache: bool = False) -> web.Response:
        self.faults.spoil(ask.places, document, context)
        headers = {} if cache else {"Cache-Control": "no-store", "Pragma": "no-cache"}
        return web.Response(body=dumps(document).encode(), content_type="application/json", headers=headers)

    # ------------------------------------------------------------------------------------------ discovery and keys

    async def _discovery(self, ask: Ask) -> web.StreamResponse:
        wallet = "/wallet-" in ask.request.path
        if self.faults.take("discovery.wallet_missing" if wallet else "discovery.plain_missing"):
            return web.json_response({"error": "RESTEASY003210: Could not find resource"}, status=404)
        return self._json(ask, self.discovery(wallet=wallet), cache=True)

    def discovery(self, *, wallet: bool = True) -> dict[str, Any]:
        """The document. `wallet` False: Keycloak's own, which names its native login page."""
        return discovery.document(self.issuer, self.authorization_endpoint if wallet else self.endpoint("auth"))

    async def _certs(self, ask: Ask) -> web.StreamResponse:
        published = [key.jwk() for key in self.keys.published]
        # A fault that signs with another algorithm is only a test if its key can be found.
        for place in ("id_token", "refresh_id_token", "access_token", "logout_token"):
            for alg, kind in (("alg_es256", "ec"), ("alg_eddsa", "ed25519")):
                if self.faults.is_on(f"{place}.{alg}"):
                    published.append(self.keys.odd(kind).jwk())
        return self._json(ask, {"keys": published}, context=self.keys, cache=True)

    def rotate_keys(self, *, keep: bool = True) -> str:
        """A new signing key; its kid. `keep`: old ones stay published."""
        return self.keys.rotate(keep=keep).kid

    # ------------------------------------------------------------------------------------------ authorization

    async def _authorize(self, ask: Ask) -> web.StreamResponse:
        asked = ask.all
        client = self.realm.client(asked.get("client_id", ""))
        if client is None:
            return _page(pages.refused("Client inconnu : client_id ne correspond à aucun service déclaré."), 400)
        uri = asked.get("redirect_uri", "")
        if not client.may_return_to(uri):
            return _page(pages.refused("redirect_uri ne correspond exactement à aucune adresse déclarée."), 400)
        forced = self.faults.take("authorize.error")
        if forced:
            return self._back(ask, error=str(forced))
        problem = authorization.problem(ask.query, ask.form, require_pkce=client.require_pkce)
        if problem is not None:
            return self._back(ask, error=problem[0], description=problem[1])
        if "cancel" in asked or (asked.get("person") and self.faults.take("authorize.cancelled")):
            return self._back(ask, error="access_denied", description="User denied access")
        return self._authenticate(ask, client)

    def _authenticate(self, ask: Ask, client: Client) -> web.StreamResponse:
        """A person already known to this browser passes; otherwise the page; or the choice that came with the request."""
        asked = ask.all
        now = self.now()
        prompts = asked.get("prompt", "").split()
        known = self.realm.of_cookie(ask.request.cookies.get(COOKIE, ""), now)
        if asked.get("person") and "none" not in prompts:
            return self._chosen(ask, known)
        good = known is not None and known.acr in asked["acr_values"].split()
        if good and known is not None and asked.get("max_age"):
            good = now - known.auth_time <= int(asked["max_age"])
        if good and known is not None and not {"login", "select_account"} & set(prompts):
            known.last_seen = now
            return self._back(ask, session=known)
        if "none" in prompts:
            return self._back(ask, error="login_required")
        fields = [(name, value) for name, value in asked.items() if name not in authorization.OURS]
        return _page(pages.choose(ask.request.path, fields, self.people, client.client_id))

    def _chosen(self, ask: Ask, known: Session | None) -> web.StreamResponse:
        asked = ask.all
        now = self.now()
        person = self.find_person(asked["person"])
        mode = asked.get("mode", "CARD")
        acr = asked.get("acr", "eidas1")
        if person is None or mode not in ("CARD", "MOBILE") or not acr.isascii() or len(acr) > 32:
            return _page(pages.refused("person, mode (CARD, MOBILE) ou acr inconnu."), 400)
        if known is not None and known.person == person:
            # Re-authentication keeps the session and its absolute limit (seen in Keycloak): only auth_time moves.
            known.acr, known.mode, known.auth_time, known.last_seen = acr, mode, now, now
            return self._back(ask, session=known)
        if known is not None:
            self.realm.end(known)  # somebody else sat down at this browser
        session = self.realm.begin(person, acr, mode, now)
        return self._back(ask, session=session, cookie=session.cookie)

    def _back(
        self, ask: Ask, *, session: Session | None = None, cookie: str = "", error: str = "", description: str = ""
    ) -> web.StreamResponse:
        """The callback: code, state, session_state and iss; or an error."""
        asked = ask.all
        uri = asked["redirect_uri"]
        pairs: list[tuple[str, str]] = []
        if error:
            pairs.append(("error", error))
            if description:
                pairs.append(("error_description", description))
        if "state" in asked:
            pairs.append(("state", asked["state"]))
        if session is not None:
            pairs.append(("session_state", session.sid))
        pairs.append(("iss", self.issuer))
        if session is not None:
            code = Code(
                client_id=asked["client_id"],
                redirect_uri=uri,
                session=session,
                nonce=asked.get("nonce", ""),
                challenge=asked.get("code_challenge", ""),
                method=asked.get("code_challenge_method", "plain"),
                scope=asked["scope"],
                issued=self.now(),
            )
            pairs.append(("code", self.realm.make_code(code)))
        self.faults.spoil(("callback",), pairs)
        mode = asked.get("response_mode", "query")
        response: web.Response
        if mode == "form_post":
            response = _page(pages.form_post(uri, pairs))
        else:
            separator = "#" if mode == "fragment" else "&" if urlsplit(uri).query else "?"
            response = _found(uri + separator + urlencode(pairs))
        if cookie:
            response.headers["Set-Cookie"] = self._cookie(cookie)
        return response

    def _cookie(self, value: str) -> str:
        """Shared by the wallet and the issuer host, so that sign-out sees it too. No Domain for a bare or numeric host."""
        parts = urlsplit(self.issuer)
        host = parts.hostname or ""
        domain = f"; Domain={host}" if "." in host and not host.replace(".", "").isdigit() else ""
        secure = "; Secure" if parts.scheme == "https" else ""
        return f"{COOKIE}={value}; Path=/{domain}; HttpOnly; SameSite=Lax{secure}"

    def find_person(self, name: str) -> str | None:
        """The name of a person, given the name or the national id."""
        if name in self.people:
            return name
        return next((n for n, p in self.people.items() if p["userinfo"].get("SubjectNameID") == name), None)

    def _client(self, ask: Ask) -> Client:
        """The authenticated client. Raises OAuthError."""
        return authenticate(
            self.realm,
            ask.request.headers.get("Authorization", ""),
            dict(ask.form),
            certificate=_common_name(ask.request),
            audiences=(self.issuer, self.endpoint("token"), self.endpoint("ext/par/request")),
            now=self.now(),
        )

    # ------------------------------------------------------------------------------------------ token endpoint

    async def _token(self, ask: Ask) -> web.StreamResponse:
        client = self._client(ask)
        form = dict(ask.form)
        if len(form) != len(ask.form):
            raise OAuthError("invalid_request", "duplicated parameter")
        grant_type = form.get("grant_type", "")
        if not grant_type:
            raise OAuthError("invalid_request", "Missing form parameter: grant_type")
        for place in ask.places:
            wanted = self.faults.take(f"{place}.oauth_error")
            if wanted:
                raise OAuthError(str(wanted), "as the fault asks")
        if grant_type == "authorization_code":
            return await self._code_grant(ask, client, form)
        if grant_type == "refresh_token":
            return self._refresh_grant(ask, client, form)
        if grant_type == CIBA_GRANT:
            return self._poll(ask, client, form)
        raise OAuthError("unsupported_grant_type", "Unsupported grant_type")

    async def _code_grant(self, ask: Ask, client: Client, form: dict[str, str]) -> web.StreamResponse:
        again = bool(self.faults.take("code.reusable"))
        code = self.realm.spend_code(
            form.get("code", ""), client.client_id, form.get("redirect_uri", ""), self.now(), again=again
        )
        if not self.faults.take("code.pkce_ignored"):
            authorization.check_pkce(code, form.get("code_verifier", ""))
        if self.faults.take("code.logout_first"):
            await self.end_session(code.session.sid)
        code.session.last_seen = self.now()
        person = self._other_person("code") or code.session.person
        grant = Grant(code.client_id, code.session, person, code.scope, code.nonce, self.now(), 0, str(uuid.uuid4()))
        return self._json(ask, self._tokens(client, grant, "id_token"))

    def _other_person(self, place: str) -> str | None:
        wanted = self.faults.take(f"{place}.other_person")
        return self.find_person(str(wanted)) if wanted else None

    def _refresh_grant(self, ask: Ask, client: Client, form: dict[str, str]) -> web.StreamResponse:
        old = form.get("refresh_token", "")
        grant = self.realm.spend_refresh(old, client.client_id, self.now())
        person = self._other_person("refresh") or grant.person
        renewed = Grant(
            grant.client_id,
            grant.session,
            person,
            grant.scope,
            "",  # a refreshed ID token carries no nonce (seen in Keycloak)
            self.now(),
            0,
            grant.family,
            generation=grant.generation + 1,
        )
        answer = self._tokens(client, renewed, "refresh_id_token")
        if self.faults.take("refresh.same_refresh_token"):
            self.realm.generations[grant.family] = grant.generation
            answer["refresh_token"] = old
        return self._json(ask, answer)

    def _tokens(self, client: Client, grant: Grant, place: str) -> dict[str, Any]:
        """A token response, and the memory of what was issued."""
        now = self.now()
        session = grant.session
        info = self.people[grant.person]["userinfo"]
        left = session.started + self.lifetimes.session - now
        access_life = max(0, min(self.lifetimes.access, left))
        refresh_life = max(0, min(self.lifetimes.refresh, left))
        access = self.sign("access_token", self.access_claims(grant, access_life), client=client, nonce=grant.nonce)
        self.realm.access[access] = _copy(grant, now + access_life)
        claims = self.id_claims(
            client.client_id, grant.person, session=session, nonce=grant.nonce, access_token=access, life=access_life
        )
        places = ("id_token", place) if place != "id_token" else ("id_token",)
        answer: dict[str, Any] = {
            "access_token": access,
            "expires_in": access_life,
            "refresh_expires_in": refresh_life,
            "refresh_token": "",
            "token_type": "Bearer",
            "id_token": self.sign(places, claims, client=client, nonce=grant.nonce),
            "not-before-policy": 0,
            "session_state": session.sid,
            "scope": grant.scope,
        }
        refresh_claims = {
            "exp": now + refresh_life,
            "iat": now,
            "jti": str(uuid.uuid4()),
            "iss": self.issuer,
            "aud": self.issuer,
            "sub": info["sub"],
            "typ": "Refresh",
            "azp": client.client_id,
            "sid": session.sid,
            "scope": grant.scope,
        }
        draft = self._draft(refresh_claims, client)
        draft.header["alg"] = draft.alg = "HS512"
        draft.key = b"the-realm's-own-secret"
        answer["refresh_token"] = draft.sign()
        self.realm.refresh[answer["refresh_token"]] = _copy(grant, now + refresh_life)
        return answer

    # ------------------------------------------------------------------------------------------ tokens, also by hand

    def id_claims(
        self,
        client_id: str,
        person: str = "docteur-dupont",
        *,
        session: Session | None = None,
        nonce: str = "",
        access_token: str = "",
        life: int | None = None,
    ) -> dict[str, object]:
        """The claims of an ID token: who, and how they proved it; never profession or structure."""
        now = self.now()
        info = self.people[person]["userinfo"]
        session = session or Session(str(uuid.uuid4()), "", person, "eidas1", "CARD", now, now, now)
        claims: dict[str, object] = {
            "exp": now + (self.lifetimes.access if life is None else life),
            "iat": now,
            "auth_time": session.auth_time,
            "jti": str(uuid.uuid4()),
            "iss": self.issuer,
            "aud": client_id,
            "sub": info["sub"],
            "typ": "ID",
            "azp": client_id,
            "nonce": nonce,
            "sid": session.sid,
            "at_hash": half_hash(access_token) if access_token else "",
            "acr": session.acr,
            "SubjectNameID": info["SubjectNameID"],
            "preferred_username": info.get("preferred_username", info["SubjectNameID"]),
            "given_name": info.get("given_name", ""),
            "family_name": info.get("family_name", ""),
        }
        return {name: value for name, value in claims.items() if value != "" or name in ("given_name", "family_name")}

    def access_claims(self, grant: Grant, life: int | None = None) -> dict[str, object]:
        """The claims of an access token in its 2026 form: no aud, opaque sub, sid."""
        info = self.people[grant.person]["userinfo"]
        claims: dict[str, object] = {
            "exp": self.now() + (self.lifetimes.access if life is None else life),
            "iat": self.now(),
            "auth_time": grant.session.auth_time,
            "jti": f"onrtac:{uuid.uuid4()}",
            "iss": self.issuer,
            "sub": info["sub"],
            "typ": "Bearer",
            "azp": grant.client_id,
            "nonce": grant.nonce,
            "sid": grant.session.sid,
            "acr": grant.session.acr,
            "scope": grant.scope,
            "authMode": grant.session.mode,
            "auth_level": "1",
            "SubjectNameID": info["SubjectNameID"],
            "PSISubjectNameID": info.get("PSISubjectNameID", ""),
            "preferred_username": info.get("preferred_username", info["SubjectNameID"]),
            "otherIds": info.get("otherIds", []),
        }
        return {name: value for name, value in claims.items() if not (value == "" and name in ("nonce", "acr"))}

    def logout_claims(self, client_id: str, session: Session) -> dict[str, object]:
        """The claims of a back-channel logout token (OpenID Connect Back-Channel Logout §2.4)."""
        now = self.now()
        return {
            "iat": now,
            "exp": now + 120,
            "jti": str(uuid.uuid4()),
            "iss": self.issuer,
            "aud": client_id,
            "sub": self.people[session.person]["userinfo"]["sub"],
            "typ": "Logout",
            "sid": session.sid,
            "events": {_LOGOUT_EVENT: {}},
        }

    def _draft(self, claims: Mapping[str, object], client: Client | None) -> Draft:
        key = self.keys.current
        return Draft(
            header={"alg": "RS256", "typ": "JWT", "kid": key.kid},
            claims=dict(claims),
            alg="RS256",
            key=key.private,
            ring=self.keys,
            client_secret=client.secret if client else "",
            previous_nonce="",
            now=self.now(),
        )

    def sign(
        self,
        places: str | tuple[str, ...],
        claims: Mapping[str, object],
        *,
        client: Client | str | None = None,
        nonce: str = "",
    ) -> str:
        """Signs claims as the token `places` names ("id_token", "access_token", "logout_token"), with the faults that are on.

        Also for tests that need a token by hand: `simulator.sign("id_token", simulator.id_claims("client-id"))`.
        """
        if isinstance(client, str):
            client = self.realm.client(client)
        places = (places,) if isinstance(places, str) else places
        draft = self._draft(claims, client)
        draft.previous_nonce = next((old for old in reversed(self.realm.nonces) if old != nonce), secrets.token_hex(32))
        if places[0] == "logout_token":
            draft.header["typ"] = "logout+jwt"
        self.faults.spoil(places, draft)
        return draft.sign()

    # ------------------------------------------------------------------------------------------ userinfo, introspection, revocation

    async def _userinfo(self, ask: Ask) -> web.StreamResponse:
        header = ask.request.headers.get("Authorization", "")
        token = header[7:] if header[:7].lower() == "bearer " else dict(ask.form).get("access_token", "")
        if not token:
            return _bearer_error(401, "invalid_request", "Missing token")
        found = self.realm.active(token, self.now())
        if self.faults.take("userinfo.unauthorized") or found is None or found[0] != "Bearer":
            return _bearer_error(401, "invalid_token", "Token verification failed")
        if self.faults.take("userinfo.forbidden"):
            return _bearer_error(403, "insufficient_scope", "Missing openid scope")
        grant = found[1]
        grant.session.last_seen = self.now()
        document = self.userinfo(self._other_person("userinfo") or grant.person, grant.session.mode)
        if self.faults.take("userinfo.jwt"):
            signed = self._draft({**document, "iss": self.issuer, "aud": grant.client_id}, None).sign()
            return web.Response(text=signed, content_type="application/jwt")
        return self._json(ask, document)

    def userinfo(self, person: str, mode: str = "") -> dict[str, Any]:
        """What the endpoint answers about a person; `mode` says how they identified themselves this time."""
        document: dict[str, Any] = json.loads(json.dumps(self.people[person]["userinfo"]))
        if mode and "authMode" in document:
            document["authMode"] = mode
        return document

    async def _introspect(self, ask: Ask) -> web.StreamResponse:
        self._client(ask)
        found = self.realm.active(dict(ask.form).get("token", ""), self.now())
        if found is None:
            return self._json(ask, {"active": False})
        kind, grant = found
        claims = self.access_claims(grant)
        claims.update(
            exp=grant.expires,
            iat=grant.issued,
            typ=kind,
            session_state=grant.session.sid,
            email_verified=False,
            client_id=grant.client_id,
            username=claims["preferred_username"],
            active=True,
        )
        if kind == "Refresh":
            for name in ("SubjectNameID", "PSISubjectNameID", "otherIds", "authMode", "auth_level"):
                claims.pop(name, None)
        return self._json(ask, claims)

    async def _revoke(self, ask: Ask) -> web.StreamResponse:
        client = self._client(ask)
        self.realm.revoke(dict(ask.form).get("token", ""), client.client_id)
        return web.Response(status=200)

    # ------------------------------------------------------------------------------------------ sign-out

    async def _end_session(self, ask: Ask) -> web.StreamResponse:
        asked = ask.all
        session: Session | None = None
        client_id = asked.get("client_id", "")
        hint = asked.get("id_token_hint", "")
        if hint:
            claims = self._hint(hint)
            if claims is None or client_id not in ("", claims.get("azp")):
                return _page(pages.refused("id_token_hint n’est pas valable."), 400)
            client_id = str(claims.get("azp", ""))
            session = self.realm.sessions.get(str(claims.get("sid", "")))
        uri = asked.get("post_logout_redirect_uri", "")
        if uri:
            client = self.realm.client(client_id)
            if client is None or not client.may_sign_out_to(uri):
                return _page(pages.refused("post_logout_redirect_uri n’est pas déclaré pour ce service."), 400)
        if not hint:
            if "confirm" not in asked:
                fields = [(name, value) for name, value in asked.items() if name not in authorization.OURS]
                return _page(pages.confirm_sign_out(ask.request.path, fields))
            session = self.realm.of_cookie(ask.request.cookies.get(COOKIE, ""), self.now())
        if session is not None and not self.faults.take("end_session.ignored"):
            await self.end_session(session.sid)
        if not uri:
            return _page(pages.signed_out())
        state: object = asked.get("state")
        if self.faults.take("end_session.no_state"):
            state = None
        state = self.faults.take("end_session.other_state") or state
        separator = "&" if urlsplit(uri).query else "?"
        return _found(uri + (separator + urlencode({"state": str(state)}) if state is not None else ""))

    def _hint(self, token: str) -> dict[str, Any] | None:
        """The claims of an ID token we signed, however old it is and whatever key signed it."""
        try:
            kid = jwt.get_unverified_header(token).get("kid")
            for key in self.keys.known:
                if key.kid == kid:
                    claims: dict[str, Any] = jwt.decode(
                        token, key.private.public_key(), algorithms=["RS256"], options={"verify_exp": False, "verify_aud": False, "verify_iat": False, "verify_nbf": False}
                    )  # fmt: skip
                    return claims if claims.get("typ") == "ID" and claims.get("iss") == self.issuer else None
        except jwt.PyJWTError:
            return None
        return None

    async def end_session(self, sid: str, *, notify: bool = True) -> bool:
        """Ends a session, telling every client of it that has a back-channel URI. False: there is no such session."""
        session = self.realm.sessions.get(sid)
        if session is None:
            return False
        self.realm.end(session)
        if notify and not self.faults.take("backchannel.silent"):
            for client_id in sorted(session.clients):
                await self._notify(client_id, session)
        return True

    async def _notify(self, client_id: str, session: Session) -> None:
        client = self.realm.client(client_id)
        if client is None or not client.backchannel_logout_uri or self._http is None:
            return
        claims = self.logout_claims(client_id, session)
        if not client.backchannel_logout_session_required:
            claims.pop("sid")
        token = self.sign("logout_token", claims, client=client)
        for _ in range(2 if self.faults.take("backchannel.twice") else 1):
            try:
                async with self._http.post(
                    client.backchannel_logout_uri, data={"logout_token": token}, allow_redirects=False, ssl=False
                ) as answer:
                    status = answer.status
            except (aiohttp.ClientError, TimeoutError, OSError):
                status = 0
            self.notices.append(Notice(client_id, client.backchannel_logout_uri, token, status))

    # ------------------------------------------------------------------------------------------ CIBA (poll mode)

    async def _ciba(self, ask: Ask) -> web.StreamResponse:
        client = self._client(ask)
        form = dict(ask.form)
        if len(form) != len(ask.form):
            raise OAuthError("invalid_request", "duplicated parameter")
        wanted = self.faults.take("ciba.oauth_error")
        if wanted:
            raise OAuthError(str(wanted), "as the fault asks")
        if not client.ciba:
            raise OAuthError("invalid_grant", "Client not allowed OIDC CIBA Grant", 401)
        if not {"openid", "scope_all"} <= set(form.get("scope", "").split()):
            raise OAuthError("invalid_scope", "Invalid scopes: openid and scope_all are required")
        if not form.get("acr_values"):
            raise OAuthError("invalid_request", "Missing parameter: acr_values")
        if not form.get("login_hint"):
            raise OAuthError("invalid_request", "Missing parameter: login_hint")
        person = self.find_person(form["login_hint"])
        if person is None:
            raise OAuthError("invalid_request", "invalid user")
        message = form.get("binding_message", "")
        if not (len(message) == 2 and message.isascii() and message.isdecimal()):
            raise OAuthError("invalid_binding_message", "Invalid value: binding_message")
        if form.get("channel") not in ("CARD", "MOBILE"):
            raise OAuthError("invalid_request", "Invalid parameter: channel")
        request = BackchannelRequest(
            auth_req_id=secrets.token_urlsafe(48),
            client_id=client.client_id,
            person=person,
            channel=form["channel"],
            binding_message=message,
            acr=form["acr_values"].split()[0],
            scope=form["scope"],
            issued=self.now(),
            decision=self.ciba_auto,
        )
        self.realm.ciba[request.auth_req_id] = request
        return self._json(
            ask,
            {
                "auth_req_id": request.auth_req_id,
                "expires_in": self.lifetimes.ciba,
                "interval": self.lifetimes.ciba_interval,
            },
        )

    def decide(self, who: str, decision: str = "approve") -> int:
        """Answers the CIBA requests that wait. `who`: auth_req_id, name or national id; `decision`: approve, deny, cancel.
        Returns how many were answered."""
        person = self.find_person(who)
        answered = 0
        for request in self.waiting():
            if request.auth_req_id == who or (person is not None and request.person == person):
                request.decision = decision
                answered += 1
        return answered

    def waiting(self) -> list[BackchannelRequest]:
        """The CIBA requests nobody has answered yet, and that are not over."""
        now = self.now()
        return [
            request
            for request in list(self.realm.ciba.values())
            if not request.decision and not request.used and now - request.issued < self.lifetimes.ciba
        ]

    def _poll(self, ask: Ask, client: Client, form: dict[str, str]) -> web.StreamResponse:
        request = self.realm.ciba.get(form.get("auth_req_id", ""))
        if request is None or request.client_id != client.client_id or request.used:
            raise OAuthError("invalid_grant", "Invalid Auth Req ID")
        now = self._clock() + self.clock_offset
        last, request.last_poll = request.last_poll, now
        if now - request.issued >= self.lifetimes.ciba:
            raise OAuthError("expired_token", "authentication timed out")
        if request.decision in ("deny", "cancel"):
            raise OAuthError("access_denied", "not authorized")
        if request.decision != "approve":
            if last and now - last < self.lifetimes.ciba_interval:
                raise OAuthError("slow_down", "too early to access")
            raise OAuthError(
                "authorization_pending",
                "The authorization request is still pending as the end-user hasn't yet been authenticated.",
            )
        request.used = True
        session = self.realm.begin(request.person, request.acr, request.channel, int(now))
        session.clients.add(client.client_id)
        person = self._other_person("poll") or request.person
        grant = Grant(client.client_id, session, person, request.scope, "", int(now), 0, str(uuid.uuid4()))
        return self._json(ask, self._tokens(client, grant, "id_token"))

    # ------------------------------------------------------------------------------------------ for tests, over real HTTP

    def sign_in(
        self,
        authorization_url: str,
        person: str = "docteur-dupont",
        *,
        mode: str = "CARD",
        acr: str = "eidas1",
        cookies: dict[str, str] | None = None,
    ) -> str:
        """Picks a person as a browser would, and returns the callback URL. Blocking: call it from the test's thread.

        `cookies`: a browser's jar; what PSC sets is put in it. `person` "" follows the link only (single sign-on).
        Raises RuntimeError when PSC does not send the browser back.
        """
        choice = {"person": person, "mode": mode, "acr": acr} if person else None
        return hand.follow(authorization_url, choice, port=self.port, tls=self._tls is not None, cookies=cookies)


# ---------------------------------------------------------------------------------------------- small answers


def _copy(grant: Grant, expires: int) -> Grant:
    return Grant(
        grant.client_id,
        grant.session,
        grant.person,
        grant.scope,
        grant.nonce,
        grant.issued,
        expires,
        grant.family,
        grant.generation,
    )


def _common_name(request: web.Request) -> str:
    """The common name in the client's certificate; "" without one."""
    transport_ = request.transport
    certificate = transport_.get_extra_info("peercert") if transport_ is not None else None
    for part in (certificate or {}).get("subject", ()):
        for name, value in part:
            if name == "commonName":
                return str(value)
    return ""


def _error(error: OAuthError) -> web.Response:
    document = {"error": error.code}
    if error.description:
        document["error_description"] = error.description
    headers = {"Cache-Control": "no-store", "Pragma": "no-cache"}
    if error.status == 401:
        headers["WWW-Authenticate"] = 'Basic realm="esante-wallet"'
    return web.json_response(document, status=error.status, headers=headers)


def _bearer_error(status: int, code: str, description: str) -> web.Response:
    return web.json_response(
        {"error": code, "error_description": description},
        status=status,
        headers={
            "WWW-Authenticate": f'Bearer realm="esante-wallet", error="{code}", error_description="{description}"',
            "Cache-Control": "no-store",
        },
    )


def _page(text: str, status: int = 200) -> web.Response:
    return web.Response(text=text, content_type="text/html", status=status, headers=_PAGE_HEADERS)


def _found(location: str) -> web.Response:
    return web.Response(
        status=302, headers={"Location": location, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    )
