"""One machine of a hospital for long and rough runs: the program on sockets that somebody else holds, the shipped nginx text in front, an application, PSC.

    with Hospital(folder) as hospital:
        hospital.restart()             # as `systemctl restart`: SIGTERM, wait, start; the sockets stay open meanwhile
        hospital.crash()               # kill -9, start

This process plays systemd's part (decision 39): it binds the sockets once and hands them to each process in turn. TLS ends elsewhere, so that the load is
the program's and not OpenSSL's. Refuses: fixed ports, to leave a process behind.
"""

import http.client
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from proxies.nginx import Nginx
from running import CLIENT, ROOT, free_port

from forward_auth.config import load
from forward_auth.proxy_config import proxy_config
from forward_auth.web.pages import Pages

ORIGIN = "https://auth.hopital.example"
DOSSIER = "https://dossier.hopital.example"
PRESCRIPTION = "https://prescription.autre.example"

IDLE, ABSOLUTE = 30, 360  # seconds: short, so that both limits are met in a run of minutes

RULES = {
    "wide": "",  # who is signed in
    "narrow": '[[apps.dossier.rules]]\npaths = ["/*"]\nrequire = { profession = ["10"] }\n',
}

# What systemd does between fork and exec: the sockets become 3, 4, …, and the variables name the process itself.
_HAND_DOWN = """
import os, sys
held = [int(each) for each in sys.argv[1].split(",")]
high = [os.dup2(each, 200 + number) for number, each in enumerate(held)]
for number, each in enumerate(high):
    os.dup2(each, 3 + number)
    os.close(each)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""


def connections_allowed() -> int:
    """So many may nginx have; for this process and those it starts, as many files as the system lets us have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 20_000 <= hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (20_000, hard))
        soft = 20_000
    return min(16_384, soft - 64)


def listening(place: str) -> socket.socket:
    """A socket as a .socket unit makes it: `unix:PATH` or HOST:PORT (0: any free one)."""
    if place.startswith("unix:"):
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(place.removeprefix("unix:"))
        os.chmod(place.removeprefix("unix:"), 0o660)
    else:
        host, _, port = place.rpartition(":")
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, int(port)))
    sock.listen(4096)
    return sock


def started(
    arguments: list[str], held: list[socket.socket], *, log: Path, names: str = "psc-forward-auth.socket"
) -> subprocess.Popen[bytes]:
    """`python -m forward_auth ARGUMENTS` with these sockets handed down."""
    numbers = [sock.fileno() for sock in held]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "LISTEN_FDS": str(len(held)),
        "LISTEN_FDNAMES": ":".join([names] * len(held)),
    }
    command = [sys.executable, "-S", "-E", "-c", _HAND_DOWN, ",".join(map(str, numbers))]
    with log.open("ab") as out:
        return subprocess.Popen(
            [*command, sys.executable, "-m", "forward_auth", *arguments],
            stdout=out,
            stderr=out,
            env=environment,
            pass_fds=numbers,
        )


class Hospital:
    """Everything until the end of the `with` block. `front`: nginx's port. `inner`, `inner_tcp`, `outer`: our doors."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.psc_port = free_port()
        self.front = free_port()
        self.issuer = f"http://psc.localhost:{self.psc_port}/auth/realms/esante-wallet"
        self.inner = str(folder / "inner.sock")
        self.outer = str(folder / "outer.sock")
        self.path = folder / "config.toml"
        self.log_path = folder / "log"
        self.process: subprocess.Popen[bytes]
        self.began = 0.0  # when the process under way was started
        self._psc: subprocess.Popen[bytes] | None = None
        self._stack = ExitStack()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "client-secret").touch(0o600)
        (folder / "client-secret").write_text(CLIENT.secret)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            tcp = stack.enter_context(listening("127.0.0.1:0"))
            self.inner_tcp: tuple[str, int] = tcp.getsockname()
            self.held = [
                stack.enter_context(listening(f"unix:{self.inner}")),
                tcp,
                stack.enter_context(listening(f"unix:{self.outer}")),
            ]
            self.configure("wide")
            stack.callback(self.psc_stop)
            self.psc_start()
            stack.callback(self._end)
            self.start()
            self.wait_ready()
            self.nginx = stack.enter_context(
                Nginx(self.folder / "nginx", self._front(), ports=[self.front], connections=connections_allowed())
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # -- files -----------------------------------------------------------------------------------------------------------------

    def configure(self, rules: str) -> None:
        """Write the configuration with these rules of RULES for «dossier»; in one step, as an editor does."""
        text = f"""
[psc]
environment = "custom"
issuer = "{self.issuer}"
client_id = "hopital"
client_secret_file = "{self.folder}/client-secret"
[server]
origin = "{ORIGIN}"
inner = ["unix:{self.inner}", "127.0.0.1:{self.inner_tcp[1]}"]
outer = "unix:{self.outer}"
trusted_proxies = ["127.0.0.1"]
keys_file = "{self.folder}/keys"
[session]
store = "sqlite:{self.folder}/logins.db"
idle = "{IDLE}s"
absolute = "{ABSOLUTE}s"
[audit]
file = "{self.folder}/audit.jsonl"
[pages]
establishment = "Hôpital Exemple"
[apps.dossier]
origins = ["{DOSSIER}"]
{RULES[rules]}
[apps.prescription]
origins = ["{PRESCRIPTION}"]
[[apps.prescription.rules]]
paths = ["/public/*"]
open = true
[[apps.prescription.rules]]
paths = ["/*"]
methods = ["GET", "HEAD"]
require = {{ profession = ["10", "40", "50"] }}
[[apps.prescription.rules]]
paths = ["/*"]
require = {{ profession = ["10"] }}
"""
        beside = self.path.with_suffix(".new")
        beside.write_text(text)
        beside.replace(self.path)

    def _front(self) -> str:
        settings = load(self.path, {})
        down = self.folder / "down.html"
        down.write_text(Pages(settings.pages, settings.server.path_prefix).static_down_page("fr"), "utf-8")
        application = f"http://unix:{self.folder}/app.sock"
        text = proxy_config(
            "nginx",
            settings,
            listen=f"127.0.0.1:{self.front} backlog=4096",
            tls=False,
            upstreams={"dossier": application, "prescription": application},
            down_page=str(down),
            certificates=str(self.folder),
            access_log="/dev/null",
        )
        first, _, rest = text.partition("backlog=4096")  # nginx wants an option of a socket once
        text = first + "backlog=4096" + rest.replace(" backlog=4096", "")
        # The application: says whom it was told of, how often, and which cookies it got.
        return f"""{text}
server {{
    listen unix:{self.folder}/app.sock;
    keepalive_requests 1000000;
    large_client_header_buffers 4 16k;
    location / {{
        return 200 "app sub=$http_x_psc_subject; rpps=$http_x_psc_rpps; cookie=$http_cookie\\n";
    }}
}}
"""

    # -- the program -----------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Returns at once; who connects meanwhile waits in the queue of the sockets."""
        self.began = time.monotonic()
        self.process = started(["serve", "--config", str(self.path)], self.held, log=self.log_path)

    def ready(self, seconds: float = 2.0) -> bool:
        try:
            connection = http.client.HTTPConnection(*self.inner_tcp, timeout=seconds)
            try:
                connection.request("GET", "/readyz", headers={"Host": "inner", "Connection": "close"})
                return connection.getresponse().status == 200
            finally:
                connection.close()
        except (OSError, http.client.HTTPException):
            return False

    def wait_ready(self) -> float:
        """-> seconds since the process was started."""
        while not self.ready():
            assert self.process.poll() is None, self.log_path.read_text()
            assert time.monotonic() < self.began + 30, self.log_path.read_text()
        return time.monotonic() - self.began

    def starved(self, seconds: float) -> bool:
        """Whether that start took so long because others had the processor: it used less than a third of the time."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return seconds > 3 and (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") < seconds / 3

    def stop(self) -> int:
        """SIGTERM, as systemd stops. -> exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def restart(self) -> int:
        """`systemctl restart`: the next process is started when the last one is gone. -> exit code of that one."""
        code = self.stop()
        self.start()
        return code

    def crash(self) -> None:
        """kill -9, and what `Restart=on-failure` does then."""
        self.process.kill()
        self.process.wait()
        self.start()

    def reload(self, rules: str) -> None:
        """SIGHUP with other rules; the log says when they hold (`reloads`)."""
        self.configure(rules)
        self.process.send_signal(signal.SIGHUP)

    def reloads(self) -> int:
        return self.log_path.read_text(errors="replace").count("the configuration was reloaded")

    def _end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def resident(self) -> float:
        """MiB of the process under way."""
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text())
        return int(found[1]) / 1024 if found else 0.0

    def files(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def threads(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/task"))

    # -- PSC -------------------------------------------------------------------------------------------------------------------

    def psc_start(self) -> None:
        client = f"hopital:{CLIENT.secret}:{ORIGIN}/psc/callback"
        with (self.folder / "psc.log").open("ab") as out:
            self._psc = subprocess.Popen(
                [sys.executable, "-m", "forward_auth", "simulator", "--port", str(self.psc_port), "--client", client],
                stdout=out,
                stderr=out,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        while True:
            try:
                self.psc("GET", "/")
            except OSError:
                assert self._psc.poll() is None, (self.folder / "psc.log").read_text()
                time.sleep(0.02)
            else:
                return

    def psc_stop(self) -> None:
        if self._psc is not None and self._psc.poll() is None:
            self._psc.kill()
            self._psc.wait()

    def psc(self, method: str, target: str, said: object = None) -> Any:
        """The simulator's own addresses: faults, clock, requests."""
        connection = http.client.HTTPConnection("127.0.0.1", self.psc_port, timeout=10)
        try:
            body = None if said is None else json.dumps(said)
            connection.request(method, "/_simulator" + target, body, {"Host": f"psc.localhost:{self.psc_port}"})
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()
