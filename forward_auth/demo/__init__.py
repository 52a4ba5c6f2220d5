"""The demonstration: a pretend PSC, the service, a real nginx and two applications, on one port of this machine.

For: `make run`. The service and the pretend PSC are processes of their own, so that they can be stopped and killed while one looks; the service is
started again when it dies, as systemd would. Refuses: to listen beyond loopback, to leave anything behind when it ends.
"""

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from http.server import ThreadingHTTPServer
from importlib import resources
from pathlib import Path

from forward_auth.config import load
from forward_auth.demo.application import serve
from forward_auth.proxy_config import proxy_config
from forward_auth.web.pages import Pages


class DemoError(Exception):
    """Why the demonstration cannot run, and what to do."""


def run(port: int, config: Path | None, environ: Mapping[str, str]) -> int:
    """Run until Ctrl-C or SIGTERM. -> exit code. Raises DemoError."""
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if nginx is None:
        raise DemoError("nginx is not installed; on Debian: apt-get install nginx")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise DemoError(
                f"port {port} cannot be used ({error.strerror}); choose another: DEMO_PORT={port + 1} make run"
            ) from None
    folder = Path(tempfile.mkdtemp(prefix="psc-forward-auth-demo-"))
    try:
        return _Demo(port, config or _shipped_config(), folder, nginx, environ).run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _shipped_config() -> Path:
    """config/demo.toml of the checkout, or the copy inside an installed package."""
    beside = Path(__file__).parents[2] / "config" / "demo.toml"
    if beside.is_file():
        return beside
    inside = resources.files("forward_auth").joinpath("config/demo.toml")
    path = Path(str(inside))
    if not path.is_file():
        raise DemoError("config/demo.toml is not there; give one with --config FILE")
    return path


class _Demo:
    def __init__(self, port: int, config: Path, folder: Path, nginx: str, environ: Mapping[str, str]) -> None:
        self.port = port
        self.config = config
        self.folder = folder
        self.nginx = nginx
        self.simulator_port = _free_port()
        self.environ = self._environment(environ)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.stop = threading.Event()

    def _environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """What depends on this run's folder and port, for the service (see the head of config/demo.toml)."""
        secret = self.folder / "client-secret"
        secret.touch(0o600)
        secret.write_text(secrets.token_urlsafe(32))
        port = self.port
        ours = {
            "PSC__ISSUER": f"http://psc.localhost:{port}/auth/realms/esante-wallet",
            "PSC__CLIENT_SECRET_FILE": str(secret),
            "SERVER__ORIGIN": f"http://auth.localhost:{port}",
            "SERVER__INNER": f"unix:{self.folder}/inner.sock",
            "SERVER__OUTER": f"unix:{self.folder}/outer.sock",
            "SERVER__KEYS_FILE": str(self.folder / "keys"),
            "SESSION__STORE": f"sqlite:{self.folder}/logins.db",
            "AUDIT__FILE": str(self.folder / "audit.jsonl"),
            "APPS__DOSSIER__ORIGINS": f"http://dossier.localhost:{port}",
            "APPS__PRESCRIPTION__ORIGINS": f"http://prescription.localhost:{port}",
        }
        return {**environ, **{"FORWARD_AUTH__" + name: value for name, value in ours.items()}}

    def run(self) -> int:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self.stop.set())
        applications = self._applications()
        try:
            self._write_nginx({name: f"http://127.0.0.1:{server.server_port}" for name, server in applications.items()})
            self._start("nginx", [self.nginx, "-p", f"{self.folder}/", "-c", f"{self.folder}/nginx.conf"])
            self._start("simulator", self._simulator_command())
            self._start("service", [sys.executable, "-m", "forward_auth", "serve", "--config", str(self.config)])
            if not self._wait_until_ready():
                return 1
            self._tell()
            return self._watch()
        finally:
            self._end()
            for server in applications.values():
                server.shutdown()
                server.server_close()

    def _simulator_command(self) -> list[str]:
        issuer = self.environ["FORWARD_AUTH__PSC__ISSUER"]
        return [
            sys.executable,
            "-m",
            "forward_auth",
            "simulator",
            "--port",
            str(self.simulator_port),
            "--issuer",
            issuer,
        ]

    def _applications(self) -> dict[str, ThreadingHTTPServer]:
        links = {
            "Dossier": f"http://dossier.localhost:{self.port}/patients/42?onglet=biologie",
            "Prescription": f"http://prescription.localhost:{self.port}/",
            "Ma session": "/psc/session",
            "Se déconnecter": "/psc/sign-out",
        }
        servers = {"dossier": serve("Dossier patient", links), "prescription": serve("Prescription", links)}
        for server in servers.values():
            threading.Thread(target=server.serve_forever, daemon=True).start()
        return servers

    def _write_nginx(self, upstreams: Mapping[str, str]) -> None:
        settings = load(self.config, self.environ)
        down = self.folder / "down.html"
        down.write_text(Pages(settings.pages, settings.server.path_prefix).static_down_page("fr"), "utf-8")
        simulator = f"http://127.0.0.1:{self.simulator_port}"
        text = proxy_config(
            "nginx",
            settings,
            listen=f"127.0.0.1:{self.port}",
            tls=False,
            upstreams=upstreams,
            plain_hosts={"psc.localhost": simulator, "wallet.psc.localhost": simulator},
            down_page=str(down),
            access_log=str(self.folder / "access.log"),
        )
        # nginx's workers must reach our sockets, which are for one user and one group.
        user = f"user {pwd.getpwuid(os.geteuid()).pw_name};\n" if os.geteuid() == 0 else ""
        temporary = "".join(
            f"    {kind}_temp_path {self.folder}/{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        head = f"{user}daemon off;\npid {self.folder}/nginx.pid;\nerror_log {self.folder}/nginx-error.log;\nworker_processes 1;\nevents {{ worker_connections 512; }}\n"
        (self.folder / "nginx.conf").write_text(f"{head}http {{\n{temporary}{text}\n}}\n", "utf-8")

    def _start(self, name: str, command: list[str]) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(  # noqa: S603 - our own programs
                command, env=self.environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def _wait_until_ready(self) -> bool:
        end = time.monotonic() + 30
        while time.monotonic() < end and not self.stop.is_set():
            for name, process in self.processes.items():
                if process.poll() is not None:
                    print(f"{name} ended with code {process.returncode}:", file=sys.stderr)
                    print((self.folder / f"{name}.log").read_text("utf-8", "replace")[-2000:], file=sys.stderr)
                    return False
            if _ready(self.folder / "inner.sock") and _accepts(self.port):
                return True
            self.stop.wait(0.05)
        return False

    def _tell(self) -> None:
        port, folder = self.port, self.folder
        print(
            f"""
The demonstration runs. Open in a browser (Chromium, Firefox):

    http://dossier.localhost:{port}/patients/42?onglet=biologie   any professional may enter
    http://prescription.localhost:{port}/                         doctors, dentists and midwives only
    http://auth.localhost:{port}/psc/session                      «ma session»

You are sent to a SIMULATOR of Pro Santé Connect, where you choose who you are: a doctor enters both applications,
a nurse or a secretary only the first. The applications know nothing of PSC: they show the headers they get.

Look at
    metrics   curl --unix-socket {folder}/inner.sock http://inner/metrics
    ready?    curl --unix-socket {folder}/inner.sock http://inner/readyz
    log       tail -f {folder}/service.log
    audit     tail -f {folder}/audit.jsonl
    nginx     {folder}/nginx.conf

Try
    kill -9 {self.processes["service"].pid}     the service dies and is started again: your browser is still signed in
    kill {self.processes["simulator"].pid}        PSC is away: who is in works on, who is not reads a French page

Ctrl-C ends it all.
""",
            flush=True,
        )

    def _watch(self) -> int:
        while not self.stop.wait(0.2):
            if self.processes["nginx"].poll() is not None:
                print(
                    "nginx ended:",
                    (self.folder / "nginx-error.log").read_text("utf-8", "replace")[-2000:],
                    file=sys.stderr,
                )
                return 1
            if self.processes["service"].poll() is not None:
                print(
                    f"the service ended with code {self.processes['service'].returncode}; it is started again",
                    flush=True,
                )
                self._start("service", [sys.executable, "-m", "forward_auth", "serve", "--config", str(self.config)])
                print(f"the service is process {self.processes['service'].pid} now", flush=True)
                self.stop.wait(1.0)
        return 0

    def _end(self) -> None:
        for process in reversed(self.processes.values()):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _accepts(port: int) -> bool:
    with socket.socket() as one:
        one.settimeout(0.5)
        return one.connect_ex(("127.0.0.1", port)) == 0


def _ready(path: Path) -> bool:
    """Whether /readyz of the inner door says 200."""
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.settimeout(1)
            one.connect(str(path))
            one.sendall(b"GET /readyz HTTP/1.1\r\nHost: inner\r\nConnection: close\r\n\r\n")
            return b" 200 " in one.recv(64)
    except OSError:
        return False
