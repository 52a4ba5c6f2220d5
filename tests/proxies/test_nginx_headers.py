"""What a client claims about itself or its request never reaches our server or the application (HDR-01 to HDR-05, HDR-08)."""

import itertools

import pytest
from proxies.staging import IDENTITY, NAMES, Staging, allow, sign_in
from proxies.wire import Heard

FORGED = "forged-by-the-client"
ASSERTED = (*NAMES, "X-PSC-Assertion", "X-PSC-Reference")


def folded(name: bytes) -> bytes:
    """The variable that CGI, WSGI and PHP make of a header name."""
    return bytes(c if chr(c).isalnum() else ord("_") for c in name).upper()


def spellings(name: str) -> list[str]:
    """The name in several cases, and every spelling with other characters where its dashes are."""
    parts = name.split("-")
    aliases = [
        "".join(a + b for a, b in zip(parts, (*marks, ""), strict=True))
        for marks in itertools.product("-_.", repeat=len(parts) - 1)
    ]
    exotic = [mark.join(parts) for mark in "!#$%&'*+^`|~"]
    return [name, name.lower(), name.upper(), name.swapcase(), *aliases, *exotic]


def at_the_application(heard: Heard) -> dict[bytes, list[bytes]]:
    """Variable -> values, of everything an application server could read as identity."""
    names = {folded(name.encode()) for name in ASSERTED}
    found: dict[bytes, list[bytes]] = {}
    for name, value in heard.headers:
        if folded(name) in names:
            found.setdefault(folded(name), []).append(value)
    return found


@pytest.mark.parametrize("name", ASSERTED)
def test_HDR_01_02_03_forged_identity(stage: Staging, name: str) -> None:
    """Each identity header, in every case and spelling, twice: the application sees exactly ours, or nothing."""
    place = stage(allow())
    claims = [(spelling, FORGED) for spelling in spellings(name)]
    sent = 0
    for start in range(0, len(claims), 60):
        assert 200 == place.ask("/", [claim for claim in claims[start : start + 60] for _ in range(2)]).status
        sent += 1
    expected = {folded(key.encode()): [value.encode()] for key, value in IDENTITY.items()}
    assert [expected] * sent == [at_the_application(heard) for heard in place.app.requests]
    for check in place.check.requests:
        assert FORGED.encode() not in [value for _, value in check.headers]


def test_HDR_01_forged_identity_with_nothing_known(stage: Staging) -> None:
    """An open rule allows without identity: every header is sent to nginx empty, and the application gets none at all."""
    place = stage(allow({}))
    place.ask("/", [(name, FORGED) for name in ASSERTED])
    assert {} == at_the_application(place.seen)


def test_HDR_01_answer_that_omits_them(stage: Staging) -> None:
    """Even if the check forgot the headers the client's do not get through."""
    place = stage(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    place.ask("/", [(name, FORGED) for name in ASSERTED])
    assert {} == at_the_application(place.seen)


@pytest.mark.parametrize(
    "header",
    [
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "X-Forwarded-Port",
        "X-Forwarded-Prefix",
        "X-Forwarded-Uri",
        "X-Forwarded-Method",
        "X-Forwarded-For",
        "Forwarded",
        "X-Original-URL",
        "X-Original-URI",
        "X-Original-Method",
        "X-Rewrite-URL",
        "X-Real-IP",
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
    ],
)
def test_HDR_04_forged_request(stage: Staging, header: str) -> None:
    """A client's word about where its request goes reaches neither the check nor (where it matters) the application."""
    place = stage(allow())
    place.ask("/real", [(header, "evil.example"), (header.lower(), "evil.example")])
    check = place.check.requests[0]
    assert b"evil.example" not in b" ".join(value for _, value in check.headers)
    assert b"/real" == check.one("X-Forwarded-Uri")
    if header not in ("X-Original-URI", "X-Original-Method"):  # nobody acts on these two
        assert b"evil.example" not in b" ".join(value for _, value in place.seen.headers)


@pytest.mark.parametrize(
    "listed",
    ["X-Forwarded-Host, X-PSC-Subject", "cookie", "x-forwarded-uri, x-psc-subject, close", "Cookie, X-PSC-Profession"],
)
def test_HDR_05_connection_lists(stage: Staging, listed: str) -> None:
    """A client cannot have headers removed by naming them in Connection."""
    place = stage(allow())
    with place.client() as client:
        raw = f"GET / HTTP/1.1\r\nHost: dossier.hopital.example:{place.port}\r\nConnection: {listed}\r\nCookie: a=1\r\n\r\n"
        assert 200 == client.send(raw.encode()).status
    check = place.check.requests[0]
    assert (b"/", b"a=1") == (check.one("X-Forwarded-Uri"), check.one("Cookie"))
    assert (b"899700218896", b"a=1") == (place.seen.one("X-PSC-Subject"), place.seen.one("Cookie"))


@pytest.mark.parametrize("method", ["OPTIONS", "HEAD", "TRACE", "CONNECT", "PROPFIND"])
def test_HDR_08_methods(stage: Staging, method: str) -> None:
    """No method goes around the check."""
    place = stage(sign_in(None))
    with place.client() as client:
        raw = f"{method} / HTTP/1.1\r\nHost: dossier.hopital.example:{place.port}\r\nX-PSC-Subject: x\r\nConnection: close\r\n\r\n"
        client.socket.sendall(raw.encode())
        status = int(client.wire.rest().split(b" ")[1])
    assert status in (401, 405, 400)
    assert [] == place.app.requests


def test_whitelist_of_the_check(stage: Staging) -> None:
    """The check gets the headers named in the file and no other."""
    place = stage(allow())
    place.ask(
        "/",
        [
            ("If-None-Match", "x"),
            ("Range", "bytes=0-1"),
            ("Accept-Encoding", "gzip"),
            ("X-Anything", "1"),
            ("Expect", ""),
        ],
    )
    assert {
        b"host",
        b"x-forwarded-method",
        b"x-forwarded-proto",
        b"x-forwarded-host",
        b"x-forwarded-uri",
        b"x-forwarded-for",
    } == {name.lower() for name, _ in place.check.requests[0].headers}


def test_authorization_belongs_to_the_application(stage: Staging) -> None:
    """Decision 17: nothing consumes Authorization in this version, so the application gets it."""
    place = stage(allow())
    place.ask("/", [("Authorization", "Basic abc")])
    assert b"Basic abc" == place.seen.one("Authorization")


@pytest.mark.parametrize(
    "raw",
    [
        "GET / HTTP/1.1\r\nHost: dossier.hopital.example@evil.example\r\n",
        "GET / HTTP/1.1\r\nHost: dossier.hopital.example\r\nHost: auth.hopital.example\r\n",
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nHost: other.hopital.example\r\n",
        "GET http://auth.hopital.example/ HTTP/1.1\r\nHost: dossier.hopital.example\r\n",
        "GET / HTTP/1.1\r\nHost: DOSSIER.hopital.example.\r\n",
    ],
    ids=["userinfo", "two", "none", "unknown", "absolute", "other case and dot"],
)
def test_HDR_07_hosts(stage: Staging, raw: str) -> None:
    """What the check hears as host is what nginx took for it, never a second opinion; our server knows the hosts it protects."""
    place = stage(allow())
    with place.client() as client:
        client.socket.sendall((raw + "Connection: close\r\n\r\n").encode())
        status = int(client.wire.rest().split(b" ")[1])
    for check, app in zip(place.check.requests, place.app.requests, strict=True):
        assert check.one("X-Forwarded-Host") == app.one("Host") == app.one("X-Forwarded-Host")
    assert status in (200, 302, 400, 404)
