"""Logins in memory: bounded, found by ticket, gone at once when they end; and the records that are kept of them."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hall_samples import HOST, NOW, PHARMACIST, a_login, a_person
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from forward_auth.decision import Because, Refuse
from forward_auth.logins import (
    Host,
    Listing,
    Login,
    Memory,
    Record,
    Remembered,
    listing_bytes,
    read_listing,
    read_record,
    record_bytes,
)
from forward_auth.secret import Secret

# -- limits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "seen", "expected"),
    [
        (NOW, NOW, False),
        (NOW + 1799, NOW, False),
        (NOW + 1799.99, NOW, False),
        (NOW + 1800, NOW, True),
        (NOW + 14_399, NOW + 14_000, False),
        (NOW + 14_400, NOW + 14_399, True),
    ],
)
def test_SESS_05_a_login_is_over_at_its_instants(now: float, seen: float, expected: bool) -> None:
    """A permission ends at its instant, here and in the store alike: `now < ends` and `now < seen + idle`."""
    assert expected is a_login(seen=seen).over(now)


def test_a_login_is_what_it_was_made_of() -> None:
    """Every fact stands under its name; nothing is decided, entered or waiting yet."""
    login = a_login(
        3, key=b"k" * 32, sid="sid", auth_time=NOW - 1, created=NOW - 2, seen=NOW - 3, lapses=7, renew_after=5
    )
    assert (b"k" * 32, "sid", NOW - 1, NOW - 2) == (login.key, login.sid, login.auth_time, login.created)
    assert (NOW - 3, NOW - 3, 7, 5) == (login.seen, login.touched, login.lapses, login.renew_after)
    assert (False, 0, {}, [], {}) == (login.ended, login.check_after, login.decisions, login.places, login.passes)
    assert (frozenset(), None, None) == (a_login().entered, a_login().lapses, a_login().renew_after)


def test_a_login_that_ended_is_over() -> None:
    """Whatever its limits say; and its repr tells no secret."""
    login = a_login(key=b"k" * 32)
    login.ended = True
    assert login.over(NOW)
    assert "Login(00000000, version 1)" == repr(login)


@pytest.mark.parametrize(
    ("changes", "now", "expected"),
    [
        ({}, NOW, NOW + 30),
        ({"idle": 36_000, "ends": NOW + 90_000}, NOW, NOW + 30),
        ({"idle": 60}, NOW, NOW + 1),
        ({"idle": 10}, NOW, NOW + 1),
        ({"ends": NOW + 7}, NOW, NOW + 7),
        ({"idle": 0}, NOW, NOW),
        ({"renew_after": NOW + 5}, NOW, NOW + 5),
        ({"renew_after": NOW + 50}, NOW, NOW + 30),
        ({"renew_after": NOW}, NOW, NOW + 30),  # it has just been asked for
        ({"renew_after": NOW - 5}, NOW, NOW + 30),  # it is under way already
    ],
)
def test_the_remembered_road_looks_again_in_time(changes: dict[str, Any], now: float, expected: float) -> None:
    """No limit, no writing and no renewal can fall into the time in which nobody looks."""
    assert expected == a_login(**changes).next_look(now)


@pytest.mark.parametrize(("after", "expected"), [(0, False), (29.9, False), (30, True)])
def test_activity_is_due_to_be_written_every_sixtieth_of_idle(after: float, expected: bool) -> None:
    """30 s of 30 min."""
    assert expected is a_login().touch_due(NOW + after)


# -- memory ------------------------------------------------------------------------------------------------------------


def filled(memory: Memory, count: int, first: int = 1) -> Host:
    """`count` browsers sign in, one login and one ticket each."""
    host = memory.host(HOST)
    for number in range(first, first + count):
        memory.remember(host, b"ticket-%d" % number, a_login(number))
    return host


def test_a_host_is_one_object() -> None:
    """Origins on other ports share it, as cookies do (decision 32)."""
    memory = Memory()
    assert memory.host("a") is memory.host("a")
    assert memory.host("a") is not memory.host("b")


def test_CACHE_03_memory_is_bounded_and_what_is_used_stays() -> None:
    """Two generations: a ticket that is asked for moves on, one that is not falls out after two turns."""
    memory = Memory(10)
    host = filled(memory, 1)
    for number in range(2, 60):
        filled(memory, 1, number)
        assert memory.find(host, b"ticket-1") is not None
        assert len(host.live) + len(host.old) <= 10
        assert len(memory) <= 10
    assert memory.find(host, b"ticket-2") is None


@pytest.mark.parametrize("count", range(1, 14))
def test_SESS_03_whoever_is_answered_from_memory_can_be_ended(count: int) -> None:
    """Also the one whose ticket made the generations turn: ending it leaves no ticket of it behind."""
    memory = Memory(6)
    host = filled(memory, count)
    for number in range(1, count + 1):
        known = memory.find(host, b"ticket-%d" % number)
        forgotten = memory.forget(number.to_bytes(16, "big"))
        assert known is forgotten
        assert memory.find(host, b"ticket-%d" % number) is None
    assert (0, {}, {}) == (len(memory), host.live, host.old)


def test_SESS_03_a_login_moved_on_by_a_turn_keeps_all_its_tickets_known() -> None:
    """Two tickets of one login, one asked for just when the generations turn."""
    memory = Memory(6)
    host = filled(memory, 1)
    login = memory.remember(host, b"second", memory.by_id[(1).to_bytes(16, "big")])
    filled(memory, 3, first=2)  # both tickets are of the older generation now
    assert {b"ticket-1", b"second", b"ticket-2"} == set(host.old)
    assert login is memory.find(host, b"second")
    assert login is memory.find(host, b"ticket-1")  # makes them turn again
    assert {b"ticket-3", b"ticket-4", b"second"} == set(host.old)
    memory.forget(login.id)
    assert [None, None] == [memory.find(host, ticket) for ticket in (b"ticket-1", b"second")]


@pytest.mark.parametrize("waiting", ["to_touch", "to_renew"])
def test_what_waits_to_be_written_is_not_forgotten_by_a_turn(waiting: str) -> None:
    """It stays known by its id until it is written; its replacement is never displaced by it."""
    memory = Memory(2)
    filled(memory, 1)
    login = memory.by_id[(1).to_bytes(16, "big")]
    getattr(memory, waiting)[login.id] = login
    filled(memory, 4, first=2)
    assert login is memory.by_id[login.id]
    assert [] == login.places


@pytest.mark.parametrize("waiting", ["to_touch", "to_renew"])
def test_SESS_03_a_replaced_login_that_waits_to_be_written_does_not_hide_its_successor(waiting: str) -> None:
    """The object that waits is the old one; after a turn the new one must still be found when the login ends."""
    memory = Memory(6)
    host = filled(memory, 1)
    old = memory.by_id[(1).to_bytes(16, "big")]
    getattr(memory, waiting)[old.id] = old
    new = a_login(1, version=2)
    memory.replaced(new)
    filled(memory, 3, first=2)
    assert new is memory.find(host, b"ticket-1")
    memory.forget(new.id)
    assert new.ended
    assert memory.find(host, b"ticket-1") is None


def test_one_login_is_one_object_whatever_ticket_it_came_by() -> None:
    """An older or equal state read from the store does not displace what is known."""
    memory = Memory()
    first = memory.remember(memory.host("a"), b"t1", a_login(1, version=3))
    for version in (2, 3):
        assert first is memory.remember(memory.host("b"), b"t%d" % version, a_login(1, version=version))
    assert first is memory.remember(memory.host("a"), b"t1", a_login(1, version=3))
    assert [(memory.host("a"), b"t1"), (memory.host("b"), b"t2"), (memory.host("b"), b"t3")] == first.places
    assert [first] == list(memory)


def test_a_newer_state_replaces_the_older_everywhere() -> None:
    """Every ticket means the new object; activity, hand-offs and entries are carried over; remembered decisions are not."""
    memory = Memory()
    a, b = memory.host("a"), memory.host("b")
    old = memory.remember(a, b"t1", a_login(1, entered=frozenset({"dossier"})))
    memory.remember(b, b"t2", old)
    old.seen = NOW + 100
    old.passes["a"] = [NOW]
    old.decisions[1] = Remembered(Refuse(Because.RULE), NOW + 1000, 1)
    new = memory.remember(a, b"t3", a_login(1, a_person(PHARMACIST), version=2, entered=frozenset({"radio"})))
    assert [new, new, new] == [memory.find(a, b"t1"), memory.find(b, b"t2"), memory.find(a, b"t3")]
    assert (NOW + 100, {"a": [NOW]}, {"dossier", "radio"}, {}) == (new.seen, new.passes, new.entered, new.decisions)
    assert (True, []) == (old.ended, old.places)


def test_SESS_03_a_newer_state_that_comes_by_a_ticket_already_known_can_be_ended() -> None:
    """It is the one that is found by its id from then on."""
    memory = Memory()
    host = memory.host("a")
    memory.remember(host, b"t1", a_login(1))
    new = memory.remember(host, b"t1", a_login(1, version=2))
    assert [new] == list(memory)
    assert new is memory.forget(new.id)
    assert memory.find(host, b"t1") is None


def test_CACHE_03_who_has_left_takes_no_room_and_makes_none() -> None:
    """Ended logins push nobody into the older generation, and do not let the young one grow beyond its half."""
    memory = Memory(6)
    host = filled(memory, 1)
    for number in range(2, 30):
        filled(memory, 1, number)
        assert [] == getattr(memory.forget(number.to_bytes(16, "big")), "places", None)
        assert [b"ticket-1"] == list(host.live)
    filled(memory, 2, 30)
    assert 3 == len(host.live)
    filled(memory, 1, 32)
    assert ([b"ticket-32"], 3) == (list(host.live), len(host.old))
    memory = Memory(6)
    host = filled(memory, 1)
    memory.forget((1).to_bytes(16, "big"))
    filled(memory, 3, 2)
    assert 3 == len(host.live)


def test_CACHE_03_news_that_nobody_takes_is_bounded() -> None:
    """Ten thousand entries wait for the audit trail, and the newest stay."""
    memory, login = Memory(), a_login()
    memory.news.extend((str(number), login) for number in range(10_001))
    assert (10_000, "10000") == (len(memory.news), memory.news[-1][0])


def test_a_replacement_of_nobody_known_or_of_nothing_newer_changes_nothing() -> None:
    """It is read from the store when somebody asks."""
    memory = Memory()
    memory.replaced(a_login(1))
    assert 0 == len(memory)
    known = memory.remember(memory.host("a"), b"t", a_login(1, version=2))
    memory.replaced(known)
    memory.replaced(a_login(1, version=2))
    memory.replaced(a_login(1, version=1))
    assert known is memory.find(memory.host("a"), b"t")
    assert not known.ended


def test_a_replacement_reaches_the_older_generation_too() -> None:
    """A ticket about to fall out does not answer with the old person."""
    memory = Memory(2)
    host = filled(memory, 2)
    new = a_login(1, a_person(PHARMACIST), version=2)
    memory.replaced(new)
    assert {b"ticket-1"} == set(host.old)
    assert new is memory.find(host, b"ticket-1")


def test_a_ticket_that_was_replaced_is_forgotten_alone() -> None:
    """Its login lives on by its other tickets; forgetting an unknown one is nothing."""
    memory = Memory(4)
    host = filled(memory, 1)
    login = memory.remember(host, b"other", memory.by_id[(1).to_bytes(16, "big")])
    memory.forget_ticket(host, b"ticket-1")
    memory.forget_ticket(host, b"unknown")
    assert [None, login] == [memory.find(host, b"ticket-1"), memory.find(host, b"other")]
    assert [(host, b"other")] == login.places
    filled(memory, 2, first=2)
    memory.forget_ticket(host, b"other")
    assert memory.find(host, b"other") is None


def test_forgetting_everything_forgets_everybody() -> None:
    """After the store was replaced nothing in memory is believed."""
    memory = Memory(4)
    host = filled(memory, 3)
    memory.to_touch[b"x"] = memory.to_renew[b"x"] = a_login(9)
    memory.forget_everything()
    assert (0, {}, {}) == (len(memory), host.live, host.old)
    assert memory.forget(b"nobody") is None


def test_a_login_that_ends_waits_for_nothing() -> None:
    """It is neither written nor renewed any more."""
    memory = Memory()
    filled(memory, 1)
    login = memory.by_id[(1).to_bytes(16, "big")]
    memory.to_touch[login.id] = memory.to_renew[login.id] = login
    memory.forget(login.id)
    assert ({}, {}) == (memory.to_touch, memory.to_renew)


def test_CACHE_03_ended_tickets_have_a_memory_of_their_own() -> None:
    """Bounded, never evicting a live login; it tells who left from whose login ended by itself (decision 36)."""
    memory = Memory(4)
    host = filled(memory, 1)
    assert memory.ended_ticket(b"digest") is None
    memory.remember_ended(b"digest")
    assert memory.ended_ticket(b"digest") is True
    memory.remember_ended(b"digest", by_itself=False)
    assert memory.ended_ticket(b"digest") is False
    for number in range(40_000):
        memory.remember_ended(b"%d" % number)
    assert memory.ended_ticket(b"digest") is None
    assert memory.ended_ticket(b"39999") is True
    assert memory.find(host, b"ticket-1") is not None


class MemoryKeepsItsWord(RuleBasedStateMachine):
    """Anything that can happen to a small memory, beside a plain account of it."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = Memory(4)
        self.hosts = [self.memory.host("a"), self.memory.host("b")]
        self.owner: dict[tuple[int, bytes], int] = {}  # every ticket ever given, and whose it is
        self.version: dict[int, int] = {}  # newest state of each login; absent: ended
        self.dropped: set[tuple[int, bytes]] = set()
        self.count = 0

    @rule(login=st.integers(1, 4), host=st.integers(0, 1))
    def sign_in(self, login: int, host: int) -> None:
        """A new ticket, or a known one read from the store again."""
        self.version.setdefault(login, 1)
        self.count += 1
        ticket = b"%d" % self.count
        self.owner[host, ticket] = login
        self.memory.remember(self.hosts[host], ticket, a_login(login, version=self.version[login]))

    @rule(data=st.data())
    def ask(self, data: st.DataObject) -> None:
        """A check: from memory, else as the store would answer."""
        if not self.owner:
            return
        host, ticket = data.draw(st.sampled_from(sorted(self.owner)))
        login = self.owner[host, ticket]
        found = self.memory.find(self.hosts[host], ticket)
        if found is None and login in self.version and (host, ticket) not in self.dropped:
            self.memory.remember(self.hosts[host], ticket, a_login(login, version=self.version[login]))

    @rule(login=st.integers(1, 4))
    def replace(self, login: int) -> None:
        if login in self.version:
            self.version[login] += 1
            self.memory.replaced(a_login(login, version=self.version[login]))

    @rule(login=st.integers(1, 4))
    def end(self, login: int) -> None:
        """As a sign-out or the news of one: a later sign-in of that person is another login, here one with the same number."""
        self.version.pop(login, None)
        self.memory.forget(login.to_bytes(16, "big"))
        self.owner = {place: owner for place, owner in self.owner.items() if owner != login}

    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        if self.owner:
            host, ticket = data.draw(st.sampled_from(sorted(self.owner)))
            self.dropped.add((host, ticket))
            self.memory.forget_ticket(self.hosts[host], ticket)

    @rule(login=st.integers(1, 4), which=st.sampled_from(["to_touch", "to_renew"]))
    def be_active(self, login: int, which: str) -> None:
        known = self.memory.by_id.get(login.to_bytes(16, "big"))
        if known is not None:
            getattr(self.memory, which)[known.id] = known

    @rule(which=st.sampled_from(["to_touch", "to_renew"]))
    def write(self, which: str) -> None:
        getattr(self.memory, which).clear()

    @invariant()
    def every_ticket_answers_for_its_own_live_login(self) -> None:
        for index, host in enumerate(self.hosts):
            for generation in (host.live, host.old):
                for ticket, login in generation.items():
                    number = int.from_bytes(login.id, "big")
                    assert self.owner.get((index, ticket)) == number
                    assert (index, ticket) not in self.dropped
                    assert not login.ended
                    assert self.version[number] == login.version
                    assert self.memory.by_id[login.id] is login
                    assert (host, ticket) in login.places

    @invariant()
    def it_is_bounded(self) -> None:
        assert sum(len(host.live) for host in self.hosts) <= 2
        assert sum(len(host.old) for host in self.hosts) <= 2


MemoryKeepsItsWord.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestMemory = MemoryKeepsItsWord.TestCase
TestMemory.__doc__ = "SESS-03, SESS-04: no order of events leaves a ticket that answers for an ended or older login."


# -- records -----------------------------------------------------------------------------------------------------------

RECORD = Record(
    identity=a_person(),
    claims={"iss": "https://auth.psc.example", "auth_time": NOW},
    sid="sid-1",
    id_token=Secret("id.token.x"),
    refresh_token=Secret("refresh"),
    refresh_issued=NOW,
    refresh_lives=1800,
    entered=frozenset({"dossier", "radio"}),
    renewing=True,
)


def test_a_record_comes_back_as_it_was() -> None:
    """Tokens included, and hidden from every repr."""
    again = read_record(record_bytes(RECORD))
    assert ("id.token.x", "refresh") == (again.id_token.reveal(), again.refresh_token.reveal())
    hidden = {"id_token": None, "refresh_token": None}
    assert replace(RECORD, **hidden) == replace(again, **hidden)  # type: ignore[arg-type]
    assert "id.token.x" not in repr(again)
    assert "refresh'" not in repr(again)
    fresh = Record(a_person(), {}, "sid", Secret("i"), Secret("r"), NOW, 1800)
    assert (frozenset(), False) == (fresh.entered, fresh.renewing)


def test_what_lies_in_the_store_is_written_as_earlier_versions_read_it() -> None:
    """Two versions share one store while one takes over from the other: names, types and order are part of the promise."""
    written = record_bytes(replace(RECORD, claims={"name": "Zoé"}))
    document = json.loads(written)
    assert isinstance(document.pop("identity"), dict)
    assert {
        "v": 1,
        "claims": {"name": "Zoé"},
        "sid": "sid-1",
        "id_token": "id.token.x",
        "refresh_token": "refresh",
        "refresh_issued": NOW,
        "refresh_lives": 1800,
        "entered": ["dossier", "radio"],
        "renewing": True,
    } == document
    assert '"claims":{"name":"Zoé"},"sid":"sid-1"'.encode() in written
    listing = Listing("899700000042", "Zoé", "Martin", ("dossier", "radio"), "eidas1", "CARD", "192.0.2.7")
    assert (
        '{"subject":"899700000042","given_name":"Zoé","family_name":"Martin","acr":"eidas1","auth_mode":"CARD",'
        '"address":"192.0.2.7","apps":["dossier","radio"]}'
    ).encode() == listing_bytes(listing)


def changed(**changes: object) -> bytes:
    document = json.loads(record_bytes(RECORD))
    for name, value in changes.items():
        if value is ...:
            del document[name]
        else:
            document[name] = value
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    "plain",
    [
        b"",
        b"not json",
        b"\xff",
        b"[]",
        b"null",
        b"{}",
        changed(v=2),
        changed(v=...),
        changed(identity=[]),
        changed(identity=...),
        changed(identity={}),
        changed(identity={"issuer": "i", "sub": 3, "subject": "s"}),
        changed(claims=None),
        changed(entered="dossier"),
        changed(refresh_issued="soon"),
        changed(refresh_lives=None),
        changed(sid=...),
    ],
)
def test_COOK_07_a_record_of_another_shape_is_never_guessed_at(plain: bytes) -> None:
    """Another version, not JSON, another type: one of the three errors that the caller knows, so that the login counts as over."""
    with pytest.raises((ValueError, KeyError, TypeError)):
        read_record(plain)


def test_a_listing_holds_no_token_and_comes_back_as_it_was() -> None:
    """What `sessions list` shows."""
    listing = Listing("899700000042", "Zoé", "Martin", ("dossier", "radio"), "eidas1", "CARD", "192.0.2.7")
    assert listing == read_listing(listing_bytes(listing))


@pytest.mark.parametrize("plain", [b"", b"[]", b"{}", b'{"apps":null}', b'{"apps":[]}'])
def test_COOK_07_a_listing_of_another_shape_is_refused(plain: bytes) -> None:
    """One of the three errors that its readers know."""
    read: Callable[[bytes], Listing] = read_listing
    with pytest.raises((ValueError, KeyError, TypeError)):
        read(plain)


def test_two_logins_are_two_objects() -> None:
    """Nothing is shared between them (SESS-04: no mixed headers)."""
    one, two = a_login(1), a_login(2)
    one.decisions[1] = Remembered(Refuse(Because.RULE), NOW, 1)
    one.places.append((Host("a"), b"t"))
    one.passes["a"] = [1.0]
    assert ({}, [], {}) == (two.decisions, two.places, two.passes)
    assert isinstance(one, Login)
