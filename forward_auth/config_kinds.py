"""The kinds of value a configuration holds, but files: each reads one, or says what is wrong and what to write instead.

For: config_keys.py. Refuses: to repair, and to echo what may be a secret.

Origins: RFC 6454, RFC 3986 §3.2; an allow-list of exact origins, never patterns (CVE-2024-52289). Characters that could end a
value in a proxy's configuration are refused wherever a value may be written into one (CVE-2025-1974 and its family).
"""

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from pathlib import Path
from typing import Final

from forward_auth import nomenclature
from forward_auth.config_reading import NOT_YET, Kind, ListOf, Reading, Schema, Wrong, key_name, one_line, shown
from forward_auth.original import DEFAULT_PORTS, read_method, read_path
from forward_auth.settings import Listener, Network, Origin
from forward_auth.toml_lines import Where

_LONGEST_DURATION: Final = 366 * 86_400
_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
# Written as it is into nginx and other files: nothing that ends a value, starts a comment or names a variable there.
_PLAIN_PATH: Final = re.compile(r"/[A-Za-z0-9._@+,=/-]*")

# Plain values ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Text(Kind):
    """A text of one line. `rule` says in words what `pattern` says."""

    example: str
    pattern: str = ".+"
    rule: str = "a text of one line"
    most: int = 200

    def parse(self, reading: Reading, where: Where, value: object) -> str:
        text = one_line(self, value)
        if len(text) > self.most:
            raise Wrong(f"is longer than {self.most} characters", "shorten it")
        if not re.fullmatch(self.pattern, text):
            self._not(text, self.rule)
        return text

    def schema(self) -> Schema:
        return {"type": "string", "minLength": 1, "maxLength": self.most, "pattern": f"^(?:{self.pattern})$"}


@dataclass(frozen=True, slots=True)
class Choice(Kind):
    """One of a few words; `later` are words of the contract that this version does not know yet."""

    options: tuple[str, ...]
    later: tuple[str, ...] = ()

    @property
    def example(self) -> str:  # type: ignore[override]  # made from the options
        return " or ".join(f'"{option}"' for option in self.options)

    def parse(self, reading: Reading, where: Where, value: object) -> str:
        text = one_line(self, value)
        if text in self.options:
            return text
        if text in self.later:
            raise Wrong(f'"{text}" {NOT_YET}', f"write {self.example}")
        return self._not(text, "one of the words known here")

    def schema(self) -> Schema:
        return {"enum": list(self.options)}


@dataclass(frozen=True, slots=True)
class Flag(Kind):
    """true or false."""

    example: str = "true or false, without quotes"

    def parse(self, reading: Reading, where: Where, value: object) -> bool:
        if not isinstance(value, bool):
            self._not(value, "true or false")
        return value

    def from_text(self, text: str) -> object:
        return {"true": True, "false": False}.get(text.strip().lower(), text)

    def schema(self) -> Schema:
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True)
class One(Kind):
    """The number 1, for what will be countable one day."""

    example: str = "1"

    def parse(self, reading: Reading, where: Where, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            self._not(value, "a number of processes")
        if value > 1:
            raise Wrong(f"more than one process ({shown(value)}) {NOT_YET}", "write 1")
        return value

    def from_text(self, text: str) -> object:
        return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else text

    def schema(self) -> Schema:
        return {"const": 1}


_DURATION: Final = re.compile(r"(?:(?P<h>[0-9]{1,6})h)?(?:(?P<m>[0-9]{1,6})m)?(?:(?P<s>[0-9]{1,9})s)?")


@dataclass(frozen=True, slots=True)
class Duration(Kind):
    """A span of time: "4h", "30m", "90s", "1h30m", or a whole number of seconds. Read as seconds, at least one."""

    example: str = '"30m", "4h", "90s" or a whole number of seconds'

    def parse(self, reading: Reading, where: Where, value: object) -> int:
        if isinstance(value, int) and not isinstance(value, bool):
            seconds = value
        elif isinstance(value, str) and value and (found := _DURATION.fullmatch(value)):
            seconds = int(found["h"] or 0) * 3600 + int(found["m"] or 0) * 60 + int(found["s"] or 0)
        else:
            self._not(value, "a span of time")
        if seconds < 1:
            raise Wrong(f"{shown(value)} is no time at all", f"write {self.example}")
        if seconds > _LONGEST_DURATION:
            raise Wrong(f"{shown(value)} is longer than a year", f"write {self.example}")
        return seconds

    def from_text(self, text: str) -> object:
        return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else text

    def schema(self) -> Schema:
        return {
            "anyOf": [
                {"type": "string", "pattern": "^(?=.)([0-9]+h)?([0-9]+m)?([0-9]+s)?$"},
                {"type": "integer", "minimum": 1},
            ]
        }


def tokens(example: str) -> ListOf:
    """A list of words without blanks."""
    return ListOf(Text(example, r"[A-Za-z0-9._:/+-]+", "one word"))


# Addresses ------------------------------------------------------------------------------------------------------------


def is_local(host: str) -> bool:
    """`localhost` and `*.localhost`, which never leave the machine (RFC 6761 §6.3)."""
    return host == "localhost" or host.endswith(".localhost")


def _check_host(host: str, cure: str) -> None:
    """A host as browsers will write it, so that comparing bytes is comparing hosts. Raises Wrong."""
    if host != host.lower():
        raise Wrong(f"{shown(host)} has upper-case letters", f"write {host.lower()}")
    if not host.isascii():
        try:
            puny = host.encode("idna").decode("ascii")
        except UnicodeError:
            puny = "it in ASCII (punycode)"
        raise Wrong(f"{shown(host)} is not ASCII", f"write {puny}")
    if host.endswith("."):
        raise Wrong(f"{shown(host)} ends in a dot", f"write {host.rstrip('.')}")
    labels = host.split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise Wrong(f"{shown(host)} is not a host name", cure)
    if re.fullmatch(
        r"[0-9]+|0x[0-9a-f]*", labels[-1]
    ):  # a browser takes it for an IPv4 address (WHATWG URL, «ends in a number»)
        try:
            IPv4Address(host)
        except AddressValueError:
            raise Wrong(f"{shown(host)} is neither a host name nor an IPv4 address", cure) from None


def _split_port(authority: str, cure: str) -> tuple[str, int | None]:
    host, colon, digits = authority.partition(":")
    if not colon:
        return host, None
    if not re.fullmatch(r"[1-9][0-9]{0,4}", digits) or int(digits) > 65535:
        raise Wrong(f"{shown(digits)} is not a port", cure)
    return host, int(digits)


def _split_url(text: str, cure: str) -> tuple[str, str, str]:
    """(scheme, authority, path) of an http(s) address without user, query and fragment. Raises Wrong without echoing a user."""
    if "@" in text:  # before anything is shown: what stands before it may be a password
        raise Wrong("holds a user or password", "leave out everything up to the @")
    scheme, mark, rest = text.partition("://")
    if not mark or not scheme:
        raise Wrong(f"{shown(text)} has no scheme", cure)
    if scheme != scheme.lower() and scheme.lower() in DEFAULT_PORTS:
        raise Wrong("the scheme has upper-case letters", f"write {scheme.lower()}://")
    if scheme not in DEFAULT_PORTS:
        raise Wrong(f"{shown(scheme)} is neither https nor http", cure)
    cut = min((at for at in map(rest.find, "/?#\\") if at >= 0), default=len(rest))
    authority, path = rest[:cut], rest[cut:]
    if "*" in authority:
        raise Wrong(f"{shown(text)} is a wildcard", "name each host: only exact ones are known")
    if any(char in text for char in " \\\"'`<>{}|^;$"):
        raise Wrong(f"{shown(text)} holds a character no address has", cure)
    if "?" in path:
        raise Wrong("has a query", "leave out everything from the ? on")
    if "#" in path:
        raise Wrong("has a fragment", "leave out everything from the # on")
    if authority.startswith("["):
        raise Wrong("an IPv6 address cannot stand here", "give it a host name")
    return scheme, authority, path


@dataclass(frozen=True, slots=True)
class OriginText(Kind):
    """`https://host[:port]`, exactly as a browser sends it in Origin."""

    example: str = '"https://dossier.hopital.example"'

    def parse(self, reading: Reading, where: Where, value: object) -> Origin:
        text = one_line(self, value)
        cure = f"write an origin like {self.example}"
        if "://" not in text and re.fullmatch(r"[A-Za-z0-9.-]+(?::[0-9]+)?/?", text):
            raise Wrong(f"{shown(text)} has no scheme", f'write "https://{text.lower().rstrip("/")}"')
        scheme, authority, path = _split_url(text, cure)
        if path:
            raise Wrong(f"{shown(text)} has a path", f'write "{scheme}://{authority}"; paths belong in rules')
        host, port = _split_port(authority, cure)
        _check_host(host, cure)
        if scheme == "http" and not is_local(host):
            raise Wrong(
                f"{shown(text)} is not https",
                f'write "https://{authority}"; http is for localhost and *.localhost only',
            )
        if port == DEFAULT_PORTS[scheme]:
            raise Wrong(
                f"{shown(text)} names the port that {scheme} has anyway", f'write "{scheme}://{host}", as browsers do'
            )
        return Origin(scheme, host, port)

    def schema(self) -> Schema:
        return {"type": "string", "pattern": "^https?://[a-z0-9.-]+(:[0-9]+)?$", "format": "uri"}


@dataclass(frozen=True, slots=True)
class Address(Kind):
    """An https address; http for localhost and *.localhost. `proxy`: any host over http too, and no path."""

    example: str
    proxy: bool = False

    def parse(self, reading: Reading, where: Where, value: object) -> str:
        text = one_line(self, value)
        cure = f"write {self.example}"
        if self.proxy and "@" in text:
            raise Wrong("holds a user or password", "put user:password in a file and name it in http_proxy_file")
        scheme, authority, path = _split_url(text, cure)
        host, _ = _split_port(authority, cure)
        _check_host(host, cure)
        if self.proxy:
            if path:
                raise Wrong("has a path", f'write "{scheme}://{authority}"')
            return text
        if scheme == "http" and not is_local(host):
            raise Wrong(f"{shown(text)} is not https", "write https://; http is for localhost and *.localhost only")
        if text.endswith("/"):
            raise Wrong(f"{shown(text)} ends in a slash", f'write "{text.rstrip("/")}"')
        if "//" in path or not path.isascii() or read_path(path.encode() or b"/") is None:
            raise Wrong(f"{shown(text)} has a path that is not one", cure)
        return text

    def schema(self) -> Schema:
        return {"type": "string", "pattern": "^https?://", "format": "uri"}


@dataclass(frozen=True, slots=True)
class ListenerText(Kind):
    """`unix:/path`, `127.0.0.1:9400` or `[::1]:9400`; port 0 takes any free one."""

    example: str = '"unix:/run/psc-forward-auth/inner.sock" or "127.0.0.1:9400"'

    def parse(self, reading: Reading, where: Where, value: object) -> Listener:
        text = one_line(self, value)
        if text.startswith("unix:"):
            path = text.removeprefix("unix:")
            if not _PLAIN_PATH.fullmatch(path) or ".." in path.split("/") or path.endswith("/"):
                raise Wrong(
                    f"{shown(path)} is not the absolute path of a socket",
                    'write "unix:/run/psc-forward-auth/inner.sock"',
                )
            if len(path) > 107:  # sun_path, unix(7)
                raise Wrong("the path is longer than the 107 bytes a socket may have", "choose a shorter path")
            return Listener("unix", path=Path(path))
        found = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^\[\]:]+)):([0-9]{1,5})", text)
        if found is None:
            self._not(text, "an address with a port, nor a unix socket")
        port = int(found[3])
        if port > 65535 or (len(found[3]) > 1 and found[3].startswith("0")):
            raise Wrong(f"{shown(found[3])} is not a port", f"write {self.example}")
        try:
            host = str(IPv6Address(found[1]) if found[1] else IPv4Address(found[2]))
        except ValueError:
            raise Wrong(f"{shown(found[1] or found[2])} is not an IP address", f"write {self.example}") from None
        return Listener("tcp", host=host, port=port)

    def schema(self) -> Schema:
        return {"type": "string", "pattern": r"^(unix:/.+|[0-9.]+:[0-9]+|\[[0-9a-fA-F:.]+\]:[0-9]+)$"}


_MAPPED: Final = IPv6Network("::ffff:0:0/96")


@dataclass(frozen=True, slots=True)
class NetworkText(Kind):
    """An IP address or network. Never a large part of the Internet (CVE-2026-76835: a list that trusted everyone)."""

    example: str = '"127.0.0.1" or "10.20.0.0/16"'

    def parse(self, reading: Reading, where: Where, value: object) -> Network:
        text = one_line(self, value)
        try:
            network: Network = ip_network(text)
        except ValueError:
            try:
                wide = ip_network(text, strict=False)
            except ValueError:
                self._not(text, "an IP address or network")
            raise Wrong(
                f"{shown(text)} has bits set behind its length", f'write "{wide}" for the network, or the address alone'
            ) from None
        if network.prefixlen < (8 if isinstance(network, IPv4Network) else 7):  # fc00::/7 is the widest private network
            raise Wrong(f"{shown(text)} trusts a large part of the Internet", "name the proxy's own address")
        if isinstance(network, IPv6Network) and network.overlaps(_MAPPED):
            raise Wrong(f"{shown(text)} covers IPv4 addresses written as IPv6", "write them as IPv4")
        return network


@dataclass(frozen=True, slots=True)
class StoreText(Kind):
    """`sqlite:/absolute/path` or `memory:`."""

    example: str = '"sqlite:/var/lib/psc-forward-auth/logins.db" or "memory:"'

    def parse(self, reading: Reading, where: Where, value: object) -> str:
        text = one_line(self, value)
        kind, _, rest = text.partition(":")
        if kind in ("redis", "rediss", "redis+sentinel", "redis+cluster"):  # never echoed: it may hold a password
            raise Wrong(f"the store {kind} {NOT_YET}", f"write {self.example}")
        if text == "memory:":
            return text
        if kind != "sqlite" or not rest:
            raise Wrong("is not a store known here", f"write {self.example}")
        if not _PLAIN_PATH.fullmatch(rest) or ".." in rest.split("/") or rest.endswith("/"):
            raise Wrong(f"{shown(rest)} is not the absolute path of a file", f"write {self.example}")
        return text

    def schema(self) -> Schema:
        return {"type": "string", "pattern": "^(sqlite:/.+|memory:)$"}


# Paths, methods, codes ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PathPattern(Kind):
    """A path of the application: exact, or a prefix ending in `/*`. What has two readings is refused (policy.py, decision 8)."""

    example: str = '"/prescrire/*" or "/favicon.ico"'

    def parse(self, reading: Reading, where: Where, value: object) -> str:
        text = one_line(self, value)
        if not text.startswith("/"):
            plain = re.match(r"[A-Za-z0-9._~-]+(?:/|$)", text)
            cure = f'write "/{text}"' if plain else f"write a path like {self.example}; it is no pattern and no address"
            raise Wrong(f"{shown(text)} does not start with /", cure)
        stem = text.removesuffix("/*")
        if "*" in stem:
            raise Wrong(
                f"{shown(text)} has a * that is not a final /*",
                f'write "{stem.split("*")[0].rpartition("/")[0]}/*" and let later rules tell apart',
            )
        for mark, what in (("?", "a query"), ("#", "a fragment")):
            if mark in stem:
                raise Wrong(f"{shown(text)} has {what}, and rules judge paths only", f'write "{stem.split(mark)[0]}"')
        if any(char in stem for char in '"<>`{}$'):
            raise Wrong(f"{shown(text)} holds a character no path has", "write it percent-encoded")
        path = read_path((stem or "/").encode())
        if path is None:
            raise Wrong(f"{shown(text)} is not a path: a % must begin an escape like %C3%A9", "mend the escape")
        if path.ambiguous:
            raise Wrong(
                f"{shown(text)} has two readings (dot segment, //, ;, \\, space, or one of %2F %5C %2E %25 %00)",
                "write a plain path; requests with two readings are judged by every rule",
            )
        return text

    def schema(self) -> Schema:
        return {"type": "string", "pattern": r"^/(?:[^*?#]*|(?:[^*?#]*/)?\*)$"}


@dataclass(frozen=True, slots=True)
class Method(Kind):
    """A request method, in upper case (RFC 9110 §9.1: methods are case-sensitive)."""

    example: str = '"POST"'

    def parse(self, reading: Reading, where: Where, value: object) -> str:
        text = one_line(self, value)
        if not text.isascii() or read_method(text.encode()) is None:
            self._not(text, "a method")
        if text != text.upper():
            raise Wrong(f"{shown(text)} has lower-case letters", f'write "{text.upper()}"')
        return text

    def schema(self) -> Schema:
        return {"type": "string", "pattern": "^[A-Z0-9!#$%&'*+.^_`|~-]+$"}


@dataclass(frozen=True, slots=True)
class Code(Kind):
    """A code or French label of a nomenclature, read as the code. An unknown one is kept, with a warning."""

    field: str
    example: str

    def parse(self, reading: Reading, where: Where, value: object) -> str:
        text = one_line(self, value).strip()
        if len(text) > 200:
            raise Wrong("is longer than any code or label", f"write {self.example}")
        found = nomenclature.resolve(self.field, text)
        known = nomenclature.entry(self.field, found.code)
        if not found.known:
            near = ", ".join(found.nearest)
            reading.wrong(
                where,
                f"{shown(text)} is not in the nomenclature known here",
                f"write {near}?" if near else f"look whether {self.example} or another code was meant",
                warning=True,
                key=key_name(where[:-1]),
            )
        elif known and known.closed:
            problem = f"{shown(text)} is closed" + (f" since {known.since}" if known.since else "")
            cure = f"add {known.instead.replace('+', ' with role ')}" if known.instead else "look what took its place"
            reading.wrong(where, problem, cure, warning=True, key=key_name(where[:-1]))
        return found.code

    def schema(self) -> Schema:
        return {"type": "string", "minLength": 1, "maxLength": 200}
