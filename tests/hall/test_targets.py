"""A browser is sent back to an origin of ours, byte for byte, or nowhere."""

from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forward_auth.dialects import LONGEST_TARGET
from forward_auth.targets import Target, hostname_of, read_to

APP = "https://app1.hopital.example"
ORIGINS = {APP, "https://app1.hopital.example:8443", "http://localhost:8080", "https://[2001:db8::1]"}


def to(raw: bytes | str, **more: tuple[str, ...]) -> Target | None:
    return read_to(raw.encode() if isinstance(raw, str) else raw, ORIGINS, prefix="/psc", **more)


ATTACKS = {
    "RED-01": ["//evil.example", "///evil.example", "////evil.example/%2f..", "/x", "", "app1.hopital.example"],
    "RED-02": ["/\\evil.example", "\\\\evil.example", "\\/evil.example", "/./\\evil", "/%5cevil.example"],
    "RED-03": [
        "https:evil.example",
        "https:/evil.example",
        "http:\\\\evil",
        "HtTpS://evil.example",
        "https:app1.hopital.example",
        "https:/app1.hopital.example",
        "https:\\\\app1.hopital.example",
        "https:///app1.hopital.example",
    ],
    "RED-04": [
        "/%09/evil",
        "/\t/evil",
        "/ /evil",
        "/%0b/evil",
        "%0d%0aLocation:https://evil",
        f" {APP}/",
        f"\u00a0{APP}/",
        f"\ufeff{APP}/",
        f"\t{APP}/",
        "https://app1.hopital.example\t.evil/",
        "https://app1.hopital.example /",
        "https://app1.hopital.example\n/",
        "https:\t//app1.hopital.example/",
        "https://\x00app1.hopital.example/",
    ],
    "RED-05": ["%2f%2fevil", "%252f%252fevil", "/%2e%2e//evil", "https%3a//evil", "https:%2f%2fapp1.hopital.example/"],
    "RED-06": [
        "https://app1.hopital.example@evil.example",
        "https://evil.example\\@app1.hopital.example",
        "https://user:pw@app1.hopital.example",
        "https://@app1.hopital.example/",
        "https://app1.hopital.example:443@evil.example/",
    ],
    "RED-07": [
        "javascript:alert(1)",
        "data:text/html,x",
        "vbscript:x",
        "blob:x",
        "file:///etc",
        "java\nscript:x",
        "intent:x",
    ],
    "RED-08": [
        "https://app1.hopital.example.evil.example",
        "https://evilhopital.example",
        "https://app1.hopital.example%2eevil.example",
        "https://app1.hopital.example%00.evil",
        "https://app1.hopital.example;evil/",
        "https://app1.hopital.example\\.evil.example/",
        "https://app1.hopital.example&evil/",
        "https://xapp1.hopital.example/",
        "https://hopital.example/",
    ],
    "RED-09": [
        "https://app1.hopital.example:8444/",
        "https://app1.hopital.example:0/",
        "https://app1.hopital.example:/",
        "http://app1.hopital.example/",
        "http://app1.hopital.example:443/",
        "http://0x7f.1/",
        "http://2130706433/",
        "http://[::ffff:127.0.0.1]/",
        "http://127.1/",
        "http://localhost/",
        "https://аpp1.hopital.example/",
        "https://app1。hopital.example/",
        "https://app1.hopital。example/",
        "https://〱evil/",
        "https://xn--pp1-7cd.hopital.example/",
        "wss://app1.hopital.example/",
    ],
}


@pytest.mark.parametrize(
    ("attack", "raw"), [(attack, raw) for attack, several in ATTACKS.items() for raw in several], ids=repr
)
def test_RED_01_to_09_an_address_that_is_not_plainly_ours_is_refused(attack: str, raw: str) -> None:
    """Relative, scheme-relative, another scheme, host, port, user info, look-alike, white space: no target at all."""
    assert to(raw) is None, attack


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (APP, f"{APP}/"),
        (f"{APP}/", f"{APP}/"),
        ("https://APP1.hopital.EXAMPLE.:443/x", f"{APP}/x"),
        (f"{APP}:8443/x", f"{APP}:8443/x"),
        ("http://localhost:8080/x", "http://localhost:8080/x"),
        ("https://[2001:DB8::1]/x", "https://[2001:db8::1]/x"),
        (f"{APP}?x=1", f"{APP}/?x=1"),
        (f"{APP}#part", f"{APP}/#part"),
        (f"{APP}#@evil.example", f"{APP}/#@evil.example"),
        (f"{APP}?@evil.example", f"{APP}/?@evil.example"),
        (f"{APP}//evil.example/%2f..", f"{APP}//evil.example/%2f.."),
        (f"{APP}/%5cevil", f"{APP}/%5cevil"),
        (f"{APP}/%zz", f"{APP}/%zz"),
        (f"{APP}/\\evil", f"{APP}/%5Cevil"),
        (f"{APP}/a b\tc", f"{APP}/a%20b%09c"),
        (f"{APP}/a\r\nLocation: https://evil", f"{APP}/a%0D%0ALocation:%20https://evil"),
        (f'{APP}/"<>', f"{APP}/%22%3C%3E"),
        (f"{APP}/é?é", f"{APP}/%C3%A9?%C3%A9"),
        (f"{APP}/x?a=\\b", f"{APP}/x?a=\\b"),
    ],
)
def test_an_address_of_ours_comes_back_safe_in_a_header(raw: str, expected: str) -> None:
    """ASCII, no control, no space, authority in canonical form, closed by a slash."""
    found = to(raw)
    assert found is not None
    assert expected == found.location
    assert found.location.startswith(found.origin + "/")


@pytest.mark.parametrize(
    "rest",
    [
        "/dossier/patient?id=1&vue=r%C3%A9sum%C3%A9#onglet-2",
        "/a;b=c/d,e/~f!$&'()*+=:@?x[]=1&y={}|^`",
        "/?next=https://evil.example/",
        "/%e9/%2F/%252f",
        "/x#/route?y=z",
        "/a//b/../c/./d",
    ],
)
def test_RED_12_a_deep_target_comes_back_byte_for_byte(rest: str) -> None:
    """Query and fragment included."""
    assert Target(APP + rest, APP, "app1.hopital.example") == to(APP + rest)


def test_RED_12_a_target_too_long_to_promise_leads_to_the_front_page() -> None:
    """2 000 bytes come back; one more does not (decision 21)."""
    fits = f"{APP}/" + "a" * (LONGEST_TARGET - len(APP) - 1)
    assert (fits, f"{APP}/") == tuple(found.location for found in map(to, (fits, fits + "a")) if found is not None)
    grows = f"{APP}/" + " " * 700  # three bytes for each when it is written
    assert f"{APP}/" == getattr(to(grows), "location", None)


@pytest.mark.parametrize(
    "rest",
    [
        "/psc/start?to=x",
        "/psc/sign-out",
        "/psc/",
        "/psc",
        "/PSC/start",
        "/%70sc/start",
        "/psc%2Fstart",
        "/x/../psc/start",
        "/./psc/start",
        "/%2e/psc/start",
        "/x/%2E%2e/psc/start?to=y",
        "//psc/start",
        "/x/..;/psc/start",
        "/psc/start%zz",
        "/psc/%zz/../start",
        "/x%/../PSC/start",
        "/%zz/../psc/start",
        "/x%/%2e%2e/%70sc/start?to=y",
        "/PSC/start%",
        "/%/.//psc/sign-out",
    ],
)
def test_RED_12_a_target_below_our_own_prefix_is_a_loop(rest: str) -> None:
    """In any spelling, and behind dot segments, which a browser resolves before it asks."""
    assert Target(f"{APP}/", APP, "app1.hopital.example") == to(APP + rest)


def test_one_page_of_ours_may_be_come_back_to() -> None:
    """Exactly that one."""
    pages = {"own_pages": ("/psc/session",)}
    assert f"{APP}/psc/session?x=1" == getattr(to(f"{APP}/psc/session?x=1", **pages), "location", None)
    for other in ("/psc/start", "/psc/session/", "/PSC/session"):
        assert f"{APP}/" == getattr(to(APP + other, **pages), "location", None)


@pytest.mark.parametrize("rest", ["/pscx", "/x/psc/start", "/psc-help", "/%zz/pscx", "/100%"])
def test_what_only_resembles_our_prefix_is_a_target(rest: str) -> None:
    """A prefix is whole segments, at the beginning."""
    assert APP + rest == getattr(to(APP + rest), "location", None)


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("https://a.example", "a.example"),
        ("https://a.example:8443", "a.example"),
        ("http://[::1]", "[::1]"),
        ("http://[::1]:80", "[::1]"),
        ("http://localhost:8080", "localhost"),
    ],
)
def test_a_hostname_has_no_port(origin: str, expected: str) -> None:
    """Tickets are bound to it (decision 32)."""
    assert expected == hostname_of(origin)


@given(
    st.one_of(
        st.binary(max_size=60),
        st.binary(max_size=40).map(lambda rest: APP.encode() + rest),
        st.binary(max_size=40).map(lambda rest: APP.encode() + b"/" + rest),
    )
)
def test_whatever_arrives_the_location_is_ours_and_one_line(raw: bytes) -> None:
    """And says the same bytes as were asked for."""
    found = to(raw)
    if found is None:
        return
    assert found.origin in ORIGINS
    assert found.location.startswith(found.origin + "/")
    assert found.location.isascii()
    assert found.location.isprintable()
    assert not set(' "<>') & set(found.location)
    rest = raw[len(APP) :]
    if raw.startswith(APP.encode() + b"/") and found.location != APP + "/":
        assert unquote_to_bytes(rest) == unquote_to_bytes(found.location[len(APP) :])
