"""`sessions list|show|end`: an administrator beside the running service, on its store."""

import json
from pathlib import Path
from typing import Any

import pytest
from commands import ISSUER, Command, Done, run, until
from running import CLIENT, DOSSIER, PRESCRIPTION, Browser, Program, Running, configuration

SOON = 3.0  # seconds; what is promised is one, and this machine may have much else to do
DUPONT, LEROY = "899700000001", "899700000043"


@pytest.fixture
def config(running: Running) -> Path:
    """The file the service runs by."""
    return running.folder / "config.toml"


@pytest.fixture
def two(running: Running) -> tuple[Browser, Browser]:
    """A doctor who has entered both apps, and a nurse who has entered one."""
    doctor, nurse = Browser(), Browser()
    assert 200 == running.sign_in(doctor, "docteur-dupont").status
    assert 200 == running.follow(doctor, PRESCRIPTION + "/").status
    assert 200 == running.sign_in(nurse, "infirmiere-leroy").status
    return doctor, nurse


def refused(done: Done, code: int, *words: str) -> None:
    """One line on standard error and nothing else."""
    assert (code, "", 1) == (done.code, done.out, len(done.lines)), done
    for word in words:
        assert word in done.err


def listed(command: Command, config: Path, *which: str) -> list[dict[str, Any]]:
    done = command("sessions", "list", *which, "--json", "--config", config)
    assert (0, "") == (done.code, done.err)
    found = json.loads(done.out)
    assert isinstance(found, list)
    return found


def out(running: Running, browser: Browser) -> bool:
    """Whether the service sends this browser to sign in."""
    return running.check(browser, DOSSIER + "/").status == 401


def test_who_is_signed_in(command: Command, running: Running, config: Path, two: tuple[Browser, Browser]) -> None:
    """For programs every field, for people a line each; who entered what, from where, until when; never a ticket or a token."""
    assert until(lambda: ["dossier", "prescription"] in [each["apps"] for each in listed(command, config)])
    found = {each["national_id"]: each for each in listed(command, config)}
    assert {DUPONT, LEROY} == set(found)
    doctor = found[DUPONT]
    assert ("192.0.2.7", "eidas1", "CARD") == (doctor["address"], doctor["acr"], doctor["auth_mode"])
    assert doctor["auth_time"] <= doctor["seen"] <= doctor["idle_ends"] <= doctor["ends"]
    assert 4 * 3600 == doctor["ends"] - doctor["auth_time"]
    table = command("sessions", "list", "--config", config)
    assert (0, "") == (table.code, table.err)
    head, *lines = table.out.splitlines()
    assert ["id", "national", "id", "name", "authenticated", "last", "seen", "ends", "apps"] == head.split()
    assert {each["id"] for each in found.values()} == {line.split()[0] for line in lines}
    assert any(line.endswith("dossier, prescription") and DUPONT in line for line in lines)
    shown = command("sessions", "show", doctor["id"][:8].upper(), "--config", config)
    assert [each for each in lines if DUPONT in each] == shown.out.splitlines()[1:]
    everything = table.out + json.dumps(list(found.values()))
    secrets = [value for browser in two for jar in browser.jar.values() for value in jar.values()]
    assert len(secrets) >= 4
    assert [] == [each for each in secrets if each in everything]


@pytest.mark.parametrize("option", [[LEROY], ["--national-id", LEROY]], ids=" ".join)
def test_a_person_is_found(
    command: Command, running: Running, config: Path, two: tuple[Browser, Browser], option: list[str]
) -> None:
    """By the national id, as an argument or named."""
    assert [LEROY] == [each["national_id"] for each in listed(command, config, *option)]


def test_nobody_is_found(command: Command, running: Running, config: Path) -> None:
    """A list may be empty; what is to be shown must be there; an id shorter than eight digits names nobody."""
    assert [] == listed(command, config)
    assert 1 == len(command("sessions", "list", "--config", config).out.splitlines())
    running.sign_in(Browser(), "docteur-dupont")
    (one,) = listed(command, config)
    assert [] == listed(command, config, one["id"][:7])
    for which in ("ffffffff", one["id"][:7], one["id"] + "00"):
        refused(command("sessions", "show", which, "--config", config), 2, "no live login of that id")


@pytest.mark.parametrize("how", ["prefix", "id", "national id", "--national-id", "both"])
def test_SESS_06_one_is_ended(
    command: Command, running: Running, config: Path, two: tuple[Browser, Browser], how: str
) -> None:
    """However named: out at the running service within a second, in the trail with its cause; the other stays in."""
    doctor, nurse = two
    login = next(each["id"] for each in listed(command, config) if each["national_id"] == LEROY)
    which = {
        "prefix": [login[:8]],
        "id": [login],
        "national id": [LEROY],
        "--national-id": ["--national-id", LEROY],
        "both": [login, LEROY],
    }[how]
    assert Done(0, "ended 1\n", "") == command("sessions", "end", *which, "--config", config)
    assert until(lambda: out(running, nurse), SOON)
    assert not out(running, doctor)
    assert [DUPONT] == [each["national_id"] for each in listed(command, config)]
    ended = [each for each in running.audit() if each["event"] == "ended"]
    assert [("administrator", "ended", login, LEROY)] == [
        (each["cause"], each["outcome"], each["login"], each["subject"]) for each in ended
    ]


def test_SESS_06_all_are_ended(command: Command, running: Running, config: Path, two: tuple[Browser, Browser]) -> None:
    """Everybody, in one act that a program can read the result of; a second time there is nobody, which is no failure."""
    ids = {each["id"] for each in listed(command, config)}
    done = command("sessions", "end", "--all", "--json", "--config", config)
    assert (0, "") == (done.code, done.err)
    assert ids == set(json.loads(done.out)["ended"])
    assert until(lambda: all(out(running, browser) for browser in two), SOON)
    assert {DUPONT, LEROY} == {each["subject"] for each in running.audit() if each["event"] == "ended"}
    assert Done(0, "ended 0\n", "") == command("sessions", "end", "--all", "--config", config)


@pytest.mark.parametrize("wrong", ["ffffffffffffffff", "short", "", "899700000099"])
def test_SESS_06_a_wrong_id_ends_nobody(
    command: Command, running: Running, config: Path, two: tuple[Browser, Browser], wrong: str
) -> None:
    """Nor the right one beside it: exit 2, and where to look."""
    right = listed(command, config)[0]["id"]
    refused(
        command("sessions", "end", right, wrong, "--config", config), 2, "no live login has this id", "sessions list"
    )
    assert 2 == len(listed(command, config))


def test_SESS_06_who_is_not_there_is_said(command: Command, running: Running, config: Path) -> None:
    """A person without a login: nothing was ended, which is told by exit code 1; naming nobody at all is wrong usage."""
    assert Done(1, "ended 0\n", "") == command("sessions", "end", "--national-id", LEROY, "--config", config)
    refused(command("sessions", "end", "--config", config), 2, "say which: ID …, --national-id NATIONAL_ID, or --all")


@pytest.mark.parametrize("action", ["list", "show", "end"])
def test_sessions_in_memory_are_nobody_elses(command: Command, tmp_path: Path, action: str) -> None:
    """Decision 40: `memory:` is said to be the reason, and what to use."""
    path = configuration(tmp_path, ISSUER)
    path.write_text(path.read_text().replace(f'store = "sqlite:{tmp_path}/logins.db"', 'store = "memory:"'))
    refused(command("sessions", action, "x", "--config", path), 2, "session.store is memory:", "use sqlite:/path")


@pytest.mark.parametrize("action", ["list", "show", "end"])
def test_no_store_is_no_list(command: Command, tmp_path: Path, action: str) -> None:
    """A path that is wrong is told, not filled with a new store that lists nobody."""
    path = configuration(tmp_path, ISSUER)
    refused(command("sessions", action, "x", "--config", path), 1, f"{tmp_path}/logins.db: no store is there")
    assert not (tmp_path / "logins.db").exists()


def test_a_store_that_is_none(command: Command, tmp_path: Path) -> None:
    """Another file in its place: one line, and the file is left as it is."""
    path = configuration(tmp_path, ISSUER)
    command("keys", "new", tmp_path / "keys")
    (tmp_path / "logins.db").write_bytes(b"not a database, " * 100)
    refused(command("sessions", "list", "--config", path), 1, f"{tmp_path}/logins.db")
    assert b"not a database, " * 100 == (tmp_path / "logins.db").read_bytes()


def test_a_login_of_another_ring_can_be_seen_and_ended(
    command: Command, running: Running, config: Path, two: tuple[Browser, Browser]
) -> None:
    """After keys rotate --drop-old nobody's name can be read any more; the logins are there, and end by id and --all."""
    command("keys", "rotate", "--drop-old", running.folder / "keys")
    found = listed(command, config)
    assert [None, None] == [each["national_id"] for each in found]
    assert "sealed by a key that is not in the ring" in command("sessions", "list", "--config", config).out
    assert Done(0, "ended 1\n", "") == command("sessions", "end", found[0]["id"], "--config", config)
    assert Done(0, "ended 1\n", "") == command("sessions", "end", "--all", "--config", config)


def test_ended_while_the_service_is_down(
    command: Command, running: Running, config: Path, two: tuple[Browser, Browser]
) -> None:
    """What an administrator ends meanwhile is ended when it comes back."""
    doctor, nurse = two
    running.stop()
    assert 0 == command("sessions", "end", LEROY, "--config", config).code
    running.start()
    assert (True, False) == (out(running, nurse), out(running, doctor))


def test_an_audit_trail_that_cannot_be_written_is_said(
    command: Command, running: Running, config: Path, two: tuple[Browser, Browser]
) -> None:
    """The logins are ended all the same, and the administrator reads that the trail does not know."""
    path = running.folder / "other.toml"
    path.write_text(config.read_text().replace(f"{running.folder}/audit.jsonl", f"{running.folder}/none/audit.jsonl"))
    done = command("sessions", "end", LEROY, "--config", path)
    assert (0, "ended 1\n", 1) == (done.code, done.out, len(done.lines))
    assert "ended, but the audit trail" in done.err


def test_another_process_hears_within_a_second(program: Program) -> None:
    """The real command beside the real service, two processes on one store."""
    doctor, nurse = Browser(), Browser()
    program.sign_in(doctor, "docteur-dupont")
    program.sign_in(nurse, "infirmiere-leroy")
    done = run("sessions", "end", LEROY, "--config", program.path)
    assert (0, "ended 1\n", "") == (done.code, done.out, done.err)
    assert until(lambda: program.check(nurse, DOSSIER + "/").status == 401, SOON)
    assert 200 == program.check(doctor, DOSSIER + "/").status
    assert CLIENT.secret not in run("sessions", "list", "--json", "--config", program.path).out
