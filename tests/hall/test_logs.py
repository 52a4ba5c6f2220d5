"""One event is one line, whatever it says."""

import io
import json
import logging
import os
import sys
from collections.abc import Iterator

import pytest

from forward_auth.logs import A_MINUTE, LEVELS, OneLine, Pace, set_up

HOSTILE = 'a\r\nb\x00\x1b[31m"c"\u2028d\udc80 é'


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """set_up replaces what there was; pytest has handlers of its own there."""
    loggers = [logging.getLogger(name) for name in ("", "forward_auth", "aiohttp.server", "asyncio")]
    before = [(each.level, list(each.handlers)) for each in loggers]
    yield
    for each, (level, handlers) in zip(loggers, before, strict=True):
        each.setLevel(level)
        each.handlers[:] = handlers


def a_record(message: str, *values: object, trouble: bool = False) -> logging.LogRecord:
    try:
        int(HOSTILE)
    except ValueError:
        info = sys.exc_info() if trouble else None
    record = logging.LogRecord("forward_auth.x", logging.WARNING, __file__, 1, message, values, info)
    record.created = 1_800_000_000.1234
    return record


def test_LOG_01_a_json_line_is_one_object() -> None:
    """CR, LF, NUL, ANSI, quotes, U+2028, lone surrogates: escaped, and the same again when it is read."""
    line = OneLine("json").format(a_record("said %s", HOSTILE))
    assert line.isascii()
    assert line.isprintable()
    expected = {
        "ts": "2027-01-15T08:00:00.123Z",
        "level": "warning",
        "logger": "forward_auth.x",
        "message": f"said {HOSTILE}",
    }
    assert expected == json.loads(line)


def test_LOG_01_a_traceback_is_one_field() -> None:
    """Of our own faults only, and on the same line."""
    line = OneLine("json").format(a_record("failed", trouble=True))
    assert line.isprintable()
    assert "ValueError" in json.loads(line)["traceback"]
    assert "traceback" not in json.loads(OneLine("json").format(a_record("failed")))


def test_LOG_01_a_logfmt_line_is_one_line() -> None:
    """Plain values bare, the others quoted."""
    line = OneLine("logfmt").format(a_record("said %s", HOSTILE, trouble=True))
    assert line.isascii()
    assert line.isprintable()
    assert line.startswith('ts=2027-01-15T08:00:00.123Z level=warning logger=forward_auth.x message="said a\\r\\n')
    assert line.endswith('"')
    assert " message=done" in OneLine("logfmt").format(a_record("done"))


@pytest.mark.parametrize("style", ["json", "logfmt"])
@pytest.mark.parametrize("level", LEVELS)
def test_levels_are_ours_and_libraries_are_heard_from_warning_on(style: str, level: str) -> None:
    """LOG-05: a library's line for each malformed request is nobody's."""
    stream = io.StringIO()
    set_up(style, level, stream)
    for name in LEVELS:
        logging.getLogger("forward_auth.check").log(LEVELS[name], "ours-%s", name)
        logging.getLogger("some.library").log(LEVELS[name], "theirs-%s", name)
        logging.getLogger("aiohttp.server").log(LEVELS[name], "bad-request-%s", name)
    said = stream.getvalue()
    assert [LEVELS[name] >= LEVELS[level] for name in LEVELS] == [f"ours-{name}" in said for name in LEVELS]
    assert [False, False, True, True] == [f"theirs-{name}" in said for name in LEVELS]
    assert "bad-request" not in said
    assert all(line.startswith("{" if style == "json" else "ts=") for line in said.splitlines())


def test_set_up_replaces_whatever_logging_there_was() -> None:
    """Again after a reload: no line twice."""
    first, second = io.StringIO(), io.StringIO()
    set_up("json", "info", first)
    set_up("json", "info", second)
    logging.getLogger("forward_auth").info("once")
    assert ("", 1) == (first.getvalue(), second.getvalue().count("once"))


def test_the_log_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output is the audit trail's, and people's."""
    set_up("logfmt", "info")
    logging.getLogger("forward_auth").info("here")
    captured = capsys.readouterr()
    assert ("", True) == (captured.out, "message=here" in captured.err)


def test_LOG_05_a_kind_has_so_many_lines_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """Each kind for itself; the number of the rest is told once, when the minute is over, also by a clock that steps back."""
    now = [1_800_000_000.0]
    log = logging.getLogger("forward_auth.pace")
    caplog.set_level(logging.DEBUG, log.name)
    pace = Pace(log, lambda: now[0])
    for later in (60, 60, -3600):
        for number in range(A_MINUTE + 7):
            pace.say("stale 400", logging.WARNING, "stale %d", number)
        pace.say("error 503", logging.ERROR, "one")
        assert [f"stale {number}" for number in range(A_MINUTE)] + ["one"] == [
            each.getMessage() for each in caplog.records
        ]
        caplog.clear()
        pace.tell()
        now[0] += later
        pace.tell()
        pace.tell()
        assert ["stale 400: 7 more lines of this kind were left out of one minute"] == [
            each.getMessage() for each in caplog.records
        ]
        caplog.clear()


def test_LIFE_03_a_line_that_nobody_reads_is_lost_and_counted_and_nobody_waits() -> None:
    """A pipe whose reader has stopped: lines go missing, the process goes on, and the first line that goes out again is preceded by how many."""
    reader, writer = os.pipe()
    with open(reader, "rb", buffering=0) as read, open(writer, "w", encoding="ascii") as stream:
        set_up("logfmt", "info", stream)
        log = logging.getLogger("forward_auth")
        for number in range(200):
            log.info("%d %s", number, "x" * 1000)
        stood = read.read(1 << 20)
        kept = stood.count(b"\n")
        assert 0 < kept < 200
        log.info("back")
        told, back, _ = read.read(1 << 20).decode().split("\n")
        assert f'message="{200 - kept} log lines were lost: nobody read them in time"' in told
        assert "message=back" in back
        log.info("once more")
        assert 1 == read.read(1 << 20).count(b"\n")
