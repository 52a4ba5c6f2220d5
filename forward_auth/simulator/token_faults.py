"""Everything that can be wrong with a token the simulator signs: one table, name -> (what it does, what a client should do, value, how).

For: faults.py, which gives each line a place (`id_token.…`). Refuses: nothing; a Draft is the token about to be signed, and an act changes it.
"""

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from .jose import KeyRing, PrivateKey, Raw, b64u, compact, dumps, unb64u

OTHER_HOST: Final = "psc.attacker.example"


@dataclass(slots=True)
class Draft:
    """A token about to be signed: what a token fault may change. `finish` edits the signed text."""

    header: dict[str, object]
    claims: dict[str, object]
    alg: str
    key: PrivateKey
    ring: KeyRing
    client_secret: str
    previous_nonce: str
    now: int
    payload: bytes | None = None
    header_text: str | None = None
    finish: list[Callable[[str], str]] = field(default_factory=list)

    def sign(self) -> str:
        """The compact token."""
        header = self.header_text if self.header_text is not None else dumps(self.header)
        payload = self.payload if self.payload is not None else dumps(self.claims).encode("utf-8", "surrogatepass")
        text = compact(header, payload, self.alg, self.key)
        for change in self.finish:
            text = change(text)
        return text


def _claims(**changes: object) -> Callable[[Draft, Any], object]:
    return lambda d, v: d.claims.update(changes)


def _value_in(name: str) -> Callable[[Draft, Any], object]:
    return lambda d, v: d.claims.update({name: v})


def _raw(name: str, text: str) -> Callable[[Draft, Any], object]:
    return lambda d, v: d.claims.update({name: Raw(text)})


def _without(name: str) -> Callable[[Draft, Any], object]:
    return lambda d, v: d.claims.pop(name, None)


def _header(**changes: object) -> Callable[[Draft, Any], object]:
    return lambda d, v: d.header.update(changes)


def _text(change: Callable[[str], str]) -> Callable[[Draft, Any], object]:
    return lambda d, v: d.finish.append(change)


def merge(members: dict[str, object], value: dict[str, object]) -> None:
    """A value of None removes the member; anything else replaces it."""
    for name, new in value.items():
        if new is None:
            members.pop(name, None)
        else:
            members[name] = new


def _shift(name: str, sign: int) -> Callable[[Draft, Any], object]:
    return lambda d, v: d.claims.update({name: d.now + sign * int(v)})


def _resign(alg: str, kind: str = "", **header: object) -> Callable[[Draft, Any], object]:
    def act(d: Draft, v: object) -> None:
        d.alg = alg
        if kind:
            key = d.ring.odd(kind)
            d.key = key.private
            d.header["kid"] = key.kid
        d.header.update(alg=alg, **header)

    return act


def _unsigned(d: Draft, value: Any) -> None:
    d.alg = "none"
    d.key = b""
    d.header["alg"] = value


def _hmac(d: Draft, key: bytes, value: str = "HS256") -> None:
    d.alg = value
    d.key = key
    d.header["alg"] = value


def _own_key(d: Draft, member: str) -> None:
    """The key travels in the header of the token it signs (TOK-03)."""
    key = d.ring.odd("foreign")
    d.key = key.private
    d.header["kid"] = key.kid
    d.header[member] = key.jwk() if member == "jwk" else ["MIIBszCCARygAwIBAgIBADANBgkqhkiG9w0BAQsFADAAMB4XDTI2"]


def _flip(text: str) -> str:
    head, body, tail = text.split(".")
    signature = bytearray(unb64u(tail)) or bytearray(b"\0")
    signature[len(signature) // 2] ^= 1
    return f"{head}.{body}.{b64u(bytes(signature))}"


def _duplicate(d: Draft, value: Any) -> None:
    """The member twice, correctly signed: first with another value, then with the true one (last wins in json.loads)."""
    name = str(value)
    other = json.dumps(f"another-{name}")
    d.payload = ("{" + f"{json.dumps(name)}:{other}," + dumps(d.claims)[1:]).encode()


def _duplicate_header(d: Draft, value: Any) -> None:
    d.header_text = '{"alg":"none",' + dumps(d.header)[1:]


def _payload(d: Draft, text: bytes) -> None:
    d.payload = text


def _id(d: Draft, name: str) -> str:
    return str(d.claims.get(name, ""))


_EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"

# name: (what it does, what a correct client does, value, act). Edits of claims first, then edits of their written form.
TOKEN_FAULTS: Final[dict[str, tuple[str, str, object, Callable[[Draft, Any], object]]]] = {
    "nonce_wrong": (
        "nonce is a fresh random one",
        "refuse",
        None,
        lambda d, v: d.claims.update(nonce=secrets.token_hex(32)),
    ),
    "nonce_missing": ("no nonce", "refuse", None, _without("nonce")),
    "nonce_empty": ("nonce is empty", "refuse", None, _claims(nonce="")),
    "nonce_old": (
        "nonce of an earlier transaction",
        "refuse",
        None,
        lambda d, v: d.claims.update(nonce=d.previous_nonce),
    ),
    "nonce_unsupported": (
        "no nonce, and the claim nonce_supported:false",
        "refuse",
        None,
        lambda d, v: (d.claims.pop("nonce", None), d.claims.update(nonce_supported=False)),
    ),
    "nonce_present": ("a nonce where none belongs (logout token)", "refuse", None, _claims(nonce="n-0S6_WzA2Mj")),
    "iss_wrong": (
        "iss is another issuer (value)",
        "refuse",
        f"https://{OTHER_HOST}/auth/realms/esante-wallet",
        _value_in("iss"),
    ),
    "iss_realm": ("iss is another realm here", "refuse", None, lambda d, v: d.claims.update(iss=_id(d, "iss") + "-2")),
    "iss_slash": ("iss with a trailing slash", "refuse", None, lambda d, v: d.claims.update(iss=_id(d, "iss") + "/")),
    "iss_upper": ("iss in upper case", "refuse", None, lambda d, v: d.claims.update(iss=_id(d, "iss").upper())),
    "iss_prefix": ("iss cut short", "refuse", None, lambda d, v: d.claims.update(iss=_id(d, "iss")[:-3])),
    "iss_scheme": (
        "iss with http and https exchanged",
        "refuse",
        None,
        lambda d, v: d.claims.update(
            iss=("http:" if _id(d, "iss").startswith("https:") else "https:") + _id(d, "iss").split(":", 1)[1]
        ),
    ),
    "iss_list": ("iss in a list", "refuse", None, lambda d, v: d.claims.update(iss=[d.claims.get("iss")])),
    "iss_missing": ("no iss", "refuse", None, _without("iss")),
    "aud_wrong": ("aud is another client", "refuse", "another-client", _value_in("aud")),
    "aud_missing": ("no aud", "refuse", None, _without("aud")),
    "aud_empty": ("aud is empty", "refuse", None, _claims(aud="")),
    "aud_prefix": (
        "aud is a prefix of the client id",
        "refuse",
        None,
        lambda d, v: d.claims.update(aud=_id(d, "aud")[:-1]),
    ),
    "aud_list": (
        "aud is a list of the client and another",
        "refuse",
        None,
        lambda d, v: d.claims.update(aud=[d.claims.get("aud"), "another-client"]),
    ),
    "aud_list_one": (
        "aud is a list of the client alone",
        "",
        None,
        lambda d, v: d.claims.update(aud=[d.claims.get("aud")]),
    ),
    "aud_nested": ("aud is a list of lists", "refuse", None, lambda d, v: d.claims.update(aud=[[d.claims.get("aud")]])),
    "azp_wrong": ("azp is another client", "refuse", "another-client", _value_in("azp")),
    "azp_missing": ("no azp", "", None, _without("azp")),
    "sub_missing": ("no sub", "refuse", None, _without("sub")),
    "sub_empty": ("sub is empty", "refuse", None, _claims(sub="")),
    "sub_number": ("sub is a number", "refuse", None, _claims(sub=42)),
    "sub_long": ("sub has 300 characters", "refuse", None, _claims(sub="s" * 300)),
    "sub_other": ("sub is somebody else's", "refuse", "7c0e4a10-0000-4000-8000-00000000beef", _value_in("sub")),
    "subject_missing": ("no SubjectNameID", "", None, _without("SubjectNameID")),
    "subject_other": ("SubjectNameID is somebody else's", "refuse", "899700999999", _value_in("SubjectNameID")),
    "iat_missing": ("no iat", "refuse", None, _without("iat")),
    "iat_string": ("iat is a string", "refuse", None, lambda d, v: d.claims.update(iat=str(d.now))),
    "iat_future": ("iat is value seconds ahead", "refuse", 3600, _shift("iat", 1)),
    "iat_near": ("iat is 9 s ahead: within tolerance", "accept", 9, _shift("iat", 1)),
    "iat_old": ("iat is value seconds ago, exp still to come", "refuse", 86400, _shift("iat", -1)),
    "nbf_future": ("nbf is value seconds ahead", "refuse", 3600, _shift("nbf", 1)),
    "exp_past": ("exp is value seconds ago", "refuse", 300, _shift("exp", -1)),
    "exp_missing": ("no exp", "refuse", None, _without("exp")),
    "exp_string": ("exp is a string of digits", "refuse", None, lambda d, v: d.claims.update(exp=str(d.now + 120))),
    "exp_huge": ("exp is 1e300", "refuse", None, _raw("exp", "1e300")),
    "exp_nan": ("exp is NaN", "refuse", None, _raw("exp", "NaN")),
    "exp_infinity": ("exp is Infinity", "refuse", None, _raw("exp", "Infinity")),
    "exp_true": ("exp is true", "refuse", None, _claims(exp=True)),
    "exp_null": ("exp is null", "refuse", None, _claims(exp=None)),
    "exp_list": ("exp in a list", "refuse", None, lambda d, v: d.claims.update(exp=[d.now + 120])),
    "exp_negative": ("exp is -1", "refuse", None, _claims(exp=-1)),
    "exp_2_63": ("exp is 2^63", "refuse", None, _claims(exp=2**63)),
    "exp_fraction": (
        "exp has a fraction, in range",
        "accept",
        None,
        lambda d, v: d.claims.update(exp=Raw(f"{d.now + 120}.5")),
    ),
    "at_hash_wrong": ("at_hash of another access token", "refuse", "bm90IHRoZSBoYXNoIGF0IGE", _value_in("at_hash")),
    "at_hash_number": ("at_hash is a number", "refuse", None, _claims(at_hash=7)),
    "at_hash_missing": ("no at_hash", "accept", None, _without("at_hash")),
    "acr_missing": ("no acr", "refuse", None, _without("acr")),
    "acr_lower": ("acr is a lower level (value)", "refuse", "0", _value_in("acr")),
    "acr_list": ("acr in a list", "refuse", None, lambda d, v: d.claims.update(acr=[d.claims.get("acr")])),
    "acr_case": ("acr in upper case", "refuse", None, lambda d, v: d.claims.update(acr=_id(d, "acr").upper())),
    "auth_time_missing": ("no auth_time", "", None, _without("auth_time")),
    "auth_time_old": ("auth_time is value seconds ago", "", 86400, _shift("auth_time", -1)),
    "auth_time_future": ("auth_time is value seconds ahead", "refuse", 3600, _shift("auth_time", 1)),
    "auth_time_string": ("auth_time is a string", "refuse", None, lambda d, v: d.claims.update(auth_time=str(d.now))),
    "sid_missing": ("no sid", "", None, _without("sid")),
    "sid_number": ("sid is a number", "refuse", None, _claims(sid=7)),
    "sid_other": ("sid of another session", "", "00000000-0000-4000-8000-00000000beef", _value_in("sid")),
    "jti_missing": ("no jti", "", None, _without("jti")),
    "jti_replayed": ("always the same jti", "refuse", "a-jti-already-seen", _value_in("jti")),
    "typ_claim": ("the claim typ says another kind of token (value)", "refuse", "Bearer", _value_in("typ")),
    "typ_claim_missing": ("no claim typ", "", None, _without("typ")),
    "cnf": (
        "the token is bound to a key (cnf)",
        "",
        {"x5t#S256": "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2"},
        _value_in("cnf"),
    ),
    "events_missing": ("no events (logout token)", "refuse", None, _without("events")),
    "events_empty": ("events is empty", "refuse", None, _claims(events={})),
    "events_list": ("events is a list", "refuse", None, _claims(events=[_EVENT])),
    "events_other": ("events names another event", "refuse", None, _claims(events={_EVENT + "/other": {}})),
    "events_two": ("events has two members", "refuse", None, _claims(events={_EVENT: {}, "urn:other": {}})),
    "events_value": ("the event's value is not {}", "refuse", None, _claims(events={_EVENT: True})),
    "events_present": ("events where none belongs (ID token)", "refuse", None, _claims(events={_EVENT: {}})),
    "claims_many": (
        "10 000 claims",
        "refuse",
        10000,
        lambda d, v: d.claims.update({f"c{i}": i for i in range(int(v))}),
    ),
    "claim_long": ("a claim of value bytes", "refuse", 65536, lambda d, v: d.claims.update(padding="x" * int(v))),
    "claims": ("the members of value replace claims; null removes one", "", {}, lambda d, v: merge(d.claims, v)),
    "typ_header": (
        "header typ says another kind of token (value)",
        "refuse",
        "at+jwt",
        lambda d, v: d.header.update(typ=v),
    ),
    "typ_header_missing": ("no header typ", "accept", None, lambda d, v: d.header.pop("typ", None)),
    "kid_unknown": (
        "good key under an unknown kid (value)",
        "refuse",
        "unknown-kid",
        lambda d, v: d.header.update(kid=v),
    ),
    "kid_path": ("kid is a path", "refuse", None, _header(kid="../../../../etc/passwd")),
    "kid_long": ("kid of 64 KiB", "refuse", None, _header(kid="k" * 65536)),
    "kid_number": ("kid is a number", "refuse", None, _header(kid=7)),
    "kid_null": ("kid is null", "refuse", None, _header(kid=None)),
    "kid_missing": (
        "no kid (accept with one key published, refuse with several: see jwks.second_key)",
        "",
        None,
        lambda d, v: d.header.pop("kid", None),
    ),
    "header_jku": ("header jku (value)", "refuse", f"https://{OTHER_HOST}/jwks", lambda d, v: d.header.update(jku=v)),
    "header_x5u": ("header x5u (value)", "refuse", "http://169.254.169.254/x5u", lambda d, v: d.header.update(x5u=v)),
    "header_jwk": ("signed by a foreign key that is in header jwk", "refuse", None, lambda d, v: _own_key(d, "jwk")),
    "header_x5c": ("signed by a foreign key, with header x5c", "refuse", None, lambda d, v: _own_key(d, "x5c")),
    "header_crit": (
        "header crit names an extension (value: list)",
        "refuse",
        ["exp"],
        lambda d, v: d.header.update(crit=v),
    ),
    "header_b64": ("header b64:false, crit b64", "refuse", None, _header(b64=False, crit=["b64"])),
    "header_zip": ("header zip:DEF", "refuse", None, _header(zip="DEF")),
    "header": (
        "the members of value replace header members; null removes one",
        "",
        {},
        lambda d, v: merge(d.header, v),
    ),
    "alg_none": ("unsigned, header alg is value (none, None, nOnE, empty …)", "refuse", "none", _unsigned),
    "alg_missing": ("signed, no alg in the header", "refuse", None, lambda d, v: d.header.pop("alg", None)),
    "alg_hs256_public_key": (
        "HS256 with the public key as secret (value: pem, pkcs1, crlf, stripped, der, jwk, jwks, modulus, empty, null)",
        "refuse",
        "pem",
        lambda d, v: _hmac(d, d.ring.current.as_hmac_secret(str(v))),
    ),
    "alg_hs256_secret": (
        "HMAC with the client secret (value: HS256, HS384, HS512)",
        "refuse",
        "HS256",
        lambda d, v: _hmac(d, d.client_secret.encode(), str(v)),
    ),
    "alg_rs384": ("RS384 by the published key", "refuse", None, _resign("RS384")),
    "alg_rs512": ("RS512 by the published key", "refuse", None, _resign("RS512")),
    "alg_ps256": ("PS256 by the published key", "refuse", None, _resign("PS256")),
    "alg_es256": ("ES256 by a key that is in the JWKS", "refuse", None, _resign("ES256", "ec")),
    "alg_eddsa": ("EdDSA by a key that is in the JWKS", "refuse", None, _resign("EdDSA", "ed25519")),
    "alg_lie": (
        "RS256 by the published key, header says value",
        "refuse",
        "RS512",
        lambda d, v: d.header.update(alg=v),
    ),
    "key_foreign": (
        "signed by a key that is not published, under the kid of one that is",
        "refuse",
        None,
        lambda d, v: setattr(d, "key", d.ring.odd("foreign").private),
    ),
    "key_unpublished": (
        "signed by a key that is not published, under its own kid",
        "refuse",
        None,
        _resign("RS256", "foreign"),
    ),
    "duplicate_member": ("a claim twice (value: its name), correctly signed", "refuse", "sub", _duplicate),
    "duplicate_header": ("alg twice in the header, correctly signed", "refuse", None, _duplicate_header),
    "payload_list": (
        "payload is a list",
        "refuse",
        None,
        lambda d, v: _payload(d, ("[" + dumps(d.claims) + "]").encode()),
    ),
    "payload_string": ("payload is a string", "refuse", None, lambda d, v: _payload(d, b'"claims"')),
    "payload_not_json": ("payload is not JSON", "refuse", None, lambda d, v: _payload(d, b"\x00\x01 not json")),
    "payload_not_utf8": (
        "payload is not UTF-8",
        "refuse",
        None,
        lambda d, v: _payload(d, dumps(d.claims)[:-1].encode() + b',"x":"\xff\xfe"}'),
    ),
    "payload_bom": (
        "payload begins with a byte order mark",
        "refuse",
        None,
        lambda d, v: _payload(d, b"\xef\xbb\xbf" + dumps(d.claims).encode()),
    ),
    "payload_deep": (
        "a claim nested value deep",
        "refuse",
        200,
        lambda d, v: _payload(d, (dumps(d.claims)[:-1] + ',"deep":' + "[" * int(v) + "]" * int(v) + "}").encode()),
    ),
    "payload": (
        "the payload is the text of value, correctly signed",
        "",
        "{}",
        lambda d, v: _payload(d, str(v).encode()),
    ),
    "signature_bad": ("one bit of the signature flipped", "refuse", None, _text(_flip)),
    "signature_empty": ("signature is empty", "refuse", None, _text(lambda t: t.rsplit(".", 1)[0] + ".")),
    "signature_short": (
        "signature cut by half",
        "refuse",
        None,
        _text(lambda t: t[: -(len(t.rsplit(".", 1)[1]) // 2)]),
    ),
    "signature_padded": ("'=' after the signature", "refuse", None, _text(lambda t: t + "==")),
    "two_parts": ("header.payload only", "refuse", None, _text(lambda t: t.rsplit(".", 1)[0])),
    "five_parts": ("five parts, like an encrypted token", "refuse", None, _text(lambda t: t + ".AAAA.AAAA")),
    "space": ("a space after the token", "refuse", None, _text(lambda t: t + " ")),
    "not_a_token": (
        "not a token at all (value)",
        "refuse",
        "not-a-token",
        lambda d, v: d.finish.append(lambda t: str(v)),
    ),
}

# ------------------------------------------------------------------------------------------------ documents
