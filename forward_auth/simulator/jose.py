"""Signing, written so that it can also be done wrong: compact JWS from raw bytes (RFC 7515), JWK sets (RFC 7517).

For: the simulator's honest tokens, and the dishonest ones a client must refuse. No library stands between: a library would
rightly refuse to make half of what the faults ask for. Refuses nothing, and therefore never checks a token of somebody else.
"""

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | bytes

_HASHES: Final[dict[str, hashes.HashAlgorithm]] = {
    "256": hashes.SHA256(),
    "384": hashes.SHA384(),
    "512": hashes.SHA512(),
}


class Raw(str):
    """A piece of JSON text to be written as it is: numbers like 1e300 or NaN, which json.dumps would not give."""

    __slots__ = ()


def b64u(data: bytes) -> str:
    """base64url without padding (RFC 7515 §2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def unb64u(text: str) -> bytes:
    """The bytes of unpadded base64url. Raises ValueError (binascii.Error)."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def dumps(members: Mapping[str, object]) -> str:
    """Compact JSON of an object; `Raw` values are written as they are (top level only)."""
    written = (
        f"{json.dumps(name)}:{value if isinstance(value, Raw) else json.dumps(value, ensure_ascii=False, separators=(',', ':'))}"
        for name, value in members.items()
    )
    return "{" + ",".join(written) + "}"


def half_hash(token: str, alg: str = "RS256") -> str:
    """at_hash of OpenID Connect Core §3.1.3.6: left half of the hash that goes with `alg`."""
    name = f"sha{alg[-3:]}" if alg[-3:] in _HASHES else "sha256"
    digest = hashlib.new(name, token.encode("ascii")).digest()
    return b64u(digest[: len(digest) // 2])


def signature(alg: str, key: PrivateKey, data: bytes) -> bytes:
    """The JWS signature of `data` (RFC 7518 §3, RFC 8037). An algorithm nobody knows signs with nothing."""
    if alg[:2] == "HS" and isinstance(key, bytes):
        return hmac.new(key, data, f"sha{alg[-3:]}").digest()
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(data)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        r, s = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")
    if isinstance(key, rsa.RSAPrivateKey) and alg[-3:] in _HASHES:
        digest = _HASHES[alg[-3:]]
        if alg[:2] == "PS":
            return key.sign(data, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
        return key.sign(data, padding.PKCS1v15(), digest)
    return b""


def compact(header: str, payload: bytes, alg: str, key: PrivateKey) -> str:
    """header.payload.signature"""
    signed = f"{b64u(header.encode())}.{b64u(payload)}"
    return f"{signed}.{b64u(signature(alg, key, signed.encode('ascii')))}"


def _number(value: int) -> str:
    return b64u(value.to_bytes((value.bit_length() + 7) // 8, "big"))


class Key:
    """One signing key and the name it is published under."""

    __slots__ = ("alg", "kid", "private")

    def __init__(self, private: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> None:
        self.private = private
        self.kid = secrets.token_urlsafe(32)
        self.alg = (
            "RS256"
            if isinstance(private, rsa.RSAPrivateKey)
            else "ES256"
            if isinstance(private, ec.EllipticCurvePrivateKey)
            else "EdDSA"
        )

    @classmethod
    def rsa(cls, bits: int = 2048) -> "Key":
        """A new RSA key. At most a few tenths of a second for 2048 bits."""
        return cls(rsa.generate_private_key(public_exponent=65537, key_size=bits))

    @classmethod
    def ec(cls) -> "Key":
        """A new P-256 key."""
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def ed25519(cls) -> "Key":
        """A new Ed25519 key."""
        return cls(ed25519.Ed25519PrivateKey.generate())

    def jwk(self) -> dict[str, Any]:
        """The public half, as a JWK set publishes it."""
        common = {"kid": self.kid, "use": "sig", "alg": self.alg}
        if isinstance(self.private, rsa.RSAPrivateKey):
            numbers = self.private.public_key().public_numbers()
            return {"kty": "RSA", **common, "n": _number(numbers.n), "e": _number(numbers.e)}
        if isinstance(self.private, ec.EllipticCurvePrivateKey):
            point = self.private.public_key().public_numbers()
            return {
                "kty": "EC",
                **common,
                "crv": "P-256",
                "x": b64u(point.x.to_bytes(32, "big")),
                "y": b64u(point.y.to_bytes(32, "big")),
            }
        public = self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return {"kty": "OKP", **common, "crv": "Ed25519", "x": b64u(public)}

    def private_numbers(self) -> dict[str, str]:
        """The members of a JWK that must never be published; one fault publishes them."""
        if not isinstance(self.private, rsa.RSAPrivateKey):
            return {}
        numbers = self.private.private_numbers()
        return {
            "d": _number(numbers.d),
            "p": _number(numbers.p),
            "q": _number(numbers.q),
            "dp": _number(numbers.dmp1),
            "dq": _number(numbers.dmq1),
            "qi": _number(numbers.iqmp),
        }

    def as_hmac_secret(self, variant: str) -> bytes:
        """The public key in one of the spellings an HS256 confusion attack tries (threats TOK-02)."""
        public = self.private.public_key()
        pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        if variant == "pkcs1" and isinstance(public, rsa.RSAPublicKey):
            return public.public_bytes(Encoding.PEM, PublicFormat.PKCS1)
        if variant == "modulus" and isinstance(public, rsa.RSAPublicKey):
            number = public.public_numbers().n
            return number.to_bytes((number.bit_length() + 7) // 8, "big")
        spellings = {
            "pem": pem,
            "crlf": pem.replace(b"\n", b"\r\n"),
            "stripped": pem.strip(),
            "der": public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
            "jwk": json.dumps(self.jwk()).encode(),
            "jwks": json.dumps({"keys": [self.jwk()]}).encode(),
            "empty": b"",
            "null": b"null",
        }
        return spellings[variant]


class KeyRing:
    """The signing key, the ones still published beside it, and odd ones that faults ask for (made on first use)."""

    def __init__(self, first: Key | None = None) -> None:
        self.current = first or Key.rsa()
        self.published: list[Key] = [self.current]
        self.known: list[Key] = [self.current]
        self._odd: dict[str, Key] = {}

    def rotate(self, *, keep: bool = True) -> Key:
        """A new signing key. `keep`: the old ones stay published, as Keycloak does until they are disabled."""
        self.current = Key.rsa()
        self.published = [self.current, *(self.published if keep else ())]
        self.known.append(self.current)
        return self.current

    def odd(self, kind: str) -> Key:
        """A key that an honest issuer would not use: `foreign` (RSA, never published), `second`, `ec`, `ed25519`."""
        if kind not in self._odd:
            self._odd[kind] = {"ec": Key.ec, "ed25519": Key.ed25519}.get(kind, Key.rsa)()
        return self._odd[kind]
