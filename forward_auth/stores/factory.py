"""From the notation of `session.store` to a store that is not open yet.

Refuses: an engine this version does not have, a relative path (it would depend on where the service was started).
"""

from pathlib import Path

from forward_auth.errors import StoreUnavailable
from forward_auth.stores import Store
from forward_auth.stores.memory import MemoryStore
from forward_auth.stores.sqlite import SqliteStore


def open_store(notation: str) -> Store:
    """`memory:` or `sqlite:/absolute/path` -> the store; await its `open()` before use. StoreUnavailable, with the cure, for anything else."""
    if notation == "memory:":
        return MemoryStore()
    kind, _, path = notation.partition(":")
    if kind == "sqlite" and path.startswith("/") and "\0" not in path:
        return SqliteStore(Path(path))
    raise StoreUnavailable(
        "store_notation", "session.store is neither memory: nor sqlite:/absolute/path; write one of these"
    )
