"""SESS-01 to SESS-07: whose session it is, how long, and that an end is one."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from attack_rig import (
    AUTH_HOST,
    DOCTOR,
    DOSSIER_HOST,
    NURSE,
    PRESCRIPTION_HOST,
    PROFESSIONS,
    SUBJECTS,
    WITNESS,
    Place,
)
from cli.commands import run, until
from running import Answer, Browser


def cookie_of(browser: Browser) -> str:
    return browser.cookies(DOSSIER_HOST)


@pytest.fixture
def afterwards(place: Place) -> Iterator[None]:
    """For tests that turn the clock or end everybody: they come in again before the last question is asked."""
    yield
    for person in (WITNESS, NURSE, DOCTOR):
        place.house.enter(person)


def test_SESS_01_a_planted_ticket(place: Place) -> None:
    """The attacker's own ticket, planted in the victim's browser before she signs in, is not her session afterwards, and hers is another."""
    planted = place.ticket(NURSE)
    browser = Browser()
    browser.jar = {host: {"__Host-psc": place.ticket(NURSE, host)} for host in (AUTH_HOST, PRESCRIPTION_HOST)}
    browser.jar[DOSSIER_HOST] = {"__Host-psc": "A" * len(planted)}
    place.request(browser, "GET", place.origin(AUTH_HOST) + "/psc/signed-out")
    browser.jar[AUTH_HOST] = {"__Host-psc": "A" * len(planted)}
    assert SUBJECTS[DOCTOR] == place.sign_in(browser, DOCTOR, place.origin() + "/secret/x")["X-PSC-Subject"]
    assert browser.jar[DOSSIER_HOST]["__Host-psc"] not in (planted, "A" * len(planted))
    for value in ("A" * len(planted), planted):
        assert not place.ask("/secret/x", cookie=f"__Host-psc={value}", proves=NURSE).passed


def test_SESS_02_a_copied_cookie(place: Place) -> None:
    """A ticket is a bearer's: another browser at another address that has it is that person, as documented; nothing about the browser makes it more."""
    for agent in ("curl/8", "Mozilla/5.0 (other)", ""):
        lines = f"User-Agent: {agent}\r\nX-Forwarded-For: 198.51.100.{len(agent)}\r\nAccept-Language: xx\r\n"
        if not place.by_nginx:
            lines = lines.partition("\r\nX-F")[0] + "\r\n"
        outcome = place.ask("/dossier", NURSE, lines=lines)
        assert (True, SUBJECTS[NURSE]) == (outcome.passed, outcome.subject)
        assert not place.ask("/secret/x", NURSE, lines=lines).passed


def test_SESS_03_replayed_after_the_sign_out(place: Place) -> None:
    """On every host, from what was remembered too: after the answer to the sign-out the old cookies are nobody's."""
    browser = Browser()
    place.sign_in(browser, DOCTOR)
    place.follow(browser, place.origin(PRESCRIPTION_HOST) + "/")
    kept = {host: browser.cookies(host) for host in (DOSSIER_HOST, PRESCRIPTION_HOST, AUTH_HOST)}
    for _ in range(4):
        assert place.ask("/secret/x", cookie=kept[DOSSIER_HOST], proves=DOCTOR).passed
    assert 303 == place.sign_out(browser).status
    for host in (DOSSIER_HOST, PRESCRIPTION_HOST):
        assert not place.ask("/x", cookie=kept[host], proves=None, host=host).passed
    thief = Browser(jar={AUTH_HOST: {"__Host-psc": kept[AUTH_HOST].partition("=")[2]}})
    assert "/psc/start" in place.get(thief, place.origin(AUTH_HOST) + "/psc/session")["Location"]


def test_SESS_04_another_person_in_the_same_browser(place: Place) -> None:
    """The nurse signs in over the doctor's session, with checks of the same browser all the while: each answer is the doctor's, the nurse's or nobody's,
    whole; and when it is done the doctor's tickets are nobody's."""
    browser = Browser()
    place.sign_in(browser, DOCTOR)
    place.follow(browser, place.origin(PRESCRIPTION_HOST) + "/")
    old = {host: dict(jar) for host, jar in browser.jar.items()}
    done = threading.Event()
    answers: list[Answer] = []

    def look() -> None:
        while not done.is_set():
            answers.append(place.running.check(browser, place.origin() + "/dossier"))
            answers.append(place.running.check(Browser(jar=old), place.origin() + "/dossier"))

    with ThreadPoolExecutor(4) as pool:
        looks = [pool.submit(look) for _ in range(4)]
        try:
            target = f"{place.origin(AUTH_HOST)}/psc/start?switch=1&to={place.origin()}/dossier"
            told = place.follow(browser, target, NURSE)
            until(lambda: len(answers) >= 100)
        finally:
            done.set()
        for each in looks:
            each.result()
    assert (200, SUBJECTS[NURSE]) == (told.status, told["X-PSC-Subject"])
    whole = {(SUBJECTS[person], PROFESSIONS[person]) for person in (DOCTOR, NURSE)}
    assert len(answers) >= 100
    for answer in answers:
        seen = (answer["X-PSC-Subject"], answer["X-PSC-Profession"])
        assert seen in whole if answer.status == 200 else ("", "") == seen
    for host, jar in old.items():
        if host != AUTH_HOST:
            assert not place.ask("/dossier", cookie=f"__Host-psc={jar['__Host-psc']}", proves=None, host=host).passed
    assert place.ask("/dossier", cookie=cookie_of(browser), proves=NURSE).passed


def later(place: Place, seconds: int) -> None:
    """The clock is turned, and the service has read its store since, as it does several times a second."""
    place.clock.advance(seconds)
    assert until(lambda: place.running.service.sessions._heard == place.clock())


def a_visit(place: Place) -> Browser:
    """The nurse, without a refresh token: hours that pass in a moment leave no time for renewals."""
    browser = Browser()
    with place.simulator.faults.during("code.refresh_token_missing"):
        assert 200 == place.sign_in(browser, NURSE).status
    return browser


@pytest.mark.usefixtures("afterwards")
def test_SESS_05_idle(place: Place) -> None:
    """A second before half an hour without a click she is in; half an hour after that one she is out, and a clock set back brings nobody back."""
    browser = a_visit(place)
    url = place.origin() + "/dossier"
    later(place, 1799)
    assert 200 == place.check(browser, url).status
    later(place, 1800)
    assert place.check(browser, url).status in (302, 401)
    place.clock.advance(-3600)
    assert place.check(browser, url).status in (302, 401)
    place.clock.advance(3600)


@pytest.mark.usefixtures("afterwards")
def test_SESS_05_absolute(place: Place) -> None:
    """Four hours after the authentication she is out, however busy she is."""
    browser = a_visit(place)
    url = place.origin() + "/dossier"
    for seconds in (*[1500] * 9, 899):
        later(place, seconds)
        assert 200 == place.check(browser, url).status
    later(place, 1)
    assert place.check(browser, url).status in (302, 401)


@pytest.mark.usefixtures("afterwards")
def test_SESS_06_an_administrator_ends_everybody(place: Place) -> None:
    """`sessions end --all` on the store, by another process: within a second nobody is in, on any host."""
    browsers = dict(place.house.browsers)
    config = place.running.folder / "config.toml"
    assert 0 == run("sessions", "end", "--config", config, "--all").code

    def out() -> bool:
        return all(place.check(each, place.origin() + "/dossier").status in (302, 401) for each in browsers.values())

    assert until(out, 3)
    for each in browsers.values():
        assert place.check(each, place.origin(PRESCRIPTION_HOST) + "/").status in (302, 401)


def test_SESS_07_a_ticket_elsewhere(place: Place) -> None:
    """The ticket of one host is nothing at another one, and the origin's is nothing at an application."""
    for host, other in (
        (DOSSIER_HOST, PRESCRIPTION_HOST),
        (PRESCRIPTION_HOST, DOSSIER_HOST),
        (AUTH_HOST, DOSSIER_HOST),
    ):
        cookie = f"__Host-psc={place.ticket(DOCTOR, host)}"
        assert not place.ask("/x", cookie=cookie, proves=None, host=other).passed
    thief = Browser(jar={AUTH_HOST: {"__Host-psc": place.ticket(DOCTOR)}})
    assert "/psc/start" in place.get(thief, place.origin(AUTH_HOST) + "/psc/session")["Location"]
