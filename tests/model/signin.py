"""What a check answers, and where a click ends: contract §4 and §5, decisions 3, 10, 13, 15, 22, 26, 40.

The world as the model sees it: rules, people as PSC tells of them, the session that each browser has at PSC, and `Sessions`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from model import headers, policy
from model.session import ABSOLUTE, Login, Sessions

ORIGIN = "https://auth.hopital.example"
LEAST_REMAINING = 5 * 60


@dataclass(frozen=True)
class Answer:
    """What a proxy hears. `location`: None, or what the query of the address of /start must hold (`to`, and more by `may`, `must`)."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    location: Mapping[str, str] | None = None
    may: frozenset[str] = frozenset()
    must: frozenset[str] = frozenset()


@dataclass
class Visit:
    """The session of a browser at PSC: single sign-on until it ends."""

    person: str
    auth_time: int
    mode: str
    acr: str
    started: int
    sid: str


def person_of(userinfo: Mapping[str, Any]) -> dict[str, Any]:
    """A person as rules and headers see them: one situation for each activity of each exercice (psc.md §4)."""
    situations = []
    for exercice in (userinfo.get("SubjectRefPro") or {}).get("exercices", []):
        for activity in exercice.get("activities") or [{}]:
            ids = [
                activity.get(name, "")
                for name in (
                    "identifiantTechniqueDeLaStructure", "numeroFinessSite", "numeroFinessetablissementJuridique",
                    "numeroSiretSite", "numeroSirenSite", "ancienIdentifiantDeLaStructure",
                )
            ]  # fmt: skip
            situations.append(
                {
                    "profession": exercice.get("codeProfession", ""),
                    "category": exercice.get("codeCategorieProfessionnelle", ""),
                    "speciality": exercice.get("codeSavoirFaire", ""),
                    "role": activity.get("codeRole", ""),
                    "sector": activity.get("codeSecteurDactivite", ""),
                    "mode": activity.get("codeModeExercice", ""),
                    "structures": [one for one in ids if one],
                    "structure": ids[0],
                    "structure_name": activity.get("raisonSocialeSite", ""),
                    "given_name": exercice.get("prenomDexercice", ""),
                    "family_name": exercice.get("nomDexercice", ""),
                }
            )
    return {
        "national_id": userinfo["SubjectNameID"],
        "given_name": userinfo.get("given_name", ""),
        "family_name": userinfo.get("family_name", ""),
        "situations": situations,
    }


@dataclass
class World:
    """`rules`: app's origin -> its rules; `people`: name -> userinfo; `background`: paths that count as nothing."""

    rules: dict[str, Sequence[policy.Rule]]
    people: Mapping[str, Mapping[str, Any]]
    background: frozenset[str] = frozenset()
    sessions: Sessions = field(default_factory=Sessions)
    visits: dict[str, Visit] = field(default_factory=dict)

    # -- a check -----------------------------------------------------------------------------------------------------------

    def check(
        self,
        browser: str,
        url: str,
        now: float,
        *,
        method: str = "GET",
        navigation: bool = True,
        redirects: bool = False,
    ) -> Answer:
        """`redirects`: the dialect hands a redirect of ours to the browser."""
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        if origin not in self.rules:
            return Answer(403)
        login = self.sessions.live(browser, parts.netloc, now)
        person = None if login is None else self._facts(login)
        rules = self.rules[origin] or policy.without_rules()
        decision = policy.decide(rules, person, method.encode(), parts.path.encode(), int(now))
        if decision[0] == "open":
            return Answer(200, headers.NOBODY)
        if decision[0] == "refuse":
            return Answer(403)
        if decision[0] == "allow":
            assert login is not None
            assert person is not None
            if parts.path not in self.background:
                self.sessions.used(login, now)
            return Answer(200, headers.told(person, decision[1]))
        return self._sign_in(browser, url, method, navigation, redirects, step_up=login is not None)

    def _sign_in(
        self, browser: str, url: str, method: str, navigation: bool, redirects: bool, *, step_up: bool
    ) -> Answer:
        if not navigation:
            return Answer(401)
        parts = urlsplit(url)
        simple = method in ("GET", "HEAD")
        to = url if simple else f"{parts.scheme}://{parts.netloc}/"
        wanted = {"to": to} if simple else {"to": to, "lost": "1"}
        may: set[str] = set()
        must: set[str] = set()
        ended = self.sessions.tickets.get((browser, parts.netloc))
        if step_up:
            must.add("max_age")
        elif ended is not None:  # a ticket whose login is over: the page says so, once, unless its person left
            (may if ended.left else must).add("why")
        status = 401 if not redirects else 302 if simple else 303
        return Answer(status, {}, wanted, frozenset(may), frozenset(must))

    def _facts(self, login: Login) -> dict[str, Any]:
        known = person_of(self.people[login.person])
        return known | {"acr": login.acr, "auth_mode": login.mode, "auth_time": login.auth_time}

    # -- a click, followed to its end --------------------------------------------------------------------------------------

    def may_pass_silently(self, browser: str, url: str, now: int) -> bool:
        """Whether a click would come back from PSC without anybody being asked anything."""
        visit = self.visits.get(browser)
        step_up = self.sessions.live(browser, urlsplit(url).netloc, now) or self.sessions.live(browser, HOST, now)
        return (
            visit is not None
            and step_up is None
            and now - visit.started < ABSOLUTE
            and visit.auth_time + ABSOLUTE - now >= LEAST_REMAINING
        )

    def click(self, browser: str, url: str, person: str, now: int, *, sid: str, fault: bool = False) -> int:
        """Follow every redirect, `person` signing in wherever PSC asks ("" : single sign-on). `sid`: what PSC calls that session. `fault`:
        PSC's answer cannot be believed. -> the status of what is shown at the end, 0 for a page of ours that reports an error."""
        host = urlsplit(url).netloc
        for _ in range(4):
            answer = self.check(browser, url, now)
            if answer.location is None:
                return answer.status
            login = self.sessions.live(browser, HOST, now)
            if login is None or "max_age" in answer.must:
                visit = self._at_psc(browser, person, now, sid)
                if fault:
                    return 0
                sub = str(self.people[visit.person]["sub"])
                new = Login(visit.person, sub, visit.sid, visit.auth_time, visit.mode, visit.acr, now)
                login = self.sessions.begin(browser, HOST, new, now)
                if login is None:
                    return 0
            self.sessions.hand_off(browser, login, host)
        raise AssertionError("a loop")

    def _at_psc(self, browser: str, person: str, now: int, sid: str) -> Visit:
        visit = self.visits.get(browser)
        if not person:
            assert visit is not None
            return visit
        if visit is not None and visit.person == person and now - visit.started < ABSOLUTE:
            visit.auth_time = now  # the same session, authenticated anew
            return visit
        self.visits[browser] = Visit(person, now, "CARD", "eidas1", now, sid)
        return self.visits[browser]

    def left_psc(self, person: str) -> None:
        """Every session of that person at PSC is over."""
        self.visits = {browser: visit for browser, visit in self.visits.items() if visit.person != person}


HOST = urlsplit(ORIGIN).netloc


def location_fits(answer: Answer, location: str) -> bool:
    """The shape of a Location: of /start at the origin, with exactly what was expected of it."""
    if answer.location is None:
        return location == ""
    parts = urlsplit(location)
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    said = dict(pairs)
    known = answer.location.keys() | answer.must | answer.may
    return (
        f"{parts.scheme}://{parts.netloc}{parts.path}" == ORIGIN + "/psc/start"
        and len(said) == len(pairs)
        and answer.location.items() <= said.items()
        and answer.must <= said.keys() <= known
        and said.get("why", "ended") == "ended"
    )
