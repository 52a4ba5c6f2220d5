"""The figures of a check: kept-alive and new connections, through nginx, refusals, start, first checks.

For: what the project promises about one check, beside nginx and a bare aiohttp handler in the same run. Each part is a function of `Bench`.
"""

import contextlib
import http.client
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from nginx import Nginx
from rig import Ask, Load, NotMeasured, Table, answer_to, children, pin, resident, ticks, turns
from running import DOSSIER, Browser, Program, free_port
from stored import fill

from forward_auth.simulator import Simulator

BARE_AIOHTTP = """
import asyncio, sys
import uvloop
from aiohttp import web
HEADERS = {f"X-PSC-Header-{n}": "value of a header" for n in range(14)}
async def check(request):
    return web.Response(status=200, headers=HEADERS)
async def main():
    app = web.Application()
    app.router.add_get("/auth/nginx", check)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(sys.argv[1])).start()
    await asyncio.Event().wait()
uvloop.run(main())
"""


@dataclass
class Bench:
    """One run. What several parts need is made when first asked for, and ends with `stack`."""

    folder: Path
    simulator: Simulator
    stack: contextlib.ExitStack
    rounds: int
    seconds: float
    quick: bool
    table: Table = field(default_factory=Table)

    def program(self, name: str, **more: str) -> Program:
        """A program of its own folder, not started."""
        folder = self.folder / name
        folder.mkdir()
        folder.chmod(0o755)
        return Program(folder, self.simulator, **more)

    def started(self, program: Program) -> int:
        """Start it on its core, to end with the run. -> pid."""
        program.start()
        self.stack.callback(program.end)
        assert program.process is not None
        pin(program.process.pid)
        return program.process.pid

    @cached_property
    def main(self) -> Program:
        program = self.program("main")
        self.started(program)
        return program

    @property
    def pid(self) -> int:
        assert self.main.process is not None
        return self.main.process.pid

    @cached_property
    def ticket(self) -> str:
        """Of a professional who has signed in at PSC."""
        browser = Browser()
        answer = self.main.sign_in(browser, "docteur-dupont", DOSSIER + "/patients/12345?tab=lab")
        if answer.status != 200:
            raise NotMeasured(f"the sign-in ended with {answer.status}")
        return browser.jar["dossier.hopital.example"]["__Host-psc"]

    @cached_property
    def signed_out(self) -> str:
        browser = Browser()
        self.main.sign_in(browser, "infirmiere-leroy")
        ticket = browser.jar["dossier.hopital.example"]["__Host-psc"]
        self.main.sign_out(browser, DOSSIER)
        return ticket

    @cached_property
    def nginx(self) -> "Front":
        front = Front(self.folder / "www", self.main)
        nginx = self.stack.enter_context(Nginx(self.folder / "nginx", front.text, ports=front.ports))
        front.workers = children(int((nginx.folder / "nginx.pid").read_text()))
        for worker in front.workers:
            pin(worker)
        return front

    def load(self, name: str, ask: Ask, **more: object) -> Load:
        """A load on the inner door of the main program."""
        return Load(name, self.main.port, ask, [self.pid], **more)  # type: ignore[arg-type]

    def take_turns(self, *loads: Load, seconds: float | None = None) -> None:
        turns(loads, self.folder, self.rounds, self.seconds if seconds is None else seconds, warm=not self.quick)


class Front:
    """One nginx worker with four servers: `return 204`; a small file; the same behind auth_request over TCP, and over a unix socket."""

    def __init__(self, files: Path, program: Program) -> None:
        self.plain, self.free, self.tcp, self.unix = self.ports = tuple(free_port() for _ in range(4))
        self.workers: list[int] = []
        (files / "patients").mkdir(parents=True)
        (files / "patients" / "12345").write_text("x" * 64)
        keep = "keepalive_requests 100000000;"
        self.text = f"""
upstream tcp {{ server 127.0.0.1:{program.port}; keepalive 64; {keep} }}
upstream unix_socket {{ server unix:{program.inner_unix}; keepalive 64; {keep} }}
server {{ listen 127.0.0.1:{self.plain}; {keep} location / {{ return 204; }} }}
server {{ listen 127.0.0.1:{self.free}; {keep} root {files}; }}
{self._auth(files, self.tcp, "tcp")}{self._auth(files, self.unix, "unix_socket")}"""

    def _auth(self, files: Path, port: int, upstream: str) -> str:
        sent = {
            "Connection": '""',
            "Content-Length": '""',
            "Host": "$host",
            "Cookie": "$http_cookie",
            "Accept": "$http_accept",
            "User-Agent": "$http_user_agent",
            "Sec-Fetch-Mode": "$http_sec_fetch_mode",
            "Sec-Fetch-Dest": "$http_sec_fetch_dest",
            "X-Forwarded-Method": "$request_method",
            "X-Forwarded-Proto": "https",
            "X-Forwarded-Host": "$host",
            "X-Forwarded-Uri": "$request_uri",
            "X-Forwarded-For": "$remote_addr",
        }
        lines = " ".join(f"proxy_set_header {name} {value};" for name, value in sent.items())
        return f"""
server {{ listen 127.0.0.1:{port}; keepalive_requests 100000000; root {files};
  location = /auth {{ internal; proxy_pass http://{upstream}/auth/nginx; proxy_http_version 1.1; proxy_pass_request_body off;
    proxy_pass_request_headers off; {lines} }}
  location / {{ auth_request /auth; auth_request_set $subject $upstream_http_x_psc_subject; }} }}"""


# -- kept-alive and new connections ----------------------------------------------------------------------------------------------


def kept_alive(bench: Bench) -> None:
    """nginx `return 204`, we, a bare aiohttp handler: the same requests."""
    ask = Ask(bench.ticket)
    sent, got = bench_headers(bench, ask)
    with bare_aiohttp() as (port, pid):
        limit = Load("nginx", bench.nginx.plain, ask, bench.nginx.workers, status=204)
        allowed = bench.load("ours", ask)
        query = bench.load("another query each time", Ask(bench.ticket, vary="query"))
        path = bench.load("another path each time", Ask(bench.ticket, vary="path"))
        bare = Load("aiohttp", port, ask, [pid])
        bench.take_turns(limit, allowed, query, path, bare)
    table = bench.table
    table.speed(
        f"kept-alive checks ({sent} request headers, {got} answer headers), of nginx `return 204`",
        allowed,
        limit,
        "≥ 0.6",
    )
    table.speed("the same, another query each time", query, limit, beside=query)
    table.speed("the same, another path each time", path, limit, beside=path)
    table.speed("kept-alive checks, of a bare aiohttp handler", allowed, bare, "≥ 2")


def bench_headers(bench: Bench, ask: Ask) -> tuple[int, int]:
    """How many header lines go in and come out."""
    answer = answer_to(bench.main.port, ask.once())
    return len(ask.headers), answer.count(b"\r\n") - 2


def new_connections(bench: Bench) -> None:
    """One connection per check."""
    ask = Ask(bench.ticket, close=True)
    limit = Load("nginx", bench.nginx.plain, ask, bench.nginx.workers, status=204)
    ours = bench.load("ours", ask)
    bench.take_turns(limit, ours, seconds=min(bench.seconds, 2))  # each leaves a port behind for a minute
    bench.table.speed("a new connection per check, of nginx's", ours, limit, "≥ 0.7")


@contextlib.contextmanager
def bare_aiohttp() -> Iterator[tuple[int, int]]:
    """-> (port, pid)."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", BARE_AIOHTTP, str(port)])
    try:
        pin(process.pid)
        end = time.monotonic() + 10
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
            try:
                connection.request("GET", "/auth/nginx")
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > end:
                    raise NotMeasured("the bare aiohttp server did not start") from None
                time.sleep(0.05)
            finally:
                connection.close()
        yield port, process.pid
    finally:
        process.terminate()
        process.wait()


# -- through nginx ---------------------------------------------------------------------------------------------------------------


def through_nginx(bench: Bench) -> None:
    """auth_request, one worker on the same core as the server, and whether it keeps its connections to us."""
    front = bench.nginx
    ask = Ask(bench.ticket, path="/patients/12345", target="/patients/12345")
    free = Load("no auth", front.free, ask, front.workers)
    tcp = Load("TCP", front.tcp, ask, [*front.workers, bench.pid])
    unix = Load("unix", front.unix, ask, [*front.workers, bench.pid])
    bench.take_turns(free, tcp, unix)
    bench.table.speed("through nginx `auth_request` over TCP, of the same nginx without", tcp, free, "≥ 0.20")
    bench.table.speed("the same over a unix socket", unix, free, "≥ 0.24")
    for load, what in ((tcp, "TCP"), (unix, "unix socket")):
        with Connections(bench.main) as seen:
            load.run(bench.folder, bench.seconds)
        checks = round(load.rates[-1] * bench.seconds)
        bench.table.row(
            f"new upstream connections per 1 000 checks, {what}",
            1000 * seen.new / checks,
            target="≤ 0.5",
            beside=f"{seen.new} in {spaced_count(checks)}; sockets of the inner door, looked at {seen.looks} times",
        )


def spaced_count(number: int) -> str:
    return f"{number:,}".replace(",", " ")


class Connections:
    """Counts connections to the inner door that were not there at first. TCP ones stay in the kernel's table for a minute after their end, so
    none is missed; of a unix socket each accepted connection has an inode of its own, looked at twenty times a second."""

    def __init__(self, program: Program) -> None:
        self._port = f":{program.port:04X}"
        self._path = program.inner_unix
        self._known = self._look()
        self._seen: set[str] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.looks = 0

    def __enter__(self) -> "Connections":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._seen |= self._look()

    @property
    def new(self) -> int:
        return len(self._seen - self._known)

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            self._seen |= self._look()
            self.looks += 1

    def _look(self) -> set[str]:
        found = set()
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            local, remote, state = line.split()[1:4]
            if (local.endswith(self._port) or remote.endswith(self._port)) and state != "0A":  # not the listener
                found.add(" ".join(sorted((local, remote))))
        for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
            if line.endswith(self._path):
                found.add(line.split()[6])
        return found


# -- refusals --------------------------------------------------------------------------------------------------------------------


def refusals(bench: Bench) -> None:
    """What a check costs that lets nobody in, of one that does."""
    forged = "AQ" + "0" * 62
    allowed = bench.load("allowed", Ask(bench.ticket))
    unseen = bench.load("allowed, another browser each time", Ask(bench.ticket, vary="browser"))
    loads = {
        "an unknown cookie, navigation (401 with Location)": bench.load(
            "forged", Ask(forged), status=401, location=True
        ),
        "an unknown cookie, API call (401 without)": bench.load(
            "forged, API", Ask(forged, navigation=False), status=401
        ),
        "an ended ticket, navigation": bench.load("ended", Ask(bench.signed_out), status=401, location=True),
        "an ended ticket, API call": bench.load("ended, API", Ask(bench.signed_out, navigation=False), status=401),
        "no cookie, navigation": bench.load("nobody", Ask(), status=401, location=True),
    }
    each = bench.load("forged, each another", Ask(forged, vary="cookie"), status=401, location=True)
    each_api = bench.load("forged, each another, API", Ask(forged, vary="cookie", navigation=False), status=401)
    bench.take_turns(allowed, unseen, *loads.values(), each, each_api)
    for text, load in loads.items():
        bench.table.cost(f"{text}, of an allowed check", load, allowed, "≤ 1.3")
    bench.table.cost("another unknown cookie each time, of an allowed check", each, allowed, "≤ 1.3")
    bench.table.cost("the same, API call", each_api, allowed, "≤ 1.3")
    bench.table.cost("the same, of an allowed check whose head was never seen either", each_api, unseen, "≤ 1.3")


# -- start -----------------------------------------------------------------------------------------------------------------------


def start(bench: Bench) -> None:
    """Ready, and how large."""
    program = bench.program("start")
    seconds, memory = [], []
    for _ in range(3 if bench.quick else 5):
        seconds.append(program.start())
        assert program.process is not None
        memory.append(resident(program.process.pid))
        program.end()
    every = ", ".join(f"{each:.2f}" for each in seconds)
    bench.table.row(
        "MiB resident after start", statistics.median(memory), target="≤ 90", beside=f"largest {max(memory):.1f}"
    )
    bench.table.row("seconds from start to ready", statistics.median(seconds), target="≤ 1.5", beside=every)


# -- first checks ----------------------------------------------------------------------------------------------------------------


@dataclass
class Firsts:
    """Microseconds of a round trip: first check of each login (only the store knows it), second, and remembered ones. CPU: per check."""

    first: list[float]
    again: list[float]
    first_cpu: float
    again_cpu: float

    @property
    def ratio(self) -> float:
        return statistics.median(self.first) / statistics.median(self.again)

    def __str__(self) -> str:
        p99 = statistics.quantiles(self.first, n=100)[98] if len(self.first) > 99 else max(self.first)
        return (
            f"p50 {statistics.median(self.first):.0f} µs, p99 {p99:.0f} µs, {self.first_cpu:.0f} µs CPU; "
            f"remembered {statistics.median(self.again):.0f} µs, {self.again_cpu:.0f} µs CPU"
        )


def ask_all(port: int, pid: int, tickets: list[str]) -> tuple[list[float], float]:
    """Each ticket once, one after the other on one connection. -> (microseconds each, CPU microseconds per check)."""
    requests = [Ask(ticket).once() for ticket in tickets]
    took = []
    before = ticks(pid)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for request in requests:
            began = time.perf_counter()
            sock.sendall(request)
            got = sock.recv(65536)
            took.append((time.perf_counter() - began) * 1e6)
            if not got.startswith(b"HTTP/1.1 200 ") or not got.endswith(b"\r\n\r\n"):
                raise NotMeasured(f"a stored login was not let in: {got[:200]!r}")
    return took, (ticks(pid) - before) * 1e6 / os.sysconf("SC_CLK_TCK") / len(tickets)


def firsts_of(port: int, pid: int, tickets: list[str]) -> Firsts:
    """First checks, then three more of each; the remembered ones are the last two. The first ticket warms the connection's road."""
    ask_all(port, pid, tickets[:1])
    first, first_cpu = ask_all(port, pid, tickets[1:])
    ask_all(port, pid, tickets[1:])
    again, again_cpu = ask_all(port, pid, tickets[1:] * 2)
    return Firsts(first, again, first_cpu, again_cpu)


def first_checks(bench: Bench) -> None:
    """After a restart, when memory is empty."""
    program = bench.program("first")
    tickets = fill(program.path, 500 if bench.quick else 2000)
    ratios: list[Firsts] = []
    for _ in range(2 if bench.quick else 3):
        program.start()
        assert program.process is not None
        pin(program.process.pid)
        ratios.append(firsts_of(program.port, program.process.pid, tickets))
        program.end()
    ratios.sort(key=lambda each: each.ratio)
    middle = ratios[len(ratios) // 2]
    bench.table.row(
        "first check of a login that only the store knows, of a remembered one (p50 of round trips)",
        middle.ratio,
        middle.first_cpu / middle.again_cpu if middle.again_cpu else None,
        "≤ 12",
        f"{middle}; {len(tickets)} logins, {len(ratios)} restarts",
    )
