"""One TOML file, the environment and secret files, read into Settings; or every mistake at once.

For: `load`, which everything starts from, and `schema`, which editors complete and check the file by. The settings themselves are
in settings.py, the keys in config_keys.py, the kinds of value in config_kinds.py and config_files.py; here the whole is judged: what
keys mean together. Refuses: unknown keys, keys this version does not enforce (decision 23), anything longer or laxer than its named
override allows, two readings of one origin. Reads nothing but the file, the files it names and the environment it is given; changes
and prints nothing.

Relative paths, wherever they are given, are relative to the file's directory. How variables are named: config_environment.py.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NoReturn

from forward_auth.config_environment import take_variable
from forward_auth.config_keys import (
    ABOUT,
    APP,
    APP_NAME,
    DISCOVERY,
    ELSEWHERE,
    HEADERS,
    ISSUERS,
    LATER,
    PSC_ABSOLUTE,
    PSC_IDLE,
    REQUIRE,
    RULE,
    SECTIONS,
    SHORTEST_APP_IDLE,
)
from forward_auth.config_reading import (
    NOT_YET,
    Key,
    Later,
    Reading,
    Schema,
    Values,
    each_key,
    key_name,
    read_table,
    refuse_later,
    refuse_unknown,
    shown,
    sort_of,
)
from forward_auth.errors import ConfigError, Mistake
from forward_auth.headers import HeaderPlan
from forward_auth.policy import Require
from forward_auth.settings import (
    AppSettings,
    AuditSettings,
    HeaderSettings,
    Listener,
    LogSettings,
    Network,
    Origin,
    PagesSettings,
    PSCSettings,
    RuleSettings,
    ServerSettings,
    SessionSettings,
    Settings,
)
from forward_auth.toml_lines import Where, locate

__all__ = [
    "AppSettings",
    "AuditSettings",
    "HeaderSettings",
    "Listener",
    "LogSettings",
    "Network",
    "Origin",
    "PSCSettings",
    "PagesSettings",
    "RuleSettings",
    "ServerSettings",
    "SessionSettings",
    "Settings",
    "load",
    "schema",
]

_LONGEST_FILE: Final = 1 << 20
_KEYS_FILE: Final = Path("/var/lib/psc-forward-auth/keys")
_LOOPBACK: Final = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))


def load(path: Path, environ: Mapping[str, str]) -> Settings:
    """Read one configuration whole. `environ` is the process environment, or what a test makes of it.

    Raises ConfigError with every mistake, and nothing else: in the order of the file, then the environment's. What is merely
    doubtful is in Settings.warnings.
    """
    reading, data = _read(path, environ)
    try:
        for variable in sorted(environ):
            take_variable(reading, data, variable, environ[variable])
        settings = _judge(reading, data, path)
    except RecursionError:
        reading.wrong((), "tables or lists are nested too deeply", "write it flatter", key="file")
        settings = None
    mistakes = tuple(sorted(reading.mistakes, key=lambda mistake: (mistake.line == 0, mistake.line)))
    if settings is None or reading.failed:
        raise ConfigError(mistakes)
    return replace(settings, warnings=mistakes)


# The file -------------------------------------------------------------------------------------------------------------

# What tomllib says -> what helps. The first that fits.
_CURES: Final = (
    ("Invalid value", 'write texts in quotes: key = "value"'),
    ("Expected '='", 'write key = "value"'),
    ("Cannot overwrite", "remove one of the two: a key may be written once"),
    ("Cannot declare", "remove one of the two: a table may be declared once"),
    ("Cannot mutate", "write the whole table in one place"),
    ("Unterminated string", 'close the text with "'),
    ("Unclosed array", "close the list with ]"),
    ("Unescaped", "write \\\\ for a backslash, or put the text in single quotes"),
    ("Expected newline", "write each key on a line of its own"),
    ("Expected ']'", "write [table] or [[table]]"),
)


def _read(path: Path, environ: Mapping[str, str]) -> tuple[Reading, dict[str, Any]]:
    file = str(path)
    try:
        with open(path, "rb") as opened:
            content = opened.read(_LONGEST_FILE + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        _give_up(file, 0, f"cannot be read ({reason})", "name a file that this service may read")
    if len(content) > _LONGEST_FILE:
        _give_up(file, 0, f"is larger than {_LONGEST_FILE} bytes", "name the right file")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        _give_up(file, content.count(b"\n", 0, error.start) + 1, "is not UTF-8", "save the file as UTF-8")
    try:
        data = tomllib.loads(text)
        lines = locate(text)
    except tomllib.TOMLDecodeError as error:
        said, _, place = str(error).partition(" (at ")
        found = re.match(r"line ([0-9]+)", place)
        last = text.count("\n") + (not text.endswith("\n"))
        line = int(found[1]) if found else max(1, last)
        cure = next((cure for start, cure in _CURES if said.startswith(start)), "mend this line; the rest is read then")
        _give_up(file, line, f"is not TOML here: {said if said.isprintable() else repr(said)}", cure)
    except RecursionError:
        _give_up(file, 1, "tables or lists are nested too deeply", "write it flatter")
    except ValueError:  # a number of more digits than Python turns into one (CVE-2020-10735)
        _give_up(file, _line_of_long_number(text), "holds a number that is too long", "write a number that is meant")
    return Reading(file, Path(path).absolute().parent, environ, lines), data


def _line_of_long_number(text: str) -> int:
    found = re.search(r"[0-9_]{4000,}", text)
    return text.count("\n", 0, found.start()) + 1 if found else 1


def _give_up(file: str, line: int, problem: str, cure: str) -> NoReturn:
    raise ConfigError((Mistake(file, line, "file", problem, cure),)) from None


# What keys mean together ----------------------------------------------------------------------------------------------


def _judge(reading: Reading, data: Mapping[str, Any], path: Path) -> Settings | None:
    """Read every table, judge the whole; None when something was wrong."""
    meant = {
        refuse_unknown(reading, (name,), [*SECTIONS, "apps"], ELSEWHERE)
        for name in data
        if name not in SECTIONS and name != "apps" and name not in LATER[""]
    }
    for name in LATER[""].keys() & data.keys():
        refuse_later(reading, (name,), data[name], Later())
    tables = {**data, "psc": _without_named_issuers(reading, data.get("psc", {}))}
    read = {
        name: read_table(reading, (name,), tables.get(name, {}), keys, LATER.get(name, {}), _elsewhere(name))
        for name, keys in SECTIONS.items()
        # `[pcs]` is one mistake, not also a missing [psc]; named issuers alone are told, not also the keys [psc] has not
        if (name in data or name not in meant) and tables.get(name, {}) is not None
    }
    psc, server, session = read.get("psc"), read.get("server"), read.get("session")
    headers, pages, audit, log = read.get("headers"), read.get("pages"), read.get("audit"), read.get("log")
    if psc:
        _judge_psc(reading, psc)
    if server:
        _judge_server(reading, server)
    if session:
        _judge_session(reading, session)
    if audit:
        _judge_audit(reading, audit)
    around = _Around(
        acr_values=(psc and psc["acr_values"]) or ("eidas1",),
        userinfo=not psc or psc["userinfo"] is not False,
        origin=server["origin"] if server else None,
        path_prefix=(server and server["path_prefix"]) or "/psc",
        idle=session["idle"] if session else None,
        absolute=session["absolute"] if session else None,
        headers=_headers(reading, headers, None) if headers else None,
    )
    apps: tuple[AppSettings, ...] = ()
    if "apps" in data or "apps" not in meant:
        apps = _apps(reading, data.get("apps", {}), around)
    if reading.failed or not (psc and server and session and around.headers and pages and audit and log):
        return None
    return Settings(
        psc=_made_psc(psc),
        server=_made_server(server, session["store"]),
        session=SessionSettings(session["idle"], session["absolute"], session["store"]),
        headers=around.headers,
        pages=PagesSettings(pages["language"], pages["establishment"], pages["contact"], pages["logo"]),
        audit=AuditSettings(audit["file"], _audit_stdout(audit), audit["required"]),
        log=LogSettings(log["format"], log["level"]),
        apps=apps,
        warnings=(),
        path=path,
    )


def _elsewhere(section: str) -> Mapping[str, str]:
    return {name: place for name, place in ELSEWHERE.items() if place != section}


def _without_named_issuers(reading: Reading, psc: object) -> object:
    """[psc] without the tables [psc.NAME], each of which is refused."""
    if not isinstance(psc, dict):
        return psc
    known = SECTIONS["psc"].keys() | LATER["psc"].keys()
    named = [name for name, value in psc.items() if isinstance(value, dict) and name not in known]
    for name in named:
        reading.wrong(("psc", name), f"a named issuer {NOT_YET}", "write the keys of the one issuer below [psc]")
    # One mistake per named issuer is enough: with one, [psc] itself has no keys on purpose.
    return (
        {name: value for name, value in psc.items() if name not in named}
        if set(psc) - set(named) or not named
        else None
    )


def _judge_psc(reading: Reading, psc: Values) -> None:
    at: Where = ("psc",)
    environment = psc["environment"]
    if environment in ISSUERS:
        for name in sorted({"issuer", "discovery_url"} & psc.given):
            reading.wrong((*at, name), f"{environment} has its own", 'remove it, or write environment = "custom"')
        if psc["subject_claim"] == "sub":
            reading.wrong(
                (*at, "subject_claim"),
                "sub does not name the person, PSC has changed it before",
                'write "SubjectNameID"',
            )
    elif environment == "custom" and not {"issuer"} & (psc.given | psc.wrong):
        reading.wrong(
            (*at, "issuer"), "is missing, and custom needs it", "write the issuer exactly as it stands in tokens"
        )
    secrets = {"client_secret", "client_secret_file"}
    if not secrets & (psc.given | psc.wrong):
        reading.wrong(
            (*at, "client_secret_file"),
            "is missing",
            'write client_secret_file = "/etc/psc-forward-auth/client-secret"',
        )
    elif secrets <= psc.given and not secrets & psc.wrong:
        reading.wrong((*at, "client_secret"), "is given twice, itself and as a file", "remove one of the two")
    if "http_proxy_file" in psc.given and not {"http_proxy"} & (psc.given | psc.wrong):
        reading.wrong((*at, "http_proxy_file"), "is given without http_proxy", "write http_proxy, or remove it")
    if psc["scope"] and "openid" not in psc["scope"].split(" "):
        reading.wrong((*at, "scope"), "does not ask for openid", 'write "openid scope_all"')


def _judge_server(reading: Reading, server: Values) -> None:
    at: Where = ("server",)
    outer, inner = server["outer"], server["inner"] or ()
    doors = [
        name
        for name, listeners in (("inner", inner), ("outer", (outer,)))
        if any(one and one.kind == "tcp" for one in listeners)
    ]
    if doors and not server["trusted_proxies"] and "trusted_proxies" not in server.wrong:
        what = "is empty" if "trusted_proxies" in server.given else "is missing"
        problem = f"{what}, and server.{doors[0]} listens on TCP where anybody may knock"
        reading.wrong(
            (*at, "trusted_proxies"),
            problem,
            'write trusted_proxies = ["127.0.0.1"] (the proxy\'s address), or use unix sockets',
        )
    if outer in inner and (outer.kind == "unix" or outer.port):
        reading.wrong((*at, "outer"), f"{outer} is the inner door already", "give each door an address of its own")


def _judge_session(reading: Reading, session: Values) -> None:
    at: Where = ("session",)
    idle, absolute, override = session["idle"], session["absolute"], session["insecure_allow_longer_than_psc"]
    longer = [
        (name, most) for name, most in (("idle", PSC_IDLE), ("absolute", PSC_ABSOLUTE)) if (session[name] or 0) > most
    ]
    for name, most in longer:
        limit = "30m" if most == PSC_IDLE else "4h"
        problem = f"is longer than PSC's own session ({limit})"
        if not override:
            reading.wrong(
                (*at, name),
                problem,
                f'write "{limit}" or less (or insecure_allow_longer_than_psc = true, knowing what it skips)',
            )
        else:
            reading.warn((*at, name), problem, "people stay signed in here after PSC has ended their session")
    if override and not longer:
        reading.warn((*at, "insecure_allow_longer_than_psc"), "has no effect", "remove it")
    if idle and absolute and idle > absolute and not (longer and not override):
        reading.wrong((*at, "idle"), "is longer than absolute", "write an idle limit within the absolute one")


def _audit_stdout(audit: Values) -> bool:
    return audit["file"] is None if audit["stdout"] is None else bool(audit["stdout"])


def _judge_audit(reading: Reading, audit: Values) -> None:
    if audit["file"] or audit["stdout"] is not False or {"file", "stdout", "required"} & audit.wrong:
        return
    problem, cure = "the audit trail goes nowhere", "write file or stdout = true"
    if audit["required"]:
        reading.wrong(("audit", "stdout"), problem + " and is required", cure)
    else:
        reading.warn(("audit", "stdout"), problem, cure)


# Apps and rules -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Around:
    """What apps are judged against; None where that part is wrong itself."""

    acr_values: tuple[str, ...]
    userinfo: bool
    origin: Origin | None
    path_prefix: str
    idle: int | None
    absolute: int | None
    headers: HeaderSettings | None


def _headers(reading: Reading, values: Values, section: HeaderSettings | None) -> HeaderSettings | None:
    """Header settings of a table, keys that are not given taken from the section."""
    if values.wrong:
        return None
    chosen = {
        name: getattr(section, name) if section and name not in values.given else values[name] for name in HEADERS
    }
    settings = HeaderSettings(chosen["profile"], chosen["encoding"], MappingProxyType(dict(chosen["names"])))
    try:
        HeaderPlan(settings.profile, settings.encoding, settings.names)
    except ValueError as error:
        problem, mark, cure = str(error).rpartition("; ")
        told = (problem, cure) if mark else (cure, "choose other names")
        reading.wrong((*values.where, "names") if "names" in values.given else values.where, *told)
        return None
    return settings


def _apps(reading: Reading, table: object, around: _Around) -> tuple[AppSettings, ...]:
    if not isinstance(table, dict):
        reading.wrong(("apps",), f"a table is wanted, not {sort_of(table)}", "write [apps.NAME] and its keys below")
        return ()
    if not table:
        reading.wrong(("apps",), "no application is named", 'write [apps.NAME] and below it origins = ["https://…"]')
    apps: list[AppSettings] = []
    origins: list[tuple[Where, Origin]] = []
    for name, app in table.items():
        at: Where = ("apps", name)
        if not re.fullmatch(APP_NAME, name) or len(name) > 63:
            plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63]
            reading.wrong(at, "is not a name for an app", f"use a-z, 0-9 and single dashes: {plain or 'dossier'}")
        if app == {}:
            reading.wrong(at, "is empty", 'write origins = ["https://dossier.hopital.example"]')
            continue
        values = read_table(reading, at, app, APP, LATER["apps"], ELSEWHERE)
        if values:
            origins += [((*at, "origins", number), origin) for number, origin in enumerate(values["origins"] or ())]
            apps.append(_app(reading, name, values, around))
    _judge_origins(reading, origins, around.origin)
    return tuple(apps)


def _app(reading: Reading, name: str, values: Values, around: _Around) -> AppSettings:
    at = values.where
    idle = values["idle"] or around.idle or PSC_IDLE
    if around.idle and idle > around.idle:
        reading.wrong((*at, "idle"), "is longer than session.idle", "write a shorter one, or leave it out")
    elif around.idle and idle < min(around.idle, SHORTEST_APP_IDLE):
        reading.wrong((*at, "idle"), "is shorter than a minute", 'write "1m" or more')
    headers = around.headers
    if values["headers"] and headers:
        headers = _headers(reading, values["headers"], headers)
    rules = values["rules"]
    compiled = (
        (RuleSettings(1, 0, ("/*",), None, False, Require(acr=around.acr_values)),)
        if rules is None
        else tuple(_rules(reading, [rule for rule in rules if rule], around))
    )
    return AppSettings(
        name=name,
        title=values["title"] or name,
        origins=values["origins"] or (),
        rules=compiled,
        headers=headers or HeaderSettings("psc", "percent", MappingProxyType({})),
        allow_preflight=bool(values["allow_preflight"]),
        idle=idle,
        background_paths=values["background_paths"] or (),
        forget_cookies=values["forget_cookies"] or (),
        sign_in=values["sign_in"] or "redirect",
    )


def _judge_origins(reading: Reading, origins: Iterable[tuple[Where, Origin]], own: Origin | None) -> None:
    """One origin belongs to one app; hosts that share tickets are told; no app beside others on our own host (decisions 5, 32)."""
    origins = list(origins)
    owners: dict[Origin, Where] = {}
    hosts: dict[str, Where] = {}
    for where, origin in origins:
        app = where[1]
        first = owners.setdefault(origin, where)
        if first[1] != app:
            reading.wrong(
                where,
                f"{origin} belongs to apps.{first[1]} already",
                "remove it here; several applications by path are one app with rules",
                key=key_name(where[:-1]),
            )
            continue
        neighbour = hosts.setdefault(origin.host, where)
        if neighbour[1] != app:
            problem = (
                f"{origin.host} is a host of apps.{neighbour[1]} too, and a ticket is for the host whatever the port"
            )
            reading.warn(
                where,
                problem,
                "the two are not isolated from each other; give each a host of its own",
                key=key_name(where[:-1]),
            )
    if own is None:
        return
    others = sorted(host for host in hosts if host != own.host)
    if own.host in hosts and others:
        problem = f"{own.host} is the host of server.origin, and {others[0]} is another host: the app would get the sign-on cookie of all"
        reading.wrong(
            hosts[own.host],
            problem,
            "give server.origin a host of its own, like auth.hopital.example",
            key=key_name(hosts[own.host][:-1]),
        )


def _rules(reading: Reading, rules: list[Values], around: _Around) -> Iterator[RuleSettings]:
    earlier: list[RuleSettings] = []
    for rule in rules:
        at = rule.where
        number = int(at[-1]) + 1
        is_open, require = bool(rule["open"]), rule["require"]
        told = bool({"open", "require", "paths", "methods"} & rule.wrong)
        if not {"open", "require"} & rule.wrong and bool(require) == is_open:
            told = True
            if is_open:
                reading.wrong(
                    (*at, "open"), "is true beside require", "remove one of the two: an open rule lets everybody pass"
                )
            else:
                reading.wrong(
                    at, "says neither open nor require", 'write open = true, or require = { acr = ["eidas1"] }'
                )
        if require and not is_open:
            _judge_require(reading, (*at, "require"), require, around)
            require = require if require.acr else replace(require, acr=around.acr_values)
        methods = None if rule["methods"] is None else frozenset(rule["methods"])
        file_line = reading.place(at)
        settings = RuleSettings(
            number, file_line[1], rule["paths"] or (), methods, is_open, None if is_open else require
        )
        if not told:
            _judge_reach(reading, at, settings, earlier, around.path_prefix)
            earlier.append(settings)
        yield settings


def _judge_require(reading: Reading, where: Where, require: Require, around: _Around) -> None:
    """What can never hold, or never matters."""
    if require.max_age and around.absolute and require.max_age > around.absolute:
        reading.warn(
            (*where, "max_age"),
            "is longer than session.absolute, so it never matters",
            "write a shorter one, or remove it",
        )
    if not around.userinfo:
        for key in ("profession", "category", "role", "speciality", "sector", "structure", "mode"):
            if getattr(require, key):
                reading.warn((*where, key), "never holds: psc.userinfo is false", "write userinfo = true, or remove it")
    for name, tables in (("all", require.all), ("any", require.any)):
        for number, table in enumerate(tables or ()):
            _judge_require(reading, (*where, name, number), table, around)
    if require.not_:
        _judge_require(reading, (*where, "not"), require.not_, around)


def _judge_reach(reading: Reading, at: Where, rule: RuleSettings, earlier: list[RuleSettings], prefix: str) -> None:
    """Rules that open everything, and rules that are never reached."""
    if rule.open and "/*" in rule.paths:
        if not earlier and rule.methods is None:
            reading.wrong(
                (*at, "paths"),
                "the first rule opens every path to everybody, so nothing is protected",
                "name the open paths, or leave an application that needs no protection out of apps",
            )
        else:
            reading.warn((*at, "paths"), "opens to everybody what no earlier rule names", "name the open paths")
    below = [path for path in rule.paths if path == prefix or path.startswith(prefix + "/")]
    if below:
        reading.warn((*at, "paths"), f"{shown(below[0])} belongs to the outer door and is never judged", "remove it")
    covering = next(
        (one for one in earlier if rule.paths and all(_covers(one, path, rule.methods) for path in rule.paths)), None
    )
    if covering:
        reading.warn(at, f"is never reached: rule {covering.number} decides before it", "move it up, or remove it")


def _covers(rule: RuleSettings, path: str, methods: frozenset[str] | None) -> bool:
    """Whether an earlier rule fits every request that this path and these methods fit (never says so wrongly)."""
    if rule.methods is not None and (methods is None or not methods <= rule.methods):
        return False
    return any(path == one or (one.endswith("/*") and path.startswith(one[:-1])) for one in rule.paths)


# Making ---------------------------------------------------------------------------------------------------------------


def _made_psc(psc: Values) -> PSCSettings:
    own = ISSUERS.get(psc["environment"])
    return PSCSettings(
        environment=psc["environment"],
        issuer=own or psc["issuer"],
        discovery_url=own + DISCOVERY if own else psc["discovery_url"] or "",
        client_id=psc["client_id"],
        client_secret=psc["client_secret"] or psc["client_secret_file"],
        client_auth=psc["client_auth"],
        ca_file=psc["ca_file"],
        scope=psc["scope"],
        acr_values=psc["acr_values"],
        subject_claim=psc["subject_claim"],
        userinfo=psc["userinfo"],
        http_proxy=psc["http_proxy"],
        http_proxy_auth=psc["http_proxy_file"],
    )


def _made_server(server: Values, store: str) -> ServerSettings:
    return ServerSettings(
        origin=server["origin"],
        outer=server["outer"],
        inner=server["inner"],
        trusted_proxies=server["trusted_proxies"] or (),
        observers=_LOOPBACK if server["observers"] is None else server["observers"],
        socket_group=server["socket_group"],
        path_prefix=server["path_prefix"],
        keys_file=server["keys_file"] or (None if store == "memory:" else _KEYS_FILE),
    )


# For editors ----------------------------------------------------------------------------------------------------------


def schema() -> Schema:
    """JSON Schema (2020-12) of the file, with descriptions and defaults. What keys mean together is not in it: ask check-config."""
    sections: Schema = {name: {**_object(keys), "description": ABOUT[name]} for name, keys in SECTIONS.items()}
    apps = {
        "type": "object",
        "description": ABOUT["apps"],
        "minProperties": 1,
        "patternProperties": {f"^{APP_NAME}$": _object(APP)},
        "additionalProperties": False,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "PSC Forward Auth",
        "type": "object",
        "additionalProperties": False,
        "required": ["psc", "server", "apps"],
        "properties": {**sections, "apps": apps},
        "$defs": {
            "headers": _object(HEADERS),
            "rule": _object(RULE),
            "require": {**_object(REQUIRE), "minProperties": 1},
        },
    }


def _object(keys: Mapping[str, Key]) -> Schema:
    properties: Schema = {}
    for name, key in each_key(keys):
        properties[name] = {**key.kind.schema(), "description": key.about}
        if key.stated is not None:
            properties[name]["default"] = key.stated
    required = [name for name, key in keys.items() if key.required]
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        **({"required": required} if required else {}),
    }
