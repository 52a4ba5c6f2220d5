"""The audit trail: who entered where, who was refused, who left; a stream of its own.

For: one JSON object a line, UTC, with the national id: the trail is the only place where it is written (CSP imputability; LOG-04). Refuses:
to block the event loop (lines are handed to a thread), to lose its place when the file is renamed (reopened on SIGHUP and when its inode
changes), and, with `required`, to let anybody sign in while it cannot be written (Vault's rule; LIFE-03).

Events and fields: config/audit.schema.json.
"""

import json
import os
import queue
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TextIO

EVENTS: Final = ("sign_in", "enter", "refused", "sign_out", "ended", "situation", "admin")
_WAITING: Final = 10_000
_RETRY: Final = 1.0  # seconds


class Audit:
    """The trail. `stdout`: standard output too; None: only where there is no `path`. `failing`: the last write did not succeed,
    or too much waits to be written."""

    def __init__(
        self,
        path: Path | None,
        *,
        required: bool,
        clock: Callable[[], float],
        node: str,
        stdout: bool | None = None,
        stream: TextIO | None = None,
    ) -> None:
        self._path = path
        self._required = required
        self._clock = clock
        self._node = node
        wanted = path is None if stdout is None else stdout
        self._stream: TextIO | None = stream or (sys.stdout if wanted else None)
        self._handed = False  # the stream has the line under way; what is left is to flush it
        self._file = -1
        self._inode = 0
        self._waiting: bytes | None = None  # the line under way, as far as it is not written
        self._lines: queue.Queue[str | None] = queue.Queue(_WAITING)
        self._lost = False
        self._error = ""
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    @property
    def failing(self) -> str:
        """ "" when fine, else one sentence for the log."""
        return self._error or ("audit lines were lost: the sink is too slow" if self._lost else "")

    @property
    def refuses_sign_ins(self) -> bool:
        return self._required and bool(self.failing)

    def start(self) -> None:
        """Open the sink (an error is remembered, not raised: who is in stays in) and begin to write."""
        self._try_open()
        self._thread = threading.Thread(target=self._write_all, name="audit", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, then let go."""
        if self._thread is not None:
            self._stopping.set()
            self._lines.put(None)
            self._thread.join(5)
            self._thread = None

    def reopen(self) -> None:
        """After SIGHUP: the next line opens the file again."""
        self._inode = -1

    def write(self, event: str, **fields: object) -> None:
        """One event. Never blocks: when too much waits the line is lost, said so, and sign-ins are refused if the trail is required."""
        moment = datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        document = {"ts": moment, "event": event, "node": self._node, **fields}
        try:
            self._lines.put_nowait(json.dumps(document, ensure_ascii=True, separators=(",", ":")))
        except queue.Full:
            self._lost = True

    def _write_all(self) -> None:
        while True:
            try:
                line = self._lines.get(timeout=_RETRY)
            except queue.Empty:
                if self._path is not None and self._file < 0:
                    self._try_open()  # nobody may sign in meanwhile, so no event would bring the sink back
                continue
            if line is None:
                break
            self._waiting, self._handed = None, False
            while not self._write(line) and not self._stopping.wait(_RETRY):
                pass  # the line is kept until the sink is back, or until we stop
            if self._lines.empty():
                self._lost = False
        self._close()

    def _write(self, line: str) -> bool:
        """One line, once: what part of it a full disk took is not written again."""
        if self._waiting is None:
            self._waiting = (line + "\n").encode("ascii")
        where = str(self._path)
        try:
            if self._path is not None and self._waiting:
                if self._file < 0 or not self._same_file():
                    self._open()
                    # Whole: its first half may stand in a file that was moved away.
                    self._waiting = (line + "\n").encode("ascii")
                while self._waiting:
                    self._waiting = self._waiting[os.write(self._file, self._waiting) :]
            where = "standard output"
            if self._stream is not None:
                if not self._handed:
                    self._stream.write(line + "\n")
                    self._handed = True
                self._stream.flush()
        except (OSError, ValueError) as error:
            self._error = f"the audit trail cannot be written: {where}: {_reason(error)}; check that its directory exists, is ours and has room"
            return False
        self._waiting = None
        self._handed = False
        self._error = ""
        return True

    def _same_file(self) -> bool:
        assert self._path is not None
        try:
            return self._path.stat().st_ino == self._inode
        except OSError:
            return False

    def _open(self) -> None:
        """Raises OSError. Created 0640; appended to, never truncated."""
        assert self._path is not None
        self._close()
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        self._inode = os.fstat(self._file).st_ino

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _try_open(self) -> None:
        if self._path is None:
            return
        try:
            self._open()
            self._error = ""
        except OSError as error:
            self._error = f"the audit trail {self._path} cannot be opened: {_reason(error)}; check that its directory exists and is ours"


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__
