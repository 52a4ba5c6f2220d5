"""The whole way as people live it: Chromium, a real nginx with TLS, the real program, applications that know nothing of PSC.

Each story is one sentence. In all of them the browser's console must have nothing to complain of on our pages.
"""

import contextlib
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from browser_rig import ARGUMENTS, Person, Site, choose, make_certificates, received
from playwright.sync_api import Browser, Error, Page, Playwright, expect, sync_playwright
from proxies.nginx import binary
from running import Clock, SimulatorThread, shared_key

from forward_auth.simulator import Simulator

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (Debian: apt install chromium)"),
    pytest.mark.skipif(binary() is None, reason="nginx is not installed (Debian: apt install nginx)"),
]
People = Callable[..., Person]
PICK = re.compile(r"Qui s.identifie")


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    """Debian's Chromium, which finds every host on this machine."""
    chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
    yield chromium
    chromium.close()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def site(tmp_path: Path, psc: Simulator, clock: Clock, certificates: Path) -> Iterator[Site]:
    """The hospital, on a clock that the story turns."""
    with Site(tmp_path, psc, clock, certificates) as here:
        yield here


@pytest.fixture
def person(browser: Browser) -> Iterator[People]:
    """`person()` sits down at a browser of their own; at the end no console may have complained."""
    there: list[Person] = []

    def sit_down(**options: object) -> Person:
        there.append(Person(browser, **options))
        return there[-1]

    yield sit_down
    for one in there:
        one.close()
    assert [] == [complaint for one in there for complaint in one.complaints]


@pytest.fixture
def tab(person: People) -> Page:
    """One tab of one professional."""
    return person().tab()


def enter(tab: Page, url: str, name: str = "docteur-dupont") -> None:
    """From an address to the application, by way of PSC."""
    tab.goto(url)
    expect(tab.locator("h1")).to_have_text(PICK)
    choose(tab, name)
    tab.wait_for_url(url)


def title(tab: Page) -> str:
    """The heading, with plain spaces and apostrophes."""
    return re.sub(r"\s", " ", tab.locator("h1").inner_text()).replace("’", "'")


# -- in ----------------------------------------------------------------------------------------------------------------------------


def test_sign_in_and_enter(site: Site, tab: Page) -> None:
    """One click at PSC is all a professional does; the application, which knows nothing of PSC, greets her by name."""
    landed: list[str] = []
    tab.on("framenavigated", lambda frame: landed.append(frame.url))
    enter(tab, site.dossier + "/")
    assert "Bonjour CAMILLE DUPONT" == tab.locator("#hello").inner_text()
    assert 2 == len(landed), "a page at PSC, and the application"
    assert 2 == site.simulator.counts["authorize"], "the page, and the click"


def test_a_deep_link_comes_back_byte_for_byte(site: Site, tab: Page) -> None:
    """A link into the middle of the application, with an odd query, is exactly the page that opens after the sign-in."""
    target = "/patients/42%2F7;v=1/?onglet=biologie&vide=&x=%20a%2Bb+c%26d&é=%C3%A9&e%CC%81=1&&z=%00~'()*!"
    tab.goto(site.dossier + target)
    choose(tab)
    expect(tab.locator("#request")).to_have_text("GET " + target.replace("é", "%C3%A9").replace("'", "%27"))


def test_two_applications_one_sign_in(site: Site, tab: Page) -> None:
    """The second application, on another domain, opens without a question."""
    enter(tab, site.dossier + "/")
    tab.get_by_role("link", name="Prescription").click()
    tab.wait_for_url(site.prescription + "/")
    assert "DUPONT" == tab.locator("#user").inner_text()
    assert 1 == site.simulator.counts["code"]


def test_keyboard_only(site: Site, tab: Page) -> None:
    """Nobody needs a mouse: our sign-out page, its button and the new sign-in work with Tab and Enter alone."""
    enter(tab, site.dossier + "/")
    tab.goto(site.dossier + "/psc/sign-out")
    press(tab, "Me déconnecter")
    tab.wait_for_url("**/psc/signed-out*")
    press(tab, "S'identifier avec Pro Santé Connect")
    expect(tab.locator("h1")).to_have_text(PICK)
    press(tab, "Camille Dupont")
    tab.wait_for_url(re.compile("/psc/session$"))
    assert "Ma session" == title(tab)


def press(tab: Page, name: str) -> None:
    """Tab to the link or button of that name, then Enter."""
    for _ in range(30):
        tab.keyboard.press("Tab")
        if name in (tab.locator(":focus").inner_text() if tab.locator(":focus").count() else ""):
            tab.keyboard.press("Enter")
            return
    raise AssertionError(f"the keyboard does not reach «{name}»")


@pytest.mark.parametrize("locale", ["en-GB", "de-DE"])
def test_english_by_the_browsers_language(site: Site, person: People, locale: str) -> None:
    """Who has an English browser reads English, everybody else French."""
    tab = person(locale=locale).tab()
    tab.goto(site.auth + "/psc/signed-out")
    assert ("You are signed out" if locale == "en-GB" else "Votre session est fermée") == title(tab)


def test_english_by_the_switch(site: Site, tab: Page) -> None:
    """A French page has a link to itself in English."""
    enter(tab, site.dossier + "/", "infirmiere-leroy")
    tab.goto(site.auth + "/psc/session")
    tab.get_by_role("link", name="English").click()
    expect(tab.locator("h1")).to_have_text("My session")


# -- no ----------------------------------------------------------------------------------------------------------------------------


def test_wrong_profession(site: Site, tab: Page) -> None:
    """A nurse at the prescription reads in French why not, with a reference for the help desk; a doctor takes her place with one click."""
    tab.goto(site.prescription + "/")
    choose(tab, "infirmiere-leroy")
    expect(tab.locator(".reference")).to_be_visible()
    assert "Vous n'avez pas accès à cette page" == title(tab)
    assert site.prescription + "/" == tab.url, "the address stays the one she asked for"
    reference = re.search(r"Référence\s*:\s*([\w-]+)", tab.locator(".reference").inner_text())
    assert reference is not None
    assert reference[1] in [line.get("reference") for line in site.running.audit()]
    tab.get_by_role("link", name="Changer de professionnel").click()
    expect(tab.locator("h1")).to_have_text(PICK)
    choose(tab, "docteur-dupont")
    tab.wait_for_url(site.prescription + "/")
    assert "DUPONT" == tab.locator("#user").inner_text()


@pytest.mark.parametrize("status", [401, 403, 500, 503])
def test_the_applications_own_error_pages_are_untouched(site: Site, tab: Page, status: int) -> None:
    """When the application itself refuses or fails, its own page is read, not one of ours."""
    enter(tab, site.prescription + "/")
    answer = tab.goto(f"{site.prescription}/status/{status}")
    assert answer is not None
    assert (status, str(status)) == (answer.status, tab.locator("#status").inner_text())


def test_a_script_without_session_hears_401(site: Site, tab: Page) -> None:
    """A script of the application whose session ended hears 401 and no redirect, so that it can say so."""
    enter(tab, site.dossier + "/")
    assert 200 == tab.evaluate("fetch('/api').then(answer => answer.status)")
    tab.context.clear_cookies(name="__Host-psc")
    heard = tab.evaluate("fetch('/api').then(answer => [answer.status, answer.redirected, answer.type])")
    assert [401, False, "basic"] == heard


def test_the_service_is_stopped(site: Site, tab: Page) -> None:
    """While our service is stopped a French page says so with status 503, and «Réessayer» opens the page asked for once it is back."""
    enter(tab, site.dossier + "/a?b=1")
    site.running.stop()
    answer = tab.reload()
    assert answer is not None
    assert 503 == answer.status
    assert "Le service d'identification ne répond pas" == title(tab)
    sign_out = tab.goto(site.dossier + "/psc/sign-out")
    assert sign_out is not None
    assert 503 == sign_out.status
    tab.goto(site.dossier + "/a?b=1")
    site.running.start()
    tab.get_by_role("link", name="Réessayer").click()
    expect(tab.locator("#request")).to_have_text("GET /a?b=1")


# -- tabs, history -----------------------------------------------------------------------------------------------------------------


def test_the_back_button_after_the_sign_in(site: Site, tab: Page) -> None:
    """Going back to PSC after the sign-in leads on to the application again, as often as one likes: no error, no second sign-in."""
    enter(tab, site.dossier + "/a")
    for _ in range(3):
        tab.go_back()
        expect(tab.locator("#hello")).to_have_text("Bonjour CAMILLE DUPONT")
        assert site.dossier + "/" == tab.url, "a callback that was used leads to the start of the application"
        tab.goto(site.dossier + "/a")
    assert 1 == site.simulator.counts["code"]


def test_two_tabs_sign_in_at_the_same_time(site: Site, person: People) -> None:
    """Two tabs wait at PSC at once; each arrives at its own address, whichever answers first."""
    she = person()
    first, second = she.tab(), she.tab()
    first.goto(site.dossier + "/first")
    second.goto(site.dossier + "/second?x=1")
    choose(second)
    second.wait_for_url(site.dossier + "/second?x=1")
    choose(first)
    first.wait_for_url(site.dossier + "/first")
    for tab in (first, second):
        tab.reload()
        expect(tab.locator("#hello")).to_have_text("Bonjour CAMILLE DUPONT")


def test_five_tabs_restored_in_the_morning(site: Site, person: People) -> None:
    """A browser opens five tabs of yesterday: a person signs in in each, and each arrives at its own address."""
    she = person()
    urls = [f"{site.dossier}/patients/{number}" for number in range(5)]
    tabs = [she.tab() for _ in urls]
    for tab, url in zip(tabs, urls, strict=True):
        tab.goto(url, wait_until="commit")
    for tab in tabs:
        expect(tab.locator("h1")).to_have_text(PICK)
    for tab in tabs:
        choose(tab)
        expect(tab.locator("h1")).to_have_text("Dossier patient")
    assert urls == [tab.url for tab in tabs]


def test_five_tabs_of_another_application_at_once(site: Site, person: People) -> None:
    """Who is signed in opens five tabs of another application at once: no tab takes that for a loop."""
    she = person()
    enter(she.tab(), site.dossier + "/")
    urls = [f"{site.prescription}/{number}" for number in range(5)]
    tabs = [she.tab() for _ in urls]
    # All five ask before the first is answered: what a browser does that restores its tabs.
    for tab, url in zip(tabs, urls, strict=True):
        tab.evaluate("url => { setTimeout(() => { location.href = url }, 0) }", url)
    for tab in tabs:
        expect(tab.locator("h1")).to_have_text("Prescription")
    assert urls == [tab.url for tab in tabs]


# -- out ---------------------------------------------------------------------------------------------------------------------------


def test_sign_out_everywhere(site: Site, person: People) -> None:
    """Signed out in one tab: the next click in the other tab, on another application, asks to sign in, and PSC asks who it is."""
    she = person()
    dossier, prescription = she.tab(), she.tab()
    enter(dossier, site.dossier + "/")
    prescription.goto(site.prescription + "/portal")
    expect(prescription.locator("#user")).to_have_text("DUPONT")
    dossier.get_by_role("link", name="Se déconnecter").click()
    dossier.get_by_role("button", name="Me déconnecter").click()
    dossier.wait_for_url("**/psc/signed-out*")
    assert "Votre session est fermée" == title(dossier)
    assert 1 == site.simulator.counts["end_session"]
    prescription.goto(site.prescription + "/x")
    expect(prescription.locator("h1")).to_have_text(PICK)


def test_the_next_professional_never_meets_the_last_ones_session(site: Site, person: People) -> None:
    """On a shared workstation doctor B finds neither A's identity nor the session that the application kept for A in a cookie of its own."""
    workstation = person()
    tab = workstation.tab()
    enter(tab, site.prescription + "/")
    assert "DUPONT" == tab.locator("#user").inner_text()
    tab.goto(site.prescription + "/psc/session")
    tab.get_by_role("link", name="Changer de professionnel").click()
    expect(tab.locator("h1")).to_have_text(PICK)
    choose(tab, "dentiste-moreau")
    tab.wait_for_url(site.prescription + "/")
    assert "MOREAU" == tab.locator("#user").inner_text()
    tab.goto(site.prescription + "/psc/sign-out")
    tab.get_by_role("button", name="Me déconnecter").click()
    tab.wait_for_url("**/psc/signed-out*")
    assert "JSESSIONID" not in [cookie["name"] for cookie in workstation.context.cookies(site.prescription)]
    enter(tab, site.prescription + "/", "sage-femme-petit")
    assert "PETIT" == tab.locator("#user").inner_text()


# -- when something is missing -----------------------------------------------------------------------------------------------------


def test_cookies_are_refused(playwright: Playwright, tmp_path: Path, site: Site) -> None:
    """A browser that refuses all cookies ends in a page with a button each time, at last in one that names the cause; nothing turns in circles."""
    profile = tmp_path / "profile" / "Default"
    profile.mkdir(parents=True)
    (profile / "Preferences").write_text(json.dumps({"profile": {"default_content_setting_values": {"cookies": 2}}}))
    context = playwright.chromium.launch_persistent_context(
        profile.parent,
        executable_path=CHROMIUM,
        args=list(ARGUMENTS),
        ignore_https_errors=True,
        locale="fr-FR",
    )
    try:
        tab = context.new_page()
        tab.goto(site.dossier + "/")
        for _ in range(3):
            choose(tab)
            expect(tab.locator("h1")).to_have_text(re.compile("plus valable"))
            tab.get_by_role("link", name="S'identifier avec Pro Santé Connect").click()
            expect(tab.locator("h1")).not_to_have_text(re.compile("plus valable"))
        assert "L'identification tourne en rond" == title(tab)
        tab.get_by_text("Pour le service informatique").click()
        expect(tab.locator("li strong")).to_have_text("(le plus probable ici)")
        assert 3 + 3 == site.simulator.counts["authorize"]
        assert 0 == site.simulator.counts["code"]
    finally:
        context.close()


def test_psc_is_down(site: Site, person: People) -> None:
    """While PSC is away who is in works on; who is at PSC at that moment reads a French page, whose button works once PSC is back."""
    inside, late = person().tab(), person().tab()
    enter(inside, site.dossier + "/")
    late.goto(site.dossier + "/a?b=1")
    expect(late.locator("h1")).to_have_text(PICK)
    site.simulator.faults.set("token.close")
    choose(late, "infirmiere-leroy")
    expect(late.locator("h1")).to_have_text("Pro Santé Connect ne répond pas")
    inside.goto(site.dossier + "/x")
    expect(inside.locator("#hello")).to_have_text("Bonjour CAMILLE DUPONT")
    site.psc_down()
    inside.goto(site.dossier + "/y")
    expect(inside.locator("#hello")).to_have_text("Bonjour CAMILLE DUPONT")
    site.simulator.faults.clear()
    site.psc_up()
    try_again(late)  # PSC knows her already
    late.wait_for_url(site.dossier + "/a?b=1")
    expect(late.locator("#hello")).to_have_text(re.compile("LEROY"))


def try_again(tab: Page) -> None:
    """Click «Réessayer», as the page asks, until PSC is known to be back: within a few seconds."""
    end = time.monotonic() + 20
    while title(tab) == "Pro Santé Connect ne répond pas":
        assert time.monotonic() < end
        with tab.expect_navigation():
            tab.get_by_role("link", name="Réessayer").click()


def test_who_arrives_while_psc_is_down(site: Site, person: People) -> None:
    """Who comes for the first time while PSC is away reads a French page, not an error of the browser; its button works once PSC is back."""
    site.psc_down()
    late = person().tab()
    answer = None
    end = time.monotonic() + 10
    while answer is None:  # an answer of PSC is believed for one second
        with contextlib.suppress(Error):
            answer = late.goto(site.dossier + "/a?b=1")
        assert time.monotonic() < end
    assert (503, "Pro Santé Connect ne répond pas") == (answer.status, title(late))
    site.psc_up()
    try_again(late)
    expect(late.locator("h1")).to_have_text(PICK)
    choose(late, "infirmiere-leroy")
    late.wait_for_url(site.dossier + "/a?b=1")


def test_restart_in_mid_session(site: Site, tab: Page) -> None:
    """The service is restarted: the professional is still signed in, and notices nothing."""
    enter(tab, site.dossier + "/")
    site.running.restart()
    tab.goto(site.dossier + "/after")
    expect(tab.locator("#hello")).to_have_text("Bonjour CAMILLE DUPONT")
    assert 1 == site.simulator.counts["code"]


def test_CB_13_restart_between_leaving_and_returning(site: Site, tab: Page) -> None:
    """The service is restarted while the professional looks for the card at PSC: the sign-in ends where it was going."""
    tab.goto(site.dossier + "/patients/42?onglet=biologie")
    expect(tab.locator("h1")).to_have_text(PICK)
    site.running.restart()
    choose(tab)
    tab.wait_for_url(site.dossier + "/patients/42?onglet=biologie")
    assert "Bonjour CAMILLE DUPONT" == tab.locator("#hello").inner_text()


def test_kill_9_in_mid_session(person: People, tmp_path: Path, certificates: Path) -> None:
    """The service dies without a word and starts again: the professional is still signed in, in both applications."""
    with (
        SimulatorThread(clients=[], key=shared_key()) as simulator,
        Site(tmp_path, simulator, None, certificates) as site,
    ):
        she = person()
        tab = she.tab()
        enter(tab, site.dossier + "/")
        tab.goto(site.prescription + "/")
        site.program.kill()
        site.program.start()
        tab.goto(site.dossier + "/after")
        expect(tab.locator("#hello")).to_have_text("Bonjour CAMILLE DUPONT")
        tab.goto(site.prescription + "/after")
        expect(tab.locator("#user")).to_have_text("DUPONT")
        assert 1 == simulator.counts["code"]
        she.close()


# -- forms, frames -----------------------------------------------------------------------------------------------------------------


def test_a_form_sent_after_the_session_ended(site: Site, tab: Page) -> None:
    """A form sent too late is not sent at all, and a page says so; Back shows the form with what was typed, and after the sign-in it is sent."""
    enter(tab, site.prescription + "/form")
    tab.locator("textarea").fill("Paracétamol 1 g")
    site.clock.advance(31 * 60)  # type: ignore[union-attr]  # this site has one
    tab.get_by_role("button", name="Envoyer").click()
    expect(tab.locator("h1")).to_have_text("Votre session a pris fin avant l’envoi")
    back_and_send_again(tab, site)


def test_writing_needs_a_recent_sign_in(site: Site, tab: Page) -> None:
    """After a quarter of an hour reading goes on, but writing asks PSC again, by way of the same page; what was typed is kept."""
    enter(tab, site.prescription + "/form")
    tab.locator("textarea").fill("Paracétamol 1 g")
    site.clock.advance(16 * 60)  # type: ignore[union-attr]  # this site has one
    reader = tab.context.new_page()
    reader.goto(site.prescription + "/read")
    expect(reader.locator("#user")).to_have_text("DUPONT")
    tab.get_by_role("button", name="Envoyer").click()
    expect(tab.locator("h1")).to_have_text("Votre session a pris fin avant l’envoi")
    back_and_send_again(tab, site)


def back_and_send_again(tab: Page, site: Site) -> None:
    """Sign in from the page that says nothing was sent, in another tab as many do; Back; send."""
    other = tab.context.new_page()
    other.goto(tab.url)
    other.get_by_role("link", name="S'identifier avec Pro Santé Connect").click()
    expect(other.locator("h1")).to_have_text(PICK)
    choose(other)
    other.wait_for_url(re.compile(re.escape(site.prescription)))
    tab.go_back()
    assert "Paracétamol 1 g" == tab.locator("textarea").input_value()
    tab.get_by_role("button", name="Envoyer").click()
    expect(tab.locator("#sent")).to_contain_text("text=Parac")
    assert site.prescription + "/write" == tab.url


def test_back_from_the_lost_page_after_the_sign_in_in_the_same_tab(site: Site, tab: Page) -> None:
    """Who signs in from the page that says nothing was sent comes back to the application, and history still leads to the form."""
    enter(tab, site.prescription + "/form")
    tab.locator("textarea").fill("Paracétamol 1 g")
    site.clock.advance(31 * 60)  # type: ignore[union-attr]  # this site has one
    tab.get_by_role("button", name="Envoyer").click()
    tab.get_by_role("link", name="S'identifier avec Pro Santé Connect").click()
    choose(tab)
    tab.wait_for_url(site.prescription + "/**")
    assert "DUPONT" == tab.locator("#user").inner_text()


def test_a_page_in_a_frame(site: Site, tab: Page) -> None:
    """When the session has ended, a frame of the application shows a link that opens the sign-in in the whole window."""
    enter(tab, site.prescription + "/portal")
    site.clock.advance(31 * 60)  # type: ignore[union-attr]  # this site has one
    tab.get_by_role("link", name="Ouvrir").click()
    frame = tab.frame_locator("iframe")
    expect(frame.locator("h1")).to_have_text("Identification nécessaire")
    frame.get_by_role("link", name="S'identifier avec Pro Santé Connect").click()
    expect(tab.locator("h1")).to_have_text(PICK)
    choose(tab)
    tab.wait_for_url(site.prescription + "/portal")
    tab.get_by_role("link", name="Ouvrir").click()
    expect(frame.locator("#user")).to_have_text("DUPONT")


# -- what the application gets -----------------------------------------------------------------------------------------------------


def test_the_application_gets_all_cookies_but_ours(site: Site, tab: Page) -> None:
    """Cookies of the application arrive as the browser sent them; our ticket never does."""
    enter(tab, site.dossier + "/")
    tab.context.add_cookies(
        [
            {"name": name, "value": value, "url": site.dossier}
            for name, value in (("a", '"x y"'), ("psc2", "b"), ("z", ""))
        ]
    )
    tab.reload()
    cookies = received(tab)["cookie"]
    assert {"application=seen", 'a="x y"', "psc2=b", "z="} == set(cookies.split("; "))
    assert "__Host-psc" in [cookie["name"] for cookie in tab.context.cookies(site.dossier)]


def test_a_forged_identity_never_arrives(site: Site, tab: Page) -> None:
    """A browser that says itself who it is, in any spelling, changes nothing of what the application reads."""
    enter(tab, site.dossier + "/", "infirmiere-leroy")
    tab.set_extra_http_headers(
        {"X-PSC-Subject": "forged", "x_psc_subject": "forged", "X-PSC-Account": "forged", "X-Forwarded-User": "kept"}
    )
    tab.reload()
    headers = received(tab)
    assert "899700000043" == headers["x-psc-subject"]
    assert "forged" not in headers.values()
    assert "kept" == headers["x-forwarded-user"], "the extra headers were sent"
