"""Every key of the configuration in one table: its kind, its default, what it means.

For: config.py reads by these tables, `config-schema` prints them, config/example.toml is tested against them. Refuses: keys of the
contract whose feature comes later (LATER; decision 23), which are told apart from keys nobody knows.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from forward_auth.config_files import CertificateFile, LogoFile, NationalIds, SecretFile, WrittenFile, check_secret
from forward_auth.config_kinds import (
    Address,
    Choice,
    Code,
    Duration,
    Flag,
    ListenerText,
    Method,
    NetworkText,
    One,
    OriginText,
    PathPattern,
    StoreText,
    Text,
    tokens,
)
from forward_auth.config_reading import (
    Key,
    Kind,
    Later,
    ListOf,
    Reading,
    Schema,
    Values,
    Wrong,
    from_json,
    one_line,
    read_table,
    sort_of,
)
from forward_auth.headers import ENCODINGS, FIELDS, PROFILES, check_own_name
from forward_auth.policy import Require
from forward_auth.settings import Listener
from forward_auth.toml_lines import Where

# What differs between the environments of PSC: the issuer (psc.md §1.1). Discovery stands below it, under PSC's own name.
ISSUERS: Final = {
    "bas": "https://auth.bas.psc.esante.gouv.fr/auth/realms/esante-wallet",
    "production": "https://auth.esw.esante.gouv.fr/auth/realms/esante-wallet",
}
DISCOVERY: Final = "/.well-known/wallet-openid-configuration"

PSC_IDLE: Final = 30 * 60  # PSC's SSO session ends after 30 min without activity …
SHORTEST_APP_IDLE: Final = 60  # a remembered check looks at no limit for half a minute (logins.LONGEST_LOOK)
PSC_ABSOLUTE: Final = 4 * 3600  # … and after 4 h in any case; ours is never longer (law)

# Tables inside rules --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RequireTable(Kind):
    """What a professional must be: a table of REQUIRE keys; `all`, `any` and `not` hold such tables again."""

    example: str = '{ profession = ["10"] }'
    is_table: ClassVar[bool] = True

    def read(self, reading: Reading, where: Where, value: object) -> Require | None:
        if value == {}:
            reading.wrong(
                where, "asks for nothing", 'write { acr = ["eidas1"] } for every professional who has signed in'
            )
            return None
        values = read_table(reading, where, value, REQUIRE, {})
        if values is None:
            return None
        if "account" in values.given:
            reading.warn((*where, "account"), "is never met: linked accounts are not in this version", "remove it")
        fields = {_FIELD_OF.get(name, name): read for name, read in values.read.items()}
        return Require(**{name: read for name, read in fields.items() if read is not None})

    def from_text(self, text: str) -> object:
        return from_json(text, "a table", "a JSON object")

    def schema(self) -> Schema:
        return {"$ref": "#/$defs/require"}


_FIELD_OF: Final = {"not": "not_", "national_id_file": "national_ids"}

_ONE_TABLE: Final = RequireTable()
_TABLES: Final = ListOf(RequireTable())

REQUIRE: Final[Mapping[str, Key]] = {
    "profession": Key(ListOf(Code("profession", '"10"')), "Profession, as codes or French labels (10 = Médecin)."),
    "category": Key(ListOf(Code("category", '"C"')), "Professional category: C civil, M military, E student."),
    "role": Key(
        ListOf(Code("role", '"313"')), "Role in care or function; since 2024 many professions are 99 with a role."
    ),
    "speciality": Key(ListOf(Code("speciality", '"SM26"')), "Speciality (savoir-faire)."),
    "sector": Key(ListOf(Code("sector", '"SA01"')), "Sector of activity of the structure."),
    "structure": Key(
        ListOf(Text('"R10000000123456"')), "The structure, by any of its identifiers (technical, FINESS, SIRET, SIREN)."
    ),
    "mode": Key(ListOf(Code("mode", '"S"')), "Mode of exercise: L independent, S employed, B volunteer."),
    "national_id": Key(
        ListOf(Text('"899700218896"', "[0-9A-Za-z][0-9A-Za-z/._-]{0,63}", "a national id")),
        "The person, by SubjectNameID as PSC gives it.",
    ),
    "national_id_file": Key(
        NationalIds(),
        "A file of national ids, one a line, # for comments; relative to this file; read again on reload.",
    ),
    "auth_mode": Key(tokens('"CARD"'), "The means of authentication PSC tells: CARD or MOBILE."),
    "acr": Key(tokens('"eidas1"'), "Level of authentication; without this key psc.acr_values are asked for."),
    "max_age": Key(Duration(), "How old the authentication at PSC may be; older ones are asked to sign in again."),
    "account": Key(Flag(), "A linked local account exists.", listed=False),
    "all": Key(_TABLES, "Tables of which each must hold, on the same situation."),
    "any": Key(_TABLES, "Tables of which one must hold."),
    "not": Key(_ONE_TABLE, "A table that no situation of the person may satisfy."),
}

RULE: Final[Mapping[str, Key]] = {
    "paths": Key(ListOf(PathPattern()), "Paths this rule judges: exact, or a prefix ending in /*.", required=True),
    "methods": Key(ListOf(Method()), "Methods this rule judges; all of them without this key."),
    "open": Key(Flag(), "true lets everybody pass, signed in or not.", default=False, stated=False),
    "require": Key(
        _ONE_TABLE, "What a professional must be to pass; profession, role, sector and structure in one situation."
    ),
}


@dataclass(frozen=True, slots=True)
class Rules(Kind):
    """The rules of an app in order: `[[apps.NAME.rules]]`. Read as Values, one per rule; config.py judges them together."""

    example: str = '[{ paths = ["/*"], require = { profession = ["10"] } }]'

    def read(self, reading: Reading, where: Where, value: object) -> tuple[Values | None, ...] | None:
        if not isinstance(value, list):
            name = str(where[1]) if len(where) > 1 else "NAME"
            reading.wrong(
                where,
                f"a list of tables is wanted, not {sort_of(value)}",
                f"write each rule below a line [[apps.{name}.rules]]",
            )
            return None
        if not value:
            reading.wrong(
                where, "the list of rules is empty, which refuses everybody", "write a rule, or leave the key out"
            )
            return None
        return tuple(read_table(reading, (*where, number), rule, RULE, {}) for number, rule in enumerate(value))

    def from_text(self, text: str) -> object:
        return from_json(text, "a list", 'a JSON list like [{"paths": ["/*"], "require": {"profession": ["10"]}}]')

    def schema(self) -> Schema:
        return {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/rule"}}


# Headers --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HeaderNames(Kind):
    """Own header names by field. Whether proxies and HTTP bear the name is judged by headers.HeaderPlan."""

    example: str = '{ subject = "X-Praticien" }'

    def read(self, reading: Reading, where: Where, value: object) -> Mapping[str, str] | None:
        if not isinstance(value, dict):
            reading.wrong(where, f"a table is wanted, not {sort_of(value)}", f"write names = {self.example}")
            return None
        values = read_table(reading, where, value, NAMES, {"assertion": Later()})
        if values is None or values.wrong:
            return None
        return {name: values.read[name] for name in NAMES if name in values.given}

    def from_text(self, text: str) -> object:
        return from_json(text, "a table", 'a JSON object like {"subject": "X-Praticien"}')

    def schema(self) -> Schema:
        properties = {name: {**key.kind.schema(), "description": key.about} for name, key in NAMES.items()}
        return {"type": "object", "additionalProperties": False, "properties": properties}


@dataclass(frozen=True, slots=True)
class HeaderName(Kind):
    """A header name that HTTP and proxies bear; headers.py knows which."""

    field: str
    example: str

    def parse(self, reading: Reading, where: Where, value: object) -> str:
        text = one_line(self, value)
        try:
            check_own_name(self.field, text)
        except ValueError as error:
            problem, cure = (
                *re.split(r": (?=use |at most |choose )", str(error), maxsplit=1),
                f"write {self.example}",
            )[:2]
            raise Wrong(problem, cure) from None
        return text

    def schema(self) -> Schema:
        return {"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9]*(-[A-Za-z0-9]+)*$"}


NAMES: Final[Mapping[str, Key]] = {
    field: Key(HeaderName(field, f'"{name}"'), f"Instead of {name}.") for field, name in FIELDS.items()
}

HEADERS: Final[Mapping[str, Key]] = {
    "profile": Key(
        Choice(tuple(PROFILES)),
        "Which headers applications get: our own, or the names another product uses.",
        default="psc",
        stated="psc",
    ),
    "encoding": Key(
        Choice(ENCODINGS),
        "How values are written; percent is safe with every proxy and server.",
        default="percent",
        stated="percent",
    ),
    "names": Key(HeaderNames(), "Own header names, by field; the others keep the profile's.", default={}, stated={}),
}


@dataclass(frozen=True, slots=True)
class AppHeaders(Kind):
    """`headers` of one app: the same keys as the section, each of which replaces the section's own."""

    example: str = '{ profile = "psc" }'

    def read(self, reading: Reading, where: Where, value: object) -> Values | None:
        return read_table(reading, where, value, HEADERS, {})

    def from_text(self, text: str) -> object:
        return from_json(text, "a table", 'a JSON object like {"profile": "psc"}')

    def schema(self) -> Schema:
        return {"$ref": "#/$defs/headers"}


# Sections -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Secretive(Kind):
    """`client_secret` itself: read from the environment only, where config.py turns it into a Secret."""

    example: str = 'client_secret_file = "/etc/psc-forward-auth/client-secret"'

    def parse(self, reading: Reading, where: Where, value: object) -> Any:
        if reading.variables.get(where) is None:
            raise Wrong(
                "a secret does not belong in this file",
                f"put it in a file of its own (mode 0600) and write {self.example}",
            )
        if not isinstance(value, str):
            raise Wrong("is not a text", "write the secret that was given to you")
        return check_secret(value)


PSC: Final[Mapping[str, Key]] = {
    "environment": Key(
        Choice(("bas", "production", "custom")),
        "Which PSC: bas (sandbox), production, or custom with issuer.",
        required=True,
    ),
    "issuer": Key(
        Address('"https://auth.psc.example/auth/realms/esante-wallet"'),
        "Custom only: the issuer, exactly as it stands in tokens.",
    ),
    "discovery_url": Key(
        Address('"https://auth.psc.example/auth/realms/esante-wallet/.well-known/wallet-openid-configuration"'),
        "Custom only: where the metadata is; without it, below the issuer, under PSC's name and then under the standard one.",
    ),
    "client_id": Key(
        Text('"hopital-exemple"', r"[!-~]+", "a client id (ASCII, no blanks)"),
        "The client id the ANS gave you.",
        required=True,
    ),
    "client_secret_file": Key(
        SecretFile('"/etc/psc-forward-auth/client-secret"'),
        "A file with the client secret, not readable by others. The secret itself may come from FORWARD_AUTH__PSC__CLIENT_SECRET.",
    ),
    "client_secret": Key(Secretive(), "The client secret; from the environment only.", listed=False),
    "client_auth": Key(
        Choice(
            ("client_secret_basic", "client_secret_post"),
            later=("client_secret_jwt", "private_key_jwt", "tls_client_auth", "self_signed_tls_client_auth"),
        ),
        "How we show PSC who we are.",
        default="client_secret_basic",
        stated="client_secret_basic",
    ),
    "ca_file": Key(
        CertificateFile(),
        "Certification authorities to trust for PSC and the outbound proxy, instead of the system's (PEM).",
    ),
    "scope": Key(
        Text('"openid scope_all"', r"[!#-\[\]-~]+(?: [!#-\[\]-~]+)*", "scopes with single blanks between them"),
        "The scopes asked for.",
        default="openid scope_all",
        stated="openid scope_all",
    ),
    "acr_values": Key(
        tokens('"eidas1"'),
        "Levels of authentication asked for and accepted; a lower one never passes.",
        default=("eidas1",),
        stated=["eidas1"],
    ),
    "subject_claim": Key(
        Text('"SubjectNameID"', r"[A-Za-z_][A-Za-z0-9_.:-]*", "the name of a claim"),
        "The claim that holds the national id.",
        default="SubjectNameID",
        stated="SubjectNameID",
    ),
    "userinfo": Key(
        Flag(), "Ask userinfo; profession, role and structure come only from there.", default=True, stated=True
    ),
    "http_proxy": Key(
        Address('"http://proxy.hopital.example:3128"', proxy=True),
        "Outbound proxy towards PSC; the environment's HTTPS_PROXY is not read.",
    ),
    "http_proxy_file": Key(
        SecretFile('"/etc/psc-forward-auth/http-proxy"', user=True),
        "A file with user:password for http_proxy, not readable by others.",
    ),
}

_INNER: Final = Listener("unix", path=Path("/run/psc-forward-auth/inner.sock"))

SERVER: Final[Mapping[str, Key]] = {
    "origin": Key(
        OriginText('"https://auth.hopital.example"'),
        "The one origin declared to the ANS; the redirect URI is this + path_prefix + /callback.",
        required=True,
    ),
    "outer": Key(
        ListenerText('"127.0.0.1:9401"'),
        "Where browsers are answered, behind the proxy: a TCP address or a unix socket.",
        default=Listener("tcp", host="127.0.0.1", port=9401),
        stated="127.0.0.1:9401",
    ),
    "inner": Key(
        ListOf(ListenerText(), single=True),
        "Where proxies ask whether a request may pass; one, or a list. Never route this door from outside.",
        default=(_INNER,),
        stated="unix:/run/psc-forward-auth/inner.sock",
    ),
    "trusted_proxies": Key(
        ListOf(NetworkText(), may_be_empty=True),
        "Addresses of your reverse proxies. Compulsory as soon as one door is TCP; nobody else is believed.",
        stated=[],
    ),
    "observers": Key(
        ListOf(NetworkText(), may_be_empty=True),
        "Who may read /metrics, /livez and /readyz on the inner door, and nothing else.",
        stated=["127.0.0.0/8", "::1"],
    ),
    "socket_group": Key(
        Text('"www-data"', r"[a-z_][a-z0-9_-]{0,31}", "the name of a group"),
        "Group of the unix sockets (0660); put the proxy's user in it.",
    ),
    "path_prefix": Key(
        Text('"/psc"', r"/[a-z0-9](?:[a-z0-9_-]{0,30})", "one lower-case path segment"),
        "Below this path, on every protected host, stands the outer door.",
        default="/psc",
        stated="/psc",
    ),
    "keys_file": Key(
        WrittenFile('"/var/lib/psc-forward-auth/keys"'),
        "The key ring, made at first start (0600). With store memory: and no keys_file the ring lives in memory too.",
        stated="/var/lib/psc-forward-auth/keys",
    ),
    "workers": Key(One(), "Number of processes.", default=1, stated=1),
}

SESSION: Final[Mapping[str, Key]] = {
    "idle": Key(
        Duration(),
        "A login ends after this time without activity; PSC's own limit is 30m.",
        default=PSC_IDLE,
        stated="30m",
    ),
    "absolute": Key(
        Duration(),
        "A login ends this long after the authentication at PSC; PSC's own limit is 4h.",
        default=PSC_ABSOLUTE,
        stated="4h",
    ),
    "store": Key(
        StoreText(),
        "Where logins live: an SQLite file that survives restarts, or memory: for trials.",
        default="sqlite:/var/lib/psc-forward-auth/logins.db",
        stated="sqlite:/var/lib/psc-forward-auth/logins.db",
    ),
    "insecure_allow_longer_than_psc": Key(
        Flag(),
        "Allows idle and absolute beyond PSC's limits. Skips a safeguard: people stay signed in here when PSC has ended their session.",
        default=False,
        stated=False,
    ),
}

PAGES: Final[Mapping[str, Key]] = {
    "language": Key(
        Choice(("fr", "en")), "Language of pages when the browser prefers neither.", default="fr", stated="fr"
    ),
    "establishment": Key(
        Text('"Hôpital Exemple"'), "Name of the establishment, shown on every page.", default="", stated=""
    ),
    "contact": Key(
        Text('"Assistance informatique, poste 1234"'),
        "Whom to call, shown on pages that report an error.",
        default="",
        stated="",
    ),
    "logo": Key(LogoFile(), "An SVG or PNG of at most 200 kB, shown on every page."),
}

AUDIT: Final[Mapping[str, Key]] = {
    "file": Key(
        WrittenFile('"/var/log/psc-forward-auth/audit.jsonl"'),
        "File of the audit trail (0640), opened again on SIGHUP.",
    ),
    "stdout": Key(Flag(), "Write the audit trail to standard output; true where no file is given."),
    "required": Key(Flag(), "Without a working audit trail nobody signs in.", default=True, stated=True),
}

LOG: Final[Mapping[str, Key]] = {
    "format": Key(Choice(("json", "logfmt")), "One event a line, in this form.", default="json", stated="json"),
    "level": Key(
        Choice(("debug", "info", "warning", "error")),
        "From which level on events are written.",
        default="info",
        stated="info",
    ),
}

APP: Final[Mapping[str, Key]] = {
    "title": Key(Text('"Dossier patient"'), "What people call the application; its name without this key."),
    "origins": Key(
        ListOf(OriginText(), unique=True),
        "The public origins of the application, exact; one origin belongs to one app.",
        required=True,
    ),
    "rules": Key(
        Rules(),
        "Rules in order; the first whose path and method fit decides, nothing fits: refused. Without rules: any professional, everywhere.",
    ),
    "headers": Key(AppHeaders(), "As the section headers; each key here replaces the one there.", stated={}),
    "allow_preflight": Key(
        Flag(), "Let CORS preflights (OPTIONS without credentials) pass.", default=False, stated=False
    ),
    "idle": Key(Duration(), "A shorter idle limit for this app than the session's; a minute at least."),
    "background_paths": Key(
        ListOf(PathPattern(), may_be_empty=True),
        "Paths polled by scripts: checked, but no sign of activity.",
        default=(),
        stated=[],
    ),
    "forget_cookies": Key(
        ListOf(Text('"JSESSIONID"', r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", "the name of a cookie"), may_be_empty=True),
        "Cookies of the application that are expired at each sign-in and sign-out, so that nobody inherits a session.",
        default=(),
        stated=[],
    ),
    "sign_in": Key(
        Choice(("redirect", "page")),
        "Go to PSC at once, or show a page with the button first.",
        default="redirect",
        stated="redirect",
    ),
}

SECTIONS: Final[Mapping[str, Mapping[str, Key]]] = {
    "psc": PSC,
    "server": SERVER,
    "session": SESSION,
    "headers": HEADERS,
    "pages": PAGES,
    "audit": AUDIT,
    "log": LOG,
}

ABOUT: Final[Mapping[str, str]] = {
    "psc": "Pro Santé Connect and how we are known there.",
    "server": "The two doors: the outer one for browsers, the inner one for proxies.",
    "session": "How long a login lasts and where it lives.",
    "headers": "How the identity reaches applications.",
    "pages": "What people read.",
    "audit": "Who signed in, was refused, signed out.",
    "log": "What the service did.",
    "apps": "The protected applications, by name.",
}

LATER: Final[Mapping[str, Mapping[str, Later]]] = {
    "": {name: Later() for name in ("assertion", "accounts", "ciba", "break_glass", "administration")},
    "psc": {name: Later() for name in ("client_key_file", "client_certificate_file")},
    "server": {"client_certificate_header": Later()},
    "apps": {
        "bearer": Later(off="off"),
        "bearer_audiences": Later(),
        "situation": Later(),
        "machines": Later(),
        "accounts": Later(),
        "rich_clients": Later(off=False),
        "issuer": Later(),
    },
}

APP_NAME: Final = r"[a-z0-9]+(?:-[a-z0-9]+)*"


# Keys that people look for in the wrong table -> the right one.
ELSEWHERE: Final[Mapping[str, str]] = {
    **dict.fromkeys(APP, "apps.NAME"),
    **{name: section for section, keys in SECTIONS.items() for name in keys},
}
