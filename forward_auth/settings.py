"""What a configuration says, as facts that cannot be changed: typed, complete, already judged.

config.py makes these from a file and the environment; everybody else only reads them. Refuses: nothing by itself. A Settings
exists only if nothing in the file was wrong. Secrets are `Secret` values, so a repr of Settings may be logged.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from forward_auth.errors import Mistake
from forward_auth.policy import Require
from forward_auth.secret import Secret

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port of a public address (RFC 6454). `host` is lower case; `port` is None for the scheme's own port."""

    scheme: str
    host: str
    port: int | None = None

    @property
    def authority(self) -> str:
        """`host` or `host:port`, as in a Host header."""
        return self.host if self.port is None else f"{self.host}:{self.port}"

    @property
    def text(self) -> str:
        """`https://host` or `https://host:port`, as in an Origin header."""
        return f"{self.scheme}://{self.authority}"

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Listener:
    """Where a door listens: `unix` with a path, or `tcp` with an address and a port (0 = any free port)."""

    kind: str
    path: Path | None = None
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        if self.kind == "unix":
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class PSCSettings:
    """How PSC is spoken to. `discovery_url` is "" when it must be found from the issuer (decision 19)."""

    environment: str
    issuer: str
    discovery_url: str
    client_id: str
    client_secret: Secret
    client_auth: str
    ca_file: Path | None
    scope: str
    acr_values: tuple[str, ...]
    subject_claim: str
    userinfo: bool
    http_proxy: str | None
    http_proxy_auth: Secret | None  # "user:password"


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The two doors. `keys_file` is None only with the store `memory:` (the key ring then lives in memory too)."""

    origin: Origin
    outer: Listener
    inner: tuple[Listener, ...]
    trusted_proxies: tuple[Network, ...]
    observers: tuple[Network, ...]
    socket_group: str | None
    path_prefix: str
    keys_file: Path | None


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """Limits of a login in seconds, and its store: `sqlite:/path` or `memory:`."""

    idle: int
    absolute: int
    store: str


@dataclass(frozen=True, slots=True)
class HeaderSettings:
    """How the identity is written for applications. `names`: field -> own header name."""

    profile: str
    encoding: str
    names: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PagesSettings:
    """What the pages say of the establishment. `logo` was there, small, and an SVG or PNG when the file was read."""

    language: str
    establishment: str
    contact: str
    logo: Path | None


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """Where the audit trail goes; `required`: without a working sink nobody signs in."""

    file: Path | None
    stdout: bool
    required: bool


@dataclass(frozen=True, slots=True)
class LogSettings:
    """`format`: json or logfmt; `level`: debug, info, warning, error."""

    format: str
    level: str


@dataclass(frozen=True, slots=True)
class RuleSettings:
    """One rule. `number` counts from 1 in its app; `line` is where it stands in the file, 0 when it stands in none.

    `methods` None means all. Exactly one of `open` and `require` holds. `require.acr` is never empty at the top: where the
    file names no acr, psc.acr_values stand there, so nobody passes with a weaker authentication than was asked for.
    """

    number: int
    line: int
    paths: tuple[str, ...]
    methods: frozenset[str] | None
    open: bool
    require: Require | None


@dataclass(frozen=True, slots=True)
class AppSettings:
    """A protected application. `idle` in seconds, at most the session's. `rules` is never empty."""

    name: str
    title: str
    origins: tuple[Origin, ...]
    rules: tuple[RuleSettings, ...]
    headers: HeaderSettings
    allow_preflight: bool
    idle: int
    background_paths: tuple[str, ...]
    forget_cookies: tuple[str, ...]
    sign_in: str


@dataclass(frozen=True, slots=True)
class Settings:
    """One whole configuration. `warnings`: what is allowed but deserves a look; `path`: the file it was read from."""

    psc: PSCSettings
    server: ServerSettings
    session: SessionSettings
    headers: HeaderSettings
    pages: PagesSettings
    audit: AuditSettings
    log: LogSettings
    apps: tuple[AppSettings, ...]
    warnings: tuple[Mistake, ...]
    path: Path
