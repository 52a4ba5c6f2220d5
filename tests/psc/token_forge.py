"""A pretend issuer for the tests of psc/: signs with `cryptography` alone, so that hostile tokens can have any shape."""

import base64
import hashlib
import json
from functools import cache

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from forward_auth.psc.keys import KeySet, read_jwks
from forward_auth.psc.messages import ClientConfig, Provider, read_metadata
from forward_auth.secret import Secret

NOW = 1_800_000_000
ISSUER = "https://auth.bas.psc.esante.gouv.fr/auth/realms/esante-wallet"
CLIENT_ID = "hopital-exemple"
NONCE = "n" * 43
ACCESS_TOKEN = "access.token.value"
VERIFIER = "v" * 43
DROP = object()
"""As a claim's value: leave the claim out."""


def key(name: str = "one", bits: int = 2048) -> rsa.RSAPrivateKey:
    """The key of that name, made once per run."""
    return _made(name, bits)


@cache
def _made(name: str, bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


def b64(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int) -> str:
    """A JWK number."""
    return b64(value.to_bytes((value.bit_length() + 7) // 8))


def jwk(name: str = "one", *, bits: int = 2048, **members: object) -> dict[str, object]:
    """The public JWK of a key; `members` are added, or dropped with DROP."""
    public = key(name, bits).public_key().public_numbers()
    found = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": name, "n": number(public.n), "e": number(public.e)}
    return without({**found, **members})


def jwks(*members: dict[str, object]) -> bytes:
    """The JWKS of these keys, by default of the key «one»."""
    return json.dumps({"keys": list(members) or [jwk()]}).encode()


def keyset(*names: str) -> KeySet:
    """The set of these keys, by default of «one»."""
    return read_jwks(jwks(*(jwk(name) for name in names or ("one",))))


def without(members: dict[str, object]) -> dict[str, object]:
    """The members that are not DROP."""
    return {name: value for name, value in members.items() if value is not DROP}


def at_hash(access_token: str = ACCESS_TOKEN) -> str:
    """OpenID Core §3.1.3.6 for RS256."""
    return b64(hashlib.sha256(access_token.encode()).digest()[:16])


def header(**members: object) -> dict[str, object]:
    """An honest header, changed."""
    return without({"alg": "RS256", "typ": "JWT", "kid": "one", **members})


def id_claims(**members: object) -> dict[str, object]:
    """The claims of an honest ID token as psc.md §4.2 and Keycloak show them, changed."""
    return without(
        {
            "exp": NOW + 120,
            "iat": NOW,
            "auth_time": NOW - 30,
            "jti": "onrtac:1b2c",
            "iss": ISSUER,
            "aud": CLIENT_ID,
            "sub": "c5869b2a-0000-4000-8000-000000000000",
            "typ": "ID",
            "azp": CLIENT_ID,
            "nonce": NONCE,
            "sid": "e0e82435-0000-4000-8000-000000000000",
            "at_hash": at_hash(),
            "acr": "eidas1",
            "SubjectNameID": "899700000001",
            "preferred_username": "899700000001",
            "given_name": "CAMILLE",
            "family_name": "DUPONT",
            **members,
        }
    )


def logout_claims(**members: object) -> dict[str, object]:
    """The claims of an honest logout token (Keycloak's), changed."""
    return without(
        {
            "iss": ISSUER,
            "aud": CLIENT_ID,
            "sub": "c5869b2a-0000-4000-8000-000000000000",
            "sid": "e0e82435-0000-4000-8000-000000000000",
            "iat": NOW,
            "exp": NOW + 120,
            "jti": "9f3c",
            "typ": "Logout",
            "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
            **members,
        }
    )


def sign(
    head: dict[str, object] | bytes,
    payload: dict[str, object] | bytes,
    *,
    by: str = "one",
    bits: int = 2048,
) -> str:
    """A token signed RS256, whatever its header says."""
    parts = b64(as_bytes(head)) + "." + b64(as_bytes(payload))
    return parts + "." + b64(key(by, bits).sign(parts.encode(), padding.PKCS1v15(), hashes.SHA256()))


def as_bytes(value: object) -> bytes:
    """JSON, unless it is bytes already."""
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def id_token(**members: object) -> str:
    """An honest ID token with changed claims, well signed."""
    return sign(header(), id_claims(**members))


def logout_token(**members: object) -> str:
    """An honest logout token with changed claims, well signed."""
    return sign(header(typ="logout+jwt"), logout_claims(**members))


def metadata(issuer: str = ISSUER, **members: object) -> dict[str, object]:
    """PSC's metadata document, as far as it matters, changed."""
    home = issuer + "/protocol/openid-connect"
    return without(
        {
            "issuer": issuer,
            "authorization_endpoint": issuer.split("/auth/realms")[0].replace("://auth.", "://wallet.") + "/auth",
            "token_endpoint": home + "/token",
            "introspection_endpoint": home + "/token/introspect",
            "userinfo_endpoint": home + "/userinfo",
            "end_session_endpoint": home + "/logout",
            "jwks_uri": home + "/certs",
            "revocation_endpoint": home + "/revoke",
            "acr_values_supported": ["0", "0"],
            "id_token_signing_alg_values_supported": ["PS384", "HS256", "RS256"],
            "authorization_response_iss_parameter_supported": True,
            **members,
        }
    )


PROVIDER: Provider = read_metadata(json.dumps(metadata()).encode(), ISSUER)
CLIENT = ClientConfig(
    client_id=CLIENT_ID,
    client_secret=Secret("très:secret+1"),
    client_auth="client_secret_basic",
    redirect_uri="https://auth.hopital.example/psc/callback",
    post_logout_redirect_uri="https://auth.hopital.example/psc/signed-out",
    scope="openid scope_all",
    acr_values=("eidas1",),
    subject_claim="SubjectNameID",
    userinfo=True,
)
