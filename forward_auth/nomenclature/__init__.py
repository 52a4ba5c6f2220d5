"""The nomenclatures of the ANS (NOS): what the codes in a professional's claims are called in French.

For: labels on pages, labels instead of codes in the configuration, warnings about codes that are unknown or closed. One CSV
file per table: `code;label;status;since;instead`, semicolons, UTF-8, no quotes; a first line with `#` names the official table.
`status` is `active` or `closed`, `since` the date of that status where it is known, `instead` what took a closed code's place
(`99+313`: profession 99 with role 313). Source: the published NOS (CodeSystems TRE_*), which
change several times a year.

Refuses: to decide. A code that is in no table is kept as it is, never refused: the tables here may be older than PSC's. Nothing
is read from disk before it is asked for.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Final

from forward_auth.identity import Situation

# The keys of `require` and the tables whose codes they hold, in the order in which they are asked.
FIELDS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "profession": ("G15", "R95", "R291", "R94"),
        "role": ("R21", "R85"),
        "speciality": ("R38",),
        "sector": ("R02",),
        "category": ("R09",),
        "mode": ("R23",),
    }
)

# Every table that is here.
TABLES: Final = (
    *(table for tables in FIELDS.values() for table in tables),
    "R22",  # genre d'activité
    "R81",  # civilité
    "R11",  # civilité d'exercice
    "R04",  # type de savoir-faire
    "R06",  # section du tableau des pharmaciens
    "R231",  # palier d'authentification
)

NEAREST: Final = 3
_BY_ROLE: Final = ("99", "950")  # professions that say «see the role»
_STUDENT: Final = "E"
# Official labels of specialities end in the letters of their code: «Chirurgie orale (SM)», and that tells two of them apart.
_SUFFIX: Final = re.compile(r"\s*\((S[A-Z]{1,2})\)\s*")
_LIGATURES: Final = str.maketrans({"œ": "oe", "Œ": "OE", "æ": "ae", "Æ": "AE"})


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a table. `label` is "" for a few closed codes whose label is no longer published; `since` is "2024-12-13",
    "2020" or ""; `instead` is "" or as the module says."""

    table: str
    code: str
    label: str
    closed: bool
    since: str
    instead: str


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a text of the configuration means. `known` is False when it is in no table, or fits several codes: `code` is then the
    text as it was given, and `nearest` has up to NEAREST candidates, each «code (label)», best first."""

    code: str
    known: bool
    nearest: tuple[str, ...] = ()


def entry(table: str, code: str) -> Entry | None:
    """The entry of that code, or None. `table` is one of TABLES or a key of FIELDS; several tables: the first whose entry is in
    force, else the first (93 is closed in G15 and in force in R95). Raises KeyError for another `table`: that is our mistake."""
    found = None
    for name in _tables(table):
        one = _table(name).get(code)
        if one and not one.closed:
            return one
        found = found or one
    return found


def label(table: str, code: str) -> str | None:
    """The French label of a code, in force or closed; None when none is known. `table`: see entry()."""
    found = entry(table, code)
    return found.label or None if found else None


def closed(table: str, code: str) -> bool:
    """Whether this code is known and no longer in force. When and what instead: entry()."""
    found = entry(table, code)
    return found is not None and found.closed


def resolve(field: str, text: str) -> Resolved:
    """The code that `text` names: a code in any case («sa01»), or a label whatever its case, accents and punctuation.

    A label that several codes bear means the one in force; if that leaves several («Chirurgie orale» is a surgeon's and a
    dentist's), it is not known and the candidates are `nearest`. `field` is a key of FIELDS, else KeyError."""
    given = text.strip()
    entries = [one for table in FIELDS[field] for one in _table(table).values()]
    wanted = given.casefold()
    for one in entries:
        if one.code.casefold() == wanted:
            return Resolved(one.code, True)
    named = _named(entries, given)
    if len(named) == 1:
        return Resolved(named.pop(), True)
    found = [one for one in entries if one.code in named] or _near(entries, given)
    return Resolved(given, False, tuple(_shown(one) for one in found[:NEAREST]))


def title(situation: Situation) -> str:
    """What this situation is called on a page: «Médecin, Qualifié en médecine générale». A profession that only says «see the
    role» gives way to the role; a code without label is shown as it is, so that nothing is hidden; "" when nothing is known."""
    names: list[str] = []
    if situation.profession and not (situation.profession in _BY_ROLE and situation.role):
        name = label("profession", situation.profession) or f"profession {situation.profession}"
        names.append(f"{name} (étudiant)" if situation.category == _STUDENT else name)
    if situation.role:
        names.append(label("role", situation.role) or f"rôle {situation.role}")
    if situation.speciality:
        names.append(label("speciality", situation.speciality) or f"savoir-faire {situation.speciality}")
    return ", ".join(names)


def fold(text: str) -> str:
    """`text` for comparison: without case, accents and punctuation, words separated by one space."""
    bare = unicodedata.normalize("NFKD", text.translate(_LIGATURES).casefold())
    return " ".join("".join(c if c.isalnum() else " " for c in bare if not unicodedata.combining(c)).split())


def _named(entries: list[Entry], text: str) -> set[str]:
    """The codes that bear this label, those in force if there are any."""
    exact = [one for one in entries if fold(one.label) == fold(text)]
    if not exact and (suffix := _SUFFIX.search(text)) and suffix.end() == len(text):
        bare = fold(text[: suffix.start()])
        exact = [one for one in entries if fold(one.label) == bare and one.code.startswith(suffix[1])]
    exact = [one for one in exact if one.label]
    return {one.code for one in exact if not one.closed} or {one.code for one in exact}


def _near(entries: list[Entry], text: str) -> list[Entry]:
    """The entries whose label or code looks most like `text`: those that contain all of it first, then by spelling."""
    from difflib import get_close_matches  # only a mistake in the configuration needs it

    wanted = fold(text)
    if not wanted:
        return []
    spelt: dict[str, Entry] = {}
    for one in sorted(entries, key=lambda one: one.closed):  # in force first: the others lose a label they share
        for name in (one.code.casefold(), fold(one.label)):
            if name:
                spelt.setdefault(name, one)
    containing = [one for name, one in spelt.items() if f" {wanted} " in f" {name} "]
    alike = [spelt[name] for name in get_close_matches(wanted, spelt, n=NEAREST)]
    return list(dict.fromkeys(containing + alike))


def _shown(one: Entry) -> str:
    return f"{one.code} ({one.label})" if one.label else one.code


def _tables(table: str) -> tuple[str, ...]:
    return FIELDS.get(table) or (table,)


@cache
def _table(name: str) -> Mapping[str, Entry]:
    """One table, by code; read once, when first asked for, from the source tree or from the installed wheel alike."""
    if name not in TABLES:  # never a path out of a name
        raise KeyError(name)
    from importlib import resources  # it costs more than all else here, and many runs look up nothing

    found: dict[str, Entry] = {}
    for line in resources.files(__name__).joinpath(f"{name}.csv").read_text("utf-8").splitlines()[2:]:
        code, title, status, since, instead = (line + ";;;;").split(";")[:5]
        found[code] = Entry(name, code, title, status == "closed", since, instead)
    return MappingProxyType(found)
