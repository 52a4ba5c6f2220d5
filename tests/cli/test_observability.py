"""What is seen from outside: metrics that Prometheus reads, one log line an event, a trail that is whole, and no secret in any of them."""

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from commands import run, until
from running import (
    CLIENT,
    DOSSIER,
    ORIGIN,
    PRESCRIPTION,
    ROOT,
    Answer,
    Browser,
    Program,
    Running,
    SimulatorThread,
    exchange,
    shared_key,
)

from forward_auth import __version__
from forward_auth.simulator import people

RPPS = "99700000001"  # docteur-dupont's; the national id is 8 and these
PROMTOOL = shutil.which("promtool")

# Contract §7: name -> labels, each with its values where they are fixed ("" of app is an unknown host).
METRICS: Mapping[str, Mapping[str, set[str] | None]] = {
    "checks_total": {
        "dialect": {"nginx", "ingress-nginx", "forward"},
        "app": {"dossier", "prescription", ""},
        "outcome": {"allowed", "open", "bearer", "sign_in", "unauthenticated", "forbidden", "refused", "error"},
    },
    "check_seconds_bucket": {"le": None},
    "sign_ins_total": {"outcome": None},
    "sign_outs_total": {"cause": None},
    "renewals_total": {"outcome": None},
    "psc_requests_total": {
        "endpoint": {"discovery", "keys", "token", "refresh", "userinfo", "revoke"},
        "outcome": {"ok", "denied", "refused", "unavailable", "cancelled"},
    },
    "psc_request_seconds_bucket": {
        "endpoint": {"discovery", "keys", "token", "refresh", "userinfo", "revoke"},
        "le": None,
    },
    "logins": {},
    "signing_keys_age_seconds": {},
    "clock_skew_seconds": {},
    "store_errors_total": {"operation": None},
    "ready": {},
    "build_info": {"version": {__version__}},
}


@pytest.fixture
def chatty(tmp_path: Path) -> Iterator[Program]:
    """The program with everything it ever logs."""
    with (
        SimulatorThread(clients=[CLIENT], key=shared_key()) as simulator,
        Program(tmp_path, simulator, more='[log]\nlevel = "debug"\n') as program,
    ):
        yield program


def scraped(doors: Running | Program) -> str:
    answer = exchange(doors.inner, "GET", "/metrics", {"Host": "inner"})
    assert (200, "text/plain; version=0.0.4; charset=utf-8") == (answer.status, answer["Content-Type"])
    return answer.text


def series(doors: Running | Program) -> set[str]:
    """Every series there is, without its value."""
    return {line.rsplit(" ", 1)[0] for line in scraped(doors).splitlines() if not line.startswith("#")}


# metrics ----------------------------------------------------------------------------------------------------------------------


def test_every_metric_of_the_contract_is_there_from_the_first_scrape(running: Running) -> None:
    """With its labels and all their values: a rate over a series that appears later loses its first step."""
    found: dict[str, list[dict[str, str]]] = {}
    for each in series(running):
        name, _, labels = each.partition("{")
        found.setdefault(name.removeprefix("psc_forward_auth_"), []).append(
            dict(re.findall(r'(\w+)="([^"]*)"', labels))
        )
        assert name.startswith("psc_forward_auth_")
    for name, labels in METRICS.items():
        assert name in found, name
        for label, values in labels.items():
            seen = {each[label] for each in found[name]}
            assert seen == values if values is not None else len(seen) > 2, (name, label)
        assert all(each.keys() == labels.keys() for each in found[name]), name
    combined = [{*each.items()} for each in found["checks_total"]]
    assert 3 * 3 * 8 == len(combined)


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian: apt install prometheus)")
def test_promtool_finds_nothing(running: Running) -> None:
    """`promtool check metrics` is clean, before anything happened and after everything did."""
    assert PROMTOOL is not None
    for moment in range(2):
        text = scraped(running).encode()
        done = subprocess.run([PROMTOOL, "check", "metrics"], input=text, capture_output=True, check=False, timeout=30)
        assert (0, b"") == (done.returncode, done.stdout + done.stderr), moment
        browser = Browser()
        running.sign_in(browser, "infirmiere-leroy")
        running.follow(browser, PRESCRIPTION + "/")
        running.check(None, "https://nobody.example/")
        running.sign_out(browser)


def test_a_journey_is_counted(running: Running) -> None:
    """What the administrator's dashboard shows of one sign-in, one refusal and one sign-out."""
    before = running.metrics()
    browser = Browser()
    running.sign_in(browser, "infirmiere-leroy")
    running.follow(browser, PRESCRIPTION + "/")
    middle = running.metrics()
    running.sign_out(browser)
    after = running.metrics()

    def grown(name: str, since: Mapping[str, float], until: Mapping[str, float]) -> float:
        return until["psc_forward_auth_" + name] - since["psc_forward_auth_" + name]

    for name, count in {
        'checks_total{app="dossier",dialect="nginx",outcome="sign_in"}': 1,
        'checks_total{app="dossier",dialect="nginx",outcome="allowed"}': 1,
        'checks_total{app="prescription",dialect="nginx",outcome="forbidden"}': 1,
        'sign_ins_total{outcome="success"}': 1,
        'psc_requests_total{endpoint="token",outcome="ok"}': 1,
        'psc_requests_total{endpoint="userinfo",outcome="ok"}': 1,
        'psc_request_seconds_count{endpoint="token"}': 1,
        "logins": 1,
    }.items():
        assert count == grown(name, before, middle), name
    assert 1 == grown('sign_outs_total{cause="person"}', middle, after)
    assert -1 == grown("logins", middle, after)
    assert 1 == after["psc_forward_auth_ready"]
    assert abs(after["psc_forward_auth_clock_skew_seconds"]) <= 2


HOSTILE = 'x"}\n\\{y="z\x1b[31m\u2028é'


def test_DOS_hostile_requests_make_no_series(running: Running) -> None:
    """A hundred requests with other hosts, paths, methods, cookies, dialects and parameters at both doors: the same series as before."""
    browser = Browser()
    running.sign_in(browser, "docteur-dupont")
    before = series(running)
    ticket = browser.cookies("dossier.hopital.example")
    for n in range(25):
        hostile = HOSTILE.encode().hex() if n % 2 else "a" * 500
        running.check(None, f"https://{n}.evil.example/{n}")
        running.check(browser, f"{DOSSIER}/{n}/%00{hostile}//;x", method=f"M{n}", dialect="forward")
        running.check(None, DOSSIER + f"/{n}", headers={"Cookie": f"__Host-psc=v1{hostile}{n}; {ticket}x{n}; {n}=1"})
        running.check(
            browser,
            PRESCRIPTION + f"/{n}",
            dialect="ingress-nginx",
            headers={
                "User-Agent": HOSTILE.encode().decode("latin-1").replace("\n", " "),
                "Authorization": f"Bearer {n}",
            },
        )
        running.get(Browser(), f"{ORIGIN}/psc/{n}")
        running.get(Browser(), f"{ORIGIN}/psc/callback?error={n}&state={hostile}&code={n}")
        running.get(Browser(), f"{ORIGIN}/psc/start?to=https://{n}.evil.example/&acr={n}")
        running.request(Browser(), "POST", f"{ORIGIN}/psc/backchannel-logout", form=f"logout_token=a.{n}.c")
        exchange(running.inner, "GET", f"/auth/{n}", {"Host": "inner"})
    assert before == series(running)


# the log ----------------------------------------------------------------------------------------------------------------------


def logged(program: Program) -> list[dict[str, str]]:
    """Every line, each one JSON object."""
    lines = program.log().splitlines()
    assert all(line.isascii() and line.isprintable() for line in lines)
    found = [json.loads(line) for line in lines]
    assert all({"ts", "level", "logger", "message"} <= each.keys() for each in found)
    return found


def test_nothing_is_logged_per_check(chatty: Program) -> None:
    """Not of allowed, open, refused, unknown or anonymous ones, on the remembered road or not, at any level."""
    doctor, nurse = Browser(), Browser()
    chatty.sign_in(doctor, "docteur-dupont")
    chatty.sign_in(nurse, "infirmiere-leroy")
    chatty.follow(nurse, PRESCRIPTION + "/")

    def checks() -> None:
        assert 200 == chatty.check(doctor, DOSSIER + "/patients/DURAND").status
        assert 200 == chatty.check(None, PRESCRIPTION + "/public/a").status
        assert 401 == chatty.check(None, DOSSIER + "/").status
        assert 302 == chatty.check(None, DOSSIER + "/", dialect="forward").status
        assert 403 == chatty.check(nurse, PRESCRIPTION + "/").status
        assert 403 == chatty.check(doctor, "https://nobody.example/").status
        assert 401 == chatty.check(None, DOSSIER + "/", headers={"Cookie": "__Host-psc=rubbish"}).status

    checks()
    before = len(logged(chatty))
    for _ in range(30):
        checks()
    assert before == len(logged(chatty))
    assert "DURAND" not in chatty.log() + (chatty.folder / "audit.jsonl").read_text()


def test_LOG_01_LOG_05_whatever_is_sent_the_log_stays_readable(chatty: Program) -> None:
    """Line ends, escape sequences and quotes through every field a stranger can fill: whole JSON lines, and few; bytes that are no request
    leave none at all."""
    nasty = "%0d%0a%7b%22level%22%3a%22error%22%7d%1b%5b31m%00%22"
    before = len(logged(chatty))
    for address in (chatty.inner, chatty.outer):
        for n in range(50):
            chatty.raw(b"\x16\x03\x01 not http \r\n\x1b[31m%d\r\n\r\n" % n, address)
    assert before == len(logged(chatty))
    chatty.get(Browser(), f"{ORIGIN}/psc/callback?error={nasty}&error_description={nasty}&state={nasty}")
    chatty.get(Browser(), f"{ORIGIN}/psc/start?to={nasty}")
    chatty.get(Browser(), f"{ORIGIN}/psc/refused?ref={nasty}")
    chatty.request(Browser(), "POST", f"{ORIGIN}/psc/backchannel-logout", form=f"logout_token={nasty}.{nasty}.x")
    chatty.request(Browser(), "POST", f"{ORIGIN}/psc/sign-out", form=f"token={nasty}")
    for header in ("User-Agent", "Referer", "X-Forwarded-For", "Cookie", "X-Forwarded-Host"):
        chatty.request(Browser(), "GET", f"{ORIGIN}/psc/session", headers={header: '\x1b[31m{"a":"\u00e9"} \t x'})
    for url in (f"https://{nasty}.example/", f"{DOSSIER}/{nasty}"):
        for dialect in ("nginx", "ingress-nginx", "forward"):
            chatty.check(None, url, dialect=dialect)
    lines = logged(chatty)[before:]
    assert not [each for each in lines if "traceback" in each]
    assert len(lines) < 30
    assert not [each for each in lines if "\x1b" in each["message"] or "\n" in each["message"]]


def test_a_reference_on_a_page_is_in_the_log(chatty: Program) -> None:
    """The help desk hears eight letters on the telephone and finds the line."""
    page = chatty.get(Browser(), f"{ORIGIN}/psc/callback?code=x&state=y")
    found = re.search(r"Référence\s:\s([A-Z0-9-]{8,})<", page.text)
    assert found is not None, page.text
    assert 1 == sum(found[1] in each["message"] for each in logged(chatty))


def test_logfmt(tmp_path: Path) -> None:
    """The other format: `key=value` of the same four keys, each line whole."""
    with (
        SimulatorThread(clients=[CLIENT], key=shared_key()) as simulator,
        Program(tmp_path, simulator, more='[log]\nformat = "logfmt"\n') as program,
    ):
        program.get(Browser(), f"{ORIGIN}/psc/callback?code=x&state=y%0ats=1")
        program.end()
        lines = program.log().splitlines()
    assert len(lines) > 3
    value = r'(?:[A-Za-z0-9_.:/@+-]+|"(?:[^"\\]|\\.)*")'
    for line in lines:
        assert re.fullmatch(rf"ts={value} level={value} logger={value} message={value}", line), line


# the trail --------------------------------------------------------------------------------------------------------------------


def test_LOG_03_the_trail_of_a_day(running: Running) -> None:
    """Two professionals sign in, enter, are refused, leave; one gives up at PSC: exactly these events, each as the schema says."""
    doctor, nurse, nobody = Browser(), Browser(), Browser()
    running.sign_in(doctor, "docteur-dupont")
    running.follow(doctor, PRESCRIPTION + "/")
    running.sign_in(nurse, "infirmiere-leroy")
    for _ in range(3):
        assert 403 == running.follow(nurse, PRESCRIPTION + "/").status
    for _ in range(20):
        running.check(doctor, DOSSIER + "/")
    running.sign_out(doctor)
    with running.simulator.faults.during("authorize.cancelled"):
        running.sign_in(nobody, "sage-femme-petit")
    trail = running.audit()
    assert [
        ("sign_in", "899700000001", "dossier"),
        ("enter", "899700000001", "dossier"),
        ("enter", "899700000001", "prescription"),
        ("sign_in", "899700000043", "dossier"),
        ("enter", "899700000043", "dossier"),
        ("refused", "899700000043", "prescription"),
        ("sign_out", "899700000001", None),
        ("sign_in", "", None),
    ] == [(each["event"], each.get("subject", ""), each.get("app")) for each in trail]
    schema = json.loads((ROOT / "config" / "audit.schema.json").read_text())
    for each in trail:
        assert set(schema["required"]) <= each.keys() <= schema["properties"].keys(), each
        for key, value in each.items():
            facts = schema["properties"][key]
            assert value in facts.get("enum", [value]), (key, value)
            assert re.search(facts.get("pattern", ""), str(value)), (key, value)
            assert isinstance(value, {"string": str, "integer": int}[facts.get("type", "string")]), (key, value)
    assert {"192.0.2.7"} == {each["address"] for each in trail}


# canaries -----------------------------------------------------------------------------------------------------------------------


class Watched(Browser):
    """A browser whose every cookie, and every value of every address it is sent to, is written down."""

    def __init__(self) -> None:
        super().__init__()
        self.secrets: set[str] = set()

    def keep(self, url: str, lines: object) -> None:
        assert isinstance(lines, list)
        self.secrets |= {line.partition("=")[2].partition(";")[0] for line in lines}
        super().keep(url, lines)

    def went(self, location: str) -> None:
        """Codes, states, nonces, challenges, binds, hints; not what names only where."""
        for name, value in parse_qsl(urlsplit(location).query):
            if name not in ("to", "redirect_uri", "post_logout_redirect_uri", "scope", "iss", "client_id", "ref"):
                self.secrets.add(value)


def journey(program: Program, browser: Watched, person: str, url: str) -> tuple[Answer, list[str]]:
    """As Doors.follow, with an eye on every address. -> the last answer, the pages seen."""
    pages: list[str] = []
    for _ in range(15):
        browser.went(url)
        parts = urlsplit(url)
        if (parts.hostname or "").endswith("psc.localhost"):
            url = program.simulator.sign_in(url, person, cookies=browser.psc)
            continue
        at_psc = parts.path.startswith("/psc/")
        answer = program.get(browser, url) if at_psc else program.check(browser, url)
        pages.append(answer.text)
        if not answer["Location"]:
            return answer, pages
        url = answer["Location"]
    raise AssertionError("a loop")


def test_LOG_02_LOG_04_no_secret_and_no_person_outside_the_trail(chatty: Program) -> None:
    """A whole day at the chattiest level, by canaries: every cookie, code, state, nonce, token, key and secret that was used, whole or decoded,
    is in no log line, metric, page, listing or trail; the national id, name and `sub` in the trail (the id) and in the listing alone."""
    doctor, nurse = Watched(), Watched()
    answer, pages = journey(chatty, doctor, "docteur-dupont", DOSSIER + "/patients/DURAND?nom=DURAND&q=jeton-de-page")
    assert 200 == answer.status
    assert 200 == journey(chatty, doctor, "", PRESCRIPTION + "/")[0].status
    assert 200 == journey(chatty, nurse, "infirmiere-leroy", DOSSIER + "/")[0].status
    refused, more = journey(chatty, nurse, "", PRESCRIPTION + "/")
    assert 403 == refused.status
    pages += more
    pages.append(chatty.get(nurse, f"{PRESCRIPTION}/psc/refused?ref={refused['X-PSC-Reference']}").text)
    pages.append(chatty.get(doctor, f"{ORIGIN}/psc/session").text)
    # What goes wrong, with real secrets in it: PSC that lies, a callback twice, a foreign one.
    stale = Watched()
    start = chatty.get(stale, chatty.check(stale, DOSSIER + "/")["Location"])["Location"]
    stale.went(start)
    callback = chatty.simulator.sign_in(start, "sage-femme-petit", cookies=stale.psc)
    stale.went(callback)
    with chatty.simulator.faults.during("id_token.nonce_wrong"):
        pages.append(chatty.get(stale, callback).text)
    pages += [chatty.get(stale, callback).text, chatty.get(Watched(), callback).text]
    hint = chatty.sign_out(doctor)["Location"]
    doctor.went(hint)
    pages.append(chatty.get(doctor, f"{ORIGIN}/psc/signed-out").text)
    listing = run("sessions", "list", "--json", "--config", chatty.path).out
    assert until(lambda: '"sign_out"' in (chatty.folder / "audit.jsonl").read_text())

    realm = chatty.simulator.realm
    canaries = doctor.secrets | nurse.secrets | stale.secrets | {*realm.access, *realm.refresh, *realm.codes}
    canaries |= set(realm.sessions)
    canaries |= {
        CLIENT.secret,
        base64.b64encode(f"hopital:{CLIENT.secret}".encode()).decode(),
        (chatty.folder / "keys").read_text().splitlines()[-1].split()[-1],
    }
    canaries |= {unquote(each) for each in canaries}
    canaries |= {
        part for each in canaries for part in each.split(".") if len(part) > 60
    }  # signatures and claims of tokens
    canaries = {each for each in canaries if len(each) >= 12}
    assert len(canaries) > 40
    assert any(each.count(".") == 2 for each in canaries)
    log, metrics = chatty.log(), scraped(chatty)
    trail = (chatty.folder / "audit.jsonl").read_text()
    shown = "\n".join(
        re.sub(r'(?:value|href|action)="[^"]*"', "", page) for page in pages
    )  # forms and links carry what they must
    for place, text in {"log": log, "metrics": metrics, "trail": trail, "listing": listing, "pages": shown}.items():
        assert [] == [each for each in canaries if each in text], place

    everybody = [people()[name]["userinfo"] for name in ("docteur-dupont", "infirmiere-leroy", "sage-femme-petit")]
    ids = {str(each["SubjectNameID"])[1:] for each in everybody} | {str(each["sub"]) for each in everybody}
    names = {str(each["family_name"]) for each in everybody}
    assert RPPS in ids
    for place, text in {"log": log, "metrics": metrics}.items():
        assert [] == [each for each in ids | names if each.lower() in text.lower()], place
    assert [] == [each for each in ids if each in shown]
    assert "8" + RPPS in trail
    assert [] == [str(each["sub"]) for each in everybody if str(each["sub"]) in trail + listing]
    for text in (log, metrics, trail, listing):
        assert "DURAND" not in text
        assert "jeton-de-page" not in text
