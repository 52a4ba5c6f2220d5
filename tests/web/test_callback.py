"""The end of a sign-in: what a callback must not do, by the id of each attack; and the faults of PSC, each ending in a page and no session."""

import re
import time
from pathlib import Path
from urllib.parse import quote

import pytest
from running import DOSSIER, ORIGIN, PRESCRIPTION, Answer, Browser, Running
from web_steps import AUTH_HOST, another, begun, button, french_page, metric, returned, soon

from forward_auth.sealing import new_key, read_ring, rotated, write_ring
from forward_auth.simulator import FAULTS

CALLBACK = ORIGIN + "/psc/callback"


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
SLOW = ("hang", "slow", "trickle", "endless")  # five seconds each: see test_PSC_slow_at_the_token_endpoint


TRANSPORT = tuple("." + name.partition(".")[2] for name in FAULTS if name.startswith("all."))
QUICK = [name for name in REFUSED if name not in OF_LOGOUT_TOKENS and not any(word in name for word in SLOW)]


def refused(running: Running, fault: str) -> None:
    browser = Browser()
    url = returned(running, browser)
    with running.simulator.faults.during(fault):
        answer = running.get(browser, url)
    page_without_session(running, browser, answer, 400, 403, 503)
    assert "Référence" in answer.text
    assert not [name for name in browser.jar[AUTH_HOST] if "-login-" in name]
    assert "/psc/start?to=" in button(answer)


@pytest.mark.parametrize("fault", [name for name in QUICK if not name.endswith(TRANSPORT)])
def test_every_fault_of_what_psc_says(shared: Running, fault: str) -> None:
    """OpenID's client tests and IDP-*, by the simulator's names: a page with a reference and a button, no session, the sign-in's cookie gone."""
    refused(shared, fault)


@pytest.mark.parametrize("fault", [name for name in QUICK if name.endswith(TRANSPORT)])
def test_every_fault_of_how_psc_answers(running: Running, fault: str) -> None:
    """The same for connections that break, wrong statuses, bodies that are none. The code is not sent again."""
    refused(running, fault)
    assert 1 == redeemed(running)


@pytest.mark.parametrize(
    "fault", [name for name, fault in FAULTS.items() if name.startswith("callback.") and fault.expect == "refuse"]
)
def test_CB_03_05_08_MIX_every_fault_of_the_return(shared: Running, fault: str) -> None:
    """What PSC may put into the address of the callback: a page, no session, nothing of it repeated."""
    browser = Browser()
    value = (
        "<script>alert(1)</script>\r\nX-Evil: 1" if "description" in fault else None
    )  # its own is longer than a request line
    with shared.simulator.faults.during(fault, value):
        answer = shared.get(browser, returned(shared, browser))
    page_without_session(shared, browser, answer, 400, 403)
    assert "<script" not in answer.text
    assert "x-evil" not in answer.headers
    assert "not-a-code" not in answer.text


@pytest.mark.parametrize("fault", [name for name, fault in FAULTS.items() if name.partition(".")[0] in ("callback", "code", "id_token", "userinfo") and fault.expect == "accept"])  # fmt: skip
def test_what_is_accepted(shared: Running, fault: str) -> None:
    """CB-09 and others: what a correct client takes is taken: BEARER, no expires_in, no at_hash, unknown parameters and codes."""
    browser = Browser()
    shared.clock.advance(31)
    with shared.simulator.faults.during(fault):
        answer = shared.sign_in(browser, "docteur-dupont")
    assert 200 == answer.status
    assert "899700000001" == answer["X-PSC-Subject"]


def test_PSC_slow_at_the_token_endpoint(running: Running) -> None:
    """IDP-02: the token endpoint hangs: a page within six seconds, and who is in is answered all the while."""
    inside, browser = Browser(), Browser()
    running.sign_in(inside, "docteur-dupont")
    url = returned(running, browser)
    with running.simulator.faults.during("code.hang"):
        began = time.monotonic()
        answer = running.get(browser, url)
        assert time.monotonic() - began < 7
        assert 200 == running.check(inside, DOSSIER + "/").status
    page_without_session(running, browser, answer, 503)
    assert answer["Retry-After"]
    soon(lambda: running.call(running.service.outer.psc.answering()), 8)
    assert 200 == running.follow(browser, button(answer), "docteur-dupont").status


def test_CB_01_no_token_call(shared: Running) -> None:
    """A callback without its cookie, though the state is a good one of this service: nothing is asked of PSC, whoever calls."""
    owner, other = Browser(), Browser()
    url = returned(shared, owner)
    before = shared.simulator.counts["token"]
    for browser in (other, Browser(jar={AUTH_HOST: {"__Host-psc": "x" * 64}})):
        page_without_session(shared, browser, shared.get(browser, url), 400) if browser is other else shared.get(
            browser, url
        )
    assert before == shared.simulator.counts["token"]


def test_CB_04_a_code_that_psc_takes_twice(running: Running) -> None:
    """Even where PSC takes a code twice, and the browser still has the cookies of before, it is sent once."""
    browser = Browser()
    url = returned(running, browser)
    before = {AUTH_HOST: dict(browser.jar[AUTH_HOST])}
    with running.simulator.faults.during("code.reusable"):
        assert 303 == running.get(browser, url).status
        for _ in range(3):
            french_page(running.get(Browser(jar={AUTH_HOST: dict(before[AUTH_HOST])}), url), 400)
    assert 1 == running.simulator.counts["token"]


def test_CB_04_failed_once_is_over(running: Running) -> None:
    """A callback whose code PSC refused is not tried again, in whatever browser."""
    browser = Browser()
    url = returned(running, browser)
    before = dict(browser.jar[AUTH_HOST])
    with running.simulator.faults.during("code.oauth_error"):
        assert running.get(browser, url).status in (400, 403)
    french_page(running.get(Browser(jar={AUTH_HOST: before}), url), 400)
    assert 1 == running.simulator.counts["token"]


def test_CB_05_error_and_code(running: Running) -> None:
    """An error beside a code is an error; a description of 10 KiB with markup and line ends is shown to nobody."""
    browser = Browser()
    url = returned(running, browser)
    nasty = quote("<img src=x onerror=alert(1)>\r\nX-Evil: 1" + "é" * 3000, safe="")
    answer = running.get(browser, f"{url}&error=access_denied&error_description={nasty}")
    page_without_session(running, browser, answer, 400, 403)
    assert "onerror" not in answer.text
    assert 0 == redeemed(running)


def test_CB_06_is_in_the_trail(running: Running) -> None:
    """A sign-in that is refused is in the trail with the reference of its page, and counted."""
    browser = Browser()
    url = returned(running, browser)
    with running.simulator.faults.during("id_token.nonce_wrong"):
        answer = running.get(browser, url)
    (line,) = [line for line in running.audit() if line["event"] == "sign_in"]
    assert "refused" == line["outcome"]
    assert line["reference"] in answer.text
    assert 1 == metric(running, "sign_ins_total", outcome="refused")


def test_CB_10_level(running: Running) -> None:
    """An authentication below the level: 403, the page says so, and the next try with a card enters."""
    browser = Browser()
    page = running.sign_in(browser, "docteur-dupont", acr="0")
    page_without_session(running, browser, page, 403)
    assert "identification plus sûre" in page.text
    browser.psc.clear()
    assert 200 == running.follow(browser, button(page), "docteur-dupont").status


@pytest.mark.parametrize("pkce", [True, False])
def test_CB_11_stolen_code(running: Running, pkce: bool) -> None:
    """A victim's code in the attacker's own sign-in: PSC refuses it by PKCE, and where PSC forgets to, the nonce does."""
    victim, attacker = Browser(), Browser()
    stolen = returned(running, victim)
    own = returned(running, attacker, "infirmiere-leroy")
    code, other = (re.search("[?&]code=([^&]+)", url) for url in (stolen, own))
    assert code is not None
    assert other is not None
    if not pkce:
        running.simulator.faults.set("code.pkce_ignored")
    answer = running.get(attacker, own.replace(other[1], code[1]))
    page_without_session(running, attacker, answer, 400, 403)


def test_CB_13_key_rotated_in_between(running: Running, tmp_path: Path) -> None:
    """The key ring is rotated and the service restarted between start and callback: the sign-in ends well, and who was in stays in."""
    inside, browser = Browser(), Browser()
    running.sign_in(inside, "docteur-dupont")
    url = returned(running, browser)
    keys = running.folder / "keys"
    write_ring(keys, rotated(read_ring(keys), int(running.clock()), keep=2), replace=True)
    running.restart()
    answer = running.follow(browser, url)
    assert (200, DOSSIER + "/a?b=1") == (answer.status, answer.url)
    assert 200 == running.check(inside, DOSSIER + "/").status


def test_CB_13_all_keys_lost(running: Running) -> None:
    """Another ring altogether: the callback is a page whose button works; nobody is in any more, and nothing is an error."""
    inside, browser = Browser(), Browser()
    running.sign_in(inside, "docteur-dupont")
    url = returned(running, browser)
    running.stop()
    write_ring(running.folder / "keys", (new_key(int(running.clock())),), replace=True)
    running.start()
    page = running.get(browser, url)
    page_without_session(running, browser, page, 400)
    assert 401 == running.check(inside, DOSSIER + "/").status
    running.follow(inside, ORIGIN + "/psc/session", "docteur-dupont")


def test_CB_14_lunch_while_signed_in_elsewhere(running: Running) -> None:
    """A callback an hour later in a browser that is signed in by now: it lands on the app, PSC is asked nothing."""
    browser = Browser()
    url = returned(running, browser)
    running.clock.advance(3600)
    running.sign_in(browser, "docteur-dupont", PRESCRIPTION + "/")
    asked = redeemed(running)
    answer = running.get(browser, url)
    assert (303, DOSSIER + "/") == (answer.status, answer["Location"])
    assert asked == redeemed(running)


def test_app_removed_in_between(running: Running) -> None:
    """The app of the sign-in is no longer configured when PSC answers: a page with a button that leads to what there is."""
    browser = Browser()
    url = returned(running, browser, url=DOSSIER + "/a")
    apps = running.apps[running.apps.index("[apps.prescription]") :]
    running.reload(apps=apps)
    page = running.get(browser, url)
    french_page(page, 400)
    assert 0 == redeemed(running)
    assert 200 == running.follow(browser, button(page), "docteur-dupont").status


def test_MIX_01_answer_of_another_issuer(running: Running, tmp_path: Path) -> None:
    """The callback of another deployment at another PSC, and an issuer of that PSC in our own answer: 400, nobody is asked anything."""
    folder = tmp_path / "second"
    folder.mkdir()
    browser = Browser()
    with another(folder) as second:
        foreign = returned(second, Browser())
        page_without_session(running, browser, running.get(browser, foreign), 400)
        own = returned(running, browser)
        mixed = own.replace(quote(running.simulator.issuer, safe=""), quote(second.simulator.issuer, safe=""))
        assert mixed != own
        page_without_session(running, browser, running.get(browser, mixed), 400)
        assert 0 == second.simulator.counts["token"]
    assert 0 == redeemed(running)


@pytest.mark.parametrize("issuer", ["https://evil.example", "", None])
def test_MIX_03_error_of_another_issuer(running: Running, issuer: str | None) -> None:
    """An error answer with a wrong issuer, or none, is not PSC's: no «you cancelled», and the sign-in's cookie is not believed spent by it."""
    browser = Browser()
    state = begun(running, browser).partition("state=")[2].partition("&")[0]
    told = "" if issuer is None else f"&iss={quote(issuer, safe='')}"
    answer = running.get(browser, f"{CALLBACK}?error=access_denied&state={state}{told}")
    page_without_session(running, browser, answer, 400)
    assert "annulée" not in answer.text


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
