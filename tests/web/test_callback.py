"""The end of a sign-in: what a callback must not do, by the id of each attack; and the faults of PSC, each ending in a page and no session."""

import time

import pytest
from running import DOSSIER, ORIGIN, PRESCRIPTION, Answer, Browser, Running

from forward_auth.simulator import FAULTS

CALLBACK = ORIGIN + "/psc/callback"


def begun(running: Running, browser: Browser, url: str = DOSSIER + "/a?b=1") -> str:
    """A sign-in under way: -> the address of PSC."""
    return running.get(browser, running.check(browser, url)["Location"])["Location"]


def returned(running: Running, browser: Browser, person: str = "docteur-dupont") -> str:
    """PSC's answer to a new sign-in of this browser: the address of the callback, not yet called."""
    return running.simulator.sign_in(begun(running, browser), person, cookies=browser.psc)


def redeemed(running: Running) -> int:
    return running.simulator.counts["code"]


def page_without_session(running: Running, browser: Browser, answer: Answer, *statuses: int) -> None:
    assert answer.status in statuses
    assert '<html lang="fr"' in answer.text
    assert not answer["Location"]
    assert "__Host-psc" not in browser.jar.get("auth.hopital.example", {})
    assert 401 == running.check(browser, DOSSIER + "/a").status


@pytest.mark.parametrize(
    "query", ["", "?code=c", "?state=s", "?code=c&state=s", "?code=&state=", "?state=" + "a" * 8000]
)
def test_CB_01_03_no_sign_in_under_way(running: Running, query: str) -> None:
    """A callback that was not begun in this browser: a page, no session, no request to PSC."""
    browser = Browser()
    page_without_session(running, browser, running.get(browser, CALLBACK + query), 400)
    assert 0 == redeemed(running)


def test_CB_02_login_csrf(running: Running) -> None:
    """The attacker's own valid code and state in a victim's browser, with and without a sign-in under way there: nothing happens."""
    attacker, victim, other = Browser(), Browser(), Browser()
    url = returned(running, attacker)
    begun(running, other)
    for browser in (victim, other):
        page_without_session(running, browser, running.get(browser, url), 400)
    assert 0 == redeemed(running)


def test_CB_03_state_altered(running: Running) -> None:
    """One letter of the state changed, anywhere: not ours."""
    browser = Browser()
    url = returned(running, browser)
    start = url.index("state=") + 6
    for at in range(start, start + 60, 7):
        changed = url[:at] + ("A" if url[at] != "A" else "B") + url[at + 1 :]
        assert 400 == running.get(browser, changed).status
    assert 0 == redeemed(running)


def test_CB_04_replay(running: Running) -> None:
    """A callback that has done its work, again: in the same browser, with the cookies of before, and after a restart. The code is sent once."""
    browser = Browser()
    url = returned(running, browser)
    before = {host: dict(jar) for host, jar in browser.jar.items()}
    assert 303 == running.get(browser, url).status
    again = running.get(browser, url)
    assert (303, DOSSIER + "/") == (again.status, again["Location"])
    thief = Browser(jar=before)
    assert 400 == running.get(thief, url).status
    running.restart()
    assert 400 == running.get(Browser(jar={host: dict(jar) for host, jar in before.items()}), url).status
    assert 1 == redeemed(running)


def test_CB_05_cancelled(running: Running) -> None:
    """The person cancels at PSC: a page that says so, and the button begins again."""
    browser = Browser()
    url = begun(running, browser)
    state = url.partition("state=")[2].partition("&")[0]
    answer = running.get(
        browser,
        f"{CALLBACK}?error=access_denied&error_description=%3Cscript%3E&state={state}&iss={running.simulator.issuer}",
    )
    page_without_session(running, browser, answer, 403)
    assert "<script" not in answer.text
    assert "/psc/start?to=" in answer.text


@pytest.mark.parametrize("name", ["code", "state", "iss"])
def test_CB_08_doubled(running: Running, name: str) -> None:
    """A parameter that stands twice is no answer."""
    browser = Browser()
    url = returned(running, browser)
    value = url.partition(name + "=")[2].partition("&")[0]
    page_without_session(running, browser, running.get(browser, f"{url}&{name}={value}"), 400)
    assert 0 == redeemed(running)


def test_CB_12_twenty_tabs(running: Running) -> None:
    """Twenty sign-ins begun in one browser: at most five cookies and 6 KiB are kept; the newest five arrive, the others land on the app."""
    browser = Browser()
    urls = [begun(running, browser, f"{DOSSIER}/{number}") for number in range(20)]
    kept = {name: value for name, value in browser.jar["auth.hopital.example"].items() if "-login-" in name}
    assert 5 == len(kept)
    assert sum(len(name) + len(value) for name, value in kept.items()) <= 6 * 1024
    callbacks = [
        running.simulator.sign_in(url, "docteur-dupont" if not number else "", cookies=browser.psc)
        for number, url in enumerate(reversed(urls))
    ]
    answers = [running.get(browser, url) for url in callbacks]
    assert [303] * 20 == [answer.status for answer in answers]
    assert 5 == redeemed(running)


def test_CB_13_restart_in_between(running: Running) -> None:
    """The service is restarted between start and callback: the sign-in ends well."""
    browser = Browser()
    url = returned(running, browser)
    running.restart()
    answer = running.follow(browser, url)
    assert (200, DOSSIER + "/a?b=1") == (answer.status, answer.url)


def test_CB_14_after_lunch(running: Running) -> None:
    """A callback an hour later: a page whose button begins again at the app and works."""
    browser = Browser()
    url = returned(running, browser)
    running.clock.advance(3600)
    answer = running.get(browser, url)
    assert 400 == answer.status
    button = answer.text.partition('href="')[2] and answer.text[answer.text.index(ORIGIN + "/psc/start") :].partition(
        '"'
    )[0].replace("&amp;", "&")
    assert 200 == running.follow(browser, button, "docteur-dupont").status


def test_CB_15_cookies_refused(running: Running) -> None:
    """A browser that keeps no cookie: the button of the page leads, at the third time, to a page that names the likely cause. No loop."""
    browser = Browser(refuses_cookies=True)
    url = running.check(browser, DOSSIER + "/")["Location"]
    for _ in range(3):
        page = running.follow(browser, url, "docteur-dupont")
        assert 400 == page.status
        url = page.text[page.text.index(ORIGIN + "/psc/start") :].partition('"')[0].replace("&amp;", "&")
    last = running.get(browser, url)
    assert 400 == last.status
    assert "cookies" in last.text
    assert 0 == redeemed(running)


@pytest.mark.parametrize(
    "headers", [{"Sec-Purpose": "prefetch"}, {"Purpose": "prefetch"}, {"Sec-Purpose": "prefetch;prerender"}]
)
def test_CB_16_prefetch(running: Running, headers: dict[str, str]) -> None:
    """A browser that only thinks ahead, and HEAD, consume nothing."""
    browser = Browser()
    url = returned(running, browser)
    assert 403 == running.request(browser, "GET", url, headers=headers).status
    assert 405 == running.request(browser, "HEAD", url).status
    assert 0 == redeemed(running)
    assert 200 == running.follow(browser, url).status


def test_MIX_02_iss(running: Running) -> None:
    """The issuer in the answer is wrong, or missing though PSC announces it: no other endpoint is called."""
    for change in ("iss=https%3A%2F%2Fevil.example", ""):
        browser = Browser()
        url = returned(running, browser)
        before, _, rest = url.partition("iss=")
        changed = before + change + ("&" + rest.partition("&")[2] if "&" in rest else "")
        page_without_session(running, browser, running.get(browser, changed.rstrip("&?")), 400)
    assert 0 == redeemed(running)


OF_LOGOUT_TOKENS = (
    "id_token.jti_replayed",
    "id_token.events_missing",
)  # an ID token need not have what these take away
REFUSED = [
    name
    for name, fault in FAULTS.items()
    if fault.expect == "refuse" and name.partition(".")[0] in ("id_token", "userinfo", "code")
]
SLOW = ("hang", "slow", "drip", "stall", "endless")


@pytest.mark.parametrize(
    "fault", [name for name in REFUSED if name not in OF_LOGOUT_TOKENS and not any(word in name for word in SLOW)]
)
def test_every_fault_of_psc(running: Running, fault: str) -> None:
    """OpenID's client tests and IDP-*, by the simulator's names: a page with a reference, no session, the sign-in's cookie gone."""
    browser = Browser()
    url = returned(running, browser)
    running.simulator.faults.set(fault)
    answer = running.get(browser, url)
    running.simulator.faults.clear()
    page_without_session(running, browser, answer, 400, 403, 503)
    assert "Référence" in answer.text
    assert not [name for name in browser.jar["auth.hopital.example"] if "-login-" in name]


def test_another_person_in_the_same_browser(running: Running) -> None:
    """Decision 15: the next professional signs in on the same workstation; the first one's login is over everywhere before."""
    browser = Browser()
    running.sign_in(browser, "docteur-dupont")
    running.follow(browser, PRESCRIPTION + "/")
    first = dict(browser.jar["prescription.autre.example"])
    browser.psc.clear()
    running.follow(browser, f"{ORIGIN}/psc/start?to={DOSSIER}/&switch=1", "infirmiere-leroy")
    assert "899700000001" != running.check(browser, DOSSIER + "/")["X-PSC-Subject"]
    assert 401 == running.check(Browser(jar={"prescription.autre.example": first}), PRESCRIPTION + "/").status


def test_step_up(running: Running) -> None:
    """Decision 13: writing needs a fresh authentication: the check asks, PSC is asked again, and then it passes."""
    browser = Browser()
    running.sign_in(browser, "docteur-dupont", PRESCRIPTION + "/")
    assert 200 == running.check(browser, PRESCRIPTION + "/", method="POST").status
    running.clock.advance(16 * 60)
    asked = running.check(browser, PRESCRIPTION + "/", method="POST", headers={"Referer": PRESCRIPTION + "/x"})
    assert 401 == asked.status
    assert "max_age=900" in asked["Location"]
    assert "lost=1" in asked["Location"]
    page = running.get(browser, asked["Location"])
    assert 200 == page.status
    url = page.text[page.text.index(ORIGIN + "/psc/start") :].partition('"')[0].replace("&amp;", "&")
    assert 200 == running.follow(browser, url, "docteur-dupont").status
    assert 200 == running.check(browser, PRESCRIPTION + "/", method="POST").status


def test_old_authentication_is_asked_again_once(running: Running) -> None:
    """Decision 10: PSC's own session is nearly four hours old: the professional authenticates anew, once."""
    browser = Browser()
    running.sign_in(browser, "docteur-dupont")
    for _ in range(9):
        running.clock.advance(1560)
        running.check(browser, DOSSIER + "/")
        running.simulator.sign_in(begun(running, Browser()), "", cookies=browser.psc)
    running.clock.advance(120)  # four minutes would remain
    browser.jar.clear()
    url = running.get(browser, returned(running, browser, ""))["Location"]
    assert "prompt=login" in url
    answer = running.follow(browser, url, "docteur-dupont")
    assert 200 == answer.status


def test_idle_and_absolute(running: Running) -> None:
    """SESS-05: 30 minutes without activity, four hours with it; to the second, and after a restart too."""
    browser = Browser()
    running.sign_in(browser, "docteur-dupont")
    running.clock.advance(1799)
    assert 200 == running.check(browser, DOSSIER + "/").status
    running.clock.advance(1800)
    ended = running.check(browser, DOSSIER + "/")
    assert 401 == ended.status
    assert "why=ended" in ended["Location"]
    running.restart()
    assert 401 == running.check(browser, DOSSIER + "/").status
    assert 'name="token"' in running.get(browser, ended["Location"]).text


def test_psc_away(running: Running) -> None:
    """IDP-01: who is in stays in; who arrives reads a French page with Retry-After; afterwards it works without a restart."""
    inside, new = Browser(), Browser()
    running.sign_in(inside, "docteur-dupont")
    running.simulator.call(running.simulator.stop())
    assert 200 == running.check(inside, DOSSIER + "/").status
    end = time.monotonic() + 5
    while running.call(running.service.outer.psc.answering()) and time.monotonic() < end:
        time.sleep(0.05)  # an answer is believed for a second
    page = running.get(new, running.check(new, DOSSIER + "/")["Location"])
    assert 503 == page.status
    assert page["Retry-After"]
    running.simulator.call(running.simulator.start())
    end = time.monotonic() + 10
    while not running.call(running.service.outer.psc.answering()) and time.monotonic() < end:
        time.sleep(0.05)
    assert 200 == running.sign_in(new, "docteur-dupont").status
