"""The last good copy of PSC's metadata and keys, kept in the store so that a start without PSC is possible (decision 11).

What is read back is believed as if PSC had just said it, and the store is not trusted: so a note is sealed under the key ring, and
one that was not sealed by us is no note. Refuses: to be a reason for not starting; a store that cannot answer only means no copy.
"""

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import Final, Protocol

from forward_auth.psc.strict import parse_object
from forward_auth.sealing import KeyRing, NotOurs

KEPT: Final = 24 * 3600
"""Seconds for which a copy is good."""
_LIMIT: Final = 4 * 1024 * 1024
_PURPOSE: Final = "psc metadata"


class Notes(Protocol):
    """The part of the store that is needed here (stores.Store has it)."""

    async def put_note(self, name: str, value: bytes, until: int) -> None:
        """See Store.put_note."""

    async def get_note(self, name: str, now: int) -> bytes | None:
        """See Store.get_note."""


class SealedNotes:
    """Notes that the store can lose but neither read nor forge. Raises StoreUnavailable as the store does."""

    def __init__(self, notes: Notes, ring: KeyRing) -> None:
        self._notes = notes
        self._ring = ring

    async def put_note(self, name: str, value: bytes, until: int) -> None:
        """Seal and put."""
        await self._notes.put_note(name, self._ring.seal(_PURPOSE, value, name.encode()), until)

    async def get_note(self, name: str, now: int) -> bytes | None:
        """The note; None also when it was not sealed by this ring under this name."""
        sealed = await self._notes.get_note(name, now)
        if sealed is None:
            return None
        try:
            return self._ring.open(_PURPOSE, sealed, name.encode())
        except NotOurs:
            return None


@dataclass(frozen=True, slots=True)
class Copy:
    """What is kept: both documents byte for byte, and when they were last seen whole (Unix seconds)."""

    metadata: bytes
    keys: bytes
    seen: int

    def to_note(self) -> bytes:
        """The bytes for put_note."""
        return json.dumps(
            {
                "metadata": base64.b64encode(self.metadata).decode("ascii"),
                "keys": base64.b64encode(self.keys).decode("ascii"),
                "seen": self.seen,
            }
        ).encode("ascii")

    @classmethod
    def from_note(cls, note: bytes, now: float) -> "Copy | None":
        """None when the note is not one of ours, is older than KEPT or comes from the future. Raises PSCAnswerRefused when malformed."""
        members = parse_object(note, _LIMIT)
        metadata, keys, seen = members.get("metadata"), members.get("keys"), members.get("seen")
        if not isinstance(metadata, str) or not isinstance(keys, str) or not isinstance(seen, int):
            return None
        if not now - KEPT <= seen <= now + 60:
            return None
        try:
            return cls(base64.b64decode(metadata, validate=True), base64.b64decode(keys, validate=True), seen)
        except ValueError:
            return None


def note_name(issuer: str) -> str:
    """One note per issuer."""
    return "psc " + hashlib.sha256(issuer.encode()).hexdigest()[:32]
