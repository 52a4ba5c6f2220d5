"""How much, how many, how slow: each limit of the inner door at its edge. Seconds pass by turning the door's sweep."""

import pytest
from inner_entry import Entry
from inner_wire import Wire, closed_after, until
from running import Running

from forward_auth.inner.door import Door, Limits


def door(running: Running) -> Door:
    return running.service._doors[0]


def test_a_head_of_64_kibibytes(shared: Entry) -> None:
    """Rule 11: just below is answered, above is 431 and closed, in one piece or in many."""
    room = 64 * 1024 - len(shared.head()) - len(b"X-Long: \r\n")
    assert [200] == [heard.status for heard in shared.ask(shared.head(b"X-Long: " + b"a" * (room - 8) + b"\r\n"))]
    data = shared.head(b"X-Long: " + b"a" * (room + 64) + b"\r\n")
    assert [(431, True)] == [(heard.status, heard.closes) for heard in closed_after(shared.inner, data + shared.head())]
    with Wire(shared.inner) as wire:
        for start in range(0, len(data), 3000):
            wire.send(data[start : start + 3000])
        assert 431 == wire.hear().status
        assert b"" == wire.until_closed()


def test_a_head_without_end_is_431(shared: Entry) -> None:
    """Before it ends: nothing is kept beyond the limit. Also when it began behind a whole head, in the same read."""
    endless = shared.head()[:-2] + b"X-Long: " + b"a" * 200_000
    assert [431] == [heard.status for heard in closed_after(shared.inner, endless)]
    assert [200, 431] == [heard.status for heard in closed_after(shared.inner, shared.head() + endless)]


def test_HDR_11_lines_of_a_head(shared: Entry) -> None:
    """127 lines are read, 128 are 431; a line that stands twice is a line, too."""
    mine = shared.head().count(b"\r\n") - 2
    for line in (b"X-A%d: b\r\n", b"X-A: b%d\r\n"):
        lines = [line % number for number in range(2000)]
        assert [200] == [heard.status for heard in shared.ask(shared.head(b"".join(lines[: 127 - mine])))]
        for many in (128 - mine, 1000, 2000):
            heard = closed_after(shared.inner, shared.head(b"".join(lines[:many])) + shared.head())
            assert [(431, True)] == [(one.status, one.closes) for one in heard]


def test_HDR_11_a_long_target(shared: Entry) -> None:
    """The line's target: 8 KiB; what is longer is refused without reading what follows."""
    fits = shared.head(dialect=b"nginx?" + b"a" * (8192 - len(b"/auth/nginx?")))
    assert [200] == [heard.status for heard in shared.ask(fits)]
    data = shared.head(dialect=b"nginx?" + b"a" * (8193 - len(b"/auth/nginx?")))
    assert [(431, True)] == [(heard.status, heard.closes) for heard in closed_after(shared.inner, data + shared.head())]


def test_DOS_03_a_slow_head_is_408(entry: Entry) -> None:
    """A byte now and then buys no time: ten seconds from the head's first byte, then 408 and closed."""
    with Wire(entry.inner) as wire:
        data = entry.head()
        for second in range(11):
            wire.send(data[second : second + 1])
            until(lambda expected=second + 1: any(held.head == expected for held in door(entry.running).connections))
            entry.running.sweep()
        assert [(408, True)] == [(heard.status, heard.closes) for heard in [wire.hear()]]
        assert b"" == wire.until_closed()


def test_DOS_03_a_slow_head_behind_a_whole_one_is_408(entry: Entry) -> None:
    """It is a head under way, not an idle connection, also when it began in the same read."""
    with Wire(entry.inner) as wire:
        wire.send(entry.head() + b"GET /auth/ng")
        assert 200 == wire.hear().status
        entry.running.sweep(11)
        assert 408 == wire.hear().status
        assert b"" == wire.until_closed()


def test_DOS_03_slow_ones_do_not_hold_others(entry: Entry) -> None:
    """200 connections that never finish a head: others are answered meanwhile, and afterwards the 200 are gone."""
    slow = [Wire(entry.inner) for _ in range(200)]
    try:
        for wire in slow:
            wire.send(b"GET /auth/nginx HTTP/1.1\r\nX-")
        assert [200] == [heard.status for heard in entry.ask(entry.head())]
        until(lambda: 200 == len([held for held in door(entry.running).connections if held.head]))
        entry.running.sweep(11)
        assert all(wire.until_closed().startswith(b"HTTP/1.1 408 ") for wire in slow)
        until(lambda: not door(entry.running).connections)
    finally:
        for wire in slow:
            wire.sock.close()


def test_DOS_04_an_idle_connection_is_closed_without_a_byte(entry: Entry) -> None:
    """After 90 seconds, longer than a proxy keeps it; each request begins them anew. One that never spoke is as idle as one that did."""
    with Wire(entry.inner) as spoke, Wire(entry.inner) as silent:
        until(lambda: 2 == len(door(entry.running).connections))
        for _ in range(3):
            entry.running.sweep(30)
            spoke.send(entry.head())
            assert 200 == spoke.hear().status
        entry.running.sweep(1)
        assert b"" == silent.until_closed()
        entry.running.sweep(89)
        spoke.send(entry.head())
        assert 200 == spoke.hear().status
        entry.running.sweep(91)
        assert b"" == spoke.until_closed()


def test_DOS_04_more_connections_than_allowed(entry: Entry) -> None:
    """The one too many is closed without a byte and counted; when one goes, there is room again."""
    mine = door(entry.running)
    mine.limits = Limits(connections=3)
    held = [Wire(entry.inner) for _ in range(3)]
    try:
        until(lambda: 3 == len(mine.connections))
        before = mine.refused_peers
        assert [] == closed_after(entry.inner, entry.head())
        assert before + 1 == mine.refused_peers
        held.pop().sock.close()
        until(lambda: 2 == len(mine.connections))
        assert [200] == [heard.status for heard in entry.ask(entry.head())]
    finally:
        for wire in held:
            wire.sock.close()


def test_DOS_04_pipelining_is_answered_in_order(shared: Entry) -> None:
    """A thousand requests in one go, more bytes than a head may have: each its own answer, in order."""
    with_, without = shared.head(), shared.head().replace(shared.cookie, b"")
    heard = shared.ask((with_ + without + without) * 333)
    assert [200, 401, 401] * 333 == [one.status for one in heard]


def test_DOS_04_order_is_kept_when_the_store_must_be_asked(entry: Entry) -> None:
    """After a restart nobody is in memory: the first answer waits for the store, the others wait for the first."""
    without = entry.head().replace(entry.cookie, b"")
    unknown = without.replace(b"/auth/nginx", b"/auth/nowhere")
    for data, expected in (
        (entry.head() + without + entry.head() + without, [200, 401, 200, 401]),
        (without + entry.head() + entry.head(), [401, 200, 200]),
        (entry.head() + unknown + entry.head(), [200, 404]),
        (entry.head() + entry.head(b"Content-Length: 3\r\n") + b"abc" + entry.head(), [200, 200]),
        (entry.head(b"Connection: close\r\n") + entry.head(), [200]),
    ):
        entry.running.restart()
        with Wire(entry.inner) as wire:
            wire.send(data)
            assert expected == [wire.hear().status for _ in expected]


def test_DOS_04_too_many_wait_for_the_store(entry: Entry) -> None:
    """Behind a check that waits, at most 64 may queue; then the connection is over, and nobody else notices."""
    entry.running.restart()
    heard = closed_after(entry.inner, entry.head() * 70)
    assert all(200 == one.status for one in heard)
    assert 70 > len(heard)
    assert [200] == [one.status for one in entry.ask(entry.head())]
    entry.running.restart()
    with Wire(entry.inner) as wire:
        wire.send(entry.head() * 65)
        assert [200] * 65 == [wire.hear().status for _ in range(65)]


@pytest.mark.parametrize("gone", [1, 20])
def test_a_proxy_that_goes_while_the_store_is_asked_harms_nobody(entry: Entry, gone: int) -> None:
    """Cancelled checks: whoever waits for the same ticket still gets an answer, and the right one."""
    entry.running.restart()
    stays = Wire(entry.inner)
    try:
        for _ in range(gone):
            with Wire(entry.inner) as wire:
                wire.send(entry.head())
        stays.send(entry.head())
        heard = stays.hear()
        assert (200, b"899700000001") == (heard.status, heard[b"X-PSC-Subject"])
    finally:
        stays.sock.close()
    until(lambda: not door(entry.running).connections)
