"""`make bench`: what a check costs, as ratios measured within one run, beside the target of each.

For: the table of the README. Server and its rival take turns on core 0 (A B A B …), the load comes from wrk on core 1; quoted is the median over
the rounds. CPU is what the operating system charged the server's process per request: steadier than requests per second on a busy machine.
Refuses: to count a wrong answer as a fast one, and to be a test: nothing here fails because a machine is slow.

    python tests/bench [--seconds 3] [--rounds 5] [--quick]
"""

import argparse
import asyncio
import contextlib
import datetime
import http.client
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent), str(TESTS / "proxies")]

from nginx import Nginx, free_port  # noqa: E402
from running import CLIENT, DOSSIER, Browser, Program, SimulatorThread, configuration, shared_key  # noqa: E402

from forward_auth.config import load  # noqa: E402
from forward_auth.identity import Identity, Situation  # noqa: E402
from forward_auth.logins import Record  # noqa: E402
from forward_auth.secret import Secret  # noqa: E402
from forward_auth.service import Service  # noqa: E402

BARE_AIOHTTP = """
import sys
from aiohttp import web
HEADERS = {f"X-PSC-Header-{n}": "value of a header" for n in range(14)}
async def check(request):
    return web.Response(status=200, headers=HEADERS)
app = web.Application()
app.router.add_get("/auth/nginx", check)
import uvloop, asyncio
asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)
"""

LUA = """
local headers = {{
  ["Host"] = "dossier.hopital.example", ["Cookie"] = "JSESSIONID=0123456789abcdef; {cookie}theme=dark", ["Accept"] = "{accept}",
  ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)", ["X-Forwarded-Method"] = "GET",
  ["X-Forwarded-Proto"] = "https", ["X-Forwarded-Host"] = "dossier.hopital.example", ["X-Forwarded-Uri"] = "/patients/12345?tab=lab",
  ["X-Forwarded-For"] = "192.0.2.7", ["Sec-Fetch-Mode"] = "{mode}", ["Sec-Fetch-Dest"] = "{dest}"{more}
}}
local n = 0
request = function()
  n = n + 1
  {each}
  return wrk.format("GET", "{path}", headers)
end
"""


def lua(ticket: str, *, navigation: bool = True, close: bool = False, each: str = "", path: str = "/auth/nginx") -> str:
    """A script for wrk: eleven request headers, as nginx sends them for a browser."""
    return LUA.format(
        cookie=f"__Host-psc={ticket}; " if ticket else "",
        accept="text/html,application/xhtml+xml" if navigation else "application/json",
        mode="navigate" if navigation else "cors",
        dest="document" if navigation else "empty",
        more=', ["Connection"] = "close"' if close else "",
        each=each,
        path=path,
    )


ANOTHER_ADDRESS = 'headers["X-Forwarded-Uri"] = "/patients/12345?tab=" .. n'
ANOTHER_COOKIE = (
    'headers["Cookie"] = "JSESSIONID=0123456789abcdef; __Host-psc=AB" .. string.format("%062d", n) .. "; theme=dark"'
)


@dataclass
class Load:
    """One kind of request to one server. `pids`: whose CPU is counted; `bad`: whether answers other than 2xx are right."""

    name: str
    url: str
    script: str
    pids: list[int]
    bad: bool = False
    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def run(self, folder: Path, seconds: float) -> None:
        path = folder / f"{abs(hash(self.name))}.lua"
        path.write_text(self.script)
        before = [ticks(pid) for pid in self.pids]
        command = [
            "taskset",
            "-c",
            "1",
            "wrk",
            "-t1",
            "-c32",
            f"-d{max(1, round(seconds))}s",
            "-s",
            str(path),
            self.url,
        ]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        after = [ticks(pid) for pid in self.pids]
        found = re.search(r"(\d+) requests in ([\d.]+)(m?s)", said)
        assert found, said
        count, took = int(found[1]), float(found[2]) / (1000 if found[3] == "ms" else 1)
        wrong = int(match[1]) if (match := re.search(r"Non-2xx or 3xx responses: (\d+)", said)) else 0
        if (wrong != 0) is not self.bad or (self.bad and wrong != count):
            raise SystemExit(f"{self.name}: {wrong} of {count} answers were not 2xx: nothing is measured by that")
        self.rates.append(count / took)
        self.cpu.append((sum(after) - sum(before)) * 1e6 / os.sysconf("SC_CLK_TCK") / count)

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)

    @property
    def cost(self) -> float:
        return statistics.median(self.cpu)


def ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def pin(pid: int) -> None:
    subprocess.run(["taskset", "-acp", "0", str(pid)], check=True, stdout=subprocess.DEVNULL)


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def resident(pid: int) -> float:
    """MiB."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) / 1024


def connections_of(port: int) -> int:
    """TCP connections with that local port, those that are over but not forgotten included."""
    count = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        count += int(line.split()[1].rpartition(":")[2], 16) == port
    return count


def turns(loads: list[Load], folder: Path, rounds: int, seconds: float) -> None:
    for load_ in loads:
        load_.run(folder, min(seconds, 0.5))
        load_.rates.clear()
        load_.cpu.clear()
    for _ in range(rounds):
        for load_ in loads:
            load_.run(folder, seconds)


@contextlib.contextmanager
def bare_aiohttp() -> Iterator[tuple[int, int]]:
    port = free_port()
    process = subprocess.Popen(["taskset", "-c", "0", sys.executable, "-c", BARE_AIOHTTP, str(port)])
    try:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                http.client.HTTPConnection("127.0.0.1", port, timeout=1).request("GET", "/auth/nginx")
                break
            time.sleep(0.05)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait()


def nginx_text(program: Program, plain: int, tcp: int, unix: int, free: int, files: Path) -> str:
    """Four servers: `return 204`; a small file behind auth_request over TCP; the same over a unix socket; the same file, free."""

    def auth(port: int, upstream: str) -> str:
        return f"""
server {{ listen 127.0.0.1:{port}; keepalive_requests 100000000; root {files};
  location = /auth {{ internal; proxy_pass http://{upstream}/auth/nginx; proxy_http_version 1.1; proxy_set_header Connection "";
    proxy_pass_request_body off; proxy_pass_request_headers off; proxy_set_header Content-Length ""; proxy_set_header Host $host;
    proxy_set_header Cookie $http_cookie; proxy_set_header Accept $http_accept; proxy_set_header User-Agent $http_user_agent;
    proxy_set_header Sec-Fetch-Mode $http_sec_fetch_mode; proxy_set_header Sec-Fetch-Dest $http_sec_fetch_dest;
    proxy_set_header X-Forwarded-Method $request_method; proxy_set_header X-Forwarded-Proto https; proxy_set_header X-Forwarded-Host $host;
    proxy_set_header X-Forwarded-Uri $request_uri; proxy_set_header X-Forwarded-For $remote_addr; }}
  location / {{ auth_request /auth; auth_request_set $subject $upstream_http_x_psc_subject; }} }}"""

    return f"""
upstream tcp {{ server 127.0.0.1:{program.port}; keepalive 64; keepalive_requests 100000000; }}
upstream unix_socket {{ server unix:{program.inner_unix}; keepalive 64; keepalive_requests 100000000; }}
server {{ listen 127.0.0.1:{plain}; keepalive_requests 100000000; location / {{ return 204; }} }}
server {{ listen 127.0.0.1:{free}; keepalive_requests 100000000; root {files}; }}
{auth(tcp, "tcp")}{auth(unix, "unix_socket")}"""


# -- first checks ----------------------------------------------------------------------------------------------------------------


async def fill(folder: Path, issuer: str, count: int) -> list[str]:
    """`count` real logins, sealed and stored as sign-ins store them. -> their tickets for the dossier's host."""
    settings = load(configuration(folder, issuer), {})
    service = Service(settings, clock=time.time)
    await service.sessions.store.open()
    now = int(time.time())
    situation = Situation(
        profession="10",
        category="C",
        speciality="SM26",
        sector="SA07",
        mode="L",
        structure="R102671",
        structure_name="CABINET M DUPONT",
        structures=("R102671",),
    )
    tickets = []
    for number in range(count):
        subject = f"8{99700000000 + number}"
        identity = Identity(
            issuer=issuer,
            sub=f"sub-{number}",
            subject=subject,
            given_name="CAMILLE",
            family_name="DUPONT",
            civility="M",
            situations=(situation,),
            acr="eidas1",
            auth_mode="CARD",
            auth_time=now,
            other_ids=(),
        )
        claims = {
            "issuer": issuer,
            "sub": identity.sub,
            "sid": f"sid-{number}",
            "acr": "eidas1",
            "auth_time": now,
            "auth_time_given": True,
            "iat": now,
            "exp": now + 120,
            "nonce": None,
        }
        record = Record(
            identity=identity,
            claims=claims,
            sid=f"sid-{number}",
            id_token=Secret("i" * 1200),
            refresh_token=Secret("r" * 700),
            refresh_issued=now,
            refresh_lives=1800,
        )
        begun = await service.sessions.begin(
            record, "dossier.hopital.example", now, "192.0.2.7", previous=None, old_ticket=None
        )
        assert begun is not None
        tickets.append(begun[0])
    await service.sessions.store.close()
    return tickets


def first_checks(program: Program, tickets: list[str]) -> tuple[list[float], list[float]]:
    """Microseconds of the first and of the second check of each ticket, one after the other on one connection."""
    connection = http.client.HTTPConnection(*program.inner)
    headers = {
        "X-Forwarded-Method": "GET",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "dossier.hopital.example",
        "X-Forwarded-Uri": "/a",
        "Accept": "text/html",
    }

    def one(ticket: str) -> float:
        began = time.perf_counter()
        connection.request("GET", "/auth/nginx", headers={**headers, "Cookie": f"__Host-psc={ticket}"})
        answer = connection.getresponse()
        answer.read()
        took = (time.perf_counter() - began) * 1e6
        assert answer.status == 200, answer.status
        return took

    one(tickets[0])
    firsts = [one(ticket) for ticket in tickets[1:]]
    for ticket in tickets[1:]:
        one(ticket)
    seconds = [one(ticket) for ticket in tickets[1:]]
    connection.close()
    return firsts, seconds


# -- the table -------------------------------------------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="short rounds, for trying the machinery")
    options = parser.parse_args()
    rounds, seconds = (2, 1.0) if options.quick else (options.rounds, options.seconds)
    for tool in ("wrk", "taskset"):
        if shutil.which(tool) is None:
            print(f"{tool} is not installed; run: deploy/system-packages.sh bench", file=sys.stderr)
            return 1
    load_before = os.getloadavg()[0]
    rows: list[tuple[str, str, str, str]] = []
    with tempfile.TemporaryDirectory() as name, SimulatorThread(clients=[CLIENT], key=shared_key()) as simulator:
        folder = Path(name)
        folder.chmod(0o755)
        tickets = asyncio.run(fill(folder, simulator.issuer, 200 if options.quick else 2000))
        program = Program(folder, simulator)
        ready = statistics.median([_started(program) for _ in range(3)])
        program.start()
        assert program.process is not None
        pid = program.process.pid
        memory = resident(pid)
        firsts, seconds_ = first_checks(program, tickets)
        browser = Browser()
        program.sign_in(browser, "docteur-dupont", DOSSIER + "/patients/12345?tab=lab")
        ticket = browser.jar["dossier.hopital.example"]["__Host-psc"]
        pin(pid)
        plain, tcp, unix, free = (free_port() for _ in range(4))
        files = folder / "www"
        (files / "patients").mkdir(parents=True)
        (files / "patients" / "12345").write_text("x" * 64)
        for path in (files, files / "patients", files / "patients" / "12345"):
            path.chmod(0o755)
        try:
            with (
                Nginx(
                    folder / "nginx", nginx_text(program, plain, tcp, unix, free, files), ports=[plain, tcp, unix, free]
                ) as nginx,
                bare_aiohttp() as (bare, bare_pid),
            ):
                workers = children(nginx_pid(nginx))
                for worker in workers:
                    pin(worker)
                here = f"http://127.0.0.1:{program.port}/auth/nginx"
                signed_out = sign_out_ticket(program)
                table = {
                    "limit": Load("nginx return 204", f"http://127.0.0.1:{plain}/auth/nginx", lua(ticket), workers),
                    "allowed": Load("allowed", here, lua(ticket), [pid]),
                    "moving": Load(
                        "allowed, another address each time", here, lua(ticket, each=ANOTHER_ADDRESS), [pid]
                    ),
                    "bare": Load("bare aiohttp", f"http://127.0.0.1:{bare}/auth/nginx", lua(ticket), [bare_pid]),
                    "forged": Load("unknown cookie", here, lua("AB" + "0" * 62), [pid], bad=True),
                    "forged-api": Load(
                        "unknown cookie, API", here, lua("AB" + "0" * 62, navigation=False), [pid], bad=True
                    ),
                    "forged-new": Load(
                        "another unknown cookie each time",
                        here,
                        lua("AB" + "0" * 62, each=ANOTHER_COOKIE),
                        [pid],
                        bad=True,
                    ),
                    "ended": Load("ended ticket", here, lua(signed_out), [pid], bad=True),
                    "limit-new": Load(
                        "nginx return 204, new connection",
                        f"http://127.0.0.1:{plain}/auth/nginx",
                        lua(ticket, close=True),
                        workers,
                    ),
                    "new": Load("new connection", here, lua(ticket, close=True), [pid]),
                    "free": Load(
                        "nginx without auth",
                        f"http://127.0.0.1:{free}/patients/12345",
                        lua(ticket, path="/patients/12345"),
                        workers,
                    ),
                    "tcp": Load(
                        "nginx auth_request, TCP",
                        f"http://127.0.0.1:{tcp}/patients/12345",
                        lua(ticket, path="/patients/12345"),
                        [*workers, pid],
                    ),
                    "unix": Load(
                        "nginx auth_request, unix",
                        f"http://127.0.0.1:{unix}/patients/12345",
                        lua(ticket, path="/patients/12345"),
                        [*workers, pid],
                    ),
                }
                table["tcp"].run(folder, 0.5)
                before = connections_of(program.port)
                table["tcp"].run(folder, seconds)
                checks = int(table["tcp"].rates[-1] * seconds)
                opened = max(0, connections_of(program.port) - before)
                turns(
                    [
                        table[key]
                        for key in ("limit", "allowed", "moving", "bare", "forged", "forged-api", "forged-new", "ended")
                    ],
                    folder,
                    rounds,
                    seconds,
                )
                turns([table[key] for key in ("limit-new", "new")], folder, rounds, min(seconds, 2))
                turns([table[key] for key in ("free", "tcp", "unix")], folder, rounds, seconds)
        finally:
            program.end()

    def line(text: str, value: float, target: str, met: bool, more: str = "") -> None:
        rows.append((text, f"{value:.2f}" if value < 100 else f"{value:.0f}", f"{target} {'✓' if met else '✗'}", more))

    def speed(key: str) -> str:
        return f"{table[key].rate:,.0f}/s, {table[key].cost:.1f} µs CPU".replace(",", " ")

    ratio: Callable[[str, str], float] = lambda one, other: table[one].rate / table[other].rate  # noqa: E731
    line(
        "kept-alive checks, of nginx `return 204`",
        ratio("allowed", "limit"),
        "≥ 0.60",
        ratio("allowed", "limit") >= 0.6,
        f"{speed('allowed')} (nginx: {speed('limit')})",
    )
    line("the same, another address each time", ratio("moving", "limit"), "–", True, speed("moving"))
    line(
        "of a bare aiohttp handler",
        ratio("allowed", "bare"),
        "≥ 2",
        ratio("allowed", "bare") >= 2,
        f"aiohttp: {speed('bare')}",
    )
    line(
        "a new connection per check, of nginx's",
        ratio("new", "limit-new"),
        "≥ 0.70",
        ratio("new", "limit-new") >= 0.7,
        f"{speed('new')} (nginx: {speed('limit-new')})",
    )
    line(
        "through nginx `auth_request` over TCP, of no auth",
        ratio("tcp", "free"),
        "≥ 0.20",
        ratio("tcp", "free") >= 0.2,
        f"{speed('tcp')} (no auth: {speed('free')})",
    )
    line("the same over a unix socket", ratio("unix", "free"), "≥ 0.24", ratio("unix", "free") >= 0.24, speed("unix"))
    line(
        "new upstream connections per 1 000 checks",
        1000 * opened / checks,
        "0",
        opened * 1000 < checks,
        f"{opened} in {checks}",
    )
    cost: Callable[[str], float] = lambda key: table[key].cost / table["allowed"].cost  # noqa: E731
    line(
        "CPU of refusing an unknown cookie, of an allowed check",
        cost("forged"),
        "≤ 1.3",
        cost("forged") <= 1.3,
        speed("forged"),
    )
    line("the same for an API call", cost("forged-api"), "≤ 1.3", cost("forged-api") <= 1.3, speed("forged-api"))
    line(
        "another unknown cookie each time, of an allowed check with another address each time",
        table["forged-new"].cost / table["moving"].cost,
        "–",
        True,
        speed("forged-new"),
    )
    line("an ended ticket", cost("ended"), "–", True, speed("ended"))
    p50, again = statistics.median(firsts), statistics.median(seconds_)
    p99 = sorted(firsts)[int(len(firsts) * 0.99)]
    line(
        "first check of a login that only the store knows, of a remembered one (p50, round trip)",
        p50 / again,
        "≤ 12",
        p50 / again <= 12,
        f"{p50:.0f} µs, p99 {p99:.0f} µs; remembered {again:.0f} µs",
    )
    line("MiB resident after start", memory, "≤ 90", memory <= 90)
    line("seconds from start to ready", ready, "≤ 1.5", ready <= 1.5)
    print(
        f"Measured on {datetime.datetime.now(datetime.UTC):%Y-%m-%d}: {cpu_name()}, {os.cpu_count()} cores, {platform.system()} {platform.release().split('-')[0]}, Python {platform.python_version()}, {nginx_version()}, wrk with 32 connections; {rounds} rounds of {seconds:g} s, medians. Server on one core, load from the other.\n"
    )
    print("| figure | measured | target | beside it |\n|---|---|---|---|")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    if load_before > 0.7:
        print(f"\nThe machine was busy before the run (load {load_before:.1f}): do not quote these figures.")
    return 0


def _started(program: Program) -> float:
    took = program.start()
    program.end()
    return took


def sign_out_ticket(program: Program) -> str:
    """The ticket of somebody who has signed out."""
    browser = Browser()
    program.sign_in(browser, "infirmiere-leroy")
    ticket = browser.jar["dossier.hopital.example"]["__Host-psc"]
    program.sign_out(browser, DOSSIER)
    return ticket


def nginx_pid(nginx: Nginx) -> int:
    return int((Path(nginx.folder) / "nginx.pid").read_text())


def nginx_version() -> str:
    path = shutil.which("nginx") or "/usr/sbin/nginx"
    return subprocess.run([path, "-v"], capture_output=True, text=True, check=True).stderr.strip().rpartition(": ")[2]


def cpu_name() -> str:
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.machine()


if __name__ == "__main__":
    sys.exit(main())
