"""Stores that can be taken away: the real ones, until a test says otherwise."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from batchmill.blobs.local import LocalBlobs
from batchmill.errors import BlobsUnavailable, LedgerUnavailable
from batchmill.ledger import SqlLedger
from batchmill.model import BlobName
from batchmill.ports import BlobWriter, Range


class LeavingLedger:
    """Every step of the real ledger, or `LedgerUnavailable` for the steps named in `away` (`"*"`:
    for all). A step in `mute` is done, and its answer lost."""

    def __init__(self, ledger: SqlLedger) -> None:
        self._ledger = ledger
        self.away: set[str] = set()
        self.mute: set[str] = set()
        self.begun: Counter[str] = Counter()
        self.taken: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()

    async def takes(self, name: str) -> None:
        """Wait until that step has been taken once more."""
        before = self.taken[name]
        async with asyncio.timeout(5):
            while self.taken[name] == before:
                await asyncio.sleep(0.005)

    def __getattr__(self, name: str) -> Any:
        step = getattr(self._ledger, name)

        async def taken(*given: Any, **named: Any) -> Any:
            self.begun[name] += 1
            try:
                if name != "close_connections" and self.away & {name, "*"}:
                    raise LedgerUnavailable(f"The ledger is away: {name}.")
                found = await step(*given, **named)
                self.taken[name] += 1
            finally:
                self.ended[name] += 1
            if name in self.mute:
                raise LedgerUnavailable(f"The answer to {name} is lost.")
            return found

        return taken


class FullBlobs(LocalBlobs):
    """The local store; `is_full` lets nothing be written, `is_dark` nothing be read. It is both as
    soon as something is written piece by piece, where `leaves_writers` says so."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.is_full = self.is_dark = self.leaves_writers = False

    async def put_many(self, blobs: Sequence[tuple[BlobName, Sequence[bytes]]]) -> None:
        if self.is_full:
            raise BlobsUnavailable("The disk is full.")
        await super().put_many(blobs)

    async def writer(self, name: BlobName) -> BlobWriter:
        if self.leaves_writers:
            self.is_full = self.is_dark = True
        if self.is_full:
            raise BlobsUnavailable("The disk is full.")
        return await super().writer(name)

    async def read_ranges(self, ranges: Sequence[Range]) -> list[bytes]:
        if self.is_dark:
            raise BlobsUnavailable("The disk does not answer.")
        return await super().read_ranges(ranges)

    def read(
        self, name: BlobName, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[bytes]:
        if self.is_dark:
            raise BlobsUnavailable("The disk does not answer.")
        return super().read(name, offset, length)
