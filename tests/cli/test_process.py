"""The life of the process: start, ready, reload, drain, crash, two beside each other, a full desk around it. LIFE-*."""

import contextlib
import fcntl
import http.client
import json
import os
import re
import resource
import signal
import socket
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import argv, environment, run, until
from running import (
    CLIENT,
    DOSSIER,
    ORIGIN,
    PRESCRIPTION,
    Answer,
    Browser,
    Doors,
    Program,
    Running,
    SimulatorThread,
    configuration,
    shared_key,
)

from forward_auth.config import load
from forward_auth.simulator import Simulator

SOON = 3.0  # seconds; what is promised is one, and this machine may have much else to do
STRICTER = '\n[[apps.dossier.rules]]\npaths = ["/*"]\nrequire = { profession = ["10"] }\n'


@pytest.fixture
def realm() -> Iterator[Simulator]:
    """PSC on the real clock, for programs that a test starts itself."""
    with SimulatorThread(clients=[CLIENT], key=shared_key()) as simulator:
        yield simulator


def out(doors: Doors, browser: Browser, url: str = DOSSIER + "/") -> bool:
    """Whether this browser is sent to sign in."""
    return doors.check(browser, url).status == 401


def reload(program: Program, text: str | None = None) -> str:
    """SIGHUP, perhaps with another file. -> what the log says of it."""
    assert program.process is not None
    if text is not None:
        program.path.write_text(text)
    before = len(program.log())
    program.process.send_signal(signal.SIGHUP)
    assert until(lambda: "reloaded" in program.log()[before:], 10), program.log()[before:]
    return program.log()[before:]


def resident(process: subprocess.Popen[bytes]) -> int:
    """MiB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+([0-9]+) kB", status)
    assert found is not None
    return int(found[1]) // 1024


# start ----------------------------------------------------------------------------------------------------------------------


def test_started_and_ready(program: Program) -> None:
    """Every part is named and well; sockets, ring, store and trail are for nobody else; the memory is what was promised, nearly."""
    status, body = program.ready()
    assert (200, True) == (status, body["ready"])
    assert dict.fromkeys(["configuration", "store", "psc", "doors", "audit"], "ok") == body["parts"]
    for door in (program.inner, program.inner_unix):
        assert 401 == program_check_at(program, door)
    modes = {
        name: stat.S_IMODE((program.folder / name).stat().st_mode) for name in ("inner.sock", "keys", "audit.jsonl")
    }
    assert {"inner.sock": 0o660, "keys": 0o600, "audit.jsonl": 0o640} == modes
    assert 0 == stat.S_IMODE((program.folder / "logins.db").stat().st_mode) & 0o077
    assert program.process is not None
    assert resident(program.process) <= 120
    events = [json.loads(line)["message"] for line in program.log().splitlines()]
    doors = f"inner door 127.0.0.1:{program.port}, unix:{program.inner_unix}, outer door 127.0.0.1:{program.outer[1]}"
    assert 1 == sum(each.startswith("started: version ") and each.endswith(doors) for each in events)
    assert any(f"made a new key ring: {program.folder}/keys" == each for each in events)
    assert 0 == program.end()
    assert "stopped" == json.loads(program.log().splitlines()[-1])["message"]
    assert not Path(program.inner_unix).exists()


def program_check_at(program: Program, door: Any) -> int:
    """The status of a stranger's check at that door."""
    before, program.inner = program.inner, door
    try:
        return program.check(None, DOSSIER + "/").status
    finally:
        program.inner = before


def test_psc_comes_later(tmp_path: Path, realm: Simulator) -> None:
    """Decision 11. Started without PSC: not ready, and says why; checks are answered; who wants to sign in reads a page. It becomes ready by
    itself when PSC comes, stays so when PSC goes, and is ready at once at the next start, from the copy it kept."""
    realm.call(realm.stop())
    program = Program(tmp_path, realm)
    try:
        program.start(wait=False)
        assert until(lambda: answers(program), 20), program.log()
        status, body = program.ready()
        assert (503, False) == (status, body["ready"])
        assert "no_answer" in body["parts"].pop("psc")
        assert {"ok"} == set(body["parts"].values())
        assert 0 == program.metrics()["psc_forward_auth_ready"]
        assert out(program, Browser())
        page = program.get(Browser(), f"{ORIGIN}/psc/start?to={DOSSIER}/")
        assert (503, True) == (page.status, "Pro Santé Connect" in page.text)
        realm.call(realm.start())
        assert until(lambda: program.ready()[0] == 200, 15), program.log()
        browser = Browser()
        assert 200 == program.sign_in(browser, "docteur-dupont").status
        realm.call(realm.stop())
        assert until(lambda: program.get(Browser(), f"{ORIGIN}/psc/start?to={DOSSIER}/").status == 503)
        status, body = program.ready()
        assert (200, True) == (status, body["ready"])
        assert body["parts"]["psc"].startswith("ok (known, but not answering now: ")
        metrics = program.metrics()
        assert (1, 0) == (metrics["psc_forward_auth_ready"], metrics["psc_forward_auth_psc_reachable"])
        assert not out(program, browser)
        assert 0 == program.end()
        program.start()
        assert not out(program, browser)
    finally:
        program.end()


def answers(program: Program) -> bool:
    """Whether anybody listens at the inner door yet."""
    assert program.process is not None
    assert program.process.poll() is None, program.log()
    try:
        program.ready()
    except OSError:
        return False
    return True


def test_a_trail_that_cannot_be_opened_is_told_at_start(tmp_path: Path, realm: Simulator) -> None:
    """The service starts, for who is in; that nobody can sign in stands in the log, in readyz and in the metrics."""
    program = Program(tmp_path, realm)
    program.path.write_text(program.path.read_text().replace("audit.jsonl", "none/audit.jsonl"))
    with program:
        errors = [json.loads(line) for line in program.log().splitlines() if '"error"' in line]
        assert [f"the audit trail {tmp_path}/none/audit.jsonl cannot be opened"] == [
            each["message"].partition(": ")[0] for each in errors
        ]
        status, body = program.ready()
        assert (200, True) == (status, "none/audit.jsonl" in body["parts"]["audit"])
        assert 1 == program.metrics()["psc_forward_auth_audit_failing"]


def test_a_second_instance_is_told_so(program: Program) -> None:
    """On the same TCP port, then on the same socket only: exit 1, one line that names the place; the first one serves on."""
    browser = Browser()
    program.sign_in(browser, "docteur-dupont")
    second = run("serve", "--config", program.path)
    assert (1, "", 1) == (second.code, second.out, len(second.lines))
    assert (
        f"cannot listen on 127.0.0.1:{program.port}: Address already in use; is another program listening" in second.err
    )
    text = program.path.read_text()
    elsewhere = program.folder / "second.toml"
    elsewhere.write_text(text.replace(f":{program.port}", ":0").replace(f":{program.outer[1]}", ":0"))
    second = run("serve", "--config", elsewhere)
    assert (1, "", 1) == (second.code, second.out, len(second.lines))
    assert f"cannot listen on unix:{program.inner_unix}: Address already in use; is another program" in second.err
    for door in (program.inner, program.inner_unix):
        assert 401 == program_check_at(program, door)
    assert not out(program, browser)


# reload -----------------------------------------------------------------------------------------------------------------------


def test_LIFE_05_a_stricter_rule_is_in_force_at_once(program: Program) -> None:
    """Also for a session whose decision is remembered, on a connection that stays open; and taken back the same way."""
    browser = Browser()
    program.sign_in(browser, "infirmiere-leroy")
    headers = {
        "Host": "inner",
        "X-Forwarded-Method": "GET",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "dossier.hopital.example",
        "X-Forwarded-Uri": "/",
        "Cookie": browser.cookies("dossier.hopital.example"),
    }
    kept = http.client.HTTPConnection(*program.inner, timeout=10)

    def asked() -> int:
        kept.request("GET", "/auth/nginx", headers=headers)
        answer = kept.getresponse()
        answer.read()
        return answer.status

    assert [200, 200, 200] == [asked() for _ in range(3)]
    good = program.path.read_text()
    assert "the configuration was reloaded" in reload(program, good + STRICTER)
    with contextlib.suppress(OSError, http.client.HTTPException):
        assert asked() == 403  # or the connection is closed, then it asks on a new one, as nginx does
    assert 403 == asked()
    assert 403 == program.check(browser, DOSSIER + "/").status
    doctor = Browser()
    assert 200 == program.sign_in(doctor, "docteur-dupont").status
    reload(program, good)
    assert 200 == program.check(browser, DOSSIER + "/").status
    kept.close()


def test_LIFE_05_a_wrong_file_changes_nothing(program: Program) -> None:
    """Every mistake is logged with its line, and that the old configuration stays; a ring, a file or authorities that are none as well;
    keys that only a restart changes are named, and the others taken up."""
    browser = Browser()
    program.sign_in(browser, "infirmiere-leroy")
    good = program.path.read_text()

    def unchanged(said: str) -> None:
        assert "the old one stays in force" in said
        assert "Traceback" not in said
        assert "traceback" not in said
        assert 200 == program.check(browser, DOSSIER + "/").status
        assert 200 == program.sign_in(Browser(), "docteur-dupont").status

    said = reload(program, good.replace("[psc]", "[psc]\nclient_idd = 1") + STRICTER.replace('"/*"', '"x"'))
    lines = [json.loads(line)["message"] for line in said.splitlines()]
    assert f"{program.path}:2: psc.client_idd: is not known; write client_id" in lines
    assert any(re.match(rf"{program.path}:[0-9]+: apps\.dossier\.rules\[1\]\.paths: ", line) for line in lines)
    assert "the configuration was not reloaded: it has 2 mistakes; the old one stays in force" in lines
    unchanged(said)

    (program.folder / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\nrubbish\n-----END CERTIFICATE-----\n")
    said = reload(program, good.replace("[psc]", '[psc]\nca_file = "ca.pem"') + STRICTER)
    assert "psc.ca_file" in said
    unchanged(said)

    ring = (program.folder / "keys").read_text()
    (program.folder / "keys").write_text("rubbish")
    said = reload(program, good + STRICTER)
    assert f"{program.folder}/keys:1: not «id created retired key»" in json.loads(said)["message"]
    unchanged(said)
    (program.folder / "keys").write_text(ring)

    program.path.unlink()
    said = reload(program)
    assert "cannot be read (No such file or directory)" in said
    unchanged(said)

    said = reload(
        program,
        good.replace("audit.jsonl", "other.jsonl")
        .replace(f"/{program.folder.name}/logins.db", f"/{program.folder.name}/other.db")
        .replace(f'outer = "127.0.0.1:{program.outer[1]}"', 'outer = "127.0.0.1:1"')
        .replace("[psc]", '[log]\nformat = "logfmt"\n[psc]')
        .replace('origin = "https://auth', 'origin = "https://sso')
        + STRICTER,
    )
    needs = json.loads(said.splitlines()[-1])["message"].partition("these keys need a restart: ")[2]
    assert {"server.outer", "server.origin", "session.store", "audit", "log.format"} == set(needs.split(", "))
    assert 403 == program.check(browser, DOSSIER + "/").status
    assert 200 == program.sign_in(Browser(), "docteur-dupont").status
    assert not (program.folder / "other.db").exists()


def test_LIFE_06_a_secret_is_rotated(tmp_path: Path, realm: Simulator) -> None:
    """A client secret that PSC does not know any more: a French page; the right one in the file and SIGHUP: sign-ins work, and nobody who was
    in is out."""
    (tmp_path / "client-secret").touch(0o600)
    (tmp_path / "client-secret").write_text("the-secret-of-last-year")
    with Program(tmp_path, realm) as program:
        browser = Browser()
        page = program.sign_in(browser, "docteur-dupont")
        assert page.status >= 400
        assert 'lang="fr"' in page.text
        assert "the-secret-of-last-year" not in page.text + program.log()
        (tmp_path / "client-secret").write_text(CLIENT.secret)
        reload(program)
        assert 200 == program.sign_in(browser, "docteur-dupont").status
        reload(program)
        assert not out(program, browser)


def test_COOK_09_keys_are_rotated_beside_a_live_session(program: Program) -> None:
    """Rotated: everybody stays in, and can leave. With --drop-old: everybody is out, from memory and from the store, and may come back."""
    doctor, nurse = Browser(), Browser()
    program.sign_in(doctor, "docteur-dupont")
    program.sign_in(nurse, "infirmiere-leroy")
    ring = program.folder / "keys"
    assert 0 == run("keys", "rotate", ring).code
    reload(program)
    assert (False, False) == (out(program, doctor), out(program, nurse))
    kept = {host: dict(jar) for host, jar in nurse.jar.items()}
    assert 303 == program.sign_out(nurse).status
    assert out(program, Browser(jar=kept))
    midwife = Browser()
    program.sign_in(midwife, "sage-femme-petit")
    assert 0 == run("keys", "rotate", ring, "--drop-old").code
    reload(program)
    assert (True, True) == (out(program, doctor), out(program, midwife))
    assert 200 == program.sign_in(doctor, "docteur-dupont").status
    assert 0o600 == stat.S_IMODE(ring.stat().st_mode)


# end --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_LIFE_01_who_is_on_the_way_back_from_psc_still_arrives(program: Program, name: str) -> None:
    """PSC takes a second to redeem the code and the service is told to stop meanwhile: the professional is signed in, the process ends with
    0 and leaves no socket; after the next start the session is there."""
    browser = Browser()
    start = program.check(browser, DOSSIER + "/")["Location"]
    psc = program.get(browser, start)["Location"]
    callback = program.simulator.sign_in(psc, "docteur-dupont", cookies=browser.psc)
    got: list[Answer] = []
    with program.simulator.faults.during("token.slow", 1):
        asking = threading.Thread(target=lambda: got.append(program.get(browser, callback)))
        asking.start()
        assert until(lambda: program.simulator.counts["token"] > 0)
        assert program.process is not None
        program.process.send_signal(signal.Signals[name])
        asking.join(15)
    assert [(303, "close")] == [(each.status, each["Connection"].lower()) for each in got]
    assert 0 == program.process.wait(15)
    assert not Path(program.inner_unix).exists()
    assert "Traceback" not in program.log()
    program.start()
    assert 200 == program.follow(browser, got[0]["Location"]).status


def test_LIFE_01_checks_are_answered_while_a_sign_in_ends(program: Program) -> None:
    """Told to stop while PSC takes two seconds to redeem a code: until that sign-in is through, whoever is in goes on, on new connections too."""
    doctor, nurse = Browser(), Browser()
    program.sign_in(doctor, "docteur-dupont")
    psc = program.get(nurse, program.check(nurse, DOSSIER + "/")["Location"])["Location"]
    callback = program.simulator.sign_in(psc, "infirmiere-leroy", cookies=nurse.psc)
    seen = program.simulator.counts["token"]
    got: list[Answer] = []
    with program.simulator.faults.during("token.slow", 2):
        asking = threading.Thread(target=lambda: got.append(program.get(nurse, callback)))
        asking.start()
        assert until(lambda: program.simulator.counts["token"] > seen)
        assert program.process is not None
        program.process.send_signal(signal.SIGTERM)
        assert until(lambda: program.ready()[0] == 503)
        answered = 0
        while not got:
            try:
                answered += program.check(doctor, DOSSIER + "/").status == 200
            except OSError:
                break
        asking.join(15)
    assert answered > 10
    assert [303] == [each.status for each in got]
    assert 0 == program.process.wait(15)


def test_LIFE_02_kill_9(program: Program) -> None:
    """Five crashes, each at another moment: what was acknowledged before holds after, and nobody is let in who was not."""
    doctor, nurse = Browser(), Browser()
    program.sign_in(doctor, "docteur-dupont")
    program.kill()  # a session that was just acknowledged
    assert stat.S_ISSOCK(os.stat(program.inner_unix).st_mode)
    program.start()
    assert not out(program, doctor)
    assert 401 == program_check_at(program, program.inner_unix)

    program.sign_in(nurse, "infirmiere-leroy")
    kept = {host: dict(jar) for host, jar in nurse.jar.items()}
    assert 303 == program.sign_out(nurse).status
    program.kill()  # a sign-out that was just acknowledged
    program.start()
    assert out(program, Browser(jar=kept))

    nurse = Browser()
    psc = program.get(nurse, program.check(nurse, DOSSIER + "/")["Location"])["Location"]
    program.kill()  # somebody is at PSC meanwhile
    program.start()
    callback = program.simulator.sign_in(psc, "infirmiere-leroy", cookies=nurse.psc)
    assert 200 == program.follow(nurse, callback).status

    midwife = Browser()
    psc = program.get(midwife, program.check(midwife, DOSSIER + "/")["Location"])["Location"]
    callback = program.simulator.sign_in(psc, "sage-femme-petit", cookies=midwife.psc)
    seen = program.simulator.counts["token"]
    with program.simulator.faults.during("token.slow", 1):
        asking = threading.Thread(target=_ask_in_vain, args=(program, midwife, callback))
        asking.start()
        assert until(lambda: program.simulator.counts["token"] > seen)
        program.kill()  # a code is being redeemed
        asking.join(15)
    program.start()
    assert out(program, midwife)
    assert program.get(midwife, callback).status in (200, 303, 400, 403)  # a page or a new start, never our fault
    assert 200 == program.sign_in(midwife, "sage-femme-petit").status

    stop = threading.Event()
    checking = threading.Thread(target=_check_until, args=(program, doctor, stop))
    checking.start()
    program.kill()  # under load
    stop.set()
    checking.join(15)
    program.start()
    assert [False, False, False] == [out(program, each) for each in (doctor, nurse, midwife)]
    assert out(program, Browser(jar=kept))
    assert [str(each) for each in program.folder.glob(".keys*")] == []


def _ask_in_vain(program: Program, browser: Browser, url: str) -> None:
    with contextlib.suppress(OSError, http.client.HTTPException):
        program.get(browser, url)


def _check_until(program: Program, browser: Browser, stop: threading.Event) -> None:
    while not stop.is_set():
        with contextlib.suppress(OSError, http.client.HTTPException):
            program.check(browser, DOSSIER + "/")


# beside each other ------------------------------------------------------------------------------------------------------------


class Balanced(Doors):
    """Two programs behind a balancer that knows nothing of sessions: every request to the other one."""

    def __init__(self, *programs: Program) -> None:
        self.programs = programs
        self.simulator = programs[0].simulator
        self._turn = 0

    def _next(self) -> Program:
        self._turn += 1
        return self.programs[self._turn % len(self.programs)]

    @property
    def inner(self) -> Any:  # type: ignore[override]
        return self._next().inner

    @property
    def outer(self) -> Any:  # type: ignore[override]
        return self._next().outer


def test_two_programs_on_one_store(tmp_path: Path, realm: Simulator) -> None:
    """One store and one ring: a sign-in may wander between them; a sign-out at either is heard at the other."""
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    one, two = (Program(folder, realm) for folder in folders)
    two.path.write_text(
        two.path.read_text()
        .replace(f"{folders[1]}/logins.db", f"{folders[0]}/logins.db")
        .replace(f"{folders[1]}/keys", f"{folders[0]}/keys")
    )
    with one, two:
        both = Balanced(one, two)
        for leaves_at, hears in ((one, two), (two, one)):
            browser = Browser()
            assert 200 == both.sign_in(browser, "docteur-dupont").status
            assert (False, False) == (out(one, browser), out(two, browser))
            assert 200 == both.follow(browser, PRESCRIPTION + "/").status
            kept = {host: dict(jar) for host, jar in browser.jar.items()}
            assert 303 == leaves_at.sign_out(browser).status
            assert out(leaves_at, Browser(jar=kept))
            assert until(lambda there=hears, jar=kept: out(there, Browser(jar=jar)), SOON)


# the trail --------------------------------------------------------------------------------------------------------------------


def test_the_trail_is_renamed(running: Running) -> None:
    """As logrotate does, without a signal: the next event makes a new file, 0640, and the old one is left alone."""
    running.sign_in(Browser(), "docteur-dupont")
    old = running.audit()
    assert {"sign_in", "enter"} <= {each["event"] for each in old}
    trail = running.folder / "audit.jsonl"
    moved = trail.rename(running.folder / "audit.jsonl.1")
    running.sign_in(Browser(), "infirmiere-leroy")
    assert {"899700000043"} == {each["subject"] for each in running.audit()}
    assert old == [json.loads(line) for line in moved.read_text().splitlines()]
    assert 0o640 == stat.S_IMODE(trail.stat().st_mode)


def test_LIFE_03_no_trail_no_sign_in(running: Running) -> None:
    """Required and not to be written: a French 503 for who wants in, everything as before for who is in; it mends itself."""
    doctor, nurse = Browser(), Browser()
    running.sign_in(doctor, "docteur-dupont")
    running.audit()
    trail = running.folder / "audit.jsonl"
    moved = trail.rename(running.folder / "audit.jsonl.1")
    trail.mkdir()
    running.follow(doctor, PRESCRIPTION + "/")  # the first event that finds the trail gone
    assert until(lambda: running.metrics()["psc_forward_auth_audit_failing"] == 1)
    page = running.sign_in(nurse, "infirmiere-leroy")
    assert 503 == page.status
    assert 'lang="fr"' in page.text
    assert "réessay" in page.text.lower()
    assert out(running, nurse)
    assert not out(running, doctor)
    assert not out(running, doctor, PRESCRIPTION + "/")
    status, body = running.ready()
    assert (200, True) == (status, "cannot be written" in body["parts"]["audit"])
    trail.rmdir()
    assert until(lambda: running.metrics()["psc_forward_auth_audit_failing"] == 0)
    assert 200 == running.sign_in(nurse, "infirmiere-leroy").status
    events = [(each["event"], each["subject"], each.get("app")) for each in running.audit()]
    assert ("enter", "899700000001", "prescription") in events  # kept until the trail was back
    assert moved.exists()


class _Edited(Running):
    """Of a configuration whose trail is not required and has no directory."""

    def load(self) -> Any:
        path = configuration(self.folder, self.simulator.issuer)
        path.write_text(
            path.read_text().replace("[audit]", "[audit]\nrequired = false").replace("audit.jsonl", "none/a")
        )
        return load(path, {})


def test_a_trail_that_is_not_required_stops_nobody(tmp_path: Path, psc: Simulator, clock: Any) -> None:
    """`audit.required = false` is an alarm only."""
    with _Edited(tmp_path, psc, clock) as running:
        assert 1 == running.metrics()["psc_forward_auth_audit_failing"]
        assert 200 == running.sign_in(Browser(), "docteur-dupont").status


# a full desk ------------------------------------------------------------------------------------------------------------------


def test_LIFE_04_no_file_descriptor_left(program: Program) -> None:
    """A hundred connections to a process that may have 64 files: who is connected is served on; when they are gone everybody is, by itself;
    and the log is not flooded meanwhile."""
    browser = Browser()
    program.sign_in(browser, "docteur-dupont")
    assert program.process is not None
    pid = program.process.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    lines = len(program.log().splitlines())
    kept = http.client.HTTPConnection(*program.inner, timeout=10)
    kept.request("GET", "/livez", headers={"Host": "inner"})
    assert b"ok\n" == kept.getresponse().read()
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (64, hard))
    with contextlib.ExitStack() as crowd:
        for _ in range(100):
            crowd.enter_context(socket.create_connection(program.inner, timeout=5))
        assert until(lambda: len(os.listdir(f"/proc/{pid}/fd")) >= 60)
        kept.request("GET", "/livez", headers={"Host": "inner"})
        assert b"ok\n" == kept.getresponse().read()
    kept.close()
    assert until(lambda: _status(program, browser) == 200)
    assert 200 == program.sign_in(Browser(), "infirmiere-leroy").status
    assert len(program.log().splitlines()) - lines < 20
    assert "raceback" not in program.log()
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


def _status(program: Program, browser: Browser) -> int:
    try:
        return program.check(browser, DOSSIER + "/").status
    except OSError:
        return 0


def test_LIFE_03_nobody_reads_the_log(tmp_path: Path, realm: Simulator) -> None:
    """The reader of standard error stops and the pipe is full: checks and sign-ins go on, lines are lost, and their number is told when
    somebody reads again."""
    program = Program(tmp_path, realm)
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 8192)  # full before a minute has had all its lines of a kind
    with open(reading, "rb", buffering=0) as pipe:
        program.process = subprocess.Popen(
            argv("serve", "--config", program.path), stdout=subprocess.DEVNULL, stderr=writing, env=environment()
        )
        os.close(writing)
        try:
            assert until(lambda: answers_at(program), 20)
            browser = Browser()
            assert 200 == program.sign_in(browser, "docteur-dupont").status
            for _ in range(50):  # each is a line of a hundred bytes and more
                assert 400 <= program.get(Browser(), f"{ORIGIN}/psc/callback?code=x&state=y").status < 500
            assert 200 == program.check(browser, DOSSIER + "/").status
            os.set_blocking(reading, False)
            said = b""
            with contextlib.suppress(BlockingIOError):
                while more := pipe.read(65536) or b"":
                    said += more
            assert 8192 >= len(said) > 3500
            program.get(Browser(), f"{ORIGIN}/psc/callback?code=x&state=y")
            said += pipe.read(65536) or b""
            messages = [json.loads(line)["message"] for line in said.splitlines()]
            assert 1 == sum(bool(re.fullmatch(r"[0-9]+ log lines were lost: .+", each)) for each in messages)
        finally:
            program.end()


def answers_at(program: Program) -> bool:
    """Whether it is ready."""
    try:
        return program.ready()[0] == 200
    except OSError:
        return False


def test_the_trail_goes_to_both_places_when_both_are_asked_for(tmp_path: Path, realm: Simulator) -> None:
    """`audit.file` and `audit.stdout = true`: every line stands in both."""
    with Program(tmp_path, realm, more="") as program:
        text = program.path.read_text().replace("[audit]", "[audit]\nstdout = true")
        program.end()
        program.path.write_text(text)
        program.start()
        program.sign_in(Browser(), "docteur-dupont")
        assert until(lambda: '"sign_in"' in (tmp_path / "audit.jsonl").read_text())
        assert until(lambda: '"event":"sign_in"' in program.log(), 1)
