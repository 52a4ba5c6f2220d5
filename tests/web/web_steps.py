"""The steps that the tests of the outer door are made of: begin a sign-in, read a page's button and form, wait for something to come true."""

import html
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from running import CLIENT, DOSSIER, ORIGIN, PRESCRIPTION, Answer, Browser, Clock, Running, SimulatorThread, shared_key

from forward_auth.simulator import Lifetimes

AUTH_HOST = "auth.hopital.example"
DOSSIER_HOST = "dossier.hopital.example"
PRESCRIPTION_HOST = "prescription.autre.example"
OURS = (ORIGIN, DOSSIER, PRESCRIPTION)
HANDED_BACK = re.compile(r"https://(auth\.hopital|dossier\.hopital|prescription\.autre)\.example/[!-~]*")
REFERENCE = re.compile(r"[2-9A-HJ-NP-Z]{4}-[2-9A-HJ-NP-Z]{4}")


def signed_in(running: Running, person: str = "docteur-dupont") -> Browser:
    """A browser in which somebody has just signed in."""
    browser = Browser()
    assert 200 == running.sign_in(browser, person).status
    return browser


def still_in(running: Running, browser: Browser) -> bool:
    """Whether the dossier lets this browser in."""
    return running.check(browser, DOSSIER + "/").status == 200


def begun(running: Running, browser: Browser, url: str = DOSSIER + "/a?b=1") -> str:
    """A sign-in under way: -> the address of PSC."""
    return running.get(browser, running.check(browser, url)["Location"])["Location"]


def returned(running: Running, browser: Browser, person: str = "docteur-dupont", url: str = DOSSIER + "/a?b=1") -> str:
    """PSC's answer to a new sign-in of this browser: the address of the callback, not yet called."""
    return running.simulator.sign_in(begun(running, browser, url), person, cookies=browser.psc)


def button(answer: Answer) -> str:
    """Where the main button of a page leads."""
    found = re.search(r'<p class="main-action"><a [^>]*href="([^"]*)"', answer.text)
    assert found is not None, answer.text
    return html.unescape(found[1])


def form(answer: Answer) -> tuple[str, dict[str, str]]:
    """The form of a page: -> (address, its hidden fields)."""
    address = re.search(r'<form [^>]*action="([^"]*)"', answer.text)
    assert address is not None, answer.text
    fields = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', answer.text)
    parts = urlsplit(answer.url)
    return f"{parts.scheme}://{parts.netloc}{html.unescape(address[1])}", {
        name: html.unescape(value) for name, value in fields
    }


def press(running: Running, browser: Browser, answer: Answer, **headers: str) -> Answer:
    """Send the form of a page, as a browser does from its own origin."""
    address, fields = form(answer)
    sent = {"Sec-Fetch-Site": "same-origin"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return running.request(browser, "POST", address, form=urlencode(fields), headers=sent)


def title(answer: Answer) -> str:
    return html.unescape(answer.text.partition("<h1>")[2].partition("</h1>")[0])


def french_page(answer: Answer, status: int, heading: str = "") -> None:
    """A page for people: French, with a reference where something went wrong, kept by nobody, leading nowhere by itself."""
    assert status == answer.status
    assert '<html lang="fr"' in answer.text
    assert heading in title(answer)
    assert "no-store" == answer["Cache-Control"]
    assert "" == answer["Location"]
    if status not in (200, 404):
        assert REFERENCE.search(answer.text)


def soon(true: Callable[[], object], seconds: float = 6) -> None:
    """Wait until it is so."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came to pass"
        time.sleep(0.01)


def heard(running: Running) -> None:
    """A clock that jumps makes the service read its store again, as after a long deafness: wait until it has."""
    soon(lambda: running.service.sessions._heard == running.clock())


def copy_of(browser: Browser) -> Browser:
    """Another browser with the same cookies."""
    return Browser(jar={host: dict(jar) for host, jar in browser.jar.items()}, psc=dict(browser.psc))


def sid_of(running: Running) -> str:
    """The session at PSC that was begun last."""
    return list(running.simulator.realm.sessions)[-1]


def logout_token(running: Running, **changes: object) -> str:
    """A logout token for the last session at PSC; `changes`: claims to replace, None removes one."""
    simulator = running.simulator
    session = simulator.realm.sessions[sid_of(running)]
    claims = simulator.logout_claims("hopital", session) | changes
    return simulator.sign("logout_token", {name: value for name, value in claims.items() if value is not None})


def tell_logout(running: Running, token: str, *, address: str = "203.0.113.5") -> Answer:
    """PSC's own request with that logout token."""
    return running.request(
        Browser(),
        "POST",
        ORIGIN + "/psc/backchannel-logout",
        form=f"logout_token={token}",
        headers={"X-Forwarded-For": address, "Accept": "*/*"},
    )


@contextmanager
def another(
    tmp_path: Path, *, apps: str | None = None, more: str = "", lifetimes: Lifetimes | None = None
) -> Iterator[Running]:
    """A service of its own, with other apps or sections, or a PSC with other lifetimes."""
    clock = Clock()
    with SimulatorThread(clients=[CLIENT], clock=clock, key=shared_key(), lifetimes=lifetimes) as simulator:
        more_apps = {} if apps is None else {"apps": apps}
        with Running(tmp_path, simulator, clock, more=more, **more_apps) as service:
            yield service


def metric(running: Running, name: str, **labels: str) -> float:
    """One number of /metrics."""
    wanted = {f'{key}="{value}"' for key, value in labels.items()}
    for key, value in running.metrics().items():
        head, _, told = key.partition("{")
        if head == "psc_forward_auth_" + name and set(filter(None, told.rstrip("}").split(","))) == wanted:
            return value
    raise KeyError(name, labels)


def problem_of(answer: Answer) -> dict[str, object]:
    """An RFC 9457 answer."""
    assert answer["Content-Type"].startswith("application/problem+json")
    document = json.loads(answer.body)
    assert answer.status == document["status"]
    assert document["type"]
    assert document["title"]
    return dict(document)


def asked_anew(location: str) -> bool:
    return "prompt=login" in location


__all__ = [
    "AUTH_HOST",
    "DOSSIER_HOST",
    "HANDED_BACK",
    "OURS",
    "PRESCRIPTION_HOST",
    "REFERENCE",
    "another",
    "asked_anew",
    "begun",
    "button",
    "copy_of",
    "form",
    "french_page",
    "heard",
    "logout_token",
    "metric",
    "press",
    "problem_of",
    "returned",
    "sid_of",
    "soon",
    "tell_logout",
    "title",
]
