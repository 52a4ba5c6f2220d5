"""IDP-01, 02, 03, 05, 08, 11, 12, 15 through nginx with the shipped files: PSC is away, slow, wrong or under repair, and the pages that say so reach people as they are.

Every fault alone is in tests/psc/ and tests/web/test_callback.py. Here nginx stands between: it must neither replace a page of ours by its own, nor
drop Retry-After, nor let anybody in; who is in stays in.
"""

import time

import pytest
from attack_rig import DOCTOR, SUBJECTS, Place
from running import Browser
from signin_steps import arrived, asked, begun, nobody_in, returned
from web.web_steps import button, soon

pytestmark = pytest.mark.parametrize("place", ["nginx"], indirect=True)


def test_IDP_01_psc_refuses_connections(place: Place) -> None:
    """Who is in stays in; who arrives reads our 503 with Retry-After within three seconds; when PSC is back, the button works."""
    simulator, psc = place.simulator, place.running.service.outer.psc
    simulator.call(simulator.stop())
    soon(lambda: not place.running.call(psc.answering()))
    browser = Browser()
    began = time.monotonic()
    page = place.get(browser, asked(place, browser))
    assert time.monotonic() - began < 3
    nobody_in(place, browser, page, 503, fault=True)
    assert "5" == page["Retry-After"]
    assert "Pro Santé Connect ne répond pas" in page.text
    simulator.call(simulator.start())
    soon(lambda: place.running.call(psc.answering()), 10)
    arrived(place, place.follow(browser, button(page), DOCTOR), SUBJECTS[DOCTOR])


@pytest.mark.parametrize(
    "fault",
    [
        "code.error_500",
        "code.error_429",
        "code.html",
        "code.not_json",
        "code.endless",
        "code.gzip_bomb",
        "userinfo.error_503",
        "userinfo.list",
    ],
)
def test_IDP_02_03_answers_that_are_none(place: Place, fault: str) -> None:
    """An error, a maintenance page with 200, a body without end or a bomb, from the token endpoint or userinfo: a page, the code is sent once."""
    browser, before = Browser(), place.simulator.counts["token"]
    url = returned(place, browser)
    with place.simulator.faults.during(fault):
        page = place.get(browser, url)
    nobody_in(place, browser, page, 400, 403, 503, fault=True)
    assert before + 1 == place.simulator.counts["token"]
    soon(lambda: place.running.call(place.running.service.outer.psc.answering()), 10)


@pytest.mark.parametrize("fault", ["code.redirect", "userinfo.redirect"])
def test_IDP_08_redirects(place: Place, fault: str) -> None:
    """PSC answers with a redirect: nobody follows it, neither we nor the browser."""
    browser = Browser()
    url = returned(place, browser)
    with place.simulator.faults.during(fault):
        nobody_in(place, browser, place.get(browser, url), 400, 403, 503, fault=True)
    soon(lambda: place.running.call(place.running.service.outer.psc.answering()), 10)


def test_IDP_05_key_rotated(place: Place) -> None:
    """PSC signs with a new key from one sign-in to the next, and no longer shows the old one: nobody notices."""
    place.clock.advance(31)  # an unknown key is asked for at most twice a minute
    place.simulator.rotate_keys(keep=False)
    browser = Browser()
    arrived(place, place.follow(browser, begun(place, browser), DOCTOR), SUBJECTS[DOCTOR])


@pytest.mark.parametrize(
    "fault", ["userinfo.sub_other", "userinfo.subject_other", "userinfo.jwt", "userinfo.unauthorized"]
)
def test_IDP_11_userinfo_of_another(place: Place, fault: str) -> None:
    """Userinfo about somebody else, unsigned or refused: everything is discarded, nobody is in."""
    browser = Browser()
    url = returned(place, browser)
    with place.simulator.faults.during(fault):
        nobody_in(place, browser, place.get(browser, url), 400, 403, 503, fault=True)


def test_IDP_12_a_renewal_is_refused(place: Place) -> None:
    """PSC has ended the session without telling us: the next renewal hears of it, and nginx sends her to sign in again."""
    browser, simulator = Browser(), place.simulator
    place.sign_in(browser, DOCTOR)
    place.good_request()
    url, (*_, sid) = place.origin() + "/secret/x", simulator.realm.sessions
    simulator.call(simulator.end_session(sid, notify=False))
    place.clock.advance(11 * 60)
    assert 200 == place.check(browser, url).status
    soon(lambda: place.check(browser, url).status == 302, 12)
    assert "why=ended" in asked(place, browser)


@pytest.mark.parametrize("error", ["temporarily_unavailable", "login_required", "server_error"])
def test_IDP_15_psc_under_repair(place: Place, error: str) -> None:
    """PSC sends people back with an error: a French page, no loop, and the button works when PSC does."""
    browser = Browser()
    with place.simulator.faults.during("authorize.error", error):
        url = place.simulator.sign_in(begun(place, browser), DOCTOR, cookies=browser.psc)
        page = place.get(browser, url)
    nobody_in(place, browser, page, 400, 403, 503, fault=True)
    arrived(place, place.follow(browser, button(page), DOCTOR), SUBJECTS[DOCTOR])
