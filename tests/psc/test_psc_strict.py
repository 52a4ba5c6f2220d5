"""Strict reading of JSON and base64url: one spelling, bounded, nothing beyond the specifications (threats IDP-03)."""

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forward_auth.errors import PSCAnswerRefused
from forward_auth.psc.strict import decode_base64url, encode_base64url, parse_json, parse_object

LIMIT = 1024 * 1024


def code(body: bytes, limit: int = LIMIT, depth: int = 32) -> str:
    """The code with which a body is refused."""
    with pytest.raises(PSCAnswerRefused) as caught:
        parse_json(body, limit, depth)
    return caught.value.code


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{}", {}),
        (b' [1, 2.5, "a", null, true] ', [1, 2.5, "a", None, True]),
        ('{"nom":"Hélène"}'.encode(), {"nom": "Hélène"}),
        (b'{"a":"\\u00e9\\ud83d\\ude00"}', {"a": "é😀"}),
        (b'"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["', "[" * 38),
        (b'{"a":"\\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["}', {"a": '"' + "[" * 36}),
        (b"[" * 32 + b"]" * 32, eval("[" * 32 + "]" * 32)),
        (b"[" + b"[]," * 1000 + b"[]]", [[]] * 1001),
    ],
)
def test_what_json_is(body: bytes, expected: object) -> None:
    """Honest JSON is read as json reads it; brackets in texts and neighbours do not count as depth."""
    assert expected == parse_json(body, LIMIT)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"a":1,"a":1}', "duplicate_member"),
        (b'{"x":{"a":1,"b":2,"a":3}}', "duplicate_member"),
        (b'{"a":1,"\\u0061":2}', "duplicate_member"),
        (b'{"":1,"":2}', "duplicate_member"),
        (b"NaN", "malformed_json"),
        (b'{"a":-Infinity}', "malformed_json"),
        (b"1e999", "malformed_json"),
        (b"-1e999", "malformed_json"),
        (b"9" * 5000, "malformed_json"),
        (b"\xef\xbb\xbf{}", "malformed_json"),
        ("{}".encode("utf-16"), "malformed_json"),
        ("é".encode("latin-1"), "malformed_json"),
        (b'"\xed\xa0\x80"', "malformed_json"),
        (b'"\\ud800"', "malformed_json"),
        (b'{"\\udfff":1}', "malformed_json"),
        (b"", "malformed_json"),
        (b"{}{}", "malformed_json"),
        (b"<html></html>", "malformed_json"),
        (b'{"a":"\n"}', "malformed_json"),
        (b"[" * 33 + b"]" * 33, "malformed_json"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "malformed_json"),
        (b"[" * 100_000, "malformed_json"),
        (b"]" * 10, "malformed_json"),
        (b'"' + b'\\"' * 400_000, "malformed_json"),
        (b" " * (LIMIT + 1), "too_large"),
    ],
)
def test_IDP_03_what_json_is_not(body: bytes, expected: str) -> None:
    """Doubled members, other numbers, other encodings, depth and size are refused, and nothing of it takes long."""
    assert expected == code(body)


def test_IDP_03_limits_are_the_callers() -> None:
    """Size is counted in bytes, depth in opening brackets."""
    assert "too_large" == code(b'"\xc3\xa9"', limit=3)
    assert "é" == parse_json('"é"'.encode(), limit=4)
    assert "malformed_json" == code(b"[[]]", depth=1)
    assert "malformed_json" == code(b"[]", depth=0)
    assert 1 == parse_json(b"1", LIMIT, 0)


@pytest.mark.parametrize("name", ["acr", "http://schemas.openid.net/x", "a" * 64])
def test_a_doubled_member_is_named(name: str) -> None:
    """Whoever reads the log learns which member it was (decision 40)."""
    with pytest.raises(PSCAnswerRefused, match=f"member {name} "):
        parse_json(f'{{"{name}":1,"{name}":2}}'.encode(), LIMIT)


@pytest.mark.parametrize("name", ["a" * 65, "l\\nog", "é", "a b"])
def test_a_doubled_member_with_a_strange_name_is_not_quoted(name: str) -> None:
    """The name was written by somebody else: only a plain and short one goes into the log."""
    with pytest.raises(PSCAnswerRefused, match="unprintable"):
        parse_json(f'{{"{name}":1,"{name}":2}}'.encode(), LIMIT)


@pytest.mark.parametrize("body", [b"[]", b'"a"', b"1", b"null", b"true"])
def test_an_object_is_wanted(body: bytes) -> None:
    """parse_object takes objects only."""
    with pytest.raises(PSCAnswerRefused, match="not an object"):
        parse_object(body, LIMIT)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60) | st.text(alphabet='{}[]",:\\u0a1e.-NIntrufalse ', max_size=40).map(str.encode))
def test_any_bytes(body: bytes) -> None:
    """Any bytes: the value that json gives for their UTF-8, or a refusal; no other exception."""
    try:
        value = parse_json(body, LIMIT)
    except PSCAnswerRefused:
        return
    assert json.loads(body.decode()) == value


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_any_json(value: object) -> None:
    """Whatever json writes is read back equal, escaped or not."""
    assert value == parse_json(json.dumps(value).encode(), LIMIT, 64)
    assert value == parse_json(json.dumps(value, ensure_ascii=False).encode(), LIMIT, 64)


@given(st.binary(max_size=80))
def test_base64url_there_and_back(data: bytes) -> None:
    """Bytes survive, and the text is what base64 makes without padding."""
    text = encode_base64url(data)
    assert base64.urlsafe_b64encode(data).decode().rstrip("=") == text
    assert data == decode_base64url(text)


@given(
    st.text(alphabet="ABYZabyz0189-_", min_size=1, max_size=12),
    st.sampled_from(["=", "==", " ", "\n", "+", "/", "é", "%"]),
)
def test_base64url_has_one_spelling(text: str, stranger: str) -> None:
    """No padding, no white space, no other alphabet, no unused bits: two texts never mean the same bytes."""
    for spelt in (text + stranger, stranger + text):
        with pytest.raises(ValueError, match="not base64url"):
            decode_base64url(spelt)
    try:
        data = decode_base64url(text)
    except ValueError:
        return
    assert text == encode_base64url(data)
