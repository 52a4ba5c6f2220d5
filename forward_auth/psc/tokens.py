"""Which signed tokens are believed: ID tokens at sign-in and at renewal, and logout tokens. Here `acr` is checked.

PyJWT verifies the signature and nothing else; every check of the claims is ours and takes `now`, because PyJWT 2.15 leaves open
what must be closed (several audiences, `azp`, `typ`, times as text, 1e300, duplicate members, a second spelling of the same token)
and reads its own clock. Sources: OpenID Core §3.1.3.7 and §12.2, Back-Channel Logout §2.6, RFC 8725. Refuses: any algorithm but
RS256, any key that is not in the issuer's own set, any header that brings or names a key, and every doubt. A refusal names the
check that failed, never the value that failed it.
"""

import hashlib
import hmac
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

import jwt

from forward_auth.errors import PSCAnswerRefused
from forward_auth.psc.keys import KeySet, UnknownKey
from forward_auth.psc.strict import decode_base64url, encode_base64url, parse_object

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

TOKEN_LIMIT: Final = 8192
"""Longest token read, in bytes, before any decoding (threats DOS-01)."""
SKEW: Final = 60
"""Seconds by which PSC's clock and ours may differ."""
FRESH: Final = 600
"""Oldest `iat`, in seconds, of an ID token that has just been issued."""
LOGOUT_WINDOW: Final = 300
"""Oldest `iat`, in seconds, of a logout token; the replay memory must reach at least LOGOUT_WINDOW + SKEW back."""
LOGOUT_EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"

_YEAR_2100: Final = 4_102_444_800
_ID_TYPES: Final = frozenset({None, "JWT"})
_LOGOUT_TYPES: Final = frozenset({"logout+jwt"})
_PLAIN_LOGOUT_TYPES: Final = frozenset({"logout+jwt", None, "JWT"})
# A header that brings a key, says where to get one, or changes how the token is to be read.
_FORBIDDEN_HEADERS: Final = frozenset({"jku", "jwk", "x5u", "x5c", "crit", "b64", "zip", "enc"})
_ASCII: Final = re.compile(r"[\x21-\x7e][\x20-\x7e]{0,254}")
_RS256: Final = jwt.PyJWS(algorithms=["RS256"])


class Issuer(Protocol):
    """What is needed of a provider here."""

    @property
    def issuer(self) -> str: ...


class Audience(Protocol):
    """What is needed of our client registration here."""

    @property
    def client_id(self) -> str: ...


@dataclass(frozen=True, slots=True)
class IdClaims:
    """What a believed ID token says. Times are Unix seconds. The repr shows no identity."""

    issuer: str
    sub: str = field(repr=False)
    sid: str | None = field(repr=False)  # PSC's session: `sid`, or `session_state` in older tokens
    acr: str
    auth_time: int  # `iat` when the token does not say
    auth_time_given: bool
    iat: int
    exp: int
    nonce: str | None = field(repr=False)
    claims: Mapping[str, object] = field(repr=False, default_factory=dict)

    def to_record(self) -> dict[str, object]:
        """All but `claims`, for the sealed record; JSON-able."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "claims"}

    @classmethod
    def from_record(cls, record: Mapping[str, object]) -> "IdClaims":
        """The inverse of to_record, with no `claims`. Raises ValueError for anything to_record did not make."""

        def text(name: str) -> str:
            value = record.get(name)
            if not isinstance(value, str):
                raise ValueError(f"{name} is not text")  # noqa: TRY004 - a damaged record is a wrong value, not a wrong call
            return value

        def whole(name: str) -> int:
            value = record.get(name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise ValueError(f"{name} is not a whole number")  # noqa: TRY004 - as above
            return value

        return cls(
            issuer=text("issuer"),
            sub=text("sub"),
            sid=None if record.get("sid") is None else text("sid"),
            acr=text("acr"),
            auth_time=whole("auth_time"),
            auth_time_given=record.get("auth_time_given") is True,
            iat=whole("iat"),
            exp=whole("exp"),
            nonce=None if record.get("nonce") is None else text("nonce"),
        )


@dataclass(frozen=True, slots=True)
class LogoutClaims:
    """What a believed logout token says: at least one of `sub` and `sid`. `jti` must not be seen twice (the caller remembers)."""

    issuer: str
    sub: str | None = field(repr=False)
    sid: str | None = field(repr=False)
    jti: str
    iat: int


def check_id_token(
    token: str,
    keys: KeySet,
    provider: Issuer,
    client: Audience,
    *,
    nonce: str | None,
    access_token: str | None,
    acr_values: Collection[str],
    max_age: int | None,
    now: float,
    fresh: int = FRESH,
) -> IdClaims:
    """The claims of an ID token that passes every check of OpenID Core §3.1.3.7 and of threats.md ID-1 … ID-12.

    `nonce`: the one sent with this sign-in; None when none was sent (renewal, bearer). `access_token`: the one that came with it, for
    `at_hash`. `acr_values`: the acceptable ones; an empty collection accepts nothing. `max_age`: seconds, as asked of PSC. `fresh`: the
    oldest acceptable `iat`, in seconds.

    Raises UnknownKey, or PSCAnswerRefused: `token_malformed`, `token_header`, `token_signature`, `duplicate_member`, `token_issuer`,
    `token_audience`, `token_type`, `token_bound`, `token_expired`, `token_times`, `token_nonce`, `token_subject`, `token_at_hash`,
    `acr_insufficient`, `auth_too_old`.
    """
    claims = _verified(token, keys, _ID_TYPES)
    _check_parties(claims, provider, client)
    if claims.get("typ", "ID") != "ID" or "events" in claims:
        raise PSCAnswerRefused("token_type", "not an ID token")
    if "cnf" in claims:
        # Bound to a key the holder must prove (RFC 7800); we have no proof, so it is worth nothing here.
        raise PSCAnswerRefused("token_bound", "bound to a key by cnf")
    iat, exp = _check_times(claims, now, fresh)
    _check_nonce(claims, nonce)
    sub = claims.get("sub")
    if not isinstance(sub, str) or not _ASCII.fullmatch(sub):
        raise PSCAnswerRefused("token_subject", "sub is not 1 to 255 ASCII characters")
    _check_at_hash(claims, access_token)
    acr = claims.get("acr")
    if not isinstance(acr, str) or acr not in acr_values:
        raise PSCAnswerRefused("acr_insufficient", "acr missing, or not one of those asked for")
    auth_time = _auth_time(claims, now)
    if max_age is not None and (auth_time is None or auth_time < now - max_age - SKEW):
        raise PSCAnswerRefused("auth_too_old", "auth_time missing, or older than the max_age asked for")
    claimed_nonce = claims.get("nonce")
    return IdClaims(
        issuer=provider.issuer,
        sub=sub,
        sid=_session(claims),
        acr=acr,
        auth_time=iat if auth_time is None else auth_time,
        auth_time_given=auth_time is not None,
        iat=iat,
        exp=exp,
        nonce=claimed_nonce if isinstance(claimed_nonce, str) else None,
        claims=claims,
    )


def check_refreshed(
    token: str,
    keys: KeySet,
    provider: Issuer,
    client: Audience,
    was: IdClaims,
    *,
    access_token: str | None,
    acr_values: Collection[str],
    now: float,
) -> IdClaims:
    """The claims of an ID token that came with a renewal (OpenID Core §12.2, threats ID-14): still the same login.

    `was.acr` is acceptable besides `acr_values`. What the token no longer says (auth_time, sid, nonce) stays as it was. Raises as
    check_id_token, and PSCAnswerRefused `refreshed_other` (another person, issuer or session) or `refreshed_times`.
    """
    found = check_id_token(
        token,
        keys,
        provider,
        client,
        nonce=None,
        access_token=access_token,
        acr_values={was.acr, *acr_values},
        max_age=None,
        now=now,
    )
    if found.issuer != was.issuer or found.sub != was.sub:
        raise PSCAnswerRefused("refreshed_other", "another iss or sub than at sign-in")
    if found.sid is not None and was.sid is not None and found.sid != was.sid:
        raise PSCAnswerRefused("refreshed_other", "another PSC session than at sign-in")
    if "nonce" in found.claims and (found.nonce is None or was.nonce is None or not _same(found.nonce, was.nonce)):
        raise PSCAnswerRefused("token_nonce", "another nonce than at sign-in")
    if found.iat < was.iat:
        raise PSCAnswerRefused("refreshed_times", "issued before the token it replaces")
    if found.auth_time_given and was.auth_time_given and found.auth_time != was.auth_time:
        raise PSCAnswerRefused("refreshed_times", "another auth_time than at sign-in")
    return IdClaims(
        issuer=found.issuer,
        sub=found.sub,
        sid=found.sid or was.sid,
        acr=found.acr,
        auth_time=was.auth_time,  # never later than at sign-in: a renewal must not make a login younger
        auth_time_given=was.auth_time_given,
        iat=found.iat,
        exp=found.exp,
        nonce=was.nonce,
        claims=found.claims,
    )


def check_logout_token(
    token: str, keys: KeySet, provider: Issuer, client: Audience, *, now: float, accept_plain_typ: bool = False
) -> LogoutClaims:
    """The claims of a logout token that passes Back-Channel Logout §2.6 and threats §2.2 (BCL-01 … BCL-06, BCL-10).

    `accept_plain_typ`: also take a header `typ` of JWT or none, as Keycloak sent until 2024. Raises UnknownKey, or PSCAnswerRefused:
    those of check_id_token that apply, and `logout_events`, `logout_nonce`, `logout_target`, `logout_jti`.
    """
    claims = _verified(token, keys, _PLAIN_LOGOUT_TYPES if accept_plain_typ else _LOGOUT_TYPES)
    _check_parties(claims, provider, client)
    if claims.get("typ", "Logout") != "Logout":
        raise PSCAnswerRefused("token_type", "not a logout token")
    if "cnf" in claims:
        raise PSCAnswerRefused("token_bound", "bound to a key by cnf")
    events = claims.get("events")
    if not isinstance(events, dict) or set(events) != {LOGOUT_EVENT} or events[LOGOUT_EVENT] != {}:
        raise PSCAnswerRefused("logout_events", "events is not exactly the logout event")
    if "nonce" in claims:
        # Forbidden so that an ID token can never pass for a logout token.
        raise PSCAnswerRefused("logout_nonce", "a logout token with a nonce")
    iat, _ = _check_times(claims, now, LOGOUT_WINDOW, exp_required=False)
    sub, sid = _optional_text(claims, "sub"), _optional_text(claims, "sid")
    if sub is None and sid is None:
        raise PSCAnswerRefused("logout_target", "neither sub nor sid")
    jti = _optional_text(claims, "jti")
    if jti is None:
        raise PSCAnswerRefused("logout_jti", "no jti")
    return LogoutClaims(issuer=provider.issuer, sub=sub, sid=sid, jti=jti, iat=iat)


def _verified(token: str, keys: KeySet, types: Collection[str | None]) -> dict[str, object]:
    """The payload of a token whose shape, header and signature hold; its claims are still to be judged."""
    if len(token) > TOKEN_LIMIT or not token.isascii() or token.count(".") != 2:
        # Five parts would be an encrypted token, two an unsigned one: neither is read.
        raise PSCAnswerRefused("token_malformed", "not a compact signed token of at most 8 KiB")
    try:
        head, payload, _ = (decode_base64url(part) for part in token.split("."))
    except ValueError:
        raise PSCAnswerRefused("token_malformed", "a part is not canonical base64url") from None
    key = _key_for(_parse(head), keys, types)
    try:
        _RS256.decode_complete(token, key, algorithms=["RS256"])
    except (jwt.PyJWTError, ValueError):  # ValueError: a published number that is no RSA modulus after all
        raise PSCAnswerRefused("token_signature", "the signature does not hold") from None
    return _parse(payload)


def _key_for(header: Mapping[str, object], keys: KeySet, types: Collection[str | None]) -> "RSAPublicKey":
    if header.get("alg") != "RS256":
        raise PSCAnswerRefused("token_header", "alg is not RS256")
    if not _FORBIDDEN_HEADERS.isdisjoint(header):
        raise PSCAnswerRefused("token_header", "the header brings a key or asks for an extension")
    typ = header.get("typ")
    if not (typ is None or isinstance(typ, str)) or typ not in types or (typ is None and "typ" in header):
        raise PSCAnswerRefused("token_type", "typ of the header is another type of token")
    kid = header.get("kid")
    if "kid" not in header:
        return keys.find(None)
    if not isinstance(kid, str) or not 0 < len(kid) <= 256:
        # Not UnknownKey: no fetch can mend a kid that is no name.
        raise PSCAnswerRefused("token_header", "kid is not a short text")
    return keys.find(kid)


def _parse(part: bytes) -> dict[str, object]:
    try:
        return parse_object(part, TOKEN_LIMIT)
    except PSCAnswerRefused as refused:
        if refused.code == "duplicate_member":
            raise
        raise PSCAnswerRefused("token_malformed", refused.detail) from None


def _check_parties(claims: Mapping[str, object], provider: Issuer, client: Audience) -> None:
    if claims.get("iss") != provider.issuer:
        raise PSCAnswerRefused("token_issuer", "iss is not the configured issuer")
    # A list with somebody else in it could have been issued to them (FAPI «secondary aud»).
    if claims.get("aud") not in (client.client_id, [client.client_id]):
        raise PSCAnswerRefused("token_audience", "aud is not this client alone")
    if claims.get("azp", client.client_id) != client.client_id:
        raise PSCAnswerRefused("token_audience", "azp is another client")


def _number(claims: Mapping[str, object], name: str) -> float | None:
    """A point in time as the token has it; None when the member is absent. bool is an int in Python, and a text is no number."""
    value = claims.get(name)
    if value is None and name not in claims:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise PSCAnswerRefused("token_times", f"{name} is not a number")
    if not 1 <= value < _YEAR_2100:
        raise PSCAnswerRefused("token_times", f"{name} is out of range")
    return value


def _check_times(
    claims: Mapping[str, object], now: float, oldest: int, *, exp_required: bool = True
) -> tuple[int, int]:
    """(iat, exp) as whole seconds; exp is 0 when it is absent and may be."""
    exp, iat, nbf = _number(claims, "exp"), _number(claims, "iat"), _number(claims, "nbf")
    if iat is None or (exp is None and exp_required):
        raise PSCAnswerRefused("token_times", "exp or iat is missing")
    if exp is not None and exp <= now - SKEW:
        raise PSCAnswerRefused("token_expired", "exp has passed")
    if exp is not None and exp < iat:
        raise PSCAnswerRefused("token_times", "expired before it was issued")
    if iat > now + SKEW or (nbf is not None and nbf > now + SKEW):
        raise PSCAnswerRefused("token_times", "issued in the future: compare the clocks")
    if iat < now - oldest - SKEW:
        raise PSCAnswerRefused("token_times", "issued too long ago")
    return int(iat), int(exp or 0)


def _auth_time(claims: Mapping[str, object], now: float) -> int | None:
    auth_time = _number(claims, "auth_time")
    if auth_time is None:
        return None
    if auth_time > now + SKEW:
        raise PSCAnswerRefused("token_times", "auth_time is in the future: compare the clocks")
    return int(auth_time)


def _check_nonce(claims: Mapping[str, object], nonce: str | None) -> None:
    """No other claim has a say here: a token once switched this check off in a library by claiming nonces unsupported."""
    if nonce is None:
        return
    claimed = claims.get("nonce")
    if not nonce or not isinstance(claimed, str) or not _same(claimed, nonce):
        raise PSCAnswerRefused("token_nonce", "the nonce is not the one of this sign-in")


def _check_at_hash(claims: Mapping[str, object], access_token: str | None) -> None:
    """OpenID Core §3.1.3.6: the left half of the hash that goes with alg; with RS256 that is SHA-256."""
    if "at_hash" not in claims or access_token is None:
        return
    claimed = claims["at_hash"]
    expected = encode_base64url(hashlib.sha256(access_token.encode()).digest()[:16])
    if not isinstance(claimed, str) or not _same(claimed, expected):
        raise PSCAnswerRefused("token_at_hash", "at_hash does not fit the access token")


def _session(claims: Mapping[str, object]) -> str | None:
    """PSC's session id. PSC writes what it does not know as an empty text, so that counts as absent here."""
    for name in ("sid", "session_state"):
        if claims.get(name, "") != "":
            return _optional_text(claims, name)
    return None


def _optional_text(claims: Mapping[str, object], name: str) -> str | None:
    if name not in claims:
        return None
    value = claims[name]
    if not isinstance(value, str) or not _ASCII.fullmatch(value):
        raise PSCAnswerRefused("token_malformed", f"{name} is not 1 to 255 ASCII characters")
    return value


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


__all__ = [
    "FRESH",
    "LOGOUT_EVENT",
    "LOGOUT_WINDOW",
    "SKEW",
    "TOKEN_LIMIT",
    "IdClaims",
    "LogoutClaims",
    "UnknownKey",
    "check_id_token",
    "check_logout_token",
    "check_refreshed",
]
