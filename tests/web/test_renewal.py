"""Renewal at PSC while somebody works: when it happens, what of PSC's answer is believed, and that nobody waits for it."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from running import DOSSIER, PRESCRIPTION, Browser, Running
from web_steps import another, heard, metric, soon

from forward_auth.simulator import Lifetimes

ELEVEN_MINUTES = 11 * 60


def signed_in(running: Running, url: str = PRESCRIPTION + "/", person: str = "docteur-dupont") -> Browser:
    browser = Browser()
    assert 200 == running.sign_in(browser, person, url).status
    return browser


def refreshed(running: Running) -> int:
    return running.simulator.counts["refresh"]


def renewals(running: Running, outcome: str) -> float:
    return metric(running, "renewals_total", outcome=outcome)


def use(running: Running, browser: Browser, url: str = PRESCRIPTION + "/", seconds: int = ELEVEN_MINUTES) -> None:
    """Work on after so many seconds."""
    running.clock.advance(seconds)
    heard(running)
    assert 200 == running.check(browser, url).status


def until(running: Running, browser: Browser, true: Callable[[], object], url: str = PRESCRIPTION + "/") -> None:
    """Go on working until it is so."""
    soon(lambda: running.check(browser, url) and true())


def ended(running: Running) -> list[str]:
    return [line["cause"] for line in running.audit() if line["event"] == "ended"]


def test_activity_renews(running: Running) -> None:
    """Decision 14: nine minutes after the sign-in activity renews nothing; after a third of the refresh token's life it does, once; and again
    a third of the new one's life later."""
    browser = signed_in(running)
    use(running, browser, seconds=540)
    began = time.monotonic()
    soon(lambda: time.monotonic() - began > 0.3)  # the task looks twenty times a second here
    assert 0 == refreshed(running)
    use(running, browser, seconds=60)
    until(running, browser, lambda: renewals(running, "renewed") == 1)
    for _ in range(5):
        assert 200 == running.check(browser, PRESCRIPTION + "/").status
    use(running, browser)
    until(running, browser, lambda: renewals(running, "renewed") == 2)
    assert 2 == refreshed(running)
    assert 200 == running.check(browser, PRESCRIPTION + "/").status


def test_no_renewal_without_activity(tmp_path: Path) -> None:
    """Nobody works, or only a page in the background asks: nothing is renewed until shortly before the refresh token lapses."""
    apps = '[apps.dossier]\norigins = ["https://dossier.hopital.example"]\nbackground_paths = ["/poll"]\n'
    with another(tmp_path, apps=apps, lifetimes=Lifetimes(refresh=900)) as running:
        browser = signed_in(running, DOSSIER + "/")
        running.clock.advance(290)
        use(running, browser, DOSSIER + "/poll", 290)
        began = time.monotonic()
        soon(lambda: time.monotonic() - began > 0.3)
        assert 0 == refreshed(running)
        running.clock.advance(900 - 580 - 50)  # our own idle limit is later than PSC's
        soon(lambda: renewals(running, "renewed") == 1)
        assert 1 == refreshed(running)


def test_changed_profession_counts_at_once(running: Running) -> None:
    """PSC says at a renewal that the profession has changed: the next check is decided by it, and other apps get the new header."""
    browser = signed_in(running)
    running.follow(browser, DOSSIER + "/")
    assert "10" == running.check(browser, DOSSIER + "/")["X-PSC-Profession"]
    nurse = running.simulator.userinfo("infirmiere-leroy")["SubjectRefPro"]
    with running.simulator.faults.during("userinfo.document", {"SubjectRefPro": nurse}):
        use(running, browser)
        until(running, browser, lambda: renewals(running, "renewed") == 1)
    assert 403 == running.check(browser, PRESCRIPTION + "/").status
    answer = running.check(browser, DOSSIER + "/")
    assert (200, "60", "899700000001") == (answer.status, answer["X-PSC-Profession"], answer["X-PSC-Subject"])
    running.restart()
    assert 403 == running.check(browser, PRESCRIPTION + "/").status


@pytest.mark.parametrize("error", ["invalid_grant", "access_denied"])
def test_IDP_12_refused(running: Running, error: str) -> None:
    """PSC refuses the refresh token: the login is over everywhere, as an ordinary end that is told as such, without an alert."""
    browser = signed_in(running)
    running.follow(browser, DOSSIER + "/")
    with running.simulator.faults.during("refresh.oauth_error", error):
        use(running, browser)
        until(running, browser, lambda: renewals(running, "refused") == 1 and ended(running))
    for url in (PRESCRIPTION + "/", DOSSIER + "/"):
        asked = running.check(browser, url)
        assert 401 == asked.status
        assert "why=ended" in asked["Location"]
    assert ["renewal"] == ended(running)
    assert 0 == renewals(running, "changed")
    running.restart()
    assert 401 == running.check(browser, PRESCRIPTION + "/").status


def test_IDP_12_session_ended_at_psc(running: Running) -> None:
    """The professional signed out at PSC and its back-channel logout was lost: the next renewal ends the login here."""
    browser = signed_in(running)
    simulator = running.simulator
    for sid in list(simulator.realm.sessions):
        simulator.call(simulator.end_session(sid, notify=False))
    use(running, browser)
    until(running, browser, lambda: renewals(running, "refused") == 1 and ended(running))
    assert 401 == running.check(browser, PRESCRIPTION + "/").status


def test_IDP_12_another_person(running: Running) -> None:
    """Somebody else's tokens come back: the login ends, and the metric for an alert counts it."""
    browser = signed_in(running)
    with running.simulator.faults.during("refresh.other_person", "infirmiere-leroy"):
        use(running, browser)
        until(running, browser, lambda: renewals(running, "changed") == 1 and ended(running))
    assert 401 == running.check(browser, PRESCRIPTION + "/").status
    assert ["subject_changed"] == ended(running)
    assert 1 == metric(running, "sign_outs_total", cause="subject_changed")


def test_IDP_12_another_national_id(running: Running) -> None:
    """The same `sub`, another SubjectNameID, in the ID token and in userinfo alike: ended, and counted as changed."""
    browser = signed_in(running)
    faults = running.simulator.faults
    with faults.during("refresh_id_token.subject_other"), faults.during("userinfo.subject_other"):
        use(running, browser)
        until(running, browser, lambda: renewals(running, "changed") == 1 and ended(running))
    assert 401 == running.check(browser, PRESCRIPTION + "/").status
    assert ["subject_changed"] == ended(running)


@pytest.mark.parametrize("fault", ["userinfo.subject_other", "userinfo.other_person", "refresh_id_token.subject_other"])
def test_IDP_12_answers_that_contradict_each_other(running: Running, fault: str) -> None:
    """ID token and userinfo name different people: whatever becomes of the login, the other identity is never taken."""
    browser = signed_in(running)
    with running.simulator.faults.during(fault):
        use(running, browser)
        until(running, browser, lambda: renewals(running, "changed") + renewals(running, "error") == 1)
        answer = running.check(browser, PRESCRIPTION + "/")
    assert (answer.status, answer["X-PSC-Subject"]) in ((200, "899700000001"), (401, ""))


@pytest.mark.parametrize(
    "fault", ["refresh.close", "refresh.error_503", "refresh.html", "refresh.lost", "userinfo.error_500"]
)
def test_IDP_12_unreachable(running: Running, fault: str) -> None:
    """PSC cannot be asked: who works goes on to work, and a minute later it is tried again."""
    browser = signed_in(running)
    with running.simulator.faults.during(fault):
        use(running, browser)
        until(running, browser, lambda: renewals(running, "unreachable") + renewals(running, "error") == 1)
        assert 200 == running.check(browser, PRESCRIPTION + "/").status
    use(running, browser, seconds=61)
    until(running, browser, lambda: renewals(running, "renewed") == 1)
    assert [] == ended(running)


@pytest.mark.parametrize(
    "name", ["alg_none", "iss_wrong", "aud_wrong", "exp_past", "key_foreign", "sub_missing", "acr_lower"]
)
def test_IDP_12_renewed_token_that_is_not_believed(running: Running, name: str) -> None:
    """A renewed ID token that would not do at a sign-in does not do at a renewal: nothing of that answer is taken, nobody is put out."""
    browser = signed_in(running)
    with running.simulator.faults.during(f"refresh_id_token.{name}"):
        use(running, browser)
        until(
            running,
            browser,
            lambda: renewals(running, "error") + renewals(running, "changed") + renewals(running, "refused") == 1,
        )
    answer = running.check(browser, PRESCRIPTION + "/")
    assert answer.status in (200, 401)
    assert 0 == renewals(running, "renewed")


@pytest.mark.parametrize("fault", ["refresh_id_token.nonce_missing", "refresh.same_refresh_token"])
def test_IDP_12_what_is_accepted(running: Running, fault: str) -> None:
    """A renewed ID token without nonce, the same refresh token again: both are good."""
    browser = signed_in(running)
    with running.simulator.faults.during(fault):
        for number in (1, 2):
            use(running, browser)
            until(running, browser, lambda number=number: renewals(running, "renewed") == number)  # type: ignore[misc]  # a default is how a lambda binds
    assert 200 == running.check(browser, PRESCRIPTION + "/").status


def test_nobody_waits_for_a_renewal(running: Running) -> None:
    """PSC hangs in the middle of a renewal: checks are answered at once all the while."""
    browser = signed_in(running)
    with running.simulator.faults.during("refresh.hang"):
        use(running, browser)
        until(running, browser, lambda: refreshed(running) == 1)
        began = time.monotonic()
        for _ in range(20):
            assert 200 == running.check(browser, PRESCRIPTION + "/").status
        assert time.monotonic() - began < 2
    assert [] == ended(running)


def test_logout_during_a_renewal_wins(running: Running) -> None:
    """The person signs out while PSC is being asked: what PSC answers then revives nobody."""
    browser = signed_in(running)
    with running.simulator.faults.during("refresh.hang"):
        use(running, browser)
        until(running, browser, lambda: refreshed(running) == 1)
        running.sign_out(browser, PRESCRIPTION)
    time.sleep(0.2)
    assert 401 == running.check(browser, PRESCRIPTION + "/").status
    running.restart()
    assert 401 == running.check(browser, PRESCRIPTION + "/").status
    assert 0 == len(running.call(running.service.sessions.store.logins(int(running.clock()))))


def test_decision_25_crash_in_between(running: Running) -> None:
    """The service stops after PSC was asked and before the answer is written: after the restart the old refresh token is tried once more, and
    where PSC refuses it by then the login ends as an ordinary one."""
    browser = signed_in(running)
    running.simulator.realm.rotation = "revoke"
    with running.simulator.faults.during("refresh.lost"):
        use(running, browser)
        until(running, browser, lambda: refreshed(running) == 1)
        running.restart()
    use(running, browser, seconds=61)
    until(running, browser, lambda: renewals(running, "refused") + renewals(running, "renewed") >= 1)
    assert 2 == refreshed(running)
    if renewals(running, "refused"):
        asked = running.check(browser, PRESCRIPTION + "/")
        assert (401, True) == (asked.status, "why=ended" in asked["Location"])
    assert 0 == renewals(running, "changed")


def test_without_a_refresh_token(running: Running) -> None:
    """PSC gives no refresh token: the login lives to its own limits and nothing is asked."""
    browser = Browser()
    with running.simulator.faults.during("code.refresh_token_missing"):
        assert 200 == running.sign_in(browser, "docteur-dupont", PRESCRIPTION + "/").status
    use(running, browser)
    use(running, browser, seconds=1700)
    assert 0 == refreshed(running)
