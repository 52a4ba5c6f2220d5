"""What the tests of the proxy files play with: the contract's answers as bytes, and the stage they are played on (conftest.py)."""

import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import trustme
from proxies.nginx import DEPLOY, Nginx
from proxies.wire import Client, Heard, Server, answer, request

from forward_auth.headers import HeaderPlan

NAMES = HeaderPlan("psc", "percent", {}).names
APP_HOST = "dossier.hopital.example"
AUTH_HOST = "auth.hopital.example"
SIGN_IN = "https://auth.hopital.example/psc/start?to=https%3A%2F%2Fdossier.hopital.example%2F"
INCLUDED = "include psc-forward-auth/psc-forward-auth.conf;\ninclude psc-forward-auth/sites/*.conf;"
NAVIGATION = (("Accept", "text/html"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document"))

IDENTITY = {
    "X-PSC-Subject": "899700218896",
    "X-PSC-RPPS": "99700218896",
    "X-PSC-Family-Name": "DOC0021889",
    "X-PSC-Given-Name": "K%C3%A9vin",
    "X-PSC-Profession": "10",
}


def allow(values: dict[str, str] | None = None, *more: tuple[str, str]) -> bytes:
    """The contract's allow: 200, no body, no-store, every identity header."""
    given = IDENTITY if values is None else values
    lines = [(name, given.get(name, "")) for name in NAMES]
    return answer("200 OK", [("Cache-Control", "no-store"), *lines, *more])


def sign_in(location: str | None = SIGN_IN) -> bytes:
    """The contract's 401 of the nginx dialect."""
    lines = [("Cache-Control", "no-store"), ("WWW-Authenticate", 'Bearer realm="psc"')]
    return answer("401 Unauthorized", lines + ([("Location", location)] if location else []))


def refuse(reference: str = "7KQ2M9XTA") -> bytes:
    """The contract's 403."""
    return answer("403 Forbidden", [("Cache-Control", "no-store"), ("X-PSC-Reference", reference)])


def echo(_heard: Heard) -> bytes:
    """The application of most tests."""
    return answer("200 OK", [("Content-Type", "text/plain"), ("X-App", "yes")], b"from the application")


def page(heard: Heard) -> bytes:
    """The outer door of most tests. The refusal page answers 403 itself, as ours does."""
    if heard.target.startswith(b"/psc/refused"):
        return answer("403 Forbidden", [("Cache-Control", "no-store"), ("X-Door", "outer")], b"<html>refused</html>")
    return answer("200 OK", [("Cache-Control", "no-store"), ("X-Door", "outer")], b"<html>outer</html>")


@dataclass
class Stage:
    """What a test plays with."""

    nginx: Nginx
    check: Server
    outer: Server
    app: Server
    port: int
    plain_port: int
    trust: ssl.SSLContext | None
    authority_pem: bytes
    folder: Path

    def client(self, host: str = APP_HOST) -> Client:
        return Client(self.port, tls=self.trust, name=host)

    def ask(
        self,
        target: str = "/",
        headers: Iterable[tuple[str, str]] = (),
        *,
        host: str = APP_HOST,
        method: str = "GET",
        body: bytes = b"",
    ) -> Heard:
        """One request on a connection of its own."""
        with self.client(host) as client:
            lines = [*headers, ("Connection", "close")]
            return client.send(request(target, f"{host}:{self.port}", lines, method=method, body=body))

    @property
    def seen(self) -> Heard:
        """What the application got; exactly one request."""
        assert len(self.app.requests) == 1, self.app.requests
        return self.app.requests[0]


Staging = Callable[..., Stage]


def shipped(
    folder: Path,
    authority: trustme.CA,
    changes: Mapping[str, str],
    *,
    hosts: Iterable[str] = (APP_HOST, AUTH_HOST),
    change: Callable[[str], str] = str,
) -> dict[str, str]:
    """The files of deploy/nginx and certificates for these hosts, as `Nginx(folder, INCLUDED, files=…)` takes them. `changes`: what must differ on
    this machine (ports, sockets); `change`: what a test does to each file on top. A host that has no site file gets a copy of the dossier's."""
    files: dict[str, str] = {}
    for path in sorted((DEPLOY / "nginx").rglob("*")):
        if path.suffix in (".conf", ".html"):
            text = path.read_text(encoding="utf-8")
            for old, new in {"/etc/nginx/": f"{folder}/", "/var/log/nginx/": f"{folder.parent}/", **changes}.items():
                text = text.replace(old, new)
            files[f"psc-forward-auth/{path.relative_to(DEPLOY / 'nginx')}"] = change(text)
    for host in hosts:
        certificate = authority.issue_cert(host)
        files[f"tls/{host}.key"] = certificate.private_key_pem.bytes().decode()
        files[f"tls/{host}.crt"] = b"".join(one.bytes() for one in certificate.cert_chain_pems).decode()
        if host not in (APP_HOST, AUTH_HOST):
            site = files["psc-forward-auth/sites/dossier.conf"]
            files[f"psc-forward-auth/sites/{host}.conf"] = site.replace(APP_HOST, host)
    return files
