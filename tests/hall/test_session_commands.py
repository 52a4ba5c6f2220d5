"""`sessions list|show|end`: what an administrator sees and ends, on the service's own store."""

import asyncio
import json
from pathlib import Path

import pytest
from hall_samples import CONFIG_HEAD, HOST, NOW, a_ring, loaded
from store_samples import a_login, a_ticket

from forward_auth.logins import Listing, listing_bytes
from forward_auth.sealing import KeyRing
from forward_auth.session_commands import HEAD, Entry, end, entries, shown
from forward_auth.settings import Settings
from forward_auth.stores import LoginRow
from forward_auth.stores.memory import MemoryStore

RING = a_ring(2, 1)
PEOPLE = {
    1: ("899700000042", "Camille", "Martin"),
    2: ("899700000043", "Zoé", "Petit"),
    3: ("899700000042", "Camille", "Martin"),
}


@pytest.fixture
def service(tmp_path: Path) -> Settings:
    """A configuration; only its issuer and its limits matter here."""
    return loaded(tmp_path, f'{CONFIG_HEAD}[apps.dossier]\norigins = ["https://{HOST}"]\n')


def a_row(number: int, settings: Settings, ring: KeyRing = RING, **changes: object) -> LoginRow:
    subject, given, family = PEOPLE[number]
    login_id = bytes([number]) * 16
    listing = Listing(subject, given, family, ("dossier",) if number == 1 else (), "eidas1", "CARD", "192.0.2.7")
    facts: dict[str, object] = {
        "id": login_id,
        "listing": ring.seal("listing", listing_bytes(listing), login_id),
        "person_tag": ring.tag("person", f"{settings.psc.issuer}\n{subject}"),
        **changes,
    }
    return a_login(number, **facts)


async def a_store(*rows: LoginRow) -> MemoryStore:
    store = MemoryStore()
    await store.open()
    for number, row in enumerate(rows, 1):
        ticket = a_ticket(row, digest=bytes([number]) * 32)
        assert await store.add_login(row, ticket, NOW)
    return store


def test_live_logins_are_listed_as_far_as_the_ring_opens_them(service: Settings) -> None:
    """A row of another ring, or one that was moved, is there without a name."""

    async def story() -> list[Entry]:
        swapped = a_row(1, service).listing
        rows = [a_row(1, service), a_row(2, service, listing=swapped), a_row(3, service, listing=b"rubbish")]
        return await entries(await a_store(*rows), RING, NOW)

    found = {entry.row.id[0]: entry for entry in asyncio.run(story())}
    assert "Martin" == getattr(found[1].listing, "family_name", None)
    assert [None, None] == [found[2].listing, found[3].listing]


def test_a_list_is_for_people_or_for_programs(service: Settings) -> None:
    """One line a login under a head; or JSON with every field, null where the ring does not open it."""
    row = a_row(1, service)
    known = Entry(row, Listing("899700000042", "Zoé", "Martin", ("a", "b"), "eidas1", "CARD", "192.0.2.7"))
    unknown = Entry(a_row(2, service), None)
    lines: list[str] = []
    shown([known, unknown], as_json=False, say=lines.append)
    assert HEAD == lines[0]
    assert lines[1].startswith(f"{'01' * 8}  899700000042 ")
    assert "Zoé Martin" in lines[1]
    assert "2027-01-15 08:00Z" in lines[1]
    assert lines[1].endswith("  a, b")
    assert "sealed by a key that is not in the ring" in lines[2]
    assert lines[2].endswith("  -")
    said: list[str] = []
    shown([known, unknown], as_json=True, say=said.append)
    first, second = json.loads(said[0])
    assert {
        "id": "01" * 8,
        "national_id": "899700000042",
        "given_name": "Zoé",
        "family_name": "Martin",
        "apps": ["a", "b"],
        "acr": "eidas1",
        "auth_mode": "CARD",
        "address": "192.0.2.7",
        "auth_time": NOW,
        "seen": NOW,
        "idle_ends": NOW + 1800,
        "ends": NOW + 14_400,
    } == first
    assert ([], None, None) == (second["apps"], second["national_id"], second["address"])
    assert first.keys() == second.keys()


@pytest.mark.parametrize(
    ("ids", "national_ids", "everyone", "expected"),
    [
        (["01" * 8], [], False, {1}),
        (["0202020202"], [], False, {2}),
        (["01" * 16, "02" * 8], [], False, {1, 2}),
        ([], ["899700000042"], False, {1, 3}),
        ([], ["899700000042", "899700000043"], False, {1, 2, 3}),
        ([], ["nobody"], False, set()),
        ([], [], True, {1, 2, 3}),
        (["01" * 8], ["899700000042"], True, {1, 2, 3}),
    ],
)
def test_SESS_06_logins_are_ended_by_id_by_person_or_all(
    service: Settings, ids: list[str], national_ids: list[str], everyone: bool, expected: set[int]
) -> None:
    """Each is told once; the others live on; rows from before a key rotation are found too."""

    async def story() -> tuple[list[str], set[int]]:
        rows = [a_row(1, service), a_row(2, service), a_row(3, service, a_ring(1))]
        store = await a_store(*rows)
        ended = await end(store, RING, service, NOW, ids=ids, national_ids=national_ids, everyone=everyone)
        return ended, {row.id[0] for row in await store.logins(NOW)}

    ended, left = asyncio.run(story())
    assert sorted(bytes([number]).hex() * 8 for number in expected) == sorted(ended)
    assert {1, 2, 3} - expected == left


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ("0404040404040404", "no live login has this id"),
        ("0101", "no live login has this id"),
        ("61616161", "several live logins have this id"),
        ("", "no live login has this id"),
    ],
)
def test_SESS_06_a_wrong_id_ends_nobody(service: Settings, wrong: str, sentence: str) -> None:
    """Nor those named beside it: it is all or nothing, so that the answer tells the whole truth."""

    async def story() -> tuple[str, int]:
        twin = b"a" * 8
        rows = [
            a_row(1, service),
            a_row(2, service, id=twin + bytes(8)),
            a_row(3, service, id=twin + bytes([1]) * 8),
        ]
        store = await a_store(*rows)
        with pytest.raises(ValueError, match="see: psc-forward-auth sessions list") as caught:
            await end(store, RING, service, NOW, ids=["01" * 8, wrong], national_ids=["899700000043"], everyone=True)
        return str(caught.value), len(await store.logins(NOW))

    said, left = asyncio.run(story())
    assert sentence in said
    assert 3 == left
