"""What a check costs inside the program: the bytes of a head are fed into a Connection, in this process, without a socket.

    python tests/bench/micro.py                          microseconds of CPU per check, for each kind of check
    python tests/bench/micro.py --save FILE              … and keep them
    python tests/bench/micro.py --against FILE           … beside those that were kept
    python tests/bench/micro.py --profile allowed        where one kind's time goes (cProfile: counts are right, times are inflated)
    python tests/bench/micro.py --only allowed,open

For: before and after a change to the hot path, on a machine that need not be quiet: the best of many short rounds of process time is nearly what
a quiet machine gives. Nothing is replaced but the transport, which records. Refuses: to time a wrong answer; each kind's answer is looked at.
"""

import argparse
import asyncio
import cProfile
import json
import logging
import pstats
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(Path(__file__).parent), str(TESTS), str(TESTS.parent)]

from rig import Ask  # noqa: E402
from running import configuration  # noqa: E402
from stored import HOST, identity_of  # noqa: E402

from forward_auth.clock import SteadyClock  # noqa: E402
from forward_auth.config import load  # noqa: E402
from forward_auth.inner.door import Door  # noqa: E402
from forward_auth.inner.protocol import Connection  # noqa: E402
from forward_auth.logins import Login  # noqa: E402
from forward_auth.service import Service  # noqa: E402

APPS: Final = """
[apps.dossier]
origins = ["https://dossier.hopital.example"]
[[apps.dossier.rules]]
paths = ["/public/*"]
open = true
[[apps.dossier.rules]]
paths = ["/pharmacy/*"]
require = { profession = ["21"] }
[[apps.dossier.rules]]
paths = ["/*"]
require = { profession = ["10", "40"] }
"""
ISSUER: Final = "https://issuer.psc.localhost"
DIFFERENT: Final = 10_000  # heads made beforehand where each is another
UNTRUE: Final = "AQ" + "0" * 62


class Recorder:
    """A transport that keeps the last answer."""

    def __init__(self) -> None:
        self.last = b""
        self.closed = False

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 1) if name == "peername" else None

    def write(self, data: bytes) -> None:
        self.last = data

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        return

    resume_reading = pause_reading


@dataclass(frozen=True)
class Kind:
    """One kind of check: heads that come one after the other, again and again, and how each answer begins. `form`: then each is another, made
    of the one head by writing a number where `mark` stands; `fresh`: each on a new connection."""

    heads: Sequence[bytes]
    status: bytes
    fresh: bool = False
    location: bool = False
    mark: str = ""
    form: str = ""

    def made(self, count: int, start: int) -> list[bytes]:
        """So many heads; `start`: how many were made before."""
        if not self.form:
            return [self.heads[at % len(self.heads)] for at in range(start, start + count)]
        before, after = self.heads[0].split(self.mark.encode())
        return [before + (self.form % number).encode() + after for number in range(start, start + count)]


class House:
    """A service whose doors are closed, with somebody signed in, somebody signed out and a door of its own."""

    def __init__(self, folder: Path) -> None:
        clock = SteadyClock()
        service = Service(load(configuration(folder, ISSUER, apps=APPS), {}), clock=clock)
        endpoints = service._compile_endpoints()
        self.service = service
        self.door = Door(
            lambda: endpoints,
            trusted=lambda: service.settings.server.trusted_proxies,
            observers=lambda: (),
            cookie=service.cookies.ticket_bytes,
        )
        now = clock()
        host = service.memory.host(HOST)
        self.made = 0
        self.tickets = []
        for number in range(DIFFERENT):
            text, found = service.ring.new_ticket("ticket", HOST)
            login = Login(
                id_=number.to_bytes(16, "big"),
                key=bytes(32),
                identity=identity_of(number, ISSUER, int(now)),
                sid="",
                auth_time=int(now),
                created=int(now),
                seen=now,
                idle=1800,
                ends=int(now) + 14400,
                version=1,
                entered=frozenset({"dossier"}),
            )
            service.memory.remember(host, text.encode(), login)
            self.tickets.append(text)
        self.ended = []
        for _ in range(DIFFERENT):
            text, found = service.ring.new_ticket("ticket", HOST)
            service.memory.remember_ended(found.digest)
            self.ended.append(text)

    def kinds(self) -> dict[str, Kind]:
        ticket = self.tickets[0]
        once = Ask(ticket).once()
        ok, asked = b"HTTP/1.1 200 ", b"HTTP/1.1 401 "

        def each(ask: Ask, mark: str, form: str, status: bytes, *, location: bool = False) -> Kind:
            return Kind([ask.once()], status, location=location, mark=mark, form=form)

        target = Ask().target
        return {
            "allowed": Kind([once], ok),
            "allowed, new connection": Kind([Ask(ticket, close=True).once()], ok, fresh=True),
            "allowed, another query each": each(Ask(ticket), target, target + "&n=%d", ok),
            "allowed, another path each": each(Ask(ticket), target, "/patients/%d?tab=lab", ok),
            "allowed, careful road": each(Ask(ticket), "Linux x86_64", "Linux %d", ok),
            "allowed, 1 000 people in turn": Kind([Ask(ticket).once(each) for each in self.tickets[:1000]], ok),
            "allowed, 10 000 people in turn": Kind([Ask(ticket).once(each) for each in self.tickets], ok),
            "open": Kind([Ask(ticket, target="/public/a").once()], ok),
            "open, nobody": Kind([Ask(target="/public/a").once()], ok),
            "nobody, navigation": Kind([Ask().once()], asked, location=True),
            "nobody, API": Kind([Ask(navigation=False).once()], asked),
            "forged": Kind([Ask(UNTRUE).once()], asked, location=True),
            "forged, API": Kind([Ask(UNTRUE, navigation=False).once()], asked),
            "forged, each another": each(Ask(UNTRUE), UNTRUE, "AQ%062d", asked, location=True),
            "forged, each another, API": each(Ask(UNTRUE, navigation=False), UNTRUE, "AQ%062d", asked),
            "ended": Kind([Ask(self.ended[0]).once()], asked, location=True),
            "ended, 10 000 in turn, API": Kind([Ask(each, navigation=False).once() for each in self.ended], asked),
            "forbidden": Kind([Ask(ticket, target="/pharmacy/a").once()], b"HTTP/1.1 403 "),
            "unknown host": Kind([once.replace(b"Host: dossier.", b"Host: ailleurs.")], b"HTTP/1.1 403 "),
        }

    def connection(self) -> tuple[Connection, Recorder]:
        connection, recorder = Connection(self.door), Recorder()
        connection.connection_made(recorder)  # type: ignore[arg-type]
        return connection, recorder

    def run(self, kind: Kind, number: int) -> float:
        """-> microseconds of CPU per check."""
        heads = kind.made(number, self.made)
        self.made += number
        if kind.fresh:
            began = time.process_time()
            for head in heads:
                connection, _ = self.connection()
                connection.data_received(head)
                connection.connection_lost(None)
        else:
            connection, recorder = self.connection()
            feed = connection.data_received
            began = time.process_time()
            for head in heads:
                feed(head)
        took = (time.process_time() - began) / number * 1e6
        if not kind.fresh:
            connection.connection_lost(None)
            assert recorder.last.startswith(kind.status), recorder.last[:300]
        return took

    def look(self, kind: Kind) -> None:
        for head in (*kind.made(1, 0), kind.heads[-1], *kind.made(1, 0), *kind.made(1, 0)):
            connection, recorder = self.connection()
            connection.data_received(head)
            connection.connection_lost(None)
            answer = recorder.last
            assert answer.startswith(kind.status), answer[:300]
            assert kind.location is (b"\r\nLocation: " in answer), answer[:300]


async def measure(options: argparse.Namespace) -> dict[str, float]:
    logging.disable(logging.WARNING)  # the program says once a minute that a host is unknown; that is meant here
    with tempfile.TemporaryDirectory() as name:
        house = House(Path(name))
        kinds = house.kinds()
        wanted = options.only.split(";") if options.only else list(kinds)
        if options.profile:
            profile(house, kinds[options.profile], options.number)
            return {}
        found: dict[str, float] = {}
        for kind in wanted:
            house.look(kinds[kind])
            house.run(kinds[kind], options.number)
        for _ in range(options.rounds):
            for kind in wanted:
                took = house.run(kinds[kind], options.number)
                found[kind] = min(found.get(kind, took), took)
        return found


def profile(house: House, kind: Kind, number: int) -> None:
    house.look(kind)
    house.run(kind, number)
    profiler = cProfile.Profile()
    profiler.enable()
    house.run(kind, number)
    profiler.disable()
    pstats.Stats(profiler).sort_stats("tottime").print_stats(25)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python tests/bench/micro.py")
    parser.add_argument("--number", type=int, default=10_000, help="checks in one round")
    parser.add_argument("--rounds", type=int, default=15, help="the best of them is shown")
    parser.add_argument("--only", default="", help="kinds of check, separated by semicolons")
    parser.add_argument("--profile", default="", help="a kind of check")
    parser.add_argument("--save", type=Path)
    parser.add_argument("--against", type=Path)
    options = parser.parse_args()
    found = asyncio.run(measure(options))
    before: dict[str, float] = json.loads(options.against.read_text()) if options.against else {}
    for kind, took in found.items():
        more = f"   was {before[kind]:6.2f}   {took / before[kind]:.2f} ×" if kind in before else ""
        print(f"{kind:32} {took:6.2f} µs{more}")
    if options.save:
        options.save.write_text(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
