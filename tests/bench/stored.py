"""Logins for the bench, written as sign-ins write them: sealed records, wrapped keys, tickets that open them.

For: ten thousand or a million sessions without as many sign-ins. Rows are made by forward_auth's own sessions, sealing and stores. Refuses: to
be fast at the price of being different: the service that reads them believes them for the same reasons as any others.
"""

import asyncio
import sqlite3
import time
from pathlib import Path
from secrets import token_bytes

from forward_auth.config import load
from forward_auth.identity import Identity, Situation
from forward_auth.logins import Record, record_bytes
from forward_auth.sealing import seal_record
from forward_auth.secret import Secret
from forward_auth.service import Service
from forward_auth.stores import LoginRow
from forward_auth.stores import sqlite_rows as rows

HOST = "dossier.hopital.example"
PURPOSE = "ticket"
_SITUATION = Situation(
    profession="10",
    category="C",
    speciality="SM26",
    sector="SA07",
    mode="L",
    structure="R102671",
    structure_name="CABINET M DUPONT",
    structures=("R102671",),
)


def identity_of(number: int, issuer: str, now: int) -> Identity:
    return Identity(
        issuer=issuer,
        sub=f"f:550dc1c8-d97b-4b1e-ac8c-8eb4471cf9dd:{number}",
        subject=f"8{10000000000 + number}",
        given_name="CAMILLE",
        family_name="DUPONT",
        civility="M",
        situations=(_SITUATION,),
        acr="eidas1",
        auth_mode="CARD",
        auth_time=now,
        other_ids=(),
    )


def record_of(number: int, issuer: str, now: int, *, small: bool = False) -> Record:
    """`small`: with short tokens; the rows that only stand there need not fill the disk."""
    identity = identity_of(number, issuer, now)
    claims = {
        "issuer": issuer,
        "sub": identity.sub,
        "sid": f"sid-{number}",
        "acr": "eidas1",
        "auth_time": now,
        "auth_time_given": True,
        "iat": now,
        "exp": now + 120,
        "nonce": None,
    }
    return Record(
        identity=identity,
        claims=claims,
        sid=f"sid-{number}",
        id_token=Secret("i" * (100 if small else 1200)),
        refresh_token=Secret("r" * (100 if small else 700)),
        refresh_issued=now,
        refresh_lives=1800,
        entered=frozenset(
            {"dossier"}
        ),  # as after a restart in the middle of the day; else each first check also writes that
    )


def fill(config: Path, count: int, wanted: int | None = None) -> list[str]:
    """Write `count` live logins into the store of that configuration, whose service must not be running. -> `wanted` tickets of them, spread
    evenly (all by default)."""
    service = Service(load(config, {}), clock=time.time)
    sessions = service.sessions
    settings = service.settings
    path = Path(settings.session.store.removeprefix("sqlite:"))

    async def make_file() -> None:
        await sessions.store.open()
        await sessions.store.close()

    asyncio.run(make_file())
    now = int(time.time())
    step = max(1, count // (wanted or count))
    tickets: list[str] = []
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous = OFF")  # nobody reads it yet
        connection.execute("PRAGMA cache_size = -1000000")
        connection.execute("PRAGMA wal_autocheckpoint = 100000")
        for start in range(0, count, 50_000):
            connection.execute("BEGIN IMMEDIATE")
            for number in range(start, min(count, start + 50_000)):
                keep = number % step == 0 and len(tickets) < (wanted or count)
                record = record_of(number, settings.psc.issuer, now, small=not keep)
                login_id, key = token_bytes(16), token_bytes(32)
                row = LoginRow(
                    id=login_id,
                    sealed=seal_record(key, record_bytes(record), login_id, 1),
                    listing=sessions._sealed_listing(login_id, record.identity, record.entered, "192.0.2.7"),
                    sid_tag=sessions.tag("sid", record.sid),
                    sub_tag=sessions.tag("sub", record.identity.sub),
                    person_tag=sessions.tag("person", record.identity.subject),
                    auth_time=now,
                    created=now,
                    seen=now,
                    idle=settings.session.idle,
                    ends=now + settings.session.absolute,
                    version=1,
                )
                text, found = sessions.ring.new_ticket(PURPOSE, HOST)
                ticket = sessions._ticket_row(found, PURPOSE, HOST, login_id, key, row.ends, now, None)
                assert rows.add_login(connection, row, ticket, now)
                if keep:
                    tickets.append(text)
            connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        connection.close()
    return tickets
