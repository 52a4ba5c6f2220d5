"""PAGE-01 and PAGE-03, LIFE-05, RED-10 through nginx with the shipped files: pages and their headers arrive as we sent them, a reload holds at once, and nobody is led
round in a circle.

Alone: tests/web/test_addresses.py, test_pages_render.py, tests/cli/test_life.py; what Chromium does with a page: tests/stories/test_pages.py.
"""

from urllib.parse import quote

import pytest
from attack_rig import APPS, AUTH_HOST, DOCTOR, NURSE, PRESCRIPTION_HOST, Place
from running import Answer, Browser
from web.web_steps import french_page

pytestmark = pytest.mark.parametrize("place", ["nginx"], indirect=True)
MARKUP = (
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "javascript:alert(1)",
    "{{7*7}}",
    "\r\nX-Evil: 1\r\n\r\n<b>",
)


def safe(answer: Answer) -> None:
    """One of each of the headers that keep a page harmless; nothing that runs."""
    for name, value in (
        ("content-security-policy", "default-src 'none'"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
        ("strict-transport-security", "max-age=31536000"),
    ):
        values = answer.headers.get(name, [])
        assert 1 == len(values), (name, values)
        assert value in values[0]
    assert "x-evil" not in answer.headers
    for piece in ("<script", "<img src=x", ">49<", "<b>"):
        assert piece not in answer.text
    assert 'href="javascript' not in answer.text


@pytest.mark.parametrize("markup", MARKUP)
def test_PAGE_01_03_markup_in_every_value(place: Place, markup: str) -> None:
    """Markup, a template, a line end in whatever a page might show again: it is shown as text or not at all, and every header arrives once."""
    value = quote(markup, safe="")
    auth, app = place.origin(AUTH_HOST), place.origin()
    browser = Browser()
    for url in (
        f"{auth}/psc/start?to={value}",
        f"{auth}/psc/start?to={quote(app + '/', safe='')}&why=ended&lang={value}&acr={value}",
        f"{auth}/psc/callback?error={value}&error_description={value}&state={value}",
        f"{app}/psc/handoff?code={value}",
        f"{app}/psc/refused?ref={value}",
        f"{app}/psc/signed-out?state={value}&psc={value}",
        f"{app}/psc/{value}",
    ):
        answer = place.get(browser, url, Accept_Language="fr", Referer=f"https://evil.example/{value}")
        assert answer.status in (200, 400, 403, 404)
        safe(answer)
        place.look_over(answer, hands_out=True)


def test_PAGE_03_refused_page_of_a_check(place: Place) -> None:
    """The page of a refusal stands under the address that was asked, status 403, with the headers of our pages and none of nginx's own."""
    answer = place.check(place.house.browsers[NURSE], f"{place.origin()}/secret/{quote(MARKUP[0], safe='')}")
    french_page(answer, 403)
    safe(answer)
    place.look_over(answer)


def test_RED_10_application_she_may_not_use(place: Place) -> None:
    """The way back leads to an application whose rule she does not meet: a 403 page, no sign-in again and again."""
    url = f"https://{PRESCRIPTION_HOST}:{place.house.port}/ordonnance"
    browser = Browser()
    answer = place.follow(browser, f"{place.origin(AUTH_HOST)}/psc/start?to={quote(url, safe='')}", NURSE, hops=9)
    assert (403, url) == (answer.status, answer.url)
    assert 403 == place.check(browser, url).status
    place.look_over(answer)


def test_LIFE_05_a_stricter_rule_holds_at_once(place: Place) -> None:
    """A reload with a stricter rule while nginx keeps its connections: the very next request of somebody who was in is refused; the old rule lets her in again."""
    url, browser = place.origin() + "/dossier/1", place.house.browsers[NURSE]
    assert 200 == place.check(browser, url).status
    place.running.reload(apps=APPS.replace('require = { acr = ["eidas1"] }', 'require = { profession = ["10", "50"] }'))
    try:
        assert 403 == place.check(browser, url).status
        assert 200 == place.check(place.house.browsers[DOCTOR], url).status
    finally:
        place.running.reload(apps=APPS)
    assert 200 == place.check(browser, url).status
