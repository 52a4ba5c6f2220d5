"""What travels through the browser or lies in the store, sealed for one purpose each; the key ring and its rotation.

For: the ring (a file of random keys, newest first); tickets, whose keyed tag lets a forged one be refused without touching the store;
seals (AES-256-GCM) whose purpose and place are bound as associated data; look-up tags (HMAC) so that the store can find what it cannot
read; login keys, wrapped once per ticket. Refuses: a key shorter than 32 bytes, a second spelling of the same secret, anything sealed
for another purpose, place or ring.

Layout. Per ring key and purpose one sub-key by HKDF-SHA256 (RFC 5869). A seal is key-id(1) nonce(12) ciphertext; random nonces are
safe to about 2^32 seals per sub-key, far beyond what one rotation sees. A ticket is key-id(1) secret(32) tag(15) in base64url: 48 bytes,
64 characters, no padding, so that there is exactly one spelling. Two witnesses are needed to open a login: the store (sealed record, wrapped
key) and the browser (ticket secret); the ring alone opens only the listing (decisions on sealing).
"""

import base64
import binascii
import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from forward_auth.errors import ForwardAuthError

SECRET_BYTES: Final = 32
_TAG_BYTES: Final = 15
TICKET_LENGTH: Final = 64  # in base64: key id, secret and tag are 48 bytes
_BODY_LENGTH: Final = 44  # of which the rest is the tag: both are whole groups of base64
_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_TO_URL: Final = bytes.maketrans(b"+/", b"-_")
_FROM_URL: Final = bytes.maketrans(b"-_", b"+/")
_LONGEST_SEALED: Final = 64 * 1024


class RingError(ForwardAuthError):
    """The key ring's file cannot be used; `detail` says the line and the cure."""


class NotOurs(ForwardAuthError):
    """A sealed value that was not sealed by this ring for this purpose and place, or was altered."""

    def __init__(self, detail: str = "") -> None:
        super().__init__("not_ours", detail)


@dataclass(frozen=True, slots=True)
class RingKey:
    """One key. `id`: 0..255, unique in the ring; `created`: Unix seconds; `retired`: when a newer one replaced it, None = active."""

    id: int
    created: int
    retired: int | None
    secret: bytes = field(repr=False)


class Found(NamedTuple):
    """A ticket whose tag is ours: the digest under which the store knows it, and the secret that unwraps its login's key."""

    digest: bytes
    secret: bytes
    key_id: int


def has_ticket_form(text: bytes) -> bool:
    """64 characters of base64url and nothing else; nothing is said of who made it."""
    return len(text) == TICKET_LENGTH and not text.translate(None, _ALPHABET)


def _tag(began: "hashlib.blake2s", body: bytes) -> bytes:
    """Keyed BLAKE2s (RFC 7693 §2.9), a MAC at a third of HMAC-SHA256's price: it is computed for every unknown cookie. -> 20 characters."""
    mac = began.copy()
    mac.update(body)
    return binascii.b2a_base64(mac.digest(), newline=False).translate(_TO_URL)


def _prefix(key_id: int, bits: int) -> bytes:
    """The first two characters of a ticket whose secret begins with these four bits."""
    return base64.urlsafe_b64encode(bytes((key_id, bits << 4)))[:2]


class KeyRing:
    """The keys, newest first. The first seals; all of them open."""

    def __init__(self, keys: Sequence[RingKey]) -> None:
        if not keys:
            raise RingError("keys", "the key ring is empty; make one with: psc-forward-auth keys new FILE")
        self.keys = tuple(keys)
        self._by_id = {key.id: key for key in self.keys}
        if len(self._by_id) != len(self.keys):
            raise RingError(
                "keys", "two keys of the ring have the same id; make a new ring with: psc-forward-auth keys new FILE"
            )
        self._sub_keys: dict[tuple[int, str], bytes] = {}
        self._seals: dict[tuple[int, str], AESGCM] = {}
        self._prefixes = {_prefix(key.id, bits): key.id for key in self.keys for bits in range(16)}
        self._tags: dict[tuple[bytes, str, str], hashlib.blake2s] = {}

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(str(key.id) for key in self.keys)})"

    # -- tickets and one-time codes --------------------------------------------------------------------------------------------

    def new_ticket(self, purpose: str, host: str) -> tuple[str, Found]:
        """A fresh ticket for one hostname. -> (its text, what the store and the wrapping need)."""
        secret = secrets.token_bytes(SECRET_BYTES)
        key = self.keys[0]
        body = base64.urlsafe_b64encode(bytes((key.id,)) + secret)
        began = self._begin(body[:2], purpose, host)
        assert began is not None  # the key is of this ring
        return (body + _tag(began, body)).decode(), Found(hashlib.sha256(secret).digest(), secret, key.id)

    def read_ticket(self, text: bytes, purpose: str, host: str) -> Found | None:
        """None unless this ring made exactly this text for this purpose and host. Touches nothing but the tag, which is computed over the
        text as it stands: a ticket that is not ours costs no decoding, and no ticket has a second spelling."""
        if len(text) != TICKET_LENGTH:
            return None
        began = self._tags.get((text[:2], purpose, host)) or self._begin(text[:2], purpose, host)
        if began is None:
            return None
        body = text[:_BODY_LENGTH]
        if not hmac.compare_digest(_tag(began, body), text[_BODY_LENGTH:]):
            return None
        raw = binascii.a2b_base64(body.translate(_FROM_URL), strict_mode=True)
        return Found(hashlib.sha256(raw[1:]).digest(), raw[1:], raw[0])

    def _begin(self, prefix: bytes, purpose: str, host: str) -> "hashlib.blake2s | None":
        """The state of a tag after the purpose and the host, which are framed by their lengths; it is kept and copied. `prefix`: how a ticket
        begins, which tells the key: its number and the first four bits of the secret."""
        key_id = self._prefixes.get(prefix)
        if key_id is None:
            return None
        place = b"%d %b%d %b" % (len(purpose), purpose.encode(), len(host), host.encode())
        began = hashlib.blake2s(place, key=self._sub_key(key_id, "tag"), digest_size=_TAG_BYTES)
        self._tags[prefix, purpose, host] = began
        return began

    # -- login keys ------------------------------------------------------------------------------------------------------------

    def wrap(self, login_key: bytes, found: Found, purpose: str, place: bytes) -> bytes:
        """The login's key, to be opened again only with this ticket's secret and this ring. `place`: what the row is about."""
        return AESGCM(self._wrapping_key(found, purpose)).encrypt(bytes(12), login_key, place)  # the key is used once

    def unwrap(self, wrapped: bytes, found: Found, purpose: str, place: bytes) -> bytes:
        """Raises NotOurs when the row was forged, moved to another login, or made under another ring."""
        try:
            return AESGCM(self._wrapping_key(found, purpose)).decrypt(bytes(12), wrapped, place)
        except (InvalidTag, ValueError):
            raise NotOurs(f"{purpose}: the wrapped login key does not open") from None

    def _wrapping_key(self, found: Found, purpose: str) -> bytes:
        return HKDF(SHA256(), 32, salt=found.secret, info=b"wrap " + purpose.encode()).derive(
            self._by_id[found.key_id].secret
        )

    # -- seals -----------------------------------------------------------------------------------------------------------------

    def seal(self, purpose: str, plain: bytes, place: bytes = b"") -> bytes:
        """Sealed for one purpose and one place (a cookie's name, a row's id)."""
        key_id = self.keys[0].id
        nonce = os.urandom(12)
        return bytes((key_id,)) + nonce + self._seal(key_id, purpose).encrypt(nonce, plain, place)

    def open(self, purpose: str, sealed: bytes, place: bytes = b"") -> bytes:
        """Raises NotOurs."""
        if len(sealed) < 29 or sealed[0] not in self._by_id:
            raise NotOurs(f"{purpose}: too short, or sealed by a key that is not in the ring")
        try:
            return self._seal(sealed[0], purpose).decrypt(sealed[1:13], sealed[13:], place)
        except InvalidTag:
            raise NotOurs(f"{purpose}: altered, or sealed for something else") from None

    def _seal(self, key_id: int, purpose: str) -> AESGCM:
        seal = self._seals.get((key_id, purpose))
        if seal is None:
            seal = self._seals[key_id, purpose] = AESGCM(self._sub_key(key_id, "seal " + purpose))
        return seal

    # -- look-up tags and form tokens ------------------------------------------------------------------------------------------

    def tag(self, purpose: str, value: str) -> bytes:
        """The keyed hash under which the store finds `value`, by the newest key."""
        return hmac.digest(self._sub_key(self.keys[0].id, "look-up " + purpose), value.encode(), "sha256")

    def tags(self, purpose: str, value: str) -> tuple[bytes, ...]:
        """The same by every key of the ring: rows written before a rotation are found too."""
        return tuple(
            hmac.digest(self._sub_key(key.id, "look-up " + purpose), value.encode(), "sha256") for key in self.keys
        )

    def _sub_key(self, key_id: int, purpose: str) -> bytes:
        sub_key = self._sub_keys.get((key_id, purpose))
        if sub_key is None:
            info = b"psc-forward-auth " + purpose.encode()
            sub_key = self._sub_keys[key_id, purpose] = HKDF(SHA256(), 32, salt=None, info=info).derive(
                self._by_id[key_id].secret
            )
        return sub_key


def seal_record(key: bytes, plain: bytes, login_id: bytes, version: int) -> bytes:
    """A login's record under the login's own key; its id and version are bound, so that rows cannot be swapped or rolled back."""
    nonce = os.urandom(12)
    return nonce + _record_seal(key).encrypt(nonce, plain, b"login %b %d" % (login_id, version))


def open_record(key: bytes, sealed: bytes, login_id: bytes, version: int) -> bytes:
    """Raises NotOurs when the row is not that login's, or was altered."""
    try:
        return _record_seal(key).decrypt(sealed[:12], sealed[12:], b"login %b %d" % (login_id, version))
    except (InvalidTag, ValueError):
        raise NotOurs("login record: altered, or of another login") from None


@lru_cache(maxsize=64)
def _record_seal(key: bytes) -> AESGCM:
    return AESGCM(key)


def to_text(raw: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def from_text(text: str) -> bytes:
    """The one strict reading of base64url without padding; raises NotOurs. Encoding again must give the same text: no second spelling."""
    if len(text) > _LONGEST_SEALED or not re.fullmatch(r"[A-Za-z0-9_-]+", text):
        raise NotOurs("not base64url")
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        raise NotOurs("not base64url") from None
    if to_text(raw) != text:
        raise NotOurs("not canonical base64url")
    return raw


# -- the file ------------------------------------------------------------------------------------------------------------------

_HEAD: Final = """\
# Key ring of PSC Forward Auth. Whoever has this file and the store can list who is signed in; keep it 0600 and out of backups that leave.
# One key a line, newest first: id created retired key. The first seals, the others only open. Rotate with: psc-forward-auth keys rotate FILE
# Removing a line ends every session made under that key: to sign everybody out at once, keys rotate --drop-old.
"""
_LINE: Final = re.compile(r"(?P<id>\d{1,3}) (?P<created>\d{1,12}) (?P<retired>\d{1,12}|-) (?P<key>[A-Za-z0-9_-]+)")


def new_key(now: int, id_: int = 1) -> RingKey:
    return RingKey(id_, now, None, secrets.token_bytes(32))


def rotated(keys: Sequence[RingKey], now: int, *, keep: int) -> tuple[RingKey, ...]:
    """A new first key; keys retired more than `keep` seconds ago are dropped. keep=0 drops every old key: everybody signs in again."""
    fresh = new_key(now, (max(key.id for key in keys) + 1) % 256)
    while any(key.id == fresh.id for key in keys):
        fresh = new_key(now, (fresh.id + 1) % 256)
    older = (RingKey(key.id, key.created, key.retired if key.retired is not None else now, key.secret) for key in keys)
    return (fresh, *(key for key in older if key.retired is None or now - key.retired < keep))


def read_ring(path: Path, *, mode_of: Callable[[Path], int] | None = None) -> tuple[RingKey, ...]:
    """The keys of a ring file, newest first. Raises RingError naming the line and the cure; never shows a key."""
    try:
        mode = mode_of(path) if mode_of else path.stat().st_mode
        text = path.read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise RingError(
            "keys", f"{path}: cannot be read ({type(error).__name__}); make one with: psc-forward-auth keys new {path}"
        ) from None
    if mode & 0o077:
        raise RingError("keys", f"{path}: readable by others; run: chmod 600 {path}")
    keys: list[RingKey] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line.strip())
        if found is None:
            raise RingError(
                "keys",
                f"{path}:{number}: not «id created retired key»; make a new ring with: psc-forward-auth keys new FILE",
            )
        try:
            secret = from_text(found["key"])
        except NotOurs:
            raise RingError(
                "keys",
                f"{path}:{number}: the key is not base64url; make a new ring with: psc-forward-auth keys new FILE",
            ) from None
        if len(secret) < SECRET_BYTES or int(found["id"]) > 255:
            raise RingError(
                "keys",
                f"{path}:{number}: key shorter than {SECRET_BYTES} bytes or id above 255; make a new ring with: psc-forward-auth keys new FILE",
            )
        if len(set(secret)) < 8:
            raise RingError(
                "keys", f"{path}:{number}: the key is not random; make a new ring with: psc-forward-auth keys new FILE"
            )
        keys.append(
            RingKey(
                int(found["id"]),
                int(found["created"]),
                None if found["retired"] == "-" else int(found["retired"]),
                secret,
            )
        )
    if not keys:
        raise RingError("keys", f"{path}: no key in it; make one with: psc-forward-auth keys new FILE")
    return tuple(keys)


def ring_text(keys: Sequence[RingKey]) -> str:
    """The content of a ring file."""
    lines = (
        f"{key.id} {key.created} {'-' if key.retired is None else key.retired} {to_text(key.secret)}\n" for key in keys
    )
    return _HEAD + "".join(lines)


def write_ring(path: Path, keys: Sequence[RingKey], *, replace: bool) -> None:
    """Write 0600, whole or not at all. `replace` False: a file that is there is never overwritten (raises RingError)."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(ring_text(keys))
            file.flush()
            os.fsync(file.fileno())
        if replace:
            temporary.replace(path)
        else:
            os.link(temporary, path)  # fails if it is there: two processes that start at once agree on one ring
            temporary.unlink()
    except FileExistsError:
        temporary.unlink(missing_ok=True)
        raise RingError(
            "keys_exist",
            f"{path}: is there already and is never overwritten; rotate it with: psc-forward-auth keys rotate {path}",
        ) from None
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RingError(
            "keys", f"{path}: cannot be written ({error.strerror}); check that the directory exists and is ours"
        ) from None
