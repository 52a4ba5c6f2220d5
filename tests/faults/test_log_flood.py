"""LOG-05: what anybody can send without being anybody does not fill the disk: the log and the trail say it, and then how often.

Refuses: to count as bounded what is bounded only for one spelling, one address or one host.
"""

import logging
import re
from collections.abc import Callable

import pytest
from running import DOSSIER, ORIGIN, Browser, Running
from web.web_steps import begun, copy_of, returned, soon

from forward_auth.logs import A_MINUTE

MOST = 3 * A_MINUTE
Flood = Callable[[Running, int], int]


def stale(running: Running, number: int) -> int:
    """A callback of the right form, from nobody, each another."""
    url = f"{ORIGIN}/psc/callback?code=c{number}&state={str(number).zfill(64)}"
    return running.request(Browser(), "GET", url, headers={"X-Forwarded-For": f"203.0.113.{number % 250}"}).status


def bad_target(running: Running, number: int) -> int:
    """A start that leads elsewhere."""
    return running.get(Browser(), f"{DOSSIER}/psc/start?to=https://evil{number}.example/").status


def foreign_code(running: Running, number: int) -> int:
    """A hand-off code that nobody gave."""
    return running.get(Browser(), f"{DOSSIER}/psc/handoff?code={str(number).zfill(64)}").status


def loop(running: Running, number: int) -> int:
    """A start that claims to be the fourth."""
    return running.get(Browser(), f"{ORIGIN}/psc/start?to={DOSSIER}/{number}&again=3").status


def logout(running: Running, number: int) -> int:
    """A logout token that PSC did not sign, from another address each time."""
    return running.request(
        Browser(),
        "POST",
        f"{ORIGIN}/psc/backchannel-logout",
        form=f"logout_token=a.b{number}.c",
        headers={"X-Forwarded-For": f"198.51.{number}.1"},
    ).status


@pytest.mark.parametrize("flood", [stale, bad_target, foreign_code, loop, logout])
def test_LOG_05_a_flood_is_a_bounded_number_of_lines(
    running: Running, caplog: pytest.LogCaptureFixture, flood: Flood
) -> None:
    """Three times as many as a minute may write: each is answered, no more than those are in the log, the rest is a number; next minute anew."""
    caplog.set_level(logging.DEBUG, "forward_auth")
    caplog.clear()
    statuses = {flood(running, number) for number in range(MOST)}
    assert statuses <= {400, 508}, statuses
    assert A_MINUTE == len(caplog.records)
    caplog.clear()
    running.clock.advance(60)
    soon(
        lambda: any(f" {MOST - A_MINUTE} more" in each.getMessage() for each in caplog.records)
    )  # told without another
    caplog.clear()
    flood(running, MOST)
    assert 1 == len(caplog.records)


def test_LOG_05_one_kind_does_not_hide_another(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    """While strangers send what leads nowhere, a professional whose sign-in fails still has a line, with the reference of the page."""
    for number in range(A_MINUTE + 5):
        stale(running, number)
        bad_target(running, number)
    caplog.clear()
    browser = Browser()
    url = returned(running, browser)
    with running.simulator.faults.during("token.error_503"):
        page = running.get(browser, url)
    assert 503 == page.status
    reference = re.search(r"[2-9A-HJ-NP-Z]{4}-[2-9A-HJ-NP-Z]{4}", page.text)
    assert reference is not None
    assert any(reference[0] in each.getMessage() for each in caplog.records)


def test_LOG_05_one_answer_of_psc_is_one_line_of_the_trail(running: Running) -> None:
    """An answer «no» to a real start, sent again and again with its cookie: the trail, which may refuse nobody a line, has it once."""
    browser = Browser()
    state = begun(running, browser).partition("state=")[2].partition("&")[0]
    url = f"{ORIGIN}/psc/callback?error=access_denied&state={state}&iss={running.simulator.issuer}"
    statuses = [running.get(copy_of(browser), url).status for _ in range(20)]
    assert [403] + 19 * [400] == statuses
    assert 1 == len(running.audit())
