"""Each family of proxies is heard in its own headers only, and answered in the words it understands."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forward_auth.decision import Allow, Because, Decision, Refuse, SignIn, Why
from forward_auth.dialects import (
    LONGEST_TARGET,
    REFERENCE_MARK,
    Addresses,
    Dialect,
    Navigation,
    Page,
    Pages,
    Unread,
    dialects,
    navigation,
)
from forward_auth.original import Original

ADDRESSES = Addresses("https://auth.hopital.example", "/psc")
PAGES = Pages(
    b"<p>refused " + REFERENCE_MARK + b"</p>",
    b"<p>unavailable " + REFERENCE_MARK + b"</p>",
    b"Content-Type: text/html; charset=utf-8\r\nCache-Control: no-store\r\n",
)
ALL = dialects(ADDRESSES, PAGES)
NGINX, INGRESS, FORWARD = ALL[b"/auth/nginx"], ALL[b"/auth/ingress-nginx"], ALL[b"/auth/forward"]
ORIGIN = "https://app.example.org"

FORWARDED: Mapping[bytes, bytes] = {
    b"x-forwarded-method": b"POST",
    b"x-forwarded-proto": b"https",
    b"x-forwarded-host": b"app.example.org",
    b"x-forwarded-uri": b"/a%2Fb?x=1",
    b"x-forwarded-for": b"192.0.2.7",
}
INGRESS_HEADERS: Mapping[bytes, bytes] = {
    b"x-original-url": b"https://app.example.org/admin",
    b"x-original-method": b"GET",
    b"x-auth-request-redirect": b"/admin",
    b"x-sent-from": b"nginx-ingress-controller",
    b"x-forwarded-uri": b"/public",
    b"x-forwarded-host": b"evil.test",
}
PAGE_VISIT: Mapping[bytes, bytes] = {b"sec-fetch-mode": b"navigate", b"sec-fetch-dest": b"document"}


def an_original(method: bytes = b"GET", path: bytes = b"/x", query: bytes | None = None, **headers: bytes) -> Original:
    named = {name.replace("_", "-").encode(): value for name, value in headers.items()}
    return Original(ORIGIN, method, path, query, b"", named)


def read(dialect: Dialect, headers: Mapping[bytes, bytes], doubled: frozenset[bytes] = frozenset()) -> Original:
    found = dialect.read(headers, doubled)
    assert isinstance(found, Original), found
    return found


def head_of(answer: bytes | Page) -> tuple[int, dict[str, str]]:
    """Status and headers of an answer, as a strict client reads them; a name twice, or a bare CR or LF, fails."""
    head = answer.head if isinstance(answer, Page) else answer
    assert head.endswith(b"\r\n")
    first, *lines = head.removesuffix(b"\r\n").split(b"\r\n")
    assert not any(b"\r" in line or b"\n" in line for line in (first, *lines))
    version, status, _ = first.decode().split(" ", 2)
    assert version == "HTTP/1.1"
    pairs = [tuple(line.decode("latin-1").split(": ", 1)) for line in lines]
    found = {name.lower(): value for name, value in pairs}
    assert len(found) == len(pairs)
    return int(status), found


# -- reading -----------------------------------------------------------------------------------------------------------


def test_the_nginx_snippet_is_read() -> None:
    """The four headers of our snippet give the request; the client's address is kept for the log."""
    found = read(NGINX, FORWARDED)
    assert (ORIGIN, b"POST", b"/a%2Fb", b"x=1", b"192.0.2.7", FORWARDED) == found
    assert f"{ORIGIN}/a%2Fb?x=1" == found.url


@pytest.mark.parametrize("target", [b"/a", b"/a#b", b"https://app.example.org/a"])
def test_the_address_of_the_client_is_what_the_proxy_says_of_it_or_nothing(target: bytes) -> None:
    """For the log and the audit trail only. ingress-nginx may say it in either of two headers; the longer story is taken first."""
    without = {name: value for name, value in FORWARDED.items() if name != b"x-forwarded-for"}
    for dialect in (NGINX, FORWARD):
        assert b"" == read(dialect, {**without, b"x-forwarded-uri": target}).client
        assert (
            b"192.0.2.7" == read(dialect, {**FORWARDED, b"x-forwarded-uri": target, b"x-real-ip": b"192.0.2.9"}).client
        )
    both = {**INGRESS_HEADERS, b"x-real-ip": b"192.0.2.9", b"x-forwarded-for": b"192.0.2.7"}
    assert (b"", b"192.0.2.7") == (read(INGRESS, INGRESS_HEADERS).client, read(INGRESS, both).client)


def test_PATH_01_ingress_nginx_is_heard_in_its_own_headers_only() -> None:
    """A client's X-Forwarded-Uri passes through ingress-nginx untouched and means nothing (CVE-2026-40575)."""
    found = read(INGRESS, INGRESS_HEADERS)
    assert (ORIGIN, b"GET", b"/admin", None) == found[:4]


def test_HDR_04_a_forwarded_dialect_does_not_hear_x_original_url() -> None:
    """Caddy and Traefik pass a client's X-Original-URL through."""
    forged = {**FORWARDED, b"x-original-url": b"https://evil.test/public", b"x-original-method": b"OPTIONS"}
    for dialect in (NGINX, FORWARD):
        assert (ORIGIN, b"POST", b"/a%2Fb", b"x=1") == read(dialect, forged)[:4]
        assert isinstance(dialect.read(INGRESS_HEADERS, frozenset()), Unread)
    assert isinstance(INGRESS.read(FORWARDED, frozenset()), Unread)


@pytest.mark.parametrize("name", [b"forwarded", b"x-rewrite-url", b"x-forwarded-port", b"x-forwarded-prefix", b"host"])
def test_HDR_04_other_forwarding_headers_change_nothing(name: bytes) -> None:
    """Only the dialect's own headers are read."""
    forged = {**FORWARDED, name: b"evil.test"}
    assert read(FORWARD, FORWARDED)[:4] == read(FORWARD, forged)[:4]


@pytest.mark.parametrize("dialect", [NGINX, FORWARD], ids=["nginx", "forward"])
@pytest.mark.parametrize("name", ["Method", "Proto", "Host", "Uri"])
@pytest.mark.parametrize("fault", ["missing", "doubled"])
def test_PATH_07_a_missing_or_doubled_header_has_no_reading_and_a_cure(dialect: Dialect, name: str, fault: str) -> None:
    """There is no default value (HDR-05), and the operator reads the directive to write."""
    header = f"x-forwarded-{name}".lower().encode()
    headers = {key: value for key, value in FORWARDED.items() if fault == "doubled" or key != header}
    found = dialect.read(headers, frozenset({header} if fault == "doubled" else ()))
    assert isinstance(found, Unread)
    assert f"X-Forwarded-{name}" == found.header
    assert f"proxy_set_header X-Forwarded-{name} $" in found.cure
    assert ("twice" if fault == "doubled" else "missing") in found.cure


@pytest.mark.parametrize("name", [b"x-original-url", b"x-original-method"])
def test_ingress_nginx_without_its_headers_is_another_nginx(name: bytes) -> None:
    """The cure names the other address."""
    for headers, doubled in (
        ({key: value for key, value in INGRESS_HEADERS.items() if key != name}, frozenset[bytes]()),
        (INGRESS_HEADERS, frozenset({name})),
    ):
        found = INGRESS.read(headers, doubled)
        assert isinstance(found, Unread)
        assert name.decode().title() == found.header
        assert "/auth/nginx" in found.cure


def test_a_doubled_header_that_is_not_the_dialects_own_does_no_harm() -> None:
    """Clients may send any header twice."""
    assert ORIGIN == read(NGINX, FORWARDED, frozenset({b"accept", b"x-original-url"})).origin
    assert ORIGIN == read(INGRESS, INGRESS_HEADERS, frozenset({b"x-forwarded-uri"})).origin


@pytest.mark.parametrize(
    ("changes", "at_fault"),
    [
        ({b"x-forwarded-proto": b"https,http"}, "X-Forwarded-Proto"),
        ({b"x-forwarded-proto": b""}, "X-Forwarded-Proto"),
        ({b"x-forwarded-proto": b"ftp"}, "X-Forwarded-Proto"),
        ({b"x-forwarded-host": b""}, "X-Forwarded-Host"),
        ({b"x-forwarded-host": b"evil.test, app.example.org"}, "X-Forwarded-Host"),
        ({b"x-forwarded-host": b"evil.test@app.example.org"}, "X-Forwarded-Host"),
        ({b"x-forwarded-uri": b""}, "X-Forwarded-Uri"),
        ({b"x-forwarded-uri": b"*"}, "X-Forwarded-Uri"),
        ({b"x-forwarded-uri": b"admin"}, "X-Forwarded-Uri"),
    ],
)
def test_a_value_without_one_reading_names_its_header(changes: Mapping[bytes, bytes], at_fault: str) -> None:
    """Lists, foreign schemes and relative targets fail closed."""
    found = FORWARD.read({**FORWARDED, **changes}, frozenset())
    assert isinstance(found, Unread)
    assert at_fault == found.header


@pytest.mark.parametrize(
    ("proto", "host", "uri", "expected"),
    [
        (b"https", b"app.example.org", b"/a%2Fb?x=1&y=2", f"{ORIGIN}/a%2Fb?x=1&y=2"),
        (b"wss", b"app.example.org", b"/ws", f"{ORIGIN}/ws"),
        (b"https", b"APP.example.org.:443", b"/", f"{ORIGIN}/"),
        (b"https", b"app.example.org", b"//evil.com/", f"{ORIGIN}//evil.com/"),
        (b"https", b"app.example.org", b"http://evil.com/x", f"{ORIGIN}/x"),
        (b"https", b"app.example.org", b"/admin#/public", f"{ORIGIN}/admin"),
        (b"https", b"app.example.org", b"/admin?x=/public", f"{ORIGIN}/admin?x=/public"),
    ],
)
def test_the_address_is_rebuilt_as_the_table_of_the_contract_says(
    proto: bytes, host: bytes, uri: bytes, expected: str
) -> None:
    """And comes back as one encoded `to`, whatever it holds."""
    for dialect in (NGINX, FORWARD):
        headers = {
            b"x-forwarded-method": b"GET",
            b"x-forwarded-proto": proto,
            b"x-forwarded-host": host,
            b"x-forwarded-uri": uri,
            **PAGE_VISIT,
        }
        found = read(dialect, headers)
        assert expected == found.url
        _, answer = head_of(dialect.speak(SignIn(Why.NO_SESSION, "app"), found))
        assert {"to": [expected]} == parse_qs(urlsplit(answer["location"]).query, strict_parsing=True)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (b"https://app.example.org", (ORIGIN, b"/", None)),
        (b"https://app.example.org?x=1", (ORIGIN, b"/", b"x=1")),
        (b"HTTPS://APP.example.org:443/x#y", (ORIGIN, b"/x#y", None)),
        (b"https://app.example.org//evil.com/x", (ORIGIN, b"//evil.com/x", None)),
        (b"https://app.example.org/a?b=https://evil.test/", (ORIGIN, b"/a", b"b=https://evil.test/")),
    ],
)
def test_an_original_url_is_cut_where_its_authority_ends(url: bytes, expected: tuple[str, bytes, bytes | None]) -> None:
    """At the first of `/ ? #`, as every browser does."""
    found = read(INGRESS, {**INGRESS_HEADERS, b"x-original-url": url, b"x-real-ip": b"192.0.2.9"})
    assert (*expected, b"192.0.2.9") == (found.origin, found.path, found.query, found.client)


@pytest.mark.parametrize(
    "url",
    [
        b"",
        b"/admin",
        b"app.example.org/admin",
        b"https://",
        b"https:///admin",
        b"https://app.example.org\\@evil/",
        b"ftp://a/",
    ],
)
def test_an_original_url_that_is_not_absolute_has_no_reading(url: bytes) -> None:
    """Fail closed."""
    found = INGRESS.read({**INGRESS_HEADERS, b"x-original-url": url}, frozenset())
    assert isinstance(found, Unread)
    assert "X-Original-URL" == found.header


# -- what kind of request ----------------------------------------------------------------------------------------------

HTML = b"text/html,application/xhtml+xml"


@pytest.mark.parametrize(
    ("method", "headers", "expected"),
    [
        (b"GET", {"sec_fetch_mode": b"navigate", "sec_fetch_dest": b"document"}, Navigation.TOP),
        (b"GET", {"sec_fetch_mode": b"navigate"}, Navigation.TOP),
        (b"HEAD", {"sec_fetch_mode": b"navigate"}, Navigation.TOP),
        (b"POST", {"sec_fetch_mode": b"navigate", "sec_fetch_dest": b"document"}, Navigation.LOST),
        (b"GET", {"sec_fetch_mode": b"navigate", "sec_fetch_dest": b"iframe"}, Navigation.FRAME),
        (b"POST", {"sec_fetch_mode": b"navigate", "sec_fetch_dest": b"frame"}, Navigation.FRAME),
        (b"GET", {"sec_fetch_mode": b"navigate", "sec_fetch_dest": b"embed"}, Navigation.FRAME),
        (b"GET", {"sec_fetch_mode": b"navigate", "sec_fetch_dest": b"object"}, Navigation.FRAME),
        (b"GET", {"sec_fetch_mode": b"navigate", "sec_fetch_dest": b"fencedframe"}, Navigation.FRAME),
        (b"GET", {"sec_fetch_mode": b"navigate", "sec_fetch_dest": b"image"}, Navigation.NONE),
        (b"GET", {"sec_fetch_mode": b"cors", "accept": HTML}, Navigation.NONE),
        (b"GET", {"sec_fetch_mode": b"websocket", "accept": HTML}, Navigation.NONE),
        (b"GET", {"sec_fetch_mode": b"", "accept": HTML}, Navigation.NONE),
        (b"GET", {"accept": HTML}, Navigation.TOP),
        (b"HEAD", {"accept": b"TEXT/HTML"}, Navigation.TOP),
        (b"POST", {"accept": HTML}, Navigation.LOST),
        (b"PUT", {"accept": HTML}, Navigation.LOST),
        (b"GET", {}, Navigation.NONE),
        (b"GET", {"accept": b"application/json"}, Navigation.NONE),
        (b"GET", {"accept": b"*/*"}, Navigation.NONE),
        (b"GET", {"accept": HTML, "x_requested_with": b"XMLHttpRequest"}, Navigation.NONE),
        (b"GET", {"accept": HTML, "x_requested_with": b"fetch"}, Navigation.TOP),
        (b"GET", {"accept": HTML, "upgrade": b"websocket"}, Navigation.NONE),
        (b"GET", {"accept": HTML, "sec_websocket_key": b"dGhlIHNhbXBsZSBub25jZQ=="}, Navigation.NONE),
        (b"GET", {"accept": HTML, "authorization": b"Basic x"}, Navigation.NONE),
    ],
)
def test_only_a_page_in_its_own_tab_is_a_navigation(
    method: bytes, headers: dict[str, bytes], expected: Navigation
) -> None:
    """Fetch Metadata where there is any, else what browsers have always sent (decision 13)."""
    assert expected is navigation(an_original(method, **headers))


# -- speaking ----------------------------------------------------------------------------------------------------------

LINES = b"X-PSC-Subject: 899700000042\r\nX-PSC-RPPS: \r\n"
ALLOW = Allow(LINES, "allowed", "app")
SIGN_IN = SignIn(Why.NO_SESSION, "app")
REFUSE = Refuse(Because.RULE, "app", 3, "ABCD-EFGH")
OURS = Refuse(Because.OURS)
VISIT: dict[str, Any] = {"sec_fetch_mode": b"navigate"}


@pytest.mark.parametrize("dialect", ALL.values(), ids=[each.name for each in ALL.values()])
def test_an_allow_is_200_with_every_identity_header_and_nothing_to_cache(dialect: Dialect) -> None:
    """200 and Content-Length 0 is the one portable allow; never 204, never a cookie (CACHE-06)."""
    status, headers = head_of(dialect.speak(ALLOW, an_original()))
    expected = {"content-length": "0", "cache-control": "no-store", "x-psc-subject": "899700000042", "x-psc-rpps": ""}
    assert (200, expected) == (status, headers)


@pytest.mark.parametrize(
    ("dialect", "decision", "visit", "expected"),
    [
        (NGINX, SIGN_IN, True, 401),
        (NGINX, SIGN_IN, False, 401),
        (NGINX, REFUSE, True, 403),
        (NGINX, REFUSE, False, 403),
        (NGINX, OURS, True, 503),
        (INGRESS, SIGN_IN, True, 401),
        (INGRESS, REFUSE, True, 403),
        (INGRESS, OURS, False, 503),
        (FORWARD, SIGN_IN, True, 302),
        (FORWARD, SIGN_IN, False, 401),
        (FORWARD, REFUSE, True, 403),
        (FORWARD, REFUSE, False, 403),
        (FORWARD, OURS, True, 503),
        (FORWARD, OURS, False, 503),
        (FORWARD, object(), True, 503),
    ],
)
def test_a_denial_has_the_status_its_proxy_understands_and_no_identity(
    dialect: Dialect, decision: Decision, visit: bool, expected: int
) -> None:
    """nginx knows 401 and 403 only; identity never leaves on a denial; whatever is no decision is a denial."""
    status, headers = head_of(dialect.speak(decision, an_original(**(VISIT if visit else {}))))
    assert expected == status
    assert "no-store" == headers["cache-control"]
    assert {"x-psc-reference"} >= {name for name in headers if name.startswith("x-psc")}
    assert "set-cookie" not in headers
    if expected == 401:
        assert 'Bearer realm="psc"' == headers["www-authenticate"]
    assert (decision is SIGN_IN and visit) == ("location" in headers)


def test_a_refusal_carries_its_reference() -> None:
    """So that the proxy can fetch the page that explains it (decision 6)."""
    for dialect in ALL.values():
        assert "ABCD-EFGH" == head_of(dialect.speak(REFUSE, an_original()))[1]["x-psc-reference"]
        assert "x-psc-reference" not in head_of(dialect.speak(Refuse(Because.UNKNOWN_HOST), an_original()))[1]


def test_a_refused_visitor_reads_a_page_where_the_proxy_hands_it_on() -> None:
    """Length and body agree, and the reference stands in the page."""
    answer = FORWARD.speak(REFUSE, an_original(**VISIT))
    assert isinstance(answer, Page)
    assert b"<p>refused ABCD-EFGH</p>" == answer.body
    assert str(len(answer.body)) == head_of(answer)[1]["content-length"]
    assert isinstance(FORWARD.speak(Refuse(Because.NO_RULE), an_original(**VISIT)), bytes)


def test_what_is_no_page_visit_gets_no_page() -> None:
    """A script is answered by status and header: a page in the middle of its data helps nobody."""
    script = an_original(sec_fetch_mode=b"cors")
    for decision, status in ((REFUSE, 403), (Refuse(Because.OURS, reference="ABCD-EFGH"), 503)):
        answer = FORWARD.speak(decision, script)
        assert isinstance(answer, bytes)
        assert status == head_of(answer)[0]


@pytest.mark.parametrize(("reference", "shown"), [("", b"-"), ("ABCD-EFGH", b"ABCD-EFGH")])
def test_our_own_fault_is_said_to_be_ours(reference: str, shown: bytes) -> None:
    """503, and the page says to try again, with or without a reference."""
    answer = FORWARD.speak(Refuse(Because.OURS, reference=reference), an_original(**VISIT))
    assert isinstance(answer, Page)
    assert b"<p>unavailable " + shown + b"</p>" == answer.body


def where(dialect: Dialect, decision: SignIn, original: Original) -> tuple[str, dict[str, str]]:
    """Address and parameters of the Location; a parameter twice fails."""
    location = head_of(dialect.speak(decision, original))[1]["location"]
    address, _, query = location.partition("?")
    pairs = [pair.split("=", 1) for pair in query.split("&")]
    assert len(dict(pairs)) == len(pairs)
    return address, {name: unquote(value) for name, value in pairs}


def test_a_step_up_says_what_the_rule_asks_for() -> None:
    """acr and max_age go to the sign-in (decision 13); an ended login is said so once (decision 40)."""
    decision = SignIn(Why.STEP_UP, "app", ("eidas1", "eidas2"), 900)
    expected = {"to": f"{ORIGIN}/x?y=1", "max_age": "900", "acr": "eidas1 eidas2"}
    asked = where(FORWARD, decision, an_original(query=b"y=1", **VISIT))
    assert ("https://auth.hopital.example/psc/start", expected) == asked
    ended = where(FORWARD, SignIn(Why.ENDED, "app"), an_original(**VISIT))
    assert {"to": f"{ORIGIN}/x", "why": "ended"} == ended[1]


def test_RED_12_everything_in_the_address_is_escaped() -> None:
    """Not even a slash is left as it is: whatever a target or a level holds, proxies and logs see one parameter."""
    asked = an_original(path=b"/a/b", query=b"c=/d&to=e", **VISIT)
    answer = FORWARD.speak(SignIn(Why.STEP_UP, "app", ("eidas1", "a/b"), 900), asked)
    assert (
        "https://auth.hopital.example/psc/start?to=https%3A%2F%2Fapp.example.org%2Fa%2Fb%3Fc%3D%2Fd%26to%3De&max_age=900&acr=eidas1%20a%2Fb"
    ) == head_of(answer)[1]["location"]


@pytest.mark.parametrize(
    ("referer", "expected"),
    [
        (b"", "/"),
        (b"https://app.example.org/form?id=1", "/form?id=1"),
        (b"https://APP.example.org:443/form", "/form"),
        (b"https://app.example.org", "/"),
        (b"https://evil.test/form", "/"),
        (b"https://app.example.org.evil.test/form", "/"),
        (b"https://app.example.org@evil.test/form", "/"),
        (b"http://app.example.org/form", "/"),
        (b"/form", "/"),
    ],
)
def test_a_form_that_could_not_be_sent_leads_back_to_its_page(referer: bytes, expected: str) -> None:
    """303, to the page of the same origin that the form stood on, and the page there says that nothing was sent."""
    original = an_original(b"POST", path=b"/submit", sec_fetch_mode=b"navigate", referer=referer)
    assert 303 == head_of(FORWARD.speak(SIGN_IN, original))[0]
    assert 401 == head_of(NGINX.speak(SIGN_IN, original))[0]
    for dialect in (FORWARD, NGINX):
        assert {"to": ORIGIN + expected, "lost": "1"} == where(dialect, SIGN_IN, original)[1]


def test_a_frame_is_answered_by_its_own_site() -> None:
    """PSC refuses to be framed, so the frame gets a page of the same origin, whose link opens the page around it."""
    framed = an_original(
        sec_fetch_mode=b"navigate", sec_fetch_dest=b"iframe", referer=b"https://app.example.org/around"
    )
    assert (f"{ORIGIN}/psc/start", {"to": f"{ORIGIN}/around", "frame": "1"}) == where(FORWARD, SIGN_IN, framed)
    alone = an_original(sec_fetch_mode=b"navigate", sec_fetch_dest=b"iframe")
    assert {"to": f"{ORIGIN}/x", "frame": "1"} == where(FORWARD, SIGN_IN, alone)[1]


def test_RED_12_a_target_comes_back_whole_up_to_its_longest() -> None:
    """2 000 bytes of address come back byte for byte; one more leads to the app's front page (decision 21)."""
    assert 2000 == LONGEST_TARGET
    fits = b"/" + b"a" * (LONGEST_TARGET - len(ORIGIN) - 1)
    assert ORIGIN + fits.decode() == where(FORWARD, SIGN_IN, an_original(path=fits, **VISIT))[1]["to"]
    assert ORIGIN + "/" == where(FORWARD, SIGN_IN, an_original(path=fits + b"a", **VISIT))[1]["to"]


def test_each_address_has_its_own_dialect() -> None:
    """Nothing is detected; there are exactly these."""
    assert {b"/auth/nginx": "nginx", b"/auth/ingress-nginx": "ingress-nginx", b"/auth/forward": "forward"} == {
        address: dialect.name for address, dialect in ALL.items()
    }
    assert [True, False, True] == [dialect.forwarded for dialect in (NGINX, INGRESS, FORWARD)]


VALUES = st.one_of(
    st.binary(max_size=30),
    st.sampled_from([b"https", b"app.example.org", b"/x", b"GET", b"https://app.example.org/x", b"navigate", HTML]),
)
NAMES = st.sampled_from(
    [*FORWARDED, *INGRESS_HEADERS, b"referer", b"accept", b"sec-fetch-mode", b"sec-fetch-dest", b"upgrade"]
)
DECISIONS = st.sampled_from([ALLOW, SIGN_IN, REFUSE, OURS, SignIn(Why.STEP_UP, "app", ("a b\r\n",), 3)])


@given(st.dictionaries(NAMES, VALUES), st.frozensets(NAMES, max_size=2), DECISIONS, st.booleans())
def test_whatever_arrives_the_answer_is_one_of_few_and_well_formed(
    headers: dict[bytes, bytes], doubled: frozenset[bytes], decision: Decision, whole: bool
) -> None:
    """Never an exception, never a second header out of a value, never a Location that is not ours."""
    for dialect in ALL.values():
        found = dialect.read({**FORWARDED, **INGRESS_HEADERS, **headers} if whole else headers, doubled)
        if isinstance(found, Unread):
            assert found.cure
            continue
        status, answer = head_of(dialect.speak(decision, found))
        assert status in (200, 302, 303, 401, 403, 503)
        assert (status == 200) == isinstance(decision, Allow)
        if "location" in answer:
            assert answer["location"].startswith(("https://auth.hopital.example/psc/start?to=", f"{found.origin}/psc/"))
            assert answer["location"].isascii()
