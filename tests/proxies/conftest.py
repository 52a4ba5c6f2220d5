"""The very files of deploy/nginx in a real nginx, between a scripted server of ours and a scripted application.

Only ports and paths are changed. The tests that need nothing of our server's own code live here; stories use the real one.
"""

import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme
from proxies.nginx import Nginx, binary, free_port
from proxies.staging import INCLUDED, Stage, Staging, echo, page, shipped
from proxies.wire import Script, Server


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """Signs the certificates of this run."""
    return trustme.CA()


@pytest.fixture
def stage(tmp_path: Path, authority: trustme.CA) -> Iterator[Staging]:
    """`stage(check, app=…, outer=…, tcp=False, down=False)` starts everything; all is gone after the test."""
    if binary() is None:
        pytest.skip("nginx is not installed (Debian: apt install nginx)")
    with ExitStack() as stack:

        def start(
            check: Script | bytes,
            *,
            app: Script = echo,
            outer: Script = page,
            tcp: bool = False,
            change: Callable[[str], str] = str,
        ) -> Stage:
            script = check if callable(check) else (lambda _heard: check)
            inner_server = stack.enter_context(Server(script, path=None if tcp else tmp_path / "inner.sock"))
            outer_server = stack.enter_context(Server(outer))
            app_server = stack.enter_context(Server(app))
            port, plain_port = free_port(), free_port()
            inner = f"127.0.0.1:{inner_server.port}" if tcp else f"unix:{tmp_path}/inner.sock"
            changes = {
                "unix:/run/psc-forward-auth/inner.sock": inner,
                "127.0.0.1:9401": f"127.0.0.1:{outer_server.port}",
                "http://127.0.0.1:8080": f"http://127.0.0.1:{app_server.port}",
                "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
                "listen 80;": f"listen 127.0.0.1:{plain_port};",
            }
            folder = tmp_path / "nginx"
            files = shipped(folder, authority, changes, change=change)
            nginx = Nginx(folder, INCLUDED, ports=[port, plain_port], files=files)
            stack.enter_context(nginx)
            trust = ssl.create_default_context()
            authority.configure_trust(trust)
            return Stage(
                nginx,
                inner_server,
                outer_server,
                app_server,
                port,
                plain_port,
                trust,
                authority.cert_pem.bytes(),
                tmp_path,
            )

        yield start
