"""`make soak`: python tests/soak --seconds 600 | --requests 5000000 [--people 60] [--seed 1]. Exit 1: a wrong allow, a cross-user answer or a lost sign-out."""

import argparse
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent)]

if __name__ == "__main__":
    from soak.long_run import run

    parser = argparse.ArgumentParser(description="a long run that knows each answer, under faults")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--requests", type=int, default=0, help="so many answers, however long it takes")
    parser.add_argument("--people", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    said = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        sys.exit(run(Path(folder), said.seconds, said.requests, said.people, said.seed))
