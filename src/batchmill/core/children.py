"""A child job begins: what it keeps of its parent is copied, shard by shard, and the rest opened.

A shard of which nothing is sent again gets its parent's segments as its own; of the others the
lines that are kept become a part, which whoever runs the shard adopts. Begun again after a death,
the copying goes on with the first shard that the ledger does not have.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import structlog
from msgspec.structs import replace

from batchmill.core.bodies import Bodies, place_of
from batchmill.core.decode import glance_all
from batchmill.core.lines import spans
from batchmill.core.names import kept_name, order_name
from batchmill.core.order import ShardOrder
from batchmill.core.places import places
from batchmill.core.segments import batches
from batchmill.errors import BlobMissing
from batchmill.failures import NO_FAILURES, FailureKind, Failures, FailureTally
from batchmill.model import (
    BlobName,
    Job,
    JobId,
    JobInput,
    Lease,
    LineError,
    Part,
    PartEntry,
    Segment,
    Shard,
    Stream,
)
from batchmill.ports import Blobs, Ledger, Range
from batchmill.results import Choice, Kept, KeptShard, ShardResults
from batchmill.usage import NO_USAGE, Usage, total

log = structlog.get_logger()

SHARDS_AT_ONCE = 8


async def begin_child(
    lease: Lease, child: Job, parent: JobId, ledger: Ledger, blobs: Blobs
) -> None:
    """Keep what is kept, then queue the child. Fails it where its parent's results are lost."""
    try:
        kept = await _keep_all(lease, child, parent, ledger, blobs)
    except BlobMissing as error:
        message = f"The results of the job that is retried can no longer be read: {error}"
        log.warning("retry_results_missing", job=child.id, blob=error.name)
        await ledger.refuse(lease, [LineError("internal_error", message)], 1)
        return
    planned = await ledger.plan_child(lease, kept)
    log.info(
        "retry_begun",
        job=child.id,
        parent=parent,
        state=planned.state,
        kept=planned.succeeded + planned.failed,
        left=planned.left,
    )


async def _keep_all(lease: Lease, child: Job, parent: JobId, ledger: Ledger, blobs: Blobs) -> Kept:
    choice = await ledger.choice_of(lease.job)
    inputs = await ledger.job_inputs(lease.job)
    there = await ledger.kept_shards(lease.job)
    sums, orders = _Sums(), Orders(child, inputs, blobs)
    n = 0
    while shards := await ledger.shard_results(parent, range(n, n + SHARDS_AT_ONCE)):
        n += SHARDS_AT_ONCE
        made = []
        for each in shards:
            beginning = Beginning.of(each, choice)
            sums.add(beginning)
            if each.shard.n >= there:
                made.append(await _copy(lease.job, beginning, blobs))
                await orders.write(beginning)
        if made:
            await ledger.keep(lease, made)
    return sums.kept()


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a child keeps of one shard: the side of each line, in the order of the output segment
    and then of the error segment, so that they are copied in long runs."""

    results: ShardResults
    sides: Mapping[int, Stream]
    failures: tuple[Failures, ...]

    @classmethod
    def of(cls, results: ShardResults, choice: Choice) -> Beginning:
        """All lines but those that are chosen."""
        failures = [each for part in results.parts for each in part.failures]
        chosen = chosen_of(results.shard.first_line, failures, choice)
        entries = (entry for part in results.parts for entry in part.entries)
        sides = {e.line: e.stream for e in entries if e.line not in chosen}
        kept = (_without(each, chosen) for each in failures)
        in_order = sorted(sides.items(), key=lambda side: (side[1] is Stream.ERR, side[0]))
        return cls(results, dict(in_order), tuple(each for each in kept if each.lines))

    @property
    def usage(self) -> Usage:
        """All of it: a line that failed has none."""
        return total([part.usage for part in self.results.parts])


def chosen_of(first_line: int, failures: Sequence[Failures], choice: Choice) -> frozenset[int]:
    """The lines of a shard that are sent again, by their numbers in it."""
    return frozenset(
        line
        for each in failures
        if each.kind is not FailureKind.INVALID
        for line in each.lines
        if each.kind in choice.kinds or first_line + line in choice.lines
    )


def _without(found: Failures, chosen: frozenset[int]) -> Failures:
    lines = tuple(line for line in found.lines if line not in chosen)
    if lines == found.lines:
        return found
    is_example_kept = lines[:1] == found.lines[:1]
    return replace(found, lines=lines, custom_id=found.custom_id if is_example_kept else None)


@dataclass(slots=True)
class _Sums:
    """The counters of a child while its shards are kept."""

    succeeded: int = 0
    failed: int = 0
    usage: Usage = NO_USAGE
    failures: FailureTally = NO_FAILURES

    def add(self, beginning: Beginning) -> None:
        succeeded = sum(stream is Stream.OUT for stream in beginning.sides.values())
        self.succeeded += succeeded
        self.failed += len(beginning.sides) - succeeded
        self.usage = total([self.usage, beginning.usage])
        self.failures = self.failures.plus(beginning.failures)

    def kept(self) -> Kept:
        return Kept(self.succeeded, self.failed, self.usage, self.failures)


class Orders:
    """Writes the dispatch orders of a child anew: its parent's went with it. Without one lines are
    sent as they come, so an input that cannot be read is left to whoever runs the shard.

    Where the child dedupes, lines that are sent again are the same as such lines alone, and after a
    death in between as those of the shards that were not kept before.
    """

    def __init__(self, child: Job, inputs: Sequence[JobInput], blobs: Blobs) -> None:
        self._child, self._inputs, self._blobs = child.id, inputs, blobs
        self._bodies = Bodies(child.endpoint) if child.dedupe else None
        self._written: list[Shard] = []

    async def write(self, beginning: Beginning) -> None:
        """Write that of a shard, unless none of its lines is sent again."""
        shard = beginning.results.shard
        if len(beginning.sides) == shard.lines:
            return
        try:
            where = Range(self._inputs[shard.input].blob, shard.offset, shard.length)
            [data] = await self._blobs.read_ranges([where])
            order = await asyncio.to_thread(self._order, data, beginning)
        except BlobMissing as error:
            log.warning("retry_order_missing", job=self._child, shard=shard.n, error=str(error))
        else:
            await self._blobs.put_many([(order_name(self._child, shard.n), [order.encode()])])

    def _order(self, data: bytes, beginning: Beginning) -> ShardOrder:
        shard = beginning.results.shard
        order = order_of(data, shard)
        if self._bodies is None:
            return order
        for span in spans(data, shard):
            if span.local in beginning.sides:
                continue
            number = shard.first_line + span.local
            first = self._bodies.first(data[span.start : span.end], number)
            if first is not None:
                written = self._written
                order.same[span.local] = place_of(first, written, shard.n, shard.first_line)
        self._written.append(shard)
        return order


def order_of(data: bytes, shard: Shard) -> ShardOrder:
    """The order of a shard, none of whose lines is taken to be bad."""
    order = ShardOrder()
    for line in glance_all([data[span.start : span.end] for span in spans(data, shard)]):
        if line is None:
            order.add((), 0)
        else:
            order.add(line.body.prompt_texts(), line.body.expected_tokens())
    return order


async def _copy(child: JobId, beginning: Beginning, blobs: Blobs) -> KeptShard:
    """The shard with its blobs durable."""
    results, sides = beginning.results, beginning.sides
    n = results.shard.n
    if not sides:
        return KeptShard(results.shard, None)
    known = await places(results, blobs)
    blob = kept_name(child, n, "part")
    part = _part(blob, beginning, known)
    if len(sides) < results.shard.lines:
        await _write(blob, runs(known[line] for line in sides), blobs)
        return KeptShard(results.shard, part)
    segments = []
    for each in results.segments:
        copied = kept_name(child, n, each.stream)
        await _write(copied, [Range(each.blob, 0, each.size_bytes)], blobs)
        segments.append(Segment(each.stream, copied, each.size_bytes, each.lines))
    return KeptShard(results.shard, part, tuple(segments))


def _part(blob: BlobName, beginning: Beginning, known: Mapping[int, Range]) -> Part:
    entries = []
    offset = 0
    for line, stream in beginning.sides.items():
        length = known[line].length
        entries.append(PartEntry(line, offset, length, stream))
        offset += length
    return Part(blob, tuple(entries), offset, beginning.usage, beginning.failures)


def runs(ranges: Iterable[Range]) -> list[Range]:
    """The same bytes in as few ranges as they can be read in."""
    found: list[Range] = []
    for each in ranges:
        last = found[-1] if found else None
        if last and last.blob == each.blob and last.offset + last.length == each.offset:
            found[-1] = Range(last.blob, last.offset, last.length + each.length)
        else:
            found.append(each)
    return found


async def _write(name: BlobName, sources: Sequence[Range], blobs: Blobs) -> None:
    writer = await blobs.writer(name)
    try:
        for batch in batches([(0, source) for source in sources]):
            if len(batch) > 1:
                copied = await blobs.read_ranges([source for _, source in batch])
                await writer.write(b"".join(copied))
                continue
            _, source = batch[0]
            async for chunk in blobs.read(source.blob, source.offset, source.length):
                await writer.write(chunk)
        await writer.commit()
    finally:
        await writer.abort()
