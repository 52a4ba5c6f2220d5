"""Leaving: by the person's own wish and by nobody else's, here and at PSC, whatever PSC does."""

import threading
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from running import APPS, DOSSIER, ORIGIN, PRESCRIPTION, Browser, Running
from web_steps import (
    AUTH_HOST,
    DOSSIER_HOST,
    another,
    button,
    copy_of,
    form,
    french_page,
    metric,
    press,
    problem_of,
    signed_in,
    soon,
    still_in,
    title,
)

SIGN_OUT = DOSSIER + "/psc/sign-out"


def test_LO_01_get_asks(running: Running) -> None:
    """GET, as an image or a link of another site would: a page that asks and names who; nothing is ended, no cookie touched."""
    browser = signed_in(running)
    page = running.get(browser, SIGN_OUT)
    french_page(page, 200, "Fermer votre session")
    assert "__Host-psc" not in "".join(page.headers.get("set-cookie", []))
    assert "toutes les applications" in page.text
    for headers in ({"Sec-Purpose": "prefetch"}, {"Purpose": "prefetch"}):
        assert 403 == running.request(browser, "GET", SIGN_OUT, headers=headers).status
    assert 405 == running.request(browser, "HEAD", SIGN_OUT).status
    assert still_in(running, browser)


@pytest.mark.parametrize("body", ["", "token=", "token=x", "token=" + "A" * 60, "other=1"])
def test_LO_01_post_without_our_token(running: Running, body: str) -> None:
    """A POST without the token of our own form asks again instead."""
    browser = signed_in(running)
    answer = running.request(browser, "POST", SIGN_OUT, form=body)
    french_page(answer, 200, "Fermer votre session")
    assert still_in(running, browser)
    assert "__Host-psc" in browser.jar[DOSSIER_HOST]
    machine = running.request(browser, "POST", SIGN_OUT, form=body, headers={"Accept": "application/json"})
    assert 403 == problem_of(machine)["status"]
    assert still_in(running, browser)


def test_LO_01_token_of_somebody_else(running: Running) -> None:
    """The token of another browser's form, of another host's, of another form, or of yesterday, signs nobody out."""
    browser, attacker = signed_in(running), signed_in(running, "infirmiere-leroy")
    tokens = [
        form(running.get(attacker, SIGN_OUT))[1]["token"],
        form(running.get(browser, ORIGIN + "/psc/sign-out"))[1]["token"],
        form(running.get(Browser(), ORIGIN + "/psc/start?why=ended&to=" + DOSSIER + "/"))[1]["token"],
    ]
    for token in tokens:
        french_page(running.request(browser, "POST", SIGN_OUT, form=urlencode({"token": token})), 200)
    assert still_in(running, browser)


def test_LO_01_form_of_another_site(running: Running) -> None:
    """A form that another site posts: the browser keeps our Lax cookie back, and our answer must not clear it."""
    browser = signed_in(running)
    stripped = Browser()
    answer = running.request(stripped, "POST", SIGN_OUT, form="token=x", headers={"Origin": "https://evil.example"})
    browser.keep(SIGN_OUT, answer.headers.get("set-cookie", []))
    assert still_in(running, browser)


def test_sign_out_with_a_dead_ticket(running: Running) -> None:
    """Who signs out after the session has ended anyway reads that it is over, and the dead cookie is cleared."""
    browser = signed_in(running)
    running.clock.advance(1801)
    answer = running.request(browser, "POST", SIGN_OUT, form="token=x")
    assert (303, DOSSIER + "/psc/signed-out") == (answer.status, answer["Location"])
    assert {} == browser.jar[DOSSIER_HOST]


def test_sign_out_tells_psc(running: Running) -> None:
    """Here first, then at PSC with the hint, a random state and our declared address; the refresh token is given back; the trail hears once."""
    browser = signed_in(running)
    answer = press(running, browser, running.get(browser, SIGN_OUT))
    assert (303, "no-store", "no-referrer") == (answer.status, answer["Cache-Control"], answer["Referrer-Policy"])
    asked = parse_qs(urlsplit(answer["Location"]).query)
    assert {"id_token_hint", "client_id", "post_logout_redirect_uri", "state"} <= set(asked)
    assert [ORIGIN + "/psc/signed-out"] == asked["post_logout_redirect_uri"]
    assert not still_in(running, browser)
    back = running.simulator.sign_in(answer["Location"], "", cookies=browser.psc)
    page = running.get(browser, back)
    french_page(page, 200, "Votre session est fermée")
    assert "chez Pro Santé Connect" in page.text
    soon(lambda: running.simulator.counts["revoke"])
    assert [("person", "899700000001")] == [
        (line["cause"], line["subject"]) for line in running.audit() if line["event"] == "sign_out"
    ]
    assert 1 == metric(running, "sign_outs_total", cause="person")
    assert 401 == running.check(browser, DOSSIER + "/").status
    assert "why=ended" not in running.check(browser, DOSSIER + "/")["Location"]


def test_sign_out_from_the_origin_or_an_app(running: Running) -> None:
    """Wherever it is asked, the cookie of that host goes and every other host's ticket is dead."""
    for host in (ORIGIN, DOSSIER, PRESCRIPTION):
        browser = signed_in(running)
        running.follow(browser, PRESCRIPTION + "/")
        before = copy_of(browser)
        running.sign_out(browser, host)
        assert "__Host-psc" not in browser.jar[urlsplit(host).hostname or ""]
        for other in (DOSSIER, PRESCRIPTION):
            assert 401 == running.check(before, other + "/").status
        assert running.get(before, ORIGIN + "/psc/session")["Location"].startswith(ORIGIN + "/psc/start")
        running.clock.advance(31)


def test_SESS_03_replay_after_sign_out(running: Running) -> None:
    """A ticket copied before the sign-out is dead after it: from memory, and after a restart."""
    browser = signed_in(running)
    thief = copy_of(browser)
    assert still_in(running, thief)
    running.sign_out(browser)
    assert not still_in(running, thief)
    running.restart()
    assert not still_in(running, thief)


@pytest.mark.parametrize("how", ["stopped", "hang", "no_end_session"])
def test_LO_02_psc_away(running: Running, how: str) -> None:
    """PSC cannot be told: it is over here all the same, within three seconds, and the page says what to do."""
    browser = signed_in(running)
    asked = running.get(browser, SIGN_OUT)
    simulator = running.simulator
    if how == "stopped":
        simulator.call(simulator.stop())
        soon(lambda: not running.call(running.service.outer.psc.answering()))
    elif how == "hang":
        simulator.faults.set("all.hang")
        soon(lambda: not running.call(running.service.outer.psc.answering()), 10)
    else:
        simulator.faults.set("discovery.no_end_session_endpoint")
        running.restart()
    answer = press(running, browser, asked)
    assert not still_in(running, browser)
    assert answer["Location"].startswith(ORIGIN + "/psc/signed-out")
    page = running.get(browser, answer["Location"])
    french_page(page, 200, "Votre session est fermée")
    assert "n’a pas pu être prévenu" in page.text
    assert ["person"] == [line["cause"] for line in running.audit() if line["event"] == "sign_out"]
    simulator.faults.clear()


@pytest.mark.parametrize(
    "query", ["", "?state=wrong", "?state=a&state=b", "?to=https://evil.example/", "?state=" + "s" * 8000, "?psc=other"]
)
def test_LO_03_return_from_psc(shared: Running, query: str) -> None:
    """The return from PSC believes nothing of its query: the page, for everybody, and its button leads to an app of ours."""
    page = shared.get(Browser(), ORIGIN + "/psc/signed-out" + query)
    french_page(page, 200, "Votre session est fermée")
    assert 'href="https://evil' not in page.text
    assert button(page).startswith(ORIGIN + "/psc/start")


@pytest.mark.parametrize("fault", ["end_session.no_state", "end_session.other_state"])
def test_LO_03_state_lost_at_psc(running: Running, fault: str) -> None:
    """PSC returns without the state, or with another: the page."""
    browser = signed_in(running)
    with running.simulator.faults.during(fault):
        back = running.simulator.sign_in(running.sign_out(browser)["Location"], "", cookies=browser.psc)
    french_page(running.get(browser, back), 200, "Votre session est fermée")


def test_signed_out_page_signs_nobody_out(running: Running) -> None:
    """The page itself changes nothing, and its button enters again."""
    browser = signed_in(running)
    page = running.get(browser, DOSSIER + "/psc/signed-out")
    assert "Votre session est fermée" in title(page)
    assert still_in(running, browser)
    assert 200 == running.follow(browser, button(page)).status


def test_LO_04_requests_during_sign_out(running: Running) -> None:
    """Fifty checks run in another tab during the sign-out: none that begins after its answer is allowed."""
    browser = signed_in(running)
    tab = copy_of(browser)
    asked = running.get(browser, SIGN_OUT)
    over = threading.Event()
    late: list[int] = []
    early: list[int] = []

    def work() -> None:
        for _ in range(60):
            after = over.is_set()
            status = running.check(tab, DOSSIER + "/x").status
            (late if after else early).append(status)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    soon(lambda: len(early) > 8)
    press(running, browser, asked)
    over.set()
    for thread in threads:
        thread.join()
    assert set(early) <= {200, 401}
    assert 200 in early
    assert set(late) <= {401}
    assert not still_in(running, tab)


FORGETFUL = APPS.replace(
    'title = "Dossier patient"', 'title = "Dossier patient"\nforget_cookies = ["JSESSIONID", "remember_me"]'
)


def test_forget_cookies(tmp_path: Path) -> None:
    """`forget_cookies`: the application's own cookies are expired on its host at each new ticket and at sign-out, and nowhere else."""
    with another(tmp_path, apps=FORGETFUL) as running:
        browser = Browser(jar={DOSSIER_HOST: {"JSESSIONID": "of-the-last-one", "remember_me": "1", "theme": "dark"}})
        running.sign_in(browser, "docteur-dupont")
        assert {"theme", "__Host-psc"} == set(browser.jar[DOSSIER_HOST])
        browser.jar[DOSSIER_HOST]["JSESSIONID"] = "of-this-one"
        browser.jar[AUTH_HOST]["JSESSIONID"] = "of-something-else"
        running.get(browser, SIGN_OUT)
        assert "of-this-one" == browser.jar[DOSSIER_HOST]["JSESSIONID"]
        running.sign_out(browser, DOSSIER)
        assert {"theme"} == set(browser.jar[DOSSIER_HOST])
        assert "of-something-else" == browser.jar[AUTH_HOST]["JSESSIONID"]


def test_next_professional_at_the_same_host(tmp_path: Path) -> None:
    """The next professional on the workstation finds none of the last one's application cookies, even without a sign-out in between."""
    with another(tmp_path, apps=FORGETFUL) as running:
        browser = Browser()
        running.sign_in(browser, "docteur-dupont")
        browser.jar[DOSSIER_HOST]["JSESSIONID"] = "doctor-dupont's"
        browser.psc.clear()
        answer = running.follow(browser, f"{ORIGIN}/psc/start?to={DOSSIER}/&switch=1", "infirmiere-leroy")
        assert 200 == answer.status
        assert "JSESSIONID" not in browser.jar[DOSSIER_HOST]
