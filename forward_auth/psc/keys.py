"""PSC's signing keys: which ones are believed, and when they are asked for again.

One fetch in flight; the last good set serves through an outage, 24 hours at most; an unknown `kid` asks again at once, but not
more than once in 30 seconds, however many tokens name keys that do not exist (threats IDP-04 … IDP-07, CVE-2026-48524). Refuses:
any key that is not RSA of 2048 bits or more meant for verifying RS256, and any key that carries its private half.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers

from forward_auth.errors import ForwardAuthError, PSCAnswerRefused, PSCUnavailable
from forward_auth.psc.flight import Flight
from forward_auth.psc.strict import decode_base64url, parse_object

JWKS_LIMIT: Final = 1024 * 1024
MOST_KEYS: Final = 100
PACE: Final = 30
"""Seconds between two fetches caused by an unknown kid."""
RETRY: Final = 5
"""Seconds between two fetches when there is no set to check with and the last fetch failed."""
STALE: Final = 24 * 3600
"""Seconds for which the last good set serves when it cannot be renewed."""

_MOST_BITS: Final = 8192  # verifying costs grow with the square; nobody signs with more
_MOST_EXPONENT: Final = 1 << 32
_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


class UnknownKey(PSCAnswerRefused):
    """The token names a key that this set does not have. The one refusal that a newer set may mend."""

    def __init__(self, detail: str = "no usable key for the token's kid") -> None:
        super().__init__("unknown_key", detail)


@dataclass(frozen=True, slots=True)
class KeySet:
    """The usable keys of one JWKS. `unnamed` are those without a kid; `skipped` counts what was not usable."""

    by_kid: Mapping[str, RSAPublicKey] = field(default_factory=lambda: MappingProxyType({}))
    unnamed: tuple[RSAPublicKey, ...] = ()
    skipped: int = 0

    def __len__(self) -> int:
        return len(self.by_kid) + len(self.unnamed)

    def find(self, kid: str | None) -> RSAPublicKey:
        """The key of that kid; without a kid the only key there is (OpenID Core §10.1). Raises UnknownKey; never tries several."""
        if kid is not None:
            key = self.by_kid.get(kid)
            if key is None:
                raise UnknownKey
            return key
        if len(self) != 1:
            raise UnknownKey("the token names no key and there is not exactly one")
        return next(iter((*self.by_kid.values(), *self.unnamed)))


def read_jwks(body: bytes) -> KeySet:
    """The usable keys of a JWK Set (RFC 7517 §5); unusable ones are skipped, of more than 100 the first 100 are read.

    Raises PSCAnswerRefused: `jwks_malformed` when there is no list of keys, `jwks_empty` when none is usable, and what
    parse_json raises.
    """
    members = parse_object(body, JWKS_LIMIT).get("keys")
    if not isinstance(members, list):
        raise PSCAnswerRefused("jwks_malformed", "no list of keys")
    by_kid: dict[str, RSAPublicKey] = {}
    unnamed: list[RSAPublicKey] = []
    ambiguous: set[str] = set()
    skipped = max(0, len(members) - MOST_KEYS)
    for member in members[:MOST_KEYS]:
        try:
            kid, key = _read_key(member)
        except ValueError:
            skipped += 1
            continue
        if kid is None:
            unnamed.append(key)
        elif by_kid.setdefault(kid, key).public_numbers() != key.public_numbers():
            ambiguous.add(kid)  # two different keys of one name: which one is meant cannot be known, so neither is
    for kid in ambiguous:
        del by_kid[kid]
        skipped += 2
    found = KeySet(MappingProxyType(by_kid), tuple(unnamed), skipped)
    if not len(found):
        raise PSCAnswerRefused("jwks_empty", f"no usable key, {skipped} skipped")
    return found


def _read_key(member: object) -> tuple[str | None, RSAPublicKey]:
    """One JWK; ValueError when it is not a public RSA key for RS256."""
    if not isinstance(member, dict) or member.get("kty") != "RSA":
        raise ValueError("not an RSA key")
    if not _PRIVATE.isdisjoint(member):
        raise ValueError("a private key was published")
    if member.get("use", "sig") != "sig" or member.get("alg", "RS256") != "RS256":
        raise ValueError("meant for something else")
    operations = member.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise ValueError("not meant for verifying")
    kid = member.get("kid")
    if kid is not None and not (isinstance(kid, str) and 0 < len(kid) <= 256):
        raise ValueError("kid is not a short text")
    n, e = member.get("n"), member.get("e")
    if not isinstance(n, str) or not isinstance(e, str) or len(n) > _MOST_BITS // 6 + 1 or len(e) > 8:
        raise ValueError("no modulus or exponent")
    modulus, exponent = int.from_bytes(decode_base64url(n)), int.from_bytes(decode_base64url(e))
    if not 2048 <= modulus.bit_length() <= _MOST_BITS or exponent >= _MOST_EXPONENT or modulus % 2 == 0:
        raise ValueError("too short, too long, or no product of two primes")
    return kid, RSAPublicNumbers(exponent, modulus).public_key()


class SigningKeys:
    """The current key set of one issuer. `fetch` gives the bytes of the JWKS or raises a ForwardAuthError; `clock` is Unix seconds."""

    def __init__(self, fetch: Callable[[], Awaitable[bytes]], clock: Callable[[], float], log: logging.Logger) -> None:
        self._fetch = fetch
        self._clock = clock
        self._log = log
        self._set: KeySet | None = None
        self._body = b""
        self._fetched = 0.0
        self._asked_for_unknown: float | None = None
        self._asked_in_vain: float | None = None
        self._flight = Flight(self._refresh, "psc-signing-keys")

    @property
    def known(self) -> bool:
        """Whether there ever was a usable set, however old."""
        return self._set is not None

    @property
    def body(self) -> bytes:
        """The JWKS as it was received, to be kept for the next start; b"" when there is none."""
        return self._body

    @property
    def fetched(self) -> float:
        """When the set was received, Unix seconds."""
        return self._fetched

    def age(self) -> float | None:
        """Seconds since the set was last received whole; None when there is none. For the gauge."""
        return None if self._set is None else max(0.0, self._clock() - self._fetched)

    def restore(self, body: bytes, fetched: float) -> None:
        """Begin with a copy kept from before. Raises PSCAnswerRefused as read_jwks; never replaces a set already fetched."""
        restored = read_jwks(body)
        if self._set is None:
            self._set, self._body, self._fetched = restored, body, fetched

    async def current(self) -> KeySet:
        """The set to check with; fetched first when there is none or it is too old. Raises PSCUnavailable `keys_unknown`, `keys_stale`."""
        if self._set is None or self._too_old():
            code = "keys_unknown" if self._set is None else "keys_stale"
            if not self._flight.under_way and self._within(self._asked_in_vain, RETRY):
                raise PSCUnavailable(code, "no signing keys; asked for a moment ago")
            try:
                return await self.refresh()
            except ForwardAuthError as error:
                self._asked_in_vain = self._clock()
                raise PSCUnavailable(code, f"no signing keys: {error.code}") from error
        return self._set

    async def newer(self, than: KeySet) -> KeySet | None:
        """A set that differs from `than`, which lacked a key; None when there is none to be had now.

        Asks PSC at most once in PACE seconds, whether that works or not; whoever comes meanwhile shares the fetch in flight.
        """
        if not self._flight.under_way:
            if self._set is not None and self._set is not than:
                return self._set  # somebody else's unknown kid has brought it already
            if self._within(self._asked_for_unknown, PACE):
                return None
            self._asked_for_unknown = self._clock()
        try:
            found = await self.refresh()
        except ForwardAuthError:
            return None  # logged by the fetch; the set at hand serves on
        return None if found is than else found

    async def refresh(self) -> KeySet:
        """Fetch the set now, or join the fetch in flight. Raises what the fetch raises; the set at hand stays then."""
        return await self._flight.join()

    async def close(self) -> None:
        """End the fetch in flight."""
        await self._flight.close()

    def _within(self, moment: float | None, seconds: float) -> bool:
        # A clock that stepped back must not silence us until it has caught up: the difference is then negative.
        return moment is not None and 0 <= self._clock() - moment < seconds

    def _too_old(self) -> bool:
        return self._clock() - self._fetched > STALE

    async def _refresh(self) -> KeySet:
        try:
            body = await self._fetch()
            found = read_jwks(body)
        except ForwardAuthError as error:
            self._log.warning("signing keys not refreshed: %s", error)
            raise
        if self._set is not None and body == self._body:
            self._fetched = self._clock()
            return self._set  # the same object: callers see that nothing is new
        if found.skipped:
            self._log.info("signing keys: %d usable, %d skipped", len(found), found.skipped)
        self._set, self._body, self._fetched = found, body, self._clock()
        return found
