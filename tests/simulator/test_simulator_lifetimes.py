"""Lifetimes, with the clock turned: each limit holds on its last second and not on the next."""

import pytest


def test_code_lives_under_a_minute(rp, clock):
    """59 s after the callback the code is good, 60 s after it is not."""
    for waited, status in ((59, 200), (60, 400)):
        back, _, verifier = rp.callback()
        clock.now += waited
        assert rp.redeem(back["code"], verifier).status == status


def test_access_token_lives_two_minutes(rp, clock):
    """Userinfo answers at 119 s and refuses at 120 s."""
    tokens, _ = rp.sign_in()
    clock.now += 119
    assert rp.userinfo(tokens["access_token"]).status == 200
    clock.now += 1
    assert rp.userinfo(tokens["access_token"]).status == 401


def test_refresh_token_and_idle_session_live_half_an_hour(rp, clock):
    """Without activity both end after 30 minutes; the browser then sees the page again."""
    tokens, _ = rp.sign_in()
    clock.now += 1799
    renewed = rp.refresh(tokens["refresh_token"])
    assert renewed.status == 200
    clock.now += 1800
    assert rp.refresh(renewed.json["refresh_token"]).json["error"] == "invalid_grant"
    assert rp.http("GET", rp.request()[0]).status == 200


def test_activity_keeps_the_session_until_four_hours(rp, clock):
    """Renewed every 20 minutes it lives, and ends at 4 h whatever happens; the last tokens do not outlive it."""
    tokens, _ = rp.sign_in()
    started = clock.now
    while clock.now + 1200 < started + 14400:
        clock.now += 1200
        answer = rp.refresh(tokens["refresh_token"])
        assert answer.status == 200
        tokens = answer.json
    clock.now = started + 14400 - 60
    tokens = rp.refresh(tokens["refresh_token"]).json
    assert (tokens["expires_in"], tokens["refresh_expires_in"]) == (60, 60)
    assert rp.http("GET", rp.request()[0]).status == 302
    clock.now = started + 14400
    assert rp.refresh(tokens["refresh_token"]).status == 400
    assert rp.userinfo(tokens["access_token"]).status == 401
    assert rp.http("GET", rp.request()[0]).status == 200


def test_silent_sign_on_keeps_auth_time(rp, clock):
    """auth_time is when the person proved who they are, up to 4 h before the token."""
    rp.sign_in()
    for _ in range(7):
        clock.now += 1700
        tokens, _ = rp.sign_in("")
    claims = rp.verify(tokens["id_token"])
    assert claims["iat"] - claims["auth_time"] == 7 * 1700


def test_date_header_follows_the_clock(rp, clock):
    """A client that measures its skew by the Date header sees the turned clock."""
    clock.now = 1_900_000_000
    rp.psc.advance(7)
    assert rp.http("GET", rp.psc.discovery_url).headers["Date"] == "Sun, 17 Mar 2030 17:46:47 GMT"
    rp.psc.faults.set("date.off", 60)
    assert rp.http("GET", rp.psc.discovery_url).headers["Date"] == "Sun, 17 Mar 2030 17:47:47 GMT"


def test_down_and_up_again(rp):
    """Stopped, it refuses connections; started again, it has the same port, issuer, sessions and keys."""
    tokens, _ = rp.sign_in()
    port, issuer = rp.psc.port, rp.psc.issuer
    rp.psc.call(rp.psc.stop())
    with pytest.raises(ConnectionRefusedError):
        rp.discovery()
    rp.psc.call(rp.psc.start())
    assert (rp.psc.port, rp.psc.issuer) == (port, issuer)
    assert rp.discovery()["issuer"] == issuer
    assert rp.verify(rp.refresh(tokens["refresh_token"]).json["id_token"])
