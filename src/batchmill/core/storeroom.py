"""Whether an answer that came now could be kept: no call is made whose answer cannot be."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from batchmill.errors import BlobError
from batchmill.model import BlobName
from batchmill.ports import Blobs

log = structlog.get_logger()


class Storeroom:
    """Open while there is room above the watermark and the last write went well.

    `changed` is called whenever it opens or shuts. `probe` names the small blob that is written
    to see whether writing works again.
    """

    def __init__(
        self, blobs: Blobs, low_disk_bytes: int, probe: BlobName, changed: Callable[[], None]
    ) -> None:
        self._blobs, self._low_disk_bytes, self._probe = blobs, low_disk_bytes, probe
        self._changed = changed
        self._written = self._room = True
        self.is_open = True
        """Whether an answer could be kept."""

    def said(self, *, written: bool) -> None:
        """Whether the last thing that was to be made durable could be."""
        if written != self._written:
            self._written = written
            self._tell()

    async def measure(self, *, is_held_up: bool) -> None:
        """Look for room; try to write where the last write failed and nobody else tries again
        (`is_held_up`)."""
        try:
            free = await self._blobs.free_bytes()
            room = free is None or free >= self._low_disk_bytes
            if room and not self._written and not is_held_up:
                await self._blobs.put_many([(self._probe, [b"written"])])
                self.said(written=True)
        except BlobError:
            room = False
        if room != self._room:
            self._room = room
            log.warning("storage_room", enough=room)
            self._tell()

    def _tell(self) -> None:
        self.is_open = self._written and self._room
        self._changed()
