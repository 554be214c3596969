"""The results of a job as the ledger knows them: parts in the order in which they were published,
and what a shard has come to. The bytes are the blobs'."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from batchmill.model import JobId, Part, Segment, Shard


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


class ResultLedger(Protocol):
    """The steps of the ledger that concern results; part of `ports.Ledger`."""

    async def parts_since(self, job: JobId, sequence: int, limit: int) -> tuple[PublishedPart, ...]:
        """The job's parts from that sequence number on, as they were published. No part with
        a smaller number is ever published after one that this has shown."""

    async def shard_results(self, job: JobId, ns: Sequence[int]) -> tuple[ShardResults, ...]:
        """These shards of a job, in rising order; those that do not exist are left out."""
