"""The command line: what is right is done, what is wrong is one line that says what to write instead, and never a traceback."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import tomllib
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import ISSUER, Command, Done, argv, environment, run
from running import ROOT, configuration

CONFIG = ROOT / "config"

# Each line with a mark is one mistake; the mark is its key.
FIFTEEN = """\
# The file of an administrator on a bad day.
[psc]
environment = "bas"
client_id = 7                                 #! psc.client_id
client_secret_file = "secret"
client_auth = "none"                          #! psc.client_auth
acr_value = ["eidas1"]                        #! psc.acr_value

[server]
origin = "https://auth.hopital.example/"      #! server.origin
inner = "127.0.0.1:94000"                     #! server.inner
trusted_proxies = ["localhost"]               #! server.trusted_proxies
path_prefix = "psc"                           #! server.path_prefix

[session]
idle = "2h"                                   #! session.idle
store = "sqlite:logins.db"                    #! session.store

[pages]
language = "de"                               #! pages.language

[log]
level = "loud"                                #! log.level

[apps.dossier]
origins = ["https://*.hopital.example"]       #! apps.dossier.origins
bearer = "both"                               #! apps.dossier.bearer

[[apps.dossier.rules]]
paths = ["prescrire/*"]                       #! apps.dossier.rules[1].paths
require = { profession = [] }                 #! apps.dossier.rules[1].require.profession
"""
MISTAKE = re.compile(r"(?P<file>[^:]+):(?P<line>[0-9]+): (?P<key>[^ :]+): (?P<problem>.+?); (?P<cure>.+)")


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A configuration that is right, for a PSC that does not answer."""
    return configuration(tmp_path, ISSUER)


def changed(path: Path, *pairs: tuple[str, str]) -> Path:
    """The file with some of its text replaced."""
    text = path.read_text()
    for old, new in pairs:
        assert text.count(old) >= 1, old
        text = text.replace(old, new)
    path.write_text(text)
    return path


def refused(done: Done, code: int, *words: str) -> None:
    """One line on standard error with these words, nothing on standard output, no traceback."""
    assert (code, "", 1) == (done.code, done.out, len(done.lines)), done
    assert "Traceback" not in done.err
    for word in words:
        assert word in done.lines[0]


# check-config -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["check-config"], ["serve", "--check", "--config"], ["serve", "--config"]])
def test_fifteen_mistakes_are_fifteen_lines(tmp_path: Path, arguments: list[str]) -> None:
    """FILE:line: key: what is wrong; what to write instead: with the true line of each, at once, whoever reads the file."""
    (tmp_path / "secret").touch(0o600)
    (tmp_path / "secret").write_text("s3cr3t-0f-th3-t3sts")
    path = tmp_path / "bad.toml"
    path.write_text(FIFTEEN)
    marks = [(number, line.partition("#! ")[2]) for number, line in enumerate(FIFTEEN.splitlines(), 1) if "#! " in line]
    assert 15 == len(marks)
    done = run(*arguments, path)
    assert (2, "") == (done.code, done.out)
    found = [MISTAKE.fullmatch(line) for line in done.err.splitlines()]
    assert all(found), done.err
    assert [(str(path), number, key) for number, key in marks] == [
        (each["file"], int(each["line"]), each["key"]) for each in found if each
    ]


def test_a_good_file_is_said_to_be_good(command: Command, good: Path) -> None:
    """Exit 0, one line for people on standard output, nothing on standard error."""
    expected = Done(0, f"{good}: ok, 2 apps\n", "")
    assert expected == command("check-config", good)
    assert expected == command("serve", "--check", "--config", good)


def test_a_doubt_is_a_warning_and_no_mistake(command: Command, good: Path) -> None:
    """A code that no nomenclature knows: named with its line on standard error, and the file is still good."""
    changed(good, ('require = { profession = ["10", "40", "50"] }', 'require = { profession = ["Medecim"] }'))
    line = next(n for n, text in enumerate(good.read_text().splitlines(), 1) if "Medecim" in text)
    done = command("check-config", good)
    assert (0, f"{good}: ok, 2 apps\n") == (done.code, done.out)
    assert [f"{good}:{line}"] == [said.partition(": warning: ")[0] for said in done.lines]
    assert "Médecin" in done.err


@pytest.mark.parametrize("name", sorted(each.name for each in CONFIG.glob("*.toml")))
def test_shipped_files_check(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, good: Path, name: str
) -> None:
    """As they are, with the secret from the environment as a container engine would hand it in; also the least one's secret file."""
    monkeypatch.setenv("FORWARD_AUTH__PSC__CLIENT_SECRET_FILE", str(tmp_path / "client-secret"))
    monkeypatch.setenv("FORWARD_AUTH__SERVER__KEYS_FILE", str(tmp_path / "keys"))
    apps = len(tomllib.loads((CONFIG / name).read_text())["apps"])
    word = "app" if apps == 1 else "apps"
    assert Done(0, f"{CONFIG / name}: ok, {apps} {word}\n", "") == command("check-config", CONFIG / name)


def test_config_schema_describes_every_key(command: Command) -> None:
    """Valid JSON for editors: every key of example.toml, those commented out included, is there with a sentence."""
    done = command("config-schema")
    assert (0, "") == (done.code, done.err)
    root = json.loads(done.out)
    assert root["$schema"].startswith("https://json-schema.org/")

    def resolved(node: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in node:
            target: Any = root
            for part in node["$ref"].removeprefix("#/").split("/"):
                target = target[part]
            node = {**target, **{key: value for key, value in node.items() if key != "$ref"}}
        return node

    def check(place: str, data: dict[str, Any], node: dict[str, Any]) -> int:
        node = resolved(node)
        assert node["additionalProperties"] is False or "patternProperties" in node, place
        seen = 0
        for key, value in data.items():
            if key in node.get("properties", {}):
                below = resolved(node["properties"][key])
            else:
                below = resolved(next(each for name, each in node["patternProperties"].items() if re.search(name, key)))
            for inner in value if isinstance(value, list) else [value]:
                if isinstance(inner, dict):
                    seen += check(f"{place}.{key}", inner, below.get("items", below))
                else:
                    assert below.get("description"), f"{place}.{key}"
                    seen += 1
        return seen

    text = re.sub(r"(?m)^#([a-z_]+ = )", r"\1", (CONFIG / "example.toml").read_text())
    assert check("", tomllib.loads(text), root) > 80


# What cannot be read, and what cannot be opened ---------------------------------------------------------------------------


def _missing(place: Path) -> Path:
    return place / "none.toml"


def _directory(place: Path) -> Path:
    return place


def _loop(place: Path) -> Path:
    """Unreadable for root as well."""
    path = place / "loop.toml"
    path.symlink_to(path)
    return path


def _not_toml(place: Path) -> Path:
    path = place / "not.toml"
    path.write_text("[psc]\nenvironment: bas\n")
    return path


def _binary(place: Path) -> Path:
    path = place / "binary.toml"
    path.write_bytes(b"[psc]\n\xff\xfe\n")
    return path


def _broken_name(place: Path) -> Path:
    return place / "two\nlines\x1b[31m.toml"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_missing, ["none.toml: file: cannot be read (No such file or directory); "]),
        (_directory, [": file: cannot be read (Is a directory); "]),
        (_loop, ["loop.toml: file: cannot be read (Too many levels of symbolic links); "]),
        (_not_toml, ["not.toml:2: file: is not TOML here: ", 'write key = "value"']),
        (_binary, ["binary.toml:2: file: is not UTF-8; save the file as UTF-8"]),
        (_broken_name, [r"two\nlines\x1b[31m.toml: file: cannot be read"]),
    ],
)
@pytest.mark.parametrize(
    "arguments",
    [
        ["check-config", "FILE"],
        ["serve", "--config", "FILE"],
        ["explain", "--config", "FILE", "--person", "docteur-dupont", "GET", "https://dossier.hopital.example/"],
        ["sessions", "list", "--config", "FILE"],
        ["proxy-config", "nginx", "--config", "FILE"],
    ],
    ids=lambda each: each[0],
)
def test_a_file_that_cannot_be_read_is_one_line(
    command: Command, tmp_path: Path, make: Callable[[Path], Path], words: list[str], arguments: list[str]
) -> None:
    """Whichever command was to read it: exit 2, what is wrong, what to do."""
    path = str(make(tmp_path))
    refused(command(*[path if each == "FILE" else each for each in arguments]), 2, *words)


def _serve_at(sock: socket.socket, path: Path, door: str) -> None:
    changed(path, (f'{door} = "127.0.0.1:0"', f'{door} = "127.0.0.1:{sock.getsockname()[1]}"'))


def test_a_port_in_use_is_one_line(good: Path) -> None:
    """The outer door's port: exit 1, the address, and the likely cause; the inner socket made before it is gone again."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        _serve_at(taken, good, "outer")
        done = run("serve", "--config", good)
        port = taken.getsockname()[1]
    refused(done, 1, f"cannot listen on 127.0.0.1:{port}: Address already in use; is another program listening there?")
    assert not (good.parent / "inner.sock").exists()


@pytest.mark.parametrize(
    ("old", "new", "code", "words"),
    [
        ('store = "sqlite:FOLDER/', 'store = "sqlite:FOLDER/none/', 1, ["FOLDER/none", "not a directory: create it"]),
        ('"unix:FOLDER/inner.sock"', '"unix:FOLDER/none/s"', 1, ["cannot listen on unix:FOLDER/none/s: No such file"]),
        ('"unix:FOLDER/inner.sock"', '"unix:FOLDER/config.toml"', 1, ["in use; is another program listening there?"]),
        ('keys_file = "FOLDER/', 'keys_file = "FOLDER/none/', 2, ["FOLDER/none/keys: cannot be written", "directory"]),
        ("[server]", '[server]\nsocket_group = "nogroup-here"', 1, ["socket_group: there is no group nogroup-here"]),
        (
            'outer = "127.0.0.1:0"',
            'outer = "192.0.2.1:9"',
            1,
            ["cannot listen on 192.0.2.1:9: Cannot assign requested address"],
        ),
    ],
    ids=["store directory", "socket directory", "no socket", "keys directory", "group", "foreign address"],
)
def test_what_cannot_be_opened_is_one_line(good: Path, old: str, new: str, code: int, words: list[str]) -> None:
    """Each with what to do; nothing stays behind that would stop the next start."""
    folder = str(good.parent)
    changed(good, (old.replace("FOLDER", folder), new.replace("FOLDER", folder)))
    refused(run("serve", "--config", good), code, *[word.replace("FOLDER", folder) for word in words])
    assert not (good.parent / "inner.sock").exists()


def test_authorities_that_are_none_are_one_line(good: Path) -> None:
    """A PEM file whose certificate is rubbish: no traceback of the TLS library."""
    (good.parent / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\nrubbish\n-----END CERTIFICATE-----\n")
    changed(good, ("[psc]", '[psc]\nca_file = "ca.pem"'))
    refused(run("serve", "--config", good), 2, "psc.ca_file", "ca.pem", "name a PEM file")


def test_authorities_that_are_none_are_found_by_check_config(command: Command, good: Path) -> None:
    """What serve refuses, check-config refuses before."""
    (good.parent / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\nrubbish\n-----END CERTIFICATE-----\n")
    changed(good, ("[psc]", '[psc]\nca_file = "ca.pem"'))
    assert 2 == command("check-config", good).code


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [
        ("hello\n", 0o600, [":1: not «id created retired key»"]),
        ("1 1700000000 - AAAA\n", 0o600, [":1: key shorter than 32 bytes"]),
        ("# nothing\n", 0o600, ["no key in it"]),
        ("\xff", 0o600, ["cannot be read (UnicodeDecodeError)"]),
        ("1 1700000000 - " + "A" * 43 + "\n", 0o600, [":1: the key is not random"]),
        (None, 0o644, ["readable by others; run: chmod 600 "]),
        (None, 0o640, ["readable by others; run: chmod 600 "]),
    ],
    ids=["broken", "short", "empty", "binary", "zeros", "world-readable", "group-readable"],
)
def test_LIFE_06_a_key_ring_that_is_none_is_one_line(
    command: Command, good: Path, content: str | None, mode: int, words: list[str]
) -> None:
    """check-config, serve and keys list refuse it alike with exit 2, and show no key."""
    ring = good.parent / "keys"
    assert 0 == command("keys", "new", ring).code
    if content is not None:
        ring.write_bytes(content.encode("latin-1"))
    ring.chmod(mode)
    for arguments in (["check-config", good], ["keys", "list", ring], ["keys", "rotate", ring]):
        refused(command(*arguments), 2, str(ring), *words)
    if content is None or content == "hello\n":  # serve reads it by the same road
        refused(run("serve", "--config", good), 2, str(ring), *words)


@pytest.mark.parametrize(
    ("content", "mode", "word"),
    [
        ("", 0o600, "the secret is empty"),
        ("changez-moi", 0o600, "one of the examples"),
        ("s3cr3t-0f-th3-t3sts", 0o604, "open to everybody"),
    ],
)
def test_LIFE_06_a_client_secret_that_is_none_is_one_line(
    command: Command, good: Path, content: str, mode: int, word: str
) -> None:
    """Empty, of the examples, or for everybody to read: refused with its line, and never shown."""
    secret = good.parent / "client-secret"
    secret.write_text(content)
    secret.chmod(mode)
    done = command("check-config", good)
    refused(done, 2, f"{good}:5: psc.client_secret_file: ", word)
    assert not content or content not in done.err


# usage ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["required: COMMAND"]),
        (["serv"], ["invalid choice: 'serv'", "'serve'"]),
        (["serve"], ["required: --config"]),
        (["serve", "--config"], ["--config: expected one argument"]),
        (["serve", "--config", "x", "--port", "1"], ["unrecognized arguments: --port 1"]),
        (["check-config"], ["required: FILE"]),
        (["check-config", "a", "b\nc"], [r"unrecognized arguments: b\nc"]),
        (["keys", "burn", "x"], ["invalid choice: 'burn'"]),
        (["sessions", "kill", "--config", "x"], ["invalid choice: 'kill'"]),
        (["sessions", "list"], ["required: --config"]),
        (["explain", "GET"], ["required: --config"]),
        (["proxy-config", "nginx"], ["required: --config"]),
        (["demo", "--port", "x"], ["--port: invalid int value: 'x'"]),
        (["demo", "--port", "70000"], ["70000: not a port"]),
        (["demo", "--port", "-1"], ["-1: not a port"]),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_one_line(command: Command, arguments: list[str], words: list[str]) -> None:
    """Exit 2, what is wrong, and where to read on; not the whole usage."""
    refused(command(*arguments), 2, *words)


def test_a_wrong_port_from_the_environment_is_one_line(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """DEMO_PORT of `make run`."""
    monkeypatch.setenv("DEMO_PORT", "quatre-vingts")
    refused(command("demo"), 2, "quatre-vingts: not a port; --port and DEMO_PORT")


def test_version_and_help(command: Command) -> None:
    """For a ticket to the help desk; every command of the contract that this version has is named."""
    done = run("--version")
    assert (0, "") == (done.code, done.err)
    assert re.fullmatch(r"psc-forward-auth [0-9]+\.[0-9]+\.[0-9]+\S*\n", done.out)
    said = command("--help").out
    names = (
        "serve",
        "check-config",
        "config-schema",
        "explain",
        "sessions",
        "proxy-config",
        "simulator",
        "keys",
        "demo",
    )
    assert [] == [name for name in names if f"\n    {name}" not in said]


def test_a_reader_that_stops_is_no_fault() -> None:
    """`psc-forward-auth config-schema | head -1`: no traceback, nothing said at the end of the interpreter either."""
    with subprocess.Popen(
        argv("config-schema"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment({"PYTHONUNBUFFERED": ""})
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert b"" == process.stderr.read()
        assert 1 == process.wait(10)


def test_a_terminal_without_accents_is_no_fault(good: Path) -> None:
    """French labels on an ASCII terminal are escaped; they end no command."""
    changed(good, ('profession = ["10", "40", "50"] }', 'profession = ["10"] }'))
    url = "https://prescription.autre.example/é"
    done = run(
        *("explain", "--config", good, "--person", "docteur-accents", "GET", url), env={"PYTHONIOENCODING": "ascii"}
    )
    assert (0, "") == (done.code, done.err)
    assert r"\xe9" in done.out


# keys -------------------------------------------------------------------------------------------------------------------------


def test_a_key_ring_is_made_once(command: Command, tmp_path: Path) -> None:
    """0600 whatever the umask, never overwritten, and no key is ever shown."""
    ring = tmp_path / "keys"
    before = os.umask(0)
    try:
        done = command("keys", "new", ring)
    finally:
        os.umask(before)
    assert Done(0, f"{ring}: a new key ring with one key\n", "") == done
    assert 0o600 == stat.S_IMODE(ring.stat().st_mode)
    content = ring.read_bytes()
    refused(command("keys", "new", ring), 2, "is there already and is never overwritten", "keys rotate")
    assert content == ring.read_bytes()
    listed = command("keys", "list", ring)
    assert re.fullmatch(r"key 1: made [0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}Z, active\n", listed.out)
    key = content.decode().splitlines()[-1].split()[-1]
    assert len(key) >= 43
    assert key not in listed.out
    assert [ring] == list(tmp_path.iterdir())


def test_a_key_ring_is_rotated(command: Command, tmp_path: Path) -> None:
    """A new first key; the one before opens on, or with --drop-old is gone; the mode stays."""
    ring = tmp_path / "keys"
    command("keys", "new", ring)
    first = ring.read_text().splitlines()[-1].split()[-1]
    rotated = command("keys", "rotate", ring)
    assert (0, "") == (rotated.code, rotated.err)
    assert "reload the service (SIGHUP)" in rotated.out
    assert first not in rotated.out
    assert ["key 2: ", "key 1: "] == [line[:7] for line in command("keys", "list", ring).out.splitlines()]
    assert "opens only, replaced " in rotated.out.splitlines()[-1]
    assert first in ring.read_text()
    assert 0o600 == stat.S_IMODE(ring.stat().st_mode)
    assert 0 == command("keys", "rotate", ring, "--drop-old").code
    assert ["key 3: "] == [line[:7] for line in command("keys", "list", ring).out.splitlines()]
    assert first not in ring.read_text()
    assert 0o600 == stat.S_IMODE(ring.stat().st_mode)
    assert [ring] == list(tmp_path.iterdir())


@pytest.mark.parametrize("action", ["list", "rotate"])
def test_a_key_ring_that_is_not_there(command: Command, tmp_path: Path, action: str) -> None:
    """Exit 2 and how to make one; none is made in passing."""
    refused(command("keys", action, tmp_path / "none"), 2, "cannot be read", f"keys new {tmp_path / 'none'}")
    assert [] == list(tmp_path.iterdir())


# proxy-config -----------------------------------------------------------------------------------------------------------------


def test_proxy_config_speaks_of_this_configuration(command: Command, good: Path) -> None:
    """Both kinds name the doors and hosts of the file, and the upstream that was given; with --app, that app alone."""
    changed(
        good,
        ('"127.0.0.1:0", "unix:', '"127.0.0.1:9400", "unix:'),
        ('outer = "127.0.0.1:0"', 'outer = "127.0.0.1:9401"'),
    )
    for kind, mark in (("nginx", "auth_request"), ("traefik", "forwardAuth:")):
        done = command("proxy-config", kind, "--config", good, "--upstream", "dossier=http://127.0.0.1:8080")
        assert (0, "") == (done.code, done.err)
        for word in (mark, "dossier.hopital.example", "prescription.autre.example", "auth.hopital.example", "9401"):
            assert word in done.out, (kind, word)
        assert "http://127.0.0.1:8080" in done.out
        alone = command("proxy-config", kind, "--config", good, "--app", "prescription")
        assert "prescription.autre.example" in alone.out
        assert "dossier.hopital.example" not in alone.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["caddy"], ["caddy: not in this version; one of: nginx, traefik"]),
        (["frobnicate"], ["'frobnicate' is no proxy we know; one of: nginx, traefik"]),
        (["nginx", "--app", "dosier"], ["no app is called 'dosier'; one of: dossier, prescription"]),
        (["nginx", "--upstream", "http://x"], ["--upstream takes APP=URL"]),
        (
            ["nginx", "--upstream", "dosier=http://x"],
            ["--upstream dosier=…: no app has this name", "dossier, prescription"],
        ),
        (["nginx", "--upstream", "dossier=http://x", "--upstream", "dossier=http://y"], ["each app once"]),
        (["nginx", "--upstream", "dossier=http://x;}"], ["cannot stand in a proxy's configuration"]),
    ],
    ids=lambda each: " ".join(each[:3]) if isinstance(each, list) else str(each),
)
def test_CFG_04_what_no_proxy_can_be_told_is_one_line(
    command: Command, good: Path, arguments: list[str], words: list[str]
) -> None:
    """Unknown kinds, apps and upstreams, and what would inject: exit 2, and not half a file on standard output."""
    refused(command("proxy-config", *arguments, "--config", good), 2, *words)


def test_traefik_needs_a_door_it_can_reach(command: Command, good: Path) -> None:
    """Traefik speaks TCP only: said so, with what to write."""
    changed(good, ('inner = ["127.0.0.1:0", ', "inner = ["))
    refused(command("proxy-config", "traefik", "--config", good), 2, "server.inner", "127.0.0.1:9400")


# simulator --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT], ids=lambda each: each.name)
def test_the_simulator_command(stop: signal.Signals) -> None:
    """Says where it is, answers discovery there, and ends with exit 0 when told to."""
    with subprocess.Popen(
        argv("simulator", "--port", "0"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            url = process.stdout.readline().strip().rpartition(" ")[2]
            host, _, rest = url.removeprefix("http://").partition("/")
            local = f"http://127.0.0.1:{host.rpartition(':')[2]}/{rest}"
            with urllib.request.urlopen(urllib.request.Request(local, headers={"Host": host}), timeout=5) as answer:
                document = json.load(answer)
            assert url.startswith(document["issuer"])
            assert "/.well-known/wallet-openid-configuration" in url
            process.send_signal(stop)
            assert 0 == process.wait(5)
            assert "Traceback" not in process.stderr.read()
        finally:
            process.kill()


def test_a_port_that_is_none_is_one_line_from_the_simulator(command: Command) -> None:
    """As everywhere: one line, no traceback."""
    refused(command("simulator", "--port", "70000"), 2)
