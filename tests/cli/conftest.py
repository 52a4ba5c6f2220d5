"""The command, called in this process."""

import pytest
from commands import Command, in_process


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """`command("check-config", path)` -> Done(code, out, err)."""
    return in_process(capsys)
