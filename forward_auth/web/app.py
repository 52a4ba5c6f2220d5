"""The outer door: the application, and what all its handlers share.

For: telling which of our hosts a request is for, which language it wants, whether a page or JSON; turning errors into pages. Refuses: a
host that is not configured (404), `X-Forwarded-*` from a peer that is no trusted proxy, Location headers written by anything but targets.py,
an error without a reference that is in the log.
"""

import json
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final
from urllib.parse import parse_qsl, quote, quote_from_bytes

from aiohttp import hdrs, web
from cachetools import TTLCache

from forward_auth.audit import Audit
from forward_auth.cookies import CookieNames, read_cookie, set_cookie
from forward_auth.errors import ForwardAuthError, PSCUnavailable, StoreUnavailable
from forward_auth.gate import Gate, Site
from forward_auth.logins import Login
from forward_auth.logs import Pace
from forward_auth.metrics import Metrics
from forward_auth.original import read_authority
from forward_auth.psc.client import PSC
from forward_auth.refusals import new_reference
from forward_auth.sealing import KeyRing, NotOurs, from_text, to_text
from forward_auth.sessions import Sessions
from forward_auth.settings import Network, Settings
from forward_auth.targets import Target, hostname_of, read_to
from forward_auth.web.pages import PAGES, Pages

log = logging.getLogger("forward_auth.web")

FORM_SECONDS: Final = 4 * 3600
_AWAY: Final = 5  # seconds a browser should wait before it asks again while PSC is away


@dataclass(slots=True)
class Outer:
    """Everything the outer door works with. The service replaces what a reload changes; handlers read it anew for each request."""

    settings: Settings
    gate: Gate
    sessions: Sessions
    psc: PSC
    pages: Pages
    ring: KeyRing
    cookies: CookieNames
    audit: Audit
    metrics: Metrics
    clock: Callable[[], float]
    pace: Pace = field(init=False)
    draining: bool = False
    bad_logouts: TTLCache[tuple[str, int], int] = field(
        default_factory=lambda: TTLCache(10_000, 120)
    )  # (address, minute)
    authorities: Mapping[str, str] = field(default_factory=dict)  # canonical authority -> origin

    def __post_init__(self) -> None:
        self.pace = Pace(log, self.clock)

    @property
    def origin(self) -> str:
        return self.settings.server.origin.text

    @property
    def prefix(self) -> str:
        return self.settings.server.path_prefix

    def url(self, name: str, origin: str | None = None, /, **query: str | bytes | int | None) -> str:
        """An absolute address of ours: `url("start", to=…)` is ORIGIN/psc/start?to=…; None values are left out."""
        parts = "&".join(
            f"{key}={quote_from_bytes(value, safe='') if isinstance(value, bytes) else quote(str(value), safe='')}"
            for key, value in query.items()
            if value is not None
        )
        return f"{origin or self.origin}{self.prefix}/{name}" + (f"?{parts}" if parts else "")

    def target(self, to: str | bytes | None) -> Target | None:
        """The address behind `to=`, if it is one of ours."""
        if to is None:
            return None
        raw = to if isinstance(to, bytes) else to.encode("utf-8", "surrogateescape")
        return read_to(raw, {*self.gate.sites, self.origin}, prefix=self.prefix, own_pages=(f"{self.prefix}/session",))

    def home(self) -> str:
        """Where to go when nothing better is known: the only app, or «my session»."""
        origins = list(self.gate.sites)
        return origins[0] + "/" if len(origins) == 1 else self.url("session")

    def app_home(self, app: str) -> str:
        """The first address of an app, `/`; the home when there is no such app (any more)."""
        for origin, site in self.gate.sites.items():
            if site.app.name == app:
                return origin + "/"
        return self.home()

    def redirect_origins(self) -> list[str]:
        """Where a form of ours may lead, one redirect after another (Chromium holds form-action against each)."""
        provider = self.psc.provider
        known = (
            []
            if provider is None
            else [
                provider.authorization_endpoint,
                provider.issuer,
                *([provider.end_session_endpoint] if provider.end_session_endpoint else []),
            ]
        )
        return [self.origin, *known, *self.gate.sites]

    # -- form tokens -----------------------------------------------------------------------------------------------------------

    def form_token(self, purpose: str, place: bytes) -> str:
        """For a hidden field: proves that the form was ours, for this purpose and place, within FORM_SECONDS."""
        return to_text(self.ring.seal("form " + purpose, b"%d" % int(self.clock()), place))

    def form_ok(self, purpose: str, place: bytes, token: str) -> bool:
        try:
            made = int(self.ring.open("form " + purpose, from_text(token), place))
        except (NotOurs, ValueError):
            return False
        return 0 <= self.clock() - made <= FORM_SECONDS


@dataclass(frozen=True, slots=True)
class Where:
    """What a request is for. `origin`: the origin asked, `site`: its app, None at the sign-in origin without one; `address`: of the browser."""

    origin: str
    hostname: str
    at_origin: bool
    site: Site | None
    address: str


OUTER: Final = web.AppKey("outer", Outer)
_COMMA: Final = re.compile(r"\s*,\s*")


def peer_is_trusted(request: web.Request, trusted: Sequence[Network]) -> bool:
    """Whoever reached a unix socket was let in by its permissions; a TCP peer must be a trusted proxy."""
    peer = None if request.transport is None else request.transport.get_extra_info("peername")
    if not isinstance(peer, tuple):
        return True
    return in_networks(peer[0], trusted)


def in_networks(text: str, networks: Sequence[Network]) -> bool:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return any((mapped or address) in network for network in networks)


def client_address(forwarded: str, peer: str, trusted: Sequence[Network]) -> str:
    """The right-most address of X-Forwarded-For that is no trusted proxy; for the log and the trail only, never for a decision."""
    for part in reversed(_COMMA.split(forwarded.strip())):
        try:
            ip_address(part)
        except ValueError:
            break
        if not in_networks(part, trusted):
            return part
    return peer


def where(request: web.Request) -> Where | None:
    """Which of our hosts; None for any other. The scheme is that of the configured origin with this host and port: only the host is taken
    from the request, and X-Forwarded-Host only from a trusted proxy, once, without a list."""
    outer = request.app[OUTER]
    server = outer.settings.server
    trusted = peer_is_trusted(request, server.trusted_proxies)
    told = request.headers.getall("X-Forwarded-Host", []) if trusted else []
    hosts = told or request.headers.getall(hdrs.HOST, [])
    peer = None if request.transport is None else request.transport.get_extra_info("peername")
    address = peer[0] if isinstance(peer, tuple) else ""
    if trusted:
        address = client_address(
            ", ".join(request.headers.getall("X-Forwarded-For", [])), address, server.trusted_proxies
        )
    if len(hosts) != 1:
        return None
    for scheme in ("https", "http"):
        authority = read_authority(hosts[0].encode("latin-1", "replace"), scheme)
        origin = outer.authorities.get(f"{scheme}://{authority}")
        if origin is not None:
            return Where(origin, hostname_of(origin), origin == outer.origin, outer.gate.sites.get(origin), address)
    return None


def query(request: web.Request) -> list[tuple[str, str]]:
    """All pairs of the query, decoded once, bytes that are not UTF-8 kept (surrogateescape). At most 32."""
    raw = request.raw_path.partition("?")[2].partition("#")[0]
    try:
        return parse_qsl(raw, keep_blank_values=True, errors="surrogateescape", max_num_fields=32)
    except ValueError:
        raise web.HTTPBadRequest from None


def one(pairs: Iterable[tuple[str, str]], name: str) -> str | None:
    """The value of a parameter that stands exactly once."""
    values = [value for key, value in pairs if key == name]
    return values[0] if len(values) == 1 else None


def cookie_header(request: web.Request) -> bytes | None:
    lines = [value for name, value in request.raw_headers if name.lower() == b"cookie"]
    return b"; ".join(lines) if lines else None


def ticket_of(request: web.Request) -> bytes | None:
    """The value of our ticket cookie on this host."""
    return read_cookie(cookie_header(request), request.app[OUTER].cookies.ticket_bytes)


async def login_of(request: web.Request, at: Where) -> Login | None:
    """Who is signed in on the host this request is for."""
    return await request.app[OUTER].sessions.find(ticket_of(request), at.hostname)


def is_prefetch(request: web.Request) -> bool:
    """A browser that only thinks ahead (CB-16): it must neither begin nor end anything."""
    said = " ".join(request.headers.get(name, "") for name in ("Sec-Purpose", "Purpose", "X-Purpose", "X-Moz")).lower()
    return "prefetch" in said or "prerender" in said or "preview" in said


def wants_json(request: web.Request) -> bool:
    """A client that is no browser: it accepts JSON and not HTML, or says it is not navigating."""
    accept = request.headers.get(hdrs.ACCEPT, "").lower()
    return "text/html" not in accept and (
        "json" in accept or request.headers.get("Sec-Fetch-Mode", "navigate") != "navigate"
    )


def same_origin(request: web.Request, at: Where) -> bool:
    """Whether a POST comes from a page of this very origin: Sec-Fetch-Site where the browser sends it (under our Referrer-Policy a form's
    Origin is `null`), else Origin; without either an old browser, which the form's token judges."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get(hdrs.ORIGIN)
    return origin is None or origin == at.origin


def language(request: web.Request) -> str:
    return request.app[OUTER].pages.language_of(request.headers.get(hdrs.ACCEPT_LANGUAGE), one(query(request), "lang"))


# -- answers ---------------------------------------------------------------------------------------------------------------------

_PLAIN: Final = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"}


def redirect(location: str, cookies: Iterable[str] = ()) -> web.Response:
    """303: whatever was asked, the next request is a GET. `location` is sent as it is: no library rewrites it."""
    response = web.Response(status=303, headers={**_PLAIN, "Location": location})
    for line in cookies:
        response.headers.add(hdrs.SET_COOKIE, line)
    return response


def page(
    request: web.Request,
    name: str,
    *,
    status: int | None = None,
    cookies: Iterable[str] = (),
    forms: bool = False,
    frames: bool = False,
    switch: bool = False,
    headers: Mapping[str, str] | None = None,
    values: Mapping[str, object] | None = None,
    **more: object,
) -> web.Response:
    """A page of ours, `values` and `more` in it. `forms`: it has a form that leads on; `frames`: it may stand in a frame of an app; `switch`: it may be read again in the
    other language under the same address."""
    outer = request.app[OUTER]
    shown = status or PAGES[name].status
    security = outer.pages.security_headers(
        outer.redirect_origins() if forms else (),
        https=outer.cookies.secure,
        frame_ancestors=list(outer.gate.sites) if frames else None,
    )
    here = request.raw_path if switch else None
    body = outer.pages.render(name, language(request), status=shown, here=here, **(values or {}), **more)
    response = web.Response(
        status=shown, body=body, content_type="text/html", charset="utf-8", headers={**security, **(headers or {})}
    )
    for line in cookies:
        response.headers.add(hdrs.SET_COOKIE, line)
    return response


def problem(
    status: int, code: str, title: str, reference: str = "", detail: str = "", headers: Mapping[str, str] | None = None
) -> web.Response:
    """RFC 9457."""
    document: dict[str, object] = {"type": f"urn:psc-forward-auth:{code}", "title": title, "status": status}
    if detail:
        document["detail"] = detail
    if reference:
        document["reference"] = reference
    body = json.dumps(document, ensure_ascii=True).encode()
    return web.Response(
        status=status, body=body, content_type="application/problem+json", headers={**_PLAIN, **(headers or {})}
    )


_TITLES: Final = {
    400: "Bad request",
    401: "Not signed in",
    403: "Refused",
    404: "Not found",
    405: "Method not allowed",
    413: "Too large",
    500: "Internal error",
    503: "Unavailable",
}


def failed(
    request: web.Request,
    name: str,
    code: str,
    detail: str,
    *,
    status: int | None = None,
    reference: str | None = None,
    cookies: Iterable[str] = (),
    **values: object,
) -> web.Response:
    """An error: one page (or JSON) and one log line with the same reference; of a kind that comes by the hundred the log has the first
    and the number of the rest, since anybody can send a callback that leads nowhere (LOG-05)."""
    reference = reference or new_reference()
    shown = status or PAGES[name].status
    request.app[OUTER].pace.say(
        f"{name} {shown}",
        logging.ERROR if shown >= 500 else logging.WARNING,
        "%s: %s (status %d, reference %s)",
        code,
        detail,
        shown,
        reference,
    )
    headers = {"Retry-After": str(_AWAY)} if shown == 503 else {}
    if wants_json(request):
        response = problem(shown, code, _TITLES.get(shown, "Error"), reference, headers=headers)
        for line in cookies:
            response.headers.add(hdrs.SET_COOKIE, line)
        return response
    return page(
        request, name, status=shown, cookies=cookies, headers=headers, values={"reference": reference, **values}
    )


def failure(request: web.Request, error: ForwardAuthError, retry: str) -> web.Response:
    """The page for an error that a handler did not catch itself. `retry`: the address of the one button."""
    if isinstance(error, PSCUnavailable):
        return failed(request, "unavailable", error.code, error.detail, action_url=retry, retry_after=_AWAY)
    if isinstance(error, StoreUnavailable):
        return failed(request, "error", error.code, error.detail, status=503, action_url=retry)
    return failed(request, "error", error.code, error.detail, status=400, action_url=retry)


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Nothing leaves without a page, a reference and a log line; nothing of an exception reaches the browser."""
    outer = request.app[OUTER]
    try:
        response = await handler(request)
    except web.HTTPException as error:
        response = _http_error(request, error.status, dict(error.headers))
    except ForwardAuthError as error:
        response = failure(request, error, outer.home())
    except Exception:
        reference = new_reference()
        outer.pace.say(
            "fault", logging.ERROR, "a request of the outer door failed (reference %s)", reference, trouble=True
        )
        if wants_json(request):
            response = problem(500, "internal", "Internal error", reference)
        else:
            response = page(request, "error", status=500, reference=reference, action_url=outer.home())
    if outer.draining:
        response.force_close()
    return response


def _http_error(request: web.Request, status: int, headers: Mapping[str, str]) -> web.Response:
    outer = request.app[OUTER]
    kept = {name: value for name, value in headers.items() if name.lower() == "allow"}
    if wants_json(request):
        return problem(status, "http", _TITLES.get(status, "Error"), headers=kept)
    if status == 404:
        return page(request, "not_found", action_url=outer.home())
    return page(request, "error", status=status, action_url=outer.home(), headers=kept)


def not_found(request: web.Request) -> web.Response:
    return _http_error(request, 404, {})


def expired(name: str, *, secure: bool) -> str:
    return set_cookie(name, "", secure=secure, max_age=0)


def at_known_host(
    handler: Callable[[web.Request, Where], Awaitable[web.StreamResponse]], *, origin_only: bool
) -> Handler:
    """A handler that hears which host it is for; 404 for a host that is not ours, or where this address does not exist."""

    async def handle(request: web.Request) -> web.StreamResponse:
        at = where(request)
        if at is None or (origin_only and not at.at_origin):
            return not_found(request)
        if is_prefetch(request):
            return problem(403, "prefetch", "Not for prefetching")
        return await handler(request, at)

    return handle


async def static(request: web.Request) -> web.StreamResponse:
    """Style, icon and logo: named by their content, so they may be kept for ever."""
    pages = request.app[OUTER].pages
    file = pages.static(request.match_info["name"])
    if file is None or where(request) is None:
        return not_found(request)
    headers = {**pages.static_headers(), "ETag": file.etag}
    if request.headers.get(hdrs.IF_NONE_MATCH) == file.etag:
        return web.Response(status=304, headers=headers)
    return web.Response(body=file.body, headers={**headers, "Content-Type": file.content_type})
