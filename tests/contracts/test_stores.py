"""What any store must pass: one suite, run on every engine, and a machine that compares the engines with each other."""

import asyncio
import os
import stat
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from store_samples import ABSOLUTE, IDLE, KEEP, NOW, a_login, a_ticket, name

from forward_auth.errors import StoreUnavailable
from forward_auth.stores import Change, Ended, Lapsed, LoginRow, Selection, Store, TicketRow
from forward_auth.stores.factory import open_store
from forward_auth.stores.memory import MemoryStore
from forward_auth.stores.sqlite import SqliteStore

Story = Callable[[Any], Awaitable[None]]
Run = Callable[[Story], None]


@pytest.fixture(params=["memory", "sqlite"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Runs a story with an open store of that engine, on a loop of its own."""

    def run_story(story: Story) -> None:
        async def whole() -> None:
            store = open_store("memory:" if request.param == "memory" else f"sqlite:{tmp_path}/logins.db")
            await store.open()
            try:
                await story(store)
            finally:
                await store.close()

        asyncio.run(whole())

    return run_story


# --- adding and finding


def test_find(run: Run) -> None:
    """What was added is found whole by its ticket and by its id; an unknown digest is nobody."""

    async def story(store: Store) -> None:
        login = a_login()
        handoff = a_ticket(login, 2, kind="handoff", bind=name("bind", 1), ends=NOW + 30)
        assert True is await store.add_login(login, a_ticket(login), NOW)
        assert True is await store.add_ticket(handoff, NOW)
        assert (a_ticket(login), login) == await store.find(a_ticket(login).digest, NOW)
        assert (handoff, login) == await store.find(handoff.digest, NOW + 29)
        assert login == await store.login(login.id, NOW)
        assert await store.find(name("digest", 9), NOW) is None
        assert await store.login(name("login", 9, 16), NOW) is None

    run(story)


def test_nothing_named(run: Run) -> None:
    """A login for which PSC gave neither sid nor sub is kept as such, and no tombstone covers «none»."""

    async def story(store: Store) -> None:
        login = a_login(sid_tag=None, sub_tag=None)
        await store.end(Selection(sid_tag=b""), NOW, KEEP)
        await store.end(Selection(sub_tag=b""), NOW, KEEP)
        assert False is await store.is_ended(None, None, NOW, NOW)
        assert True is await store.add_login(login, a_ticket(login), NOW)
        assert login == await store.login(login.id, NOW)
        assert [Ended(login.id, login.listing)] == list(await store.end(Selection(login_id=login.id), NOW, KEEP))

    run(story)


@pytest.mark.parametrize(
    ("login", "ticket", "last"),
    [
        (a_login(), a_ticket(a_login()), NOW + IDLE - 1),  # the idle limit
        (a_login(seen=NOW + ABSOLUTE - 60), a_ticket(a_login()), NOW + ABSOLUTE - 1),  # the absolute one
        (a_login(), a_ticket(a_login(), ends=NOW + 30), NOW + 29),  # the ticket's own
    ],
)
def test_limits(run: Run, login: LoginRow, ticket: TicketRow, last: int) -> None:
    """A login is live until the second before its limit and not in the second itself."""

    async def story(store: Store) -> None:
        await store.add_login(login, ticket, NOW)
        assert (ticket, login) == await store.find(ticket.digest, last)
        assert await store.find(ticket.digest, last + 1) is None
        if ticket.ends > last + 1:
            assert login == await store.login(login.id, last)
            assert await store.login(login.id, last + 1) is None
            assert list(await store.logins(last + 1)) == []

    run(story)


def test_added_twice(run: Run) -> None:
    """An id or digest that exists is our own mistake; the first one stays and nothing of the second is written."""

    async def story(store: Store) -> None:
        first, second = a_login(1), a_login(2)
        await store.add_login(first, a_ticket(first), NOW)
        with pytest.raises(ValueError):
            await store.add_login(replace(first, version=7), a_ticket(first, 2), NOW)
        with pytest.raises(ValueError):
            await store.add_login(second, replace(a_ticket(second), digest=a_ticket(first).digest), NOW)
        with pytest.raises(ValueError):
            await store.add_ticket(replace(a_ticket(first), host="other.hopital.example"), NOW)
        assert (a_ticket(first), first) == await store.find(a_ticket(first).digest, NOW)
        assert [first] == list(await store.logins(NOW))
        assert await store.find(a_ticket(first, 2).digest, NOW) is None

    run(story)


def test_foreign_ticket(run: Run) -> None:
    """A login is never added with the ticket of another one."""

    async def story(store: Store) -> None:
        with pytest.raises(ValueError, match="another login"):
            await store.add_login(a_login(1), a_ticket(a_login(2)), NOW)
        assert list(await store.logins(NOW)) == []

    run(story)


def test_add_ticket_to_the_dead(run: Run) -> None:
    """No ticket for a login that is unknown, past its limits or ended."""

    async def story(store: Store) -> None:
        login = a_login()
        assert False is await store.add_ticket(a_ticket(login), NOW)
        await store.add_login(login, a_ticket(login), NOW)
        assert False is await store.add_ticket(a_ticket(login, 2), NOW + IDLE)
        await store.end(Selection(login_id=login.id), NOW, KEEP)
        assert False is await store.add_ticket(a_ticket(login, 3), NOW)
        assert await store.find(a_ticket(login, 3).digest, NOW) is None

    run(story)


def test_drop_ticket(run: Run) -> None:
    """Dropping one ticket leaves the login and its other tickets; dropping it again does nothing."""

    async def story(store: Store) -> None:
        login = a_login()
        await store.add_login(login, a_ticket(login, 1), NOW)
        await store.add_ticket(a_ticket(login, 2), NOW)
        await store.drop_ticket(a_ticket(login, 1).digest)
        await store.drop_ticket(a_ticket(login, 1).digest)
        assert await store.find(a_ticket(login, 1).digest, NOW) is None
        assert (a_ticket(login, 2), login) == await store.find(a_ticket(login, 2).digest, NOW)

    run(story)


def test_order(run: Run) -> None:
    """The list has all live logins, the newest first."""

    async def story(store: Store) -> None:
        logins = [a_login(number, created=NOW - number % 7 * 10) for number in range(300)]
        Random(1).shuffle(logins)
        await asyncio.gather(*(store.add_login(login, a_ticket(login), NOW) for login in logins))
        listed = list(await store.logins(NOW))
        assert sorted(logins, key=lambda login: (-login.created, login.id)) == listed
        assert list(await store.logins(NOW + IDLE)) == []

    run(story)


# --- taking: exactly once


def test_take_once(run: Run) -> None:
    """CB-02 for hand-off codes: of fifty callers at once exactly one gets the code, and it is gone."""

    async def story(store: Store) -> None:
        login = a_login()
        code = a_ticket(login, 2, kind="handoff", bind=name("bind", 1), ends=NOW + 30)
        await store.add_login(login, a_ticket(login), NOW)
        await store.add_ticket(code, NOW)
        got = await asyncio.gather(*(store.take(code.digest, NOW + 1) for _ in range(50)))
        assert [(code, login)] == [found for found in got if found is not None]
        assert await store.find(code.digest, NOW + 1) is None
        assert login == await store.login(login.id, NOW + 1)

    run(story)


def test_take_too_late(run: Run) -> None:
    """An expired code is nobody's, and it is removed by the attempt: turning the clock back does not revive it."""

    async def story(store: Store) -> None:
        login = a_login()
        code = a_ticket(login, 2, kind="handoff", ends=NOW + 30)
        await store.add_login(login, a_ticket(login), NOW)
        await store.add_ticket(code, NOW)
        assert await store.take(code.digest, NOW + 30) is None
        assert await store.take(code.digest, NOW) is None

    run(story)


# --- replacing


def test_replace(run: Run) -> None:
    """A replacement is read back whole, is heard by others and leaves the tickets as they are."""

    async def story(store: Store) -> None:
        login = a_login()
        await store.add_login(login, a_ticket(login), NOW)
        newer = replace(
            login,
            sealed=b"renewed",
            listing=b"also",
            sid_tag=name("sid", 7),
            sub_tag=name("sub", 7),
            person_tag=name("person", 7),
            auth_time=NOW + 5,
            created=NOW + 5,
            seen=NOW + 5,
            idle=60,
            ends=NOW + 500,
            version=2,
        )
        assert True is await store.replace_login(newer, 1, NOW + 5)
        assert (a_ticket(login), newer) == await store.find(a_ticket(login).digest, NOW + 5)
        assert (1, [Change(1, login.id, ended=False)]) == await _heard(store, 0)
        assert [Ended(login.id, b"also")] == list(await store.end(Selection(person_tag=name("person", 7)), NOW, KEEP))

    run(story)


def test_replace_is_compare_and_swap(run: Run) -> None:
    """Of twenty writers who read the same version exactly one wins."""

    async def story(store: Store) -> None:
        login = a_login()
        await store.add_login(login, a_ticket(login), NOW)
        rivals = [replace(login, sealed=name("rival", number), version=2) for number in range(20)]
        won = await asyncio.gather(*(store.replace_login(rival, 1, NOW) for rival in rivals))
        assert sum(won) == 1
        assert rivals[won.index(True)] == await store.login(login.id, NOW)
        assert False is await store.replace_login(replace(login, version=3), 1, NOW)
        assert True is await store.replace_login(replace(login, version=3), 2, NOW)

    run(story)


def test_replace_the_dead(run: Run) -> None:
    """A renewal that comes back after sign-out, or after the limits, changes nothing and revives nobody (SESS, by name)."""

    async def story(store: Store) -> None:
        login = a_login()
        newer = replace(login, seen=NOW + IDLE, version=2)
        assert False is await store.replace_login(newer, 1, NOW)
        await store.add_login(login, a_ticket(login), NOW)
        assert False is await store.replace_login(newer, 1, NOW + IDLE)
        await store.end(Selection(login_id=login.id), NOW, KEEP)
        assert False is await store.replace_login(newer, 1, NOW)
        assert await store.login(login.id, NOW) is None
        assert await store.find(a_ticket(login).digest, NOW) is None

    run(story)


def test_replace_needs_a_newer_version(run: Run) -> None:
    """A replacement that does not raise the version would let an older writer win later: refused as our own mistake."""

    async def story(store: Store) -> None:
        login = a_login()
        await store.add_login(login, a_ticket(login), NOW)
        with pytest.raises(ValueError, match="does not follow"):
            await store.replace_login(login, 1, NOW)

    run(story)


def test_replace_keeps_the_newest_activity(run: Run) -> None:
    """Another process touched the login while this one renewed it: `seen` does not move back."""

    async def story(store: Store) -> None:
        login = a_login()
        await store.add_login(login, a_ticket(login), NOW)
        await store.touch({login.id: NOW + 500}, NOW + 500)
        await store.replace_login(replace(login, version=2), 1, NOW + 501)
        assert replace(login, seen=NOW + 500, version=2) == await store.login(login.id, NOW + 501)

    run(story)


def test_replace_with_a_logged_out_sid(run: Run) -> None:
    """A replacement into a PSC session that was logged out is refused and leaves the login as it was."""

    async def story(store: Store) -> None:
        login = a_login()
        await store.add_login(login, a_ticket(login), NOW)
        await store.end(Selection(sid_tag=name("sid", 2)), NOW, KEEP)
        assert False is await store.replace_login(replace(login, sid_tag=name("sid", 2), version=2), 1, NOW)
        assert login == await store.login(login.id, NOW)

    run(story)


# --- touching


def test_touch(run: Run) -> None:
    """Activity moves the idle limit forward, never back, never beyond `now`; an unknown id does nothing."""

    async def story(store: Store) -> None:
        login = a_login()
        await store.add_login(login, a_ticket(login), NOW)
        await store.touch({login.id: NOW + 100, name("login", 9, 16): NOW + 100}, NOW + 100)
        assert (await _must_find(store, login)).seen == NOW + 100
        await store.touch({login.id: NOW + 50}, NOW + 100)
        assert (await _must_find(store, login)).seen == NOW + 100
        await store.touch({login.id: NOW + 9_999}, NOW + 110)
        assert (await _must_find(store, login)).seen == NOW + 110
        assert await store.login(login.id, NOW + 110 + IDLE - 1) is not None
        assert await store.login(login.id, NOW + 110 + IDLE) is None
        await store.touch({}, NOW + 110)

    run(story)


def test_touch_revives_nobody(run: Run) -> None:
    """Activity inside the idle limit counts also when written a little late; activity after it does not."""

    async def story(store: Store) -> None:
        late, dead = a_login(1), a_login(2)
        await store.add_login(late, a_ticket(late), NOW)
        await store.add_login(dead, a_ticket(dead), NOW)
        await store.touch({late.id: NOW + IDLE - 1, dead.id: NOW + IDLE}, NOW + IDLE + 5)
        assert (await _must_find(store, late, NOW + IDLE + 5)).seen == NOW + IDLE - 1
        assert await store.login(dead.id, NOW + IDLE + 5) is None

    run(story)


def test_touch_cannot_pass_the_absolute_end(run: Run) -> None:
    """However active: the absolute end stands (R14)."""

    async def story(store: Store) -> None:
        login = a_login(ends=NOW + 100)
        await store.add_login(login, a_ticket(login), NOW)
        await store.touch({login.id: NOW + 99}, NOW + 99)
        assert await store.login(login.id, NOW + 99) is not None
        assert await store.login(login.id, NOW + 100) is None

    run(story)


def test_touch_many(run: Run) -> None:
    """More logins than one slice holds are all touched."""

    async def story(store: Store) -> None:
        logins = [a_login(number, sealed=b"x") for number in range(1_100)]
        await asyncio.gather(*(store.add_login(login, a_ticket(login), NOW) for login in logins))
        await store.touch({login.id: NOW + 7 for login in logins}, NOW + 7)
        assert {NOW + 7} == {login.seen for login in await store.logins(NOW + 7)}

    run(story)


# --- ending, tombstones


def _three_logins() -> list[LoginRow]:
    """Two of one person (own sids, own auth_time, one sub) and a stranger."""
    return [
        a_login(1, person_tag=b"P", sub_tag=b"U", auth_time=NOW),
        a_login(2, person_tag=b"P", sub_tag=b"U", auth_time=NOW + 60),
        a_login(3),
    ]


@pytest.mark.parametrize(
    ("which", "ended"),
    [
        (Selection(login_id=name("login", 1, 16)), {1}),
        (Selection(login_id=name("login", 9, 16)), set()),
        (Selection(sid_tag=name("sid", 2)), {2}),
        (Selection(sid_tag=name("sid", 9)), set()),
        (Selection(sub_tag=b"U"), {1, 2}),
        (Selection(sub_tag=b"U", before=NOW - 1), set()),
        (Selection(sub_tag=b"U", before=NOW), {1}),
        (Selection(sub_tag=b"U", before=NOW + 59), {1}),
        (Selection(sub_tag=b"U", before=NOW + 60), {1, 2}),
        (Selection(person_tag=b"P"), {1, 2}),
        (Selection(person_tag=b"Q"), set()),
        (Selection(everyone=True), {1, 2, 3}),
    ],
)
def test_end(run: Run, which: Selection, ended: set[int]) -> None:
    """Exactly the selected logins end, with all their tickets, and others hear of each."""

    async def story(store: Store) -> None:
        logins = _three_logins()
        for login in logins:
            await store.add_login(login, a_ticket(login, 1), NOW + 60)
            await store.add_ticket(a_ticket(login, 2), NOW + 60)
        expected = [login for number, login in enumerate(logins, 1) if number in ended]
        assert [Ended(login.id, login.listing) for login in expected] == list(await store.end(which, NOW + 60, KEEP))
        for login in logins:
            is_left = login not in expected
            assert is_left is (await store.login(login.id, NOW + 60) is not None)
            for number in (1, 2):
                assert is_left is (await store.find(a_ticket(login, number).digest, NOW + 60) is not None)
        heard = {change.login_id for change in (await store.changes(0))[1] if change.ended}
        asked = {which.login_id} if which.login_id is not None else set()
        assert {login.id for login in expected} | asked == heard
        assert list(await store.end(which, NOW + 60, KEEP)) == []

    run(story)


def test_end_everyone_is_everyone(run: Run) -> None:
    """More than a thousand logins all end, whatever their clock says."""

    async def story(store: Store) -> None:
        logins = [a_login(number, sealed=b"x", created=NOW + number) for number in range(1_001)]
        await asyncio.gather(*(store.add_login(login, a_ticket(login), NOW) for login in logins))
        assert len(await store.end(Selection(everyone=True), NOW, KEEP)) == 1_001
        assert list(await store.logins(NOW)) == []

    run(story)


@pytest.mark.parametrize(
    "which",
    [
        Selection(),
        Selection(everyone=False),
        Selection(login_id=b"a", sid_tag=b"b"),
        Selection(person_tag=b"a", everyone=True),
        Selection(sid_tag=b"a", before=NOW),
        Selection(before=NOW, everyone=True),
    ],
)
def test_unclear_selection(run: Run, which: Selection) -> None:
    """A selection that names nothing, or two things, ends nobody."""

    async def story(store: Store) -> None:
        login = a_login()
        await store.add_login(login, a_ticket(login), NOW)
        with pytest.raises(ValueError):
            await store.end(which, NOW, KEEP)
        assert login == await store.login(login.id, NOW)

    run(story)


def test_ended_names_the_living_only(run: Run) -> None:
    """A login past its limits is not reported as ended by this sign-out; others hear of it all the same."""

    async def story(store: Store) -> None:
        login = a_login()
        await store.add_login(login, a_ticket(login), NOW)
        assert list(await store.end(Selection(login_id=login.id), NOW + IDLE, KEEP)) == []
        assert (1, [Change(1, login.id, ended=True)]) == await _heard(store, 0)
        await store.touch({login.id: NOW + 1}, NOW + IDLE)
        assert await store.login(login.id, NOW + 2) is None

    run(story)


def test_logout_before_login(run: Run) -> None:
    """BCL, by name: the back-channel logout of a sid that arrives before the callback forbids that login until keep_until."""

    async def story(store: Store) -> None:
        login = a_login(auth_time=NOW + 1)
        assert list(await store.end(Selection(sid_tag=login.sid_tag), NOW, NOW + 100)) == []
        assert False is await store.add_login(login, a_ticket(login), NOW + 2)
        assert False is await store.add_login(login, a_ticket(login), NOW + 100)
        assert await store.login(login.id, NOW + 2) is None
        assert await store.find(a_ticket(login).digest, NOW + 2) is None
        assert True is await store.add_login(login, a_ticket(login), NOW + 101)

    run(story)


def test_sub_logout_spares_a_later_authentication(run: Run) -> None:
    """Decision 26: a logout for a sub alone covers authentications up to its `iat`; who authenticates later enters."""

    async def story(store: Store) -> None:
        await store.end(Selection(sub_tag=b"U", before=NOW), NOW + 3, KEEP)
        same, later = a_login(1, sub_tag=b"U", auth_time=NOW), a_login(2, sub_tag=b"U", auth_time=NOW + 1)
        assert False is await store.add_login(same, a_ticket(same), NOW + 3)
        assert True is await store.add_login(later, a_ticket(later), NOW + 3)
        assert True is await store.is_ended(None, b"U", NOW, NOW + 3)
        assert False is await store.is_ended(None, b"U", NOW + 1, NOW + 3)

    run(story)


def test_sub_logout_without_a_time(run: Run) -> None:
    """Without `before` it covers every authentication up to now."""

    async def story(store: Store) -> None:
        await store.end(Selection(sub_tag=b"U"), NOW, KEEP)
        assert True is await store.is_ended(None, b"U", NOW, NOW)
        assert False is await store.is_ended(None, b"U", NOW + 1, NOW + 1)

    run(story)


def test_tombstones_hold_each_for_itself(run: Run) -> None:
    """A later, shorter logout neither shortens nor widens an earlier one."""

    async def story(store: Store) -> None:
        await store.end(Selection(sub_tag=b"U", before=NOW), NOW, NOW + 1_000)
        await store.end(Selection(sub_tag=b"U", before=NOW + 50), NOW, NOW + 100)
        await store.end(Selection(sub_tag=b"U", before=NOW), NOW, NOW + 10)
        assert True is await store.is_ended(None, b"U", NOW + 50, NOW + 100)
        assert False is await store.is_ended(None, b"U", NOW + 50, NOW + 101)
        assert True is await store.is_ended(None, b"U", NOW, NOW + 1_000)
        assert False is await store.is_ended(None, b"U", NOW, NOW + 1_001)

    run(story)


@pytest.mark.parametrize(
    "which",
    [
        Selection(login_id=name("login", 1, 16)),
        Selection(sid_tag=name("sid", 1)),
        Selection(sub_tag=name("sub", 1)),
        Selection(person_tag=name("person", 1)),
        Selection(everyone=True),
    ],
)
def test_only_psc_ends_a_sid(run: Run, which: Selection) -> None:
    """A logout that PSC sent leaves the sid ended; after any other end the same session at PSC may sign in again."""

    async def story(store: Store) -> None:
        login = a_login(1)
        await store.add_login(login, a_ticket(login), NOW)
        await store.end(which, NOW, KEEP)
        by_psc = which.sid_tag is not None or which.sub_tag is not None
        assert by_psc is await store.is_ended(login.sid_tag, None, NOW + 999, KEEP)
        assert False is await store.is_ended(login.sid_tag, None, NOW, KEEP + 1)
        assert (which.sub_tag is not None) is await store.is_ended(None, login.sub_tag, NOW, NOW)
        assert False is await store.is_ended(login.sub_tag, login.sid_tag, NOW, NOW)

    run(story)


# --- changes


async def _heard(store: Store, after: int) -> tuple[int, list[Change]]:
    newest, changes = await store.changes(after)
    return newest, list(changes)


async def _must_find(store: Store, login: LoginRow, now: int = NOW) -> LoginRow:
    found = await store.login(login.id, now)
    assert found is not None
    return found


def test_changes(run: Run) -> None:
    """A listener hears each login's newest change once, in order; -1 only tells where to begin."""

    async def story(store: Store) -> None:
        assert await _heard(store, -1) == (0, [])
        assert await _heard(store, 0) == (0, [])
        one, two = a_login(1), a_login(2)
        for login in (one, two):
            await store.add_login(login, a_ticket(login), NOW)
        assert await _heard(store, 0) == (0, [])
        await store.replace_login(replace(one, version=2), 1, NOW)
        await store.end(Selection(login_id=two.id), NOW, KEEP)
        assert await _heard(store, -1) == (2, [])
        assert (2, [Change(1, one.id, ended=False), Change(2, two.id, ended=True)]) == await _heard(store, 0)
        assert (2, [Change(2, two.id, ended=True)]) == await _heard(store, 1)
        assert await _heard(store, 2) == (2, [])
        assert await _heard(store, 99) == (2, [])
        await store.end(Selection(login_id=one.id), NOW, KEEP)
        assert (3, [Change(2, two.id, ended=True), Change(3, one.id, ended=True)]) == await _heard(store, 0)

    run(story)


def test_changes_outlive_the_login(run: Run) -> None:
    """A process that could not listen for hours still hears of a logout as long as its memory could hold that login, and
    the sequence goes on after the old changes are gone."""

    async def story(store: Store) -> None:
        one, two = a_login(1), a_login(2, ends=NOW + 10)
        for login in (one, two):
            await store.add_login(login, a_ticket(login), NOW)
            await store.replace_login(replace(login, version=2), 1, NOW)
        await store.end(Selection(login_id=one.id), NOW, NOW)
        await store.expire(NOW + 600)
        assert (3, [Change(2, two.id, ended=False), Change(3, one.id, ended=True)]) == await _heard(store, 0)
        await store.expire(NOW + 601)
        assert (3, [Change(3, one.id, ended=True)]) == await _heard(store, 0)
        await store.expire(NOW + ABSOLUTE)
        assert (3, [Change(3, one.id, ended=True)]) == await _heard(store, 0)
        await store.expire(NOW + ABSOLUTE + 1)
        assert await _heard(store, 0) == (3, [])
        await store.end(Selection(login_id=one.id), NOW, NOW)
        assert (4, [Change(4, one.id, ended=True)]) == await _heard(store, 3)

    run(story)


# --- expiring


def test_expire(run: Run) -> None:
    """What is past its limits goes, with what hangs on it; what is live stays."""

    async def story(store: Store) -> None:
        idle, old, live = a_login(1, idle=100), a_login(2, ends=NOW + 100), a_login(3)
        for login in (idle, old, live):
            await store.add_login(login, a_ticket(login, 1), NOW)
            await store.add_ticket(a_ticket(login, 2), NOW)
        await store.add_ticket(a_ticket(live, 3, ends=NOW + 30), NOW)
        await store.put_note("keys", b"...", NOW + 100)
        await store.claim("jti", NOW + 99, NOW)
        await store.end(Selection(sid_tag=b"S"), NOW, NOW + 99)
        assert await store.expire(NOW + 29) == 0
        assert await store.expire(NOW + 99) == 1
        assert [] == list(await store.lapse(NOW + 99))
        told = {Lapsed(idle.id, idle.listing, False), Lapsed(old.id, old.listing, True)}
        assert told == set(await store.lapse(NOW + 100))
        assert [] == list(await store.lapse(NOW + 100))
        assert await store.expire(NOW + 100) == 3
        assert await store.expire(NOW + 100) == 0
        assert [live] == list(await store.logins(NOW))
        for login in (idle, old):
            for number in (1, 2):
                assert await store.find(a_ticket(login, number).digest, NOW) is None
        assert (a_ticket(live, 2), live) == await store.find(a_ticket(live, 2).digest, NOW)
        assert await store.find(a_ticket(live, 3).digest, NOW) is None
        assert await store.get_note("keys", NOW) is None
        assert True is await store.claim("jti", NOW + 1, NOW)
        assert False is await store.is_ended(b"S", None, NOW, NOW)

    run(story)


def test_expire_in_slices(run: Run) -> None:
    """`most` bounds each kind; the oldest go first."""

    async def story(store: Store) -> None:
        logins = [a_login(number, idle=10 + number) for number in range(5)]
        for login in logins:
            await store.add_login(login, a_ticket(login), NOW)
            await store.end(Selection(sid_tag=name("gone", login.idle)), NOW, NOW + login.idle)
        assert [each.id for each in logins[:2]] == [each.login_id for each in await store.lapse(NOW + 100, most=2)]
        assert logins[2:] == sorted(await store.logins(NOW), key=lambda login: login.idle)
        assert [2, 2, 1, 0] == [await store.expire(NOW + 100, 2) for _ in range(4)]

    run(story)


# --- notes and claims


def test_notes(run: Run) -> None:
    """The newest note of a name is read until its `until`, not in that second."""

    async def story(store: Store) -> None:
        assert await store.get_note("keys", NOW) is None
        await store.put_note("keys", b"old", NOW + 10)
        await store.put_note("keys", b"new\0", NOW + 20)
        await store.put_note("other", b"", NOW + 20)
        assert await store.get_note("keys", NOW + 19) == b"new\0"
        assert await store.get_note("other", NOW) == b""
        assert await store.get_note("keys", NOW + 20) is None

    run(story)


def test_claim(run: Run) -> None:
    """BCL replay, renewal's single flight: one caller per name, until it passes or is given back."""

    async def story(store: Store) -> None:
        assert sum(await asyncio.gather(*(store.claim("jti-1", NOW + 60, NOW) for _ in range(50)))) == 1
        assert True is await store.claim("jti-2", NOW + 60, NOW)
        assert False is await store.claim("jti-1", NOW + 999, NOW + 60)
        assert True is await store.claim("jti-1", NOW + 100, NOW + 61)
        assert False is await store.claim("jti-1", NOW + 200, NOW + 100)
        await store.release("jti-1")
        await store.release("never claimed")
        assert True is await store.claim("jti-1", NOW + 200, NOW + 100)
        assert False is await store.claim("jti-2", NOW + 60, NOW)

    run(story)


# --- life


def test_closed(run: Run) -> None:
    """A store that is not open says so: it never answers «no such login». Closing twice is fine, and it opens again."""

    async def story(store: Any) -> None:
        await store.open()
        assert await store.health() is None
        await store.close()
        await store.close()
        with pytest.raises(StoreUnavailable, match="store_closed"):
            await store.find(b"x", NOW)
        with pytest.raises(StoreUnavailable, match="store_closed"):
            await store.end(Selection(everyone=True), NOW, KEEP)
        assert "not open" in (await store.health() or "")
        await store.open()
        assert list(await store.logins(NOW)) == []

    run(story)


@pytest.mark.parametrize(
    "notation", ["", "memory", "memory:x", "sqlite:", "sqlite:logins.db", "redis://h", "/x", "sqlite:/a\0b"]
)
def test_unknown_notation(notation: str) -> None:
    """An engine this version does not have, or a path that depends on where one stands, is refused with the two that are."""
    with pytest.raises(StoreUnavailable, match=r"memory: nor sqlite:/absolute/path"):
        open_store(notation)


def test_notation(tmp_path: Path) -> None:
    """Each notation gives its engine."""
    assert isinstance(open_store("memory:"), MemoryStore)
    assert isinstance(open_store(f"sqlite:{tmp_path}/logins.db"), SqliteStore)


def test_file_is_private(tmp_path: Path) -> None:
    """The file and its journal are the service user's alone, whatever the umask."""

    async def story() -> None:
        store = SqliteStore(tmp_path / "logins.db")
        before = os.umask(0)
        try:
            await store.open()
            await store.put_note("keys", b"x", NOW)
            assert [stat.S_IMODE(file.stat().st_mode) for file in sorted(tmp_path.iterdir())] == [0o600] * 3
        finally:
            os.umask(before)
            await store.close()

    asyncio.run(story())


# --- the engines against each other

LOGINS = st.integers(0, 3)
TICKETS = st.integers(0, 2)
OFFSETS = st.integers(0, 40)
TAGS = st.sampled_from([None, b"A", b"B"])


class Engines(RuleBasedStateMachine):
    """The same calls to both engines: every answer is equal, whatever was done before."""

    def __init__(self) -> None:
        super().__init__()
        fast = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.directory = TemporaryDirectory(dir=fast)
        self.loop = asyncio.new_event_loop()
        self.now = NOW
        self.memory = MemoryStore()
        self.sqlite = SqliteStore(Path(self.directory.name) / "logins.db")
        self.both("open")

    def both(self, method: str, *args: Any) -> Any:
        outcomes = []
        for store in (self.memory, self.sqlite):
            try:
                outcomes.append(self.loop.run_until_complete(getattr(store, method)(*args)))
            except ValueError:
                outcomes.append("our own mistake")
        plain = [list(outcome) if isinstance(outcome, (list, tuple)) else outcome for outcome in outcomes]
        if method == "changes":
            plain = [[newest, list(changes)] for newest, changes in plain]
        assert plain[0] == plain[1], method
        return outcomes[0]

    def row(self, number: int, sid: bytes | None, sub: bytes | None, offset: int, version: int) -> LoginRow:
        return a_login(
            number,
            sealed=bytes([number, version]),
            sid_tag=sid,
            sub_tag=sub,
            person_tag=bytes([number % 2]),
            auth_time=self.now - offset,
            created=self.now,
            seen=self.now,
            idle=30,
            ends=self.now + 20 + offset,
            version=version,
        )

    @rule(number=LOGINS, ticket=TICKETS, sid=TAGS, sub=TAGS, offset=OFFSETS)
    def add_login(self, number: int, ticket: int, sid: bytes | None, sub: bytes | None, offset: int) -> None:
        login = self.row(number, sid, sub, offset, 1)
        self.both("add_login", login, a_ticket(login, ticket, ends=self.now + 50), self.now)

    @rule(number=LOGINS, sid=TAGS, sub=TAGS, offset=OFFSETS, was=st.integers(0, 3), to=st.integers(1, 4))
    def replace_login(self, number: int, sid: bytes | None, sub: bytes | None, offset: int, was: int, to: int) -> None:
        self.both("replace_login", self.row(number, sid, sub, offset, to), was, self.now)

    @rule(number=LOGINS, ticket=TICKETS, ends=OFFSETS)
    def add_ticket(self, number: int, ticket: int, ends: int) -> None:
        self.both("add_ticket", a_ticket(a_login(number), ticket, ends=self.now + ends), self.now)

    @rule(number=LOGINS, ticket=TICKETS)
    def take(self, number: int, ticket: int) -> None:
        self.both("take", a_ticket(a_login(number), ticket).digest, self.now)

    @rule(number=LOGINS, ticket=TICKETS)
    def drop_ticket(self, number: int, ticket: int) -> None:
        self.both("drop_ticket", a_ticket(a_login(number), ticket).digest)

    @rule(seen=st.dictionaries(LOGINS, st.integers(-20, 20)))
    def touch(self, seen: dict[int, int]) -> None:
        self.both("touch", {a_login(number).id: self.now + by for number, by in seen.items()}, self.now)

    @rule(
        which=st.one_of(
            st.builds(Selection, login_id=LOGINS.map(lambda number: a_login(number).id)),
            st.builds(Selection, sid_tag=TAGS),
            st.builds(Selection, sub_tag=TAGS, before=st.none() | st.integers(NOW - 20, NOW + 60)),
            st.builds(Selection, person_tag=st.sampled_from([b"\0", b"\1"])),
            st.just(Selection(everyone=True)),
        ),
        keep=OFFSETS,
    )
    def end(self, which: Selection, keep: int) -> None:
        self.both("end", which, self.now, self.now + keep)

    @rule(most=st.integers(1, 3))
    def expire(self, most: int) -> None:
        self.both("lapse", self.now, most)
        self.both("expire", self.now, most)

    @rule(by=st.integers(1, 25) | st.just(700))
    def clock(self, by: int) -> None:
        self.now += by

    @rule(key=st.sampled_from(["a", "b"]), value=st.binary(max_size=3), until=OFFSETS)
    def put_note(self, key: str, value: bytes, until: int) -> None:
        self.both("put_note", key, value, self.now + until)

    @rule(key=st.sampled_from(["a", "b"]), until=OFFSETS)
    def claim(self, key: str, until: int) -> None:
        self.both("claim", key, self.now + until, self.now)

    @rule(key=st.sampled_from(["a", "b"]))
    def release(self, key: str) -> None:
        self.both("release", key)

    @rule(after=st.integers(-1, 12))
    def changes(self, after: int) -> None:
        self.both("changes", after)

    @rule()
    def restart(self) -> None:
        """A store on disk forgets nothing when it is closed and opened."""
        self.loop.run_until_complete(self.sqlite.close())
        self.loop.run_until_complete(self.sqlite.open())

    @invariant()
    def agree(self) -> None:
        self.both("logins", self.now)
        for number in range(4):
            for ticket in range(3):
                self.both("find", a_ticket(a_login(number), ticket).digest, self.now)
        for sid in (None, b"A", b"B"):
            self.both("is_ended", sid, b"A", self.now - 10, self.now)
            self.both("is_ended", None, sid, self.now, self.now)
        for key in ("a", "b"):
            self.both("get_note", key, self.now)

    def teardown(self) -> None:
        self.loop.run_until_complete(self.sqlite.close())
        self.loop.close()
        self.directory.cleanup()


def test_engines_agree() -> None:
    """Whatever is asked in whatever order, SQLite and the dictionaries answer the same."""
    run_state_machine_as_test(
        Engines,
        settings=settings(
            max_examples=50, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    """Every test leaves the threads as it found them."""
    before = threading.active_count()
    yield
    assert before == threading.active_count()
