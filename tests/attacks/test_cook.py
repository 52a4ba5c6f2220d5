"""COOK-01 to COOK-10: a cookie that is not exactly the one we set is nobody's, and what we set is set so that others cannot touch it."""

import base64
import copy
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from attack_rig import AUTH_HOST, DOCTOR, DOSSIER_HOST, NURSE, PRESCRIPTION_HOST, WITNESS, Place
from cli.commands import run
from running import Browser


@dataclass
class Watching(Browser):
    """A browser that remembers every Set-Cookie line."""

    lines: list[str] = field(default_factory=list)

    def keep(self, url: str, lines: Sequence[str]) -> None:
        self.lines.extend(lines)
        super().keep(url, lines)


def test_COOK_01_every_cookie_that_we_set(place: Place) -> None:
    """From the first click through two applications to the sign-out: host-only, Secure, HttpOnly, Lax, short, and nobody's name in it."""
    browser = Watching()
    assert 200 == place.sign_in(browser, DOCTOR).status
    assert 200 == place.follow(browser, place.origin(PRESCRIPTION_HOST) + "/").status
    assert 303 == place.sign_out(browser).status
    assert len(browser.lines) >= 6
    for line in browser.lines:
        pair, *rest = line.split("; ")
        name, _, value = pair.partition("=")
        attributes = {each.partition("=")[0].lower(): each.partition("=")[2] for each in rest}
        assert name == "__Host-psc" or name.startswith("__Host-psc-login-")
        assert {"path": "/", "secure": "", "httponly": "", "samesite": "Lax"}.items() <= attributes.items()
        assert "domain" not in attributes
        assert len(pair) <= 4096
        for shown in (value, base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)).decode("latin-1")):
            assert not any(each in shown for each in ("DUPONT", "899700000001", DOCTOR, "dossier"))


def test_COOK_02_flipped_and_cut(place: Place) -> None:
    """A bit the other way, a character less or more, halves exchanged, another host's ticket: nobody."""
    ticket = place.ticket(DOCTOR)
    chance = random.Random(2)
    wrong = {ticket[:cut] for cut in range(0, len(ticket), 5)} | {ticket + "A", ticket[1:], ticket * 2}
    wrong |= {ticket[len(ticket) // 2 :] + ticket[: len(ticket) // 2], ticket.swapcase(), ticket[::-1]}
    wrong |= {place.ticket(DOCTOR, PRESCRIPTION_HOST), place.ticket(DOCTOR, AUTH_HOST)}
    for _ in range(60):
        at = chance.randrange(len(ticket))
        flipped = chr(ord(ticket[at]) ^ 1 << chance.randrange(7))
        if flipped.isprintable() and flipped != ";":
            wrong.add(ticket[:at] + flipped + ticket[at + 1 :])
    for each in wrong - {ticket}:
        assert not place.ask("/dossier", cookie=f"__Host-psc={each}", proves=None).passed


@pytest.mark.parametrize(
    "spelling",
    [
        '"{0}"',
        "{0}=",
        "{0}==",
        " {0}",
        "{0} ",
        "{0}%3D",
        "%22{0}%22",
        '"{1}"',
        "{1}",
        "",
        '"',
        "%",
        "\xff\xfe",
        "{0},{0}",
    ],
)
def test_COOK_03_garbage_and_other_spellings(place: Place, spelling: str) -> None:
    """Quotes, padding, octal escapes, blanks: only the one spelling is a ticket. (Blanks around a value belong to the header, not to it.)"""
    ticket = place.ticket(DOCTOR)
    octal = "".join(f"\\{ord(each):03o}" for each in ticket)
    cookie = f"__Host-psc={spelling.format(ticket, octal)}"
    meant = cookie.strip(" \t") == f"__Host-psc={ticket}"
    told = place.ask("/dossier", cookie=cookie, proves=DOCTOR if meant else None)
    assert meant or not told.passed


@pytest.mark.parametrize("control", ["\x00", "\x01", "\x0b", "\x1f", "\x7f", "\t"])
def test_COOK_03_control_characters(place: Place, control: str) -> None:
    """No browser sends one: nobody. nginx hands on what HTTP forbids, our door calls it no request, and nginx's word for that is 503."""
    for cookie in (f"__Host-psc={place.ticket(DOCTOR)}{control}", f"a={control}; __Host-psc=x"):
        outcome = place.ask("/dossier", cookie=cookie, proves=None, fault=True)
        assert not outcome.passed
        assert outcome.status in (400, 401, 503 if place.by_nginx else 400)


def test_COOK_04_two_of_one_name(place: Place) -> None:
    """The good one and a bad one, in either order, in one line or in two, two people's, twice the same: nobody."""
    good, other = place.ticket(DOCTOR), place.ticket(NURSE)
    for one, two in ((good, "x"), ("x", good), (good, other), (other, good), (good, good), (good, ""), ("", good)):
        for between in ("; ", ";", "; a=1; ", "\r\nCookie: ", "\r\ncookie: a=1; "):
            for _ in range(3):  # a head that has come before is read by a shorter road
                told = place.ask("/dossier", cookie=f"__Host-psc={one}{between}__Host-psc={two}", proves=None)
                assert not told.passed


@pytest.mark.parametrize(
    "cookie",
    [
        "x__Host-psc={0}",
        "__Host-psc2={0}",
        "__HOST-psc={0}",
        "__host-psc={0}",
        "__Host-PSC={0}",
        "__Secure-psc={0}",
        "psc={0}",
        "=__Host-psc={0}",
        "__Host-psc ={0}",
        "__Host-psc\t={0}",
        "__Host-%70sc={0}",
        '"__Host-psc"={0}',
        "a=__Host-psc={0}",
        'a="; __Host-psc={0}',
        "__Host-__Host-psc={0}",
        "__Host-psc-login-00000000={0}",
        "$Version=1,__Host-psc={0}",
        "a=1,__Host-psc={0}",
    ],
)
def test_COOK_05_names_that_resemble_ours(place: Place, cookie: str) -> None:
    """What a sibling host could plant under a name that is nearly ours is not ours. (After an open quote a cookie still begins at its semicolon.)"""
    ours = cookie.startswith('a="; ')
    told = place.ask("/dossier", cookie=cookie.format(place.ticket(DOCTOR)), proves=DOCTOR if ours else None)
    assert told.passed == ours


def test_COOK_07_an_ended_one(place: Place) -> None:
    """A ticket whose login was signed out is nobody's, at the first use and at the tenth."""
    browser = Browser()
    place.sign_in(browser, NURSE)
    ticket = browser.jar[DOSSIER_HOST]["__Host-psc"]
    assert place.ask("/dossier", cookie=f"__Host-psc={ticket}", proves=NURSE).passed
    place.sign_out(browser)
    for _ in range(10):
        assert not place.ask("/dossier", cookie=f"__Host-psc={ticket}", proves=None).passed


@pytest.mark.parametrize("size", [7000, 8180, 8300, 13_000])
def test_COOK_08_large_cookies_of_an_application(place: Place, size: int) -> None:
    """An application's cookies up to what nginx takes are no trouble to anybody."""
    ours = f"__Host-psc={place.ticket(DOCTOR)}"
    assert place.ask("/dossier", cookie=f"big={'c' * size}; {ours}", proves=DOCTOR).passed
    assert place.ask("/dossier", cookie=f"{ours}; big={'c' * size}", proves=DOCTOR).passed
    many = "; ".join(f"c{number}={'v' * (size // 200)}" for number in range(200))
    assert place.ask("/dossier", cookie=f"{many}; {ours}", proves=DOCTOR).passed


@pytest.mark.parametrize("size", [65_000, 70_000, 300_000])
def test_COOK_08_beyond_all_measure(place: Place, size: int) -> None:
    """Larger than any browser keeps: refused cleanly by whoever reads it first."""
    outcome = place.ask("/dossier", cookie=f"big={'c' * size}; __Host-psc={place.ticket(DOCTOR)}", proves=DOCTOR)
    assert outcome.status in (0, 200, 400, 431)
    assert not outcome.passed or size == 65_000


def test_COOK_10_forged_beginnings(place: Place) -> None:
    """Another version, another key, a length that is a lie, chunks: refused by its shape."""
    ticket = place.ticket(DOCTOR)
    raw = base64.urlsafe_b64decode(ticket + "=" * (-len(ticket) % 4))
    made = [bytes([first]) + raw[1:] for first in range(256) if first != raw[0]]
    made += [raw[:1] + bytes([second]) + raw[2:] for second in range(0, 256, 7) if second != raw[1]]
    wrong = [base64.urlsafe_b64encode(each).rstrip(b"=").decode() for each in made[::4]]
    wrong += ["chunks=99999999", "99999999", "1.99999999", f"v2.{ticket}", f"{ticket}.1", f"{ticket}|2"]
    for each in wrong:
        assert not place.ask(
            "/dossier", cookie=f"__Host-psc={each}; __Host-psc.1=x; __Host-psc_1=y", proves=None
        ).passed


def test_COOK_09_after_the_keys_are_changed(place: Place) -> None:
    """Behind one rotation everybody stays in; once the old keys are dropped, everybody is out at once, and may come back."""
    house = place.house
    old = copy.deepcopy(house.browsers)
    ring = place.running.folder / "keys"
    assert 0 == run("keys", "rotate", ring).code
    place.running.reload()
    for person in (DOCTOR, NURSE):
        assert place.ask("/dossier", person).passed
    assert 0 == run("keys", "rotate", ring, "--drop-old").code
    place.running.reload()
    house.canaries()
    house.enter(WITNESS)
    for person, browser in old.items():
        cookie = browser.cookies(DOSSIER_HOST)
        assert not place.ask("/dossier", cookie=cookie, proves=None).passed
        house.enter(person)
        assert place.ask("/dossier", person).passed
