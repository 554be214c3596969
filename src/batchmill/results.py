"""The results of a job as the ledger knows them: parts in the order in which they were published,
and what a shard has come to. The bytes are the blobs'."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from batchmill.failures import FailureKind, FailureTally
from batchmill.model import (
    Job,
    JobId,
    Lease,
    Part,
    Segment,
    Shard,
)
from batchmill.usage import Usage


@dataclass(frozen=True, slots=True)
class PublishedPart:
    """A part of a job: `sequence` numbers them as they were published, `n` is its shard. The
    bytes of one that is not live stand in the shard's segments."""

    sequence: int
    n: int
    part: Part
    is_live: bool


@dataclass(frozen=True, slots=True)
class ShardResults:
    """A shard of a job, the parts published in it, in this order, and its segments, if closed."""

    shard: Shard
    parts: tuple[Part, ...]
    segments: tuple[Segment, ...]
    is_held: bool = False
    """Somebody runs it, as far as its lease says."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which lines of its parent a child sends again: those that failed in one of these ways, or
    these ones, by their number in the job. Lines that validation refused never are."""

    kinds: frozenset[FailureKind] = frozenset()
    lines: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class KeptShard:
    """A shard of a child as it begins: `part` holds the outcomes that are kept, None where none
    is. One of which nothing is sent again has its segments, and no blob for its part."""

    shard: Shard
    part: Part | None
    segments: tuple[Segment, ...] = ()

    @property
    def is_whole(self) -> bool:
        return self.part is not None and len(self.part.entries) == self.shard.lines


@dataclass(frozen=True, slots=True)
class Kept:
    """What a child begins with, over all its shards."""

    succeeded: int
    failed: int
    usage: Usage
    failures: FailureTally


class ResultLedger(Protocol):
    """The steps of the ledger that concern results; part of `ports.Ledger`."""

    async def parts_since(self, job: JobId, sequence: int, limit: int) -> tuple[PublishedPart, ...]:
        """The job's parts from that sequence number on, as they were published. No part with
        a smaller number is ever published after one that this has shown."""

    async def shard_results(self, job: JobId, ns: Sequence[int]) -> tuple[ShardResults, ...]:
        """These shards of a job, in rising order; those that do not exist are left out."""

    async def create_child(self, child: Job, choice: Choice) -> Job:
        """Record a retry of the job `child.retry_of`, with that one's inputs, as `create_job`
        does. Raises `Conflict` unless the parent has ended with results, those and its inputs are
        there, and no other child of it is unfinished. Until the child has ended, none of these
        are pruned or deleted."""

    async def choice_of(self, job: JobId) -> Choice:
        """What a child sends again."""

    async def kept_shards(self, job: JobId) -> int:
        """How many shards of a child, from the first on, have been kept."""

    async def keep(self, lease: Lease, shards: Sequence[KeptShard]) -> None:
        """Record shards of a child, whose blobs are durable, under the lease on its validation.
        Nothing of them is seen or counted before `plan_child`. Raises `LeaseLost`."""

    async def plan_child(self, lease: Lease, kept: Kept) -> Job:
        """End the validation of a child: count what is kept, open the shards of which lines are
        sent again, and queue it, unless it has stopped. Raises `LeaseLost`."""
