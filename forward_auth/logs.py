"""The log: one line per event, JSON or logfmt, on standard error.

For: machines first, people with `jq` or `grep` second. Refuses: a second line (tracebacks are one escaped field), a control character, a log line
per check. Levels and format come from `[log]`.
"""

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Final, TextIO

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
            fields["traceback"] = self.formatException(record.exc_info)
        if self._json:
            return json.dumps(fields, ensure_ascii=True, separators=(",", ":"))
        return " ".join(
            f"{key}={value if _PLAIN.fullmatch(value) else json.dumps(value, ensure_ascii=True)}"
            for key, value in fields.items()
        )


def set_up(style: str, level: str, stream: TextIO | None = None) -> None:
    """Replace whatever logging there was. The libraries' own loggers are heard from WARNING on; aiohttp's traceback for each malformed
    request is not ours to store (LOG-05)."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(OneLine(style))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("forward_auth").setLevel(LEVELS[level])
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
