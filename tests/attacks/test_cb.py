"""CB-01 … CB-16 through nginx with the shipped files: what a callback must never do, and what a one-time code of the hand-off must not.

Alone they are in tests/web/test_callback.py and test_handoff.py; here cookies, statuses and pages go through the proxy, which may keep, drop or
rewrite each of them. The hand-off is attacked in both places: its code is a second callback.
"""

import re
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import pytest
from attack_rig import AUTH_HOST, DOCTOR, DOSSIER_HOST, NURSE, PRESCRIPTION_HOST, SUBJECTS, Place
from running import Browser
from signin_steps import PATH, arrived, asked, begun, nobody_in, returned, with_code
from web.web_steps import button, copy_of, french_page

through_nginx = pytest.mark.parametrize("place", ["nginx"], indirect=True)


def redeemed(place: Place) -> int:
    """How often a code was sent to PSC."""
    return place.simulator.counts["token"]


def state_of(url: str) -> str:
    found = re.search("[?&]state=([^&]+)", url)
    assert found is not None
    return found[1]


# -- the callback ------------------------------------------------------------------------------------------------------------------


@through_nginx
def test_CB_01_callback_without_a_sign_in(place: Place) -> None:
    """Another browser's callback where no sign-in is under way: a page, and PSC is asked nothing."""
    url, before = returned(place, Browser()), redeemed(place)
    browser = Browser()
    nobody_in(place, browser, place.get(browser, url), 400)
    assert before == redeemed(place)


@through_nginx
def test_CB_02_login_csrf(place: Place) -> None:
    """The attacker's code and state in a victim's browser that has a sign-in of its own under way; the victim's own still ends well."""
    victim = Browser()
    own = returned(place, victim, NURSE)
    attackers, before = returned(place, Browser()), redeemed(place)
    nobody_in(place, victim, place.get(victim, attackers), 400)
    assert before == redeemed(place)
    arrived(place, place.follow(victim, own), SUBJECTS[NURSE])


@through_nginx
@pytest.mark.parametrize("change", ["missing", "empty", "long", "altered", "another's", "with an empty cookie"])
def test_CB_03_state(place: Place, change: str) -> None:
    """A state that is missing, empty, 7 KiB long, altered, or of another sign-in: a page, and PSC is asked nothing."""
    browser = Browser()
    url = returned(place, browser)
    state = state_of(url)
    other = state_of(begun(place, Browser()))
    changed = {
        "missing": "",
        "empty": "state=",
        "long": "state=" + "a" * 7000,
        "altered": f"state={state[:9]}{'A' if state[9] != 'A' else 'B'}{state[10:]}",
        "another's": "state=" + other,
        "with an empty cookie": "state=" + state,
    }[change]
    if change == "with an empty cookie":
        jar = browser.jar[AUTH_HOST]
        jar.update(dict.fromkeys(jar, ""))
    before = redeemed(place)
    nobody_in(place, browser, place.get(browser, url.replace("state=" + state, changed)), 400)
    assert before == redeemed(place)


@through_nginx
def test_CB_04_replay(place: Place) -> None:
    """A callback that has done its work: in the same browser it lands on the application, with the cookies of before it is a page."""
    browser = Browser()
    url = returned(place, browser)
    before = copy_of(browser)
    arrived(place, place.follow(browser, url), SUBJECTS[DOCTOR])
    sent = redeemed(place)
    again = place.get(browser, url)
    assert (303, place.origin() + "/") == (again.status, again["Location"])
    nobody_in(place, before, place.get(before, url), 400)
    assert sent == redeemed(place)


@through_nginx
def test_CB_05_error_with_markup(place: Place) -> None:
    """An error beside the code, with a description of markup, line ends and 6 KiB: a readable page that shows none of it."""
    nasty = quote("<script>alert(1)</script>\r\nX-Evil: 1\r\n" + "é" * 1000, safe="")
    for told in ("&error=access_denied", "&error=server_error", "&error=%3Cscript%3E"):
        browser = Browser()
        answer = place.get(browser, returned(place, browser) + f"{told}&error_description={nasty}")
        nobody_in(place, browser, answer, 400, 403)
        assert "alert(1)" not in answer.text
        assert "x-evil" not in answer.headers


@through_nginx
@pytest.mark.parametrize("fault", ["id_token.nonce_wrong", "id_token.nonce_missing", "id_token.nonce_unsupported"])
def test_CB_06_nonce(place: Place, fault: str) -> None:
    """An ID token with another nonce, none, or a claim that would switch the check off: a page, no session, a line in the trail."""
    browser = Browser()
    url = returned(place, browser)
    with place.simulator.faults.during(fault):
        answer = place.get(browser, url)
    nobody_in(place, browser, answer, 400)
    (line,) = [one for one in place.running.audit() if one.get("reference") and one["reference"] in answer.text]
    assert ("sign_in", "refused") == (line["event"], line["outcome"])


@through_nginx
def test_CB_07_nonce_of_an_earlier_sign_in(place: Place) -> None:
    """The ID token of a sign-in that succeeded, given again by a PSC that was taken over: refused."""
    browser = Browser()
    url = returned(place, browser)
    with place.simulator.faults.during("id_token.nonce_old"):
        nobody_in(place, browser, place.get(browser, url), 400)


@through_nginx
@pytest.mark.parametrize("name", ["code", "state", "iss"])
def test_CB_08_doubled(place: Place, name: str) -> None:
    """A parameter that stands twice, whichever comes first; and an answer by POST, which was not asked for."""
    browser = Browser()
    url = returned(place, browser)
    value = url.partition(name + "=")[2].partition("&")[0]
    before = redeemed(place)
    for doubled in (
        f"{url}&{name}={value}",
        f"{url}&{name}=x",
        url.replace(f"{name}={value}", f"{name}=x&{name}={value}"),
    ):
        nobody_in(place, browser, place.get(browser, doubled), 400)
    address, _, query = url.partition("?")
    for target in (address, url):
        assert 405 == place.request(browser, "POST", target, form=query).status
    assert before == redeemed(place)


@through_nginx
@pytest.mark.parametrize("fault", ["id_token.at_hash_wrong", "code.token_type_mac", "code.id_token_missing"])
def test_CB_09_answers_of_the_token_endpoint(place: Place, fault: str) -> None:
    """A hash that is another token's, a token type we do not speak, no ID token: a page, no session."""
    browser = Browser()
    url = returned(place, browser)
    with place.simulator.faults.during(fault):
        nobody_in(place, browser, place.get(browser, url), 400)


@through_nginx
def test_CB_10_level(place: Place) -> None:
    """An authentication below eidas1: 403, and the page says what to do."""
    browser = Browser()
    answer = place.sign_in(browser, DOCTOR, acr="0")
    nobody_in(place, browser, answer, 403)
    assert "identification plus sûre" in answer.text


@through_nginx
@pytest.mark.parametrize("pkce", [True, False])
def test_CB_11_stolen_code(place: Place, pkce: bool) -> None:
    """A victim's code in the attacker's own callback: PSC refuses it by PKCE, and where PSC forgets to, the nonce does."""
    attacker = Browser()
    stolen, own = returned(place, Browser()), returned(place, attacker, NURSE)
    code, other = (url.partition("code=")[2].partition("&")[0] for url in (stolen, own))
    if not pkce:
        place.simulator.faults.set("code.pkce_ignored")
    answer = place.get(attacker, own.replace(other, code))
    place.simulator.faults.clear()
    nobody_in(place, attacker, answer, 400, 403)


@through_nginx
def test_CB_12_twenty_tabs(place: Place) -> None:
    """Twenty tabs with the longest addresses, restored at once: nginx takes the cookies, five at most are kept, the newest arrives."""
    browser = Browser()
    paths = [f"/{number:03}/" + "e" * 1900 for number in range(20)]
    places = [begun(place, browser, path) for path in paths]
    kept = {name: value for name, value in browser.jar[AUTH_HOST].items() if "-login-" in name}
    assert len(kept) <= 5
    assert sum(len(name) + len(value) for name, value in kept.items()) <= 6 * 1024
    arrived(place, place.follow(browser, places[-1], DOCTOR), SUBJECTS[DOCTOR], paths[-1])
    late = place.follow(browser, places[0])
    assert (200, SUBJECTS[DOCTOR]) == (late.status, late["X-PSC-Subject"])
    assert not [name for name in browser.jar[DOSSIER_HOST] if "-login-" in name]


@through_nginx
def test_CB_14_after_lunch(place: Place) -> None:
    """A callback sixteen minutes later: a page whose button begins again and arrives at the application."""
    browser = Browser()
    url = returned(place, browser)
    place.good_request()
    place.clock.advance(16 * 60)
    page = place.get(browser, url)
    nobody_in(place, browser, page, 400)
    arrived(place, place.follow(browser, button(page), DOCTOR), SUBJECTS[DOCTOR], "/")


@through_nginx
def test_CB_15_cookies_refused(place: Place) -> None:
    """A browser that keeps no cookie: never more than two redirects of ours in a row, and the third try is a page that names the cause."""
    browser = Browser(refuses_cookies=True)
    url = asked(place, browser)
    for _ in range(3):
        page = place.follow(browser, url, DOCTOR, hops=4)
        nobody_in(place, browser, page, 400)
        url = button(page)
    last = place.get(browser, url)
    nobody_in(place, browser, last, 400)
    assert "cookies" in last.text


@through_nginx
def test_CB_16_thinking_ahead(place: Place) -> None:
    """A prefetch, a link preview and HEAD use nothing up; the callback still works."""
    browser = Browser()
    url = returned(place, browser)
    before = redeemed(place)
    for headers in (
        {"Sec-Purpose": "prefetch"},
        {"Purpose": "prefetch"},
        {"X-Moz": "prefetch"},
        {"Sec-Purpose": "prefetch;prerender"},
    ):
        assert 403 == place.request(browser, "GET", url, headers=headers).status
    assert 405 == place.request(browser, "HEAD", url).status
    assert before == redeemed(place)
    arrived(place, place.follow(browser, url), SUBJECTS[DOCTOR])


# -- the code of the hand-off, attacked as a callback ------------------------------------------------------------------------------


def test_CB_01_handoff_code_in_a_browser_that_asked_for_none(place: Place) -> None:
    """A code that leaked, where no hand-off was begun: a page, no ticket; and it has been consumed for everybody."""
    owner, thief = Browser(), Browser()
    url = with_code(place, owner)
    answer = place.get(thief, url)
    french_page(answer, 400)
    place.look_over(answer, hands_out=True)
    assert {} == thief.jar.get(DOSSIER_HOST, {})
    french_page(place.get(owner, url), 400)
    assert "__Host-psc" not in owner.jar[DOSSIER_HOST]


def test_CB_02_handoff_login_csrf(place: Place) -> None:
    """The attacker's code in a victim's browser with a hand-off of its own under way: no ticket of the attacker's; the victim arrives as herself."""
    victim, attacker = Browser(), Browser()
    own = with_code(place, victim, NURSE)
    answer = place.get(victim, with_code(place, attacker, DOCTOR))
    french_page(answer, 400)
    place.look_over(answer, hands_out=True)
    assert "__Host-psc" not in victim.jar[DOSSIER_HOST]
    arrived(place, place.follow(victim, own), SUBJECTS[NURSE])


def test_CB_03_handoff_bind_of_another(place: Place) -> None:
    """The victim's sign-on, led to a bind that the attacker made: the code opens nothing in the victim's browser, nor in the attacker's."""
    victim, attacker = Browser(), Browser()
    place.follow(victim, returned(place, victim, NURSE))
    to = quote(place.origin() + PATH, safe="")
    bound = place.get(attacker, f"{place.origin()}/psc/handoff?to={to}")["Location"]
    url = place.get(victim, bound)["Location"]
    assert "/psc/handoff?code=" in url
    victim.jar[DOSSIER_HOST].clear()
    for browser in (victim, attacker):
        french_page(place.get(browser, url), 400)
        assert "__Host-psc" not in browser.jar.get(DOSSIER_HOST, {})


def test_CB_04_handoff_replay(place: Place) -> None:
    """The same code again: with its ticket the browser lands on the front page, with the cookies of before it gets a page; one ticket in all."""
    browser = Browser()
    url = with_code(place, browser)
    before = copy_of(browser)
    assert place.origin() + PATH == place.get(browser, url)["Location"]
    again = place.get(browser, url)
    assert (303, place.origin() + "/", []) == (again.status, again["Location"], again.headers.get("set-cookie", []))
    french_page(place.get(before, url), 400)
    assert "__Host-psc" not in before.jar[DOSSIER_HOST]


def test_CB_04_handoff_twice_at_once(place: Place) -> None:
    """Four tabs of one browser with one code in the same moment: one of them gets a ticket, which opens; the others read a page."""
    browser = Browser()
    url = with_code(place, browser)
    tabs = [copy_of(browser) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda tab: place.get(tab, url), tabs))
    assert [303, 400, 400, 400] == sorted(answer.status for answer in answers)
    for tab, answer in zip(tabs, answers, strict=True):
        assert (303 == answer.status) == ("__Host-psc" in tab.jar[DOSSIER_HOST])
        if answer.status == 303:
            assert 200 == place.check(tab, place.origin() + "/secret/x").status


def test_CB_08_handoff_doubled(place: Place) -> None:
    """A code that stands twice, first or last, and one by POST: none; alone it still works."""
    browser = Browser()
    url = with_code(place, browser)
    code = url.partition("code=")[2]
    for doubled in (f"{url}&code={code}", f"{url}&code=x", url.replace("code=", "code=x&code=")):
        french_page(place.get(browser, doubled), 400)
    assert 405 == place.request(browser, "POST", url.partition("?")[0], form=f"code={code}").status
    assert place.origin() + PATH == place.get(browser, url)["Location"]


def test_CB_11_handoff_code_at_another_application(place: Place) -> None:
    """A code for the dossier at the prescription's host, where this browser has a bind of its own: no ticket there."""
    browser = Browser()
    url = with_code(place, browser)
    other = f"https://{PRESCRIPTION_HOST}:{place.house.port}"
    place.get(browser, f"{other}/psc/handoff?to={quote(other + '/', safe='')}")
    french_page(place.get(browser, url.replace(place.origin(), other)), 400)
    assert "__Host-psc" not in browser.jar[PRESCRIPTION_HOST]
    assert place.check(browser, other + "/").status in (401, 302)


def test_CB_14_handoff_too_late(place: Place) -> None:
    """A code of 31 seconds ago: a page, whose button begins again and arrives."""
    browser = Browser()
    url = with_code(place, browser)
    place.clock.advance(31)
    page = place.get(browser, url)
    french_page(page, 400)
    assert "__Host-psc" not in browser.jar[DOSSIER_HOST]
    arrived(place, place.follow(browser, button(page)), SUBJECTS[DOCTOR], "/")


def test_CB_16_handoff_thinking_ahead(place: Place) -> None:
    """A prefetch and HEAD use no code up."""
    browser = Browser()
    url = with_code(place, browser)
    assert 403 == place.request(browser, "GET", url, headers={"Sec-Purpose": "prefetch"}).status
    assert 405 == place.request(browser, "HEAD", url).status
    assert place.origin() + PATH == place.get(browser, url)["Location"]


def test_RED_10_handoff_target_changed(place: Place) -> None:
    """Where the browser goes stands sealed in its cookie: another `to` beside the code, or another host's cookie under that name, changes nothing."""
    browser = Browser()
    url = with_code(place, browser)
    answer = place.get(browser, url + "&to=" + quote("https://evil.example/", safe=""))
    assert place.origin() + PATH == answer["Location"]
    second = Browser()
    url = with_code(place, second)
    (name,) = (name for name in second.jar[DOSSIER_HOST] if "-login-" in name)
    value = second.jar[DOSSIER_HOST][name]
    second.jar[DOSSIER_HOST][name] = value[:40] + ("A" if value[40] != "A" else "B") + value[41:]
    french_page(place.get(second, url), 400)
    assert "__Host-psc" not in second.jar[DOSSIER_HOST]


def test_RED_10_application_she_may_not_use(place: Place) -> None:
    """The way back leads to an application whose rule she does not meet: a 403 page, no sign-in again and again."""
    url = place.origin(PRESCRIPTION_HOST) + "/ordonnance"
    browser = Browser()
    answer = place.follow(browser, f"{place.origin(AUTH_HOST)}/psc/start?to={quote(url, safe='')}", NURSE, hops=9)
    assert (403, url) == (answer.status, answer.url)
    assert 403 == place.check(browser, url).status
    place.look_over(answer)
