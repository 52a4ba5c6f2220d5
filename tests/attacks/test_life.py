"""LIFE-05 through nginx with the shipped files: a stricter rule meets people who are in, and people who are on their way in.

Alone, as a signal to the process, and with a wrong file: tests/cli/test_process.py.
"""

import pytest
from attack_rig import APPS, DOCTOR, NURSE, Place
from running import Browser
from signin_steps import returned, with_code

pytestmark = pytest.mark.parametrize("place", ["nginx"], indirect=True)
STRICTER = APPS.replace('require = { acr = ["eidas1"] }', 'require = { profession = ["10", "50"] }')


@pytest.mark.usefixtures("mild_again")
def test_LIFE_05_a_stricter_rule_holds_at_once(place: Place) -> None:
    """nginx keeps its connections, and the very next request of somebody who was in is refused; who meets the rule goes on; the old rule lets her in again."""
    url, browser = place.origin() + "/dossier/1", place.house.browsers[NURSE]
    assert 200 == place.check(browser, url).status
    place.running.reload(apps=STRICTER)
    assert 403 == place.check(browser, url).status
    assert 200 == place.check(place.house.browsers[DOCTOR], url).status
    place.running.reload(apps=APPS)
    assert 200 == place.check(browser, url).status


@pytest.mark.usefixtures("mild_again")
def test_LIFE_05_a_stricter_rule_meets_who_is_on_the_way(place: Place) -> None:
    """A callback and a one-time code of before the reload still end, on the page of the refusal; nobody is sent round."""
    url = place.origin() + "/dossier/2"
    at_psc, with_a_code = Browser(), Browser()
    callback, handoff = returned(place, at_psc, NURSE, "/dossier/2"), with_code(place, with_a_code, NURSE, "/dossier/2")
    place.running.reload(apps=STRICTER)
    for browser, address in ((at_psc, callback), (with_a_code, handoff)):
        answer = place.follow(browser, address, hops=8)
        assert (403, url) == (answer.status, answer.url)
        place.look_over(answer)
