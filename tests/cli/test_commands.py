"""The command as an administrator meets it: exit codes, one line per mistake, live sessions, keys, reload, crash."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from running import DOSSIER, ORIGIN, PRESCRIPTION, ROOT, Browser, Program, configuration

from forward_auth.cli import main


def command(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "forward_auth", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        check=False,
    )


def soon(what: Callable[[], bool], seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.02)
    return False


def test_fifteen_mistakes_fifteen_lines(tmp_path: Path) -> None:
    """A file with fifteen different mistakes lists fifteen lines, each with its own line number, and ends with 2."""
    secret = tmp_path / "secret"
    secret.touch(0o644)
    secret.write_text("readable-by-all")
    secret.chmod(0o644)
    path = tmp_path / "c.toml"
    path.write_text(f"""[psc]
environment = "basse"
client_id = ""
client_secret_file = "{secret}"
scpoe = "openid"
userinfo = "yes"
[server]
origin = "https://Auth.hopital.example/x"
inner = "127.0.0.1:9400"
path_prefix = "psc"
[session]
idle = "45m"
absolute = "9h"
store = "redis://127.0.0.1"
[headers]
profile = "nobody"
encoding = "klingon"
[apps.dossier]
origins = ["https://*.hopital.example"]
bearer = "both"
[[apps.dossier.rules]]
paths = ["admin"]
open = true
""")
    answer = command("check-config", path)
    lines = answer.stderr.strip().splitlines()
    assert 2 == answer.returncode
    assert len(lines) >= 15, answer.stderr
    assert "Traceback" not in answer.stderr
    for number in (2, 4, 5, 6, 8, 10, 12, 13, 14, 16, 17, 19, 20, 22):
        assert any(line.startswith(f"{path}:{number}: ") for line in lines), (number, answer.stderr)


@pytest.mark.parametrize("name", ["example", "demo", "bas", "production"])
def test_shipped_configurations(tmp_path: Path, name: str) -> None:
    """Every file of config/ is valid once its secret is there."""
    secret = tmp_path / "secret"
    secret.touch(0o600)
    secret.write_text("a-secret-of-this-test")
    text = (ROOT / "config" / f"{name}.toml").read_text()
    lines = [
        f'client_secret_file = "{secret}"' if line.startswith("client_secret_file") else line
        for line in text.splitlines()
    ]
    lines = [line for line in lines if not line.startswith(("ca_file", "logo", "http_proxy_file"))]
    path = tmp_path / f"{name}.toml"
    path.write_text("\n".join(lines))
    answer = command("check-config", path)
    assert 0 == answer.returncode, answer.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("check-config", "/nowhere.toml"),
        ("check-config", "/"),
        ("serve", "--config", "/nowhere.toml"),
        ("explain", "--config", "/nowhere.toml", "--person", "x", "GET", "https://a/"),
        ("proxy-config", "apache", "--config", "/nowhere.toml"),
        ("keys", "list", "/nowhere"),
        ("unknown",),
        ("sessions", "list"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    """What is wrong is said in a line, never in a traceback; exit code 2."""
    answer = command(*arguments)
    assert 2 == answer.returncode, answer
    assert answer.stderr
    assert "Traceback" not in answer.stderr


def test_schema(capsys: pytest.CaptureFixture[str]) -> None:
    """`config-schema` is JSON Schema."""
    assert 0 == main(["config-schema"])
    assert "properties" in json.loads(capsys.readouterr().out)


def test_explain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Decision, rule with file and line, and why each earlier rule did not match."""
    path = configuration(tmp_path, "http://psc.localhost:1/auth/realms/esante-wallet")
    assert 0 == main(["explain", "--config", str(path), "--person", "infirmiere-leroy", "POST", PRESCRIPTION + "/x"])
    said = capsys.readouterr().out
    assert said.startswith("refuse\n")
    assert "does not match: methods are GET, HEAD" in said
    assert "profession is 60" in said
    assert str(path) + ":" in said
    assert 0 == main(
        ["explain", "--config", str(path), "--person", "docteur-dupont", "--json", "GET", PRESCRIPTION + "/x"]
    )
    assert "allow" == json.loads(capsys.readouterr().out)["decision"]
    assert 2 == main(["explain", "--config", str(path), "--person", "nobody", "GET", DOSSIER])


def test_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A ring is made 0600, never overwritten, rotated in place."""
    path = tmp_path / "keys"
    assert 0 == main(["keys", "new", str(path)])
    assert 0o600 == path.stat().st_mode & 0o777
    before = path.read_text()
    assert 0 != main(["keys", "new", str(path)])
    assert before == path.read_text()
    assert 0 == main(["keys", "rotate", str(path)])
    assert 0 == main(["keys", "list", str(path)])
    said = capsys.readouterr().out
    assert "key 2" in said
    assert "key 1" in said
    assert not any(line in said for line in before.splitlines()[-1].split()[3:])


def test_sessions_end_is_in_force_at_once(program: Program) -> None:
    """An administrator lists who is signed in, ends one by national id, and the running service refuses within a second."""
    browser = Browser()
    program.sign_in(browser, "docteur-dupont")
    listed = json.loads(command("sessions", "list", "--json", "--config", program.path).stdout)
    assert ["899700000001"] == [entry["national_id"] for entry in listed]
    assert 0 == command("sessions", "end", "899700000001", "--config", program.path).returncode
    began = time.monotonic()
    assert soon(lambda: program.check(browser, DOSSIER + "/").status == 401)
    assert time.monotonic() - began < 1.5
    trail = [json.loads(line) for line in (program.folder / "audit.jsonl").read_text().splitlines()]
    assert [("ended", "administrator", "899700000001")] == [
        (line["event"], line["cause"], line["subject"]) for line in trail if "cause" in line
    ]
    assert 2 == command("sessions", "end", "ffffffffff", "--config", program.path).returncode


def test_crash_in_mid_session(program: Program) -> None:
    """LIFE-02: `kill -9`, three times: still signed in; a sign-out that was acknowledged before the crash still holds after it."""
    stays, leaves = Browser(), Browser()
    program.sign_in(stays, "docteur-dupont")
    program.sign_in(leaves, "infirmiere-leroy")
    kept = {host: dict(jar) for host, jar in leaves.jar.items()}
    assert 303 == program.sign_out(leaves).status
    for _ in range(3):
        program.kill()
        program.start()
        assert 200 == program.check(stays, DOSSIER + "/").status
        assert 401 == program.check(Browser(jar=kept), DOSSIER + "/").status


def test_reload(program: Program) -> None:
    """SIGHUP takes up a stricter rule at once, also for who is in; a wrong file changes nothing and is told in the log."""
    browser = Browser()
    program.sign_in(browser, "infirmiere-leroy")
    assert program.process is not None
    good = program.path.read_text()
    program.path.write_text(good + '\n[[apps.dossier.rules]]\npaths = ["/*"]\nrequire = { profession = ["10"] }\n')
    program.process.send_signal(signal.SIGHUP)
    assert soon(lambda: program.check(browser, DOSSIER + "/").status == 403)
    program.path.write_text(good + "\nnonsense = 1\n[apps.x]\n")
    program.process.send_signal(signal.SIGHUP)
    assert soon(lambda: "the old one stays in force" in program.log())
    assert 403 == program.check(browser, DOSSIER + "/").status
    program.path.write_text(good)
    program.process.send_signal(signal.SIGHUP)
    assert soon(lambda: program.check(browser, DOSSIER + "/").status == 200)


def test_rotation_with_a_live_session(program: Program) -> None:
    """COOK-09: a rotated ring keeps everybody in; one whose old keys are dropped signs everybody out."""
    browser = Browser()
    program.sign_in(browser, "docteur-dupont")
    assert program.process is not None
    assert 0 == command("keys", "rotate", program.folder / "keys").returncode
    program.process.send_signal(signal.SIGHUP)
    assert soon(lambda: "was reloaded" in program.log())
    assert 200 == program.check(browser, DOSSIER + "/").status
    assert 0 == command("keys", "rotate", "--drop-old", program.folder / "keys").returncode
    program.process.send_signal(signal.SIGHUP)
    assert soon(lambda: program.check(browser, DOSSIER + "/").status == 401)


def test_stop_leaves_nothing(program: Program) -> None:
    """SIGTERM: exit code 0, no socket left behind."""
    assert 0 == program.end()
    assert not (program.folder / "inner.sock").exists()


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Debian: prometheus) is not installed")
def test_promtool_finds_nothing(program: Program) -> None:
    """`promtool check metrics` is clean on the real metrics, after a sign-in and a refusal."""
    browser = Browser()
    program.sign_in(browser, "infirmiere-leroy")
    program.follow(browser, PRESCRIPTION + "/")
    text = subprocess.run(
        ["curl", "-s", f"http://127.0.0.1:{program.port}/metrics"], capture_output=True, check=True
    ).stdout
    answer = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False)
    assert (0, b"") == (answer.returncode, answer.stdout + answer.stderr)


def test_nothing_secret_is_written(program: Program) -> None:
    """LOG-02, LOG-04: no ticket, code, state, token or secret in the log, the trail or the metrics of a whole sign-in and sign-out; the national
    id in the trail alone; nothing per check."""
    browser = Browser()
    seen: list[str] = []
    url = program.check(browser, DOSSIER + "/patients/DURAND?nom=DURAND")["Location"]
    for _ in range(12):
        if (urlsplit(url).hostname or "").endswith("psc.localhost"):
            url = program.simulator.sign_in(url, "docteur-dupont", cookies=browser.psc)
        else:
            answer = program.get(browser, url)
            if answer.status != 303:
                break
            url = answer["Location"]
        seen += [
            part.partition("=")[2]
            for part in url.partition("?")[2].split("&")
            if part.startswith(("code=", "state=", "bind="))
        ]
        if url.startswith(DOSSIER + "/patients"):
            break
    seen += [value for jar in browser.jar.values() for value in jar.values()]
    lines = len(program.log().splitlines())
    for _ in range(50):
        assert 200 == program.check(browser, DOSSIER + "/patients/DURAND?nom=DURAND").status
    assert lines == len(program.log().splitlines())
    farewell = program.sign_out(browser)
    seen.append(farewell["Location"].partition("id_token_hint=")[2].partition("&")[0])
    seen.append("s3cr3t-0f-th3-t3sts")
    assert len(seen) >= 6
    assert all(len(each) > 15 for each in seen)
    soon(lambda: "sign_out" in (program.folder / "audit.jsonl").read_text())
    trail = (program.folder / "audit.jsonl").read_text()
    metrics = "\n".join(program.metrics())
    for text in (program.log(), trail, metrics):
        assert not [each for each in seen if each in text]
        assert "DURAND" not in text
    assert "899700000001" in trail
    assert "99700000001" not in program.log() + metrics
    assert ORIGIN  # the log may name where, never who
