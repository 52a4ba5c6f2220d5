"""The steps of a sign-in as an attacker takes them one by one, at a `place` (alone or through nginx), and what must hold of each answer."""

from attack_rig import AUTH_HOST, DOSSIER_HOST, Place
from running import Answer, Browser
from web.web_steps import french_page

PATH = "/patients/42?onglet=biologie"


def asked(place: Place, browser: Browser, path: str = PATH) -> str:
    """A stranger asks the application: -> the address of /start that the proxy sends the browser to."""
    answer = place.check(browser, place.origin() + path)
    assert answer.status in (401, 302)
    return answer["Location"]


def begun(place: Place, browser: Browser, path: str = PATH) -> str:
    """A sign-in under way in this browser: -> the address of PSC."""
    answer = place.get(browser, asked(place, browser, path))
    place.look_over(answer, hands_out=True)
    assert answer["Location"].startswith(place.simulator.authorization_endpoint)
    return answer["Location"]


def returned(place: Place, browser: Browser, person: str = "docteur-dupont", path: str = PATH) -> str:
    """PSC has answered: -> the address of the callback, not yet called."""
    return place.simulator.sign_in(begun(place, browser, path), person, cookies=browser.psc)


def with_code(place: Place, browser: Browser, person: str = "docteur-dupont", path: str = PATH) -> str:
    """Signed in at the origin, bound at the application's host: -> the address with the one-time code, not yet called."""
    url = returned(place, browser, person, path)
    while "/psc/handoff?code=" not in url:
        answer = place.get(browser, url)
        assert 303 == answer.status
        url = answer["Location"]
    return url


def nobody_in(place: Place, browser: Browser, answer: Answer, *statuses: int, fault: bool = False) -> None:
    """A French page that leads nowhere by itself; no ticket anywhere; the application is not reached."""
    assert answer.status in statuses, (answer.status, answer.text[:300])
    french_page(answer, answer.status)
    place.look_over(answer, hands_out=True, fault=fault)
    assert not any("__Host-psc" in browser.jar.get(host, {}) for host in (AUTH_HOST, DOSSIER_HOST))
    outside = place.check(browser, place.origin() + "/secret/x")
    assert outside.status in (401, 302)
    assert "x-psc-subject" not in outside.headers


def arrived(place: Place, answer: Answer, subject: str, path: str = PATH) -> None:
    """At the application, as that person, where the browser wanted to go."""
    assert (200, place.origin() + path, subject) == (answer.status, answer.url, answer["X-PSC-Subject"])
