"""`make fuzz SECONDS=600 [TARGET=cookie]`: goes on looking for bytes that break an oracle of fuzz_targets.py, from the corpus in git.

For: atheris, which follows the coverage, where it installs; elsewhere hypothesis, which changes the corpus. What breaks something is written below
`run/fuzz/` and printed with the line that shows it again; whoever mends it copies it to corpus/TARGET/, where `make test` replays it for ever.
Refuses: to let the corpus in git grow by itself: `keep` picks those of the finds that reach something new, smallest first, up to KEPT bytes.

    python tests/fuzz 600 [TARGET]        look for so many seconds in all
    python tests/fuzz show TARGET FILE    one input again
    python tests/fuzz keep [TARGET]       bring what the last runs have reached into the corpus
"""

import hashlib
import logging
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
RUN: Final = ROOT / "run" / "fuzz"
KEPT: Final = 300 * 1024  # bytes of all corpora together
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]


def one(name: str, arguments: Sequence[str]) -> None:
    """In a process of its own: libFuzzer's, which does not come back."""
    import atheris

    with atheris.instrument_imports(include=["forward_auth"]):
        from fuzz import fuzz_targets
    logging.disable(logging.CRITICAL)
    atheris.Setup([sys.argv[0], *arguments], fuzz_targets.TARGETS[name])
    atheris.Fuzz()


def by_hypothesis(name: str, seconds: float) -> int:
    """Without atheris. -> exit code."""
    from fuzz import fuzz_targets
    from fuzz.changes import changed
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis.database import DirectoryBasedExampleDatabase

    logging.disable(logging.CRITICAL)
    end = time.monotonic() + seconds
    failing = b""

    @settings(
        max_examples=2000,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=DirectoryBasedExampleDatabase(RUN / "hypothesis"),
        phases=[Phase.reuse, Phase.generate, Phase.shrink],
    )
    @given(changed(fuzz_targets.corpus(name)))
    def look(data: bytes) -> None:
        nonlocal failing
        if time.monotonic() < end:
            failing = data
            fuzz_targets.TARGETS[name](data)

    try:
        while time.monotonic() < end:
            look()
    except Exception as error:
        path = RUN / name / f"crash-{hashlib.sha256(failing).hexdigest()[:12]}"
        path.write_bytes(failing)
        print(f"{name}: {type(error).__name__}: {error}")
        return 1
    return 0


def command(name: str, *more: str) -> list[str]:
    return [sys.executable, str(HERE), "one", name, *more]


def look(seconds: int, names: Sequence[str]) -> int:
    """Each target for its part of the time. -> exit code."""
    share = max(1, seconds // len(names))
    try:
        import atheris  # noqa: F401

        has_atheris = True
    except ImportError:
        has_atheris = False
        print("atheris is not installed: hypothesis changes the corpus, without looking at the coverage")
    broken = 0
    for name in names:
        work = RUN / name
        work.mkdir(parents=True, exist_ok=True)
        before = set(work.glob("crash-*")) | set(work.glob("timeout-*"))
        if has_atheris:
            done = subprocess.run(
                command(
                    name, str(work), str(HERE / "corpus" / name), f"-max_total_time={share}", "-max_len=4096",
                    "-timeout=5", "-rss_limit_mb=1024", f"-artifact_prefix={work}/", "-print_final_stats=1",
                ),
                capture_output=True, text=True, check=False, cwd=ROOT,
            )  # fmt: skip
            runs = [line.split()[-1] for line in done.stderr.splitlines() if "number_of_executed_units" in line]
            print(f"{name}: {share} s, {runs[0] if runs else '?'} inputs, exit {done.returncode}", flush=True)
            if done.returncode:
                print(done.stdout.strip()[-3000:])
                print("\n".join(line for line in done.stderr.splitlines() if line.startswith(("==", "SUMMARY"))))
            broken += bool(done.returncode)
        else:
            code = by_hypothesis(name, share)
            print(f"{name}: {share} s, exit {code}", flush=True)
            broken += bool(code)
        for path in (set(work.glob("crash-*")) | set(work.glob("timeout-*"))) - before:
            print(f"  again: .venv/bin/python tests/fuzz show {name} {path.relative_to(ROOT)}")
    return 1 if broken else 0


def show(name: str, path: Path) -> None:
    from fuzz import fuzz_targets

    data = path.read_bytes()
    print(repr(data))
    fuzz_targets.TARGETS[name](data)
    print("holds")


def keep(names: Sequence[str]) -> None:
    """Of what the runs have reached, smallest first, each input that takes a turn in our code which no input before it has taken."""
    import coverage

    with_branches = coverage.Coverage(branch=True, source=["forward_auth"], data_file=None)
    with_branches.start()
    from fuzz import fuzz_targets

    logging.disable(logging.CRITICAL)
    taken: set[tuple[str, tuple[int, int]]] = set()

    def turns(data: bytes) -> set[tuple[str, tuple[int, int]]]:
        with_branches.erase()
        with_branches.start()
        fuzz_targets.TARGETS[name](data)
        with_branches.stop()
        found = with_branches.get_data()
        return {(file, arc) for file in found.measured_files() for arc in found.arcs(file) or ()}

    for name in names:
        have = fuzz_targets.corpus(name)
        taken = set().union(*(turns(data) for data in have))
        room = KEPT // len(names) - sum(len(data) for data in have)
        for data in sorted({path.read_bytes() for path in (RUN / name).iterdir()} - set(have), key=len):
            if len(data) <= min(room, fuzz_targets.LARGEST) and not (new := turns(data)) <= taken:
                taken |= new
                room -= len(data)
                (HERE / "corpus" / name / hashlib.sha256(data).hexdigest()[:12]).write_bytes(data)
        print(f"{name}: {len(fuzz_targets.corpus(name))} inputs", flush=True)


def main(arguments: Sequence[str]) -> int:
    from fuzz.names import NAMES

    match arguments:
        case ["one", name, *more]:
            one(name, more)
        case ["show", name, path]:
            show(name, Path(path))
        case ["keep", *names]:
            keep(names or NAMES)
        case [seconds, *names] if seconds.isdigit() and set(names) <= set(NAMES):
            return look(int(seconds), names or NAMES)
        case _:
            print(__doc__)
            return 2
    return 0


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main(sys.argv[1:]))
