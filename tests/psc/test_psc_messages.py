"""Messages built and answers checked, without any network: metadata, sign-in, callback, tokens, userinfo, sign-out."""

import base64
import contextlib
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from urllib.parse import parse_qsl, unquote_plus, urlsplit

import pytest
import token_forge as forge
from hypothesis import given, settings
from hypothesis import strategies as st
from token_forge import CLIENT, DROP, ISSUER, PROVIDER, VERIFIER

from forward_auth.errors import Fault, ForwardAuthError, PSCAnswerRefused, PSCDenied, PSCUnavailable, SignInRefused
from forward_auth.psc import messages
from forward_auth.psc.messages import Answer, ClientConfig, Provider, Request
from forward_auth.secret import Secret

LOCAL = "http://psc.localhost:8080/auth/realms/esante-wallet"
HTML = b"<!doctype html><title>Maintenance</title>"


def raised(action: Callable[[], object]) -> ForwardAuthError:
    """The error an action ends in."""
    with pytest.raises(ForwardAuthError) as caught:
        action()
    return caught.value


def outcome(action: Callable[[], object]) -> tuple[type[ForwardAuthError], str]:
    """Class and code of that error."""
    error = raised(action)
    return type(error), error.code


def answer(body: object, status: int = 200, content_type: str = "application/json") -> Answer:
    """An answer of PSC; anything but bytes is sent as JSON."""
    return Answer(status, content_type, body if isinstance(body, bytes) else json.dumps(body).encode())


def read(**members: object) -> Provider:
    """Metadata with these members changed."""
    return messages.read_metadata(json.dumps(forge.metadata(**members)).encode(), ISSUER)


# -- metadata ---------------------------------------------------------------------------------------------------------------------


def test_oidcc_client_test_discovery_openid_config() -> None:
    """PSC's document is read: authorization at the wallet's host, all else at the issuer."""
    found = read()
    assert "https://wallet.bas.psc.esante.gouv.fr/auth" == found.authorization_endpoint
    assert ISSUER + "/protocol/openid-connect/certs" == found.jwks_uri
    assert found.iss_parameter
    assert messages.ISSUERS["bas"] == found.issuer


def test_metadata_with_only_what_is_needed() -> None:
    """Ending, introspection and revocation may be missing, as may the announcement of `iss`."""
    missing = dict.fromkeys(("end_session_endpoint", "introspection_endpoint", "revocation_endpoint"), DROP)
    found = read(**missing, authorization_response_iss_parameter_supported=DROP)
    assert (None, None, None, False) == (
        found.end_session_endpoint,
        found.introspection_endpoint,
        found.revocation_endpoint,
        found.iss_parameter,
    )
    assert not read(authorization_response_iss_parameter_supported="true").iss_parameter


@pytest.mark.parametrize(
    "issuer", [ISSUER + "/", ISSUER.upper(), ISSUER[:-1], "https://evil.example", "", None, DROP, [ISSUER], 1]
)
def test_IDP_09_oidcc_client_test_discovery_issuer_mismatch(issuer: object) -> None:
    """The document is of the configured issuer byte for byte, or of nobody."""
    document = {**forge.metadata(), "issuer": issuer}
    assert (PSCAnswerRefused, "issuer_mismatch") == outcome(
        lambda: messages.read_metadata(json.dumps(forge.without(document)).encode(), ISSUER)
    )


@pytest.mark.parametrize(
    "name", ["token_endpoint", "userinfo_endpoint", "jwks_uri", "introspection_endpoint", "revocation_endpoint"]
)
@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("https://evil.example/token", "endpoint_foreign"),
        ("https://auth.bas.psc.esante.gouv.fr.evil.example/token", "endpoint_foreign"),
        ("https://auth.bas.psc.esante.gouv.fr:8443/token", "endpoint_foreign"),
        ("https://wallet.bas.psc.esante.gouv.fr/token", "endpoint_foreign"),
        ("http://auth.bas.psc.esante.gouv.fr/token", "endpoint_insecure"),
        ("https://auth.bas.psc.esante.gouv.fr@evil.example/token", "endpoint_insecure"),
        ("https://auth.bas.psc.esante.gouv.fr\\@evil.example/token", "endpoint_insecure"),
        ("https://auth.bas.psc.esante.gouv.fr/token#x", "endpoint_insecure"),
        ("https://auth.bas.psc.esante.gouv.fr/to ken", "endpoint_insecure"),
        ("https://auth.bas.psc.esante.gouv.fr/é", "endpoint_insecure"),
        ("https://auth.bas.psc.esante.gouv.fr:99999/", "endpoint_insecure"),
        ("https://[::1/", "endpoint_insecure"),
        ("https:///token", "endpoint_insecure"),
        ("file:///etc/passwd", "endpoint_insecure"),
        ("http://169.254.169.254/latest", "endpoint_insecure"),
        ("http://127.0.0.1/token", "endpoint_insecure"),
        ("//auth.bas.psc.esante.gouv.fr/token", "endpoint_insecure"),
        ("", "endpoint_insecure"),
        ("https://auth.bas.psc.esante.gouv.fr/" + "a" * 2048, "endpoint_insecure"),
        (["https://auth.bas.psc.esante.gouv.fr/"], "metadata_malformed"),
        (7, "metadata_malformed"),
    ],
)
def test_IDP_09_endpoints_elsewhere(name: str, address: object, code: str) -> None:
    """Where our secret and tokens go is at the issuer's own origin over TLS (CVE-2026-102267 and kin)."""
    assert (PSCAnswerRefused, code) == outcome(lambda: read(**{name: address}))


@pytest.mark.parametrize("name", ["authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri"])
def test_metadata_without_an_endpoint(name: str) -> None:
    """Without one of these four there is no sign-in."""
    assert (PSCAnswerRefused, "metadata_malformed") == outcome(lambda: read(**{name: DROP}))
    assert (PSCAnswerRefused, "metadata_malformed") == outcome(lambda: read(**{name: None}))


@pytest.mark.parametrize("address", ["http://wallet.example/auth", "javascript:alert(1)", "https://a@b.example/", ""])
def test_IDP_09_the_page_where_people_sign_in_is_secure_too(address: str) -> None:
    """It may be on another host than the issuer's, but never in the clear, with or without an address for the end of a session."""
    for more in ({}, {"end_session_endpoint": DROP}):
        assert (PSCAnswerRefused, "endpoint_insecure") == outcome(
            lambda more=more: read(authorization_endpoint=address, **more)
        )


def test_where_a_session_may_be_ended() -> None:
    """At the issuer or at the wallet, nowhere else: the browser brings an ID token there."""
    assert read(end_session_endpoint="https://wallet.bas.psc.esante.gouv.fr/logout").end_session_endpoint is not None
    assert (PSCAnswerRefused, "endpoint_foreign") == outcome(
        lambda: read(end_session_endpoint="https://evil.example/logout")
    )


def test_each_endpoint_is_the_one_of_its_name() -> None:
    """Nothing is built from another address, and the two environments have the issuers that the ANS publishes."""
    names = ("token", "userinfo", "introspection", "revocation")
    found = read(**{f"{name}_endpoint": f"{ISSUER}/{name}" for name in names}, jwks_uri=f"{ISSUER}/keys")
    assert [f"{ISSUER}/{name}" for name in names] == [getattr(found, f"{name}_endpoint") for name in names]
    assert f"{ISSUER}/keys" == found.jwks_uri
    assert {
        "bas": "https://auth.bas.psc.esante.gouv.fr/auth/realms/esante-wallet",
        "production": "https://auth.esw.esante.gouv.fr/auth/realms/esante-wallet",
    } == messages.ISSUERS


def test_IDP_03_how_long_metadata_and_an_address_in_it_may_be() -> None:
    """To the byte: 2 048 for an address, 256 KiB for the document."""
    longest = ISSUER + "/" + "a" * (2048 - len(ISSUER) - 1)
    assert longest == read(token_endpoint=longest).token_endpoint
    assert (PSCAnswerRefused, "endpoint_insecure") == outcome(lambda: read(token_endpoint=longest + "a"))
    document = json.dumps(forge.metadata()).encode()
    padded = document + b" " * (256 * 1024 - len(document))
    assert ISSUER == messages.read_metadata(padded, ISSUER).issuer
    assert (PSCAnswerRefused, "too_large") == outcome(lambda: messages.read_metadata(padded + b" ", ISSUER))


def test_plain_http_for_this_machine_only() -> None:
    """localhost and *.localhost may be http (decision 19); a name that only looks so may not."""
    document = json.dumps(forge.metadata(LOCAL)).encode()
    assert LOCAL == messages.read_metadata(document, LOCAL).issuer
    for host in ("evil-localhost", "localhost.evil.example", "xlocalhost"):
        other = LOCAL.replace("psc.localhost", host)
        assert (PSCAnswerRefused, "endpoint_insecure") == outcome(
            lambda other=other: messages.read_metadata(json.dumps(forge.metadata(other)).encode(), other)
        )


def test_default_ports_are_the_same_origin() -> None:
    """:443 is https, spelt out, and :80 is http on this machine; the other way round they are other origins."""
    assert read(jwks_uri=ISSUER.replace(".fr/", ".fr:443/") + "/certs")
    assert (PSCAnswerRefused, "endpoint_foreign") == outcome(lambda: read(jwks_uri=ISSUER.replace(".fr/", ".fr:80/")))
    assert ("https", "a.example", 443) == messages.check_url("https://a.example/x", "x")
    assert ("http", "localhost", 80) == messages.check_url("http://localhost/x", "x")
    assert ("http", "psc.localhost", 8080) == messages.check_url("http://psc.localhost:8080", "x")


@pytest.mark.parametrize("body", [b"[]", HTML, b"", b'{"issuer":"a","issuer":"a"}', b"{" * 100])
def test_IDP_03_metadata_that_is_none(body: bytes) -> None:
    """Anything but one flat-enough JSON object is refused."""
    assert PSCAnswerRefused is outcome(lambda: messages.read_metadata(body, ISSUER))[0]


# -- sign-in ----------------------------------------------------------------------------------------------------------------------


def query(url: str) -> dict[str, str]:
    """The query of an address; a doubled parameter fails the test."""
    pairs = parse_qsl(urlsplit(url).query, keep_blank_values=True, strict_parsing=True)
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def url(provider: Provider = PROVIDER, **options: object) -> str:
    """An authorization URL with sane defaults."""
    return messages.authorization_url(
        provider, CLIENT, **{"state": "s&t", "nonce": "n", "verifier": VERIFIER, **options}
    )


def test_the_authorization_request_psc_asks_for() -> None:
    """psc.md §2: code, both scopes, eidas1, state, nonce, PKCE S256; nothing that was not asked for."""
    found = url()
    assert found.startswith("https://wallet.bas.psc.esante.gouv.fr/auth?")
    assert {
        "response_type": "code",
        "client_id": "hopital-exemple",
        "redirect_uri": "https://auth.hopital.example/psc/callback",
        "scope": "openid scope_all",
        "state": "s&t",
        "nonce": "n",
        "code_challenge": base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode(),
        "code_challenge_method": "S256",
        "acr_values": "eidas1",
    } == query(found)


def test_PKCE_example_of_RFC_7636() -> None:
    """Appendix B's verifier gives appendix B's challenge."""
    found = query(url(verifier="dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"))
    assert "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM" == found["code_challenge"]


def test_stepping_up() -> None:
    """prompt, max_age (zero too), other acr_values and the language are sent when asked for."""
    found = query(url(prompt="login", max_age=0, acr_values=("eidas2", "eidas3"), ui_locales="fr"))
    assert ("login", "0", "eidas2 eidas3", "fr") == tuple(
        found[name] for name in ("prompt", "max_age", "acr_values", "ui_locales")
    )
    assert "acr_values" not in query(url(acr_values=()))


@pytest.mark.parametrize("prompt", ["none", "login", "consent", "select_account"])
def test_every_prompt_of_openid_core_may_be_asked_for(prompt: str) -> None:
    """And a verifier of 43 or of 128 characters is one."""
    assert prompt == query(url(prompt=prompt))["prompt"]
    for length in (43, 128):
        assert query(url(verifier="v" * length))["code_challenge"]
    with pytest.raises(ValueError, match="43 to 128"):
        url(verifier="v" * 42)


def test_an_authorization_endpoint_with_a_query() -> None:
    """What the endpoint already asks stays (RFC 6749 §3.1)."""
    found = query(url(replace(PROVIDER, authorization_endpoint="https://wallet.example/auth?theme=es")))
    assert ("es", "code") == (found["theme"], found["response_type"])


@pytest.mark.parametrize(
    "options",
    [
        *({"state": ""}, {"nonce": ""}, {"verifier": "short"}, {"verifier": "v" * 129}, {"verifier": "é" * 43}),
        *({"prompt": "none login"}, {"max_age": -1}),
    ],
)
def test_what_no_sign_in_can_have(options: dict[str, object]) -> None:
    """A caller's mistake is an exception at once, not a request to PSC."""
    with pytest.raises(ValueError, match=r"needed|prompt|max_age"):
        url(**options)


GOOD = (("state", "s"), ("session_state", "x"), ("iss", ISSUER), ("code", "c.o-d/e"))


def callback(pairs: Sequence[tuple[str, str]], provider: Provider = PROVIDER) -> str:
    """read_callback."""
    return messages.read_callback(pairs, provider)


def test_a_callback_gives_its_code() -> None:
    """The honest answer of Keycloak, with parameters we do not know besides."""
    assert "c.o-d/e" == callback((*GOOD, ("utm", "1"), ("utm", "2")))
    assert "s" == messages.callback_state(GOOD)


@pytest.mark.parametrize("name", ["code", "state", "iss", "error", "error_description", "error_uri", "session_state"])
def test_CB_08_doubled_parameter(name: str) -> None:
    """Twice is never «one of them», even twice the same."""
    value = dict(GOOD).get(name, "x")
    pairs = (*(pair for pair in GOOD if pair[0] != name), (name, value), (name, value))
    assert (SignInRefused, "callback_malformed") == outcome(lambda: callback(pairs))


@pytest.mark.parametrize(
    "pairs",
    [
        (),
        (("state", ""),),
        (("state", "a"), ("state", "a")),
        (("state", "a" * 8192),),
        (("state", "a\n"),),
        (("state", "é"),),
    ],
)
def test_CB_03_state_that_is_none(pairs: Sequence[tuple[str, str]]) -> None:
    """Exactly one state, not empty, not long, printable."""
    assert (SignInRefused, "callback_malformed") == outcome(lambda: messages.callback_state(pairs))


@pytest.mark.parametrize("code", [None, "", "a" * 5000, "a\r\nb", "é", "\0"])
def test_CB_05_code_that_is_none(code: str | None) -> None:
    """No code, or one that no server could have meant."""
    pairs = [pair for pair in GOOD if pair[0] != "code"] + ([("code", code)] if code is not None else [])
    assert (SignInRefused, "callback_malformed") == outcome(lambda: callback(pairs))


def test_CB_05_code_and_error_together() -> None:
    """An answer that says both says nothing."""
    assert (SignInRefused, "callback_malformed") == outcome(lambda: callback((*GOOD, ("error", "access_denied"))))


def test_CB_05_the_description_of_no_error() -> None:
    """A code beside the description of an error is no honest answer."""
    for name in ("error_description", "error_uri"):
        assert (SignInRefused, "callback_malformed") == outcome(lambda n=name: callback((*GOOD, (n, "x"))))


def test_a_callback_with_very_many_parameters() -> None:
    """Nobody needs more than a few."""
    assert "c.o-d/e" == callback(GOOD + (("x", "y"),) * 28)
    assert (SignInRefused, "callback_malformed") == outcome(lambda: callback(GOOD + (("x", "y"),) * 29))


def test_CB_03_CB_05_how_long_a_state_and_a_code_may_be() -> None:
    """4 096 characters, and not one more."""
    rest = tuple(pair for pair in GOOD if pair[0] not in ("code", "state"))
    assert "c" * 4096 == callback((*rest, ("code", "c" * 4096)))
    assert "s" * 4096 == messages.callback_state((("state", "s" * 4096),))
    assert (SignInRefused, "callback_malformed") == outcome(lambda: callback((*rest, ("code", "c" * 4097))))
    assert (SignInRefused, "callback_malformed") == outcome(lambda: messages.callback_state((("state", "s" * 4097),)))


# Of the person unless our registration at PSC or our configuration must be wrong.
OPERATORS = (
    *("invalid_request", "invalid_client", "unauthorized_client", "invalid_scope", "unsupported_response_type"),
    *("unsupported_grant_type", "insufficient_scope"),
)
PERSONS = (
    *("invalid_grant", "access_denied", "interaction_required", "login_required", "account_selection_required"),
    *("consent_required", "request_not_supported", "request_uri_not_supported", "registration_not_supported"),
    *("unmet_authentication_requirements", "invalid_token", "unsupported_token_type", "authorization_pending"),
    *("slow_down", "expired_token", "transaction_failed", "invalid_binding_message", "unknown_user_id"),
    *("missing_user_code", "invalid_user_code", "expired_login_hint_token"),
)


@pytest.mark.parametrize("code", [*OPERATORS, *PERSONS])
def test_every_error_of_the_specifications_is_known_by_its_name(code: str) -> None:
    """RFC 6749, 6750, 7009, OpenID Core, CIBA: the log says what PSC said, and whose doing it is."""
    found = messages.denied(code, "x")
    assert (PSCDenied, code, "x") == (type(found), found.code, found.detail)
    assert (Fault.OPERATOR if code in OPERATORS else Fault.PERSON) == found.fault


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ("access_denied", (PSCDenied, "access_denied")),
        ("login_required", (PSCDenied, "login_required")),
        ("unmet_authentication_requirements", (PSCDenied, "unmet_authentication_requirements")),
        ("temporarily_unavailable", (PSCUnavailable, "temporarily_unavailable")),
        ("server_error", (PSCUnavailable, "server_error")),
        ("<script>alert(1)</script>", (PSCDenied, "unknown_error")),
        ("access_denied\r\nSet-Cookie: a=b", (PSCDenied, "unknown_error")),
        ("", (PSCDenied, "unknown_error")),
        ("x" * 10_000, (PSCDenied, "unknown_error")),
    ],
)
def test_CB_05_error_from_psc(error: str, expected: tuple[type[ForwardAuthError], str]) -> None:
    """The error is one of a known set, whatever was written; its description is not read at all."""
    pairs = (("state", "s"), ("iss", ISSUER), ("error", error), ("error_description", "<b>marker</b>"))
    found = raised(lambda: callback(pairs))
    assert expected == (type(found), found.code)
    assert "marker" not in str(found)
    assert "script" not in str(found)


@pytest.mark.parametrize("iss", [ISSUER + "/", ISSUER.upper(), "https://evil.example", ""])
def test_MIX_02_MIX_03_iss_of_another(iss: str) -> None:
    """Another issuer's answer is refused before anything else of it counts, error or code, announced or not (RFC 9207 §2.4)."""
    for rest in (("code", "c"), ("error", "access_denied")):
        for provider in (PROVIDER, replace(PROVIDER, iss_parameter=False)):
            pairs = (("state", "s"), ("iss", iss), rest)
            assert (PSCAnswerRefused, "iss_mismatch") == outcome(lambda p=pairs, q=provider: callback(p, q))


def test_MIX_02_iss_missing_though_announced() -> None:
    """Announced means compulsory, on errors too; not announced means it may be missing."""
    for rest in (("code", "c"), ("error", "access_denied")):
        assert (PSCAnswerRefused, "iss_mismatch") == outcome(lambda r=rest: callback((("state", "s"), r)))
    assert "c" == callback((("state", "s"), ("code", "c")), replace(PROVIDER, iss_parameter=False))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["code", "state", "iss", "error", "x", ""]), st.text(max_size=5) | st.just(ISSUER)),
        max_size=6,
    )
)
def test_any_callback(pairs: list[tuple[str, str]]) -> None:
    """Any query is a code or one of our errors."""
    with contextlib.suppress(SignInRefused, PSCAnswerRefused, PSCDenied, PSCUnavailable):
        assert callback(pairs)
    with contextlib.suppress(SignInRefused):
        assert messages.callback_state(pairs)


# -- requests ---------------------------------------------------------------------------------------------------------------------


def form(request: Request) -> dict[str, str]:
    """The form of a request, in its one content type."""
    assert request.body is not None
    assert "application/x-www-form-urlencoded" == dict(request.headers)["Content-Type"]
    return dict(parse_qsl(request.body.decode("ascii"), keep_blank_values=True, strict_parsing=True))


def test_oidcc_client_test_client_secret_basic() -> None:
    """RFC 6749 §2.3.1: id and secret are form-encoded before they are joined by a colon."""
    found = messages.code_grant(PROVIDER, CLIENT, code="c&d", verifier=VERIFIER)
    assert ("POST", PROVIDER.token_endpoint) == (found.method, found.url)
    assert {
        "grant_type": "authorization_code",
        "code": "c&d",
        "redirect_uri": "https://auth.hopital.example/psc/callback",
        "code_verifier": VERIFIER,
    } == form(found)
    scheme, _, credentials = dict(found.headers)["Authorization"].partition(" ")
    user, _, password = base64.b64decode(credentials).decode("ascii").partition(":")
    assert ("Basic", "hopital-exemple", "très:secret+1") == (scheme, user, unquote_plus(password))
    assert ":" not in password


def test_client_secret_post() -> None:
    """The other way: both in the form, no header."""
    found = messages.refresh_grant(
        PROVIDER, replace(CLIENT, client_auth="client_secret_post"), refresh_token=Secret("r+/=")
    )
    assert {
        "grant_type": "refresh_token",
        "refresh_token": "r+/=",
        "client_id": "hopital-exemple",
        "client_secret": "très:secret+1",
    } == form(found)
    assert "Authorization" not in dict(found.headers)


@pytest.mark.parametrize("method", ["private_key_jwt", "", "none", "client_secret_Basic"])
def test_a_client_authentication_this_version_does_not_have(method: str) -> None:
    """An unknown method fails when the client is made, not at the first sign-in."""
    with pytest.raises(ValueError, match="client_auth"):
        replace(CLIENT, client_auth=method)


def test_no_secret_in_any_repr() -> None:
    """A request, an answer and tokens may be logged by accident."""
    tokens = messages.read_tokens(answer(token_answer()))
    for thing in (
        messages.code_grant(PROVIDER, CLIENT, code="marker-code", verifier=VERIFIER),
        messages.refresh_grant(PROVIDER, CLIENT, refresh_token=Secret("marker")),
        messages.userinfo_request(PROVIDER, access_token=Secret("marker")),
        answer({"access_token": "marker"}),
        tokens,
        CLIENT,
    ):
        assert not [word for word in ("marker", "très", "Basic", VERIFIER, "acc.ess") if word in repr(thing)]


def test_every_answer_is_asked_for_as_json() -> None:
    """Keycloak would otherwise be free to send a page, or a signed answer."""
    for request in (
        messages.code_grant(PROVIDER, CLIENT, code="c", verifier=VERIFIER),
        messages.refresh_grant(PROVIDER, CLIENT, refresh_token=Secret("r")),
        messages.userinfo_request(PROVIDER, access_token=Secret("a")),
        messages.document_request(PROVIDER.jwks_uri),
    ):
        assert "application/json" == dict(request.headers)["Accept"]


def test_userinfo_is_asked_with_the_token_in_the_header() -> None:
    """userinfo-bearer-header; a token never stands in an address."""
    found = messages.userinfo_request(PROVIDER, access_token=Secret("a.b.c"))
    assert ("GET", PROVIDER.userinfo_endpoint, None) == (found.method, found.url, found.body)
    assert "Bearer a.b.c" == dict(found.headers)["Authorization"]


def test_revocation() -> None:
    """RFC 7009 with our authentication; nothing to send where there is no such endpoint."""
    found = messages.revoke_request(PROVIDER, CLIENT, token=Secret("r"))
    assert found is not None
    assert {"token": "r", "token_type_hint": "refresh_token"} == form(found)
    assert ("POST", PROVIDER.revocation_endpoint) == (found.method, found.url)
    access = messages.revoke_request(PROVIDER, CLIENT, token=Secret("a"), hint="access_token")
    assert access is not None
    assert {"token": "a", "token_type_hint": "access_token"} == form(access)
    assert "Authorization" in dict(found.headers)
    assert messages.revoke_request(replace(PROVIDER, revocation_endpoint=None), CLIENT, token=Secret("r")) is None
    messages.read_revoked(answer(b"", content_type=""))
    assert (PSCDenied, "unsupported_token_type") == outcome(
        lambda: messages.read_revoked(answer({"error": "unsupported_token_type"}, 400))
    )


def test_the_end_of_a_session() -> None:
    """Hint, client, return address and state; no hint when there is none or it is too long for a request line."""
    found = messages.end_session_url(PROVIDER, CLIENT, id_token="a.b.c", state="s")
    assert found is not None
    assert {
        "id_token_hint": "a.b.c",
        "client_id": "hopital-exemple",
        "post_logout_redirect_uri": "https://auth.hopital.example/psc/signed-out",
        "state": "s",
    } == query(found)
    for hint in (None, "a" * 6145):
        short = messages.end_session_url(PROVIDER, CLIENT, id_token=hint, state="s")
        assert short is not None
        assert "id_token_hint" not in query(short)
    longest = messages.end_session_url(PROVIDER, CLIENT, id_token="a" * 6144, state="s" * 200)
    assert longest is not None
    assert len(longest) < 7000
    assert "id_token_hint" in query(longest)
    nowhere = replace(PROVIDER, end_session_endpoint=None)
    assert messages.end_session_url(nowhere, CLIENT, id_token="a", state="s") is None


def test_only_secure_documents_are_asked_for() -> None:
    """A document's address is judged before anything is sent (IDP-08)."""
    assert "GET" == messages.document_request(PROVIDER.jwks_uri).method
    for address in ("file:///etc/passwd", "http://evil.example/", "ftp://localhost/", "gopher://x"):
        assert (PSCAnswerRefused, "endpoint_insecure") == outcome(lambda a=address: messages.document_request(a))


# -- answers ----------------------------------------------------------------------------------------------------------------------


def token_answer(**members: object) -> dict[str, object]:
    """The token endpoint's honest answer (psc.md §3.2), changed."""
    return forge.without(
        {
            "access_token": "acc.ess.token",
            "expires_in": 120,
            "refresh_expires_in": 1800,
            "refresh_token": "ref.resh.token",
            "token_type": "Bearer",
            "id_token": "id.tok.en",
            "not-before-policy": 0,
            "session_state": "x",
            "scope": "openid scope_all",
            **members,
        }
    )


def test_tokens() -> None:
    """All five are read."""
    found = messages.read_tokens(answer(token_answer(), content_type="application/json;charset=UTF-8"))
    assert ("acc.ess.token", 120, 1800) == (found.access_token.reveal(), found.expires_in, found.refresh_expires_in)
    assert found.id_token is not None
    assert found.refresh_token is not None
    assert ("id.tok.en", "ref.resh.token") == (found.id_token.reveal(), found.refresh_token.reveal())


@pytest.mark.parametrize(
    "content_type",
    [
        *(
            "application/json",
            "Application/JSON",
            "application/json ; charset=UTF-8",
            'application/json; charset="utf-8"',
        ),
        *(" application/json ", "application/json;", "application/json; charset = utf-8"),
    ],
)
def test_json_is_json_however_its_type_is_spelt(content_type: str) -> None:
    """Case, spaces and quotes mean nothing there (RFC 9110 §8.3.1)."""
    assert 120 == messages.read_tokens(answer(token_answer(), content_type=content_type)).expires_in


def test_CB_09_how_long_lifetimes_and_tokens_may_be() -> None:
    """Ten years; 8 KiB for an ID token, which travels in an address at sign-out."""
    ten_years = 10 * 365 * 86_400
    assert ten_years == messages.read_tokens(answer(token_answer(expires_in=ten_years))).expires_in
    longest = messages.read_tokens(answer(token_answer(id_token="a" * 8192))).id_token
    assert longest is not None
    assert 8192 == len(longest.reveal())
    assert (PSCAnswerRefused, "tokens_malformed") == outcome(
        lambda: messages.read_tokens(answer(token_answer(refresh_expires_in=ten_years + 1)))
    )


@pytest.mark.parametrize("spelt", ["bearer", "BEARER", "BeArEr"])
def test_CB_09_token_type_case_insensitivity(spelt: str) -> None:
    """Bearer in any case (FAPI token-type-case-insensitivity)."""
    assert 120 == messages.read_tokens(answer(token_answer(token_type=spelt))).expires_in


def test_CB_09_token_endpoint_response_without_expires_in() -> None:
    """What is only recommended may be missing."""
    missing = dict.fromkeys(("expires_in", "refresh_expires_in", "refresh_token", "id_token"), DROP)
    found = messages.read_tokens(answer(token_answer(**missing)))
    assert (None, None, None, None) == (found.expires_in, found.refresh_expires_in, found.refresh_token, found.id_token)
    assert 0 == messages.read_tokens(answer(token_answer(refresh_expires_in=0))).refresh_expires_in


@pytest.mark.parametrize(
    "members",
    [
        *({"token_type": value} for value in ("mac", "DPoP", "", DROP, None, 1, "Bearer ", ["Bearer"])),
        *({"access_token": value} for value in (DROP, None, "", 1, [], "a b", "a\nb", "é", "a" * 1_100_000)),
        *({"id_token": value} for value in ("", 1, {}, "a b", "a" * 8193)),
        *({"refresh_token": value} for value in ("", 1, "a\r\nb")),
        *({"error": value} for value in ("invalid_grant", "", None)),
        *({"expires_in": value} for value in (-1, "120", True, 1.5, [], 10**12)),
        *({"refresh_expires_in": value} for value in (-1, "1800", False, {})),
    ],
)
def test_CB_09_tokens_that_are_none(members: dict[str, object]) -> None:
    """Another type, a token that could not go into a header, a lifetime that is no number: refused."""
    found = outcome(lambda: messages.read_tokens(answer(token_answer(**members))))
    assert found in ((PSCAnswerRefused, "tokens_malformed"), (PSCAnswerRefused, "too_large"))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (answer({"error": "invalid_grant"}, 400), (PSCDenied, "invalid_grant")),
        (answer({"error": "invalid_client", "error_description": "marker"}, 401), (PSCDenied, "invalid_client")),
        (answer({"error": "unauthorized_client"}, 401), (PSCDenied, "unauthorized_client")),
        (answer({"error": "<marker>"}, 400), (PSCDenied, "unknown_error")),
        (answer({"error": "temporarily_unavailable"}, 400), (PSCUnavailable, "temporarily_unavailable")),
        (answer({"error": "invalid_grant"}, 500), (PSCUnavailable, "psc_error")),
        (answer(HTML, 200, "text/html"), (PSCUnavailable, "psc_page")),
        (answer(HTML, 200, "text/html; charset=utf-8"), (PSCUnavailable, "psc_page")),
        (answer(HTML, 404, "text/html"), (PSCUnavailable, "psc_page")),
        (answer(HTML, 200, "Text/HTML ; charset=utf-8"), (PSCUnavailable, "psc_page")),
        (answer(HTML, 200, "application/xhtml+xml"), (PSCUnavailable, "psc_page")),
        (answer({"error": "invalid_grant"}, 499), (PSCDenied, "invalid_grant")),
        (answer({"error": "invalid_grant"}, 399), (PSCAnswerRefused, "unexpected_status")),
        (answer({"error": "invalid_grant"}, 429), (PSCUnavailable, "psc_error")),
        (answer({"error": "invalid_grant"}, 200), (PSCAnswerRefused, "tokens_malformed")),
        (answer(b"", 503, ""), (PSCUnavailable, "psc_error")),
        (answer(b"", 429, ""), (PSCUnavailable, "psc_error")),
        (answer(b"", 302, ""), (PSCAnswerRefused, "unexpected_status")),
        (answer(b"", 204, ""), (PSCAnswerRefused, "unexpected_status")),
        (answer(token_answer(), 201), (PSCAnswerRefused, "unexpected_status")),
        (answer({}, 400), (PSCAnswerRefused, "unexpected_status")),
        (answer({"error": 1}, 400), (PSCAnswerRefused, "unexpected_status")),
        (answer(b"x", 400), (PSCAnswerRefused, "malformed_json")),
        (answer(b"x", 400, "text/plain"), (PSCAnswerRefused, "unexpected_status")),
        (answer(token_answer(), 200, ""), (PSCAnswerRefused, "not_json")),
        (answer(token_answer(), 200, "text/plain"), (PSCAnswerRefused, "not_json")),
        (answer(token_answer(), 200, "application/json; charset=iso-8859-1"), (PSCAnswerRefused, "not_json")),
        (answer(token_answer(), 200, "application/jsonx"), (PSCAnswerRefused, "not_json")),
        (answer(b"[]"), (PSCAnswerRefused, "malformed_json")),
        (answer(b'{"token_type":"Bearer","token_type":"Bearer"}'), (PSCAnswerRefused, "duplicate_member")),
        (answer(b"[" * 100_000), (PSCAnswerRefused, "malformed_json")),
    ],
)
def test_IDP_02_IDP_15_answers_that_are_no_tokens(given: Answer, expected: tuple[type[ForwardAuthError], str]) -> None:
    """Who is at fault: PSC away, PSC says no, or something that must not be believed; nothing of it is quoted."""
    found = raised(lambda: messages.read_tokens(given))
    assert expected == (type(found), found.code)
    assert "marker" not in str(found)


@pytest.mark.parametrize(
    ("code", "fault"),
    [("invalid_client", Fault.OPERATOR), ("invalid_scope", Fault.OPERATOR), ("access_denied", Fault.PERSON)],
)
def test_whose_fault_a_denial_is(code: str, fault: Fault) -> None:
    """A wrong secret is not the professional's doing."""
    assert fault == raised(lambda: messages.read_tokens(answer({"error": code}, 400))).fault
    assert Fault.PERSON == PSCDenied.fault


PERSON = {"sub": "person", "SubjectNameID": "899700000001", "SubjectRefPro": {"exercices": []}}


def test_userinfo() -> None:
    """The claims of the person of the ID token, as they are."""
    assert PERSON == messages.read_userinfo(answer(PERSON), "person")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (answer({**PERSON, "sub": "another"}), (PSCAnswerRefused, "userinfo_other")),
        (answer({"SubjectNameID": "8"}), (PSCAnswerRefused, "userinfo_other")),
        (answer({**PERSON, "sub": ["person"]}), (PSCAnswerRefused, "userinfo_other")),
        (answer([PERSON]), (PSCAnswerRefused, "malformed_json")),
        (answer(b"a.b.c", 200, "application/jwt"), (PSCAnswerRefused, "not_json")),
        (answer(HTML, 200, "text/html"), (PSCUnavailable, "psc_page")),
        (answer({"error": "invalid_token"}, 401), (PSCDenied, "invalid_token")),
        (answer(b"", 401, ""), (PSCDenied, "invalid_token")),
        (answer(b"", 403, ""), (PSCDenied, "insufficient_scope")),
        (answer(b"", 500, ""), (PSCUnavailable, "psc_error")),
        (answer(b'{"sub":"person","sub":"person"}'), (PSCAnswerRefused, "duplicate_member")),
        (answer(b'{"sub":"person","a":' + b"[" * 32 + b"]" * 32 + b"}"), (PSCAnswerRefused, "malformed_json")),
        (answer(b'{"sub":"person","a":"' + b"x" * 1_100_000 + b'"}'), (PSCAnswerRefused, "too_large")),
    ],
)
def test_IDP_11_oidcc_client_test_userinfo_invalid_sub(
    given: Answer, expected: tuple[type[ForwardAuthError], str]
) -> None:
    """Somebody else's claims, a list, a signed answer, a refusal: never half-believed."""
    assert expected == outcome(lambda: messages.read_userinfo(given, "person"))


def test_IDP_11_absent_never_equals_absent() -> None:
    """Without a sub to compare with nothing is accepted."""
    assert (PSCAnswerRefused, "userinfo_other") == outcome(lambda: messages.read_userinfo(answer({"sub": ""}), ""))


@pytest.mark.parametrize(
    ("named", "said", "same"),
    [("8", "8", True), ("8", "9", False), ("8", None, False), ("", "9", True), (DROP, "9", True)],
)
def test_IDP_11_both_name_the_same_professional(named: object, said: object, same: bool) -> None:
    """Where the ID token names the professional, userinfo names the same one."""
    claims = messages.IdClaims(
        ISSUER, "person", None, "eidas1", 1, True, 1, 2, None, forge.without({"SubjectNameID": named})
    )
    if same:
        messages.check_subject(claims, {"SubjectNameID": said}, "SubjectNameID")
    else:
        assert (PSCAnswerRefused, "subject_mismatch") == outcome(
            lambda: messages.check_subject(claims, {"SubjectNameID": said}, "SubjectNameID")
        )


def test_documents() -> None:
    """Metadata and keys come as JSON, keys also under their own type; a 404 can be told apart."""
    assert b"{}" == messages.document(answer(b"{}"))
    assert b"{}" == messages.document(answer(b"{}", content_type="application/jwk-set+json"))
    assert b"{}" == messages.document(answer(b"{}", content_type="application/jwk-set+json ; charset=utf-8"))
    assert (PSCAnswerRefused, "not_found") == outcome(lambda: messages.document(answer(HTML, 404, "text/html")))
    assert (PSCUnavailable, "psc_page") == outcome(lambda: messages.document(answer(HTML, 200, "text/html")))
    assert (PSCAnswerRefused, "unexpected_status") == outcome(lambda: messages.document(answer(b"", 301, "")))
    keys = {"status": 200, "content_type": "application/jwk-set+json"}
    assert (PSCAnswerRefused, "not_json") == outcome(lambda: messages.read_tokens(answer(token_answer(), **keys)))


@settings(max_examples=200, deadline=None)
@given(
    st.integers(100, 599),
    st.sampled_from(["application/json", "text/html", "", "application/jwt", ";", "application/json;charset=x"]),
    st.binary(max_size=40)
    | st.dictionaries(st.sampled_from(["error", "sub", "token_type", "access_token"]), st.text(max_size=6)).map(
        lambda members: json.dumps(members).encode()
    ),
)
def test_any_answer(status: int, content_type: str, body: bytes) -> None:
    """Any answer is read, or is one of our errors; a page for people is never an identity."""
    given = Answer(status, content_type, body)
    for reader in (
        messages.read_tokens,
        lambda a: messages.read_userinfo(a, "person"),
        messages.read_revoked,
        messages.document,
    ):
        with contextlib.suppress(PSCDenied, PSCUnavailable, PSCAnswerRefused):
            reader(given)
            assert 200 == status


class SettingsLike:
    """The shape of `[psc]` that config gives."""

    client_id = "hopital-exemple"
    client_secret = Secret("s")
    client_auth = "client_secret_post"
    scope = "openid scope_all"
    acr_values = ("eidas1",)
    subject_claim = "SubjectNameID"
    userinfo = True


def test_client_from_settings() -> None:
    """Every field is taken over."""
    found = ClientConfig.of(
        SettingsLike(), redirect_uri="https://a.example/cb", post_logout_redirect_uri="https://a.example/out"
    )
    assert (
        "hopital-exemple",
        "client_secret_post",
        "https://a.example/cb",
        "https://a.example/out",
        ("eidas1",),
        True,
    ) == (
        found.client_id,
        found.client_auth,
        found.redirect_uri,
        found.post_logout_redirect_uri,
        found.acr_values,
        found.userinfo,
    )
