"""Faults: each one in the table really changes what goes over the wire, and only while it is on."""

import base64
import gzip
import hashlib
import http.client
import json
import math
import re
import socket
import threading
import time
from urllib.parse import parse_qsl, urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

from forward_auth.simulator import FAULTS, Client, Simulator, SimulatorThread, UnknownFaultError
from forward_auth.simulator.faults import AFTER, BEFORE, ENDPOINTS, GRANTS

CLIENT = "hopital"
NOW = 1_800_000_000


def names(place: str, *, skip=()) -> list[str]:
    """The faults of a place that are its own, not of the wire."""
    wire = set(BEFORE) | set(AFTER)
    return [
        name for name in FAULTS if name.split(".")[0] == place and name.split(".")[1] not in wire and name not in skip
    ]


@pytest.fixture(scope="module")
def quiet() -> Simulator:
    """A simulator that does not listen: enough to sign tokens."""
    return Simulator(clients=[Client(CLIENT, "un secret assez long pour HS256 !!", ())], clock=lambda: NOW, port=1)


# ------------------------------------------------------------------------------------------------ the table


def test_table_is_complete_and_described():
    """Every fault names its endpoint, says what it does, and what is expected of a client."""
    for name, fault in FAULTS.items():
        assert re.fullmatch(r"[a-z_]+\.[a-z0-9_]+", name)
        assert fault.does
        assert fault.expect in ("refuse", "accept", "")
    places = {fault.endpoint for fault in FAULTS.values()}
    assert {"id_token", "logout_token", "access_token", "callback", "all", *ENDPOINTS, *GRANTS} <= places


def test_unknown_names_are_refused(quiet):
    """A misspelt fault is an error that names its neighbours, never a test that is green for nothing."""
    with pytest.raises(UnknownFaultError, match="nonce_wrong"):
        quiet.faults.set("id_token.nonce_worng")
    assert quiet.faults.active() == {}


def test_times_and_during(quiet):
    """A fault goes off after so many uses, or at the end of its block."""
    quiet.faults.set("discovery.slow", 3, times=2)
    assert [quiet.faults.take("discovery.slow") for _ in range(3)] == [3, 3, None]
    with quiet.faults.during("jwks.empty"):
        assert list(quiet.faults.active()) == ["jwks.empty"]
    assert quiet.faults.active() == {}


# ------------------------------------------------------------------------------------------------ tokens


def _unique(pairs):
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate member")
    return members


def _never(text):
    raise ValueError(f"not a JSON number: {text}")


def _part(text: str):
    if not re.fullmatch(r"[A-Za-z0-9_-]+", text):
        raise ValueError("not base64url")
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    return json.loads(raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_never)


def _depth(value) -> int:
    deepest, level = 0, [value]
    while level:
        deepest += 1
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
    return deepest


def judge(token: str, key, *, issuer: str, nonce: str, access_token: str, sid: str) -> None:
    """An ID token judged as strictly as the texts allow; raises when it must be refused. An opinion of its own:
    OpenID Connect Core §3.1.3.7, RFC 8725, and what is known of PSC."""
    assert len(token) <= 8192
    head, body, signature = token.split(".")
    header, claims = _part(head), _part(body)
    assert isinstance(header, dict)
    assert isinstance(claims, dict)
    assert header["alg"] == "RS256"
    assert header.get("kid") in (None, key["kid"])
    assert "kid" not in header or isinstance(header["kid"], str)
    assert header.get("typ", "JWT") == "JWT"
    assert not {"jku", "jwk", "x5u", "x5c", "crit", "b64", "zip"} & set(header)
    assert re.fullmatch(r"[A-Za-z0-9_-]{342}", signature)
    jwt.api_jws.PyJWS().decode(token, jwt.PyJWK(key).key, algorithms=["RS256"])
    assert _depth(claims) < 20
    assert len(claims) < 100
    assert claims["iss"] == issuer
    assert claims["aud"] in (CLIENT, [CLIENT])
    assert claims.get("azp", CLIENT) == CLIENT
    assert isinstance(claims["sub"], str)
    assert 0 < len(claims["sub"]) <= 255
    assert claims["sub"] == "f:550dc1c8-d97b-4b1e-ac8c-8eb4471cf9dd:899700000001"  # as userinfo says
    assert claims.get("SubjectNameID", "899700000001") == "899700000001"
    for name in ("exp", "iat", "auth_time", "nbf"):
        if name in claims or name in ("exp", "iat"):
            assert type(claims[name]) in (int, float)
            assert math.isfinite(claims[name])
            assert 0 < claims[name] < 4102444800
    assert claims["exp"] > NOW - 60
    assert NOW - 600 < claims["iat"] <= NOW + 10
    assert claims.get("nbf", 0) <= NOW + 10
    assert claims.get("auth_time", 0) <= NOW + 10
    assert claims["nonce"] == nonce
    assert "at_hash" not in claims or claims["at_hash"] == _at_hash(access_token)
    assert claims["acr"] == "eidas1"
    assert claims.get("typ", "ID") == "ID"
    assert "events" not in claims
    assert claims.get("sid", sid) == sid
    assert claims["jti"] != "a-jti-already-seen"


def _at_hash(access_token: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(access_token.encode()).digest()[:16]).rstrip(b"=").decode()


def _signed(quiet, fault: str | None, value=None, place="id_token") -> tuple[str, dict]:
    quiet.realm.nonces[:] = ["an-earlier-nonce", "this-nonce"]
    session = quiet.realm.begin("docteur-dupont", "eidas1", "CARD", NOW)
    session.sid = "a-sid"
    if place == "logout_token":
        claims = {**quiet.logout_claims(CLIENT, session), "jti": "j"}
    else:
        claims = {
            **quiet.id_claims(CLIENT, session=session, nonce="this-nonce", access_token="the-access-token"),
            "jti": "j",
        }
    if fault is None:
        return quiet.sign(place, claims, client=CLIENT, nonce="this-nonce"), claims
    with quiet.faults.during(fault, value):
        return quiet.sign(place, claims, client=CLIENT, nonce="this-nonce"), claims


def _judge(quiet, token) -> None:
    judge(
        token,
        quiet.keys.current.jwk(),
        issuer=quiet.issuer,
        nonce="this-nonce",
        access_token="the-access-token",
        sid="a-sid",
    )


def test_honest_id_token_passes_the_judge(quiet):
    """The judge believes what is honest."""
    token, _ = _signed(quiet, None)
    _judge(quiet, token)


@pytest.mark.parametrize(
    "name", names("id_token", skip=("id_token.claims", "id_token.header", "id_token.events_missing"))
)
def test_id_token_fault_changes_the_token(quiet, name):
    """Same claims, same key: with the fault the token differs; and it is refused or accepted as the table says."""
    honest, _ = _signed(quiet, None)
    faulty, _ = _signed(quiet, name)
    assert faulty != honest
    expect = FAULTS[name].expect
    if expect == "accept":
        _judge(quiet, faulty)
    elif expect == "refuse":
        with pytest.raises((AssertionError, ValueError, KeyError, TypeError, RecursionError, jwt.PyJWTError)):
            _judge(quiet, faulty)
    assert _signed(quiet, None)[0] == honest


def test_logout_token_faults_change_the_token(quiet):
    """Every token fault that concerns a logout token changes it."""
    honest, claims = _signed(quiet, None, place="logout_token")
    header = jwt.get_unverified_header(honest)
    assert header["typ"] == "logout+jwt"
    untouched = []
    for name in names("logout_token"):
        faulty, _ = _signed(quiet, name, place="logout_token")
        if faulty == honest:
            untouched.append(name.split(".")[1])
    # Removing or listing what a logout token has not is the only thing that may leave it as it is.
    assert set(untouched) <= {
        "claims", "header", "nonce_missing", "azp_missing", "subject_missing", "at_hash_missing", "acr_missing",
        "auth_time_missing", "events_present",
    }  # fmt: skip
    assert "nonce" not in claims


def test_values_reach_the_token(quiet):
    """Claims and header can be set at will, correctly signed; null removes."""
    token, _ = _signed(quiet, "id_token.claims", {"acr": "eidas3", "azp": None, "extra": [1]})
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["acr"] == "eidas3"
    assert claims["extra"] == [1]
    assert "azp" not in claims
    token, _ = _signed(quiet, "id_token.header", {"kid": None, "cty": "x"})
    assert jwt.get_unverified_header(token) == {"alg": "RS256", "typ": "JWT", "cty": "x"}
    token, _ = _signed(quiet, "id_token.payload", '{"exp": 01}')
    assert base64.urlsafe_b64decode(token.split(".")[1] + "==") == b'{"exp": 01}'


@pytest.mark.parametrize("value", ["none", "None", "nOnE", ""])
def test_unsigned_tokens(quiet, value):
    """Every spelling of none has an empty signature."""
    token, _ = _signed(quiet, "id_token.alg_none", value)
    assert token.endswith(".")
    assert _part(token.split(".")[0])["alg"] == value


@pytest.mark.parametrize(
    "value", ["pem", "pkcs1", "crlf", "stripped", "der", "jwk", "jwks", "modulus", "empty", "null"]
)
def test_hs256_with_the_public_key(quiet, value):
    """TOK-02: each spelling of the public key as a secret gives a token of its own."""
    token, _ = _signed(quiet, "id_token.alg_hs256_public_key", value)
    assert jwt.get_unverified_header(token)["alg"] == "HS256"
    others = {
        _signed(quiet, "id_token.alg_hs256_public_key", other)[0]
        for other in ("pem", "der", "jwk", "empty")
        if other != value
    }
    assert token not in others


def test_other_algorithms_verify_with_published_keys(rp):
    """The token of another algorithm is truly signed by a key the JWKS names: only a pinned algorithm stops it."""
    for fault, alg in (
        ("alg_rs384", "RS384"),
        ("alg_rs512", "RS512"),
        ("alg_ps256", "PS256"),
        ("alg_es256", "ES256"),
        ("alg_eddsa", "EdDSA"),
    ):
        with rp.psc.faults.during(f"id_token.{fault}"):
            tokens, nonce = rp.sign_in()
            keys = {key["kid"]: key for key in rp.http("GET", rp.psc.endpoint("certs")).json["keys"]}
        kid = jwt.get_unverified_header(tokens["id_token"])["kid"]
        key = jwt.PyJWK({**keys[kid], "alg": alg})
        claims = jwt.decode(
            tokens["id_token"],
            key,
            algorithms=[alg],
            audience=CLIENT,
            options={"verify_exp": False, "verify_iat": False},
        )
        assert claims["nonce"] == nonce


def test_nonce_faults_over_http(rp):
    """CB-06, CB-07: wrong, missing, an earlier transaction's, and with nonce_supported:false."""
    _, earlier = rp.sign_in()
    seen = {}
    for fault in ("nonce_wrong", "nonce_missing", "nonce_old", "nonce_unsupported"):
        rp.psc.faults.set(f"id_token.{fault}", times=1)
        tokens, nonce = rp.sign_in()
        seen[fault] = rp.verify(tokens["id_token"])
        assert seen[fault].get("nonce") != nonce
        if fault == "nonce_wrong":
            earlier_one = nonce
        if fault == "nonce_missing":
            earlier_one = nonce
    assert seen["nonce_old"]["nonce"] == earlier_one != earlier
    assert seen["nonce_unsupported"]["nonce_supported"] is False
    assert "nonce" not in seen["nonce_missing"]
    tokens, nonce = rp.sign_in()
    assert rp.verify(tokens["id_token"])["nonce"] == nonce


def test_faults_of_a_refreshed_id_token(rp):
    """IDP-12: they leave the first ID token alone."""
    rp.psc.faults.set("refresh_id_token.sub_other")
    tokens, _ = rp.sign_in()
    assert rp.verify(tokens["id_token"])["sub"].startswith("f:")
    assert rp.verify(rp.refresh(tokens["refresh_token"]).json["id_token"])["sub"].endswith("beef")


# ------------------------------------------------------------------------------------------------ documents


@pytest.mark.parametrize("name", names("discovery", skip=("discovery.document",)))
def test_discovery_fault(rp, name):
    """The document differs, or is not there; then it is itself again."""
    honest = rp.discovery()
    with rp.psc.faults.during(name):
        answers = [
            rp.http("GET", rp.psc.issuer + path)
            for path in ("/.well-known/wallet-openid-configuration", "/.well-known/openid-configuration")
        ]
    assert any(answer.status == 404 for answer in answers) or answers[0].json != honest
    assert rp.discovery() == honest


@pytest.mark.parametrize("name", names("jwks"))
def test_jwks_fault(rp, name):
    """The set differs; then it is itself again."""
    honest = rp.http("GET", rp.psc.endpoint("certs")).json
    with rp.psc.faults.during(name):
        faulty = rp.http("GET", rp.psc.endpoint("certs"))
    assert faulty.status == 200
    assert faulty.json != honest
    assert rp.http("GET", rp.psc.endpoint("certs")).json == honest


def test_jwks_contents(rp):
    """512 bits are 512 bits, private numbers are the true ones, ten thousand are ten thousand."""

    def keys(fault):
        with rp.psc.faults.during(fault):
            return rp.http("GET", rp.psc.endpoint("certs")).json["keys"]

    modulus = int.from_bytes(base64.urlsafe_b64decode(keys("jwks.rsa_512")[0]["n"] + "=="), "big")
    assert modulus.bit_length() == 512
    assert "d" in keys("jwks.private")[0]
    assert len(keys("jwks.ten_thousand")) == 10001
    assert len(keys("jwks.second_key")) == 2
    assert keys("jwks.oct_only")[0]["kty"] == "oct"
    assert [key["kty"] for key in keys("jwks.ec_only")] == ["EC"]
    good = rp.http("GET", rp.psc.endpoint("certs")).json["keys"][0]
    assert good in keys("jwks.one_bad")
    assert (
        RSAPublicNumbers(65537, int.from_bytes(base64.urlsafe_b64decode(good["n"] + "=="), "big")).public_key().key_size
        == 2048
    )


@pytest.mark.parametrize(
    "name", names("userinfo", skip=("userinfo.document", "userinfo.unauthorized", "userinfo.forbidden", "userinfo.jwt"))
)
def test_userinfo_fault(rp, name):
    """The userinfo differs; then it is itself again."""
    tokens, _ = rp.sign_in()
    honest = rp.userinfo(tokens["access_token"]).json
    with rp.psc.faults.during(name):
        faulty = rp.userinfo(tokens["access_token"])
    assert faulty.status == 200
    assert faulty.json != honest
    assert rp.userinfo(tokens["access_token"]).json == honest


def test_userinfo_contents(rp):
    """Controls, a lone surrogate, refusals and a signed JWT arrive as named."""
    tokens, _ = rp.sign_in()

    def answer(fault):
        with rp.psc.faults.during(fault):
            return rp.userinfo(tokens["access_token"])

    assert {"\r", "\n", "\0", "\t"} <= set(answer("userinfo.names_controls").json["given_name"])
    assert "\u2028" in answer("userinfo.names_controls").json["family_name"]
    assert b"\\ud800" in answer("userinfo.name_surrogate").body
    assert answer("userinfo.unauthorized").status == 401
    assert answer("userinfo.forbidden").status == 403
    signed = answer("userinfo.jwt")
    assert signed.headers["Content-Type"].startswith("application/jwt")
    assert rp.verify(signed.text, require=[])["SubjectNameID"] == "899700000001"
    assert answer("userinfo.list").json == []
    assert answer("userinfo.other_person").json["SubjectNameID"] == "899700000043"


@pytest.mark.parametrize(
    "name",
    names(
        "code",
        skip=(
            "code.document",
            "code.pkce_ignored",
            "code.reusable",
            "code.other_person",
            "code.logout_first",
            "code.oauth_error",
        ),
    ),
)
def test_token_response_fault(rp, name):
    """The members of the token response differ as named."""
    back, _, verifier = rp.callback()
    rp.psc.faults.set(name)
    faulty = rp.redeem(back["code"], verifier)
    member, _, how = name.split(".")[1].rpartition("_")
    assert faulty.status == 200
    if how == "missing":
        assert member not in faulty.json
    elif member in ("token_type", "expires_in", "refresh_token", "access_token", "id_token"):
        honest = {"token_type": "Bearer", "expires_in": 120}
        assert faulty.json[member] != honest.get(member)
        assert member in honest or not isinstance(faulty.json[member], str) or "." not in faulty.json[member]
    else:
        assert faulty.json.get("error") or faulty.json["scope"] == "openid"


def test_grants_are_told_apart(rp):
    """refresh.* leaves the code grant alone, token.* does not."""
    rp.psc.faults.set("refresh.oauth_error")
    tokens, _ = rp.sign_in()
    assert rp.refresh(tokens["refresh_token"]).json["error"] == "invalid_grant"
    rp.psc.faults.clear()
    rp.psc.faults.set("token.oauth_error", "temporarily_unavailable")
    back, _, verifier = rp.callback()
    assert rp.redeem(back["code"], verifier).json["error"] == "temporarily_unavailable"
    assert rp.refresh(tokens["refresh_token"]).json["error"] == "temporarily_unavailable"


def test_switches_of_the_token_endpoint(rp):
    """PKCE ignored, code reusable, another person, the same refresh token."""
    back, _, _ = rp.callback()
    with rp.psc.faults.during("code.pkce_ignored"), rp.psc.faults.during("code.reusable"):
        assert rp.redeem(back["code"]).status == 200
        assert rp.redeem(back["code"], "wrong-" * 10).status == 200
    rp.psc.faults.set("code.other_person", "dentiste-moreau", times=1)
    tokens, nonce = rp.sign_in("docteur-dupont")
    claims = rp.verify(tokens["id_token"])
    assert (claims["SubjectNameID"], claims["nonce"]) == ("899700000019", nonce)
    assert rp.userinfo(tokens["access_token"]).json["SubjectNameID"] == "899700000019"
    rp.psc.faults.set("refresh.other_person", times=1)
    tokens, _ = rp.sign_in("docteur-dupont")
    renewed = rp.refresh(tokens["refresh_token"]).json
    assert rp.verify(renewed["id_token"])["SubjectNameID"] == "899700000043"
    with rp.psc.faults.during("refresh.same_refresh_token"):
        same = rp.refresh(tokens["refresh_token"]).json
    assert same["refresh_token"] == tokens["refresh_token"]


def test_rotated_token_lost(clock, relying_party):
    """IDP-12: the refresh is done, the answer never arrives; with revocation the old token is then worth nothing."""
    callback = "http://auth.localhost:9401/psc/callback"
    client = Client(CLIENT, "un secret d'essai", (callback,))
    with SimulatorThread(clients=[client], clock=clock, refresh_rotation="revoke") as psc:
        rp = relying_party(psc)
        tokens, _ = rp.sign_in()
        with psc.faults.during("refresh.lost"), pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
            rp.refresh(tokens["refresh_token"])
        assert rp.refresh(tokens["refresh_token"]).json["error"] == "invalid_grant"


# ------------------------------------------------------------------------------------------------ callback, sign-out


@pytest.mark.parametrize("name", names("callback"))
def test_callback_fault(rp, name):
    """The parameters of the callback differ as named."""
    url, asked, _ = rp.request()
    with rp.psc.faults.during(name):
        location = rp.psc.sign_in(url)
    pairs = parse_qsl(urlsplit(location).query, keep_blank_values=True)
    back = dict(pairs)
    what, _, how = name.split(".")[1].rpartition("_")
    if how == "missing":
        assert what not in back
    elif how == "empty":
        assert back[what] == ""
    elif how == "twice":
        assert [one for one, _ in pairs].count(what) == 2
    elif name in ("callback.error", "callback.error_and_code"):
        assert back["error"] == "access_denied"
        assert ("code" in back) == (name == "callback.error_and_code")
    elif what in ("state", "iss", "code"):
        assert back[what] not in ("", asked.get(what), rp.psc.issuer)
    else:
        assert set(back) > {"state", "session_state", "iss", "code"}
        assert "\r" not in location
        assert "\n" not in location


def test_error_with_a_wrong_issuer(rp):
    """MIX-03: two faults at once."""
    url, _, _ = rp.request()
    with rp.psc.faults.during("callback.error", "server_error"), rp.psc.faults.during("callback.iss_wrong"):
        back = dict(parse_qsl(urlsplit(rp.psc.sign_in(url)).query))
    assert back["error"] == "server_error"
    assert back["iss"] == "https://psc.attacker.example/auth/realms/esante-wallet"


def test_authorization_switches(rp):
    """IDP-15: an error instead of the page; a person who cancels."""
    url, asked, _ = rp.request()
    with rp.psc.faults.during("authorize.error"):
        back = dict(parse_qsl(urlsplit(rp.http("GET", url).headers["Location"]).query))
    assert back == {"error": "temporarily_unavailable", "state": asked["state"], "iss": rp.psc.issuer}
    with rp.psc.faults.during("authorize.cancelled"):
        assert "error=access_denied" in rp.psc.sign_in(url)
    with rp.psc.faults.during("authorize.html"):
        assert "indisponible" in rp.http("GET", url).text


def test_sign_out_switches(rp):
    """No state, another state, nothing ended, endpoint down."""
    tokens, _ = rp.sign_in()
    url = (
        rp.psc.endpoint("logout")
        + f"?id_token_hint={tokens['id_token']}&state=s&post_logout_redirect_uri=http://auth.localhost:9401/psc/signed-out"
    )
    with rp.psc.faults.during("end_session.ignored"):
        assert rp.http("GET", url).headers["Location"].endswith("?state=s")
        assert rp.userinfo(tokens["access_token"]).status == 200
    with rp.psc.faults.during("end_session.error_503"):
        assert rp.http("GET", url).status == 503
    with rp.psc.faults.during("end_session.no_state"):
        assert rp.http("GET", url).headers["Location"].endswith("/psc/signed-out")
    assert rp.userinfo(tokens["access_token"]).status == 401
    with rp.psc.faults.during("end_session.other_state"):
        assert rp.http("GET", url).headers["Location"].endswith("?state=another-state")


def test_ciba_faults(rp):
    """The first answer and the polls misbehave as told."""
    form = {
        "scope": "openid scope_all",
        "acr_values": "eidas1",
        "login_hint": "docteur-dupont",
        "binding_message": "07",
        "channel": "CARD",
    }

    def ask():
        return rp.http("POST", rp.psc.endpoint("ext/ciba/auth"), form, rp.basic()).json

    with rp.psc.faults.during("ciba.auth_req_id_missing"):
        assert "auth_req_id" not in ask()
    with rp.psc.faults.during("ciba.expires_in_missing"):
        assert "expires_in" not in ask()
    with rp.psc.faults.during("ciba.oauth_error"):
        assert ask()["error"] == "unknown_user_id"
    poll = {"grant_type": "urn:openid:params:grant-type:ciba", "auth_req_id": ask()["auth_req_id"]}
    for code in ("slow_down", "expired_token", "access_denied"):
        with rp.psc.faults.during("poll.oauth_error", code):
            assert rp.token(poll).json["error"] == code
    with rp.psc.faults.during("poll.error_503"):
        assert rp.token(poll).status == 503
    assert rp.token(poll).json["error"] == "authorization_pending"


# ------------------------------------------------------------------------------------------------ the wire


def _certs(rp, timeout=5):
    return rp.http("GET", rp.psc.endpoint("certs"), timeout=timeout)


@pytest.mark.parametrize(
    ("fault", "status", "kind", "body"),
    [
        ("error_500", 500, "application/json", rb".*unknown_error.*"),
        ("error_503", 503, "text/html", rb"(?s).*indisponible.*"),
        ("error_404", 404, "application/json", rb".*"),
        ("error_429", 429, "text/html", rb"(?s).*"),
        ("redirect", 302, "", rb""),
        ("html", 200, "text/html", rb"(?s).*indisponible.*"),
        ("not_json", 200, "application/json", rb'\{"error": '),
        ("empty_body", 200, "application/json", rb""),
        ("list", 200, "application/json", rb"\[\]"),
        ("null", 200, "application/json", rb"null"),
        ("string", 200, "application/json", rb'"tokens"'),
        ("body", 200, "application/json", rb"\{\}"),
        ("bom", 200, "application/json", rb'\xef\xbb\xbf\{"keys".*'),
        ("charset", 200, "application/json", rb"(?s)\xff\xfe\{\x00.*"),
        ("content_type", 200, "text/html", rb'\{"keys".*'),
        ("duplicate_keys", 200, "application/json", rb'\{"keys":"another","keys":\[.*'),
    ],
)
def test_wire_fault(rp, fault, status, kind, body):
    """The answer is what the table says, and honest again afterwards."""
    with rp.psc.faults.during(f"jwks.{fault}"):
        answer = _certs(rp)
    assert answer.status == status
    assert (answer.headers["Content-Type"] or "").startswith(kind)
    assert re.fullmatch(body, answer.body)
    assert (answer.headers["Location"] is not None) == (fault == "redirect")
    assert len(_certs(rp).json["keys"]) == 1


@pytest.mark.parametrize("fault", ["close", "reset", "lost"])
def test_connection_ends_without_an_answer(rp, fault):
    """Not a byte comes back."""
    with rp.psc.faults.during(f"jwks.{fault}"), pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        _certs(rp)
    assert _certs(rp).status == 200


def test_cut_in_the_middle(rp):
    """Half of the promised body, then the end."""
    with rp.psc.faults.during("jwks.cut"), pytest.raises(http.client.IncompleteRead):
        _certs(rp)


def test_hang_until_cleared(rp):
    """No answer while the fault is on; clearing it lets the caller go."""
    rp.psc.faults.set("jwks.hang")
    with pytest.raises(TimeoutError):
        _certs(rp, timeout=0.1)
    failed = []

    def ask():
        try:
            _certs(rp)
        except (http.client.RemoteDisconnected, ConnectionResetError) as error:
            failed.append(error)

    before = rp.psc.counts["jwks"]
    waiting = threading.Thread(target=ask)
    waiting.start()
    while rp.psc.counts["jwks"] == before:
        pass
    rp.psc.faults.clear("jwks.hang")
    waiting.join(5)
    assert len(failed) == 1
    assert _certs(rp).status == 200


def test_slow_and_trickle(rp):
    """The honest answer, late; or byte by byte."""
    honest = _certs(rp).body
    with rp.psc.faults.during("jwks.slow", 0.05):
        began = time.monotonic()
        assert _certs(rp).body == honest
        assert time.monotonic() - began >= 0.05
    with rp.psc.faults.during("jwks.trickle", 0.0001):
        assert _certs(rp).body == honest


def test_big_bodies(rp):
    """A bomb unpacks to what was asked, a huge body has its size, nesting its depth."""
    with rp.psc.faults.during("jwks.gzip_bomb", 5 * 1024**2):
        answer = _certs(rp)
    assert answer.headers["Content-Encoding"] == "gzip"
    assert len(answer.body) < 100_000
    assert len(json.loads(gzip.decompress(answer.body))["padding"]) >= 5 * 1024**2
    with rp.psc.faults.during("jwks.huge", 3_000_001):
        assert len(_certs(rp).body) == 3_000_001
    with rp.psc.faults.during("jwks.deep"):
        assert _certs(rp).body.count(b"[") == 100_000
    with rp.psc.faults.during("jwks.endless"), socket.create_connection(("127.0.0.1", rp.psc.port), timeout=5) as raw:
        path = urlsplit(rp.psc.endpoint("certs")).path
        raw.sendall(f"GET {path} HTTP/1.1\r\nHost: psc.localhost:{rp.psc.port}\r\n\r\n".encode())
        got = 0
        while got < 4_000_000:
            got += len(raw.recv(1_000_000))


@pytest.mark.parametrize("scope", ["own", "all"])
def test_every_endpoint_can_be_down(rp, scope):
    """Each place of the wire faults is wired to its endpoint, and `all` to each of them."""
    tokens, _ = rp.sign_in()
    endpoint = rp.psc.endpoint
    code = {"grant_type": "authorization_code", "code": "x", "redirect_uri": "x"}
    refresh = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    poll = {"grant_type": "urn:openid:params:grant-type:ciba", "auth_req_id": "x"}
    asks = {
        "discovery": ("GET", rp.psc.discovery_url, None),
        "jwks": ("GET", endpoint("certs"), None),
        "authorize": ("GET", rp.request()[0], None),
        "token": ("POST", endpoint("token"), code),
        "code": ("POST", endpoint("token"), code),
        "refresh": ("POST", endpoint("token"), refresh),
        "poll": ("POST", endpoint("token"), poll),
        "userinfo": ("GET", endpoint("userinfo"), None),
        "introspect": ("POST", endpoint("token/introspect"), {"token": "x"}),
        "revoke": ("POST", endpoint("revoke"), {"token": "x"}),
        "end_session": ("GET", endpoint("logout"), None),
        "ciba": ("POST", endpoint("ext/ciba/auth"), {}),
    }
    assert set(asks) == {*ENDPOINTS, *GRANTS}
    for place, (method, url, form) in asks.items():
        before = rp.psc.counts[place]
        assert rp.http(method, url, form, rp.basic()).status != 503
        with rp.psc.faults.during(f"{place if scope == 'own' else 'all'}.error_503"):
            assert rp.http(method, url, form, rp.basic()).status == 503, place
        assert rp.psc.counts[place] == before + 2


# ------------------------------------------------------------------------------------------------ control


def _control(rp, method, path, said=None):
    connection = http.client.HTTPConnection("127.0.0.1", rp.psc.port, timeout=5)
    connection.request(method, f"/_simulator{path}", json.dumps(said) if said is not None else None)
    answer = connection.getresponse()
    read = json.loads(answer.read())
    connection.close()
    return answer.status, read


def test_control_of_faults(rp):
    """Listed, set, refused when unknown, cleared, over HTTP."""
    status, listed = _control(rp, "GET", "/faults")
    assert (status, listed["on"]) == (200, {})
    assert set(listed["known"]) == set(FAULTS)
    assert listed["known"]["token.slow"] == {
        "endpoint": "token",
        "does": "answers honestly after value seconds",
        "expect": "",
        "value": 30.0,
    }
    assert _control(rp, "POST", "/faults", {"name": "jwks.empty", "times": 1}) == (200, {"on": {"jwks.empty": None}})
    assert _certs(rp).json == {"keys": []}
    assert len(_certs(rp).json["keys"]) == 1
    assert _control(rp, "POST", "/faults", ["jwks.list", {"name": "token.slow", "value": 2}])[1]["on"] == {
        "jwks.list": None,
        "token.slow": 2,
    }
    for wrong in ({"name": "jwks.emtpy"}, {}, [7], "x"):
        assert _control(rp, "POST", "/faults", wrong)[0] == 400
    assert _control(rp, "DELETE", "/faults?name=jwks.list")[1]["on"] == {"token.slow": 2}
    assert _control(rp, "DELETE", "/faults")[1]["on"] == {}


def test_control_of_the_rest(rp, clock):
    """Requests, keys, clock, sessions, people, clients, CIBA."""
    tokens, _ = rp.sign_in()
    _, seen = _control(rp, "GET", "/requests")
    assert seen["counts"] == {"authorize": 1, "token": 1, "code": 1}
    assert [one["endpoint"] for one in seen["requests"]] == ["authorize", "token"]
    assert seen["requests"][1]["authorization"] == "Basic"
    assert "secret" not in json.dumps(seen)
    assert _control(rp, "DELETE", "/requests")[0] == 200
    assert _control(rp, "GET", "/requests")[1]["counts"] == {}
    kid = _control(rp, "POST", "/rotate-keys", {"keep": False})[1]["kid"]
    assert [key["kid"] for key in _certs(rp).json["keys"]] == [kid]
    assert _control(rp, "POST", "/clock", {"advance": 60})[1] == {"now": int(clock()) + 60, "offset": 60}
    assert _control(rp, "POST", "/clock", {"now": int(clock())})[1]["offset"] == 0
    assert _control(rp, "POST", "/clock", {})[0] == 400
    assert [one["sid"] for one in _control(rp, "GET", "/sessions")[1]] == [tokens["session_state"]]
    assert _control(rp, "POST", "/end-session", {"person": "docteur-dupont"})[1] == {"ended": 1}
    assert rp.userinfo(tokens["access_token"]).status == 401
    assert _control(rp, "GET", "/people")[1] == rp.psc.people
    declared = {"client_id": "autre", "secret": "secret de l'autre", "redirect_uris": ["http://autre.localhost/cb"]}
    assert _control(rp, "POST", "/clients", declared)[1]["clients"][1]["redirect_uris"] == ["http://autre.localhost/cb"]
    assert "secret de l'autre" not in json.dumps(_control(rp, "GET", "/clients")[1])
    assert _control(rp, "POST", "/clients", {"client_id": "x", "secrets": ""})[0] == 400
    rp.http(
        "POST",
        rp.psc.endpoint("ext/ciba/auth"),
        {
            "scope": "openid scope_all",
            "acr_values": "eidas1",
            "login_hint": "test-edit",
            "binding_message": "11",
            "channel": "CARD",
        },
        rp.basic(),
    )
    phone = rp.http("GET", rp.psc.issuer.split("/auth/")[0] + "/_simulator/phone").text
    assert "<strong>11</strong>" in phone
    assert "SIMULATEUR" in phone
    assert len(_control(rp, "GET", "/ciba")[1]) == 1
    assert _control(rp, "POST", "/ciba", {"who": "test-edit", "decision": "deny"})[1] == {"answered": 1}
    assert _control(rp, "GET", "/ciba")[1] == []
    assert _control(rp, "GET", "/backchannel")[1] == []
    assert _control(rp, "GET", "/")[1]["issuer"] == rp.psc.issuer
