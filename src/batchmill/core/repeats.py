"""Which lines of a job repeat a custom_id, in 8 bytes a line.

While lines are read one word is kept of each: some 44 bits of a salted hash above the line's
number. Afterwards lines with equal hashes are read again and their real strings compared; the
second of two equal ones is bad.
"""

from __future__ import annotations

import asyncio
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import groupby

from batchmill.clock import new_id
from batchmill.core.decode import custom_id_of
from batchmill.core.lines import spans
from batchmill.core.names import order_name
from batchmill.core.order import BadLine, ShardOrder
from batchmill.core.tally import ErrorTally, repeated
from batchmill.model import JobId, JobInput, LineError, Shard
from batchmill.ports import Blobs, Range

COMPARED_AT_ONCE = 65_536
"""Lines whose strings are compared in one pass: what bounds the memory that takes."""
_BUCKETS = 256
_BUCKET_SHIFT = 56


class CustomIds:
    """The hashes of a job's custom_ids, of at most `max_lines` lines."""

    def __init__(self, max_lines: int, digest: Callable[[str], int] = hash) -> None:
        self._digest = digest
        self._bits = max_lines.bit_length()
        self._mask = -1 << self._bits
        self._salt = new_id()
        self._buckets = [array("q") for _ in range(_BUCKETS)]

    def add(self, custom_id: str, line: int) -> None:
        """Note the custom_id of a line, by its number in the job."""
        word = self._digest(self._salt + custom_id)
        self._buckets[word >> _BUCKET_SHIFT].append(word & self._mask | line)

    def candidates(self) -> Iterator[tuple[int, ...]]:
        """Groups of lines, each in rising order, whose custom_ids may be equal."""
        for bucket in self._buckets:
            if len({word >> self._bits for word in bucket}) == len(bucket):
                continue
            for _, words in groupby(sorted(bucket), key=lambda word: word >> self._bits):
                lines = tuple(word & ~self._mask for word in words)
                if len(lines) > 1:
                    yield lines


async def mark_repeats(
    job: JobId,
    ids: CustomIds,
    shards: Sequence[Shard],
    inputs: Sequence[JobInput],
    blobs: Blobs,
    errors: ErrorTally,
    *,
    at_once: int = COMPARED_AT_ONCE,
) -> None:
    """Mark every line that repeats an earlier custom_id as bad, in its shard's order blob.

    One that was bad before keeps its error but loses its custom_id.
    """
    for groups in _passes(ids.candidates(), at_once):
        comparison = Comparison(groups, errors)
        for n, numbers in groupby(sorted(comparison.group_of), key=_shard_of(shards)):
            shard = shards[n]
            where = Range(inputs[shard.input].blob, shard.offset, shard.length)
            [data] = await blobs.read_ranges([where])
            repeats = await asyncio.to_thread(comparison.compare, shard, data, list(numbers))
            if repeats:
                await _mark(job, shard, repeats, blobs, errors)


async def _mark(
    job: JobId, shard: Shard, repeats: Mapping[int, LineError], blobs: Blobs, errors: ErrorTally
) -> None:
    name = order_name(job, shard.n)
    order = ShardOrder.decode(b"".join([piece async for piece in blobs.read(name)]))
    for local, error in repeats.items():
        known = order.bad.get(local)
        if known is None:
            errors.add(shard.first_line + local, shard.input, error)
        order.bad[local] = BadLine(known.error if known else error)
    await blobs.put_many([(name, [order.encode()])])


def _passes(groups: Iterator[tuple[int, ...]], at_once: int) -> Iterator[list[tuple[int, ...]]]:
    taken: list[tuple[int, ...]] = []
    lines = 0
    for group in groups:
        taken.append(group)
        lines += len(group)
        if lines >= at_once:
            yield taken
            taken, lines = [], 0
    if taken:
        yield taken


def _shard_of(shards: Sequence[Shard]) -> Callable[[int], int]:
    first_lines = [shard.first_line for shard in shards]
    return lambda number: bisect_right(first_lines, number) - 1


class Comparison:
    """The real strings of some groups of lines, met in the order of the lines."""

    def __init__(self, groups: Sequence[tuple[int, ...]], errors: ErrorTally) -> None:
        self.group_of = {line: n for n, group in enumerate(groups) for line in group}
        self._errors = errors
        self._seen: dict[tuple[int, bytes], tuple[int, int]] = {}

    def compare(self, shard: Shard, data: bytes, numbers: Sequence[int]) -> dict[int, LineError]:
        """Those of the numbered lines of a shard whose custom_id was met before, by their place
        in the shard."""
        found = spans(data, shard)
        repeats: dict[int, LineError] = {}
        for number in numbers:
            span = found[number - shard.first_line]
            custom_id = custom_id_of(data[span.start : span.end]) or ""
            digest = blake2b(custom_id.encode(), digest_size=16).digest()
            here = (shard.input, span.physical)
            first = self._seen.setdefault((self.group_of[number], digest), here)
            if first != here:
                repeats[span.local] = self._error(custom_id, first, here)
        return repeats

    def _error(self, custom_id: str, first: tuple[int, int], here: tuple[int, int]) -> LineError:
        where = f"line {first[1]}"
        if first[0] != here[0]:
            where += f" of {self._errors.name(first[0])}"
        return repeated(custom_id, where, here[1])
