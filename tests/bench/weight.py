"""The figures of weight: many sessions, many rules, floods, slow connections, sign-ins beside checks.

For: what must stay flat, or nearly, while something else grows. Each part is a function of `Bench`.
"""

import contextlib
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from checks import Bench, ask_all, firsts_of
from rig import LOAD_CORE, TICK, Ask, Load, NotMeasured, ended, more_files, resident, shown, spaced, ticks
from running import DOSSIER, ORIGIN, Browser
from stored import fill

TRAFFIC = Path(__file__).with_name("traffic.py")
PROBES = 1000  # a second
KNOWN = 10  # tickets that are asked for, whatever the store holds
FLOOD = 20_000
SLOW = 5_000


# -- how many sessions -----------------------------------------------------------------------------------------------------------


def stored_sessions(bench: Bench) -> None:
    """The same ten professionals, with 10, 10 000 and 1 000 000 logins in the store."""
    sizes = (10, 10_000) if bench.quick else (10, 10_000, 1_000_000)
    if not bench.quick and shutil.disk_usage(bench.folder).free < 6e9:
        raise NotMeasured("a million logins take 3 GB for a while; there is not enough room for temporary files")
    loads, firsts = [], []
    for size in sizes:
        program = bench.program(f"stored-{size}")
        tickets = fill(program.path, size, min(size, 1000))
        pid = bench.started(program)
        firsts.append((size, firsts_of(program.port, pid, tickets)) if size > KNOWN else None)
        loads.append(
            Load(f"{spaced(size)} stored", program.port, Ask(vary="tickets", tickets=tuple(tickets[:KNOWN])), [pid])
        )
        if size == 10_000:
            loads.append(
                Load("1 000 of them in turn", program.port, Ask(vary="tickets", tickets=tuple(tickets)), [pid])
            )
    bench.take_turns(*loads)
    for load in loads[1:]:
        aim = "≤ 1.1" if "stored" in load.name else ""
        bench.table.cost(f"a remembered check, {load.name}, of one with ten logins in the store", load, loads[0], aim)
    for size, first in filter(None, firsts):
        bench.table.row(
            f"first check with {spaced(size)} stored, of a remembered one (p50)",
            first.ratio,
            target="≤ 12",
            beside=first,
        )


def in_memory(bench: Bench) -> None:
    """Ten thousand professionals at work."""
    count = 10_000
    program = bench.program("memory")
    tickets = fill(program.path, count)
    pid = bench.started(program)
    empty = resident(pid)
    ask_all(program.port, pid, tickets)
    once = resident(pid)
    for _ in range(2):  # now their heads are recognised as well, as far as there is room
        ask_all(program.port, pid, tickets)
    full = resident(pid)
    bench.table.row(
        "MiB resident with 10 000 logins in memory",
        max(once, full),
        target=f"≤ {120 + count * 4 / 1024:.0f}",
        beside=f"{empty:.1f} before, {once:.1f} after one check each ({(once - empty) * 1024 / count:.1f} KiB per login), {full:.1f} after three",
    )
    all_ = Load("10 000 in turn", program.port, Ask(vary="tickets", tickets=tuple(tickets)), [pid])
    ten = Load("ten in turn", program.port, Ask(vary="tickets", tickets=tuple(tickets[:KNOWN])), [pid])
    bench.take_turns(ten, all_)
    bench.table.cost("a check, 10 000 professionals in turn, of ten in turn", all_, ten)


def many_rules(bench: Bench) -> None:
    """1, 100, 1 000 rules; the last one is the one that fits."""
    always, moving = [], []
    for count in (1, 100, 1000):
        rules = "".join(
            f'[[apps.dossier.rules]]\npaths = ["/part-{n}/*"]\nrequire = {{ profession = ["{40 + n % 3 * 10}"] }}\n'
            for n in range(count - 1)
        )
        apps = f'[apps.dossier]\norigins = ["{DOSSIER}"]\n{rules}[[apps.dossier.rules]]\npaths = ["/*"]\nrequire = {{ profession = ["10", "40"] }}\n'
        program = bench.program(f"rules-{count}", apps=apps)
        ticket = fill(program.path, 1)[0]
        pid = bench.started(program)
        always.append(Load(f"{spaced(count)} rules", program.port, Ask(ticket), [pid]))
        moving.append(
            Load(f"{spaced(count)} rules, another path each time", program.port, Ask(ticket, vary="path"), [pid])
        )
    bench.take_turns(*always, *moving)
    for group in (always, moving):
        for load in group[1:]:
            bench.table.cost(f"a check with {load.name}, of one with one rule", load, group[0], "≤ 1.1")


# -- what else goes on -----------------------------------------------------------------------------------------------------------

Disturbance = Callable[[], AbstractContextManager[None]]


@dataclass
class Latency:
    """Microseconds of allowed checks, a thousand a second, alone and beside a disturbance, in turns."""

    quiet: list[list[float]]
    beside: list[list[float]]

    def ratio(self, percent: int) -> float:
        return self._of(self.beside, percent) / self._of(self.quiet, percent)

    @staticmethod
    def _of(rounds: list[list[float]], percent: int) -> float:
        return statistics.median(statistics.quantiles(each, n=100)[percent - 1] for each in rounds)

    def __str__(self) -> str:
        quiet = [self._of(self.quiet, percent) for percent in (50, 99)]
        beside = [self._of(self.beside, percent) for percent in (50, 99)]
        return (
            f"p50 {quiet[0]:.0f} → {beside[0]:.0f} µs ({shown(self.ratio(50))}), p99 {quiet[1]:.0f} → {beside[1]:.0f} µs, "
            f"worst {max(map(max, self.quiet)):.0f} → {max(map(max, self.beside)):.0f} µs"
        )


def latency(bench: Bench, disturb: Disturbance) -> Latency:
    port = bench.main.port
    request = bench.folder / "probe"
    request.write_bytes(Ask(bench.ticket).once())
    found = Latency([], [])
    _probe(port, 0.5, request)
    for number in range(max(3, bench.rounds)):
        for beside in (False, True) if number % 2 == 0 else (True, False):
            if beside:
                with disturb():
                    found.beside.append(_probe(port, bench.seconds, request))
            else:
                found.quiet.append(_probe(port, bench.seconds, request))
    return found


def _probe(port: int, seconds: float, request: Path) -> list[float]:
    done = subprocess.run(
        [*_on_load_core("probe", port), f"{seconds}", f"{PROBES}", str(request)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise NotMeasured(f"the probe ended: {done.stderr.strip()[-300:]}")
    return [float(line) for line in done.stdout.split()]


def _on_load_core(kind: str, port: int) -> list[str]:
    return ["taskset", "-c", str(LOAD_CORE), sys.executable, str(TRAFFIC), kind, str(port)]


def flood(bench: Bench) -> None:
    """20 000 a second without a session: cookies that nobody made, each another."""
    # wrk waits so many milliseconds before each request of a connection.
    ask = Ask("AQ" + "0" * 62, navigation=False, vary="cookie", delay="math.random(8, 12)")
    load = Load("flood", bench.main.port, ask, [bench.pid], status=401, connections=FLOOD // 1000 * 11)
    busy: list[float] = []

    @contextlib.contextmanager
    def strangers() -> Iterator[None]:
        process = load.start(bench.folder, bench.seconds + 2)
        with ended(process):
            before = ticks(bench.pid)
            time.sleep(0.5)
            yield
            count, took = load.count(process.communicate()[0])
            load.rates.append(count / took)
            busy.append((ticks(bench.pid) - before) * TICK / (took * 1e6))

    found = latency(bench, strangers)
    reached = load.rate >= 0.9 * FLOOD
    beside = found if reached else f"only {spaced(load.rate)} of {spaced(FLOOD)} a second were answered; {found}"
    bench.table.row(
        f"p99 of allowed checks while {spaced(FLOOD)}/s with unknown cookies, each another, arrive, of p99 alone",
        found.ratio(99),
        target="≤ 3",
        beside=f"{beside}; server's core {statistics.median(busy):.0%} busy",
        valid=reached,
    )


def slow_connections(bench: Bench) -> None:
    """5 000 connections that send a head byte by byte, until they are closed, and come back."""
    more_files(SLOW + 1000)

    @contextlib.contextmanager
    def crawl() -> Iterator[None]:
        process = subprocess.Popen(
            [*_on_load_core("slow", bench.main.port), str(SLOW)], stdout=subprocess.PIPE, text=True
        )
        with ended(process):
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise NotMeasured("the slow connections did not come about")
            yield
            if process.poll() is not None:
                raise NotMeasured("the slow connections went away")
        time.sleep(0.3)  # until the server has seen them go

    found = latency(bench, crawl)
    bench.table.row(
        f"p99 of allowed checks beside {spaced(SLOW)} slow connections, of p99 alone",
        found.ratio(99),
        target="≤ 1.25",
        beside=found,
    )


def sign_ins(bench: Bench) -> None:
    """Ten pages of the sign-in a second on the outer door; and ten whole sign-ins."""
    request = bench.folder / "page"
    address = f"/psc/start?to={quote(DOSSIER + '/patients/12345', safe='')}&why=ended"  # a page with the button, as sign_in = "page" has
    host = ORIGIN.removeprefix("https://")
    request.write_bytes(
        f"GET {address} HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-Host: {host}\r\nX-Forwarded-Proto: https\r\nX-Forwarded-For: 192.0.2.7\r\n"
        "Accept: text/html\r\nAccept-Language: fr\r\nConnection: close\r\n\r\n".encode()
    )

    @contextlib.contextmanager
    def pages() -> Iterator[None]:
        command = [*_on_load_core("pages", bench.main.outer[1]), f"{bench.seconds + 1}", "10", str(request)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        with ended(process):
            time.sleep(0.5)
            yield
            said = process.communicate()[0].strip()
            if process.returncode != 0 or int(said) < 9 * bench.seconds:
                raise NotMeasured(f"ten pages a second were not to be had: {said}")

    whole: list[float] = []

    @contextlib.contextmanager
    def people() -> Iterator[None]:
        over = threading.Event()
        thread = threading.Thread(target=_sign_in_often, args=(bench, over, whole), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    found = latency(bench, pages)
    bench.table.row(
        "p99 of allowed checks beside ten sign-in pages a second, of p99 alone",
        found.ratio(99),
        target="≤ 1.25",
        beside=found,
    )
    found = latency(bench, people)
    rate = statistics.median(whole)
    bench.table.row(
        f"p99 of allowed checks beside {rate:.0f} whole sign-ins a second, of p99 alone", found.ratio(99), beside=found
    )


def _sign_in_often(bench: Bench, over: threading.Event, rates: list[float]) -> None:
    began = time.monotonic()
    count = 0
    while not over.is_set():
        browser = Browser()
        if bench.main.sign_in(browser, "docteur-dupont").status != 200:
            break
        count += 1
        over.wait(max(0.0, began + count / 10 - time.monotonic()))
    rates.append(count / (time.monotonic() - began))
