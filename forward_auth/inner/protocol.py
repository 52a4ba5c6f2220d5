"""Bytes -> request -> answer bytes. llhttp parses; this file keeps the limits and knows no policy.

For: one connection of a proxy to the inner door, HTTP/1.1 with keep-alive and pipelining. Refuses: bodies (a request that announces one is
answered without reading it, and the connection is closed: the nginx desync), heads that are too large, too many or too slow, more
connections than the door holds, peers that are neither a trusted proxy nor an observer (closed without a byte), and whatever llhttp calls
malformed (both framings, folded lines, bare CR or LF …).

Two roads. A read that is byte for byte a head seen before, but for the target and the ticket, is not parsed again (heads.py). Everything else takes the careful
road through llhttp. Both ask the same endpoint.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable
from typing import Final, cast

import httptools

from forward_auth.dialects import Answer
from forward_auth.inner.door import CLOSE, Door, Endpoint
from forward_auth.inner.heads import DEFAULT_MARK, Heads

_NOT_FOUND: Final = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nCache-Control: no-store\r\n"
_FAILED: Final = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nCache-Control: no-store\r\n"
_BAD_REQUEST: Final = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n" + CLOSE
_TOO_LARGE: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Length: 0\r\n" + CLOSE

CRLF: Final = b"\r\n"
_END: Final = b"\r\n\r\n"
log = logging.getLogger("forward_auth.inner")


class Connection(asyncio.Protocol):
    """One connection. since: the door's tick when the head under way, or the idle time, began; head: bytes of the head under way."""

    __slots__ = (
        "_addresses", "_clean", "_door", "_double", "_full", "_headers", "_heads", "_last", "_learn", "_leaving", "_mark",
        "_parser", "_task", "_transport", "_url", "_waiting", "busy", "head", "since",
    )  # fmt: skip

    def __init__(self, door: Door) -> None:
        self._door = door
        self._transport: asyncio.Transport | None = None
        self._headers: dict[bytes, bytes] = {}
        self._double: set[bytes] | None = None
        self._url = b""
        self._parser: httptools.HttpRequestParser | None = None  # made by the first head that takes the careful road
        self._waiting: deque[tuple[Endpoint | None, dict[bytes, bytes], set[bytes] | None, bool, bytes]] | None = None
        self._task: asyncio.Task[None] | None = None
        self._last = False
        self._leaving = False  # its next answer is its last: the door is draining, or was reloaded
        self._full = False  # the peer does not take its answers
        self._heads: Heads | None = None
        self._clean = True  # between two heads: nothing of the next one has been parsed
        self._learn: tuple[Endpoint, dict[bytes, bytes], bool] | None = None
        self._mark = DEFAULT_MARK
        self.busy = False
        self.head = 0
        self.since = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's own class derives from nothing of asyncio's
        door = self._door
        rights = door.addresses_for(transport.get_extra_info("peername"))
        if rights is None or len(door.connections) >= door.limits.connections:
            door.refused_peers += 1
            transport.abort()
            return
        self._transport = transport
        self._addresses, self._heads = rights
        self._leaving = door.draining
        self.since = door.tick
        self._mark = door.heads.mark
        door.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._door.connections.discard(self)
        self._transport = None
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        transport = self._transport
        if transport is None or self._last:
            return  # what comes after our last answer is a body, or nobody we know: never read
        door = self._door
        worth_learning = False
        heads = self._heads
        if heads is not None and self._clean and not self.busy and not self._leaving:
            parts = heads.split(data, self._mark)
            if parts is not None:
                shape, target, ticket = parts
                head = heads.known.get(shape) or heads.refused.get(shape)
                if head is not None:
                    self.since = door.tick
                    try:
                        answer = head.endpoint.again(head, target, ticket)
                    except Exception:
                        answer = _failed(head.endpoint)
                    if answer is not None:
                        if head.last:
                            self._last = True
                            transport.write(answer + CLOSE)
                            transport.close()
                        else:
                            transport.write(answer + CRLF)
                        return
                else:
                    worth_learning = heads.again(shape)
            else:
                worth_learning = True  # this proxy may spell the line in another way
        self._read_carefully(data)
        self._clean = not self.head and data.endswith(_END)
        learn, self._learn = self._learn, None
        if worth_learning and learn is not None and self._clean and not self.busy:
            try:
                self._mark = door.heads.learn(data, *learn) or self._mark
            except Exception:  # the answer is out; the connection need not suffer
                log.exception("a head could not be remembered")

    def _read_carefully(self, data: bytes) -> None:
        if not self.head:
            self.since = self._door.tick
        self.head += len(data)
        try:
            if self._parser is None:
                self._parser = httptools.HttpRequestParser(self)
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._last = True  # answered as the plain GET it is to us, with Connection: close
        except httptools.HttpParserCallbackError:  # not the peer's fault, though llhttp reports both alike
            log.exception("a head could not be answered; it was refused")
            self.refuse(_FAILED + CLOSE)
            return
        except httptools.HttpParserError:
            # After our last answer, which may still be waiting for the store, it is whatever stands behind it.
            if not self._last:
                self._door.bad_requests += 1
                self.refuse(_BAD_REQUEST)
            return
        if self._last:
            return
        if self.head == 1 and len(data) > 1:  # another head has begun behind a whole one: its bytes count too
            self.head = max(1, len(data) - data.rfind(_END) - len(_END))
        if self.head > self._door.limits.head_bytes:
            self.refuse(_TOO_LARGE)

    # -- llhttp's callbacks ----------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        # From the first byte on, a head is under way: also one behind a whole one in the same read.
        self.head = self.head or 1

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        headers = self._headers
        if name not in headers:
            headers[name] = value
        else:
            self._again(name, value)

    def _again(self, name: bytes, value: bytes) -> None:
        """A header line that stands twice. Cookie lines are one list (RFC 9113 §8.2.3); of any other both are noted, and whoever needs it refuses."""
        if name == b"cookie":
            self._headers[name] += b"; " + value
        if self._double is None:
            self._double = set()
        self._double.add(name)
        if len(self._headers) < self._door.limits.header_lines:
            self._headers[name + b" %d" % len(self._headers)] = b""  # counts as a line; a name with a space is nobody's

    def on_headers_complete(self) -> None:
        headers, double, url = self._headers, self._double, self._url
        door = self._door
        limits = door.limits
        size, self.head, self.since = self.head, 0, door.tick
        self._headers, self._double, self._url = {}, None, b""
        if self._last:
            return
        if (
            size > limits.head_bytes
        ):  # of this read, which may hold a body or further heads: then count what is this head's
            size = len(url) + sum(len(name) + len(value) + 4 for name, value in headers.items())
        if size > limits.head_bytes or len(headers) >= limits.header_lines or len(url) > limits.target_bytes:
            self.refuse(_TOO_LARGE)
            return
        parser = self._parser
        assert parser is not None  # it is calling us
        version, method = parser.get_http_version(), parser.get_method()
        # RFC 9112 §3.2; and no address of ours is one of CONNECT's: a 200 would open a tunnel (RFC 9110 §9.3.6).
        hosts = double is not None and b"host" in double
        if hosts or (b"host" not in headers and version != "1.0") or method == b"CONNECT":
            self.refuse(_BAD_REQUEST)
            return
        endpoint = self._addresses.get(url)
        if endpoint is None and b"?" in url:  # Caddy appends the client's query; it means nothing here
            endpoint = self._addresses.get(url.partition(b"?")[0])
        more = b"transfer-encoding" in headers or b"upgrade" in headers or headers.get(b"content-length", b"0") != b"0"
        last = (
            more
            or endpoint is None
            or self._leaving
            or not parser.should_keep_alive()
            or (b"connection" in headers and version != "1.1")
        )
        self._last = last
        if self.busy:
            if self._waiting is None:
                self._waiting = deque()
            if len(self._waiting) >= limits.pipelined:
                self.refuse(_BAD_REQUEST)
            else:
                self._waiting.append((endpoint, headers, double, last, method))
            return
        if endpoint is None:
            self._answer(_NOT_FOUND, last, b"")
            return
        try:
            answer = endpoint.serve(headers, _NONE if double is None else double)
        except Exception:
            answer = _failed(endpoint)
        if type(answer) is bytes and self._transport is not None:
            self._transport.write(answer + (CLOSE if last else CRLF))
            if last:
                self._transport.close()
            if double is None and not more and not self._leaving:
                self._learn = (endpoint, headers, last)
        else:
            self._say(endpoint, answer, last, method)

    # -- answering -------------------------------------------------------------------------------------------------------------

    def _say(self, endpoint: Endpoint | None, answer: Answer | Awaitable[Answer], last: bool, method: bytes) -> None:
        """Write an answer, or begin to wait for it; nothing more is read meanwhile."""
        if isinstance(answer, bytes | tuple):
            self._answer(answer, last, method)
            return
        self.busy = True
        if self._transport is not None:
            self._transport.pause_reading()
        self._task = asyncio.get_running_loop().create_task(self._serve_later(endpoint, answer, last, method))

    async def _serve_later(
        self, endpoint: Endpoint | None, awaited: Awaitable[Answer], last: bool, method: bytes
    ) -> None:
        answer: Answer
        coming: Answer | Awaitable[Answer]
        try:
            answer = await awaited
        except asyncio.CancelledError:
            if self._transport is None:  # the peer has gone: it was us whom connection_lost cancelled
                raise
            answer = _failed(endpoint)  # what it waited for was cancelled; without an answer it would wait for ever
        except Exception:
            answer = _failed(endpoint)
        self.busy = False
        self._task = None
        self.since = self._door.tick
        self._answer(answer, last or (self._leaving and not self._waiting), method)
        while self._waiting and not self.busy and self._transport is not None:
            endpoint, headers, double, its_last, its_method = self._waiting.popleft()
            try:
                coming = _NOT_FOUND if endpoint is None else endpoint.serve(headers, double or _NONE)
            except Exception:
                coming = _failed(endpoint)
            self._say(endpoint, coming, its_last, its_method)
        if self._transport is not None and not self.busy and not self._transport.is_closing():
            if not self._full:
                self._transport.resume_reading()
            if self._leaving:
                self.close_when_idle()

    def _answer(self, answer: Answer, last: bool, method: bytes) -> None:
        transport = self._transport
        if transport is None:
            return
        head, body = (answer, b"") if isinstance(answer, bytes) else answer
        transport.write(head + (CLOSE if last else CRLF) + (body if method != b"HEAD" else b""))
        if last:
            transport.close()

    def refuse(self, answer: bytes) -> None:
        """Say why, in one line of status, and close; nothing more is read."""
        if self._transport is not None and not self._transport.is_closing() and not self.busy:
            self._transport.write(answer)  # never in front of an answer that is still to come
        self.close()

    def close(self) -> None:
        """What is written still goes out; asked a second time, it does not: that peer does not read."""
        self._last = True
        if self._transport is not None:
            if self._transport.is_closing():
                self._transport.abort()
            else:
                self._transport.close()

    def leave(self) -> None:
        self._leaving = True

    def close_when_idle(self) -> None:
        self._leaving = True
        if not self.busy and not self.head and self._transport is not None and not self._transport.is_closing():
            self.close()

    # -- a peer that asks and does not read the answers is not read either --------------------------------------------------------

    def pause_writing(self) -> None:
        self._full = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._full = False
        if self._transport is not None and not self._transport.is_closing() and not self.busy:
            self._transport.resume_reading()


def _failed(endpoint: Endpoint | None) -> bytes:
    """An exception is a refusal, in the log and counted."""
    log.exception("a check failed; it was refused")
    if endpoint is not None:
        endpoint.failed()
    return _FAILED


_NONE: Final[frozenset[bytes]] = frozenset()
