"""A configuration is read whole, or refused with every mistake, each on its line and with what to write instead."""

import ipaddress
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from forward_auth import config_keys
from forward_auth.config import AppSettings, Listener, Origin, RuleSettings, Settings, load, schema
from forward_auth.config_files import EXAMPLE_SECRETS
from forward_auth.config_reading import Key, Reading, each_key
from forward_auth.errors import ConfigError, Mistake
from forward_auth.policy import Require

CONFIG = Path(__file__).parents[2] / "config"
SECRET = "kZ7-un-secret-qui-ne-sort-pas"

BASE: Mapping[str, Mapping[str, str]] = {
    "psc": {
        "environment": '"custom"',
        "issuer": '"https://auth.psc.example/realms/wallet"',
        "client_id": '"hopital"',
        "client_secret_file": '"secret"',
    },
    "server": {"origin": '"https://auth.hopital.example"', "trusted_proxies": '["127.0.0.1"]'},
    "apps.dossier": {"origins": '["https://dossier.hopital.example"]'},
}
RULE = {"paths": '["/*"]', "require": '{ acr = ["eidas1"] }'}


def text_of(changes: Mapping[str, str | None], base: Mapping[str, Mapping[str, str]] = BASE) -> str:
    """The base with some keys changed (`section.key` -> TOML), added, or removed (None). `rule.key` is in a first rule,
    `require.key` the only key of its require."""
    tables = {name: dict(keys) for name, keys in base.items()}
    for name, value in changes.items():
        section, _, key = name.rpartition(".")
        if section == "require":
            section, key, value = "rule", "require", f"{{ {key} = {value} }}"
        table = tables.setdefault(section, dict(RULE) if section == "rule" else {})
        if value is None:
            table.pop(key, None)
        else:
            table[key] = value
    lines = ["# a configuration", ""]
    for section, keys in tables.items():
        lines.append("[[apps.dossier.rules]]" if section == "rule" else f"[{section}]")
        lines += [f"{key} = {value}" for key, value in keys.items()]
    return "\n".join(lines) + "\n"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with a good secret in it."""
    keep(tmp_path / "secret", SECRET + "\n")
    return tmp_path


def keep(path: Path, content: str | bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)
    return path


def read(place: Path, text: str, **environ: str) -> Settings:
    path = place / "config.toml"
    path.write_text(text)
    return load(path, environ)


def mistakes(place: Path, text: str, **environ: str) -> list[Mistake]:
    """Errors only; a configuration that loads has none."""
    try:
        read(place, text, **environ)
    except ConfigError as error:
        return [mistake for mistake in error.mistakes if not mistake.warning]
    return []


def line_of(text: str, start: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if line.startswith(start))


# What is right --------------------------------------------------------------------------------------------------------


def test_the_least(place: Path) -> None:
    """The contract's least configuration loads, with every default that was decided."""
    made = read(
        place,
        """
[psc]
environment = "bas"
client_id = "hopital-exemple"
client_secret_file = "secret"
[server]
origin = "https://auth.hopital.example"
trusted_proxies = ["127.0.0.1"]
[apps.dossier]
origins = ["https://dossier.hopital.example"]
""",
    )
    issuer = "https://auth.bas.psc.esante.gouv.fr/auth/realms/esante-wallet"
    assert (issuer, issuer + "/.well-known/wallet-openid-configuration") == (made.psc.issuer, made.psc.discovery_url)
    assert SECRET == made.psc.client_secret.reveal()
    assert ("client_secret_basic", "openid scope_all", ("eidas1",)) == (
        made.psc.client_auth,
        made.psc.scope,
        made.psc.acr_values,
    )
    assert ("SubjectNameID", True, None, None, None) == (
        made.psc.subject_claim,
        made.psc.userinfo,
        made.psc.http_proxy,
        made.psc.http_proxy_auth,
        made.psc.ca_file,
    )
    assert Origin("https", "auth.hopital.example") == made.server.origin
    assert Listener("tcp", host="127.0.0.1", port=9401) == made.server.outer
    assert (Listener("unix", path=Path("/run/psc-forward-auth/inner.sock")),) == made.server.inner
    assert (ipaddress.ip_network("127.0.0.1"),) == made.server.trusted_proxies
    assert (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1")) == made.server.observers
    assert ("/psc", None, Path("/var/lib/psc-forward-auth/keys")) == (
        made.server.path_prefix,
        made.server.socket_group,
        made.server.keys_file,
    )
    assert (1800, 14400, "sqlite:/var/lib/psc-forward-auth/logins.db") == (
        made.session.idle,
        made.session.absolute,
        made.session.store,
    )
    assert ("psc", "percent", {}) == (made.headers.profile, made.headers.encoding, dict(made.headers.names))
    assert ("fr", "", "", None) == (made.pages.language, made.pages.establishment, made.pages.contact, made.pages.logo)
    assert (None, True, True) == (made.audit.file, made.audit.stdout, made.audit.required)
    assert ("json", "info") == (made.log.format, made.log.level)
    assert () == made.warnings
    assert place / "config.toml" == made.path
    assert (
        AppSettings(
            name="dossier",
            title="dossier",
            origins=(Origin("https", "dossier.hopital.example"),),
            rules=(RuleSettings(1, 0, ("/*",), None, False, Require(acr=("eidas1",))),),
            headers=made.headers,
            allow_preflight=False,
            idle=1800,
            background_paths=(),
            forget_cookies=(),
            sign_in="redirect",
        ),
    ) == made.apps


def test_rules_of_the_contract(place: Path) -> None:
    """The contract's example rules: order, lines, codes from labels, and acr asked for where the file does not name it."""
    keep(place / "liste-blanche.txt", "# équipe\n899700218896  # chef\n\n5000000018/CPAT00045\n", 0o644)
    text = text_of({"psc.acr_values": '["eidas1", "eidas2"]'}) + (
        """
[[apps.dossier.rules]]
paths = ["/public/*", "/favicon.ico"]
open = true

[[apps.dossier.rules]]
paths = ["/prescrire/*"]
methods = ["POST"]
require = { profession = ["Médecin", "40", "50"], sector = ["SA01"], acr = ["eidas2"], max_age = "15m" }

[[apps.dossier.rules]]
paths = ["/*"]
require = { any = [ { profession = ["10"] }, { role = ["313"] }, { national_id_file = "liste-blanche.txt" } ], not = { category = ["E"] } }
"""
    )
    app = read(place, text).apps[0]
    lines = [number for number, line in enumerate(text.splitlines(), 1) if line == "[[apps.dossier.rules]]"]
    expected = (
        RuleSettings(1, lines[0], ("/public/*", "/favicon.ico"), None, True, None),
        RuleSettings(
            2,
            lines[1],
            ("/prescrire/*",),
            frozenset({"POST"}),
            False,
            Require(profession=("10", "40", "50"), sector=("SA01",), acr=("eidas2",), max_age=900),
        ),
        RuleSettings(
            3,
            lines[2],
            ("/*",),
            None,
            False,
            Require(
                acr=("eidas1", "eidas2"),
                any=(
                    Require(profession=("10",)),
                    Require(role=("313",)),
                    Require(national_ids=frozenset({"899700218896", "5000000018/CPAT00045"})),
                ),
                not_=Require(category=("E",)),
            ),
        ),
    )
    assert expected == app.rules


@pytest.mark.parametrize(
    ("value", "seconds"),
    [('"15m"', 900), ('"4h"', 14400), ('"90s"', 90), ("60", 60), ('"1h30m"', 5400), ('"1m1s"', 61)],
)
def test_durations(place: Path, value: str, seconds: int) -> None:
    """A span of time is a number with its unit, or seconds."""
    assert seconds == read(place, text_of({"require.max_age": value})).apps[0].rules[0].require.max_age  # type: ignore[union-attr]


@pytest.mark.parametrize("door", ["unix:/run/x/a.sock", "127.0.0.1:9400", "[::1]:9400", "0.0.0.0:0"])
def test_listeners(place: Path, door: str) -> None:
    """Each notation of a door is understood and given back; one or a list."""
    assert door == str(read(place, text_of({"server.inner": f'"{door}"'})).server.inner[0])
    both = read(place, text_of({"server.inner": f'["{door}", "unix:/run/y"]'})).server.inner
    assert [door, "unix:/run/y"] == [str(one) for one in both]


@pytest.mark.parametrize(
    "origin",
    [
        "https://a.hopital.example",
        "https://a.hopital.example:8443",
        "http://localhost:8080",
        "http://a.localhost",
        "https://xn--hpital-xxa.example",
        "https://10.1.2.3",
    ],
)
def test_origins(place: Path, origin: str) -> None:
    """An origin is read into its parts and given back byte for byte."""
    made = read(place, text_of({"apps.dossier.origins": f'["{origin}"]'})).apps[0].origins[0]
    assert origin == made.text == str(made)
    assert origin.partition("://")[2] == made.authority
    assert ":" not in made.host


def test_memory_store_needs_no_keys_file(place: Path) -> None:
    """With memory: the key ring lives in memory too, unless a file is named."""
    assert read(place, text_of({"session.store": '"memory:"'})).server.keys_file is None
    both = text_of({"session.store": '"memory:"', "server.keys_file": '"/k"'})
    assert Path("/k") == read(place, both).server.keys_file


def test_audit_goes_to_one_place_by_default(place: Path) -> None:
    """Naming a file turns standard output off, unless both are asked for."""
    assert read(place, text_of({"audit.file": '"/a"'})).audit.stdout is False
    assert read(place, text_of({"audit.file": '"/a"', "audit.stdout": "true"})).audit.stdout is True


def test_app_headers_over_the_section(place: Path) -> None:
    """A key of apps.*.headers replaces the section's, the others are taken over."""
    text = text_of(
        {
            "headers.encoding": '"utf8"',
            "headers.names": '{ subject = "X-Moi" }',
            "apps.dossier.headers": '{ encoding = "ascii" }',
        }
    )
    headers = read(place, text).apps[0].headers
    assert ("psc", "ascii", {"subject": "X-Moi"}) == (headers.profile, headers.encoding, dict(headers.names))


def test_longer_than_psc_by_a_named_act(place: Path) -> None:
    """Longer limits need the override by name, and are still told."""
    limits = {"session.idle": '"2h"', "session.absolute": '"12h"'}
    assert ["session.idle", "session.absolute"] == [each.key for each in mistakes(place, text_of(limits))]
    made = read(place, text_of({**limits, "session.insecure_allow_longer_than_psc": "true"}))
    assert (7200, 43200) == (made.session.idle, made.session.absolute)
    assert ["session.idle", "session.absolute"] == [each.key for each in made.warnings]


# One wrong value for every key ----------------------------------------------------------------------------------------

# key -> (TOML value, word of the message)…; each is the only mistake of its file.
WRONG: Mapping[str, list[tuple[str, str]]] = {
    "psc.environment": [('"prod"', "known"), ("3", "text"), ('""', "empty"), ('"bas"', "has its own")],
    "psc.issuer": [
        ('"http://auth.psc.example/r"', "https"),
        ('"https://auth.psc.example/r/"', "slash"),
        ('"https://auth.psc.example/r?x=1"', "query"),
        ('"https://auth.psc.example/r#x"', "fragment"),
        ('"https://u:p@auth.psc.example/r"', "password"),
        ('"https://Auth.psc.example/r"', "upper"),
        ('"auth.psc.example"', "scheme"),
        ("1", "text"),
    ],
    "psc.discovery_url": [
        ('"http://auth.psc.example/x"', "https"),
        ('"ftp://auth.psc.example/x"', "https"),
        ("true", "text"),
    ],
    "psc.client_id": [
        ('""', "empty"),
        ('"a b"', "client id"),
        ('"é"', "client id"),
        ("12", "text"),
        ('"a\\u0007"', "control"),
    ],
    "psc.client_secret_file": [
        ('"missing"', "cannot be read"),
        ('""', "empty"),
        ("1", "text"),
        ('"."', "not a file"),
        ('"a\\u0000b"', "control"),
    ],
    "psc.client_auth": [
        ('"basic"', "known"),
        ('"private_key_jwt"', "not in this version"),
        ('"client_secret_jwt"', "not in this version"),
        ('"tls_client_auth"', "not in this version"),
        ('"self_signed_tls_client_auth"', "not in this version"),
    ],
    "psc.ca_file": [('"missing"', "cannot be read"), ('"secret"', "no certificate")],
    "psc.scope": [('"scope_all"', "openid"), ('"openid  x"', "blank"), ('["openid"]', "text")],
    "psc.acr_values": [("[]", "empty"), ('"eidas1"', "list"), ('["a b"]', "word"), ("[1]", "text")],
    "psc.subject_claim": [('"a b"', "claim"), ('""', "empty")],
    "psc.userinfo": [('"yes"', "true or false"), ("1", "true or false")],
    "psc.http_proxy": [
        ('"http://user:geheim@proxy:3128"', "password"),
        ('"user:geheim@proxy:3128"', "password"),
        ('"http://user:gehe/im@proxy:3128"', "password"),
        ('"proxy:3128"', "scheme"),
        ('"http://proxy:3128/x"', "path"),
        ('"http://proxy:0"', "port"),
        ('"socks5://proxy:1"', "https"),
    ],
    "psc.http_proxy_file": [('"missing"', "cannot be read"), ('"secret"', "user:password")],
    "server.origin": [
        ('"https://auth.hopital.example/psc"', "path"),
        ("1", "text"),
        ('"http://auth.hopital.example"', "https"),
    ],
    "server.outer": [
        ('"9401"', "address"),
        ('"localhost:9401"', "IP address"),
        ('"127.0.0.1:99999"', "port"),
        ('"127.0.0.1:09401"', "port"),
        ('"unix:run/x"', "absolute"),
        ('"unix:/run/../x"', "absolute"),
        (f'"unix:/{"x" * 120}"', "107"),
        ('"unix:/run/a;b"', "absolute"),
        ('["127.0.0.1:9401"]', "text"),
        ('"unix:/run/psc-forward-auth/inner.sock"', "inner door"),
    ],
    "server.inner": [
        ("[]", "empty"),
        ("9400", "list"),
        ('["127.0.0.1:9400", "x"]', "address"),
        ('"::1:9400"', "address"),
    ],
    "server.trusted_proxies": [
        ("[]", "empty"),
        ('["0.0.0.0/0"]', "Internet"),
        ('["::/0"]', "Internet"),
        ('["128.0.0.0/1"]', "Internet"),
        ('["::ffff:0:0/96"]', "IPv4"),
        ('["10.0.0.1/8"]', "10.0.0.0/8"),
        ('["nginx"]', "IP address"),
        ('"127.0.0.1"', "list"),
        ("[1]", "text"),
    ],
    "server.observers": [('["0.0.0.0/0"]', "Internet"), ('"127.0.0.1"', "list"), ('["x"]', "IP address")],
    "server.socket_group": [('"www data"', "group"), ("33", "text"), ('"a;b"', "group")],
    "server.path_prefix": [
        ('"psc"', "segment"),
        ('"/"', "segment"),
        ('"/a/b"', "segment"),
        ('"/a;b"', "segment"),
        ('"/Psc"', "segment"),
    ],
    "server.keys_file": [('"keys"', "absolute"), ('"/var/../keys"', "absolute"), ("1", "text")],
    "server.workers": [("2", "not in this version"), ('"1"', "number"), ("true", "number"), ("0", "number")],
    "session.idle": [
        ('"31m"', "PSC"),
        ('"0s"', "no time"),
        ('"soon"', "span"),
        ("true", "span"),
        ("-5", "no time"),
        ('"1800"', "span"),
        ("1.5", "span"),
    ],
    "session.absolute": [
        ('"5h"', "PSC"),
        ("14401", "PSC"),
        ('"10 min"', "span"),
        ("9999999999999999999999999999", "year"),
        ("2020-01-01", "span"),
    ],
    "session.store": [
        ('"redis://cache:6379"', "not in this version"),
        ('"rediss://:geheim@cache"', "not in this version"),
        ('"sqlite:logins.db"', "absolute"),
        ('"sqlite:"', "store"),
        ('"sqlite:/a?mode=ro"', "absolute"),
        ('"postgres:x"', "store"),
        ("1", "text"),
    ],
    "session.insecure_allow_longer_than_psc": [('"yes"', "true or false")],
    "headers.profile": [('"x"', "known"), ("1", "text")],
    "headers.encoding": [('"utf-8"', "known")],
    "headers.names": [
        ('"X"', "table"),
        ('{ nom = "X-Nom" }', "known"),
        ('{ assertion = "X-A" }', "not in this version"),
        ('{ rpps = "X-PSC-Subject" }', "two headers"),
    ],
    "pages.language": [('"de"', "known")],
    "pages.establishment": [("1", "text"), ('"a\\nb"', "control"), (f'"{"x" * 201}"', "longer")],
    "pages.contact": [('["a"]', "text"), ('"a\\u202eb"', "invisible")],
    "pages.logo": [
        ('"missing.svg"', "cannot be read"),
        ('"secret"', "neither"),
        ('"script.svg"', "script"),
        ('"large.png"', "larger"),
    ],
    "audit.file": [('"audit.log"', "absolute")],
    "audit.stdout": [('"yes"', "true or false"), ("false", "nowhere")],
    "audit.required": [("1", "true or false")],
    "log.format": [('"text"', "known")],
    "log.level": [('"INFO"', "known"), ("10", "text")],
    "apps.dossier.title": [('""', "empty"), ("1", "text")],
    "apps.dossier.origins": [
        ("[]", "empty"),
        ('"https://a.example"', "list"),
        ('["https://a.example", "https://a.example"]', "twice"),
        ('["https://a.example/"]', "path"),
        ('["https://a.example/x"]', "path"),
        ('["https://a.example?x"]', "query"),
        ('["https://a.example#x"]', "fragment"),
        ('["https://*.example"]', "wildcard"),
        ('["*"]', "scheme"),
        ('["https://u@a.example"]', "user"),
        ('["https://A.example"]', "upper"),
        ('["HTTPS://a.example"]', "upper"),
        ('["https://a.example."]', "dot"),
        ('["https://a.example:443"]', "port"),
        ('["http://a.localhost:80"]', "port"),
        ('["https://a.example:0"]', "port"),
        ('["https://a.example:99999"]', "port"),
        ('["https://a.example:"]', "port"),
        ('["http://a.example"]', "https"),
        ('["http://localhost.example"]', "https"),
        ('["ftp://a.example"]', "https"),
        ('["a.example"]', "scheme"),
        ('["https://hôpital.example"]', "ASCII"),
        ('["https://a..example"]', "host name"),
        ('["https://-a.example"]', "host name"),
        ('["https://a_b.example"]', "host name"),
        ('["https://1.2.3"]', "IPv4"),
        ('["https://[::1]"]', "IPv6"),
        ('["https://"]', "host name"),
        ('["https://a.example;x"]', "character"),
        ('["https://a.example\\\\x"]', "character"),
        ('["https://a.example x"]', "character"),
        ('["https://$host"]', "character"),
        ("[1]", "text"),
    ],
    "apps.dossier.rules": [("[]", "empty"), ("1", "list"), ("[1]", "table")],
    "apps.dossier.headers": [
        ("1", "table"),
        ('{ profile = "x" }', "known"),
        ('{ nom = "x" }', "known"),
        ('{ names = { role = "X-PSC-Subject" } }', "two headers"),
    ],
    "apps.dossier.allow_preflight": [('"no"', "true or false")],
    "apps.dossier.idle": [('"31m"', "session.idle"), ('"59s"', "shorter than a minute"), ('"x"', "span")],
    "apps.dossier.background_paths": [('["poll"]', "start with /"), ('"/poll"', "list"), ('["/a*"]', "final")],
    "apps.dossier.forget_cookies": [('["a b"]', "cookie"), ('"JSESSIONID"', "list"), ('["a;b"]', "cookie")],
    "apps.dossier.sign_in": [('"button"', "known")],
    "rule.paths": [
        ("[]", "empty"),
        ('"/x"', "list"),
        ('["x"]', "start with /"),
        ('["https://a.example/x"]', "start with /"),
        ('["/x*"]', "final"),
        ('["/*/x"]', "final"),
        ('["/x?y"]', "query"),
        ('["/x#y"]', "fragment"),
        ('["/a//b"]', "two readings"),
        ('["/a/../b"]', "two readings"),
        ('["/a/."]', "two readings"),
        ('["/a%2fb"]', "two readings"),
        ('["/a%2Fb/*"]', "two readings"),
        ('["/a%00"]', "two readings"),
        ('["/a;b"]', "two readings"),
        ('["/a b"]', "two readings"),
        ('["/a\\\\b"]', "two readings"),
        ('["/a%zz"]', "escape"),
        ('["/a\\u0001"]', "control"),
        ('["/a{b}"]', "character"),
        ('["^/"]', "start with /"),
    ],
    "rule.methods": [("[]", "empty"), ('["get"]', "lower"), ('"GET"', "list"), ('["G T"]', "method"), ("[1]", "text")],
    "rule.open": [("1", "true or false"), ("true", "beside require")],
    "rule.require": [
        ("{}", "nothing"),
        ('"10"', "table"),
        ('[{ acr = ["eidas1"] }]', "table"),
        ('{ professions = ["10"] }', "write profession"),
    ],
    "require.profession": [("[]", "empty"), ('"10"', "list"), ("[10]", "text"), ('[""]', "empty")],
    "require.category": [("[]", "empty"), ("1", "list")],
    "require.role": [("[]", "empty"), ("[[]]", "text")],
    "require.speciality": [("[]", "empty"), ("{}", "list")],
    "require.sector": [("[]", "empty"), ('"SA01"', "list")],
    "require.structure": [("[]", "empty"), ("[1]", "text")],
    "require.mode": [("[]", "empty"), ('"S"', "list")],
    "require.national_id": [("[]", "empty"), ('["a b"]', "national id"), ("[899700218896]", "text")],
    "require.national_id_file": [
        ('"missing"', "cannot be read"),
        ('["secret"]', "text"),
        ('"bad-ids.txt"', "line 3"),
        ('"open-ids.txt"', "written by everybody"),
    ],
    "require.auth_mode": [("[]", "empty"), ('"CARD"', "list")],
    "require.acr": [("[]", "empty"), ('"eidas1"', "list")],
    "require.max_age": [('"x"', "span"), ("0", "no time"), ("true", "span")],
    "require.all": [("[]", "empty"), ('{ acr = ["a"] }', "list"), ("[{}]", "nothing"), ("[1]", "table")],
    "require.any": [
        ("[]", "empty"),
        ("[{ profession = [] }]", "empty"),
        ('[{ any = [{ "rôle" = ["1"] }] }]', "write role"),
    ],
    "require.not": [("{}", "nothing"), ('["10"]', "table"), ("{ not = {} }", "nothing")],
    **{
        f"headers.names.{field}": [
            ('"X_Y"', "header name"),
            ('"Host"', "means something"),
            ("1", "text"),
            ('"a: b"', "header name"),
        ]
        for field in config_keys.NAMES
    },
}
CASES = [(key, value, word) for key, cases in WRONG.items() for value, word in cases]


@pytest.mark.parametrize(("key", "value", "word"), CASES, ids=[f"{key}={value[:40]}" for key, value, _ in CASES])
def test_wrong_value(place: Path, key: str, value: str, word: str) -> None:
    """A wrong value is one mistake, on its own line, that says what is wrong and what to write instead."""
    keep(place / "script.svg", "<svg xmlns='x'><script>1</script></svg>")
    keep(place / "large.png", b"\x89PNG\r\n\x1a\n" + bytes(200_000))
    keep(place / "bad-ids.txt", "# ids\n899700218896\nnot an id\n")
    keep(place / "open-ids.txt", "899700218896\n", 0o666)
    changes = {key: value}
    if key == "psc.http_proxy_file":
        changes["psc.http_proxy"] = '"http://proxy.hopital.example:3128"'
    if key == "rule.open" and value == "1":
        changes["rule.open"] = "1"
    text = text_of(changes)
    found = mistakes(place, text)
    assert 1 == len(found), [str(each) for each in found]
    mistake = found[0]
    written = "require" if key.startswith("require.") else key.rpartition(".")[2]
    expected_line = line_of(text, f"{written} = ")
    if key == "psc.environment" and value == '"bas"':
        expected_line = line_of(text, "issuer = ")
    if key == "server.trusted_proxies" and value == "[]":
        assert "server.inner" not in mistake.key
    assert expected_line == mistake.line
    assert word in str(mistake)
    assert mistake.problem
    assert mistake.cure
    assert "geheim" not in str(mistake)
    assert str(mistake).isprintable()


def all_keys() -> Iterator[str]:
    """The name of every key that schema() knows, as in WRONG."""
    made = schema()
    for section, table in made["properties"].items():
        if section != "apps":
            yield from (f"{section}.{key}" for key in table["properties"])
    (app,) = made["properties"]["apps"]["patternProperties"].values()
    yield from (f"apps.dossier.{key}" for key in app["properties"])
    yield from (f"rule.{key}" for key in made["$defs"]["rule"]["properties"])
    yield from (f"require.{key}" for key in made["$defs"]["require"]["properties"])
    yield from (f"headers.names.{key}" for key in made["$defs"]["headers"]["properties"]["names"]["properties"])


def test_every_key_has_a_wrong_value() -> None:
    """A new key needs a refusal for its wrong values before it is in."""
    assert sorted(all_keys()) == sorted(WRONG)


REQUIRED = [
    "psc.environment",
    "psc.client_id",
    "psc.client_secret_file",
    "psc.issuer",
    "server.origin",
    "server.trusted_proxies",
    "apps.dossier.origins",
]


@pytest.mark.parametrize("key", REQUIRED)
def test_missing(place: Path, key: str) -> None:
    """What must be there and is not is told at the table it belongs to."""
    other = {"apps.dossier.title": '"x"'}  # so that the app's table is not empty
    text = text_of({key: None, **other})
    (mistake,) = mistakes(place, text)
    assert (key, line_of(text, f"[{key.rpartition('.')[0]}]")) == (mistake.key, mistake.line)
    assert "missing" in mistake.problem


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        (
            "",
            {
                "psc.environment",
                "psc.client_id",
                "psc.client_secret_file",
                "server.origin",
                "server.trusted_proxies",
                "apps",
            },
        ),
        ("psc = 1\nserver = []\napps = 2\n", {"psc", "server", "apps"}),
        (
            "[apps]\n",
            {
                "psc.environment",
                "psc.client_id",
                "psc.client_secret_file",
                "server.origin",
                "server.trusted_proxies",
                "apps",
            },
        ),
    ],
)
def test_missing_tables(place: Path, text: str, keys: set[str]) -> None:
    """Without a table every key it must have is told, with a line; a table that is none is one mistake."""
    found = mistakes(place, text)
    assert keys == {each.key for each in found}
    assert all(each.line for each in found)


# What keys mean together ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        (
            {"psc.environment": '"production"', "psc.issuer": None, "psc.discovery_url": '"https://x.example/y"'},
            "psc.discovery_url",
        ),
        ({"psc.environment": '"bas"', "psc.issuer": None, "psc.subject_claim": '"sub"'}, "psc.subject_claim"),
        ({"psc.http_proxy_file": '"proxy-user"'}, "psc.http_proxy_file"),
        ({"session.idle": '"20m"', "session.absolute": '"10m"'}, "session.idle"),
        ({"server.outer": '"127.0.0.1:9400"', "server.inner": '"127.0.0.1:9400"'}, "server.outer"),
        ({"rule.require": None}, "apps.dossier.rules[1]"),
        ({"rule.require": None, "rule.open": "false"}, "apps.dossier.rules[1]"),
        ({"rule.require": None, "rule.open": "true"}, "apps.dossier.rules[1].paths"),
        ({"rule.paths": None}, "apps.dossier.rules[1].paths"),
        ({"apps.Dossier.origins": '["https://x.example"]'}, "apps.Dossier"),
        ({"apps.dossier_2.origins": '["https://x.example"]'}, "apps.dossier_2"),
        ({'apps."a b".origins': '["https://x.example"]'}, 'apps."a b"'),
    ],
)
def test_together(place: Path, changes: dict[str, str | None], key: str) -> None:
    """Values that are right alone and wrong together are one mistake at the key to mend."""
    keep(place / "proxy-user", "user:geheim")
    assert [key] == [each.key for each in mistakes(place, text_of(changes))]


def test_empty_app(place: Path) -> None:
    """An app that says nothing is told as such."""
    text = text_of({}) + "[apps.vide]\n"
    assert [("apps.vide", len(text.splitlines()))] == [(each.key, each.line) for each in mistakes(place, text)]


def test_CFG_01_tcp_needs_trusted_proxies(place: Path) -> None:
    """A door on TCP without trusted proxies is refused; two unix sockets need none."""
    none = {"server.trusted_proxies": None}
    unix = {"server.outer": '"unix:/run/outer.sock"', "server.inner": '"unix:/run/inner.sock"'}
    assert ["server.trusted_proxies"] == [each.key for each in mistakes(place, text_of(none))]
    assert ["server.trusted_proxies"] == [
        each.key for each in mistakes(place, text_of({**none, **unix, "server.inner": '["unix:/run/i", "[::1]:9400"]'}))
    ]
    assert () == read(place, text_of({**none, **unix})).server.trusted_proxies


def test_CFG_02_no_pattern_is_an_origin(place: Path) -> None:
    """Wildcards are refused wherever an origin stands."""
    for origin in ("*", "https://*", "https://*.hopital.example", "https://dossier.*"):
        assert mistakes(place, text_of({"apps.dossier.origins": f'["{origin}"]'}))


def test_CFG_03_unknown_keys(place: Path) -> None:
    """An unknown key is refused with the nearest known one, or with the table it belongs to, and is not also missing."""
    text = (
        text_of({"psc.client_id": None, "psc.clientID": '"x"', "server.idle": '"5m"', "apps.dossier.quoi": "1"})
        + "[sesion]\n"
    )
    found = {each.key: each.cure for each in mistakes(place, text)}
    assert {"psc.clientID", "server.idle", "apps.dossier.quoi", "sesion"} == set(found)
    assert "write client_id" == found["psc.clientID"]
    assert "move it below [session]" == found["server.idle"]
    assert "known here: title, origins" in found["apps.dossier.quoi"]
    assert "write session" == found["sesion"]


@pytest.mark.parametrize("bad", [";", "{", "}", "\\n", "#", '\\"', "$", "'", " ", "`", "\\u0000"])
def test_CFG_04_nothing_ends_a_value_elsewhere(place: Path, bad: str) -> None:
    """What is written into a proxy's configuration holds no character that means something there."""
    for key, value in {
        "server.origin": f'"https://auth{bad}.hopital.example"',
        "server.outer": f'"unix:/run/a{bad}b"',
        "server.inner": f'["unix:/run/a{bad}b"]',
        "server.path_prefix": f'"/p{bad}"',
        "server.socket_group": f'"www{bad}"',
        "apps.dossier.origins": f'["https://a.example{bad}"]',
        "headers.names.subject": f'"X{bad}"',
    }.items():
        assert mistakes(place, text_of({key: value})), key


def test_one_origin_one_app(place: Path) -> None:
    """The same origin in two apps is a mistake of the second, on the element's own line."""
    text = (
        text_of({})
        + '[apps.autre]\norigins = [\n  "https://autre.hopital.example",\n  "https://dossier.hopital.example",\n]\n'
    )
    (mistake,) = mistakes(place, text)
    assert ("apps.autre.origins", line_of(text, '  "https://dossier')) == (mistake.key, mistake.line)
    assert "apps.dossier" in mistake.problem


def test_one_host_two_ports(place: Path) -> None:
    """Two apps on one host share its ticket: allowed, and told."""
    text = text_of({"apps.autre.origins": '["https://dossier.hopital.example:8443"]'})
    (warning,) = read(place, text).warnings
    assert ("apps.autre.origins", True) == (warning.key, warning.warning)
    assert "isolated" in warning.cure


def test_no_app_beside_others_on_our_own_host(place: Path) -> None:
    """An app on the origin's host is right alone, and refused as soon as another host has an app, its own other host included."""
    own = '["https://auth.hopital.example:8443"]'
    assert [] == mistakes(place, text_of({"apps.dossier.origins": own}))
    two = text_of({"apps.autre.origins": own})
    assert [("apps.autre.origins", len(two.splitlines()))] == [(each.key, each.line) for each in mistakes(place, two)]
    assert 1 == len(
        mistakes(place, text_of({"apps.dossier.origins": '["https://auth.hopital.example", "https://b.example"]'}))
    )


@pytest.mark.parametrize(
    ("rules", "key"),
    [
        ('[{ paths = ["/*"], require = { acr = ["a"] } }, { paths = ["/x"], open = true }]', "apps.dossier.rules[2]"),
        (
            '[{ paths = ["/x/*"], require = { acr = ["a"] } }, { paths = ["/x/y"], methods = ["GET"], open = true }]',
            "apps.dossier.rules[2]",
        ),
        (
            '[{ paths = ["/x"], require = { acr = ["a"] } }, { paths = ["/*"], open = true }]',
            "apps.dossier.rules[2].paths",
        ),
        (
            '[{ paths = ["/*"], methods = ["GET"], open = true }, { paths = ["/*"], require = { acr = ["a"] } }]',
            "apps.dossier.rules[1].paths",
        ),
        ('[{ paths = ["/psc/start"], open = true }]', "apps.dossier.rules[1].paths"),
        ('[{ paths = ["/*"], require = { max_age = "5h" } }]', "apps.dossier.rules[1].require.max_age"),
        ('[{ paths = ["/*"], require = { account = true } }]', "apps.dossier.rules[1].require.account"),
        ('[{ paths = ["/*"], require = { profession = ["Medecn"] } }]', "apps.dossier.rules[1].require.profession"),
        (
            '[{ paths = ["/*"], require = { any = [{ role = ["313", "313"] }] } }]',
            "apps.dossier.rules[1].require.any[1].role",
        ),
        (
            '[{ paths = ["/*"], require = { national_id_file = "nobody.txt" } }]',
            "apps.dossier.rules[1].require.national_id_file",
        ),
    ],
)
def test_warnings(place: Path, rules: str, key: str) -> None:
    """What is allowed and doubtful is told once, and the configuration loads."""
    keep(place / "nobody.txt", "# nobody yet\n")
    assert [key] == [each.key for each in read(place, text_of({"apps.dossier.rules": rules})).warnings]


def test_rules_that_are_reached(place: Path) -> None:
    """Other methods, other paths, and what stands before a wider rule are no reason for a warning."""
    rules = (
        '[{ paths = ["/x/*"], methods = ["GET"], require = { acr = ["a"] } }, { paths = ["/x/*"], require = { acr = ["b"] } },'
        ' { paths = ["/xy"], open = true }, { paths = ["/z"], methods = ["GET"], open = true },'
        ' { paths = ["/z"], methods = ["POST", "GET"], open = true }, { paths = ["/*"], require = { acr = ["a"] } }]'
    )
    assert () == read(place, text_of({"apps.dossier.rules": rules})).warnings


def test_situations_need_userinfo(place: Path) -> None:
    """A rule on a profession is told when userinfo, its only source, is off."""
    text = text_of({"psc.userinfo": "false", "require.not": '{ profession = ["10"] }'})
    assert ["apps.dossier.rules[1].require.not.profession"] == [each.key for each in read(place, text).warnings]


def test_unknown_code_names_the_nearest(place: Path) -> None:
    """A label with a slip is kept as it is, with the code that was probably meant."""
    made = read(place, text_of({"require.profession": '["Medecn"]'}))
    assert ("Medecn",) == made.apps[0].rules[0].require.profession  # type: ignore[union-attr]
    assert "10 (Médecin)" in made.warnings[0].cure


# What comes later -----------------------------------------------------------------------------------------------------

LATER = {
    **dict.fromkeys(["assertion", "accounts", "ciba", "break_glass", "administration"], "{}"),
    "psc.client_key_file": '"k"',
    "psc.client_certificate_file": '"c"',
    "psc.autre": '{ environment = "bas" }',
    "server.client_certificate_header": '"X-Cert"',
    "apps.dossier.bearer": '"id_token"',
    "apps.dossier.bearer_audiences": '["a"]',
    "apps.dossier.situation": '"ask"',
    "apps.dossier.machines": "[]",
    "apps.dossier.accounts": '"annuaire"',
    "apps.dossier.rich_clients": "true",
    "apps.dossier.issuer": '"a"',
}


@pytest.mark.parametrize(("key", "value"), LATER.items())
def test_later(place: Path, key: str, value: str) -> None:
    """A key of the contract that this version does not enforce is refused as such, never ignored."""
    text = text_of({key: value}) if "." in key else f"{key} = {value}\n{text_of({})}"
    (mistake,) = mistakes(place, text)
    starts = f"{key.rpartition('.')[2]} = "
    lines = [number for number, line in enumerate(text.splitlines(), 1) if line.startswith(starts)]
    assert (key, lines[-1]) == (mistake.key, mistake.line)
    assert "not in this version" in mistake.problem


def test_later_off(place: Path) -> None:
    """The values that mean «off» are accepted today."""
    read(place, text_of({"apps.dossier.bearer": '"off"', "apps.dossier.rich_clients": "false"}))
    assert mistakes(place, text_of({"apps.dossier.rich_clients": "0"}))


def test_only_named_issuers(place: Path) -> None:
    """[psc.NAME] alone is one mistake per name, not also everything [psc] lacks."""
    text = text_of({"psc.a.client_id": '"x"'}, {name: keys for name, keys in BASE.items() if name != "psc"})
    assert ["psc.a"] == [each.key for each in mistakes(place, text)]


# Secrets --------------------------------------------------------------------------------------------------------------


def test_secret_in_the_file(place: Path) -> None:
    """A literal secret is refused without being shown, and the missing file is not a second mistake."""
    (mistake,) = mistakes(place, text_of({"psc.client_secret_file": None, "psc.client_secret": f'"{SECRET}"'}))
    assert "psc.client_secret" == mistake.key
    assert SECRET not in str(mistake)


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o602, 0o601])
def test_LIFE_06_secret_open_to_everybody(place: Path, mode: int) -> None:
    """A secret that others can read, write or run is refused; the group may read it."""
    keep(place / "secret", SECRET, mode)
    (mistake,) = mistakes(place, text_of({}))
    assert "everybody" in mistake.problem
    assert "chmod o=" in mistake.cure
    keep(place / "secret", SECRET, 0o640)
    assert [] == mistakes(place, text_of({}))


def test_secret_handed_in_by_systemd(place: Path) -> None:
    """Below $CREDENTIALS_DIRECTORY the mode is not the administrator's: a warning. Beside it, or by .., it is."""
    inside = place / "credentials"
    inside.mkdir()
    keep(inside / "secret", SECRET, 0o644)
    keep(place / "secret", SECRET, 0o644)
    environ = {"CREDENTIALS_DIRECTORY": str(inside)}
    made = read(place, text_of({"psc.client_secret_file": '"credentials/secret"'}), **environ)
    assert ["psc.client_secret_file"] == [each.key for each in made.warnings]
    assert mistakes(place, text_of({"psc.client_secret_file": '"credentials/../secret"'}), **environ)
    assert mistakes(place, text_of({"psc.client_secret_file": '"credentials/secret"'}), CREDENTIALS_DIRECTORY="/")
    assert mistakes(place, text_of({"psc.client_secret_file": '"credentials/secret"'}), CREDENTIALS_DIRECTORY="")


@pytest.mark.parametrize(
    "content",
    ["", "\n", "ligne-une\nligne-deux\n", " geheim", "geheim\t", "\x00", *sorted(EXAMPLE_SECRETS), "CHANGEZ-MOI\n"],
)
def test_LIFE_06_secret_that_is_none(place: Path, content: str) -> None:
    """An empty secret, more than one line, blanks, and the examples' own are refused, and never shown."""
    keep(place / "secret", content)
    (mistake,) = mistakes(place, text_of({}))
    assert "secret" in mistake.problem
    assert content.strip() == "" or content.strip() not in mistake.problem.replace("the secret", "")


def test_secret_where_its_file_belongs(place: Path) -> None:
    """Who writes the secret itself behind client_secret_file does not find it in the message."""
    for text in (SECRET, "/" + SECRET):
        (mistake,) = mistakes(place, text_of({"psc.client_secret_file": f'"{text}"'}))
        assert SECRET not in str(mistake)


def test_secret_that_waits(place: Path) -> None:
    """A pipe is refused, not waited at; so are binary and endless files."""
    (place / "secret").unlink()
    os.mkfifo(place / "secret")
    assert 1 == len(mistakes(place, text_of({})))
    (place / "secret").unlink()
    for content in (b"\xff\xfe", b"x" * 70_000):
        keep(place / "secret", content)
        assert 1 == len(mistakes(place, text_of({})))


def test_windows_line_end(place: Path) -> None:
    """One line end, of either kind, is not part of the secret."""
    keep(place / "secret", SECRET + "\r\n")
    assert SECRET == read(place, text_of({})).psc.client_secret.reveal()


def test_no_secret_in_repr(place: Path) -> None:
    """A repr of the settings shows no secret."""
    keep(place / "proxy-user", "proxyuser:proxysecret")
    made = read(place, text_of({"psc.http_proxy": '"http://proxy:3128"', "psc.http_proxy_file": '"proxy-user"'}))
    assert made.psc.http_proxy_auth is not None
    assert "proxyuser:proxysecret" == made.psc.http_proxy_auth.reveal()
    for shown in (repr(made), str(made), f"{made}"):
        assert SECRET not in shown
        assert "proxysecret" not in shown


def test_logo(place: Path) -> None:
    """A plain SVG and a PNG are taken, by content and by name."""
    keep(place / "logo.svg", '<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"><path d="M0 0"/></svg>')
    keep(place / "logo.png", b"\x89PNG\r\n\x1a\n....")
    for name in ("logo.svg", "logo.png"):
        assert place / name == read(place, text_of({"pages.logo": f'"{name}"'})).pages.logo
    for name, content in {
        "a.svg": b"\x89PNG\r\n\x1a\n",
        "a.png": b"<svg/>",
        "b.svg": b'<svg onload ="x">',
        "c.svg": b"<svg><a href='javascript:1'/>",
    }.items():
        keep(place / name, content)
        assert mistakes(place, text_of({"pages.logo": f'"{name}"'})), name


# The environment ------------------------------------------------------------------------------------------------------


def test_environment_wins(place: Path) -> None:
    """Every kind of key comes from the environment, over the file, lists as JSON or with commas."""
    made = read(
        place,
        text_of({"apps.mon-app.origins": '["https://un.example"]', "psc.client_secret_file": '"missing"'}),
        FORWARD_AUTH__PSC__CLIENT_ID="autre",
        FORWARD_AUTH__PSC__CLIENT_SECRET=SECRET + "2",
        FORWARD_AUTH__PSC__USERINFO="False",
        FORWARD_AUTH__PSC__ACR_VALUES='["eidas2"]',
        FORWARD_AUTH__SERVER__TRUSTED_PROXIES="10.0.0.1, 10.0.1.0/24",
        FORWARD_AUTH__SERVER__INNER="unix:/a,127.0.0.1:0",
        FORWARD_AUTH__SERVER__OBSERVERS="",
        FORWARD_AUTH__SERVER__WORKERS="1",
        FORWARD_AUTH__SESSION__IDLE="600",
        FORWARD_AUTH__SESSION__ABSOLUTE="1h",
        FORWARD_AUTH__HEADERS__NAMES='{"subject": "X-Moi"}',
        FORWARD_AUTH__HEADERS__NAMES__RPPS="X-Rpps",
        FORWARD_AUTH__APPS__MON_APP__ORIGINS="https://deux.example,https://trois.example",
        FORWARD_AUTH__APPS__DOSSIER__HEADERS__PROFILE="authelia",
        FORWARD_AUTH__APPS__DOSSIER__RULES='[{"paths": ["/*"], "require": {"max_age": 60}}]',
        FORWARD_AUTH__APPS__TROIS__ORIGINS="https://quatre.example",
        PATH="/bin",
        FORWARD_AUTH_PORT="tcp://10.0.0.1:80",
    )
    assert ("autre", SECRET + "2", False, ("eidas2",)) == (
        made.psc.client_id,
        made.psc.client_secret.reveal(),
        made.psc.userinfo,
        made.psc.acr_values,
    )
    assert ["10.0.0.1/32", "10.0.1.0/24"] == [str(one) for one in made.server.trusted_proxies]
    assert ["unix:/a", "127.0.0.1:0"] == [str(one) for one in made.server.inner]
    assert () == made.server.observers
    assert (600, 3600) == (made.session.idle, made.session.absolute)
    assert {"subject": "X-Moi", "rpps": "X-Rpps"} == dict(made.headers.names)
    apps = {app.name: app for app in made.apps}
    assert {"dossier", "mon-app", "trois"} == set(apps)
    assert ["https://deux.example", "https://trois.example"] == [one.text for one in apps["mon-app"].origins]
    assert "authelia" == apps["dossier"].headers.profile
    assert (RuleSettings(1, 0, ("/*",), None, False, Require(max_age=60, acr=("eidas2",))),) == apps["dossier"].rules
    assert () == made.warnings


@pytest.mark.parametrize(
    ("variable", "value", "key", "word"),
    [
        ("FORWARD_AUTH__PSC__CLIENT_ID", "", "psc.client_id", "empty"),
        ("FORWARD_AUTH__PSC__CLIENTID", "x", "psc.clientid", "CLIENT_ID"),
        ("FORWARD_AUTH__PCS__CLIENT_ID", "x", "pcs.client_id", "FORWARD_AUTH__PSC__"),
        ("FORWARD_AUTH__XYZ", "x", "xyz", "not known"),
        ("FORWARD_AUTH__PSC", "x", "psc", "KEY"),
        ("FORWARD_AUTH__APPS__DOSSIER", "x", "apps.dossier", "KEY"),
        ("FORWARD_AUTH__", "x", '""', "not known"),
        ("FORWARD_AUTH__PSC__CLIENT_ID__X", "x", "psc.client_id.x", "not known"),
        ("FORWARD_AUTH__PSC__USERINFO", "oui", "psc.userinfo", "true or false"),
        ("FORWARD_AUTH__PSC__CLIENT_SECRET", "", "psc.client_secret", "empty"),
        ("FORWARD_AUTH__PSC__CLIENT_SECRET", "changez-moi", "psc.client_secret", "examples"),
        ("FORWARD_AUTH__PSC__CLIENT_KEY_FILE", "x", "psc.client_key_file", "not in this version"),
        ("FORWARD_AUTH__CIBA__CLIENTS", "x", "ciba.clients", "not in this version"),
        ("FORWARD_AUTH__APPS__DOSSIER__BEARER", "both", "apps.dossier.bearer", "not in this version"),
        ("FORWARD_AUTH__APPS__DOSSIER__RULES", "[{", "apps.dossier.rules", "JSON"),
        ("FORWARD_AUTH__APPS__DOSSIER__RULES", "[" * 100_000, "apps.dossier.rules", "JSON"),
        (
            "FORWARD_AUTH__APPS__DOSSIER__RULES",
            '[{"paths": ["x"], "open": true}]',
            "apps.dossier.rules[1].paths",
            "start with /",
        ),
        ("FORWARD_AUTH__APPS__DOSSIER__ORIGINS", "", "apps.dossier.origins", "empty"),
        (
            "FORWARD_AUTH__APPS__DOSSIER__ORIGINS",
            "https://a.example,,https://b.example",
            "apps.dossier.origins",
            "empty",
        ),
        ("FORWARD_AUTH__APPS__AUTRE__TITLE", "x", "apps.autre.origins", "missing"),
        ("FORWARD_AUTH__HEADERS__NAMES__QUOI", "X", "headers.names.quoi", "not known"),
        ("FORWARD_AUTH__SERVER__OUTER", "\udcff:1", "server.outer", "control"),
        ("FORWARD_AUTH__SESSION__IDLE", "2h", "session.idle", "PSC"),
    ],
)
def test_environment_mistakes(place: Path, variable: str, value: str, key: str, word: str) -> None:
    """A mistake of the environment names the variable and no line."""
    (mistake,) = mistakes(place, text_of({}), **{variable: value})
    assert (variable, 0, key) == (mistake.file, mistake.line, mistake.key)
    assert word in str(mistake)
    assert str(mistake).isprintable()


def test_environment_nearly_ours(place: Path) -> None:
    """One underscore where two belong is told, for it would be ignored."""
    (warning,) = read(place, text_of({}), FORWARD_AUTH_PSC_CLIENT_ID="x").warnings
    assert ("FORWARD_AUTH_PSC_CLIENT_ID", True) == (warning.file, warning.warning)


def test_environment_file_beats_file(place: Path) -> None:
    """A secret file named by the environment replaces the file's own; both from the environment is a mistake."""
    keep(place / "other", "other-secret")
    made = read(place, text_of({}), FORWARD_AUTH__PSC__CLIENT_SECRET_FILE="other")
    assert "other-secret" == made.psc.client_secret.reveal()
    both = {"FORWARD_AUTH__PSC__CLIENT_SECRET_FILE": "other", "FORWARD_AUTH__PSC__CLIENT_SECRET": "x"}
    assert ["psc.client_secret"] == [each.key for each in mistakes(place, text_of({}), **both)]


# All at once ----------------------------------------------------------------------------------------------------------

FIFTEEN = '''\
# Fifteen mistakes
[psc]
environment = "custom"
issuer = "http://auth.psc.example/realm"            #! psc.issuer
client_id = """
a client"""                                         #- psc.client_id 5
"client_auth" = "private_key_jwt"                   #! psc.client_auth
client_secret_file = "secret"

[server]
origin = "https://auth.hopital.example/"            #! server.origin
inner = [ "unix:/run/a.sock", # first
    "127.0.0.1:99999" ]                             #! server.inner
trusted_proxies = ["0.0.0.0/0"]                     #! server.trusted_proxies
client_certificate_header = "X"                     #! server.client_certificate_header

[session]
idle = "45m"                                        #! session.idle
store = "redis://cache"                             #! session.store
[headers]
names.subject = "X_Subject"                         #! headers.names.subject

[apps.dossier]
origins = ["https://*.hopital.example"]             #! apps.dossier.origins
sign_in = \'redirct\'                                 #! apps.dossier.sign_in

[[apps.dossier.rules]]
paths = ["/ok"]
open = true
[[apps.dossier.rules]]
paths = ["/x*"]                                     #! apps.dossier.rules[2].paths
require = { any = [ { profession = ["10"] },
    { "rôle" = ["x"] } ] }                          #! apps.dossier.rules[2].require.any[2]."rôle"
[[apps.dossier.rules]]                              #! apps.dossier.rules[3]
paths = ["/y"]
'''


def test_fifteen_mistakes(place: Path) -> None:
    """Fifteen different mistakes are fifteen lines, each true, in the order of the file."""
    expected = [
        (number, line.partition("#! ")[2]) for number, line in enumerate(FIFTEEN.splitlines(), 1) if "#! " in line
    ]
    expected += [(int(line.split()[-1]), line.split()[-2]) for line in FIFTEEN.splitlines() if "#- " in line]
    text = FIFTEEN.replace("#! ", "# ").replace("#- ", "# ")
    found = mistakes(place, text)
    assert sorted(expected) == [(each.line, each.key) for each in found]
    assert 15 == len(found)
    assert len({str(each) for each in found}) == len(found)


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("[psc]\nclient_id = hopital\n", 2, "quotes"),
        ("[psc]\n\nclient_id\n", 3, "key ="),
        ("a = 1\n\na = 2\n", 3, "once"),
        ("[a]\nb = 1\n[a]\n", 3, "once"),
        ('a = "x\n', 1, "character"),
        ('a = """x\n\n', 2, "TOML"),
        ("a = [1,\n2\n\n3]\n", 4, "TOML"),
        ("a = 1 b = 2\n", 1, "line of its own"),
        ("\n\na = " + "1" * 5000, 3, "too long"),
        ("a = " + "[" * 5000, 1, "deeply"),
        ("a = '\x01'", 1, "TOML"),
    ],
)
def test_not_toml(place: Path, text: str, line: int, word: str) -> None:
    """What is not TOML is one mistake with its line and a cure."""
    (mistake,) = mistakes(place, text)
    assert (str(place / "config.toml"), line) == (mistake.file, mistake.line)
    assert word in str(mistake)
    assert str(mistake).isprintable()


def test_no_text(place: Path) -> None:
    """A file that is missing, no file, too large or not UTF-8 is one mistake."""
    for path in (place / "none.toml", place, Path("a\0b")):
        with pytest.raises(ConfigError) as caught:
            load(path, {})
        assert 1 == len(caught.value.mistakes)
    keep(place / "latin.toml", "[psc]\n# é\n".encode("latin-1"))
    keep(place / "large.toml", "#" * (1 << 20) + "\n")
    for name, line in (("latin.toml", 2), ("large.toml", 0)):
        with pytest.raises(ConfigError) as caught:
            load(place / name, {})
        assert [line] == [each.line for each in caught.value.mistakes]


def test_windows_file(place: Path) -> None:
    """A byte order mark and CRLF, as Windows editors write them, change nothing."""
    text = text_of({"psc.userinfo": "1"})
    path = keep(place / "w.toml", b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert [line_of(text, "userinfo")] == [each.line for each in caught.value.mistakes]


def test_nothing_is_changed(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Loading leaves the environment and the directory as they were, prints nothing, and does the same twice."""
    environ = {"FORWARD_AUTH__PSC__CLIENT_ID": "x"}
    (place / "config.toml").write_text(text_of({}))
    before = {path.name: path.stat().st_mtime_ns for path in place.iterdir()}
    assert repr(load(place / "config.toml", environ)) == repr(load(place / "config.toml", environ))
    assert {"FORWARD_AUTH__PSC__CLIENT_ID": "x"} == environ
    assert before == {path.name: path.stat().st_mtime_ns for path in place.iterdir()}
    assert ("", "") == capfd.readouterr()


# Whatever arrives -----------------------------------------------------------------------------------------------------

_VALUES = st.recursive(
    st.one_of(
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=12),
        st.sampled_from(["/*", "10", "https://a.example", "30m", "secret"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["paths", "open", "require", "profession", "any", "not", "names", "é"]), inner, max_size=3
        ),
    ),
    max_leaves=6,
)


def toml(value: object) -> str:
    """Any JSON-like value as TOML."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return (
                '"'
                + "".join(
                    f"\\U{ord(char):08x}" if not char.isalnum() and char not in " /*:._-" else char for char in value
                )
                + '"'
            )
        case list():
            return "[" + ", ".join(map(toml, value)) + "]"
        case dict():
            return "{" + ", ".join(f'"{key}" = {toml(inner)}' for key, inner in value.items()) + "}"
        case _:
            return repr(value)


def outcome(place: Path, text: str, environ: Mapping[str, str]) -> None:
    """Load; only ConfigError may come, and every mistake is one line that shows no secret."""
    path = place / "config.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    found: tuple[Mistake, ...] = ()
    try:
        load(path, environ)
    except ConfigError as error:
        found = error.mistakes
    if found:
        assert any(not each.warning for each in found)
        for each in found:
            assert str(each).isprintable()
            assert SECRET not in str(each)
            assert each.cure
            assert 0 <= each.line <= text.count("\n") + 1


FEW = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@FEW
@given(
    text=st.one_of(
        st.text(), st.from_regex(r"(?s)\[[a-z.\"]{0,6}\]\n([a-z]{1,3} = [\[\]{}\"'a-z0-9,\n#=]{0,20}\n){0,3}")
    )
)
@example(text="'\x1e0")  # ends a line for Python, none for an editor
def test_any_text(place: Path, text: str) -> None:
    """Whatever stands in the file, the answer is settings or ConfigError."""
    outcome(place, text, {})


@FEW
@given(key=st.sampled_from(sorted(WRONG)), value=_VALUES)
def test_any_value(place: Path, key: str, value: object) -> None:
    """Whatever stands behind any key, the answer is settings or ConfigError."""
    outcome(place, text_of({key: toml(value)}), {})


@FEW
@given(
    name=st.one_of(
        st.text(max_size=20), st.sampled_from(sorted(WRONG)).map(lambda key: key.replace(".", "__").upper())
    ),
    value=st.one_of(st.text(max_size=30), _VALUES.map(json.dumps)),
)
def test_any_variable(place: Path, name: str, value: str) -> None:
    """Whatever stands in the environment, the answer is settings or ConfigError."""
    outcome(place, text_of({}), {"FORWARD_AUTH__" + name: value})


# The files of config/, and the schema ---------------------------------------------------------------------------------


def from_project(place: Path, name: str, change: Mapping[str, str] | None = None) -> Settings:
    """A file of config/, with the secret of the test."""
    text = (CONFIG / name).read_text()
    for was, becomes in {
        "/etc/psc-forward-auth/client-secret": "secret",
        "/tmp/psc-forward-auth-demo/client-secret": "secret",
        **(change or {}),
    }.items():
        text = text.replace(was, becomes)
    return read(place, text)


def uncommented(name: str) -> str:
    """An example with its `#key = value` lines in force."""
    return re.sub(r"(?m)^#(?=[a-z_]+ = )", "", (CONFIG / name).read_text())


@pytest.mark.parametrize("name", ["example.toml", "bas.toml", "production.toml", "demo.toml"])
def test_shipped_files_load(place: Path, name: str) -> None:
    """Every shipped file loads, without a warning, once its secret is there."""
    assert () == from_project(place, name).warnings


def names_in(data: Mapping[str, Any]) -> set[str]:
    """The keys a file has, named as in all_keys()."""
    found: set[str] = set()

    def require(table: Mapping[str, Any]) -> None:
        for key, value in table.items():
            found.add(f"require.{key}")
            for inner in value if isinstance(value, list) else [value]:
                if isinstance(inner, dict):
                    require(inner)

    for section, table in data.items():
        if section != "apps":
            found |= {f"{section}.{key}" for key in table}
    found |= {f"headers.names.{key}" for key in data.get("headers", {}).get("names", {})}
    for app in data.get("apps", {}).values():
        found |= {f"apps.dossier.{key}" for key in app}
        for rule in app.get("rules", []):
            found |= {f"rule.{key}" for key in rule}
            require(rule.get("require", {}))
    return found


def test_example_is_complete() -> None:
    """example.toml has every key of the schema, and no key that this version does not enforce."""
    assert set(all_keys()) == names_in(tomllib.loads(uncommented("example.toml")))


def test_example_is_explained() -> None:
    """Each key of a section of example.toml has a comment above or beside it."""
    block = ""
    for line in (CONFIG / "example.toml").read_text().splitlines():
        if re.match(r"#?[a-z_]+ = ", line):
            assert "# " in block + line, line
        block = "" if not line.strip() else block + line + "\n"


def test_example_with_everything_in_force(place: Path) -> None:
    """The lines of example.toml that are commented out are right too."""
    keep(place / "authorities.pem", trustme.CA().cert_pem.bytes().decode("ascii"))
    keep(place / "http-proxy", "user:geheim")
    keep(place / "logo.svg", "<svg/>")
    keep(place / "liste-blanche.txt", "899700218896\n")
    text = uncommented("example.toml").replace("/etc/psc-forward-auth/", "").replace('"client-secret"', '"secret"')
    made = read(place, text.replace('environment = "bas"', 'environment = "custom"'))
    assert ["session.insecure_allow_longer_than_psc"] == [each.key for each in made.warnings]


def test_demo_is_what_it_says(place: Path) -> None:
    """The demonstration's hosts, and who may prescribe; the directory it runs in comes from the environment."""
    made = from_project(place, "demo.toml")
    assert ("http://auth.localhost:8080", "") == (made.server.origin.text, made.psc.discovery_url)
    apps = {app.name: app for app in made.apps}
    assert ["http://dossier.localhost:8080"] == [one.text for one in apps["dossier"].origins]
    reading, writing = apps["prescription"].rules
    assert (frozenset({"GET", "HEAD"}), None) == (reading.methods, writing.methods)
    assert Require(profession=("10", "40", "50"), acr=("eidas1",)) == reading.require
    assert Require(profession=("10", "40", "50"), acr=("eidas1",), max_age=900) == writing.require


def each_listed() -> Iterator[tuple[str, Key]]:
    for name, keys in {
        **config_keys.SECTIONS,
        "apps": config_keys.APP,
        "rule": config_keys.RULE,
        "require": config_keys.REQUIRE,
    }.items():
        yield from ((f"{name}.{key}", of) for key, of in each_key(keys))


@pytest.mark.parametrize(("name", "key"), list(each_listed()))
def test_stated_defaults_are_the_real_ones(tmp_path: Path, name: str, key: Key) -> None:
    """The default that the schema tells is the one that holds; every key says what it means."""
    assert key.about.endswith(".")
    if key.default not in (None, ""):
        reading = Reading("f", tmp_path, {}, {})
        assert key.default == key.kind.read(reading, (name,), key.stated)
        assert [] == reading.mistakes


def fits(value: object, rule: Mapping[str, Any], root: Mapping[str, Any]) -> bool:
    """A small second reading of JSON Schema: the words that schema() uses, and no other."""
    words = dict(rule)
    words.pop("description", None)
    words.pop("default", None)
    words.pop("format", None)
    words.pop("title", None)
    words.pop("$schema", None)
    words.pop("$defs", None)
    if reference := words.pop("$ref", None):
        return fits(value, root["$defs"][reference.rpartition("/")[2]], root)
    if options := words.pop("anyOf", None):
        return any(fits(value, option, root) for option in options)
    if "enum" in words:
        return value in words.pop("enum")
    if "const" in words:
        return value == words.pop("const") and not isinstance(value, bool)
    kinds = {"string": str, "integer": int, "boolean": bool, "array": list, "object": dict}
    if not isinstance(value, kinds[words.pop("type")]) or (isinstance(value, bool) and rule["type"] != "boolean"):
        return False
    good = True
    for word, wanted in words.items():
        match word, value:
            case "pattern", str():
                good &= re.search(wanted, value) is not None
            case "minLength", str():
                good &= len(value) >= wanted
            case "maxLength", str():
                good &= len(value) <= wanted
            case "minimum", int():
                good &= value >= wanted
            case "minItems", list():
                good &= len(value) >= wanted
            case "items", list():
                good &= all(fits(each, wanted, root) for each in value)
            case "uniqueItems", list():
                good &= len({json.dumps(each) for each in value}) == len(value)
            case "minProperties", dict():
                good &= len(value) >= wanted
            case "required", dict():
                good &= set(wanted) <= set(value)
            case "properties" | "patternProperties" | "additionalProperties", dict():
                pass
            case _:
                raise AssertionError(f"schema() uses a word this test does not know: {word}")
    if isinstance(value, dict):
        for name, each in value.items():
            known = rule.get("properties", {}).get(name)
            known = known or next(
                (one for pattern, one in rule.get("patternProperties", {}).items() if re.search(pattern, name)), None
            )
            good &= known is not None and fits(each, known, root)
    return good


@pytest.mark.parametrize("name", ["example.toml", "bas.toml", "production.toml", "demo.toml"])
def test_schema_accepts_what_loads(name: str) -> None:
    """The JSON Schema, read by a second reader, accepts the shipped files, commented keys included."""
    root = schema()
    assert json.loads(json.dumps(root)) == root
    assert fits(tomllib.loads(uncommented(name)), root, root)


@pytest.mark.parametrize(
    "changes",
    [
        {"psc.quoi": "1"},
        {"psc.environment": '"x"'},
        {"server.inner": "[]"},
        {"psc.client_id": None},
        {"require.quoi": "1"},
        {"session.idle": '"x"'},
        {"rule.paths": "[]"},
    ],
)
def test_schema_refuses(changes: dict[str, str | None]) -> None:
    """The JSON Schema refuses unknown keys, wrong words, empty lists and what is missing."""
    root = schema()
    assert fits(tomllib.loads(text_of({})), root, root)
    assert not fits(tomllib.loads(text_of(changes)), root, root)
