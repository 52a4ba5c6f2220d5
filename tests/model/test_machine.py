"""The real program and the model live through the same day: whatever happens in whatever order, they give the same answers.

Two processes on one store, a few browsers and people, two apps on two domains. Sign-ins, sign-outs, back-channel logouts, reloads, leaps of the clock,
restarts, SIGKILL, answers of PSC that must not be believed. After each step every browser asks every process about every app, on a path that counts as no
activity; status, every identity header and the shape of Location must be the model's. An end may take the other process a second.
`make witness` lets it live longer.
"""

import html
import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from running import DOSSIER, ORIGIN, PRESCRIPTION, Browser

from forward_auth.simulator import people
from model import draws, headers
from model.house import Clinic, Node
from model.signin import Answer, World, location_fits

SEED = int(os.environ.get("WITNESS_SEED") or time.time_ns() % 2**32)
EXAMPLES = int(os.environ.get("WITNESS_EXAMPLES") or 5)
STEPS = int(os.environ.get("WITNESS_STEPS") or 20)
# Minutes; a day that is not made short is still told step by step.
PHASES = (Phase.generate, Phase.shrink) if os.environ.get("WITNESS_SHRINK") else (Phase.generate,)
HEARD = 1.0  # seconds of real time after which an end holds everywhere

BROWSERS = ("poste-1", "poste-2", "portable")
PEOPLE = ("docteur-dupont", "infirmiere-leroy", "pharmacien-bernard", "docteur-accents", "employe-structure")
BACKGROUND = "/battement"
PATHS = (
    "/",
    "/public/a",
    "/public//a",
    "/frais/x",
    "/Frais/",
    "/dossier/42",
    "/%64ossier/42",
    "/../dossier",
    "/psc/session",
)
CARE = {"profession": ["10", "60"]}
# app's rules: (of the first app, of the second)
POLICIES: tuple[tuple[list[draws.Rule], list[draws.Rule]], ...] = (
    ([], [{"paths": ["/public/*"], "open": True}, {"paths": ["/*"], "require": {"profession": ["10", "40", "50"]}}]),
    (
        [{"paths": ["/frais/*"], "require": {**CARE, "max_age": 900}}, {"paths": ["/*"], "require": CARE}],
        [{"paths": ["/*"], "methods": ["GET"], "require": {"sector": ["SA01"]}}],
    ),
    (
        [{"paths": ["/public/*"], "open": True}, {"paths": ["/*"], "require": {"not": {"profession": ["21"]}}}],
        [
            {"paths": ["/frais/*"], "require": {"max_age": 300}},
            {"paths": ["/dossier/*"], "require": {"profession": ["10"], "sector": ["SA01"]}},
            {"paths": ["/*"], "require": {"any": [{"mode": ["L"]}, {"national_id": ["500000001815646/CPAT00045"]}]}},
        ],
    ),
    (
        [{"paths": ["/dossier/*"], "methods": ["GET", "HEAD"], "require": CARE}],
        [{"paths": ["/battement"], "require": {"auth_mode": ["CARD"]}}, {"paths": ["/*"], "require": {"all": [CARE, {"sector": ["SA07"]}]}}],
    ),
)  # fmt: skip
FAULTS = (
    "id_token.nonce_wrong", "id_token.key_foreign", "id_token.alg_none", "id_token.acr_lower", "id_token.aud_wrong", "id_token.sub_other",
    "userinfo.other_person", "userinfo.subject_other", "callback.iss_wrong", "callback.code_wrong",
)  # fmt: skip
LEAPS = (290, 890, 910, 1500, 1900, 2000, 7000)
browsers, apps, some_people = (
    st.sampled_from(BROWSERS),
    st.sampled_from((DOSSIER, PRESCRIPTION)),
    st.sampled_from(PEOPLE),
)
nodes = st.integers(0, 1)


def toml(policy: tuple[list[draws.Rule], list[draws.Rule]]) -> str:
    return "".join(
        f'[apps.{name}]\norigins = ["{origin}"]\nbackground_paths = ["{BACKGROUND}"]\n'
        + draws.toml_rules(name, rules, {})
        for name, origin, rules in zip(("dossier", "prescription"), (DOSSIER, PRESCRIPTION), policy, strict=True)
    )


def press(node: Node, browser: Browser, page: Any) -> str:
    """Press the button of a page of ours: -> where it leads."""
    fields = dict(re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', page.text))
    form = urlencode({name: html.unescape(value) for name, value in fields.items()})
    answer = node.request(browser, "POST", ORIGIN + "/psc/start", form=form, headers={"Sec-Fetch-Site": "same-origin"})
    assert 303 == answer.status
    return str(answer["Location"])


class Day(RuleBasedStateMachine):
    """One day. `clinic` outlives it; browsers and the model are new."""

    clinic: Clinic
    heard: Counter[str]  # what came to be compared, over all days

    @initialize(number=st.integers(0, len(POLICIES) - 1), first=some_people, second=some_people)
    def morning(self, number: int, first: str, second: str) -> None:
        self.clicks = 0
        self.browsers = {name: Browser() for name in BROWSERS}
        self.world = World({}, {name: people()[name]["userinfo"] for name in PEOPLE}, frozenset({BACKGROUND}))
        self.clinic.simulator.faults.clear()
        # What renewals do is told elsewhere, and they would answer when they like.
        self.clinic.simulator.faults.set("code.refresh_token_missing")
        self.govern(number)
        # The last change to who is signed in: when, in real time, and by which process.
        self.changed, self.changed_at = 0.0, 0
        self.sign_in(BROWSERS[0], DOSSIER, first, 0)
        self.sign_in(BROWSERS[1], PRESCRIPTION, second, 1)

    @property
    def now(self) -> int:
        return int(self.clinic.clock.now)

    # -- comparing -----------------------------------------------------------------------------------------------------------

    def compare(
        self, node: Node, name: str, url: str, *, method: str = "GET", navigation: bool = True, dialect: str = "nginx"
    ) -> None:
        """One check. What the other process has just done may take a second to be known here."""
        expected = self.world.check(
            name, url, self.now, method=method, navigation=navigation, redirects=dialect == "forward"
        )
        patience = time.monotonic() + 10
        while True:
            actual = node.check(self.browsers[name], url, method=method, navigation=navigation, dialect=dialect)
            if actual.status == 503 and time.monotonic() < patience:
                # The disk of a busy machine does not answer: no allow, and no decision either.
                self.heard["check 503, asked again"] += 1
                time.sleep(0.1)
                continue
            problem = self.difference(expected, actual)
            if not problem:
                self.heard[f"check {expected.status}"] += 1
                return
            if node is self.clinic.nodes[self.changed_at] or time.monotonic() > self.changed + HEARD:
                raise AssertionError(f"{problem}\n{name} {method} {url} at {node.folder.name} by {dialect}")
            time.sleep(0.02)  # an end is heard of by a poll; the service offers nothing to wait for

    def difference(self, expected: Answer, actual: Any) -> str:
        told = {name: actual[name] for name in headers.TABLE if name.lower() in actual.headers}
        if expected.status != actual.status:
            return f"the model says {expected.status}, the program {actual.status} {actual['Location']}"
        if expected.headers != told:
            return f"the model says {expected.headers}, the program {told}"
        if not location_fits(expected, actual["Location"]):
            return f"the model says {expected}, the program {actual['Location']}"
        return ""

    @invariant()
    def everybody_everywhere(self) -> None:
        if not hasattr(self, "world"):
            return
        for node in self.clinic.nodes:
            for name in BROWSERS:
                for origin in (DOSSIER, PRESCRIPTION):
                    self.compare(node, name, origin + BACKGROUND)

    # -- what happens ----------------------------------------------------------------------------------------------------------

    @rule(name=browsers, origin=apps, person=some_people, at=nodes)
    def sign_in(self, name: str, origin: str, person: str, at: int) -> None:
        """A click on a page nobody has clicked on before, followed to its end."""
        self.click(name, origin, person, at)

    @rule(name=browsers, origin=apps, at=nodes)
    def sign_in_silently(self, name: str, origin: str, at: int) -> None:
        """The same, and PSC knows who it is."""
        if self.world.may_pass_silently(name, origin, self.now):
            self.click(name, origin, "", at)

    @rule(name=browsers, origin=apps, person=some_people, at=nodes, fault=st.sampled_from(FAULTS))
    def sign_in_badly(self, name: str, origin: str, person: str, at: int, fault: str) -> None:
        """PSC, or somebody in its place, answers what must not be believed."""
        with self.clinic.simulator.faults.during(fault, "test-edit" if fault == "userinfo.other_person" else None):
            self.click(name, origin, person, at, fault=True)

    def click(self, name: str, origin: str, person: str, at: int, *, fault: bool = False) -> None:
        self.clinic.advance(4)  # a dozen hand-offs of one login within half a minute would be called a loop
        self.clicks += 1
        asks_anew = bool(person) and self.clicks % 2 == 0  # where some rules want a fresh authentication
        url = f"{origin}{'/frais/' if asks_anew else '/dossier/'}{self.clicks}"
        browser = self.browsers[name]
        node = self.clinic.nodes[at]
        answer = node.follow(browser, url, person)
        if answer.status == 200 and urlsplit(answer.url).path == "/psc/start":
            # The last login ended by itself: this is said once, on a page with a button.
            assert "why=ended" in answer.url
            answer = node.follow(browser, press(node, browser, answer), person)
        self.changed, self.changed_at = time.monotonic(), at
        shown = answer.status if answer.url == url else 0
        assert shown or answer.status >= 400, (answer.url, answer.text[:300])
        expected = self.world.click(name, url, person, self.now, sid=self.clinic.sid(browser), fault=fault)
        self.heard[f"click {shown or 'page'}"] += 1
        assert expected == shown, (
            answer.url,
            answer.text[:300],
        )

    @rule(name=browsers, origin=apps, path=st.sampled_from(PATHS), method=st.sampled_from(("GET", "GET", "POST", "HEAD")), at=nodes,
          navigation=st.booleans(), dialect=st.sampled_from(("nginx", "forward", "ingress-nginx")))  # fmt: skip
    def check(self, name: str, origin: str, path: str, method: str, at: int, navigation: bool, dialect: str) -> None:
        """One request, which counts as activity if it is allowed."""
        self.compare(self.clinic.nodes[at], name, origin + path, method=method, navigation=navigation, dialect=dialect)

    @rule(name=browsers, origin=st.sampled_from((ORIGIN, DOSSIER, PRESCRIPTION)), at=nodes)
    def sign_out(self, name: str, origin: str, at: int) -> None:
        host = origin.partition("://")[2]
        login = self.world.sessions.live(name, host, self.now)
        if login is None:
            return
        answer = self.clinic.nodes[at].sign_out(self.browsers[name], origin)
        self.changed, self.changed_at = time.monotonic(), at
        assert 303 == answer.status, answer.text[:300]
        self.world.sessions.sign_out(name, host, self.now)

    @rule(which=st.integers(0, 9), at=nodes, whole_person=st.booleans())
    def back_channel(self, which: int, at: int, whole_person: bool) -> None:
        """PSC tells that a person has left altogether, as is so; or that a session has ended, which it then goes on with."""
        if not self.world.sessions.logins:
            return
        login = self.world.sessions.logins[which % len(self.world.sessions.logins)]
        claims = self.clinic.simulator.logout_claims("hopital", SimpleNamespace(person=login.person, sid=login.sid))  # type: ignore[arg-type]
        if whole_person:
            del claims["sid"]
        token = self.clinic.simulator.sign("logout_token", claims)
        answer = self.clinic.nodes[at].request(
            Browser(), "POST", ORIGIN + "/psc/backchannel-logout", form=f"logout_token={token}", headers={"Accept": "*/*"}
        )  # fmt: skip
        self.changed, self.changed_at = time.monotonic(), at
        assert 200 == answer.status, answer.text
        if whole_person:
            simulator = self.clinic.simulator
            for session in [one for one in simulator.realm.sessions.values() if one.person == login.person]:
                simulator.call(simulator.end_session(session.sid, notify=False))
            self.world.left_psc(login.person)
        self.world.sessions.back_channel(self.now, **({"sub": login.sub} if whole_person else {"sid": login.sid}))

    @rule(number=st.integers(0, len(POLICIES) - 1))
    def govern(self, number: int) -> None:
        """Other rules, by a reload."""
        self.clinic.govern(toml(POLICIES[number]))
        self.world.rules = dict(zip((DOSSIER, PRESCRIPTION), POLICIES[number], strict=True))

    @rule(seconds=st.sampled_from(LEAPS))
    def leap(self, seconds: int) -> None:
        self.clinic.advance(seconds)
        while any(login.doubtful(self.now) for login in self.world.sessions.logins):
            self.clinic.advance(40)

    @rule(at=nodes, name=browsers, origin=apps, kill=st.booleans())
    def restart(self, at: int, name: str, origin: str, kill: bool) -> None:
        """As SIGTERM does; or by SIGKILL, at once after a sign-out that was acknowledged, if that browser was in."""
        node = self.clinic.nodes[at]
        if kill:
            node.order("settle")
            self.sign_out(name, origin, at)
            node.kill()
        else:
            node.stop()
        self.heard["kill" if kill else "restart"] += 1
        node.start()


@pytest.fixture
def clinic(tmp_path: Path) -> Iterator[Clinic]:
    """Both processes, up."""
    with Clinic(tmp_path) as house:
        yield house


def test_the_program_and_the_model_live_the_same_day(clinic: Clinic) -> None:
    """Some days of some steps, by another seed each time."""
    print(f"WITNESS_SEED={SEED}")
    began = time.monotonic()

    class Today(Day):
        pass

    Today.clinic, Today.heard = clinic, Counter()
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        seed(SEED)(Today),
        settings=settings(
            max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None, database=None, print_blob=False,
            suppress_health_check=list(HealthCheck), phases=PHASES, report_multiple_bugs=False,
        ),
    )  # fmt: skip
    print(f"machine: {EXAMPLES} days of up to {STEPS} steps agree; {time.monotonic() - began:.0f} s, seed {SEED}")
    print(", ".join(f"{what}: {times}" for what, times in sorted(Today.heard.items())))
    # An expected answer of every kind was among them, or the days were too quiet to say anything.
    assert {"check 200", "check 401", "check 403"} <= Today.heard.keys()
