"""DOS-03 to DOS-06, DOS-08, DOS-09: what strangers send costs little, and leaves nothing behind that grows."""

import socket
import time
from contextlib import ExitStack

from attack_rig import AUTH_HOST, DOCTOR, DOSSIER_HOST, NURSE, Place
from running import Browser, exchange

from forward_auth.policy import App


def test_DOS_03_slow_heads(place: Place) -> None:
    """A hundred and fifty connections that never come to the end of a head: others are answered meanwhile, and afterwards. Through nginx the
    service does not even hear of them."""
    door = place.running.service._doors[0]
    before = len(door.connections)
    with ExitStack() as stack:
        for number in range(150):
            if place.by_nginx:
                plain = socket.create_connection(("127.0.0.1", place.house.port), timeout=5)
                slow = stack.enter_context(place.house.trust.wrap_socket(plain, server_hostname=DOSSIER_HOST))
                slow.sendall(f"GET /{number} HTTP/1.1\r\nHost: {DOSSIER_HOST}\r\nX-A: ".encode())
            else:
                slow = stack.enter_context(socket.create_connection(tuple(place.inner), timeout=5))
                slow.sendall(b"GET /auth/nginx HTTP/1.1\r\nHost: inner\r\nX-A: ")
        for who in (DOCTOR, NURSE, None):
            assert place.ask("/secret/x", who).passed == (who == DOCTOR)
        if place.by_nginx:
            assert len(door.connections) <= before + 2
    assert place.ask("/dossier", NURSE).passed


def test_DOS_04_two_hundred_on_one_connection(place: Place) -> None:
    """Pipelined at once, all of them nobody's: each is answered with its own no, in order, and the next connection as if nothing had been."""
    host = f"{DOSSIER_HOST}:{place.house.port}"
    if place.by_nginx:
        one = f"GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n"
    else:
        told = f"X-Forwarded-Method: GET\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: {host}\r\nX-Forwarded-Uri: /x\r\n"
        one = f"GET /auth/nginx HTTP/1.1\r\nHost: inner\r\n{told}\r\n"
    last = one.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")
    outcome = place.send((one * 199 + last).encode(), None, target=b"/x")
    assert [401] * 200 == [outcome.status, *outcome.following]


def test_DOS_05_many_starts_of_one_browser(place: Place) -> None:
    """Two hundred sign-ins are begun and none ended: at most five cookies, six KiB, and no row in the store."""
    browser = Browser()
    store = place.running.folder / "logins.db"
    before = store.stat().st_size
    for number in range(200):
        told = place.get(browser, f"{place.origin(AUTH_HOST)}/psc/start?to={place.origin()}/{number}")
        assert 303 == told.status
        mine = {name: value for name, value in browser.jar[AUTH_HOST].items() if "-login-" in name}
        assert 1 <= len(mine) <= 5
        assert sum(len(name) + len(value) for name, value in mine.items()) <= 6 * 1024
    assert before == store.stat().st_size
    url = place.simulator.sign_in(told["Location"], NURSE, cookies=browser.psc)
    assert 200 == place.follow(browser, url).status


def test_DOS_05_many_starts_without_cookies(place: Place) -> None:
    """A machine that keeps no cookie: nothing is stored for it either."""
    store = place.running.folder / "logins.db"
    before = store.stat().st_size
    for number in range(100):
        assert place.get(Browser(), f"{place.origin(AUTH_HOST)}/psc/start?to={place.origin()}/{number}").status in (
            200,
            303,
        )
    assert before == store.stat().st_size


def test_DOS_06_strangers_write_no_lines(place: Place) -> None:
    """Three hundred requests of strangers, with and without a cookie: no line in the log is about them."""
    place.house.log.lines.clear()
    for number in range(100):
        for cookie in ("", f"__Host-psc=x{number}", f"a={number}"):
            browser = Browser(jar={DOSSIER_HOST: {"c": "v"}}) if not cookie else None
            told = place.check(
                browser, f"{place.origin()}/x{number}", navigation=False, headers={"Cookie": cookie} if cookie else None
            )
            assert 401 == told.status
    assert [] == [line for line in place.house.log.lines if "forward_auth" in line]


def test_DOS_08_metrics_do_not_grow(place: Place) -> None:
    """Hundreds of hosts, paths, methods, agents and people who do not exist: not one series more."""
    place.ask("/dossier", DOCTOR)
    place.ask("/dossier")
    place.ask("/x", authority="unknown.example")
    before = set(place.running.metrics())
    for number in range(150):
        place.check(None, f"{place.origin()}/{number}", navigation=False, headers={"User-Agent": f"agent-{number}"})
        place.running.check(None, f"https://h{number}.example/{number}", method=f"M{number}")
        place.running.check(None, place.origin() + "/", headers={"Cookie": f"__Host-psc=u{number}"})
    for number in range(20):
        place.ask(f"/{number}", authority=f"h{number}.example", method=f"M{number}")
    for dialect in ("nginx", "forward", "ingress-nginx", "envoy", "x", "../auth"):
        exchange(place.inner, "GET", f"/auth/{dialect}", {"Host": "inner"})
    assert before == set(place.running.metrics())


HOSTILE = (
    "/" * 8000,
    "/a" * 4000,
    "/%2e" * 2000,
    "/.." * 2600,
    "/" + "a" * 8000 + "!",
    "/;" * 4000,
    "/%C3%A9" * 1100,
    "/" + "%20" * 2600,
)


def test_DOS_09_no_path_is_dear(place: Place) -> None:
    """Eight KiB made to send a matcher astray: at most a few times what an innocent path of that length costs to judge (in seconds of this process),
    and through the door an answer as to any other."""
    app = next(site.app for site in place.running.service.gate.sites.values() if site.app.name == "dossier")

    def cost(path: bytes) -> float:
        fresh = App("fresh", app._rules)
        began = time.thread_time()
        for number in range(20):
            fresh.find(b"GET", path + b"%d" % number)
        return time.thread_time() - began

    for path in HOSTILE:
        assert cost(path.encode()) / 20 < 0.02
        for who in (None, NURSE):
            place.ask(path, who)
