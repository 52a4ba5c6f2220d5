"""(rules, identity, request) triples by the thousand: the real service, over its real socket, and the model must say the same.

For: `ask(count, seed)`. Rules go through the configuration's own reader and a reload, people through a real sign-in at the simulator (their situations are
read from userinfo), requests as raw bytes, many in flight on one connection. Compared: status and every identity header. Refuses: to report
a disagreement as it was found: it is made as short as it will go first.
"""

import json
import random
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from running import CLIENT, DOSSIER, Browser, Clock, Running, SimulatorThread, shared_key

from forward_auth.errors import ConfigError
from forward_auth.simulator import Lifetimes, Person
from model import draws, headers, policy

HOST = "dossier.hopital.example"
ENTRY: draws.Rule = {"paths": ["/entree"], "require": {"acr": ["eidas1", "eidas2"]}}  # everybody can sign in through it
PEOPLE = 16  # who can be asked about at one time; the oldest is replaced
REQUESTS = 64
IN_FLIGHT = 60  # the door takes 64 at a time from one connection
ACR_VALUES = ("eidas1", "eidas2")
MORE = 'psc: acr_values = ["eidas1", "eidas2"]\n[log]\nlevel = "error"'  # what is malformed is said once a minute, and here are hours of them
CONTROLS = bytes({*range(32), 127} - {9})  # HTTP carries none of them in a header


@dataclass
class Somebody:
    """A person who is signed in, as the model knows them; `cookie`: what their browser sends."""

    person: draws.Person
    cookie: bytes


NOBODY = Somebody({}, b"")


@dataclass
class Disagreement(Exception):
    """One triple, as short as it will go."""

    rules: Sequence[draws.Rule]
    who: draws.Person
    method: bytes
    target: bytes
    expected: tuple[int, dict[str, str]]
    actual: tuple[int, dict[str, str]]
    toml: str = ""

    def __str__(self) -> str:
        kind = "WRONG ALLOW" if self.actual[0] == 200 else "wrong deny" if self.expected[0] == 200 else "another answer"
        differs = {
            name: (self.expected[1].get(name), self.actual[1].get(name))
            for name in {*self.expected[1], *self.actual[1]}
            if self.expected[1].get(name) != self.actual[1].get(name)
        }
        return (
            f"{kind}: the model says {self.expected[0]}, the program {self.actual[0]}\n{self.toml}"
            f"who: {json.dumps(self.who, ensure_ascii=False) if self.who else 'nobody'}\n"
            f"request: {self.method!r} {self.target!r}\nheaders that differ (model, program): {differs}"
        )


@dataclass
class Tally:
    """What was asked. `answers`: status -> how many."""

    triples: int = 0
    policies: int = 0
    people: int = 0
    refused: int = 0  # policies that the configuration's reader refused
    answers: Counter[str] = field(default_factory=Counter)


class House:
    """The service, and who is in."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.tally = Tally()
        self.clock = Clock()
        self.people: list[Somebody] = []
        self._folder = folder
        self._psc = SimulatorThread(clients=[CLIENT], clock=self.clock, key=shared_key(), lifetimes=Lifetimes(refresh=14400, idle=14400))  # fmt: skip

    def __enter__(self) -> Self:
        self.simulator = self._psc.start()
        self._running = Running(
            self._folder, self.simulator, self.clock, apps=self._apps([ENTRY]), more=MORE
        )  # fmt: skip
        self._running.start()
        self._wire = self._connected()
        return self

    def _connected(self) -> socket.socket:
        wire = socket.socket(socket.AF_UNIX)
        wire.settimeout(20)
        wire.connect(self._running.inner_unix)
        return wire

    def __exit__(self, *_: object) -> None:
        self._wire.close()
        self._running.stop()
        self._psc.stop()

    def _apps(self, rules: Sequence[draws.Rule]) -> str:
        lists: dict[str, Sequence[str]] = {}
        text = f'[apps.dossier]\norigins = ["{DOSSIER}"]\n' + draws.toml_rules("dossier", rules, lists)
        for name, ids in lists.items():
            (self._folder / name).write_text("".join(f"{each}\n" for each in ids))
        return text

    def govern(self, rules: Sequence[draws.Rule]) -> bool:
        """Reload with these rules; whether the reader took them."""
        try:
            self._running.reload(apps=self._apps(rules))
        except ConfigError:
            return False
        self._wire.close()  # a reload lets no connection go on under the old rules
        self._wire = self._connected()
        return True

    def sign_in(self) -> None:
        """One more person, the oldest leaves the pool."""
        person = draws.a_person(self.random)
        name = f"somebody-{self.tally.people}"
        self.tally.people += 1
        self.simulator.people[name] = Person(label=name, userinfo=draws.userinfo(person, f"sub-{name}"))
        browser = Browser()
        answer = self._running.sign_in(
            browser, name, DOSSIER + "/entree", mode=person["auth_mode"], acr=person["acr"]
        )  # fmt: skip
        assert 200 == answer.status, answer.text
        del self.simulator.people[name]
        person["auth_time"] = int(self.clock.now)
        self.people = [*self.people[-PEOPLE + 1 :], Somebody(person, browser.cookies(HOST).encode())]

    def ask(self, asked: Sequence[tuple[Somebody, bytes, bytes]]) -> Iterator[tuple[int, dict[str, str]]]:
        """What the program says about each (who, method, target); IN_FLIGHT are sent before the first answer is read."""
        got = b""
        for number in range(len(asked)):
            if number % IN_FLIGHT == 0:
                self._wire.sendall(b"".join(a_head(*each) for each in asked[number : number + IN_FLIGHT]))
            while b"\r\n\r\n" not in got:
                more = self._wire.recv(1 << 16)
                assert more, f"the door closed: {got!r}"
                got += more
            head, _, got = got.partition(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            pairs = (line.split(": ", 1) for line in lines)
            told = {name: value for name, value in pairs if name.startswith("X-PSC-") and name != "X-PSC-Reference"}
            yield int(first[9:12]), told

    def round(self) -> None:
        """One policy, a few people and nobody, a few dozen requests. Raises Disagreement."""
        self.clock.advance(self.random.randrange(20))
        rules = draws.some_rules(self.random)
        told = [ENTRY, *rules] if rules else []
        if not self.govern(told):
            self.tally.refused += 1
            return
        self.tally.policies += 1
        if told and (len(self.people) < PEOPLE or self.random.randrange(2) == 0):
            self.sign_in()
        several = [NOBODY, *self.random.sample(self.people, min(7, len(self.people)))]
        requests = [(draws.a_method(self.random), a_target(self.random)) for _ in range(REQUESTS)]
        asked = [(who, *request) for request in requests for who in several]
        now = int(self.clock.now)
        for (who, method, target), actual in zip(asked, self.ask(asked), strict=True):
            self.tally.triples += 1
            expected = expectation(told, who, method, target, now)
            if expected != actual:
                raise self.shortest(
                    rules,
                    who,
                    method,
                    target,
                    Disagreement(told, who.person, method, target, expected, actual, self._apps(told)),
                )
            self.tally.answers[str(actual[0])] += 1

    # -- making it short -------------------------------------------------------------------------------------------------------

    def shortest(
        self, rules: Sequence[draws.Rule], who: Somebody, method: bytes, target: bytes, seen: Disagreement
    ) -> Disagreement:
        """The same disagreement with whatever can go gone: rules, their parts, bytes of the request. The person stays. What is not seen again
        under the same rules came from something remembered, and stays as it was."""

        def found(some: Sequence[draws.Rule], method: bytes, target: bytes) -> Disagreement | None:
            told = [ENTRY, *some] if some else []
            if not self.govern(told):
                return None
            expected = expectation(told, who, method, target, int(self.clock.now))
            (actual,) = self.ask([(who, method, target)])
            if expected == actual:
                return None
            return Disagreement(told, who.person, method, target, expected, actual, self._apps(told))

        best = found(rules, method, target)
        if best is None:
            return seen
        while better := next(filter(None, (found(*each) for each in _smaller(rules, method, target))), None):
            best, rules, method, target = better, better.rules[1:], better.method, better.target
        return best


def _smaller(rules: Sequence[draws.Rule], method: bytes, target: bytes) -> Iterator[tuple[Any, bytes, bytes]]:
    for some in _without(list(rules)):
        yield some, method, target
    for length in (len(target) // 2, 4, 1):
        for at in range(1, len(target), max(1, length)):
            if length and target[at : at + length]:
                yield rules, method, target[:at] + target[at + length :]
    if method != b"GET":
        yield rules, b"GET", target


def _without(of: Any) -> Iterator[Any]:
    """Every value that is this one with one part gone."""
    if isinstance(of, dict):
        for key, value in of.items():
            if key not in ("paths", "open", "require"):
                yield {name: each for name, each in of.items() if name != key}
            for less in _without(value):
                yield {**of, key: less}
    elif isinstance(of, list):
        for at, value in enumerate(of):
            yield of[:at] + of[at + 1 :]
            for less in _without(value):
                yield [*of[:at], less, *of[at + 1 :]]


def expectation(
    rules: Sequence[draws.Rule], who: Somebody, method: bytes, target: bytes, now: int
) -> tuple[int, dict[str, str]]:
    """The model's answer as the wire shows it."""
    path = target.partition(b"?")[0]
    decision = policy.decide(rules or policy.without_rules(ACR_VALUES), who.person or None, method, path, now)
    if decision[0] == "open":
        return 200, headers.NOBODY
    if decision[0] == "allow":
        return 200, headers.told(who.person, decision[1])
    return (401 if decision[0] == "sign in" else 403), {}


def a_target(random: random.Random) -> bytes:
    """A path that a header can carry, now and then with a query that pretends to be another path."""
    path = draws.a_path(random).translate(None, CONTROLS)
    query = random.choice((b"", b"", b"", b"", b"?", b"?x=/public", b"?/../public/page"))
    return (path + query).rstrip(b" \t")


def a_head(who: Somebody, method: bytes, target: bytes) -> bytes:
    cookie = b"Cookie: other=1; " + who.cookie + b"\r\n" if who.cookie else b""
    return (
        b"GET /auth/nginx HTTP/1.1\r\nHost: inner\r\nX-Forwarded-Method: %b\r\nX-Forwarded-Proto: https\r\n"
        b"X-Forwarded-Host: dossier.hopital.example\r\nX-Forwarded-Uri: %b\r\n%b\r\n" % (method, target, cookie)
    )


def ask(count: int, seed: int, seconds: float | None = None) -> Tally:
    """At least `count` triples, or as many as `seconds` allow. Raises Disagreement."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, House(Path(folder), seed) as house:
        while house.tally.triples < count and (seconds is None or time.monotonic() - began < seconds):
            house.round()
        return house.tally


def share(count: int, seed: int) -> tuple[int, int, int, Counter[str]] | str:
    """One process's part of a million: (triples, policies, people, answers), or the disagreement it found."""
    try:
        tally = ask(count, seed)
    except Disagreement as found:
        return str(found)
    return tally.triples, tally.policies, tally.people, tally.answers


__all__ = ["Disagreement", "House", "Tally", "ask", "share"]
