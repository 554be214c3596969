"""A body on its way in: what is small in memory, what is large in a blob of its own, so that
however many send slowly, they hold little memory and nobody's turn."""

from __future__ import annotations

from contextlib import suppress
from types import TracebackType
from typing import Self

from batchmill.clock import new_id
from batchmill.core.names import body_name
from batchmill.core.submit import refuse_when_full
from batchmill.errors import BlobsUnavailable
from batchmill.ports import BlobWriter
from batchmill.web.services import LARGE_BODY_BYTES, Services


class Spool:
    """`async with Spool(services) as spool`: write, finish, then read once.

    Nothing is left of it after the block, however it ends; what a crash leaves is swept.
    """

    def __init__(self, services: Services) -> None:
        self._blobs = services.blobs
        self._low_disk_bytes = services.rules.low_disk_bytes
        self._name = body_name(new_id())
        self._writer: BlobWriter | None = None
        self._held: list[bytes] = []
        self._held_bytes = 0
        self.size_bytes = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            await self._writer.abort()
            with suppress(BlobsUnavailable):  # the sweep finds it
                await self._blobs.delete_many([self._name])

    @property
    def is_large(self) -> bool:
        """Whether it is over 1 MiB."""
        return self._writer is not None

    async def write(self, data: bytes) -> None:
        """Append. Raises `Unavailable` (disk nearly full) and `BlobsUnavailable`."""
        self._held.append(data)
        self._held_bytes += len(data)
        self.size_bytes += len(data)
        if self._held_bytes > LARGE_BODY_BYTES:
            await self._put_away()

    async def finish(self) -> None:
        """Take note that all of it was written; a large one is no longer in memory then."""
        if self._writer is not None:
            await self._put_away()
            await self._writer.commit()

    async def read(self) -> bytes:
        """All of it."""
        if self._writer is None:
            return b"".join(self._held)
        read = self._blobs.read(self._name, 0, self.size_bytes)
        return b"".join([piece async for piece in read])

    async def _put_away(self) -> None:
        await refuse_when_full(self._blobs, self._low_disk_bytes, self._held_bytes)
        if self._writer is None:
            self._writer = await self._blobs.writer(self._name)
        data = b"".join(self._held)
        self._held, self._held_bytes = [], 0
        await self._writer.write(data)
