"""`make run` as people meet it: it starts, one signs in at both applications, it survives what it invites to try, and leaves nothing behind."""

import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from browser_rig import ARGUMENTS, Person, choose
from playwright.sync_api import expect, sync_playwright
from proxies.nginx import binary
from running import ROOT, free_port

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(binary() is None, reason="nginx is not installed (Debian: apt install nginx)")
SECONDS = 30


@dataclass
class Demo:
    """The running demonstration. `folder`: where it keeps everything."""

    process: subprocess.Popen[bytes]
    port: int
    output: Path

    def text(self) -> str:
        return self.output.read_text()

    def until(self, pattern: str) -> re.Match[str]:
        """Wait until it has printed that."""
        end = time.monotonic() + SECONDS
        while True:
            found = re.search(pattern, self.text())
            if found is not None:
                return found
            assert self.process.poll() is None, self.text()
            assert time.monotonic() < end, self.text()
            time.sleep(0.02)

    @property
    def folder(self) -> Path:
        return Path(self.until(r"nginx +(/\S+)/nginx\.conf")[1])

    def end(self, number: signal.Signals) -> int:
        """-> exit code."""
        self.process.send_signal(number)
        return self.process.wait(SECONDS)


def children(pid: int) -> set[int]:
    """All that was started by this process, and by what it started."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # ended while we looked
            continue
        parents[int(stat.parent.name)] = int(fields[1])
    found: set[int] = set()
    while more := {child for child, parent in parents.items() if parent in found | {pid}} - found:
        found |= more
    return found


def command(port: int) -> list[str]:
    return [sys.executable, "-m", "forward_auth", "demo", "--port", str(port)]


@contextmanager
def running_demo(folder: Path) -> Iterator[Demo]:
    output = folder / "output"
    port = free_port()
    with output.open("wb") as file:
        process = subprocess.Popen(command(port), cwd=ROOT, stdout=file, stderr=file, stdin=subprocess.DEVNULL)
    demo = Demo(process, port, output)
    try:
        demo.until("The demonstration runs")
        yield demo
    finally:
        if process.poll() is None:
            demo.end(signal.SIGTERM)


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (Debian: apt install chromium)")
def test_the_demonstration_does_what_it_says(tmp_path: Path) -> None:
    """A doctor signs in once for both applications, a nurse enters only the first; the service is killed and started again, and the doctor
    is still signed in; PSC goes away, and she works on while a new one reads a French page."""
    with running_demo(tmp_path) as demo, sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM, args=list(ARGUMENTS[:-1])
        )  # *.localhost: its own
        doctor, nurse, late = Person(chromium), Person(chromium), Person(chromium)
        dossier = f"http://dossier.localhost:{demo.port}/patients/42?onglet=biologie"
        prescription = f"http://prescription.localhost:{demo.port}/"
        tab = doctor.tab()
        tab.goto(dossier)
        choose(tab)
        tab.wait_for_url(dossier)
        expect(tab.locator("#hello")).to_have_text("Bonjour CAMILLE DUPONT")
        tab.get_by_role("link", name="Prescription").click()
        tab.wait_for_url(prescription)
        expect(tab.locator("#hello")).to_have_text("Bonjour CAMILLE DUPONT")
        tab.get_by_role("button", name="Envoyer").click()
        expect(tab.locator("#sent")).to_be_visible()

        other = nurse.tab()
        other.goto(prescription)
        choose(other, "infirmiere-leroy")
        expect(other.locator("h1")).to_have_text("Vous n’avez pas accès à cette page")
        other.goto(dossier)
        expect(other.locator("#hello")).to_have_text("Bonjour FLORENCE LEROY")

        victim = int(demo.until(r"kill -9 (\d+)")[1])
        subprocess.run(["kill", "-9", str(victim)], check=True)
        demo.until(r"the service is process \d+ now")
        end = time.monotonic() + SECONDS
        while (answer := tab.goto(dossier)) is None or answer.status == 503:
            assert time.monotonic() < end, demo.text()
        expect(tab.locator("#hello")).to_have_text("Bonjour CAMILLE DUPONT")

        end = time.monotonic() + SECONDS
        simulator = int(demo.until(r"kill (\d+) ")[1])
        subprocess.run(["kill", str(simulator)], check=True)
        tab.goto(dossier)
        expect(tab.locator("#hello")).to_have_text("Bonjour CAMILLE DUPONT")
        new = late.tab()
        while True:  # an answer of PSC is believed for one second; a browser that was sent there meets nginx's 502
            new.goto(dossier)
            if new.locator("h1").inner_text() == "Pro Santé Connect ne répond pas":
                break
            assert time.monotonic() < end, new.content()
        for person in (doctor, nurse, late):
            assert [] == person.complaints
        chromium.close()
        folder = demo.folder
        started = children(demo.process.pid)
        assert 0 == demo.end(signal.SIGTERM)
    assert not folder.exists()
    assert set() == {pid for pid in started if Path(f"/proc/{pid}").exists()}


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    """After Ctrl-C no process runs on, the folder is gone and the port is free."""
    with running_demo(tmp_path) as demo:
        folder, started = demo.folder, children(demo.process.pid)
        assert folder.is_dir()
        assert 4 <= len(started), "nginx and its worker, the simulator, the service"
        assert 0 == demo.end(signal.SIGINT)
    assert not folder.exists()
    assert set() == {pid for pid in started if Path(f"/proc/{pid}").exists()}
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", demo.port))


def test_a_port_in_use_is_one_clear_line() -> None:
    """Somebody else has the port: one line says so and what to type instead, exit code 2, no traceback."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(command(port), cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert 2 == done.returncode
    assert 1 == len(done.stderr.splitlines())
    assert f"port {port} cannot be used" in done.stderr
    assert f"DEMO_PORT={port + 1} make run" in done.stderr
    assert "" == done.stdout
