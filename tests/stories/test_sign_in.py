"""Sign in and enter, driven by hand over real sockets: every hop is looked at."""

from running import DOSSIER, ORIGIN, PRESCRIPTION, Browser, Running


def test_enter_with_a_deep_link(running: Running) -> None:
    """A professional clicks on a deep link, signs in once, and is let in at exactly that address, with every identity header."""
    browser = Browser()
    link = DOSSIER + "/patients/42?onglet=biologie&x=%20y%2F&vide="
    first = running.check(browser, link)
    assert 401 == first.status
    assert first["Location"].startswith(
        ORIGIN + "/psc/start?to=https%3A%2F%2Fdossier.hopital.example%2Fpatients%2F42%3F"
    )
    answer = running.sign_in(browser, "docteur-dupont", link)
    assert (200, link) == (answer.status, answer.url)
    assert "899700000001" == answer["X-PSC-Subject"]
    assert "10" == answer["X-PSC-Profession"]


def test_two_applications_one_sign_in(running: Running) -> None:
    """The second application, on another domain, is entered without PSC asking anything again."""
    browser = Browser()
    running.sign_in(browser, "docteur-dupont")
    asked = running.simulator.counts["authorize"]
    answer = running.follow(browser, PRESCRIPTION + "/x")
    assert (200, PRESCRIPTION + "/x") == (answer.status, answer.url)
    assert asked == running.simulator.counts["authorize"]


def test_wrong_profession(running: Running) -> None:
    """A nurse enters the record, and at the prescription reads why not: 403 with a reference, the details for her alone."""
    nurse, stranger = Browser(), Browser()
    assert 200 == running.sign_in(nurse, "infirmiere-leroy").status
    answer = running.follow(nurse, PRESCRIPTION + "/")
    assert 403 == answer.status
    reference = answer["X-PSC-Reference"]
    page = running.get(nurse, f"{PRESCRIPTION}/psc/refused?ref={reference}")
    assert 403 == page.status
    assert reference in page.text
    assert "Médecin" in page.text
    assert "Médecin" not in running.get(stranger, f"{PRESCRIPTION}/psc/refused?ref={reference}").text
    refused = [line for line in running.audit() if line["event"] == "refused"]
    assert [(reference, "prescription", 1)] == [(line["reference"], line["app"], line["count"]) for line in refused]


def test_sign_out_everywhere(running: Running) -> None:
    """Signing out on one host ends every ticket on every host, and PSC's own session."""
    browser = Browser()
    running.sign_in(browser, "docteur-dupont")
    running.follow(browser, PRESCRIPTION + "/")
    answer = running.sign_out(browser, PRESCRIPTION)
    assert 303 == answer.status
    assert "/protocol/openid-connect/logout?" in answer["Location"]
    assert 401 == running.check(browser, DOSSIER + "/").status
    assert 401 == running.check(browser, PRESCRIPTION + "/").status
    assert 1 == running.metrics()['psc_forward_auth_sign_outs_total{cause="person"}']


def test_restart_in_mid_session(running: Running) -> None:
    """The service is stopped and started: the browser is still signed in."""
    browser = Browser()
    running.sign_in(browser, "docteur-dupont")
    running.restart()
    assert 200 == running.check(browser, DOSSIER + "/").status
