"""Identity -> request headers for the application: which names, which values, in which encoding.

A HeaderPlan is compiled once from the configuration; `render` gives the bytes that the inner door copies into its answer. Every
configured name is in every answer, empty when unknown, so that the proxy overwrites what a client forged (HDR-01).

Refuses: a control character in a value, whatever the claim held (HDR-10); a value that would not fit in the 4 KiB a proxy reads
of an answer's head; to give an identifier in part or changed, since that is another identifier; header names that proxies drop
(underscores), or that mean something to HTTP or to a proxy.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from itertools import product
from typing import Final
from urllib.parse import quote

from forward_auth.identity import Identity, Situation, clean

ENCODINGS: Final = ("percent", "utf8", "rfc2047", "ascii")
VALUES_BYTES: Final = 3500  # all values of one answer, encoded
BLOCK_BYTES: Final = 3900  # the same with their names: nginx reads 4096 bytes of head, status line included

# What may have a name of its own in the configuration, and that name in profile `psc`.
FIELDS: Final[Mapping[str, str]] = {
    "subject": "X-PSC-Subject",
    "rpps": "X-PSC-RPPS",
    "given_name": "X-PSC-Given-Name",
    "family_name": "X-PSC-Family-Name",
    "profession": "X-PSC-Profession",
    "category": "X-PSC-Category",
    "role": "X-PSC-Role",
    "speciality": "X-PSC-Speciality",
    "sector": "X-PSC-Sector",
    "structure": "X-PSC-Structure",
    "structure_name": "X-PSC-Structure-Name",
    "acr": "X-PSC-Acr",
    "auth_mode": "X-PSC-Auth-Mode",
    "auth_time": "X-PSC-Auth-Time",
    "account": "X-PSC-Account",
}

# (header, field) in order. Beside FIELDS: `user` is the linked local account, or the national id where there is none;
# `full_name` «given family»; `groups` codes as «profession:10,sector:SA01»; `email` always empty, PSC gives none, and yet the
# header is sent so that nobody can forge one; `sub`, `issuer` as in the ID token; `sector_oid`, `profession_oid` as PSC writes
# them in top-level claims («SA07^1.2.250.1.71.4.2.4»).
PROFILES: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "psc": tuple((name, field) for field, name in FIELDS.items()),
    # mod_auth_openidc sends every claim as OIDC_CLAIM_<claim>. With dashes they reach CGI, WSGI and servlets under the very same
    # variable (HTTP_OIDC_CLAIM_…), and nginx does not drop them. Claims' names are PSC's.
    "mod_auth_openidc": (
        ("X-Remote-User", "user"),
        ("OIDC-CLAIM-SUBJECTNAMEID", "subject"),
        ("OIDC-CLAIM-PREFERRED-USERNAME", "subject"),  # the same value in everything PSC was seen to send
        ("OIDC-CLAIM-SUB", "sub"),
        ("OIDC-CLAIM-ISS", "issuer"),
        ("OIDC-CLAIM-GIVEN-NAME", "given_name"),
        ("OIDC-CLAIM-FAMILY-NAME", "family_name"),
        ("OIDC-CLAIM-CODEPROFESSION", "profession"),
        ("OIDC-CLAIM-CODECATEGORIEPROFESSIONNELLE", "category"),
        ("OIDC-CLAIM-CODEROLE", "role"),
        ("OIDC-CLAIM-CODESAVOIRFAIRE", "speciality"),
        ("OIDC-CLAIM-CODESECTEURDACTIVITE", "sector"),
        ("OIDC-CLAIM-SUBJECTROLE", "profession_oid"),
        ("OIDC-CLAIM-SECTEUR-ACTIVITE", "sector_oid"),
        ("OIDC-CLAIM-SUBJECTORGANIZATION", "structure_name"),
        ("OIDC-CLAIM-SUBJECTORGANIZATIONID", "structure"),
        ("OIDC-CLAIM-ACR", "acr"),
        ("OIDC-CLAIM-AUTHMODE", "auth_mode"),
        ("OIDC-CLAIM-AUTH-TIME", "auth_time"),
    ),
    "oauth2-proxy": (
        ("X-Auth-Request-User", "subject"),
        ("X-Auth-Request-Email", "email"),
        ("X-Auth-Request-Preferred-Username", "user"),
        ("X-Auth-Request-Groups", "groups"),
        ("X-Forwarded-User", "subject"),
        ("X-Forwarded-Email", "email"),
        ("X-Forwarded-Preferred-Username", "user"),
        ("X-Forwarded-Groups", "groups"),
    ),
    "authelia": (
        ("Remote-User", "user"),
        ("Remote-Name", "full_name"),
        ("Remote-Groups", "groups"),
        ("Remote-Email", "email"),
    ),
}

# When all values together are too long, fields are emptied in this order, whole, until they fit: first what is only shown, then
# what describes, last what identifies (a national id of 255 percent signs under four long names comes to that). `rpps` and
# `auth_time` are short and stay.
EMPTIED_FIRST: Final = (
    "structure_name",
    "full_name",
    "family_name",
    "given_name",
    "groups",
    "profession_oid",
    "sector_oid",
    "issuer",
    "speciality",
    "sector",
    "category",
    "structure",
    "auth_mode",
    "sub",
    "role",
    "profession",
    "acr",
    "account",
    "user",
    "subject",
)

_TEXTS: Final = frozenset(
    {"given_name", "family_name", "full_name", "structure_name"}
)  # may be cut, changed, transliterated
_GROUPS: Final = ("profession", "category", "role", "speciality", "sector", "structure")
_GROUP: Final = re.compile(r"[0-9A-Za-z._/-]+")  # no comma: it would make two groups of one code
_SECTOR_OID: Final = "1.2.250.1.71.4.2.4"
_PROFESSION_OID: Final = "1.2.250.1.213.1.1.5.5"

# Nearly every value: short, and without a character that any encoding would change.
_THE_SAME: Final = re.compile(r"[A-Za-z0-9._~/:@-]{0,512}").fullmatch

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:-[A-Za-z0-9]+)*")
_NAME_CHARACTERS: Final = 64
_NAME_DASHES: Final = 5  # aliases() writes 3^dashes spellings
_RESERVED: Final = re.compile(
    r"(?:accept|access-control|content|if|proxy|sec|x-accel|x-envoy|x-forwarded|x-original)(?:-.*)?"
    r"|age|allow|alt-svc|authorization|cache-control|connection|cookie|date|early-data|etag|expect|expires|forwarded|from|host"
    r"|keep-alive|last-modified|location|max-forwards|origin|pragma|range|referer|retry-after|server|set-cookie|status|te|trailer"
    r"|transfer-encoding|upgrade|user-agent|vary|via|warning|www-authenticate|x-http-method-override|x-real-ip|x-requested-with"
    r"|x-rewrite-url|x-psc-assertion|x-psc-reference",
    re.IGNORECASE,
)


class HeaderPlan:
    """The identity headers of one app. `names` are all of them, in order, each in every answer.

    `own` maps a field of FIELDS to a header name: in profile `psc` it takes the place of that field's name, in the others it is
    added to the profile's. Raises ValueError with a sentence for the operator."""

    __slots__ = ("_budget", "_rows", "encoding", "names", "profile")

    def __init__(self, profile: str = "psc", encoding: str = "percent", own: Mapping[str, str] | None = None) -> None:
        if profile not in PROFILES:
            raise ValueError(f"no header profile is called {profile!r}; there are {', '.join(PROFILES)}")
        if encoding not in ENCODINGS:
            raise ValueError(f"no header encoding is called {encoding!r}; there are {', '.join(ENCODINGS)}")
        self.profile = profile
        self.encoding = encoding
        self._rows = _rows(profile, own or {})
        self.names: tuple[str, ...] = tuple(name for name, _ in self._rows)
        self._budget = min(VALUES_BYTES, BLOCK_BYTES - sum(len(name) + 4 for name in self.names))

    def render(self, identity: Identity | None, situation: Situation | None, account: str = "") -> bytes:
        """The header lines, each ended by CRLF, ready to send. Without identity (an open rule) all are empty, whatever else is
        given. Never raises, and holds no control but those CRLF."""
        return "".join(f"{name}: {value}\r\n" for name, value in self.values(identity, situation, account)).encode()

    def values(
        self, identity: Identity | None, situation: Situation | None, account: str = ""
    ) -> list[tuple[str, str]]:
        """What render() sends: (name, encoded value) in the order of `names`; the envoy dialect and `explain` need the pairs."""
        if identity is None:
            return [(name, "") for name in self.names]
        here = situation or _NOWHERE
        encoded = {}
        for _, field in self._rows:
            value = _VALUES[field](identity, here, account)
            encoded[field] = value if _THE_SAME(value) else self._encoded(field, value)
        pairs = [(name, encoded[field]) for name, field in self._rows]
        if 4 * sum([len(value) for _, value in pairs]) <= self._budget:  # four bytes a character at most: nearly always
            return pairs
        sizes = [(field, len(encoded[field].encode())) for _, field in self._rows]
        total = sum(size for _, size in sizes)
        for field in EMPTIED_FIRST:
            if total <= self._budget:
                break
            total -= sum(size for name, size in sizes if name == field)
            encoded[field] = ""
        return [(name, encoded[field]) for name, field in self._rows]

    def aliases(self) -> tuple[str, ...]:
        """Every spelling of `names` with some dashes replaced by underscores or dots. CGI, WSGI and servlets read them as ours,
        so a proxy that forwards such names must delete them from what clients send (HDR-02, HDR-03, CVE-2025-64484)."""
        found = dict.fromkeys(spelt for name in self.names for spelt in _spellings(name))
        return tuple(spelt for spelt in found if spelt not in self.names)

    def _encoded(self, field: str, value: str) -> str:
        if field == "groups":
            return value  # of safe characters alone, and its commas are meant
        if field not in _TEXTS and not _is_whole(value, self.encoding):
            return ""
        return encode(value, self.encoding)


def encode(value: str, encoding: str) -> str:
    """`value` as it stands in a header, in one of ENCODINGS (decision 31). Controls are dropped and the value is cut at 512 bytes
    of UTF-8 first.

    percent: every byte of the UTF-8 form but `A-Z a-z 0-9 - . _ ~ / : @` is `%XX`.
    utf8: as it is. rfc2047: as it is if it is printable ASCII, else encoded words (RFC 2047 §4.2, Q). A value that looks like an
    encoded word is encoded too, or the application would decode into it what we never checked.
    ascii: accents and invisible marks dropped, ligatures and punctuation written out, `?` for what no ASCII letter resembles.
    The last three lose spaces around the value: HTTP would lose them anyway (RFC 9110 §5.5).

    Raises ValueError for another encoding."""
    text = clean(value)
    match encoding:
        case "percent":
            return quote(text, safe="/:@")
        case "utf8":
            return text.strip(" ")
        case "rfc2047":
            return text.strip(" ") if text.isascii() and "=?" not in text else _encoded_words(text)
        case "ascii":
            return _transliterated(text).strip(" ")
    raise ValueError(f"no header encoding is called {encoding!r}; there are {', '.join(ENCODINGS)}")


def check_own_name(field: str, name: str) -> None:
    """Raises ValueError, with a sentence for the operator, unless `field` may have a name of its own and `name` can be it."""
    if field not in FIELDS:
        raise ValueError(f"no header field is called {field!r}; there are {', '.join(FIELDS)}")
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} cannot be a header name: use letters, digits and single dashes, beginning with a letter "
            "(nginx drops names with an underscore)"
        )
    if len(name) > _NAME_CHARACTERS or name.count("-") > _NAME_DASHES:
        raise ValueError(f"{name!r} is too long: at most {_NAME_CHARACTERS} characters and {_NAME_DASHES} dashes")
    if _RESERVED.fullmatch(name):
        raise ValueError(f"{name!r} means something to HTTP, to proxies or to us: choose another name, such as X-User")


# -- compiling ---------------------------------------------------------------------------------------------------------


def _rows(profile: str, own: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """(header, field), checked: no two names differ by case alone."""
    for field, name in own.items():
        check_own_name(field, name)
    if profile == "psc":
        rows = tuple((own.get(field, name), field) for name, field in PROFILES[profile])
    else:
        rows = PROFILES[profile] + tuple((own[field], field) for field in FIELDS if field in own)
    seen: dict[str, str] = {}
    for name, field in rows:
        if other := seen.get(name.lower()):
            raise ValueError(f"two headers would be called {name}: {other} and {field}; give one of them another name")
        seen[name.lower()] = field
    return rows


def _spellings(name: str) -> Iterable[str]:
    first, *others = name.split("-")
    for marks in product("-_.", repeat=len(others)):
        yield first + "".join(mark + word for mark, word in zip(marks, others, strict=True))


# -- values ------------------------------------------------------------------------------------------------------------

_NOWHERE: Final = Situation()


def _given_name(identity: Identity, situation: Situation) -> str:
    return situation.given_name or identity.given_name


def _family_name(identity: Identity, situation: Situation) -> str:
    return situation.family_name or identity.family_name


def _groups(situation: Situation) -> str:
    """«profession:10,sector:SA01» of the chosen situation, in the order of _GROUPS; a code that is no plain word is left out."""
    codes = ((field, getattr(situation, field)) for field in _GROUPS)
    return ",".join(f"{field}:{code}" for field, code in codes if _GROUP.fullmatch(code))


def _with_oid(code: str, oid: str) -> str:
    return f"{code}^{oid}" if code else ""


_VALUES: Final[Mapping[str, Callable[[Identity, Situation, str], str]]] = {
    "subject": lambda identity, _, __: identity.subject,
    "rpps": lambda identity, _, __: identity.rpps,
    "given_name": lambda identity, situation, _: _given_name(identity, situation),
    "family_name": lambda identity, situation, _: _family_name(identity, situation),
    "profession": lambda _, situation, __: situation.profession,
    "category": lambda _, situation, __: situation.category,
    "role": lambda _, situation, __: situation.role,
    "speciality": lambda _, situation, __: situation.speciality,
    "sector": lambda _, situation, __: situation.sector,
    "structure": lambda _, situation, __: situation.structure,
    "structure_name": lambda _, situation, __: situation.structure_name,
    "acr": lambda identity, _, __: identity.acr,
    "auth_mode": lambda identity, _, __: identity.auth_mode,
    "auth_time": lambda identity, _, __: str(identity.auth_time) if identity.auth_time > 0 else "",
    "account": lambda _, __, account: account,
    "user": lambda identity, _, account: account or identity.subject,
    "full_name": lambda identity, situation, _: (
        f"{_given_name(identity, situation)} {_family_name(identity, situation)}".strip(" ")
    ),
    "groups": lambda _, situation, __: _groups(situation),
    "email": lambda _, __, ___: "",
    "sub": lambda identity, _, __: identity.sub,
    "issuer": lambda identity, _, __: identity.issuer,
    "sector_oid": lambda _, situation, __: _with_oid(situation.sector, _SECTOR_OID),
    "profession_oid": lambda _, situation, __: _with_oid(situation.profession, _PROFESSION_OID),
}

# -- encodings ---------------------------------------------------------------------------------------------------------

_WORD_ROOM: Final = 75 - len("=?UTF-8?Q??=")  # RFC 2047 §2: an encoded word has at most 75 characters
_Q_SAFE: Final = frozenset(
    b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!*+-/"
)  # §5 (3), the strictest

# What NFKD does not take apart. A name must stay pronounceable, not round-trip.
_ASCII: Final = str.maketrans(
    {
        "Æ": "AE", "æ": "ae", "Œ": "OE", "œ": "oe", "ß": "ss", "ẞ": "SS", "Ø": "O", "ø": "o", "Ł": "L", "ł": "l",
        "Đ": "D", "đ": "d", "Ð": "D", "ð": "d", "Þ": "Th", "þ": "th", "Ħ": "H", "ħ": "h", "ı": "i", "ĸ": "k",
        "Ŋ": "N", "ŋ": "n", "Ŧ": "T", "ŧ": "t", "‘": "'", "’": "'", "‚": "'", "ʼ": "'", "′": "'", "“": '"', "”": '"',
        "„": '"', "«": '"', "»": '"', "‐": "-", "‑": "-", "‒": "-", "–": "-", "—": "-", "−": "-", "×": "x", "€": "EUR",
    }
)  # fmt: skip


def _is_whole(value: str, encoding: str) -> bool:
    """Whether an identifier arrives as exactly itself: without cutting, dropping, or transliterating «hélène» to the «helene» who
    is somebody else. One that does not is not sent."""
    return clean(value) == value.strip(" ") == value and (encoding != "ascii" or value.isascii())


def _encoded_words(text: str) -> str:
    """RFC 2047 Q encoding; words are split between characters, and the space between two words is not part of the text."""
    words = [""]
    for character in text:
        piece = "".join(_q(byte) for byte in character.encode())
        if len(words[-1]) + len(piece) > _WORD_ROOM:
            words.append("")
        words[-1] += piece
    return " ".join(f"=?UTF-8?Q?{word}?=" for word in words)


def _q(byte: int) -> str:
    if byte in _Q_SAFE:
        return chr(byte)
    return "_" if byte == 0x20 else f"={byte:02X}"


def _transliterated(text: str) -> str:
    bare = unicodedata.normalize("NFKD", text.translate(_ASCII)).translate(_ASCII)
    # Accents (M) and invisible marks (Cf: joiners, directions) leave no trace.
    return "".join(c if c.isascii() else "?" for c in bare if c.isascii() or unicodedata.category(c)[0] not in "MC")
