"""`sessions list|show|end`: live logins, seen and ended from the command line, on the very store that the service uses.

For: an administrator beside a running service; what is ended here is heard of by every process within a second. Refuses: to show a token (it could
not: the ring opens only the listing), to work on `memory:`, which no other process sees.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from forward_auth.logins import Listing, read_listing
from forward_auth.sealing import KeyRing, NotOurs
from forward_auth.settings import Settings
from forward_auth.stores import LoginRow, Selection, Store


@dataclass(frozen=True, slots=True)
class Entry:
    """One live login, as far as the ring opens it."""

    row: LoginRow
    listing: Listing | None

    @property
    def id(self) -> str:
        return self.row.id.hex()[:16]

    def as_json(self) -> dict[str, object]:
        listing = self.listing
        return {
            "id": self.id,
            "national_id": listing.subject if listing else None,
            "given_name": listing.given_name if listing else None,
            "family_name": listing.family_name if listing else None,
            "apps": list(listing.apps) if listing else [],
            "acr": listing.acr if listing else None,
            "auth_mode": listing.auth_mode if listing else None,
            "address": listing.address if listing else None,
            "auth_time": self.row.auth_time,
            "seen": self.row.seen,
            "idle_ends": min(self.row.seen + self.row.idle, self.row.ends),
            "ends": self.row.ends,
        }

    def as_line(self) -> str:
        listing = self.listing
        name = (
            f"{listing.given_name} {listing.family_name}".strip()
            if listing
            else "(sealed by a key that is not in the ring)"
        )
        apps = ", ".join(listing.apps) if listing and listing.apps else "-"
        return f"{self.id}  {listing.subject if listing else '-':<24} {name:<32} {_time(self.row.auth_time)}  {_time(self.row.seen)}  {_time(self.row.ends)}  {apps}"


HEAD = f"{'id':<16}  {'national id':<24} {'name':<32} {'authenticated':<17}  {'last seen':<17}  {'ends':<17}  apps"


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%MZ")


async def entries(store: Store, ring: KeyRing, now: int) -> list[Entry]:
    """All live logins, newest first."""
    found = []
    for row in await store.logins(now):
        listing: Listing | None
        try:
            listing = read_listing(ring.open("listing", row.listing, row.id))
        except (NotOurs, ValueError, KeyError, TypeError):
            listing = None
        found.append(Entry(row, listing))
    return found


async def end(
    store: Store,
    ring: KeyRing,
    settings: Settings,
    now: int,
    *,
    ids: list[str],
    national_ids: list[str],
    everyone: bool,
) -> list[str]:
    """End them; durable when this returns. -> ids of what was ended. Raises ValueError for an id that names none, or several."""
    keep = now + settings.session.absolute
    ended: list[str] = []

    async def run(which: Selection) -> None:
        ended.extend(each.login_id.hex()[:16] for each in await store.end(which, now, keep))

    rows = await store.logins(now) if ids else ()
    named: list[bytes] = []  # all of them before anything is ended: a wrong id ends nobody
    for wanted in ids:
        matching = [row.id for row in rows if len(wanted) >= 8 and row.id.hex().startswith(wanted.lower())]
        if len(matching) != 1:
            raise ValueError(
                f"{wanted}: {'no live login has' if not matching else 'several live logins have'} this id; see: psc-forward-auth sessions list"
            )
        named.append(matching[0])
    if everyone:
        await run(Selection(everyone=True))
    for national_id in national_ids:
        for tag in ring.tags("person", f"{settings.psc.issuer}\n{national_id}"):
            await run(Selection(person_tag=tag))
    for login_id in named:
        await run(Selection(login_id=login_id))
    return ended


def shown(found: list[Entry], *, as_json: bool, say: Callable[[str], None]) -> None:
    """Print a list."""
    if as_json:
        say(json.dumps([entry.as_json() for entry in found], ensure_ascii=False, indent=2))
        return
    say(HEAD)
    for entry in found:
        say(entry.as_line())
