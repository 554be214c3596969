"""A clock that runs, and whose times a test sets."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from batchmill.clock import SystemClock


class SettableClock(SystemClock):
    """The machine's clocks, but the wall clock shows what it was set to. Whoever sleeps wakes up
    when it is set."""

    def __init__(self, wall: float) -> None:
        super().__init__()
        self._set = asyncio.Event()
        self._offset = wall - super().wall()
        self._skipped = 0.0

    def boot(self) -> float:
        return super().boot() + self._skipped

    def skip(self, seconds: float) -> None:
        """Let so much time have passed since the machine started."""
        self._skipped += seconds

    def wall(self) -> float:
        return super().wall() + self._offset

    async def sleep(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._set.wait()

    def set_wall(self, wall: float) -> None:
        self._offset = wall - super().wall()
        self._set.set()
        self._set = asyncio.Event()
