"""What the machine drives: the simulator, a clock that is turned, and two real processes of the service on one SQLite store."""

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from running import CLIENT, Browser, Clock, Doors, SimulatorThread, configuration, shared_key

from forward_auth.simulator import Lifetimes, Simulator


class TurnedClock(Clock):
    """The same time for the simulator in this process and for the services in theirs."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.advance(0)

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        with self.path.open("r+b" if self.path.exists() else "w+b") as file:
            file.write(struct.pack("d", self.now))


class Node(Doors):
    """One process. Its store and keys are those of the house."""

    def __init__(self, folder: Path, shared: Path, simulator: Simulator, clock: TurnedClock) -> None:
        self.folder = folder
        self.simulator = simulator
        self._shared = shared
        self._clock = clock
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir()

    def configure(self, apps: str) -> None:
        path = configuration(self.folder, self.simulator.issuer, apps=apps, more='[log]\nlevel = "error"')
        text = path.read_text()
        for name in ("logins.db", "keys"):
            text = text.replace(f"{self.folder}/{name}", f"{self._shared}/{name}")
        path.write_text(text)

    @property
    def up(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("process.py")), str(self.folder / "config.toml"), str(self._clock.path)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip
        said = self._hear()
        self.inner, self.outer = tuple(said["inner"]), tuple(said["outer"])

    def _hear(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, (self.folder / "log").read_text()
        return dict(json.loads(line))

    def order(self, what: str) -> None:
        """`reload` or `settle`; returns when it is done."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(what.encode() + b"\n")
        self._process.stdin.flush()
        assert {"done": what} == self._hear()

    def kill(self) -> None:
        """SIGKILL: no farewell."""
        assert self._process is not None
        self._process.kill()
        self._gone()

    def stop(self) -> None:
        if self.up:
            assert self._process is not None
            assert self._process.stdin is not None
            self._process.stdin.close()
        self._gone()

    def _gone(self) -> None:
        if self._process is not None:
            self._process.wait(15)
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None and not pipe.closed:
                    pipe.close()
            self._process = None


class Clinic:
    """The house, open."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = TurnedClock(folder / "clock")
        self._psc = SimulatorThread(clients=[CLIENT], clock=self.clock, key=shared_key(), lifetimes=Lifetimes(idle=14400, refresh=14400))  # fmt: skip
        self.nodes: list[Node] = []

    def __enter__(self) -> Self:
        self.simulator = self._psc.start()
        self.nodes = [Node(self.folder / name, self.folder, self.simulator, self.clock) for name in ("one", "two")]
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            node.stop()
        self._psc.stop()

    def govern(self, apps: str) -> None:
        """These apps in every process; who is down is started."""
        for node in self.nodes:
            node.configure(apps)
            if node.up:
                node.order("reload")
            else:
                node.start()

    def advance(self, seconds: int) -> None:
        """Time goes on in a leap; in real time what waits to be written would have been."""
        for node in self.nodes:
            node.order("settle")
        self.clock.advance(seconds)

    def sid(self, browser: Browser) -> str:
        """What PSC calls the session of this browser."""
        for value in browser.psc.values():
            session = self.simulator.realm.cookies.get(value)
            if session is not None:
                return session.sid
        return ""


__all__ = ["Clinic", "Node"]
