"""The machine that looks for mistakes no test notices makes none itself: what it changes, what it leaves alone, whom it lets live."""

import subprocess
import sys
from pathlib import Path

import pytest
from mutants import mutants
from plan import PLAN, listed, of

HERE = Path(__file__).parent


def changes(source: str) -> list[str]:
    """What is changed in this source, without the plainest kinds of it: nothing returned, a statement left out."""
    return [
        m.change for m in mutants(source) if not m.change.startswith("without ") and "-> return None" not in m.change
    ]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def f(): return a < b", ["a < b -> a <= b", "a < b -> a >= b"]),
        ("def f(): return a not in b", ["a not in b -> a in b"]),
        ("def f(): return not a", ["not a -> a"]),
        ("def f(): return a and b", ["a and b -> a or b", "a and b -> b", "a and b -> a"]),
        ("def f(): return a + 1", ["a + 1 -> a - 1", "1 -> 2"]),
        ("def f(): return True", ["True -> False"]),
        ("def f(): return b'x'", ["b'x' -> b''"]),
        ("def f(): return min(a, b)", ["min(a, b) -> max(a, b)", "min(a, b) -> min(a)"]),
        ("def f(): return g(a, b=c)", ["g(a, b=c) -> g(a)"]),
        ("def f(): return a.lower()", ["a.lower() -> a"]),
        ("def f():\n if a:\n  g()", ["a -> not a"]),
        ("def f(): return b if a else c", ["b if a else c -> b if not a else c"]),
        ("class A:\n LIMIT: int = 3", ["3 -> 4"]),
    ],
)
def test_each_kind_of_mistake_is_made(source: str, expected: list[str]) -> None:
    """One at a time; and the source is whole again between two of them."""
    assert expected == changes(source)
    assert expected == changes(source)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def f():\n if a:\n  return b\n return c", ["without return b"]),
        ("def f():\n raise b", ["without raise b"]),
        ("def f():\n a.b = c\n d[e] = c", ["without a.b = c", "without d[e] = c"]),
        ("def f():\n a = 1\n if b:\n  a = c", ["without a = c"]),
        ("def f():\n g()", ["without g()"]),
    ],
)
def test_a_statement_is_left_out_where_something_is_left_to_run(source: str, expected: list[str]) -> None:
    """A variable that would then not exist is no mistake anybody makes."""
    assert expected == [m.change for m in mutants(source) if m.change.startswith("without ")]


@pytest.mark.parametrize(
    "source",
    [
        '"""A module."""\nimport a\n\ndef f(a: "int" = b) -> "int":\n    """A function."""\n',
        "def f():\n log.info('%d', 1)\n self._log.warning('x', 3)\n assert a < 1",
        "def __repr__(self):\n return f'{self.x + 1}'",
        "__slots__ = ('a', 'b')",
        "SENTENCE = 'two words'",
        "@lru_cache(maxsize=64)\ndef f():\n pass",
    ],
)
def test_what_no_test_can_reach_by_meaning_is_left_alone(source: str) -> None:
    """Documentation, types, logs, sentences for people."""
    assert [] == list(mutants(source))


def test_a_mutant_is_named_by_what_outlives_an_edit_elsewhere() -> None:
    """Function, text of the line, change; the second of the same name is told apart."""
    source = "class A:\n    def f(self):\n        return g(1, 1)\n"
    before = [(m.function, m.line, m.change) for m in mutants(source)]
    assert ("A.f", "return g(1, 1)", "1 -> 2 (2)") in before
    assert before == [(m.function, m.line, m.change) for m in mutants("import os\n\n\n" + source)]


def test_every_listed_survivor_can_still_be_made() -> None:
    """A reason that stands for nothing any more is taken out when the code changes, not at the next long run."""
    assert set() == listed(PLAN) - {name for module in PLAN for name, _ in of(module)}


def test_a_mistake_that_a_test_notices_is_told_from_one_that_none_does() -> None:
    """The real thing on one small function, each mutant in its own process."""
    run = [sys.executable, str(HERE), "--module", "gate", "--function", "_shared", "--jobs", "1"]
    told = subprocess.run(run, capture_output=True, text=True, timeout=120, check=True).stdout
    assert "isinstance(remembered.decision, Allow) -> remembered.decision == allow" in told
    assert "NOT LISTED" not in told
    made, killed = next(line.split()[1:3] for line in told.splitlines() if line.startswith("gate "))
    assert 1 <= int(made) - int(killed) < 3
