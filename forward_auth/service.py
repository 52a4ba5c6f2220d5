"""The service, composed: settings in, two open doors out.

For: building every part once, in order, and taking it down in the reverse order; reloading what can be reloaded. Refuses: to open a door before
everything it needs is there; to change anything on a reload whose configuration is wrong. Knows no argv, no environment, no signal: cli.py does.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, Final

import aiohttp
from aiohttp import web

from forward_auth import __version__, dialects
from forward_auth.audit import Audit
from forward_auth.cookies import CookieNames
from forward_auth.gate import Gate, Site
from forward_auth.inner import vitals
from forward_auth.inner.check import Check
from forward_auth.inner.door import ARRIVING, QUIET, Door, Endpoint
from forward_auth.inner.protocol import Connection
from forward_auth.listening import BACKLOG, CannotStart, Listening, address, notation_of
from forward_auth.logins import Memory
from forward_auth.logs import LEVELS
from forward_auth.metrics import Metrics
from forward_auth.psc.client import PSC
from forward_auth.psc.notes import SealedNotes
from forward_auth.psc.wire import make_session
from forward_auth.refusals import Refusals
from forward_auth.renewal import Renewals
from forward_auth.sealing import KeyRing, RingError, new_key, read_ring, write_ring
from forward_auth.sessions import Sessions
from forward_auth.settings import Listener, Settings
from forward_auth.sites import compile_sites
from forward_auth.stores.factory import open_store
from forward_auth.web.app import Outer, client_address
from forward_auth.web.door import LARGEST_LINE, Quiet, application
from forward_auth.web.pages import Pages

log = logging.getLogger("forward_auth.service")

DIALECTS: Final = ("nginx", "ingress-nginx", "forward")
DRAIN_SECONDS: Final = 5.0


def load_ring(settings: Settings, now: int) -> KeyRing:
    """The key ring of these settings; made at the first start, never overwritten. Raises RingError."""
    path = settings.server.keys_file
    if path is None:
        return KeyRing([new_key(now)])
    if not path.exists():
        try:
            write_ring(path, [new_key(now)], replace=False)
            log.info("made a new key ring: %s", path)
        except RingError as error:
            if error.code != "keys_exist":  # another process was faster; both use its ring
                raise
    return KeyRing(read_ring(path))


class Service:
    """One running service. `clock`: Unix seconds. `node`: the name it goes by in the audit trail. `handed`: sockets that systemd holds for it."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float],
        node: str = "",
        handed: Mapping[str, socket.socket] | None = None,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.node = node or socket.gethostname()
        self.inner_addresses: list[tuple[str, int] | str] = []  # where the doors really listen, port 0 resolved
        self.outer_address: tuple[str, int] | str = ""
        self.metrics = Metrics(DIALECTS, [app.name for app in settings.apps])
        self.memory = Memory()
        self.ring = load_ring(settings, int(clock()))
        self.cookies = CookieNames(secure=settings.server.origin.scheme == "https")
        self.pages = Pages(settings.pages, settings.server.path_prefix)
        self.gate = Gate(compile_sites(settings, self.memory), self.memory, self.ring)
        self.refusals = Refusals(clock)
        self.audit = Audit(
            settings.audit.file,
            required=settings.audit.required,
            clock=clock,
            node=self.node,
            stdout=settings.audit.stdout,
        )
        self.sessions = Sessions(
            store=open_store(settings.session.store),
            memory=self.memory,
            ring=self.ring,
            audit=self.audit,
            metrics=self.metrics,
            refusals=self.refusals,
            settings=settings.session,
            clock=clock,
            issuer=settings.psc.issuer,
            address_of=self._address_of,
        )
        self.sessions.gate = self.gate
        self._stack = AsyncExitStack()
        self._endpoints: Mapping[bytes, Endpoint] = {}
        self._listening = Listening(handed)
        self._doors: list[Door] = []
        self._servers: list[asyncio.Server] = []  # one for each of these doors
        self._outer_server: asyncio.Server | None = None
        self._runner: web.AppRunner | None = None
        self._draining = False
        self.outer: Outer | None = None

    # -- life ------------------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open everything. Raises CannotStart, StoreUnavailable, RingError, ConfigError; then nothing stays open."""
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise

    async def _start(self) -> None:
        stack = self._stack
        self._listening.must_fit(*self.settings.server.inner, self.settings.server.outer)
        self.audit.start()
        stack.callback(self.audit.stop)
        if self.audit.failing:
            # Who is in stays in, but nobody can sign in: not to be found out from the first phone call.
            log.error("%s", self.audit.failing)
        await stack.enter_async_context(self.sessions.running())
        self._http = _session_with(self.settings)
        stack.push_async_callback(self._close_psc)
        psc = await self._open_psc()
        self.outer = Outer(
            settings=self.settings,
            gate=self.gate,
            sessions=self.sessions,
            psc=psc,
            pages=self.pages,
            ring=self.ring,
            cookies=self.cookies,
            audit=self.audit,
            metrics=self.metrics,
            clock=self.clock,
            authorities=self._authorities(),
        )
        self._observe()
        self._endpoints = self._compile_endpoints()
        stack.callback(self._listening.close)
        for listener in self.settings.server.inner:
            await self._open_inner(listener)
        await self._open_outer(self.settings.server.outer)
        renewals = Renewals(
            self.sessions, lambda: psc_of(self), self.metrics, self.clock, self.settings.psc.subject_claim
        )
        await stack.enter_async_context(renewals.running())
        sweeper = asyncio.create_task(self._sweep())
        stack.callback(sweeper.cancel)
        log.info(
            "started: version %s, %d apps, inner door %s, outer door %s",
            __version__,
            len(self.settings.apps),
            ", ".join(map(notation_of, self.inner_addresses)),
            notation_of(self.outer_address),
        )

    async def stop(self, drain: float = DRAIN_SECONDS) -> None:
        """Not ready; the outer door ends, then the inner ones: every answer says close, then nobody is accepted, what is under way is answered."""
        self._draining = True
        if self.outer is not None:
            self.outer.draining = True
        # A sign-in under way may wait for PSC; checks are answered meanwhile, and stop last, for the shortest time.
        await self._close_outer(drain)
        await asyncio.gather(
            *(door.drain(drain, server.close) for door, server in zip(self._doors, self._servers, strict=True))
        )
        await self._stack.aclose()
        log.info("stopped")

    async def _open_psc(self) -> PSC:
        settings = self.settings
        base = settings.server.origin.text + settings.server.path_prefix
        psc = PSC(
            settings.psc,
            redirect_uri=base + "/callback",
            post_logout_redirect_uri=base + "/signed-out",
            http=self._http,
            clock=self.clock,
            notes=SealedNotes(self.sessions.store, self.ring),
            observe=self.metrics.psc_request,
            log=logging.getLogger("forward_auth.psc"),
        )
        await psc.start()
        return psc

    async def _close_psc(self) -> None:
        if self.outer is not None:
            await self.outer.psc.close()
        await self._http.close()

    def _observe(self) -> None:
        """Gauges that are asked at each scrape."""
        metrics, outer = self.metrics, self.outer
        assert outer is not None
        metrics.from_function(metrics.ready, lambda: float(self.ready()[0]))
        metrics.from_function(metrics.psc_reachable, lambda: float(outer.psc.reachable))
        metrics.from_function(metrics.logins, lambda: float(len(self.memory)))
        metrics.from_function(metrics.keys_age, lambda: outer.psc.keys_age or 0.0)
        metrics.from_function(metrics.clock_skew, lambda: outer.psc.clock_skew or 0.0)
        metrics.from_function(metrics.audit_failing, lambda: float(bool(self.audit.failing)))

    def ready(self) -> tuple[bool, Mapping[str, str]]:
        """-> (ready, part -> "ok" or a sentence). PSC away later, or a failing audit trail, is said and does not make it unready."""
        outer = self.outer
        psc_known = outer is not None and outer.psc.ready
        parts = {
            "configuration": "ok",
            "store": self.sessions.trouble or self.sessions.unwritable or "ok",
            "psc": "ok"
            if psc_known
            else (outer.psc.trouble if outer is not None else "") or "nothing is known of PSC yet",
            "doors": "draining" if self._draining else "ok",
        }
        ready = all(said == "ok" for said in parts.values())
        parts["audit"] = self.audit.failing or "ok"
        if outer is not None and psc_known and not outer.psc.reachable:
            parts["psc"] = "ok (known, but not answering now: " + (outer.psc.trouble or "no answer") + ")"
        elif outer is not None and psc_known and outer.psc.trouble:
            parts["psc"] = f"ok (known, but what it says of itself now is not believed: {outer.psc.trouble})"
        return ready, parts

    # -- doors -----------------------------------------------------------------------------------------------------------------

    def _compile_endpoints(self) -> Mapping[bytes, Endpoint]:
        server = self.settings.server
        addresses = dialects.Addresses(server.origin.text, server.path_prefix)
        endpoints: dict[bytes, Endpoint] = {
            target: Check(
                dialect, self.gate, self.sessions, self.memory.news, self.cookies.ticket_bytes, self.metrics, self.clock
            )
            for target, dialect in dialects.dialects(addresses, self._ready_pages()).items()
        }
        endpoints[b"/metrics"] = vitals.metrics(self.metrics.render)
        endpoints[b"/livez"] = vitals.livez()
        endpoints[b"/readyz"] = vitals.readyz(self.ready)
        return endpoints

    def _ready_pages(self) -> dialects.Pages:
        """The two pages that the inner door gives to proxies of the forward dialect, made once."""
        language = self.settings.pages.language
        mark = dialects.REFERENCE_MARK.decode()
        prefix = self.settings.server.path_prefix
        refused = self.pages.render(
            "refused_general", language, reference=mark, action_url=f"{prefix}/refused?ref={mark}"
        )
        unavailable = self.pages.render("error", language, status=503, action_url="/", reference=None)
        headers = {**self.pages.security_headers(https=self.cookies.secure), "Content-Type": "text/html; charset=utf-8"}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("ascii")
        return dialects.Pages(refused, unavailable, lines)

    def _authorities(self) -> Mapping[str, str]:
        return {origin: origin for origin in (*self.gate.sites, self.settings.server.origin.text)}

    def _address_of(self, client: bytes) -> str:
        return client_address(client.decode("latin-1"), "", self.settings.server.trusted_proxies)

    async def _open_inner(self, listener: Listener) -> None:
        door = Door(
            lambda: self._endpoints,
            trusted=lambda: self.settings.server.trusted_proxies,
            observers=lambda: self.settings.server.observers,
            cookie=self.cookies.ticket_bytes,
        )
        self._doors.append(door)
        sock = self._listen(listener)
        self.inner_addresses.append(address(sock))
        loop = asyncio.get_running_loop()
        if listener.kind == "unix":
            server = await loop.create_unix_server(lambda: Connection(door), sock=sock, backlog=BACKLOG)
        else:
            server = await loop.create_server(lambda: Connection(door), sock=sock, backlog=BACKLOG)
        self._servers.append(server)
        self._stack.callback(server.close)

    async def _open_outer(self, listener: Listener) -> None:
        assert self.outer is not None
        app = application(self.outer)
        app.on_response_prepare.append(_no_banner)
        options: dict[str, Any] = {
            "access_log": None,
            "keepalive_timeout": 90,
            "max_line_size": LARGEST_LINE,
            "max_field_size": LARGEST_LINE,
        }
        runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=DRAIN_SECONDS, **options)
        await runner.setup()
        self._runner = runner
        self._stack.push_async_callback(self._close_outer, 0.0)
        sock = self._listen(listener)
        self.outer_address = address(sock)
        loop, manager = asyncio.get_running_loop(), runner.server
        assert manager is not None

        def connection() -> Quiet:
            return Quiet(manager, loop=loop, **options)

        if isinstance(self.outer_address, str):
            server = await loop.create_unix_server(connection, sock=sock, backlog=BACKLOG)
        else:
            server = await loop.create_server(connection, sock=sock, backlog=BACKLOG)
        self._outer_server = server
        self._stack.callback(server.close)

    async def _close_outer(self, drain: float) -> None:
        """The outer door's end, once: in the order of Door.drain, and for the same reasons."""
        runner, self._runner = self._runner, None
        if runner is None or runner.server is None:
            return
        if runner.server.connections:
            await asyncio.sleep(min(drain, QUIET))
        if self._outer_server is not None:
            self._outer_server.close()
            await asyncio.sleep(0.01)  # who is accepted at this moment becomes known
        if runner.server.connections:
            await asyncio.sleep(min(drain, ARRIVING))
        await runner.cleanup()

    def _listen(self, listener: Listener) -> socket.socket:
        """A bound socket. Raises CannotStart."""
        return self._listening.open(listener, self.settings.server.socket_group)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(1)
            for door in self._doors:
                door.sweep()
            assert self.outer is not None
            self.outer.pace.tell()

    # -- reload ----------------------------------------------------------------------------------------------------------------

    async def reload(self, settings: Settings) -> tuple[str, ...]:
        """Take up a new configuration that is already judged. -> the keys whose change needs a restart (their old value stays). Raises
        RingError, CannotStart or ConfigError before anything has changed."""
        kept = restart_needed(self.settings, settings)
        settings = _with_what_stays(self.settings, settings)
        ring = load_ring(settings, int(self.clock())) if settings.server.keys_file is not None else self.ring
        pages = Pages(settings.pages, self.settings.server.path_prefix)
        sites: Mapping[str, Site] = compile_sites(settings, self.memory)
        outer = self.outer
        assert outer is not None
        old = self.settings
        psc_changed = old.psc != settings.psc or old.psc.client_secret.reveal() != settings.psc.client_secret.reveal()
        session = _session_with(settings) if psc_changed else self._http
        if {(key.id, key.secret) for key in self.ring.keys} - {(key.id, key.secret) for key in ring.keys}:
            self.memory.forget_everything()  # a key was dropped: no ticket made under it is answered from memory any more
        self.settings = settings
        self.ring = self.sessions.ring = outer.ring = ring
        self.pages = outer.pages = pages
        self.sessions.settings = settings.session
        outer.settings = settings
        self.metrics.checks.know(app.name for app in settings.apps)
        self.gate.replace(sites, ring)
        outer.authorities = self._authorities()
        self.audit.reopen()
        logging.getLogger("forward_auth").setLevel(LEVELS[settings.log.level])
        self._endpoints = self._compile_endpoints()
        for door in self._doors:
            door.reload()
        if psc_changed:
            previous, previous_session, self._http = outer.psc, self._http, session
            outer.psc = await self._open_psc()
            await previous.close()
            await previous_session.close()
        return kept


def restart_needed(old: Settings, new: Settings) -> tuple[str, ...]:
    """The keys that a running service cannot change."""
    pairs = {
        "server.inner": (old.server.inner, new.server.inner),
        "server.outer": (old.server.outer, new.server.outer),
        "server.origin": (old.server.origin, new.server.origin),
        "server.path_prefix": (old.server.path_prefix, new.server.path_prefix),
        "server.socket_group": (old.server.socket_group, new.server.socket_group),
        "session.store": (old.session.store, new.session.store),
        "psc.issuer": (old.psc.issuer, new.psc.issuer),
        "audit": (
            (old.audit.file, old.audit.stdout, old.audit.required),
            (new.audit.file, new.audit.stdout, new.audit.required),
        ),
        "log.format": (old.log.format, new.log.format),
    }
    return tuple(key for key, (was, wanted) in pairs.items() if was != wanted)


def _with_what_stays(old: Settings, new: Settings) -> Settings:
    """The new settings, but for the keys of `restart_needed`."""
    server = replace(
        new.server,
        inner=old.server.inner,
        outer=old.server.outer,
        origin=old.server.origin,
        path_prefix=old.server.path_prefix,
        socket_group=old.server.socket_group,
    )
    return replace(
        new,
        server=server,
        session=replace(new.session, store=old.session.store),
        psc=replace(
            new.psc,
            issuer=old.psc.issuer,
            discovery_url=new.psc.discovery_url if new.psc.issuer == old.psc.issuer else old.psc.discovery_url,
        ),
        audit=old.audit,
        log=replace(new.log, format=old.log.format),
    )


def _session_with(settings: Settings) -> aiohttp.ClientSession:
    """The session PSC is spoken to with. Raises CannotStart: authorities that are none."""
    try:
        return make_session(settings.psc)
    except OSError as error:
        raise CannotStart(
            "ca_file",
            f"psc.ca_file: {settings.psc.ca_file}: no authorities can be read from it ({error.strerror or error}); name a PEM file with the authorities to trust",
        ) from None


async def _no_banner(request: web.Request, response: web.StreamResponse) -> None:
    """ASVS 13.4.6: no version of anything in the Server header."""
    response.headers.popall("Server", None)


def psc_of(service: Service) -> PSC:
    """The PSC client in use now: a reload may replace it."""
    assert service.outer is not None
    return service.outer.psc
