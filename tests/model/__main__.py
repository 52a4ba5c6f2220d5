"""`make witness`: a million triples, then the machine for longer. Prints how many, how long, and the seeds; a wrong answer ends it, made short.

python tests/model [--triples N] [--seed N] [--examples N] [--steps N]
"""

import argparse
import multiprocessing
import os
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]


def a_million(count: int, seed: int, processes: int) -> bool:
    from model.triples import share

    began = time.monotonic()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        done = list(pool.map(share, [count // processes + 1] * processes, range(seed, seed + processes)))
    for one in done:
        if isinstance(one, str):
            print(one)
            return False
    parts = [one for one in done if not isinstance(one, str)]
    triples, policies, people = (sum(part[at] for part in parts) for at in range(3))  # type: ignore[misc]
    answers = sum((part[3] for part in parts), Counter[str]())
    print(
        f"RULE: {triples} triples ({policies} policies, {people} people) agree; answers "
        + ", ".join(f"{status}: {answers[status]}" for status in sorted(answers))
        + f"; {time.monotonic() - began:.0f} s, seeds {seed}–{seed + processes - 1}",
        flush=True,
    )
    return True


def main() -> int:
    parser = argparse.ArgumentParser(prog="make witness")
    parser.add_argument("--triples", type=int, default=1_000_000)
    parser.add_argument("--examples", type=int, default=60, help="runs of the machine")
    parser.add_argument("--steps", type=int, default=40, help="steps of one run")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    asked = parser.parse_args()
    print(f"seed {asked.seed}", flush=True)
    if asked.triples and not a_million(asked.triples, asked.seed, os.cpu_count() or 1):
        return 1
    if not asked.examples:
        return 0
    environment = {
        **os.environ,
        "WITNESS_SEED": str(asked.seed),
        "WITNESS_EXAMPLES": str(asked.examples),
        "WITNESS_STEPS": str(asked.steps),
    }
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-s", str(Path(__file__).with_name("test_machine.py"))]
    return subprocess.call(command, env=environment, cwd=TESTS.parent)


if __name__ == "__main__":
    sys.exit(main())
