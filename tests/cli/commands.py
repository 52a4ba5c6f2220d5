"""The command for tests: in this process where a process adds nothing, as one where it does.

def test_version(command):                  # fixture: cli.main, and what it said
    assert 0 == command("--version").code

done = run("keys", "list", "nowhere")       # `python -m forward_auth keys list nowhere`
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from running import ROOT

from forward_auth.cli import main

ISSUER = "http://psc.localhost:9/auth/realms/esante-wallet"
"""Of a PSC that nobody listens for (port 9, discard)."""


@dataclass(frozen=True)
class Done:
    """What came of a command. `out`, `err`: what it said."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """What it said on standard error, without the log of a service that began to start."""
        return [line for line in self.err.splitlines() if not line.startswith('{"ts":')]


Command = Callable[..., Done]


def in_process(capsys: pytest.CaptureFixture[str]) -> Command:
    """cli.main, called."""

    def call(*arguments: object) -> Done:
        capsys.readouterr()
        try:
            code = main([str(each) for each in arguments])
        except SystemExit as ended:  # argparse's way to end
            code = ended.code if isinstance(ended.code, int) else -1
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    return call


def argv(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "forward_auth", *map(str, arguments)]


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **(more or {})}


def run(*arguments: object, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Done:
    """As its user runs it, to its end."""
    done = subprocess.run(
        argv(*arguments), capture_output=True, text=True, timeout=20, check=False, env=environment(env), cwd=cwd
    )
    return Done(done.returncode, done.stdout, done.stderr)


def until(true: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Whether something comes true before the deadline; asked often."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.02)
    return true()
