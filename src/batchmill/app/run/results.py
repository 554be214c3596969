"""The result lines of a job that has ended, in input order, read a megabyte at a time."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Final

from batchmill.core.places import places
from batchmill.core.segments import Piece, batches
from batchmill.model import JobId, Stream
from batchmill.ports import Blobs, Ledger, Range
from batchmill.results import ShardResults

SHARDS_AT_ONCE: Final = 16


async def side(
    job: JobId, stream: Stream, ledger: Ledger, blobs: Blobs
) -> AsyncGenerator[bytes, None]:
    """All bytes of one side."""
    for segment in await ledger.segments(job, stream):
        async for chunk in blobs.read(segment.blob):
            yield chunk


async def lines(job: JobId, ledger: Ledger, blobs: Blobs) -> AsyncGenerator[list[bytes], None]:
    """Every line of both sides, some at a time, each with its line break."""
    n = 0
    while found := await ledger.shard_results(job, range(n, n + SHARDS_AT_ONCE)):
        for shard in found:
            async for batch in _of_shard(shard, blobs):
                yield batch
        n += SHARDS_AT_ONCE


async def _of_shard(shard: ShardResults, blobs: Blobs) -> AsyncGenerator[list[bytes], None]:
    known: dict[int, Range] = dict(await places(shard, blobs))
    pieces: list[Piece] = sorted(known.items(), key=lambda piece: piece[0])
    for batch in batches(pieces):
        yield await blobs.read_ranges([source for _, source in batch])
