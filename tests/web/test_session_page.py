"""«My session» and «why was I refused»: shown to whom they belong, as a page and as JSON, and never a token."""

import json

import pytest
from running import DOSSIER, ORIGIN, PRESCRIPTION, Browser, Running
from web_steps import french_page, metric, press, problem_of

SESSION = ORIGIN + "/psc/session"
MACHINE = {"Accept": "application/json"}


@pytest.fixture(scope="module")
def doctor(shared: Running) -> Browser:
    browser = Browser()
    shared.sign_in(browser, "docteur-dupont")
    return browser


def test_page(shared: Running, doctor: Browser) -> None:
    """At the origin and on an app's host: who, since when, until when, which apps, and three ways on."""
    for url in (SESSION, DOSSIER + "/psc/session"):
        page = shared.get(doctor, url)
        french_page(page, 200, "Ma session")
        for part in (
            "Médecin",
            "Carte CPS",
            "Dossier patient",
            "Me déconnecter",
            "Changer de professionnel",
            "switch=1",
        ):
            assert part in page.text
        assert "Prescription" not in page.text
        assert "899700000001" not in page.text


def test_json(shared: Running, doctor: Browser) -> None:
    """The same for programs: exactly these members, times in Unix seconds."""
    answer = shared.request(doctor, "GET", SESSION, headers=MACHINE)
    assert (200, "application/json", "no-store") == (
        answer.status,
        answer["Content-Type"].partition(";")[0],
        answer["Cache-Control"],
    )
    document = json.loads(answer.body)
    now = int(shared.clock())
    assert {
        "signed_in", "given_name", "family_name", "profession", "structure", "acr", "auth_mode", "auth_time", "idle_ends", "ends", "apps",
    } == set(document)  # fmt: skip
    assert (True, "10", "eidas1", "CARD", ["dossier"]) == tuple(
        document[name] for name in ("signed_in", "profession", "acr", "auth_mode", "apps")
    )
    assert document["auth_time"] + 4 * 3600 == document["ends"]
    assert now < document["idle_ends"] <= now + 1800


def test_nobody(shared: Running) -> None:
    """Without a session: programs get 401 with a challenge that makes no browser ask for a password; people are sent to sign in and come back."""
    for host in (ORIGIN, DOSSIER):
        answer = shared.request(Browser(), "GET", host + "/psc/session", headers=MACHINE)
        assert 401 == problem_of(answer)["status"]
        assert 'Bearer realm="psc"' == answer["WWW-Authenticate"]
        assert shared.get(Browser(), host + "/psc/session")["Location"].startswith(ORIGIN + "/psc/start?to=")
    browser = Browser()
    answer = shared.follow(
        browser,
        shared.get(browser, SESSION)["Location"].replace("/psc/session", "/psc/session"),
        "docteur-dupont",
        hops=6,
    )
    french_page(answer, 200, "Ma session")


def test_looking_is_no_activity(running: Running) -> None:
    """A page or a program that asks again and again keeps nobody signed in."""
    browser = Browser()
    running.sign_in(browser, "docteur-dupont")
    for _ in range(4):
        running.clock.advance(600)
        answer = running.request(browser, "GET", DOSSIER + "/psc/session", headers=MACHINE)
    assert 401 == answer.status
    assert 401 == running.check(browser, DOSSIER + "/").status


def test_sign_out_button(running: Running) -> None:
    """The button of the page leads to the question, whose button signs out."""
    browser = Browser()
    running.sign_in(browser, "docteur-dupont")
    page = running.get(browser, SESSION)
    assert 'action="/psc/sign-out"' in page.text or 'href="/psc/sign-out"' in page.text
    answer = press(running, browser, running.get(browser, ORIGIN + "/psc/sign-out"))
    assert 303 == answer.status
    assert 401 == running.check(browser, DOSSIER + "/").status


def test_head(shared: Running, doctor: Browser) -> None:
    """HEAD of a page that only shows is answered like GET, without a body."""
    answer = shared.request(doctor, "HEAD", SESSION)
    assert (200, b"") == (answer.status, answer.body)


# -- refused ---------------------------------------------------------------------------------------------------------------------


def refusal(running: Running, browser: Browser) -> str:
    """A nurse at the prescription: -> the reference of the 403."""
    assert 200 == running.sign_in(browser, "infirmiere-leroy").status
    answer = running.follow(browser, PRESCRIPTION + "/x")
    assert 403 == answer.status
    return answer["X-PSC-Reference"]


def test_refused_for_whom_it_is(running: Running) -> None:
    """The details are for the ticket they were made for, five minutes long: not for a stranger, nor for another professional."""
    nurse, doctor = Browser(), Browser()
    reference = refusal(running, nurse)
    running.sign_in(doctor, "docteur-dupont")
    running.follow(doctor, PRESCRIPTION + "/")
    url = f"{PRESCRIPTION}/psc/refused?ref={reference}"
    assert "Médecin" in running.get(nurse, url).text
    for other in (doctor, Browser()):
        page = running.get(other, url)
        french_page(page, 403)
        assert "Médecin" not in page.text
        assert "Leroy" not in page.text
        assert "LEROY" not in page.text
    running.clock.advance(301)
    page = running.get(nurse, url)
    assert (403, False) == (page.status, "Médecin" in page.text)


@pytest.mark.parametrize(
    "query", ["", "?ref=", "?ref=AAAA-AAAA", "?ref=<script>alert(1)</script>", "?ref=" + "A" * 5000, "?ref=a&ref=b"]
)
def test_PAGE_01_refused_by_a_stranger(shared: Running, query: str) -> None:
    """A made-up reference is never repeated on the page, and tells nothing."""
    page = shared.get(Browser(), PRESCRIPTION + "/psc/refused" + query.replace("<", "%3C").replace(">", "%3E"))
    assert 403 == page.status
    assert "<script" not in page.text
    assert "alert(1)" not in page.text.replace("alert(1)%3C", "").replace("%3Ealert(1)", "")
    assert "Médecin" not in page.text


def test_refused_for_programs(running: Running) -> None:
    """As a problem: the reference, and what is required for whom it is."""
    nurse = Browser()
    reference = refusal(running, nurse)
    url = f"{PRESCRIPTION}/psc/refused?ref={reference}"
    document = problem_of(running.request(nurse, "GET", url, headers=MACHINE))
    assert (403, reference) == (document["status"], document["reference"])
    assert "Médecin" in str(document["detail"])
    assert "detail" not in problem_of(running.request(Browser(), "GET", url, headers=MACHINE))


def test_refused_counts_once(running: Running) -> None:
    """The same refusal again and again within five minutes has one reference and one line in the trail; later a new line tells how many."""
    nurse = Browser()
    reference = refusal(running, nurse)
    for _ in range(5):
        assert reference == running.check(nurse, PRESCRIPTION + "/y")["X-PSC-Reference"]
    assert 1 == len([line for line in running.audit() if line["event"] == "refused"])
    assert 6 == metric(running, "checks_total", dialect="nginx", app="prescription", outcome="forbidden")
