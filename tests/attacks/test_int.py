"""INT-01: every value that we seal or sign and give away, changed by one character: it opens nothing."""

import random
from urllib.parse import parse_qs, urlsplit

from attack_rig import AUTH_HOST, DOSSIER_HOST, NURSE, Place
from running import Browser

CHANCE = random.Random(1)


def changed(value: str) -> str:
    """One character of it is another one."""
    at = CHANCE.randrange(len(value) - 1)
    other = CHANCE.choice([each for each in "ABCDEFGHIJKLMNOPabcdefghijklmnop0123456789-_" if each != value[at]])
    return value[:at] + other + value[at + 1 :]


def nobody(place: Place, browser: Browser) -> None:
    assert "__Host-psc" not in browser.jar.get(AUTH_HOST, {})
    assert place.check(browser, place.origin() + "/dossier").status in (302, 401)


def test_INT_01_state_and_its_cookie(place: Place) -> None:
    """The state in the address, the sealed cookie of the sign-in: changed, the callback is a page and the code is never spent."""
    for what in ("state", "cookie") * 5:
        browser = Browser()
        start = f"{place.origin(AUTH_HOST)}/psc/start?to={place.origin()}/dossier"
        callback = place.simulator.sign_in(place.get(browser, start)["Location"], NURSE, cookies=browser.psc)
        spent = place.simulator.counts["code"]
        jar = browser.jar[AUTH_HOST]
        if what == "state":
            state = parse_qs(urlsplit(callback).query)["state"][0]
            wrong = callback.replace(state, changed(state))
            assert wrong != callback
            told = place.get(browser, wrong)
        else:
            name = next(each for each in jar if "-login-" in each)
            jar[name] = changed(jar[name])
            told = place.get(browser, callback)
        assert 400 == told.status
        assert spent == place.simulator.counts["code"]
        nobody(place, browser)
        place.look_over(told, hands_out=True)


def test_INT_01_the_code_of_a_hand_off(place: Place) -> None:
    """The one-time code for the application's host, or the cookie that it is bound to: changed, there is no ticket."""
    for what in ("code", "cookie") * 4:
        browser = Browser()
        url = f"{place.origin(AUTH_HOST)}/psc/start?to={place.origin()}/dossier"
        while "handoff?code=" not in url:
            parts = urlsplit(url)
            if (parts.hostname or "").endswith("psc.localhost"):
                url = place.simulator.sign_in(url, NURSE, cookies=browser.psc)
            else:
                url = place.get(browser, url)["Location"]
        if what == "code":
            code = url.partition("code=")[2].partition("&")[0]
            url = url.replace(code, changed(code))
        else:
            jar = browser.jar[DOSSIER_HOST]
            name = next(each for each in jar if "-login-" in each)
            jar[name] = changed(jar[name])
        told = place.get(browser, url)
        assert "__Host-psc" not in browser.jar[DOSSIER_HOST]
        assert place.check(browser, place.origin() + "/dossier").status in (302, 401)
        place.look_over(told, hands_out=True)


def test_INT_01_the_token_of_a_form(place: Place) -> None:
    """The token in the form of the sign-out: changed, or another browser's, nobody is signed out without being asked again."""
    browser, other = Browser(), Browser()
    place.sign_in(browser, NURSE)
    place.sign_in(other, NURSE)

    def token_of(one: Browser) -> str:
        page = place.get(one, place.origin(AUTH_HOST) + "/psc/sign-out")
        return page.text.partition('name="token" value="')[2].partition('"')[0]

    token = token_of(browser)
    for wrong in (changed(token), token_of(other), "", token[:-1], token + "A"):
        told = place.request(
            browser,
            "POST",
            place.origin(AUTH_HOST) + "/psc/sign-out",
            form=f"token={wrong}",
            headers={"Sec-Fetch-Site": "cross-site"},
        )
        assert 303 != told.status
        assert 200 == place.check(browser, place.origin() + "/dossier").status
    assert 303 == place.sign_out(browser).status
