"""Group commit: outcomes gather while the last group is being written.

A flush writes one part for each shard that has outcomes and publishes all of them in one
transaction. What cannot be written is held and tried again, never dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate
from math import inf
from typing import Protocol

import structlog

from batchmill.clock import Clock, jitter
from batchmill.core.failing import Failure, grouped, merged
from batchmill.core.names import part_name
from batchmill.core.retry import backoff
from batchmill.core.work import OpenShard
from batchmill.errors import BlobError, LedgerUnavailable
from batchmill.failures import Failures
from batchmill.model import (
    Answer,
    BlobName,
    JobId,
    Part,
    PartEntry,
    Stream,
    Verdict,
)
from batchmill.ports import Blobs, Ledger
from batchmill.usage import NO_USAGE, Usage, total

log = structlog.get_logger()

LATE_SECONDS = 5.0
"""A group that is not written by then is as good as refused: nothing new is sent meanwhile."""


@dataclass(frozen=True, slots=True)
class GroupRules:
    """When a group is written: that long after its first outcome, or at that size. The first ones
    of a worker wait `first_seconds` and double it each: one that lives shortly still commits, so
    that its shards are not taken for what kills it."""

    seconds: float = 0.25
    size_bytes: int = 4 * 1024 * 1024
    first_seconds: float = 0.25


@dataclass(slots=True)
class Batchlet:
    """What one shard has in a group: its outcomes in the order they came, column by column."""

    places: list[int] = field(default_factory=list)
    streams: list[Stream] = field(default_factory=list)
    lines: list[bytes] = field(default_factory=list)
    usages: list[Usage] = field(default_factory=list)
    held_bytes: int = 0
    failures: list[Failure] = field(default_factory=list)
    copied: int = 0
    copied_failures: list[Failures] = field(default_factory=list)


Group = dict[OpenShard, Batchlet]


class StorageSaid(Protocol):
    """Hears whether the last thing that was to be made durable could be."""

    def __call__(self, *, written: bool) -> None: ...


def _nothing() -> None:
    return


class Collector:
    """Takes outcomes of open shards and makes them durable, group by group."""

    def __init__(
        self,
        ledger: Ledger,
        blobs: Blobs,
        clock: Clock,
        rules: GroupRules,
        *,
        released: Callable[[int], None],
        storage: StorageSaid,
        counted: Callable[[JobId, int], None],
    ) -> None:
        self._ledger, self._blobs, self._clock, self._rules = ledger, blobs, clock, rules
        self._released, self._storage, self._counted = released, storage, counted
        self._group: Group = {}
        self._group_bytes = 0
        self._seconds = min(rules.first_seconds, rules.seconds)
        self._dirty = asyncio.Event()
        self._due = asyncio.Event()
        self._begun = self._ended = 0
        self.written = asyncio.Event()
        """Set once the next group is durable or thrown away; then there is another one."""
        self.is_held_up = False
        """A group could not be made durable and is tried again."""
        self._held_lines = 0
        self._most_held: float = inf
        self._made_room: Callable[[], None] = _nothing

    def add(
        self,
        shard: OpenShard,
        local: int,
        stream: Stream,
        line: bytes,
        usage: Usage,
        held_bytes: int = 0,
    ) -> None:
        """Take the result line of one outcome; `held_bytes` of the budget go back once it is
        durable or thrown away."""
        mine = self._group.get(shard)
        if mine is None:
            mine = self._group[shard] = Batchlet()
            self._dirty.set()
        mine.places.append(local)
        mine.streams.append(stream)
        mine.lines.append(line)
        if usage is not NO_USAGE:
            mine.usages.append(usage)
        mine.held_bytes += held_bytes
        shard.uncommitted += 1
        self._held_lines += 1
        self._group_bytes += len(line)
        if self._group_bytes >= self._rules.size_bytes:
            self._due.set()

    def add_failure(self, shard: OpenShard, failure: Failure) -> None:
        """Note why the line that was added last did not succeed."""
        self._group[shard].failures.append(failure)

    def hold_at_most(self, lines: int, made_room: Callable[[], None]) -> None:
        """Have room for so many outcomes that are not durable yet. `made_room` is called whenever
        some have become so."""
        self._most_held, self._made_room = lines, made_room

    def has_room(self) -> bool:
        """Whether it may take more; half full it hurries."""
        if 2 * self._held_lines >= self._most_held:
            self.hurry()
        return self._held_lines < self._most_held

    def add_copy(
        self, shard: OpenShard, local: int, line: bytes, failures: Failures | None
    ) -> None:
        """Take the result line of one that has the outcome of another; in `failures` it alone,
        where that one failed."""
        self.add(shard, local, Stream.OUT if failures is None else Stream.ERR, line, NO_USAGE)
        mine = self._group[shard]
        mine.copied += 1
        if failures is not None:
            mine.copied_failures.append(failures)

    async def flushed(self) -> None:
        """Wait until what was added last is durable or thrown away."""
        mine = self._begun
        self.hurry()
        while self._ended <= mine:
            await self.written.wait()

    def hurry(self) -> None:
        """Somebody waits for the group: write it as soon as the last one is done."""
        self._due.set()

    async def run(self) -> None:
        """Write group after group, for ever; cancelled by its owner once all is drained."""
        while True:
            await self._dirty.wait()
            await self._fill()
            await self._write(self._taken())
            self._made_room()

    def _hold_up(self) -> None:
        self.is_held_up = True
        self._storage(written=False)

    def _taken(self) -> Group:
        group, self._group, self._group_bytes = self._group, {}, 0
        self._begun += 1
        self._dirty.clear()
        self._due.clear()
        return group

    async def _fill(self) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                await self._due.wait()
        except TimeoutError:
            pass
        self._seconds = min(2 * self._seconds, self._rules.seconds)

    async def _write(self, group: Group) -> None:
        parts = {shard: _part(shard, mine) for shard, mine in group.items()}
        tries = 0
        while live := [shard for shard in group if not shard.gone]:
            late = asyncio.get_running_loop().call_later(LATE_SECONDS, self._hold_up)
            try:
                await self._blobs.put_many(
                    [(parts[shard].blob, group[shard].lines) for shard in live]
                )
                accepted = await self._ledger.commit(
                    [(shard.lease.lease, parts[shard]) for shard in live]
                )
            except (BlobError, LedgerUnavailable) as error:
                if tries == 0:
                    log.warning("storage_unavailable", error=str(error))
                self._hold_up()
                await self._clock.sleep(min(2.0, backoff(tries, jitter())))
                tries += 1
                continue
            finally:
                late.cancel()
            self._storage(written=True)
            for shard, kept in zip(live, accepted, strict=True):
                if kept:
                    shard.parts.append(parts[shard])
                    self._counted(shard.job.id, len(parts[shard].entries))
                else:
                    shard.tell(Answer(Verdict.GONE))
            break
        self.is_held_up = False
        for shard, mine in group.items():
            shard.uncommitted -= len(mine.lines)
            self._held_lines -= len(mine.lines)
            shard.changed()
            self._released(mine.held_bytes)
        self._ended += 1
        written, self.written = self.written, asyncio.Event()
        written.set()


def _part(shard: OpenShard, mine: Batchlet) -> Part:
    lease = shard.lease.lease
    name: BlobName = part_name(lease.job, lease.n, lease.epoch, shard.parts_written)
    shard.parts_written += 1
    lengths = [len(line) for line in mine.lines]
    offsets = accumulate(lengths, initial=0)
    entries = tuple(map(PartEntry, mine.places, offsets, lengths, mine.streams))
    failures = grouped(mine.failures) + merged(mine.copied_failures)
    return Part(name, entries, sum(lengths), total(mine.usages), failures, mine.copied)
