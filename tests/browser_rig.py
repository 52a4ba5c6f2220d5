"""A hospital in small for the stories: the real program, a real nginx with TLS in front, two real applications, the simulator of PSC.

    with Site(tmp_path, psc, clock, certificates) as site:
        page.goto(site.dossier + "/patients/42")

nginx reads what `proxy_config` prints for the very configuration that the program runs on; nothing is changed in it. The browser finds every
host on 127.0.0.1. Refuses: fixed ports, to leave a server behind.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit

import trustme
from playwright.sync_api import Browser, BrowserContext, Page
from proxies.nginx import Nginx
from running import Clock, Program, Running, free_port

from forward_auth.config import load
from forward_auth.demo.application import serve
from forward_auth.proxy_config import proxy_config
from forward_auth.settings import Settings
from forward_auth.simulator import Client, Simulator
from forward_auth.web.pages import Pages

HOSTS = ("auth.hopital.example", "dossier.hopital.example", "prescription.autre.example")
SECRET = "s3cr3t-0f-th3-t3sts"
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * 127.0.0.1",
)


def make_certificates(folder: Path) -> Path:
    """HOST.crt and HOST.key for each host, as proxy_config names them."""
    authority = trustme.CA()
    for host in HOSTS:
        certificate = authority.issue_cert(host)
        certificate.private_key_pem.write_to_path(str(folder / f"{host}.key"))
        for pem in certificate.cert_chain_pems:
            pem.write_to_path(str(folder / f"{host}.crt"), append=True)
    return folder


class OldApplication(BaseHTTPRequestHandler):
    """An application of long ago: it has a session of its own (JSESSIONID), refuses and fails with pages of its own, has a frame.

    Whose session it is, it decides once, from the header it sees when the session begins. Unaware of PSC."""

    protocol_version = "HTTP/1.1"
    sessions: dict[str, str]  # one per server, see `old_application`

    def _page(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        sent = self.rfile.read(length).decode()
        path = urlsplit(self.path).path
        cookies = dict(part.strip().partition("=")[::2] for part in self.headers.get("Cookie", "").split(";"))
        session = cookies.get("JSESSIONID", "")
        fresh = session not in self.sessions
        if fresh:
            session = f"s{len(self.sessions) + 1}"
            self.sessions[session] = unquote(self.headers.get("X-PSC-Family-Name", ""))
        status = int(path.removeprefix("/status/")) if path.startswith("/status/") else 200
        parts = [f"<h1>Prescription</h1><p id=status>{status}</p><p id=user>{escape(self.sessions[session])}</p>"]
        if path == "/portal":
            parts.append(
                '<a target="inside" href="/inside?a=1">Ouvrir</a><iframe name="inside" src="about:blank"></iframe>'
            )
        if path == "/form":
            parts.append(
                '<form method=post action="/write"><textarea name=text></textarea><button>Envoyer</button></form>'
            )
        if sent:
            parts.append(f"<p id=sent>{escape(sent)}</p>")
        body = (
            f'<!doctype html><html lang="fr"><link rel="icon" href="data:,"><title>A</title>{"".join(parts)}'.encode()
        )
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        if fresh:
            self.send_header("Set-Cookie", f"JSESSIONID={session}; Path=/; HttpOnly; Secure")
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = _page  # noqa: N815 - names that http.server gives

    def log_message(self, *_: object) -> None:
        return


def old_application() -> ThreadingHTTPServer:
    """On a free port of 127.0.0.1; the caller runs serve_forever."""
    handler = type("Handler", (OldApplication,), {"sessions": {}})
    return ThreadingHTTPServer(("127.0.0.1", 0), handler)


@contextmanager
def running_application(server: ThreadingHTTPServer) -> Iterator[str]:
    """-> its address, for nginx."""
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def write_configuration(folder: Path, issuer: str, port: int) -> Path:
    """The configuration for hosts on that port; both doors on sockets of that folder, so that they are the same after a restart."""
    secret = folder / "client-secret"
    if not secret.exists():
        secret.touch(0o600)
        secret.write_text(SECRET)
    auth, dossier, prescription = (f"https://{host}:{port}" for host in HOSTS)
    path = folder / "config.toml"
    path.write_text(f"""
[psc]
environment = "custom"
issuer = "{issuer}"
client_id = "hopital"
client_secret_file = "{secret}"
[server]
origin = "{auth}"
inner = ["unix:{folder}/inner.sock"]
outer = "unix:{folder}/outer.sock"
keys_file = "{folder}/keys"
[session]
store = "sqlite:{folder}/logins.db"
[audit]
file = "{folder}/audit.jsonl"
[pages]
establishment = "Hôpital Exemple"
contact = "Poste 1234"
[apps.dossier]
title = "Dossier patient"
origins = ["{dossier}"]
[apps.prescription]
title = "Prescription"
origins = ["{prescription}"]
forget_cookies = ["JSESSIONID"]
[[apps.prescription.rules]]
paths = ["/*"]
methods = ["GET", "HEAD"]
require = {{ profession = ["10", "40", "50"] }}
[[apps.prescription.rules]]
paths = ["/*"]
require = {{ profession = ["10", "40", "50"], max_age = "15m" }}
""")
    return path


class _ServiceHere(Running):
    """In this process, on the clock that the test turns."""

    def __init__(self, folder: Path, simulator: Simulator, clock: Clock, port: int) -> None:
        super().__init__(folder, simulator, clock)
        self.port = port

    def load(self) -> Settings:
        return load(write_configuration(self.folder, self.simulator.issuer, self.port), {})


class _ServiceProcess(Program):
    """As a process that can be killed."""

    def __init__(self, folder: Path, simulator: Simulator, port: int) -> None:
        self.folder = folder
        self.simulator = simulator
        self.path = write_configuration(folder, simulator.issuer, port)
        self.inner = str(folder / "inner.sock")
        self.outer = str(folder / "outer.sock")
        self.process = None


class Site:
    """Everything, until the end of the `with` block. `clock` None: the program is a process of its own, `site.program`, on the real clock;
    otherwise it is `site.running`. `auth`, `dossier`, `prescription`: origins."""

    running: Running
    program: Program

    def __init__(self, folder: Path, simulator: Simulator, clock: Clock | None, certificates: Path) -> None:
        self.folder = folder
        self.simulator = simulator
        self.clock = clock
        self.certificates = certificates
        self.port = free_port()
        self.auth, self.dossier, self.prescription = (f"https://{host}:{self.port}" for host in HOSTS)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            links: Mapping[str, str] = {"Prescription": self.prescription + "/", "Se déconnecter": "/psc/sign-out"}
            upstreams = {
                "dossier": stack.enter_context(running_application(serve("Dossier patient", links))),
                "prescription": stack.enter_context(running_application(old_application())),
            }
            client = Client(
                "hopital",
                SECRET,
                (self.auth + "/psc/callback",),
                (self.auth + "/psc/signed-out",),
                "",
            )
            self.simulator.realm.clients["hopital"] = client
            settings = load(write_configuration(self.folder, self.simulator.issuer, self.port), {})
            down = self.folder / "down.html"
            down.write_text(Pages(settings.pages, settings.server.path_prefix).static_down_page("fr"), "utf-8")
            text = proxy_config(
                "nginx",
                settings,
                listen=f"127.0.0.1:{self.port} ssl http2",
                upstreams=upstreams,
                down_page=str(down),
                certificates=str(self.certificates),
                access_log=str(self.folder / "access.log"),
            )
            if self.clock is None:
                self.program = stack.enter_context(_ServiceProcess(self.folder, self.simulator, self.port))
            else:
                self.running = stack.enter_context(_ServiceHere(self.folder, self.simulator, self.clock, self.port))
            stack.enter_context(Nginx(self.folder / "nginx", text, ports=[self.port]))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def psc_down(self) -> None:
        """PSC refuses connections."""
        self.simulator.call(self.simulator.stop())

    def psc_up(self) -> None:
        """PSC is back on the same port, with the same sessions."""
        self.simulator.call(self.simulator.start())


class Person:
    """One professional at one browser profile: tabs share cookies. What the console complains of is kept in `complaints`."""

    def __init__(self, browser: Browser, **options: object) -> None:
        self.context: BrowserContext = browser.new_context(
            ignore_https_errors=True,
            **{"locale": "fr-FR", **options},  # type: ignore[arg-type]  # names and types are Playwright's
        )
        self.context.set_default_timeout(10_000)
        self.complaints: list[str] = []
        self.context.on("console", lambda message: self._heard(message.text))
        self.context.on("weberror", lambda error: self._heard(str(error.error)))

    def _heard(self, text: str) -> None:
        # An answer that is no 200 is told in the console as well: the stories see it themselves.
        if not text.startswith("Failed to load resource: the server responded with a status of"):
            self.complaints.append(text)

    def tab(self) -> Page:
        return self.context.new_page()

    def close(self) -> None:
        self.context.close()


def choose(page: Page, name: str = "docteur-dupont") -> None:
    """The one click at PSC."""
    page.locator(f'button[value="{name}"]').click()


def received(page: Page) -> dict[str, str]:
    """The headers that the demonstration's application shows, names in lower case."""
    rows = page.locator("tbody tr").all()
    pairs = [row.locator("td").all_inner_texts() for row in rows]
    return {name.lower(): value for name, value in pairs}
