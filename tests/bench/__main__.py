"""`make bench`: what a check costs, as ratios measured within one run, beside the target of each.

For: the table of the README. Server and its rival take turns on core 0 (A B A B …), the load comes from core 1; quoted is the median over the
rounds. «By CPU» is the same ratio by what the operating system charged the server per request: steadier than requests per second on a busy machine.
Refuses: to count a wrong answer as a fast one, and to be a test: nothing here fails because a machine is slow. What could not be measured at
all is said below the table, and the exit code is 1.

    python tests/bench [--quick] [--only NAME,NAME] [--seconds 3] [--rounds 5]
"""

import argparse
import contextlib
import datetime
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Final

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(Path(__file__).parent), str(TESTS / "proxies"), str(TESTS), str(TESTS.parent)]

import checks  # noqa: E402
import weight  # noqa: E402
from checks import Bench  # noqa: E402
from nginx import binary  # noqa: E402
from rig import CONNECTIONS, LOAD_CORE, SERVER_CORE  # noqa: E402
from running import CLIENT, SimulatorThread, shared_key  # noqa: E402

PARTS: Final[Mapping[str, Callable[[Bench], None]]] = {
    "kept-alive": checks.kept_alive,
    "new": checks.new_connections,
    "nginx": checks.through_nginx,
    "refusals": checks.refusals,
    "start": checks.start,
    "first": checks.first_checks,
    "stored": weight.stored_sessions,
    "memory": weight.in_memory,
    "rules": weight.many_rules,
    "flood": weight.flood,
    "slow": weight.slow_connections,
    "sign-ins": weight.sign_ins,
}
QUICK: Final = ("kept-alive", "new", "nginx", "refusals", "start", "first")
BUSY: Final = 0.7


def main() -> int:
    parser = argparse.ArgumentParser(prog="python tests/bench")
    parser.add_argument("--seconds", type=float, default=3, help="of one round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--quick", action="store_true", help="two rounds of a second; without --only: the figures of one check alone"
    )
    parser.add_argument("--only", default="", help=f"some of: {', '.join(PARTS)}")
    options = parser.parse_args()
    names = options.only.split(",") if options.only else list(QUICK if options.quick else PARTS)
    for name in names:
        if name not in PARTS:
            parser.error(f"--only {name}: not one of {', '.join(PARTS)}")
    missing = [tool for tool in ("wrk", "taskset") if shutil.which(tool) is None] + ([] if binary() else ["nginx"])
    if missing:
        print(f"not installed: {', '.join(missing)}; run: deploy/system-packages.sh bench", file=sys.stderr)
        return 1
    if (os.cpu_count() or 1) < 2:
        print("this needs two cores: one for the server, one for the load", file=sys.stderr)
        return 1
    busy = os.getloadavg()[0]
    if busy > BUSY:
        print(f"the machine is busy (load {busy:.1f}): these figures are not to be trusted", file=sys.stderr)
    os.sched_setaffinity(0, {LOAD_CORE})  # also what is started from here, until it is pinned elsewhere
    rounds, seconds = (2, 1.0) if options.quick else (options.rounds, options.seconds)
    with (
        tempfile.TemporaryDirectory() as name,
        SimulatorThread(clients=[CLIENT], key=shared_key()) as simulator,
        contextlib.ExitStack() as stack,
    ):
        folder = Path(name)
        folder.chmod(0o755)
        bench = Bench(folder, simulator, stack, rounds, seconds, options.quick)
        for part in names:
            began = time.monotonic()
            try:
                PARTS[part](bench)
            except Exception as error:  # one part that fails does not take the others with it
                bench.table.fail(part, f"{type(error).__name__}: {error}")
            print(f"{part}: {time.monotonic() - began:.0f} s", file=sys.stderr)
        print(described(rounds, seconds))
        print()
        print(bench.table)
        for why in bench.table.failed:
            print(f"\nNot measured: {why}")
        if busy > BUSY:
            print(f"\nThe machine was busy when this began (load {busy:.1f}): **not trustworthy**, do not quote.")
        return 1 if bench.table.failed else 0


def described(rounds: int, seconds: float) -> str:
    """Machine, date, versions, how."""
    nginx = subprocess.run([binary() or "nginx", "-v"], capture_output=True, text=True, check=True).stderr
    wrk = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False).stdout.split()[1]
    versions = ", ".join(f"{name} {version(name)}" for name in ("uvloop", "httptools", "aiohttp"))
    return (
        f"Measured on {datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC: {cpu_name()}, {os.cpu_count()} cores, {platform.system()} "
        f"{platform.release().split('-')[0]}, load {os.getloadavg()[0]:.1f}; Python {platform.python_version()}, {versions}, "
        f"{nginx.strip().rpartition(': ')[2]}, wrk {wrk} with {CONNECTIONS} connections; {rounds} rounds of {seconds:g} s in turns, medians. "
        f"Server on core {SERVER_CORE}, load on core {LOAD_CORE}."
    )


def cpu_name() -> str:
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.machine()


if __name__ == "__main__":
    sys.exit(main())
