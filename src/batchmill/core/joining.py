"""Putting a file together from its pieces, one MiB in memory at a time."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from batchmill.assembly import Piece
from batchmill.core.lines import LineCounter
from batchmill.model import BlobName
from batchmill.ports import Blobs, BlobWriter


@dataclass(slots=True)
class Content:
    """What is known of a file once all its bytes have passed."""

    size_bytes: int = 0
    sha256: hashlib._Hash = field(default_factory=hashlib.sha256)
    md5: hashlib._Hash = field(default_factory=lambda: hashlib.md5(usedforsecurity=False))
    lines: LineCounter = field(default_factory=LineCounter)

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        self.size_bytes += len(data)
        self.sha256.update(data)
        self.md5.update(data)
        self.lines.feed(data)


@asynccontextmanager
async def joined(
    blobs: Blobs, pieces: Sequence[Piece], name: BlobName
) -> AsyncIterator[tuple[BlobWriter, Content]]:
    """The pieces one after the other as a blob that the block commits; else nothing is left."""
    writer = await blobs.writer(name)
    content = Content()
    try:
        for piece in pieces:
            async for data in blobs.read(piece.blob, 0, piece.size_bytes):
                await asyncio.to_thread(content.feed, data)
                await writer.write(data)
        yield writer, content
    finally:
        await writer.abort()
