"""The log: one line per event, JSON or logfmt, on standard error.

For: machines first, people with `jq` or `grep` second. Refuses: a second line (tracebacks are one escaped field), a control character, a log line
per check, as many lines as a stranger likes (LOG-05), and to wait for a reader that has stopped: the event loop is not the log's to hold (LIFE-03). Levels and format come from `[log]`.
"""

import json
import logging
import re
import select
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, TextIO

_TRACEBACK: Final = 3000  # characters; with the rest a line stays below what a pipe takes whole (PIPE_BUF, 4096)
A_MINUTE: Final = 60  # lines of one kind: more than a good day brings, and no disk is full of them
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.:/@+-]+")
LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class OneLine(logging.Formatter):
    """ts, level, logger, message and, for our own faults, traceback."""

    def __init__(self, style: str) -> None:
        super().__init__()
        self._json = style == "json"

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        fields = {
            "ts": moment,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)[-_TRACEBACK:]
        if self._json:
            return json.dumps(fields, ensure_ascii=True, separators=(",", ":"))
        return " ".join(
            f"{key}={value if _PLAIN.fullmatch(value) else json.dumps(value, ensure_ascii=True)}"
            for key, value in fields.items()
        )


class Unwaiting(logging.StreamHandler[TextIO]):
    """Writes where it can do so at once. While a pipe or socket is full, because journald or whoever reads has stopped, lines are lost and
    counted; the next one that goes out is preceded by how many."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._lost = 0
        self._poll: select.poll | None = None
        try:
            descriptor = stream.fileno()
        except (OSError, ValueError):  # no file behind it: nothing that could be full
            return
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)

    def emit(self, record: logging.LogRecord) -> None:
        """Never waits; called under the handler's lock."""
        if self._lost and self._at_once():
            lost, self._lost = self._lost, 0
            text = f"{lost} log lines were lost: nobody read them in time"
            super().emit(logging.LogRecord("forward_auth.log", logging.WARNING, __file__, 0, text, None, None))
        if self._at_once():
            super().emit(record)
        else:
            self._lost += 1

    def _at_once(self) -> bool:
        return self._poll is None or bool(self._poll.poll(0))


class Pace:
    """Lines about what a stranger can cause at will: A_MINUTE a minute of each kind, and then how many more there were. `kind`: one of few
    words of ours; `clock`: Unix seconds."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float]) -> None:
        self._log = log
        self._clock = clock
        self._minute = -1
        self._seen: Counter[str] = Counter()

    def say(self, kind: str, level: int, text: str, *values: object, trouble: bool = False) -> None:
        """`trouble`: with the traceback of the exception at hand."""
        self.tell()
        self._seen[kind] += 1
        if self._seen[kind] <= A_MINUTE:
            self._log.log(level, text, *values, exc_info=trouble)

    def tell(self) -> None:
        """To be called now and then: once a minute is over, says what it left out."""
        minute = int(self._clock() // 60)
        if minute == self._minute:
            return
        for kind, count in self._seen.items():
            if count > A_MINUTE:
                self._log.warning("%s: %d more lines of this kind were left out of one minute", kind, count - A_MINUTE)
        self._minute = minute
        self._seen.clear()


def set_up(style: str, level: str, stream: TextIO | None = None) -> None:
    """Replace whatever logging there was. The libraries' own loggers are heard from WARNING on; aiohttp's traceback for each malformed
    request is not ours to store (LOG-05)."""
    handler = Unwaiting(stream or sys.stderr)
    handler.setFormatter(OneLine(style))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("forward_auth").setLevel(LEVELS[level])
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
