"""Our cookie is read by its exact name, once, or there is no session."""

from http.cookies import SimpleCookie

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from forward_auth.cookies import CookieNames, read_cookie, read_cookies, set_cookie

NAME = b"__Host-psc"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        (b"", None),
        (b"__Host-psc=T", b"T"),
        (b"a=1; __Host-psc=T", b"T"),
        (b"a=1; __Host-psc=T; b=2", b"T"),
        (b"a=1;__Host-psc=T;b=2", b"T"),
        (b"a=1;\t__Host-psc=T", b"T"),
        (b"__Host-psc=", b""),
        (b"__Host-psc=a=b", b"a=b"),
        (b"__Host-psc-login-ABCDEFGH=L; __Host-psc=T", b"T"),
        (b"__Host-psc=T; __Host-psc-login-ABCDEFGH=L", b"T"),
        (b"__Host-psc-login-ABCDEFGH=L", None),
        (b"other=__Host-psc; __Host-psc=T", b"T"),
        (b"__Host-psc", None),
        (b"__Host-psc; a=1", None),
    ],
)
def test_the_one_cookie_is_found_where_it_stands(header: bytes | None, expected: bytes | None) -> None:
    """First, last, in the middle, with and without spaces, beside our sign-in cookies."""
    assert expected == read_cookie(header, NAME)


@pytest.mark.parametrize(
    "header",
    [
        b"__Host-psc=GOOD; __Host-psc=BAD",
        b"__Host-psc=BAD; __Host-psc=GOOD",
        b"__Host-psc=A; a=1; __Host-psc=B",
        b"__Host-psc=A; __Host-psc=A",
        b"__Host-psc=A;__Host-psc=",
    ],
)
def test_COOK_04_a_name_that_stands_twice_is_no_session(header: bytes) -> None:
    """A sibling host may have tossed one of them, and nobody can tell which."""
    assert read_cookie(header, NAME) is None


@pytest.mark.parametrize(
    "header",
    [
        b"__HOST-psc=T",
        b"__host-psc=T",
        b"__Host-PSC=T",
        b"__Secure-psc=T",
        b"x__Host-psc=T",
        b"__Host-psc2=T",
        b"__Host-psc =T",
        b"=__Host-psc=T",
        b"a=__Host-psc=T",
        b'"__Host-psc"=T',
        b"\xa0__Host-psc=T",
        b"\x0b__Host-psc=T",
        b"b=2, __Host-psc=T",
        b"%5f_Host-psc=T",
    ],
)
def test_COOK_05_a_name_that_only_looks_like_ours_is_not_ours(header: bytes) -> None:
    """Exact bytes and case; no trimming but of spaces and tabs, no quoting, no nameless cookie."""
    assert read_cookie(header, NAME) is None


@pytest.mark.parametrize("header", [b'__Host-psc="T"', b"__Host-psc=T, b=2", b"__Host-psc=%54", b'__Host-psc="\\124"'])
def test_COOK_03_a_value_is_taken_as_it_stands(header: bytes) -> None:
    """No unquoting, no decoding: another spelling of a ticket is another value, which no ticket is."""
    assert b"T" != read_cookie(header, NAME)


def plainly(header: bytes, name: bytes) -> bytes | None:
    """The same, the slow way: RFC 6265 §4.2.1 read from the left."""
    pairs = [part.strip(b" \t").partition(b"=") for part in header.split(b";")]
    values = [value for key, mark, value in pairs if key == name and mark]
    return values[0] if len(values) == 1 else None


def bare(value: bytes | None) -> bytes | None:
    """Without the spaces around it: the two roads may keep different ones, and no ticket has any."""
    return None if value is None else value.strip(b" \t")


PIECES = st.sampled_from([b"psc", b"__Host-psc", b"=", b";", b"; ", b" ", b"a", b",", b"-login-x", b'"', b"\t", b"T"])


@settings(max_examples=500)
@given(st.lists(PIECES, max_size=14).map(b"".join), st.sampled_from([b"psc", b"__Host-psc"]))
@example(b"psc= psc", b"psc")
def test_the_short_road_and_the_long_one_agree(header: bytes, name: bytes) -> None:
    """Whatever the header, our reading is the plain one."""
    assert bare(plainly(header, name)) == bare(read_cookie(header, name))


@given(st.binary(max_size=60))
def test_COOK_03_garbage_is_read_without_an_exception(header: bytes) -> None:
    """NUL, 0xFF, anything."""
    assert bare(plainly(header, b"a")) == bare(read_cookie(header, b"a"))


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, {}),
        (b"a=1", {}),
        (b"__Host-psc-login-A=1; a=2;__Host-psc-login-B=3", {b"__Host-psc-login-A": b"1", b"__Host-psc-login-B": b"3"}),
        (b"__Host-psc-login-A=1; __Host-psc-login-A=2", {b"__Host-psc-login-A": None}),
        (b"__Host-psc-login-A=1; __Host-psc-login-A=2; __Host-psc-login-A=3", {b"__Host-psc-login-A": None}),
        (b"__Host-psc-login-A; x__Host-psc-login-B=1", {}),
    ],
)
def test_sign_in_cookies_are_found_by_their_beginning(
    header: bytes | None, expected: dict[bytes, bytes | None]
) -> None:
    """A doubled one is known to be there, and has no value."""
    assert expected == read_cookies(header, b"__Host-psc-login-")


def test_COOK_01_a_cookie_is_host_only_and_hidden_from_scripts() -> None:
    """`__Host-` over https with Secure; over plain http neither (decision 19); never a Domain."""
    over_https, over_http = CookieNames(secure=True), CookieNames(secure=False)
    assert ("__Host-psc", b"__Host-psc", "__Host-psc-login-") == (
        over_https.ticket,
        over_https.ticket_bytes,
        over_https.login_prefix,
    )
    assert ("psc", b"psc", "psc-login-") == (over_http.ticket, over_http.ticket_bytes, over_http.login_prefix)
    assert "__Host-psc=T; Path=/; HttpOnly; SameSite=Lax; Secure" == set_cookie("__Host-psc", "T", secure=True)
    assert "psc=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0" == set_cookie("psc", "", secure=False, max_age=0)
    read = SimpleCookie(set_cookie("psc-login-A", "v", secure=True, max_age=900))["psc-login-A"]
    assert ("v", "/", "900", "Lax", True, True, "") == (
        read.value,
        read["path"],
        read["max-age"],
        read["samesite"],
        read["secure"],
        read["httponly"],
        read["domain"],
    )
