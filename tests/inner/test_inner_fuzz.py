"""Whatever bytes arrive: one of few statuses or a close, no exception, and the next good connection is served."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from inner_entry import Entry
from inner_wire import FORWARDED, Wire, answers

STATUSES = {200, 302, 303, 400, 401, 403, 404, 408, 413, 414, 431}
PIECES = st.sampled_from(
    [
        b"GET ", b"POST ", b"HEAD ", b"/auth/nginx", b"/auth/forward", b"/auth/ingress-nginx", b"/livez", b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b"\r\n", b"\n",
        b"\r", b"\r\n\r\n", b": ", b" ", b"\t", b"\x00", b"\x0b", b"Host: inner\r\n", b"Host: a@b\r\n", b"Content-Length: 5\r\n", b"Content-Length: 0\r\n",
        b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", b"Upgrade: h2c\r\n", b"Connection: close\r\n", b"Connection: Upgrade\r\n", b"Expect: 100-continue\r\n",
        FORWARDED, b"X-Forwarded-Uri: /\r\n", b"X-Forwarded-Uri: ", b"X-Original-URL: https://dossier.hopital.example/a\r\n", b"X-Original-Method: GET\r\n",
        b"Cookie: __Host-psc=", b"Cookie: __Host-psc=a; __Host-psc=b\r\n", b"Accept: text/html\r\n", b"A" * 9000, b"X-A: b\r\n" * 130, b"\xff\xfe", b"%zz", b"#",
    ]
)  # fmt: skip
CALM = settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def judge(shared: Entry, parts: list[bytes], *, may_allow: bool) -> None:
    with Wire(shared.inner) as wire:
        for part in parts:
            wire.send(part)
        heard = answers(wire.finish(), heads_only=b"HEAD " in b"".join(parts))
    found = {one.status for one in heard}
    assert found <= STATUSES
    for one in heard:
        if one.status == 200 and not may_allow:
            assert [] == one.all(b"X-PSC-Subject")
    assert all(not one.closes for one in heard[:-1]), "something was answered behind a last answer"
    assert [200] == [one.status for one in shared.ask(shared.head())]
    assert [] == shared.faults


@CALM
@given(parts=st.lists(st.one_of(PIECES, st.binary(max_size=20)), max_size=25))
def test_any_bytes(shared: Entry, parts: list[bytes]) -> None:
    """Put together from pieces of requests and noise, without a ticket: nobody is let in."""
    judge(shared, [b"".join(parts)], may_allow=False)


@CALM
@given(data=st.data())
def test_a_good_request_that_was_damaged(shared: Entry, data: st.DataObject) -> None:
    """Bytes changed, cut out, put in, the whole cut in two reads, another good one behind it: what still says 200 still names the same person."""
    damaged = bytearray(shared.head() + shared.head())
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at : at + data.draw(st.integers(0, 3))] = data.draw(st.one_of(PIECES, st.binary(max_size=3)))
    cut = data.draw(st.integers(0, len(damaged)))
    with Wire(shared.inner) as wire:
        for part in (damaged[:cut], damaged[cut:]):
            wire.send(bytes(part))
        heard = answers(wire.finish(), heads_only=b"HEAD " in damaged)
    assert {one.status for one in heard} <= STATUSES
    assert {b"899700000001"} >= {one[b"X-PSC-Subject"] for one in heard if one.all(b"X-PSC-Subject")}
    assert all(not one.closes for one in heard[:-1])
    assert [200] == [one.status for one in shared.ask(shared.head())]
    assert [] == shared.faults
