"""What is true at each moment, and whether an answer agrees with it: the judge of the long run.

For: who is signed in on which host, which rules hold, which fault is on; one verdict for each answer. Between two events there is one right answer. While a sign-out
is under way, or while rules are being changed, both are right; after the answer to a sign-out no new request may pass. While a fault is on an answer may fail
(5xx, or none), but it may never be a wrong one. Refuses: to know anything of the program; the rules are told here a second time.
"""

import random
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from soak.people import HOSTS, Visitor
from soak.wire import Ask

ALLOW, OUT, NO, BAD, FAIL = (
    "allow",
    "out",
    "no",
    "bad",
    "fail",
)  # passes; signs in first; refused; no request at all; 5xx or nothing
CLASSES = {200: ALLOW, 401: OUT, 302: OUT, 303: OUT, 403: NO, 400: BAD, 405: BAD, 414: BAD, 431: BAD}

TABLE = {  # (app, writes, rules) -> one of these professions; None: whoever is signed in
    ("dossier", False, "wide"): None,
    ("dossier", True, "wide"): None,
    ("dossier", False, "narrow"): frozenset({"10"}),
    ("dossier", True, "narrow"): frozenset({"10"}),
    **{("prescription", False, rules): frozenset({"10", "40", "50"}) for rules in ("wide", "narrow")},
    **{("prescription", True, rules): frozenset({"10"}) for rules in ("wide", "narrow")},
}

# What nobody may reach without a session on «prescription», however it is spelt.
ODD = (
    b"/public", b"/PUBLIC/x", b"/public/../x", b"/public/%2e%2e/x", b"/public/%2E./x", b"//public/x", b"/public//x", b"/public/;x", b"/public/..;/x",
    b"/public\\x", b"/public/%5cx", b"/public/%2fx", b"/public/%252e%252e/x", b"/public/%00", b"/x?/public/", b"/x#/public/", b"/public/%zz", b"/%70ublic/../x",
    b"/public/./x", b"/.//public/x", b"/public/\xe9", b"/x/public/",
)  # fmt: skip

FORGED_LINES = (
    b"X-PSC-Subject: 899700000001\r\nX-PSC-RPPS: 99700000001\r\n",
    b"X_PSC_Subject: 899700000001\r\nX.PSC.Subject: 899700000001\r\n",
    b"X-Forwarded-Host: prescription.autre.example\r\nX-Forwarded-Uri: /public/x\r\n",
    b"X-Original-URL: /public/x\r\nX-Rewrite-URL: /public/x\r\nX-HTTP-Method-Override: GET\r\n",
    b"Connection: keep-alive, X-Forwarded-Host, X-Forwarded-Uri, X-PSC-Subject\r\nx-psc-subject: 899700000001\r\n",
    b"Authorization: Bearer eyJhbGciOiJub25lIn0.e30.\r\nX-Forwarded-User: admin\r\nRemote-User: admin\r\n",
    b"X-Forwarded-Method: GET\r\nX-Forwarded-Proto: https\r\nForwarded: host=prescription.autre.example\r\n",
)


class About:
    """What the judge must remember of one request. `kind`: own, open, never (may not pass), ended (may not pass: the session was ended)."""

    __slots__ = ("app", "kind", "name", "proxied", "rules", "state", "version", "visitor", "writes")

    def __init__(
        self,
        kind: str,
        name: str,
        proxied: bool,
        visitor: Visitor | None = None,
        app: str = "",
        writes: bool = False,
        rules: tuple[str, ...] = (),
    ) -> None:
        self.kind, self.name, self.proxied, self.visitor, self.app, self.writes, self.rules = (
            kind, name, proxied, visitor, app, writes, rules,
        )  # fmt: skip
        self.state = visitor.state if visitor is not None else ""
        self.version = visitor.version if visitor is not None else 0


class World:
    """The truth, the traffic made from it, and the counts. `clock`: monotonic seconds."""

    def __init__(self, visitors: list[Visitor], chance: random.Random, clock: Callable[[], float]) -> None:
        self.visitors = visitors
        self.inside: list[Visitor] = []
        self.ended: deque[tuple[str, str]] = deque(maxlen=4000)
        self.secrets: set[str] = set()
        self.rules: tuple[str, ...] = ("wide",)  # those that may be in force now
        self.fault = self.last_fault = ""
        self.fault_end = 0.0
        self.answers = 0
        self.hostile = 0
        self.kinds: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.in_fault = 0
        self.examples: list[str] = []
        self.chance = chance
        self.clock = clock
        self.sizes: int = 64  # of a ticket
        self._number = 0
        self._direct = {app: _direct(host) for app, host in HOSTS.items()}
        self._proxied = {app: f" HTTP/1.1\r\nHost: {host}\r\n".encode() for app, host in HOSTS.items()}

    # -- events ----------------------------------------------------------------------------------------------------------------

    def entered(self, visitor: Visitor) -> None:
        visitor.turn("in")
        self.secrets.update(visitor.tickets.values())
        self.sizes = len(next(iter(visitor.tickets.values())))
        for app, ticket in visitor.tickets.items():
            line = f"Cookie: theme=dark; __Host-psc={ticket}; JSESSIONID=0123456789\r\n".encode()
            visitor.heads[app] = (line, ticket.encode())
        self.inside.append(visitor)

    def leaves(self, visitor: Visitor) -> None:
        """The sign-out is sent: from now until it is acknowledged both answers are right."""
        visitor.turn("leaving")

    def left(self, visitor: Visitor) -> None:
        """It is acknowledged: nothing that is sent from now on may pass."""
        visitor.turn("out")
        visitor.out_version, visitor.out_at = visitor.version, self.clock()
        self.inside.remove(visitor)
        self.ended.extend(visitor.tickets.items())

    def over(self, visitor: Visitor) -> None:
        """A limit of the session has passed; the visitor is not among `inside` any more."""
        visitor.turn("out")
        visitor.out_version, visitor.out_at = visitor.version, self.clock()
        self.ended.extend(visitor.tickets.items())

    @contextmanager
    def trouble(self, name: str) -> Iterator[None]:
        """A fault under which answers may fail."""
        self.fault = self.last_fault = name
        self.counts["fault " + name] += 1
        try:
            yield
        finally:
            self.fault = ""
            self.fault_end = self.clock() + 0.5

    # -- traffic ---------------------------------------------------------------------------------------------------------------

    def ask(self, proxied: bool) -> Ask:
        """The next request: seven in ten as people make them, three in ten as nobody should."""
        draw = self.chance.random()
        inside = self.inside
        if draw < 0.46 and inside:
            return self.own(inside[int(self.chance.random() * len(inside))], proxied, writes=draw < 0.08)
        if draw < 0.58:
            return self._from("never", "stranger", proxied, "dossier" if draw < 0.52 else "prescription")
        if draw < 0.70:
            return self._from("open", "open path", proxied, "prescription", path=b"/public/logo.png")
        self.hostile += 1
        return self._hostile(draw, proxied)

    def own(
        self, visitor: Visitor, proxied: bool, *, writes: bool = False, more: bytes = b"", name: str = "own"
    ) -> Ask:
        app = "dossier" if self.chance.random() < 0.6 else "prescription"
        if app not in visitor.heads:
            app = "dossier"
        self._number += 1
        about = About("own", name, proxied, visitor, app, writes, self.rules)
        path = b"/patients/%d?tab=lab" % (self._number % 5000)
        return Ask(self._bytes(app, path, proxied, visitor.heads[app][0] + more, writes), about)

    def _from(
        self, kind: str, name: str, proxied: bool, app: str, *, cookie: bytes = b"", path: bytes = b"/patients/1", more: bytes = b""
    ) -> Ask:  # fmt: skip
        lines = more + (b"Cookie: theme=dark; " + cookie + b"\r\n" if cookie else b"")
        return Ask(self._bytes(app, path, proxied, lines, False), About(kind, name, proxied, None, app))

    def _bytes(self, app: str, path: bytes, proxied: bool, lines: bytes, writes: bool) -> bytes:
        if proxied:
            if writes:
                return b"POST " + path + self._proxied[app] + lines + b"Content-Length: 2\r\n\r\n{}"
            return b"GET " + path + self._proxied[app] + lines + b"Accept: text/html\r\n\r\n"
        get, post = self._direct[app]
        return (post if writes else get) + path + b"\r\n" + lines + b"Accept: text/html\r\n\r\n"

    def forged(self) -> bytes:
        """A ticket that nobody made, another each time."""
        self._number += 1
        return b"AQ" + b"%0*d" % (self.sizes - 2, self.chance.getrandbits(120) + self._number)

    def bogus(self) -> Ask:
        return self._from("never", "flood", False, "dossier", cookie=b"__Host-psc=" + self.forged())

    def _hostile(self, draw: float, proxied: bool) -> Ask:
        app = "dossier" if self.chance.random() < 0.5 else "prescription"
        inside = self.inside
        one = inside[int(self.chance.random() * len(inside))] if inside else None
        if draw < 0.76 or one is None:
            return self._from("never", "forged ticket", proxied, app, cookie=b"__Host-psc=" + self.forged())
        if draw < 0.82 and self.ended:
            app, ticket = self.ended[int(self.chance.random() * len(self.ended))]
            return self._from("ended", "ended ticket", proxied, app, cookie=b"__Host-psc=" + ticket.encode())
        _, ticket_of = one.heads[app] if app in one.heads else one.heads["dossier"]
        if draw < 0.85:
            other = "prescription" if app == "dossier" else "dossier"
            if app not in one.heads:
                other = "prescription"
            return self._from("never", "ticket of another host", proxied, other, cookie=b"__Host-psc=" + ticket_of)
        if draw < 0.88:
            place = 3 + int(self.chance.random() * (len(ticket_of) - 4))
            changed = b"B" if ticket_of[place : place + 1] != b"B" else b"C"
            bent = ticket_of[:place] + changed + ticket_of[place + 1 :]
            where = app if app in one.heads else "dossier"
            return self._from("never", "bent ticket", proxied, where, cookie=b"__Host-psc=" + bent)
        if draw < 0.90:
            both = b"__Host-psc=" + ticket_of + b"; __Host-psc=" + self.forged()
            return self._from("never", "two tickets", proxied, app if app in one.heads else "dossier", cookie=both)
        if draw < 0.95:
            lines = FORGED_LINES[int(self.chance.random() * len(FORGED_LINES))]
            if not proxied:  # a proxy of ours never sends a header of the original request twice: what does is refused
                lines = FORGED_LINES[int(self.chance.random() * 2)]
            if draw < 0.92:
                return self.own(one, proxied, more=lines, name="own, forged headers")
            return self._from("never", "forged headers", proxied, "dossier", more=lines)
        if draw < 0.98:
            return self._from(
                "never", "odd path", proxied, "prescription", path=ODD[int(self.chance.random() * len(ODD))]
            )
        if proxied:
            return self._from(
                "never", "name like ours", proxied, app, cookie=b"x__Host-psc=" + ticket_of + b"; psc=" + ticket_of
            )
        twice = (
            b"X-Forwarded-Host: prescription.autre.example\r\n",
            b"X-Forwarded-Uri: /public/x\r\n",
            b"X-Forwarded-Method: GET\r\n",
        )
        lines = twice[int(self.chance.random() * 3)]
        return self._from("never", "original stated twice", proxied, "prescription", more=lines, path=b"/x")

    # -- the judge -------------------------------------------------------------------------------------------------------------

    def heard(self, ask: Ask, status: int, head: bytes, body: bytes) -> None:
        """The verdict on one answer."""
        about: About = ask.about
        self.answers += 1
        self.kinds[about.name] += 1
        said = CLASSES.get(status, FAIL)
        troubled = bool(self.fault) or ask.sent < self.fault_end
        if troubled:
            self.in_fault += 1
        if said is FAIL:
            if troubled:
                self.counts["failed: " + (self.fault or self.last_fault)] += 1
            self._count("failed in a fault" if troubled else "failed", ask, status, head)
            return
        if said is ALLOW:
            if about.proxied:
                if not body.startswith(b"app sub="):
                    self._count("wrong page", ask, status, body)
                    return
                subject = body[8 : body.find(b";")]
                if b"__Host-psc" in body:
                    self._count("ticket at the application", ask, status, body)
            else:
                at = head.find(b"\r\nX-PSC-Subject: ")
                subject = head[at + 17 : head.find(b"\r\n", at + 4)] if at >= 0 else b""
            if about.kind == "own":
                visitor = about.visitor
                assert visitor is not None
                if subject != visitor.subject.encode():
                    self._count("cross-user", ask, status, subject)
                elif about.version < visitor.out_version and ask.sent > visitor.out_at:
                    self._count("lost sign-out", ask, status, head)
                elif not self._entitled(about):
                    self._count("wrong allow", ask, status, head)
            elif about.kind == "open":
                if subject:
                    self._count("cross-user", ask, status, subject)
            else:
                self._count("lost sign-out" if about.kind == "ended" else "wrong allow", ask, status, head)
            return
        if about.kind == "open":
            self._denied(ask, status, head, troubled)
        elif about.kind == "own":
            visitor = about.visitor
            assert visitor is not None
            if said is OUT:
                if about.version == visitor.version and about.state == "in":
                    self._denied(ask, status, head, troubled)
            elif said is BAD or not self._refused(about):
                self._denied(ask, status, head, troubled)

    def _possible(self, about: About) -> set[str]:
        return {*about.rules, *self.rules}

    def _entitled(self, about: About) -> bool:
        """Whether some rules that may have held while it was under way let this professional in."""
        assert about.visitor is not None
        wanted = [TABLE[about.app, about.writes, rules] for rules in self._possible(about)]
        return any(each is None or each & about.visitor.professions for each in wanted)

    def _refused(self, about: About) -> bool:
        """Whether some rules that may have held keep this professional out."""
        assert about.visitor is not None
        wanted = [TABLE[about.app, about.writes, rules] for rules in self._possible(about)]
        return any(each is not None and not each & about.visitor.professions for each in wanted)

    def _denied(self, ask: Ask, status: int, head: bytes, troubled: bool) -> None:
        self._count("wrong deny in a fault" if troubled else "wrong deny", ask, status, head)

    def _count(self, what: str, ask: Ask, status: int, shown: bytes) -> None:
        self.counts[what] += 1
        if what != "failed in a fault" and len(self.examples) < 40 and self.counts[what] <= 5:
            about: About = ask.about
            who = about.visitor.name if about.visitor is not None else "-"
            via = "nginx" if about.proxied else "direct"
            first = shown[:160].decode("latin-1").replace("\r\n", " | ")
            took = self.clock() - ask.sent
            self.examples.append(
                f"{what}: {about.name} by {who} at {about.app}{' (write)' if about.writes else ''}, {via}, rules {'/'.join(self._possible(about))},"
                f" {self.fault or 'no fault'}, {took * 1000:.0f} ms: {status} {first}"
            )


def _direct(host: str) -> tuple[bytes, bytes]:
    """GET and POST as nginx states them to the inner door, up to the path."""
    heads = [
        f"GET /auth/nginx HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-Method: {method}\r\nX-Forwarded-Proto: https\r\n"
        f"X-Forwarded-Host: {host}\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Uri: ".encode()
        for method in ("GET", "POST")
    ]
    return heads[0], heads[1]


def smuggling(live: bytes, proxied: bool) -> list[bytes]:
    """Shapes of one request that hide another, or none, behind a stranger's; `live`: lines with a ticket that would pass. No answer to any may be 200. To nginx only
    those whose hidden part is a body for it: what nginx itself takes for a second request is one, with a check of its own."""
    get, _ = _direct(HOSTS["dossier"])
    stranger = get + b"/x\r\n"
    hidden = get + b"/x\r\n" + live + b"\r\n"
    size = b"Content-Length: %d\r\n" % len(hidden)
    bodies = [
        stranger + size + b"\r\n" + hidden,
        stranger + size + b"Content-Length: 0\r\n\r\n" + hidden,
        stranger + size + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden,
        stranger + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(hidden) + hidden + b"\r\n0\r\n\r\n",
        stranger + b"Expect: 100-continue\r\n" + size + b"\r\n" + hidden,
        stranger + b"Host: prescription.autre.example\r\n" + live + b"\r\n",
        stranger + b"X: " + b"y" * 70_000 + b"\r\n" + live + b"\r\n",
    ]
    if proxied:
        return bodies
    return [
        *bodies,
        stranger + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + hidden,
        stranger + b"Transfer-Encoding: xchunked\r\n\r\n" + hidden,
        stranger + b"X: y\r\n " + live + b"\r\n",
        stranger.replace(b"\r\n", b"\n") + live + b"\n",
        stranger
        + b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
        + hidden,
        stranger + b"".join(b"X%d: y\r\n" % number for number in range(200)) + live + b"\r\n",
        stranger + b"X: \x00\r\n" + live + b"\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + hidden,
        stranger.replace(b"HTTP/1.1", b"HTTP/1.2") + b"X\rY: z\r\n" + live + b"\r\n",
    ]
