"""How one family of proxies states the original request, and how it hears the answer.

For: `read(headers, doubled)`, which takes the original request from exactly that dialect's headers, and `speak(decision, original)`, which gives
the bytes of the answer. Refuses: to guess. Every proxy passes some header family of the client through untouched, so a reading that
used «whichever is there» would let the client choose (CVE-2026-40575). A header that is missing, doubled or a list has no reading.

What each proxy does with an answer was observed; in short: the only portable allow is 200 with Content-Length: 0, the only portable denies are
401 and 403, Location must be absolute, identity headers go out on an allow only and then all of them, and Set-Cookie never goes out here.
"""

from collections.abc import Callable, Collection, Mapping
from enum import Enum
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import quote, quote_from_bytes

from forward_auth.decision import Allow, Because, Decision, Refuse, SignIn, Why
from forward_auth.original import Original, read_origin, read_target

LONGEST_TARGET: Final = 2000  # bytes of an address we promise to come back to; a longer one leads to the app's `/`

Headers = Mapping[bytes, bytes]


class Unread(NamedTuple):
    """No original request could be read. `header`: which one is at fault; `cure`: the proxy directive to write."""

    header: str
    cure: str


class Page(NamedTuple):
    """An answer with a body. `head`: status line and header lines, each ended by CRLF, without the empty line."""

    head: bytes
    body: bytes


Answer = bytes | Page  # bytes: a head without a body, which nearly every answer is


class Pages(NamedTuple):
    """Pages made once at start, for proxies that hand our answer to the browser whole. `refused` has REFERENCE_MARK in it."""

    refused: bytes
    unavailable: bytes
    headers: bytes


REFERENCE_MARK: Final = b"@@@@@@@@@"


class Addresses(NamedTuple):
    """Where the outer door is: `origin` (scheme and authority) and the prefix below it."""

    origin: str
    prefix: str


class Navigation(Enum):
    """What kind of request a browser, or something else, is making."""

    NONE = "none"  # an API call, an image, a WebSocket: never redirected
    TOP = "top"  # a page in its own tab, by GET or HEAD
    LOST = "lost"  # a page by another method: what was sent is lost by a redirect
    FRAME = "frame"  # a page inside a page: PSC refuses to be framed


# An enumeration's member looked up by its name costs ten times a global.
NO_NAVIGATION: Final = Navigation.NONE
_TOP: Final = Navigation.TOP
_ENDED: Final = Why.ENDED


def navigation(original: Original) -> Navigation:
    """Fetch Metadata where the browser sends it, else what browsers have always sent (contract on redirects)."""
    headers = original.headers
    simple = original.method in (b"GET", b"HEAD")
    mode = headers.get(b"sec-fetch-mode")
    if mode is not None:
        if mode != b"navigate":
            return Navigation.NONE
        destination = headers.get(b"sec-fetch-dest", b"document")
        if destination != b"document":
            return (
                Navigation.FRAME
                if destination in (b"iframe", b"frame", b"embed", b"object", b"fencedframe")
                else Navigation.NONE
            )
        return Navigation.TOP if simple else Navigation.LOST
    if (
        b"text/html" not in headers.get(b"accept", b"").lower()
        or headers.get(b"x-requested-with", b"").lower() == b"xmlhttprequest"
        or b"upgrade" in headers
        or b"sec-websocket-key" in headers
        or b"authorization" in headers
    ):
        return Navigation.NONE
    return Navigation.TOP if simple else Navigation.LOST


# -- reading -------------------------------------------------------------------------------------------------------------------

_EMPTY: Final = b""
_new: Final = tuple.__new__  # a NamedTuple's own constructor costs twice as much, and one is made per check


def _read_forwarded(headers: Headers, doubled: Collection[bytes]) -> Original | Unread:
    """X-Forwarded-Method, -Proto, -Host, -Uri: nginx with our snippet, Traefik, Caddy, HAProxy, APISIX."""
    get = headers.get
    method, scheme, host, target = (
        get(b"x-forwarded-method"),
        get(b"x-forwarded-proto"),
        get(b"x-forwarded-host"),
        get(b"x-forwarded-uri"),
    )
    if (
        method is None
        or scheme is None
        or host is None
        or target is None
        or (doubled and not _FORWARDED.isdisjoint(doubled))
    ):
        return _unread(_FORWARDED_CURES, headers, doubled)
    origin = read_origin(scheme, host)
    if origin is None:
        return Unread(
            "X-Forwarded-Proto" if read_origin(scheme, b"a") is None else "X-Forwarded-Host",
            "send exactly one scheme and one host",
        )
    if target.startswith(b"/") and b"#" not in target:  # read_target, for nearly everybody
        path, mark, query = target.partition(b"?")
        return _new(Original, (origin, method, path, query if mark else None, get(b"x-forwarded-for", _EMPTY), headers))
    read = read_target(target)
    if read is None:
        return Unread("X-Forwarded-Uri", "send the raw request-target, beginning with /")
    return Original(origin, method, read[0], read[1], get(b"x-forwarded-for", _EMPTY), headers)


def _read_ingress_nginx(headers: Headers, doubled: Collection[bytes]) -> Original | Unread:
    """X-Original-URL and X-Original-Method only: ingress-nginx passes the client's X-Forwarded-* through."""
    url, method = headers.get(b"x-original-url"), headers.get(b"x-original-method")
    if url is None or method is None or (doubled and not _ORIGINAL.isdisjoint(doubled)):
        return _unread(_ORIGINAL_CURES, headers, doubled)
    scheme, mark, rest = url.partition(b"://")
    if not mark:
        return Unread("X-Original-URL", "send an absolute address")
    cut = min((at for at in (rest.find(b"/"), rest.find(b"?"), rest.find(b"#")) if at >= 0), default=len(rest))
    origin = read_origin(scheme, rest[:cut])
    target = rest[cut:]
    read = read_target(target if target.startswith(b"/") else b"/" + target)
    if origin is None or read is None:
        return Unread("X-Original-URL", "send an absolute address with one scheme and one host")
    return Original(
        origin, method, read[0], read[1], headers.get(b"x-forwarded-for", headers.get(b"x-real-ip", _EMPTY)), headers
    )


_FORWARDED_CURES: Final[Mapping[bytes, str]] = {
    b"x-forwarded-method": "nginx: proxy_set_header X-Forwarded-Method $request_method;",
    b"x-forwarded-proto": "nginx: proxy_set_header X-Forwarded-Proto $scheme;",
    b"x-forwarded-host": "nginx: proxy_set_header X-Forwarded-Host $host;",
    b"x-forwarded-uri": "nginx: proxy_set_header X-Forwarded-Uri $request_uri;",
}
_ORIGINAL_CURES: Final[Mapping[bytes, str]] = {
    b"x-original-url": "ingress-nginx sends it by itself; use /auth/nginx for a plain nginx",
    b"x-original-method": "ingress-nginx sends it by itself; use /auth/nginx for a plain nginx",
}
_FORWARDED: Final = frozenset(_FORWARDED_CURES)
_ORIGINAL: Final = frozenset(_ORIGINAL_CURES)


def _unread(cures: Mapping[bytes, str], headers: Headers, doubled: Collection[bytes]) -> Unread:
    for name, cure in cures.items():
        if name in doubled:
            return Unread(name.decode().title(), f"it arrived twice: overwrite the client's with {cure}")
        if name not in headers:
            return Unread(name.decode().title(), f"it is missing: {cure}")
    return Unread("", "")


# -- speaking ------------------------------------------------------------------------------------------------------------------

_NO_STORE: Final = b"Content-Length: 0\r\nCache-Control: no-store\r\n"
ALLOW: Final = b"HTTP/1.1 200 OK\r\n" + _NO_STORE
_CHALLENGE: Final = b'WWW-Authenticate: Bearer realm="psc"\r\n'
_UNAUTHORIZED: Final = b"HTTP/1.1 401 Unauthorized\r\n" + _NO_STORE + _CHALLENGE
_FORBIDDEN: Final = b"HTTP/1.1 403 Forbidden\r\n" + _NO_STORE
_UNAVAILABLE: Final = b"HTTP/1.1 503 Service Unavailable\r\n" + _NO_STORE
_FOUND: Final = b"HTTP/1.1 302 Found\r\n" + _NO_STORE
_SEE_OTHER: Final = b"HTTP/1.1 303 See Other\r\n" + _NO_STORE


class Dialect:
    """One dialect: its name, its reading, and whether the proxy hands a redirect or a page of ours to the browser."""

    __slots__ = ("_addresses", "_pages", "_redirects", "forwarded", "name", "read")

    def __init__(
        self,
        name: str,
        read: Callable[[Headers, Collection[bytes]], Original | Unread],
        addresses: Addresses,
        pages: Pages | None,
    ) -> None:
        self.name = name
        self.read = read
        self._addresses = addresses
        self._pages = pages
        self._redirects = pages is not None
        self.forwarded = read is _read_forwarded

    def speak(self, decision: Decision, original: Original) -> Answer:
        """The answer of this dialect. Identity headers only on an allow, and then every one of them."""
        if type(decision) is Allow:  # type() and not isinstance: half the price, and nothing derives from these
            return ALLOW + decision.lines
        if type(decision) is SignIn:
            return self.ask(decision, original.origin, original.target, original.headers, navigation(original))
        return self._refuse(decision, original) if type(decision) is Refuse else _UNAVAILABLE

    def ask(self, decision: SignIn, origin: str, target: bytes, headers: Headers, kind: Navigation) -> Answer:
        """The answer to a SignIn, for who knows already what kind of request it is. `target`: of the original request, at `origin`."""
        if kind is NO_NAVIGATION:
            return _UNAUTHORIZED
        address = sign_in_address(self._addresses, decision, origin, target, headers, kind)
        if not self._redirects:
            return _UNAUTHORIZED + address
        return (_SEE_OTHER if kind is Navigation.LOST else _FOUND) + address

    def _refuse(self, decision: Refuse, original: Original) -> Answer:
        reference = decision.reference.encode()
        told = b"X-PSC-Reference: " + reference + b"\r\n" if reference else b""
        pages = self._pages
        if decision.because is Because.OURS:
            if pages is None or navigation(original) is Navigation.NONE:
                return _UNAVAILABLE
            return _page(
                b"503 Service Unavailable", pages, pages.unavailable.replace(REFERENCE_MARK, reference or b"-"), told
            )
        if pages is None or not reference or navigation(original) is Navigation.NONE:
            return _FORBIDDEN + told
        return _page(b"403 Forbidden", pages, pages.refused.replace(REFERENCE_MARK, reference), told)


def _page(status: bytes, pages: Pages, body: bytes, told: bytes) -> Page:
    head = b"HTTP/1.1 %b\r\nContent-Length: %d\r\n%b%b" % (status, len(body), pages.headers, told)
    return Page(head, body)


def dialects(addresses: Addresses, pages: Pages) -> Mapping[bytes, Dialect]:
    """Address on the inner door -> dialect. Each has its own; none detects another."""
    return {
        b"/auth/nginx": Dialect("nginx", _read_forwarded, addresses, None),
        b"/auth/ingress-nginx": Dialect("ingress-nginx", _read_ingress_nginx, addresses, None),
        b"/auth/forward": Dialect("forward", _read_forwarded, addresses, pages),
    }


# -- where to sign in ----------------------------------------------------------------------------------------------------------


def sign_in_address(
    addresses: Addresses, decision: SignIn, origin: str, target: bytes, headers: Headers, kind: Navigation
) -> bytes:
    """The line with the absolute address of /start for this request, everything in it percent-encoded: one `to`, whatever the target holds."""
    extra = ""
    if decision.max_age is not None:
        extra += f"&max_age={decision.max_age}"
    if decision.acr:
        extra += f"&acr={quote(' '.join(decision.acr), safe='')}"
    if decision.why is _ENDED:
        extra += "&why=ended"
    if kind is _TOP:
        return _location(addresses.origin, addresses.prefix, origin, target, extra)
    if kind is Navigation.LOST:
        return _location(
            addresses.origin, addresses.prefix, origin, _referer(headers, origin) or b"/", extra + "&lost=1"
        )
    # A page of the same site may stand in the frame.
    return _location(origin, addresses.prefix, origin, _referer(headers, origin) or target, extra + "&frame=1")


@lru_cache(maxsize=1024)
def _location(door: str, prefix: str, origin: str, target: bytes, extra: str) -> bytes:
    if len(origin) + len(target) > LONGEST_TARGET:
        target = b"/"
    return f"Location: {door}{prefix}/start?to={quote(origin, safe='')}{quote_from_bytes(target, safe='')}{extra}\r\n".encode()


def _referer(headers: Headers, origin: str) -> bytes | None:
    """The target of the page the request came from, when it is of the same origin."""
    scheme, mark, rest = headers.get(b"referer", b"").partition(b"://")
    authority, slash, target = rest.partition(b"/")
    if not mark or read_origin(scheme, authority) != origin:
        return None
    read = read_target(slash + target)
    if read is None:
        return None
    path = read[0].partition(b"#")[0]
    return path if read[1] is None else path + b"?" + read[1]
