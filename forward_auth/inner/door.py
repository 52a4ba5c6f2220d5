"""One listener of the inner door: its limits, its addresses, who may speak to it, and its slow connections.

For: what all connections of a listener share. Refuses: peers that are neither a trusted proxy nor an observer, more connections than `Limits` says,
heads that come too slowly.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any, Final, NamedTuple, Protocol

from forward_auth.dialects import Answer
from forward_auth.inner.heads import Head, Heads

CLOSE: Final = b"Connection: close\r\n\r\n"
_TIMEOUT: Final = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n" + CLOSE

# Seconds. Without a request for so long a kept connection may be ended from here: one that is in use has heard `close` by then.
QUIET: Final = 0.25
ARRIVING: Final = 0.1  # that a connection just accepted has to bring its head; from a proxy it is there at once
LATE: Final = 0.8  # that the rest of a head may still take

Network = IPv4Network | IPv6Network


class Limits(NamedTuple):
    """Of one door. Bytes, lines, seconds, counts. idle_seconds is longer than nginx keeps an idle upstream (60 s), so that the proxy closes
    first and no request is lost to a race."""

    head_bytes: int = 64 * 1024
    header_lines: int = 128
    target_bytes: int = 8 * 1024
    head_seconds: int = 10
    idle_seconds: int = 90
    connections: int = 10_000
    pipelined: int = 64


class Endpoint(Protocol):
    """What stands at one address. `observable`: observers may read it too."""

    observable: bool

    def again(self, head: Head, target: bytes, ticket: bytes | None) -> bytes | None: ...

    def reading(self, headers: Mapping[bytes, bytes], ticket: bytes | None) -> Any: ...

    def serve(
        self, headers: Mapping[bytes, bytes], doubled: frozenset[bytes] | set[bytes]
    ) -> Answer | Awaitable[Answer]: ...

    def failed(self) -> None: ...


Rights = tuple[Mapping[bytes, Endpoint], Heads | None]


class Held(Protocol):
    """A connection, as the door sees it (protocol.py has it)."""

    since: int
    head: int
    busy: bool

    def close(self) -> None: ...

    def leave(self) -> None: ...

    def close_when_idle(self) -> None: ...

    def refuse(self, answer: bytes) -> None: ...


class Door:
    """What all connections of one listener share: addresses, limits, who may speak."""

    def __init__(
        self,
        endpoints: Callable[[], Mapping[bytes, Endpoint]],
        *,
        trusted: Callable[[], tuple[Network, ...]],
        observers: Callable[[], tuple[Network, ...]],
        cookie: bytes,
        limits: Limits = Limits(),  # noqa: B008 - a frozen tuple
    ) -> None:
        self.limits = limits
        self.connections: set[Held] = set()
        self.tick = 0
        self.draining = False
        self.refused_peers = 0
        self.bad_requests = 0
        self._endpoints = endpoints
        self._trusted = trusted
        self._observers = observers
        self.heads = Heads(cookie + b"=")
        self._rights: dict[str, Rights | None] = {}
        self._unix: Rights = (endpoints(), self.heads)

    def reload(self) -> None:
        """Other networks or endpoints: new connections are judged by them, the old ones are closed when next idle."""
        self._rights.clear()
        self.heads.clear()
        self._unix = (self._endpoints(), self.heads)
        for connection in tuple(self.connections):
            connection.close_when_idle()

    def addresses_for(self, peer: Any) -> Rights | None:
        """What this peer may ask, and the heads it may be recognised by: none for an observer, who must not be answered from what a
        proxy's connection has taught. None when it is neither trusted nor an observer, or has no address any more: who sends and resets
        before we accept could not be judged, yet what it sent can still be read. Who reached a unix socket (its peer is a path, mostly an empty
        one) is trusted: the directory's and the socket's permissions have already judged."""
        if peer is None:
            return None
        if not isinstance(peer, tuple):
            return self._unix
        host = peer[0]
        if host not in self._rights:
            if len(self._rights) > 4096:
                self._rights.clear()
            self._rights[host] = self._judge(host)
        return self._rights[host]

    def _judge(self, host: str) -> Rights | None:
        address = ip_address(host.partition("%")[0])
        mapped = getattr(address, "ipv4_mapped", None)
        address = mapped or address
        if any(address in network for network in self._trusted()):
            return self._endpoints(), self.heads
        if any(address in network for network in self._observers()):
            return {target: endpoint for target, endpoint in self._endpoints().items() if endpoint.observable}, None
        return None

    def sweep(self) -> None:
        """Once a second: close who is too slow with a head, or idle for too long. One timer for the door, not one per connection."""
        self.tick += 1
        limits = self.limits
        for connection in tuple(self.connections):
            waited = self.tick - connection.since
            if connection.busy:
                continue
            if connection.head:
                if waited > limits.head_seconds:
                    connection.refuse(_TIMEOUT)
            elif waited > limits.idle_seconds:
                connection.close()

    async def drain(self, seconds: float, close_listener: Callable[[], object]) -> None:
        """The end of the door, in an order that loses no request of a proxy that keeps connections.

        1. Every answer says close, so that whoever uses a connection ends it itself. Ending it from here would cross with a request that is on
           its way; nginx asks again when that happens on a connection it had kept, others do not.
        2. What has been quiet for QUIET is closed, and nobody is accepted any more: with a socket that systemd holds, the next process answers.
        3. Who was accepted last has ARRIVING to bring its request, a head under way has LATE (a proxy's comes whole: a slow one must not keep the next
           process waiting), then what is under way is waited for, at most `seconds` in all.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        self.draining = True
        kept = tuple(self.connections)
        for connection in kept:
            connection.leave()
        await self._gone(min(end, loop.time() + QUIET), kept)
        close_listener()
        for connection in kept:
            connection.close_when_idle()
        await asyncio.sleep(0.01)  # who is accepted at this moment becomes known
        await self._gone(min(end, loop.time() + ARRIVING), None)
        for connection in tuple(self.connections):
            connection.close_when_idle()
        await self._gone(min(end, loop.time() + LATE), None)
        for connection in tuple(self.connections):
            if connection.head and not connection.busy:
                connection.refuse(_TIMEOUT)
        await self._gone(end, None)
        for connection in tuple(self.connections):
            connection.close()

    async def _gone(self, until: float, wanted: tuple[Held, ...] | None) -> None:
        """Wait until these connections (None: all) are gone, or until then."""
        loop = asyncio.get_running_loop()
        while loop.time() < until:
            if not (self.connections if wanted is None else self.connections.intersection(wanted)):
                return
            await asyncio.sleep(0.01)
