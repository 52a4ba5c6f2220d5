"""Rows for the tests of the stores, each distinct and the same every time."""

from dataclasses import replace
from typing import Any

from forward_auth.stores import LoginRow, TicketRow

NOW = 1_800_000_000
IDLE = 1_800
ABSOLUTE = 14_400
KEEP = NOW + ABSOLUTE


def name(kind: str, number: int, size: int = 32) -> bytes:
    """A distinct value of that size, the same each time."""
    return f"{kind}-{number}".encode().ljust(size, b".")


def a_login(number: int = 1, **changes: Any) -> LoginRow:
    """A login that has just begun, of a person, a sub and a sid of its own."""
    login = LoginRow(
        id=name("login", number, 16),
        sealed=name("sealed", number, 4_000),
        listing=name("listing", number),
        sid_tag=name("sid", number),
        sub_tag=name("sub", number),
        person_tag=name("person", number),
        auth_time=NOW,
        created=NOW,
        seen=NOW,
        idle=IDLE,
        ends=NOW + ABSOLUTE,
        version=1,
    )
    return replace(login, **changes)


def a_ticket(login: LoginRow, number: int = 1, **changes: Any) -> TicketRow:
    """A ticket that opens the login on one host."""
    ticket = TicketRow(
        digest=name(f"digest-{login.id.decode()}", number),
        kind="ticket",
        host="dossier.hopital.example",
        login_id=login.id,
        wrapped=name("wrapped", number, 60),
        bind=None,
        created=NOW,
        ends=NOW + ABSOLUTE,
    )
    return replace(ticket, **changes)
