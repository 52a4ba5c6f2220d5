"""A simulator in a thread and an event loop of its own, so that a test (or a program) can speak to it over real HTTP.

Refuses: to outlive its `with` block.
"""

import asyncio
import threading
from types import TracebackType
from typing import Any

from .server import Simulator


class SimulatorThread:
    """`with SimulatorThread(clients=[…]) as simulator: …`. Arguments are those of Simulator; or give one, not started."""

    def __init__(self, simulator: Simulator | None = None, **options: Any) -> None:
        self.simulator = simulator or Simulator(**options)
        self._ready = threading.Event()
        self._failed: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="psc-simulator", daemon=True)

    def _run(self) -> None:
        asyncio.run(self._live())

    async def _live(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        try:
            await self.simulator.start()
        except BaseException as error:
            self._failed = error
            self._ready.set()
            raise
        self._ready.set()
        try:
            await self._end.wait()
        finally:
            await self.simulator.stop()

    def start(self) -> Simulator:
        """Returns once it listens. Raises what made that impossible (port in use …)."""
        self._thread.start()
        self._ready.wait()
        if self._failed is not None:
            self._thread.join()
            raise self._failed
        return self.simulator

    def stop(self) -> None:
        """Returns once it is gone."""
        if self._loop is not None and self._end is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    def __enter__(self) -> Simulator:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
