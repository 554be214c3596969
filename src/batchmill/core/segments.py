"""From the parts of a shard to its segments: the same result lines, in line order.

Bytes are copied from part to segment about 4 MB at a time, the next ones read while the last are
written, so that a shard of large replies needs no more memory than one of small ones. Lines that
were answered at about the same time lie together in a part: a run of 4 MB is read by few requests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from functools import partial
from operator import itemgetter

from batchmill.ahead import ahead
from batchmill.core.names import segment_name
from batchmill.core.reading import custom_ids, read_shard
from batchmill.core.work import OpenShard
from batchmill.errors import BlobMissing
from batchmill.model import Fate, Outcome, Part, Segment, Stream
from batchmill.ports import Blobs, Formats, Range

COPY_BYTES = 1024 * 1024
RUN_BYTES = 4 * COPY_BYTES
AHEAD_BYTES = 2 * RUN_BYTES

Piece = tuple[int, Range]
"""A line of a segment, by its number in the shard, and where it comes from."""


async def write_segments(shard: OpenShard, blobs: Blobs, formats: Formats) -> list[Segment]:
    """Write the segments of a shard whose every line has a published outcome; those that would
    be empty are left out. Written again after a failure they have the same names."""
    segments = []
    for stream in Stream:
        pieces = pieces_of(shard.parts, stream)
        if pieces:
            segments.append(await _write(shard, stream, pieces, blobs, formats))
    return segments


def is_large(shard: OpenShard) -> bool:
    """Whether writing its segments takes as much memory as it ever does."""
    return sum(part.size_bytes for part in shard.parts) > RUN_BYTES


def pieces_of(parts: list[Part], stream: Stream) -> list[Piece]:
    """The result lines of one side over all parts, in line order."""
    pieces = [
        (entry.line, Range(part.blob, entry.offset, entry.length))
        for part in parts
        for entry in part.entries
        if entry.stream is stream
    ]
    pieces.sort(key=itemgetter(0))
    return pieces


def batches(pieces: list[Piece], limit_bytes: int = COPY_BYTES) -> Iterator[list[Piece]]:
    """Cut the pieces into runs of about that many bytes; a longer piece is a run alone."""
    batch: list[Piece] = []
    size = 0
    for piece in pieces:
        length = piece[1].length
        if batch and size + length > limit_bytes:
            yield batch
            batch, size = [], 0
        batch.append(piece)
        size += length
    if batch:
        yield batch


async def _write(
    shard: OpenShard, stream: Stream, pieces: list[Piece], blobs: Blobs, formats: Formats
) -> Segment:
    lease = shard.lease.lease
    name = segment_name(lease.job, stream, lease.n, lease.epoch)
    writer = await blobs.writer(name)
    try:
        async for data in _copied(shard, pieces, blobs, formats):
            await writer.write(data)
        size_bytes = await writer.commit()
    finally:
        await writer.abort()
    return Segment(stream, name, size_bytes, len(pieces))


async def _copied(
    shard: OpenShard, pieces: list[Piece], blobs: Blobs, formats: Formats
) -> AsyncIterator[bytes]:
    ids: list[bytes] = []
    steps = (
        (sum(source.length for _, source in batch), partial(_read, batch, blobs))
        for batch in batches(pieces, RUN_BYTES)
    )
    async with aclosing(ahead(steps, AHEAD_BYTES)) as copies:
        async for batch, data in copies:
            if data is not None:
                yield data
                continue
            ids = ids or await _custom_ids(shard, blobs)
            for piece in batch:
                yield await _copied_or_lost(shard, piece, ids[piece[0]], blobs, formats)


async def _read(batch: list[Piece], blobs: Blobs) -> tuple[list[Piece], bytes | None]:
    """The lines of a run, and their bytes unless some of them are no longer there."""
    try:
        return batch, b"".join(await blobs.read_ranges([source for _, source in batch]))
    except BlobMissing:
        return batch, None


async def _copied_or_lost(
    shard: OpenShard, piece: Piece, custom_id: bytes, blobs: Blobs, formats: Formats
) -> bytes:
    """A result that was published and is no longer there leaves a line that says so, on the
    side on which it was counted: conservation holds, and nobody takes it for an answer."""
    line, source = piece
    try:
        [data] = await blobs.read_ranges([source])
    except BlobMissing as error:
        message = f"The result of this line has been lost from storage: {error}"
        outcome = Outcome(Fate.FAILED, code="internal_error", message=message)
        number = shard.lease.shard.first_line + line
        return formats[shard.job.dialect].result(shard.job, number, custom_id, outcome)
    return data


async def _custom_ids(shard: OpenShard, blobs: Blobs) -> list[bytes]:
    """Read anew: an owner that found nothing left to send has not read the shard."""
    try:
        data, order = await read_shard(shard.lease, blobs)
        return custom_ids(shard.lease.shard, data, order)
    except BlobMissing:
        return custom_ids(shard.lease.shard, b"")
