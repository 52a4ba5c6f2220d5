"""The files of deploy/nginx in a real nginx: every answer of a check, and what browser and application get of it."""

import shutil
import ssl
import subprocess
from collections.abc import Callable

import pytest
from proxies.staging import (
    AUTH_HOST,
    NAVIGATION,
    SIGN_IN,
    Staging,
    allow,
    refuse,
    sign_in,
)
from proxies.wire import Client, Heard, Wire, answer, request

CURL = shutil.which("curl")

ABOVE = """
error_page 400 401 403 404 405 500 502 503 504 = /fine;
recursive_error_pages on;
proxy_intercept_errors on;
location = /fine { return 200 "all is well"; }
"""


def below_error_pages(text: str) -> str:
    """The site, with a server block that intercepts errors and has error pages of its own."""
    line = "include psc-forward-auth/snippets/auth-location.conf;"
    return text.replace(line, ABOVE + line)


def test_allow(stage: Staging) -> None:
    """Who is allowed reaches the application, with what is known of them; its answer comes back with HSTS."""
    place = stage(allow())
    heard = place.ask("/dossier?id=7")
    assert (200, b"from the application") == (heard.status, heard.body)
    assert b"899700218896" == place.seen.one("X-PSC-Subject")
    assert b"K%C3%A9vin" == place.seen.one("X-PSC-Given-Name")
    assert place.seen.one("X-PSC-Account") is None
    assert b"max-age=31536000" == heard.one("Strict-Transport-Security")
    assert b"nginx" == heard.one("Server")
    assert "" == place.nginx.errors()


def test_the_check_sees_the_request(stage: Staging) -> None:
    """Method, scheme, host with its port, raw address and the browser's address are stated by nginx; the body is not sent."""
    place = stage(allow())
    place.ask(
        "/a?b=1",
        [("Cookie", "__Host-psc=t"), ("Referer", "https://dossier.hopital.example/x")],
        method="POST",
        body=b"a=1",
    )
    check = place.check.requests[0]
    assert b"GET /auth/nginx HTTP/1.1" == check.start
    assert {
        "X-Forwarded-Method": b"POST",
        "X-Forwarded-Proto": b"https",
        "X-Forwarded-Host": f"dossier.hopital.example:{place.port}".encode(),
        "X-Forwarded-Uri": b"/a?b=1",
        "X-Forwarded-For": b"127.0.0.1",
        "Cookie": b"__Host-psc=t",
        "Referer": b"https://dossier.hopital.example/x",
        "Content-Length": None,
        "Connection": None,
    } == {
        name: check.one(name)
        for name in (
            "X-Forwarded-Method",
            "X-Forwarded-Proto",
            "X-Forwarded-Host",
            "X-Forwarded-Uri",
            "X-Forwarded-For",
            "Cookie",
            "Referer",
            "Content-Length",
            "Connection",
        )
    }
    assert (b"POST", b"a=1") == (place.seen.method, place.seen.body)


def test_a_browser_is_sent_to_the_sign_in(stage: Staging) -> None:
    """401 with an address becomes a redirect to exactly that address; nothing reaches the application, nothing is kept."""
    place = stage(sign_in())
    heard = place.ask("/", NAVIGATION)
    assert (302, SIGN_IN.encode()) == (heard.status, heard.one("Location"))
    assert b"no-store" == heard.one("Cache-Control")
    assert [] == place.app.requests


def test_a_program_is_told_401(stage: Staging) -> None:
    """401 without an address stays 401 and names the scheme."""
    place = stage(sign_in(None))
    heard = place.ask("/api")
    assert (401, b'Bearer realm="psc"') == (heard.status, heard.one("WWW-Authenticate"))
    assert heard.one("Location") is None
    assert b"no-store" == heard.one("Cache-Control")
    assert [] == place.app.requests


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS"])
def test_refused(stage: Staging, method: str) -> None:
    """403 shows our page for that reference and that browser; the status stays 403 whatever method was refused."""
    place = stage(refuse())
    heard = place.ask(
        "/x?y=1", [("Cookie", "__Host-psc=t")], method=method, body=b"data" if method in ("POST", "PUT") else b""
    )
    assert (403, b"<html>refused</html>") == (heard.status, heard.body)
    shown = place.outer.requests[0]
    assert (b"GET", b"/psc/refused?ref=7KQ2M9XTA") == (shown.method, shown.target)
    assert b"__Host-psc=t" == shown.one("Cookie")
    assert f"dossier.hopital.example:{place.port}".encode() == shown.one("X-Forwarded-Host")
    assert b"" == shown.body
    assert [] == place.app.requests


def test_refused_stays_403_when_the_page_says_200(stage: Staging) -> None:
    """The status of a refusal never depends on the page about it (the class of CVE-2026-24513)."""
    place = stage(refuse(), outer=lambda _heard: answer("200 OK", [], b"page"))
    assert (403, b"page") == (place.ask().status, place.ask().body)


def test_refused_without_the_outer_door(stage: Staging) -> None:
    """The outer door is gone: still 403, a sentence, and the reference."""
    place = stage(refuse(), outer=lambda _heard: None)
    heard = place.ask()
    assert 403 == heard.status
    assert "Référence : 7KQ2M9XTA".encode() in heard.body
    assert [] == place.app.requests


@pytest.mark.parametrize("change", [str, below_error_pages], ids=["alone", "error pages further up"])
@pytest.mark.parametrize("status", [400, 401, 403, 404, 500, 502, 503])
def test_the_applications_own_errors(stage: Staging, status: int, change: Callable[[str], str]) -> None:
    """What the application says itself is passed on untouched: status, headers, body."""
    own = answer(f"{status} Own", [("X-App", "mine"), ("WWW-Authenticate", "Own")], b"own words")
    place = stage(allow(), app=lambda _heard: own, change=change)
    heard = place.ask("/", NAVIGATION)
    assert (status, b"mine", b"Own", b"own words") == (
        heard.status,
        heard.one("X-App"),
        heard.one("WWW-Authenticate"),
        heard.body,
    )
    assert [] == place.outer.requests


def test_NGX_02_server_gone(stage: Staging) -> None:
    """Our server is stopped: a French page with 503, never cached; the application is never asked."""
    place = stage(allow())
    place.check.__exit__(None, None, None)
    for method in ("GET", "POST", "OPTIONS"):
        heard = place.ask("/", NAVIGATION, method=method)
        assert (503, b"30", b"no-store") == (heard.status, heard.one("Retry-After"), heard.one("Cache-Control"))
        assert b"text/html; charset=utf-8" == heard.one("Content-Type")
        assert b'<html lang="fr">' in heard.body
    assert [] == place.app.requests


@pytest.mark.parametrize(
    "wrong",
    [
        answer("503 Service Unavailable"),
        answer("500 Internal Server Error"),
        answer("404 Not Found"),
        answer("302 Found", [("Location", "https://auth.hopital.example/")]),
        answer("304 Not Modified"),
        answer("418 I'm a teapot"),
        answer("407 Proxy Authentication Required"),
        b"HTTP/1.1 200 OK\r\nX-PSC-Subject: " + b"a" * 20000 + b"\r\n\r\n",
        b"HTTP/1.1 banana\r\n\r\n",
        b"\x00\x01\x02",
    ],
    ids=["503", "500", "404", "302", "304", "418", "407", "too big", "no status", "garbage"],
)
def test_NGX_02_any_other_answer(stage: Staging, wrong: bytes) -> None:
    """An answer that the contract does not know opens nothing."""
    place = stage(wrong if wrong[:1] == b"H" else (lambda _heard: lambda wire: wire.connection.sendall(wrong)))
    heard = place.ask("/", NAVIGATION)
    assert 503 == heard.status
    assert [] == place.app.requests


@pytest.mark.parametrize("asked", [refuse(), sign_in(), sign_in(None), None], ids=["refused", "sign in", "401", "gone"])
def test_NGX_01_error_pages_further_up(stage: Staging, asked: bytes | None) -> None:
    """The server block has error pages that answer 200, and intercepts errors: nobody passes who does not pass without them."""
    place = stage(asked or (lambda _heard: None), change=below_error_pages)
    heard = place.ask("/", NAVIGATION)
    assert heard.body != b"from the application"
    assert [] == place.app.requests
    assert len(place.check.requests) >= 1


def test_slow_server(stage: Staging) -> None:
    """Our server hangs: after five seconds, not sixty, nobody waits any longer and nobody passes."""
    place = stage(
        lambda _heard: lambda wire: wire.read(1),
        change=lambda text: text.replace("proxy_read_timeout 5s", "proxy_read_timeout 200ms"),
    )
    assert 503 == place.ask().status
    assert [] == place.app.requests


def test_one_connection_for_six_checks_unix(stage: Staging) -> None:
    """Six checks over the unix socket come on one connection, denies among them."""
    answers = iter([allow(), sign_in(), allow(), sign_in(None), allow(), allow()])
    place = stage(lambda _heard: next(answers))
    assert [200, 302, 200, 401, 200, 200] == [place.ask("/", NAVIGATION).status for _ in range(6)]
    assert (6, 1) == (len(place.check.requests), place.check.connections)


def test_one_connection_for_six_checks_tcp(stage: Staging) -> None:
    """Six checks over TCP come on one connection."""
    place = stage(allow(), tcp=True)
    assert [200] * 6 == [place.ask().status for _ in range(6)]
    assert (6, 1) == (len(place.check.requests), place.check.connections)


def test_CACHE_06_no_answer_is_kept(stage: Staging) -> None:
    """Every request is checked, even when somebody's cache above is on and our answer does not forbid it: a sign-out holds at once."""
    cached = "proxy_cache_path {0} keys_zone=z:1m;\nproxy_cache z;\nproxy_cache_valid any 1m;\nproxy_ignore_headers Cache-Control Set-Cookie;\n"
    place = stage(
        lambda heard: allow() if heard.one("Cookie") == b"__Host-psc=good" else sign_in(None),
        change=lambda text: (
            cached.replace("{0}", "cache") + text
            if text.startswith("# PSC Forward Auth, what nginx needs once")
            else text
        ),
    )
    good, none = [("Cookie", "__Host-psc=good")], [("Cookie", "other=1")]
    assert [200, 401, 200, 401] == [place.ask("/", cookies).status for cookies in (good, none, good, none)]
    assert (4, 2) == (len(place.check.requests), len(place.app.requests))


def test_SMUG_02_post_then_get_on_a_kept_connection(stage: Staging) -> None:
    """A body never reaches the check, so the next person's request on that connection is not eaten by it."""
    place = stage(allow())
    host = f"dossier.hopital.example:{place.port}"
    with place.client() as client:
        assert 200 == client.send(request("/form", host, method="POST", body=b"x" * 100_000)).status
        assert 200 == client.send(request("/next", host)).status
    assert [b"", b""] == [check.body for check in place.check.requests]
    assert [100_000, 0] == [len(heard.body) for heard in place.app.requests]
    assert 1 == place.check.connections


def test_SMUG_02_refused_post_leaves_the_connection_clean(stage: Staging) -> None:
    """A refused upload is thrown away; the next request on the connection is read as itself."""
    place = stage(lambda heard: refuse() if heard.one("X-Forwarded-Method") == b"POST" else allow())
    host = f"dossier.hopital.example:{place.port}"
    with place.client() as client:
        assert (
            403 == client.send(request("/form", host, method="POST", body=b"GET /stolen HTTP/1.1\r\n\r\n" * 400)).status
        )
        assert 200 == client.send(request("/next", host)).status
    assert b"/next" == place.seen.target


def test_websocket(stage: Staging) -> None:
    """A handshake is checked as what it is, then bytes flow both ways."""

    def app(heard: Heard) -> object:
        def talk(wire: Wire) -> None:
            wire.connection.sendall(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
            )
            while piece := wire.connection.recv(4096):
                wire.connection.sendall(piece)

        return talk

    place = stage(allow(), app=app)
    with place.client() as client:
        lines = [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("Sec-WebSocket-Version", "13"),
        ]
        assert 101 == client.send(request("/ws", f"dossier.hopital.example:{place.port}", lines)).status
        client.socket.sendall(b"\x81\x05hello")
        assert b"\x81\x05hello" == client.wire.read(7)
    assert b"dGhlIHNhbXBsZSBub25jZQ==" == place.check.requests[0].one("Sec-WebSocket-Key")
    assert b"websocket" == place.seen.one("Upgrade")
    assert b"899700218896" == place.seen.one("X-PSC-Subject")


def test_SMUG_03_websocket_without_session(stage: Staging) -> None:
    """A handshake without a session ends in 401 before it is one."""
    place = stage(sign_in(None))
    heard = place.ask("/ws", [("Upgrade", "websocket"), ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")])
    assert 401 == heard.status
    assert [] == place.app.requests


def test_large_identity(stage: Staging) -> None:
    """Nine kilobytes of identity pass, more than twice what our server ever sends."""
    large = "é".encode().hex() * 750
    place = stage(allow({"X-PSC-Structure-Name": large, "X-PSC-Given-Name": large, "X-PSC-Family-Name": large}))
    assert 200 == place.ask().status
    assert large.encode() == place.seen.one("X-PSC-Family-Name")


def test_COOK_08_large_cookie(stage: Staging) -> None:
    """Fourteen kilobytes of the application's cookies pass, to the check and to the application."""
    place = stage(allow())
    large = "big=" + "c" * 14000
    assert 200 == place.ask("/", [("Cookie", large + "; __Host-psc=t")]).status
    assert (large + "; __Host-psc=t").encode() == place.check.requests[0].one("Cookie")
    assert large.encode() == place.seen.one("Cookie")


def test_utf8(stage: Staging) -> None:
    """Identity in UTF-8 (headers.encoding = "utf8") arrives byte for byte."""
    place = stage(allow({"X-PSC-Given-Name": "Hélène Łukasz", "X-PSC-Family-Name": "œ"}))
    place.ask()
    assert "Hélène Łukasz".encode() == place.seen.one("X-PSC-Given-Name")


def test_options_is_checked(stage: Staging) -> None:
    """A preflight is judged like everything else; our server decides whether it may pass."""
    place = stage(sign_in(None))
    lines = [("Origin", "https://other.hopital.example"), ("Access-Control-Request-Method", "PUT")]
    assert 401 == place.ask("/api", lines, method="OPTIONS").status
    check = place.check.requests[0]
    assert (b"OPTIONS", b"PUT", b"https://other.hopital.example") == (
        check.one("X-Forwarded-Method"),
        check.one("Access-Control-Request-Method"),
        check.one("Origin"),
    )
    assert [] == place.app.requests


def test_cookie_of_ours_beside_the_applications_404(stage: Staging) -> None:
    """A Set-Cookie of the check reaches the browser even with an error of the application, beside the application's own."""
    place = stage(
        allow(None, ("Set-Cookie", "__Host-psc=new; Path=/; Secure; HttpOnly; SameSite=Lax")),
        app=lambda _heard: answer("404 Not Found", [("Set-Cookie", "app=1")], b"no"),
    )
    heard = place.ask()
    assert 404 == heard.status
    assert {b"app=1", b"__Host-psc=new; Path=/; Secure; HttpOnly; SameSite=Lax"} == set(heard.all("Set-Cookie"))


@pytest.mark.parametrize(
    "target",
    ["/psc/nginx-check", "/psc/nginx-refused", "/psc/nginx-down", "/psc/%6eginx-check", "/x/../psc/nginx-check"],
)
def test_inner_places_are_not_outside(stage: Staging, target: str) -> None:
    """The check and its error pages cannot be asked for: 404, and nobody hears of it."""
    place = stage(allow())
    assert 404 == place.ask(target).status
    assert [[], [], []] == [place.check.requests, place.outer.requests, place.app.requests]


@pytest.mark.parametrize(
    "target",
    [
        "/a%2Fb//c;d?x=%20+",
        "/public/../secret",
        "/%2e%2e/x",
        "/s%C3%A9cret?q=%zz",
        "/x;/../y",
        "/.//a/./b",
        "/a?b=1&c=#frag",
        "/é",
    ],
)
def test_PATH_09_the_path_judged_is_the_path_served(stage: Staging, target: str) -> None:
    """Check and application get the same bytes, those the client sent."""
    place = stage(allow())
    if place.ask(target).status == 400:  # nginx itself refuses what leaves the root
        assert [] == place.app.requests
        return
    assert target.encode() == place.check.requests[0].one("X-Forwarded-Uri")
    assert target.encode() == place.seen.target


def test_PATH_09_a_rewrite_behind_the_check(stage: Staging) -> None:
    """The site rewrites the path for its application: what is judged is what the browser asked for, so rules are written for that."""
    rewrite = "location / {\n        rewrite ^/app/(.*)$ /$1 break;"
    place = stage(
        allow(), change=lambda text: text.replace("location / {\n        include", rewrite + "\n        include")
    )
    assert 200 == place.ask("/app/secret?a=b").status
    assert b"/app/secret?a=b" == place.check.requests[0].one("X-Forwarded-Uri")
    assert b"/secret?a=b" == place.seen.target


def test_down_page_forgotten(stage: Staging) -> None:
    """down.html was not copied: 503 all the same, and a sentence."""
    place = stage(lambda _heard: None)
    (place.folder / "nginx/psc-forward-auth/down.html").unlink()
    for target in ("/", "/psc/start"):
        place.outer.__exit__(None, None, None)
        heard = place.ask(target, method="POST", body=b"x")
        assert (503, True, b"30") == (heard.status, "ne répond pas".encode() in heard.body, heard.one("Retry-After"))


def test_outer_door(stage: Staging) -> None:
    """What is below /psc/ goes to the outer door unchecked, with our cookies and with the proxy's word for host and scheme."""
    place = stage(sign_in(None))
    forged = [("X-Forwarded-Host", "evil.example"), ("X-Forwarded-Proto", "http"), ("X-Forwarded-For", "192.0.2.9")]
    heard = place.ask("/psc/session?x=1", [*forged, ("Cookie", "__Host-psc=t; a=1")])
    assert (200, b"outer") == (heard.status, heard.one("X-Door"))
    assert [] == place.check.requests
    asked = place.outer.requests[0]
    host = f"dossier.hopital.example:{place.port}".encode()
    assert (b"/psc/session?x=1", host, host, b"https", b"127.0.0.1", b"__Host-psc=t; a=1") == (
        asked.target,
        *(asked.one(name) for name in ("Host", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-For", "Cookie")),
    )


def test_outer_door_gone(stage: Staging) -> None:
    """The outer door cannot be reached: the French page, 503."""
    place = stage(allow())
    place.outer.__exit__(None, None, None)
    for host in ("dossier.hopital.example", AUTH_HOST):
        heard = place.ask("/psc/start", host=host)
        assert (503, True) == (heard.status, b'<html lang="fr">' in heard.body)


def test_outer_doors_own_errors(stage: Staging) -> None:
    """The outer door's own 503 and 404 are its pages, not the static one."""
    place = stage(allow(), outer=lambda heard: answer("503 Service Unavailable", [], b"PSC is away"))
    heard = place.ask("/psc/start")
    assert (503, b"PSC is away") == (heard.status, heard.body)


def test_origin(stage: Staging) -> None:
    """The origin has the outer door, a way to it from /, and nothing else."""
    place = stage(allow())
    assert 200 == place.ask("/psc/callback?code=1", host=AUTH_HOST).status
    home = place.ask("/", host=AUTH_HOST)
    assert (302, b"/psc/session") == (home.status, home.one("Location"))
    assert 404 == place.ask("/other", host=AUTH_HOST).status
    assert [[], []] == [place.check.requests, place.app.requests]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls(stage: Staging, version: ssl.TLSVersion) -> None:
    """TLS 1.2 and 1.3 with HTTP/2 on offer; nothing older."""
    place = stage(allow())
    assert place.trust is not None
    place.trust.minimum_version = place.trust.maximum_version = version
    place.trust.set_alpn_protocols(["h2", "http/1.1"])
    with place.client() as client:
        assert isinstance(client.socket, ssl.SSLSocket)
        assert "h2" == client.socket.selected_alpn_protocol()


@pytest.mark.skipif(CURL is None, reason="curl is not installed")
def test_http2(stage: Staging) -> None:
    """Over HTTP/2 the same: the check hears everything, cookie crumbs are put together, ours are taken out, a POST has its body."""
    place = stage(allow())
    (place.folder / "ca.pem").write_bytes(place.authority_pem)
    url = f"https://dossier.hopital.example:{place.port}/a%2Fb?x=1"
    done = subprocess.run(
        [
            *(str(CURL), "-sS", "--http2", "--cacert", f"{place.folder}/ca.pem", "-w", " %{http_version} %{http_code}"),
            *("--resolve", f"dossier.hopital.example:{place.port}:127.0.0.1", "-b", "a=1; __Host-psc=t; b=2"),
            *("-H", "X-PSC-Subject: forged", "-d", "body", url),
        ],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert ("from the application 2 200", "") == (done.stdout, done.stderr)
    check = place.check.requests[0]
    assert (b"/a%2Fb?x=1", b"POST", b"a=1; __Host-psc=t; b=2") == tuple(
        check.one(name) for name in ("X-Forwarded-Uri", "X-Forwarded-Method", "Cookie")
    )
    assert (b"a=1; b=2", b"899700218896", b"body") == (
        place.seen.one("Cookie"),
        place.seen.one("X-PSC-Subject"),
        place.seen.body,
    )


def test_plain_http_leads_to_https(stage: Staging) -> None:
    """Port 80 sends everything to https, to the host configured and not to the one claimed."""
    place = stage(allow())
    with Client(place.plain_port) as client:
        heard = client.send(request("/a?b=1", "dossier.hopital.example"))
    assert (301, b"https://dossier.hopital.example/a?b=1") == (heard.status, heard.one("Location"))


def test_LOG_02_no_query_and_no_cookie(stage: Staging) -> None:
    """The log says who, what and how long; no query, Location, Referer or cookie."""
    place = stage(sign_in("https://auth.hopital.example/psc/start?to=CANARY1"))
    place.ask(
        "/a?b=CANARY2", [("Cookie", "__Host-psc=CANARY3"), ("Referer", "https://x.example/?CANARY4"), *NAVIGATION]
    )
    place.ask("/psc/callback?code=CANARY5", host=AUTH_HOST)
    place.nginx.__exit__(None, None, None)
    log = (place.folder / "psc-forward-auth.log").read_text()
    assert "CANARY" not in log
    assert '"path":"/a","status":302' in log
    assert '"path":"/psc/callback","status":200' in log
