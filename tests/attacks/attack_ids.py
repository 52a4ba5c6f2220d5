"""The ids of the known attacks, which of them a test's name holds, and which way a test attacks. Read by the coverage test and by `make test`'s last
lines.

A name holds ids as `test_HDR_05_connection_lists`, several as `test_PATH_02_04_05_…` or `test_COOK_02_INT_01_…`.

The way in follows from where a test stands: what takes the fixture `place` of tests/attacks runs alone and through nginx; tests/proxies and
tests/stories are through the proxy that their file name tells (stories: nginx); everything else is alone.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

# How many attacks each family has.
FAMILIES = {
    "TOK": 22,
    "CB": 16,
    "MIX": 3,
    "RED": 12,
    "COOK": 10,
    "SESS": 7,
    "HDR": 11,
    "SMUG": 3,
    "PATH": 10,
    "RULE": 4,
    "LO": 4,
    "BCL": 10,
    "CACHE": 7,
    "IDP": 15,
    "DOS": 9,
    "STO": 7,
    "LIFE": 6,
    "CFG": 4,
    "LOG": 5,
    "CIBA": 5,
    "PAGE": 3,
    "NGX": 2,
    "INT": 1,
}
KNOWN = tuple(f"{family}-{number:02}" for family, count in FAMILIES.items() for number in range(1, count + 1))
ALONE, NGINX, TRAEFIK = "alone", "nginx", "traefik"

TESTS = Path(__file__).parents[1]


def ids_in(name: str) -> list[str]:
    """The ids in a test's name, known or not."""
    found, family = [], ""
    for word in name.split("_"):
        if word in FAMILIES:
            family = word
        elif family and re.fullmatch(r"[0-9]{2}", word):
            found.append(f"{family}-{word}")
        else:
            family = ""
    return found


def in_short(ids: Iterable[str]) -> str:
    """`HDR 01-05 07, PATH 01` for a person to read."""
    wanted, words = set(ids), []
    for family, count in FAMILIES.items():
        numbers = [number for number in range(1, count + 1) if f"{family}-{number:02}" in wanted]
        runs: list[list[int]] = []
        for number in numbers:
            if runs and runs[-1][-1] == number - 1:
                runs[-1].append(number)
            else:
                runs.append([number])
        if runs:
            parts = (f"{run[0]:02}" if len(run) == 1 else f"{run[0]:02}-{run[-1]:02}" for run in runs)
            words.append(f"{family} {' '.join(parts)}")
    return ", ".join(words)


def ways_of(file: Path, arguments: set[str]) -> tuple[str, ...]:
    """How a test of that file (below tests/) with these arguments attacks."""
    room = file.parts[0]
    if room == "attacks" and "place" in arguments:
        return (ALONE, NGINX)
    if room == "stories":
        return (NGINX,)
    if room == "proxies":
        return (TRAEFIK,) if "traefik" in file.name else (NGINX,)
    return (ALONE,)


def written(folder: Path = TESTS) -> Iterator[tuple[str, str, str]]:
    """(id, way, where) of every test below that folder, from its source."""
    for path in sorted(folder.rglob("test_*.py")):
        file = path.relative_to(folder)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                arguments = {one.arg for one in (*node.args.args, *node.args.kwonlyargs)}
                for each in ids_in(node.name):
                    for way in ways_of(file, arguments):
                        yield each, way, f"{file}::{node.name}"
