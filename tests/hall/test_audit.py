"""The audit trail: one line an event, kept where it belongs, and nobody signs in while it cannot be written."""

import errno
import io
import json
import os
import resource
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forward_auth import audit
from forward_auth.audit import EVENTS, Audit

NOW = 1_800_000_000.25
SCHEMA = json.loads((Path(__file__).parents[2] / "config" / "audit.schema.json").read_text("utf-8"))
FULL = Path("/dev/full")  # every write to it fails: no space left on device


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sink that failed is tried again after a hundredth of a second instead of one."""
    monkeypatch.setattr(audit, "_RETRY", 0.01)


@contextmanager
def running(path: Path | None, *, required: bool = True, stream: Any = None) -> Iterator[Audit]:
    trail = Audit(path, required=required, clock=lambda: NOW, node="node-1", stream=stream)
    trail.start()
    try:
        yield trail
    finally:
        trail.stop()


@contextmanager
def full_after(path: Path, more: int) -> Iterator[None]:
    """The disk has room for so many bytes more in this file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def soon(true: Callable[[], object]) -> None:
    """Wait until it is so, five seconds at most."""
    end = time.monotonic() + 5
    while not true():
        assert time.monotonic() < end, "it never came to pass"
        time.sleep(0.002)


def events(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("ascii").splitlines()] if path.exists() else []


def counts(path: Path) -> list[int]:
    return [event["count"] for event in events(path)]


def test_an_event_is_one_json_line(tmp_path: Path) -> None:
    """When, what, where, and what else there is to say."""
    path = tmp_path / "audit.log"
    with running(path) as trail:
        trail.write("sign_in", outcome="success", subject="899700000042", login="0" * 16)
        assert ("", False) == (trail.failing, trail.refuses_sign_ins)
    expected = {
        "ts": "2027-01-15T08:00:00.250Z",
        "event": "sign_in",
        "node": "node-1",
        "outcome": "success",
        "subject": "899700000042",
        "login": "0" * 16,
    }
    assert [expected] == events(path)


def test_the_events_are_those_of_the_schema() -> None:
    """Programs that read the trail are told of all of them."""
    assert set(EVENTS) == set(SCHEMA["properties"]["event"]["enum"])


def test_a_new_file_is_for_its_owner_and_group(tmp_path: Path) -> None:
    """0640; one that is there is added to."""
    path = tmp_path / "audit.log"
    before = os.umask(0)
    try:
        with running(path) as trail:
            trail.write("enter", count=1)
    finally:
        os.umask(before)
    assert 0o640 == stat.S_IMODE(path.stat().st_mode)
    with running(path) as trail:
        trail.write("enter", count=2)
    assert [1, 2] == counts(path)


def test_without_a_file_it_goes_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    """Or to the stream that is given, which stays open."""
    with running(None) as trail:
        trail.write("enter", count=1)
    assert 1 == json.loads(capsys.readouterr().out)["count"]
    stream = io.StringIO()
    with running(None, stream=stream) as trail:
        trail.reopen()
        trail.write("enter", count=2)
    assert 2 == json.loads(stream.getvalue())["count"]


def test_both_sinks_have_each_line_once(tmp_path: Path) -> None:
    """A file and standard output, where the configuration asks for both; a full disk repeats no line on the other one."""
    path, stream = tmp_path / "audit.log", io.StringIO()
    with running(path, stream=stream) as trail:
        trail.write("enter", count=1)
        soon(lambda: counts(path) == [1])
        with full_after(path, 10):
            trail.write("enter", count=2)
            soon(lambda: trail.failing)
        soon(lambda: not trail.failing)
        trail.write("enter", count=3)
    assert [1, 2, 3] == counts(path) == [json.loads(line)["count"] for line in stream.getvalue().splitlines()]


class Unflushed(io.StringIO):
    """Takes every line, and cannot pass the first one on at once."""

    tries = 3

    def flush(self) -> None:
        self.tries -= 1
        if self.tries > 0:
            raise OSError(errno.ENOSPC, "no room")


def test_what_standard_output_could_not_pass_on_stands_once_in_both(tmp_path: Path) -> None:
    """The file has the line already when standard output fails: neither gets it twice."""
    path, stream = tmp_path / "audit.log", Unflushed()
    with running(path, stream=stream) as trail:
        trail.write("enter", count=1)
        soon(lambda: "standard output" in trail.failing)
        trail.write("enter", count=2)
        soon(lambda: not trail.failing)
    assert [1, 2] == counts(path) == [json.loads(line)["count"] for line in stream.getvalue().splitlines()]


def test_a_trail_that_goes_nowhere_fails_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    """No file and no standard output, which `check-config` warns of."""
    trail = Audit(None, required=False, clock=lambda: NOW, node="node-1", stdout=False)
    trail.start()
    trail.write("enter", count=1)
    trail.reopen()
    trail.stop()
    assert ("", "", False) == (capsys.readouterr().out, trail.failing, trail.refuses_sign_ins)


def test_a_renamed_file_is_left_and_a_new_one_begun(tmp_path: Path) -> None:
    """As logrotate does it, with and without a signal; no line is lost or stands in the wrong file."""
    path = tmp_path / "audit.log"
    with running(path) as trail:
        trail.write("enter", count=1)
        soon(lambda: counts(path) == [1])
        path.rename(tmp_path / "audit.log.1")
        trail.write("enter", count=2)
        soon(lambda: counts(path) == [2])
        path.rename(tmp_path / "audit.log.2")
        trail.reopen()
        trail.write("enter", count=3)
        soon(lambda: counts(path) == [3])
        path.unlink()
        trail.write("enter", count=4)
    assert [[1], [2], [4]] == [counts(tmp_path / name) for name in ("audit.log.1", "audit.log.2", "audit.log")]


def test_LIFE_03_who_cannot_write_refuses_sign_ins_and_recovers_by_itself(tmp_path: Path) -> None:
    """The directory is missing: said at once, with the cure; no event is needed to bring it back, and what waited is written."""
    path = tmp_path / "later" / "audit.log"
    with running(path) as trail:
        assert str(path) in trail.failing
        assert "No such file or directory; check that its directory exists and is ours" in trail.failing
        assert trail.refuses_sign_ins
        path.parent.mkdir()
        soon(lambda: not trail.failing)
        assert not trail.refuses_sign_ins
        path.unlink()
        path.parent.rmdir()
        trail.write("enter", count=1)
        soon(lambda: trail.failing)
        path.parent.mkdir()
        soon(lambda: not trail.failing)
        assert [1] == counts(path)


def test_a_trail_that_is_not_required_only_says_that_it_fails(tmp_path: Path) -> None:
    """`audit.required = false`: people sign in, the gauge and the log know."""
    with running(tmp_path / "missing" / "audit.log", required=False) as trail:
        assert trail.failing
        assert not trail.refuses_sign_ins


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full on this system")
def test_LIFE_03_a_full_disk_is_a_failing_trail(tmp_path: Path) -> None:
    """The file opens and cannot be written: sign-ins are refused, and the loop never waits."""
    path = tmp_path / "audit.log"
    path.symlink_to(FULL)
    trail = Audit(path, required=True, clock=lambda: NOW, node="node-1")
    trail._try_open()
    began = time.monotonic()
    for _ in range(1000):
        trail.write("enter")
    assert time.monotonic() - began < 1
    assert not trail._write("{}")
    assert trail.failing.startswith("the audit trail cannot be written: ")
    assert "No space left on device" in trail.failing
    assert trail.refuses_sign_ins
    trail._close()


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full on this system")
def test_LIFE_03_a_full_disk_that_is_replaced_brings_the_trail_back(tmp_path: Path) -> None:
    """The operator points the file at another disk; the writing thread must still be there."""
    path = tmp_path / "audit.log"
    path.symlink_to(FULL)
    with running(path) as trail:
        trail.write("enter", count=1)
        soon(lambda: trail.failing)
        path.unlink()
        end = time.monotonic() + 0.5
        while trail.failing and time.monotonic() < end:
            time.sleep(0.01)
        assert "" == trail.failing
        assert [1] == counts(path)


def test_LIFE_03_LOG_03_after_a_full_disk_each_line_stands_once(tmp_path: Path) -> None:
    """No half line, no line twice, however long the disk was full."""
    path = tmp_path / "audit.log"
    with running(path) as trail:
        trail.write("enter", count=1)
        soon(lambda: counts(path) == [1])
        with full_after(path, 10):
            trail.write("enter", count=2)
            soon(lambda: trail.failing)
            time.sleep(0.05)  # several tries
        soon(lambda: not trail.failing)
        trail.write("enter", count=3)
    assert [1, 2, 3] == counts(path)


def test_LIFE_03_a_line_half_written_stands_whole_in_the_next_file(tmp_path: Path) -> None:
    """The disk filled in the middle of a line and the file was moved away: the new one begins with the whole line."""
    path = tmp_path / "audit.log"
    with running(path) as trail:
        trail.write("enter", count=1)
        soon(lambda: counts(path) == [1])
        with full_after(path, 10):
            trail.write("enter", count=2)
            soon(lambda: trail.failing)
            path.rename(tmp_path / "audit.log.1")
        soon(lambda: not trail.failing)
        trail.write("enter", count=3)
    assert [2, 3] == counts(path)


class Stuck(io.StringIO):
    """A sink that takes a line and gives nothing back until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def write(self, text: str) -> int:
        self.go.wait(5)
        return super().write(text)


def test_LIFE_03_a_sink_that_is_too_slow_loses_lines_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check that writes never waits; sign-ins are refused until everything that waits is written."""
    monkeypatch.setattr(audit, "_WAITING", 5)
    stream = Stuck()
    with running(None, stream=stream) as trail:
        for number in range(20):
            trail.write("enter", count=number)
        assert "audit lines were lost: the sink is too slow" == trail.failing
        assert trail.refuses_sign_ins
        stream.go.set()
        soon(lambda: not trail.failing)
    assert 5 <= len(stream.getvalue().splitlines()) < 20


class Broken(io.StringIO):
    """A sink that is closed, as far as anybody can tell."""

    def write(self, text: str) -> int:
        raise ValueError("I/O operation on closed file")


def test_stopping_does_not_wait_for_a_sink_that_never_comes_back() -> None:
    """The service can end; the name of the error is told when there is no sentence."""
    trail = Audit(None, required=True, clock=lambda: NOW, node="node-1", stream=Broken())
    trail.start()
    for _ in range(20):
        trail.write("enter")
    soon(lambda: trail.failing)
    assert trail.failing.startswith("the audit trail cannot be written: ")
    assert "ValueError" in trail.failing
    began = time.monotonic()
    trail.stop()
    trail.stop()
    assert time.monotonic() - began < 2


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(), st.text())
def test_LOG_01_whatever_a_value_holds_it_is_one_line(value: str, other: str) -> None:
    """CR, LF, U+2028, lone surrogates: escaped, ASCII, and the same again when it is read."""
    stream = io.StringIO()
    with running(None, stream=stream) as trail:
        trail.write("refused", address=value, method=other, reference="a\r\nb\u2028\udc80")
    written = stream.getvalue()
    assert written.isascii()
    assert [written] == [written.splitlines()[0] + "\n"]
    read = json.loads(written)
    assert (value, other, "a\r\nb\u2028\udc80") == (read["address"], read["method"], read["reference"])
