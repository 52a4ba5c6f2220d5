"""One piece of work in flight at a time, shared by everybody who asks for it meanwhile.

For: fetching metadata and keys. Refuses: to let a caller that goes away take the work from the others, or to hand anybody the result
of work that began for something else (threats CACHE-07).
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Flight(Generic[T]):
    """`work` is started by the first `join` and shared until it lands; the next `join` starts it again."""

    def __init__(self, work: Callable[[], Coroutine[Any, Any, T]], name: str) -> None:
        self._work = work
        self._name = name
        self._task: asyncio.Task[T] | None = None

    @property
    def under_way(self) -> bool:
        """Whether there is something to join without starting it."""
        return self._task is not None

    async def join(self) -> T:
        """The result of the work under way, started now if there is none; raises what the work raises."""
        if self._task is None:
            self._task = asyncio.create_task(self._work(), name=self._name)
            self._task.add_done_callback(self._landed)
        return await asyncio.shield(self._task)

    async def close(self) -> None:
        """Cancel what is under way and wait until it is gone."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def _landed(self, task: asyncio.Task[T]) -> None:
        self._task = None
        if not task.cancelled():
            task.exception()  # seen, so that work nobody waits for any more does not complain at exit
