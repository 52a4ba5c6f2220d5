"""The original request is read in one way or not at all; a path that has two readings says so."""

import string
from itertools import product

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from forward_auth.original import (
    LONGEST_PATH,
    Original,
    _read_origin,
    _read_path_with_care,
    exact_form,
    fold,
    read_authority,
    read_method,
    read_origin,
    read_path,
    read_target,
)

# -- scheme and host ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scheme", "authority", "expected"),
    [
        (b"https", b"app.example.org", "https://app.example.org"),
        (b"HTTPS", b"APP.Example.ORG", "https://app.example.org"),
        (b"https", b"APP.example.org.:443", "https://app.example.org"),
        (b"http", b"app.example.org:80", "http://app.example.org"),
        (b"https", b"app.example.org:80", "https://app.example.org:80"),
        (b"https", b"app.example.org:8443", "https://app.example.org:8443"),
        (b"https", b"app.example.org:1", "https://app.example.org:1"),
        (b"https", b"app.example.org:65535", "https://app.example.org:65535"),
        (b"ws", b"app.example.org", "http://app.example.org"),
        (b"wss", b"app.example.org:443", "https://app.example.org"),
        (b"https", b"[2001:db8::1]:443", "https://[2001:db8::1]"),
        (b"https", b"[2001:DB8::1]:8443", "https://[2001:db8::1]:8443"),
        (b"http", b"localhost:8080", "http://localhost:8080"),
    ],
)
def test_HDR_07_an_origin_has_one_canonical_form(scheme: bytes, authority: bytes, expected: str) -> None:
    """Case, a trailing dot and the default port make no other origin; ws and wss are http and https."""
    assert expected == read_origin(scheme, authority)


@pytest.mark.parametrize("scheme", [b"", b"ftp", b"https,http", b"https, http", b" https", b"https:", b"javascript"])
def test_a_scheme_that_is_not_one_of_four_has_no_reading(scheme: bytes) -> None:
    """A list, an empty value or a foreign scheme fails closed."""
    assert read_origin(scheme, b"app.example.org") is None


@pytest.mark.parametrize(
    "authority",
    [
        b"",
        b"evil.test@app.example.org",
        b"a b",
        b"evil.test, app.example.org",
        b"app.example.org,evil.test",
        b"a/b?c#d",
        b"app.example.org/",
        b"app.example.org\\",
        b"app%2eexample.org",
        b"app..example.org",
        b".app.example.org",
        b"-app.example.org",
        b"app.example.org..",
        b"app_1.example.org",
        "hôpital.example".encode(),
        "ａpp.example.org".encode(),
        b"app.example.org:",
        b"app.example.org:0",
        b"app.example.org:65536",
        b"app.example.org:123456",
        b"app.example.org:-1",
        b"app.example.org:443:443",
        b"app.example.org:4a",
        b"[::1",
        b"::1",
        b"[::1]x",
        b"a" * 262,
        b"app.example.org\n",
        b"app.example.org\x00",
    ],
)
def test_HDR_07_an_authority_with_two_readings_has_none(authority: bytes) -> None:
    """User info, lists, slashes, white space, escapes, look-alikes and impossible ports are refused, not repaired."""
    assert read_origin(b"https", authority) is None


def test_an_address_of_the_longest_name_is_still_read() -> None:
    """255 bytes of name and a port are what DNS and TCP allow."""
    assert f"{'a' * 255}:65535" == read_authority(b"A" * 255 + b":65535", "https")
    assert f"https://{'a' * 255}:65535" == read_origin(b"https", b"A" * 255 + b":65535")
    assert [None, None] == [read_authority(each, "https") for each in (b"a" * 262, b"")]


def test_CACHE_03_what_is_too_long_to_be_an_origin_is_not_remembered() -> None:
    """Whatever a stranger sends as scheme or host, no large key stays in memory."""
    before = _read_origin.cache_info()
    for scheme, authority in (
        (b"httpss", b"a"),
        (b"https" * 1000, b"a"),
        (b"https", b"a" * 262),
        (b"x" * 6, b"a" * 9000),
    ):
        assert read_origin(scheme, authority) is None
    assert before == _read_origin.cache_info()


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_whatever_arrives_an_origin_is_canonical_or_absent(scheme: bytes, authority: bytes) -> None:
    """Reading its own result again gives the same: there is one spelling."""
    found = read_origin(scheme, authority)
    if found is not None:
        plain, _, rest = found.partition("://")
        assert found == read_origin(plain.encode(), rest.encode())


# -- method ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [b"GET", b"get", b"PROPFIND", b"M-SEARCH", b"!#$%&'*+.^_`|~", b"A" * 32])
def test_a_method_is_a_token_and_keeps_its_case(method: bytes) -> None:
    """RFC 9110 §9.1: `get` is another method than `GET`."""
    assert method == read_method(method)


@pytest.mark.parametrize("method", [b"", b"GET ", b"GET,POST", b"G\x00T", b"GET\n", b"A" * 33, "É".encode(), b"GET/"])
def test_a_method_that_is_no_token_has_no_reading(method: bytes) -> None:
    """A list or a control in the method is refused."""
    assert read_method(method) is None


# -- target ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/", (b"/", None)),
        (b"/a%2Fb?x=1&y=2", (b"/a%2Fb", b"x=1&y=2")),
        (b"/a?", (b"/a", b"")),
        (b"/a?b?c", (b"/a", b"b?c")),
        (b"//evil.com/", (b"//evil.com/", None)),
        (b"http://evil.com/x", (b"/x", None)),
        (b"HTTPS://evil.com/x?y", (b"/x", b"y")),
        (b"https://evil.com", (b"/", None)),
        (b"https://evil.com/a\nb", (b"/a\nb", None)),
        (b"https://evil.com?x=1", (b"/", b"x=1")),
        (b"/admin#/public?x", (b"/admin#/public", None)),
        (b"/public?#/x", (b"/public", b"")),
        (b"/admin?x=/public", (b"/admin", b"x=/public")),
        (b"http://evil.com#/x", (b"/#/x", None)),
    ],
)
def test_PATH_05_06_a_target_gives_path_and_query_and_never_a_host(
    target: bytes, expected: tuple[bytes, bytes | None]
) -> None:
    """Absolute-form gives its path only, `//x` is a path, the query is no part of the path; a fragment is cut from a query and left in a path."""
    assert expected == read_target(target)


@pytest.mark.parametrize(
    "target", [b"", b"*", b"admin", b"?x", b"#", b"#/x", b"ftp://evil/x", b"http:/x", b"http:///x", b"javascript:x"]
)
def test_PATH_07_a_target_of_another_form_has_no_reading(target: bytes) -> None:
    """Relative, asterisk-form and foreign schemes are refused."""
    assert read_target(target) is None


def test_an_original_shows_what_the_browser_asked_for() -> None:
    """Target and address are the raw bytes, put together again."""
    plain = Original("https://app.example", b"GET", b"/a", None, b"", {})
    assert (b"/a", "https://app.example/a") == (plain.target, plain.url)
    asked = plain._replace(path=b"/\xc3\xa9", query=b"")
    assert (b"/\xc3\xa9?", "https://app.example/Ã©?") == (asked.target, asked.url)


# -- path --------------------------------------------------------------------------------------------------------------

TWO_READINGS = [
    # PATH-02
    "/public/../secret",
    "/public/..;/secret",
    "/public/%2e%2e/secret",
    "/public/.%2e/secret",
    "/public/%2E./secret",
    "/..",
    "/.",
    "/a/.",
    "/a/..",
    # PATH-03
    "//secret",
    "/./secret",
    "/secret/.",
    "/secret;x=1",
    "/a//b",
    "/a//",
    # PATH-04
    "/secret%00",
    "/secret%2Fx",
    "/secret%2fx",
    "/secret\\x",
    "/secret%5cx",
    "/secret%5Cx",
    "/secret%252fx",
    "/secret%2573",
    "/secret%3Bx",
    "/secret%3F",
    "/secret%3fx",
    "/a%23b",
    "/a#b",
    "/public/x#/../../secret",
    "/secret%0a",
    "/secret%7f",
    "/public;/../admin",
    "/public%2f..%2fadmin",
    "/public\\..\\admin",
    "/a b",
    "/a\tb",
    "/a\x01",
    "/a\x7f",
]


@pytest.mark.parametrize("path", TWO_READINGS)
def test_PATH_02_03_04_a_path_with_two_readings_says_so(path: str) -> None:
    """What two servers might take for two paths is marked, so that no open rule matches it."""
    reading = read_path(path.encode("latin-1"))
    assert reading is not None
    assert reading.ambiguous


@pytest.mark.parametrize(
    "raw",
    [
        b"/\xff",
        b"/%ff",
        b"/%c0%af",  # an overlong slash
        b"/%c0%ae%c0%ae/",
        b"/\xc0\xaf",
        b"/%ed%a0%80",  # a surrogate
        "/public／..／secret".encode(),  # full-width slashes
        "/public/．．/secret".encode(),  # full-width dots
        "/public/‥/secret".encode(),  # one character, two dots
        "/public＼secret".encode(),
        "/secret；x".encode(),
        "/secret％2e".encode(),
        "/secret？".encode(),
        "/secret＃".encode(),
        b"/%ef%bc%8f..%ef%bc%8fsecret",
    ],
)
def test_PATH_08_what_unicode_may_fold_into_a_mark_has_two_readings(raw: bytes) -> None:
    """Broken UTF-8, overlong forms and compatibility look-alikes of `/ . \\ ; % ? #` are never a plain path."""
    reading = read_path(raw)
    assert reading is not None
    assert reading.ambiguous


@pytest.mark.parametrize(
    ("path", "exact", "folded"),
    [
        ("/", "/", "/"),
        ("/secret", "/secret", "/secret"),
        ("/secret/", "/secret/", "/secret"),
        ("/SECRET", "/SECRET", "/secret"),
        ("/secret.", "/secret.", "/secret"),
        ("/secret%20", "/secret%20", "/secret"),
        ("/secret%20.%20./", "/secret%20.%20./", "/secret"),
        ("/se%63ret", "/secret", "/secret"),
        ("/%73ecret", "/secret", "/secret"),
        ("/%7Euser", "/~user", "/~user"),
        ("/a:b@c", "/a:b@c", "/a:b@c"),
        ("/a.b/..c/d..", "/a.b/..c/d..", "/a.b/..c/d"),
        ("/%C3%89t%c3%a9", "/%C3%89t%C3%A9", "/été"),
        ("/%EF%BD%93ecret", "/%EF%BD%93ecret", "/secret"),
        ("/stra%c3%9fe", "/stra%C3%9Fe", "/strasse"),
    ],
)
def test_PATH_03_04_08_a_plain_path_is_read_for_open_rules_and_for_the_others(
    path: str, exact: str, folded: str
) -> None:
    """Open rules see the bytes, unreserved escapes decoded once; the others see what any application might make of it."""
    reading = read_path(path.encode())
    assert reading is not None
    assert (exact, folded, False) == reading


def test_PATH_08_composed_and_decomposed_accents_are_one_path() -> None:
    """NFC and NFD of the same word fold to the same."""
    composed, decomposed = read_path("/s\u00e9cret".encode()), read_path("/se\u0301cret".encode())
    assert composed is not None
    assert decomposed is not None
    assert composed.folded == decomposed.folded == "/s\u00e9cret"


@pytest.mark.parametrize(
    "raw", [b"", b"secret", b"*", b"/%", b"/%z", b"/%zz", b"/%2", b"/a%", b"/" + b"a" * LONGEST_PATH]
)
def test_PATH_07_a_malformed_path_has_no_reading(raw: bytes) -> None:
    """No leading slash, a broken escape, or more bytes than any proxy takes."""
    assert read_path(raw) is None


def test_the_longest_path_is_still_read() -> None:
    """Exactly LONGEST_PATH bytes is a path."""
    assert 8192 == LONGEST_PATH
    assert read_path(b"/" + b"a" * (LONGEST_PATH - 1)) is not None


@given(st.binary(max_size=60).map(lambda rest: b"/" + rest))
@example(b"/%25%32%65")
def test_whatever_arrives_a_path_is_read_without_an_exception(raw: bytes) -> None:
    """And a path called plain has none of the marks, in any of its two forms."""
    reading = read_path(raw)
    if reading is None or reading.ambiguous:
        return
    for form in (reading.folded, raw.decode("latin-1")):
        assert not {"\\", ";", "\0"} & set(form)
        assert "//" not in form
        assert not {".", ".."} & set(form.split("/"))


@given(st.text(max_size=30).filter(lambda text: text.isprintable()))
def test_folding_again_changes_nothing(text: str) -> None:
    """A fixed point: the form a rule is kept in is the form a path is compared in."""
    assert fold("/" + text) == fold(fold("/" + text))


@given(st.text(string.ascii_letters + string.digits + "-._~", min_size=1, max_size=20), st.integers(min_value=0))
def test_an_unreserved_character_may_be_written_as_an_escape(text: str, chosen: int) -> None:
    """RFC 3986 §6.2.2.2: both spellings are one path for open rules."""
    at = chosen % len(text)
    for case in (str.upper, str.lower):
        spelt = text[:at] + case(f"%{ord(text[at]):02x}") + text[at + 1 :]
        assert exact_form(text) == exact_form(spelt)


def test_PATH_01_an_ordinary_path_is_read_as_with_care() -> None:
    """Every path of up to four of the characters that mean something to somebody, and every byte between two ordinary ones."""
    for length in range(5):
        for letters in product(b"/.aZ9~%2;\\", repeat=length):
            raw = b"/" + bytes(letters)
            assert _read_path_with_care(raw) == read_path(raw), raw
    for byte in range(256):
        for raw in (b"/a%cb", b"/%c", b"/a/%c/b", b"/a%c", b"/%ca", b"/a.%c", b"/%c."):
            assert _read_path_with_care(raw % byte) == read_path(raw % byte), (raw, byte)


@given(st.from_regex(rb"/([A-Za-z0-9._~@:,=+!%;-]{0,6}/?){0,6}", fullmatch=True))
def test_PATH_01_a_longer_ordinary_path_is_read_as_with_care(raw: bytes) -> None:
    """Whatever it is made of."""
    assert _read_path_with_care(raw) == read_path(raw)
