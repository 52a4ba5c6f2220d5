"""Who may speak, what an exception becomes, and how the door closes."""

import contextlib
import logging
import signal
import socket
import stat
import threading
import time
from pathlib import Path

import pytest
from inner_entry import Entry, enter
from inner_wire import FORWARDED, Wire, answers, ask, closed_after
from running import Browser, Clock, Program, Running

from forward_auth.simulator import Simulator

PLAIN = b"GET %b HTTP/1.1\r\nHost: inner\r\n\r\n"
VITALS = (b"/metrics", b"/livez", b"/readyz")


def test_an_observer_reads_three_addresses_and_no_other(shared: Entry) -> None:
    """Decision 12: loopback observes by default, 127.0.0.1 alone is trusted here."""
    for target in VITALS:
        assert [200] == [heard.status for heard in ask(shared.inner, PLAIN % target, source="127.0.0.2")]
    for dialect in (b"nginx", b"ingress-nginx", b"forward"):
        heard = ask(shared.inner, shared.head(dialect=dialect), source="127.0.0.2")
        assert [404] == [one.status for one in heard]


def test_an_observer_does_not_profit_from_what_a_proxy_taught(shared: Entry) -> None:
    """A head that was seen before, from a trusted peer, is nothing from an observer."""
    with Wire(shared.inner) as wire:
        for _ in range(5):
            wire.send(shared.head())
            assert 200 == wire.hear().status
    assert [404] == [one.status for one in ask(shared.inner, shared.head(), source="127.0.0.2")]


def test_who_is_neither_trusted_nor_an_observer_hears_nothing(tmp_path: Path, psc: Simulator, clock: Clock) -> None:
    """Decision 12: closed without a byte, whatever is asked; who may speak is still heard."""
    with Running(tmp_path, psc, clock, more='server: observers = ["127.0.0.3"]') as running:
        entry = enter(running)
        for data in (entry.head(), *(PLAIN % target for target in VITALS)):
            assert [] == closed_after(entry.inner, data, source="127.0.0.2")
        assert [200] == [heard.status for heard in ask(entry.inner, PLAIN % b"/livez", source="127.0.0.3")]
        assert [404] == [heard.status for heard in ask(entry.inner, entry.head(), source="127.0.0.3")]
        assert [200] == [heard.status for heard in entry.ask(entry.head())]


def test_the_unix_socket(shared: Entry) -> None:
    """0660, and whoever reaches it is trusted."""
    path = shared.running.inner_unix
    assert 0o660 == stat.S_IMODE(Path(path).stat().st_mode)
    assert [200] == [heard.status for heard in ask(path, shared.head())]


def test_a_stale_unix_socket_is_replaced_and_a_live_one_is_not(tmp_path: Path, psc: Simulator, clock: Clock) -> None:
    """What a killed process left behind is in nobody's way; a second service does not steal the first one's door."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "inner.sock"))
    with Running(tmp_path, psc, clock) as running:
        entry = enter(running)
        assert [200] == [heard.status for heard in ask(running.inner_unix, entry.head())]
        second = Running(tmp_path, psc, clock)
        with pytest.raises(Exception, match="cannot listen on unix:"):
            second.start()
        assert [200] == [heard.status for heard in ask(running.inner_unix, entry.head())]
    assert not (tmp_path / "inner.sock").exists()


def test_an_exception_in_a_check_is_503_logged_and_counted(
    entry: Entry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Rule 16: never an allow; the connection and the next check are unharmed."""
    check = entry.running.service._endpoints[b"/auth/nginx"]

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    with Wire(entry.inner) as wire:
        with monkeypatch.context() as patched, caplog.at_level(logging.ERROR):
            for name in ("_read", "_gate"):  # while it is read, and while it is concluded
                patched.setattr(check, name, broken)
            for _ in range(3):
                wire.send(entry.head())
                heard = wire.hear()
                assert (503, b"no-store", b"") == (heard.status, heard[b"Cache-Control"], heard[b"X-PSC-Subject"])
        wire.send(entry.head())
        assert 200 == wire.hear().status
    failed = [record for record in caplog.records if record.message == "a check failed; it was refused"]
    assert 3 == len(failed)
    assert failed[0].exc_info is not None
    errors = {
        name: value
        for name, value in entry.running.metrics().items()
        if 'outcome="error"' in name and 'dialect="nginx"' in name
    }
    assert 3.0 == sum(errors.values())


def test_an_exception_on_the_remembered_road_is_503(entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    """The head was seen before, the path was not read again: the same answer."""
    check = entry.running.service._endpoints[b"/auth/nginx"]

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    with Wire(entry.inner) as wire:
        for _ in range(4):
            wire.send(entry.head())
            assert 200 == wire.hear().status
        with monkeypatch.context() as patched:
            for name in ("_remembered", "_read"):
                patched.setattr(check, name, broken)
            wire.send(entry.head())
            assert 503 == wire.hear().status
        wire.send(entry.head())
        assert 200 == wire.hear().status


def test_an_exception_after_the_store_was_asked_is_503(entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with others waiting behind it on the connection: they get their own answers."""
    entry.running.restart()
    check = entry.running.service._endpoints[b"/auth/nginx"]

    async def broken(*_: object) -> None:
        raise ZeroDivisionError

    without = entry.head().replace(entry.cookie, b"")
    with Wire(entry.inner) as wire:
        with monkeypatch.context() as patched:
            patched.setattr(entry.running.service.sessions, "fetch", broken)
            wire.send(entry.head() + without)
            assert [503, 401] == [wire.hear().status, wire.hear().status]
        wire.send(entry.head())
        assert 200 == wire.hear().status
    assert check is entry.running.service._endpoints[b"/auth/nginx"]


def test_a_reload_closes_what_is_idle_and_forgets_what_was_seen(entry: Entry) -> None:
    """The old rules answer nobody any more."""
    with Wire(entry.inner) as idle, Wire(entry.inner) as half:
        for _ in range(3):
            idle.send(entry.head())
            assert 200 == idle.hear().status
        half.send(entry.head()[:40])
        end = time.monotonic() + 3
        while not any(held.head for held in entry.running.service._doors[0].connections) and time.monotonic() < end:
            time.sleep(0.005)
        entry.running.reload(apps='[apps.other]\norigins = ["https://other.hopital.example"]\n')
        assert b"" == idle.until_closed()
        assert [403] == [heard.status for heard in entry.ask(entry.head())]
        half.send(entry.head()[40:])
        assert 200 != half.hear().status


class _Load(threading.Thread):
    """A proxy with one kept connection: asks until nobody listens. `cut`: answers that began and did not end."""

    def __init__(self, address: tuple[str, int], data: bytes) -> None:
        super().__init__(daemon=True)
        self.address = address
        self.data = data
        self.statuses: list[int] = []
        self.told_to_close = 0
        self.cut: list[bytes] = []

    def run(self) -> None:
        while True:
            try:
                wire = Wire(self.address)
            except OSError:
                return  # nobody listens any more
            with wire:
                while True:
                    got = b""
                    try:
                        wire.sock.sendall(self.data)
                        while not got.endswith(b"\r\n\r\n"):
                            more = wire.sock.recv(65536)
                            if not more:
                                break
                            got += more
                    except OSError:
                        pass
                    if not got.endswith(b"\r\n\r\n"):
                        if got:
                            self.cut.append(got)
                        break  # closed between two requests: a proxy asks once more on a new connection
                    [heard] = answers(got)
                    self.statuses.append(heard.status)
                    if heard.closes:
                        self.told_to_close += 1
                        break


def test_LIFE_01_sigterm_under_load(program: Program) -> None:
    """No answer is cut or wrong, heads under way are still answered and say close, idle connections end, readyz says why; exit code 0."""
    browser = Browser()
    assert 200 == program.sign_in(browser, "docteur-dupont").status
    cookie = b"Cookie: " + browser.cookies("dossier.hopital.example").encode() + b"\r\n"
    good = b"GET /auth/nginx HTTP/1.1\r\nHost: inner\r\n" + FORWARDED + cookie + b"\r\n"
    load = [_Load(program.inner, good) for _ in range(4)]
    for one in load:
        one.start()
    ready = PLAIN % b"/readyz"
    with Wire(program.inner) as check, Wire(program.inner) as probe, Wire(program.inner) as idle:
        idle.send(good)
        assert 200 == idle.hear().status
        check.send(good[:50])
        probe.send(ready[:20])
        end = time.monotonic() + 5
        while min(len(one.statuses) for one in load) < 100 and time.monotonic() < end:
            time.sleep(0.01)
        assert program.process is not None
        program.process.send_signal(signal.SIGTERM)
        assert b"" == idle.until_closed()
        check.send(good[50:])
        heard = check.hear()
        assert (200, True, b"899700000001") == (heard.status, heard.closes, heard[b"X-PSC-Subject"])
        probe.send(ready[20:])
        heard = probe.hear()
        assert (503, True) == (heard.status, heard.closes)
        assert b"draining" in heard.body
    for one in load:
        one.join(10)
        assert not one.is_alive()
        assert {200} == set(one.statuses)
        assert [] == one.cut
    assert 0 == program.end()
    with contextlib.suppress(OSError), Wire(program.inner):
        pytest.fail("somebody still listens")
    assert "Traceback" not in program.log()
    assert not Path(program.inner_unix).exists()


def test_LIFE_01_a_slow_head_does_not_hold_the_end(program: Program) -> None:
    """Somebody who never finishes a head, and somebody who never begins one, do not make a restart last: refused, and the process is gone long before its five seconds are over."""
    with Wire(program.inner) as slow, Wire(program.inner) as silent:
        slow.send((PLAIN % b"/livez")[:-4])
        assert program.process is not None
        began = time.monotonic()
        program.process.send_signal(signal.SIGTERM)
        assert b"" == silent.until_closed()
        assert slow.until_closed().startswith(b"HTTP/1.1 408 ")
        assert 0 == program.end()
        assert time.monotonic() - began < 4
