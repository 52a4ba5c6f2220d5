"""/auth/{dialect}: read, ask the gate, speak.

For: one handler per dialect, bound when the door opens. Refuses: by default; an exception is a refusal (protocol.py answers 503). Awaits at
most once, for a ticket that is ours and not yet in memory.
"""

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from time import perf_counter
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

from forward_auth.cookies import read_cookie
from forward_auth.decision import Allow, Because, Decision, Refuse, SignIn
from forward_auth.dialects import ALLOW, NO_NAVIGATION, Answer, Dialect, Navigation, Unread, navigation
from forward_auth.errors import StoreUnavailable
from forward_auth.gate import MALFORMED, OURS, Gate, Lookup, Site
from forward_auth.inner.heads import PLAIN, Head
from forward_auth.metrics import Metrics
from forward_auth.original import Original
from forward_auth.sealing import has_ticket_form

log = logging.getLogger("forward_auth.check")
_NONE: Final[frozenset[bytes]] = frozenset()
_NO_HEADERS: Final[Mapping[bytes, bytes]] = MappingProxyType({})
_OBSERVED: Final = 64
_SAID_AGAIN: Final = 60.0  # seconds between two log lines about the same fault of a proxy


class Tickets(Protocol):
    """What a check needs of sessions.py: fetch a ticket from the store into memory (or remember that it is over), and tell of refusals."""

    async def fetch(self, lookup: Lookup, now: float) -> None: ...

    def refused(self, original: Original, ticket: bytes, decision: Refuse, now: float) -> str: ...

    def tell(self, original: Original) -> None: ...


class Reading(NamedTuple):
    """What a head says beside its target and its ticket. `somebody`: it came from a person in memory; `kind`: of request; `generation`: of the
    gate that read it; `headers`: of the head, what `Dialect.ask` reads beside `kind`."""

    site: Site
    method: bytes
    somebody: bool
    kind: Navigation
    generation: int
    headers: Mapping[bytes, bytes]


class Check:
    """The endpoint of one dialect."""

    observable = False

    def __init__(
        self,
        dialect: Dialect,
        gate: Gate,
        tickets: Tickets,
        news: Collection[object],
        cookie: bytes,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self._dialect = dialect
        self._read = dialect.read
        self._speak = dialect.speak
        self._gate = gate
        self._check = gate.check
        self._remembered = gate.remembered
        self._tickets = tickets
        self._news = news
        self._cookie = cookie
        self._clock = clock
        self._count = metrics.checks.cells[dialect.name]
        self._allowed = self._count["allowed"]
        self._open = self._count["open"]
        self._observe = metrics.check_seconds.observe
        self._served = 0
        self._said: dict[str, float] = {}

    def again(self, head: Head, target: bytes, ticket: bytes | None) -> bytes | None:
        """The answer to a head seen before with another target or ticket, or None: then the careful road reads it again. ticket: what stands
        where our cookie's value stood, whatever it is; None where the head has no such cookie."""
        reading: Reading = head.reading
        site = reading.site
        # Another generation has other rules under the same numbers, and they may have decided already: a reload is not one instant.
        if reading.generation != self._gate.generation:
            return None
        path, _, query = target.partition(b"?")
        found = site.app.paths.get((reading.method, path))
        if found is None and path.startswith(b"/") and PLAIN(path) is not None:
            found = site.app.find(reading.method, path)
        if found is None or found.rule is None or PLAIN(query) is None:
            return None
        rule = found.rule
        if ticket is not None:
            login = site.host.live.get(ticket)
            if login is not None and not rule.open:
                began = 0.0 if self._served % _OBSERVED else perf_counter()
                decision = self._remembered(login, rule, self._clock())
                if type(decision) is not Allow:
                    return None
                self._served += 1
                self._allowed[decision.app] += 1
                if began:
                    self._observe(perf_counter() - began)
                return ALLOW + decision.lines
            # Other bytes than a ticket's could be the end of a line and another one: only the careful road may read them.
            if login is None and not has_ticket_form(ticket):
                return None
        if rule.open:
            anonymous = site.anonymous
            self._open[anonymous.app] += 1
            return ALLOW + anonymous.lines
        asked = self._gate.without_session(site, ticket)
        if asked is None:
            return None
        kind = reading.kind
        self._count["unauthenticated" if kind is NO_NAVIGATION else "sign_in"][asked.app] += 1
        answer = self._dialect.ask(asked, site.origin, target, reading.headers, kind)
        return answer if type(answer) is bytes else None

    def reading(self, headers: Mapping[bytes, bytes], ticket: bytes | None) -> Reading | None:
        """What of this head does not depend on the target and the ticket; None when it is not worth, or not safe, to remember. ticket: what
        follows our cookie's name where it stands in the head; were it not the ticket, another's could stand there."""
        original = self._read(headers, _NONE)
        if isinstance(original, Unread) or not self._dialect.forwarded:
            return None
        site = self._gate.sites.get(original.origin)
        if site is None or site.preflight or read_cookie(headers.get(b"cookie"), self._cookie) != ticket:
            return None
        kept = {b"referer": headers[b"referer"]} if b"referer" in headers else _NO_HEADERS
        somebody = ticket is not None and ticket in site.host.live
        return Reading(site, original.method, somebody, navigation(original), self._gate.generation, kept)

    def serve(
        self, headers: Mapping[bytes, bytes], doubled: frozenset[bytes] | set[bytes]
    ) -> Answer | Awaitable[Answer]:
        """-> the answer, or a coroutine when the store has to be asked. One call in 64 is timed."""
        began = 0.0 if self._served % _OBSERVED else perf_counter()
        self._served += 1
        original = self._read(headers, doubled)
        if isinstance(original, Unread):
            return self._unread(original, headers)
        ticket = read_cookie(headers.get(b"cookie"), self._cookie)
        now = self._clock()
        decision = self._check(original, ticket, now)
        if type(decision) is Allow and decision.outcome == "allowed":  # the remembered road
            self._allowed[decision.app] += 1
            if began:
                self._observe(perf_counter() - began)
            if self._news:
                self._tickets.tell(original)
            return ALLOW + decision.lines  # what every dialect's speak says to an Allow, without the call
        if type(decision) is Lookup:
            return self._ask_store(original, decision, now)
        assert not isinstance(decision, Lookup)
        answer = self._conclude(original, ticket, decision, now)
        if began:
            self._observe(perf_counter() - began)
        return answer

    def failed(self) -> None:
        """An exception came out of one of the above, and was answered with 503."""
        self._count["error"][""] += 1

    async def _ask_store(self, original: Original, lookup: Lookup, now: float) -> Answer:
        decision: Decision | Lookup
        try:
            await self._tickets.fetch(lookup, now)
            decision = self._check(original, lookup.ticket, now)
        except StoreUnavailable as error:
            self._say(error.code, "the store cannot be asked, the check was refused: %s", error.detail)
            decision = OURS
        if isinstance(
            decision, Lookup
        ):  # fetched, and yet not there: memory was turned over in between; never ask twice
            decision = OURS
        return self._conclude(original, lookup.ticket, decision, now)

    def _conclude(self, original: Original, ticket: bytes | None, decision: Decision, now: float) -> Answer:
        """Count, tell the log what the operator can mend, speak."""
        if type(decision) is Allow:
            self._count[decision.outcome][decision.app] += 1
            if self._news:
                self._tickets.tell(original)
        elif type(decision) is SignIn:
            kind = navigation(original)
            self._count["unauthenticated" if kind is NO_NAVIGATION else "sign_in"][decision.app] += 1
            return self._dialect.ask(decision, original.origin, original.target, original.headers, kind)
        elif type(decision) is Refuse:
            if decision.because in (Because.RULE, Because.NO_RULE):
                if ticket is not None and decision.because is Because.RULE:
                    decision = replace(decision, reference=self._tickets.refused(original, ticket, decision, now))
                self._count["forbidden"][decision.app] += 1
            elif decision.because is Because.OURS:
                self._count["error"][""] += 1
            else:
                self._count["refused"][decision.app] += 1
                self._explain(original, decision)
        return self._speak(decision, original)

    def _unread(self, unread: Unread, headers: Mapping[bytes, bytes]) -> Answer:
        self._count["refused"][""] += 1
        self._say(
            "unread " + unread.header,
            "%s: the proxy did not tell the original request: %s: %s",
            self._dialect.name,
            unread.header,
            unread.cure,
        )
        return self._speak(MALFORMED, Original("", b"", b"", None, b"", headers))

    def _explain(self, original: Original, decision: Refuse) -> None:
        if decision.because is Because.UNKNOWN_HOST:
            self._say(
                "unknown_host",
                "no app has the origin %.200r; add it to apps.NAME.origins, or correct what the proxy sends",
                original.origin,
            )
        elif decision.because is Because.MISROUTED:
            self._say(
                "misrouted " + decision.app,
                "route /psc/ to the outer door: a check arrived for it (app %s)",
                decision.app,
            )
        else:
            self._say(
                "malformed " + decision.app, "refused a malformed request for app %s: %s", decision.app, decision.detail
            )

    def _say(self, subject: str, text: str, *values: object) -> None:
        """At most once a minute for each subject: a proxy that is wrong is wrong for every request."""
        now = self._clock()
        if now - self._said.get(subject, -_SAID_AGAIN) >= _SAID_AGAIN:
            if len(self._said) > 1000:
                self._said.clear()
            self._said[subject] = now
            log.warning(text, *values)
