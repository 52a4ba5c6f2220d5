"""STO-05, COOK-06, COOK-07, SESS-07: somebody can write into the store, or moves a ticket to where it does not belong."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from running import DOSSIER, ORIGIN, PRESCRIPTION, Browser, Running


@contextmanager
def store_of(running: Running) -> Iterator[sqlite3.Connection]:
    """The attacker's own connection to the very file, while the service is stopped; it starts again afterwards."""
    running.stop()
    with closing(sqlite3.connect(running.folder / "logins.db")) as connection:
        yield connection
        connection.commit()
    running.start()


def two_people(running: Running) -> tuple[Browser, Browser]:
    doctor, nurse = Browser(), Browser()
    running.sign_in(doctor, "docteur-dupont")
    running.sign_in(nurse, "infirmiere-leroy")
    assert 200 == running.check(doctor, DOSSIER + "/").status
    return doctor, nurse


def good_again(running: Running) -> None:
    """The process survives, and the next good request gets the right answer."""
    browser = Browser()
    assert "899700000001" == running.sign_in(browser, "docteur-dupont")["X-PSC-Subject"]


@pytest.mark.parametrize("column", ["sealed", "listing"])
def test_COOK_06_STO_05_records_swapped(running: Running, column: str) -> None:
    """The doctor's sealed record is put into the nurse's row: neither becomes the other."""
    _, nurse = two_people(running)
    with store_of(running) as store:
        rows = store.execute(f"SELECT login_id, {column} FROM record").fetchall()
        for (login_id, _), (_, other) in zip(rows, reversed(rows), strict=True):
            store.execute(f"UPDATE record SET {column} = ? WHERE login_id = ?", (other, login_id))
    answer = running.check(nurse, DOSSIER + "/")
    if column == "sealed":
        assert 401 == answer.status
    assert "899700000001" != answer["X-PSC-Subject"]
    good_again(running)


def test_STO_05_tickets_moved(running: Running) -> None:
    """Every ticket row is pointed at another login: the wrapped key does not open it."""
    doctor, nurse = two_people(running)
    with store_of(running) as store:
        ids = [row[0] for row in store.execute("SELECT id FROM login ORDER BY id")]
        for digest, login_id in store.execute("SELECT digest, login_id FROM ticket").fetchall():
            other = next(each for each in ids if each != login_id)
            store.execute("UPDATE ticket SET login_id = ? WHERE digest = ?", (other, digest))
    for browser in (doctor, nurse):
        assert 401 == running.check(browser, DOSSIER + "/").status
    good_again(running)


def test_STO_05_host_rewritten(running: Running) -> None:
    """A ticket row is rewritten for another host: the ticket's own tag still names the first."""
    doctor, _ = two_people(running)
    with store_of(running) as store:
        store.execute("UPDATE ticket SET host = 'prescription.autre.example' WHERE host = 'dossier.hopital.example'")
    doctor.jar["prescription.autre.example"] = dict(doctor.jar["dossier.hopital.example"])
    assert 401 == running.check(doctor, PRESCRIPTION + "/").status
    assert 401 == running.check(doctor, DOSSIER + "/").status


def test_COOK_07_garbage_records(running: Running) -> None:
    """Records that are empty, short or noise count as ended: sign-in, no 200, no 5xx."""
    doctor, nurse = two_people(running)
    with store_of(running) as store:
        store.execute("UPDATE record SET sealed = x'' WHERE rowid % 2 = 0")
        store.execute("UPDATE record SET sealed = randomblob(900) WHERE rowid % 2 = 1")
    for browser in (doctor, nurse):
        assert 401 == running.check(browser, DOSSIER + "/").status
    good_again(running)


def test_STO_05_limits_stretched(running: Running) -> None:
    """The columns that hold the limits are written far into the future: the login is not one second longer than the configuration allows."""
    doctor, _ = two_people(running)
    with store_of(running) as store:
        store.execute("UPDATE login SET idle = 9999999, ends = ends + 9999999, auth_time = auth_time + 9999999")
        store.execute("UPDATE ticket SET ends = ends + 9999999")
    running.check(doctor, DOSSIER + "/")
    began = running.clock.now
    while running.clock.now - began < 4 * 3600 - 1500:
        running.clock.advance(1500)
        assert 200 == running.check(doctor, DOSSIER + "/").status
    running.clock.advance(4 * 3600 - (running.clock.now - began))
    assert 401 == running.check(doctor, DOSSIER + "/").status


def test_SESS_07_ticket_at_another_app(running: Running) -> None:
    """The ticket of one application, presented at the other and at the origin, opens neither."""
    doctor, _ = two_people(running)
    ticket = doctor.jar["dossier.hopital.example"]["__Host-psc"]
    thief = Browser(
        jar={"prescription.autre.example": {"__Host-psc": ticket}, "auth.hopital.example": {"__Host-psc": ticket}}
    )
    assert 401 == running.check(thief, PRESCRIPTION + "/").status
    assert 401 == running.get(thief, ORIGIN + "/psc/session", Accept="application/json").status


def test_COOK_04_two_tickets(running: Running) -> None:
    """Two cookies of our name, in one header or in two: no session, whichever is good."""
    doctor, nurse = two_people(running)
    tickets = [browser.jar["dossier.hopital.example"]["__Host-psc"] for browser in (doctor, nurse)]
    for one, other in (tickets, reversed(tickets), (tickets[0], "garbage"), ("garbage", tickets[0])):
        answer = running.check(None, DOSSIER + "/", headers={"Cookie": f"__Host-psc={one}; __Host-psc={other}"})
        assert 401 == answer.status
    assert (
        401
        == running.check(
            None,
            DOSSIER + "/",
            headers={"Cookie": f"x__Host-psc={tickets[0]}; __host-psc={tickets[0]}; __Host-psc ={tickets[0]}"},
        ).status
    )
