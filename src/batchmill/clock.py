"""Time and chance, as arguments. Nothing else in Batchmill reads a clock or draws a number.

`Clock` is the port; `SystemClock` is real; tests use `ManualClock`, which moves only when told.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import time
import uuid
from itertools import count
from pathlib import Path
from typing import Protocol


class Clock(Protocol):
    """What time it is, and waiting for it."""

    def wall(self) -> float:
        """Unix time in seconds. May jump; the ledger never lets it run backwards."""

    def boot(self) -> float:
        """Seconds since this machine started, sleep included; never jumps."""

    def boot_id(self) -> str:
        """Names this start of the machine; `boot()` of another boot id means nothing here."""

    async def sleep(self, seconds: float) -> None:
        """Wait that many seconds of `boot()`."""


class SystemClock:
    """The machine's own clocks: time(2) and CLOCK_BOOTTIME."""

    def __init__(self) -> None:
        self._boot_id = _read_boot_id()

    def wall(self) -> float:
        return time.time()

    def boot(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def boot_id(self) -> str:
        return self._boot_id

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class ManualClock:
    """A clock that stands still until `advance` is called; for tests and dry runs."""

    def __init__(self, wall: float = 1_800_000_000.0, boot: float = 1_000.0) -> None:
        self._wall = wall
        self._boot = boot
        self._boot_id = "manual-boot"
        self._sleepers: list[tuple[float, int, asyncio.Event]] = []
        self._order = count()

    def wall(self) -> float:
        return self._wall

    def boot(self) -> float:
        return self._boot

    def boot_id(self) -> str:
        return self._boot_id

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        event = asyncio.Event()
        heapq.heappush(self._sleepers, (self._boot + seconds, next(self._order), event))
        await event.wait()

    def advance(self, seconds: float) -> None:
        """Let that much time pass on both clocks, and wake whoever waited for it."""
        self._wall += seconds
        self._boot += seconds
        while self._sleepers and self._sleepers[0][0] <= self._boot:
            heapq.heappop(self._sleepers)[2].set()

    def jump_wall(self, seconds: float) -> None:
        """Set the wall clock forward or back, as an operator or NTP may."""
        self._wall += seconds

    def reboot(self) -> None:
        """Start the machine anew: boot time from zero under another boot id."""
        self._boot = 1.0
        self._boot_id = f"{self._boot_id}+"


def new_id() -> str:
    """A fresh random UUID in its lower-case hyphenated form."""
    return str(uuid.uuid4())


def jitter() -> float:
    """A number drawn evenly from [0, 1), for spreading retries."""
    return random.random()  # noqa: S311 - spreads load, guards nothing


def _read_boot_id() -> str:
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else "unknown-boot"
