"""What each proxy really sends, byte for byte, and what it hears: the wire samples and the table of addresses."""

from urllib.parse import quote

import pytest
from inner_entry import Entry
from inner_wire import FORWARDED, Heard, closed_after
from running import Running

IDENTITY = (
    b"X-PSC-Subject", b"X-PSC-RPPS", b"X-PSC-Given-Name", b"X-PSC-Family-Name", b"X-PSC-Profession", b"X-PSC-Category",
    b"X-PSC-Role", b"X-PSC-Speciality", b"X-PSC-Sector", b"X-PSC-Structure", b"X-PSC-Structure-Name", b"X-PSC-Acr",
    b"X-PSC-Auth-Mode", b"X-PSC-Auth-Time", b"X-PSC-Account",
)  # fmt: skip
START = b"https://auth.hopital.example/psc/start?to="
DIALECTS = (b"nginx", b"ingress-nginx", b"forward")


def to(url: str) -> bytes:
    return START + quote(url, safe="").encode()


def forwarded(**changes: bytes | None) -> bytes:
    """X-Forwarded-* lines; `uri=None` leaves one out."""
    lines = {"method": b"GET", "proto": b"https", "host": b"dossier.hopital.example", "uri": b"/a", **changes}
    return b"".join(
        b"X-Forwarded-%b: %b\r\n" % (name.title().encode(), text) for name, text in lines.items() if text is not None
    )


def original(url: bytes, method: bytes = b"GET") -> bytes:
    return b"X-Original-URL: %b\r\nX-Original-Method: %b\r\n" % (url, method)


def request(dialect: bytes, lines: bytes) -> bytes:
    return b"GET /auth/%b HTTP/1.1\r\nHost: inner\r\n%b\r\n" % (dialect, lines)


def one(shared: Entry, data: bytes) -> Heard:
    [heard] = shared.ask(data)
    return heard


def test_an_allow_has_this_shape_and_no_other(shared: Entry) -> None:
    """Rules 3, 5, 6, 7: 200, no body, no-store, every identity header once, also the empty ones; no Set-Cookie, nothing else."""
    heard = one(shared, shared.head())
    lines = heard.head.split(b"\r\n")
    assert [b"HTTP/1.1 200 OK", b"Content-Length: 0", b"Cache-Control: no-store"] == lines[:3]
    assert list(IDENTITY) == [line.partition(b":")[0] for line in lines[3:]]
    assert b"899700000001" == heard[b"X-PSC-Subject"]
    assert [b""] == heard.all(b"X-PSC-Account")


def test_an_open_rule_gives_every_identity_header_empty(shared: Entry) -> None:
    """Rule 7: on an allow without anybody, too; a client's own copy never reaches the app."""
    heard = one(
        shared,
        request(
            b"nginx", forwarded(host=b"prescription.autre.example", uri=b"/public/x") + b"X-PSC-Subject: 8forged\r\n"
        ),
    )
    assert (200, [[b""]] * len(IDENTITY)) == (heard.status, [heard.all(name) for name in IDENTITY])


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_denial_carries_nobody(shared: Entry, dialect: bytes) -> None:
    """Rule 7: proxies show a denial's headers to the browser."""
    url = b"https://dossier.hopital.example/a"
    lines = original(url) if dialect == b"ingress-nginx" else forwarded()
    heard = one(shared, request(dialect, lines))
    assert (401, b"no-store", []) == (heard.status, heard[b"Cache-Control"], heard.all(b"Set-Cookie"))
    assert [b'Bearer realm="psc"'] == heard.all(b"WWW-Authenticate")
    assert b"x-psc" not in heard.head.lower()


# -- D.1 -----------------------------------------------------------------------------------------------------------------------


def test_sample_old_nginx_with_a_forgotten_content_length(shared: Entry) -> None:
    """It must not hang, and must close."""
    data = b"GET /auth/nginx HTTP/1.0\r\nHost: 127.0.0.1:9400\r\nConnection: close\r\nContent-Length: 5\r\nContent-Type: text/plain\r\n\r\n"
    assert [(403, True)] == [(heard.status, heard.closes) for heard in closed_after(shared.inner, data)]
    data = data.replace(b"\r\n\r\n", b"\r\n" + FORWARDED + shared.cookie + b"\r\n")
    assert [(200, True)] == [(heard.status, heard.closes) for heard in closed_after(shared.inner, data)]


def test_sample_nginx_with_our_snippet(shared: Entry) -> None:
    """A form that is posted to a page: 401, and where to sign in: what was sent is lost."""
    lines = (
        b"Cookie: a=1; b=2\r\nAccept: text/html\r\n"
        + forwarded(method=b"POST", uri=b"/a%2Fb?x=1")
        + b"X-Forwarded-For: 192.0.2.7\r\n"
    )
    heard = one(shared, request(b"nginx", lines))
    assert (401, to("https://dossier.hopital.example/") + b"&lost=1") == (heard.status, heard[b"Location"])


def test_sample_ingress_nginx_with_a_client_that_forges(shared: Entry) -> None:
    """X-Forwarded-* and X-Auth-Request-Redirect are the client's here; they choose nothing."""
    forged = b"X-Auth-Request-Redirect: /admin\r\nX-Sent-From: nginx-ingress-controller\r\nX-Forwarded-Uri: /public/x\r\nX-Forwarded-Host: evil.test\r\n"
    lines = original(b"https://prescription.autre.example/admin") + forged + b"Accept: text/html\r\n"
    heard = one(shared, request(b"ingress-nginx", lines))
    assert (401, to("https://prescription.autre.example/admin")) == (heard.status, heard[b"Location"])


def test_sample_caddy_websocket(shared: Entry) -> None:
    """The client's query behind our address means nothing; a WebSocket is never redirected."""
    lines = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-Websocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-Websocket-Version: 13\r\nX-Forwarded-For: 192.0.2.7\r\nAccept: text/html\r\n"
    data = request(b"forward?x=1", lines + forwarded(uri=b"/ws?x=1"))
    assert [(401, b"")] == [(heard.status, heard[b"Location"]) for heard in closed_after(shared.inner, data)]
    data = request(b"forward?x=1", lines + forwarded(uri=b"/ws?x=1") + shared.cookie)
    assert [200] == [heard.status for heard in closed_after(shared.inner, data)]


def test_sample_traefik_websocket(shared: Entry) -> None:
    """wss is https."""
    heard = one(shared, request(b"forward", forwarded(proto=b"wss", uri=b"/ws") + shared.cookie))
    assert 200 == heard.status
    heard = one(
        shared,
        request(b"forward", forwarded(proto=b"wss", uri=b"/ws") + b"Sec-WebSocket-Key: x\r\nAccept: text/html\r\n"),
    )
    assert (401, b"") == (heard.status, heard[b"Location"])


def test_sample_haproxy_with_lua(shared: Entry) -> None:
    """Lower-case names, Host in their midst, connection: close; a cookie header joined by commas is nobody's."""
    lines = forwarded(uri=b"/x").lower().replace(b"get", b"GET")
    data = (
        b"GET /auth/forward HTTP/1.1\r\ncookie: b=2, a=1\r\n"
        + lines
        + b"host: 127.0.0.1:9400\r\nconnection: close\r\n\r\n"
    )
    assert [(401, True)] == [(heard.status, heard.closes) for heard in closed_after(shared.inner, data)]
    ticket = shared.cookie.removeprefix(b"Cookie: ").strip()
    for joined in (b"b=2, " + ticket, ticket + b", b=2"):
        heard = one(shared, request(b"forward", lines + b"cookie: " + joined + b"\r\n"))
        assert 401 == heard.status
    assert 200 == one(shared, request(b"forward", lines + b"cookie: b=2; " + ticket + b"\r\n")).status


def test_several_cookie_lines_are_one_list(shared: Entry) -> None:
    """Rule 11: nginx passes them on as they came; the ticket twice is no ticket."""
    assert 200 == one(shared, shared.head(b"Cookie: a=1\r\nCookie: b=2\r\n")).status
    assert 401 == one(shared, shared.head(shared.cookie)).status


# -- D.2 -----------------------------------------------------------------------------------------------------------------------

URLS = [
    (forwarded(uri=b"/a%2Fb?x=1&y=2"), "https://dossier.hopital.example/a%2Fb?x=1&y=2"),
    (forwarded(host=b"DOSSIER.hopital.example.:443", uri=b"/"), "https://dossier.hopital.example/"),
    (forwarded(uri=b"//evil.com/"), "https://dossier.hopital.example//evil.com/"),
    (forwarded(uri=b"http://evil.com/x"), "https://dossier.hopital.example/x"),
    (forwarded(uri=b"/admin#/public"), "https://dossier.hopital.example/admin"),
    (forwarded(uri=b"/admin?x=/public"), "https://dossier.hopital.example/admin?x=/public"),
    (forwarded(proto=b"wss", uri=b"/ws"), "https://dossier.hopital.example/ws"),
]


@pytest.mark.parametrize(("lines", "url"), URLS)
@pytest.mark.parametrize(("dialect", "status"), [(b"nginx", 401), (b"forward", 302)])
def test_the_address_comes_back_as_one_encoded_value(
    shared: Entry, dialect: bytes, status: int, lines: bytes, url: str
) -> None:
    """Rules 12 and 14, first time and remembered: absolute, encoded once, one `to`."""
    for _ in range(4):
        heard = one(shared, request(dialect, lines + b"Accept: text/html\r\n"))
        assert (status, to(url)) == (heard.status, heard[b"Location"])


STRICT = [
    b"/public/../admin", b"/public/%2e%2e/admin", b"/public/.%2e/admin", b"/public;/../admin", b"/public%2f..%2fadmin", b"/public\\..\\admin",
    b"/public/x;y", b"//public/x", b"/public//x", b"/public/%00", b"/public/%252e%252e/admin", b"/public/./x", b"/public/%5c",
]  # fmt: skip


@pytest.mark.parametrize("path", STRICT)
def test_PATH_02_a_path_with_two_readings_is_never_open(shared: Entry, path: bytes) -> None:
    """Rule 13: the strictest rule, first time and again."""
    for _ in range(4):
        heard = one(shared, request(b"nginx", forwarded(host=b"prescription.autre.example", uri=path)))
        assert heard.status in (401, 403)


@pytest.mark.parametrize(
    "lines",
    [
        *(forwarded(host=host) for host in (b"evil.test@dossier.hopital.example", b"a b", b"", b"evil.test, dossier.hopital.example", b"a/b?c#d",
            b"dossier.hopital.example:0", b"dossier.hopital.example:65536", b"dossier.hopital.example:8443", b"dossier.hopital.example..", b"a" * 300,
            b"other.hopital.example", b"x.dossier.hopital.example", b"dossier.hopital.example%2f", b"d\xc3\xb4ssier.hopital.example")),
        *(forwarded(proto=proto) for proto in (b"ftp", b"", b"https,http", b"http", b"https ;")),
        *(forwarded(uri=uri) for uri in (b"", b"*", b"a", b"ftp://dossier.hopital.example/a", b"?x", b"/%", b"/%zz", b"/" + b"a" * 20000)),
        *(forwarded(**{name: None}) for name in ("method", "proto", "host", "uri")),
        *(forwarded() + line for line in (b"X-Forwarded-Uri: /b\r\n", b"x-forwarded-host: dossier.hopital.example\r\n", b"X-Forwarded-Proto: https\r\n", b"X-Forwarded-Method: GET\r\n")),
        forwarded(method=b"G T"),
        forwarded(method=b""),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dialect", [b"nginx", b"forward"])
def test_PATH_07_HDR_07_what_has_no_single_reading_is_403_with_and_without_a_session(
    shared: Entry, dialect: bytes, lines: bytes
) -> None:
    """Decision 22: missing, doubled, malformed, unknown: 403 in every dialect, and never an identity."""
    for more in (shared.cookie, b""):
        heard = one(shared, request(dialect, lines + more))
        assert 403 == heard.status
        assert b"X-PSC-Subject" not in heard.head


@pytest.mark.parametrize(
    "url",
    [
        b"/a",
        b"",
        b"https:/dossier.hopital.example/a",
        b"https://",
        b"https://u@dossier.hopital.example/",
        b"https://other.example/",
        b"https://dossier.hopital.example/%zz",
        b"http://dossier.hopital.example/",
    ],
)
def test_PATH_07_the_same_for_ingress_nginx(shared: Entry, url: bytes) -> None:
    """CVE-2021-32637: what does not parse is refused."""
    assert 403 == one(shared, request(b"ingress-nginx", original(url) + shared.cookie)).status


def test_PATH_07_ingress_nginx_needs_both_once(shared: Entry) -> None:
    """Nor does the other family stand in."""
    good = original(b"https://dossier.hopital.example/a")
    assert 200 == one(shared, request(b"ingress-nginx", good + shared.cookie)).status
    for lines in (good + good, good.replace(b"X-Original-Method: GET\r\n", b""), forwarded(), b""):
        assert 403 == one(shared, request(b"ingress-nginx", lines + shared.cookie)).status


@pytest.mark.parametrize("dialect", [b"nginx", b"forward"])
def test_HDR_04_other_forwarding_headers_choose_nothing(shared: Entry, dialect: bytes) -> None:
    """Rule 1: whatever a client sent that its proxy does not overwrite."""
    lines = forwarded(host=b"prescription.autre.example", uri=b"/secret") + b"Accept: text/html\r\n"
    plain = one(shared, request(dialect, lines))
    for forged in (
        original(b"https://prescription.autre.example/public/x"), b"X-Rewrite-URL: /public/x\r\n", b"X-Forwarded-Port: 80\r\n", b"X-Forwarded-Prefix: /public\r\n",
        b"Forwarded: for=127.0.0.1;host=evil.test;proto=http\r\n", b"X-Real-IP: 127.0.0.1\r\n", b"X-HTTP-Method-Override: OPTIONS\r\n", b"X_Forwarded_Uri: /public/x\r\n",
        b"X.Forwarded.Uri: /public/x\r\n", b"X-Forwarded-Uri-: /public/x\r\n", b"X-Forwarded-Server: evil\r\n", b"X-PSC-Subject: 899700000001\r\n",
    ):  # fmt: skip
        assert plain == one(shared, request(dialect, forged + lines))
        assert plain == one(shared, request(dialect, lines + forged))


@pytest.mark.parametrize(
    "method", [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE", b"PROPFIND"]
)
def test_HDR_08_no_method_lets_anybody_in(shared: Entry, method: bytes) -> None:
    """On the request line it means nothing, in the original nothing is let through without a session; forged identity changes nothing."""
    forged = b"X-PSC-Subject: 899700000001\r\nOrigin: https://dossier.hopital.example\r\nAccess-Control-Request-Method: POST\r\n"
    data = request(b"nginx", forwarded() + forged).replace(b"GET /", method + b" /", 1)
    heard = shared.ask(data)
    assert [(401, True)] == [(one.status, b"X-PSC" not in one.head) for one in heard]
    heard = shared.ask(request(b"nginx", forwarded(method=method) + forged))
    assert [(401, True)] == [(one.status, b"X-PSC" not in one.head) for one in heard]
    assert [200] == [one.status for one in shared.ask(shared.head().replace(b"GET /", method + b" /", 1))]


def test_HDR_09_no_probe_is_let_in(shared: Entry) -> None:
    """CVE-2026-34457: neither by User-Agent, nor by address, nor by query, nor below a check."""
    for line in (
        b"User-Agent: kube-probe/1.30\r\n",
        b"User-Agent: GoogleHC/1.0\r\n",
        b"User-Agent: ELB-HealthChecker/2.0\r\n",
        b"X-Forwarded-For: 127.0.0.1\r\n",
    ):
        assert 401 == one(shared, request(b"nginx", forwarded() + line)).status
    assert 401 == one(shared, request(b"nginx?health", forwarded())).status
    for path in (b"nginx/healthz", b"nginx/livez", b"healthz", b"nginx/../../livez", b"", b"nginx/"):
        assert 404 == one(shared, request(path, forwarded() + shared.cookie)).status


@pytest.mark.parametrize(
    "target",
    [
        b"/",
        b"/auth",
        b"/auth/Nginx",
        b"/AUTH/nginx",
        b"/auth/nginx%20",
        b"//auth/nginx",
        b"/auth/ng%69nx",
        b"*",
        b"http://inner/auth/nginx",
        b"/psc/start",
        b"/psc/callback?code=x",
        b"/psc/sign-out",
        b"/psc/static/style.css",
    ],
)
def test_another_address_is_404_and_the_outer_door_is_not_here(shared: Entry, target: bytes) -> None:
    """Rule 2: byte for byte, and closed."""
    data = b"GET " + target + b" HTTP/1.1\r\nHost: inner\r\n" + FORWARDED + shared.cookie + b"\r\n"
    assert [(404, True)] == [(heard.status, heard.closes) for heard in closed_after(shared.inner, data + shared.head())]


@pytest.mark.parametrize(
    "target", ["/auth/nginx", "/auth/forward", "/auth/ingress-nginx", "/metrics", "/livez", "/readyz", "/psc/metrics"]
)
def test_the_inner_door_is_not_at_the_outer_one(shared: Entry, target: str) -> None:
    """Rule 2."""
    host, port = shared.running.outer
    head = f"GET {target} HTTP/1.1\r\nHost: auth.hopital.example\r\nX-Forwarded-Host: dossier.hopital.example\r\nConnection: close\r\n"
    data = head.encode() + forwarded(host=None) + shared.cookie + b"\r\n"
    [heard] = closed_after((host, port), data)
    assert 404 == heard.status
    assert b"X-PSC-Subject" not in heard.head


def test_spaces_around_a_value_are_not_of_it(shared: Entry) -> None:
    """RFC 9110 §5.5; an empty value is a value, and a name with an underscore is another name."""
    head = shared.head(b"X-Empty:\r\nX_Forwarded_Uri: /psc/x\r\nX-Forwarded_Uri: /psc/x\r\n")
    for spelled in (
        b"X-Forwarded-Uri:/a",
        b"X-Forwarded-Uri: \t /a",
        b"X-Forwarded-Uri: /a  \t",
        b"x-FORWARDED-uri: /a",
    ):
        assert 200 == one(shared, head.replace(b"X-Forwarded-Uri: /a", spelled, 1)).status


def test_misrouted_psc_is_403(running: Running) -> None:
    """Decision 35: a check for an address of the outer door means that /psc/ is not routed."""
    for path in (b"/psc/start", b"/psc/", b"/psc/callback?code=x"):
        [heard] = Entry(running, b"").ask(request(b"nginx", forwarded(uri=path) + b"Accept: text/html\r\n"))
        assert (403, b"") == (heard.status, heard[b"Location"])


def test_what_one_dialect_learnt_is_not_heard_by_another(shared: Entry) -> None:
    """Heads that were seen before are remembered with their address: the same lines elsewhere are read anew."""
    lines = forwarded() + b"Accept: text/html\r\n"
    for _ in range(4):
        assert 401 == one(shared, request(b"nginx", lines)).status
        assert 302 == one(shared, request(b"forward", lines)).status
        assert 403 == one(shared, request(b"ingress-nginx", lines)).status
