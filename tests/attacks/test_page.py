"""PAGE-01 to PAGE-03: nothing that somebody sends becomes part of a page, and no page shows what only machines may know."""

import re

import pytest
from attack_rig import AUTH_HOST, DOCTOR, DOSSIER_HOST, NURSE, PRESCRIPTION_HOST, Place
from running import Browser

INJECTIONS = (
    "%3Cscript%3Ealert(1)%3C/script%3E",
    "%22%3E%3Cimg%20src=x%20onerror=alert(1)%3E",
    "%27%20onmouseover=alert(1)%20x=%27",
    "%0d%0aX-Evil:%201%0d%0a%0d%0a%3Cscript%3E",
    "%E2%80%A8%3C/style%3E%3Csvg%20onload=alert(1)%3E",
    "javascript:alert(1)",
    "{{7919*7919}}{%25%20debug%20%25}",
    "%00%ff%fe",
)
PLACES = (
    "callback?error={0}&error_description={0}&state=s",
    "callback?code={0}&state={0}",
    "start?to={0}",
    "start?to=https%3A%2F%2Fdossier.hopital.example%2F&why={0}&lost={0}&frame={0}",
    "refused?ref={0}",
    "handoff?code={0}&bind={0}&to={0}",
    "sign-out?to={0}",
    "signed-out?state={0}",
    "session?lang={0}",
    "{0}",
    "static/{0}",
)


@pytest.mark.parametrize("injection", INJECTIONS)
def test_PAGE_01_reflected_values(place: Place, injection: str) -> None:
    """Markup, line breaks and template words, wherever a value is taken from an address: no tag, no handler, no line of a header."""
    for host in (AUTH_HOST, DOSSIER_HOST):
        for where in PLACES:
            told = place.request(
                Browser(),
                "GET",
                f"{place.origin(host)}/psc/{where.format(injection)}",
                headers={"Accept-Language": "<script>"},
            )
            assert told.status < 500, where
            assert "" == told["X-Evil"]
            if told.headers.get("content-type", [""])[0].startswith("text/html"):
                shown = told.body.decode("utf-8", "replace")
                for tag in (
                    "<script",
                    "<img",
                    "<svg onload",
                    "</style><",
                    "onerror=alert(1)>",
                    "' onmouseover=alert(1) x='",
                ):
                    assert tag not in shown, where
                assert "javascript:" not in re.findall(r'(?:href|src|action)="([^"]*)"', shown)
                assert str(7919 * 7919) not in shown, where
            place.look_over(told, hands_out=True)


def test_PAGE_02_no_page_shows_a_token(place: Place) -> None:
    """All pages and JSON answers that one who has signed in can ask for, on every host, and what the application and refused ones get: nothing in
    them is a token, a ticket, a code or a key."""
    browser = place.house.browsers[DOCTOR]
    seen = 0
    for host in (AUTH_HOST, DOSSIER_HOST, PRESCRIPTION_HOST):
        for accept in ("text/html", "application/json"):
            for path in (
                "session",
                "sign-out",
                "signed-out",
                "refused?ref=AAAA-AAAA",
                "start?to=x",
                "callback?code=c&state=s",
                "handoff?code=x",
                "nothing",
            ):
                copy = Browser(jar={name: dict(jar) for name, jar in browser.jar.items()})
                told = place.request(copy, "GET", f"{place.origin(host)}/psc/{path}", headers={"Accept": accept})
                place.look_over(told, hands_out=True)
                assert not re.search(r"eyJ[A-Za-z0-9_-]{8,}\.", told.body.decode("utf-8", "replace"))
                seen += told.status == 200
    assert seen >= 8
    for who, target in ((DOCTOR, "/dossier"), (NURSE, "/secret/x"), (None, "/dossier")):
        outcome = place.ask(target, who, lines="Accept: text/html\r\n")
        assert "eyJ" not in repr(outcome.headers) + repr([heard.headers for heard in outcome.heard])


@pytest.mark.parametrize(
    "path",
    [
        "session",
        "signed-out",
        "callback?code=c&state=s",
        "start?to=https%3A%2F%2Fevil.example",
        "handoff?code=x",
        "nothing",
    ],
)
def test_PAGE_03_headers_of_a_page(place: Place, path: str) -> None:
    """Framed by nobody, no script, no sniffing, no referrer; a reason phrase of our own, one HSTS line, no version of ours."""
    told = place.request(Browser(), "GET", f"{place.origin(AUTH_HOST)}/psc/{path}")
    assert ["no-referrer"] == told.headers["referrer-policy"]
    assert ["nosniff"] == told.headers["x-content-type-options"]
    if told.status != 303:
        policy = told["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "<script" not in told.text
        assert 1 == len(told.headers["strict-transport-security"])
    assert told["Server"] == ("nginx" if place.by_nginx else "")


@pytest.mark.parametrize(
    "target",
    [
        "/psc/x%0d%0aX-Evil:%201",
        "/psc/static/%0d%0aX-Evil:%201",
        "/psc/start?to=%0d%0aX-Evil:%201",
        "//evil.example/%0d%0aX-Evil: 1",
    ],
)
def test_PAGE_03_no_line_can_be_put_in(place: Place, target: str) -> None:
    """An address with a line break in it makes no header and no other status line."""
    for host in (AUTH_HOST, DOSSIER_HOST):
        told = place.request(Browser(), "GET", place.origin(host) + target.replace(" ", "%20"))
        assert "" == told["X-Evil"]
        assert "evil" not in told["Location"].partition("?")[0]
        assert told.status in (303, 400, 404) or (told.status in (200, 302, 401) and target.startswith("//"))
