"""PSC says that somebody has left there: which logout tokens are believed, and that an end which was acknowledged is one."""

import socket
import sqlite3
import threading
from contextlib import closing

import pytest
from running import DOSSIER, ORIGIN, PRESCRIPTION, Answer, Browser, Running, exchange
from web_steps import (
    french_page,
    logout_token,
    metric,
    problem_of,
    returned,
    sid_of,
    signed_in,
    soon,
    still_in,
    tell_logout,
)

from forward_auth.psc.tokens import LOGOUT_WINDOW, SKEW
from forward_auth.simulator import FAULTS

ADDRESS = ORIGIN + "/psc/backchannel-logout"


def refused(answer: Answer, status: int = 400) -> None:
    assert status == problem_of(answer)["status"]
    assert "no-store" == answer["Cache-Control"]


# A logout token has no authentication of its own, needs no exp, may be for a sid alone, and its other claims are nobody's business here.
NOT_OF_LOGOUT = (
    "nonce_missing", "nonce_unsupported", "sub_missing", "sub_other", "subject_other", "exp_missing", "acr_", "auth_time_", "at_hash_", "jti_replayed",
    "events_present",
)  # fmt: skip
BAD_TOKENS = [
    name
    for name, fault in FAULTS.items()
    if name.startswith("logout_token.")
    and fault.expect == "refuse"
    and not name.partition(".")[2].startswith(NOT_OF_LOGOUT)
]


@pytest.fixture(scope="module")
def inside(shared: Running) -> Browser:
    return signed_in(shared)


@pytest.mark.parametrize("fault", BAD_TOKENS)
def test_BCL_02_03_04_05_06_faults(shared: Running, inside: Browser, fault: str) -> None:
    """Every way in which a logout token can be wrong, by the simulator's names: 400, nobody is signed out."""
    with shared.simulator.faults.during(fault):
        token = logout_token(shared)
    answer = tell_logout(shared, token, address=f"2001:db8::{BAD_TOKENS.index(fault):x}")
    refused(answer, 413 if len(token) > 16 * 1024 else 400)
    assert still_in(shared, inside)


@pytest.mark.parametrize(
    "changes",
    [
        {"sub": None, "sid": None},
        {"sid": 7},
        {"sid": ""},
        {"sub": ["a"], "sid": None},
        {"jti": None},
        {"jti": ""},
        {"jti": 7},
        {"iat": None},
        {"events": None},
        {"events": "http://schemas.openid.net/event/backchannel-logout"},
        {"events": {"http://schemas.openid.net/event/backchannel-logout": {"a": 1}}},
        {"events": {"http://schemas.openid.net/event/backchannel-logout": []}},
        {"nonce": None, "typ": "ID"},
    ],
)
def test_BCL_02_04_06_by_hand(shared: Running, inside: Browser, changes: dict[str, object]) -> None:
    """Neither sub nor sid, a sid that is no text, no jti, no iat, events of another shape."""
    if set(changes) == {"nonce", "typ"}:
        changes = {"typ": "ID"}
    refused(
        tell_logout(shared, logout_token(shared, **changes), address=f"2001:db8:1::{abs(hash(str(changes))) % 65535:x}")
    )
    assert still_in(shared, inside)


def test_BCL_01_other_tokens(running: Running) -> None:
    """The login's own ID token, an access token, a refresh token and rubbish are no logout tokens."""
    browser = signed_in(running)
    simulator = running.simulator
    session = simulator.realm.sessions[sid_of(running)]
    tokens = [
        simulator.sign("id_token", simulator.id_claims("hopital", session=session)),
        simulator.sign("access_token", simulator.logout_claims("hopital", session)),
        next(iter(simulator.realm.access)),
        next(iter(simulator.realm.refresh)),
        "",
        "a.b.c",
    ]
    for token in tokens:
        refused(tell_logout(running, token))
    assert still_in(running, browser)


def test_BCL_06_replay(running: Running) -> None:
    """A logout token is good once: the second time is 400, also after a restart; and a later sign-in is not ended by it."""
    signed_in(running)
    token = logout_token(running)
    answer = tell_logout(running, token)
    assert (200, "no-store") == (answer.status, answer["Cache-Control"])
    refused(tell_logout(running, token))
    running.restart()
    later = signed_in(running)
    refused(tell_logout(running, token))
    assert still_in(running, later)


@pytest.mark.parametrize("seconds", [-3600, -LOGOUT_WINDOW - SKEW - 1, SKEW + 1, 3600])
def test_BCL_06_time(running: Running, seconds: int) -> None:
    """Issued too long ago, or in the future beyond what clocks differ by."""
    browser = signed_in(running)
    now = running.simulator.now()
    refused(tell_logout(running, logout_token(running, iat=now + seconds, exp=now + 4000)))
    refused(tell_logout(running, logout_token(running, exp=now - 60)))
    assert still_in(running, browser)


def test_BCL_06_exp_is_not_required(running: Running) -> None:
    """A token of an older PSC without exp is believed by its iat."""
    browser = signed_in(running)
    assert 200 == tell_logout(running, logout_token(running, exp=None)).status
    assert not still_in(running, browser)


def test_BCL_07_unknown(running: Running) -> None:
    """A sid or sub that nobody here has: 200, no-store, nobody is signed out."""
    browser = signed_in(running)
    for changes in ({"sid": "00000000-0000-4000-8000-00000000dead"}, {"sid": None, "sub": "nobody"}):
        answer = tell_logout(running, logout_token(running, **changes))
        assert (200, "no-store", b"") == (answer.status, answer["Cache-Control"], answer.body)
    assert still_in(running, browser)


def test_sid_ends_one_session(running: Running) -> None:
    """A sid ends that login on every host, whoever else is signed in; the trail and the metric name the cause."""
    other, browser = signed_in(running), signed_in(running)
    running.follow(browser, PRESCRIPTION + "/")
    assert 200 == tell_logout(running, logout_token(running)).status
    assert not still_in(running, browser)
    assert 401 == running.check(browser, PRESCRIPTION + "/").status
    assert running.get(browser, ORIGIN + "/psc/session")["Location"].startswith(ORIGIN + "/psc/start")
    assert still_in(running, other)
    assert ["back_channel"] == [line["cause"] for line in running.audit() if line["event"] == "ended"]
    assert 1 == metric(running, "sign_outs_total", cause="back_channel")
    running.restart()
    assert not still_in(running, browser)
    assert still_in(running, other)


def test_sub_ends_all_sessions_of_a_person(running: Running) -> None:
    """A sub alone ends every login of that person that was authenticated by then, nobody else's; a later authentication enters."""
    one, two, nurse = signed_in(running), signed_in(running), signed_in(running, "infirmiere-leroy")
    person = running.simulator.people["docteur-dupont"]["userinfo"]["sub"]
    running.clock.advance(5)
    assert 200 == tell_logout(running, logout_token(running, sid=None, sub=person)).status
    assert [False, False, True] == [still_in(running, browser) for browser in (one, two, nurse)]
    running.clock.advance(1)
    assert still_in(running, signed_in(running))


def test_the_ended_session_never_enters_again(running: Running) -> None:
    """Decision 26: with that sid nobody signs in again, be it by single sign-on; a new authentication does."""
    browser = signed_in(running)
    assert 200 == tell_logout(running, logout_token(running)).status  # at PSC itself the session lives on
    answer = running.follow(browser, running.check(browser, DOSSIER + "/")["Location"].replace("&why=ended", ""))
    french_page(answer, 400)
    assert not still_in(running, browser)
    browser.psc.clear()
    running.clock.advance(1)
    assert still_in(running, signed_in(running))


def test_BCL_08_before_the_callback(running: Running) -> None:
    """The logout arrives while the sign-in is under way: the logout wins, with a page."""
    browser = Browser()
    url = returned(running, browser)
    assert 200 == tell_logout(running, logout_token(running)).status
    french_page(running.get(browser, url), 400)
    assert not still_in(running, browser)
    other = Browser()
    with running.simulator.faults.during("code.logout_first"):
        url = returned(running, other)
        token = logout_token(running)
        assert 200 == tell_logout(running, token).status
        assert running.get(other, url).status in (400, 403)
    assert not still_in(running, other)


def test_BCL_08_twice_at_once(running: Running) -> None:
    """The same token on two connections at once: one 200, one 400, and the session is over."""
    browser = signed_in(running)
    token = logout_token(running)
    statuses: list[int] = []
    threads = [threading.Thread(target=lambda: statuses.append(tell_logout(running, token).status)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [200, 400] == sorted(statuses)
    assert not still_in(running, browser)


def test_BCL_08_store_fails_in_between(running: Running) -> None:
    """The store cannot keep the end: 503, so that PSC tries again, and the same token then succeeds."""
    browser = signed_in(running)
    token = logout_token(running)
    with closing(sqlite3.connect(running.folder / "logins.db")) as store:
        store.execute("alter table login rename to aside")
        store.commit()
        answer = tell_logout(running, token)
        store.execute("alter table aside rename to login")
        store.commit()
    refused(answer, 503)
    assert answer["Retry-After"]
    assert 200 == tell_logout(running, token).status
    assert not still_in(running, browser)


def test_BCL_09_method_type_and_size(running: Running) -> None:
    """GET, another method, JSON, no form, two tokens, none, a body beyond 16 KiB: refused, with a good token in it too."""
    browser = signed_in(running)
    token = logout_token(running)
    machine = {"Accept": "*/*", "Sec-Fetch-Mode": "cors"}
    assert 405 == running.request(Browser(), "GET", f"{ADDRESS}?logout_token={token}", headers=machine).status
    assert 405 == running.request(Browser(), "PUT", ADDRESS, form=f"logout_token={token}", headers=machine).status
    for kind in ("application/json", "text/plain", "multipart/form-data; boundary=x"):
        refused(
            running.request(Browser(), "POST", ADDRESS, form=f"logout_token={token}", headers={"Content-Type": kind})
        )
    for body in (f"logout_token={token}&logout_token={token}", "", "token=" + token, "logout_token"):
        refused(running.request(Browser(), "POST", ADDRESS, form=body))
    refused(running.request(Browser(), "POST", ADDRESS, form=f"logout_token={token}&padding=" + "x" * 17_000), 413)
    refused(running.request(Browser(), "POST", ADDRESS, form="x" * 1024 * 1024), 413)
    refused(running.request(Browser(), "POST", f"{ADDRESS}?logout_token={token}", form="a=b"))
    assert still_in(running, browser)
    assert 200 == tell_logout(running, token).status


def test_token_in_two_pieces(running: Running) -> None:
    """The body arrives in pieces, or chunked: it is read to its end."""
    for chunked in (False, True):
        browser = signed_in(running)
        body = f"logout_token={logout_token(running)}".encode()
        half = len(body) // 2
        head = "POST /psc/backchannel-logout HTTP/1.1\r\nHost: auth.hopital.example\r\nContent-Type: application/x-www-form-urlencoded\r\nConnection: close\r\n"
        pieces = [body[:half], body[half:]]
        if chunked:
            head += "Transfer-Encoding: chunked\r\n\r\n"
            pieces = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]
            pieces[-1] += b"0\r\n\r\n"
        else:
            head += f"Content-Length: {len(body)}\r\n\r\n"
        with socket.create_connection(tuple(running.outer), timeout=5) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.sendall(head.encode() + pieces[0])
            assert still_in(running, browser)  # a round trip: the first piece has been seen by now
            sock.sendall(pieces[1])
            assert b"HTTP/1.1 200 " == sock.recv(4096)[:13]
        assert not still_in(running, browser)


def test_any_host_will_do(running: Running) -> None:
    """Its only credential is its token: it is heard on an app's host, on 127.0.0.1, and where no proxy tells a host."""
    for host in ({"X-Forwarded-Host": "dossier.hopital.example"}, {"X-Forwarded-Host": "127.0.0.1:9401"}, {}):
        browser = signed_in(running)
        headers = {"Host": "127.0.0.1", "Content-Type": "application/x-www-form-urlencoded", **host}
        body = f"logout_token={logout_token(running)}"
        assert 200 == exchange(running.outer, "POST", "/psc/backchannel-logout", headers, body).status
        assert not still_in(running, browser)


def test_psc_ends_a_session_itself(running: Running) -> None:
    """The simulator's own end of a session, as PSC would send it, with what it needs to be heard at all."""
    browser = signed_in(running)
    simulator = running.simulator
    assert simulator.call(simulator.end_session(sid_of(running)))
    assert 200 == tell_logout(running, simulator.notices[-1].token).status
    assert not still_in(running, browser)


def test_BCL_09_bad_tokens_by_address(running: Running) -> None:
    """The hundred and first bad token of one address in a minute is 429; another address, and the next minute, are heard."""
    browser = signed_in(running)
    for _ in range(100):
        assert 400 == tell_logout(running, "a.b.c").status
    answer = tell_logout(running, logout_token(running))
    refused(answer, 429)
    assert answer["Retry-After"]
    assert still_in(running, browser)
    assert 400 == tell_logout(running, "a.b.c", address="203.0.113.6").status
    running.clock.advance(60)
    assert 200 == tell_logout(running, logout_token(running)).status
    assert not still_in(running, browser)


def test_few_bad_tokens_for_long(running: Running) -> None:
    """Sixty bad tokens a minute, for three minutes, are below the limit: they do not add up."""
    for _ in range(3):
        for _ in range(60):
            assert 400 == tell_logout(running, "a.b.c").status
        running.clock.advance(60)


def test_keys_are_fetched_again_for_a_new_key(running: Running) -> None:
    """PSC has changed its key since: the logout token under the new one is believed."""
    browser = signed_in(running)
    running.clock.advance(700)
    running.simulator.rotate_keys()
    token = logout_token(running)
    soon(lambda: tell_logout(running, token).status == 200)
    assert not still_in(running, browser)
