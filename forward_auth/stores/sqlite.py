"""The embedded default: one SQLite file, shared by the processes of one machine, that survives restart, kill -9 and power loss.

The event loop never waits on the disk. Two threads of our own do: one writes, one reads, each with its own connection; the
loop puts a job in a queue and awaits a future. Writes that queue up are committed together (one fsync for all of them) and
acknowledged after the commit, never before. Every failure of the disk, the file or another process is StoreUnavailable with
the cure in `detail`; «no such row» is only said by a database that answered.

Refuses: a file that a newer release wrote, that another program owns, that is damaged or was deleted or replaced under our
feet. None of these is mended silently, since that would forget who signed out.
"""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from forward_auth.errors import StoreUnavailable
from forward_auth.stores import Change, Ended, Lapsed, LoginRow, Selection, TicketRow
from forward_auth.stores import sqlite_rows as rows
from forward_auth.stores.rules import closed, column_of, must_belong, must_grow
from forward_auth.stores.sqlite_file import File

_P = ParamSpec("_P")
_T = TypeVar("_T")

_BATCH: Final = 256  # writes in one transaction
_READS: Final = 16  # reads answered with one wake-up of the loop
_PROBE: Final = 65_536  # bytes that `health` writes after a failed write: more pages than a sign-in needs
_QUEUED: Final = 20_000  # jobs waiting; beyond, the store says so instead of eating the memory


class SqliteStore:
    """See forward_auth.stores.Store for what each method promises; here is what this engine adds.

    `path`: the file, made 0600 when absent, in a directory that exists. `busy` (seconds): how long a write waits for another
    process's lock. `patience` (seconds): how long a caller waits for a disk that does not answer at all; a write that was
    given up may still happen. `most_bytes`: a cap on the file, 0 for none.

    Use it from one event loop. A cancelled caller's write still happens (a sign-out once asked is done); nobody ever gets
    another caller's answer.
    """

    def __init__(self, path: Path, *, busy: float = 2.0, patience: float = 5.0, most_bytes: int = 0) -> None:
        self._file = File(path, busy, most_bytes)
        self._patience = patience
        self._writer: _Worker | None = None
        self._reader: _Worker | None = None

    async def open(self) -> None:
        """Make or migrate the file and start the two threads. A second call changes nothing. StoreUnavailable with the cure."""
        if self._writer is not None:
            return
        self._file.broken = None
        writer = _Worker("store-write", self._file, self._file.connect_writer, _write_together, _BATCH)
        reader = _Worker("store-read", self._file, self._file.connect_reader, _read_each, _READS)
        await writer.start()
        try:
            await reader.start()
        except BaseException:
            await writer.stop()
            raise
        self._writer, self._reader = writer, reader

    async def close(self) -> None:
        """Write what was asked, then stop the threads. Idempotent."""
        writer, reader = self._writer, self._reader
        self._writer = self._reader = None
        if writer is not None and reader is not None:
            # The reader first: the last connection to close moves the journal into the file, and only the writer may.
            await reader.stop()
            await writer.stop()

    async def health(self) -> str | None:
        """None when fine, else one English sentence with the cure. After a failed write it tries a larger one."""
        try:
            await self._read(rows.newest)
            if self._file.last_write_failed:
                await self._write(rows.put_note, "store-health", bytes(_PROBE), 0)
        except StoreUnavailable as error:
            return error.detail
        return None

    async def add_login(self, login: LoginRow, ticket: TicketRow, now: int) -> bool:
        """See Store.add_login. ValueError for an id or digest that is already there, or a ticket of another login."""
        must_belong(ticket, login)
        return await self._write(rows.add_login, login, ticket, now)

    async def replace_login(self, login: LoginRow, was: int, now: int) -> bool:
        """See Store.replace_login. ValueError when the version does not grow."""
        must_grow(login, was)
        return await self._write(rows.replace_login, login, was, now)

    async def add_ticket(self, ticket: TicketRow, now: int) -> bool:
        """See Store.add_ticket. ValueError for a digest that is already there."""
        return await self._write(rows.add_ticket, ticket, now)

    async def find(self, digest: bytes, now: int) -> tuple[TicketRow, LoginRow] | None:
        """See Store.find."""
        return _must_be_for(digest, await self._read(rows.find, digest, now))

    async def login(self, login_id: bytes, now: int) -> LoginRow | None:
        """See Store.login."""
        return await self._read(rows.login, login_id, now)

    async def take(self, digest: bytes, now: int) -> tuple[TicketRow, LoginRow] | None:
        """See Store.take."""
        return _must_be_for(digest, await self._write(rows.take, digest, now))

    async def drop_ticket(self, digest: bytes) -> None:
        """See Store.drop_ticket."""
        await self._write(rows.drop_ticket, digest)

    async def touch(self, seen: Mapping[bytes, int], now: int) -> None:
        """See Store.touch. Written in slices of a thousand, in the order of the file."""
        instants = sorted((login_id, min(instant, now)) for login_id, instant in seen.items())
        for start in range(0, len(instants), rows.SLICE):
            await self._write(rows.touch, instants[start : start + rows.SLICE])

    async def end(self, which: Selection, now: int, keep_until: int) -> Sequence[Ended]:
        """See Store.end. ValueError unless exactly one thing is selected. More than a thousand logins end in several
        transactions; each of those is complete in itself."""
        column, value = column_of(which)
        ended: list[Ended] = []
        after: bytes | None = b""
        while after is not None:
            some, after = await self._write(rows.end, column, value, which.before, now, keep_until, after)
            ended += some
        return ended

    async def is_ended(self, sid_tag: bytes | None, sub_tag: bytes | None, auth_time: int, now: int) -> bool:
        """See Store.is_ended."""
        return await self._read(rows.is_forbidden, sid_tag, sub_tag, auth_time, now)

    async def changes(self, after: int) -> tuple[int, Sequence[Change]]:
        """See Store.changes."""
        return await self._read(rows.changes, after)

    async def logins(self, now: int) -> Sequence[LoginRow]:
        """See Store.logins. Read page by page between other reads: a login that is there all along is listed, one that
        comes or goes meanwhile may be."""
        found: list[LoginRow] = []
        after: bytes | None = b""
        while after is not None:
            page, after = await self._read(rows.page_of_logins, after, now)
            found += page
        return sorted(found, key=lambda login: (-login.created, login.id))

    async def lapse(self, now: int, most: int = 1000) -> Sequence[Lapsed]:
        """See Store.lapse."""
        return await self._write(rows.lapse, now, most)

    async def expire(self, now: int, most: int = 1000) -> int:
        """See Store.expire."""
        return await self._write(rows.expire, now, most)

    async def put_note(self, name: str, value: bytes, until: int) -> None:
        """See Store.put_note."""
        await self._write(rows.put_note, name, value, until)

    async def get_note(self, name: str, now: int) -> bytes | None:
        """See Store.get_note."""
        return await self._read(rows.get_note, name, now)

    async def claim(self, name: str, until: int, now: int) -> bool:
        """See Store.claim."""
        return await self._write(rows.claim, name, until, now)

    async def release(self, name: str) -> None:
        """See Store.release."""
        await self._write(rows.release, name)

    async def _read(
        self, run: Callable[Concatenate[sqlite3.Connection, _P], _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        return await self._ask(self._reader, run, args)

    async def _write(
        self, run: Callable[Concatenate[sqlite3.Connection, _P], _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        return await self._ask(self._writer, run, args)

    async def _ask(self, worker: "_Worker | None", run: Callable[..., _T], args: tuple[Any, ...]) -> _T:
        if worker is None:
            raise closed()
        job = _Job(run, args)
        worker.put(job)
        # A disk or network file system that hangs: the caller gets an error, the thread goes on waiting.
        timer = job.loop.call_later(self._patience, _give_up, job.future, self._file.path)
        try:
            answer: _T = await job.future
            return answer
        finally:
            timer.cancel()


def _must_be_for(digest: bytes, found: tuple[TicketRow, LoginRow] | None) -> tuple[TicketRow, LoginRow] | None:
    """STO-04, CVE-class «another user's record»: whatever went wrong between the threads, a foreign row is never handed out."""
    if found is not None and (found[0].digest != digest or found[0].login_id != found[1].id):
        raise StoreUnavailable(
            "store_mismatch",
            "the store answered with a row that was not asked for; restart the service and report this",
        )
    return found


class _Job:
    """One question to a thread and, afterwards, its outcome. Without `run` it only waits for a word from the thread."""

    __slots__ = ("args", "error", "future", "loop", "result", "run")

    def __init__(self, run: Callable[..., Any] | None = None, args: tuple[Any, ...] = ()) -> None:
        self.run = run
        self.args = args
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self.loop.create_future()
        self.result: Any = None
        self.error: Exception | None = None

    def do(self, connection: sqlite3.Connection) -> None:
        """In the thread."""
        assert self.run is not None
        self.result = self.run(connection, *self.args)


def _settle(jobs: Sequence[_Job]) -> None:
    """On the loop: hand each outcome to the one who asked, unless that one has gone."""
    for job in jobs:
        if job.future.done():
            continue
        if job.error is not None:
            job.future.set_exception(job.error)
        else:
            job.future.set_result(job.result)


def _give_up(future: asyncio.Future[Any], path: str) -> None:
    if not future.done():
        future.set_exception(
            StoreUnavailable(
                "store_slow", f"{path}: the disk does not answer; look at its load and at the kernel log (dmesg)"
            )
        )


class _Worker:
    """One thread, one connection, jobs in the order they came."""

    def __init__(
        self,
        name: str,
        file: File,
        connect: Callable[[], sqlite3.Connection],
        serve: Callable[[File, sqlite3.Connection, Sequence[_Job]], None],
        most: int,
    ) -> None:
        self._file = file
        self._connect = connect
        self._serve = serve
        self._most = most
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        # A daemon: where the loop crashed and nobody closes, the process must still be able to exit.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._ready: _Job | None = None
        self._gone: _Job | None = None

    async def start(self) -> None:
        """Returns once the connection stands; raises what opening it raised."""
        self._ready = _Job()
        self._thread.start()
        try:
            await self._ready.future
        except asyncio.CancelledError:
            self._queue.put(None)  # nobody waits any more: the thread ends by itself
            raise
        except Exception:
            self._thread.join()  # it has said its last word
            raise

    async def stop(self) -> None:
        """What was asked before is still done; then the thread ends."""
        self._gone = _Job()
        self._queue.put(None)
        await self._gone.future
        self._thread.join()

    def put(self, job: _Job) -> None:
        """Queue one job. StoreUnavailable when the thread is far behind or the file is known to be bad."""
        if self._file.broken is not None:
            raise StoreUnavailable(*self._file.broken)
        if self._queue.qsize() >= _QUEUED:
            raise StoreUnavailable(
                "store_busy", f"{self._file.path}: {_QUEUED} requests are waiting for the disk; it is too slow"
            )
        self._queue.put(job)

    def _run(self) -> None:
        assert self._ready is not None
        try:
            connection = self._connect()
        except Exception as error:
            self._ready.error = error
            _deliver([self._ready])
            return
        _deliver([self._ready])
        is_open = True
        while is_open:
            job = self._queue.get()
            jobs: list[_Job] = []
            while job is not None:
                jobs.append(job)
                if len(jobs) == self._most or self._queue.empty():
                    break
                job = self._queue.get()
            is_open = job is not None
            if jobs:
                self._serve(self._file, connection, jobs)
                _deliver(jobs)
        connection.close()
        if self._gone is not None:
            _deliver([self._gone])


def _deliver(jobs: Sequence[_Job]) -> None:
    """From the thread to the loop, with one wake-up where one will do."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
    for job in jobs:
        by_loop.setdefault(job.loop, []).append(job)
    for loop, some in by_loop.items():
        try:
            loop.call_soon_threadsafe(_settle, some)
        except RuntimeError:
            pass  # that loop is closed: nobody waits any more


def _read_each(file: File, connection: sqlite3.Connection, jobs: Sequence[_Job]) -> None:
    """Each read is its own snapshot, so it sees everything acknowledged before it was asked."""
    for job in jobs:
        try:
            file.must_have_been_there()
            job.do(connection)
        except Exception as error:
            job.error = file.explain(error)


def _write_together(file: File, connection: sqlite3.Connection, jobs: Sequence[_Job], is_second: bool = False) -> None:
    """All in one transaction. When it fails for want of room or for one of the jobs, each is done again by itself, once: a bad
    one fails alone, and on a full disk the sign-outs, which need little, pass where sign-ins do not."""
    try:
        file.must_be_there()
        connection.execute("BEGIN IMMEDIATE")
        for job in jobs:
            job.do(connection)
        connection.execute("COMMIT")
        file.last_write_failed = False
    except Exception as error:
        _roll_back(connection)
        told = file.explain(error)
        is_full = isinstance(told, StoreUnavailable) and told.code == "store_full"
        if not is_second and (is_full or not isinstance(told, StoreUnavailable)):
            if is_full:
                _make_room(connection)
            for job in jobs:
                _write_together(file, connection, [job], is_second=True)
            return
        file.last_write_failed = isinstance(told, StoreUnavailable)
        for job in jobs:
            job.error = file.explain(error)  # an exception of its own for each: tracebacks grow on them


def _make_room(connection: sqlite3.Connection) -> None:
    """Move the journal into the file as far as it goes, so that the journal is written from its beginning again."""
    try:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    except sqlite3.Error:
        pass  # no room for that either; the next write tells


def _roll_back(connection: sqlite3.Connection) -> None:
    try:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    except sqlite3.Error:
        pass  # the first error is the one to tell
