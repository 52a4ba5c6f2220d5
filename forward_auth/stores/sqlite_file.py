"""The file of the SQLite store: how it is made, opened, migrated and told from another, and what its failures mean.

Refuses: a file of a newer release, of another program, a damaged one, one that was deleted or replaced while open, and a file
system that cannot share memory between processes. Each refusal is StoreUnavailable and names the cure.
"""

import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from forward_auth.errors import StoreUnavailable
from forward_auth.stores import sqlite_rows as rows

_OLDEST_SQLITE: Final = (3, 37, 0)  # STRICT tables; RETURNING came with 3.35
# Bytes: up to here all is looked at when opening. Measured: 64 ms for 57 MiB; R8 asks for ready in less than 2 s.
_CHECKED_WHOLE: Final = 256 << 20
_LOOK_EVERY: Final = 0.1  # seconds
_PAUSE: Final = 0.02  # seconds between two tries to switch the journal on

_PRAGMAS: Final = (
    "PRAGMA synchronous = FULL",  # with the write-ahead journal: fsync at each commit. Acknowledged means on the disk
    "PRAGMA foreign_keys = ON",  # a login takes its tickets and its record with it
    "PRAGMA trusted_schema = OFF",  # who can write the file shall not run functions in us
    "PRAGMA cell_size_check = ON",  # damage is noticed where it is read
    "PRAGMA secure_delete = FAST",  # what was deleted is zeroed where that costs nothing
    "PRAGMA cache_size = -4096",  # KiB; the rest is the kernel's page cache
    "PRAGMA journal_size_limit = 67108864",  # bytes; a burst does not leave a large journal behind for ever
)

_MOVE_AWAY: Final = "stop the service, move the file (and -wal, -shm) away and start: everybody signs in again, and PSC sign-outs received before are forgotten"

_LOCKED: Final = ("store_locked", "another process holds its lock; find it with fuser, end that backup or shell")
_DAMAGED: Final = ("store_damaged", _MOVE_AWAY)
_FULL: Final = (
    "store_full",
    "free space on that disk, or raise the quota or file size limit (LimitFSIZE); work goes on by itself",
)

# By SQLite's result code, the extended one first: our code for logs and metrics, and what the operator does about it.
_TROUBLES: Final[Mapping[int, tuple[str, str]]] = {
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_PROTOCOL: _LOCKED,
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_IOERR_WRITE: _FULL,  # how SQLite names every failed write but ENOSPC: EFBIG, EDQUOT …
    sqlite3.SQLITE_IOERR: ("store_io", "look at free space and the kernel log (dmesg) of that disk"),
    sqlite3.SQLITE_READONLY: (
        "store_read_only",
        "make file and directory writable for the service's user, remount read-write",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        "store_directory",
        "the file and its -wal and -shm must be the service user's; mend owner and mode",
    ),
}
_OTHER: Final = ("store_failed", "restart the service; if it stays, move the file away")


class File:
    """The file: how it is made, opened and told from another; what its failures mean. Used by the threads."""

    def __init__(self, path: Path, busy: float, most_bytes: int) -> None:
        self.path = os.path.realpath(path)
        # Damage, once seen, is for good (until `open`): a file that can be read in part answers wrongly.
        self.broken: tuple[str, str] | None = None
        self.last_write_failed = False
        self._busy = busy
        self._most_bytes = most_bytes
        self._opened: tuple[tuple[str, tuple[int, int] | None], ...] = ()
        self._looked = 0.0

    def connect_writer(self) -> sqlite3.Connection:
        """A connection to the file, made or migrated if need be. StoreUnavailable with the cure."""
        if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
            raise StoreUnavailable(
                "store_sqlite_old",
                f"SQLite {sqlite3.sqlite_version} is too old; install {'.'.join(map(str, _OLDEST_SQLITE))} or newer",
            )
        self._make()
        connection = self._connect(self._prepare)
        # Read after the first transaction: now both exist, and nobody deletes the journal while a connection is open.
        self._opened = tuple((name, _identity(name)) for name in (self.path, f"{self.path}-wal"))
        return connection

    def connect_reader(self) -> sqlite3.Connection:
        """A connection that cannot write, to the file the writer has opened."""
        self.must_be_there()
        return self._connect(lambda connection: connection.execute("PRAGMA query_only = ON"))

    def must_have_been_there(self) -> None:
        """As must_be_there, looked at within the last tenth of a second. For reads: each system call gives up the interpreter
        lock, and on a busy loop getting it back is what a read waits for."""
        instant = time.monotonic()
        if instant - self._looked > _LOOK_EVERY:
            self.must_be_there()
            self._looked = instant

    def must_be_there(self) -> None:
        """The very file that was opened still has its name, and so has its journal. 2 µs.

        A file deleted while open can still be read and written, by this process alone and until it ends: sign-outs would be
        acknowledged and lost. Put back by `mv`, it is the same file again and work goes on.
        """
        for name, identity in self._opened:
            if _identity(name) != identity:
                raise StoreUnavailable(
                    "store_gone",
                    f"{name} was deleted or replaced while open: put it back, or restart the service (everybody signs in again)",
                )

    def explain(self, error: Exception) -> Exception:
        """What to raise to the caller for what happened in the thread: a new exception each time."""
        if isinstance(error, StoreUnavailable):
            return StoreUnavailable(error.code, error.detail)
        if isinstance(error, sqlite3.IntegrityError):
            return ValueError(f"the store refuses this row: {error}")  # names a column, never a value
        number = getattr(error, "sqlite_errorcode", None)
        if isinstance(error, UnicodeDecodeError) or (isinstance(error, sqlite3.OperationalError) and number is None):
            # Damage in a text, be it a column's or that of SQLite's own message: Python could not decode it.
            self.broken = (_DAMAGED[0], f"{self.path}: a text is not UTF-8: {_DAMAGED[1]}")
            return StoreUnavailable(*self.broken)
        if not isinstance(error, sqlite3.Error) or number is None:
            return error  # a wrong type in a row and the like: our own mistake
        code, cure = _TROUBLES.get(number) or _TROUBLES.get(number & 0xFF, _OTHER)
        told = StoreUnavailable(code, f"{self.path}: {error} ({error.sqlite_errorname}): {cure}")
        if code == "store_damaged":
            self.broken = (told.code, told.detail)
        return told

    def _make(self) -> None:
        directory = os.path.dirname(self.path)
        if not os.path.isdir(directory):
            raise StoreUnavailable(
                "store_directory", f"{directory} is not a directory: create it, owned by the service's user, mode 0700"
            )
        if not os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
            raise StoreUnavailable(
                "store_read_only",
                f"{directory} cannot be written by this user (its journal lies beside the file): chown or remount it",
            )
        # Never opened by hand when it exists: closing that descriptor would drop this process's locks on it (POSIX).
        if not os.path.lexists(self.path):
            self._create(directory)
        if not stat.S_ISREG(os.stat(self.path).st_mode):
            raise StoreUnavailable("store_foreign", f"{self.path} is not a file: name another path in session.store")
        if not os.access(self.path, os.R_OK | os.W_OK, effective_ids=True):
            raise StoreUnavailable(
                "store_read_only", f"{self.path} cannot be read and written by this user: chown or chmod 0600 it"
            )

    def _create(self, directory: str) -> None:
        journal = f"{self.path}-wal"
        # The file's absence is asked again after the journal's presence: another process may just have made both.
        if os.path.lexists(journal) and not os.path.lexists(self.path):
            # SQLite would replay it into the new file, and half of the old logins would be back.
            raise StoreUnavailable(
                "store_left_over", f"{journal} is left over from a file that is gone: move it away too"
            )
        try:
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
            handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(handle)  # the name survives a power loss too
            finally:
                os.close(handle)
        except FileExistsError:
            pass  # another process was faster
        except OSError as error:
            raise StoreUnavailable(
                "store_directory", f"{self.path} cannot be made: {error.strerror}; mend the directory or free space"
            ) from None

    def _connect(self, prepare: Callable[[sqlite3.Connection], object]) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = None
        try:
            connection = sqlite3.connect(self.path, timeout=self._busy, isolation_level=None)
            for pragma in _PRAGMAS:
                connection.execute(pragma)
            prepare(connection)
            rows.newest(connection)  # the first read opens the journal
        except Exception as error:
            if connection is not None:
                connection.close()
            raise self.explain(error) from None
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        version = self._version(connection)
        self._use_journal(connection)
        if self._most_bytes:
            connection.execute(f"PRAGMA max_page_count = {self._most_bytes // _number(connection, 'page_size')}")
        if version < len(rows.STEPS):
            connection.execute("BEGIN IMMEDIATE")
            # Again, now alone: another process may just have done it.
            for step in rows.STEPS[self._version(connection) :]:
                for statement in step:
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {len(rows.STEPS)}")
            connection.execute("COMMIT")
        if os.stat(self.path).st_size <= _CHECKED_WHOLE:
            # The whole check and not the quick one: it compares tables with their indexes, and so finds single flipped
            # bytes in ids, tags, limits and tombstones. What is sealed is checked by whoever opens it.
            found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(1)")]
            if found != ["ok"]:
                raise StoreUnavailable("store_damaged", f"{self.path} is damaged: {_MOVE_AWAY}")

    def _version(self, connection: sqlite3.Connection) -> int:
        """The file's schema; refuses a file that is not ours or newer than we are."""
        version = _number(connection, "user_version")
        tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        owner = _number(connection, "application_id")
        if owner != rows.APPLICATION and (owner or version or tables):
            raise StoreUnavailable(
                "store_foreign", f"{self.path} belongs to another program: name another path in session.store"
            )
        if version > len(rows.STEPS):
            raise StoreUnavailable(
                "store_newer",
                f"{self.path} was written by a newer release (schema {version}, this one knows {len(rows.STEPS)}): "
                f"start that release again, or {_MOVE_AWAY}",
            )
        return version

    def _use_journal(self, connection: sqlite3.Connection) -> None:
        """Write-ahead journal: readers never wait for writers. Two processes that start together on a new file may meet here,
        and SQLite does not use its busy time-out for this switch."""
        pause = threading.Event()
        tries = int(self._busy / _PAUSE)
        while True:
            try:
                mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
                break
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or tries == 0:
                    raise
            tries -= 1
            pause.wait(_PAUSE)
        if mode != "wal":
            raise StoreUnavailable(
                "store_no_journal",
                f"{self.path}: this file system cannot share memory between processes; put the store on a local disk",
            )


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    return int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])


def _identity(name: str) -> tuple[int, int] | None:
    """Which file stands under that name now; None for none."""
    try:
        found = os.stat(name)
    except OSError:
        return None
    return found.st_dev, found.st_ino
