"""Strict reading of what comes from PSC or in its name: JSON and base64url, bounded, each value with one spelling.

Refuses: duplicate members (the old PSC access tokens had `acr` twice; which one wins depends on the reader), NaN and Infinity,
numbers that overflow to infinity, a byte order mark, anything but UTF-8, lone surrogates, nesting beyond the limit (counted
before any recursion), bytes beyond the limit (counted before any decoding), padded or loose base64url (CVE-2026-102269).
"""

import base64
import json
import math
import re
from typing import Final, NoReturn

from forward_auth.errors import PSCAnswerRefused

DEPTH: Final = 32
"""Deepest nesting read by default. PSC's userinfo has 6 levels."""

# A whole JSON string, or the rest of the text when its end is missing. The optional closing quote keeps the scan linear: without it
# a text of "\"\"\"… would be scanned again from each quote.
_STRINGS: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_OPENING: Final = frozenset(b"[{")
_NOT_BRACKETS: Final = bytes(sorted(set(range(256)) - set(b"[]{}")))
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]*")
_PRINTABLE_NAME: Final = re.compile(r"[A-Za-z0-9_.:/-]{1,64}")


def parse_json(body: bytes, limit: int, depth: int = DEPTH) -> object:
    """The JSON value of `body` (RFC 8259, and RFC 7493 in that names are unique).

    `limit` is in bytes. Raises PSCAnswerRefused: `too_large`, `duplicate_member` (the detail names the member), `malformed_json`.
    """
    if len(body) > limit:
        raise PSCAnswerRefused("too_large", f"JSON of more than {limit} bytes")
    _check_depth(body, depth)
    try:
        value: object = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_unique_members,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
        if _SURROGATE.search(body):
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeError:
        raise PSCAnswerRefused("malformed_json", "not UTF-8, or a lone surrogate") from None
    except ValueError:
        raise PSCAnswerRefused("malformed_json", "not JSON") from None
    return value


def parse_object(body: bytes, limit: int, depth: int = DEPTH) -> dict[str, object]:
    """As parse_json; anything but an object is `malformed_json`."""
    value = parse_json(body, limit, depth)
    if not isinstance(value, dict):
        raise PSCAnswerRefused("malformed_json", "JSON, but not an object")
    return value


def decode_base64url(text: str) -> bytes:
    """The bytes of unpadded base64url (RFC 7515 §2), in their only spelling. Raises ValueError otherwise."""
    if not _BASE64URL.fullmatch(text) or len(text) % 4 == 1:
        raise ValueError("not base64url")
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    # The last character may carry bits that no byte uses: two texts for the same bytes. Only the canonical one is read.
    if encode_base64url(data) != text:
        raise ValueError("not canonical base64url")
    return data


def encode_base64url(data: bytes) -> str:
    """Base64url without padding (RFC 7515 §2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _check_depth(body: bytes, depth: int) -> None:
    brackets = _STRINGS.sub(b"", body).translate(None, delete=_NOT_BRACKETS)
    open_now = 0
    for bracket in brackets:
        if bracket in _OPENING:
            open_now += 1
            if open_now > depth:
                raise PSCAnswerRefused("malformed_json", f"JSON nested deeper than {depth}")
        else:
            open_now -= 1


def _unique_members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                named = name if _PRINTABLE_NAME.fullmatch(name) else "(unprintable)"
                raise PSCAnswerRefused("duplicate_member", f"member {named} appears twice")
            seen.add(name)
    return members


def _no_constant(name: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number beyond what a float can hold")
    return value
