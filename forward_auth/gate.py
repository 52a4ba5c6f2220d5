"""The hot path: may this request pass? No waiting, no network, no clock of its own.

For: `Gate.check(original, ticket, now)`, which answers from memory, or says which ticket to fetch from the store first. Refuses:
everything it has no reason to allow. This is the only file of the program that makes an Allow (law; counted by tests/test_rooms.py).

The remembered road is `remembered`: two dictionaries, three comparisons, after the site and the rule were looked up. Everything else is taken once per login and
rule, once per half minute, or by those who do not get in.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from forward_auth.decision import Allow, Because, Decision, Refuse, SignIn, Why
from forward_auth.headers import HeaderPlan
from forward_auth.identity import Identity, Situation
from forward_auth.logins import Host, Login, Memory, Remembered
from forward_auth.original import Original
from forward_auth.policy import App, Found, Rule, judge
from forward_auth.sealing import Found as FoundTicket
from forward_auth.sealing import KeyRing

PURPOSE: Final = "ticket"
_REMEMBERED_OVER: Final = 4096  # of a site; about 200 bytes each

UNKNOWN_HOST: Final = Refuse(Because.UNKNOWN_HOST)
MALFORMED: Final = Refuse(Because.MALFORMED)
OURS: Final = Refuse(Because.OURS)


class Lookup(NamedTuple):
    """Not a decision: this ticket is ours and not in memory. Fetch it from the store once, then ask the gate again."""

    host: Host
    ticket: bytes
    found: FoundTicket


class Site:
    """One origin of an app, with all that a check of it needs."""

    __slots__ = (
        "anonymous",
        "app",
        "host",
        "idle",
        "misrouted",
        "no_rule",
        "origin",
        "over",
        "plan",
        "preflight",
        "sign_in",
        "sign_in_again",
    )

    def __init__(
        self, origin: str, host: Host, app: App, plan: HeaderPlan, *, idle: int | None, preflight: bool
    ) -> None:
        self.origin = origin
        self.host = host
        self.app = app
        self.plan = plan
        # None: as the login's. Never below a minute: the remembered road looks at no limit for half a minute.
        self.idle = idle
        self.preflight = preflight
        self.anonymous = _allow(plan, app.name, None, None, "open")
        self.no_rule = Refuse(Because.NO_RULE, app.name)
        self.misrouted = Refuse(Because.MISROUTED, app.name)
        self.sign_in = SignIn(Why.NO_SESSION, app.name)
        self.sign_in_again = SignIn(Why.ENDED, app.name)
        # Tickets of ours that open nothing any more: what is said to who sends them.
        self.over: dict[bytes, SignIn] = {}


class Gate:
    """Decides. `sites`: canonical origin -> Site; replaced as a whole on reload."""

    def __init__(self, sites: Mapping[str, Site], memory: Memory, ring: KeyRing) -> None:
        self._sites = sites
        self._memory = memory
        self._ring = ring
        self.generation = 1

    @property
    def sites(self) -> Mapping[str, Site]:
        return self._sites

    def replace(self, sites: Mapping[str, Site], ring: KeyRing) -> None:
        """New rules, lists or keys: no decision made before stands any more."""
        self._sites = sites
        self._ring = ring
        self.generation += 1

    def check(self, original: Original, ticket: bytes | None, now: float) -> Decision | Lookup:
        """The decision about one request. ticket: the value of our cookie, None when there is none or it stands twice."""
        site = self._sites.get(original.origin)
        if site is None:
            return UNKNOWN_HOST
        found = site.app.find(original.method, original.path)
        rule = found.rule
        if rule is not None and ticket is not None:
            login = site.host.live.get(ticket)
            if login is not None:
                decision = self.remembered(login, rule, now)
                if decision is not None:
                    return decision
        return self._check(site, found, original, ticket, now)

    def remembered(self, login: Login, rule: Rule, now: float) -> Decision | None:
        """The remembered road: what was decided for this login, found by its ticket in memory, and this rule, while nothing that decided has
        changed. An allow counts as activity, so an answer from here is given, not only looked at."""
        if now < login.check_after:
            remembered = login.decisions.get(rule.id)
            if remembered is not None and now < remembered.until and remembered.generation == self.generation:
                if type(remembered.decision) is Allow:
                    login.seen = now
                return remembered.decision
        return None

    def without_session(self, site: Site, ticket: bytes | None) -> SignIn | None:
        """What to answer when this ticket opens nothing, whatever the store holds: absent, without our tag, or known to be over. None when
        that is not certain. A ticket never comes to life, so the answer stands for this generation."""
        if ticket is None:
            return site.sign_in
        over = site.over.get(ticket)
        if over is not None:
            return over
        found = self._ring.read_ticket(ticket, PURPOSE, site.host.name)
        if found is None:
            return site.sign_in  # not remembered: strangers can make as many of these as they like
        over = self._over(site, found)
        if over is not None:
            if len(site.over) >= _REMEMBERED_OVER:
                site.over.clear()
            site.over[ticket] = over
        return over

    def _over(self, site: Site, found: FoundTicket) -> SignIn | None:
        by_itself = self._memory.ended_ticket(found.digest)
        return None if by_itself is None else site.sign_in_again if by_itself else site.sign_in

    # -- the rest is not hot ---------------------------------------------------------------------------------------------------

    def _check(
        self, site: Site, found: Found, original: Original, ticket: bytes | None, now: float
    ) -> Decision | Lookup:
        if found.malformed:
            return Refuse(Because.MALFORMED, site.app.name, detail="the original path or method is malformed")
        if found.misrouted:
            return site.misrouted
        if site.preflight and original.method == b"OPTIONS" and _is_preflight(original.headers):
            return site.anonymous
        if found.rule is not None:
            rules: tuple[Rule, ...] = (found.rule,)
            if found.rule.open:
                return site.anonymous
        elif found.rules:
            rules = found.rules
        else:
            return site.no_rule
        login = self._live(site, ticket, now) if ticket is not None else site.sign_in
        if not isinstance(login, Login):
            return login
        if site.idle is not None and now - login.seen > site.idle and now - login.auth_time > site.idle:
            return SignIn(Why.STEP_UP, site.app.name, (), site.idle)
        for rule in rules:  # a path with two readings: the first rule that says no is the answer
            decision = self._decide(site, rule, login, now)
            if not isinstance(decision, Allow):
                return decision
        if not found.background:
            self._used(site, login, now)
        return decision

    def _live(self, site: Site, ticket: bytes, now: float) -> Login | Decision | Lookup:
        """The live login of this ticket, or what to answer instead."""
        login = self._memory.find(site.host, ticket)
        if login is not None and login.over(now):
            self._memory.forget(login.id)
            found = self._ring.read_ticket(ticket, PURPOSE, site.host.name)
            if found is not None:
                self._memory.remember_ended(found.digest)
            return site.sign_in_again
        if login is not None:
            return login
        found = self._ring.read_ticket(ticket, PURPOSE, site.host.name)
        if found is None:
            return site.sign_in
        return self._over(site, found) or Lookup(site.host, ticket, found)

    def _decide(self, site: Site, rule: Rule, login: Login, now: float) -> Decision:
        remembered = login.decisions.get(rule.id)
        if remembered is not None and now < remembered.until and remembered.generation == self.generation:
            return remembered.decision
        verdict = judge(rule.require, login.identity, int(now))
        decision: Decision
        if verdict.held:
            decision = _shared(login, _allow(site.plan, site.app.name, login.identity, verdict.situation, "allowed"))
        elif verdict.step_up:
            decision = SignIn(Why.STEP_UP, site.app.name, verdict.acr, verdict.max_age)
        else:
            decision = Refuse(Because.RULE, site.app.name, rule.number)
        login.decisions[rule.id] = Remembered(decision, min(login.ends, verdict.until), self.generation)
        return decision

    def _used(self, site: Site, login: Login, now: float) -> None:
        """An allowed check that counts as activity."""
        login.seen = max(login.seen, now)
        if login.touch_due(now):
            login.touched = now
            self._memory.to_touch[login.id] = login
        if login.renew_after is not None and now >= login.renew_after:
            self._memory.to_renew[login.id] = login
        if site.app.name not in login.entered:
            login.entered |= {site.app.name}
            self._memory.news.append((site.app.name, login))
        login.check_after = login.next_look(now)


def _is_preflight(headers: Mapping[bytes, bytes]) -> bool:
    """Fetch Standard §4.8: what a browser sends of its own accord before a cross-origin request. It carries no credentials."""
    return b"origin" in headers and b"access-control-request-method" in headers


def _allow(plan: HeaderPlan, app: str, identity: Identity | None, situation: Situation | None, outcome: str) -> Allow:
    """THE place where an Allow is made."""
    return Allow(plan.render(identity, situation), outcome, app)


def _shared(login: Login, allow: Allow) -> Allow:
    """The same object for all rules of a login that say the same, so that many rules do not cost many headers."""
    for remembered in login.decisions.values():
        if remembered.decision == allow and isinstance(remembered.decision, Allow):
            return remembered.decision
    return allow
