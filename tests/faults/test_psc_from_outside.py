"""PSC is away, is somebody else, or tells another time: what professionals and administrators see of it (R5, the rows of IDP).

What single answers of PSC do is told in tests/web and tests/psc, fault by fault; here stand the long ones: four hours, another issuer, a new key,
a wrong clock, a certificate that has run out. Who is in stays in to the session's own limits, who arrives reads a French page, the log says what
it is, and when it is over nobody has to restart anything.
"""

import logging
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from running import CLIENT, DOSSIER, ORIGIN, PRESCRIPTION, Browser, Clock, Running, SimulatorThread, shared_key
from web.web_steps import copy_of, french_page, heard, logout_token, metric, returned, soon, tell_logout

from forward_auth import renewal, sessions
from forward_auth.clock import SteadyClock
from forward_auth.errors import ForwardAuthError
from forward_auth.simulator import Simulator

HOUR = 3600


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the service does at its own rhythm it does twenty times as often."""
    monkeypatch.setattr(renewal, "_LOOK", 0.05)
    monkeypatch.setattr(sessions, "_POLL", 0.02)


def psc_of(running: Running) -> Any:
    """The client; it looks after PSC ten times a second instead of once in five."""
    assert running.service.outer is not None
    psc: Any = running.service.outer.psc
    psc._probe_every = 0.1
    return psc


def learnt(running: Running) -> str:
    """PSC's metadata and keys are asked for now, as once an hour. -> what was wrong with them."""

    async def ask() -> str:
        try:
            await psc_of(running)._learning.join()
        except ForwardAuthError as error:
            return error.code
        return ""

    return running.call(ask())


def allowed(running: Running, browser: Browser, url: str = DOSSIER + "/") -> bool:
    answer = running.check(browser, url)
    assert answer.status in (200, 401)
    return answer.status == 200


def messages(caplog: pytest.LogCaptureFixture, *words: str) -> list[str]:
    """Lines of warning and worse with all these words."""
    lines = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    return [line for line in lines if all(word in line for word in words)]


def arrives(running: Running, status: int) -> None:
    """Somebody comes to sign in and reads a page."""
    browser = Browser()
    page = running.sign_in(browser, "sage-femme-petit")
    french_page(page, status)
    assert "/psc/start?to=" in page.text
    assert not any(name == "__Host-psc" for jar in browser.jar.values() for name in jar)


def test_R5_four_hours_without_psc(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    """PSC is away for four hours: all that time who works is let in, as far as its own limits go; arrivals read a page, a sign-out is one, who
    stopped working is out after half an hour, everybody after four; then PSC is back and so is everybody, without a restart."""
    working, idle, leaving = Browser(), Browser(), Browser()
    psc_of(running)
    for browser in (working, idle, leaving):
        running.sign_in(browser, "docteur-dupont")
    running.follow(working, PRESCRIPTION + "/")
    running.simulator.call(running.simulator.stop())
    soon(lambda: not running.call(psc_of(running).answering()))
    caplog.clear()
    for minutes in range(10, 240, 10):
        running.clock.advance(600)
        heard(running)
        assert allowed(running, working), minutes
        assert allowed(running, working, PRESCRIPTION + "/"), minutes
        if minutes in (40, 130, 220):
            arrives(running, 503)
            assert minutes < 30 or not allowed(running, idle)
        if minutes == 20:
            kept = copy_of(leaving)
            answer = running.sign_out(leaving)
            assert (303, ORIGIN + "/psc/signed-out?psc=untold") == (answer.status, answer["Location"])
            assert not allowed(running, kept)
        status, parts = running.ready()
        assert (200, True) == (status, "not answering" in parts["parts"]["psc"])
    assert 0.0 == metric(running, "psc_reachable")
    running.clock.advance(601)
    assert not allowed(running, working)  # its four hours are over
    assert len(caplog.records) < 200  # an outage is told, not repeated
    running.simulator.call(running.simulator.start())
    soon(lambda: running.call(psc_of(running).answering()))
    for browser in (working, idle):
        browser.psc.clear()
        assert 200 == running.sign_in(browser, "docteur-dupont").status
    assert 1.0 == metric(running, "psc_reachable")


def test_IDP_09_another_issuer(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    """The hourly look finds metadata of another issuer: not believed, said once and counted; sign-ins go on with what was known; a service
    that starts anew at that moment has its kept copy, one without a copy is not ready, says why, and is by itself once PSC is itself again."""
    inside = Browser()
    running.sign_in(inside, "docteur-dupont")
    faults = running.simulator.faults
    with faults.during("discovery.issuer_other"):
        assert {learnt(running) for _ in range(3)} == {"issuer_mismatch"}
        assert 1 == len(messages(caplog, "metadata or keys not refreshed", "issuer"))
        assert metric(running, "psc_requests_total", endpoint="discovery", outcome="refused") >= 1
        assert "not believed: issuer_mismatch" in running.ready()[1]["parts"]["psc"]
        assert allowed(running, inside)
        assert 200 == running.sign_in(Browser(), "infirmiere-leroy").status
        running.restart()
        assert 200 == running.ready()[0]
        assert allowed(running, inside)
        assert 200 == running.sign_in(Browser(), "infirmiere-leroy").status
        running.stop()
        for path in running.folder.glob("logins.db*"):
            path.unlink()
        running.start()
        psc_of(running)
        status, parts = running.ready()
        assert (503, True) == (status, "issuer" in parts["parts"]["psc"])
        assert 401 == running.check(Browser(), DOSSIER + "/").status
        arrives(running, 503)
    soon(lambda: 200 == running.ready()[0], 15)
    assert 200 == running.sign_in(Browser(), "docteur-dupont").status


def test_IDP_05_rotated_keys(running: Running) -> None:
    """PSC signs with a new key and publishes the old one no more: one fetch, and the sign-in succeeds; who came with the old one stays in; a
    logout token of the new key is believed, one of the old is not."""
    inside = Browser()
    running.sign_in(inside, "docteur-dupont")
    old = logout_token(running)
    before = running.simulator.counts["jwks"]
    running.simulator.rotate_keys(keep=False)
    browsers = [Browser() for _ in range(4)]
    assert {200} == {running.sign_in(browser, "infirmiere-leroy").status for browser in browsers}
    assert before + 1 == running.simulator.counts["jwks"]
    assert allowed(running, inside)
    assert 400 == tell_logout(running, old).status
    assert allowed(running, inside)
    assert 200 == tell_logout(running, logout_token(running)).status
    assert not allowed(running, browsers[-1])
    assert allowed(running, inside)


@pytest.mark.parametrize("seconds", [90, 300, -90, -300, 86_400, -86_400])
def test_IDP_14_psc_tells_another_time(running: Running, caplog: pytest.LogCaptureFixture, seconds: int) -> None:
    """Our clock and PSC's differ by minutes, by a day: who is in stays in; a sign-in whose token is from the future, or over, ends on a page;
    the log names the clock and by how much, once, and the metric says it; with the right time all goes on."""
    inside = Browser()
    running.sign_in(inside, "docteur-dupont")
    caplog.clear()
    running.simulator.clock_offset = seconds
    page = running.sign_in(Browser(), "infirmiere-leroy")
    if page.status != 200:
        french_page(page, page.status)
        assert page.status in (400, 403, 503)
        assert "infirmiere" not in page.text
    # From the future nothing is believed beyond the skew; from the past what has not run out is good.
    assert (page.status == 200) is (seconds == -90), page.status
    assert 1 == len(messages(caplog, "our clock differs from PSC's by", str(-seconds)))
    assert abs(metric(running, "clock_skew_seconds") + seconds) <= 2
    assert allowed(running, inside)
    running.simulator.clock_offset = 0
    assert 200 == running.sign_in(Browser(), "infirmiere-leroy").status
    assert abs(metric(running, "clock_skew_seconds")) <= 2


def test_IDP_14_our_clock_jumps(tmp_path: Path) -> None:
    """NTP sets this machine's clock a day forward and back again: sessions of before are over and none of them comes back to life; set back by
    a minute, an hour or a day, no session is lengthened; whoever signs in afterwards is in."""
    wall = Clock()
    steady = SteadyClock(wall)
    with (
        SimulatorThread(clients=[CLIENT], clock=lambda: steady(), key=shared_key()) as simulator,
        Running(tmp_path, simulator, steady) as running,  # type: ignore[arg-type]
    ):
        one = Browser()
        running.sign_in(one, "docteur-dupont")
        for back in (60, HOUR, 24 * HOUR):
            wall.advance(-back)
            assert allowed(running, one)
        wall.advance(29 * 60)
        assert allowed(running, one)
        wall.advance(31 * 60)
        assert not allowed(running, one)  # idle, though the wall has seen it before its sign-in
        two = Browser()
        assert 200 == running.sign_in(two, "docteur-dupont").status
        wall.advance(24 * HOUR)
        soon(lambda: running.service.sessions._heard == steady())
        assert not allowed(running, two)
        wall.advance(-24 * HOUR)
        assert not allowed(running, two)
        assert not allowed(running, one)
        running.restart()
        assert not allowed(running, two)
        two.psc.clear()
        assert 200 == running.sign_in(two, "docteur-dupont").status


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def context(authority: trustme.CA) -> ssl.SSLContext:
    """Of a PSC with TLS; what it shows can be changed while it runs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate(authority).configure_cert(context)
    return context


def certificate(authority: trustme.CA, days: int = 30, *names: str) -> trustme.LeafCert:
    return authority.issue_cert(
        *(names or ("psc.localhost", "wallet.psc.localhost")), not_after=datetime.now(UTC) + timedelta(days=days)
    )


def test_IDP_10_certificate_runs_out(
    tmp_path: Path, authority: trustme.CA, context: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    """PSC's certificate expires, is for another name, is of an authority nobody knows: who is in stays in, arrivals read a page, no secret is
    sent there, the log says «certificate»; a start at that moment is not ready and says so; renewed, all is well without a restart."""
    clock = Clock()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with (
        SimulatorThread(clients=[CLIENT], clock=clock, key=shared_key(), tls=context) as simulator,
        Running(tmp_path, simulator, clock, more=f'psc: ca_file = "{tmp_path}/ca.pem"') as running,
    ):
        inside = Browser()
        running.sign_in(inside, "docteur-dupont")
        wrong = (
            certificate(authority, -1),
            certificate(authority, 30, "other.localhost"),
            certificate(trustme.CA(), 30),
        )
        for bad in wrong:
            psc_of(running)
            arriving = Browser()
            url = returned(running, arriving)
            bad.configure_cert(context)
            redial(simulator)
            seen = simulator.counts["token"]
            caplog.clear()
            french_page(running.get(arriving, url), 503)
            assert messages(caplog, "certificate")
            arrives(running, 503)
            assert allowed(running, inside)
            assert seen == simulator.counts["token"]
            certificate(authority).configure_cert(context)
            soon(lambda: running.call(psc_of(running).answering()))
            assert 200 == running.sign_in(Browser(), "infirmiere-leroy").status
        wrong[0].configure_cert(context)
        running.stop()
        for path in tmp_path.glob("logins.db*"):
            path.unlink()
        running.start()
        psc_of(running)
        status, parts = running.ready()
        assert (503, True) == (status, "certificate" in parts["parts"]["psc"])
        arrives(running, 503)
        certificate(authority).configure_cert(context)
        soon(lambda: 200 == running.ready()[0], 15)
        assert 200 == running.sign_in(Browser(), "docteur-dupont").status


def redial(simulator: Simulator) -> None:
    """Connections that were made under the old certificate end, as PSC's own do after a while."""

    simulator.call(simulator.stop())
    simulator.call(simulator.start())
