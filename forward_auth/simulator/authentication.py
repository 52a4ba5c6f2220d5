"""Which client is asking: the ways a service proves itself at the token endpoint and the others.

For: `client_secret_basic`, `client_secret_post`, `private_key_jwt`, `client_secret_jwt`, `tls_client_auth`. Refuses: no proof at
all («none»), a wrong one, an assertion used twice. No network and no clock.
"""

import base64
import binascii
import hmac
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote_plus

import jwt

from .realm import Client, OAuthError, Realm

_ASSERTION: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def authenticate(
    realm: Realm,
    header: str,
    form: Mapping[str, str],
    *,
    certificate: str,
    audiences: tuple[str, ...],
    now: int,
) -> Client:
    """The client that sent this form. `header`: Authorization; `certificate`: common name of its certificate, "" without;
    `audiences`: what a signed assertion may name. Raises OAuthError (401, or 400 for a bad assertion)."""
    if header[:6].lower() == "basic ":
        try:
            text = base64.b64decode(header[6:], validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise OAuthError("invalid_client", "Invalid client or Invalid client credentials", 401) from error
        client_id, _, secret = text.partition(":")
        client_id, secret = unquote_plus(client_id), unquote_plus(secret)  # RFC 6749 §2.3.1
        if form.get("client_id", client_id) != client_id:
            raise OAuthError("invalid_client", "client_id differs from the Authorization header", 401)
        return _with_secret(realm, client_id, secret)
    if form.get("client_assertion_type") == _ASSERTION:
        return _with_assertion(realm, form.get("client_assertion", ""), form.get("client_id", ""), audiences, now)
    client_id = form.get("client_id", "")
    if "client_secret" in form:
        return _with_secret(realm, client_id, form["client_secret"])
    client = realm.client(client_id)
    if (
        client is not None
        and client.tls_subject
        and hmac.compare_digest(client.tls_subject.encode(), certificate.encode())
    ):
        return client
    raise OAuthError("unauthorized_client", "Invalid client or Invalid client credentials", 401)


def _with_secret(realm: Realm, client_id: str, secret: str) -> Client:
    client = realm.client(client_id)
    if client is None:
        raise OAuthError("invalid_client", "Invalid client or Invalid client credentials", 401)
    good = bool(secret) if client.open else hmac.compare_digest(client.secret.encode(), secret.encode())
    if not good or not secret:
        raise OAuthError("unauthorized_client", "Invalid client or Invalid client credentials", 401)
    return client


def _with_assertion(realm: Realm, assertion: str, named: str, audiences: tuple[str, ...], now: int) -> Client:
    """private_key_jwt (the client's `jwks`) and client_secret_jwt, as RFC 7523 §3 and Keycloak ask."""
    wrong = OAuthError("invalid_client", "Client assertion is not valid", 400)
    try:
        header = jwt.get_unverified_header(assertion)
        unverified = jwt.decode(assertion, options={"verify_signature": False})
        client = realm.client(str(unverified.get("sub", "")))
        if client is None or named not in ("", client.client_id):
            raise wrong
        key: Any
        if header.get("alg") in ("HS256", "HS384", "HS512") and client.secret:
            key = client.secret
        elif client.jwks is not None:
            published = jwt.PyJWKSet.from_dict(dict(client.jwks)).keys
            key = next(k for k in published if header.get("kid") in (None, k.key_id)).key
        else:
            raise wrong
        claims = jwt.decode(
            assertion,
            key,
            algorithms=[str(header.get("alg"))],
            issuer=client.client_id,
            options={
                "require": ["exp", "jti", "sub", "aud"],
                "verify_aud": False,
                "verify_exp": False,
                "verify_iat": False,
            },
        )
    except (jwt.PyJWTError, StopIteration, ValueError, TypeError) as error:
        raise wrong from error
    if (
        claims["aud"] not in audiences
        or not now < claims["exp"] <= now + 3600
        or claims.get("iat", now) > now + 30
        or claims["jti"] in realm.assertions
    ):
        raise wrong
    realm.assertions.add(claims["jti"])
    return client
