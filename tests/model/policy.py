"""A second account of the policy, for the tests: who passes, written from the contract and the decisions alone.

Contract §3 (rules in order, first match by path and method, nothing matches: refused) and decisions 8 (paths), 9 (situations) and
13 (sign-in or refusal), 35 (what is the outer door's). It imports nothing of forward_auth, shares no code with it and is as plain as it can be: rules and people
are dicts, as in a TOML file; everything is worked out anew for each question. Where decision 8 lists marks of the raw form
only, this model also takes those that appear when escapes are decoded once and compatibility forms folded (PATH-08).
"""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

HEX = "0123456789abcdefABCDEF"
UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
PREFIX = "/psc"
ONE_SITUATION = ("profession", "category", "role", "speciality", "sector", "mode")

Rule = Mapping[str, Any]  # paths, methods (absent: all), open or require
Person = Mapping[str, Any]  # national_id, auth_mode, acr, auth_time, situations: a list of dicts with `structures`


def without_rules(acr_values: Sequence[str] = ("eidas1",)) -> list[Rule]:
    """What an app without rules asks for; the levels are those PSC is asked for (config/example.toml)."""
    return [{"paths": ["/*"], "require": {"acr": acr_values}}]


def decide(rules: Sequence[Rule], person: Person | None, method: bytes, path: bytes, now: int) -> tuple[Any, ...]:
    """-> ("open",) | ("allow", index of the situation or None) | ("sign in",) | ("refuse", number of the rule, 0 for none).

    person None: nobody has signed in.
    """
    if not well_formed(path) or not 1 <= len(method) <= 32 or not set(method) <= TOKEN:
        return ("refuse", 0)
    if misrouted(path):
        return ("refuse", 0)
    numbered = [
        (number, rule)
        for number, rule in enumerate(rules, 1)
        if "methods" not in rule or method.decode() in rule["methods"]
    ]
    if ambiguous(path):
        judges = [(number, rule) for number, rule in numbered if not rule.get("open")]
    else:
        judges = [(number, rule) for number, rule in numbered if any(matches(rule, p, path) for p in rule["paths"])][:1]
    if not judges:
        return ("refuse", 0)
    if judges[0][1].get("open"):
        return ("open",)
    if person is None:
        return ("sign in",)
    answer: tuple[Any, ...] = ()
    for number, rule in judges:
        answer = judge(rule["require"], person, number, now)
        if answer[0] != "allow":
            break
    return answer


# -- paths (decision 8) ------------------------------------------------------------------------------------------------


def well_formed(path: bytes) -> bool:
    """Begins with a slash, at most 8 KiB, and each % begins an escape."""
    text = path.decode("latin-1")
    return (
        text.startswith("/")
        and len(text) <= 8192
        and all(len(after) >= 2 and after[0] in HEX and after[1] in HEX for after in text.split("%")[1:])
    )


def pieces(path: bytes) -> Iterator[tuple[bytes, int]]:
    """(as written, the byte it means) for each character or escape."""
    at = 0
    while at < len(path):
        if path[at] == ord("%"):
            yield path[at : at + 3], int(path[at + 1 : at + 3], 16)
            at += 3
        else:
            yield path[at : at + 1], path[at]
            at += 1


@lru_cache(4096)
def meant(path: bytes) -> str:
    """Every escape decoded once. Raises UnicodeDecodeError."""
    return bytes(byte for _, byte in pieces(path)).decode("utf-8", "strict")


def marked(text: str) -> bool:
    """Some server may see a separator, a parameter, or another directory here."""
    return (
        any(character in "\\;#?" or ord(character) < 0x20 or ord(character) == 0x7F for character in text)
        or "//" in text
        or any(segment in (".", "..") for segment in text.split("/"))
    )


@lru_cache(4096)
def ambiguous(path: bytes) -> bool:
    written = [one.lower() for one, _ in pieces(path)]
    if any(one in (b"%2f", b"%5c", b"%00", b"%25", b"%2e", b" ") for one in written):
        return True
    try:
        folded = unicodedata.normalize("NFKC", meant(path))
    except UnicodeDecodeError:
        return True
    return marked(path.decode("latin-1")) or marked(folded) or "%" in folded


@lru_cache(4096)
def exact(path: bytes) -> bytes:
    """Unreserved escapes decoded once; hexadecimal digits of the others in one case."""
    return b"".join(
        one if len(one) == 1 else bytes([byte]) if byte in UNRESERVED else one.upper() for one, byte in pieces(path)
    )


@lru_cache(4096)
def loose(text: str) -> str:
    """As any application may compare it: no case, no compatibility forms, nothing that hangs on at the end."""
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    while text and text[-1] in "/. ":
        text = text[:-1]
    return text or "/"


def misrouted(path: bytes) -> bool:
    """Below the outer door's prefix, for whichever application: the proxy should not have asked."""
    raw = bytes(byte for _, byte in pieces(path))
    try:
        seen = loose(raw.decode())
    except UnicodeDecodeError:
        seen = loose(raw.decode("latin-1"))
    return seen == PREFIX or seen.startswith(PREFIX + "/")


def matches(rule: Rule, pattern: str, path: bytes) -> bool:
    below = pattern.endswith("/*")
    if rule.get("open"):
        # A browser sends what is not ASCII as escapes of its UTF-8.
        wanted = "".join(c if c.isascii() else "".join(f"%{b:02X}" for b in c.encode()) for c in pattern).encode()
        seen = exact(path)
        return seen.startswith(exact(wanted[:-1])) if below else seen == exact(wanted)
    seen_loosely = loose(meant(path))
    if not below:
        return seen_loosely == loose(meant(pattern.encode()))
    above = loose(meant(pattern[:-2].encode())) if pattern != "/*" else ""
    return seen_loosely == (above or "/") or seen_loosely.startswith(above + "/")


# -- people (decisions 9 and 13) ---------------------------------------------------------------------------------------


def judge(require: Mapping[str, Any], person: Person, number: int, now: int) -> tuple[Any, ...]:
    situations = person["situations"]
    for index, situation in enumerate(situations or [{}]):
        if holds(require, situation, person, now, None):
            return ("allow", index if situations else None)
    for level in {person["acr"], *levels(require)}:
        if any(holds(require, situation, person, now, level) for situation in situations or [{}]):
            return ("sign in",)
    return ("refuse", number)


def levels(require: Mapping[str, Any]) -> set[str]:
    """Every acr that some table of it asks for."""
    inner = [*require.get("all", ()), *require.get("any", ())]
    return {*require.get("acr", ()), *(level for each in inner for level in levels(each))}


def holds(
    require: Mapping[str, Any], situation: Mapping[str, Any], person: Person, now: int, fresh: str | None
) -> bool:
    """Every key of one table. `fresh`: as if the person had just authenticated, with that acr."""

    def one(key: str, wanted: Any) -> bool:
        if key in ONE_SITUATION:
            return situation.get(key, "") in wanted
        if key == "structure":
            return bool(set(situation.get("structures", ())) & set(wanted))
        if key in ("national_id", "national_id_file"):
            return person["national_id"] in wanted
        if key == "auth_mode":
            return person["auth_mode"] in wanted
        if key == "acr":
            return (person["acr"] if fresh is None else fresh) in wanted
        if key == "max_age":
            return fresh is not None or now - person["auth_time"] <= wanted
        if key == "account":
            return False  # decision 23
        if key == "all":
            return all(holds(each, situation, person, now, fresh) for each in wanted)
        if key == "any":
            return any(holds(each, situation, person, now, fresh) for each in wanted)
        assert key == "not", key
        return not any(holds(wanted, other, person, now, None) for other in person["situations"] or [{}])

    return all(one(key, wanted) for key, wanted in require.items())
