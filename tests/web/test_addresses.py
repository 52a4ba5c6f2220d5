"""Which address exists where, by which method, for which host; and what every page of ours says to the browser that shows it."""

import re
import socket

import pytest
from running import DOSSIER, ORIGIN, PRESCRIPTION, Answer, Browser, Running, exchange
from web_steps import AUTH_HOST, DOSSIER_HOST, HANDED_BACK

EVERYWHERE = ("start", "handoff", "sign-out", "signed-out", "session", "refused")
ORIGIN_ONLY = ("callback",)
NOWHERE = ("", "admin", "admin/", "situation", "keys", "ciba", "openapi.json", "Start", "start/", "start/x", "callback/x", "static", "static/", "metrics", ".well-known")  # fmt: skip


def ask(running: Running, host: str, path: str, method: str = "GET", **headers: str) -> Answer:
    sent = {"Host": "outer", "X-Forwarded-Host": host, "Accept": "text/html"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    return exchange(running.outer, method, path, sent)


@pytest.mark.parametrize("name", EVERYWHERE)
def test_everywhere(shared: Running, name: str) -> None:
    """What a professional meets exists on the origin and on every app's host."""
    for url in (ORIGIN, DOSSIER, PRESCRIPTION):
        assert 404 != shared.get(Browser(), f"{url}/psc/{name}").status


def test_origin_only(shared: Running) -> None:
    """What belongs to the sign-in alone exists on the origin; on an app's host it is a page that is not there."""
    for name in ORIGIN_ONLY:
        assert 404 != shared.get(Browser(), f"{ORIGIN}/psc/{name}").status
        for url in (DOSSIER, PRESCRIPTION):
            assert 404 == shared.get(Browser(), f"{url}/psc/{name}?code=c&state=s").status
    for url, status in ((ORIGIN, {303, 400}), (DOSSIER, {404})):
        answer = shared.request(Browser(), "POST", url + "/psc/start", form="to=x")
        assert answer.status in status


@pytest.mark.parametrize("name", NOWHERE)
def test_nowhere(shared: Running, name: str) -> None:
    """What is in no table is 404 with a page, on every host; so is everything outside the prefix, and the inner door's addresses."""
    for host in (AUTH_HOST, DOSSIER_HOST):
        answer = ask(shared, host, "/psc/" + name)
        assert (404, "") == (answer.status, answer["Location"])
        assert "Page introuvable" in answer.text
    for path in ("/", "/auth/nginx", "/metrics", "/livez", "/readyz", "/psc", "/PSC/start"):
        assert 404 == ask(shared, AUTH_HOST, path).status


UNKNOWN = [
    "evil.example",
    "auth.hopital.example.evil.example",
    "xauth.hopital.example",
    "hopital.example",
    "auth.hopital.example:8443",
    "dossier.hopital.example:80",
    "127.0.0.1",
    "localhost",
    "",
    "auth.hopital.example, dossier.hopital.example",
    "auth.hopital.example,auth.hopital.example",
    "auth.hopital.example dossier.hopital.example",
    "auth.hopital.example/",
    "auth.hopital.example#",
    "user@auth.hopital.example",
    "auth.hopital.example\\evil",
    "https://auth.hopital.example",
    "auth..hopital.example",
    "auth.h\xf4pital.example",
    "[::1]",
]  # fmt: skip


@pytest.mark.parametrize("host", UNKNOWN)
def test_unknown_host(shared: Running, host: str) -> None:
    """A host that is not exactly one of ours is 404 at every address, style sheet included; no cookie, no redirect."""
    names = [*EVERYWHERE, *ORIGIN_ONLY, "static/" + style(shared)]
    for name in names:
        answer = ask(shared, host, f"/psc/{name}?to=https%3A%2F%2F{AUTH_HOST}%2F")
        assert (404, "", []) == (answer.status, answer["Location"], answer.headers.get("set-cookie", []))
    assert 404 == ask(shared, host, "/psc/sign-out", "POST").status


def style(running: Running) -> str:
    page = running.get(Browser(), ORIGIN + "/psc/signed-out")
    return page.text.partition('<link rel="stylesheet" href="/psc/static/')[2].partition('"')[0]


def test_spellings_of_a_known_host(shared: Running) -> None:
    """Case, the trailing dot and the default port are the same host."""
    for host in ("AUTH.Hopital.Example", "auth.hopital.example.", "auth.hopital.example:443"):
        assert 200 == ask(shared, host, "/psc/signed-out").status


def test_doubled_forwarded_host(shared: Running) -> None:
    """X-Forwarded-Host twice, even with the same value, has no reading: 404."""
    for second in ("auth.hopital.example", "evil.example"):
        with socket.create_connection(tuple(shared.outer), timeout=5) as sock:
            sock.sendall(
                b"GET /psc/signed-out HTTP/1.1\r\nHost: outer\r\nX-Forwarded-Host: auth.hopital.example\r\n"
                b"X-Forwarded-Host: " + second.encode() + b"\r\nConnection: close\r\n\r\n"
            )
            assert sock.recv(12) == b"HTTP/1.1 404"


def test_host_header_without_a_proxys_word(shared: Running) -> None:
    """A proxy that passes Host only: that is the host. Scheme and port told by anybody change nothing."""
    for extra in ({}, {"X-Forwarded-Proto": "http"}, {"X-Forwarded-Port": "8443"}, {"X-Forwarded-Proto": "javascript"}, {"Forwarded": "host=evil.example"}, {"X-Host": "evil.example"}, {"X-Original-Host": "evil.example"}):  # fmt: skip
        headers = {"Host": "dossier.hopital.example", "Accept": "text/html", **extra}
        answer = exchange(shared.outer, "GET", "/psc/start", headers)
        assert 303 == answer.status
        assert HANDED_BACK.fullmatch(answer["Location"])
        assert "evil" not in answer["Location"]
        assert 404 == exchange(shared.outer, "GET", "/psc/start", {**headers, "Host": "evil.example"}).status


def test_untrusted_peer(shared: Running) -> None:
    """From a peer that is no trusted proxy, X-Forwarded-Host is not read: only the Host header counts."""

    def from_elsewhere(host: str, told: str) -> bytes:
        with socket.create_connection(tuple(shared.outer), timeout=5, source_address=("127.0.0.2", 0)) as sock:
            sock.sendall(
                f"GET /psc/signed-out HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-Host: {told}\r\nConnection: close\r\n\r\n".encode()
            )
            return sock.recv(12)[-3:]

    assert b"404" == from_elsewhere("evil.example", AUTH_HOST)
    assert b"200" == from_elsewhere(AUTH_HOST, "evil.example")


def test_static(shared: Running) -> None:
    """The style sheet, by its content's name, on every host of ours; kept for ever by a browser; other names and climbing ones are 404."""
    name = style(shared)
    for url in (ORIGIN, DOSSIER):
        answer = shared.get(Browser(), f"{url}/psc/static/{name}")
        assert (200, "text/css") == (answer.status, answer["Content-Type"].partition(";")[0])
        assert "immutable" in answer["Cache-Control"]
        assert 304 == shared.get(Browser(), f"{url}/psc/static/{name}", If_None_Match=answer["ETag"]).status
    for other in ("x.css", "..%2f..%2fconfig.toml", "%2e%2e/%2e%2e/keys", "../texts.toml", name + "%00"):
        assert 404 == ask(shared, AUTH_HOST, "/psc/static/" + other).status


PAGES = [
    f"{ORIGIN}/psc/signed-out",
    f"{ORIGIN}/psc/callback?code=c&state=s",
    f"{ORIGIN}/psc/start?to=https%3A%2F%2Fevil.example",
    f"{ORIGIN}/psc/start?to=https%3A%2F%2Fdossier.hopital.example%2F&why=ended",
    f"{ORIGIN}/psc/start?to=https%3A%2F%2Fdossier.hopital.example%2F&lost=1",
    f"{DOSSIER}/psc/refused?ref=AAAA-AAAA",
    f"{DOSSIER}/psc/handoff?code=x",
    f"{ORIGIN}/psc/nothing",
]


@pytest.mark.parametrize("url", PAGES)
def test_PAGE_03_headers_of_a_page(shared: Running, url: str) -> None:
    """Every page: kept by nobody, framed by nobody, no script, no sniffing, no referrer, HSTS, no version of anything."""
    page = shared.get(Browser(), url)
    policy = page["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "base-uri 'none'" in policy
    assert "unsafe" not in policy
    assert "script-src" not in policy or "script-src 'none'" in policy
    assert ("nosniff", "no-referrer", "no-store") == (
        page["X-Content-Type-Options"],
        page["Referrer-Policy"],
        page["Cache-Control"],
    )
    assert page["Strict-Transport-Security"].startswith("max-age=")
    assert "text/html; charset=utf-8" == page["Content-Type"]
    assert "" == page["Server"]
    assert "<script" not in page.text
    assert not re.search(r"\son[a-z]+=", page.text)
    assert "style=" not in page.text


INJECTIONS = ["%3Cscript%3Ealert(1)%3C/script%3E", "%22%3E%3Cimg%20src=x%20onerror=alert(1)%3E", "%0d%0aX-Evil:%201", "{{7*7}}", "%00", "%ff%fe", "%E2%80%A8"]  # fmt: skip


@pytest.mark.parametrize("injection", INJECTIONS)
def test_PAGE_01_reflected_values(shared: Running, injection: str) -> None:
    """Whatever a query holds, no page repeats it as markup, no header takes it, no 5xx comes of it."""
    browser = Browser()
    for path in (
        f"start?to={injection}",
        f"start?to=https://dossier.hopital.example/{injection}&why=ended",
        f"start?to=https://dossier.hopital.example/?q={injection}&lost=1",
        f"start?to=https://dossier.hopital.example/?q={injection}&frame=1",
        f"start?why={injection}&lang={injection}",
        f"callback?error={injection}&error_description={injection}&state={injection}",
        f"callback?code={injection}&state={injection}&iss={injection}",
        f"handoff?to={injection}&bind={injection}&code={injection}",
        f"handoff?code={injection}",
        f"refused?ref={injection}",
        f"signed-out?state={injection}&psc={injection}",
        f"sign-out?{injection}={injection}",
        f"session?lang={injection}",
        f"nothing/{injection}",
    ):
        for host in (AUTH_HOST, DOSSIER_HOST):
            answer = ask(shared, host, "/psc/" + path)
            assert answer.status < 500, (path, answer.status)
            body = answer.body.decode("utf-8")
            assert "<script>" not in body
            assert "<img src=x" not in body
            assert "49" not in answer.headers.get("x-evil", [])
            assert "x-evil" not in answer.headers
    assert {} == browser.jar


def test_methods(shared: Running) -> None:
    """Other methods are 405 with a page and an Allow header; TRACE tells nothing back."""
    for name in (*EVERYWHERE, *ORIGIN_ONLY):
        for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT" if name == "x" else "PROPFIND"):
            answer = ask(shared, AUTH_HOST, "/psc/" + name, method, X_Canary="canary-4711")
            assert 405 == answer.status
            assert "GET" in answer["Allow"]
            assert "canary-4711" not in answer.text


def test_POST_of_a_page_that_shows(shared: Running) -> None:
    """CB-08: form_post was never asked for: a POST to the callback is 405, with a good body too."""
    for name in ("callback", "handoff", "session", "refused", "signed-out"):
        answer = shared.request(Browser(), "POST", f"{ORIGIN}/psc/{name}", form="code=c&state=s")
        assert 405 == answer.status


def test_large_form(shared: Running) -> None:
    """A form beyond 64 KiB is refused, and the next request is answered."""
    answer = shared.request(Browser(), "POST", ORIGIN + "/psc/start", form="to=" + "x" * 100_000)
    assert 413 == answer.status
    assert 200 == shared.get(Browser(), ORIGIN + "/psc/signed-out").status


def test_COOK_08_many_cookies(shared: Running) -> None:
    """Two hundred cookies and 8 KiB of an application's are no trouble; what is beyond all measure is 4xx, and the next request is answered."""
    crowd = Browser(jar={AUTH_HOST: {f"c{n}": "v" * 30 for n in range(200)}})
    assert 200 == shared.get(crowd, ORIGIN + "/psc/signed-out").status
    huge = Browser(jar={AUTH_HOST: {"c": "v" * 70_000}})
    assert shared.get(huge, ORIGIN + "/psc/signed-out").status in (400, 431)
    assert 200 == shared.get(Browser(), ORIGIN + "/psc/signed-out").status


def test_COOK_08_foreign_login_cookies_are_cleared(shared: Running) -> None:
    """Cookies under our name that are not ours are cleared by the next start, and never counted as a sign-in under way."""
    browser = Browser(jar={AUTH_HOST: {f"__Host-psc-login-{n:08x}": "x" * 500 for n in range(12)}})
    shared.get(browser, f"{ORIGIN}/psc/start?to=https%3A%2F%2Fdossier.hopital.example%2F")
    assert 1 == len(browser.jar[AUTH_HOST])


@pytest.mark.parametrize(
    "cookie", ["", '"', "%", "\xff\xfe", "A" * 64, '"A' * 30, "\\101" * 20, "=", ";", "__Host-psc="]
)
def test_COOK_03_garbage(shared: Running, cookie: str) -> None:
    """A ticket that is none: nobody, never an error."""
    for name in ("__Host-psc", "__HOST-psc", "__Host-psc-login-00000000", "=__Host-psc", " __Host-psc"):
        answer = ask(shared, AUTH_HOST, "/psc/session", Cookie=f"{name}={cookie}")
        assert 303 == answer.status
        assert answer["Location"].startswith(ORIGIN + "/psc/start")


def test_COOK_04_two_tickets(running: Running) -> None:
    """Two cookies of the ticket's name, in one header or two, are none: no «one wins»."""
    browser, other = Browser(), Browser()
    running.sign_in(browser, "docteur-dupont")
    running.sign_in(other, "infirmiere-leroy")
    good, second = browser.jar[AUTH_HOST]["__Host-psc"], other.jar[AUTH_HOST]["__Host-psc"]
    assert 200 == ask(running, AUTH_HOST, "/psc/session", Cookie=f"__Host-psc={good}").status
    for a, b in ((good, "bad"), ("bad", good), (good, second), (good, good)):
        assert 303 == ask(running, AUTH_HOST, "/psc/session", Cookie=f"__Host-psc={a}; __Host-psc={b}").status


def test_LOG_05_malformed_request_is_not_repeated(shared: Running) -> None:
    """A request that is none is 400 and repeats nothing of itself: else any script on an app's host could read the ticket beside a cookie it
    made malformed; and no version of anything is told."""
    answer = ask(shared, DOSSIER_HOST, "/psc/session", Cookie="__Host-psc=CANARY-4711; x=\x7f")
    assert 400 == answer.status
    assert "CANARY-4711" not in answer.text
    assert "" == answer["Server"]
