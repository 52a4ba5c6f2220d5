"""`make mutate`: does a test notice each small mistake in what decides?

For: every module below, one mutant after another against the tests that are about it; then, per module, how many were killed, and who lives.
Refuses: a survivor that nobody has looked at (survivors.toml holds the reason of each), an entry of that list that no longer survives, and less than
90 % killed, in sum or in a module. An existing tool (mutmut) was tried: it leaves out the modules' own lines (limits, tables, expressions), decorated
functions and single operands, which is where this program decides, and names a survivor by a number that the next edit changes.

    python tests/mutation [--module gate --module psc/keys] [--jobs 2] [--function Gate.check]
"""

import argparse
import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import CodeType
from typing import Final, NamedTuple

sys.path.insert(0, str(Path(__file__).parent))

from plan import PLAN, Name, listed, of
from trial import EXAMPLES, ROOT, load_libraries, quick, trial

ENOUGH: Final = 90
LIBRARIES: Final = (
    "aiohttp.web authlib.common.urls authlib.oauth2.rfc6749.parameters authlib.oauth2.rfc7636 cachetools cryptography.x509"
    " cryptography.hazmat.primitives.ciphers.aead cryptography.hazmat.primitives.kdf.hkdf httptools hypothesis.stateful jinja2 jwt"
    " cryptography.hazmat.primitives.asymmetric.rsa prometheus_client trustme unittest uvloop yaml"
)


class Task(NamedTuple):
    module: str
    name: Name
    number: int
    code: CodeType

    def __str__(self) -> str:
        return f"forward_auth/{self.module}.py:{self.number}: {self.name[-1]}"


# Filled before the workers are forked: compiled code cannot be sent to them.
TASKS: Final[list[Task]] = []
BASELINE: Final[dict[tuple[str, int], float]] = {}  # seconds


def tests_of(module: str, stage: int) -> list[str]:
    tests = [f"tests/{name}" for name in PLAN[module][stage]]
    if all(name.startswith(("tests/hall/", "tests/psc/")) for name in tests):
        tests.append("--noconftest")  # they ask for nothing of it, and it loads the whole service
    return tests


def dotted(module: str) -> str:
    return "forward_auth." + module.replace("/", ".")


def prepare(modules: Sequence[str], function: str | None) -> None:
    """Fill TASKS and BASELINE; the tests must be green while there is no mistake."""
    for module in modules:
        for stage, tests in enumerate(PLAN[module]):
            red, BASELINE[module, stage] = trial(
                dotted(module), None, tests_of(module, stage), EXAMPLES[stage > 0], 600
            )
            if red:
                raise SystemExit(f"{', '.join(tests)}: red or too slow without any mistake; mend that first")
        for name, mutant in of(module):
            if function in (None, mutant.function):
                TASKS.append(Task(module, name, mutant.number, compile(mutant.tree, "", "exec")))


def quickly(module: str, part: int, parts: int) -> set[int]:
    """Those of a module, every `parts`-th, that its nearest tests kill where they have been collected already."""
    codes = {number: task.code for number, task in enumerate(TASKS) if task.module == module and number % parts == part}
    source = (ROOT / f"forward_auth/{module}.py").read_text("utf-8")
    return quick(dotted(module), source, codes, tests_of(module, 0), 5 + 3 * BASELINE[module, 0])


def killed(number: int) -> bool:
    """Whether some test of the plan notices this mutant in a fresh process, or never ends with it."""
    module, code = TASKS[number].module, TASKS[number].code
    for stage in range(len(PLAN[module])):
        seconds = 5 + 3 * BASELINE[module, stage]
        if trial(dotted(module), code, tests_of(module, stage), EXAMPLES[stage > 0], seconds)[0]:
            return True
    return False


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tests/mutation")
    parser.add_argument("--module", action="append", choices=list(PLAN), help="only this one, and again; default: all")
    parser.add_argument("--function", help="only mutants of this function; nothing is then judged")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args(arguments)
    os.chdir(ROOT)
    modules: list[str] = asked.module or list(PLAN)
    known = listed(modules)
    load_libraries(LIBRARIES.split())
    prepare(modules, asked.function)
    with multiprocessing.get_context("fork").Pool(asked.jobs, maxtasksperchild=1) as pool:
        parts = [(module, part, asked.jobs) for module in modules for part in range(asked.jobs)]
        gone = set[int]().union(*pool.starmap(quickly, parts, 1))
        left = [number for number in range(len(TASKS)) if number not in gone]
        print(f"{len(TASKS)} mutants, of which {len(left)} want a process of their own", flush=True)
        for number, dead in zip(left, pool.imap(killed, left), strict=True):
            if dead:
                gone.add(number)
            else:
                print(TASKS[number], "" if TASKS[number].name in known else "(NOT LISTED)", flush=True)
    made, died = Counter(task.module for task in TASKS), Counter(TASKS[number].module for number in gone)
    lives = [task for number, task in enumerate(TASKS) if number not in gone]
    faults = [f"listed, and yet killed or gone: {name}" for name in sorted(known - {task.name for task in lives})]
    faults += [f"not listed: {task}" for task in lives if task.name not in known]
    print(f"\n{'module':<16}{'mutants':>8}{'killed':>8}{'':>8}")
    for module, all_, some in (*((m, made[m], died[m]) for m in modules), ("in sum", made.total(), died.total())):
        print(f"{module:<16}{all_:>8}{some:>8}{100 * some / max(1, all_):>7.1f}%")
        if 100 * some < ENOUGH * all_:
            faults.append(f"{module}: less than {ENOUGH} % killed")
    if asked.function is None:
        print("\n".join(faults) or "every survivor is in survivors.toml, with its reason")
    return int(bool(faults) and asked.function is None)


if __name__ == "__main__":
    sys.exit(main())
