"""The client against a real server on this machine: learning, signing in, renewing, and every way PSC can be wrong or away."""

import asyncio
import base64
import gzip
import json
import logging
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs, urlsplit

import pytest
import token_forge as forge
from aiohttp import web
from pretend_psc import HOME, PLAIN, SUB, WALLET, House, Pretend, house, settings, text, until

from forward_auth.errors import ForwardAuthError, PSCAnswerRefused, PSCDenied, PSCUnavailable, StoreUnavailable
from forward_auth.psc import client as client_module
from forward_auth.psc.client import ENDPOINTS, OUTCOMES, PSC
from forward_auth.psc.keys import UnknownKey
from forward_auth.psc.notes import Copy, SealedNotes, note_name
from forward_auth.sealing import KeyRing, new_key
from forward_auth.secret import Secret
from forward_auth.stores.memory import MemoryStore

CODE = "c0de"
PERSON = {"sub": SUB, "SubjectNameID": "899700000001"}


def play(story: Callable[[House], Awaitable[None]], pretend: Pretend | None = None, **options: object) -> None:
    """A story in a fresh house."""

    async def main() -> None:
        async with house(pretend, **options) as found:
            await story(found)

    asyncio.run(main())


async def refusal(coroutine: Awaitable[object]) -> ForwardAuthError:
    """The error an action ends in."""
    with pytest.raises(ForwardAuthError) as caught:
        await coroutine
    return caught.value


def redeem(found: House, **options: object) -> Awaitable[client_module.Authentication]:
    """The honest redemption."""
    return found.psc.redeem(CODE, forge.VERIFIER, forge.NONCE, **options)


# -- knowing PSC ------------------------------------------------------------------------------------------------------------------


def test_oidcc_client_test_discovery() -> None:
    """discovery-openid-config, discovery-jwks-uri-keys: after start everything is known, from two requests."""

    async def story(found: House) -> None:
        assert found.psc.ready
        assert found.psc.reachable
        assert found.psc.provider is not None
        assert found.pretend.issuer == found.psc.provider.issuer
        assert [("GET", WALLET), ("GET", HOME + "/certs")] == found.pretend.seen
        assert [("discovery", "ok"), ("keys", "ok")] == found.observed
        assert (0.0, "") == (found.psc.keys_age, found.psc.trouble)

    play(story)


def test_nothing_is_sent_that_was_not_meant_to_be() -> None:
    """No cookie, no compression asked for, no version of Python or aiohttp told."""

    async def story(found: House) -> None:
        headers = found.pretend.requests[0].headers
        assert ("identity", "psc-forward-auth") == (headers["Accept-Encoding"], headers["User-Agent"])
        found.pretend.answers[HOME + "/userinfo"] = text(json.dumps(PERSON), Set_Cookie="AUTH_SESSION=1; Path=/")
        await redeem(found)
        await redeem(found)
        assert not [request for request in found.pretend.requests if "Cookie" in request.headers]

    play(story)


def test_a_plain_issuer_is_found_by_its_standard_document() -> None:
    """custom without discovery_url: the wallet's document, on 404 the standard one (decision 19)."""
    pretend = Pretend()
    pretend.answers[WALLET] = text("{}", 404)
    pretend.answers[PLAIN] = lambda request: text(json.dumps(forge.metadata(pretend.issuer)))(request)

    async def story(found: House) -> None:
        assert [WALLET, PLAIN] == [path for _, path in pretend.seen[:2]]
        assert found.psc.ready

    play(story, pretend)


def test_a_broken_wallet_document_is_not_replaced_by_the_standard_one() -> None:
    """Only a 404 says that there is none."""
    pretend = Pretend()
    pretend.answers[WALLET] = text("oops", 400, "text/plain")
    pretend.answers[PLAIN] = lambda request: text(json.dumps(forge.metadata(pretend.issuer)))(request)

    async def story(found: House) -> None:
        assert not found.psc.ready
        assert 0 == pretend.count(PLAIN)
        assert "unexpected_status" in found.psc.trouble

    play(story, pretend)


def test_a_configured_document_is_the_only_one() -> None:
    """discovery_url is asked and nothing else, found or not."""
    pretend = Pretend()

    async def main() -> None:
        await pretend.start()
        await pretend.stop()
        pretend.answers["/mine"] = lambda request: text(json.dumps(forge.metadata(pretend.issuer)))(request)
        async with house(pretend, discovery_url=pretend.base + "/mine") as found:
            assert found.psc.ready
            assert "/mine" == pretend.seen[0][1]
            assert 0 == pretend.count(WALLET)

    asyncio.run(main())


def test_the_environments_know_their_issuer() -> None:
    """bas and production need no issuer and have one document only; without either there is no client."""

    async def main() -> None:
        for environment, host in (("bas", "auth.bas.psc.esante.gouv.fr"), ("production", "auth.esw.esante.gouv.fr")):
            found = make(environment=environment)
            assert f"https://{host}/auth/realms/esante-wallet" == found.issuer
            assert (found.issuer + "/.well-known/wallet-openid-configuration",) == found._addresses
        with pytest.raises(ValueError, match="issuer"):
            make(environment="custom")

    asyncio.run(main())


def make(**members: object) -> PSC:
    """A client that is never started."""
    return PSC(
        settings(**members),
        redirect_uri="https://a.example/cb",
        post_logout_redirect_uri="https://a.example/out",
        http=None,
        clock=lambda: 0.0,
        notes=MemoryStore(),
        observe=lambda *_: None,
        log=logging.getLogger("psc"),
    )


def test_IDP_07_down_at_start_then_ready_without_restart(caplog: pytest.LogCaptureFixture) -> None:
    """The start does not fail; nothing is known; PSC comes, and is known a moment later. One log line for the trouble."""

    async def story(found: House) -> None:
        assert not found.psc.ready
        assert not found.psc.reachable
        assert "no_answer" in found.psc.trouble
        error = await refusal(
            asyncio.to_thread(found.psc.authorization_url, state="s", nonce="n", verifier=forge.VERIFIER)
        )
        assert (PSCUnavailable, "metadata_unknown") == (type(error), error.code)
        assert "metadata_unknown" == (await refusal(redeem(found))).code
        assert found.psc.end_session_url("a.b.c", "s") is None
        assert not await found.psc.revoke(Secret("r"))
        await until(lambda: len(found.observed) > 4)
        await found.pretend.start()
        await until(lambda: found.psc.ready)
        assert found.psc.reachable
        await redeem(found)

    with caplog.at_level(logging.WARNING):
        play(story, running=False)
    assert 1 == len([record for record in caplog.records if "not refreshed" in record.getMessage()])


def test_IDP_07_keys_down_at_start() -> None:
    """Metadata alone is not enough to be ready."""
    pretend = Pretend()
    pretend.answers[HOME + "/certs"] = text("", 503)

    async def story(found: House) -> None:
        assert not found.psc.ready
        assert found.psc.provider is not None
        assert "keys_unknown" == (await refusal(redeem(found))).code
        del pretend.answers[HOME + "/certs"]
        await until(lambda: found.psc.ready)

    play(story, pretend)


def test_IDP_01_psc_goes_away_and_comes_back() -> None:
    """Away: known at the first request that fails, asked about once per interval, ready all the while. Back: known by itself."""

    async def story(found: House) -> None:
        await found.pretend.stop()
        assert "no_answer" == (await refusal(redeem(found))).code
        assert found.psc.ready
        assert not found.psc.reachable
        assert not await found.psc.answering()
        assert found.psc.authorization_url(state="s", nonce="n", verifier=forge.VERIFIER)
        await found.pretend.start()
        await until(lambda: found.psc.reachable)
        assert await found.psc.answering()

    play(story)


def test_IDP_01_at_most_one_probe_per_interval() -> None:
    """R5: while PSC is away it is asked once per interval, however many people ask us."""

    async def story(found: House) -> None:
        await found.pretend.stop()
        await refusal(redeem(found))
        await until(lambda: ("discovery", "unavailable") in found.observed)
        found.observed.clear()
        began = asyncio.get_running_loop().time()
        while (elapsed := asyncio.get_running_loop().time() - began) < 0.5:
            assert not await found.psc.answering()
            await asyncio.sleep(0.001)
        probes = found.observed.count(("discovery", "unavailable"))
        assert 1 <= probes <= elapsed / 0.1 + 2

    play(story, probe_every=0.1)


def test_answering_asks_psc_when_it_has_not_been_heard_lately(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page that says «PSC does not answer» is there for the first who comes after PSC has gone, not for the second."""
    monkeypatch.setattr(client_module, "_ANSWER_FRESH", 0.0)

    async def story(found: House) -> None:
        assert await found.psc.answering()
        assert 2 == found.pretend.count(WALLET)
        found_at_once = await asyncio.gather(*(found.psc.answering() for _ in range(20)))
        assert all(found_at_once)
        assert 3 == found.pretend.count(WALLET)
        await found.pretend.stop()
        assert not await found.psc.answering()

    play(story, probe_every=60.0)


def test_answering_trusts_a_fresh_answer() -> None:
    """Within a second of any answer nothing is asked."""

    async def story(found: House) -> None:
        assert all([await found.psc.answering() for _ in range(50)])
        assert 1 == found.pretend.count(WALLET)

    play(story)


def test_answering_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A person waits for the answer: silence is a no."""
    monkeypatch.setattr(client_module, "_ANSWER_WAIT", 0.05)
    monkeypatch.setattr(client_module, "_ANSWER_FRESH", 0.0)

    async def story(found: House) -> None:
        found.pretend.answers[WALLET] = silent
        assert not await found.psc.answering()

    play(story)


async def silent(request: web.Request) -> web.StreamResponse:
    """Never answers."""
    await asyncio.Event().wait()
    raise AssertionError


def test_IDP_01_a_start_in_front_of_a_black_hole_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """start comes back although PSC has taken the connection and says nothing."""
    monkeypatch.setattr(client_module, "_FIRST_WAIT", 0.05)
    pretend = Pretend()
    pretend.answers[WALLET] = silent

    async def story(found: House) -> None:
        assert not found.psc.ready

    play(story, pretend)


@pytest.mark.parametrize(
    "change",
    [
        {"issuer": "https://evil.example"},
        {"token_endpoint": "https://evil.example/token"},
        {"jwks_uri": "http://evil.example/certs"},
        {"authorization_endpoint": "http://evil.example/auth"},
    ],
)
def test_IDP_09_metadata_that_changes_into_something_else(
    change: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    """At a refresh the new document is refused, the old one serves on, the operator is told once, loudly."""

    async def story(found: House) -> None:
        before = found.psc.provider
        found.pretend.answers[WALLET] = {**forge.metadata(found.pretend.issuer), **change}
        await until(lambda: bool(found.psc.trouble))
        assert before is found.psc.provider
        assert found.psc.ready
        assert found.psc.reachable
        await redeem(found)
        del found.pretend.answers[WALLET]
        await until(lambda: not found.psc.trouble)

    with caplog.at_level(logging.ERROR):
        play(story, refresh_every=0.03, probe_every=0.01)
    assert 1 == len([record for record in caplog.records if "not refreshed" in record.getMessage()])


async def lapse(seconds: float) -> None:
    """Let the loop run for a while: what is tested is that nothing happens."""
    end = asyncio.get_running_loop().time() + seconds
    await until(lambda: asyncio.get_running_loop().time() >= end)


def test_psc_is_left_alone_while_all_is_well() -> None:
    """Metadata and keys are asked for again after `refresh_every`, not after `probe_every`."""

    async def story(found: House) -> None:
        await lapse(0.2)
        assert [("GET", WALLET), ("GET", HOME + "/certs")] == found.pretend.seen

    play(story, probe_every=0.01)


def test_IDP_09_what_is_not_believed_is_asked_for_slowly() -> None:
    """PSC answers, but with something else: asking twelve times as often would mend nothing."""

    async def story(found: House) -> None:
        found.pretend.answers[WALLET] = forge.metadata("https://evil.example/auth/realms/x")
        found.pretend.answers[HOME + "/userinfo"] = text("", 500)
        await refusal(redeem(found))  # makes the client look
        await until(lambda: bool(found.psc.trouble))
        before = found.pretend.count(WALLET)
        await lapse(0.2)
        assert found.pretend.count(WALLET) - before <= 2

    play(story, probe_every=0.01)


def test_coming_and_going_is_logged_once_each(caplog: pytest.LogCaptureFixture) -> None:
    """One line when PSC stops answering, one when it answers again, however many requests fail meanwhile."""

    async def story(found: House) -> None:
        await found.pretend.stop()
        for _ in range(5):
            await refusal(redeem(found))
        await found.pretend.start()
        await until(lambda: found.psc.reachable)

    with caplog.at_level(logging.INFO):
        play(story)
    told = [record.getMessage() for record in caplog.records]
    assert 1 == len([line for line in told if "does not answer" in line])
    assert 2 == told.count("psc: answers")
    assert 1 == len([line for line in told if "learnt" in line])


def test_honest_changes_of_metadata_are_taken_over(caplog: pytest.LogCaptureFixture) -> None:
    """Another address at the same origin is used from the next refresh on, and the log says that it changed."""

    async def story(found: House) -> None:
        home = found.pretend.issuer + "/protocol/openid-connect"
        document = forge.metadata(found.pretend.issuer, end_session_endpoint=home + "/logout2")
        found.pretend.answers[WALLET] = document
        await until(lambda: "logout2" in (found.psc.end_session_url("a", "s") or ""))

    with caplog.at_level(logging.WARNING):
        play(story, refresh_every=0.03, probe_every=0.01)
    assert [record for record in caplog.records if "changed" in record.getMessage()]


def test_a_fault_of_ours_does_not_end_the_upkeep(caplog: pytest.LogCaptureFixture) -> None:
    """A store that breaks its contract is logged with its trace, and the next round is asked all the same."""

    class Broken(MemoryStore):
        broken = False

        async def put_note(self, name: str, value: bytes, until: int) -> None:
            if self.broken:
                raise RuntimeError("a fault of ours")

    store = Broken()

    async def story(found: House) -> None:
        store.broken = True
        found.now += 1000
        await until(lambda: found.pretend.count(WALLET) >= 4)
        assert found.psc.ready

    with caplog.at_level(logging.ERROR):
        play(story, store=store, refresh_every=0.01, probe_every=0.005)
    assert [record for record in caplog.records if record.exc_info]


# -- the kept copy ----------------------------------------------------------------------------------------------------------------


def test_IDP_07_a_start_without_psc_from_the_kept_copy() -> None:
    """Decision 11: metadata and keys of the last run serve a start in an outage, sealed in the store."""
    store, pretend = MemoryStore(), Pretend()
    notes = SealedNotes(store, KeyRing([new_key(0)]))

    async def main() -> None:
        async with house(pretend, store=store, notes=notes) as found:
            assert found.psc.ready
        async with house(pretend, store=store, notes=notes, running=False, started=False) as found:
            found.now += 7200
            await found.psc.start()
            assert found.psc.ready
            assert not found.psc.reachable
            assert 7200.0 == found.psc.keys_age
            token = forge.sign(
                forge.header(typ="logout+jwt"),
                forge.logout_claims(iss=pretend.issuer, iat=int(found.now), exp=int(found.now) + 60),
            )
            assert "9f3c" == (await found.psc.check_logout_token(token)).jti

    asyncio.run(main())


def test_the_copy_is_written_when_something_changed() -> None:
    """Not at every refresh, but when the content is new or the copy is getting old."""

    class Counting(MemoryStore):
        written = 0

        async def put_note(self, name: str, value: bytes, until: int) -> None:
            self.written += 1
            await super().put_note(name, value, until)

    store = Counting()

    async def story(found: House) -> None:
        await until(lambda: found.pretend.count(WALLET) >= 4)
        assert 1 == store.written
        found.pretend.answers[WALLET] = forge.metadata(found.pretend.issuer, extra="1")
        await until(lambda: store.written == 2)
        found.now += 601
        await until(lambda: store.written == 3)

    play(story, store=store, refresh_every=0.01, probe_every=0.005)


@pytest.mark.parametrize("after", [86_401, -61])
def test_a_copy_that_is_too_old_or_from_the_future_is_no_copy(after: int) -> None:
    """24 hours, and only the past (decision 11)."""
    copy = Copy(b"m", b"k", forge.NOW)
    assert copy == Copy.from_note(copy.to_note(), forge.NOW + 86_400)
    assert Copy.from_note(copy.to_note(), forge.NOW + after) is None


@pytest.mark.parametrize("members", [{"seen": "1"}, {"metadata": 1}, {"keys": None}, {"metadata": "!!"}, {"keys": "a"}])
def test_a_note_that_is_no_copy(members: dict[str, object]) -> None:
    """What we did not write is no copy."""
    good = json.loads(Copy(b"m", b"k", forge.NOW).to_note())
    assert Copy.from_note(json.dumps({**good, **members}).encode(), forge.NOW) is None


@pytest.mark.parametrize("note", [b"rubbish", Copy(b"{}", b"{}", forge.NOW).to_note(), b"{}"])
def test_a_bad_note_does_not_hinder_the_start(note: bytes) -> None:
    """It is passed over, and PSC is asked."""
    pretend, store = Pretend(), MemoryStore()

    async def main() -> None:
        async with house(pretend, store=store, started=False) as found:
            await store.put_note(note_name(pretend.issuer), note, forge.NOW + 1000)
            await found.psc.start()
            assert found.psc.ready

    asyncio.run(main())


def test_a_note_that_somebody_else_wrote_is_not_believed() -> None:
    """Whoever can write the store cannot plant keys: a note not sealed by our ring, or under another name, is none."""

    async def main() -> None:
        store = MemoryStore()
        await store.open()
        ours = SealedNotes(store, KeyRing([new_key(0)]))
        await ours.put_note("a", b"value", 100)
        assert b"value" == await ours.get_note("a", 50)
        assert await ours.get_note("b", 50) is None
        assert b"value" not in (await store.get_note("a", 50) or b"")
        assert await SealedNotes(store, KeyRing([new_key(0)])).get_note("a", 50) is None
        moved = await store.get_note("a", 50)
        assert moved is not None
        await store.put_note("b", moved, 100)
        assert await ours.get_note("b", 50) is None

    asyncio.run(main())


def test_a_store_that_does_not_answer_is_no_reason_not_to_start(caplog: pytest.LogCaptureFixture) -> None:
    """The copy is a comfort, not a need."""

    class Away(MemoryStore):
        async def get_note(self, name: str, now: int) -> bytes | None:
            raise StoreUnavailable("down")

        async def put_note(self, name: str, value: bytes, until: int) -> None:
            raise StoreUnavailable("down")

    async def story(found: House) -> None:
        assert found.psc.ready

    with caplog.at_level(logging.WARNING):
        play(story, store=Away())
    assert 2 == len([record for record in caplog.records if "down" in record.getMessage()])


# -- signing in -------------------------------------------------------------------------------------------------------------------


def test_a_sign_in_whole() -> None:
    """Address, callback, tokens, ID token, userinfo: what the web needs, from one token request and one userinfo request."""

    async def story(found: House) -> None:
        address = found.psc.authorization_url(state="s", nonce=forge.NONCE, verifier=forge.VERIFIER, prompt="login")
        assert address.startswith("http://wallet.localhost:")
        code = found.psc.read_callback([("code", CODE), ("state", "s"), ("iss", found.pretend.issuer)])
        who = await found.psc.redeem(code, forge.VERIFIER, forge.NONCE)
        assert (SUB, "eidas1", SUB) == (who.id_claims.sub, who.id_claims.acr, who.userinfo["sub"])
        assert who.tokens.refresh_token is not None
        assert "refresh-1" == who.tokens.refresh_token.reveal()
        token = next(request for request in found.pretend.requests if request.path == HOME + "/token")
        assert [CODE] == parse_qs(token.body)["code"]
        assert [forge.VERIFIER] == parse_qs(token.body)["code_verifier"]
        assert "Basic " + base64.b64encode(b"hopital-exemple:hidden-secret").decode() == token.headers["Authorization"]
        userinfo = next(request for request in found.pretend.requests if request.path == HOME + "/userinfo")
        assert "Bearer " + forge.ACCESS_TOKEN == userinfo.headers["Authorization"]
        assert [("token", "ok"), ("userinfo", "ok")] == found.observed[2:]
        assert "8997" not in repr(who)

    play(story)


def test_userinfo_only_where_it_is_configured() -> None:
    """psc.userinfo = false asks for none."""

    async def story(found: House) -> None:
        assert {} == (await redeem(found)).userinfo
        assert 0 == found.pretend.count(HOME + "/userinfo")

    play(story, userinfo=False)


def test_a_sign_in_needs_a_nonce() -> None:
    """An empty nonce would equal nothing; it is a caller's mistake."""

    async def story(found: House) -> None:
        with pytest.raises(ValueError, match="nonce"):
            await found.psc.redeem(CODE, forge.VERIFIER, "")
        assert 0 == found.pretend.count(HOME + "/token")

    play(story)


def test_stepping_up_asks_for_what_comes_back() -> None:
    """acr_values and max_age of the request are those of the check (CB-10)."""

    async def story(found: House) -> None:
        assert "acr_insufficient" == (await refusal(redeem(found, acr_values=("eidas2",)))).code
        found.pretend.answers[HOME + "/token"] = found.pretend.tokens(id_token=found.pretend.id_token(acr="eidas2"))
        assert "eidas2" == (await redeem(found, acr_values=["eidas2"])).id_claims.acr
        found.pretend.answers[HOME + "/token"] = found.pretend.tokens(
            id_token=found.pretend.id_token(auth_time=int(found.now) - 5000)
        )
        assert "auth_too_old" == (await refusal(redeem(found, max_age=900))).code

    play(story)


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"id_token": forge.DROP}, "no_id_token"),
        ({"token_type": "mac"}, "tokens_malformed"),
        ({"access_token": "another"}, "token_at_hash"),
    ],
)
def test_CB_09_answers_of_the_token_endpoint(members: dict[str, object], code: str) -> None:
    """No ID token, another type, an access token that does not belong to it: no sign-in."""

    async def story(found: House) -> None:
        found.pretend.answers[HOME + "/token"] = found.pretend.tokens(**members)
        error = await refusal(redeem(found))
        assert (PSCAnswerRefused, code) == (type(error), error.code)
        assert 0 == found.pretend.count(HOME + "/userinfo")

    play(story)


def test_CB_11_the_verifier_always_travels_and_psc_may_say_no() -> None:
    """A code of another sign-in: PSC refuses it, the code is sent once, PSC stays reachable."""

    async def story(found: House) -> None:
        found.pretend.answers[HOME + "/token"] = text('{"error":"invalid_grant","error_description":"PKCE"}', 400)
        error = await refusal(redeem(found))
        assert (PSCDenied, "invalid_grant") == (type(error), error.code)
        assert 1 == found.pretend.count(HOME + "/token")
        assert ("token", "denied") == found.observed[-1]
        assert found.psc.reachable

    play(story)


def test_CB_04_a_code_is_never_sent_twice() -> None:
    """A connection that dies after the request: the POST is not repeated, neither by us nor by the library."""

    async def story(found: House) -> None:
        async def cut(request: web.Request) -> web.StreamResponse:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()

        await redeem(found)  # so that a kept connection is there to be reused
        found.pretend.answers[HOME + "/token"] = cut
        error = await refusal(redeem(found))
        assert (PSCUnavailable, "no_answer") == (type(error), error.code)
        assert 2 == found.pretend.count(HOME + "/token")

    play(story)


def test_IDP_11_userinfo_of_another_person() -> None:
    """Everything of that sign-in is discarded."""

    async def story(found: House) -> None:
        found.pretend.answers[HOME + "/userinfo"] = {"sub": "another", "SubjectNameID": "8"}
        assert "userinfo_other" == (await refusal(redeem(found))).code
        found.pretend.answers[HOME + "/userinfo"] = text("", 401)
        assert "invalid_token" == (await refusal(redeem(found))).code

    play(story)


@pytest.mark.parametrize("named", ["899700000002", "", None, 7, ["899700000001"], forge.DROP])
def test_IDP_11_userinfo_that_names_another_professional(named: object) -> None:
    """SubjectNameID is what rules go by: where the ID token has it, userinfo has the same; an empty one there says nothing."""

    async def story(found: House) -> None:
        found.pretend.answers[HOME + "/userinfo"] = forge.without({"sub": SUB, "SubjectNameID": named})
        assert "subject_mismatch" == (await refusal(redeem(found))).code
        for unnamed in ("", forge.DROP):
            id_token = found.pretend.id_token(SubjectNameID=unnamed)
            found.pretend.answers[HOME + "/token"] = found.pretend.tokens(id_token=id_token)
            assert SUB == (await redeem(found)).userinfo["sub"]

    play(story)


def test_trouble_of_one_person_turns_nobody_else_away() -> None:
    """A 500 of userinfo (Keycloak with one malformed attribute) does not make PSC unreachable, but we look."""

    async def story(found: House) -> None:
        found.pretend.answers[HOME + "/userinfo"] = text("", 500)
        assert "psc_error" == (await refusal(redeem(found))).code
        assert found.psc.reachable
        await until(lambda: found.pretend.count(WALLET) == 2)
        assert await found.psc.answering()

    play(story)


# -- keys -------------------------------------------------------------------------------------------------------------------------


def test_IDP_05_oidcc_client_test_signing_key_rotation_just_before_signing() -> None:
    """The key changes after we fetched the set: one fetch, and the sign-in succeeds."""

    async def story(found: House) -> None:
        found.pretend.keys.append("two")
        assert SUB == (await redeem(found)).id_claims.sub
        assert 2 == found.pretend.count(HOME + "/certs")
        found.pretend.keys.remove("one")
        found.now += 31
        found.pretend.keys.append("three")
        found.pretend.now = found.now
        assert SUB == (await redeem(found)).id_claims.sub
        assert 3 == found.pretend.count(HOME + "/certs")

    play(story)


def test_IDP_06_unknown_kids_ask_once() -> None:
    """A flood of logout tokens with invented kids makes one fetch; honest sign-ins go on."""

    async def story(found: House) -> None:
        for number in range(200):
            token = forge.sign(
                forge.header(typ="logout+jwt", kid=f"k{number}"), forge.logout_claims(iss=found.pretend.issuer)
            )
            with pytest.raises(UnknownKey):
                await found.psc.check_logout_token(token)
        assert 2 == found.pretend.count(HOME + "/certs")
        await redeem(found)

    play(story)


def test_a_logout_token() -> None:
    """Checked with the same keys; Keycloak's old header type only when asked for."""

    async def story(found: House) -> None:
        claims = forge.logout_claims(iss=found.pretend.issuer)
        assert "9f3c" == (await found.psc.check_logout_token(forge.sign(forge.header(typ="logout+jwt"), claims))).jti
        plain = forge.sign(forge.header(), claims)
        assert "token_type" == (await refusal(found.psc.check_logout_token(plain))).code
        assert "9f3c" == (await found.psc.check_logout_token(plain, accept_plain_typ=True)).jti

    play(story)


# -- renewal and sign-out ---------------------------------------------------------------------------------------------------------


def test_a_renewal_whole() -> None:
    """New tokens, the same login; userinfo only when asked for; what PSC does not repeat stays."""

    async def story(found: House) -> None:
        was = (await redeem(found)).id_claims
        found.now += 600
        found.pretend.now = found.now
        renewed = found.pretend.id_token(nonce=forge.DROP, auth_time=was.auth_time)
        found.pretend.answers[HOME + "/token"] = found.pretend.tokens(id_token=renewed, refresh_token="refresh-2")
        who = await found.psc.refresh(Secret("refresh-1"), was)
        assert who.tokens.refresh_token is not None
        assert ("refresh-2", was.auth_time, {}) == (
            who.tokens.refresh_token.reveal(),
            who.id_claims.auth_time,
            who.userinfo,
        )
        assert was.iat + 600 == who.id_claims.iat
        request = [one for one in found.pretend.requests if one.path == HOME + "/token"][-1]
        assert {"grant_type": ["refresh_token"], "refresh_token": ["refresh-1"]} == parse_qs(request.body)
        assert ("refresh", "ok") == found.observed[-1]
        bare = found.pretend.tokens(id_token=forge.DROP, refresh_token=forge.DROP)
        found.pretend.answers[HOME + "/token"] = bare
        again = await found.psc.refresh(Secret("refresh-2"), who.id_claims, userinfo=True)
        assert again.tokens.refresh_token is not None
        assert "refresh-2" == again.tokens.refresh_token.reveal()
        assert again.tokens.id_token is None
        assert again.id_claims is who.id_claims
        assert SUB == again.userinfo["sub"]

    play(story)


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"sub": "another"}, "refreshed_other"),
        ({"iss": "https://other.example"}, "token_issuer"),
        ({"acr": "0"}, "acr_insufficient"),
    ],
)
def test_IDP_12_a_renewal_that_changes_the_person(members: dict[str, object], code: str) -> None:
    """Whoever comes back as somebody else does not come back."""

    async def story(found: House) -> None:
        was = (await redeem(found)).id_claims
        changed = found.pretend.id_token(nonce=forge.DROP, **members)
        found.pretend.answers[HOME + "/token"] = found.pretend.tokens(id_token=changed)
        error = await refusal(found.psc.refresh(Secret("r"), was))
        assert (PSCAnswerRefused, code) == (type(error), error.code)

    play(story)


def test_IDP_12_a_renewal_that_is_refused() -> None:
    """invalid_grant is told apart from PSC being away."""

    async def story(found: House) -> None:
        was = (await redeem(found)).id_claims
        found.pretend.answers[HOME + "/token"] = text('{"error":"invalid_grant"}', 400)
        assert "invalid_grant" == (await refusal(found.psc.refresh(Secret("r"), was))).code
        await found.pretend.stop()
        error = await refusal(found.psc.refresh(Secret("r"), was))
        assert PSCUnavailable is type(error)

    play(story)


def test_LO_02_signing_out() -> None:
    """Revocation says whether it worked and never raises; the end address carries hint and state."""

    async def story(found: House) -> None:
        assert await found.psc.revoke(Secret("refresh-1"))
        request = found.pretend.requests[-1]
        assert {"token": ["refresh-1"], "token_type_hint": ["refresh_token"]} == parse_qs(request.body)
        address = found.psc.end_session_url("a.b.c", "s")
        assert address is not None
        assert (["a.b.c"], ["s"]) == tuple(
            parse_qs(urlsplit(address).query)[name] for name in ("id_token_hint", "state")
        )
        found.pretend.answers[HOME + "/revoke"] = text("", 500)
        assert not await found.psc.revoke(Secret("r"))
        await found.pretend.stop()
        assert not await found.psc.revoke(Secret("r"))

    play(story)


def test_no_revocation_endpoint() -> None:
    """Nothing is sent where PSC announces none."""
    pretend = Pretend()
    pretend.answers[WALLET] = lambda request: text(
        json.dumps(forge.metadata(pretend.issuer, revocation_endpoint=forge.DROP))
    )(request)

    async def story(found: House) -> None:
        assert not await found.psc.revoke(Secret("r"))

    play(story, pretend)


# -- the wire ---------------------------------------------------------------------------------------------------------------------


async def trickle(request: web.Request) -> web.StreamResponse:
    """One byte now and then, for ever."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.01)


async def endless(request: web.Request) -> web.StreamResponse:
    """As many bytes as one takes."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    while True:
        await response.write(b" " * 65_536)


@pytest.mark.parametrize(
    ("handler", "kind", "code"),
    [
        pytest.param(silent, PSCUnavailable, "timeout", id="silent"),
        pytest.param(trickle, PSCUnavailable, "timeout", id="one byte now and then"),
        pytest.param(endless, PSCAnswerRefused, "too_large", id="endless"),
        pytest.param(text("", 500), PSCUnavailable, "psc_error", id="500"),
        pytest.param(text("<html>", 200, "text/html"), PSCUnavailable, "psc_page", id="maintenance page"),
        pytest.param(text("", 302, Location="https://evil.example/"), PSCAnswerRefused, "unexpected_status", id="302"),
        pytest.param(text("[]"), PSCAnswerRefused, "malformed_json", id="a list"),
        pytest.param(text("\ufeff{}"), PSCAnswerRefused, "malformed_json", id="BOM"),
        pytest.param(text("[" * 100_000), PSCAnswerRefused, "malformed_json", id="deep"),
        pytest.param(text(b"x" * 1_048_577), PSCAnswerRefused, "too_large", id="a byte too many"),
        pytest.param(
            text(gzip.compress(b" " * 100_000_000), Content_Encoding="gzip"),
            PSCAnswerRefused,
            "content_encoding",
            id="gzip bomb",
        ),
    ],
)
def test_IDP_02_IDP_03_answers_that_hurt(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    kind: type[ForwardAuthError],
    code: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Slow, endless, compressed, wrong: bounded, named, and the next good answer is taken."""
    monkeypatch.setattr(client_module, "TOTAL_SECONDS", 0.3)

    async def story(found: House) -> None:
        found.pretend.answers[HOME + "/token"] = handler
        error = await refusal(redeem(found))
        assert (kind, code) == (type(error), error.code)
        assert ("token", "unavailable" if kind is PSCUnavailable else "refused") == [
            seen for seen in found.observed if seen[0] == "token"
        ][-1]
        assert max(found.durations) < 2
        del found.pretend.answers[HOME + "/token"]
        assert SUB == (await redeem(found)).id_claims.sub

    play(story)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("path", [WALLET, HOME + "/certs", HOME + "/token", HOME + "/userinfo"])
def test_IDP_08_redirects_are_not_followed(status: int, path: str) -> None:
    """Not even to the same server, on no endpoint."""
    pretend = Pretend()

    async def story(found: House) -> None:
        pretend.answers[path] = text("", status, "", Location=pretend.base + "/elsewhere")
        with pytest.raises(ForwardAuthError):
            if path == WALLET:
                await found.psc._learning.join()
            elif path == HOME + "/certs":
                await found.psc._keys.refresh()
            else:
                await redeem(found)
        assert 0 == pretend.count("/elsewhere")

    play(story, pretend)


def test_a_connection_that_says_no_http() -> None:
    """Bytes that are no HTTP are no answer, and are not quoted."""

    async def main() -> None:
        async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"marker marker\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(babble, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            async with house(issuer=f"http://psc.localhost:{port}{'/auth/realms/esante-wallet'}") as found:
                assert "no_answer" in found.psc.trouble
                assert "marker" not in found.psc.trouble

    asyncio.run(main())


def test_IDP_01_a_name_that_DNS_does_not_know() -> None:
    """Told apart from a machine that does not answer."""

    async def main() -> None:
        async with house(issuer="https://psc.does-not-exist.invalid/auth/realms/esante-wallet") as found:
            assert "no_answer: the name is not known to DNS" == found.psc.trouble

    asyncio.run(main())


def test_IDP_13_the_queue_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than the bound are told at once that it is too much; that does not count as PSC being away."""
    monkeypatch.setattr(client_module, "_MOST_AT_ONCE", 5)

    async def story(found: House) -> None:
        gate = asyncio.Event()

        async def slow(request: web.Request) -> web.StreamResponse:
            await gate.wait()
            return web.json_response(found.pretend.tokens())

        found.pretend.answers[HOME + "/token"] = slow
        waiting = [asyncio.create_task(redeem(found)) for _ in range(8)]
        await until(lambda: sum(one.done() for one in waiting) == 3)
        for one in waiting:
            if one.done():
                assert "busy" == (await refusal(one)).code
        assert found.psc.reachable
        gate.set()
        served = await asyncio.gather(*waiting, return_exceptions=True)
        assert 5 == sum(not isinstance(one, BaseException) for one in served)

    play(story)


def test_a_request_that_is_given_up_is_observed() -> None:
    """A browser that leaves in the middle counts as such, and the place in the queue is free again."""

    async def story(found: House) -> None:
        found.pretend.answers[HOME + "/token"] = silent
        task = asyncio.create_task(redeem(found))
        await until(lambda: found.pretend.count(HOME + "/token") == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ("token", "cancelled") == found.observed[-1]
        assert (True, 0) == (found.psc.reachable, found.psc._in_flight)

    play(story)


def test_observations_stay_within_their_names() -> None:
    """Cardinality is fixed: what is observed here is what metrics can bind at start."""

    async def story(found: House) -> None:
        await redeem(found)
        await found.psc.revoke(Secret("r"))
        for path in ("/token", "/userinfo", "/certs"):
            for answer in (text("", 500), text("", 302), text('{"error":"access_denied"}', 400)):
                found.pretend.answers[HOME + path] = answer
                for action in (redeem(found), found.psc._keys.refresh()):
                    try:
                        await action
                    except ForwardAuthError:
                        pass
            del found.pretend.answers[HOME + path]
        assert {endpoint for endpoint, _ in found.observed} <= set(ENDPOINTS)
        assert {outcome for _, outcome in found.observed} <= set(OUTCOMES)

    play(story)


def test_IDP_14_the_clock_is_compared_with_psc(caplog: pytest.LogCaptureFixture) -> None:
    """The Date of every answer gives the skew; beyond a minute the operator is told, once."""
    pretend = Pretend()
    pretend.answers[HOME + "/userinfo"] = text(json.dumps(PERSON), Date="Fri, 15 Jan 2027 08:00:00 GMT")

    async def story(found: House) -> None:
        await redeem(found)
        assert 0.0 == found.psc.clock_skew
        found.now += 120
        pretend.now = found.now
        for _ in range(2):
            await redeem(found)
            assert 120.0 == found.psc.clock_skew
        pretend.answers[HOME + "/userinfo"] = text(json.dumps(PERSON), Date="no date at all")
        pretend.answers[HOME + "/token"] = text(json.dumps(pretend.tokens()), Date="nor here")
        await redeem(found)
        assert 120.0 == found.psc.clock_skew

    with caplog.at_level(logging.ERROR):
        play(story, pretend)
    assert [record for record in caplog.records if "120 s" in record.getMessage()]


def test_IDP_14_a_wrong_clock_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """Up to a minute is tolerated; beyond it one line per excursion, in either direction."""

    async def story(found: House) -> None:
        told = []
        for skew in (0, 60, 61, 120, 61, 0, -61, -120):
            found.now = found.pretend.now + skew
            await found.psc.revoke(Secret("r"))
            assert float(skew) == found.psc.clock_skew
            told.append(len([record for record in caplog.records if "clock" in record.getMessage()]))
        assert [0, 0, 1, 1, 1, 1, 2, 2] == told

    with caplog.at_level(logging.ERROR):
        play(story)


def test_LOG_02_nothing_secret_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Through sign-ins that succeed and fail, no token, code, secret or identity reaches the log."""

    async def story(found: House) -> None:
        await redeem(found)
        for members in ({"token_type": "mac"}, {"access_token": "another"}, {"id_token": "a.b.c"}):
            found.pretend.answers[HOME + "/token"] = found.pretend.tokens(**members)
            await refusal(redeem(found))
        found.pretend.answers[HOME + "/revoke"] = text("", 500)
        await found.psc.revoke(Secret("refresh-1"))
        await found.pretend.stop()
        await refusal(redeem(found))

    with caplog.at_level(logging.DEBUG):
        play(story)
    logged = "\n".join(record.getMessage() for record in caplog.records)
    assert logged
    secrets = ("hidden-secret", CODE, forge.VERIFIER, forge.NONCE, forge.ACCESS_TOKEN, "refresh-1", "8997", SUB)
    assert not [secret for secret in secrets if secret in logged]


def test_closing_twice_and_unstarted() -> None:
    """close is idempotent and needs no start."""

    async def story(found: House) -> None:
        await found.psc.close()
        await found.psc.close()

    play(story)
    play(story, started=False)


def test_closing_in_the_middle_leaves_nothing_running() -> None:
    """Whatever is being fetched ends with the client."""
    pretend = Pretend()
    pretend.answers[WALLET] = silent

    async def story(found: House) -> None:
        start = asyncio.create_task(found.psc.start())
        await until(lambda: pretend.count(WALLET) == 1)
        await found.psc.close()
        await asyncio.gather(start, return_exceptions=True)
        left = [task for task in asyncio.all_tasks() if task.get_name().startswith("psc-")]
        assert [] == left

    play(story, pretend, started=False)
