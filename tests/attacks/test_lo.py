"""LO-01 … LO-04 through nginx with the shipped files: who leaves is out, at once and whatever PSC does; nobody is put out by another site.

Alone: tests/web/test_sign_out.py. What Chromium does with a form of another site is in tests/stories/.
"""

import threading
from urllib.parse import quote, urlencode

import pytest
from attack_rig import AUTH_HOST, DOCTOR, DOSSIER_HOST, NURSE, PRESCRIPTION_HOST, Place
from running import Browser
from web.web_steps import button, copy_of, form, french_page, press, soon

pytestmark = pytest.mark.parametrize("place", ["nginx"], indirect=True)


def signed_in(place: Place, person: str = DOCTOR) -> Browser:
    browser = Browser()
    assert 200 == place.sign_in(browser, person).status
    return browser


def still_in(place: Place, browser: Browser) -> bool:
    return place.check(browser, place.origin() + "/x").status == 200


def test_LO_01_image_link_and_prefetch(place: Place) -> None:
    """What an image, a link or a prefetch of another site asks changes nothing, with the cookie or without."""
    browser = signed_in(place)
    url = place.origin() + "/psc/sign-out"
    for headers in (
        {"Accept": "image/*", "Sec-Fetch-Dest": "image", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "cross-site", "Referer": "https://evil.example/"},
        {"Sec-Purpose": "prefetch"},
        {"Origin": "https://evil.example"},
    ):
        for one in (browser, Browser()):
            answer = place.request(one, "GET", url, headers=headers)
            assert not answer.headers.get("set-cookie")
            place.look_over(answer)
    for method in ("HEAD", "OPTIONS", "PUT", "DELETE"):
        assert place.request(browser, method, url).status in (405, 403)
    assert still_in(place, browser)


def test_LO_01_form_of_another_site(place: Place) -> None:
    """A form of another site, without our token, with the attacker's own, or with one of another host: the page asks, and she is still in."""
    browser, attacker = signed_in(place), signed_in(place, NURSE)
    url = place.origin() + "/psc/sign-out"
    tokens = [
        "",
        "x",
        form(place.get(attacker, url))[1]["token"],
        form(place.get(browser, place.origin(AUTH_HOST) + "/psc/sign-out"))[1]["token"],
    ]
    for token in tokens:
        for headers in ({"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}):
            answer = place.request(browser, "POST", url, form=urlencode({"token": token}), headers=headers)
            french_page(answer, 200, "Fermer votre session")
            assert not answer.headers.get("set-cookie")
    assert still_in(place, browser)
    assert still_in(place, attacker)


@pytest.mark.parametrize("fault", ["", "end_session.status", "end_session.hang"])
def test_LO_02_psc_does_not_answer(place: Place, fault: str) -> None:
    """PSC is gone, or its way out is broken: she is out on every host all the same, and reads so."""
    browser = signed_in(place)
    place.follow(browser, place.origin(PRESCRIPTION_HOST) + "/")
    before = copy_of(browser)
    asked = place.get(browser, place.origin() + "/psc/sign-out")
    simulator = place.simulator
    if fault:
        with simulator.faults.during(fault):
            answer = press(place, browser, asked)
    else:
        simulator.call(simulator.stop())
        soon(lambda: not place.running.call(place.running.service.outer.psc.answering()))
        answer = press(place, browser, asked)
        french_page(place.get(browser, answer["Location"]), 200, "Votre session est fermée")
        simulator.call(simulator.start())
        soon(lambda: place.running.call(place.running.service.outer.psc.answering()), 10)
    assert 303 == answer.status
    assert "__Host-psc" not in browser.jar[DOSSIER_HOST]
    for host in (DOSSIER_HOST, PRESCRIPTION_HOST):
        assert place.check(before, place.origin(host) + "/x").status in (302, 401)
    place.good_request()


@pytest.mark.parametrize("name", ["state", "to", "post_logout_redirect_uri", "redirect_uri", "returnTo"])
def test_LO_03_return_with_another_state(place: Place, name: str) -> None:
    """The way back from PSC believes nothing that it is told: the page, and its one button leads to the application."""
    for value in ("", "wrong", "https://evil.example/", "//evil.example", "s" * 7000):
        answer = place.get(Browser(), f"{place.origin()}/psc/signed-out?{name}={quote(value, safe='')}")
        french_page(answer, 200, "Votre session est fermée")
        place.look_over(answer)
        assert f"{place.origin(AUTH_HOST)}/psc/start?to={quote(place.origin() + '/', safe='')}" == button(answer)


def test_LO_04_requests_of_another_tab(place: Place) -> None:
    """Other tabs go on asking while she signs out: of what begins after the answer, nothing reaches the application."""
    browser = signed_in(place)
    tab, asked, over = copy_of(browser), place.get(browser, place.origin() + "/psc/sign-out"), threading.Event()
    early: list[int] = []
    late: list[int] = []

    def work() -> None:
        for _ in range(40):
            kept = late if over.is_set() else early
            kept.append(place.check(tab, place.origin() + "/secret/x").status)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    soon(lambda: len(early) > 8)
    press(place, browser, asked)
    over.set()
    for thread in threads:
        thread.join()
    assert 200 in early
    assert set(late) <= {302}
    assert 302 == place.check(tab, place.origin() + "/secret/x").status
    place.good_request()
