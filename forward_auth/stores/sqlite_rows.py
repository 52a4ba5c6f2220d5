"""SQLite's side of the contract: the schema, its migrations, and what each method does on a connection. No thread, no loop.

The first argument of every function is the connection of the thread that runs it; a function that writes is called inside a
transaction and is all or nothing with it. Refuses nothing by itself: errors are sqlite3's, explained by the caller.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final

from forward_auth.stores import Change, Ended, Lapsed, LoginRow, TicketRow
from forward_auth.stores.rules import ANY_TIME, AT_PSC, CHANGE_KEPT

APPLICATION: Final = 0x50534641
"""`application_id` of our files: «PSFA»."""

SLICE: Final = 1000
"""Rows of a long task (touch, end everyone) in one transaction, so that others get their turn."""

_PAGE: Final = 128  # logins read in one job of `logins`: 2 ms at most for the point reads behind it

# A step, once released, is never edited: add the next one. `user_version` is the number of steps a file has seen.
STEPS: Final[tuple[tuple[str, ...], ...]] = (
    (
        f"PRAGMA application_id = {APPLICATION}",
        # The columns that change and are looked up are apart from the sealed record, so that a touch rewrites 200 bytes
        # and not 5 KiB.
        """CREATE TABLE login (
             id BLOB NOT NULL PRIMARY KEY, sid_tag BLOB, sub_tag BLOB, person_tag BLOB NOT NULL, auth_time INTEGER NOT NULL,
             created INTEGER NOT NULL, seen INTEGER NOT NULL, idle INTEGER NOT NULL, ends INTEGER NOT NULL,
             version INTEGER NOT NULL, lapses INTEGER NOT NULL GENERATED ALWAYS AS (min(ends, seen + idle)) VIRTUAL
           ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX login_sid ON login (sid_tag) WHERE sid_tag IS NOT NULL",
        "CREATE INDEX login_sub ON login (sub_tag) WHERE sub_tag IS NOT NULL",
        "CREATE INDEX login_person ON login (person_tag)",
        "CREATE INDEX login_lapses ON login (lapses)",
        """CREATE TABLE record (
             login_id BLOB NOT NULL PRIMARY KEY REFERENCES login (id) ON DELETE CASCADE,
             sealed BLOB NOT NULL, listing BLOB NOT NULL
           ) STRICT""",
        """CREATE TABLE ticket (
             digest BLOB NOT NULL PRIMARY KEY, kind TEXT NOT NULL, host TEXT NOT NULL,
             login_id BLOB NOT NULL REFERENCES login (id) ON DELETE CASCADE,
             wrapped BLOB NOT NULL, bind BLOB, created INTEGER NOT NULL, ends INTEGER NOT NULL
           ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX ticket_login ON ticket (login_id)",
        "CREATE INDEX ticket_ends ON ticket (ends)",
        # Several `before` per tag: each says for itself until when it holds.
        """CREATE TABLE tombstone (
             kind TEXT NOT NULL, tag BLOB NOT NULL, before INTEGER NOT NULL, until INTEGER NOT NULL,
             PRIMARY KEY (kind, tag, before)
           ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX tombstone_until ON tombstone (until)",
        # AUTOINCREMENT: a sequence is never used twice, also after `expire` emptied the table. One row per login, the newest.
        """CREATE TABLE change (
             sequence INTEGER PRIMARY KEY AUTOINCREMENT, login_id BLOB NOT NULL UNIQUE, ended INTEGER NOT NULL,
             until INTEGER NOT NULL
           ) STRICT""",
        "CREATE INDEX change_until ON change (until)",
    ),
    (
        "CREATE TABLE note (name TEXT NOT NULL PRIMARY KEY, value BLOB NOT NULL, until INTEGER NOT NULL) STRICT",
        "CREATE TABLE claim (name TEXT NOT NULL PRIMARY KEY, until INTEGER NOT NULL) STRICT, WITHOUT ROWID",
        "CREATE INDEX claim_until ON claim (until)",
    ),
)

_TICKET: Final = "t.digest, t.kind, t.host, t.login_id, t.wrapped, t.bind, t.created, t.ends"
_TICKET_COLUMNS: Final = 8
_LOGIN: Final = "l.id, r.sealed, r.listing, l.sid_tag, l.sub_tag, l.person_tag, l.auth_time, l.created, l.seen, l.idle, l.ends, l.version"
_FIND: Final = (
    f"SELECT {_TICKET}, {_LOGIN} FROM ticket t JOIN login l ON l.id = t.login_id JOIN record r ON r.login_id = l.id "  # noqa: S608 - our own column names
    "WHERE t.digest = ?1 AND t.ends > ?2 AND l.lapses > ?2"
)
_FIND_LOGIN: Final = (
    f"SELECT {_LOGIN} FROM login l JOIN record r ON r.login_id = l.id WHERE l.id = ?1 AND l.lapses > ?2"  # noqa: S608 - our own column names
)
_PAGE_OF_LOGINS: Final = f"SELECT {_LOGIN} FROM login l JOIN record r ON r.login_id = l.id WHERE l.id > ? AND l.lapses > ? ORDER BY l.id LIMIT ?"  # noqa: S608 - our own column names
_FORBIDDEN: Final = "SELECT 1 FROM tombstone WHERE ((kind = 'sid' AND tag = ?1) OR (kind = 'sub' AND tag = ?2)) AND before >= ?3 AND until >= ?4 LIMIT 1"
_ADD_LOGIN: Final = "INSERT INTO login (id, sid_tag, sub_tag, person_tag, auth_time, created, seen, idle, ends, version) VALUES (?,?,?,?,?,?,?,?,?,?)"
_ADD_RECORD: Final = "INSERT INTO record (login_id, sealed, listing) VALUES (?,?,?)"
_ADD_TICKET: Final = (
    "INSERT INTO ticket (digest, kind, host, login_id, wrapped, bind, created, ends) VALUES (?,?,?,?,?,?,?,?)"
)
# Compare-and-swap. `seen` never moves back: another process may have touched the login since the caller read it.
_REPLACE: Final = (
    "UPDATE login SET sid_tag = ?3, sub_tag = ?4, person_tag = ?5, auth_time = ?6, created = ?7, seen = max(seen, ?8), idle = ?9, "
    "ends = ?10, version = ?11 WHERE id = ?1 AND version = ?2 AND lapses > ?12"
)
_REPLACE_RECORD: Final = "UPDATE record SET sealed = ?2, listing = ?3 WHERE login_id = ?1"
_TOUCH: Final = "UPDATE login SET seen = ?2 WHERE id = ?1 AND seen < ?2 AND lapses > ?2"
_BURY: Final = "INSERT INTO tombstone (kind, tag, before, until) VALUES (?,?,?,?) ON CONFLICT DO UPDATE SET until = max(until, excluded.until)"
_RECORD_CHANGE: Final = "INSERT OR REPLACE INTO change (login_id, ended, until) VALUES (?,?,?)"
_NEWEST: Final = "SELECT seq FROM sqlite_sequence WHERE name = 'change'"
_CLAIM: Final = "INSERT INTO claim (name, until) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET until = excluded.until WHERE until < ?3 RETURNING 1"
_TO_END: Final = {
    column: "SELECT l.id, r.listing, l.sid_tag, l.ends, l.lapses FROM login l JOIN record r ON r.login_id = l.id "  # noqa: S608 - our own column names
    f"WHERE {where} AND l.auth_time <= ?2 AND l.id > ?3 ORDER BY l.id LIMIT ?4"
    for column, where in {
        "id": "l.id = ?1",
        "sid_tag": "l.sid_tag = ?1",
        "sub_tag": "l.sub_tag = ?1",
        "person_tag": "l.person_tag = ?1",
        "everyone": "?1 = x''",
    }.items()
}
# A login takes its tickets and its record with it; so what is shown of it is read first.
_LAPSED: Final = "SELECT l.id, r.listing, l.ends FROM login l JOIN record r ON r.login_id = l.id WHERE l.lapses <= ?1 ORDER BY l.lapses, l.id LIMIT ?2"
_EXPIRE: Final = (
    "DELETE FROM ticket WHERE digest IN (SELECT digest FROM ticket WHERE ends <= ?1 ORDER BY ends, digest LIMIT ?2)",
    "DELETE FROM tombstone WHERE (kind, tag, before) IN (SELECT kind, tag, before FROM tombstone WHERE until < ?1 ORDER BY until, kind, tag, before LIMIT ?2)",
    "DELETE FROM change WHERE sequence IN (SELECT sequence FROM change WHERE until < ?1 ORDER BY until, sequence LIMIT ?2)",
    "DELETE FROM note WHERE name IN (SELECT name FROM note WHERE until <= ?1 ORDER BY until, name LIMIT ?2)",
    "DELETE FROM claim WHERE name IN (SELECT name FROM claim WHERE until < ?1 ORDER BY until, name LIMIT ?2)",
)


def find(connection: sqlite3.Connection, digest: bytes, now: int) -> tuple[TicketRow, LoginRow] | None:
    for row in connection.execute(_FIND, (digest, now)):
        return TicketRow(*row[:_TICKET_COLUMNS]), LoginRow(*row[_TICKET_COLUMNS:])
    return None


def login(connection: sqlite3.Connection, login_id: bytes, now: int) -> LoginRow | None:
    for row in connection.execute(_FIND_LOGIN, (login_id, now)):
        return LoginRow(*row)
    return None


def page_of_logins(connection: sqlite3.Connection, after: bytes, now: int) -> tuple[list[LoginRow], bytes | None]:
    page = [LoginRow(*row) for row in connection.execute(_PAGE_OF_LOGINS, (after, now, _PAGE))]
    return page, page[-1].id if len(page) == _PAGE else None


def is_forbidden(
    connection: sqlite3.Connection, sid_tag: bytes | None, sub_tag: bytes | None, auth_time: int, now: int
) -> bool:
    return connection.execute(_FORBIDDEN, (sid_tag, sub_tag, auth_time, now)).fetchall() != []


def newest(connection: sqlite3.Connection) -> int:
    rows = connection.execute(_NEWEST).fetchall()
    return int(rows[0][0]) if rows else 0


def changes(connection: sqlite3.Connection, after: int) -> tuple[int, Sequence[Change]]:
    last = newest(connection)
    if after < 0 or after >= last:
        return last, ()
    rows = connection.execute(
        "SELECT sequence, login_id, ended FROM change WHERE sequence > ? ORDER BY sequence", (after,)
    )
    found = [Change(sequence, login_id, bool(ended)) for sequence, login_id, ended in rows]
    # A commit may have come between the two statements.
    return max(last, found[-1].sequence if found else 0), found


def get_note(connection: sqlite3.Connection, name: str, now: int) -> bytes | None:
    for (value,) in connection.execute("SELECT value FROM note WHERE name = ? AND until > ?", (name, now)):
        return bytes(value)
    return None


def add_login(connection: sqlite3.Connection, login: LoginRow, ticket: TicketRow, now: int) -> bool:
    if is_forbidden(connection, login.sid_tag, login.sub_tag, login.auth_time, now):
        return False
    connection.execute(_ADD_LOGIN, (login.id, *_looked_up(login)))
    connection.execute(_ADD_RECORD, (login.id, login.sealed, login.listing))
    connection.execute(_ADD_TICKET, _columns(ticket))
    return True


def replace_login(connection: sqlite3.Connection, login: LoginRow, was: int, now: int) -> bool:
    if is_forbidden(connection, login.sid_tag, login.sub_tag, login.auth_time, now):
        return False
    if connection.execute(_REPLACE, (login.id, was, *_looked_up(login), now)).rowcount != 1:
        return False
    connection.execute(_REPLACE_RECORD, (login.id, login.sealed, login.listing))
    connection.execute(_RECORD_CHANGE, (login.id, 0, max(now + CHANGE_KEPT, login.ends)))
    return True


def add_ticket(connection: sqlite3.Connection, ticket: TicketRow, now: int) -> bool:
    if not connection.execute("SELECT 1 FROM login WHERE id = ? AND lapses > ?", (ticket.login_id, now)).fetchall():
        return False
    connection.execute(_ADD_TICKET, _columns(ticket))
    return True


def take(connection: sqlite3.Connection, digest: bytes, now: int) -> tuple[TicketRow, LoginRow] | None:
    found = find(connection, digest, now)
    drop_ticket(connection, digest)
    return found


def drop_ticket(connection: sqlite3.Connection, digest: bytes) -> None:
    connection.execute("DELETE FROM ticket WHERE digest = ?", (digest,))


def touch(connection: sqlite3.Connection, instants: Iterable[tuple[bytes, int]]) -> None:
    connection.executemany(_TOUCH, instants)


def end(
    connection: sqlite3.Connection,
    column: str,
    value: bytes,
    before: int | None,
    now: int,
    keep_until: int,
    after: bytes,
) -> tuple[list[Ended], bytes | None]:
    """One slice: (what it ended, the id after which to go on, None when that was all)."""
    if column == "sid_tag":
        connection.execute(_BURY, ("sid", value, ANY_TIME, keep_until))
    elif column == "sub_tag":
        connection.execute(_BURY, ("sub", value, now if before is None else before, keep_until))
    chosen = connection.execute(
        _TO_END[column], (value, ANY_TIME if before is None else before, after, SLICE)
    ).fetchall()
    kept = max(now + CHANGE_KEPT, keep_until)
    if column == "id" and not chosen:
        # Another process may hold it in memory, its last touch not yet written: it must hear of this all the same.
        connection.execute(_RECORD_CHANGE, (value, 1, kept))
    ended = []
    for login_id, listing, sid_tag, ends, lapses in chosen:
        if now < lapses:
            ended.append(Ended(login_id, listing))
        if sid_tag is not None and column in AT_PSC:
            connection.execute(_BURY, ("sid", sid_tag, ANY_TIME, keep_until))
        connection.execute(_RECORD_CHANGE, (login_id, 1, max(kept, ends)))
        connection.execute("DELETE FROM login WHERE id = ?", (login_id,))
    return ended, chosen[-1][0] if len(chosen) == SLICE else None


def lapse(connection: sqlite3.Connection, now: int, most: int) -> list[Lapsed]:
    gone = [
        Lapsed(login_id, listing, now >= ends) for login_id, listing, ends in connection.execute(_LAPSED, (now, most))
    ]
    connection.executemany("DELETE FROM login WHERE id = ?", [(each.login_id,) for each in gone])
    return gone


def expire(connection: sqlite3.Connection, now: int, most: int) -> int:
    return sum(connection.execute(statement, (now, most)).rowcount for statement in _EXPIRE)


def put_note(connection: sqlite3.Connection, name: str, value: bytes, until: int) -> None:
    connection.execute("INSERT OR REPLACE INTO note (name, value, until) VALUES (?,?,?)", (name, value, until))


def claim(connection: sqlite3.Connection, name: str, until: int, now: int) -> bool:
    return connection.execute(_CLAIM, (name, until, now)).fetchall() != []


def release(connection: sqlite3.Connection, name: str) -> None:
    connection.execute("DELETE FROM claim WHERE name = ?", (name,))


def _looked_up(login: LoginRow) -> tuple[bytes | int | None, ...]:
    return (
        login.sid_tag,
        login.sub_tag,
        login.person_tag,
        login.auth_time,
        login.created,
        login.seen,
        login.idle,
        login.ends,
        login.version,
    )


def _columns(ticket: TicketRow) -> tuple[bytes | str | int | None, ...]:
    return (
        ticket.digest,
        ticket.kind,
        ticket.host,
        ticket.login_id,
        ticket.wrapped,
        ticket.bind,
        ticket.created,
        ticket.ends,
    )
