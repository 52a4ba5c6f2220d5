"""Reading a configuration: what was wrong so far and where it stands, and how a table of keys is read.

For: the kinds of value (config_kinds.py, config_files.py) and the keys (config_keys.py). A kind reads a value of the file
(`read`), turns the text of an environment variable into such a value (`from_text`), and tells editors its JSON Schema.
Refuses: to stop at the first mistake, to repair a value that is nearly right, and to echo more of it than one short line.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Final, NoReturn

from forward_auth.errors import Mistake
from forward_auth.toml_lines import Where

Schema = dict[str, Any]

NOT_YET: Final = "is not in this version"
BROKEN: Final = object()  # stands for a value of the environment that could not be read, and was told
_LONGEST_SHOWN: Final = 60


class Wrong(Exception):
    """One value is wrong: `problem` is what, `cure` is what to write instead."""

    def __init__(self, problem: str, cure: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.cure = cure


def shown(value: object) -> str:
    """A value as it may stand in a message: one line, short, no control or invisible character."""
    match value:
        case str():
            short = value if len(value) <= _LONGEST_SHOWN else value[:_LONGEST_SHOWN] + "…"
            return f'"{short}"' if short.isprintable() else '"' + repr(short)[1:-1] + '"'
        case bool():
            return "true" if value else "false"
        case int():
            return str(value) if value.bit_length() <= 64 else "a very large number"
        case float():
            return repr(value)
        case _:
            return sort_of(value)


def sort_of(value: object) -> str:
    """What sort of thing a value is, in words."""
    sorts = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "a text",
        list: "a list",
        dict: "a table",
        type(None): "null",
    }
    return sorts.get(type(value), "a date or time")


def key_name(where: Where) -> str:
    """`apps.dossier.rules[2].paths`: elements of lists count from 1, as `explain` numbers rules."""
    name = ""
    for part in where:
        if isinstance(part, int):
            name += f"[{part + 1}]"
        else:
            plain = part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else shown(part)
            name += f".{plain}" if name else plain
    return name


@dataclass(slots=True)
class Reading:
    """What is known while one configuration is read: where each value stands, and what was wrong so far."""

    file: str
    directory: Path
    environ: Mapping[str, str]
    lines: dict[Where, int]
    variables: dict[Where, str] = field(default_factory=dict)  # values that came from the environment
    mistakes: list[Mistake] = field(default_factory=list)

    def place(self, where: Where) -> tuple[str, int]:
        """(file or variable, line) of a key, or of the closest table around it; line 0 for the environment."""
        for length in range(len(where), 0, -1):
            around = where[:length]
            if variable := self.variables.get(around):
                return variable, 0
            if line := self.lines.get(around):
                return self.file, line
            if variable := next((name for at, name in self.variables.items() if at[:length] == around), None):
                return variable, 0  # a table that exists only in the environment
        return self.file, 1

    def wrong(self, where: Where, problem: str, cure: str, *, warning: bool = False, key: str = "") -> None:
        """Note one mistake."""
        file, line = self.place(where)
        self.mistakes.append(Mistake(file, line, key or key_name(where), problem, cure, warning))

    def warn(self, where: Where, problem: str, cure: str, *, key: str = "") -> None:
        """Note what is allowed but deserves a look."""
        self.wrong(where, problem, cure, warning=True, key=key)

    @property
    def failed(self) -> bool:
        return any(not mistake.warning for mistake in self.mistakes)


class Kind:
    """One kind of value. `example` is a right one, as it would be written in the file."""

    example: str = ""
    is_table: ClassVar[bool] = False

    def read(self, reading: Reading, where: Where, value: object) -> Any:
        """The value as settings hold it; None, with the mistake noted, when it is wrong."""
        try:
            return self.parse(reading, where, value)
        except Wrong as wrong:
            reading.wrong(where, wrong.problem, wrong.cure)
            return None

    def parse(self, reading: Reading, where: Where, value: object) -> Any:
        """As read, but raises Wrong."""
        raise NotImplementedError

    def from_text(self, text: str) -> object:
        """The text of an environment variable as a value of the file. Raises Wrong."""
        return text

    def schema(self) -> Schema:
        """JSON Schema of one value."""
        return {"type": "string"}

    def _not(self, value: object, wanted: str) -> NoReturn:
        raise Wrong(f"{shown(value)} is not {wanted}", f"write {self.example}")


def one_line(kind: Kind, value: object) -> str:
    """The value as a text without control characters, not empty."""
    if not isinstance(value, str):
        raise Wrong(f"a text in quotes is wanted, not {shown(value)}", f"write {kind.example}")
    if not value.strip():
        raise Wrong("is empty", f"write {kind.example}")
    if not value.isprintable():
        raise Wrong(f"{shown(value)} holds a control or invisible character", f"write {kind.example}")
    return value


def from_json(text: str, wanted: str, example: str) -> object:
    """A list or table written as JSON in the environment."""
    import json

    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Wrong(f"is not {wanted} written as JSON", f"write {example}") from error


@dataclass(frozen=True, slots=True)
class ListOf(Kind):
    """A list of values of one kind; never empty unless said so, for an empty list permits nobody and is a slip.

    The same value twice is a mistake where `unique`, else worth a warning.
    """

    each: Kind
    may_be_empty: bool = False
    single: bool = False  # one value without brackets is a list of one
    unique: bool = False

    @property
    def example(self) -> str:  # type: ignore[override]  # made from that of one
        return f"[{self.each.example.split(' or ')[0]}]"

    def read(self, reading: Reading, where: Where, value: object) -> tuple[Any, ...] | None:
        if self.single and isinstance(value, str):
            one = self.each.read(reading, where, value)
            return None if one is None else (one,)
        if not isinstance(value, list):
            cure = (
                f'write ["{value}"]'
                if isinstance(value, str) and value.isprintable() and len(value) < 200
                else f"write {self.example}"
            )
            reading.wrong(where, f"a list is wanted, not {sort_of(value)}", cure)
            return None
        if not value and not self.may_be_empty:
            reading.wrong(
                where, "the list is empty, which permits nothing", f"write {self.example}, or leave the key out"
            )
            return None
        found: list[Any] = []
        for number, element in enumerate(value):
            one = self._element(reading, where, number, element)
            if one is not None and one not in found:
                found.append(one)
            elif one is not None:
                problem = f"{shown(element)} stands in the list twice"
                reading.wrong(
                    (*where, number), problem, "remove one of them", warning=not self.unique, key=key_name(where)
                )
        # What is wrong was told; a list made of the rest would let later checks speak of what is not there.
        return tuple(found) if found or not value else None

    def _element(self, reading: Reading, where: Where, number: int, element: object) -> Any:
        """One element. Tables have keys of their own; of a plain value the list's key is told, at the value's line."""
        if self.each.is_table:
            return self.each.read(reading, (*where, number), element)
        try:
            return self.each.parse(reading, (*where, number), element)
        except Wrong as wrong:
            reading.wrong((*where, number), wrong.problem, wrong.cure, key=key_name(where))
            return None

    def from_text(self, text: str) -> object:
        if text.lstrip().startswith("["):
            return from_json(text, "a list", "values with commas between them, or a JSON list")
        return [self.each.from_text(part.strip()) for part in text.split(",")] if text.strip() else []

    def schema(self) -> Schema:
        schema: Schema = {"type": "array", "items": self.each.schema()}
        if not self.may_be_empty:
            schema["minItems"] = 1
        return {"anyOf": [self.each.schema(), schema]} if self.single else schema


# Tables ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a table. `about`: what it means, for example.toml and editors; `default` is what settings hold without it."""

    kind: Kind
    about: str
    default: object = None
    required: bool = False
    stated: object = None  # the default as written in the file, for the schema
    listed: bool = True  # False: read, but nothing this version does with it is worth telling


@dataclass(frozen=True, slots=True)
class Later:
    """A key of the contract whose feature comes later. `off` is the one value that may stand there already."""

    off: object = None


@dataclass(slots=True)
class Values:
    """What was read of one table. `get` is None for what is wrong or has no default; `wrong` tells the two apart."""

    where: Where
    read: dict[str, Any]
    given: frozenset[str]
    wrong: frozenset[str]

    def __getitem__(self, name: str) -> Any:
        return self.read[name]


def read_table(
    reading: Reading,
    where: Where,
    table: object,
    keys: Mapping[str, Key],
    later: Mapping[str, Later],
    elsewhere: Mapping[str, str] = MappingProxyType({}),
) -> Values | None:
    """Read each key of one table, note unknown ones with the nearest known one, and required ones that are missing.

    `elsewhere`: keys that would be right in another table -> that table. None when it is no table at all.
    """
    if not isinstance(table, dict):
        reading.wrong(
            where, f"a table is wanted, not {sort_of(table)}", f"write [{key_name(where)}] and its keys below"
        )
        return None
    read: dict[str, Any] = {name: key.default for name, key in keys.items()}
    wrong: set[str] = set()
    for name, value in table.items():
        at = (*where, name)
        if key := keys.get(name):
            read[name] = None if value is BROKEN else key.kind.read(reading, at, value)
            if read[name] is None:
                wrong.add(name)
        elif name in later:
            refuse_later(reading, at, value, later[name])
        else:
            wrong.add(refuse_unknown(reading, at, [name for name, _ in each_key(keys)], elsewhere))
    for name, key in keys.items():
        if key.required and name not in table and name not in wrong:
            wrong.add(name)
            reading.wrong((*where, name), "is missing", f"write {name} = {key.kind.example}")
    return Values(where, read, frozenset(table), frozenset(wrong))


def refuse_later(reading: Reading, where: Where, value: object, later: Later) -> None:
    """A key that this version knows and does not enforce (decision 23)."""
    if later.off is None:
        reading.wrong(where, NOT_YET, "remove it")
    elif type(value) is not type(later.off) or value != later.off:
        reading.wrong(where, f"{shown(value)} {NOT_YET}", f"remove it, or write {shown(later.off)}")


def refuse_unknown(
    reading: Reading, where: Where, known: Collection[str], elsewhere: Mapping[str, str] = MappingProxyType({})
) -> str:
    """Note an unknown key, with what was probably meant; the nearest known key, "" when none is near."""
    name = str(where[-1])
    near = nearest(name, known, 0.8)
    if not near and name in elsewhere:
        reading.wrong(where, "is not known here", f"move it below [{elsewhere[name]}]")
        return ""
    near = near or nearest(name, known)
    reading.wrong(where, "is not known", f"write {near}" if near else f"remove it; known here: {', '.join(known)}")
    return near


def nearest(name: str, known: Collection[str], likeness: float = 0.6) -> str:
    """The known name that was probably meant, or "". `likeness`: 0 (anything) to 1 (the same)."""
    import difflib  # 2 ms and some memory that a right configuration does not pay

    plain = re.sub(r"[^a-z0-9]+", "_", name.lower())[:100]
    found = difflib.get_close_matches(plain, sorted(known), 1, likeness)
    return found[0] if found else ""


def each_key(keys: Mapping[str, Key]) -> Iterator[tuple[str, Key]]:
    """The keys that people are told of."""
    return ((name, key) for name, key in keys.items() if key.listed)
