"""Every key is found on its own line, however the file writes it."""

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forward_auth.toml_lines import Where, locate

TEXT = '''\
# comment with = and [brackets]
top = 1

[psc]   # [not.a.table]
"client_id" = "a # is no comment"
'issuer' = 'x\\'
text = """
[inside] = "no key"
""two quotes at the end"""""
after = true
literal = \'\'\'
a = 1
\'\'\'
last = 1979-05-27T07:32:00Z # moment

[apps.dossier]
origins = [ # first
    "a", # a ] comment
    "b, ]",

    "c",
]
headers.profile = "psc"
headers . "own names" . subject = "X"
[[apps.dossier.rules]]
paths = ["/a"]
require = { profession = ["10"], any = [
    { role = ["1"] },
    { "not" = { role = ["2"] }, \'mode\' = ["L"] },
] }

[[apps.dossier.rules]]
open = true
  [apps.dossier.rules.require]
  profession = []
[apps."qu\\u00e9bec"]
empty = []
'''


@pytest.mark.parametrize(
    ("where", "line"),
    [
        (("top",), 2),
        (("psc",), 4),
        (("psc", "client_id"), 5),
        (("psc", "issuer"), 6),
        (("psc", "text"), 7),
        (("psc", "after"), 10),
        (("psc", "literal"), 11),
        (("psc", "last"), 14),
        (("apps",), 16),
        (("apps", "dossier"), 16),
        (("apps", "dossier", "origins"), 17),
        (("apps", "dossier", "origins", 0), 18),
        (("apps", "dossier", "origins", 1), 19),
        (("apps", "dossier", "origins", 2), 21),
        (("apps", "dossier", "headers"), 23),
        (("apps", "dossier", "headers", "profile"), 23),
        (("apps", "dossier", "headers", "own names", "subject"), 24),
        (("apps", "dossier", "rules"), 25),
        (("apps", "dossier", "rules", 0), 25),
        (("apps", "dossier", "rules", 0, "paths"), 26),
        (("apps", "dossier", "rules", 0, "require", "profession"), 27),
        (("apps", "dossier", "rules", 0, "require", "any", 0, "role"), 28),
        (("apps", "dossier", "rules", 0, "require", "any", 1, "not", "role"), 29),
        (("apps", "dossier", "rules", 0, "require", "any", 1, "mode"), 29),
        (("apps", "dossier", "rules", 1), 32),
        (("apps", "dossier", "rules", 1, "open"), 33),
        (("apps", "dossier", "rules", 1, "require"), 34),
        (("apps", "dossier", "rules", 1, "require", "profession"), 35),
        (("apps", "québec"), 36),
        (("apps", "québec", "empty"), 37),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_line_of_each_key(where: Where, line: int, newline: str) -> None:
    """Quoted, dotted, inline, in arrays of tables, after strings and comments of many lines: the line is the key's own."""
    assert line == locate(TEXT.replace("\n", newline))[where]


def test_nothing_more_and_nothing_less() -> None:
    """What is located is exactly what tomllib read."""
    assert set(_all_places(tomllib.loads(TEXT))) == set(locate(TEXT))


@pytest.mark.parametrize("text", ["a", "a = [1", "a = {b = 1", 'a = "x', "= 1", "[a", '["a]'])
def test_not_toml(text: str) -> None:
    """A text that is not TOML ends in ValueError or in lines nobody asks for, never in a loop."""
    try:
        locate(text)
    except ValueError:
        pass


_KEYS = st.one_of(st.from_regex(r"[a-z]{1,3}", fullmatch=True), st.text(max_size=4))
_LEAVES = st.one_of(
    st.integers(-9, 9), st.booleans(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=6)
)
_TREES = st.dictionaries(
    _KEYS,
    st.recursive(
        _LEAVES,
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_KEYS, inner, max_size=3)),
        max_leaves=8,
    ),
    max_size=4,
)


@given(_TREES, st.lists(st.sampled_from(["", "\n", "# c\n", " \n\n"]), min_size=1, max_size=5))
def test_any_tree(tree: dict[str, object], between: list[str]) -> None:
    """Whatever tree is written, each key is located, and its line holds its name."""
    text = "".join(
        between[number % len(between)] + f"{_quoted(key)} = {_written(value)}\n"
        for number, (key, value) in enumerate(tree.items())
    )
    try:
        read = tomllib.loads(text)
    except tomllib.TOMLDecodeError:  # hypothesis finds code points TOML does not know, surrogates
        return
    lines = locate(text)
    assert set(_all_places(read)) == set(lines)
    written = text.split("\n")
    assert all(_quoted(str(where[0])) in written[line - 1] for where, line in lines.items() if len(where) == 1)


def test_example_of_the_project() -> None:
    """The files of config/ are located completely."""
    for file in sorted(Path(__file__).parents[2].joinpath("config").glob("*.toml")):
        text = file.read_text()
        assert set(_all_places(tomllib.loads(text))) == set(locate(text))


def _quoted(text: str) -> str:
    return '"' + "".join(f"\\U{ord(char):08x}" if ord(char) < 32 or char in '"\\\x7f' else char for char in text) + '"'


def _written(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return _quoted(value)
        case list():
            return "[" + ", ".join(map(_written, value)) + "]"
        case dict():
            return "{" + ", ".join(f"{_quoted(key)} = {_written(inner)}" for key, inner in value.items()) + "}"
        case _:
            return repr(value)


def _all_places(value: object, where: Where = ()) -> Iterator[Where]:
    if where:
        yield where
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in inner:
        yield from _all_places(each, (*where, name))
