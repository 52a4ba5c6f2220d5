"""The gate: an allow has a reason, and everything without one is refused or asked to sign in."""

from dataclasses import replace

import pytest
from hall_samples import (
    DOCTOR,
    ELSEWHERE,
    HOST,
    NOW,
    ORIGIN,
    PHARMACIST,
    House,
    a_login,
    a_person,
    a_ring,
    a_rule,
    flipped,
    told,
)
from hypothesis import given
from hypothesis import strategies as st

from forward_auth.decision import Allow, Because, Decision, Refuse, SignIn, Why
from forward_auth.gate import Lookup
from forward_auth.identity import Situation

PREFLIGHT = {b"origin": b"https://other.example", b"access-control-request-method": b"PUT"}


def why(decision: object) -> tuple[object, ...]:
    """What a decision says, short."""
    if isinstance(decision, SignIn):
        return ("sign in", decision.why)
    if isinstance(decision, Refuse):
        return ("refuse", decision.because, decision.rule)
    if isinstance(decision, Allow):
        return ("allow", decision.outcome)
    return ("look up",)


# -- who gets in -------------------------------------------------------------------------------------------------------


def test_a_professional_who_signed_in_passes_with_every_header() -> None:
    """And the second time the answer is the very same object, from memory."""
    house = House()
    ticket = house.enter()
    first = house.check("/a", ticket)
    assert ("allow", "allowed") == why(first)
    assert "899700000042" == told(first)["X-PSC-Subject"]
    assert list(house.plan.names) == list(told(first))
    assert house.check("/b", ticket, now=NOW + 1) is first


def test_the_headers_speak_of_the_situation_that_made_the_rule_hold() -> None:
    """Two rules, two situations of one person; who has none gets empty headers (decision 9)."""
    house = House(a_rule(1, "/pharmacy/*", profession=("21",)), a_rule(2, "/*"))
    ticket = house.enter(a_person(DOCTOR, PHARMACIST))
    assert ["21", "10"] == [told(house.check(path, ticket))["X-PSC-Profession"] for path in ("/pharmacy/", "/")]
    nobody = house.enter(replace(a_person(), situations=()), number=2)
    assert "" == told(house.check("/", nobody))["X-PSC-Profession"]
    assert "899700000042" == told(house.check("/", nobody))["X-PSC-Subject"]


def test_HDR_01_an_open_rule_gives_every_header_empty_even_to_who_signed_in() -> None:
    """Nobody's identity leaves where nobody's was asked for; the session is not even looked at."""
    house = House(a_rule(1, "/public/*", open=True), a_rule(2, "/*"))
    ticket = house.enter()
    for cookie in (None, ticket, b"garbage"):
        decision = house.check("/public/x", cookie)
        assert ("allow", "open") == why(decision)
        assert {""} == set(told(decision).values())
        assert list(house.plan.names) == list(told(decision))


def test_rules_that_say_the_same_share_one_answer() -> None:
    """Many rules do not cost many headers (decision 28)."""
    house = House(a_rule(1, "/a/*"), a_rule(2, "/b/*"), a_rule(3, "/c/*", profession=("21",)), a_rule(4, "/*"))
    ticket = house.enter()
    assert ("refuse", Because.RULE, 3) == why(house.check("/c/", ticket))
    assert house.check("/a/", ticket) is house.check("/b/", ticket)
    assert house.check("/a/", ticket) is house.check("/", ticket)


# -- who does not ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "origin",
    ["https://unknown.example", f"http://{HOST}", f"{ORIGIN}:8443", f"https://x.{HOST}", f"https://{HOST}.evil", ""],
)
def test_PATH_10_an_unknown_origin_is_refused_even_with_a_good_session(origin: str) -> None:
    """Another scheme or port is another origin."""
    house = House()
    assert Refuse(Because.UNKNOWN_HOST) == house.check("/", house.enter(), origin=origin)


def test_an_app_without_a_rule_that_fits_refuses() -> None:
    """Everybody: the doctor, the stranger, on plain and on double paths."""
    house = House(a_rule(1, "/a"))
    ticket = house.enter()
    for cookie in (None, ticket):
        assert Refuse(Because.NO_RULE, "dossier") == house.check("/b", cookie)
    only_open = House(a_rule(1, "/*", open=True))
    assert Refuse(Because.NO_RULE, "dossier") == only_open.check("/a//b", only_open.enter())


@pytest.mark.parametrize(("path", "method"), [("/%zz", b"GET"), ("/", b"GET POST"), ("/\x00%", b"GET"), ("", b"GET")])
def test_PATH_07_what_is_malformed_is_refused(path: str, method: bytes) -> None:
    """Before any rule, an open one included; the log is told why."""
    house = House(a_rule(1, "/*", open=True))
    decision = house.check(path, method=method)
    assert ("refuse", Because.MALFORMED, 0) == why(decision)
    assert isinstance(decision, Refuse)
    assert ("dossier", True) == (decision.app, bool(decision.detail))


def test_who_has_no_ticket_is_asked_to_sign_in() -> None:
    """Absent is not ended."""
    assert SignIn(Why.NO_SESSION, "dossier") == House().check("/")


def test_RULE_01_the_wrong_professional_is_refused_and_never_sent_to_sign_in_again() -> None:
    """403, not a loop; the number of the rule is told."""
    house = House(a_rule(1, "/a/*"), a_rule(2, "/*", profession=("21",)))
    ticket = house.enter()
    assert Refuse(Because.RULE, "dossier", 2) == house.check("/", ticket)
    assert house.check("/", ticket) == house.check("/x", ticket)
    assert house.allowed("/a/", ticket)


@pytest.mark.parametrize(
    "path",
    ["/psc/start", "/psc/", "/psc", "/PSC/start", "/psc/%2e", "/%70sc/start", "/psc/../x", "/psc//x/..;/", "/psc%2Fx"],
)
def test_a_check_below_our_own_prefix_is_misrouted(path: str) -> None:
    """Decision 35: the proxy must send it to the outer door. In any spelling; no open rule opens it, no remembered allow passes it."""
    house = House(a_rule(1, "/public/*", open=True), a_rule(2, "/*"))
    ticket = house.enter()
    assert house.allowed("/", ticket)
    assert Refuse(Because.MISROUTED, "dossier") == house.check(path, ticket)
    assert Refuse(Because.MISROUTED, "dossier") == House(a_rule(1, "/*", open=True)).check(path)


@pytest.mark.parametrize("path", ["/pscx/start", "/x/psc/start", "/ps%63x", "/psc-/", "/p/sc/"])
def test_what_only_resembles_our_prefix_is_the_apps_own(path: str) -> None:
    """A prefix is whole segments, at the beginning; and it may have another name."""
    assert ("allow", "open") == why(House(a_rule(1, "/*", open=True)).check(path))
    other = House(a_rule(1, "/*", open=True), prefix="/pro")
    assert [("allow", "open"), ("refuse", Because.MISROUTED, 0)] == [
        why(other.check(each)) for each in ("/psc/x", "/pro/x")
    ]


# -- preflight ---------------------------------------------------------------------------------------------------------


def test_HDR_08_a_preflight_passes_without_identity_only_where_it_is_allowed() -> None:
    """Never by default; never for a method or headers that are not a browser's preflight; never with somebody's identity."""
    open_to_it, closed = House(preflight=True), House()
    ticket = open_to_it.enter()
    for cookie in (None, ticket):
        decision = open_to_it.check("/", cookie, method=b"OPTIONS", headers=PREFLIGHT)
        assert ("allow", "open") == why(decision)
        assert {""} == set(told(decision).values())
    assert ("sign in", Why.NO_SESSION) == why(closed.check("/", method=b"OPTIONS", headers=PREFLIGHT))
    for method, headers in (
        (b"GET", PREFLIGHT),
        (b"OPTIONS", {}),
        (b"OPTIONS", {b"origin": b"https://other.example"}),
        (b"OPTIONS", {b"access-control-request-method": b"PUT"}),
        (b"options", PREFLIGHT),
    ):
        assert ("sign in", Why.NO_SESSION) == why(open_to_it.check("/", method=method, headers=headers))
    assert ("refuse", Because.MISROUTED, 0) == why(open_to_it.check("/psc/start", method=b"OPTIONS", headers=PREFLIGHT))


# -- tickets -----------------------------------------------------------------------------------------------------------


def test_a_ticket_of_ours_that_is_not_in_memory_is_looked_up_once() -> None:
    """And what the store did not know is remembered as ended (decision 36)."""
    house = House()
    ticket = house.ticket()
    lookup = house.check("/", ticket)
    assert isinstance(lookup, Lookup)
    assert (house.host, ticket) == (lookup.host, lookup.ticket)
    house.memory.remember_ended(lookup.found.digest)
    assert SignIn(Why.ENDED, "dossier") == house.check("/", ticket)


def test_a_ticket_made_by_an_earlier_version_is_still_a_ticket() -> None:
    """An upgrade signs nobody out: the word that tickets are made for is part of them."""
    ticket = b"AQABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4fR1P0SpO8qxgj9VCaWxZk"
    decision = House().check("/", ticket)
    assert isinstance(decision, Lookup)
    assert bytes(range(32)) == decision.found.secret


def test_who_left_is_not_told_that_the_session_has_expired() -> None:
    """A ticket whose professional signed out reads as no ticket."""
    house = House()
    ticket = house.ticket()
    lookup = house.check("/", ticket)
    assert isinstance(lookup, Lookup)
    house.memory.remember_ended(lookup.found.digest, by_itself=False)
    assert SignIn(Why.NO_SESSION, "dossier") == house.check("/", ticket)


def test_COOK_02_no_bit_of_a_ticket_may_differ() -> None:
    """Each flip is no session, and costs no look-up in the store."""
    house = House()
    ticket = house.enter()
    assert house.allowed("/", ticket)
    for bit in range(len(ticket) * 8):
        assert SignIn(Why.NO_SESSION, "dossier") == house.check("/", flipped(ticket, bit))
    for cut in range(len(ticket)):
        assert SignIn(Why.NO_SESSION, "dossier") == house.check("/", ticket[:cut])
    half = len(ticket) // 2
    for other in (ticket[half:] + ticket[:half], ticket + b"A", b" " + ticket, b'"' + ticket + b'"', ticket * 2):
        assert SignIn(Why.NO_SESSION, "dossier") == house.check("/", other)


def test_a_stranger_is_known_by_the_tag_alone() -> None:
    """No ticket, or one that this ring did not make for this host: nobody the store could know. A genuine one may be."""
    house = House()
    ticket = house.ticket()
    assert house.gate.without_session(house.site, ticket) is None
    assert house.gate.without_session(house.site, house.enter()) is None
    for other in (None, b"", b"garbage", flipped(ticket, 77), house.ticket(ELSEWHERE)):
        assert house.site.sign_in == house.gate.without_session(house.site, other)


def test_DOS_06_strangers_leave_nothing_in_memory_and_ended_tickets_little() -> None:
    """What anybody can make is not remembered; what was a ticket of ours is, up to a number, and says the same each time."""
    house = House()
    for number in range(10_000):
        assert house.site.sign_in == house.gate.without_session(house.site, b"AQ%062d" % number)
    assert {} == house.site.over
    for number in range(5_000):
        ticket = house.ticket()
        assert house.gate.without_session(house.site, ticket) is None
        assert ticket not in house.site.over
        lookup = house.check("/", ticket)
        assert isinstance(lookup, Lookup)
        house.memory.remember_ended(lookup.found.digest, by_itself=number % 2 == 0)
        expected = house.site.sign_in_again if number % 2 == 0 else house.site.sign_in
        assert [expected] * 2 == [house.gate.without_session(house.site, ticket) for _ in range(2)]
    assert 0 < len(house.site.over) <= 4096


@given(st.binary(max_size=80))
def test_COOK_03_garbage_is_no_ticket(garbage: bytes) -> None:
    """Never an exception, never a look-up."""
    assert ("sign in", Why.NO_SESSION) == why(House().check("/", garbage))


def test_SESS_07_a_ticket_of_one_host_is_nothing_at_another() -> None:
    """In memory or not: its tag is of its host."""
    house = House()
    ticket = house.enter()
    assert house.allowed("/", ticket)
    assert SignIn(Why.NO_SESSION, "radio") == house.check("/", ticket, origin=f"https://{ELSEWHERE}")
    assert SignIn(Why.NO_SESSION, "dossier") == house.check("/", house.ticket(ELSEWHERE))


def test_SESS_07_one_login_may_have_tickets_at_several_hosts() -> None:
    """Each opens its own, and the end of the login is the end of both."""
    house = House()
    here, there = house.enter(), house.enter(host=ELSEWHERE)
    assert house.allowed("/", here)
    assert house.allowed("/", there, origin=f"https://{ELSEWHERE}")
    house.memory.forget(house.login().id)
    assert isinstance(house.check("/", here), Lookup)
    assert isinstance(house.check("/", there, origin=f"https://{ELSEWHERE}"), Lookup)


def test_CACHE_01_each_login_app_rule_and_method_is_judged_on_its_own() -> None:
    """A remembered allow of one says nothing of another."""
    house = House(
        a_rule(1, "/p/*", methods=["POST"], profession=("21",)),
        a_rule(2, "/p/*", profession=("10",)),
        a_rule(3, "/*"),
    )
    doctor, pharmacist = house.enter(), house.enter(a_person(PHARMACIST, subject="899700000043"), number=2)
    assert ("allow", "allowed") == why(house.check("/p/", doctor))
    assert ("refuse", Because.RULE, 1) == why(house.check("/p/", doctor, method=b"POST"))
    assert ("refuse", Because.RULE, 2) == why(house.check("/p/", pharmacist))
    assert ("allow", "allowed") == why(house.check("/p/", pharmacist, method=b"POST"))
    assert ["899700000042", "899700000043"] == [
        told(house.check("/", each))["X-PSC-Subject"] for each in (doctor, pharmacist)
    ]


# -- limits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("warm", [False, True])
def test_SESS_05_the_absolute_limit_is_exact(warm: bool) -> None:
    """However busy the login is: the last allowed second is the one before its end."""
    house = House()
    ticket = house.enter(idle=100_000)
    for now in range(NOW, NOW + 14_400, 600) if warm else ():
        assert house.allowed("/", ticket, now=now)
    assert house.allowed("/", ticket, now=NOW + 14_399.9)
    assert SignIn(Why.ENDED, "dossier") == house.check("/", ticket, now=NOW + 14_400)


def test_SESS_05_the_idle_limit_is_exact_and_moves_with_activity() -> None:
    """1800 s after the last allowed check, to the second, on the cold road and on the remembered one."""
    house = House()
    ticket = house.enter()
    assert house.allowed("/", ticket, now=NOW + 1799.9)
    assert house.allowed("/", ticket, now=NOW + 1810)  # the remembered road moves it too
    assert house.allowed("/", ticket, now=NOW + 1810 + 1799.9)
    assert SignIn(Why.ENDED, "dossier") == house.check("/", ticket, now=NOW + 1810 + 1799.9 + 1800)


def test_a_login_over_its_limit_never_comes_back() -> None:
    """The first check that finds it ended forgets it and remembers the ticket as ended; a clock set back revives nobody."""
    house = House()
    ticket = house.enter()
    assert SignIn(Why.ENDED, "dossier") == house.check("/", ticket, now=NOW + 1800)
    assert 0 == len(house.memory)
    assert SignIn(Why.ENDED, "dossier") == house.check("/", ticket, now=NOW)


def test_a_refused_check_is_no_activity() -> None:
    """Activity is an allowed check (decision 14): refusals, sign-ins and open paths do not keep a login alive."""
    house = House(a_rule(1, "/no", profession=("21",)), a_rule(2, "/open", open=True), a_rule(3, "/*"))
    ticket = house.enter()
    for now in range(NOW, NOW + 1800, 60):
        assert ("refuse", Because.RULE, 1) == why(house.check("/no", ticket, now=now))
        assert ("allow", "open") == why(house.check("/open", ticket, now=now))
    assert NOW == house.login().seen
    assert {} == house.memory.to_touch
    assert SignIn(Why.ENDED, "dossier") == house.check("/", ticket, now=NOW + 1800)


def test_a_remembered_refusal_is_no_activity() -> None:
    """Within the half minute after an allowed check as well."""
    house = House(a_rule(1, "/no", profession=("21",)), a_rule(2, "/*"))
    ticket = house.enter()
    assert house.allowed("/", ticket)
    assert not house.allowed("/no", ticket)
    assert not house.allowed("/no", ticket, now=NOW + 20)
    assert NOW == house.login().seen


@pytest.mark.parametrize("path", ["/poll", "/live/x"])
def test_a_background_path_is_checked_and_is_no_activity(path: str) -> None:
    """A page that polls all night does not keep its login (decision 14): `seen`, renewal and entry are untouched."""
    house = House(a_rule(1, "/*", profession=("10",)), background=["/poll", "/live/*"])
    ticket = house.enter(renew_after=NOW)
    for now in range(NOW, NOW + 1800, 5):
        assert house.allowed(path, ticket, now=now)
    login = house.login()
    assert (NOW, {}, {}, 0, frozenset()) == (
        login.seen,
        house.memory.to_touch,
        house.memory.to_renew,
        len(house.memory.news),
        login.entered,
    )
    assert SignIn(Why.ENDED, "dossier") == house.check(path, ticket, now=NOW + 1800)
    stranger = house.enter(a_person(PHARMACIST), number=2)
    assert ("refuse", Because.RULE, 1) == why(house.check(path, stranger))


def test_a_background_path_after_activity_takes_no_remembered_road() -> None:
    """The rule's allow is remembered, and still the poll does not move `seen`."""
    house = House(background=["/poll"])
    ticket = house.enter()
    assert house.allowed("/", ticket, now=NOW + 10)
    assert house.allowed("/poll", ticket, now=NOW + 20)
    assert NOW + 10 == house.login().seen


def test_an_app_may_be_idle_sooner_than_the_login() -> None:
    """After the app's own idle time somebody must authenticate again there, and no sooner; elsewhere the login goes on."""
    house = House(idle=300)
    ticket, other = house.enter(), house.enter(host=ELSEWHERE)
    assert house.allowed("/", ticket, now=NOW + 100)
    assert house.allowed("/", ticket, now=NOW + 400)
    assert SignIn(Why.STEP_UP, "dossier", (), 300) == house.check("/", ticket, now=NOW + 701)
    assert SignIn(Why.STEP_UP, "dossier", (), 300) == house.check("/x", ticket, now=NOW + 702)
    assert house.allowed("/", other, origin=f"https://{ELSEWHERE}", now=NOW + 703)


def test_who_authenticated_again_is_not_idle() -> None:
    """A step-up answers the app's idle time, whatever the login's last activity was."""
    house = House(idle=300)
    ticket = house.enter()
    assert not house.allowed("/", ticket, now=NOW + 301)
    fresh = a_person(auth_time=NOW + 310)
    house.memory.replaced(a_login(1, fresh, version=2, auth_time=NOW + 310))
    assert house.allowed("/", ticket, now=NOW + 311)


def test_who_authenticated_exactly_so_long_ago_is_not_idle_yet() -> None:
    """The app's idle time is a `max_age` when PSC is asked, and that one is still good at its last second."""
    house = House(idle=300)
    ticket = house.enter(a_person(auth_time=NOW + 10), seen=NOW)
    assert house.allowed("/", ticket, now=NOW + 310)
    house = House(idle=300)
    ticket = house.enter(a_person(auth_time=NOW + 10), seen=NOW)
    assert SignIn(Why.STEP_UP, "dossier", (), 300) == house.check("/", ticket, now=NOW + 311)


# -- remembered decisions (decision 1) ---------------------------------------------------------------------------------


def test_what_was_allowed_a_moment_ago_stands_on_the_remembered_road_for_half_a_minute() -> None:
    """The road that the inner door takes for a head it has seen: the very same answer, and it counts as activity; then limits are looked at."""
    house = House()
    ticket = house.enter()
    first, login, rule = house.check("/", ticket), house.login(), house.app.rules[0]
    assert house.gate.remembered(login, rule, NOW + 29) is first
    assert NOW + 29 == login.seen
    assert house.gate.remembered(login, rule, NOW + 30) is None
    house.gate.replace(house.gate.sites, house.ring)
    assert house.gate.remembered(login, rule, NOW + 29) is None


def test_CACHE_05_a_remembered_allow_ends_with_its_max_age() -> None:
    """To the second, on the remembered road."""
    house = House(a_rule(1, "/*", max_age=60))
    ticket = house.enter()
    for now in (NOW, NOW + 1, NOW + 29, NOW + 59, NOW + 60.9):
        assert house.allowed("/", ticket, now=now)
    assert SignIn(Why.STEP_UP, "dossier", (), 60) == house.check("/", ticket, now=NOW + 61)
    assert SignIn(Why.STEP_UP, "dossier", (), 60) == house.check("/", ticket, now=NOW + 62)


def test_CACHE_05_a_remembered_no_ends_when_it_may_become_yes() -> None:
    """A rule that asks for an authentication that is *not* recent."""
    house = House(a_rule(1, "/old", not_=a_rule(9, max_age=60).require), a_rule(2, "/*"))
    ticket = house.enter()
    assert house.allowed("/", ticket)
    for now in (NOW, NOW + 1, NOW + 60):
        assert not house.allowed("/old", ticket, now=now)
    assert house.allowed("/old", ticket, now=NOW + 61)


def test_CACHE_05_a_new_policy_is_in_force_at_the_next_check() -> None:
    """The generation moves with the rules: the remembered allow of before is worth nothing, nor is a cookie of dropped keys."""
    house = House()
    ticket = house.enter()
    assert house.allowed("/", ticket)
    generation = house.gate.generation
    stricter = House(a_rule(1, "/*", profession=("21",)))
    site = stricter.site
    site.host = house.host
    house.gate.replace({ORIGIN: site}, house.ring)
    assert generation + 1 == house.gate.generation
    assert {ORIGIN: site} == house.gate.sites
    assert Refuse(Because.RULE, "dossier", 1) == house.check("/", ticket)
    assert Refuse(Because.UNKNOWN_HOST) == house.check("/", ticket, origin=f"https://{ELSEWHERE}")
    house.gate.replace({ORIGIN: site}, a_ring(7))
    assert SignIn(Why.NO_SESSION, "dossier") == house.check("/", house.ticket())


def test_CACHE_05_another_generation_is_another_judgement() -> None:
    """Lists, accounts and situations count in the same number: moving it alone is enough."""
    house = House()
    ticket = house.enter()
    assert house.allowed("/", ticket)
    house.login().identity = a_person(PHARMACIST, subject="899700000043")
    assert "899700000042" == told(house.check("/", ticket))["X-PSC-Subject"]
    house.gate.generation += 1
    assert "899700000043" == told(house.check("/", ticket))["X-PSC-Subject"]


def test_CACHE_05_a_renewal_that_changes_the_person_drops_what_was_remembered() -> None:
    """The professional lost the profession: the next check knows."""
    house = House(a_rule(1, "/*", profession=("10",)))
    ticket = house.enter()
    assert house.allowed("/", ticket)
    house.memory.replaced(a_login(1, a_person(PHARMACIST), version=2))
    assert Refuse(Because.RULE, "dossier", 1) == house.check("/", ticket, now=NOW + 1)
    house.memory.replaced(a_login(1, a_person(DOCTOR), version=3))
    assert house.allowed("/", ticket, now=NOW + 2)


def test_SESS_03_an_ended_login_is_refused_at_once_from_memory_too() -> None:
    """Its remembered decisions, its tickets, everything."""
    house = House()
    ticket = house.enter()
    assert house.allowed("/", ticket)
    login = house.login()
    house.memory.forget(login.id)
    assert isinstance(house.check("/", ticket), Lookup)
    assert (True, {}, 0) == (login.ended, login.decisions, login.check_after)


def test_an_old_object_of_a_replaced_login_says_no() -> None:
    """Whoever still holds it."""
    house = House()
    house.enter()
    old = house.login()
    house.memory.replaced(a_login(1, version=2))
    assert old.over(NOW)


# -- ambiguous paths ---------------------------------------------------------------------------------------------------

MANY = (
    a_rule(1, "/public/*", open=True),
    a_rule(2, "/doctors/*", profession=("10",)),
    a_rule(3, "/fresh/*", methods=["GET"], max_age=60),
    a_rule(4, "/posts/*", methods=["POST"], profession=("40",)),
    a_rule(5, "/*"),
)


@pytest.mark.parametrize(
    "path", ["/public/../doctors/", "/public/a%2fb", "//public/x", "/public;x", "/public/%2e%2e/x"]
)
def test_PATH_02_04_every_rule_must_allow_a_path_with_two_readings(path: str) -> None:
    """Whose method fits; the first that does not allow is the answer (decision 8); no open rule helps a stranger."""
    house = House(*MANY)
    doctor, pharmacist = house.enter(), house.enter(a_person(PHARMACIST), number=2)
    assert ("sign in", Why.NO_SESSION) == why(house.check(path))
    assert ("allow", "allowed") == why(house.check(path, doctor))
    assert ("refuse", Because.RULE, 2) == why(house.check(path, pharmacist))
    assert SignIn(Why.STEP_UP, "dossier", (), 60) == house.check(path, doctor, now=NOW + 61)
    assert ("refuse", Because.RULE, 4) == why(house.check(path, doctor, method=b"POST"))
    assert ("refuse", Because.RULE, 2) == why(house.check(path, pharmacist, now=NOW + 61))


def test_PATH_05_the_query_and_the_fragment_open_nothing() -> None:
    """The path judged is the path alone."""
    house = House(*MANY)
    for path in ("/doctors/?next=/public/", "/doctors/?/public/x", "/x?x=//public/"):
        assert ("sign in", Why.NO_SESSION) == why(house.check(path))
    assert ("allow", "open") == why(house.check("/public/?x=../../doctors;//%2e"))


# -- what the gate tells others ----------------------------------------------------------------------------------------


def test_activity_is_written_coarsely() -> None:
    """Exact in memory, handed to the store's writer every idle/60."""
    house = House()
    ticket = house.enter()
    for now in range(NOW, NOW + 30):
        assert house.allowed("/", ticket, now=now)
    assert {} == house.memory.to_touch
    assert NOW + 29 == house.login().seen
    assert house.allowed("/", ticket, now=NOW + 30)
    assert [house.login()] == list(house.memory.to_touch.values())
    assert NOW + 30 == house.login().touched


def test_activity_asks_for_renewal_when_it_is_due_and_not_before() -> None:
    """Decision 14; a login that PSC gave no refresh token is never renewed."""
    house = House()
    ticket = house.enter(renew_after=NOW + 600)
    assert house.allowed("/", ticket, now=NOW + 590)
    assert house.allowed("/", ticket, now=NOW + 599)
    assert {} == house.memory.to_renew
    assert house.allowed("/", ticket, now=NOW + 600)
    assert [house.login()] == list(house.memory.to_renew.values())
    without = House()
    ticket = without.enter()
    assert without.allowed("/", ticket, now=NOW + 1700)
    assert {} == without.memory.to_renew


def test_the_first_entry_into_an_app_is_news_once() -> None:
    """One per login and app."""
    house = House()
    here, there = house.enter(), house.enter(host=ELSEWHERE)
    for now in range(NOW, NOW + 200, 20):
        assert house.allowed("/", here, now=now)
        assert house.allowed("/", there, now=now, origin=f"https://{ELSEWHERE}")
    assert [("dossier", house.login()), ("radio", house.login())] == list(house.memory.news)
    assert {"dossier", "radio"} == house.login().entered


def test_a_login_never_seen_as_going_backwards() -> None:
    """`seen` is the latest, whatever order checks arrive in on the slow road."""
    house = House()
    ticket = house.enter(seen=NOW + 5)
    assert house.allowed("/", ticket, now=NOW)
    assert NOW + 5 == house.login().seen


# -- whatever arrives --------------------------------------------------------------------------------------------------


@given(
    st.binary(max_size=30).map(lambda rest: b"/" + rest),
    st.sampled_from([b"GET", b"POST", b"OPTIONS", b"", b"\xff"]),
    st.sampled_from([None, b"", b"garbage"]),
)
def test_whatever_arrives_without_a_session_is_never_let_into_what_is_protected(
    path: bytes, method: bytes, ticket: bytes | None
) -> None:
    """Only the open rule's own bytes give an allow, and that one is nobody's."""
    house = House(*MANY)
    decision: object = house.check(path, ticket, method=method)
    if isinstance(decision, Allow):
        assert "open" == decision.outcome
        assert path.lower().startswith(
            (b"/public/", b"/%70", b"/p%75", b"/pu%62", b"/pub%6c", b"/publ%69", b"/publi%63")
        )
    else:
        assert isinstance(decision, SignIn | Refuse)


def test_a_situation_of_nothing_is_still_nothing() -> None:
    """RULE-03: codes PSC did not give satisfy no rule."""
    house = House(a_rule(1, "/*", profession=("10",)))
    decision: Decision | Lookup = house.check("/", house.enter(a_person(Situation())))
    assert ("refuse", Because.RULE, 1) == why(decision)
