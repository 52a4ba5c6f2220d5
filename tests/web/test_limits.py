"""The limits of a login, by the clock: idle, absolute, step-up, what PSC remembers; and one professional after another."""

from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from running import APPS, DOSSIER, ORIGIN, PRESCRIPTION, Answer, Browser, Running
from web_steps import (
    AUTH_HOST,
    DOSSIER_HOST,
    another,
    asked_anew,
    begun,
    button,
    copy_of,
    french_page,
    heard,
    metric,
    returned,
    soon,
)

from forward_auth.stores import Selection
from forward_auth.stores.factory import open_store

FOUR_HOURS = 4 * 3600
DOCTOR = "899700000001"


def signed_in(running: Running, person: str = "docteur-dupont", url: str = DOSSIER + "/") -> Browser:
    browser = Browser()
    assert 200 == running.sign_in(browser, person, url).status
    return browser


def used(running: Running, browser: Browser, seconds: int, step: int = 1500) -> None:
    """Let time pass while the browser is used, up to exactly `seconds` from now. (For logins without a refresh token: hours that pass in a
    moment leave no time for renewals.)"""
    while seconds > 0:
        running.clock.advance(min(step, seconds))
        seconds -= step
        heard(running)
        assert 200 == running.check(browser, DOSSIER + "/").status


# -- idle and absolute -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("restart", [False, True])
def test_SESS_05_idle(running: Running, restart: bool) -> None:
    """One second before the idle limit it is in, at the limit it is out, in memory as after a restart; activity begins it anew."""
    browser = signed_in(running)
    for _ in range(2):
        running.clock.advance(1799)
        if restart:
            running.restart()
        assert 200 == running.check(browser, DOSSIER + "/").status
    if restart:
        running.restart()
    running.clock.advance(1800)
    assert 401 == running.check(browser, DOSSIER + "/").status
    assert 401 == running.check(browser, PRESCRIPTION + "/").status
    assert running.get(browser, ORIGIN + "/psc/session")["Location"].startswith(ORIGIN + "/psc/start")


@pytest.mark.parametrize("restart", [False, True])
def test_SESS_05_absolute(running: Running, restart: bool) -> None:
    """Four hours after the authentication at PSC it is over, however busy it was, to the second and after a restart too."""
    running.simulator.faults.set("code.refresh_token_missing")
    browser = signed_in(running)
    used(running, browser, FOUR_HOURS - 1)
    if restart:
        running.restart()
        assert 200 == running.check(browser, DOSSIER + "/").status
    running.clock.advance(1)
    assert 401 == running.check(browser, DOSSIER + "/").status


def test_absolute_counts_from_the_authentication(running: Running) -> None:
    """A login begun by single sign-on two hours after the authentication lasts two hours more, not four."""
    running.simulator.faults.set("code.refresh_token_missing")
    first = signed_in(running)
    for _ in range(5):
        running.clock.advance(1440)
        running.simulator.sign_in(begun(running, Browser()), "", cookies=first.psc)  # in use at PSC
    second = Browser(psc=dict(first.psc))
    assert 200 == running.follow(second, DOSSIER + "/").status
    used(running, second, 2 * 3600 - 1)
    running.clock.advance(1)
    assert 401 == running.check(second, DOSSIER + "/").status


def test_activity_outlives_a_deaf_memory(running: Running) -> None:
    """The clock jumps (a machine that slept): memory is read anew, and the activity just before is not forgotten with it."""
    browser = signed_in(running)
    running.clock.advance(1000)
    assert 200 == running.check(browser, DOSSIER + "/").status
    heard(running)
    running.clock.advance(1799)
    running.restart()
    assert 200 == running.check(browser, DOSSIER + "/").status


def test_idle_of_an_app(tmp_path: Path) -> None:
    """`apps.*.idle`: the app asks for a sign-in sooner; elsewhere the login lives on."""
    apps = APPS.replace('title = "Dossier patient"', 'title = "Dossier patient"\nidle = "5m"')
    with another(tmp_path, apps=apps) as running:
        browser = signed_in(running)
        running.follow(browser, PRESCRIPTION + "/")
        running.clock.advance(299)
        assert 200 == running.check(browser, DOSSIER + "/").status
        running.clock.advance(301)
        asked = running.check(browser, DOSSIER + "/")
        assert (401, True) == (asked.status, "max_age=300" in asked["Location"])
        assert 200 == running.check(browser, PRESCRIPTION + "/").status


def test_background_is_no_activity(tmp_path: Path) -> None:
    """`background_paths` are checked, and keep nobody signed in."""
    apps = APPS.replace(
        'title = "Dossier patient"', 'title = "Dossier patient"\nbackground_paths = ["/poll", "/events/*"]'
    )
    with another(tmp_path, apps=apps) as running:
        browser = signed_in(running)
        for path in ("/poll", "/events/1", "/poll"):
            running.clock.advance(590)
            assert 200 == running.check(browser, DOSSIER + path).status
        running.clock.advance(30)
        assert 401 == running.check(browser, DOSSIER + "/poll").status


def test_ends_are_in_the_trail(running: Running) -> None:
    """A login that lapsed is in the trail once, with its cause and its professional, although nobody came back."""
    signed_in(running)
    running.clock.advance(1801)
    running.call(running.service.sessions._lapse())
    running.call(running.service.sessions._lapse())
    assert [("idle", DOCTOR)] == [
        (line["cause"], line["subject"]) for line in running.audit() if line["event"] == "ended"
    ]
    assert 1 == metric(running, "sign_outs_total", cause="idle")


def test_configured_limits(tmp_path: Path) -> None:
    """`session.idle` and `session.absolute` are what counts; a shorter one after a reload counts for those who are in."""
    with another(tmp_path, more='session: idle = "10m"\nsession: absolute = "1h"') as running:
        running.simulator.faults.set("code.refresh_token_missing")
        browser = signed_in(running)
        running.clock.advance(599)
        assert 200 == running.check(browser, DOSSIER + "/").status
        used(running, browser, 3600 - 599 - 1, 500)
        running.clock.advance(1)
        assert 401 == running.check(browser, DOSSIER + "/").status


# -- what PSC remembers ----------------------------------------------------------------------------------------------------------


def old_at_psc(running: Running, minutes_left: int) -> Browser:
    """A browser without any cookie of ours whose session at PSC was authenticated four hours ago but for so many minutes."""
    browser = signed_in(running)
    remaining = FOUR_HOURS - minutes_left * 60
    while remaining > 0:
        running.clock.advance(min(1500, remaining))
        remaining -= 1500
        running.simulator.sign_in(begun(running, Browser()), "", cookies=browser.psc)
    browser.jar.clear()
    return browser


def test_decision_10_enough_is_left(running: Running) -> None:
    """With six minutes left the login begins, and ends with the six minutes."""
    browser = old_at_psc(running, 6)
    answer = running.follow(browser, DOSSIER + "/")
    assert 200 == answer.status
    running.clock.advance(359)
    assert 200 == running.check(browser, DOSSIER + "/").status
    running.clock.advance(1)
    assert 401 == running.check(browser, DOSSIER + "/").status


def test_decision_10_asked_again_once(running: Running) -> None:
    """With four left PSC is asked again, once, for a new authentication, and then for the same address."""
    browser = old_at_psc(running, 4)
    asked = running.get(browser, returned(running, browser, "", DOSSIER + "/deep?a=b"))
    assert 303 == asked.status
    assert asked_anew(asked["Location"])
    assert 1 == len([name for name in browser.jar[AUTH_HOST] if "-login-" in name])
    answer = running.follow(browser, asked["Location"], "docteur-dupont")
    assert (200, DOSSIER + "/deep?a=b") == (answer.status, answer.url)


def test_decision_10_still_old(running: Running) -> None:
    """PSC gives the old authentication again: a page, no session, no third question."""
    browser = Browser()
    with running.simulator.faults.during("id_token.auth_time_old", FOUR_HOURS - 200):
        asked = running.get(browser, returned(running, browser))
        assert asked_anew(asked["Location"])
        page = running.get(browser, running.simulator.sign_in(asked["Location"], "docteur-dupont", cookies=browser.psc))
    french_page(page, 403, "identification plus sûre")
    assert {} == browser.jar[AUTH_HOST]
    assert 401 == running.check(browser, DOSSIER + "/").status
    assert ["level"] == [line["outcome"] for line in running.audit() if line["event"] == "sign_in"]


def test_without_auth_time(running: Running) -> None:
    """PSC says nothing of when: the ID token's own time counts."""
    running.simulator.faults.set("code.refresh_token_missing")
    browser = Browser()
    with running.simulator.faults.during("id_token.auth_time_missing"):
        assert 200 == running.sign_in(browser, "docteur-dupont").status
    used(running, browser, FOUR_HOURS - 1)
    running.clock.advance(1)
    assert 401 == running.check(browser, DOSSIER + "/").status


# -- step-up ---------------------------------------------------------------------------------------------------------------------


def post(running: Running, browser: Browser) -> Answer:
    return running.check(browser, PRESCRIPTION + "/save", method="POST", headers={"Referer": PRESCRIPTION + "/form"})


def test_step_up_by_age(running: Running) -> None:
    """Writing after 15 minutes asks PSC with max_age; fresh again, it passes, and reading went on all the while."""
    browser = signed_in(running, url=PRESCRIPTION + "/")
    running.clock.advance(899)
    assert 200 == post(running, browser).status
    running.clock.advance(61 + 60)
    asked = post(running, browser)
    assert 401 == asked.status
    assert 200 == running.check(browser, PRESCRIPTION + "/").status
    at_psc = running.get(browser, button(running.get(browser, asked["Location"])))["Location"]
    assert ["900"] == parse_qs(urlsplit(at_psc).query)["max_age"]
    assert 200 == running.follow(browser, at_psc, "docteur-dupont").status
    assert 200 == post(running, browser).status
    running.restart()
    assert 200 == post(running, browser).status


def test_step_up_that_psc_ignores(running: Running) -> None:
    """PSC answers with the old authentication although max_age asked for more: 403, a page, no second try; reading goes on."""
    browser = signed_in(running, url=PRESCRIPTION + "/")
    running.clock.advance(1000)
    asked = running.get(browser, post(running, browser)["Location"])
    with running.simulator.faults.during("id_token.auth_time_old", 3000):
        page = running.follow(browser, button(asked), "docteur-dupont")
    french_page(page, 403, "identification plus sûre")
    assert 200 == running.check(browser, PRESCRIPTION + "/").status
    assert 401 == post(running, browser).status


LEVEL_APPS = APPS.replace(
    '[[apps.prescription.rules]]\npaths = ["/public/*"]',
    '[[apps.prescription.rules]]\npaths = ["/strong/*"]\nrequire = { acr = ["eidas2"] }\n\n[[apps.prescription.rules]]\npaths = ["/public/*"]',
)


def test_step_up_by_level(tmp_path: Path) -> None:
    """A rule asks for a higher level: PSC is asked for exactly that one; given, it enters; not given, 403 and no loop."""
    with another(tmp_path, apps=LEVEL_APPS, more='psc: acr_values = ["eidas1", "eidas2"]') as running:
        browser = signed_in(running, url=PRESCRIPTION + "/")
        asked = running.check(browser, PRESCRIPTION + "/strong/x")
        assert 401 == asked.status
        assert "acr=eidas2" in asked["Location"]
        at_psc = running.get(browser, asked["Location"])["Location"]
        assert ["eidas2"] == parse_qs(urlsplit(at_psc).query)["acr_values"]
        page = running.follow(browser, at_psc, "docteur-dupont", acr="eidas1")
        french_page(page, 403, "identification plus sûre")
        assert 200 == running.check(browser, PRESCRIPTION + "/").status
        answer = running.follow(browser, asked["Location"], "docteur-dupont", acr="eidas2")
        assert (200, PRESCRIPTION + "/strong/x") == (answer.status, answer.url)


# -- one professional after another ----------------------------------------------------------------------------------------------


def test_decision_15_another_person(running: Running) -> None:
    """The next professional signs in over a live session: the first one's login is over on every host before, with its cause in the trail."""
    browser = signed_in(running)
    running.follow(browser, PRESCRIPTION + "/")
    first = copy_of(browser)
    browser.psc.clear()
    answer = running.follow(
        browser, f"{ORIGIN}/psc/start?to={quote(DOSSIER + '/', safe='')}&switch=1", "infirmiere-leroy"
    )
    assert 200 == answer.status
    assert DOCTOR != answer["X-PSC-Subject"]
    for url in (DOSSIER + "/", PRESCRIPTION + "/"):
        assert 401 == running.check(first, url).status
    assert ["another_person"] == [line["cause"] for line in running.audit() if line["event"] == "ended"]
    assert 1 == metric(running, "sign_outs_total", cause="another_person")
    assert "why=ended" not in running.check(browser, PRESCRIPTION + "/")["Location"]
    assert 403 == running.follow(browser, PRESCRIPTION + "/").status  # and is judged as herself


def test_decision_15_another_person_at_the_app_alone(running: Running) -> None:
    """The origin's ticket is gone but the app's lives: the hand-off of another professional ends that login, on every host."""
    browser = signed_in(running)
    running.follow(browser, PRESCRIPTION + "/")
    first = copy_of(browser)
    del browser.jar[AUTH_HOST]
    browser.psc.clear()
    answer = running.follow(browser, f"{ORIGIN}/psc/start?to={quote(DOSSIER + '/', safe='')}", "infirmiere-leroy")
    assert 200 == answer.status
    assert DOCTOR != answer["X-PSC-Subject"]
    for url in (DOSSIER + "/", PRESCRIPTION + "/"):
        assert 401 == running.check(first, url).status
    assert [("another_person", DOCTOR)] == [
        (line["cause"], line["subject"]) for line in running.audit() if line["event"] == "ended"
    ]


def test_decision_15_the_same_person(running: Running) -> None:
    """The same professional signs in again: one login, replaced in place; tickets on other hosts stay, the origin's is new."""
    browser = signed_in(running)
    running.follow(browser, PRESCRIPTION + "/")
    before = copy_of(browser)
    running.clock.advance(60)
    answer = running.follow(
        browser, f"{ORIGIN}/psc/start?to={quote(DOSSIER + '/', safe='')}&switch=1", "docteur-dupont"
    )
    assert 200 == answer.status
    assert before.jar[AUTH_HOST]["__Host-psc"] != browser.jar[AUTH_HOST]["__Host-psc"]
    assert before.jar[DOSSIER_HOST]["__Host-psc"] != browser.jar[DOSSIER_HOST]["__Host-psc"]
    assert 200 == running.check(before, PRESCRIPTION + "/").status
    assert running.get(before, ORIGIN + "/psc/session")["Location"].startswith(ORIGIN + "/psc/start")
    assert [] == [line for line in running.audit() if line["event"] in ("ended", "sign_out")]
    assert 1 == len(running.call(running.service.sessions.store.logins(int(running.clock()))))
    running.restart()
    assert 200 == running.check(before, PRESCRIPTION + "/").status


def test_decision_15_the_newer_authentication_counts(running: Running) -> None:
    """Replaced in place, the login has the new authentication's four hours."""
    running.simulator.faults.set("code.refresh_token_missing")
    browser = signed_in(running)
    used(running, browser, FOUR_HOURS - 600)
    running.follow(browser, f"{ORIGIN}/psc/start?to={quote(DOSSIER + '/', safe='')}&switch=1", "docteur-dupont")
    used(running, browser, 1500)


def test_two_browsers_of_one_person(running: Running) -> None:
    """Two workstations are two logins; leaving one leaves the other."""
    one, two = signed_in(running), signed_in(running)
    running.sign_out(one)
    assert 401 == running.check(one, DOSSIER + "/").status
    assert 200 == running.check(two, DOSSIER + "/").status


def test_SESS_06_ended_by_an_administrator(running: Running) -> None:
    """`sessions end` by another process is in force within a second."""
    browser = signed_in(running)
    settings = running.load()
    store = open_store(settings.session.store)

    async def end() -> None:
        await store.open()
        await store.end(Selection(everyone=True), int(running.clock()), int(running.clock()) + FOUR_HOURS)
        await store.close()

    running.call(end())
    soon(lambda: running.check(browser, DOSSIER + "/").status == 401, 1.5)
