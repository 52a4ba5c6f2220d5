"""MIX-01 … MIX-03 through nginx with the shipped files: an answer of another issuer is nobody's. Alone: tests/web/test_callback.py."""

from pathlib import Path
from urllib.parse import quote

import pytest
from attack_rig import Place
from running import Browser
from signin_steps import begun, nobody_in, returned
from web.web_steps import another
from web.web_steps import returned as returned_elsewhere

pytestmark = pytest.mark.parametrize("place", ["nginx"], indirect=True)


def test_MIX_01_callback_of_another_deployment(place: Place, tmp_path: Path) -> None:
    """The whole callback of another service at another PSC, cookies and all, brought to our address: a page, and neither PSC hears of it."""
    before = place.simulator.counts["token"]
    with another(tmp_path) as second:
        foreign = Browser()
        url = returned_elsewhere(second, foreign).replace(
            "https://auth.hopital.example", place.origin("auth.hopital.example")
        )
        assert url.startswith(place.origin("auth.hopital.example"))
        nobody_in(place, foreign, place.get(foreign, url), 400)
        assert 0 == second.simulator.counts["token"]
    assert before == place.simulator.counts["token"]


@pytest.mark.parametrize("issuer", ["https://evil.example", "", None, "slash", "twice"])
def test_MIX_02_issuer_of_the_answer(place: Place, issuer: str | None) -> None:
    """`iss` of another, empty, missing though announced, with a slash more, or twice: 400, no other endpoint is called."""
    browser, before = Browser(), place.simulator.counts["token"]
    url = returned(place, browser)
    ours = quote(place.simulator.issuer, safe="")
    assert f"iss={ours}" in url
    if issuer is None:
        changed = url.replace(f"&iss={ours}", "").replace(f"?iss={ours}&", "?")
    elif issuer == "twice":
        changed = f"{url}&iss={ours}"
    else:
        told = place.simulator.issuer + "/" if issuer == "slash" else issuer
        changed = url.replace(f"iss={ours}", "iss=" + quote(told, safe=""))
    assert changed != url
    nobody_in(place, browser, place.get(browser, changed), 400)
    assert before == place.simulator.counts["token"]


@pytest.mark.parametrize("issuer", ["https://evil.example", None])
def test_MIX_03_error_of_another_issuer(place: Place, issuer: str | None) -> None:
    """An error that another issuer sends, or nobody says who: 400, and nobody reads that they cancelled."""
    browser = Browser()
    state = begun(place, browser).partition("state=")[2].partition("&")[0]
    told = "" if issuer is None else "&iss=" + quote(issuer, safe="")
    callback = place.origin("auth.hopital.example") + "/psc/callback"
    answer = place.get(browser, f"{callback}?error=access_denied&state={state}{told}")
    nobody_in(place, browser, answer, 400)
    assert "annulée" not in answer.text
