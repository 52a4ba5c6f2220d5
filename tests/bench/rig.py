"""What every figure of the bench is measured with: loads that take turns, CPU that the operating system charged, rows of the table.

For: `turns([one, other], …)`, which runs wrk against servers in interleaved rounds, and `Table`, which puts what came out beside its target.
Refuses: to count a wrong answer as a fast one. Before each round one answer is looked at byte by byte, and after it wrk's count of answers that
were not 2xx must be none, or all.
"""

import contextlib
import os
import re
import resource
import socket
import statistics
import subprocess
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SERVER_CORE = 0
LOAD_CORE = 1
CONNECTIONS = 32
ADDRESS_LINE = "X-Forwarded-Uri: "
TICK = 1e6 / os.sysconf("SC_CLK_TCK")  # microseconds


class NotMeasured(Exception):
    """A figure that could not be measured here; the text says why."""


# -- requests --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ask:
    """One kind of request, as nginx with deploy/nginx sends it for a browser, in its order: eleven header lines beside `Connection`. `ticket`: of our cookie, "" for none.
    `vary`: what is another each time: "" nothing, "query", "path", "browser", "cookie" (one that nobody made), "tickets" (those of `tickets`, in turn)."""

    ticket: str = ""
    navigation: bool = True
    close: bool = False
    path: str = "/auth/nginx"
    target: str = "/patients/12345?tab=lab"
    vary: str = ""
    tickets: Sequence[str] = ()
    delay: str = ""  # a Lua expression, milliseconds between two requests of a connection

    @property
    def headers(self) -> dict[str, str]:
        cookie = f"__Host-psc={self.ticket}; " if self.ticket else ""
        lines = {
            "Host": "dossier.hopital.example",
            "X-Forwarded-Method": "GET",
            "X-Forwarded-Proto": "https",
            "X-Forwarded-Host": "dossier.hopital.example",
            "X-Forwarded-Uri": self.target,
            "X-Forwarded-For": "192.0.2.7",
            "Cookie": f"JSESSIONID=0123456789abcdef; {cookie}theme=dark",
            "Accept": "text/html,application/xhtml+xml" if self.navigation else "application/json",
            "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)",
            "Sec-Fetch-Mode": "navigate" if self.navigation else "cors",
            "Sec-Fetch-Dest": "document" if self.navigation else "empty",
        }
        if self.close:
            lines["Connection"] = "close"
        return lines

    def once(self, ticket: str | None = None) -> bytes:
        """The bytes of one such request. `ticket`: another than its own."""
        ask = self if ticket is None else Ask(ticket, self.navigation, self.close, self.path, self.target)
        if ask.vary == "tickets":
            ask = Ask(ask.tickets[0], self.navigation, self.close, self.path, self.target)
        lines = "".join(f"{name}: {value}\r\n" for name, value in ask.headers.items())
        return f"GET {self.path} HTTP/1.1\r\n{lines}\r\n".encode()

    def lua(self, folder: Path) -> str:
        """A script for wrk that sends these. What does not vary is put together once, so that wrk's own work is the same for all."""
        delay = f"\nfunction delay() return {self.delay} end\n" if self.delay else ""
        whole = self.once().decode()
        if not self.vary:
            return f"local whole = {_lua(whole)}\nrequest = function() return whole end{delay}"
        if self.vary == "tickets":
            names = folder / f"tickets-{len(self.tickets)}-{abs(hash(tuple(self.tickets)))}"
            names.write_text("\n".join(self.tickets) + "\n")
            before, after = whole.split(self.tickets[0])
            return (
                f"local before, after, all, n = {_lua(before)}, {_lua(after)}, {{}}, 0\n"
                f"for line in io.lines({_lua(str(names))}) do all[#all + 1] = before .. line .. after end\n"
                f"request = function() n = n % #all + 1 return all[n] end{delay}"
            )
        mark, each = {
            "query": (ADDRESS_LINE + self.target, ADDRESS_LINE + self.target + "&n=%d"),
            "path": (ADDRESS_LINE + self.target, ADDRESS_LINE + "/patients/%d?tab=lab"),
            "cookie": (f"__Host-psc={self.ticket}", "__Host-psc=AQ%062d"),
            "browser": ("Linux x86_64", "Linux %d"),
        }[self.vary]
        before, after = whole.split(mark)
        return (
            f"local before, after, n = {_lua(before)}, {_lua(after)}, 0\n"
            f"request = function() n = n + 1 return before .. string.format({_lua(each)}, n) .. after end{delay}"
        )


def _lua(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "\\r").replace("\n", "\\n") + '"'


def answer_to(port: int, data: bytes) -> bytes:
    """The head of the answer to one request on a connection of its own."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(data)
        got = b""
        while b"\r\n\r\n" not in got:
            more = sock.recv(65536)
            if not more:
                break
            got += more
    return got


# -- loads -----------------------------------------------------------------------------------------------------------------------


@dataclass
class Load:
    """One kind of request to one server on one port. `pids`: whose CPU is counted; `status`: of every answer; `location`: whether it has one."""

    name: str
    port: int
    ask: Ask
    pids: Collection[int]
    status: int = 200
    location: bool = False
    connections: int = CONNECTIONS
    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    idle: list[float] = field(default_factory=list)  # share of its core that the server did not use

    def start(self, folder: Path, seconds: float) -> subprocess.Popen[str]:
        self._look()
        script = folder / f"{abs(hash((self.name, self.ask)))}.lua"
        if not script.exists():
            script.write_text(self.ask.lua(folder))
        wrk = ["wrk", "-t1", f"-c{self.connections}", f"-d{max(1, round(seconds))}s", "-s", str(script)]
        url = f"http://127.0.0.1:{self.port}{self.ask.path}"
        return subprocess.Popen(
            ["taskset", "-c", str(LOAD_CORE), *wrk, url],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def count(self, said: str) -> tuple[int, float]:
        """-> (answers, seconds) of what wrk said. Raises NotMeasured when some were wrong."""
        found = re.search(r"(\d+) requests in ([\d.]+)(ms|s|m)", said)
        if found is None or int(found[1]) == 0:
            raise NotMeasured(f"{self.name}: wrk measured nothing: {said.strip()}")
        count, took = int(found[1]), float(found[2]) * {"ms": 0.001, "s": 1, "m": 60}[found[3]]
        wrong = int(match[1]) if (match := re.search(r"Non-2xx or 3xx responses: (\d+)", said)) else 0
        if wrong != (count if self.status >= 400 else 0):
            raise NotMeasured(f"{self.name}: {wrong} of {count} answers were not 2xx, {self.status} was due")
        if match := re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", said):
            connect, read, write, timeout = map(int, match.groups())
            # Where each answer ends its connection wrk may count that end as a read error; anything else is one.
            if connect or write or timeout or (read and not self.ask.close):
                raise NotMeasured(f"{self.name}: {match[0]}")
        return count, took

    def run(self, folder: Path, seconds: float) -> None:
        process = self.start(folder, seconds)
        before = sum(map(ticks, self.pids))
        said = process.communicate()[0]
        spent = (sum(map(ticks, self.pids)) - before) * TICK
        count, took = self.count(said)
        self.rates.append(count / took)
        self.cpu.append(spent / count)
        self.idle.append(max(0.0, 1 - spent / (took * 1e6)))

    def _look(self) -> None:
        head = answer_to(self.port, self.ask.once())
        status = int(head[9:12] or b"0")
        if status != self.status or (b"\r\nLocation: " in head) is not self.location:
            raise NotMeasured(
                f"{self.name}: {self.status} {'with' if self.location else 'without'} Location was due, not: {head[:200]!r}"
            )

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)

    @property
    def cost(self) -> float:
        """Microseconds of CPU per answer."""
        return statistics.median(self.cpu)

    def __str__(self) -> str:
        starved = statistics.median(self.idle)
        text = f"{spaced(self.rate)}/s, {self.cost:.1f} µs CPU"
        return text if starved < 0.12 else f"{text}, {starved:.0%} of its core idle"


def turns(loads: Sequence[Load], folder: Path, rounds: int, seconds: float, *, warm: bool = True) -> None:
    """A B A B …, after one short round each that does not count."""
    for load in loads if warm else ():
        load.run(folder, 1)
        for each in (load.rates, load.cpu, load.idle):
            each.clear()
    for number in range(rounds):
        for load in loads if number % 2 == 0 else reversed(loads):
            load.run(folder, seconds)


# -- the machine -----------------------------------------------------------------------------------------------------------------


def ticks(pid: int) -> int:
    """utime + stime."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def pin(pid: int, core: int = SERVER_CORE) -> None:
    """All threads of that process to one core."""
    subprocess.run(["taskset", "-acp", str(core), str(pid)], check=True, stdout=subprocess.DEVNULL)


def resident(pid: int) -> float:
    """MiB."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) / 1024


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def more_files(wanted: int) -> None:
    """So many files and connections for this process and those it starts. Raises NotMeasured."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        if hard != resource.RLIM_INFINITY and hard < wanted:
            raise NotMeasured(f"only {hard} open files are allowed here, {wanted} are needed (ulimit -Hn)")
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextlib.contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """A process that is gone afterwards."""
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            process.communicate()


# -- the table -------------------------------------------------------------------------------------------------------------------


def spaced(number: float) -> str:
    return f"{number:,.0f}".replace(",", " ")


def shown(value: float) -> str:
    return spaced(value) if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


@dataclass
class Table:
    """Rows as they come in. Two columns are measured: by the clock, and by the CPU that the server was charged."""

    rows: list[tuple[str, str, str, str, str]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def row(
        self,
        figure: str,
        value: float,
        cpu: float | None = None,
        target: str = "",
        beside: object = "",
        *,
        by_cpu: bool = False,
        valid: bool = True,
    ) -> None:
        """`target`: "≥ 0.6", "≤ 1.3" or "" for a figure that is only recorded; `by_cpu`: it is judged by its CPU, which is steadier; `valid`
        False: not met whatever was measured, since the conditions of the figure were not reached."""
        judged = cpu if by_cpu and cpu is not None else value
        met = ""
        if target:
            limit = float(target.split()[1])
            met = " ✓" if valid and (judged >= limit if target.startswith("≥") else judged <= limit) else " ✗"
        self.rows.append(
            (
                figure,
                shown(value),
                "" if cpu is None else shown(cpu),
                f"{target}{' (CPU)' if by_cpu and target else ''}{met}",
                str(beside),
            )
        )

    def speed(self, figure: str, one: Load, other: Load, target: str = "", beside: object = None) -> None:
        """How many of `one` for each of `other`, medians of the rounds; beside it the best of each."""
        best = max(one.rates) / max(other.rates)
        self.row(
            figure,
            one.rate / other.rate,
            other.cost / one.cost,
            target,
            beside or f"{one}; {other.name}: {other}; best {shown(best)}",
        )

    def cost(self, figure: str, one: Load, other: Load, target: str = "") -> None:
        """What one of `one` costs, of one of `other`: judged by CPU."""
        self.row(
            figure, other.rate / one.rate, one.cost / other.cost, target, f"{one}; {other.name}: {other}", by_cpu=True
        )

    def fail(self, name: str, why: object) -> None:
        self.failed.append(f"{name}: {why}")

    def __str__(self) -> str:
        lines = ["| figure | measured | by CPU | target | beside it |", "|---|---|---|---|---|"]
        lines += ["| " + " | ".join(row) + " |" for row in self.rows]
        return "\n".join(lines)
