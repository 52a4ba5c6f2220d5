"""Where a sign-in begins: redirect targets by the id of each attack, the pages that stand before PSC, and what begins nothing."""

import time
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from running import APPS, DOSSIER, ORIGIN, PRESCRIPTION, Browser, Running, exchange
from web_steps import (
    AUTH_HOST,
    HANDED_BACK,
    another,
    asked_anew,
    begun,
    button,
    form,
    french_page,
    metric,
    press,
    problem_of,
    returned,
    soon,
    title,
)

START = ORIGIN + "/psc/start"
APP = "https://dossier.hopital.example"

REDIRECTS = {
    "RED_01": ["//evil.example", "///evil.example", "////evil.example/%2f.."],
    "RED_02": ["/\\evil.example", "\\\\evil.example", "\\/evil.example", "/./\\evil", "/%5cevil.example"],
    "RED_03": ["https:evil.example", "https:/evil.example", "http:\\\\evil", "HtTpS://evil.example"],
    "RED_04": [
        "/%09/evil",
        "/\t/evil",
        "/ /evil",
        "/%0b/evil",
        "%0d%0aLocation:https://evil",
        f" {APP}/",
        f"\u00a0{APP}/",
        f"\ufeff{APP}/",
        f"{APP}\r\nLocation: https://evil.example/",
        f"{APP}/\r\nSet-Cookie: a=b",
    ],
    "RED_05": ["%2f%2fevil", "%252f%252fevil", "/%2e%2e//evil"],
    "RED_06": [
        f"{APP}@evil.example",
        f"https://evil.example\\@{urlsplit(APP).netloc}",
        f"https://user:pw@{urlsplit(APP).netloc}",
    ],
    "RED_07": ["javascript:alert(1)", "data:text/html,x", "vbscript:x", "blob:x", "file:///etc", "java\nscript:x", "intent:x"],
    "RED_08": [
        f"{APP}.evil.example",
        "https://evilhopital.example",
        f"{APP}%2eevil.example",
        f"{APP}%00.evil",
        f"{APP}#@evil",
        f"{APP}?@evil",
        f"{APP};evil",
    ],
    "RED_09": [
        f"{APP}:8443/",
        "http://dossier.hopital.example/",
        "https://0x7f.1/",
        "https://2130706433/",
        "https://[::ffff:127.0.0.1]/",
        "https://127.1/",
        "https://dossier.hôpital.example/",
        "https://dossier。hopital.example/",
        "https://〱evil/",
        "https://dossier.hopital.example\uff0fevil.example/",
    ],
    "RED_12": [
        f"{APP}/" + "a" * 9000,
        f"{APP}/psc/start?to={APP}/",
        f"{APP}/psc/sign-out",
        f"{APP}/x/../psc/start",
        f"{ORIGIN}/psc/start?to={ORIGIN}/psc/start",
        f"{ORIGIN}/psc/callback?code=c&state=s",
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def inside(shared: Running) -> Browser:
    """A browser that is signed in: it is sent on at once, so every wrong target would be seen in the first answer."""
    browser = Browser()
    assert 200 == shared.sign_in(browser, "docteur-dupont").status
    return browser


@pytest.mark.parametrize("attack", REDIRECTS)
@pytest.mark.parametrize("place", ["start", "handoff"])
def test_RED_targets(shared: Running, inside: Browser, attack: str, place: str) -> None:
    """A target that is not one of ours is 400; one that is leads to an origin of ours and nowhere else, whoever asks and on whichever host."""
    for payload in REDIRECTS[attack]:
        for written in {quote(payload, safe=""), quote(payload, safe=":/?#[]@!$&'()*+,;=\\%~")}:
            for host in (ORIGIN, DOSSIER):
                shared.clock.advance(2)  # the guard against loops is not what is looked at
                answer = shared.get(inside, f"{host}/psc/{place}?to={written}")
                assert answer.status in (400, 303), (payload, answer.status)
                assert (303 == answer.status) == bool(answer["Location"])
                if answer["Location"]:
                    assert HANDED_BACK.fullmatch(answer["Location"]), (payload, answer["Location"])
                assert not answer.headers.get("set-cookie") or all(
                    "a=b" not in line for line in answer.headers["set-cookie"]
                )


@pytest.mark.parametrize("payload", REDIRECTS["RED_06"] + REDIRECTS["RED_07"] + REDIRECTS["RED_09"])
def test_RED_targets_of_strangers(shared: Running, payload: str) -> None:
    """Nobody is sent to PSC for an address that is none of ours: a French page, and its button leads home."""
    browser = Browser()
    answer = shared.get(browser, f"{START}?to={quote(payload, safe='')}")
    french_page(answer, 400)
    assert {} == browser.jar.get(AUTH_HOST, {})
    assert button(answer).startswith((ORIGIN + "/psc/", "/psc/"))


def test_RED_10_target_altered(running: Running) -> None:
    """The sealed cookie of a sign-in under way altered, swapped with another's, or made by another deployment: no sign-in of ours."""
    browser = Browser()
    first, second = returned(running, browser, url=DOSSIER + "/1"), returned(running, browser, "", DOSSIER + "/2")
    jar = browser.jar[AUTH_HOST]
    names = [name for name in jar if "-login-" in name]
    swapped = Browser(jar={AUTH_HOST: dict(zip(names, [jar[name] for name in reversed(names)], strict=True))})
    flipped = Browser(
        jar={
            AUTH_HOST: {
                name: value[:60] + ("A" if value[60] != "A" else "B") + value[61:] for name, value in jar.items()
            }
        }
    )
    for other in (swapped, flipped):
        for url in (first, second):
            french_page(running.get(other, url), 400)
    assert 0 == running.simulator.counts["code"]


def test_RED_10_another_deployment(running: Running, tmp_path: Path) -> None:
    """State and cookie of a deployment with other keys are worth nothing here."""
    folder = tmp_path / "other"
    folder.mkdir()
    browser = Browser()
    with another(folder) as other:
        url = returned(other, browser)
    french_page(running.get(browser, url), 400)
    assert 0 == running.simulator.counts["code"]


@pytest.mark.parametrize(
    "target",
    ["//evil.example/%2f..", "/psc//evil.example", "/auth//evil", "/psc/start/..//evil.example", "//psc/start"],
)
def test_RED_11_raw_paths(shared: Running, target: str) -> None:
    """A raw path that looks like a host is a page that does not exist, never a redirect."""
    for host in (AUTH_HOST, "dossier.hopital.example"):
        answer = exchange(
            shared.outer, "GET", target, {"Host": "outer", "X-Forwarded-Host": host, "Accept": "text/html"}
        )
        assert (404, "") == (answer.status, answer["Location"])


DEEP = [
    DOSSIER + "/patients/42?onglet=biologie&x=%20y%2F&vide=&x=2",
    DOSSIER + "/a%2Fb/%C3%A9t%c3%a9;v=1?q=%2B+%26&to=https://evil.example/#x",
    DOSSIER + "/?a[]=1&b={2}|3&c=~'()*!$,:@",
    DOSSIER + "/" + "d" * (2000 - len(DOSSIER) - 1),
    DOSSIER + "/?" + "&".join(["k=%25"] * 300),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(DEEP)))
def test_RED_12_deep_targets(shared: Running, number: int) -> None:
    """A deep address of up to 2 000 bytes comes back byte-identical after a whole sign-in, through every hand-off."""
    browser = Browser()
    url = DEEP[number].partition("#")[0]  # what a proxy sees of it
    assert len(url) <= 2000
    shared.clock.advance(31)
    answer = shared.sign_in(browser, "docteur-dupont", url)
    assert (200, url) == (answer.status, answer.url)


def test_RED_12_fragment(shared: Running, inside: Browser) -> None:
    """A fragment in `to` is part of the address that comes back."""
    to = DOSSIER + "/a?b=c#d/e?f"
    answer = shared.get(inside, f"{START}?to={quote(to, safe='')}")
    assert DOSSIER + "/psc/handoff?to=" + quote(to, safe="") == answer["Location"]


def test_RED_12_longer_than_promised(running: Running) -> None:
    """One byte more than 2 000 leads to the app's first page."""
    browser = Browser()
    url = DOSSIER + "/" + "d" * (2001 - len(DOSSIER) - 1)
    answer = running.sign_in(browser, "docteur-dupont", url)
    assert (200, DOSSIER + "/") == (answer.status, answer.url)


def test_without_or_doubled_target(shared: Running, inside: Browser) -> None:
    """No `to`, or two: home, which with several apps is «my session», and never the second one's evil."""
    for query in ("", "?to=", f"?to={DOSSIER}/&to=https://evil.example/"):
        answer = shared.get(inside, START + query)
        assert (answer.status, answer["Location"]) in ((303, ORIGIN + "/psc/session"), (400, ""))


def test_CB_12_cookies_of_deep_targets(running: Running) -> None:
    """Twenty tabs with the longest addresses: never more than five cookies and 6 KiB, each below 4 096 bytes, and the newest arrives."""
    browser = Browser()
    urls = []
    for number in range(20):
        url = f"{DOSSIER}/{number:03}" + "e" * 1900
        urls.append((url, begun(running, browser, url)))
        kept = {name: value for name, value in browser.jar[AUTH_HOST].items() if "-login-" in name}
        assert len(kept) <= 5
        assert sum(len(name) + len(value) for name, value in kept.items()) <= 6 * 1024
        assert all(len(name) + len(value) < 4096 for name, value in kept.items())
    url, address = urls[-1]
    assert url == running.follow(browser, address, "docteur-dupont").url


def test_CB_16_start_of_a_prefetch(shared: Running) -> None:
    """A browser that only thinks ahead, HEAD and a foreign method begin nothing: no cookie, nobody is sent to PSC."""
    browser = Browser()
    url = f"{START}?to={quote(DOSSIER + '/', safe='')}"
    for headers in ({"Sec-Purpose": "prefetch;prerender"}, {"Purpose": "prefetch"}, {"X-Moz": "prefetch"}):
        answer = shared.request(browser, "GET", url, headers=headers)
        assert (403, "") == (answer.status, answer["Location"])
    for method in ("HEAD", "PUT", "DELETE", "PATCH", "TRACE"):
        assert 405 == shared.request(browser, method, url).status
    assert {} == browser.jar.get(AUTH_HOST, {})


def test_cookies_of_a_sign_in(running: Running) -> None:
    """COOK-01: every cookie is host-only, HttpOnly, Secure, Lax, below 4 096 bytes, and says nothing in clear."""
    browser = Browser()
    lines: list[str] = []
    url = running.check(browser, DOSSIER + "/secret-path")["Location"]
    for _ in range(12):
        if url.startswith(running.simulator.authorization_endpoint):
            url = running.simulator.sign_in(url, "docteur-dupont", cookies=browser.psc)
            continue
        answer = running.get(browser, url)
        lines += answer.headers.get("set-cookie", [])
        url = answer["Location"]
        if url == DOSSIER + "/secret-path":
            break
    assert url == DOSSIER + "/secret-path"
    assert 4 <= len(lines)
    for line in lines:
        name, _, rest = line.partition("=")
        assert name == "__Host-psc" or name.startswith("__Host-psc-login-")
        for attribute in ("; Path=/", "; HttpOnly", "; Secure", "; SameSite=Lax"):
            assert attribute in line
        assert "omain" not in line
        assert len(line) < 4096
        for clear in ("dossier", "secret-path", "899700000001", "DUPONT", "Dupont"):
            assert clear not in rest


# -- the pages before PSC --------------------------------------------------------------------------------------------------------


def test_lost_page(running: Running) -> None:
    """A form sent after the session's end: 303 to a page that says nothing was sent, on which one button signs in and returns."""
    browser = Browser()
    asked = running.check(
        browser,
        PRESCRIPTION + "/save",
        method="POST",
        dialect="forward",
        headers={"Referer": PRESCRIPTION + "/form?id=3"},
    )
    assert 303 == asked.status
    page = running.get(browser, asked["Location"])
    french_page(page, 200, "avant l’envoi")
    assert "Retour" in page.text
    answer = running.follow(browser, button(page), "docteur-dupont")
    assert (200, PRESCRIPTION + "/form?id=3") == (answer.status, answer.url)


def test_lost_page_without_referer(running: Running) -> None:
    """Without a Referer of the same origin the button leads to the app's first page."""
    for referer in ({}, {"Referer": "https://evil.example/form"}, {"Referer": DOSSIER + "/other-app"}):
        asked = running.check(Browser(), PRESCRIPTION + "/save", method="POST", headers=referer)
        assert "to=" + quote(PRESCRIPTION, safe="") + "%2F&" in asked["Location"] + "&"


def test_frame_page(running: Running) -> None:
    """In a frame: a page on the app's own host, which only our apps may frame, whose link opens the sign-in at top level."""
    browser = Browser()
    headers = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}
    asked = running.check(browser, DOSSIER + "/widget", headers=headers)
    assert asked["Location"].startswith(DOSSIER + "/psc/start?to=")
    page = running.get(browser, asked["Location"])
    french_page(page, 200)
    assert 'target="_top"' in page.text
    policy = page["Content-Security-Policy"]
    assert DOSSIER in policy.partition("frame-ancestors")[2]
    assert "X-Frame-Options" not in page.headers
    assert {} == browser.jar.get("dossier.hopital.example", {})
    assert 200 == running.follow(browser, button(page), "docteur-dupont").status


def test_other_pages_are_never_framed(shared: Running) -> None:
    """Without frame=1 nobody may frame a page of ours."""
    page = shared.get(Browser(), f"{START}?to={quote(DOSSIER + '/', safe='')}&why=ended")
    assert "frame-ancestors 'none'" in page["Content-Security-Policy"]


def test_ended_is_said_once(running: Running) -> None:
    """A login that ended by itself is told of on the sign-in page; its button leads on, and the next start says nothing of it."""
    browser = Browser()
    running.sign_in(browser, "docteur-dupont")
    running.clock.advance(1801)
    asked = running.check(browser, DOSSIER + "/x")
    assert "why=ended" in asked["Location"]
    page = running.get(browser, asked["Location"])
    french_page(page, 200, "Identifiez-vous")
    assert "Votre session a pris fin" in page.text
    answer = press(running, browser, page)
    assert 303 == answer.status
    assert answer["Location"].startswith(running.simulator.authorization_endpoint)
    arrived = running.follow(browser, answer["Location"], "docteur-dupont")
    assert (200, DOSSIER + "/x") == (arrived.status, arrived.url)


PAGE_APPS = APPS.replace('title = "Dossier patient"', 'title = "Dossier patient"\nsign_in = "page"')


def test_sign_in_page(tmp_path: Path) -> None:
    """`sign_in = "page"`: the button first, by POST with its token; without the token, with a foreign one, or from another site: the page
    again, and nobody is sent to PSC."""
    with another(tmp_path, apps=PAGE_APPS) as running:
        browser = Browser()
        page = running.get(browser, running.check(browser, DOSSIER + "/a")["Location"])
        french_page(page, 200, "Identifiez-vous")
        assert "a pris fin" not in page.text
        address, fields = form(page)
        assert ORIGIN + "/psc/start" == address
        elsewhere = running.get(Browser(), f"{START}?to={quote(DOSSIER + '/', safe='')}")
        refused = [
            running.request(browser, "POST", address, form=f"to={quote(DOSSIER, safe='')}"),
            running.request(browser, "POST", address, form=f"to={quote(DOSSIER, safe='')}&token="),
            running.request(browser, "POST", address, form=f"to={quote(DOSSIER, safe='')}&token={'A' * 60}"),
            running.request(browser, "POST", address, form=f"to={quote(DOSSIER, safe='')}&token={fields['token']}&token={fields['token']}"),
            press(running, browser, page, Sec_Fetch_Site="cross-site"),
            press(running, browser, page, Sec_Fetch_Site="same-site"),
        ]  # fmt: skip
        for answer in refused:
            assert 303 == answer.status
            assert answer["Location"].startswith(START + "?to=")
        old_browser = {"Origin": "https://evil.example"}
        answer = running.request(
            browser,
            "POST",
            address,
            form="&".join(f"{name}={quote(value, safe='')}" for name, value in fields.items()),
            headers=old_browser,
        )
        assert answer["Location"].startswith(START)
        assert not [name for name in browser.jar.get(AUTH_HOST, {}) if "-login-" in name]
        assert 200 == elsewhere.status
        good = press(running, browser, page)
        assert good["Location"].startswith(running.simulator.authorization_endpoint)
        assert 200 == running.follow(browser, good["Location"], "docteur-dupont").status
        assert (
            303 == running.get(browser, f"{START}?to={quote(DOSSIER + '/', safe='')}").status
        )  # who is in is not asked


def test_sign_in_page_left_open(tmp_path: Path) -> None:
    """The page left open for a night: its button leads to a fresh page, whose button works."""
    with another(tmp_path, apps=PAGE_APPS) as running:
        browser = Browser()
        page = running.get(browser, running.check(browser, DOSSIER + "/a")["Location"])
        running.clock.advance(12 * 3600)
        again = running.follow(browser, press(running, browser, page)["Location"])
        french_page(again, 200, "Identifiez-vous")
        answer = running.follow(browser, press(running, browser, again)["Location"], "docteur-dupont")
        assert (200, DOSSIER + "/a") == (answer.status, answer.url)


def test_posted_target_is_judged_too(shared: Running) -> None:
    """The hidden address of the form is believed no more than the one in a link."""
    page = shared.get(Browser(), f"{START}?to={quote(DOSSIER + '/', safe='')}&why=ended")
    address, fields = form(page)
    for to in ("https://evil.example/", "//evil.example", f"{DOSSIER}@evil.example"):
        body = f"token={quote(fields['token'], safe='')}&to={quote(to, safe='')}"
        answer = shared.request(Browser(), "POST", address, form=body, headers={"Sec-Fetch-Site": "same-origin"})
        assert (400, "") == (answer.status, answer["Location"])


def test_switch(running: Running) -> None:
    """«Changer de professionnel»: PSC is asked to authenticate anew although somebody is signed in here and there."""
    browser = Browser()
    running.sign_in(browser, "docteur-dupont")
    answer = running.get(browser, f"{START}?to={quote(DOSSIER + '/', safe='')}&switch=1")
    assert asked_anew(answer["Location"])
    plain = running.get(browser, f"{START}?to={quote(DOSSIER + '/', safe='')}")
    assert not asked_anew(plain["Location"])


def test_loop_page_after_three(shared: Running) -> None:
    """The third start that comes back without its cookie is a page that names the likely cause, and sends nobody to PSC."""
    before = metric(shared, "sign_ins_total", outcome="loop")
    answer = shared.get(Browser(), f"{START}?to={quote(DOSSIER + '/x', safe='')}&again=3")
    french_page(answer, 400, "tourne en rond")
    assert "cookies" in answer.text
    assert DOSSIER in answer.text
    assert DOSSIER + "/" == button(answer)
    assert before + 1 == metric(shared, "sign_ins_total", outcome="loop")


def test_language(shared: Running) -> None:
    """French first; English for a browser that prefers it, or for whoever chose it."""
    url = f"{START}?to={quote(DOSSIER + '/', safe='')}&why=ended"
    assert "Identifiez-vous" in title(shared.get(Browser(), url))
    assert "Sign in" in title(shared.get(Browser(), url, Accept_Language="en-GB,en;q=0.9,fr;q=0.5"))
    assert "Sign in" in title(shared.get(Browser(), url + "&lang=en"))
    assert "Identifiez-vous" in title(shared.get(Browser(), url, Accept_Language="\xff;;;,q=,en;q=x"))


def test_machines_read_problems(shared: Running) -> None:
    """Who is no browser gets application/problem+json, with the reference where there is a page's."""
    machine = {"Accept": "application/json"}
    bad = problem_of(shared.request(Browser(), "GET", f"{START}?to=https%3A%2F%2Fevil.example", headers=machine))
    assert (400, "urn:psc-forward-auth:bad_target") == (bad["status"], bad["type"])
    assert bad["reference"]
    stale = problem_of(shared.request(Browser(), "GET", ORIGIN + "/psc/callback?code=c&state=s", headers=machine))
    assert 400 == stale["status"]
    for method, path, status in (
        ("GET", "/psc/nothing", 404),
        ("PUT", "/psc/start", 405),
        ("GET", "/psc/session", 401),
    ):
        assert status == problem_of(shared.request(Browser(), method, ORIGIN + path, headers=machine))["status"]
    fetching = {"Accept": "*/*", "Sec-Fetch-Mode": "cors"}
    assert 400 == problem_of(shared.request(Browser(), "GET", f"{START}?to=x", headers=fetching))["status"]


def test_too_many_parameters(shared: Running) -> None:
    """A query of thousands of parameters is a bad request, not a slow one."""
    answer = shared.get(Browser(), START + "?" + "&".join(["a=b"] * 2000))
    assert (400, "") == (answer.status, answer["Location"])


def test_odd_parameters(shared: Running) -> None:
    """max_age and acr that are no such thing count as absent; they never ask PSC for less, nor reach its address."""
    to = quote(DOSSIER + "/", safe="")
    for odd in (
        "max_age=-1",
        "max_age=1e3",
        "max_age=%D9%A1",
        "max_age=99999999999",
        "acr=a%0d%0ab%C3%A9",
        "again=-1",
        "again=x",
    ):
        answer = shared.get(Browser(), f"{START}?to={to}&{odd}")
        assert answer["Location"].startswith(shared.simulator.authorization_endpoint)
        assert "acr_values=eidas1" in answer["Location"]
        assert "max_age=" not in answer["Location"]


# -- PSC away --------------------------------------------------------------------------------------------------------------------


def test_IDP_01_psc_slow_to_answer(running: Running) -> None:
    """PSC accepts connections and says nothing: who is in stays in at once, who arrives reads a page within three seconds."""
    inside, new = Browser(), Browser()
    running.sign_in(inside, "docteur-dupont")
    asked = running.check(new, DOSSIER + "/")["Location"]
    with running.simulator.faults.during("all.hang"):
        hung = time.monotonic()
        soon(lambda: time.monotonic() - hung > 1.05)  # an answer is believed for a second
        began = time.monotonic()
        page = running.get(new, asked)
        assert time.monotonic() - began < 3.2
        french_page(page, 503, "Pro Santé Connect ne répond pas")
        assert int(page["Retry-After"]) > 0
        assert DOSSIER + "/" in button(page).replace("%3A", ":").replace("%2F", "/")
        assert {} == new.jar.get(AUTH_HOST, {})
        assert 200 == running.check(inside, DOSSIER + "/").status
    soon(lambda: running.call(running.service.outer.psc.answering()), 10)
    assert 200 == running.follow(new, button(page), "docteur-dupont").status


def test_IDP_15_psc_says_later(running: Running) -> None:
    """temporarily_unavailable and login_required come back from PSC: a French page with a button that works, and no loop."""
    for error in ("temporarily_unavailable", "login_required", "server_error", "interaction_required"):
        browser = Browser()
        with running.simulator.faults.during("authorize.error", error):
            url = running.simulator.sign_in(begun(running, browser), "docteur-dupont", cookies=browser.psc)
            page = running.get(browser, url)
        assert page.status in (400, 403, 503)
        french_page(page, page.status)
        assert not [name for name in browser.jar[AUTH_HOST] if "-login-" in name]
        assert 200 == running.follow(browser, button(page), "docteur-dupont").status
