"""Heads seen before: what is remembered of a head gives the answers the careful road gives, byte for byte, and never one of yesterday."""

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from random import Random
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from inner_entry import Entry, enter
from inner_wire import FORWARDED, Heard, Wire, answers, ask, until
from running import DOSSIER, PRESCRIPTION, Browser, Running

from forward_auth.inner.heads import Heads
from forward_auth.sealing import read_ring, rotated, write_ring

DOCTOR = b"899700000001"
NONCE = count()
REFERER = b"Referer: https://dossier.hopital.example/form?x=%C3%A9\r\n"
SPELLINGS = (b"X-Forwarded-Uri", b"x-forwarded-uri", b"X-Forwarded-URI")
TARGETS = (
    b"/a", b"/", b"/a?", b"/a?b=1", b"/a?b=1&c=%2F", b"/public/x", b"/public/x?y", b"/a?to=/public/x", b"/a/", b"/A",
    b"/a?X-Forwarded-Uri: /public/x", b"/a?'\"<>^`{|}\\", b"/a?" + b"q" * 9000, b"/" + b"long" * 300, b"//evil.test/", b"http://evil.test/x",
    b"/public/../a", b"/public/%2e%2e/a", b"/public/x;y", b"/a%2fb", b"/a%00", b"/psc", b"/psc/", b"/psc/start?to=x", b"/PSC/start", b"/%zz", b"/%", b"", b"*",
    b"a", b"?a", b"/a#b", b"/a#/public/x", b"/a?b#c", b"/caf\xc3\xa9", b"/caf\xe9", b"/a?caf\xc3\xa9", b"/a?\xff", b"/a b", b"/a?b c", b"/a\tb", b"/a?b\tc",
    b"/a ", b"/a? ", b" /a", b"\t/a", b"/a?\x7f", b"/a\rX-A: b", b"/a\nX-A: b", b"/a?\x00",
)  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """What of a head does not depend on its target. `lines`: header lines of the browser; `front`: those that come before the target's line,
    whose name is `spelled`."""

    lines: bytes = b""
    front: bytes = b""
    method: bytes = b"GET"
    host: bytes = b"dossier.hopital.example"
    dialect: bytes = b"nginx"
    spelled: bytes = SPELLINGS[0]
    first: bytes = b"GET /auth/%b HTTP/1.1\r\n"

    def head(self, target: bytes, more: bytes = b"") -> bytes:
        told = b"X-Forwarded-Method: %b\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: %b\r\n" % (
            self.method,
            self.host,
        )
        line = self.spelled + b": " + target + b"\r\n"
        return self.first % self.dialect + b"Host: inner\r\n" + self.front + told + line + self.lines + more + b"\r\n"

    def unseen(self, target: bytes) -> bytes:
        """The same with a line that was never there before: so the careful road answers."""
        return self.head(target, b"X-Nonce: %d\r\n" % next(NONCE))


@dataclass
class House:
    """A service in which several people are in. `kinds`: heads by name; `tickets`: by whose they are; `again`: what the remembered road said,
    None where it did not answer."""

    entry: Entry
    kinds: dict[str, Kind]
    tickets: dict[str, bytes]
    again: list[bytes | None] = field(default_factory=list)


def ticket_of(line: bytes) -> bytes:
    return line.partition(b"__Host-psc=")[2][:64]


def watch(running: Running, again: list[bytes | None], patch: pytest.MonkeyPatch) -> None:
    """Look at what the remembered road says; it goes on saying it."""
    for endpoint in running.service._endpoints.values():

        def looked_at(
            head: Any, target: bytes, ticket: bytes | None, whole: Callable[..., bytes | None] = endpoint.again
        ) -> bytes | None:
            again.append(whole(head, target, ticket))
            return again[-1]

        patch.setattr(endpoint, "again", looked_at)


@pytest.fixture(scope="module")
def house(shared: Entry) -> Iterator[House]:
    """A doctor, a nurse who may not prescribe, somebody who has left, and strangers of several kinds."""
    running = shared.running
    doctor, nurse, gone = Browser(), Browser(), Browser()
    for browser, person in ((doctor, "docteur-dupont"), (nurse, "infirmiere-leroy"), (gone, "docteur-dupont")):
        assert 200 == running.sign_in(browser, person, DOSSIER + "/").status
        running.follow(browser, PRESCRIPTION + "/")

    def cookie(browser: Browser, host: str) -> bytes:
        return b"Cookie: theme=dark; " + browser.cookies(host).encode() + b"\r\n"

    dossier, prescription = "dossier.hopital.example", "prescription.autre.example"
    left = cookie(gone, dossier)
    tickets = {
        "doctor": ticket_of(cookie(doctor, dossier)),
        "nurse": ticket_of(cookie(nurse, dossier)),
        "left": ticket_of(left),
        "another-host": ticket_of(cookie(nurse, prescription)),
        "forged": b"AQ" + b"0" * 62,
    }
    running.sign_out(gone)
    other = Kind(host=prescription.encode())
    page = b"Accept: text/html\r\n"
    kinds = {
        "doctor": Kind(cookie(doctor, dossier) + page),
        "doctor-prescribes": replace(other, lines=cookie(doctor, prescription)),
        "doctor-with-the-ticket-of-another-host": Kind(cookie(doctor, prescription) + page),
        "nurse": Kind(cookie(nurse, dossier)),
        "nurse-prescribes": replace(other, lines=cookie(nurse, prescription) + page),
        "left": Kind(left + page),
        "forged": Kind(b"Cookie: __Host-psc=" + b"A" * 64 + b"\r\n" + page),
        "two-tickets": Kind(cookie(doctor, dossier).replace(b"\r\n", b"; " + cookie(nurse, dossier)[8:])),
        "doctor-first": Kind(page, front=cookie(doctor, dossier)),
        "forged-first": Kind(page + REFERER, front=b"Cookie: __Host-psc=" + b"B" * 64 + b"; a=b\r\n"),
        "ticket-in-another-line": Kind(cookie(doctor, dossier).replace(b"Cookie: ", b"User-Agent: ") + page),
        "ticket-in-two-lines": Kind(
            cookie(doctor, dossier).replace(b"Cookie: ", b"User-Agent: ") + cookie(doctor, dossier) + page
        ),
        "ticket-around-the-target": Kind(
            cookie(doctor, dossier) + page, front=cookie(doctor, dossier).replace(b"Cookie: ", b"X-A: ")
        ),
        "ticket-of-another-name": Kind(cookie(doctor, dossier).replace(b"__Host-psc=", b"x__Host-psc=") + page),
        "ticket-in-a-list": Kind(cookie(doctor, dossier).replace(b"; ", b", ") + page),
        "ticket-twice-the-same": Kind(cookie(doctor, dossier).replace(b"\r\n", b"; " + cookie(doctor, dossier)[8:])),
        "ticket-and-more": Kind(cookie(doctor, dossier).replace(b"\r\n", b"A\r\n")),
        "stranger": Kind(page + REFERER),
        "stranger-program": Kind(b"Accept: application/json\r\n"),
        "stranger-fetches": Kind(page + b"Sec-Fetch-Mode: cors\r\n"),
        "stranger-posts": Kind(page + REFERER, method=b"POST"),
        "stranger-in-a-frame": Kind(b"Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: iframe\r\n" + REFERER),
        "stranger-prescribes": replace(other, lines=page),
        "stranger-deletes": replace(other, lines=page, method=b"DELETE"),
        "no-method": Kind(page, method=b"G T"),
        "unknown-host": Kind(page, host=b"other.example"),
        "text-in-a-value": Kind(b"X-A: X-Forwarded-Uri: /public/x\r\n" + page),
        "closes": Kind(cookie(doctor, dossier) + b"Connection: close\r\n"),
        "old": Kind(cookie(doctor, dossier), first=b"GET /auth/%b HTTP/1.0\r\n"),
        "head": Kind(page, first=b"HEAD /auth/%b HTTP/1.1\r\n"),
        "no-body": Kind(cookie(doctor, dossier) + b"Content-Length: 0\r\n"),
        "with-a-query": Kind(page, first=b"GET /auth/%b?x=1 HTTP/1.1\r\n"),
    }
    with pytest.MonkeyPatch.context() as patch:
        found = House(shared, kinds, tickets)
        watch(running, found.again, patch)
        yield found


def plain(heard: Heard) -> Heard:
    """Without the reference of a refusal, which is new every time."""
    reference = heard[b"X-PSC-Reference"] or b"\x00"
    return Heard(heard.status, heard.head.replace(reference, b"REF"), heard.body.replace(reference, b"REF"))


def heads_only(data: bytes) -> bool:
    return data.startswith(b"HEAD ")


class Kept:
    """One connection, opened again when the door closes it."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.wire = Wire(entry.inner)

    def ask(self, data: bytes) -> Heard:
        self.wire.send(data)
        got = b""
        while not got.endswith(b"\r\n\r\n"):
            got += self.wire.sock.recv(65536)
            head, end, body = got.partition(b"\r\n\r\n")
            if end and (heads_only(data) or int(Heard(0, head, b"")[b"Content-Length"]) == len(body)):
                break
        [heard] = answers(got, heads_only=heads_only(data))
        if heard.closes:
            assert b"" == self.wire.until_closed()
            self.wire.sock.close()
            self.wire = Wire(self.entry.inner)
        return heard


KINDS = (
    "doctor", "doctor-first", "doctor-prescribes", "doctor-with-the-ticket-of-another-host", "nurse", "nurse-prescribes", "left", "forged", "forged-first", "two-tickets",
    "ticket-in-another-line", "ticket-in-two-lines", "ticket-around-the-target", "ticket-of-another-name", "ticket-in-a-list", "ticket-twice-the-same",
    "ticket-and-more", "stranger",
    "stranger-program", "stranger-fetches", "stranger-posts", "stranger-in-a-frame", "stranger-prescribes", "stranger-deletes", "no-method", "unknown-host",
    "text-in-a-value", "closes", "old", "head", "no-body", "with-a-query",
)  # fmt: skip
CAREFUL_EACH_TIME = frozenset(
    {
        "nurse-prescribes",
        "no-method",
        "unknown-host",
        "two-tickets",
        *(kind for kind in KINDS if kind.startswith("ticket-")),
    }
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dialect", [b"nginx", b"forward"])
def test_another_target_of_a_head_seen_before_is_answered_as_if_it_were_not(
    house: House, kind: str, dialect: bytes
) -> None:
    """PATH, HDR-04: allow, 401, the way to sign in, refused, open, misrouted, malformed, odd bytes, in each spelling: the same bytes."""
    for spelled in SPELLINGS:
        one = replace(house.kinds[kind], dialect=dialect, spelled=spelled)
        kept = Kept(house.entry)
        for target in (b"/a", b"/a", b"/a?x", b"/public/x", b"/public/x"):
            kept.ask(one.head(target))
        house.again.clear()
        for target in TARGETS:
            [careful] = ask(house.entry.inner, one.unseen(target), heads_only=heads_only(one.first))
            for _ in range(2):
                assert plain(careful) == plain(kept.ask(one.head(target))), (target, spelled)
        kept.wire.sock.close()
        taken = sum(answer is not None for answer in house.again)
        assert (taken > 10) == (kind not in CAREFUL_EACH_TIME and spelled is not SPELLINGS[2]), (taken, spelled)


def other_tickets(house: House, random: Random) -> Iterator[bytes]:
    """What may stand where the ticket stood: tickets, what looks like one, and bytes that would mean something else."""
    yield from house.tickets.values()
    good = house.tickets["nurse"]
    yield from (b"AQ%062d" % number for number in range(3))
    yield from (b"", b"a", good[:-1], good + b"A", good[1:], b"0" * 128, b"__Host-psc" + b"0" * 54)
    for odd in (
        b"\r\nX-Forwarded-Uri: /public/x", b"\r\nX-Forwarded-Host: prescription.autre.example", b"\r\nCookie: a=b", b"\r\n\r\n", b"\r", b"\n", b"\x00",
        b"; __Host-psc=" + good[:40], b";", b"; ", b", ", b" ", b"\t", b'"', b"=", b"%", b"+", b"/", b"\xc3\xa9", b"\xff", b"\x7f", b"\r\n a", b":",
    ):  # fmt: skip
        for at in (0, 1, 30, 64 - len(odd)):
            yield good[:at] + odd + good[at + len(odd) :]
    for _ in range(40):
        yield bytes(random.choice(good + b';,=\r\n \t"%') for _ in range(64))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in CAREFUL_EACH_TIME])
@pytest.mark.parametrize("dialect", [b"nginx", b"forward"])
def test_COOK_04_another_ticket_in_a_head_seen_before_is_answered_as_if_it_were_not(
    house: House, kind: str, dialect: bytes
) -> None:
    """SMUG-01, SESS-02: whatever stands where the ticket stood, for a rule that protects and one that does not: the same bytes, to the same people."""
    one = replace(house.kinds[kind], dialect=dialect)
    mine = ticket_of(one.head(b"/a"))
    if len(mine) < 64:
        return  # a head without our cookie: nothing can stand there

    def heard(data: bytes) -> list[Heard]:
        return [plain(each) for each in ask(house.entry.inner, data, heads_only=heads_only(one.first))]

    for _ in range(3):
        heard(one.head(b"/a"))
    house.again.clear()
    for ticket in other_tickets(house, Random(kind)):
        for target in (b"/a", b"/public/x", b"/psc/start"):
            careful = heard(one.unseen(target).replace(mine, ticket))
            found = heard(one.head(target).replace(mine, ticket))
            cut = (
                1 if b"\n\r\n" in ticket else None
            )  # of what follows a head that ends there, only the line that makes it careful differs
            assert careful[:cut] == found[:cut], (ticket, target)
            assert (200 in {each.status for each in found}) <= (
                target == b"/public/x" or ticket in house.tickets.values()
            ), ticket
    assert sum(answer is not None for answer in house.again) > 10


@pytest.mark.parametrize(
    "second", [b"X-Forwarded-Uri: /public/x\r\n", b"x-forwarded-uri: /public/x\r\n", b"X-FORWARDED-URI: /public/x\r\n"]
)
def test_HDR_04_a_second_target_is_refused_although_the_head_around_it_was_seen(house: House, second: bytes) -> None:
    """In front of the proxy's line, behind it, in another spelling: 403, and never learnt."""
    one = house.kinds["stranger-prescribes"]
    kept = Kept(house.entry)
    for _ in range(4):
        assert 401 == kept.ask(one.head(b"/a")).status
        assert 200 == kept.ask(one.head(b"/public/x")).status
    for _ in range(4):
        assert 403 == kept.ask(one.head(b"/a", second)).status
        assert 403 == kept.ask(one.head(b"/a").replace(b"Host: inner\r\n", b"Host: inner\r\n" + second)).status
        assert 403 == kept.ask(one.head(b"/a\r\n" + second[:-2])).status
    kept.wire.sock.close()


def test_what_cuts_a_line_is_never_taken_from_memory(house: House) -> None:
    """SMUG-01: a bare CR or LF or NUL in the target of a head seen before: 400 and closed."""
    one = house.kinds["doctor"]
    kept = Kept(house.entry)
    for byte in (b"\r", b"\n", b"\x00"):
        for _ in range(3):
            assert 200 == kept.ask(one.head(b"/a?b")).status
        heard = kept.ask(one.head(b"/a?b" + byte + b"X-Forwarded-Uri: /c"))
        assert (400, True) == (heard.status, heard.closes)
    kept.wire.sock.close()


# -- pieces of heads and several of them -----------------------------------------------------------------------------------------


def test_SMUG_02_a_body_behind_a_head_seen_before_is_no_request(house: House) -> None:
    """Two heads in one read, a head in two, a head and a piece, a body that nobody announced: each head has its own answer, in order."""
    one, stranger = house.kinds["doctor"], house.kinds["stranger-program"]
    good, bad = one.head(b"/a"), stranger.head(b"/a")
    with Wire(house.entry.inner) as wire:
        for data in (good, bad) * 4:
            wire.send(data)
            wire.hear()
        for data, statuses in (
            (good + bad, (200, 401)),
            (bad + good + bad, (401, 200, 401)),
            (good * 3, (200, 200, 200)),
        ):
            wire.send(data)
            assert statuses == tuple(wire.hear().status for _ in statuses)
        middle = good.index(b"X-Forwarded-Uri: ")
        for cut in (1, 20, middle + 9, middle + 18, len(good) - 1, len(good) - 3):
            for _ in range(4):  # what came twice could be learnt
                wire.send(good + bad[:cut])
                assert 200 == wire.hear().status
                wire.send(bad[cut:] + good[:cut])
                assert 401 == wire.hear().status
                wire.send(good[cut:])
                assert 200 == wire.hear().status
        wire.send(good + b"a=b&c=d")
        assert [200, 400] == [heard.status for heard in answers(wire.finish())]
    heard = ask(house.entry.inner, good.replace(b"\r\n\r\n", b"\r\nContent-Length: 7\r\n\r\n") + b"a=b&c=d" + good)
    assert [(200, True)] == [(one.status, one.closes) for one in heard]


def test_a_piece_that_looks_like_a_whole_head_is_a_piece(house: House) -> None:
    """A head seen before that arrives inside another one, which is still under way, is lines of that one: at an address that reads
    none of them, nobody."""
    one = house.kinds["doctor"]
    door = house.entry.running.service._doors[0]
    with Wire(house.entry.inner) as wire:
        for _ in range(4):
            wire.send(one.head(b"/a"))
            assert 200 == wire.hear().status
        wire.send(b"GET /auth/ingress-nginx HTTP/1.1\r\nX-A: ")
        until(lambda: any(held.head for held in door.connections))
        wire.send(one.head(b"/a"))
        assert 403 == wire.hear().status


@st.composite
def conversations(draw: st.DrawFn) -> tuple[list[tuple[str, bytes, bytes, bytes, str]], list[int]]:
    """(kind, dialect, target, spelling, whose ticket or "" for its own) of each request, and where the bytes of all of them are cut."""
    known = draw(
        st.lists(
            st.tuples(st.sampled_from(KINDS), st.sampled_from([b"nginx", b"forward"]), st.sampled_from(SPELLINGS[:2])),
            min_size=1,
            max_size=3,
        )
    )
    target = st.one_of(
        st.sampled_from(TARGETS[:8]),
        st.sampled_from(TARGETS),
        st.from_regex(rb"/[!-~]{0,6}(\?[ -~]{0,6})?", fullmatch=True),
    )
    asked = [
        (
            kind,
            dialect,
            draw(target),
            spelled,
            draw(st.sampled_from(["", "", "doctor", "nurse", "left", "another-host", "forged"])),
        )
        for kind, dialect, spelled in draw(st.lists(st.sampled_from(known), min_size=1, max_size=12))
    ]
    return asked, draw(st.lists(st.integers(0, 5000), max_size=12))


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(conversation=conversations())
def test_a_kept_connection_says_what_a_new_one_for_each_request_says(
    house: House, conversation: tuple[list[tuple[str, bytes, bytes, bytes, str]], list[int]]
) -> None:
    """Whatever the heads, the targets, the pieces they come in and what was learnt of them: the same bytes, up to the first close."""
    asked, cuts = conversation
    asked = [one for one in asked if one[0] != "head"]
    data, expected, over = b"", [], False
    for kind, dialect, target, spelled, whose in asked:
        one = replace(house.kinds[kind], dialect=dialect, spelled=spelled)
        mine = ticket_of(one.head(b"/a")) or b"\x00"
        ticket = house.tickets.get(whose, mine)
        data += one.head(target).replace(mine, ticket)
        if not over:
            [careful] = ask(house.entry.inner, one.unseen(target).replace(mine, ticket))
            expected.append(plain(careful))
            over = careful.closes
    ends = sorted({cut % (len(data) + 1) for cut in cuts} | {len(data)})
    with Wire(house.entry.inner) as wire:
        start = 0
        for end in ends:
            wire.send(data[start:end])
            start = end
        got = answers(wire.finish())
    assert expected == [plain(heard) for heard in got]
    assert [] == house.entry.faults


# -- never a stale allow -----------------------------------------------------------------------------------------------------------


@dataclass
class Taught:
    """A kept connection on which the doctor's head was just answered from memory."""

    entry: Entry
    wire: Wire
    browser: Browser

    def status(self) -> int:
        self.wire.send(self.entry.head())
        return self.wire.hear().status


@pytest.fixture
def taught(running: Running, monkeypatch: pytest.MonkeyPatch) -> Iterator[Taught]:
    browser = Browser()
    entry = enter(running, browser)
    again: list[bytes | None] = []
    watch(running, again, monkeypatch)
    with Wire(entry.inner) as wire:
        found = Taught(entry, wire, browser)
        for _ in range(50):  # the door may look at the login anew once, when its entry has been written
            assert 200 == found.status()
            if again and again[-1] is not None:
                break
        else:
            pytest.fail("the head was never answered from memory")
        yield found


def test_SES_after_a_sign_out_nothing_is_remembered(taught: Taught) -> None:
    """At once, on the same connection, and for good."""
    taught.entry.running.sign_out(taught.browser)
    assert [401] * 5 == [taught.status() for _ in range(5)]


def test_after_the_idle_limit_nothing_is_remembered(taught: Taught) -> None:
    """To the second; a use just before it buys another span."""
    running = taught.entry.running
    idle = running.service.settings.session.idle
    running.clock.advance(idle - 1)
    assert 200 == taught.status()
    running.clock.advance(idle - 1)
    assert 200 == taught.status()
    running.clock.advance(idle)
    assert [401] * 3 == [taught.status() for _ in range(3)]


def test_after_the_absolute_limit_nothing_is_remembered(taught: Taught) -> None:
    """However busy it was: the remembered road looks at the end of a login, too."""
    running = taught.entry.running
    ends = next(iter(running.service.memory)).ends
    while running.clock.now + 300 < ends:
        running.clock.advance(300)
        assert 200 == taught.status()
    running.clock.now = ends - 1.0
    assert 200 == taught.status()
    running.clock.now = float(ends)
    assert [401] * 3 == [taught.status() for _ in range(3)]


def test_after_a_reload_the_new_rules_answer(taught: Taught) -> None:
    """The doctor's head, on a new connection, is judged by what the operator has just written; and again when it is taken back."""
    running = taught.entry.running
    apps = running.apps
    origins = 'origins = ["https://dossier.hopital.example"]\n'
    rule = '[[apps.dossier.rules]]\npaths = ["/*"]\nrequire = { profession = ["60"] }\n'
    for _ in range(2):
        running.reload(apps=apps.replace(origins, origins + rule))
        for _ in range(4):
            assert [403] == [heard.status for heard in taught.entry.ask(taught.entry.head())]
        running.reload(apps=apps)
        for _ in range(4):
            assert [200] == [heard.status for heard in taught.entry.ask(taught.entry.head())]


def test_after_a_reload_a_rule_is_not_taken_for_another_with_its_number(taught: Taught) -> None:
    """What was the first rule is another one now, and the doctor passes it: that says nothing of the old one's paths."""
    running = taught.entry.running
    origins = 'origins = ["https://dossier.hopital.example"]\n'

    def rules(*pairs: tuple[str, str]) -> str:
        text = "".join(
            f'[[apps.dossier.rules]]\npaths = ["{path}"]\nrequire = {{ profession = ["{code}"] }}\n'
            for path, code in pairs
        )
        return running.apps.replace(origins, origins + text)

    def status(path: bytes) -> int:  # by a head that is learnt under the first rules
        forwarded = FORWARDED.replace(b"Uri: /a", b"Uri: " + path)
        [heard] = taught.entry.ask(taught.entry.head(b"X-A: 1\r\n", forwarded=forwarded))
        return heard.status

    before, after = (
        rules(("/secret/*", "10"), ("/*", "10")),
        rules(("/other/*", "10"), ("/secret/*", "60"), ("/*", "10")),
    )
    running.reload(apps=before)
    assert [200] * 5 == [status(b"/secret/x") for _ in range(5)]
    running.reload(apps=after)
    for _ in range(4):
        assert (200, 403) == (status(b"/other/x"), status(b"/secret/x"))


def test_after_a_rotation_that_keeps_the_old_key_people_stay(taught: Taught) -> None:
    """`keys rotate` and a reload: the old ticket is still read."""
    rotate(taught.entry.running, keep=24 * 3600)
    for _ in range(4):
        assert [200] == [heard.status for heard in taught.entry.ask(taught.entry.head())]


def test_after_a_rotation_that_drops_the_old_key_everybody_signs_in_again(taught: Taught) -> None:
    """`keys rotate --drop-old` is for a key that has leaked: no ticket under it opens anything any more, remembered or not."""
    rotate(taught.entry.running, keep=0)
    for _ in range(4):
        assert [401] == [heard.status for heard in taught.entry.ask(taught.entry.head())]


def rotate(running: Running, *, keep: int) -> None:
    path = running.folder / "keys"
    write_ring(path, rotated(read_ring(path), int(running.clock()), keep=keep), replace=True)
    running.reload()


def test_another_professional_in_the_same_browser_is_another(taught: Taught) -> None:
    """The doctor's head says 401 from then on, the nurse's says who she is, first time and remembered."""
    running = taught.entry.running
    old = taught.entry.head()
    running.sign_out(taught.browser)
    taught.browser.psc.clear()
    assert 200 == running.sign_in(taught.browser, "infirmiere-leroy").status
    nurse = Entry(running, b"Cookie: " + taught.browser.cookies("dossier.hopital.example").encode() + b"\r\n")
    assert nurse.cookie != taught.entry.cookie
    for _ in range(5):
        taught.wire.send(old)
        assert 401 == taught.wire.hear().status
        taught.wire.send(nurse.head())
        heard = taught.wire.hear()
        assert 200 == heard.status
        assert heard[b"X-PSC-Subject"] not in (b"", DOCTOR)


def test_a_stranger_who_signs_in_is_no_stranger(running: Running) -> None:
    """What was remembered of the head without a ticket does not stand in the way of the one with it, and goes on standing for itself."""
    stranger = Entry(running, b"")
    with Wire(stranger.inner) as wire:
        for _ in range(5):
            wire.send(stranger.head())
            assert 401 == wire.hear().status
        entry = enter(running)
        for _ in range(5):
            wire.send(entry.head())
            assert 200 == wire.hear().status
            wire.send(stranger.head())
            assert 401 == wire.hear().status


# -- how much is remembered --------------------------------------------------------------------------------------------------------


@dataclass
class Endpoint:
    """An address for heads alone. `somebody`: what its readings say."""

    somebody: bool

    def reading(self, headers: object, ticket: object) -> "Endpoint":
        return self


def learn(heads: Heads, number: int, endpoint: Endpoint) -> None:
    headers = {b"host": b"a", b"x-forwarded-uri": b"/", b"x-number": b"%d" % number}
    heads.learn(
        b"GET /auth/nginx HTTP/1.1\r\nHost: a\r\nX-Forwarded-Uri: /\r\nX-Number: %d\r\n\r\n" % number,
        endpoint,
        headers,
        False,
    )


def test_the_same_pieces_in_another_order_are_another_shape() -> None:
    """The ticket in front of the target, or behind it: what was learnt of the one says nothing of the other."""
    heads = Heads(b"__Host-psc=")
    pieces = (b"A\r\n", b"B", b"C")
    ticket, mark = b"t" * 64, heads.mark
    behind = heads.split(pieces[0] + mark + b"/a\r\n" + pieces[1] + b"__Host-psc=" + ticket + pieces[2], mark)
    front = heads.split(pieces[0] + b"__Host-psc=" + ticket + pieces[1] + mark + b"/a\r\n" + pieces[2], mark)
    assert behind is not None
    assert front is not None
    assert behind[1:] == front[1:] == (b"/a", ticket)
    assert behind[0] != front[0]


@given(
    st.lists(
        st.sampled_from([b"A", b"\r\n", b"\r\nX-Forwarded-Uri: ", b"__Host-psc=", b"t" * 64, b"/a", b";"]), max_size=12
    ).map(b"".join)
)
def test_a_head_can_be_put_together_again_from_its_parts(data: bytes) -> None:
    """So two heads of one shape differ in nothing but the target and what stands where the ticket stood."""
    heads = Heads(b"__Host-psc=")
    parts = heads.split(data, heads.mark)
    if parts is None:
        assert heads.mark not in data
        return
    shape, target, ticket = parts
    line = heads.mark + target + b"\r\n"
    value = heads.ticket_mark + (ticket or b"")
    if len(shape) == 2:
        whole = shape[0] + line + shape[1]
    elif len(shape) == 3:
        whole = shape[0] + line + shape[1] + value + shape[2]
    else:
        whole = shape[0] + value + shape[1] + line + shape[2]
    assert data.removesuffix(b"\r\n") == whole.removesuffix(b"\r\n")


def test_DOS_06_strangers_never_push_out_who_is_signed_in() -> None:
    """Both kinds are bounded, each for itself, and so is the memory of what came once."""
    heads = Heads(b"__Host-psc=")
    for number in range(100):
        learn(heads, number, Endpoint(True))
    for number in range(10_000):
        learn(heads, number, Endpoint(False))
        assert len(heads.refused) <= 4096
    assert 100 == len(heads.known)
    for number in range(10_000):
        learn(heads, number, Endpoint(True))
        assert len(heads.known) <= 4096
    for number in range(50_000):
        heads.again((b"%d" % number, b""))
    assert len(heads._once) <= 4 * 4096


def size(value: object, seen: set[int]) -> int:
    """Bytes of this and of what it alone holds: bytes, tuples and dictionaries."""
    if id(value) in seen or not isinstance(value, bytes | tuple | dict | MappingProxyType):
        return 0
    seen.add(id(value))
    parts: Any = ()
    if isinstance(value, tuple):
        parts = value
    elif not isinstance(value, bytes):
        parts = [*value.keys(), *value.values()]
    return sys.getsizeof(value) + sum(size(part, seen) for part in parts)


@pytest.mark.parametrize(
    "lines", [b"".join(b"a%d:\r\n" % number for number in range(100)), b"X-Long: " + b"a" * 1500 + b"\r\n"]
)
def test_DOS_06_a_head_costs_at_most_three_kibibytes(house: House, lines: bytes) -> None:
    """However it is made up: many short lines, or few long ones."""
    heads = house.entry.running.service._doors[0].heads
    heads.clear()
    one = replace(house.kinds["stranger"], lines=house.kinds["stranger"].lines + lines)
    kept = Kept(house.entry)
    for _ in range(3):
        kept.ask(one.head(b"/a"))
    kept.wire.sock.close()
    assert (1, 0) == (len(heads.refused), len(heads.known))
    [(key, head)] = heads.refused.items()
    assert size((key, head), set()) <= 3 * 1024


def test_a_larger_head_is_not_learnt(house: House) -> None:
    """It is answered with care each time."""
    heads = house.entry.running.service._doors[0].heads
    heads.clear()
    kept = Kept(house.entry)
    for _ in range(4):
        assert 401 == kept.ask(house.kinds["stranger"].head(b"/a", b"X-Long: " + b"a" * 2048 + b"\r\n")).status
    kept.wire.sock.close()
    assert (0, 0) == (len(heads.refused), len(heads.known))


def test_references_are_all_that_differs() -> None:
    """The comparison above hides nothing else."""
    assert re.search(
        rb"X-PSC-Reference: REF", plain(Heard(403, b"HTTP/1.1 403\r\nX-PSC-Reference: abc", b"x abc")).head
    )
