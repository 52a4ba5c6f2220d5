"""Which keys are believed, and when they are asked for again: threats IDP-04 … IDP-07."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable

import pytest
import token_forge as forge
from token_forge import DROP, NOW, jwk, jwks

from forward_auth.errors import ForwardAuthError, PSCAnswerRefused, PSCUnavailable
from forward_auth.psc.keys import PACE, RETRY, STALE, KeySet, SigningKeys, UnknownKey, read_jwks

LOG = logging.getLogger("test")


def names(body: bytes) -> set[str]:
    """The kids of the usable keys."""
    return set(read_jwks(body).by_kid)


BAD_KEYS = {
    "symmetric": {"kty": "oct", "kid": "bad", "k": "AAAA"},
    "elliptic": {"kty": "EC", "kid": "bad", "crv": "P-256", "x": "AA", "y": "AA"},
    "RSA under another type": jwk(kid="bad", kty="EC"),
    "RSA under no type": jwk(kid="bad", kty=DROP),
    "for encryption": jwk(kid="bad", use="enc"),
    "for another algorithm": jwk(kid="bad", alg="RS512"),
    "for PS256": jwk(kid="bad", alg="PS256"),
    "alg null": jwk(kid="bad", alg=None),
    "use null": jwk(kid="bad", use=None),
    "for signing": jwk(kid="bad", key_ops=["sign"]),
    "operations as text": jwk(kid="bad", key_ops="verify"),
    **{
        f"private, by its {name}": jwk(kid="bad", **{name: "AQAB"})
        for name in ("d", "p", "q", "dp", "dq", "qi", "oth", "k")
    },
    "1024 bits": jwk("short", bits=1024, kid="bad"),
    "2047 bits": jwk(kid="bad", n=forge.number((1 << 2047) - 1)),
    "8193 bits": jwk(kid="bad", n=forge.number((1 << 8193) - 1)),
    "exponent of a bit too many": jwk(kid="bad", e=forge.number((1 << 32) + 1)),
    "exponent with leading zeros": jwk(kid="bad", e="AAAAAAEAAQ"),
    "16384 bits": jwk(kid="bad", n=forge.number((1 << 16384) - 1)),
    "even exponent": jwk(kid="bad", e="Ag"),
    "exponent one": jwk(kid="bad", e="AQ"),
    "huge exponent": jwk(kid="bad", e="AQAAAAAAAQ"),
    "exponent of 33 bits": jwk(kid="bad", e=forge.number((1 << 33) + 1)),
    "no modulus": jwk(kid="bad", n=DROP),
    "no exponent": jwk(kid="bad", e=DROP),
    "modulus as number": jwk(kid="bad", n=12345),
    "modulus padded": jwk(kid="bad", n=str(jwk()["n"]) + "=="),
    "modulus garbage": jwk(kid="bad", n="!!!!"),
    "even modulus": jwk(kid="bad", n=forge.number(1 << 2047)),
    "kid number": jwk(kid=7),
    "kid empty": jwk(kid=""),
    "kid long": jwk(kid="k" * 257),
    "not an object": "text",
    "null": None,
    "a list": [],
}


@pytest.mark.parametrize("name", BAD_KEYS)
def test_IDP_04_one_bad_key_among_good_ones(name: str) -> None:
    """A key that is not for verifying RS256 is skipped, the good ones serve."""
    body = json.dumps({"keys": [jwk("one"), BAD_KEYS[name], jwk("two")]}).encode()
    assert {"one", "two"} == names(body)
    assert 1 == read_jwks(body).skipped


@pytest.mark.parametrize("name", BAD_KEYS)
def test_IDP_04_a_bad_key_alone(name: str) -> None:
    """Without any usable key the set is none."""
    with pytest.raises(PSCAnswerRefused) as caught:
        read_jwks(json.dumps({"keys": [BAD_KEYS[name]]}).encode())
    assert "jwks_empty" == caught.value.code


@pytest.mark.parametrize(
    "member", [{"use": DROP}, {"alg": DROP}, {"key_ops": ["verify"]}, {"x5c": ["MIIB"]}, {"extra": 1}]
)
def test_keys_with_less_or_more_than_keycloak_writes(member: dict[str, object]) -> None:
    """use and alg may be missing; what is not understood is ignored (RFC 7517 §4)."""
    assert {"one"} == names(jwks(jwk(**member)))


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"keys":[]}', "jwks_empty"),
        (b"{}", "jwks_malformed"),
        (b'{"keys":{}}', "jwks_malformed"),
        (b'{"keys":"a"}', "jwks_malformed"),
        (b'{"keys":null}', "jwks_malformed"),
        (b"[]", "malformed_json"),
        (b"<html>", "malformed_json"),
        (b'{"keys":[],"keys":[]}', "duplicate_member"),
        (b" " * (1024 * 1024 + 1), "too_large"),
    ],
)
def test_IDP_04_sets_that_are_none(body: bytes, code: str) -> None:
    """Empty, no list, no JSON, doubled, too large."""
    with pytest.raises(PSCAnswerRefused) as caught:
        read_jwks(body)
    assert code == caught.value.code


def test_IDP_04_ten_thousand_keys() -> None:
    """The first hundred are read, the rest is not looked at."""
    good = jwk("one")
    body = json.dumps({"keys": [good] + [{"kty": "oct"}] * 9_999 + [jwk("two")]}).encode()
    found = read_jwks(body)
    assert ({"one"}, 10_000) == (set(found.by_kid), found.skipped)


def test_IDP_04_a_hundred_keys_are_read_and_the_next_one_is_not() -> None:
    """And the number of those not used is told, those of one name counting both."""
    hundred = [{"kty": "oct"}] * 99 + [jwk("one")]
    found = read_jwks(json.dumps({"keys": hundred}).encode())
    assert ({"one"}, 99) == (set(found.by_kid), found.skipped)
    with pytest.raises(PSCAnswerRefused):
        read_jwks(json.dumps({"keys": [{"kty": "oct"}, *hundred]}).encode())
    assert 0 == read_jwks(jwks(jwk("one"), jwk("two"))).skipped
    assert 2 == read_jwks(jwks(jwk("one", kid="x"), jwk("two", kid="x"), jwk("three"))).skipped


def test_two_keys_of_one_name() -> None:
    """The same key twice is one key; two different keys of one name are none, because nobody knows which is meant."""
    assert {"one"} == names(jwks(jwk("one"), jwk("one")))
    assert {"three"} == names(jwks(jwk("one", kid="x"), jwk("two", kid="x"), jwk("three")))


def test_the_largest_that_is_read() -> None:
    """A kid of 256 characters and a modulus of 8192 bits are still read."""
    assert {"k" * 256} == names(jwks(jwk(kid="k" * 256)))
    assert {"one"} == names(jwks(jwk(n=forge.number((1 << 8192) - 1))))
    assert {"one"} == names(jwks(jwk(n=forge.number((1 << 2048) - 1))))
    assert {"one"} == names(jwks(jwk(e=forge.number((1 << 32) - 1))))
    assert {"k"} == names(jwks(jwk(kid="k")))
    assert {"one"} == names(jwks(jwk(e="AAAAAQAB")))


def test_keys_without_a_name() -> None:
    """They serve only tokens without a kid, and only when there is exactly one key in all."""
    alone = read_jwks(jwks(jwk(kid=DROP)))
    assert alone.find(None).key_size == 2048
    assert read_jwks(jwks(jwk("one"))).find(None).key_size == 2048
    with pytest.raises(UnknownKey):
        alone.find("one")
    for several in (jwks(jwk(kid=DROP), jwk("two")), jwks(jwk("one", kid=DROP), jwk("two", kid=DROP))):
        with pytest.raises(UnknownKey):
            read_jwks(several).find(None)
    with pytest.raises(UnknownKey):
        KeySet().find(None)


# -- when they are asked for ------------------------------------------------------------------------------------------------------


class Source:
    """What PSC would answer: a body or an error, counted; `gate` holds the answer back while it is set."""

    def __init__(self, answer: bytes | ForwardAuthError) -> None:
        self.answer = answer
        self.asked = 0
        self.gate: asyncio.Event | None = None

    async def __call__(self) -> bytes:
        """One fetch."""
        self.asked += 1
        if self.gate is not None:
            await self.gate.wait()
        if isinstance(self.answer, ForwardAuthError):
            raise self.answer
        return self.answer


class Clock:
    """A clock that is turned by hand."""

    def __init__(self) -> None:
        self.now = float(NOW)

    def __call__(self) -> float:
        """Unix seconds."""
        return self.now


def run(
    story: Callable[[SigningKeys, Source, Clock], Awaitable[None]], answer: bytes | ForwardAuthError | None = None
) -> None:
    """A story with fresh keys."""

    async def main() -> None:
        source, clock = Source(jwks() if answer is None else answer), Clock()
        keys = SigningKeys(source, clock, LOG)
        try:
            await story(keys, source, clock)
        finally:
            await keys.close()

    asyncio.run(main())


DOWN = PSCUnavailable("timeout", "no answer in time")


def test_the_set_is_fetched_once_and_kept() -> None:
    """The first who needs it fetches it, the next ones do not."""

    async def story(keys: SigningKeys, source: Source, clock: Clock) -> None:
        assert (None, False) == (keys.age(), keys.known)
        first = await keys.current()
        clock.now += 3600
        assert first is await keys.current()
        assert (1, 3600.0, True) == (source.asked, keys.age(), keys.known)

    run(story)


def test_one_fetch_in_flight() -> None:
    """A hundred who need it at once share one fetch; one who gives up takes it from nobody (CACHE-07)."""

    async def story(keys: SigningKeys, source: Source, clock: Clock) -> None:
        source.gate = asyncio.Event()
        waiting = [asyncio.create_task(keys.current()) for _ in range(100)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        source.gate.set()
        found = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(found[0], asyncio.CancelledError)
        assert 1 == len({id(one) for one in found[1:]})
        assert 1 == source.asked

    run(story)


def test_IDP_05_key_rotated() -> None:
    """A new kid fetches at once and is found; the old key still serves while it is published, and no longer when it is gone."""

    async def story(keys: SigningKeys, source: Source, clock: Clock) -> None:
        seen = await keys.current()
        source.answer = jwks(jwk("one"), jwk("two"))
        newer = await keys.newer(seen)
        assert newer is not None
        assert newer.find("two")
        assert newer.find("one")
        clock.now += PACE
        source.answer = jwks(jwk("two"))
        newest = await keys.newer(newer)
        assert newest is not None
        with pytest.raises(UnknownKey):
            newest.find("one")
        assert 3 == source.asked

    run(story)


def test_IDP_06_a_storm_of_unknown_kids() -> None:
    """Five thousand tokens a second for two minutes, whose keys do not exist: one fetch in thirty seconds."""

    async def story(keys: SigningKeys, source: Source, clock: Clock) -> None:
        seen = await keys.current()
        source.asked = 0
        for _ in range(120):
            for _ in range(50):
                assert await keys.newer(seen) is None
            clock.now += 1
        assert 4 == source.asked

    run(story)


def test_IDP_06_IDP_07_the_paces_are_those_that_were_promised() -> None:
    """Thirty seconds between two fetches for unknown keys, five between two in vain, a day for the last good set: to the second."""

    async def story(keys: SigningKeys, source: Source, clock: Clock) -> None:
        source.answer = DOWN
        for wait, asked in ((0, 1), (4, 1), (1, 2)):
            clock.now += wait
            with pytest.raises(PSCUnavailable, match="keys_unknown"):
                await keys.current()
            assert asked == source.asked
        assert (b"", 0.0) == (keys.body, keys.fetched)
        source.answer, clock.now = jwks(), clock.now + 5
        seen, source.asked = await keys.current(), 0
        for wait, asked in ((0, 1), (29, 1), (1, 2)):
            clock.now += wait
            assert await keys.newer(seen) is None
            assert asked == source.asked
        source.answer, clock.now = DOWN, clock.now + 86_400
        assert seen is await keys.current()
        clock.now += 1
        with pytest.raises(PSCUnavailable, match="keys_stale"):
            await keys.current()

    run(story)


def test_IDP_06_the_storm_while_psc_is_down() -> None:
    """Failed fetches count as fetches."""

    async def story(keys: SigningKeys, source: Source, clock: Clock) -> None:
        seen = await keys.current()
        source.answer, source.asked = DOWN, 0
        for _ in range(60):
            assert await keys.newer(seen) is None
            clock.now += 1
        assert 2 == source.asked
        assert seen is await keys.current()

    run(story)


def test_IDP_06_somebody_else_brought_the_new_set() -> None:
    """Whoever comes with the old set in hand gets the new one without another fetch, paced or not."""

    async def story(keys: SigningKeys, source: Source, clock: Clock) -> None:
        seen = await keys.current()
        source.answer = jwks(jwk("two"))
        newer = await keys.newer(seen)
        assert newer is await keys.newer(seen)
        assert 2 == source.asked

    run(story)


def test_IDP_06_many_unknown_kids_at_once_share_the_fetch() -> None:
    """Those who come while it is under way wait for it instead of being refused."""

    async def story(keys: SigningKeys, source: Source, clock: Clock) -> None:
        seen = await keys.current()
        source.gate, source.answer = asyncio.Event(), jwks(jwk("two"))
        waiting = [asyncio.create_task(keys.newer(seen)) for _ in range(20)]
        await asyncio.sleep(0)
        source.gate.set()
        found = await asyncio.gather(*waiting)
        assert all(one is not None and one.find("two") for one in found)
        assert 2 == source.asked

    run(story)


def test_IDP_14_a_clock_that_stepped_back_does_not_silence_the_fetch() -> None:
    """After a step of an hour back an unknown kid still fetches."""

    async def story(keys: SigningKeys, source: Source, clock: Clock) -> None:
        seen = await keys.current()
        await keys.newer(seen)
        clock.now -= 3600
        source.answer = jwks(jwk("two"))
        assert await keys.newer(seen) is not None
        clock.now -= 3600
        assert 0.0 == keys.age()

    run(story)


@pytest.mark.parametrize("answer", [DOWN, b'{"keys":[]}', b"<html>", b'{"keys":7}', PSCAnswerRefused("not_json")])
def test_IDP_04_IDP_07_the_good_set_survives_a_bad_fetch(answer: bytes | ForwardAuthError) -> None:
    """PSC down or answering rubbish: the last good set serves for 24 hours, then no token is believed any more."""

    async def story(keys: SigningKeys, source: Source, clock: Clock) -> None:
        seen = await keys.current()
        source.answer = answer
        with pytest.raises(ForwardAuthError):
            await keys.refresh()
        clock.now += STALE
        assert seen is await keys.current()
        clock.now += 1
        with pytest.raises(PSCUnavailable) as caught:
            await keys.current()
        assert "keys_stale" == caught.value.code
        source.answer = jwks(jwk("two"))
        clock.now += RETRY
        assert (await keys.current()).find("two")

    run(story)


def test_IDP_07_no_set_at_start() -> None:
    """PSC down at start: unavailable, and not asked on every token; then known without a restart."""

    async def story(keys: SigningKeys, source: Source, clock: Clock) -> None:
        for _ in range(100):
            with pytest.raises(PSCUnavailable) as caught:
                await keys.current()
            assert "keys_unknown" == caught.value.code
        assert 1 == source.asked
        source.answer = jwks()
        clock.now += RETRY
        assert (await keys.current()).find("one")

    run(story, DOWN)


def test_IDP_07_who_comes_while_a_fetch_is_under_way_waits_for_it() -> None:
    """Also a moment after one in vain; and a token that names a key when no set was ever seen fetches the first."""

    async def story(keys: SigningKeys, source: Source, clock: Clock) -> None:
        with pytest.raises(PSCUnavailable):
            await keys.current()
        source.answer, source.gate = jwks(), asyncio.Event()
        under_way = asyncio.create_task(keys.refresh())
        await asyncio.sleep(0)
        waiting = asyncio.create_task(keys.current())
        await asyncio.sleep(0)
        source.gate.set()
        assert await under_way is await waiting

    async def first(keys: SigningKeys, source: Source, clock: Clock) -> None:
        found = await keys.newer(KeySet())
        assert found is not None
        assert found.find("one")

    run(story, DOWN)
    run(first)


def test_an_unchanged_set_is_the_same_set() -> None:
    """A fetch that brings nothing new makes the set young again and changes nothing else."""

    async def story(keys: SigningKeys, source: Source, clock: Clock) -> None:
        seen = await keys.current()
        clock.now += 100
        assert seen is await keys.refresh()
        assert (0.0, NOW + 100) == (keys.age(), keys.fetched)

    run(story)


def test_a_kept_copy_serves_until_there_is_better() -> None:
    """restore gives the set of the last run, with its age; it never replaces what PSC has said since."""

    async def story(keys: SigningKeys, source: Source, clock: Clock) -> None:
        keys.restore(jwks(jwk("two")), NOW - 7200)
        assert (7200.0, jwks(jwk("two"))) == (keys.age(), keys.body)
        assert (await keys.current()).find("two")
        assert 0 == source.asked
        await keys.refresh()
        keys.restore(jwks(jwk("three")), NOW)
        assert (await keys.current()).find("one")
        with pytest.raises(PSCAnswerRefused):
            keys.restore(b"{}", NOW)

    run(story)


def test_skipped_keys_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """The operator can see that PSC publishes keys we do not use."""

    async def story(keys: SigningKeys, source: Source, clock: Clock) -> None:
        await keys.current()
        await keys.refresh()

    with caplog.at_level(logging.INFO):
        run(story, jwks(jwk("one"), jwk("two", use="enc")))
    assert ["signing keys: 1 usable, 1 skipped"] == [record.getMessage() for record in caplog.records]


def test_closing_ends_the_fetch_in_flight() -> None:
    """Nothing of ours is left running; whoever waits learns of it."""

    async def story(keys: SigningKeys, source: Source, clock: Clock) -> None:
        source.gate = asyncio.Event()
        waiting = asyncio.create_task(keys.current())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await keys.close()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await keys.close()

    run(story)
