"""Where each line of a closed shard lies in its segments, found from the parts it was made of."""

from __future__ import annotations

from collections.abc import Mapping

from batchmill.errors import BlobMissing
from batchmill.model import Segment, Stream
from batchmill.ports import Blobs, Range
from batchmill.results import ShardResults


async def places(results: ShardResults, blobs: Blobs) -> Mapping[int, Range]:
    """The bytes of each line that has an outcome, by its number in the shard.

    Segments hold the lines of the parts in line order. Where one has another size than these
    lines, some were lost from storage before the shard was closed and replaced by others: then
    it is read through once. Raises `BlobMissing` where a side has gone.
    """
    segments = {each.stream: each for each in results.segments}
    found: dict[int, Range] = {}
    for stream, lengths in _lengths(results).items():
        segment = segments.get(stream)
        if segment is None:
            raise BlobMissing(f"The {stream} side of shard {results.shard.n} has gone.")
        measured = list(lengths.values())
        if sum(measured) != segment.size_bytes:
            measured = await _measure(segment, blobs)
        offset = 0
        for line, length in zip(lengths, measured, strict=True):
            found[line] = Range(segment.blob, offset, length)
            offset += length
    return found


def _lengths(results: ShardResults) -> dict[Stream, dict[int, int]]:
    """How long each line of each side is, in line order."""
    entries = sorted(
        (entry for part in results.parts for entry in part.entries), key=lambda entry: entry.line
    )
    sides: dict[Stream, dict[int, int]] = {}
    for entry in entries:
        sides.setdefault(entry.stream, {})[entry.line] = entry.length
    return sides


async def _measure(segment: Segment, blobs: Blobs) -> list[int]:
    """The lengths of a segment's lines, line breaks included."""
    lengths: list[int] = []
    begun = 0
    async for chunk in blobs.read(segment.blob):
        start = 0
        while (end := chunk.find(b"\n", start) + 1) > 0:
            lengths.append(begun + end - start)
            begun, start = 0, end
        begun += len(chunk) - start
    return lengths
