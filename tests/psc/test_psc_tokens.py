"""Which signed tokens are believed. Ids of the attack list stand in the names: TOK-*, CB-*, BCL-*, IDP-12; OpenID's RP tests too."""

import base64
import hashlib
import hmac
import json
import math
from collections.abc import Callable

import jwt
import pytest
import token_forge as forge
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from token_forge import (
    ACCESS_TOKEN,
    CLIENT,
    CLIENT_ID,
    DROP,
    ISSUER,
    NONCE,
    NOW,
    PROVIDER,
    b64,
    header,
    id_claims,
    sign,
)

from forward_auth.errors import PSCAnswerRefused
from forward_auth.psc.keys import KeySet, UnknownKey
from forward_auth.psc.messages import IdClaims, LogoutClaims, check_id_token, check_logout_token, check_refreshed

ONE = forge.keyset()
TWO = forge.keyset("one", "two")


def check(
    token: str,
    keys: KeySet = ONE,
    *,
    nonce: str | None = NONCE,
    access_token: str | None = ACCESS_TOKEN,
    acr_values: tuple[str, ...] = ("eidas1",),
    max_age: int | None = None,
    now: float = NOW,
) -> IdClaims:
    """check_id_token as a sign-in calls it."""
    return check_id_token(
        token,
        keys,
        PROVIDER,
        CLIENT,
        nonce=nonce,
        access_token=access_token,
        acr_values=acr_values,
        max_age=max_age,
        now=now,
    )


def refusal(action: Callable[[], object]) -> str:
    """The code with which `action` is refused."""
    with pytest.raises(PSCAnswerRefused) as caught:
        action()
    return caught.value.code


def refused(token: str, keys: KeySet = ONE, **options: object) -> str:
    """The code with which a token is refused at sign-in."""
    return refusal(lambda: check(token, keys, **options))


# -- the good ones ----------------------------------------------------------------------------------------------------------------


def test_oidcc_client_test_idtoken_sig_rs256() -> None:
    """An honest ID token is believed, and says who, how and when."""
    found = check(forge.id_token())
    assert (ISSUER, "c5869b2a-0000-4000-8000-000000000000", "eidas1") == (found.issuer, found.sub, found.acr)
    assert (NOW - 30, NOW, NOW + 120) == (found.auth_time, found.iat, found.exp)
    assert "e0e82435-0000-4000-8000-000000000000" == found.sid
    assert "899700000001" == found.claims["SubjectNameID"]
    assert NONCE == found.nonce


def test_pyjwt_agrees_that_the_honest_token_is_honest() -> None:
    """The forge of these tests makes what another implementation accepts: a refusal below is for the reason it names."""
    claims = jwt.decode(
        forge.id_token(),
        forge.key().public_key(),
        algorithms=["RS256"],
        audience=CLIENT_ID,
        issuer=ISSUER,
        options={"verify_exp": False, "verify_iat": False},
    )
    assert NONCE == claims["nonce"]


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(forge.id_token(aud=[CLIENT_ID]), id="aud as array of one (FAPI valid-aud-as-array)"),
        pytest.param(forge.id_token(azp=DROP), id="no azp"),
        pytest.param(forge.id_token(typ=DROP), id="no claim typ"),
        pytest.param(forge.id_token(at_hash=DROP), id="no at_hash"),
        pytest.param(forge.id_token(exp=NOW + 120.5, iat=NOW - 0.5), id="fractions of a second"),
        pytest.param(forge.id_token(nbf=NOW), id="nbf now"),
        pytest.param(forge.id_token(unknown={"a": [1, {"b": None}]}), id="an unknown claim"),
        pytest.param(sign(header(typ=DROP), id_claims()), id="no header typ"),
        pytest.param(forge.id_token(sub="f:550dc1c8:5000/CPAT0004 5"), id="a sub of before 2026, with a slash"),
    ],
)
def test_what_psc_may_send(token: str) -> None:
    """Every honest variant is believed."""
    assert "eidas1" == check(token).acr


def test_psc_session_of_old_and_new_tokens() -> None:
    """`sid` names PSC's session, in older tokens `session_state`; an empty text is PSC's way of not knowing."""
    assert "old" == check(forge.id_token(sid=DROP, session_state="old")).sid
    assert "old" == check(forge.id_token(sid="", session_state="old")).sid
    assert "new" == check(forge.id_token(sid="new", session_state="old")).sid
    assert check(forge.id_token(sid=DROP)).sid is None
    assert "token_malformed" == refused(forge.id_token(sid=7))
    assert "token_malformed" == refused(forge.id_token(sid="é"))


def test_auth_time_falls_back_to_iat() -> None:
    """A token without auth_time counts from its own issue (decision 10)."""
    found = check(forge.id_token(auth_time=DROP, iat=NOW - 5))
    assert (NOW - 5, False) == (found.auth_time, found.auth_time_given)


def test_the_repr_of_claims_shows_no_identity() -> None:
    """Claims may be logged by accident: neither name nor id nor session may come along."""
    text = repr(check(forge.id_token()))
    assert not [word for word in ("DUPONT", "8997", "c5869b2a", "e0e82435", NONCE) if word in text]


def test_claims_survive_the_record() -> None:
    """What renewal needs is kept in the sealed record and comes back equal; the claims themselves are not kept."""
    found = check(forge.id_token())
    again = IdClaims.from_record(json.loads(json.dumps(found.to_record())))
    assert found.to_record() == again.to_record()
    assert {} == dict(again.claims)


@pytest.mark.parametrize(
    "damage", [{"sub": None}, {"iat": "1"}, {"exp": True}, {"acr": 1}, {"sid": 4}, {"nonce": []}, {"issuer": {}}]
)
def test_a_damaged_record_is_refused(damage: dict[str, object]) -> None:
    """A record that we did not write is an error, not a login."""
    record = check(forge.id_token()).to_record()
    with pytest.raises(ValueError, match="is not"):
        IdClaims.from_record({**record, **damage})


# -- TOK: tokens ------------------------------------------------------------------------------------------------------------------


def unsigned(alg: object, signature: str = "") -> str:
    """A token with that alg and any signature part."""
    return f"{b64(forge.as_bytes(header(alg=alg)))}.{b64(forge.as_bytes(id_claims()))}.{signature}"


@pytest.mark.parametrize("alg", ["none", "None", "nOnE", "NONE", "", None, 0, [], "rs256", "RS256 ", DROP])
def test_TOK_01_no_algorithm(alg: object) -> None:
    """`none` in any spelling, or no algorithm at all, is refused whatever the signature (idtoken-sig-none)."""
    honest = forge.id_token().rsplit(".", 1)[1]
    assert "token_header" == refused(unsigned(alg))
    assert "token_header" == refused(unsigned(alg, honest))


@pytest.mark.parametrize("token", ["", "a", "a.b", "..", ".", "...", "a.b.c.d.e", unsigned("none")[:-1], "{}"])
def test_TOK_01_wrong_number_of_parts(token: str) -> None:
    """Two parts (unsigned), five parts (encrypted) and other shapes are not read."""
    assert "token_malformed" == refused(token)


@pytest.mark.parametrize(
    "members",
    [
        {"alg": "PBES2-HS512+A256KW", "p2c": 2**31, "p2s": "AAAA", "enc": "A256GCM"},
        {"alg": "dir", "enc": "A256GCM", "zip": "DEF"},
        {"alg": "RSA-OAEP", "enc": "A256GCM"},
    ],
)
def test_DOS_02_encrypted_or_compressed(members: dict[str, object]) -> None:
    """Five parts are refused by their number, before any of them is decoded; as three parts, by their header, before anything is unpacked."""
    first = b64(forge.as_bytes(members))
    assert "token_malformed" == refused(f"{first}.AAAA.AAAA.AAAA.AAAA")
    assert "token_header" == refused(f"{first}.{b64(forge.as_bytes(id_claims()))}.AAAA")
    honest = forge.id_token().split(".")
    zipped = b64(forge.as_bytes(header(zip="DEF")))
    assert refused(f"{zipped}.{honest[1]}.{honest[2]}").startswith("token_")


def hmac_keys() -> dict[str, bytes]:
    """Everything public that a confused verifier might take for an HMAC secret."""
    public = forge.key().public_key()
    spki = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    pkcs1 = public.public_bytes(Encoding.PEM, PublicFormat.PKCS1)
    return {
        "PEM SPKI": spki,
        "PEM PKCS1": pkcs1,
        "PEM with CRLF": spki.replace(b"\n", b"\r\n"),
        "PEM without last line end": spki.strip(),
        "PEM indented": b" " + spki,
        "DER SPKI": public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "DER PKCS1": public.public_bytes(Encoding.DER, PublicFormat.PKCS1),
        "SSH": public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
        "JWK": json.dumps(forge.jwk()).encode(),
        "JWKS": forge.jwks(),
        "modulus": public.public_numbers().n.to_bytes(256),
        "empty": b"",
        "null": b"null",
        "client secret": CLIENT.client_secret.reveal().encode(),
    }


@pytest.mark.parametrize("name", hmac_keys())
@pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512", "RS256"])
def test_TOK_02_public_key_as_hmac_secret(name: str, alg: str) -> None:
    """A MAC keyed with something public is no signature (invalid-sig-hs256), also when it calls itself RS256."""
    digest = {"HS384": hashlib.sha384, "HS512": hashlib.sha512}.get(alg, hashlib.sha256)
    parts = unsigned(alg)[:-1]
    token = f"{parts}.{b64(hmac.new(hmac_keys()[name], parts.encode(), digest).digest())}"
    assert refused(token) in ("token_header", "token_signature")


def test_TOK_03_key_brought_by_the_token() -> None:
    """A token signed by a stranger who puts the key into the header is refused, with our kid too."""
    jwk = forge.jwk("stranger")
    for member, value in (("jwk", jwk), ("x5c", ["MIIB"]), ("jwk", None), ("x5c", [])):
        token = sign(header(**{member: value}), id_claims(), by="stranger")
        assert "token_header" == refused(token)
    assert "token_signature" == refused(sign(header(), id_claims(), by="stranger"))


@pytest.mark.parametrize("member", ["jku", "x5u"])
@pytest.mark.parametrize(
    "address",
    ["https://evil.example/jwks", ISSUER + "/open?to=evil", "file:///etc/passwd", "http://169.254.169.254/", ""],
)
def test_TOK_04_key_named_by_address(member: str, address: str) -> None:
    """A header that says where a key is to be had is refused, though the signature is honest; nothing here can connect anyway."""
    assert "token_header" == refused(sign(header(**{member: address}), id_claims()))


def other_algorithm(alg: str) -> str:
    """A token well signed by another algorithm with a key of the set."""
    parts = unsigned(alg)[:-1].encode()
    rsa = forge.key()
    signature = {
        "PS256": lambda: rsa.sign(parts, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256()),
        "RS384": lambda: rsa.sign(parts, padding.PKCS1v15(), hashes.SHA384()),
        "RS512": lambda: rsa.sign(parts, padding.PKCS1v15(), hashes.SHA512()),
        "ES256": lambda: ec.generate_private_key(ec.SECP256R1()).sign(parts, ec.ECDSA(hashes.SHA256())),
        "EdDSA": lambda: ed25519.Ed25519PrivateKey.generate().sign(parts),
    }[alg]()
    return f"{parts.decode()}.{b64(signature)}"


@pytest.mark.parametrize("alg", ["PS256", "RS384", "RS512", "ES256", "EdDSA"])
def test_TOK_05_another_algorithm(alg: str) -> None:
    """Only RS256 is pinned, whatever PSC's metadata advertises (invalid-sig-es256, invalid-alternate-alg)."""
    assert "token_header" == refused(other_algorithm(alg))
    # The same signature under a header that claims RS256 does not hold either.
    parts = unsigned("RS256")
    assert "token_signature" == refused(parts + other_algorithm(alg).rsplit(".", 1)[1])


@pytest.mark.parametrize(
    "members", [{"crit": ["b64"]}, {"crit": ["x"]}, {"crit": []}, {"b64": False}, {"b64": True}, {"zip": "DEF"}]
)
def test_TOK_06_extensions(members: dict[str, object]) -> None:
    """A header that asks for an extension is refused, known or unknown."""
    assert "token_header" == refused(sign(header(**members), id_claims()))


@pytest.mark.parametrize("typ", ["at+jwt", "logout+jwt", "application/jwt", "jwt", "JOSE", "", 1, None, ["JWT"]])
def test_TOK_07_another_type_in_the_header(typ: object) -> None:
    """Only JWT or nothing is the header type of an ID token."""
    assert "token_type" == refused(sign(header(typ=typ), id_claims()))


@pytest.mark.parametrize("typ", ["Bearer", "Refresh", "Logout", "Offline", "", None, 1, "id"])
def test_TOK_07_another_type_in_the_claims(typ: object) -> None:
    """Keycloak names the type in a claim: an access, refresh or logout token is no ID token."""
    assert "token_type" == refused(forge.id_token(typ=typ))


def test_TOK_07_a_logout_token_is_no_id_token() -> None:
    """Its `events` gives it away, even with the header and claims of an ID token."""
    assert "token_type" == refused(forge.logout_token())
    assert "token_type" == refused(forge.id_token(events={}))


@pytest.mark.parametrize(
    "aud",
    [
        *("another", "", DROP, None, 1, True, {}, [], [""], [CLIENT_ID, "another"], ["another", CLIENT_ID]),
        *([CLIENT_ID, CLIENT_ID], [[CLIENT_ID]], CLIENT_ID[:-1], CLIENT_ID + "x", CLIENT_ID.upper(), f" {CLIENT_ID}"),
        {CLIENT_ID: 1},
    ],
)
def test_TOK_08_another_audience(aud: object) -> None:
    """The token is for this client alone (invalid-aud, missing-aud, invalid-secondary-aud)."""
    assert "token_audience" == refused(forge.id_token(aud=aud))


@pytest.mark.parametrize("azp", ["another", "", None, 1, [CLIENT_ID]])
def test_TOK_08_another_authorized_party(azp: object) -> None:
    """azp, when present, is this client."""
    assert "token_audience" == refused(forge.id_token(azp=azp))


@pytest.mark.parametrize(
    "iss",
    [
        *(
            ISSUER + "/",
            ISSUER.upper(),
            ISSUER[:-1],
            ISSUER + "2",
            ISSUER.replace("https", "http"),
            ISSUER.replace("bas.", ""),
        ),
        *("", DROP, None, 1, [ISSUER], "https://evil.example/" + ISSUER),
    ],
)
def test_TOK_09_another_issuer(iss: object) -> None:
    """iss is the configured issuer byte for byte (invalid-iss)."""
    assert "token_issuer" == refused(forge.id_token(iss=iss))


def test_TOK_10_expired() -> None:
    """A passed exp is refused beyond 60 s of clock difference, a missing one always (invalid-expired-exp, invalid-missing-exp)."""
    assert "token_expired" == refused(forge.id_token(iat=NOW - 400, exp=NOW - 300))
    assert "token_expired" == refused(forge.id_token(iat=NOW - 400, exp=NOW - 60))
    assert NOW - 59 == check(forge.id_token(iat=NOW - 400, exp=NOW - 59)).exp
    assert "token_times" == refused(forge.id_token(exp=DROP))
    assert "token_times" == refused(forge.id_token(exp=NOW - 1, iat=NOW))


@pytest.mark.parametrize("name", ["iat", "nbf", "auth_time"])
def test_TOK_11_from_the_future(name: str) -> None:
    """Nine seconds ahead is a clock, sixty-one is a lie."""
    assert NOW + 120 == check(forge.id_token(**{name: NOW + 9})).exp
    assert NOW + 120 == check(forge.id_token(**{name: NOW + 60})).exp
    assert "token_times" == refused(forge.id_token(**{name: NOW + 61}))


def test_TOK_11_old_or_undated() -> None:
    """An ID token of a fresh sign-in has just been issued (missing-iat, iat-is-week-in-past)."""
    assert "token_times" == refused(forge.id_token(iat=DROP))
    assert "token_times" == refused(forge.id_token(iat=NOW - 7 * 86_400))
    assert "token_times" == refused(forge.id_token(iat=NOW - 3 * 365 * 86_400))
    assert "token_times" == refused(forge.id_token(iat=NOW - 661))
    assert NOW - 660 == check(forge.id_token(iat=NOW - 660)).iat
    assert NOW == check(forge.id_token(iat=NOW, exp=NOW)).exp


@pytest.mark.parametrize("name", ["alg", "kid", "typ"])
def test_TOK_12_doubled_member_in_the_header(name: str) -> None:
    """Which of two would be read depends on the reader, so neither is; the refusal names the member (decision 40)."""
    head = json.dumps(header()).encode()
    double = head[:-1] + b", " + json.dumps({name: header()[name]}).encode()[1:]
    with pytest.raises(PSCAnswerRefused, match=name) as caught:
        check(sign(double, id_claims()))
    assert "duplicate_member" == caught.value.code


@pytest.mark.parametrize("name", ["aud", "sub", "exp", "acr", "nonce", "iss"])
@pytest.mark.parametrize("first", [True, False])
def test_TOK_12_doubled_member_in_the_payload(name: str, first: bool) -> None:
    """The old PSC tokens had acr twice; well signed or not, it is refused, in either order."""
    payload = json.dumps(id_claims()).encode()
    extra = json.dumps({name: "other"}).encode()[1:-1]
    double = b"{" + extra + b", " + payload[1:] if first else payload[:-1] + b", " + extra + b"}"
    assert "duplicate_member" == refused(sign(header(), double))


@pytest.mark.parametrize("name", ["exp", "iat", "nbf", "auth_time"])
@pytest.mark.parametrize(
    "value", ["1234", str(NOW), True, False, None, [], [NOW], {}, 1e300, 2**63, -1, 0, 4_102_444_800, ""]
)
def test_TOK_13_times_that_are_none(name: str, value: object) -> None:
    """Times are finite JSON numbers between 1970 and 2100; text, booleans and lists are not."""
    assert "token_times" == refused(forge.id_token(**{name: value}))


@pytest.mark.parametrize("literal", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"0x10", b"01", b"1" * 5000])
def test_TOK_13_numbers_that_are_not_json(literal: bytes) -> None:
    """What Python would read beyond JSON is not read."""
    payload = json.dumps(id_claims(exp="EXP")).encode().replace(b'"EXP"', literal)
    assert "token_malformed" == refused(sign(header(), payload))


@pytest.mark.parametrize("after", ["=", "==", "===", " ", "\t", "\n", "\r\n", "%3D", "\0", ".", "!", "é", "A"])
def test_TOK_14_another_spelling(after: str) -> None:
    """A token has one spelling: PyJWT 2.15 takes `==` at its end, we do not."""
    token = forge.id_token()
    assert refused(token + after) in ("token_malformed", "token_signature")
    assert refused(after + token) in ("token_malformed", "token_header", "token_type")


def test_TOK_14_unused_bits_of_the_last_character() -> None:
    """The last character of 256 bytes in base64url has four bits that say nothing; only zeros are read."""
    token = forge.id_token()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spellings = [
        token[:-1] + other
        for other in alphabet
        if base64.urlsafe_b64decode(token.rsplit(".", 1)[1][:-1] + other + "==")
    ]
    same = [other for other in spellings if decodes_alike(other, token)]
    assert 16 == len(same)
    assert 1 == sum(1 for other in same if believed(other))


def decodes_alike(one: str, other: str) -> bool:
    """Whether the signatures of two tokens are the same bytes to a lenient reader."""
    return base64.urlsafe_b64decode(one.rsplit(".", 1)[1] + "==") == base64.urlsafe_b64decode(
        other.rsplit(".", 1)[1] + "=="
    )


def believed(token: str) -> bool:
    """Whether a token passes."""
    try:
        check(token)
    except PSCAnswerRefused:
        return False
    return True


@pytest.mark.parametrize(
    "payload",
    [
        *(b"[]", b'"text"', b"7", b"null", b"true", b"", b" ", b"{", b'{"a":1', b'{"a":1}x', b"{'a':1}", b'{"a":1,}'),
        *(b"\xff\xfe", b'{"a":"\xff"}', b"\xef\xbb\xbf{}", "{}".encode("utf-16"), b'{"a":"\\ud800"}'),
        *(b"[" * 200 + b"]" * 200, b'{"a":' * 200 + b"1" + b"}" * 200, b"[" * 5000),
    ],
)
def test_TOK_15_payload_that_is_no_object(payload: bytes) -> None:
    """Whatever is signed is read as a flat-enough JSON object in UTF-8 or not at all; the same for the header."""
    assert "token_malformed" == refused(sign(header(), payload))
    assert "token_malformed" == refused(sign(payload, id_claims()))


def test_TOK_15_peculiar_members_are_only_members() -> None:
    """`__proto__` and empty names mean nothing here."""
    assert "eidas1" == check(forge.id_token(**{"__proto__": {"acr": "eidas3"}, "": 1, "constructor": 2})).acr


def test_DOS_01_a_long_token_is_not_decoded() -> None:
    """More than 8 KiB is refused by its length: ten thousand claims, a million dots."""
    assert "token_malformed" == refused(forge.id_token(**{f"c{i}": i for i in range(10_000)}))
    assert "token_malformed" == refused("." * 1_000_000)
    assert "token_malformed" == refused("A" * 8193)


def test_DOS_01_the_longest_token() -> None:
    """8192 bytes are read, one more is not, though every part of it alone would be; a kid of 256 characters is a name."""
    room = 8192 - len(forge.id_token(pad=""))
    longest = next(
        token for fill in range(room) if len(token := forge.id_token(pad="x" * (room * 3 // 4 - 2 + fill))) >= 8191
    )
    assert 8191 <= len(longest) <= 8192
    assert believed(longest)
    assert "token_malformed" == refused(forge.id_token(pad="x" * (room * 3 // 4 + 2)))
    with pytest.raises(UnknownKey):
        check(sign(header(kid="k" * 256), id_claims()))


@pytest.mark.parametrize("cnf", [{"jkt": "x"}, {"x5t#S256": "x"}, {}, None])
def test_TOK_16_bound_to_a_key(cnf: object) -> None:
    """A token bound to a key proves nothing without that proof."""
    assert "token_bound" == refused(forge.id_token(cnf=cnf))


@pytest.mark.parametrize("kid", ["unknown", "../../etc/passwd", "' OR 1=1 --", "ONE", "one ", "é"])
def test_TOK_17_unknown_kid(kid: str) -> None:
    """A kid that is not in the set has no key; it is never tried with another one."""
    with pytest.raises(UnknownKey):
        check(sign(header(kid=kid), id_claims()))


@pytest.mark.parametrize("kid", ["", "k" * 257, 1, None, ["one"], {}])
def test_TOK_17_kid_that_is_no_name(kid: object) -> None:
    """No fetch of keys could mend it, so it does not cause one."""
    assert "token_header" == refused(sign(header(kid=kid), id_claims()))


def test_TOK_17_kid_of_64_KiB() -> None:
    """The length of the token decides before the kid is looked at."""
    assert "token_malformed" == refused(sign(header(kid="k" * 65_536), id_claims()))


def test_oidcc_client_test_kid_absent_single_jwks() -> None:
    """TOK-17: no kid and one key: that one."""
    assert "eidas1" == check(sign(header(kid=DROP), id_claims())).acr


def test_oidcc_client_test_kid_absent_multiple_jwks() -> None:
    """TOK-17: no kid and several keys: none is tried."""
    with pytest.raises(UnknownKey):
        check(sign(header(kid=DROP), id_claims()), TWO)


def test_TOK_17_the_right_kid_of_two() -> None:
    """Each key verifies under its own name only."""
    assert "eidas1" == check(sign(header(kid="two"), id_claims(), by="two"), TWO).acr
    assert "token_signature" == refused(sign(header(kid="one"), id_claims(), by="two"), TWO)


def test_TOK_18_oidcc_client_test_invalid_sig_rs256() -> None:
    """A signature of another token, a cut, an empty and a flipped one do not hold."""
    parts, signature = forge.id_token().rsplit(".", 1)
    other = forge.id_token(nonce="other").rsplit(".", 1)[1]
    assert "token_signature" == refused(f"{parts}.{other}")
    assert "token_signature" == refused(f"{parts}.")
    assert "token_signature" == refused(f"{parts}.{b64(base64.urlsafe_b64decode(signature + '==')[:-1])}")
    raw = bytearray(base64.urlsafe_b64decode(signature + "=="))
    for bit in range(0, 2048, 37):
        raw[bit // 8] ^= 1 << bit % 8
        assert "token_signature" == refused(f"{parts}.{b64(bytes(raw))}")
        raw[bit // 8] ^= 1 << bit % 8
    assert believed(f"{parts}.{b64(bytes(raw))}")


def test_TOK_18_changed_payload_under_an_honest_signature() -> None:
    """One changed character of the payload ends the signature."""
    head, _, signature = forge.id_token().split(".")
    forged = b64(forge.as_bytes(id_claims(sub="somebody-else")))
    assert "token_signature" == refused(f"{head}.{forged}.{signature}")


# -- CB: what a sign-in asked for -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nonce", ["other", "", DROP, None, 1, [NONCE], NONCE + "x", NONCE.upper(), "é"])
@pytest.mark.parametrize("claim", [{}, {"nonce_supported": False}])
def test_CB_06_oidcc_client_test_nonce_invalid(nonce: object, claim: dict[str, object]) -> None:
    """Another nonce or none is refused, and no claim switches that off (CVE-2026-28498 and its kin)."""
    assert "token_nonce" == refused(forge.id_token(nonce=nonce, **claim))


def test_CB_07_nonce_of_an_earlier_sign_in() -> None:
    """A token of a sign-in that succeeded before does not serve the next one."""
    earlier = forge.id_token()
    assert believed(earlier)
    assert "token_nonce" == refused(earlier, nonce="the next sign-in's")
    assert "token_nonce" == refused(earlier, nonce="")


@pytest.mark.parametrize(
    "value", ["", "x", None, 1, forge.at_hash("another"), forge.at_hash() + "=", forge.at_hash().lower()]
)
def test_CB_09_oidcc_client_test_invalid_athash(value: object) -> None:
    """at_hash, when present, fits the access token that came along."""
    assert "token_at_hash" == refused(forge.id_token(at_hash=value))


def test_CB_09_at_hash_without_access_token() -> None:
    """A bearer ID token comes alone: there is nothing that at_hash could fit."""
    assert "eidas1" == check(forge.id_token(), access_token=None).acr


@pytest.mark.parametrize("acr", [DROP, None, "", "0", "1", "eidas2", "EIDAS1", ["eidas1"], 1, "eidas1 "])
def test_CB_10_acr_lower_or_missing(acr: object) -> None:
    """The acr asked for must come back, as text; Keycloak's own connector takes a missing one, this does not."""
    assert "acr_insufficient" == refused(forge.id_token(acr=acr))


def test_CB_10_no_acceptable_acr_accepts_nothing() -> None:
    """An empty list permits nobody."""
    assert "acr_insufficient" == refused(forge.id_token(), acr_values=())
    assert "eidas2" == check(forge.id_token(acr="eidas2"), acr_values=("eidas2",)).acr


def test_CB_10_authentication_too_old() -> None:
    """With max_age the authentication is recent, or the sign-in is refused; without it its age does not matter here."""
    old = forge.id_token(auth_time=NOW - 3600)
    assert NOW - 3600 == check(old).auth_time
    assert "auth_too_old" == refused(old, max_age=900)
    assert "auth_too_old" == refused(forge.id_token(auth_time=DROP), max_age=900)
    assert "auth_too_old" == refused(forge.id_token(auth_time=NOW - 961), max_age=900)
    assert NOW - 960 == check(forge.id_token(auth_time=NOW - 960), max_age=900).auth_time
    assert "auth_too_old" == refused(forge.id_token(auth_time=NOW - 61), max_age=0)


@pytest.mark.parametrize("sub", [DROP, None, "", 1, [], " a", "é", "a" * 256, "a\n", "a\x7f"])
def test_oidcc_client_test_missing_sub(sub: object) -> None:
    """sub is 1 to 255 printable ASCII characters (RULE-04)."""
    assert "token_subject" == refused(forge.id_token(sub=sub))


def test_oidcc_client_test_the_named_ones() -> None:
    """The remaining refusals of the Basic plan, each by its own token."""
    assert "token_issuer" == refused(forge.id_token(iss="https://other.example"))  # oidcc-client-test-invalid-iss
    assert "token_audience" == refused(forge.id_token(aud="other"))  # oidcc-client-test-invalid-aud
    assert "token_audience" == refused(forge.id_token(aud=DROP))  # oidcc-client-test-missing-aud
    assert "token_times" == refused(forge.id_token(iat=DROP))  # oidcc-client-test-missing-iat
    assert "token_header" == refused(unsigned("none"))  # oidcc-client-test-idtoken-sig-none


def test_a_refusal_names_the_check_and_no_value() -> None:
    """The detail goes into the log: nothing of the token may be in it."""
    for token in (
        forge.id_token(iss="https://marker.example"),
        forge.id_token(aud="marker"),
        forge.id_token(nonce="marker"),
        forge.id_token(acr="marker"),
        forge.id_token(exp="marker"),
        forge.id_token(at_hash="marker"),
        sign(header(kid="marker"), id_claims()),
        sign(header(typ="marker"), id_claims()),
        sign(header(alg="marker"), id_claims()),
    ):
        with pytest.raises(PSCAnswerRefused) as caught:
            check(token)
        assert "marker" not in str(caught.value)
        assert caught.value.detail


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet='ABab01-_=.{}" \n', max_size=60))
def test_garbage_is_refused_and_nothing_else(text: str) -> None:
    """Whatever is handed in as a token, the answer is a refusal."""
    assert refused(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
CHECKED = (
    "exp",
    "iat",
    "nbf",
    "iss",
    "aud",
    "azp",
    "sub",
    "typ",
    "nonce",
    "at_hash",
    "acr",
    "auth_time",
    "sid",
    "events",
    "cnf",
)


@settings(max_examples=300, deadline=None)
@given(name=st.sampled_from(CHECKED), value=JSON)
def test_any_value_of_any_checked_claim(name: str, value: object) -> None:
    """A well-signed token with any JSON in a claim that is checked: believed with sane claims, or refused; never an exception."""
    try:
        found = check(forge.id_token(**{name: value}))
    except PSCAnswerRefused:
        return
    assert ISSUER == found.issuer
    assert "eidas1" == found.acr
    assert found.sub
    assert all(
        math.isfinite(moment) and 0 < moment < 4_102_444_800 for moment in (found.exp, found.iat, found.auth_time)
    )
    assert NOW - 60 <= found.exp


# -- IDP-12: renewal --------------------------------------------------------------------------------------------------------------


def renew(was: IdClaims | None = None, *, now: float = NOW + 600, **members: object) -> IdClaims:
    """check_refreshed as renewal calls it, ten minutes after the sign-in. Keycloak's renewed tokens have no nonce."""
    token = forge.id_token(**{"iat": now, "exp": now + 120, "nonce": DROP, **members})
    return check_refreshed(
        token,
        ONE,
        PROVIDER,
        CLIENT,
        was or check(forge.id_token()),
        access_token=ACCESS_TOKEN,
        acr_values=("eidas1",),
        now=now,
    )


def test_oidcc_client_test_refresh_token() -> None:
    """A renewed token continues the login: new times of its own, the same authentication."""
    found = renew()
    assert (NOW + 600, NOW + 720, NOW - 30) == (found.iat, found.exp, found.auth_time)
    assert NONCE == found.nonce
    assert renew(nonce=NONCE).sub == found.sub
    assert NOW == renew(iat=NOW, now=NOW).iat


@pytest.mark.parametrize(
    ("members", "code"),
    [
        pytest.param({"iss": "https://other.example"}, "token_issuer", id="refresh-token-invalid-issuer"),
        pytest.param({"sub": "another"}, "refreshed_other", id="refresh-token-invalid-sub"),
        pytest.param({"aud": "another"}, "token_audience", id="another audience"),
        pytest.param({"sid": "another"}, "refreshed_other", id="another session"),
        pytest.param({"nonce": "another"}, "token_nonce", id="another nonce"),
        pytest.param({"nonce": None}, "token_nonce", id="a nonce that is no text"),
        pytest.param({"auth_time": NOW + 500}, "refreshed_times", id="a later authentication"),
        pytest.param({"auth_time": NOW - 500}, "refreshed_times", id="an earlier authentication"),
        pytest.param({"iat": NOW - 1}, "refreshed_times", id="older than what it replaces"),
        pytest.param({"acr": "eidas0"}, "acr_insufficient", id="lower acr"),
        pytest.param({"acr": DROP}, "acr_insufficient", id="no acr"),
        pytest.param({"at_hash": "x"}, "token_at_hash", id="another access token"),
    ],
)
def test_IDP_12_a_changed_login_is_refused(members: dict[str, object], code: str) -> None:
    """ID-14: another person, session or authentication is not a renewal."""
    assert code == refusal(lambda: renew(**members))


def test_IDP_12_another_issuer_than_at_sign_in() -> None:
    """The record of a login at one issuer is not renewed by another one."""
    was = IdClaims.from_record({**check(forge.id_token()).to_record(), "issuer": "https://other.example"})
    assert "refreshed_other" == refusal(lambda: renew(was))


def test_a_renewal_never_makes_a_login_younger() -> None:
    """What a renewed token does not say stays as it was; the authentication does not move."""
    found = renew(auth_time=DROP, sid=DROP)
    assert (NOW - 30, True) == (found.auth_time, found.auth_time_given)
    assert "e0e82435-0000-4000-8000-000000000000" == found.sid
    undated = check(forge.id_token(auth_time=DROP, sid=DROP))
    assert (NOW, False) == (renew(undated, auth_time=NOW + 500).auth_time, renew(undated).auth_time_given)
    assert "now-known" == renew(undated, sid="now-known").sid


def test_a_renewal_keeps_a_higher_acr() -> None:
    """A login that was stepped up is renewed at its own level, besides the configured one."""
    was = check(forge.id_token(acr="eidas2"), acr_values=("eidas2",))
    assert "eidas2" == renew(was, acr="eidas2").acr
    assert "eidas1" == renew(was, acr="eidas1").acr
    assert "acr_insufficient" == refusal(lambda: renew(acr="eidas2"))


def test_a_renewed_nonce_without_one_at_sign_in() -> None:
    """A nonce that nobody sent is not believed."""
    was = IdClaims.from_record({**check(forge.id_token()).to_record(), "nonce": None})
    assert "token_nonce" == refusal(lambda: renew(was, nonce="invented"))


# -- BCL: logout tokens -----------------------------------------------------------------------------------------------------------

EVENT = "http://schemas.openid.net/event/backchannel-logout"


def logout(token: str, *, now: float = NOW, accept_plain_typ: bool = False) -> LogoutClaims:
    """check_logout_token with the honest key set."""
    return check_logout_token(token, ONE, PROVIDER, CLIENT, now=now, accept_plain_typ=accept_plain_typ)


def test_rp_backchannel_rpinitlogout() -> None:
    """An honest logout token names the session and the person; one of both is enough; exp may be missing."""
    found = logout(forge.logout_token())
    assert ("9f3c", NOW) == (found.jti, found.iat)
    assert ("c5869b2a-0000-4000-8000-000000000000", "e0e82435-0000-4000-8000-000000000000") == (found.sub, found.sid)
    assert logout(forge.logout_token(sub=DROP)).sub is None
    assert logout(forge.logout_token(sid=DROP, exp=DROP, typ=DROP)).sid is None
    assert "c5869b2a" not in repr(found)


def test_BCL_01_another_token_as_logout_token() -> None:
    """An ID or access token does not end a session, whatever its header says."""
    assert "token_type" == refusal(lambda: logout(forge.id_token()))
    assert "token_type" == refusal(lambda: logout(sign(header(typ="logout+jwt"), id_claims())))
    assert "logout_events" == refusal(lambda: logout(sign(header(typ="logout+jwt"), id_claims(typ=DROP))))
    assert "token_type" == refusal(lambda: logout(sign(header(typ="at+jwt"), forge.logout_claims(typ="Bearer"))))
    assert "token_bound" == refusal(lambda: logout(forge.logout_token(cnf={})))


@pytest.mark.parametrize(
    "events",
    [
        *(DROP, None, {}, [], EVENT, [EVENT], {EVENT: {"a": 1}}, {EVENT: None}, {EVENT: []}, {EVENT: ""}),
        *({EVENT: {}, "other": {}}, {"http://schemas.openid.net/event/other": {}}, {EVENT + "/": {}}),
    ],
)
def test_BCL_02_events(events: object) -> None:
    """events is exactly the one event with an empty object (no-event, wrong-event)."""
    assert "logout_events" == refusal(lambda: logout(forge.logout_token(events=events)))


@pytest.mark.parametrize("nonce", ["", "n", None])
def test_BCL_03_nonce(nonce: object) -> None:
    """A nonce is forbidden, even an empty one (with-nonce)."""
    assert "logout_nonce" == refusal(lambda: logout(forge.logout_token(nonce=nonce)))


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"sub": DROP, "sid": DROP}, "logout_target"),
        ({"sid": 7}, "token_malformed"),
        ({"sid": ""}, "token_malformed"),
        ({"sid": None}, "token_malformed"),
        ({"sub": ["a"]}, "token_malformed"),
    ],
)
def test_BCL_04_whose_logout(members: dict[str, object], code: str) -> None:
    """It must say, as text, which session or which person."""
    assert code == refusal(lambda: logout(forge.logout_token(**members)))


def test_BCL_05_signature_audience_issuer() -> None:
    """alg-none, wrong-alg, wrong-aud, wrong-iss, wrong key."""
    claims = forge.logout_claims()
    none = f"{b64(forge.as_bytes(header(alg='none', typ='logout+jwt')))}.{b64(forge.as_bytes(claims))}."
    assert "token_header" == refusal(lambda: logout(none))
    assert "token_header" == refusal(lambda: logout(sign(header(alg="HS256", typ="logout+jwt"), claims)))
    assert "token_audience" == refusal(lambda: logout(forge.logout_token(aud="other")))
    assert "token_issuer" == refusal(lambda: logout(forge.logout_token(iss="https://other.example")))
    assert "token_signature" == refusal(lambda: logout(sign(header(typ="logout+jwt"), claims, by="stranger")))
    assert "unknown_key" == refusal(lambda: logout(sign(header(typ="logout+jwt", kid="x"), claims)))


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"jti": DROP}, "logout_jti"),
        ({"jti": ""}, "token_malformed"),
        ({"jti": 1}, "token_malformed"),
        ({"iat": DROP}, "token_times"),
        ({"iat": NOW - 361, "exp": DROP}, "token_times"),
        ({"iat": NOW + 61}, "token_times"),
        ({"iat": str(NOW)}, "token_times"),
        ({"exp": NOW - 60, "iat": NOW - 100}, "token_expired"),
        ({"exp": "x"}, "token_times"),
        ({"nbf": NOW + 61}, "token_times"),
    ],
)
def test_BCL_06_identity_and_age(members: dict[str, object], code: str) -> None:
    """jti and iat are compulsory, exp holds when present, and the token is young."""
    assert code == refusal(lambda: logout(forge.logout_token(**members)))


@pytest.mark.parametrize("typ", ["JWT", DROP])
def test_BCL_10_plain_type(typ: object) -> None:
    """The header type that Keycloak sent until 2024 is taken only where that is asked for."""
    token = sign(header(typ=typ), forge.logout_claims())
    assert "token_type" == refusal(lambda: logout(token))
    assert "9f3c" == logout(token, accept_plain_typ=True).jti
    assert "token_type" == refusal(
        lambda: logout(sign(header(typ="at+jwt"), forge.logout_claims()), accept_plain_typ=True)
    )
