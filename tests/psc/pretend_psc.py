"""A small real server that answers as PSC does, or as a test tells it to; everything it was asked is written down."""

import asyncio
import contextlib
import json
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from email.utils import formatdate
from types import SimpleNamespace
from typing import Any

import token_forge as forge
from aiohttp import web

from forward_auth.psc.client import PSC, make_session
from forward_auth.psc.notes import Notes
from forward_auth.secret import Secret
from forward_auth.stores.memory import MemoryStore

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
REALM = "/auth/realms/esante-wallet"
HOME = REALM + "/protocol/openid-connect"
WALLET = REALM + "/.well-known/wallet-openid-configuration"
PLAIN = REALM + "/.well-known/openid-configuration"
SUB = "c5869b2a-0000-4000-8000-000000000000"


class Pretend:
    """`answers` maps a path to what it answers: a dict (JSON, 200), a web.Response factory, or a handler."""

    def __init__(self, host: str = "psc.localhost", tls: ssl.SSLContext | None = None) -> None:
        self.host = host
        self.tls = tls
        self.port = 0
        self.now = float(forge.NOW)
        self.seen: list[tuple[str, str]] = []
        self.requests: list[SimpleNamespace] = []
        self.answers: dict[str, Handler | dict[str, Any]] = {}
        self.keys = ["one"]
        self._runner: web.AppRunner | None = None

    @property
    def base(self) -> str:
        """Scheme, host, port."""
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}"

    @property
    def issuer(self) -> str:
        """The issuer."""
        return self.base + REALM

    def count(self, path: str) -> int:
        """How often a path was asked."""
        return sum(1 for _, seen in self.seen if seen == path)

    async def start(self) -> None:
        """Listen; after stop, on the same port again."""
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self.tls, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Gone, as a machine that is switched off."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def id_token(self, **members: object) -> str:
        """An ID token of this issuer, signed by its newest key."""
        kid = self.keys[-1]
        now = int(self.now)
        claims = forge.id_claims(**{"iss": self.issuer, "iat": now, "exp": now + 120, "auth_time": now - 5, **members})
        return forge.sign(forge.header(kid=kid), claims, by=kid)

    def tokens(self, **members: object) -> dict[str, object]:
        """The token endpoint's answer."""
        return forge.without(
            {
                "access_token": forge.ACCESS_TOKEN,
                "refresh_token": "refresh-1",
                "token_type": "Bearer",
                "expires_in": 120,
                "refresh_expires_in": 1800,
                "id_token": self.id_token(),
                **members,
            }
        )

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request.method, request.path))
        body = await request.text()
        self.requests.append(
            SimpleNamespace(method=request.method, path=request.path, headers=request.headers.copy(), body=body)
        )
        answer = self.answers.get(request.path)
        if callable(answer):
            response = await answer(request)
        else:
            response = web.json_response(answer if answer is not None else self._honest(request.path))
        if not response.prepared:
            response.headers.setdefault("Date", formatdate(self.now, usegmt=True))
        return response

    def _honest(self, path: str) -> object:
        if path == WALLET:
            return forge.metadata(self.issuer, authorization_endpoint=self.base.replace("psc.", "wallet.") + "/auth")
        if path == HOME + "/certs":
            return json.loads(forge.jwks(*(forge.jwk(name) for name in self.keys)))
        if path == HOME + "/token":
            return self.tokens()
        if path == HOME + "/userinfo":
            return {"sub": SUB, "SubjectNameID": "899700000001"}
        if path == HOME + "/revoke":
            return {}
        raise web.HTTPNotFound


def text(body: bytes | str, status: int = 200, content_type: str = "application/json", **headers: str) -> Handler:
    """A handler that answers this."""

    async def handler(request: web.Request) -> web.StreamResponse:
        raw = body.encode() if isinstance(body, str) else body
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, body=raw, headers={"Content-Type": content_type, **names})

    return handler


def settings(pretend: Pretend | None = None, **members: object) -> SimpleNamespace:
    """`[psc]` as config gives it, changed."""
    return SimpleNamespace(
        **{
            "environment": "custom",
            "issuer": pretend.issuer if pretend else "",
            "discovery_url": "",
            "client_id": forge.CLIENT_ID,
            "client_secret": Secret("hidden-secret"),
            "client_auth": "client_secret_basic",
            "ca_file": None,
            "scope": "openid scope_all",
            "acr_values": ("eidas1",),
            "subject_claim": "SubjectNameID",
            "userinfo": True,
            "http_proxy": None,
            "http_proxy_auth": None,
            **members,
        }
    )


class House:
    """A pretend PSC, our client of it, and what the client told."""

    def __init__(self, pretend: Pretend, store: MemoryStore) -> None:
        self.pretend = pretend
        self.store = store
        self.observed: list[tuple[str, str]] = []
        self.durations: list[float] = []
        self.now = pretend.now
        self.psc: PSC

    def clock(self) -> float:
        """Turned by hand; the pretend PSC's clock is its own."""
        return self.now

    def observe(self, endpoint: str, outcome: str, seconds: float) -> None:
        """Written down."""
        self.observed.append((endpoint, outcome))
        self.durations.append(seconds)


@contextlib.asynccontextmanager
async def house(
    pretend: Pretend | None = None,
    *,
    store: MemoryStore | None = None,
    notes: Notes | None = None,
    running: bool = True,
    started: bool = True,
    probe_every: float = 0.05,
    refresh_every: float = 3600.0,
    **members: object,
) -> AsyncIterator[House]:
    """Everything started and stopped; a store that is given is opened, and left to the test."""
    pretend = pretend or Pretend()
    store = store or MemoryStore()
    await store.open()
    await pretend.start()
    if not running:
        await pretend.stop()
    found = House(pretend, store)
    configured = settings(pretend, **members)
    async with make_session(configured) as http:
        found.psc = PSC(
            configured,
            redirect_uri="https://auth.hopital.example/psc/callback",
            post_logout_redirect_uri="https://auth.hopital.example/psc/signed-out",
            http=http,
            clock=found.clock,
            notes=notes or store,
            observe=found.observe,
            log=logging.getLogger("psc"),
            probe_every=probe_every,
            refresh_every=refresh_every,
        )
        try:
            if started:
                await found.psc.start()
            yield found
        finally:
            await found.psc.close()
            await pretend.stop()


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Let the loop run until something holds; fails loudly when it does not."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)
