"""A real nginx for one test: its own folder, its own ports, gone at the end. Reused by stories, attacks and the bench.

    with Nginx(tmp_path, "server { listen 127.0.0.1:8080; … }", ports=[8080]) as nginx:
        …
        assert "" == nginx.errors()

Refuses: to start before it accepts on every port named, to leave a process behind, to hide why nginx did not start.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

DEPLOY = Path(__file__).parents[2] / "deploy"

MAIN = """\
{user}daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log {level};
worker_processes {workers};
{main}
events {{
    worker_connections {connections};
}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{http}
}}
"""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody had a moment ago."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def binary() -> str | None:
    """Where nginx is; Debian keeps it out of people's PATH."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


class Nginx:
    """`http`: what stands in the http block. `files`: further files below `folder`, name -> text. `ports`: what it must accept on.
    `main`: further lines at the top (worker_cpu_affinity …)."""

    def __init__(
        self,
        folder: Path,
        http: str,
        *,
        ports: Iterable[int],
        files: Mapping[str, str] | None = None,
        workers: int = 1,
        main: str = "",
        level: str = "warn",
        connections: int = 1024,
    ) -> None:
        self.folder = folder
        self.ports = tuple(ports)
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in (files or {}).items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        # Workers stay who started the test: its folders and sockets are nobody else's.
        user = f"user {pwd.getpwuid(0).pw_name};\n" if os.geteuid() == 0 else ""
        text = MAIN.format(
            folder=folder, http=http, workers=workers, main=main, user=user, level=level, connections=connections
        )
        (folder / "nginx.conf").write_text(text, encoding="utf-8")

    def _command(self, *more: str) -> list[str]:
        program = binary()
        assert program is not None, "nginx is not installed (Debian: apt install nginx)"
        return [
            program,
            "-p",
            f"{self.folder}/",
            "-c",
            f"{self.folder}/nginx.conf",
            "-e",
            f"{self.folder}/error.log",
            *more,
        ]

    def check(self) -> str:
        """What `nginx -t` says; AssertionError with it when the text is wrong."""
        done = subprocess.run(self._command("-t"), capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == 0, done.stderr
        return done.stderr

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            for port in self.ports:
                self._await(port)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _await(self, port: int) -> None:
        assert self._process is not None
        end = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                pass
            else:
                return
            try:
                self._process.wait(0.01)  # waits for its death, which would be the answer, not for time to pass
            except subprocess.TimeoutExpired:
                assert time.monotonic() < end, f"nginx accepts nothing on {port}\n{self.errors()}"
            else:
                raise AssertionError(f"nginx did not start\n{self.errors()}")

    def reload(self) -> None:
        """What `systemctl reload nginx` does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._process
        if process is None:
            return
        self._process = None
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
        if process.stderr is not None:
            process.stderr.close()

    def errors(self) -> str:
        """The error log so far. Without nginx 1.25's word on `listen … http2`, which 1.22 needs so."""
        log = self.folder / "error.log"
        text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
        return "".join(
            line for line in text.splitlines(keepends=True) if '"listen ... http2" directive is deprecated' not in line
        )
