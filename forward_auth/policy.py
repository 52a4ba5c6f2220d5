"""Apps and rules, compiled once: which rule judges a request, and whether a professional passes it.

For: `App.find(method, path)` and `judge(require, identity, now)`, both pure. Refuses: by default. An app without a matching rule,
an empty list, an unknown code, a profession held in one situation and a structure in another: no.

Reading of paths (decisions on path matching). Rules are read in order and the first whose path and method fit decides. An
open rule fits only the exact bytes; any other rule fits whatever an application might take for its path. A path with two readings
fits no open rule, and every other rule whose method fits must allow.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple
from urllib.parse import quote

from forward_auth.identity import Identity, Situation
from forward_auth.original import exact_form, fold, read_method, read_path

FOREVER: Final = 1 << 62
_REMEMBERED_PATHS: Final = 4096  # per app; the whole memory of one app's paths stays below 4 MiB


@dataclass(frozen=True, slots=True)
class Require:
    """What a professional must be to pass. All keys given must hold; an empty tuple means the key is absent."""

    profession: tuple[str, ...] = ()
    category: tuple[str, ...] = ()
    role: tuple[str, ...] = ()
    speciality: tuple[str, ...] = ()
    sector: tuple[str, ...] = ()
    structure: tuple[str, ...] = ()
    mode: tuple[str, ...] = ()
    national_id: tuple[str, ...] = ()
    national_ids: frozenset[str] | None = None  # from national_id_file
    auth_mode: tuple[str, ...] = ()
    acr: tuple[str, ...] = ()
    max_age: int | None = None  # seconds since the authentication at PSC
    account: bool | None = None
    all: "tuple[Require, ...] | None" = None
    any: "tuple[Require, ...] | None" = None
    not_: "Require | None" = None


class Verdict(NamedTuple):
    """Whether a require held. `situation`: the one that made it hold; `until`: Unix time at which the answer may change because a
    max_age runs out; when it did not hold, `acr`/`max_age` say what a fresh authentication would have to bring, and `step_up`
    whether that alone would make it hold."""

    held: bool
    situation: Situation | None
    until: int
    step_up: bool = False
    acr: tuple[str, ...] = ()
    max_age: int | None = None


_NOBODY: Final = Situation()
_SITUATION_KEYS: Final = ("profession", "category", "role", "speciality", "sector", "mode")


def judge(require: Require, identity: Identity, now: int) -> Verdict:
    """Does this professional satisfy `require` at `now`? Pure; sees the identity and nothing else.

    All situation keys of one table must hold in one and the same situation (law). The first situation that satisfies is the one
    the application hears of. A professional without any situation is judged as one whose codes are all empty.
    """
    situations = identity.situations or (_NOBODY,)
    until = _first_expiry(require, identity, now)
    for situation in situations:
        if _holds(require, situation, identity, now):
            return Verdict(True, situation if identity.situations else None, until)
    for situation in situations:
        mended = _mended(require, situation, identity, now)
        if mended is not None:
            return Verdict(False, None, until, True, *mended)
    return Verdict(False, None, until)


def _holds(
    require: Require,
    situation: Situation,
    identity: Identity,
    now: int,
    acr: str | None = None,
    age: int | None = None,
) -> bool:
    """One table on one situation. `acr`, `age`: as if the person had authenticated at that level, that many seconds ago."""
    for key in _SITUATION_KEYS:
        wanted: tuple[str, ...] = getattr(require, key)
        if wanted and getattr(situation, key) not in wanted:
            return False
    if require.structure and not any(name in require.structure for name in situation.structures):
        return False
    if require.national_id and identity.subject not in require.national_id:
        return False
    if require.national_ids is not None and identity.subject not in require.national_ids:
        return False
    if require.auth_mode and identity.auth_mode not in require.auth_mode:
        return False
    if require.account is not None:  # no linked accounts in this version: never met, whichever way it is asked
        return False
    if require.acr and (identity.acr if acr is None else acr) not in require.acr:
        return False
    if require.max_age is not None and (now - identity.auth_time if age is None else age) > require.max_age:
        return False
    if require.all is not None and not all(_holds(each, situation, identity, now, acr, age) for each in require.all):
        return False
    if require.any is not None and not any(_holds(each, situation, identity, now, acr, age) for each in require.any):
        return False
    if require.not_ is not None:
        # «not» speaks of the person: it holds only if no situation satisfies the table. Never under an assumption.
        for other in identity.situations or (_NOBODY,):
            if _holds(require.not_, other, identity, now):
                return False
    return True


def _tables(require: Require) -> Iterator[Require]:
    yield require
    for inner in (*(require.all or ()), *(require.any or ()), *((require.not_,) if require.not_ else ())):
        yield from _tables(inner)


def _first_expiry(require: Require, identity: Identity, now: int) -> int:
    """The first instant at which a max_age met now runs out; FOREVER when there is none. Every table counts, used or not: too
    early is only one more judgement, too late would be a wrong allow."""
    ends = (identity.auth_time + each.max_age + 1 for each in _tables(require) if each.max_age is not None)
    return min((end for end in ends if end > now), default=FOREVER)


def _mended(
    require: Require, situation: Situation, identity: Identity, now: int
) -> tuple[tuple[str, ...], int | None] | None:
    """What a new authentication must bring so that `require` would hold on that situation: the levels any of which will do (none: the
    present one does), and the greatest age that will (None: the present one does). None when no authentication would mend it."""
    tables = tuple(_tables(require))
    levels = tuple(dict.fromkeys(level for each in tables for level in each.acr))
    ages = {each.max_age for each in tables if each.max_age is not None and each.max_age < now - identity.auth_time}
    for age in sorted(ages, reverse=True):
        if _holds(require, situation, identity, now, age=age):
            return (), age
    for asked in (None, *sorted(ages, reverse=True)):
        enough = tuple(level for level in levels if _holds(require, situation, identity, now, level, asked))
        if enough:
            return enough, asked
    return None


def reasons(require: Require, identity: Identity, now: int) -> list[str]:
    """Why `require` does not hold, in English, for `explain` and the log; [] when it holds. No identity in it but codes."""
    if judge(require, identity, now).held:
        return []
    lines: list[str] = []
    situations = identity.situations
    for number, situation in enumerate(situations or (_NOBODY,), 1):
        where = f"situation {number}" if situations else "no situation"
        lines.extend(f"{where}: {reason}" for reason in _reasons(require, situation, identity, now))
    return list(dict.fromkeys(lines))


def _reasons(require: Require, situation: Situation, identity: Identity, now: int) -> Iterable[str]:
    for key in _SITUATION_KEYS:
        wanted: tuple[str, ...] = getattr(require, key)
        has: str = getattr(situation, key)
        if wanted and has not in wanted:
            yield f"{key} is {has or 'unknown'}, not one of {', '.join(wanted)}"
    if require.structure and not any(name in require.structure for name in situation.structures):
        yield f"structure is {', '.join(situation.structures) or 'unknown'}, not one of {', '.join(require.structure)}"
    if require.national_id and identity.subject not in require.national_id:
        yield "national id is not one of those listed"
    if require.national_ids is not None and identity.subject not in require.national_ids:
        yield "national id is not in the file"
    if require.auth_mode and identity.auth_mode not in require.auth_mode:
        yield f"auth_mode is {identity.auth_mode or 'unknown'}, not one of {', '.join(require.auth_mode)}"
    if require.account is not None:
        yield "no linked account (accounts are not in this version)"
    if require.acr and identity.acr not in require.acr:
        yield f"acr is {identity.acr or 'unknown'}, not one of {', '.join(require.acr)}"
    if require.max_age is not None and now - identity.auth_time > require.max_age:
        yield f"authenticated {now - identity.auth_time} s ago, more than {require.max_age} s"
    for part in require.all or ():
        yield from _reasons(part, situation, identity, now)
    if require.any is not None and not any(_holds(each, situation, identity, now) for each in require.any):
        alternatives = ["; ".join(_reasons(part, situation, identity, now)) for part in require.any]
        yield "none of: " + " | ".join(alternatives)
    if require.not_ is not None and any(
        _holds(require.not_, other, identity, now) for other in identity.situations or (_NOBODY,)
    ):
        yield "`not` forbids it"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `id`: unique in the policy, the key of remembered decisions; `number`: 1-based in its app; `line`: in the file."""

    id: int
    number: int
    line: int
    paths: tuple[str, ...]
    methods: frozenset[bytes] | None
    open: bool
    require: Require = field(default_factory=Require)

    def fits_method(self, method: bytes) -> bool:
        return self.methods is None or method in self.methods


class Found(NamedTuple):
    """What `App.find` found. Exactly one of: `rule` (it decides); `rules` (all must allow, () means refused: a path with two readings,
    or a background path, which must not take the remembered road); neither (nothing matches); `malformed`."""

    rule: Rule | None = None
    rules: tuple[Rule, ...] | None = None
    malformed: bool = False
    background: bool = False
    misrouted: bool = False  # in some reading below the outer door's prefix: no rule, the proxy must send it elsewhere


_MALFORMED: Final = Found(malformed=True)
_MISROUTED: Final = Found(misrouted=True)
_NOTHING: Final = Found()


class App:
    """A protected application and its rules, compiled: finding a rule costs the depth of the path, not the number of rules."""

    __slots__ = ("_background", "_by_exact", "_by_folded", "_prefix", "_rules", "name", "paths", "title")

    def __init__(
        self, name: str, rules: Sequence[Rule], title: str = "", background: Sequence[str] = (), prefix: str = "/psc"
    ) -> None:
        self.name = name
        self.title = title or name
        self._rules = tuple(rules)
        self._prefix = fold(prefix) + "/"
        self._background = _index([Rule(0, 0, 0, tuple(background), None, True)], _exact_pattern)
        self._by_exact = _index((rule for rule in rules if rule.open), _exact_pattern)
        self._by_folded = _index((rule for rule in rules if not rule.open), _folded_pattern)
        self.paths: dict[tuple[bytes, bytes], Found] = {}  # what `find` remembers, open to the hot path

    @property
    def rules(self) -> tuple[Rule, ...]:
        return self._rules

    def find(self, method: bytes, path: bytes) -> Found:
        """The rule for this request, remembered per (method, raw path)."""
        found = self.paths.get((method, path))
        if found is None:
            found = self._find(method, path)
            if len(self.paths) >= _REMEMBERED_PATHS:
                self.paths.clear()  # cheaper than keeping an order on the hot path; the flood that fills it pays for it
            if len(path) + len(method) <= 512:
                self.paths[method, path] = found
        return found

    def _find(self, method: bytes, path: bytes) -> Found:
        reading = read_path(path)
        if reading is None or read_method(method) is None:
            return _MALFORMED
        if (reading.folded + "/").startswith(self._prefix):
            return _MISROUTED
        if reading.ambiguous:
            return Found(rules=tuple(rule for rule in self._rules if not rule.open and rule.fits_method(method)))
        first: Rule | None = None
        for rule in _candidates(self._by_exact, reading.exact) + _candidates(self._by_folded, reading.folded):
            if rule.fits_method(method) and (first is None or rule.number < first.number):
                first = rule
        if first is None:
            return _NOTHING
        if not first.open and _candidates(self._background, reading.exact):
            return Found(rules=(first,), background=True)
        return Found(rule=first)


class _Index(NamedTuple):
    exact: Mapping[str, tuple[Rule, ...]]
    below: Mapping[str, tuple[Rule, ...]]  # key ends in "/": the prefix of `/x/*`


def _exact_pattern(pattern: str) -> str:
    """An open rule's path as bytes on the wire: what is not ASCII is sent percent-encoded by every browser."""
    return exact_form(quote(pattern, safe="%/:@!$&'()*+,;=-._~"))


def _folded_pattern(pattern: str) -> str:
    """A rule's path in the form in which it is compared; a final `/` kept, for it marks a prefix."""
    plain = read_path(pattern.encode())
    folded = fold(pattern) if plain is None else plain.folded
    return folded.rstrip("/") + "/" if pattern.endswith("/") else folded


def _index(rules: Iterable[Rule], form: Callable[[str], str]) -> _Index:
    exact: dict[str, list[Rule]] = {}
    below: dict[str, list[Rule]] = {}
    for rule in rules:
        for pattern in rule.paths:
            if pattern.endswith("/*"):
                prefix = form(pattern[:-1])
                below.setdefault(prefix, []).append(rule)
                if not rule.open:  # a rule that protects what is below /x protects /x as well
                    exact.setdefault(prefix.rstrip("/") or "/", []).append(rule)
            else:
                key = form(pattern)
                exact.setdefault(key if rule.open else key.rstrip("/") or "/", []).append(rule)
    return _Index(
        {key: tuple(rules) for key, rules in exact.items()}, {key: tuple(rules) for key, rules in below.items()}
    )


def _candidates(index: _Index, path: str) -> list[Rule]:
    found = list(index.exact.get(path, ()))
    below = index.below
    if below:
        cut = path.find("/")
        while cut >= 0:
            rules = below.get(path[: cut + 1])
            if rules is not None:
                found += rules
            cut = path.find("/", cut + 1)
    return found
