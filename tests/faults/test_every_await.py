"""Every await fails, or is cancelled: for each n the n-th of a first check, of a sign-in with its hand-off, of a sign-out, in each way it can.

For: never an allow that the model of the case does not expect, never a second use of a code at PSC, nothing left behind. What fails is what
really can: a method of the real store, an exchange with the simulator of PSC; before it does anything, or after it has done all of it and only
the answer is lost. The service is the same one for all n, so that what one of them leaves behind meets the next.
"""

import asyncio
import logging
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from http.client import HTTPException
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from running import DOSSIER, ORIGIN, PRESCRIPTION, Answer, Browser, Running
from web.web_steps import begun, copy_of, logout_token, returned, soon, tell_logout

from forward_auth import sessions
from forward_auth.errors import ForwardAuthError, PSCAnswerRefused, PSCUnavailable, StoreUnavailable
from forward_auth.stores import Selection
from forward_auth.web import signout

# What the service does by itself at its own rhythm is no await of anybody's request.
BACKGROUND: Final = frozenset(
    {"open", "close", "health", "changes", "touch", "lapse", "expire", "put_note", "get_note"}
)
WAYS: Final = [(failure, behind) for failure in ("outage", "fault", "cancelled") for behind in (False, True)]


class Trap:
    """Stands before every await of a request, or `behind` it, and springs at the one that was asked for."""

    def __init__(self) -> None:
        self.count = 0
        self.sprung = ""
        self._at = 0
        self._failure = ""
        self._behind = False

    def arm(self, at: int, failure: str, behind: bool) -> None:
        self.count, self.sprung = 0, ""
        self._at, self._failure, self._behind = at, failure, behind

    def disarm(self) -> None:
        self._at = 0

    async def __call__(self, name: str, outage: ForwardAuthError, work: Coroutine[Any, Any, Any]) -> Any:
        task = asyncio.current_task()
        assert task is not None
        if task.get_coro().__qualname__ == "Sessions._poll":  # type: ignore[union-attr]  # it reads again what was replaced
            return await work
        self.count += 1
        if self.count != self._at:
            return await work
        self.sprung = name
        if self._behind:
            await work
        else:
            work.close()
        if self._failure == "cancelled":
            task.cancel()
            await asyncio.sleep(0)
        raise outage if self._failure == "outage" else RuntimeError("a fault of ours")

    def lay(self, running: Running) -> None:
        """Before the store and PSC of a running service."""
        service = running.service
        service.sessions.store = Watched(service.sessions.store, self)  # type: ignore[assignment]
        assert service.outer is not None
        psc: Any = service.outer.psc
        send, answering = psc._send, psc.answering
        psc._probe_every = 0.05  # one request that failed is looked into at once

        def sending(request: Any) -> Awaitable[Any]:
            place = urlsplit(request.url).path.rpartition("/")[2]
            work = send(request)
            if "configuration" in place:
                return work  # type: ignore[no-any-return]
            lost = PSCAnswerRefused("wrong", "spoilt") if self._behind else PSCUnavailable("timeout", "no answer")
            return self("psc " + place, lost, work)

        psc._send = sending
        psc.answering = lambda: self("psc answering", PSCUnavailable("psc_away", "away"), answering())


class Watched:
    """The real store with the trap before each method."""

    def __init__(self, store: Any, trap: Trap) -> None:
        self._store = store
        self._trap = trap

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name in BACKGROUND:
            return method
        return lambda *values: self._trap(name, StoreUnavailable("store_slow", "spoilt"), method(*values))


def asked(ask: Callable[..., Answer], *values: Any, **more: Any) -> Answer | None:
    """An answer, or None when the connection was closed without one."""
    try:
        return ask(*values, **more)
    except (HTTPException, ConnectionError):
        return None


@pytest.fixture
def trap(running: Running, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trap]:
    """`running` with a trap laid; at the end nothing is left behind, and nothing was complained about but what was broken on purpose."""
    monkeypatch.setattr(sessions, "_POLL", 0.05)
    trap = Trap()
    trap.lay(running)
    yield trap
    trap.disarm()
    nothing_left(running)


def calm(running: Running) -> None:
    """Nothing of an earlier request is still at work, and PSC is known to be there again: what is counted next is the next request's."""
    outer = running.service.outer
    assert outer is not None
    soon(lambda: not sessions._TASKS and not signout._TASKS and not outer.draining and outer.psc.reachable)


def tasks(running: Running) -> Counter[str]:
    """What the loop has to do, by name of the coroutine."""

    async def look() -> Counter[str]:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        return Counter(task.get_coro().__qualname__ for task in others)  # type: ignore[union-attr]

    return running.call(look())


KEPT: Final = {
    "Sessions._poll",
    "Sessions._write_back",
    "Sessions._expire",
    "PSC._keep_up",
    "Renewals._run",
    "Service._sweep",
}


def nothing_left(running: Running) -> None:
    """No task but those that live as long as the service, no request in flight, no one waiting; the rows of the store are whole."""
    service = running.service
    soon(lambda: set(tasks(running)) <= KEPT and max(tasks(running).values()) == 1)
    assert service.outer is not None
    assert {} == service.sessions._fetching
    assert 0 == service.outer.psc._in_flight
    assert set() == sessions._TASKS | signout._TASKS
    soon(lambda: not any(door.connections for door in service._doors))
    with sqlite3.connect(running.folder / "logins.db") as look:
        for half in (
            "SELECT count(*) FROM login l LEFT JOIN record r ON r.login_id = l.id WHERE r.login_id IS NULL",
            "SELECT count(*) FROM record r LEFT JOIN login l ON r.login_id = l.id WHERE l.id IS NULL",
            "SELECT count(*) FROM ticket t LEFT JOIN login l ON t.login_id = l.id WHERE l.id IS NULL",
            "SELECT count(*) FROM login l LEFT JOIN ticket t ON t.login_id = l.id WHERE t.digest IS NULL",
        ):
            assert 0 == look.execute(half).fetchone()[0], half
        assert "ok" == look.execute("PRAGMA integrity_check").fetchone()[0]
    look.close()


def live(running: Running) -> int:
    """How many logins the store has."""
    with sqlite3.connect(running.folder / "logins.db") as look:
        found = look.execute("SELECT count(*) FROM login").fetchone()[0]
    look.close()
    return int(found)


def forget(running: Running) -> None:
    """As in a process that has just started: everything is in the store and nothing in memory."""

    async def now() -> None:
        running.service.memory.forget_everything()

    running.call(now())


def codes_once(running: Running) -> None:
    """PSC has seen no code twice."""
    seen = Counter(each.form["code"] for each in running.simulator.requests if each.grant == "code")
    assert [] == [code for code, times in seen.items() if times > 1]


def inside(running: Running, browser: Browser, url: str = DOSSIER + "/") -> bool:
    """Whether a check lets this browser in; anything that is neither a yes nor a plain no fails."""
    answer = running.check(browser, url)
    assert answer.status in (200, 401)
    assert ("899700000001" == answer["X-PSC-Subject"]) is (answer.status == 200)
    return answer.status == 200


# -- a first check ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("failure", "behind"), WAYS)
def test_first_check(running: Running, trap: Trap, failure: str, behind: bool) -> None:
    """A login that only the store knows: as long as the store has not answered nobody is let in, neither this one nor those who wait for
    the same row; a moment later, without the fault, the check is right: the live one is in, the one that was ended elsewhere is not."""
    browser, gone = Browser(), Browser()
    running.sign_in(browser, "docteur-dupont")
    running.sign_in(gone, "docteur-dupont")
    login = next(reversed(running.service.memory.by_id))
    calm(running)
    store: Any = running.service.sessions.store
    for at in range(1, 9):
        forget(running)
        trap.arm(at, failure, behind)
        answer = asked(running.check, browser, DOSSIER + "/a")
        trap.disarm()
        if not trap.sprung:
            break
        # After the answer there is only what is written for lists: it can spoil nothing.
        allowed = trap.sprung != "find"
        assert (200 if allowed else 503) == (503 if answer is None else answer.status), trap.sprung
        if not allowed and answer is not None:
            assert "" == answer["X-PSC-Subject"]
        assert inside(running, browser)
    assert at > 1
    ended = running.call(store._store.end(Selection(login_id=login), int(running.clock()), int(running.clock()) + 999))
    assert 1 == len(ended)
    for at in range(1, 4):
        forget(running)
        trap.arm(at, failure, behind)
        answer = asked(running.check, gone, DOSSIER + "/a")
        trap.disarm()
        assert answer is None or answer.status in (401, 503)
    assert not inside(running, gone)


@pytest.mark.parametrize(("failure", "behind"), WAYS)
def test_CACHE_07_many_wait_for_one_row(running: Running, trap: Trap, failure: str, behind: bool) -> None:
    """Fifty checks of one browser wait for one row, and that one query breaks: none inherits an allow, each is answered, and so is the next."""
    browser = Browser()
    running.sign_in(browser, "docteur-dupont")
    calm(running)
    cookie = browser.cookies("dossier.hopital.example")
    head = (
        "GET /auth/nginx HTTP/1.1\r\nHost: inner\r\nX-Forwarded-Method: GET\r\nX-Forwarded-Proto: https\r\n"
        f"X-Forwarded-Host: dossier.hopital.example\r\nX-Forwarded-Uri: /a\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n"
    ).encode()

    async def many() -> list[bytes]:
        async def one() -> bytes:
            reader, writer = await asyncio.open_connection(*running.inner)
            writer.write(head)
            got = await reader.read()
            writer.close()
            return got

        return await asyncio.gather(*(one() for _ in range(50)))

    forget(running)
    trap.arm(1, failure, behind)
    answers = running.call(many())
    trap.disarm()
    assert "find" == trap.sprung
    statuses = Counter(answer[9:12] for answer in answers)
    # Whoever came after the query had broken made the next one, which is right.
    assert statuses.keys() <= {b"503", b"200"}, statuses
    assert statuses[b"503"] >= 1
    assert inside(running, browser)


# -- a sign-in -------------------------------------------------------------------------------------------------------------------


def walk(running: Running, browser: Browser, url: str) -> tuple[bool, bool, str]:
    """As far as it goes: -> (the origin gave its ticket, the app's host gave its ticket, address of the callback)."""
    at_origin = at_app = False
    callback = ""
    for _ in range(12):
        parts = urlsplit(url)
        if (parts.hostname or "").endswith("psc.localhost"):
            callback = url = running.simulator.sign_in(url, "docteur-dupont", cookies=browser.psc)
            continue
        if not parts.path.startswith("/psc/"):
            break
        answer = asked(running.get, browser, url)
        if answer is None or answer.status != 303:
            assert answer is None or not any("__Host-psc=" in line for line in answer.headers.get("set-cookie", []))
            break
        given = any(line.startswith("__Host-psc=") for line in answer.headers.get("set-cookie", []))
        at_origin = at_origin or (given and parts.path.endswith("/callback"))
        at_app = at_app or (given and parts.path.endswith("/handoff"))
        assert not given or parts.path.endswith(("/callback", "/handoff"))
        url = answer["Location"]
    return at_origin, at_app, callback


@pytest.mark.parametrize(("failure", "behind"), WAYS)
def test_sign_in(running: Running, trap: Trap, failure: str, behind: bool) -> None:
    """Start, callback and hand-off with the n-th await broken, for every n: the browser has exactly the tickets that it was given on the
    way; a code is never sent a second time, whatever is repeated; another's session goes on; the next sign-in succeeds."""
    other = Browser()
    running.sign_in(other, "docteur-dupont", PRESCRIPTION + "/")
    broken = []
    for at in range(1, 60):
        running.clock.advance(31)
        calm(running)
        browser = Browser()
        start = running.check(browser, DOSSIER + "/a")["Location"]
        calm(running)
        trap.arm(at, failure, behind)
        at_origin, at_app, callback = walk(running, browser, start)
        trap.disarm()
        if not trap.sprung:
            assert (True, True) == (at_origin, at_app)
            break
        broken.append(trap.sprung)
        assert at_app is inside(running, browser), trap.sprung
        assert not inside(running, browser, PRESCRIPTION + "/")
        assert at_origin is (200 == running.get(browser, ORIGIN + "/psc/session").status), trap.sprung
        before = copy_of(browser)
        if callback:  # the back button; and a thief of the address, who has no cookie
            running.get(before, callback)
            running.get(Browser(), callback)
            codes_once(running)
        assert 200 == running.check(other, PRESCRIPTION + "/").status
        calm(running)
        again = Browser()
        assert (True, True) == walk(running, again, start)[:2]
        assert inside(running, again)
        running.sign_out(again)
        assert not inside(running, again)
        codes_once(running)
    assert {
        "psc answering",
        "claim",
        "psc token",
        "psc userinfo",
        "is_ended",
        "add_login",
        "add_ticket",
        "take",
    } <= set(broken)
    assert {f"psc {place}" for place in ("token", "userinfo")} <= set(broken)


@pytest.mark.parametrize(("failure", "behind"), WAYS)
def test_sign_in_with_a_new_key(running: Running, trap: Trap, failure: str, behind: bool) -> None:
    """The key of the ID token has to be fetched first, and that breaks: no session, the code is not sent again; a minute later all is well."""
    browser = Browser()
    url = returned(running, browser)
    cookies = copy_of(browser)
    running.simulator.rotate_keys()
    trap.arm(3, failure, behind)  # the claim, the token, and then the keys
    answer = asked(running.get, browser, url)
    trap.disarm()
    assert trap.sprung in ("psc certs", "psc jwks"), trap.sprung
    assert (
        answer is None or (answer.status in (400, 500, 503) and "set-cookie" in answer.headers) or answer.status == 500
    )
    assert not inside(running, browser)
    running.get(cookies, url)
    codes_once(running)
    assert not inside(running, cookies)
    running.clock.advance(60)
    assert 200 == running.sign_in(Browser(), "docteur-dupont").status


@pytest.mark.parametrize(("failure", "behind"), WAYS)
def test_another_person(running: Running, trap: Trap, failure: str, behind: bool) -> None:
    """SESS-04: the nurse signs in over the doctor's session, and the n-th await breaks: at no instant is anybody let in as the doctor by a
    browser that was told it is the nurse's, nor the other way round."""
    for at in range(1, 30):
        running.clock.advance(31)
        calm(running)
        browser = Browser()
        running.sign_in(browser, "docteur-dupont")
        start = running.get(browser, f"{ORIGIN}/psc/start?to={DOSSIER}/a&switch=1")["Location"]
        browser.psc.clear()
        url = running.simulator.sign_in(start, "infirmiere-leroy", cookies=browser.psc)
        calm(running)
        trap.arm(at, failure, behind)
        answer = asked(running.get, browser, url)
        trap.disarm()
        told = answer is not None and answer.status == 303
        seen = running.get(browser, ORIGIN + "/psc/session", Accept="application/json")
        if told:
            assert "LEROY" in seen.text
            assert 401 == running.check(browser, DOSSIER + "/").status  # the doctor's login is over on every host
        else:
            assert "LEROY" not in seen.text
        codes_once(running)
        if not trap.sprung:
            break
    assert at > 6


# -- a sign-out ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("failure", "behind"), WAYS)
def test_sign_out(running: Running, trap: Trap, failure: str, behind: bool) -> None:
    """The n-th await of a sign-out breaks: what was acknowledged is over on every host, also for who reads the store anew; what was not
    is told as a failure, memory and store soon say the same, and asked again it is done."""
    acknowledged = []
    broken = []
    for at in range(1, 20):
        running.clock.advance(31)
        calm(running)
        browser = Browser()
        running.sign_in(browser, "docteur-dupont")
        running.follow(browser, PRESCRIPTION + "/")
        calm(running)
        page = running.get(browser, ORIGIN + "/psc/sign-out")
        token = page.text.partition('name="token" value="')[2].partition('"')[0]
        held = copy_of(browser)
        standing = live(running)
        trap.arm(at, failure, behind)
        answer = asked(running.request, browser, "POST", ORIGIN + "/psc/sign-out", form=f"token={token}")
        soon(lambda: not signout._TASKS)
        trap.disarm()
        if answer is not None and answer.status == 303:
            acknowledged.append(held)
            assert not inside(running, held)
            assert not inside(running, held, PRESCRIPTION + "/")
            assert standing - 1 == live(running)
        else:
            assert answer is None or answer.status in (500, 503)
            assert answer is None or not answer.headers.get("set-cookie")
            soon(lambda who=held, rows=standing: inside(running, who) is (rows == live(running)))  # type: ignore[misc]
            running.sign_out(held)
            assert not inside(running, held)
            assert not inside(running, browser)
        if not trap.sprung:
            break
        broken.append(trap.sprung)
    assert {"login", "end", "psc answering", "psc revoke"} <= set(broken)
    forget(running)
    assert not any(inside(running, browser) for browser in acknowledged)
    running.restart()
    trap.lay(running)
    assert not any(inside(running, browser) for browser in acknowledged)


@pytest.mark.parametrize(("failure", "behind"), WAYS)
def test_back_channel(running: Running, trap: Trap, failure: str, behind: bool) -> None:
    """BCL-08: PSC's own word that somebody has left, with the n-th await broken: 200 means over, anything else that PSC may try again, and then
    it is over."""
    for at in range(1, 12):
        running.clock.advance(31)
        calm(running)
        browser = Browser()
        running.sign_in(browser, "docteur-dupont")
        calm(running)
        token = logout_token(running)
        trap.arm(at, failure, behind)
        answer = asked(tell_logout, running, token)
        trap.disarm()
        if answer is not None and answer.status == 200:
            assert not inside(running, browser)
        else:
            assert answer is None or answer.status in (500, 503)
            assert tell_logout(running, token).status in (200, 400)  # 400: heard before, and done
            assert not inside(running, browser)
        if not trap.sprung:
            break
    assert at > 2
    forget(running)
    assert not inside(running, browser)


def test_nothing_is_complained_about(running: Running, trap: Trap, caplog: pytest.LogCaptureFixture) -> None:
    """A request that ends early leaves no exception that nobody looked at: neither a task's nor a generator's."""
    caplog.set_level(logging.DEBUG)
    for failure, behind in WAYS:
        browser = Browser()
        begun(running, browser)
        for at in (1, 4, 9):
            running.clock.advance(31)
            calm(running)
            trap.arm(at, failure, behind)
            walk(running, Browser(), running.check(browser, DOSSIER + "/a")["Location"])
            trap.disarm()
    nothing_left(running)
    assert [] == [each.getMessage() for each in caplog.records if each.name == "asyncio"]
