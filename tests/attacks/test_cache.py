"""CACHE-01, CACHE-03, CACHE-05 to CACHE-07: what is remembered of one request answers no other one, and not a moment longer than it may."""

import itertools
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from attack_rig import (
    APPS,
    AUTH_HOST,
    DOCTOR,
    DOSSIER_HOST,
    NURSE,
    PRESCRIPTION_HOST,
    SUBJECTS,
    WITNESS,
    Place,
    rules_of,
)
from running import Browser


def test_CACHE_01_each_is_judged_on_its_own(place: Place) -> None:
    """Doctor, nurse and nobody at the same addresses of two applications by three methods, over and over: never one's answer for another."""
    for who, (host, target), method in itertools.islice(
        itertools.cycle(
            itertools.product(
                (DOCTOR, NURSE, None, WITNESS),
                (
                    (DOSSIER_HOST, "/secret/x"),
                    (PRESCRIPTION_HOST, "/secret/x"),
                    (DOSSIER_HOST, "/signer/x"),
                    (DOSSIER_HOST, "/public/x"),
                ),
                ("GET", "POST", "HEAD"),
            )
        ),
        120,
    ):
        outcome = place.ask(target, who, method=method, host=host)
        assert outcome.passed == place.may(target, who, method=method, host=host)


def test_CACHE_03_bogus_tickets(place: Place) -> None:
    """Hundreds of invented tickets leave nothing behind that could push anybody out."""
    memory = place.running.service.memory
    assert place.ask("/dossier", DOCTOR).passed
    known = len(memory.by_id)
    ticket = place.ticket(DOCTOR)
    for number in range(300):
        bogus = f"{ticket[:-8]}{number:08}"
        if bogus != ticket:
            told = place.running.check(None, place.origin() + "/x", headers={"Cookie": f"__Host-psc={bogus}"})
            assert 401 == told.status
    for number in range(20):
        assert not place.ask("/dossier", cookie=f"__Host-psc={number:090}", proves=None).passed
    assert known == len(memory.by_id)
    assert place.ask("/dossier", DOCTOR).passed


STRICTER = APPS.replace('acr = ["eidas1"]', 'profession = ["10", "50"]')


@pytest.mark.usefixtures("mild_again")
def test_CACHE_05_a_stricter_rule(place: Place) -> None:
    """The nurse's allow was remembered; the first request after the reload is judged by the new rule, and after the next one by the old."""
    for _ in range(4):
        assert place.ask("/dossier", NURSE).passed
    place.running.reload(apps=STRICTER)
    place.rules = rules_of(STRICTER)
    assert not place.ask("/dossier", NURSE).passed
    assert place.ask("/dossier", DOCTOR).passed
    place.running.reload(apps=APPS)
    place.rules = rules_of(APPS)
    assert place.ask("/dossier", NURSE).passed


def test_CACHE_05_an_age_runs_out(place: Place) -> None:
    """A signature needs an authentication of the last quarter of an hour: remembered once, refused the second after."""
    house = place.house
    house.enter(DOCTOR)
    assert place.ask("/signer/x", DOCTOR, method="POST").passed
    place.clock.advance(900)
    assert place.ask("/signer/x", DOCTOR, method="POST").passed
    place.clock.advance(1)
    assert not place.ask("/signer/x", DOCTOR, method="POST").passed
    assert place.ask("/signer/x", DOCTOR).passed
    for person in (WITNESS, NURSE, DOCTOR):
        house.enter(person)


def test_CACHE_06_no_answer_may_be_kept(place: Place) -> None:
    """Every answer of ours, allow or not, page or machine, says no-store; through nginx every one that is not the application's."""
    for target, who, lines in (
        ("/public/x", None, ""),
        ("/dossier", DOCTOR, ""),
        ("/dossier", None, ""),
        ("/dossier", None, "Accept: text/html\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n"),
        ("/secret/x", NURSE, ""),
        ("/secret/x", NURSE, "Accept: text/html\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n"),
    ):
        outcome = place.ask(target, who, lines=lines)
        if not (place.by_nginx and outcome.passed):
            assert ["no-store"] == outcome.headers.get("cache-control"), (target, who, outcome.status)
            assert b"from the application" not in outcome.body
    for path in (
        "session",
        "signed-out",
        "sign-out",
        f"start?to={place.origin()}/x",
        "callback?code=c&state=s",
        "handoff?code=x",
        "refused?ref=x",
    ):
        for host in (AUTH_HOST, DOSSIER_HOST):
            assert "no-store" == place.get(Browser(), f"{place.origin(host)}/psc/{path}")["Cache-Control"], path


def test_CACHE_07_the_first_requests_of_many_at_once(place: Place) -> None:
    """After a restart nobody is in memory: sixty requests of three people arrive at once, every third hangs up at once; each that is answered is
    answered as its own person, and nobody's end is another one's error."""
    place.running.restart()
    asked = [(DOCTOR, NURSE, WITNESS)[number % 3] for number in range(60)]
    start = threading.Barrier(12)

    def hang_up(person: str) -> None:
        host = f"{DOSSIER_HOST}:{place.house.port}"
        cookie = place.house.browsers[person].cookies(DOSSIER_HOST)
        told = f"X-Forwarded-Method: GET\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: {host}\r\nX-Forwarded-Uri: /x\r\n"
        with socket.create_connection(tuple(place.inner)) as sock:
            sock.sendall(f"GET /auth/nginx HTTP/1.1\r\nHost: inner\r\n{told}Cookie: {cookie}\r\n\r\n".encode())

    def one(number: int) -> tuple[str, int, str]:
        person = asked[number]
        if number < 12:
            start.wait(5)
        if number % 3 == number // 3 % 3:
            hang_up(person)
        told = place.running.check(place.house.browsers[person], place.origin() + "/dossier")
        return person, told.status, told["X-PSC-Subject"]

    with ThreadPoolExecutor(12) as pool:
        for person, status, subject in pool.map(one, range(60)):
            assert (200, SUBJECTS[person]) == (status, subject)
    for person in (DOCTOR, NURSE):
        assert place.ask("/dossier", person).passed


def test_CACHE_07_through_the_proxy(place: Place) -> None:
    """The same by way of the place itself: what the application gets at once from three people is each one's own."""
    place.running.restart()
    before = len(place.house.app.requests)
    people = [(DOCTOR, NURSE, WITNESS)[number % 3] for number in range(30)]

    def one(person: str) -> tuple[int, str]:
        told = place.check(place.house.browsers[person], f"{place.origin()}/of/{person}")
        return told.status, told["X-PSC-Subject"] if not place.by_nginx else SUBJECTS[person]

    with ThreadPoolExecutor(10) as pool:
        for person, (status, subject) in zip(people, pool.map(one, people), strict=True):
            assert (200, SUBJECTS[person]) == (status, subject)
    for heard in place.house.app.requests[before:]:
        person = heard.target.decode().rpartition("/")[2]
        assert SUBJECTS[person].encode() == heard.one("X-PSC-Subject")
