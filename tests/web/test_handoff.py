"""One sign-in for several hosts: what a hand-off code must never do, and the guards against loops."""

from urllib.parse import quote, urlsplit

import pytest
from running import DOSSIER, ORIGIN, PRESCRIPTION, Answer, Browser, Running
from web_steps import (
    AUTH_HOST,
    DOSSIER_HOST,
    PRESCRIPTION_HOST,
    button,
    copy_of,
    french_page,
    metric,
    returned,
)

from forward_auth.stores import Selection

TARGET = DOSSIER + "/a?b=1"


def at_origin(running: Running, browser: Browser, person: str = "docteur-dupont", url: str = TARGET) -> str:
    """Signed in at the origin; -> the address of the hand-off at the app's host, not yet called."""
    return running.get(browser, returned(running, browser, person, url))["Location"]


def with_code(running: Running, browser: Browser, person: str = "docteur-dupont", url: str = TARGET) -> str:
    """-> the address with the code, not yet called; the browser holds the secret it is bound to."""
    bind = running.get(browser, at_origin(running, browser, person, url))["Location"]
    address = running.get(browser, bind)["Location"]
    assert "/psc/handoff?code=" in address
    return address


def no_ticket(running: Running, browser: Browser, answer: Answer) -> None:
    """A page with a button, no ticket on the app's host."""
    french_page(answer, 400)
    assert "__Host-psc" not in browser.jar.get(DOSSIER_HOST, {})
    assert 401 == running.check(browser, DOSSIER + "/").status
    assert 200 == running.follow(browser, button(answer), "docteur-dupont").status


def test_the_steps(running: Running) -> None:
    """Every step is a 303 that nobody keeps and that tells no referrer; the code is in one address and opens nothing twice."""
    browser = Browser()
    url = returned(running, browser)
    hosts = []
    while urlsplit(url).path.startswith("/psc/"):
        answer = running.get(browser, url)
        assert (303, "no-store", "no-referrer") == (answer.status, answer["Cache-Control"], answer["Referrer-Policy"])
        assert b"" == answer.body
        hosts.append(urlsplit(url).hostname)
        url = answer["Location"]
    assert TARGET == url
    assert [AUTH_HOST, DOSSIER_HOST, AUTH_HOST, DOSSIER_HOST] == hosts
    assert ["__Host-psc"] == list(browser.jar[DOSSIER_HOST])


def test_code_in_another_browser(running: Running) -> None:
    """A code that leaked: in a browser without the secret, with a secret of its own, or with the victim's name for it, it opens nothing."""
    for kind in ("none", "own", "renamed"):
        victim, thief = Browser(), Browser()
        url = with_code(running, victim)
        if kind != "none":
            running.get(thief, f"{DOSSIER}/psc/handoff?to={quote(TARGET, safe='')}")
        if kind == "renamed":
            (name,) = (name for name in victim.jar[DOSSIER_HOST] if "-login-" in name)
            thief.jar[DOSSIER_HOST] = {name: next(iter(thief.jar[DOSSIER_HOST].values()))}
        french_page(running.get(thief, url), 400)
        assert "__Host-psc" not in thief.jar.get(DOSSIER_HOST, {})
        no_ticket(running, victim, running.get(victim, url))  # and it has been consumed


def test_login_pushed_into_another_browser(running: Running) -> None:
    """The attacker's own code, and a hand-off bound to the attacker's secret, give the victim's browser no ticket of the attacker's."""
    attacker, victim = Browser(), Browser()
    french_page(running.get(victim, with_code(running, attacker)), 400)
    assert {} == victim.jar.get(DOSSIER_HOST, {})
    assert 200 == running.sign_in(victim, "infirmiere-leroy").status
    running.clock.advance(31)
    attackers = running.get(attacker, f"{DOSSIER}/psc/handoff?to={quote(TARGET, safe='')}")["Location"]
    code = running.get(victim, attackers)["Location"]  # the victim's login, bound to the attacker's secret
    victim.jar[DOSSIER_HOST].clear()
    french_page(running.get(victim, code), 400)
    french_page(running.get(attacker, code), 400)  # consumed by then
    assert 401 == running.check(attacker, DOSSIER + "/").status


def test_code_twice(running: Running) -> None:
    """The same browser, the same code again: with its ticket it lands on the app; with the cookies of before, nowhere. No second ticket."""
    browser = Browser()
    url = with_code(running, browser)
    before = copy_of(browser)
    assert (303, TARGET) == ((first := running.get(browser, url)).status, first["Location"])
    ticket = browser.jar[DOSSIER_HOST]["__Host-psc"]
    again = running.get(browser, url)
    assert (303, DOSSIER + "/", []) == (again.status, again["Location"], again.headers.get("set-cookie", []))
    assert ticket == browser.jar[DOSSIER_HOST]["__Host-psc"]
    french_page(running.get(before, url), 400)
    assert "__Host-psc" not in before.jar[DOSSIER_HOST]


def test_code_of_another_host(running: Running) -> None:
    """A code for one host presented at another: no ticket there, and it has been consumed."""
    browser = Browser()
    url = with_code(running, browser)
    french_page(running.get(browser, url.replace(DOSSIER, PRESCRIPTION)), 400)
    assert "__Host-psc" not in browser.jar.get(PRESCRIPTION_HOST, {})
    no_ticket(running, browser, running.get(browser, url))


def test_code_altered(running: Running) -> None:
    """A code with one letter changed, cut, doubled or emptied is none."""
    browser = Browser()
    url = with_code(running, browser)
    head, _, code = url.partition("code=")
    wrong = [code[:-1], code + "A", "", "x" * len(code), "%00" * len(code), "%C3%A9", code + "%0d%0aSet-Cookie:a=b"]
    wrong += [code[:at] + ("A" if code[at] != "A" else "B") + code[at + 1 :] for at in range(0, len(code), 9)]
    for other in wrong:
        french_page(running.get(browser, head + "code=" + other), 400)
    french_page(running.get(browser, f"{url}&code={code}"), 400)
    assert "__Host-psc" not in browser.jar[DOSSIER_HOST]
    assert TARGET == running.get(browser, url)["Location"]  # none of them was this code


@pytest.mark.parametrize(("seconds", "good"), [(29, True), (31, False)])
def test_code_lives_thirty_seconds(running: Running, seconds: int, good: bool) -> None:
    """A code is good for 30 s."""
    browser = Browser()
    url = with_code(running, browser)
    running.clock.advance(seconds)
    answer = running.get(browser, url)
    if good:
        assert TARGET == answer["Location"]
    else:
        no_ticket(running, browser, answer)


def test_code_after_the_login_ended(running: Running) -> None:
    """The professional signs out while a code is under way: it opens nothing."""
    browser = Browser()
    url = with_code(running, browser)
    running.sign_out(browser)
    french_page(running.get(browser, url), 400)
    assert "__Host-psc" not in browser.jar[DOSSIER_HOST]


def test_target_cannot_be_changed(running: Running) -> None:
    """The address to go to is the one sealed in this browser's cookie; what stands beside the code is not read."""
    browser = Browser()
    url = with_code(running, browser)
    answer = running.get(browser, url + "&to=" + quote(DOSSIER + "/delete?id=1", safe=""))
    assert TARGET == answer["Location"]


def test_bind_missing_or_odd(running: Running) -> None:
    """At the origin a hand-off without a bind begins anew at the app's host; with one that is no hash it is a page. No code is made."""
    browser = Browser()
    running.sign_in(browser, "docteur-dupont")
    to = quote(TARGET, safe="")
    answer = running.get(browser, f"{ORIGIN}/psc/handoff?to={to}")
    assert (303, f"{ORIGIN}/psc/start?to={to}") == (answer.status, answer["Location"])
    for bind in ("", "x", "A" * 42, "A" * 44, "A" * 43 + "%3D", "%00" * 32, "A" * 4000):
        french_page(running.get(browser, f"{ORIGIN}/psc/handoff?to={to}&bind={bind}"), 400)


def test_no_code_without_a_ticket(running: Running) -> None:
    """At the origin nobody who is not signed in there gets a code, and the origin itself is no app to hand anybody to."""
    to, bind = quote(TARGET, safe=""), "A" * 43
    answer = running.get(Browser(), f"{ORIGIN}/psc/handoff?to={to}&bind={bind}")
    assert (303, f"{ORIGIN}/psc/start?to={to}") == (answer.status, answer["Location"])
    french_page(
        running.get(Browser(), f"{ORIGIN}/psc/handoff?to={quote(ORIGIN + '/psc/session', safe='')}&bind={bind}"), 400
    )


def test_another_hosts_target_at_an_app(running: Running) -> None:
    """An app's host does not bind a browser for another host's address: it is sent to begin at the origin."""
    browser = Browser()
    answer = running.get(browser, f"{DOSSIER}/psc/handoff?to={quote(PRESCRIPTION + '/', safe='')}")
    assert (303, f"{ORIGIN}/psc/start?to={quote(PRESCRIPTION + '/', safe='')}") == (answer.status, answer["Location"])
    assert {} == browser.jar.get(DOSSIER_HOST, {})


def test_SESS_07_ticket_of_another_host(running: Running) -> None:
    """A ticket is good on its host alone: the app's at another app or at the origin, and the origin's at an app, open nothing."""
    browser = Browser()
    running.sign_in(browser, "docteur-dupont")
    origin, dossier = browser.jar[AUTH_HOST]["__Host-psc"], browser.jar[DOSSIER_HOST]["__Host-psc"]
    for host, ticket in ((PRESCRIPTION_HOST, dossier), (PRESCRIPTION_HOST, origin), (DOSSIER_HOST, origin)):
        thief = Browser(jar={host: {"__Host-psc": ticket}})
        assert 401 == running.check(thief, f"https://{host}/").status
    moved = Browser(jar={AUTH_HOST: {"__Host-psc": dossier}})
    assert running.get(moved, ORIGIN + "/psc/session")["Location"].startswith(ORIGIN + "/psc/start")


def test_SESS_01_planted_cookies(running: Running) -> None:
    """Cookies planted before the sign-in never become a session; the ticket is fresh on every host."""
    browser = Browser()
    planted = "A" * 70
    browser.jar = {AUTH_HOST: {"__Host-psc": planted}, DOSSIER_HOST: {"__Host-psc": planted}}
    assert 200 == running.sign_in(browser, "docteur-dupont").status
    tickets = {browser.jar[host]["__Host-psc"] for host in (AUTH_HOST, DOSSIER_HOST)}
    assert 2 == len(tickets - {planted})
    assert 401 == running.check(Browser(jar={DOSSIER_HOST: {"__Host-psc": planted}}), DOSSIER + "/").status


def test_old_ticket_of_the_host_is_dropped(running: Running) -> None:
    """A second hand-off to the same host gives a new ticket; the one before opens nothing any more, after a restart neither."""
    browser = Browser()
    running.sign_in(browser, "docteur-dupont")
    old = copy_of(browser)
    running.clock.advance(31)
    url = f"{DOSSIER}/psc/handoff?to={quote(TARGET, safe='')}"
    assert 200 == running.follow(browser, url).status
    assert old.jar[DOSSIER_HOST]["__Host-psc"] != browser.jar[DOSSIER_HOST]["__Host-psc"]
    assert 401 == running.check(old, DOSSIER + "/").status
    running.restart()
    assert 401 == running.check(old, DOSSIER + "/").status
    assert 200 == running.check(browser, DOSSIER + "/").status


# -- loops -----------------------------------------------------------------------------------------------------------------------


def test_check_that_never_sees_the_cookie(running: Running) -> None:
    """A proxy that strips the cookie from the check: the third time in 30 s is a page that names the cause, not a fourth redirect."""
    browser = Browser()
    running.sign_in(browser, "docteur-dupont", TARGET)
    answers = []
    for _ in range(3):
        answer = running.check(None, TARGET)
        while answer["Location"] and urlsplit(answer["Location"]).path.startswith("/psc/"):
            answer = running.get(browser, answer["Location"])
        answers.append(answer)
        if answer.status != 303:
            break
    french_page(answers[-1], 400, "tourne en rond")
    assert len(answers) <= 2  # the sign-in itself was the first
    assert DOSSIER + "/psc/" in answers[-1].text
    assert 1 == metric(running, "sign_ins_total", outcome="loop")
    assert TARGET == button(answers[-1])
    running.clock.advance(31)
    assert 200 == running.follow(browser, f"{ORIGIN}/psc/start?to={quote(TARGET, safe='')}").status


def test_CB_15_cookies_refused_on_the_apps_host(running: Running) -> None:
    """The app's host keeps no cookie though the origin does: a page, at once."""
    browser = Browser()
    url = at_origin(running, browser)
    keep = browser.keep

    def keep_at_origin(address: str, lines: list[str]) -> None:
        if urlsplit(address).hostname == AUTH_HOST:
            keep(address, lines)

    browser.keep = keep_at_origin  # type: ignore[method-assign, assignment]  # a browser with a rule for one site
    answer = running.follow(browser, url)
    french_page(answer, 400, "passage vers l’application")
    assert 401 == running.check(browser, DOSSIER + "/").status


def test_many_tabs_are_no_loop(running: Running) -> None:
    """Ten tabs restored at once, each with its own address, all arrive."""
    browser = Browser()
    running.sign_in(browser, "docteur-dupont")
    browser.jar[DOSSIER_HOST].clear()
    arrived = [
        running.follow(browser, f"{ORIGIN}/psc/start?to={quote(f'{DOSSIER}/{n}', safe='')}").url for n in range(10)
    ]
    assert [f"{DOSSIER}/{n}" for n in range(10)] == arrived


def test_a_login_that_another_process_has_just_ended(running: Running) -> None:
    """The store refuses the code before this process has heard of the end: the login is forgotten at once, and the browser does not go in circles."""
    browser = Browser()
    running.sign_in(browser, "docteur-dupont")
    sessions = running.service.sessions
    (login,) = sessions.memory

    async def ended_elsewhere() -> tuple[str | None, bool]:
        now = int(running.clock())
        await sessions.store.end(Selection(login_id=login.id), now, now + 60)
        return await sessions.make_code(login, PRESCRIPTION_HOST, bytes(32)), login.ended

    assert (None, True) == running.call(ended_elsewhere())
