"""Many connections that ask and listen, as cheaply as Python can: heads made before, raw sockets, nothing parsed that nobody looks at.

`Pipe` is one kept-alive connection with one request under way; `Paced` sends at a steady rate over a set of pipes, however long answers take, and measures
from the moment a request would have been sent had a connection been free (so that a server that stands still is not asked, and measured, less). A request on a kept connection that the server ends without a byte of answer is asked again on
a new one, as proxies do (RFC 9112 §9.3.1), and counted. Refuses: to take half an answer for one.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic  # a uvloop's own clock stands still within one turn
from typing import Any, cast

Place = str | tuple[str, int]
END = b"\r\n\r\n"
_LENGTH = b"\r\nContent-Length: "


class Ask:
    """One request: its bytes, and what whoever judges the answer wants to remember of it."""

    __slots__ = ("about", "data", "due", "sent", "tries")

    def __init__(self, data: bytes, about: Any = None, due: float = 0.0) -> None:
        self.data = data
        self.about = about
        self.due = due
        self.sent = 0.0
        self.tries = 0


# (ask, status, head, body); status 0: no answer came
Heard = Callable[[Ask, int, bytes, bytes], None]


class Pipe(asyncio.Protocol):
    """`more()` gives the next Ask or None (then the pipe rests until `ask` is called)."""

    def __init__(self, place: Place, more: Callable[["Pipe"], Ask | None], heard: Heard) -> None:
        self.place = place
        self.more = more
        self.heard = heard
        self.now: Ask | None = None
        self.again = 0  # requests asked a second time
        self._got = b""
        self._transport: asyncio.Transport | None = None
        self._used = False
        self._over = False
        self._dropped = 0  # connections that we have ended, and whose end is still to be told
        self._connecting: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()

    async def _connect(self) -> None:
        for _ in range(200):
            try:
                if isinstance(self.place, str):
                    await self._loop.create_unix_connection(lambda: self, self.place)
                else:
                    await self._loop.create_connection(lambda: self, *self.place)
            except OSError:
                if self._over:
                    return
                await asyncio.sleep(0.02)  # nobody listens for the moment: a client tries again
            else:
                return
        if self.now is not None:
            self._finish(0, b"", b"")

    def ask(self, ask: Ask) -> None:
        """Send this now; nothing may be under way."""
        self.now = ask
        ask.sent = monotonic()
        if self._transport is None:
            if self._connecting is None or self._connecting.done():
                self._connecting = self._loop.create_task(self._connect())
        elif not self._transport.is_closing():  # else its end is about to be told, and this is asked again then
            self._transport.write(ask.data)

    def start(self) -> None:
        ask = self.more(self)
        if ask is not None:
            self.ask(ask)

    def close(self) -> None:
        self._over = True
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._used = False
        self._got = b""
        if self.now is not None:
            self.now.sent = monotonic()
            self._transport.write(self.now.data)

    def data_received(self, data: bytes) -> None:
        got = self._got + data if self._got else data
        end = got.find(END)
        if end < 0:
            self._got = got
            return
        at = got.find(_LENGTH, 0, end)
        length = int(got[at + 18 : got.find(b"\r\n", at + 2)]) if at >= 0 else 0
        whole = end + 4 + length
        if len(got) < whole:
            self._got = got
            return
        self._got = got[whole:]
        head = got[: end + 2]
        self._used = True
        if self._transport is not None and b"\r\nConnection: close\r\n" in head:
            self._dropped += 1
            self._transport.abort()
            self._transport = None
        self._finish(int(got[9:12]), head, got[end + 4 : whole])

    def connection_lost(self, exc: Exception | None) -> None:
        if self._dropped:
            self._dropped -= 1
            return
        self._transport = None
        ask, got, self._got = self.now, self._got, b""
        if ask is None or self._over:
            return
        if not got and self._used and ask.tries < 5:
            ask.tries += 1
            self.again += 1
            self._connecting = self._loop.create_task(self._connect())
        else:
            self._finish(0, got, b"")

    def _finish(self, status: int, head: bytes, body: bytes) -> None:
        ask, self.now = self.now, None
        if ask is None:
            return
        self.heard(ask, status, head, body)
        if not self._over and self.now is None:
            following = self.more(self)
            if following is not None:
                self.ask(following)


class Paced:
    """`rate` requests a second over `count` pipes; `make()` gives each. `late`: seconds from due to answered, of each."""

    def __init__(
        self, place: Place, count: int, rate: float, make: Callable[[], Ask], heard: Heard, *, step: float = 0.002
    ) -> None:
        self.late: list[float] = []
        self.pipes: list[Pipe] = []
        self._place, self._count, self._rate, self._make, self._heard, self._step = (
            place,
            count,
            rate,
            make,
            heard,
            step,
        )
        self._due: deque[Ask] = deque()
        self._free: deque[Pipe] = deque()

    def _more(self, pipe: Pipe) -> Ask | None:
        if self._due:
            return self._due.popleft()
        self._free.append(pipe)
        return None

    def _answered(self, ask: Ask, status: int, head: bytes, body: bytes) -> None:
        self.late.append(monotonic() - ask.due)
        self._heard(ask, status, head, body)

    async def run(self, seconds: float) -> None:
        """Until all that was due in that time is answered."""
        self.pipes = [Pipe(self._place, self._more, self._answered) for _ in range(self._count)]
        self._free.extend(self.pipes)
        began = monotonic()
        sent = 0
        total = int(seconds * self._rate)
        while sent < total:
            now = monotonic()
            while sent < total and began + sent / self._rate <= now:
                ask = self._make()
                ask.due = now  # a tick that comes late is the generator's, not the server's
                sent += 1
                if self._free:
                    self._free.popleft().ask(ask)
                else:
                    self._due.append(ask)
            await asyncio.sleep(self._step)
        end = monotonic() + 15
        while len(self.late) < total and monotonic() < end:
            await asyncio.sleep(0.01)
        for pipe in self.pipes:
            pipe.close()
        await asyncio.sleep(0)


def quantile(values: list[float], share: float) -> float:
    """Of values that need not be sorted; 0 when there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


async def said(place: Place, data: bytes, seconds: float = 3.0) -> bytes:
    """All that comes back for these bytes until the peer closes or is silent for that long."""
    if isinstance(place, str):
        reader, writer = await asyncio.open_unix_connection(place)
    else:
        reader, writer = await asyncio.open_connection(*place)
    got = b""
    try:
        writer.write(data)
        while True:
            more = await asyncio.wait_for(reader.read(65536), seconds)
            if not more:
                return got
            got += more
    except (TimeoutError, OSError):
        return got
    finally:
        writer.close()
