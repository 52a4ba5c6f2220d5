"""Where each key of a TOML file stands, so that a mistake can be told with its line.

For: `locate(text)`, line numbers beside what tomllib read from the same text; tomllib gives values only. Refuses: to judge.
The text must be one that tomllib accepted (TOML 1.0); what the values are is tomllib's word alone, this only counts lines.
"""

import re
from typing import Final

Where = tuple[str | int, ...]  # ("apps", "dossier", "rules", 0, "paths")

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_BLANK: Final = re.compile(r"[ \t]*")
_BETWEEN: Final = re.compile(r"(?:[ \t\n]+|#[^\n]*)*")  # what may stand between the elements of an array
_BASIC: Final = re.compile(r'"((?:[^"\\\n]|\\.)*)"')
_LITERAL: Final = re.compile(r"'([^'\n]*)'")
# A closing mark may be preceded by up to two quotes that belong to the string.
_LONG_BASIC: Final = re.compile(r'"""(?:[^"\\]|\\.|"(?!""))*"""(?:""?)?', re.DOTALL)
_LONG_LITERAL: Final = re.compile(r"'''(?:[^']|'(?!''))*'''(?:''?)?", re.DOTALL)
_PLAIN: Final = re.compile(r"[^,\]}\n#]*")  # numbers, dates, true and false
_ESCAPE: Final = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))")
_ESCAPED: Final = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", '"': '"', "\\": "\\"}


def locate(text: str) -> dict[Where, int]:
    """The line (1-based) of every table, key and array element of a valid TOML text.

    A key's line is that of the name the value stands behind (for `a.b = 1`, of the whole `a.b`); a table's is its last header;
    an element's is where it begins. A table that only exists as part of longer names has the line of the first of them.
    Raises RecursionError for arrays nested as deep as tomllib itself refuses, ValueError for a text that is not TOML.
    """
    return _Scan(text.replace("\r\n", "\n")).document()


class _Scan:
    """One pass over the text. `at` is the next character, `lines` what was found."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[Where, int] = {}
        self._line = 1
        self._counted = 0  # the position up to which newlines have been counted
        self._arrays: dict[Where, int] = {}  # arrays of tables -> how many tables so far

    def document(self) -> dict[Where, int]:
        table: Where = ()
        while self._skip(_BETWEEN) < len(self.text):
            if self.text[self.at] == "[":
                table = self._header()
            else:
                self._pair(table)
        return self.lines

    def _header(self) -> Where:
        line = self._line_here()
        array = self.text.startswith("[[", self.at)
        self.at += 2 if array else 1
        names = self._name()
        self.at += 2 if array else 1
        where: Where = ()
        for name in names[:-1]:
            where = self._inside((*where, name))
            self.lines.setdefault(where, line)
        where = (*where, names[-1])
        if not array:
            where = self._inside(where)
            self.lines[where] = line
            return where
        self.lines.setdefault(where, line)
        count = self._arrays.get(where, 0)
        self._arrays[where] = count + 1
        where = (*where, count)
        self.lines[where] = line
        return where

    def _inside(self, where: Where) -> Where:
        """Naming an array of tables means the last table in it."""
        count = self._arrays.get(where, 0)
        return (*where, count - 1) if count else where

    def _pair(self, table: Where) -> None:
        line = self._line_here()
        where = table
        for name in self._name():
            where = (*where, name)
            self.lines.setdefault(where, line)
        self._expect("=")
        self._skip(_BLANK)
        self._value(where)

    def _name(self) -> list[str]:
        """A bare, quoted or dotted key; `at` ends on the first character that is not part of it."""
        names: list[str] = []
        while True:
            self._skip(_BLANK)
            if found := _BARE_KEY.match(self.text, self.at):
                names.append(found[0])
            elif found := _LITERAL.match(self.text, self.at):
                names.append(found[1])
            elif found := _BASIC.match(self.text, self.at):
                names.append(_ESCAPE.sub(_unescaped, found[1]))
            else:
                raise ValueError("not TOML: a key is missing")
            self.at = found.end()
            self._skip(_BLANK)
            if not self.text.startswith(".", self.at):
                return names
            self.at += 1

    def _value(self, where: Where) -> None:
        if self.text.startswith("[", self.at):
            self._array(where)
        elif self.text.startswith("{", self.at):
            self._inline_table(where)
        elif self.text.startswith('"""', self.at):
            self._skip(_LONG_BASIC)
        elif self.text.startswith("'''", self.at):
            self._skip(_LONG_LITERAL)
        elif self.text.startswith('"', self.at):
            self._skip(_BASIC)
        elif self.text.startswith("'", self.at):
            self._skip(_LITERAL)
        else:
            self._skip(_PLAIN)

    def _array(self, where: Where) -> None:
        self.at += 1
        number = 0
        while True:
            self._skip(_BETWEEN)
            if self.text.startswith("]", self.at):
                break
            element = (*where, number)
            self.lines[element] = self._line_here()
            self._value(element)
            number += 1
            self._skip(_BETWEEN)
            if not self.text.startswith(",", self.at):
                break
            self.at += 1
        self._expect("]")

    def _inline_table(self, where: Where) -> None:
        self.at += 1
        while True:
            self._skip(_BETWEEN)  # TOML 1.0 allows no newline here; 1.1 does, and so does this
            if self.text.startswith("}", self.at):
                break
            self._pair(where)
            self._skip(_BETWEEN)
            if not self.text.startswith(",", self.at):
                break
            self.at += 1
        self._expect("}")

    def _skip(self, pattern: re.Pattern[str]) -> int:
        found = pattern.match(self.text, self.at)
        if found is None:
            raise ValueError("not TOML: a string is not closed")
        self.at = found.end()
        return self.at

    def _expect(self, mark: str) -> None:
        if not self.text.startswith(mark, self.at):
            raise ValueError(f"not TOML: {mark} is missing")
        self.at += len(mark)

    def _line_here(self) -> int:
        self._line += self.text.count("\n", self._counted, self.at)
        self._counted = self.at
        return self._line


def _unescaped(found: re.Match[str]) -> str:
    code = found[1] or found[2]
    return chr(int(code, 16)) if code else _ESCAPED.get(found[3], found[3])
