"""`make mutate`: does a test notice each small mistake in what decides?

For: every module below, one mutant after another against the tests that are about it; then, per module, how many were killed, and who lives.
Refuses: a survivor that nobody has looked at (survivors.toml holds the reason of each), an entry of that list that no longer survives, and less than
90 % killed, in sum or in a module. Existing tools were tried: they leave out the modules' own lines (limits, tables, expressions), decorated
functions and single operands, which is where this program decides, and name a survivor by a number that the next edit changes.

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
from trial import ROOT, load_libraries, trial

ENOUGH: Final = 90
LIBRARIES: Final = (
    "aiohttp.web authlib.common.urls authlib.oauth2.rfc6749.parameters authlib.oauth2.rfc7636 cachetools cryptography.x509"
    " cryptography.hazmat.primitives.ciphers.aead cryptography.hazmat.primitives.kdf.hkdf httptools hypothesis.stateful jinja2 jwt"
    " cryptography.hazmat.primitives.asymmetric.rsa prometheus_client trustme unittest uvloop yaml"
)
EXAMPLES: Final = (20, 100)  # of a generated test: in the nearest tests, in the others


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


def one_trial(module: str, stage: int, code: CodeType | None, seconds: float) -> tuple[str, float]:
    tests = [f"tests/{name}" for name in PLAN[module][stage]]
    if all(name.startswith(("tests/hall/", "tests/psc/")) for name in tests):
        tests.append("--noconftest")  # they ask for nothing of it, and it loads the whole service
    return trial("forward_auth." + module.replace("/", "."), code, tests, EXAMPLES[stage > 0], seconds)


def killed(number: int) -> bool:
    """Whether some test of the plan notices this mutant, or never ends with it."""
    module, code = TASKS[number].module, TASKS[number].code
    for stage in range(len(PLAN[module])):
        found, _ = one_trial(module, stage, code, 30 + 10 * BASELINE[module, stage])
        if found != "lives":
            return True
    return False


def prepare(modules: Sequence[str], function: str | None) -> None:
    """Fill TASKS and BASELINE; the tests must be green while there is no mistake."""
    for module in modules:
        for stage, tests in enumerate(PLAN[module]):
            found, BASELINE[module, stage] = one_trial(module, stage, None, 600)
            if found != "lives":
                raise SystemExit(f"{', '.join(tests)}: red or too slow without any mistake; mend that first")
        for name, mutant in of(module):
            if function in (None, mutant.function):
                TASKS.append(
                    Task(module, name, mutant.number, compile(mutant.tree, f"forward_auth/{module}.py", "exec"))
                )


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
    made, dead, lives = Counter(task.module for task in TASKS), Counter[str](), []
    with multiprocessing.get_context("fork").Pool(asked.jobs) as pool:
        for task, gone in zip(TASKS, pool.imap(killed, range(len(TASKS))), strict=True):
            dead[task.module] += gone
            if not gone:
                lives.append(task.name)
                print(task, "" if task.name in known else "(NOT LISTED)", flush=True)
    faults = [f"listed, and yet killed or gone: {name}" for name in sorted(known - set(lives))]
    faults += [f"not listed: {name}" for name in lives if name not in known]
    print(f"\n{'module':<16}{'mutants':>8}{'killed':>8}{'':>8}")
    for module, all_, gone in (*((m, made[m], dead[m]) for m in modules), ("in sum", made.total(), dead.total())):
        print(f"{module:<16}{all_:>8}{gone:>8}{100 * gone / max(1, all_):>7.1f}%")
        if 100 * gone < ENOUGH * all_:
            faults.append(f"{module}: less than {ENOUGH} % killed")
    if asked.function is None:
        print("\n".join(faults) or "every survivor is in survivors.toml, with its reason")
    return int(bool(faults) and asked.function is None)


if __name__ == "__main__":
    sys.exit(main())
