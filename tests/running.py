"""The real program for tests: `Running` in this process with a clock that the test turns, `Program` as a process that can be killed.

    def test_enter(running):                      # fixture: the simulator, the service, two apps on two hosts
        browser = Browser()
        running.sign_in(browser, "docteur-dupont", "https://dossier.hopital.example/a?b=1")
        answer = running.check(browser, "https://dossier.hopital.example/a")
        assert 200 == answer.status

Nothing is replaced: the configuration goes through config.load, the doors are real sockets, the store is SQLite, PSC is the simulator over HTTP.
"""

import asyncio
import concurrent.futures
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import uvloop

from forward_auth.config import load
from forward_auth.service import Service
from forward_auth.settings import Settings
from forward_auth.simulator import Client, Key, Simulator, SimulatorThread

T = TypeVar("T")
ROOT = Path(__file__).parents[1]
ORIGIN = "https://auth.hopital.example"
DOSSIER = "https://dossier.hopital.example"
PRESCRIPTION = "https://prescription.autre.example"

APPS = """
[apps.dossier]
title = "Dossier patient"
origins = ["https://dossier.hopital.example"]

[apps.prescription]
title = "Prescription"
origins = ["https://prescription.autre.example"]

[[apps.prescription.rules]]
paths = ["/public/*"]
open = true

[[apps.prescription.rules]]
paths = ["/*"]
methods = ["GET", "HEAD"]
require = { profession = ["10", "40", "50"] }

[[apps.prescription.rules]]
paths = ["/*"]
require = { profession = ["10", "40", "50"], max_age = "15m" }
"""

_KEY: list[Key] = []


def shared_key() -> Key:
    """One signing key for all simulators: making one costs a tenth of a second."""
    if not _KEY:
        _KEY.append(Key.rsa())
    return _KEY[0]


class Clock:
    """Unix seconds that stand still until the test turns them."""

    def __init__(self) -> None:
        self.now = float(int(time.time()))

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Answer:
    """What came back. `headers`: lower-case name -> values."""

    status: int
    headers: Mapping[str, list[str]]
    body: bytes
    url: str = ""

    def __getitem__(self, name: str) -> str:
        return self.headers.get(name.lower(), [""])[0]

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass
class Browser:
    """Cookies by hostname, as a browser keeps them: host-only, Secure over https alone, `__Host-` only if it is earned."""

    jar: dict[str, dict[str, str]] = field(default_factory=dict)
    psc: dict[str, str] = field(default_factory=dict)
    refuses_cookies: bool = False

    def cookies(self, hostname: str) -> str:
        return "; ".join(f"{name}={value}" for name, value in self.jar.get(hostname, {}).items())

    def keep(self, url: str, lines: Sequence[str]) -> None:
        parts = urlsplit(url)
        jar = self.jar.setdefault(parts.hostname or "", {})
        for line in lines:
            pair, *attributes = [part.strip() for part in line.split(";")]
            name, _, value = pair.partition("=")
            lower = [attribute.lower() for attribute in attributes]
            if self.refuses_cookies or ("secure" in lower and parts.scheme != "https"):
                continue
            if name.startswith("__Host-"):
                assert "secure" in lower
                assert "path=/" in lower
                assert not any(attribute.startswith("domain") for attribute in lower)
            if "max-age=0" in lower:
                jar.pop(name, None)
            else:
                jar[name] = value


def exchange(address: Any, method: str, target: str, headers: Mapping[str, str], body: str | None = None) -> Answer:
    """One request over a real connection: `address` is (host, port) or the path of a unix socket."""
    connection = http.client.HTTPConnection("127.0.0.1", timeout=15)
    if isinstance(address, str):
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(15)
        try:
            connection.sock.connect(address)
        except OSError:
            connection.close()
            raise
    else:
        connection.sock = socket.create_connection(tuple(address), timeout=15)
    try:
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value.encode("latin-1") if isinstance(value, str) else value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body.encode())))
        connection.endheaders(body.encode() if body is not None else None)
        answer = connection.getresponse()
        content = answer.read()
        found: dict[str, list[str]] = {}
        for name, value in answer.getheaders():
            found.setdefault(name.lower(), []).append(value)
        return Answer(answer.status, found, content)
    finally:
        connection.close()


class Doors:
    """What both ways of running offer: checks, requests to the outer door, a sign-in driven by hand."""

    inner: Any
    outer: Any
    simulator: Simulator

    def check(
        self,
        browser: Browser | None,
        url: str,
        *,
        method: str = "GET",
        dialect: str = "nginx",
        navigation: bool = True,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """What a proxy is told about this request of this browser."""
        parts = urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        sent = {"Host": "inner"}
        if dialect == "ingress-nginx":
            sent |= {"X-Original-URL": url, "X-Original-Method": method}
        else:
            sent |= {
                "X-Forwarded-Method": method,
                "X-Forwarded-Proto": parts.scheme,
                "X-Forwarded-Host": parts.netloc,
                "X-Forwarded-Uri": target,
            }
        sent["X-Forwarded-For"] = "192.0.2.7"
        sent["Accept"] = "text/html" if navigation else "application/json"
        cookies = browser.cookies(parts.hostname or "") if browser is not None else ""
        if cookies:
            sent["Cookie"] = cookies
        answer = exchange(self.inner, "GET", f"/auth/{dialect}", {**sent, **(headers or {})})
        answer.url = url
        return answer

    def request(
        self,
        browser: Browser,
        method: str,
        url: str,
        *,
        form: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request of a browser to the outer door, through a proxy that tells the host."""
        parts = urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        sent = {
            "Host": "outer",
            "X-Forwarded-Host": parts.netloc,
            "X-Forwarded-Proto": parts.scheme,
            "X-Forwarded-For": "192.0.2.7",
            "Accept": "text/html",
        }
        cookies = browser.cookies(parts.hostname or "")
        if cookies:
            sent["Cookie"] = cookies
        if form is not None:
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        answer = exchange(self.outer, method, target, {**sent, **(headers or {})}, form)
        browser.keep(url, answer.headers.get("set-cookie", []))
        answer.url = url
        return answer

    def get(self, browser: Browser, url: str, **headers: str) -> Answer:
        return self.request(
            browser, "GET", url, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )

    def follow(
        self, browser: Browser, url: str, person: str = "", *, mode: str = "CARD", acr: str = "eidas1", hops: int = 15
    ) -> Answer:
        """Follow redirects from an address of the outer door, through PSC, until an app is reached (then its check is the answer) or a page
        is. `person`: who signs in at PSC; "" counts on single sign-on there."""
        for _ in range(hops):
            parts = urlsplit(url)
            if parts.hostname and parts.hostname.endswith("psc.localhost"):
                url = self.simulator.sign_in(url, person, mode=mode, acr=acr, cookies=browser.psc)
                continue
            if not parts.path.startswith("/psc/"):
                answer = self.check(browser, url)
                if answer.status != 401 or not answer["Location"]:
                    return answer
            else:
                answer = self.get(browser, url)
                if answer.status not in (302, 303):
                    return answer
            url = answer["Location"]
        raise AssertionError(f"more than {hops} redirects: a loop, last at {url}")

    def sign_in(
        self, browser: Browser, person: str, url: str = DOSSIER + "/", *, mode: str = "CARD", acr: str = "eidas1"
    ) -> Answer:
        """From a click on `url` to the app, as a person would. -> the answer to the last check or page."""
        return self.follow(browser, url, person, mode=mode, acr=acr)

    def sign_out(self, browser: Browser, origin: str = ORIGIN) -> Answer:
        """GET, then the form of its page."""
        asked = self.get(browser, origin + "/psc/sign-out")
        token = asked.text.partition('name="token" value="')[2].partition('"')[0]
        return self.request(browser, "POST", origin + "/psc/sign-out", form=f"token={token}")

    def raw(self, data: bytes, address: Any = None) -> bytes:
        """Bytes to the inner door, and all that comes back until it closes or falls silent."""
        target = address if address is not None else self.inner
        family = socket.AF_UNIX if isinstance(target, str) else socket.AF_INET
        with socket.socket(family) as sock:
            sock.settimeout(1.0)
            sock.connect(target if isinstance(target, str) else tuple(target))
            sock.sendall(data)
            got = b""
            try:
                while True:
                    more = sock.recv(65536)
                    if not more:
                        return got
                    got += more
                    if got.endswith(b"\r\n\r\n") and b"Connection: close" not in got:
                        sock.settimeout(0.15)
            except (TimeoutError, ConnectionResetError):
                return got

    def metrics(self) -> dict[str, float]:
        """`name{labels}` -> value."""
        text = exchange(self.inner, "GET", "/metrics", {"Host": "inner"}).text
        pairs = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def ready(self) -> tuple[int, dict[str, Any]]:
        answer = exchange(self.inner, "GET", "/readyz", {"Host": "inner"})
        return answer.status, json.loads(answer.body)


def configuration(
    folder: Path,
    issuer: str,
    *,
    apps: str = APPS,
    more: str = "",
    inner: str = "127.0.0.1:0",
    outer: str = "127.0.0.1:0",
) -> Path:
    """A configuration in that folder, for that issuer. `more`: further sections; sections `[server]`, `[session]` may be added to with
    `server: …`, `session: …` lines."""
    secret = folder / "client-secret"
    if not secret.exists():
        secret.touch(0o600)
        secret.write_text("s3cr3t-0f-th3-t3sts")
    lines = {"server": "", "session": "", "psc": ""}
    rest = []
    for line in more.splitlines():
        section, mark, text = line.partition(": ")
        if mark and section.strip() in lines:
            lines[section.strip()] += text + "\n"
        else:
            rest.append(line)
    path = folder / "config.toml"
    path.write_text(
        f"""[psc]
environment = "custom"
issuer = "{issuer}"
client_id = "hopital"
client_secret_file = "{secret}"
{lines["psc"]}
[server]
origin = "{ORIGIN}"
inner = ["{inner}", "unix:{folder}/inner.sock"]
outer = "{outer}"
trusted_proxies = ["127.0.0.1"]
keys_file = "{folder}/keys"
{lines["server"]}
[session]
store = "sqlite:{folder}/logins.db"
{lines["session"]}
[audit]
file = "{folder}/audit.jsonl"
[pages]
establishment = "Hôpital Exemple"
contact = "Poste 1234"
{chr(10).join(rest)}
{apps}
"""
    )
    return path


CLIENT = Client(
    "hopital",
    "s3cr3t-0f-th3-t3sts",
    (ORIGIN + "/psc/callback",),
    (ORIGIN + "/psc/signed-out",),
    ORIGIN + "/psc/backchannel-logout",
)


class Running(Doors):
    """The service in a thread and a loop of its own."""

    def __init__(self, folder: Path, simulator: Simulator, clock: Clock, *, apps: str = APPS, more: str = "") -> None:
        self.folder = folder
        self.simulator = simulator
        self.clock = clock
        self.apps = apps
        self.more = more
        self.service: Service
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def load(self) -> Settings:
        return load(configuration(self.folder, self.simulator.issuer, apps=self.apps, more=self.more), {})

    def start(self) -> None:
        """Open both doors; returns when they answer."""
        settings = self.load()
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="service", daemon=True)
        self._thread.start()

        async def begin() -> Service:
            service = Service(settings, clock=self.clock, node="test")
            await service.start()
            return service

        try:
            self.service = self.call(begin())
        except BaseException:
            self._end_loop()
            raise
        self.inner = self.service.inner_addresses[0]
        self.inner_unix = str(self.folder / "inner.sock")
        self.outer = self.service.outer_address

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run something in the service's loop and wait for it."""
        assert self._loop is not None
        future: concurrent.futures.Future[T] = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        return future.result(30)

    def stop(self) -> None:
        if self._loop is not None:
            self.call(self.service.stop(drain=0.2))
            self._end_loop()

    def _end_loop(self) -> None:
        assert self._loop is not None
        assert self._thread is not None
        self.call(
            self._loop.shutdown_asyncgens()
        )  # in its own thread: in this one Playwright may have a loop that runs
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._loop = None

    def restart(self) -> None:
        """Stop and start on the same store and keys."""
        self.stop()
        self.start()

    def reload(self, *, apps: str | None = None, more: str | None = None) -> tuple[str, ...]:
        """As SIGHUP does, with other apps or sections."""
        self.apps = self.apps if apps is None else apps
        self.more = self.more if more is None else more
        return self.call(self.service.reload(self.load()))

    def sweep(self, ticks: int = 1) -> None:
        """Let seconds pass for the inner door's slow and idle connections."""

        async def turn() -> None:
            for _ in range(ticks):
                for door in self.service._doors:
                    door.sweep()

        self.call(turn())

    def audit(self) -> list[dict[str, Any]]:
        """The trail so far: what was written before is in the file once its thread has had a moment."""
        end = time.monotonic() + 2
        trail = self.service.audit
        while not trail._lines.empty() and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.02)
        path = self.folder / "audit.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class Program(Doors):
    """The service as a process: `python -m forward_auth serve`."""

    def __init__(self, folder: Path, simulator: Simulator, *, apps: str = APPS, more: str = "") -> None:
        self.folder = folder
        self.simulator = simulator
        self.port = free_port()
        self.outer = ("127.0.0.1", free_port())
        self.inner = ("127.0.0.1", self.port)
        self.inner_unix = str(folder / "inner.sock")
        self.path = configuration(
            folder,
            simulator.issuer,
            apps=apps,
            more=more,
            inner=f"127.0.0.1:{self.port}",
            outer=f"127.0.0.1:{self.outer[1]}",
        )
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def start(self, *, wait: bool = True) -> float:
        """-> seconds until ready."""
        began = time.monotonic()
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "forward_auth", "serve", "--config", str(self.path)],
                stdout=log,
                stderr=log,
                env=environment,
            )
        while wait and time.monotonic() < began + 30:
            try:
                if self.ready()[0] == 200:
                    return time.monotonic() - began
            except OSError:
                pass
            assert self.process.poll() is None, self.log()
            time.sleep(0.02)
        if wait:
            self.kill()  # nobody else would: __exit__ is not called after this
            raise AssertionError(f"not ready in time: {self.log()}")
        return 0.0

    def kill(self) -> None:
        """As a crash: SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def end(self) -> int:
        """SIGTERM. -> exit code."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(15)
        self.process = None
        return code

    def log(self) -> str:
        return (self.folder / "log").read_text()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody had a moment ago."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


__all__ = [
    "CLIENT",
    "DOSSIER",
    "ORIGIN",
    "PRESCRIPTION",
    "Answer",
    "Browser",
    "Clock",
    "Program",
    "Running",
    "SimulatorThread",
    "configuration",
    "free_port",
    "shared_key",
]
