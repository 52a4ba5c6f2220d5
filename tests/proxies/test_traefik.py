"""deploy/traefik: every key is one that Traefik knows, and what its ForwardAuth does with them keeps a client from being believed.

Traefik is not in Debian (decision 30). With a `traefik` on PATH the files run in it (the last tests); without one they are judged
by their structure and by what its ForwardAuth was observed to do with headers.
"""

import http.client
import re
import shutil
import ssl
import string
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from proxies.nginx import DEPLOY, free_port
from proxies.staging import AUTH_HOST, IDENTITY, NAMES, NAVIGATION, SIGN_IN, allow, echo, page
from proxies.test_proxy_config import an_app, settings
from proxies.wire import Client, Heard, Server, answer, request

from forward_auth.headers import PROFILES, HeaderPlan
from forward_auth.proxy_config import proxy_config
from forward_auth.settings import HeaderSettings, Origin

# Traefik does not start with a key it does not know. Version in which each came, where it matters.
FORWARD_AUTH = {
    "address",
    "trustForwardHeader",
    "authResponseHeaders",
    "authResponseHeadersRegex",
    "authRequestHeaders",
    "addAuthCookiesToResponse",  # 3.0
    "preserveLocationHeader",  # 3.3
    "maxResponseBodySize",  # 2.11.38, 3.6.9
}
ROUTER = {"entryPoints", "rule", "priority", "middlewares", "service", "tls"}


def deployed() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "traefik/dynamic/psc-forward-auth.yml").read_text())["http"]  # type: ignore[no-any-return]


def canonical(name: str) -> str:
    """A header name as Go keeps it: upper case after a dash, lower elsewhere; names with other than token characters as they are."""
    return "-".join(part[:1].upper() + part[1:].lower() for part in name.split("-"))


def forwarded(middleware: dict[str, Any], client: dict[str, str], checked: dict[str, str]) -> dict[str, str]:
    """What ForwardAuth passes on after a 200: from the client's request what matches is removed, then what the answer has is put."""
    pattern = re.compile(middleware["authResponseHeadersRegex"])
    kept = {canonical(name): value for name, value in client.items() if not pattern.search(canonical(name))}
    return kept | {canonical(name): value for name, value in checked.items() if pattern.search(canonical(name))}


def folded(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]", "_", name).upper()


def test_keys_are_known() -> None:
    """No key that would keep Traefik from starting; every reference leads somewhere."""
    http_part = deployed()
    assert {"middlewares", "routers", "services"} == set(http_part)
    for middleware in http_part["middlewares"].values():
        (kind,) = middleware
        assert kind in ("forwardAuth", "headers")
        if kind == "forwardAuth":
            assert set() == set(middleware[kind]) - FORWARD_AUTH
            assert middleware[kind]["address"].endswith(":9400/auth/forward")
    for router in http_part["routers"].values():
        assert set() == set(router) - ROUTER
        assert router["service"] in http_part["services"]
        assert set() == set(router.get("middlewares", ())) - set(http_part["middlewares"])
    static = yaml.safe_load((DEPLOY / "traefik/traefik.yml").read_text())
    assert {"entryPoints", "providers", "accessLog"} == set(static)
    assert {entry for router in http_part["routers"].values() for entry in router["entryPoints"]} <= set(
        static["entryPoints"]
    )
    assert "delete" == static["entryPoints"]["websecure"]["http"]["underscoreHeadersStrategy"]


def test_the_check_comes_first() -> None:
    """The application's router asks before it does anything else; the outer door has no check and wins over it."""
    routers = deployed()["routers"]
    assert "psc-check" == routers["app-dossier"]["middlewares"][0]
    assert "middlewares" not in routers["psc-outer-door"]
    assert routers["psc-outer-door"]["priority"] > 1000
    assert "PathPrefix(`/psc/`)" in routers["psc-outer-door"]["rule"]


@pytest.mark.parametrize("profile", PROFILES)
def test_HDR_01_02_03_forged_identity(profile: str) -> None:
    """Each header of each profile, in every spelling with one other character for its dashes, leaves the client's request; ours arrive."""
    own = {"family_name": "X-Nom"}
    one = settings(an_app("one", Origin("https", "one.example"), headers=HeaderSettings(profile, "percent", own)))
    made = yaml.safe_load(proxy_config("traefik", one, upstreams={"one": "http://127.0.0.1:1"}))["http"]
    middleware = made["middlewares"]["psc-check"]["forwardAuth"]
    names = HeaderPlan(profile, "percent", own).names
    variables = {folded(name) for name in names}
    for mark in "-_.!#$%&'*+^`|~":
        claims = {name.replace("-", mark): "forged" for name in names}
        claims |= {name.lower().replace("-", mark): "forged" for name in names} | {
            "X-Other": "kept",
            "X-Pscx-Subject": "kept",
        }
        for checked in ({}, dict.fromkeys(names, "ours")):
            arrived = forwarded(middleware, claims, checked)
            assert "forged" not in arrived.values()
            assert "kept" == arrived["X-Other"] == arrived["X-Pscx-Subject"]
            assert set(checked.values()) == {value for name, value in arrived.items() if folded(name) in variables}


def test_the_expression_is_gos_too() -> None:
    """Only what RE2 (Go) and Python read alike stands in it: the canonical name of a header is X-Psc-…, so case must not matter."""
    expression = deployed()["middlewares"]["psc-check"]["forwardAuth"]["authResponseHeadersRegex"]
    assert expression.startswith("(?i)^")
    assert set(expression.removeprefix("(?i)")) <= set(string.ascii_letters + string.digits + "^[]-()?:|$")


def test_what_the_check_needs_is_asked() -> None:
    """Everything our server reads of a request is on the list; X-Forwarded-* are Traefik's own and not on it."""
    asked = deployed()["middlewares"]["psc-check"]["forwardAuth"]["authRequestHeaders"]
    assert {
        "Cookie",
        "Authorization",
        "Accept",
        "Origin",
        "Referer",
        "X-Requested-With",
        "Sec-Fetch-Mode",
        "Sec-Fetch-Dest",
    } <= set(asked)
    assert not [name for name in asked if name.lower().startswith("x-forwarded")]


def test_apps_with_different_headers() -> None:
    """Two header plans are two middlewares; two apps with the same plan share one."""
    other = HeaderSettings("authelia", "percent", {})
    one = settings(
        an_app("a", Origin("https", "a.example")),
        an_app("b", Origin("https", "b.example"), headers=other),
        an_app("c", Origin("https", "c.example")),
    )
    made = yaml.safe_load(proxy_config("traefik", one))["http"]
    assert ["psc-check", "psc-check-b", "psc-check"] == [
        made["routers"][f"app-{name}"]["middlewares"][0] for name in "abc"
    ]
    assert all(
        f"`{host}`" in made["routers"]["psc-outer-door"]["rule"]
        for host in ("auth.hopital.example", "a.example", "b.example", "c.example")
    )


def test_honest_about_the_cookie() -> None:
    """Decision 5 asks what Traefik cannot do; the file says so where it is read."""
    assert "take one cookie out of the Cookie header" in (DEPLOY / "traefik/dynamic/psc-forward-auth.yml").read_text()


# ---- in a real Traefik, where there is one ---------------------------------------------------------------------------------------

TRAEFIK = shutil.which("traefik")
needs_traefik = pytest.mark.skipif(TRAEFIK is None, reason="no traefik on PATH (it is not in Debian)")


@contextmanager
def traefik(folder: Path, inner: Server, outer: Server, app: Server) -> Iterator[int]:
    """The two files, with ports and paths changed, in a real Traefik with its own certificate; gives the port."""
    assert TRAEFIK is not None
    port, plain = free_port(), free_port()
    static = (DEPLOY / "traefik/traefik.yml").read_text()
    static = (
        static.replace('":80"', f'"127.0.0.1:{plain}"')
        .replace('":443"', f'"127.0.0.1:{port}"')
        .replace("/etc/traefik/dynamic", f"{folder}/dynamic")
    )
    dynamic = (DEPLOY / "traefik/dynamic/psc-forward-auth.yml").read_text()
    for old, new in (("9400", inner.port), ("9401", outer.port), ("8080", app.port)):
        dynamic = dynamic.replace(f"127.0.0.1:{old}", f"127.0.0.1:{new}")
    (folder / "dynamic").mkdir()
    (folder / "dynamic" / "psc.yml").write_text(dynamic)
    (folder / "traefik.yml").write_text(static)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([TRAEFIK, f"--configfile={folder}/traefik.yml"], stdout=log, stderr=log)
        try:
            end = time.monotonic() + 20
            while True:
                try:
                    with connect(port) as client:
                        if client.send(request("/psc/session", AUTH_HOST)).status == 200:
                            break
                except (OSError, http.client.HTTPException, AssertionError):
                    pass
                try:
                    process.wait(0.05)
                except subprocess.TimeoutExpired:
                    assert time.monotonic() < end, (folder / "log").read_text()
                else:
                    raise AssertionError((folder / "log").read_text())
            yield port
        finally:
            process.terminate()
            process.wait(10)
    outer.requests.clear()


def connect(port: int, name: str = AUTH_HOST) -> Client:
    trust = ssl.create_default_context()
    trust.check_hostname = False
    trust.verify_mode = ssl.CERT_NONE
    trust.set_alpn_protocols(["http/1.1"])
    return Client(port, tls=trust, name=name)


def ask(port: int, target: str = "/", lines: tuple[tuple[str, str], ...] = ()) -> Heard:
    with connect(port, "dossier.hopital.example") as client:
        return client.send(request(target, "dossier.hopital.example", [*lines, ("Connection", "close")]))


@needs_traefik
def test_in_traefik(tmp_path: Path) -> None:
    """Allow with our identity only; redirect, 401 and 403 with their pages as they are; the outer door unchecked; our server gone: closed."""
    answers: dict[bytes, bytes] = {
        b"/in": allow(),
        b"/out": answer("302 Found", [("Location", SIGN_IN), ("Cache-Control", "no-store")]),
        b"/api": answer("401 Unauthorized", [("WWW-Authenticate", 'Bearer realm="psc"')]),
        b"/refused": answer(
            "403 Forbidden", [("Content-Type", "text/html"), ("X-PSC-Reference", "7KQ2M9XTA")], b"<html>refused</html>"
        ),
    }
    with (
        Server(lambda heard: answers.get(heard.one("X-Forwarded-Uri") or b"")) as inner,
        Server(page) as outer,
        Server(echo) as app,
        traefik(tmp_path, inner, outer, app) as port,
    ):
        forged = tuple((name.replace("-", mark), "forged") for name in NAMES for mark in "-_.!~+")
        forged += (
            ("X-Forwarded-Host", "forged"),
            ("X-Original-URL", "/forged"),
            ("X-HTTP-Method-Override", "FORGED"),
            ("X-Real-IP", "192.0.2.1"),
        )
        assert (200, b"from the application") == (ask(port, "/in", forged).status, ask(port, "/in").body)
        out = ask(port, "/out", NAVIGATION)
        assert (302, SIGN_IN.encode()) == (out.status, out.one("Location"))
        assert b'Bearer realm="psc"' == ask(port, "/api").one("WWW-Authenticate")
        assert (403, b"<html>refused</html>") == (ask(port, "/refused").status, ask(port, "/refused").body)
        assert b"outer" == ask(port, "/psc/session").one("X-Door")
        assert 2 == len(app.requests)
        seen = app.requests[0]
        assert not [pair for pair in seen.headers if b"forged" in pair[1].lower()]
        assert IDENTITY["X-PSC-Subject"].encode() == seen.one("X-PSC-Subject")
        check = inner.requests[0]
        assert (b"https", b"GET", b"dossier.hopital.example") == tuple(
            check.one(name) for name in ("X-Forwarded-Proto", "X-Forwarded-Method", "X-Forwarded-Host")
        )
        assert not [pair for pair in check.headers if b"forged" in pair[1].lower()]
        inner.__exit__(None, None, None)
        assert 500 == ask(port, "/in").status
        assert 2 == len(app.requests)
