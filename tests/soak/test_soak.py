"""A short long run: `make soak` for a few seconds, with every part of it."""

import re
import subprocess
import sys
from pathlib import Path

SOAK = Path(__file__).parent


def test_a_short_run(tmp_path: Path) -> None:
    """Nobody gets in, nobody is taken for another, no sign-out is lost, under faults; a line for each figure, three in ten requests hostile."""
    done = subprocess.run(
        [sys.executable, str(SOAK), "--seconds", "18", "--people", "16"],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    said = done.stdout + done.stderr
    assert 0 == done.returncode, said
    figures = dict(re.findall(r"^(R\d+) +(met|MISSED|not judged)", done.stdout, re.MULTILINE))
    assert ["R1", "R2", "R3", "R4", "R5", "R7", "R8", "R9", "R10", "R11", "R13", "R14", "R15"] == list(figures), said
    assert {"met"} == {figures[each] for each in ("R1", "R2", "R9")}, said
    assert "MISSED" != figures["R7"], said
    share = re.search(r"with (\d+)% hostile", done.stdout)
    assert share is not None
    assert 25 <= int(share[1]) <= 35
