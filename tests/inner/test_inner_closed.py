"""Fail closed: no fault, no missing part and no trick of a connection turns into an allow, and none takes the door along."""

import asyncio
import logging
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from inner_entry import Entry, enter
from inner_wire import FORWARDED, Wire, answers, ask, closed_after, until
from running import Clock, Running

from forward_auth.inner.protocol import Connection
from forward_auth.simulator import Simulator


@contextmanager
def standing_still(running: Running) -> Iterator[None]:
    """The service's loop turns no more until this ends: what arrives meanwhile waits in the kernel."""
    still, go_on = threading.Event(), threading.Event()

    async def stand() -> None:
        still.set()
        go_on.wait(5)

    assert running._loop is not None
    standing = asyncio.run_coroutine_threadsafe(stand(), running._loop)
    assert still.wait(5)
    try:
        yield
    finally:
        go_on.set()
        standing.result(5)


def checks(running: Running, **labels: str) -> float:
    """How many checks were counted with these labels."""
    wanted = [f'{name}="{value}"' for name, value in labels.items()]
    return sum(
        value
        for name, value in running.metrics().items()
        if "_checks_total{" in name and all(each in name for each in wanted)
    )


# -- what is missing or breaks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", [b"nginx", b"forward"])
def test_a_store_that_cannot_be_asked_is_503_and_nobody_in_memory_notices(
    entry: Entry, dialect: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Rule 16: the ticket that is not in memory is refused with a line in the log, once a minute; who is in memory is let in; and afterwards
    the same connection is served."""
    running = entry.running
    other = enter(running)
    running.restart()
    assert [200] == [heard.status for heard in entry.ask(entry.head(dialect=dialect))]
    before = checks(running, outcome="error")
    with Wire(entry.inner) as wire, caplog.at_level(logging.WARNING):
        running.call(running.service.sessions.store.close())
        for _ in range(4):
            wire.send(other.head(dialect=dialect))
            heard = wire.hear()
            assert (503, [], []) == (heard.status, heard.all(b"X-PSC-Subject"), heard.all(b"Location"))
            wire.send(entry.head(dialect=dialect))
            assert 200 == wire.hear().status
        [page] = other.ask(other.head(b"Accept: text/html\r\n", dialect=dialect))
        assert (503, dialect == b"forward") == (page.status, b"<html" in page.body)
        running.call(running.service.sessions.store.open())
        wire.send(other.head(dialect=dialect))
        assert 200 == wire.hear().status
    assert before + 5 == checks(running, outcome="error")
    said = [record for record in caplog.records if record.name == "forward_auth.check"]
    assert ["the store cannot be asked, the check was refused"] == [
        record.getMessage().split(":")[0] for record in said
    ]


def test_a_fault_while_answering_is_503_and_in_the_log(
    entry: Entry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """llhttp reports what our own callbacks raise like a malformed head; it is not the peer's fault, and says so."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    before = entry.running.service._doors[0].bad_requests
    with monkeypatch.context() as patched, caplog.at_level(logging.ERROR):
        patched.setattr(Connection, "_answer", broken)
        heard = closed_after(entry.inner, entry.head().replace(b"/auth/nginx", b"/nowhere") + entry.head())
        assert [(503, True)] == [(one.status, one.closes) for one in heard]
    assert ["a head could not be answered; it was refused"] == [
        one.message for one in caplog.records if one.name == "forward_auth.inner"
    ]
    assert before == entry.running.service._doors[0].bad_requests
    assert [200] == [heard.status for heard in entry.ask(entry.head())]


def test_a_head_that_cannot_be_remembered_is_answered(
    entry: Entry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer is out already; the log says it, the connection goes on."""
    check = entry.running.service._endpoints[b"/auth/nginx"]

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    with Wire(entry.inner) as wire, monkeypatch.context() as patched, caplog.at_level(logging.ERROR):
        patched.setattr(check, "reading", broken)
        for _ in range(5):
            wire.send(entry.head())
            assert 200 == wire.hear().status
    assert {"a head could not be remembered"} == {
        one.message for one in caplog.records if one.name == "forward_auth.inner"
    }


def test_DOS_06_strangers_cost_no_line_in_the_log_and_no_question_to_the_store(
    entry: Entry, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a ticket, with a forged one, with a host that nobody knows, malformed: a line a minute at most for each kind of fault."""
    running = entry.running
    running.call(running.service.sessions.store.close())
    with Wire(entry.inner) as wire, caplog.at_level(logging.DEBUG):
        for number in range(200):
            for lines, status in (
                (FORWARDED, 401),
                (FORWARDED + b"Cookie: __Host-psc=%064d\r\n" % number, 401),
                (FORWARDED.replace(b"dossier.", b"n%d." % number), 403),
                (FORWARDED.replace(b"/a", b"/%%zz%d" % number), 403),
                (b"", 403),
            ):
                wire.send(b"GET /auth/nginx HTTP/1.1\r\nHost: inner\r\n" + lines + b"\r\n")
                assert status == wire.hear().status
    running.call(running.service.sessions.store.open())
    assert 3 >= len(
        [one for one in caplog.records if one.name.startswith("forward_auth") and one.name != "forward_auth.sessions"]
    )


# -- who is there ------------------------------------------------------------------------------------------------------------------


def test_HDR_04_who_sends_and_resets_is_not_taken_for_somebody_on_a_unix_socket(
    tmp_path: Path, psc: Simulator, clock: Clock
) -> None:
    """An address that nobody trusts, gone before it was accepted, has no address any more; what it sent can still be read, and is not."""
    with Running(tmp_path, psc, clock, more='server: observers = ["127.0.0.3"]') as running:
        entry = enter(running)
        door = running.service._doors[0]
        allowed, refused = checks(running, outcome="allowed"), door.refused_peers
        with standing_still(running), socket.socket() as sock:
            sock.bind(("127.0.0.9", 0))
            sock.connect(entry.inner)
            sock.sendall(entry.head())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        until(lambda: refused < door.refused_peers)
        assert allowed == checks(running, outcome="allowed")
        assert [200] == [heard.status for heard in ask(running.inner_unix, entry.head())]


def test_HDR_04_an_untrusted_peer_hears_nothing_however_it_asks(tmp_path: Path, psc: Simulator, clock: Clock) -> None:
    """Forged headers, half a head, garbage: closed without a byte, and not at the speed of our answers: before anything is read."""
    with Running(tmp_path, psc, clock, more='server: observers = ["127.0.0.3"]') as running:
        entry = enter(running)
        for data in (
            b"",
            b"GET",
            b"\x00" * 100,
            entry.head(b"X-Real-IP: 127.0.0.1\r\nX-Forwarded-For: 127.0.0.1\r\nForwarded: for=127.0.0.1\r\n"),
        ):
            assert [] == closed_after(entry.inner, data, source="127.0.0.2")
        assert [200] == [heard.status for heard in entry.ask(entry.head())]


def test_a_reload_that_trusts_somebody_no_longer_ends_its_connections(
    tmp_path: Path, psc: Simulator, clock: Clock
) -> None:
    """An idle one at once; one with a head under way after that head, which says so; a new one is closed without a byte."""
    more = 'server: observers = ["127.0.0.3"]'
    with Running(tmp_path, psc, clock, more=more) as running:
        entry = enter(running)
        door = running.service._doors[0]
        data = entry.head()
        with Wire(entry.inner) as idle, Wire(entry.inner) as half:
            idle.send(data)
            assert 200 == idle.hear().status
            half.send(data + data[:40])
            assert 200 == half.hear().status
            until(lambda: any(held.head for held in door.connections))
            settings = running.load()
            server = replace(settings.server, trusted_proxies=settings.server.observers)
            running.call(running.service.reload(replace(settings, server=server)))
            assert b"" == idle.until_closed()
            half.send(data[40:] + data)
            heard = answers(half.until_closed())
            assert [(200, True)] == [(one.status, one.closes) for one in heard]
        assert [] == closed_after(entry.inner, data)


# -- what HTTP says of a head ------------------------------------------------------------------------------------------------------


def test_HDR_07_http_1_1_without_host_is_400(shared: Entry) -> None:
    """RFC 9112 §3.2; HTTP/1.0 knows no Host. An empty one is one."""
    data = shared.head().replace(b"Host: inner\r\n", b"")
    assert [(400, True)] == [(heard.status, heard.closes) for heard in closed_after(shared.inner, data + shared.head())]
    assert [200] == [heard.status for heard in closed_after(shared.inner, data.replace(b"HTTP/1.1", b"HTTP/1.0"))]
    assert [200] == [heard.status for heard in shared.ask(shared.head().replace(b"Host: inner", b"Host:"))]


@pytest.mark.parametrize(
    "host",
    [
        b"prescription.autre.example",
        b"a@b",
        b"a/b?c#d",
        b"DOSSIER.hopital.example.",
        b"inner:0",
        b"a" * 300,
        b"127.0.0.1",
        b"[::1]:9400",
        b"\xff",
        b"",
    ],
)
def test_HDR_07_the_host_of_a_check_chooses_nothing(shared: Entry, host: bytes) -> None:
    """nginx sends ours, Caddy and our own snippet the application's, a client what it likes: the answer is that of the dialect's own lines."""
    for forwarded, status in ((FORWARDED, 200), (FORWARDED.replace(b"dossier.hopital", b"other"), 403)):
        data = shared.head(forwarded=forwarded)
        [heard] = shared.ask(data)
        assert status == heard.status
        assert [heard] == shared.ask(data.replace(b"Host: inner", b"Host: " + host))


@pytest.mark.parametrize(
    "target",
    [b"http://prescription.autre.example/auth/nginx", b"https://dossier.hopital.example/", b"//inner/auth/nginx"],
)
def test_HDR_07_an_absolute_target_is_no_address_here(shared: Entry, target: bytes) -> None:
    """Neither is what stands in it believed, nor cut off."""
    heard = closed_after(shared.inner, shared.head().replace(b"/auth/nginx", target, 1) + shared.head())
    assert [(404, True)] == [(one.status, one.closes) for one in heard]


@pytest.mark.parametrize("target", [b"/auth/nginx", b"inner:443", b"dossier.hopital.example:443"])
def test_HDR_08_connect_opens_nothing(shared: Entry, target: bytes) -> None:
    """One refusal, closed: a 200 would be a tunnel. Also on a connection that was served before."""
    data = shared.head().replace(b"GET /auth/nginx", b"CONNECT " + target, 1)
    assert [(400, True)] == [(one.status, one.closes) for one in closed_after(shared.inner, data + shared.head())]
    with Wire(shared.inner) as wire:
        for _ in range(3):
            wire.send(shared.head())
            assert 200 == wire.hear().status
        wire.send(data)
        assert 400 == wire.hear().status
        assert b"" == wire.until_closed()


def test_HDR_09_vitals_answer_any_query_and_no_path_below(shared: Entry) -> None:
    """And what they say is no allow: a check is never there."""
    for target, status in (
        (b"/livez?x", 200),
        (b"/livez/", 404),
        (b"/livez/auth/nginx", 404),
        (b"/metrics/auth/nginx", 404),
        (b"/readyz/..", 404),
    ):
        [heard] = shared.ask(shared.head().replace(b"/auth/nginx", target, 1))
        assert (status, []) == (heard.status, heard.all(b"X-PSC-Subject"))


# -- a peer that does not read -----------------------------------------------------------------------------------------------------


def test_DOS_04_who_does_not_read_its_answers_is_not_read_either(entry: Entry) -> None:
    """A hundred thousand requests and no look at the answers: what waits for that peer stays below a mebibyte, and after its time it is gone."""
    running = entry.running
    door = running.service._doors[0]
    with Wire(entry.inner) as wire:
        wire.sock.settimeout(0.3)
        data = entry.head() * 1000
        sent = 0
        with pytest.raises(TimeoutError):
            while sent < 100_000:
                wire.sock.sendall(data)
                sent += 1000
        [held] = door.connections
        assert isinstance(held, Connection)
        assert held._transport is not None
        assert held._transport.get_write_buffer_size() < 1024 * 1024
        assert [200] == [heard.status for heard in entry.ask(entry.head())]
        running.sweep(100)
        running.sweep(1)
        until(lambda: held not in door.connections)


def test_DOS_04_who_reads_late_gets_every_answer(entry: Entry) -> None:
    """In order, none lost, none twice: also when the first of them had to ask the store."""
    entry.running.restart()
    many = 20_000
    without = entry.head().replace(entry.cookie, b"")
    data = entry.head() + (entry.head() + without) * (many // 2)
    with Wire(entry.inner) as wire:
        wire.send(entry.head())
        assert 200 == wire.hear().status
        sender = threading.Thread(target=wire.sock.sendall, args=(data,))
        sender.start()
        until(
            lambda: any(
                isinstance(held, Connection) and held._full for held in entry.running.service._doors[0].connections
            )
        )
        got = bytearray()
        while not got.endswith(b"\r\n\r\n") or got.count(b"\r\n\r\n") < many + 1:
            got += wire.sock.recv(1 << 20)
        sender.join()
    statuses = [line[9:12] for line in bytes(got).split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
    assert [b"200"] + [b"200", b"401"] * (many // 2) == statuses


def test_DOS_04_an_answer_from_the_store_does_not_open_a_full_connection(entry: Entry) -> None:
    """The peer was full while its check waited: nothing more is read of it until it takes its answers."""
    running = entry.running
    running.restart()
    door = running.service._doors[0]
    with Wire(entry.inner) as wire:
        until(lambda: bool(door.connections))
        [held] = door.connections
        assert isinstance(held, Connection)

        async def do(what: Callable[[], None]) -> None:
            what()

        def reads() -> bool:
            return held._transport is not None and held._transport.is_reading()

        async def full_while_it_waits() -> None:
            held.data_received(entry.head())
            assert held.busy
            held.pause_writing()

        running.call(full_while_it_waits())
        assert 200 == wire.hear().status
        until(lambda: not held.busy)
        assert not reads()
        running.call(do(held.resume_writing))
        assert reads()
        wire.send(entry.head())
        assert 200 == wire.hear().status
