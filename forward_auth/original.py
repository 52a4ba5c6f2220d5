"""The request being judged, and the strict reading of its scheme, host and path.

For: turning what a proxy tells us about an original request into facts that cannot mean two things. Refuses: to repair.
A scheme, host or target that is missing, doubled, a list, or not exactly of its grammar has no reading, and what has no
reading is refused by the gate. The one lenient rule is on purpose: a path that *could* be read in two ways (`..`, `//`,
`%2f` …) keeps its raw bytes and is marked ambiguous; open rules never match it (contract: decisions on path matching).

Sources: RFC 3986 §2–3, RFC 9110 §4.2 and §7.2; CVE-2021-32637, CVE-2025-54576, CVE-2026-26205, CVE-2026-41059, CVE-2026-48794.
"""

import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

LONGEST_PATH: Final = (
    8192  # what nginx takes by default for a whole header line; a longer path is an attack or an accident
)
DEFAULT_PORTS: Final[Mapping[str, int]] = {"http": 80, "https": 443}

_SCHEMES: Final[Mapping[bytes, str]] = {b"http": "http", b"https": "https", b"ws": "http", b"wss": "https"}
_LONGEST_AUTHORITY: Final = 261  # 255 for a name, a colon, five digits
_HOST: Final = re.compile(
    r"(?:(?P<name>[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)\.?|(?P<v6>\[[0-9a-f:.]+\]))(?::(?P<port>[0-9]{1,5}))?"
)
_METHOD: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}")


class Original(NamedTuple):
    """One original request. A NamedTuple and not a dataclass: one is made per check, and a tuple is made five times faster.

    origin: canonical `scheme://host[:port]`, default port removed; method, path, query: raw bytes as the proxy gave them (query
    None when there is no `?`; of a `#` see `read_target`); client: address as told by the proxy, for the log only; headers: what the
    dialect passes on about the browser (lower-case names), for telling a navigation from an API call.
    """

    origin: str
    method: bytes
    path: bytes
    query: bytes | None
    client: bytes
    headers: Mapping[bytes, bytes]

    @property
    def target(self) -> bytes:
        """Path and query, as the browser sent them; where it may come back to, so without a fragment."""
        path = self.path.partition(b"#")[0]
        return path if self.query is None else path + b"?" + self.query

    @property
    def url(self) -> str:
        """The absolute address, raw bytes shown as latin-1."""
        return self.origin + self.target.decode("latin-1")


def read_origin(scheme: bytes, authority: bytes) -> str | None:
    """`https` and `APP.example.org.:443` -> `https://app.example.org`; None when it has no single reading.

    ws and wss count as http and https (proxies differ on it). The answer is a key for an exact look-up, nothing more.
    """
    if len(scheme) > 5 or len(authority) > _LONGEST_AUTHORITY:  # before it becomes the key of a cache
        return None
    return _read_origin(scheme, authority)


@lru_cache(maxsize=4096)
def _read_origin(scheme: bytes, authority: bytes) -> str | None:
    plain = _SCHEMES.get(scheme.lower())
    if plain is None:
        return None
    canonical = read_authority(authority, plain)
    return None if canonical is None else f"{plain}://{canonical}"


def read_authority(authority: bytes, scheme: str) -> str | None:
    """`Host[:port]` in canonical form: lower case, no trailing dot, no default port; None when it is not exactly that."""
    if not authority or len(authority) > _LONGEST_AUTHORITY:
        return None
    try:
        text = authority.decode("ascii").lower()
    except UnicodeDecodeError:
        return None
    found = _HOST.fullmatch(text)
    if found is None:
        return None
    host = found["name"] or found["v6"]
    if ".." in host:
        return None
    if found["port"] is None:
        return host
    port = int(found["port"])
    if not 1 <= port <= 65535:
        return None
    return host if port == DEFAULT_PORTS[scheme] else f"{host}:{port}"


def read_method(method: bytes) -> bytes | None:
    """A method is a token of at most 32 bytes (RFC 9110 §9.1), case-sensitive; None otherwise."""
    return method if _METHOD.fullmatch(method) else None


def read_target(target: bytes) -> tuple[bytes, bytes | None] | None:
    """Raw path and query of a request-target; None when it is not origin-form or absolute-form.

    Of absolute-form only the path is taken: the host was told in its own header. `//evil/x` is a path, never an authority. No browser
    sends a `#`, and nginx hands it on: behind the query it changes no path and is cut; in the path it stays, for an application may go on reading
    where another stops (`/public/x#/../../secret`), and `read_path` says so.
    """
    if not target.startswith(b"/"):
        target = _path_of_absolute(target)
        if not target:
            return None
    path, mark, query = target.partition(b"?")
    return path, (query.partition(b"#")[0] if mark and b"#" not in path else None)


def _path_of_absolute(target: bytes) -> bytes:
    found = re.match(rb"[Hh][Tt][Tt][Pp][Ss]?://[^/?#]+(?P<rest>[/?#].*)?\Z", target, re.DOTALL)
    if found is None:
        return b""
    rest = found["rest"] or b"/"
    return rest if rest.startswith(b"/") else b"/" + rest


class Path(NamedTuple):
    """A path in its two readings. `exact`: unreserved escapes decoded once, for open rules, byte for byte. `folded`: as any
    application might read it, case and trailing marks gone, for every other rule. `ambiguous`: two servers might disagree."""

    exact: str
    folded: str
    ambiguous: bool


_ORDINARY: Final = re.compile(rb"(?:/[A-Za-z0-9_~@:,=+!-][A-Za-z0-9_.~@:,=+!-]*)*/?").fullmatch
_UNRESERVED_ESCAPE: Final = re.compile(r"%(2[dD]|2[eE]|3[0-9]|4[1-9a-fA-F]|5[0-9aA]|5[fF]|6[1-9a-fA-F]|7[0-9aA]|7[eE])")
_ESCAPE: Final = re.compile(r"%[0-9A-Fa-f]{2}")
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_TWO_READINGS: Final = re.compile(r"%(?:2[fF]|5[cC]|00|25|2[eE])|[\\;\x00-\x20\x7f]|//|(?:^|/)\.{1,2}(?:/|$)")
_TWO_READINGS_DECODED: Final = re.compile(r"[\\;%?#\x00-\x1f\x7f]|//|(?:^|/)\.{1,2}(?:/|$)")


def read_path(raw: bytes) -> Path | None:
    """The readings of a raw path; None when it is malformed (`%zz`, no leading slash, longer than LONGEST_PATH).

    Escapes in `exact` are upper case except the unreserved ones, which are decoded (RFC 3986 §6.2.2): `/%7euser` is `/~user`.
    """
    if not raw.startswith(b"/") or len(raw) > LONGEST_PATH:
        return None
    if _ORDINARY(raw):  # nearly every path: care would change nothing of it but the case
        text = raw.decode("ascii")
        return Path(text, text.lower().rstrip("/.") or "/", ambiguous=False)
    return _read_path_with_care(raw)


def _read_path_with_care(raw: bytes) -> Path | None:
    text = raw.decode("latin-1")
    if _BAD_ESCAPE.search(text):
        return None
    ambiguous = bool(_TWO_READINGS.search(text))
    try:
        unescaped = unquote_to_bytes(raw).decode("utf-8")
    except UnicodeDecodeError:
        ambiguous = True
        unescaped = unquote_to_bytes(raw).decode("latin-1")
    # NFKC, so that a full-width letter or a composed accent is judged as what an application may fold it to.
    plain = unicodedata.normalize("NFKC", unescaped)
    ambiguous = ambiguous or bool(_TWO_READINGS_DECODED.search(plain))
    return Path(exact_form(text), fold(plain), ambiguous)


def exact_form(text: str) -> str:
    """The form in which open rules are compared: unreserved escapes decoded once, the other escapes upper case."""
    return _ESCAPE.sub(lambda escape: escape[0].upper(), _UNRESERVED_ESCAPE.sub(_decoded, text))


def fold(path: str) -> str:
    """The form in which rules that protect are compared: NFKC, case-folded, without trailing `/`, `.` and space."""
    folded = unicodedata.normalize("NFKC", path).casefold().rstrip("/. ")
    return folded or "/"


def _decoded(escape: re.Match[str]) -> str:
    return chr(int(escape[1], 16))
