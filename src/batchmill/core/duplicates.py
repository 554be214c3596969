"""Lines that are the same request as an earlier one of their job are not sent: they get that one's
outcome, good or bad, once it is durable. Validation has found them (`bodies.py`).

    look     into the shards that are open here, as their parts are published
    ask      the ledger about the others, a few at a time
    answer   from the published result lines, about a megabyte at a time
    send     the line itself, where its original has no outcome of its own: it was refused by
             validation, its result was lost, or nobody runs its shard

Nothing waits in a circle: an original stands before its duplicates, in an earlier shard or in the
same one, so the first open shard of a job waits for itself alone; and a shard whose original is in
one that nobody holds sends the line itself after `PATIENCE_SECONDS`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from math import inf

import structlog
from msgspec import Struct

from batchmill.clock import Clock
from batchmill.core.collect import Collector
from batchmill.core.dispatch import Dispatcher
from batchmill.core.failing import failures_of_copy
from batchmill.core.holdings import Holdings
from batchmill.core.lines import open_line
from batchmill.core.order import Original
from batchmill.core.outcomes import write_copy
from batchmill.core.places import places
from batchmill.core.segments import COPY_BYTES, batches
from batchmill.core.work import OpenLine, OpenShard
from batchmill.errors import BlobMissing, BlobsUnavailable, LedgerUnavailable
from batchmill.failures import FailureKind, Failures
from batchmill.model import Part, Stream
from batchmill.ports import Blobs, Formats, Ledger, Range
from batchmill.results import ShardResults

log = structlog.get_logger()

ASK_SECONDS = 1.0
"""How often the ledger is asked about a shard that is not open here."""
ASKED_AT_ONCE = 8
PATIENCE_SECONDS = 30.0
"""So long an original's shard may be held by nobody: it is the next to be claimed, unless the room
of all who could is taken by shards like this one."""


class Found(Struct, frozen=True, gc=False):
    """Where the result line of an original lies; `failures` says why it failed, if it did.
    `is_final`: in a segment, so that it lies nowhere else."""

    source: Range
    failures: Failures | None
    is_final: bool


@dataclass(slots=True)
class Followers:
    """The lines of one open shard that wait for their originals, and what is known of these."""

    shard: OpenShard
    lines: dict[Original, list[OpenLine]]
    found: dict[Original, Found] = field(default_factory=dict)
    asked: dict[int, float] = field(default_factory=dict)
    """When the ledger was asked about a shard last."""
    asked_again_at: float = -inf
    alone_since: dict[int, float] = field(default_factory=dict)
    """Since when nobody has held a shard, as far as is known."""
    useless: set[Original] = field(default_factory=set)
    """Originals whose outcome is no answer to the request."""
    _seen: dict[OpenShard, int] = field(default_factory=dict)
    """How many parts of a shard that is open here have been looked at."""

    def look(self, holdings: Holdings) -> None:
        """Find originals in what the shards that are open here have published."""
        seen, self._seen = self._seen, {}
        for n in self._shards():
            original = holdings.open_shard(self.shard.job.id, n)
            if original is None:
                continue
            self._seen[original] = len(original.parts)
            for part in original.parts[seen.get(original, 0) :]:
                self.note(n, part)

    def note(self, n: int, part: Part, where: Mapping[int, Range] | None = None) -> None:
        """Find originals in a part of that shard; their lines lie in it, or `where` says."""
        wanted = {original.local for original in self.lines if original.n == n}
        failures = {line: each for each in part.failures for line in each.lines}
        for entry in part.entries:
            if entry.line not in wanted:
                continue
            original = Original(n, entry.line)
            if where is None:
                source = Range(part.blob, entry.offset, entry.length)
            elif entry.line in where:
                source = where[entry.line]
            else:
                continue
            failed = failures.get(entry.line)
            if entry.stream is Stream.OUT or _is_of_the_request(failed):
                self.found[original] = Found(source, failed, where is not None)
            else:
                self.useless.add(original)

    def due(self, holdings: Holdings, now: float) -> list[int]:
        """The shards about which the ledger is to be asked: those that were not yet, and once in
        `ASK_SECONDS` a few of those that were."""
        job = self.shard.job.id
        away = [n for n in self._shards() if holdings.open_shard(job, n) is None]
        fresh = [n for n in away if n not in self.asked]
        again: list[int] = []
        if now >= self.asked_again_at + ASK_SECONDS:
            again = [n for n in away if self.asked.get(n, now) <= now - ASK_SECONDS]
            self.asked_again_at = now
        return fresh + sorted(again, key=self.asked.__getitem__)[:ASKED_AT_ONCE]

    def lose(self, n: int) -> None:
        """The originals in that shard of which nothing was found will not be."""
        self.useless.update(each for each in self.lines if each.n == n and each not in self.found)

    def alone_seconds(self, n: int, now: float, *, is_held: bool) -> float:
        """For how long nobody has held that shard, as far as is known."""
        if is_held:
            self.alone_since.pop(n, None)
            return 0.0
        return now - self.alone_since.setdefault(n, now)

    def give_up(self, original: Original) -> OpenLine:
        """Wait for that one no longer: the first of its duplicates, which is to be sent, takes its
        place for the others."""
        first, *others = self.lines.pop(original)
        self.found.pop(original, None)
        self.useless.discard(original)
        self.shard.followers -= 1
        if others:
            self.lines[Original(self.shard.lease.shard.n, first.local)] = others
        return first

    def _shards(self) -> set[int]:
        known = self.found.keys() | self.useless
        return {original.n for original in self.lines if original not in known}


def _is_of_the_request(failures: Failures | None) -> bool:
    """Whether it is the request that failed, not this line of the input, its job or our storage."""
    if failures is None or failures.kind is not FailureKind.FAILED:
        return False
    return failures.code != "internal_error"


class Copier:
    """Gives duplicates their outcomes, for all open shards of a worker."""

    def __init__(
        self,
        ledger: Ledger,
        blobs: Blobs,
        dispatcher: Dispatcher,
        collector: Collector,
        formats: Formats,
        holdings: Holdings,
        clock: Clock,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._ledger, self._blobs, self._dispatcher = ledger, blobs, dispatcher
        self._collector, self._formats, self._holdings = collector, formats, holdings
        self._clock, self._patience_seconds = clock, patience_seconds
        self._turn = asyncio.Lock()
        """Held while a batch is copied: what bounds the bytes, whatever the number of shards."""

    @asynccontextmanager
    async def following(
        self, shard: OpenShard, lines: Mapping[Original, list[OpenLine]]
    ) -> AsyncIterator[None]:
        """Meanwhile give these lines of the shard their outcomes."""
        if not lines:
            yield
            return
        shard.followers = sum(map(len, lines.values()))
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(self._follow(Followers(shard, dict(lines))))
            yield
            task.cancel()

    async def _follow(self, mine: Followers) -> None:
        while mine.lines:
            written = self._collector.written
            try:
                mine.look(self._holdings)
                await self._ask(mine)
                self._give_up(mine, mine.useless & mine.lines.keys())
                await self._answer(mine)
            except (BlobsUnavailable, LedgerUnavailable) as error:
                log.warning("duplicates_wait", job=mine.shard.job.id, error=str(error))
                await self._clock.sleep(ASK_SECONDS)
            if mine.lines:
                with suppress(TimeoutError):
                    async with asyncio.timeout(ASK_SECONDS):
                        await written.wait()

    async def _ask(self, mine: Followers) -> None:
        now = self._clock.boot()
        due = mine.due(self._holdings, now)
        for start in range(0, len(due), ASKED_AT_ONCE):
            ns = due[start : start + ASKED_AT_ONCE]
            found = await self._ledger.shard_results(mine.shard.job.id, ns)
            mine.asked.update(dict.fromkeys(ns, now))
            for results in found:
                await self._hear(mine, results, now)

    async def _hear(self, mine: Followers, results: ShardResults, now: float) -> None:
        n = results.shard.n
        where: Mapping[int, Range] | None = None
        if results.segments:
            try:
                where = await places(results, self._blobs)
            except BlobMissing:
                where = {}
        for part in results.parts:
            mine.note(n, part, where)
        alone_seconds = mine.alone_seconds(n, now, is_held=results.is_held)
        if results.segments or alone_seconds >= self._patience_seconds:
            mine.lose(n)

    async def _answer(self, mine: Followers) -> None:
        """Copy what was found, batch by batch."""
        originals = list(mine.found)
        pieces = [(place, mine.found[each].source) for place, each in enumerate(originals)]
        for batch in batches(pieces):
            async with self._turn:
                for place, result in await self._read(batch):
                    await self._copy(mine, originals[place], result)

    async def _read(self, batch: list[tuple[int, Range]]) -> list[tuple[int, bytes | None]]:
        """The lines of a batch; None where one is no longer there."""
        try:
            found = await self._blobs.read_ranges([source for _, source in batch])
        except BlobMissing:
            if len(batch) == 1:
                return [(batch[0][0], None)]
            return [line for each in batch for line in await self._read([each])]
        return [(place, data) for (place, _), data in zip(batch, found, strict=True)]

    async def _copy(self, mine: Followers, original: Original, result: bytes | None) -> None:
        """Give the duplicates of one line its outcome, a megabyte and then what follows it."""
        found = mine.found.pop(original)
        if result is None and not found.is_final:
            # Its shard was closed meanwhile, and it will be found in the segment; but one that is
            # open here has this part alone.
            if self._holdings.open_shard(mine.shard.job.id, original.n) is not None:
                self._give_up(mine, {original})
            return
        copied_bytes = 0
        while mine.shard.sends and (lines := mine.lines.get(original)):
            copy = None if result is None else self._copy_of(lines[-1], result, found)
            if copy is None:
                self._give_up(mine, {original})
                return
            local = lines.pop().local
            mine.shard.followers -= 1
            write_copy(mine.shard, local, *copy, self._collector)
            copied_bytes += len(copy[0])
            if copied_bytes >= COPY_BYTES:
                copied_bytes = 0
                await self._collector.flushed()
        if not mine.lines.get(original):
            mine.lines.pop(original, None)

    def _copy_of(
        self, line: OpenLine, result: bytes, found: Found
    ) -> tuple[bytes, Failures | None] | None:
        """The result line of a duplicate, and why it failed, if its original did; None where there
        is nothing to be copied."""
        job = line.shard.job
        try:
            custom_id, _ = open_line(line.raw)
        except ValueError:
            return None
        text = self._formats[job.dialect].copied(job, line.number, custom_id, result)
        if text is None:
            return None
        failed = found.failures
        return text, None if failed is None else failures_of_copy(failed, line.local, custom_id)

    def _give_up(self, mine: Followers, originals: AbstractSet[Original]) -> None:
        """Send a duplicate of each of them itself."""
        if originals:
            lines = [mine.give_up(each) for each in originals]
            log.info("duplicates_sent", job=mine.shard.job.id, lines=len(lines))
            self._dispatcher.offer(mine.shard, lines)
