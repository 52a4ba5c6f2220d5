"""Two independent witnesses: the client against the simulator, which was written without it, honest and with each of its faults.

The simulator says of each fault whether a client should refuse; where this room alone does not, the table below says who does.
"""

import asyncio
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from urllib.parse import parse_qsl, urlsplit

import aiohttp
import pytest
from pretend_psc import settings

from forward_auth.errors import ForwardAuthError, SignInRefused
from forward_auth.psc import client as client_module
from forward_auth.psc.client import PSC, Authentication, make_session
from forward_auth.psc.messages import callback_state
from forward_auth.secret import Secret
from forward_auth.simulator import FAULTS, Client, Key, SimulatorThread
from forward_auth.stores.memory import MemoryStore

CALLBACK = "http://auth.localhost:9401/psc/callback"
STATE, NONCE, VERIFIER = "s" * 20, "n" * 40, "v" * 43
SIGN_IN = frozenset({"discovery", "jwks", "callback", "code", "token", "id_token", "userinfo"})
LATER = frozenset({"refresh", "refresh_id_token", "logout_token"})

# Faults that are no fault where they are, or that somebody else refuses: name (without its place) -> why.
ELSEWHERE = {
    "id_token": {
        "jti_replayed": "the nonce, used once, already ties an ID token to its sign-in",
        "events_missing": "an ID token has none",
    },
    "refresh_id_token": {
        "jti_replayed": "as above",
        "events_missing": "as above",
        "nonce_missing": "a renewed token needs none (OpenID Core §12.2)",
        "nonce_old": "as above: Keycloak's renewed tokens have none, and the fault replaces nothing",
        "nonce_unsupported": "as above",
        "subject_other": "renewal compares it with the login's identity",
    },
    "refresh": {"id_token_missing": "may be missing (OpenID Core §12.2); the login then stays as it was"},
    "userinfo": {},
    "logout_token": {
        "jti_replayed": "the replay memory is the caller's (decision 26)",
        "exp_missing": "checked when present, as PSC may be older than the errata that ask for it",
        "sub_missing": "sid is enough",
        "sub_other": "it is the sub of a logout, whoever that is",
        **dict.fromkeys(("nonce_missing", "nonce_unsupported"), "a logout token has no nonce"),
        **dict.fromkeys(("at_hash_wrong", "at_hash_number"), "a logout token has no access token"),
        **dict.fromkeys(("acr_missing", "acr_lower", "acr_list", "acr_case"), "a logout token has no acr"),
        **dict.fromkeys(("auth_time_future", "auth_time_string"), "a logout token has no auth_time"),
        "subject_other": "a logout token has no SubjectNameID",
        "events_present": "a logout token has one",
        "typ_header_missing": "accepted only where configured (BCL-10)",
    },
}


@dataclass
class Stage:
    """A simulator in its thread, a loop, one session."""

    simulator: SimulatorThread
    runner: asyncio.Runner
    http: aiohttp.ClientSession

    def client(self) -> PSC:
        """A client that knows nothing yet."""
        return PSC(
            configured(self.simulator.issuer),
            redirect_uri=CALLBACK,
            post_logout_redirect_uri="http://auth.localhost:9401/psc/signed-out",
            http=self.http,
            clock=time.time,
            notes=MemoryStore(),
            observe=lambda *_: None,
            log=logging.getLogger("psc"),
            probe_every=60.0,
        )


def configured(issuer: str) -> SimpleNamespace:
    """`[psc]` for the simulator."""
    return settings(issuer=issuer, client_id="hopital", client_secret=Secret("a secret"))


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """Started once: each test clears its fault."""
    client = Client("hopital", "a secret", (CALLBACK,))
    with SimulatorThread(key=Key.rsa(), clients=[client]) as simulator, asyncio.Runner() as runner:

        async def session() -> aiohttp.ClientSession:
            return make_session(configured(simulator.issuer))

        http = runner.run(session())
        yield Stage(simulator, runner, http)
        runner.run(http.close())


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Faults that are silent cost a third of a second each; the store is not open, which the client must bear anyway."""
    monkeypatch.setattr(client_module, "TOTAL_SECONDS", 0.3)


async def sign_in(stage: Stage, psc: PSC) -> Authentication:
    """The whole road of one professional."""
    await psc.start()
    url = psc.authorization_url(state=STATE, nonce=NONCE, verifier=VERIFIER)
    location = await asyncio.to_thread(stage.simulator.sign_in, url, "docteur-dupont")
    pairs = parse_qsl(urlsplit(location).query, keep_blank_values=True)
    if callback_state(pairs) != STATE:
        raise SignInRefused("state", "not the state that was sent")
    return await psc.redeem(psc.read_callback(pairs), VERIFIER, NONCE)


async def journey(stage: Stage, fault: str) -> Authentication:
    """A sign-in with the fault on, or with the fault on for what comes after it."""
    place = fault.partition(".")[0]
    psc = stage.client()
    try:
        if place in SIGN_IN:
            stage.simulator.faults.set(fault)
        who = await sign_in(stage, psc)
        if place in LATER:
            stage.simulator.faults.set(fault)
        if place in ("refresh", "refresh_id_token"):
            assert who.tokens.refresh_token is not None
            who = await psc.refresh(who.tokens.refresh_token, who.id_claims, userinfo=True)
        if place == "logout_token":
            session = SimpleNamespace(person="docteur-dupont", sid=who.id_claims.sid)
            claims = stage.simulator.logout_claims("hopital", session)
            await psc.check_logout_token(stage.simulator.sign("logout_token", claims, client="hopital"))
        return who
    finally:
        stage.simulator.faults.clear()
        await psc.close()


def faults(expect: str) -> list[str]:
    """The faults of that expectation that concern this room, but for those somebody else refuses."""
    return [
        name
        for name, fault in FAULTS.items()
        if fault.expect == expect
        and (place := name.partition(".")[0]) in SIGN_IN | LATER
        and name.partition(".")[2] not in ELSEWHERE.get(place, {})
    ]


def test_an_honest_journey(stage: Stage) -> None:
    """Sign-in, renewal, revocation and the end of the session, as the other witness sees PSC."""

    async def story() -> None:
        psc = stage.client()
        try:
            who = await sign_in(stage, psc)
            assert ("eidas1", who.userinfo["SubjectNameID"]) == (
                who.id_claims.acr,
                who.id_claims.claims["SubjectNameID"],
            )
            assert who.tokens.refresh_token is not None
            renewed = await psc.refresh(who.tokens.refresh_token, who.id_claims, userinfo=True)
            assert who.userinfo == renewed.userinfo
            assert who.id_claims.auth_time == renewed.id_claims.auth_time
            assert renewed.tokens.refresh_token is not None
            assert await psc.revoke(renewed.tokens.refresh_token)
            with pytest.raises(ForwardAuthError, match="invalid_grant"):
                await psc.refresh(renewed.tokens.refresh_token, renewed.id_claims)
        finally:
            await psc.close()

    stage.runner.run(story())


@pytest.mark.parametrize("fault", faults("refuse"))
def test_a_fault_that_is_refused(stage: Stage, fault: str) -> None:
    """With this fault nobody is believed: the error is ours, and says something."""
    with pytest.raises(ForwardAuthError) as caught:
        stage.runner.run(journey(stage, fault))
    assert caught.value.code


@pytest.mark.parametrize("fault", faults("accept"))
def test_an_oddity_that_is_accepted(stage: Stage, fault: str) -> None:
    """What is only odd does not keep a professional out."""
    assert "eidas1" == stage.runner.run(journey(stage, fault)).id_claims.acr


@pytest.mark.parametrize("fault", faults(""))
def test_a_fault_that_may_go_either_way(stage: Stage, fault: str) -> None:
    """Believed or refused, but with an error of ours and never anything else."""
    try:
        who = stage.runner.run(journey(stage, fault))
    except ForwardAuthError as refused:
        assert refused.code  # noqa: PT017 - both ends are right here
    else:
        assert "eidas1" == who.id_claims.acr


def test_the_table_of_exceptions_is_needed() -> None:
    """Every exception names a fault that exists."""
    for place, names in ELSEWHERE.items():
        for name in names:
            assert f"{place}.{name}" in FAULTS
