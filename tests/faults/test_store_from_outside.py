"""SQLite breaks under the real program, seen from outside: by browsers, by the proxy, by whoever watches `/readyz` and the log.

The oracle after every fault: nobody is let in whom the sessions of before would not let in; a sign-in ends on a French page and not in an
error of ours; the log has a line, and `/readyz` a word, with the file and what to do; a sign-out that was acknowledged still holds, also after
the cure; where the fault goes away by itself, so do its consequences, without a restart.
"""

import contextlib
import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cli.commands import argv, environment, until
from running import CLIENT, DOSSIER, PRESCRIPTION, Browser, Program, SimulatorThread, shared_key
from web.web_steps import copy_of, french_page

from forward_auth.simulator import Simulator


@pytest.fixture(scope="module")
def psc_alone() -> Iterator[Simulator]:
    with SimulatorThread(clients=[CLIENT], key=shared_key()) as simulator:
        yield simulator


@dataclass
class Before:
    """A program in which two people work and one has left. `left`: the cookies of the one who has."""

    program: Program
    doctor: Browser
    nurse: Browser
    left: Browser

    @property
    def store(self) -> Path:
        return self.program.folder / "logins.db"

    def allowed(self, browser: Browser, subject: str) -> bool:
        """Let in, and as nobody else; every other answer is one of those that a proxy knows for a no."""
        answer = self.program.check(browser, DOSSIER + "/")
        assert answer.status in (200, 401, 503), answer.status
        assert answer["X-PSC-Subject"] == (subject if answer.status == 200 else "")
        return answer.status == 200

    def nobody_wrong(self) -> None:
        """No stranger, nobody who has left; the nurse is not let in where doctors are."""
        assert not self.allowed(self.left, "899700000001")
        assert not self.allowed(Browser(), "")
        assert 200 != self.program.check(self.nurse, PRESCRIPTION + "/").status

    def page(self, person: str = "sage-femme-petit") -> None:
        """Somebody who arrives now reads a French page and has no ticket."""
        browser = Browser()
        answer = self.program.sign_in(browser, person)
        french_page(answer, 503)
        assert "réessay" in answer.text.lower() or "recommenc" in answer.text.lower()
        assert not any(name == "__Host-psc" for jar in browser.jar.values() for name in jar)

    def told(self, *words: str) -> None:
        """The log has a line with these words, and `/readyz` too, which is 503."""

        def ready() -> bool:
            status, parts = self.program.ready()
            return status == 503 and all(word in parts["parts"]["store"] for word in words)

        assert until(ready, 8), self.program.ready()
        assert any(all(word in line for word in words) for line in self.messages()), self.program.log()

    def messages(self) -> list[str]:
        """What the log said, but for chatter; one object a line, no traceback."""
        found = [json.loads(line) for line in self.program.log().splitlines()]
        assert [] == [each for each in found if "traceback" in each]
        return [each["message"] for each in found if each["level"] in ("warning", "error")]

    def well(self) -> None:
        """As if nothing had been."""
        assert until(lambda: self.program.ready()[0] == 200, 8), self.program.ready()
        browser = Browser()
        assert 200 == self.program.sign_in(browser, "sage-femme-petit").status
        assert 303 == self.program.sign_out(browser).status
        self.nobody_wrong()


@pytest.fixture
def before(tmp_path: Path, psc_alone: Simulator) -> Iterator[Before]:
    with Program(tmp_path, psc_alone) as program:
        doctor, nurse, leaver = Browser(), Browser(), Browser()
        assert 200 == program.sign_in(doctor, "docteur-dupont").status
        assert 200 == program.sign_in(nurse, "infirmiere-leroy").status
        assert 200 == program.sign_in(leaver, "docteur-dupont").status
        left = copy_of(leaver)
        assert 303 == program.sign_out(leaver).status
        there = Before(program, doctor, nurse, left)
        there.nobody_wrong()
        yield there


def refuses_to_start(program: Program, *words: str) -> None:
    """Not one door is opened; the last line says what and the cure."""
    done = subprocess.run(
        argv("serve", "--config", program.path),
        capture_output=True,
        text=True,
        timeout=20,
        env=environment(),
        check=False,
    )
    assert done.returncode not in (0, -signal.SIGTERM)
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    for word in words:
        assert word in last, done.stderr
    assert not Path(program.inner_unix).exists()


@contextlib.contextmanager
def full(process: "subprocess.Popen[bytes]", path: Path) -> Iterator[None]:
    """No file of that process grows any more (EFBIG, as ENOSPC a full disk), beginning with where the store is now."""
    soft, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (soft, hard))


def test_LIFE_03_disk_full(before: Before) -> None:
    """Nothing can be written: who is in works on, who arrives reads a page, a sign-out is not acknowledged and not half done; with room again
    all of it goes on by itself, and so does the sign-out."""
    process = before.program.process
    assert process is not None
    with full(process, before.store):
        before.page()
        before.told("logins.db", "free space")
        before.nobody_wrong()
        assert before.allowed(before.doctor, "899700000001")
        assert before.allowed(before.nurse, "899700000043")
        french_page(before.program.sign_out(copy_of(before.nurse)), 503)
        assert before.allowed(before.nurse, "899700000043")
    before.well()
    kept = copy_of(before.nurse)
    assert 303 == before.program.sign_out(before.nurse).status
    before.program.kill()
    before.program.start()
    assert not before.allowed(kept, "899700000043")
    assert before.allowed(before.doctor, "899700000001")


def test_locked(before: Before) -> None:
    """A backup holds the lock: the same, and the log names the tool that finds who it is."""
    other = sqlite3.connect(before.store, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    before.page()
    before.told("logins.db", "fuser")
    before.nobody_wrong()
    assert before.allowed(before.doctor, "899700000001")
    french_page(before.program.sign_out(copy_of(before.nurse)), 503)
    other.execute("ROLLBACK")
    before.well()
    assert before.allowed(before.doctor, "899700000001")

    # A sign-out is acknowledged, then a crash, then the lock again: the sign-out holds at the first answer that there is.
    kept = copy_of(before.nurse)
    assert 303 == before.program.sign_out(before.nurse).status
    before.program.kill()
    other.execute("BEGIN IMMEDIATE")
    before.program.start(wait=False)
    seen = []

    def answered() -> bool:
        try:
            seen.append(before.program.check(kept, DOSSIER + "/").status)
        except OSError:
            return False
        return True

    until(answered, 0.7)  # on a quick machine the doors open beside the lock, for reading needs none
    other.execute("ROLLBACK")
    other.close()
    assert until(answered, 15)
    assert {401} == set(seen)


def test_damaged_page(before: Before) -> None:
    """The disk gives back noise: the store is believed in nothing any more; who is known works on for a while; a restart refuses to begin, and
    once the file is moved away everybody signs in again, nobody comes back by an old ticket."""
    with sqlite3.connect(before.store) as hand:
        hand.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()  # all of it stands in the file now
    hand.close()
    noise = os.urandom(4096)
    with before.store.open("r+b") as file:
        for offset in range(4096, before.store.stat().st_size, 4096):
            file.seek(offset)
            file.write(noise)
    before.page()
    before.told("logins.db", "move the file")
    before.nobody_wrong()
    assert before.allowed(before.doctor, "899700000001")
    before.program.kill()
    os.unlink(before.program.inner_unix)
    refuses_to_start(before.program, "logins.db", "move the file")
    for path in before.program.folder.glob("logins.db*"):
        path.rename(path.with_name("damaged-" + path.name))
    before.program.start()
    before.well()
    assert not before.allowed(before.doctor, "899700000001")


def test_deleted(before: Before) -> None:
    """The file is deleted under its feet: nothing is written into the void, and after the restart that the log asks for nobody old is in."""
    for path in before.program.folder.glob("logins.db*"):
        path.unlink()
    before.page()
    before.told("logins.db", "restart the service")
    before.nobody_wrong()
    french_page(before.program.sign_out(copy_of(before.nurse)), 503)
    assert not before.store.exists()
    assert 0 == before.program.end()
    before.program.start()
    before.well()
    assert not before.allowed(before.doctor, "899700000001")
    assert not before.allowed(before.nurse, "899700000043")


def test_other_releases(before: Before) -> None:
    """The file of a newer release: not touched, the start is refused with what to do. That of an older one: brought up to date, everybody is
    still in, who had left still out."""
    before.program.end()
    with sqlite3.connect(before.store) as hand:
        hand.execute("PRAGMA user_version = 99")
    hand.close()
    content = before.store.read_bytes()
    refuses_to_start(before.program, "logins.db", "newer")
    assert content == before.store.read_bytes()
    with sqlite3.connect(before.store) as hand:
        hand.executescript("DROP TABLE note; DROP TABLE claim; PRAGMA user_version = 1;")
    hand.close()
    before.program.start()
    before.well()
    assert before.allowed(before.doctor, "899700000001")
    assert before.allowed(before.nurse, "899700000043")


@pytest.mark.skipif(
    shutil.which("unshare") is None or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0,
    reason="a read-only mount cannot be made here",
)
def test_read_only(before: Before) -> None:
    """The volume came back read-only after a reboot: the start is refused with the cure; writable again, everybody is still in."""
    before.program.end()
    mount = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
    folder = before.program.folder
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", mount, str(folder), *argv("serve", "--config", before.program.path)],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        env=environment(),
    )
    assert 0 != done.returncode
    assert "Traceback" not in done.stderr
    assert f"{folder} cannot be written by this user" in done.stderr
    assert "remount" in done.stderr
    before.program.start()
    before.well()
    assert before.allowed(before.doctor, "899700000001")
