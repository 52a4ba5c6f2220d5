"""Where a request ends: bodies, both framings, upgrades, versions. What is doubtful is 400 and closed, what has a body is answered and closed."""

import pytest
from inner_entry import Entry
from inner_wire import Wire, closed_after

SMUGGLED = {
    "content-length-and-chunked": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    "chunked-twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    "chunked-identity": b"Transfer-Encoding: chunked, identity\r\n",
    "vertical-tab": b"Transfer-Encoding: \x0bchunked\r\n",
    "folded-by-space": b"X-A: b\r\n c\r\n",
    "folded-by-tab": b"X-A: b\r\n\tc\r\n",
    "bare-cr": b"X-A: b\rX-B: c\r\n",
    "bare-lf": b"X-A: b\nX-B: c\r\n",
    "nul": b"X-A: b\x00c\r\n",
    "length-plus": b"Content-Length: +5\r\n",
    "length-minus": b"Content-Length: -5\r\n",
    "length-hex": b"Content-Length: 0x5\r\n",
    "length-list": b"Content-Length: 5, 5\r\n",
    "length-empty": b"Content-Length:\r\n",
    "length-twice": b"Content-Length: 5\r\nContent-Length: 5\r\n",
    "length-twice-differing": b"Content-Length: 0\r\nContent-Length: 5\r\n",
    "length-overflow": b"Content-Length: 99999999999999999999999999\r\n",
    "space-before-colon": b"Content-Length : 5\r\n",
    "no-colon": b"Content-Length\r\n",
    "name-not-ascii": b"X-\xe9: 1\r\n",
}


@pytest.mark.parametrize("lines", SMUGGLED.values(), ids=SMUGGLED.keys())
def test_SMUG_01_a_doubtful_frame_is_400_and_the_connection_is_over(shared: Entry, lines: bytes) -> None:
    """One 400, then the door closes by itself; the request hidden behind it is never answered, and the next connection is served."""
    heard = closed_after(shared.inner, shared.head(lines) + shared.head())
    assert [(400, True)] == [(one.status, one.closes) for one in heard]
    assert [200] == [one.status for one in shared.ask(shared.head())]


@pytest.mark.parametrize("lines", SMUGGLED.values(), ids=SMUGGLED.keys())
def test_SMUG_01_the_same_behind_a_good_request_on_one_connection(shared: Entry, lines: bytes) -> None:
    """What was answered before stays answered; then 400 and closed. The remembered road does not open the frame either."""
    with Wire(shared.inner) as wire:
        for _ in range(3):
            wire.send(shared.head())
            assert 200 == wire.hear().status
        wire.send(shared.head(lines) + shared.head())
        assert 400 == wire.hear().status
        assert b"" == wire.until_closed()


BODIES = {
    "announced-and-not-sent": (b"Content-Length: 5\r\n", b""),
    "sent": (b"Content-Length: 5\r\n", b"a=b&c"),
    "chunked": (b"Transfer-Encoding: chunked\r\n", b"5\r\na=b&c\r\n0\r\n\r\n"),
    "chunked-and-not-sent": (b"Transfer-Encoding: chunked\r\n", b""),
    "chunks-malformed": (b"Transfer-Encoding: chunked\r\n", b"zz\r\n"),
    "unknown-coding": (b"Transfer-Encoding: xchunked\r\n", b""),
    "compressed": (b"Content-Length: 20\r\nContent-Encoding: gzip\r\n", b"\x1f\x8b" + b"\x00" * 18),
    "larger-than-a-head-may-be": (b"Content-Length: 300000\r\n", b"x" * 300000),
    "a-gibibyte": (b"Content-Length: 1073741824\r\n", b"x" * 200000),
}


@pytest.mark.parametrize(("lines", "body"), BODIES.values(), ids=BODIES.keys())
@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_SMUG_02_a_body_is_answered_and_never_read(shared: Entry, method: bytes, lines: bytes, body: bytes) -> None:
    """Rule 10: the right answer at once, Connection: close, and nothing behind the head is a request."""
    data = shared.head(lines).replace(b"GET", method, 1) + body + shared.head()
    heard = closed_after(shared.inner, data)
    assert [(200, True)] == [(one.status, one.closes) for one in heard]


def test_SMUG_02_no_body_is_no_body(shared: Entry) -> None:
    """Content-Length: 0, as Envoy sends it, keeps the connection."""
    with Wire(shared.inner) as wire:
        for _ in range(3):
            wire.send(shared.head(b"Content-Length: 0\r\n"))
            heard = wire.hear()
            assert (200, False) == (heard.status, heard.closes)


UPGRADES = {
    "websocket": b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n",
    "h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
    "no-connection-line": b"Upgrade: websocket\r\n",
    "with-a-body": b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n",
}


@pytest.mark.parametrize("lines", UPGRADES.values(), ids=UPGRADES.keys())
def test_SMUG_03_an_upgrade_is_answered_as_the_request_it_is(shared: Entry, lines: bytes) -> None:
    """Rule 9: never 101; 200 with a session, 401 without, and the connection is over."""
    heard = closed_after(shared.inner, shared.head(lines) + shared.head())
    assert [(200, True)] == [(one.status, one.closes) for one in heard]
    heard = closed_after(shared.inner, shared.head(lines).replace(shared.cookie, b"Accept: text/html\r\n"))
    assert [(401, True, b"")] == [(one.status, one.closes, one[b"Location"]) for one in heard]


def test_expect_is_not_heard(shared: Entry) -> None:
    """Rule 4: no 100 Continue on a check; with a body the connection is over."""
    heard = shared.ask(shared.head(b"Expect: 100-continue\r\n"))
    assert [200] == [one.status for one in heard]
    heard = closed_after(shared.inner, shared.head(b"Expect: 100-continue\r\nContent-Length: 5\r\n"))
    assert [(200, True)] == [(one.status, one.closes) for one in heard]


@pytest.mark.parametrize(
    "line",
    [
        b"If-None-Match: *",
        b"If-Modified-Since: Tue, 24 Nov 2026 10:00:00 GMT",
        b"Range: bytes=0-0",
        b"Accept-Encoding: gzip",
    ],
)
def test_conditions_are_not_heard(shared: Entry, line: bytes) -> None:
    """Rule 4: an allow is 200 with nothing in it, whatever the browser's head asks about its own page."""
    [heard] = shared.ask(shared.head(line + b"\r\n"))
    assert (200, b"0", []) == (heard.status, heard[b"Content-Length"], heard.all(b"Content-Encoding"))


@pytest.mark.parametrize("lines", [b"", b"Connection: keep-alive\r\n", b"Connection: close\r\n"])
def test_http_1_0_is_answered_and_closed(shared: Entry, lines: bytes) -> None:
    """Rule 11: an old nginx speaks HTTP/1.0, perhaps without Host."""
    data = shared.head(lines).replace(b"HTTP/1.1", b"HTTP/1.0", 1).replace(b"Host: inner\r\n", b"", 1)
    assert [(200, True)] == [(one.status, one.closes) for one in closed_after(shared.inner, data + shared.head())]


@pytest.mark.parametrize(
    "lines",
    [
        b"Connection: close\r\n",
        b"Connection: Close\r\n",
        b"Connection: close, x-forwarded-host\r\n",
        b"Connection: close, TE\r\nTE: trailers\r\n",
    ],
)
def test_connection_close_is_honoured(shared: Entry, lines: bytes) -> None:
    """HAProxy with Lua and Apache with Lua close after each check."""
    heard = closed_after(shared.inner, shared.head(lines) + shared.head())
    assert [(200, True)] == [(one.status, one.closes) for one in heard]


@pytest.mark.parametrize(
    "data",
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /auth/nginx HTTP/1.1 \r\n\r\n",
        b"GET /auth/nginx HTTP/9.9\r\n\r\n",
        b"GET /auth/nginx HTTX/1.1\r\n\r\n",
        b"get /auth/nginx HTTP/1.1\r\nHost: inner\r\n\r\n",
        b"GET /auth/ng\x00inx HTTP/1.1\r\nHost: inner\r\n\r\n",
        b"GET /auth/nginx HTTP/1.1\nHost: inner\n\n",
    ],
)
def test_what_is_no_request_is_400(shared: Entry, data: bytes) -> None:
    """HTTP/2's preface, TLS, and lines that are none."""
    assert [(400, True)] == [(one.status, one.closes) for one in closed_after(shared.inner, data)]


def test_http_2_as_text_is_no_way_to_keep_a_connection(shared: Entry) -> None:
    """Whatever is made of `HTTP/2.0`, nothing behind it is served."""
    heard = closed_after(shared.inner, shared.head().replace(b"HTTP/1.1", b"HTTP/2.0", 1) + shared.head())
    assert 1 == len(heard)
    assert heard[0].closes


def test_HDR_07_two_hosts_are_400(shared: Entry) -> None:
    """Also when both are the same."""
    for host in (b"inner", b"dossier.hopital.example"):
        heard = closed_after(shared.inner, shared.head(b"Host: " + host + b"\r\n") + shared.head())
        assert [(400, True)] == [(one.status, one.closes) for one in heard]


@pytest.mark.parametrize("cut", [1, 7, 40, 200])
def test_a_head_in_pieces_is_a_head(shared: Entry, cut: int) -> None:
    """Wherever it is cut; two requests cut in the middle of the second are two."""
    data = shared.head() + shared.head()
    with Wire(shared.inner) as wire:
        for start in range(0, len(data), cut):
            wire.send(data[start : start + cut])
        assert (200, 200) == (wire.hear().status, wire.hear().status)
