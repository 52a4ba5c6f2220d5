"""The connection to PSC: names, TLS, limits. Nothing of what is said over it.

Refuses: TLS below 1.2, an unverified certificate (there is no switch for that), cookies, proxies from the environment, and a DNS
server's opinion about `localhost` and `*.localhost`, which are this machine (RFC 6761 §6.3).
"""

import asyncio
import socket
import ssl
from pathlib import Path
from typing import Final, Protocol

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

CONNECT_SECONDS: Final = 2.0
TOTAL_SECONDS: Final = 5.0
MOST_CONNECTIONS: Final = 32
# Below what servers commonly keep an idle connection: a POST on one that PSC has just closed would fail, and a code is never sent twice.
_IDLE_SECONDS: Final = 4.0
_LOOPBACK: Final = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))


class Wired(Protocol):
    """What is needed of `[psc]` here (settings.PSCSettings has it)."""

    @property
    def ca_file(self) -> Path | None: ...


class Resolver(AbstractResolver):
    """The system's resolver, but for `localhost` and `*.localhost`: 127.0.0.1, then ::1."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of `host`. Raises OSError."""
        if is_local(host):
            return [
                _result(host, address, port, kind, socket.IPPROTO_TCP)
                for kind, address in _LOOPBACK
                if family in (socket.AF_UNSPEC, kind)
            ]
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
        )
        return [_result(host, str(address[0]), int(address[1]), kind, proto) for kind, _, proto, _, address in found]

    async def close(self) -> None:
        """Nothing is held."""


def is_local(host: str) -> bool:
    """Whether a name means this machine (RFC 6761 §6.3)."""
    name = host.rstrip(".").lower()
    return name == "localhost" or name.endswith(".localhost")


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """TLS 1.2 or later, certificate and name verified against the system's authorities, or against those of `ca_file` alone.

    Raises OSError (ssl.SSLError included) when the file cannot be read.
    """
    context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def make_session(settings: Wired) -> aiohttp.ClientSession:
    """The one session with which PSC is spoken to; the caller closes it. To be called in a running loop. Raises as tls_context."""
    connector = aiohttp.TCPConnector(
        ssl=tls_context(settings.ca_file),
        resolver=Resolver(),
        ttl_dns_cache=10,
        limit=MOST_CONNECTIONS,
        keepalive_timeout=_IDLE_SECONDS,
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=TOTAL_SECONDS, connect=CONNECT_SECONDS),
        headers={"User-Agent": "psc-forward-auth", "Accept-Encoding": "identity"},
        auto_decompress=False,
        trust_env=False,
    )


def _result(host: str, address: str, port: int, family: int, proto: int) -> ResolveResult:
    return ResolveResult(
        hostname=host,
        host=address,
        port=port,
        family=family,
        proto=proto,
        flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    )
