"""The SQLite store when things break: killed, cancelled, full, locked, read-only, deleted, damaged, of another release.

The oracle is the same everywhere: an answer is the right one or StoreUnavailable, and its detail names the file and the cure.
"""

import asyncio
import contextlib
import gc
import itertools
import os
import random
import re
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from store_samples import KEEP, NOW, a_login, a_ticket, name

from forward_auth.errors import StoreUnavailable
from forward_auth.stores import Change, Ended, LoginRow, Selection, TicketRow, sqlite_file, sqlite_rows
from forward_auth.stores import sqlite as sqlite_module
from forward_auth.stores.sqlite import SqliteStore

ROOT = Path(__file__).parents[2]

PREAMBLE = """
import asyncio, sys
from pathlib import Path
from forward_auth.errors import StoreUnavailable
from forward_auth.stores import Selection
from forward_auth.stores.sqlite import SqliteStore
from store_samples import KEEP, NOW, a_login, a_ticket, name

def say(*words):
    print(*words, flush=True)

async def with_store(story):
    store = SqliteStore(Path(sys.argv[1]))
    await store.open()
    try:
        await story(store)
    finally:
        await store.close()
"""


def child(script: str, path: Path, *args: str, under: tuple[str, ...] = ()) -> "subprocess.Popen[str]":
    """A second process of ours with that script, `sys.argv[1]` being the store; what it says comes line by line."""
    return subprocess.Popen(
        [*under, sys.executable, "-c", PREAMBLE + script, str(path), *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        text=True,
    )


def lines(process: "subprocess.Popen[str]") -> Iterator[str]:
    assert process.stdout is not None
    for line in process.stdout:
        yield line.rstrip("\n")


def tell(process: "subprocess.Popen[str]", word: str) -> None:
    assert process.stdin is not None
    process.stdin.write(word + "\n")
    process.stdin.flush()


def finish(process: "subprocess.Popen[str]") -> list[str]:
    """What it said until it ended well."""
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    return said.splitlines()


def with_store(path: Path, story: Callable[[SqliteStore], Awaitable[None]], **options: Any) -> None:
    """Runs a story with the store open, and closes it."""

    async def whole() -> None:
        store = SqliteStore(path, **options)
        await store.open()
        try:
            await story(store)
        finally:
            await store.close()

    asyncio.run(whole())


def refused(path: Path, code: str, *words: str, **options: Any) -> None:
    """The store does not open, with that code; the detail names the file and has these words of the cure."""

    async def whole() -> None:
        store = SqliteStore(path, **options)
        with pytest.raises(StoreUnavailable) as caught:
            await store.open()
        must_say(caught.value, code, str(path.parent), *words)
        assert "\n" not in caught.value.detail

    asyncio.run(whole())


def must_say(error: StoreUnavailable, code: str, *words: str) -> None:
    assert error.code == code
    for word in words:
        assert word in error.detail


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "logins.db"


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Every test leaves threads and open files as it found them."""

    def held() -> tuple[int, int]:
        gc.collect()
        return threading.active_count(), len(os.listdir("/proc/self/fd"))

    before = held()
    yield
    assert before == held()


# --- crashes


def test_LIFE_02_acknowledged_survives_kill(path: Path) -> None:
    """LIFE-02: killed twenty times in the middle of writing, everything acknowledged is there: logins, ends, tombstones."""
    script = """
async def story(store):
    first = int(sys.argv[2])
    async def one(number):
        login = a_login(number)
        assert await store.add_login(login, a_ticket(login), NOW)
        say("added", number)
        if number % 2:
            await store.end(Selection(sid_tag=login.sid_tag), NOW, KEEP)
            say("ended", number)
        else:
            await store.end(Selection(sid_tag=name("other", number)), NOW, KEEP)
            say("buried", number)
    for start in range(first, first + 100_000, 8):
        await asyncio.gather(*(one(number) for number in range(start, start + 8)))
asyncio.run(with_store(story))
"""
    chance = random.Random(2)
    said: dict[str, set[int]] = {"added": set(), "ended": set(), "buried": set()}
    for turn in range(20):
        process = child(script, path, str(turn * 100_000))
        wanted = chance.randrange(1, 120)
        for count, line in enumerate(lines(process)):
            word, number = line.split()
            said[word].add(int(number))
            if count == wanted:
                process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        process.stdout.close()

    async def story(store: SqliteStore) -> None:
        there = {login.id for login in await store.logins(NOW)}
        for number in said["added"]:
            login = a_login(number)
            is_ended = await store.is_ended(login.sid_tag, None, NOW, NOW)
            assert (login.id in there) is not is_ended  # never half
            if login.id in there:
                assert (a_ticket(login), login) == await store.find(a_ticket(login).digest, NOW)
            if number % 2 == 0:
                assert not is_ended
        for number in said["ended"]:
            assert a_login(number).id not in there
            assert await store.is_ended(a_login(number).sid_tag, None, NOW, NOW)
        for number in said["buried"]:
            assert await store.is_ended(name("other", number), None, NOW, NOW)
        assert await store.health() is None

    assert len(said["ended"]) > 20
    with_store(path, story)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace shows whether the disk was asked to keep it")
def test_acknowledged_is_on_the_disk(path: Path, tmp_path: Path) -> None:
    """A power loss after the answer loses nothing: between two answers there is a sync of the journal, each time."""
    script = """
async def story(store):
    for number in range(10):
        login = a_login(number)
        await store.add_login(login, a_ticket(login), NOW)
        say("@added")
        await store.end(Selection(sid_tag=login.sid_tag), NOW, KEEP)
        say("@ended")
asyncio.run(with_store(story))
"""
    trace = tmp_path / "trace"
    calls = "trace=fdatasync,fsync,write"
    finish(child(script, path, under=("strace", "-f", "-y", "-e", calls, "-o", str(trace))))
    seen = re.findall(r'"(@added|@ended)|(?:fdatasync|fsync)\(\d+<[^>]*logins\.db(-wal)>', trace.read_text())
    for before, (word, _) in itertools.pairwise(seen):
        if word:
            assert before[1] == "-wal"
    assert sum(1 for word, _ in seen if word) == 20


# --- several processes


def test_end_is_seen_by_others_at_once(path: Path) -> None:
    """A sign-out acknowledged by one process is found ended, and heard of, by another at its next question (R9)."""
    script = """
async def story(store):
    say("ready")
    for line in sys.stdin:
        login = a_login(int(line))
        await store.end(Selection(sid_tag=login.sid_tag), NOW, KEEP)
        say("ended")
asyncio.run(with_store(story))
"""

    async def story(store: SqliteStore) -> None:
        for number in range(50):
            await store.add_login(a_login(number), a_ticket(a_login(number)), NOW)
        process = child(script, path)
        said = lines(process)
        assert next(said) == "ready"
        sequence, _ = await store.changes(-1)
        for number in range(50):
            login = a_login(number)
            assert await store.find(a_ticket(login).digest, NOW) is not None
            tell(process, str(number))
            assert next(said) == "ended"
            assert await store.find(a_ticket(login).digest, NOW) is None
            assert await store.is_ended(login.sid_tag, None, NOW, NOW)
            assert not await store.add_ticket(a_ticket(login, 2), NOW)
            sequence, changes = await store.changes(sequence)
            assert [Change(sequence, login.id, ended=True)] == list(changes)
        finish(process)

    with_store(path, story)


def test_one_of_many_processes(path: Path) -> None:
    """Four processes that open a new file together and want the same 200 codes and claims: each is given out exactly once."""
    script = """
async def story(store):
    await store.open()
    say("ready")
    sys.stdin.readline()
    async def one(number):
        login = a_login(number)
        if await store.take(a_ticket(login).digest, NOW):
            say("took", number)
        if await store.claim(f"jti-{number}", NOW + 60, NOW):
            say("claimed", number)
        if await store.replace_login(a_login(number, version=2, sealed=sys.argv[2].encode()), 1, NOW):
            say("replaced", number)
    await asyncio.gather(*(one(number) for number in range(200)))
asyncio.run(with_store(story))
"""
    processes = [child(script, path, str(number)) for number in range(4)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"

    async def story(store: SqliteStore) -> None:
        logins = [a_login(number) for number in range(200)]
        await asyncio.gather(*(store.add_login(login, a_ticket(login), NOW) for login in logins))

    with_store(path, story)
    for process in processes:
        tell(process, "go")
    said = [line for process in processes for line in finish(process)]
    assert sorted(f"{word} {number}" for word in ("took", "claimed", "replaced") for number in range(200)) == sorted(
        said
    )


# --- cancellation


def test_STO_04_cancel_storm(path: Path) -> None:
    """STO-04: clients that leave at any moment; nobody gets another's login, and a sign-out once asked is done."""
    people = 100

    async def story(store: SqliteStore) -> None:
        logins = [a_login(number) for number in range(people)]
        await asyncio.gather(*(store.add_login(login, a_ticket(login), NOW) for login in logins))
        chance = random.Random(4)
        answered = 0

        async def ask(login: LoginRow) -> None:
            nonlocal answered
            found = await store.find(a_ticket(login).digest, NOW)
            assert found is not None
            assert (login.id, login.sealed) == (found[1].id, found[1].sealed)
            assert await store.login(login.id, NOW) == login
            await store.touch({login.id: NOW}, NOW)
            answered += 1

        for _ in range(150):
            tasks = [asyncio.create_task(ask(chance.choice(logins))) for _ in range(40)]
            for _ in range(chance.randrange(12)):
                await asyncio.sleep(0)
            for task in tasks:
                if chance.random() < 0.7:
                    task.cancel()
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                assert outcome is None or isinstance(outcome, asyncio.CancelledError)
        assert answered > 500
        ends = [asyncio.create_task(store.end(Selection(sid_tag=login.sid_tag), NOW, KEEP)) for login in logins]
        await asyncio.sleep(0)  # each has asked
        for task in ends:
            task.cancel()
        await asyncio.gather(*ends, return_exceptions=True)
        await store.release("what was asked before is written before this")
        assert list(await store.logins(NOW)) == []

    with_store(path, story)


def test_a_foreign_row_is_never_handed_out() -> None:
    """STO-04: should the threads ever mix up answers, the one who asked gets an error."""
    asked, other = a_login(1), a_login(2)
    for found in ((a_ticket(other), other), (a_ticket(asked), other)):
        with pytest.raises(StoreUnavailable, match="store_mismatch"):
            sqlite_module._must_be_for(a_ticket(asked).digest, found)


def test_a_loop_that_ended(path: Path) -> None:
    """A loop that ends while the store still works for it does not break the thread for the next one."""
    store = SqliteStore(path)
    lock = sqlite3.connect(path, isolation_level=None, check_same_thread=False)

    async def begin() -> None:
        await store.open()
        lock.execute("BEGIN IMMEDIATE")
        task = asyncio.create_task(store.put_note("keys", b"x", NOW + 9))
        await asyncio.sleep(0)
        task.cancel()

    async def go_on() -> None:
        lock.execute("COMMIT")
        await store.put_note("more", b"y", NOW + 9)
        assert await store.get_note("keys", NOW) == b"x"
        await store.close()

    asyncio.run(begin())
    asyncio.run(go_on())
    lock.close()


def test_opening_is_cancelled(path: Path) -> None:
    """Whoever stops waiting for the store to open leaves no thread and no lock behind."""

    async def whole() -> None:
        for steps in range(6):
            store = SqliteStore(path)
            task = asyncio.create_task(store.open())
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await store.close()

    asyncio.run(whole())
    for thread in threading.enumerate():
        if thread.name.startswith("store-"):
            thread.join(5)


def test_a_bad_write_fails_alone(path: Path) -> None:
    """Writes that are committed together: the one that cannot be written fails, the others stand."""

    async def story(store: SqliteStore) -> None:
        logins = [a_login(number) for number in range(20)]
        wrong: Any = a_login(99, person_tag="text")
        tasks = [store.add_login(login, a_ticket(login), NOW) for login in [*logins, logins[3], wrong]]
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert answers[:20] == [True] * 20
        assert [ValueError, ValueError] == [type(answer) for answer in answers[20:]]
        unbindable: Any = object()
        answers = await asyncio.gather(
            store.put_note("a", unbindable, NOW + 9), store.put_note("b", b"x", NOW + 9), return_exceptions=True
        )
        assert not isinstance(answers[0], StoreUnavailable)
        assert isinstance(answers[0], Exception)
        assert await store.get_note("b", NOW) == b"x"
        assert len(await store.logins(NOW)) == 20
        assert await store.health() is None

    with_store(path, story)


# --- other releases, other programs


def test_older_schema_is_migrated(path: Path) -> None:
    """A file of an older release is brought up to date, with everything in it (STO-07)."""
    login = a_login()
    old = sqlite3.connect(path)
    for statement in sqlite_rows.STEPS[0]:
        old.execute(statement)
    old.execute("PRAGMA user_version = 1")
    sqlite_rows.add_login(old, login, a_ticket(login), NOW)
    old.commit()
    old.close()

    async def story(store: SqliteStore) -> None:
        assert (a_ticket(login), login) == await store.find(a_ticket(login).digest, NOW)
        await store.put_note("keys", b"x", NOW + 9)
        assert await store.get_note("keys", NOW) == b"x"
        assert await store.claim("jti", NOW + 9, NOW)

    with_store(path, story)
    with_store(path, lambda store: store.release("jti"))


def test_newer_schema_is_refused(path: Path) -> None:
    """A file of a newer release is refused with both ways out, and not one byte of it is changed."""
    with_store(path, lambda store: store.put_note("keys", b"x", NOW))
    newer = sqlite3.connect(path)
    newer.execute(f"PRAGMA user_version = {len(sqlite_rows.STEPS) + 5}")
    newer.close()
    before = path.read_bytes()
    refused(path, "store_newer", "newer release", "start that release", "everybody signs in again")
    assert before == path.read_bytes()


def test_foreign_file_is_refused(path: Path) -> None:
    """Another program's database is refused and left alone, with tables or with a name of its own."""
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE patients (name TEXT)")
    other.close()
    before = path.read_bytes()
    refused(path, "store_foreign", "another program", "session.store")
    assert before == path.read_bytes()
    path.unlink()
    other = sqlite3.connect(path)
    other.execute("PRAGMA application_id = 7")
    other.close()
    refused(path, "store_foreign", "another program")


def test_name_too_long(path: Path) -> None:
    """A file that cannot be made is refused with the system's own words."""
    refused(path.with_name("x" * 300), "store_directory", "cannot be made", "too long")


def test_LIFE_04_few_descriptors(path: Path) -> None:
    """LIFE-04: with hardly any file descriptor left the store opens or says why, and nothing stays behind either way."""
    _filled(path, 3)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def whole() -> None:
        outcomes = set()
        used = max(int(number) for number in os.listdir("/proc/self/fd"))
        for limit in range(5, used + 12):
            store = SqliteStore(path, busy=0.05)
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
            try:
                await store.open()
                outcomes.add("open")
            except StoreUnavailable as error:
                must_say(error, "store_directory", str(path))
                outcomes.add("refused")
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                await store.close()
            assert threading.active_count() == 1
        assert {"open", "refused"} == outcomes

    asyncio.run(whole())


def test_not_a_file(path: Path) -> None:
    """A directory of that name, or no directory to put the file in: said so."""
    path.mkdir()
    refused(path, "store_foreign", "is not a file")
    refused(path / "absent" / "logins.db", "store_directory", "create it")


def test_old_sqlite(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A SQLite library that lacks what we rely on is refused by its number before it touches anything."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 36, 0))

    async def whole() -> None:
        with pytest.raises(StoreUnavailable) as caught:
            await SqliteStore(path).open()
        must_say(caught.value, "store_sqlite_old", "3.37.0 or newer")

    asyncio.run(whole())
    assert not path.exists()


def test_no_shared_memory(path: Path) -> None:
    """Where SQLite cannot use its write-ahead journal (network file systems), the cure is a local disk."""
    connection = sqlite3.connect(":memory:")
    with pytest.raises(StoreUnavailable) as caught:
        sqlite_file.File(path, 0.1, 0)._use_journal(connection)
    must_say(caught.value, "store_no_journal", "local disk")
    connection.close()


# --- damage


def _filled(path: Path, count: int = 60) -> list[LoginRow]:
    """A store with logins 0…count-1, of which every third was ended."""
    logins = [a_login(number) for number in range(count)]

    async def story(store: SqliteStore) -> None:
        await asyncio.gather(*(store.add_login(login, a_ticket(login), NOW) for login in logins))
        await asyncio.gather(*(store.end(Selection(sid_tag=login.sid_tag), NOW, KEEP) for login in logins[::3]))

    with_store(path, story)
    return logins


async def _ask_all(store: SqliteStore, logins: list[LoginRow]) -> int:
    """Asks everything; each answer is right or StoreUnavailable with the cure. How many were right."""
    right = 0
    for number, login in enumerate(logins):
        is_ended = number % 3 == 0
        try:
            assert (None if is_ended else (a_ticket(login), login)) == await store.find(a_ticket(login).digest, NOW)
            assert is_ended is await store.is_ended(login.sid_tag, None, NOW, NOW)
            right += 1
        except StoreUnavailable as error:
            must_say(error, "store_damaged", "logins.db", "move the file", "everybody signs in again")
    return right


def test_damaged_pages(path: Path, tmp_path: Path) -> None:
    """Each page in turn is overwritten with noise: no wrong answer, the cure is named."""
    logins = _filled(path)
    sound = path.read_bytes()
    pages = len(sound) // 4096
    chance = random.Random(5)
    outcomes: Counter[str] = Counter()
    for page in chance.sample(range(pages), min(pages, 60)):
        noise = bytearray(sound)
        noise[page * 4096 : page * 4096 + 4096] = chance.randbytes(4096)
        hurt = tmp_path / f"{page}.logins.db"
        hurt.write_bytes(noise)

        async def story(store: SqliteStore) -> None:
            await _ask_all(store, logins)
            outcomes["answered"] += 1

        try:
            with_store(hurt, story)
        except StoreUnavailable as error:
            outcomes[error.code] += 1
    assert outcomes.keys() <= {"answered", "store_damaged", "store_foreign", "store_newer"}
    assert outcomes["store_damaged"] > 0


def test_flipped_bytes(path: Path, tmp_path: Path) -> None:
    """Eight bytes anywhere: a login that ended stays ended, a live one is found under its own ids, or the store is refused."""
    logins = _filled(path)
    sound = path.read_bytes()
    chance = random.Random(8)
    outcomes: Counter[str] = Counter()

    async def story(store: SqliteStore) -> None:
        for number, login in enumerate(logins):
            try:
                found = await store.find(a_ticket(login).digest, NOW)
                assert (number % 3 == 0) is await store.is_ended(login.sid_tag, None, NOW, NOW)
            except StoreUnavailable:
                outcomes["told later"] += 1
                continue
            assert (number % 3 == 0) is (found is None)
            if found is not None:
                assert (login.id, login.sid_tag, login.sub_tag, login.person_tag) == (
                    found[1].id,
                    found[1].sid_tag,
                    found[1].sub_tag,
                    found[1].person_tag,
                )
        outcomes["answered"] += 1

    for number in range(80):
        hurt = bytearray(sound)
        offset = chance.randrange(len(sound) - 8)
        hurt[offset : offset + 8] = chance.randbytes(8)
        victim = tmp_path / f"{number}.logins.db"
        victim.write_bytes(hurt)
        try:
            with_store(victim, story)
        except StoreUnavailable as error:
            outcomes[error.code] += 1
    assert outcomes["store_damaged"] > 0
    assert outcomes["answered"] > 0


@pytest.mark.parametrize("content", [b"not a database at all\n" * 400, b"SQLite format 3\0" + b"\xff" * 4096])
def test_noise_is_refused(path: Path, content: bytes) -> None:
    """A file that is no database is refused with the cure and left as it is."""
    path.write_bytes(content)
    refused(path, "store_damaged", "move the file", "everybody signs in again")
    assert content == path.read_bytes()


def test_damaged_text(path: Path) -> None:
    """A text that is no text any more is damage too, not a crash of ours."""
    login = a_login()
    with_store(path, lambda store: store.add_login(login, a_ticket(login), NOW))
    hand = sqlite3.connect(path)
    hand.execute("UPDATE ticket SET host = CAST(x'ff' AS TEXT)")
    hand.commit()
    hand.close()

    async def story(store: SqliteStore) -> None:
        for _ in range(2):
            with pytest.raises(StoreUnavailable) as caught:
                await store.find(a_ticket(login).digest, NOW)
            must_say(caught.value, "store_damaged", str(path), "move the file")

    with_store(path, story)


def test_damage_while_open(path: Path) -> None:
    """Damage that is met while running stops the whole store: one that can be read in part would answer wrongly."""
    logins = _filled(path, 200)

    async def story(store: SqliteStore) -> None:
        noise = random.Random(6).randbytes(4096)
        with path.open("r+b") as file:
            for offset in range(4096, path.stat().st_size, 4096):
                file.seek(offset)
                file.write(noise)
        assert await _ask_all(store, logins) < len(logins)
        with pytest.raises(StoreUnavailable, match="store_damaged"):
            await store.put_note("keys", b"x", NOW)
        assert "move the file" in (await store.health() or "")

    with_store(path, story)


# --- deleted, replaced


@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_deleted_while_open(path: Path, suffix: str) -> None:
    """A file or journal deleted or replaced under our feet is neither read nor written any more; put back, work goes on."""
    login = a_login()

    async def story(store: SqliteStore) -> None:
        await store.add_login(login, a_ticket(login), NOW)
        victim = path.with_name(path.name + suffix)
        away = path.with_name("away")
        victim.rename(away)
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="store_gone"):
                await store.end(Selection(sid_tag=login.sid_tag), NOW, KEEP)
            with pytest.raises(StoreUnavailable) as caught:
                while True:  # a read may be answered for a tenth of a second more, and rightly
                    assert (a_ticket(login), login) == await store.find(a_ticket(login).digest, NOW)
            must_say(caught.value, "store_gone", str(victim), "restart the service")
            assert "deleted or replaced" in (await store.health() or "")
            victim.touch()  # and now another one of that name
        away.rename(victim)
        assert (a_ticket(login), login) == await store.find(a_ticket(login).digest, NOW)
        assert [Ended(login.id, login.listing)] == list(await store.end(Selection(sid_tag=login.sid_tag), NOW, KEEP))
        assert await store.health() is None

    with_store(path, story)


def test_left_over_journal(path: Path) -> None:
    """The file was moved away but not its journal: nothing of the old logins comes back."""
    path.with_name("logins.db-wal").write_bytes(b"x" * 5_000)
    refused(path, "store_left_over", "logins.db-wal", "move it away too")
    assert not path.exists()


# --- not writable


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Permissions do not bind root: take the rights of nobody for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A path in a directory that everybody may enter and write."""
    directory = Path(os.path.realpath(f"/tmp/store-{os.getpid()}-{random.randrange(10**9)}"))
    directory.mkdir()
    directory.chmod(0o777)
    yield directory / "logins.db"
    directory.chmod(0o700)
    shutil.rmtree(directory)


def test_read_only_directory(open_path: Path) -> None:
    """A directory this user cannot write: neither a new file nor an existing one is opened, since the journal lies beside it."""
    open_path.parent.chmod(0o555)
    with as_nobody():
        refused(open_path, "store_read_only", "cannot be written", "chown or remount")
    open_path.parent.chmod(0o777)
    with as_nobody():
        with_store(open_path, lambda store: store.put_note("keys", b"x", NOW))
    open_path.parent.chmod(0o555)
    with as_nobody():
        refused(open_path, "store_read_only", "cannot be written")


def test_read_only_file(open_path: Path) -> None:
    """A file this user cannot write is refused with the command."""
    with as_nobody():
        with_store(open_path, lambda store: store.put_note("keys", b"x", NOW))
        open_path.chmod(0o400)
        refused(open_path, "store_read_only", "cannot be read and written", "chmod 0600")


def test_directory_of_another(open_path: Path) -> None:
    """A journal that belongs to somebody else cannot be opened: the detail says whose it must be."""
    if os.geteuid() != 0:
        pytest.skip("needs root to make a file of another user")
    with as_nobody():
        with_store(open_path, lambda store: store.put_note("keys", b"x", NOW))
    open_path.with_name("logins.db-wal").touch(0o600)
    with as_nobody():
        refused(open_path, "store_directory", "-wal", "owner and mode")


# --- full


def _fill(number: int) -> tuple[LoginRow, TicketRow]:
    login = a_login(number, sealed=os.urandom(12_000))
    return login, a_ticket(login)


@contextlib.contextmanager
def file_size_limit(most: int) -> Iterator[None]:
    """No file of this process grows beyond `most` bytes (EFBIG)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def _until_full(store: SqliteStore) -> tuple[list[LoginRow], StoreUnavailable]:
    """Adds logins until the store refuses."""
    added: list[LoginRow] = []
    for number in range(1_000):
        login, ticket = _fill(number)
        try:
            assert await store.add_login(login, ticket, NOW)
        except StoreUnavailable as error:
            return added, error
        added.append(login)
    raise AssertionError("never full")


def test_disk_full(path: Path) -> None:
    """LIFE-03: at a file size limit sign-ins are refused with the cure, logins are still found, and later all goes on."""

    async def story(store: SqliteStore) -> None:
        with file_size_limit(600_000):
            added, error = await _until_full(store)
            must_say(error, "store_full", str(path), "free space", "LimitFSIZE")
            assert len(added) > 3
            for login in added:
                assert (a_ticket(login), login) == await store.find(a_ticket(login).digest, NOW)
            assert "free space" in (await store.health() or "")
        assert await store.health() is None
        login, ticket = _fill(5_000)
        assert await store.add_login(login, ticket, NOW)
        assert {login.id for login in [*added, login]} == {login.id for login in await store.logins(NOW)}

    with_store(path, story)


def test_full_disk_with_room_in_the_file(path: Path) -> None:
    """No file can grow, but expired logins left room inside: the journal is moved into the file and sign-ins go on."""

    async def fill(store: SqliteStore) -> None:
        for number in range(60):
            await store.add_login(*_fill(number), NOW)

    async def story(store: SqliteStore) -> None:
        await store.end(Selection(everyone=True), NOW, KEEP)
        with file_size_limit(path.stat().st_size):
            for number in range(1_000, 1_030):
                assert await store.add_login(*_fill(number), NOW)
            assert await store.health() is None
        assert len(await store.logins(NOW)) == 30

    with_store(path, fill)
    with_store(path, story)


def test_cap_reached(path: Path) -> None:
    """At the cap of the file (as on a full disk) sign-ins are refused, also when many come at once; sign-outs still pass."""

    async def story(store: SqliteStore) -> None:
        added, error = await _until_full(store)
        must_say(error, "store_full", str(path), "free space")
        extra = [_fill(number) for number in range(2_000, 2_010)]
        answers = await asyncio.gather(
            *(store.add_login(login, ticket, NOW) for login, ticket in extra),
            store.end(Selection(login_id=added[0].id), NOW, KEEP),
            return_exceptions=True,
        )
        assert [Ended(added[0].id, added[0].listing)] == answers[-1]
        for (login, ticket), answer in zip(extra, answers, strict=False):
            if not isinstance(answer, StoreUnavailable):
                assert answer is True
            assert isinstance(answer, StoreUnavailable) is (await store.find(ticket.digest, NOW) is None)
            assert isinstance(answer, StoreUnavailable) is (await store.login(login.id, NOW) is None)
        assert any(isinstance(answer, StoreUnavailable) for answer in answers)
        assert await store.login(added[0].id, NOW) is None

    with_store(path, story, most_bytes=400_000)


@pytest.mark.skipif(
    shutil.which("unshare") is None or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0,
    reason="a small disk of its own cannot be mounted here",
)
def test_real_full_disk(tmp_path: Path) -> None:
    """A disk without a free byte: no wrong answer; acknowledged sign-outs hold; it goes on when there is room again."""
    script = """
import os
async def story(store):
    added = []
    try:
        for number in range(1000):
            login = a_login(number, sealed=os.urandom(20_000))
            assert await store.add_login(login, a_ticket(login), NOW)
            added.append(login)
    except StoreUnavailable as error:
        say(error.code, error.detail)
    for login in added:
        assert (a_ticket(login), login) == await store.find(a_ticket(login).digest, NOW)
    ended = set()
    for login in added[:5]:
        try:
            await store.end(Selection(sid_tag=login.sid_tag), NOW, KEEP)
            ended.add(login.id)
        except StoreUnavailable as error:
            assert error.code == "store_full"
    assert {login.id for login in added} - ended == {login.id for login in await store.logins(NOW)}
    os.unlink(sys.argv[1] + ".ballast")
    assert await store.health() is None
    assert await store.end(Selection(login_id=added[-1].id), NOW, KEEP)
asyncio.run(with_store(story))
"""
    mount = 'mount -t tmpfs -o size=2m none "$0" && head -c 500000 /dev/zero > "$0/logins.db.ballast" && exec "$@"'
    process = child(script, tmp_path / "logins.db", under=("unshare", "-m", "sh", "-c", mount, str(tmp_path)))
    said = finish(process)
    assert len(said) == 1
    assert said[0].startswith(f"store_full {tmp_path}/logins.db: ")
    assert "free space" in said[0]


# --- locked, slow


@contextlib.contextmanager
def locked(path: Path, *statements: str) -> Iterator[None]:
    """Another process that holds the write lock."""
    script = f"""
import sqlite3
other = sqlite3.connect(sys.argv[1], isolation_level=None)
for statement in {statements or ("BEGIN IMMEDIATE",)!r}:
    other.execute(statement).fetchall()
say("locked")
sys.stdin.readline()
"""
    process = child(script, path)
    assert next(lines(process)) == "locked"
    try:
        yield
    finally:
        finish(process)


def test_locked_by_another_process(path: Path) -> None:
    """A lock held longer than the time-out: writes are refused with the cure, reads go on, and later all goes on."""
    login = a_login()

    async def story(store: SqliteStore) -> None:
        await store.add_login(login, a_ticket(login), NOW)
        with locked(path):
            answers = await asyncio.gather(
                store.end(Selection(sid_tag=login.sid_tag), NOW, KEEP),
                store.take(a_ticket(login).digest, NOW),
                return_exceptions=True,
            )
            for answer in answers:
                assert isinstance(answer, StoreUnavailable)
                must_say(answer, "store_locked", str(path), "fuser")
            assert answers[0] is not answers[1]
            assert (a_ticket(login), login) == await store.find(a_ticket(login).digest, NOW)
            assert "fuser" in (await store.health() or "")
        assert await store.health() is None
        assert [Ended(login.id, login.listing)] == list(await store.end(Selection(sid_tag=login.sid_tag), NOW, KEEP))

    with_store(path, story, busy=0.05)


def test_locked_when_opening(path: Path) -> None:
    """A file that another program has for itself alone, new or in use, is refused with the cure."""
    with locked(path, "BEGIN EXCLUSIVE"):
        refused(path, "store_locked", "fuser", busy=0.05)
    with_store(path, lambda store: store.put_note("keys", b"x", NOW))
    with locked(path, "PRAGMA locking_mode = EXCLUSIVE", "BEGIN EXCLUSIVE"):
        refused(path, "store_locked", "fuser", busy=0.05)


def test_waits_for_another_that_starts(path: Path) -> None:
    """Two processes that start together on a new file: the second waits for the first, up to the time-out, and is not refused."""
    reads = ("BEGIN", "SELECT count(*) FROM sqlite_schema")
    with locked(path, *reads):
        refused(path, "store_locked", "fuser", busy=0.05)

    async def whole() -> None:
        store = SqliteStore(path, busy=20.0)
        with locked(path, *reads):
            task = asyncio.create_task(store.open())
            done, _ = await asyncio.wait({task}, timeout=0.05)
            assert not done
        await task
        assert await store.health() is None
        await store.close()

    asyncio.run(whole())


def test_a_disk_that_hangs(path: Path) -> None:
    """STO-02: a disk that does not answer holds up nobody longer than the patience; a write given up may still happen."""
    login = a_login()

    async def story(store: SqliteStore) -> None:
        await store.add_login(login, a_ticket(login), NOW)
        with locked(path):
            with pytest.raises(StoreUnavailable) as caught:
                await store.end(Selection(sid_tag=login.sid_tag), NOW, KEEP)
            must_say(caught.value, "store_slow", str(path), "dmesg")
            assert login == await store.login(login.id, NOW)
        await store.put_note("keys", b"x", NOW)  # behind it in the queue
        assert await store.login(login.id, NOW) is None

    with_store(path, story, busy=20.0, patience=1.0)


def test_too_many_waiting(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue to a slow disk is bounded: beyond it callers are told at once."""
    monkeypatch.setattr(sqlite_module, "_QUEUED", 10)

    async def story(store: SqliteStore) -> None:
        with locked(path):
            tasks = [asyncio.create_task(store.claim(str(number), NOW + 9, NOW)) for number in range(30)]
            await asyncio.sleep(0)
            told = [task.exception() for task in tasks if task.done()]
            assert len(told) >= 15
            for error in told:
                assert isinstance(error, StoreUnavailable)
                must_say(error, "store_busy", str(path), "too slow")
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert 30 - len(told) == sum(answer is True for answer in done)

    with_store(path, story, busy=20.0)
