"""The honest road: discovery, authorization, tokens, userinfo, introspection, sign-out, CIBA, over real HTTP."""

import base64
import hashlib
import http.server
import socket
import ssl
import threading
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import rsa

from forward_auth.simulator import Client, SimulatorThread

CALLBACK = "http://auth.localhost:9401/psc/callback"


def test_discovery_has_the_traps_of_the_real_one(rp):
    """The wallet document names another host for authorization, and keeps the oddities clients trip over."""
    found = rp.discovery()
    assert found["issuer"] == rp.psc.issuer == f"http://psc.localhost:{rp.psc.port}/auth/realms/esante-wallet"
    assert found["authorization_endpoint"] == f"http://wallet.psc.localhost:{rp.psc.port}/auth"
    assert found["token_endpoint"] == rp.psc.issuer + "/protocol/openid-connect/token"
    assert found["introspection_endpoint"] == rp.psc.issuer + "/protocol/openid-connect/token/introspect"
    assert found["backchannel_authentication_endpoint"] == rp.psc.issuer + "/protocol/openid-connect/ext/ciba/auth"
    assert found["acr_values_supported"] == ["0", "0"]
    assert "HS256" in found["id_token_signing_alg_values_supported"]
    assert "none" not in found["token_endpoint_auth_methods_supported"]
    assert found["authorization_response_iss_parameter_supported"] is True
    plain = rp.http("GET", rp.psc.issuer + "/.well-known/openid-configuration").json
    assert plain["authorization_endpoint"] == rp.psc.issuer + "/protocol/openid-connect/auth"
    assert {**plain, "authorization_endpoint": ""} == {**found, "authorization_endpoint": ""}


def test_whole_sign_in(rp, clock):
    """Callback, ID token, access token and userinfo are what is known of the real service."""
    back, asked, verifier = rp.callback("docteur-dupont")
    assert list(back) == ["state", "session_state", "iss", "code"]
    assert back["state"] == asked["state"]
    assert back["iss"] == rp.psc.issuer
    answer = rp.redeem(back["code"], verifier)
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-store"
    tokens = answer.json
    assert set(tokens) == {
        "access_token", "expires_in", "refresh_expires_in", "refresh_token", "token_type", "id_token",
        "not-before-policy", "session_state", "scope",
    }  # fmt: skip
    assert tokens["expires_in"] == 120
    assert tokens["refresh_expires_in"] == 1800
    assert tokens["token_type"] == "Bearer"
    assert tokens["session_state"] == back["session_state"]
    claims = rp.verify(tokens["id_token"])
    digest = hashlib.sha256(tokens["access_token"].encode()).digest()
    assert claims["aud"] == "hopital"
    assert claims["azp"] == "hopital"
    assert claims["typ"] == "ID"
    assert claims["nonce"] == asked["nonce"]
    assert claims["at_hash"] == base64.urlsafe_b64encode(digest[:16]).rstrip(b"=").decode()
    assert claims["auth_time"] == claims["iat"] == int(clock())
    assert claims["exp"] == int(clock()) + 120
    assert claims["sid"] == back["session_state"]
    assert claims["acr"] == "eidas1"
    assert claims["SubjectNameID"] == claims["preferred_username"] == "899700000001"
    assert (claims["given_name"], claims["family_name"]) == ("CAMILLE", "DUPONT")
    assert "SubjectRefPro" not in claims
    access = rp.verify(tokens["access_token"], verify_aud=False, require=["exp", "iat", "iss", "sub"])
    assert "aud" not in access
    assert access["azp"] == "hopital"
    assert access["typ"] == "Bearer"
    assert access["sid"] == back["session_state"]
    assert access["authMode"] == "CARD"
    userinfo = rp.userinfo(tokens["access_token"])
    assert userinfo.headers["Content-Type"].startswith("application/json")
    assert userinfo.json == rp.psc.people["docteur-dupont"]["userinfo"]
    assert userinfo.json["sub"] == claims["sub"]


@pytest.mark.parametrize("changes", [{}, {"code_challenge": None, "code_challenge_method": None}])
def test_pkce_is_optional_but_then_absent_on_both_sides(rp, changes):
    """A code asked for without a challenge is redeemed without a verifier; one with a challenge is not."""
    back, _, verifier = rp.callback(**changes)
    answer = rp.redeem(back["code"], verifier if not changes else None)
    assert answer.status == 200


@pytest.mark.parametrize(
    ("changes", "sent"),
    [
        ({}, None),
        ({}, "wrong-" * 10),
        ({}, "short"),
        ({"code_challenge": None, "code_challenge_method": None}, "unexpected-" * 5),
    ],
)
def test_pkce_is_enforced(rp, changes, sent):
    """A missing, wrong, short or unexpected code verifier is invalid_grant."""
    back, _, _ = rp.callback(**changes)
    answer = rp.redeem(back["code"], sent)
    assert (answer.status, answer.json["error"]) == (400, "invalid_grant")


def test_code_is_used_once_and_reuse_ends_the_session(rp):
    """The second use of a code is refused and kills what the first one gave."""
    back, _, verifier = rp.callback()
    tokens = rp.redeem(back["code"], verifier).json
    again = rp.redeem(back["code"], verifier)
    assert (again.status, again.json["error"]) == (400, "invalid_grant")
    assert rp.userinfo(tokens["access_token"]).status == 401
    assert rp.refresh(tokens["refresh_token"]).status == 400


@pytest.mark.parametrize("other", [CALLBACK + "/", "", None])
def test_code_is_bound_to_its_redirect_uri(rp, other):
    """The token request must name the same redirect URI; a wrong one burns the code."""
    back, _, verifier = rp.callback()
    assert rp.redeem(back["code"], verifier, redirect_uri=other).json["error"] == "invalid_grant"
    assert rp.redeem(back["code"], verifier).json["error"] == "invalid_grant"


def test_code_is_bound_to_its_client(rp, relying_party):
    """A code or refresh token of one client is nothing in the hands of another."""
    rp.psc.realm.clients["autre"] = Client("autre", "le secret de l'autre", (CALLBACK,))
    other = relying_party(rp.psc, "autre", "le secret de l'autre")
    tokens, _ = rp.sign_in()
    back, _, verifier = rp.callback()
    assert other.redeem(back["code"], verifier).json["error"] == "invalid_grant"
    assert other.refresh(tokens["refresh_token"]).json["error"] == "invalid_grant"
    assert rp.refresh(tokens["refresh_token"]).status == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"redirect_uri": CALLBACK + "/"},
        {"redirect_uri": CALLBACK.upper()},
        {"redirect_uri": ""},
        {"client_id": "inconnu"},
    ],
)
def test_unknown_client_or_redirect_uri_never_redirects(rp, changes):
    """Such a request ends on a page of PSC: there is nobody safe to send the browser back to."""
    url, _, _ = rp.request(**changes)
    answer = rp.http("POST", url, {"person": "docteur-dupont"})
    assert answer.status == 400
    assert answer.headers["Location"] is None
    assert "SIMULATEUR" in answer.text


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"acr_values": None}, "invalid_request"),
        ({"acr_values": ""}, "invalid_request"),
        ({"state": None}, "invalid_request"),
        ({"scope": "openid"}, "invalid_scope"),
        ({"scope": "scope_all"}, "invalid_scope"),
        ({"scope": None}, "invalid_scope"),
        ({"response_type": None}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge_method": "S512"}, "invalid_request"),
        ({"max_age": "soon"}, "invalid_request"),
        ({"prompt": "none login"}, "invalid_request"),
        ({"prompt": "none"}, "login_required"),
        ({"cancel": "1"}, "access_denied"),
    ],
)
def test_refused_authorization_requests_go_back_with_an_error(rp, changes, error):
    """The error, the state if there was one, the issuer, and no code."""
    url, asked, _ = rp.request(**changes)
    answer = rp.http("GET", url)
    assert answer.status == 302
    back = parse_qs(urlsplit(answer.headers["Location"]).query)
    assert back["error"] == [error]
    assert back.get("state") == ([asked["state"]] if "state" in asked else None)
    assert back["iss"] == [rp.psc.issuer]
    assert "code" not in back


def test_doubled_parameter_is_refused(rp):
    """A parameter given twice is no request."""
    url, _, _ = rp.request()
    answer = rp.http("GET", url + "&nonce=another")
    assert "error=invalid_request" in answer.headers["Location"]


def test_page_lists_people_and_says_it_is_a_simulator(rp):
    """The page names every person, offers to cancel, needs no script and loads nothing."""
    url, asked, _ = rp.request(state='"><script>alert(1)</script>')
    page = rp.http("GET", url)
    assert page.status == 200
    assert "SIMULATEUR" in page.text
    assert "n’est pas Pro Santé Connect" in page.text
    for name in rp.psc.people:
        assert f'name="person" value="{name}"' in page.text
    assert 'name="cancel"' in page.text
    assert "<script" not in page.text
    assert "src=" not in page.text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert '<html lang="fr">' in page.text
    assert asked["state"] not in page.text


def test_form_alone_is_enough(rp):
    """What a browser posts from the page (everything in the form, nothing in the address) signs in."""
    _, asked, verifier = rp.request()
    answer = rp.http(
        "POST", rp.psc.authorization_endpoint, {**asked, "person": "899700000043", "mode": "MOBILE", "acr": "eidas1"}
    )
    code = parse_qs(urlsplit(answer.headers["Location"]).query)["code"][0]
    tokens = rp.redeem(code, verifier).json
    assert rp.verify(tokens["id_token"])["preferred_username"] == "899700000043"
    assert rp.userinfo(tokens["access_token"]).json["authMode"] == "MOBILE"


def test_choice_in_the_address_is_enough(rp):
    """A plain GET with person= in the query signs in too; a trailing slash of the endpoint does not matter."""
    url, _, _ = rp.request(person="interne-girard")
    for address in (url, url.replace("/auth?", "/auth/?")):
        assert "code=" in rp.http("GET", address).headers["Location"]


def test_hosts_are_told_apart(rp):
    """The wallet host serves no token endpoint, the issuer host no wallet page."""
    url, _, _ = rp.request()
    wallet, issuer = urlsplit(rp.psc.authorization_endpoint).netloc, urlsplit(rp.psc.issuer).netloc
    assert rp.http("GET", url.replace(wallet, issuer)).status == 404
    assert rp.http("GET", rp.psc.discovery_url.replace(issuer, wallet)).status == 404
    _, asked, _ = rp.request()
    assert rp.http("GET", rp.psc.endpoint("auth") + "?" + urlencode(asked)).status == 200


def test_lower_level_and_missing_level(rp):
    """The level chosen on the page is the acr answered; none chosen, none answered."""
    tokens, _ = rp.sign_in(acr="0")
    assert rp.verify(tokens["id_token"])["acr"] == "0"
    tokens, _ = rp.sign_in(acr="")
    assert "acr" not in rp.verify(tokens["id_token"])


def test_single_sign_on_and_what_forces_the_page(rp, clock):
    """A known browser passes at once; prompt=login, max_age and a level that is too low do not let it."""
    first, _ = rp.sign_in()
    clock.now += 600
    second, _ = rp.sign_in("")
    was, now = rp.verify(first["id_token"]), rp.verify(second["id_token"])
    assert now["sid"] == was["sid"]
    assert now["auth_time"] == was["auth_time"] == now["iat"] - 600
    assert rp.http("GET", rp.request(prompt="none")[0]).status == 302
    assert rp.http("GET", rp.request(prompt="login")[0]).status == 200
    assert rp.http("GET", rp.request(max_age="600")[0]).status == 302
    assert rp.http("GET", rp.request(max_age="599")[0]).status == 200
    assert rp.http("GET", rp.request(acr_values="eidas2")[0]).status == 200
    assert "login_required" in rp.http("GET", rp.request(max_age="599", prompt="none")[0]).headers["Location"]
    again, _ = rp.sign_in("docteur-dupont", prompt="login")
    assert rp.verify(again["id_token"])["sid"] == was["sid"]
    assert rp.verify(again["id_token"])["auth_time"] == int(clock())
    assert rp.http("GET", rp.request(max_age="599")[0]).status == 302


def test_another_person_in_the_same_browser_ends_the_first_session(rp):
    """A card change at one browser: the new person gets a session of their own, the old one is over."""
    first, _ = rp.sign_in("docteur-dupont")
    second, _ = rp.sign_in("dentiste-moreau")
    assert rp.verify(second["id_token"])["sid"] != rp.verify(first["id_token"])["sid"]
    assert rp.userinfo(first["access_token"]).status == 401
    third, _ = rp.sign_in("")
    assert rp.verify(third["id_token"])["SubjectNameID"] == "899700000019"


def test_another_browser_is_a_stranger(rp):
    """Single sign-on belongs to a cookie, and a forged one is worth nothing."""
    rp.sign_in()
    rp.jar = {name: value[:-1] + "x" for name, value in rp.jar.items()}
    assert rp.http("GET", rp.request()[0]).status == 200


@pytest.mark.parametrize(
    ("form", "headers"),
    [
        ({"client_id": "hopital"}, {}),
        ({"client_id": "hopital", "client_secret": ""}, {}),
        ({"client_id": "hopital", "client_secret": "faux"}, {}),
        ({"client_id": "autre", "client_secret": "un secret d'essai"}, {}),
        ({}, {"Authorization": "Basic " + base64.b64encode(b"hopital:faux").decode()}),
        ({}, {"Authorization": "Basic !!"}),
        (
            {"client_id": "autre"},
            {"Authorization": "Basic " + base64.b64encode(b"hopital:un+secret+d%27essai").decode()},
        ),
        ({}, {}),
    ],
)
def test_client_authentication_is_required(rp, form, headers):
    """No secret, a wrong one, an unknown client, «none»: 401, and the code stays unused."""
    back, _, verifier = rp.callback()
    sent = {
        "grant_type": "authorization_code",
        "code": back["code"],
        "redirect_uri": CALLBACK,
        "code_verifier": verifier,
    }
    answer = rp.token({**sent, **form}, headers=headers)
    assert answer.status == 401
    assert answer.json["error"] in ("invalid_client", "unauthorized_client")
    assert rp.redeem(back["code"], verifier).status == 200


def test_secret_in_the_form(rp):
    """client_secret_post works like basic."""
    back, _, verifier = rp.callback()
    form = {
        "grant_type": "authorization_code",
        "code": back["code"],
        "redirect_uri": CALLBACK,
        "code_verifier": verifier,
        "client_id": "hopital",
        "client_secret": "un secret d'essai",
    }
    assert rp.token(form, headers={}).status == 200
    assert "client_secret" not in rp.psc.requests[-1].form


def test_signed_client_assertions(clock, relying_party):
    """private_key_jwt and client_secret_jwt are accepted once per jti, for the right audience and key only."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    jwk = {**jwt.algorithms.RSAAlgorithm.to_jwk(private.public_key(), as_dict=True), "kid": "k1"}
    client = Client("cle", "un secret assez long pour HS256 !", (CALLBACK,), jwks={"keys": [jwk]})
    with SimulatorThread(clients=[client], clock=clock) as psc:
        rp = relying_party(psc)
        kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

        def ask(assertion: str) -> int:
            """200 when the client was believed (and only the refresh token was not)."""
            form = {"grant_type": "refresh_token", "client_assertion_type": kind, "client_assertion": assertion}
            answer = rp.token(form, headers={})
            return 200 if answer.json["error"] == "invalid_grant" else answer.status

        claims = {
            "iss": "cle",
            "sub": "cle",
            "aud": psc.issuer,
            "jti": "1",
            "exp": int(clock()) + 60,
            "iat": int(clock()),
        }
        good = jwt.encode(claims, private, "RS256", {"kid": "k1"})
        assert ask(good) == 200
        assert ask(good) == 400
        assert ask(jwt.encode({**claims, "jti": "2"}, client.secret, "HS256")) == 200
        assert ask(jwt.encode({**claims, "jti": "3"}, "another secret, long enough for it!", "HS256")) == 400
        assert (
            ask(jwt.encode({**claims, "jti": "4", "aud": "https://elsewhere.example"}, private, "RS256", {"kid": "k1"}))
            == 400
        )
        assert ask(jwt.encode({**claims, "jti": "5", "exp": int(clock())}, private, "RS256", {"kid": "k1"})) == 400
        assert ask("not.a.token") == 400


@pytest.mark.parametrize("header", ["", "Basic abc", "Bearer ", "Bearer not-a-token"])
def test_userinfo_needs_an_access_token(rp, header):
    """No token, or not one of ours: 401 with the reason in WWW-Authenticate."""
    answer = rp.http("GET", rp.psc.endpoint("userinfo"), headers={"Authorization": header} if header else {})
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer ")


def test_id_and_refresh_tokens_are_no_access_tokens(rp):
    """Only the access token opens userinfo."""
    tokens, _ = rp.sign_in()
    assert rp.userinfo(tokens["id_token"]).status == 401
    assert rp.userinfo(tokens["refresh_token"]).status == 401


def test_refresh(rp, clock):
    """New tokens of the same session: no nonce, same auth_time; the old refresh token stays good by default."""
    tokens, _ = rp.sign_in()
    clock.now += 300
    renewed = rp.refresh(tokens["refresh_token"])
    assert renewed.status == 200
    was, now = rp.verify(tokens["id_token"]), rp.verify(renewed.json["id_token"])
    assert "nonce" not in now
    assert (now["auth_time"], now["sid"], now["sub"]) == (was["auth_time"], was["sid"], was["sub"])
    assert now["iat"] == was["iat"] + 300
    assert renewed.json["refresh_token"] != tokens["refresh_token"]
    assert rp.userinfo(renewed.json["access_token"]).status == 200
    assert rp.refresh(tokens["refresh_token"]).status == 200


def test_refresh_with_revocation(clock, relying_party):
    """With rotation "revoke" an old refresh token is refused, and its use ends the family."""
    with SimulatorThread(
        clients=[Client("hopital", "un secret d'essai", (CALLBACK,))], clock=clock, refresh_rotation="revoke"
    ) as psc:
        rp = relying_party(psc)
        tokens, _ = rp.sign_in()
        renewed = rp.refresh(tokens["refresh_token"]).json
        assert rp.refresh(renewed["refresh_token"]).status == 200
        assert rp.refresh(tokens["refresh_token"]).json["error"] == "invalid_grant"
        assert rp.refresh(renewed["refresh_token"]).status == 400


def test_introspection_and_revocation(rp):
    """active with PSC's claims; the national id only for an access token; false once revoked."""
    tokens, _ = rp.sign_in()

    def introspect(token):
        return rp.http("POST", rp.psc.endpoint("token/introspect"), {"token": token}, rp.basic()).json

    access = introspect(tokens["access_token"])
    assert access["active"] is True
    assert access["client_id"] == "hopital"
    assert access["username"] == access["SubjectNameID"] == "899700000001"
    refresh = introspect(tokens["refresh_token"])
    assert refresh["active"] is True
    assert "SubjectNameID" not in refresh
    assert introspect("nothing") == {"active": False}
    assert rp.http("POST", rp.psc.endpoint("token/introspect"), {"token": tokens["access_token"]}).status == 401
    assert rp.http("POST", rp.psc.endpoint("revoke"), {"token": tokens["access_token"]}, rp.basic()).status == 200
    assert introspect(tokens["access_token"]) == {"active": False}
    assert rp.refresh(tokens["refresh_token"]).status == 200
    assert rp.http("POST", rp.psc.endpoint("revoke"), {"token": tokens["refresh_token"]}, rp.basic()).status == 200
    assert rp.refresh(tokens["refresh_token"]).status == 400


def test_key_rotation(rp):
    """A new kid signs at once; the old key stays published, or not, as asked."""
    old, _ = rp.sign_in()
    kid = rp.psc.rotate_keys()
    new, _ = rp.sign_in("")
    assert jwt.get_unverified_header(new["id_token"])["kid"] == kid
    assert rp.verify(new["id_token"])
    assert rp.verify(old["id_token"])
    rp.psc.rotate_keys(keep=False)
    assert len(rp.http("GET", rp.psc.endpoint("certs")).json["keys"]) == 1
    with pytest.raises(KeyError):
        rp.verify(old["id_token"])


def test_sign_out_with_a_hint(rp, clock):
    """The session ends, also by an expired ID token, and the browser goes back with its state."""
    tokens, _ = rp.sign_in()
    clock.now += 1000
    asked = {
        "id_token_hint": tokens["id_token"],
        "post_logout_redirect_uri": "http://auth.localhost:9401/psc/signed-out",
        "state": "e t",
    }
    answer = rp.http("GET", rp.psc.endpoint("logout") + "?" + urlencode(asked))
    assert answer.status == 302
    assert answer.headers["Location"] == "http://auth.localhost:9401/psc/signed-out?state=e+t"
    assert rp.refresh(tokens["refresh_token"]).status == 400
    assert rp.http("GET", rp.request()[0]).status == 200
    assert rp.http("POST", rp.psc.endpoint("logout"), asked).status == 302


@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
def test_only_an_id_token_is_a_hint(rp, kind):
    """Another token of the same session ends nothing."""
    tokens, _ = rp.sign_in()
    assert rp.http("GET", rp.psc.endpoint("logout") + "?" + urlencode({"id_token_hint": tokens[kind]})).status == 400
    assert rp.refresh(tokens["refresh_token"]).status == 200


def test_sign_out_without_a_hint_asks_first(rp):
    """A page with one button; only the button ends the session of this browser."""
    tokens, _ = rp.sign_in()
    page = rp.http("GET", rp.psc.endpoint("logout"))
    assert page.status == 200
    assert 'name="confirm"' in page.text
    assert rp.refresh(tokens["refresh_token"]).status == 200
    done = rp.http("POST", rp.psc.endpoint("logout"), {"confirm": "1"})
    assert "Session fermée" in done.text
    assert rp.refresh(tokens["refresh_token"]).status == 400


@pytest.mark.parametrize(
    "changes",
    [
        {"post_logout_redirect_uri": "http://evil.example/"},
        {"id_token_hint": "not-a-token"},
        {"id_token_hint": None, "client_id": "inconnu"},
        {"client_id": "autre"},
    ],
)
def test_sign_out_refuses_what_was_not_declared(rp, changes):
    """An undeclared return address, a hint that is none, a client that does not fit: 400, nothing ends."""
    tokens, _ = rp.sign_in()
    asked = {
        "id_token_hint": tokens["id_token"],
        "post_logout_redirect_uri": "http://auth.localhost:9401/psc/signed-out",
        **changes,
    }
    answer = rp.http("GET", rp.psc.endpoint("logout") + "?" + urlencode({k: v for k, v in asked.items() if v}))
    assert answer.status == 400
    assert rp.refresh(tokens["refresh_token"]).status == 200


def test_back_channel_logout_reaches_the_client(clock, relying_party):
    """Ending a session posts a logout token with events, sid, sub, jti, iat, exp and without a nonce."""
    heard: list[bytes] = []

    class Door(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            heard.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Door) as door:
        thread = threading.Thread(target=door.serve_forever)
        thread.start()
        try:
            client = Client(
                "hopital",
                "un secret d'essai",
                (CALLBACK,),
                backchannel_logout_uri=f"http://auth.localhost:{door.server_port}/psc/backchannel-logout",
            )
            with SimulatorThread(clients=[client], clock=clock) as psc:
                rp = relying_party(psc)
                tokens, _ = rp.sign_in()
                rp.http("GET", psc.endpoint("logout") + "?" + urlencode({"id_token_hint": tokens["id_token"]}))
                token = parse_qs(heard[0].decode())["logout_token"][0]
                assert jwt.get_unverified_header(token)["typ"] == "logout+jwt"
                claims = rp.verify(token)
                signed_in = rp.verify(tokens["id_token"])
                assert claims["events"] == {"http://schemas.openid.net/event/backchannel-logout": {}}
                assert claims["sid"] == signed_in["sid"]
                assert claims["sub"] == signed_in["sub"]
                assert claims["exp"] == claims["iat"] + 120
                assert claims["jti"]
                assert "nonce" not in claims
                assert [notice.status for notice in psc.notices] == [200]
                tokens, _ = rp.sign_in()
                assert psc.call(psc.end_session(tokens["session_state"])) is True
                assert len(heard) == 2
        finally:
            door.shutdown()
            thread.join()


CIBA = {
    "scope": "openid scope_all",
    "acr_values": "eidas1",
    "login_hint": "899700000043",
    "binding_message": "42",
    "channel": "MOBILE",
}


def _poll(rp, auth_req_id):
    return rp.token({"grant_type": "urn:openid:params:grant-type:ciba", "auth_req_id": auth_req_id})


def _ask(rp, **changes):
    form = {name: value for name, value in {**CIBA, **changes}.items() if value is not None}
    return rp.http("POST", rp.psc.endpoint("ext/ciba/auth"), form, rp.basic())


def test_ciba_approved(rp, clock):
    """Pending, slow_down when asked too soon, then tokens, once."""
    started = _ask(rp)
    assert started.status == 200
    assert started.json["expires_in"] == 120
    assert started.json["interval"] == 1
    request = started.json["auth_req_id"]
    assert _poll(rp, request).json["error"] == "authorization_pending"
    assert _poll(rp, request).json["error"] == "slow_down"
    clock.now += 1
    assert _poll(rp, request).json["error"] == "authorization_pending"
    assert [one.binding_message for one in rp.psc.waiting()] == ["42"]
    assert rp.psc.decide("infirmiere-leroy") == 1
    tokens = _poll(rp, request)
    claims = rp.verify(tokens.json["id_token"])
    assert claims["SubjectNameID"] == "899700000043"
    assert claims["acr"] == "eidas1"
    assert "nonce" not in claims
    assert rp.userinfo(tokens.json["access_token"]).json["authMode"] == "MOBILE"
    assert rp.refresh(tokens.json["refresh_token"]).status == 200
    assert _poll(rp, request).json["error"] == "invalid_grant"


def test_ciba_denied_and_expired(rp, clock):
    """The person says no; or says nothing for two minutes."""
    request = _ask(rp).json["auth_req_id"]
    rp.psc.decide(request, "deny")
    assert _poll(rp, request).json["error"] == "access_denied"
    request = _ask(rp).json["auth_req_id"]
    clock.now += 120
    assert _poll(rp, request).json["error"] == "expired_token"
    assert rp.psc.waiting() == []


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"scope": "openid"}, "invalid_scope"),
        ({"acr_values": None}, "invalid_request"),
        ({"login_hint": None}, "invalid_request"),
        ({"login_hint": "000000000000"}, "invalid_request"),
        ({"binding_message": "123"}, "invalid_binding_message"),
        ({"binding_message": None}, "invalid_binding_message"),
        ({"channel": "FAX"}, "invalid_request"),
        ({"channel": None}, "invalid_request"),
    ],
)
def test_ciba_refuses_malformed_requests(rp, changes, error):
    """What is missing or misshapen is named."""
    assert _ask(rp, **changes).json["error"] == error


def test_open_house(relying_party):
    """Without declared clients any local one is served, with any non-empty secret, and no other return address."""
    with SimulatorThread() as psc:
        rp = relying_party(psc)
        rp.client_id, rp.secret = "nimporte", "quoi"
        assert rp.sign_in()
        for uri in ("https://auth.hopital.example/psc/callback", "http://localhost:1/x", "http://127.0.0.1:1/x"):
            assert "code=" in rp.http("GET", rp.request(redirect_uri=uri, person="test-edit")[0]).headers["Location"]
        for uri in ("https://evil.com/", "http://localhost.evil.com/", "javascript:alert(1)", "http://x.example/#f"):
            assert rp.http("GET", rp.request(redirect_uri=uri, person="test-edit")[0]).status == 400
        back, _, _ = rp.callback("")
        assert (
            rp.token(
                {"code": back["code"]}, headers={"Authorization": "Basic " + base64.b64encode(b"nimporte:").decode()}
            ).status
            == 401
        )


def test_over_tls_with_a_client_certificate(clock, key):
    """Started with TLS the issuer is https, and a client known by its certificate needs no secret; another one does."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("psc.localhost", "wallet.psc.localhost").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_OPTIONAL
    client = Client("hopital", redirect_uris=(CALLBACK,), tls_subject="hopital-exemple")

    def status(psc, common_name):
        mine = ssl.create_default_context()
        authority.configure_trust(mine)
        if common_name:
            authority.issue_cert("client.hopital.example", common_name=common_name).configure_cert(mine)
        with (
            socket.create_connection(("127.0.0.1", psc.port), timeout=5) as raw,
            mine.wrap_socket(raw, server_hostname="psc.localhost") as tls,
        ):
            body = "grant_type=refresh_token&refresh_token=x&client_id=hopital"
            path = urlsplit(psc.endpoint("token")).path
            tls.sendall(
                f"POST {path} HTTP/1.1\r\nHost: psc.localhost:{psc.port}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
                f"Content-Type: application/x-www-form-urlencoded\r\n\r\n{body}".encode()
            )
            return int(tls.recv(12)[9:])

    with SimulatorThread(clients=[client], clock=clock, key=key, tls=context) as psc:
        assert psc.issuer == f"https://psc.localhost:{psc.port}/auth/realms/esante-wallet"
        assert status(psc, "hopital-exemple") == 400  # believed: only the refresh token is wrong
        assert status(psc, "somebody-else") == 401
        assert status(psc, "") == 401
        asked = {
            "client_id": "hopital",
            "redirect_uri": CALLBACK,
            "response_type": "code",
            "scope": "openid scope_all",
            "acr_values": "eidas1",
            "state": "s",
        }
        assert "code=" in psc.sign_in(psc.authorization_endpoint + "?" + urlencode(asked))
        assert psc.requests[0].certificate == "hopital-exemple"
