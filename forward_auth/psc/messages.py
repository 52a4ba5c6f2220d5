"""Each message to PSC built, each answer checked. Pure: no I/O, no clock of its own.

Authorization request and callback, code and refresh grants, userinfo, revocation, end of session, metadata. The signed tokens
inside the answers are judged in tokens.py, whose names are handed on here. Sources: RFC 6749, 6750, 7009, 7636, 8414, 9207, OpenID
Core, RP-Initiated Logout; PSC's habits from the project's facts on it. Refuses: doubled parameters, answers that are not JSON,
endpoints that are not https (plain http for `localhost` and `*.localhost` only) or not at the issuer's own origin.
"""

import base64
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NoReturn, Protocol
from urllib.parse import quote_plus, urlencode, urlsplit

from authlib.common.urls import add_params_to_uri  # type: ignore[import-untyped]  # Authlib ships no types
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri  # type: ignore[import-untyped]  # as above
from authlib.oauth2.rfc7636 import create_s256_code_challenge  # type: ignore[import-untyped]  # as above

from forward_auth.errors import Fault, ForwardAuthError, PSCAnswerRefused, PSCDenied, PSCUnavailable, SignInRefused
from forward_auth.psc.strict import parse_json, parse_object
from forward_auth.psc.tokens import (
    TOKEN_LIMIT,
    IdClaims,
    LogoutClaims,
    UnknownKey,
    check_id_token,
    check_logout_token,
    check_refreshed,
)
from forward_auth.secret import Secret

ISSUERS: Final[Mapping[str, str]] = {
    "bas": "https://auth.bas.psc.esante.gouv.fr/auth/realms/esante-wallet",
    "production": "https://auth.esw.esante.gouv.fr/auth/realms/esante-wallet",
}
"""The issuer of each environment of PSC."""
WALLET_DISCOVERY: Final = "/.well-known/wallet-openid-configuration"
"""PSC's own metadata: its authorization endpoint is the page where people choose card or mobile."""
PLAIN_DISCOVERY: Final = "/.well-known/openid-configuration"

BODY_LIMIT: Final = 1024 * 1024
METADATA_LIMIT: Final = 256 * 1024
_URL_LIMIT: Final = 2048
_PARAMETER_LIMIT: Final = 4096
_HINT_LIMIT: Final = 6144  # an end_session URL must fit the 8 KiB that proxies give a request line and a header
_MOST_PARAMETERS: Final = 32
_MOST_SECONDS: Final = 10 * 365 * 86_400

_VSCHAR: Final = re.compile(r"[\x20-\x7e]+")
_URL: Final = re.compile(r"[\x21\x23-\x5b\x5d\x5f\x61-\x7a\x7e]+")  # printable ASCII without " \ ^ ` { | }
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/=-]+")  # RFC 6750 §2.1 b64token, a little wider
_VERIFIER: Final = re.compile(r"[A-Za-z0-9._~-]{43,128}")
_PROMPTS: Final = frozenset({"none", "login", "consent", "select_account"})
_CALLBACK: Final = frozenset({"code", "state", "iss", "error", "error_description", "error_uri", "session_state"})
_DENIALS: Final = frozenset(
    {
        # RFC 6749 §4.1.2.1 and §5.2
        *(
            "invalid_request",
            "invalid_client",
            "invalid_grant",
            "unauthorized_client",
            "access_denied",
            "invalid_scope",
        ),
        *("unsupported_response_type", "unsupported_grant_type"),
        # OpenID Core §3.1.2.6, Unmet Authentication Requirements
        *("interaction_required", "login_required", "account_selection_required", "consent_required"),
        *("request_not_supported", "request_uri_not_supported", "registration_not_supported"),
        "unmet_authentication_requirements",
        # RFC 6750 §3.1, RFC 7009 §2.2.1, CIBA §11
        *("invalid_token", "insufficient_scope", "unsupported_token_type"),
        *("authorization_pending", "slow_down", "expired_token", "transaction_failed", "invalid_binding_message"),
        *("unknown_user_id", "missing_user_code", "invalid_user_code", "expired_login_hint_token"),
    }
)
_TEMPORARY: Final = frozenset({"server_error", "temporarily_unavailable"})
# Errors that no professional can do anything about: the registration at PSC or our configuration is wrong.
_OPERATOR: Final = frozenset(
    {
        *("invalid_client", "unauthorized_client", "invalid_request", "invalid_scope"),
        *("unsupported_response_type", "unsupported_grant_type", "insufficient_scope"),
    }
)
UNKNOWN_ERROR: Final = "unknown_error"
"""The code of a PSCDenied whose error PSC spelt in a way no specification knows."""


class Configured(Protocol):
    """What is needed of `[psc]` here (config.PSCSettings has it)."""

    @property
    def client_id(self) -> str: ...
    @property
    def client_secret(self) -> Secret: ...
    @property
    def client_auth(self) -> str: ...
    @property
    def scope(self) -> str: ...
    @property
    def acr_values(self) -> tuple[str, ...]: ...
    @property
    def subject_claim(self) -> str: ...
    @property
    def userinfo(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Provider:
    """PSC's metadata, as far as we use it. Made by read_metadata only."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    userinfo_endpoint: str
    jwks_uri: str
    end_session_endpoint: str | None = None
    introspection_endpoint: str | None = None
    revocation_endpoint: str | None = None
    iss_parameter: bool = False  # RFC 9207: every answer to the callback carries `iss`


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """How PSC knows us. Raises ValueError for a client authentication this version does not have."""

    client_id: str
    client_secret: Secret
    client_auth: str
    redirect_uri: str
    post_logout_redirect_uri: str
    scope: str
    acr_values: tuple[str, ...]
    subject_claim: str
    userinfo: bool

    def __post_init__(self) -> None:
        if self.client_auth not in AUTHENTICATIONS:
            raise ValueError(f"client_auth is none of {', '.join(AUTHENTICATIONS)}")

    @classmethod
    def of(cls, settings: Configured, *, redirect_uri: str, post_logout_redirect_uri: str) -> "ClientConfig":
        """From `[psc]` and the two addresses that are declared to the ANS."""
        return cls(
            client_id=settings.client_id,
            client_secret=settings.client_secret,
            client_auth=settings.client_auth,
            redirect_uri=redirect_uri,
            post_logout_redirect_uri=post_logout_redirect_uri,
            scope=settings.scope,
            acr_values=settings.acr_values,
            subject_claim=settings.subject_claim,
            userinfo=settings.userinfo,
        )


@dataclass(frozen=True, slots=True)
class Request:
    """One request to PSC, ready to be sent. Its repr shows the address only: headers and body hold credentials."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, bounded by the client. `content_type` is the raw header, "" when absent."""

    status: int
    content_type: str
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """The answer of the token endpoint. Lifetimes in seconds, None when PSC did not say."""

    access_token: Secret
    id_token: Secret | None
    refresh_token: Secret | None
    expires_in: int | None
    refresh_expires_in: int | None


# ---- metadata -------------------------------------------------------------------------------------------------------------------


def read_metadata(body: bytes, issuer: str) -> Provider:
    """PSC's metadata document (OpenID Discovery §4.3, RFC 8414 §3.3).

    `issuer` must come back byte for byte. Authorization may live on any host (the wallet); token, userinfo, keys, introspection and
    revocation must be at the issuer's origin, end_session there or where authorization is. Raises PSCAnswerRefused:
    `issuer_mismatch`, `metadata_malformed`, `endpoint_insecure`, `endpoint_foreign`, and what parse_json raises.
    """
    document = parse_object(body, METADATA_LIMIT)
    if document.get("issuer") != issuer:
        raise PSCAnswerRefused("issuer_mismatch", "the metadata is of another issuer than the configured one")
    home = check_url(issuer, "issuer")

    def endpoint(name: str) -> str | None:
        value = document.get(name)
        if value is None:
            return None
        if not isinstance(value, str):
            raise PSCAnswerRefused("metadata_malformed", f"{name} is not text")
        check_url(value, name)
        return value

    def required(name: str) -> str:
        value = endpoint(name)
        if value is None:
            raise PSCAnswerRefused("metadata_malformed", f"{name} is missing")
        return value

    provider = Provider(
        issuer=issuer,
        authorization_endpoint=required("authorization_endpoint"),
        token_endpoint=required("token_endpoint"),
        userinfo_endpoint=required("userinfo_endpoint"),
        jwks_uri=required("jwks_uri"),
        end_session_endpoint=endpoint("end_session_endpoint"),
        introspection_endpoint=endpoint("introspection_endpoint"),
        revocation_endpoint=endpoint("revocation_endpoint"),
        iss_parameter=document.get("authorization_response_iss_parameter_supported") is True,
    )
    for name in ("token_endpoint", "userinfo_endpoint", "jwks_uri", "introspection_endpoint", "revocation_endpoint"):
        value = getattr(provider, name)
        if value is not None and check_url(value, name) != home:
            raise PSCAnswerRefused("endpoint_foreign", f"{name} is not at the issuer's origin")
    ending = provider.end_session_endpoint
    if ending is not None and check_url(ending, "end_session_endpoint") not in (
        home,
        check_url(provider.authorization_endpoint, "authorization_endpoint"),
    ):
        raise PSCAnswerRefused("endpoint_foreign", "end_session_endpoint is neither at the issuer nor at the wallet")
    return provider


def check_url(url: str, name: str) -> tuple[str, str, int]:
    """The origin (scheme, host, port) of an address of PSC. Raises PSCAnswerRefused `endpoint_insecure` when it may not be used."""
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname or "", parts.port
    except ValueError:
        scheme, host, port = "", "", None
    local = host == "localhost" or host.endswith(".localhost")
    secure = scheme == "https" or (scheme == "http" and local)
    if not secure or not host or len(url) > _URL_LIMIT or not _URL.fullmatch(url) or "#" in url or "@" in parts.netloc:
        raise PSCAnswerRefused("endpoint_insecure", f"{name} is not a plain https address")
    return scheme, host, port or (443 if scheme == "https" else 80)


# ---- sign-in --------------------------------------------------------------------------------------------------------------------


def authorization_url(
    provider: Provider,
    client: ClientConfig,
    *,
    state: str,
    nonce: str,
    verifier: str,
    prompt: str | None = None,
    max_age: int | None = None,
    acr_values: Sequence[str] | None = None,
    ui_locales: str | None = None,
) -> str:
    """Where to send the browser (RFC 6749 §4.1.1, OpenID Core §3.1.2.1, PKCE S256 always).

    `verifier`: 43 to 128 characters of RFC 7636 §4.1, made for this sign-in alone. `max_age` in seconds. `acr_values` None: those of the
    configuration. Raises ValueError when a caller gives something no sign-in can have.
    """
    if not state or not nonce or not _VERIFIER.fullmatch(verifier):
        raise ValueError("state, nonce and a verifier of 43 to 128 characters are needed")
    if prompt is not None and prompt not in _PROMPTS:
        raise ValueError("prompt is none of those of OpenID Core")
    if max_age is not None and max_age < 0:
        raise ValueError("max_age is negative")
    acceptable = client.acr_values if acr_values is None else acr_values
    url = prepare_grant_uri(
        provider.authorization_endpoint,
        client_id=client.client_id,
        response_type="code",
        redirect_uri=client.redirect_uri,
        scope=client.scope,
        state=state,
        nonce=nonce,
        code_challenge=create_s256_code_challenge(verifier),
        code_challenge_method="S256",
        acr_values=" ".join(acceptable) or None,
        prompt=prompt,
        max_age=max_age,
        ui_locales=ui_locales,
    )
    return str(url)


def callback_state(pairs: Sequence[tuple[str, str]]) -> str:
    """The one `state` of a callback's decoded query. Raises SignInRefused `callback_malformed`."""
    states = [value for name, value in pairs if name == "state"]
    if len(states) != 1 or not _bounded(states[0]):
        raise SignInRefused("callback_malformed", "not exactly one short state")
    return states[0]


def read_callback(pairs: Sequence[tuple[str, str]], provider: Provider) -> str:
    """The code of a callback's decoded query, after its `state` has been found to be ours (RFC 6749 §4.1.2, RFC 9207).

    Raises SignInRefused `callback_malformed` (a doubled, missing or overlong parameter; code and error together), PSCAnswerRefused
    `iss_mismatch` (another issuer answers, or none although PSC announces `iss`; also for errors: threats MIX-02, MIX-03), PSCDenied
    (`code` is the OAuth error, `unknown_error` when no specification knows it), PSCUnavailable `server_error` or
    `temporarily_unavailable`. What PSC says in `error_description` is never read.
    """
    if len(pairs) > _MOST_PARAMETERS:
        raise SignInRefused("callback_malformed", "too many parameters")
    names = [name for name, _ in pairs if name in _CALLBACK]
    if len(set(names)) != len(names):
        raise SignInRefused("callback_malformed", "a parameter appears twice")
    given = {name: value for name, value in pairs if name in _CALLBACK}
    issuer = given.get("iss")
    if (issuer is None and provider.iss_parameter) or (issuer is not None and issuer != provider.issuer):
        raise PSCAnswerRefused("iss_mismatch", "iss of the callback is not the configured issuer")
    if "error" in given:
        if "code" in given:
            raise SignInRefused("callback_malformed", "code and error together")
        raise denied(given["error"], "PSC sent the browser back with an error")
    if "error_description" in given or "error_uri" in given:
        raise SignInRefused("callback_malformed", "the description of an error, but no error")
    code = given.get("code")
    if code is None or not _bounded(code):
        raise SignInRefused("callback_malformed", "no code")
    return code


def _bounded(value: str) -> bool:
    return len(value) <= _PARAMETER_LIMIT and _VSCHAR.fullmatch(value) is not None


def denied(error: str, detail: str) -> ForwardAuthError:
    """The exception for an OAuth error, to be raised. Its code is one of a known set, whatever PSC or a stranger wrote."""
    if error in _TEMPORARY:
        return PSCUnavailable(error, detail)
    refusal = PSCDenied(error if error in _DENIALS else UNKNOWN_ERROR, detail)
    if error in _OPERATOR:
        refusal.fault = Fault.OPERATOR
    return refusal


# ---- requests -------------------------------------------------------------------------------------------------------------------

Authenticated = tuple[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]]
"""(headers, form parameters) that prove who we are."""


def _client_secret_basic(client: ClientConfig, endpoint: str) -> Authenticated:
    # RFC 6749 §2.3.1: both halves are form-encoded before they are joined, so that a colon in either stays what it is.
    pair = f"{quote_plus(client.client_id)}:{quote_plus(client.client_secret.reveal())}"
    return (("Authorization", "Basic " + base64.b64encode(pair.encode("ascii")).decode("ascii")),), ()


def _client_secret_post(client: ClientConfig, endpoint: str) -> Authenticated:
    return (), (("client_id", client.client_id), ("client_secret", client.client_secret.reveal()))


AUTHENTICATIONS: Final[Mapping[str, Callable[[ClientConfig, str], Authenticated]]] = {
    "client_secret_basic": _client_secret_basic,
    "client_secret_post": _client_secret_post,
}
"""client_auth -> what it adds to a request to `endpoint`. client_secret_jwt, private_key_jwt and the certificate methods go here."""


def _form(client: ClientConfig, endpoint: str, parameters: Sequence[tuple[str, str]]) -> Request:
    headers, own = AUTHENTICATIONS[client.client_auth](client, endpoint)
    return Request(
        "POST",
        endpoint,
        (("Content-Type", "application/x-www-form-urlencoded"), ("Accept", "application/json"), *headers),
        urlencode((*parameters, *own)).encode("ascii"),
    )


def code_grant(provider: Provider, client: ClientConfig, *, code: str, verifier: str) -> Request:
    """RFC 6749 §4.1.3 with RFC 7636 §4.5. To be sent once: PSC ends the session when a code comes a second time."""
    return _form(
        client,
        provider.token_endpoint,
        (
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", client.redirect_uri),
            ("code_verifier", verifier),
        ),
    )


def refresh_grant(provider: Provider, client: ClientConfig, *, refresh_token: Secret) -> Request:
    """RFC 6749 §6."""
    return _form(
        client,
        provider.token_endpoint,
        (("grant_type", "refresh_token"), ("refresh_token", refresh_token.reveal())),
    )


def revoke_request(
    provider: Provider, client: ClientConfig, *, token: Secret, hint: str = "refresh_token"
) -> Request | None:
    """RFC 7009 §2.1; None when PSC announces no revocation endpoint."""
    if provider.revocation_endpoint is None:
        return None
    return _form(client, provider.revocation_endpoint, (("token", token.reveal()), ("token_type_hint", hint)))


def userinfo_request(provider: Provider, *, access_token: Secret) -> Request:
    """OpenID Core §5.3.1, with the token in the header, never in the address."""
    return Request(
        "GET",
        provider.userinfo_endpoint,
        (("Accept", "application/json"), ("Authorization", "Bearer " + access_token.reveal())),
    )


def document_request(url: str) -> Request:
    """Metadata and signing keys. Raises PSCAnswerRefused `endpoint_insecure`."""
    check_url(url, "address of a document")
    return Request("GET", url, (("Accept", "application/json"),))


def end_session_url(provider: Provider, client: ClientConfig, *, id_token: str | None, state: str) -> str | None:
    """Where to send the browser to end the session at PSC (RP-Initiated Logout §2); None when PSC announces no such address.

    The hint is left out when there is none or the address would grow too long for a proxy: PSC then asks the person to confirm.
    """
    if provider.end_session_endpoint is None:
        return None
    parameters = [
        ("client_id", client.client_id),
        ("post_logout_redirect_uri", client.post_logout_redirect_uri),
        ("state", state),
    ]
    if id_token is not None and len(id_token) <= _HINT_LIMIT:
        parameters.insert(0, ("id_token_hint", id_token))
    return str(add_params_to_uri(provider.end_session_endpoint, parameters))


# ---- answers --------------------------------------------------------------------------------------------------------------------


def read_tokens(answer: Answer) -> Tokens:
    """The tokens (RFC 6749 §5.1), `token_type` being Bearer in any case; the ID token in it is still to be checked.

    Raises PSCDenied (`invalid_grant`, `invalid_client` …), PSCUnavailable (5xx, 429, HTML in whatever status) and PSCAnswerRefused
    (`unexpected_status`, `not_json`, `tokens_malformed`, and what parse_json raises).
    """
    members = _object_of(answer)
    if "error" in members:
        raise PSCAnswerRefused("tokens_malformed", "tokens and an error together")
    kind = members.get("token_type")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise PSCAnswerRefused("tokens_malformed", "token_type is not Bearer")
    access_token = _token(members, "access_token", BODY_LIMIT)
    if access_token is None:
        raise PSCAnswerRefused("tokens_malformed", "access_token is missing")
    return Tokens(
        access_token=access_token,
        id_token=_token(members, "id_token", TOKEN_LIMIT),
        refresh_token=_token(members, "refresh_token", BODY_LIMIT),
        expires_in=_seconds(members, "expires_in"),
        refresh_expires_in=_seconds(members, "refresh_expires_in"),
    )


def read_userinfo(answer: Answer, sub: str) -> dict[str, object]:
    """The claims of the person `sub` (OpenID Core §5.3.2). Plain JSON only: what PSC sends; a signed answer would need its own checks.

    Raises as read_tokens, PSCDenied `invalid_token` or `insufficient_scope` for 401 and 403, and PSCAnswerRefused `userinfo_other`
    when they are somebody else's (threats IDP-11).
    """
    if answer.status in (401, 403):
        raise denied("invalid_token" if answer.status == 401 else "insufficient_scope", "userinfo refused the token")
    members = _object_of(answer)
    if not sub or members.get("sub") != sub:
        raise PSCAnswerRefused("userinfo_other", "sub of userinfo is not that of the ID token")
    return members


def check_subject(id_claims: IdClaims, userinfo: Mapping[str, object], claim: str) -> None:
    """Where both name the professional (`SubjectNameID`, psc.md §4.2), they name the same one.

    `sub` already ties the two together; this is about the value that rules and applications go by. Raises PSCAnswerRefused
    `subject_mismatch`.
    """
    named = id_claims.claims.get(claim, "")
    if named != "" and named != userinfo.get(claim):
        raise PSCAnswerRefused("subject_mismatch", f"{claim} of userinfo is not that of the ID token")


def read_revoked(answer: Answer) -> None:
    """RFC 7009 §2.2: any 200 will do. Raises as read_tokens otherwise."""
    if answer.status != 200:
        _refuse(answer)


def document(answer: Answer) -> bytes:
    """The bytes of metadata or keys, not yet parsed. Raises as read_tokens; `not_found` for a 404."""
    if answer.status == 404:
        raise PSCAnswerRefused("not_found", "no document at that address")
    if answer.status != 200 or not _is_json(answer, ("application/jwk-set+json",)):
        _refuse(answer)
    return answer.body


def _object_of(answer: Answer) -> dict[str, object]:
    if answer.status != 200 or not _is_json(answer):
        _refuse(answer)
    return parse_object(answer.body, BODY_LIMIT)


def _is_json(answer: Answer, also: Collection[str] = ()) -> bool:
    kind, _, parameters = answer.content_type.lower().partition(";")
    charset = parameters.replace(" ", "").replace('"', "")
    return (kind.strip() == "application/json" or kind.strip() in also) and charset in ("", "charset=utf-8")


def _refuse(answer: Answer) -> NoReturn:
    """Says why an answer that is not the expected one is none; always raises."""
    kind = answer.content_type.lower().partition(";")[0].strip()
    if answer.status >= 500 or answer.status == 429:
        raise PSCUnavailable("psc_error", f"PSC answered {answer.status}")
    if kind in ("text/html", "application/xhtml+xml"):
        # Maintenance pages come with any status, 200 included (threats IDP-02, IDP-15).
        raise PSCUnavailable("psc_page", f"PSC answered {answer.status} with a page for people")
    if 400 <= answer.status < 500 and _is_json(answer):
        error = parse_object(answer.body, BODY_LIMIT).get("error")
        if isinstance(error, str):
            raise denied(error, f"PSC answered {answer.status} with an error")
    if answer.status != 200:
        raise PSCAnswerRefused("unexpected_status", f"PSC answered {answer.status}")
    raise PSCAnswerRefused("not_json", "PSC answered 200, but not JSON in UTF-8")


def _token(members: Mapping[str, object], name: str, limit: int) -> Secret | None:
    value = members.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > limit or not _TOKEN.fullmatch(value):
        # Whatever else it holds would have to go into a header or a form as it is.
        raise PSCAnswerRefused("tokens_malformed", f"{name} is not a token")
    return Secret(value)


def _seconds(members: Mapping[str, object], name: str) -> int | None:
    value = members.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MOST_SECONDS:
        raise PSCAnswerRefused("tokens_malformed", f"{name} is not a number of seconds")
    return value


__all__ = [
    "AUTHENTICATIONS",
    "ISSUERS",
    "PLAIN_DISCOVERY",
    "UNKNOWN_ERROR",
    "WALLET_DISCOVERY",
    "Answer",
    "ClientConfig",
    "Configured",
    "IdClaims",
    "LogoutClaims",
    "Provider",
    "Request",
    "Tokens",
    "UnknownKey",
    "authorization_url",
    "callback_state",
    "check_id_token",
    "check_logout_token",
    "check_refreshed",
    "check_subject",
    "check_url",
    "code_grant",
    "denied",
    "document",
    "document_request",
    "end_session_url",
    "parse_json",
    "read_callback",
    "read_metadata",
    "read_revoked",
    "read_tokens",
    "read_userinfo",
    "refresh_grant",
    "revoke_request",
    "userinfo_request",
]
