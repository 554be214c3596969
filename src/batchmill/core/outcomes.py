"""An open line gets its outcome: its result line is written and goes to the collector, which makes
it durable. Every outcome takes one of these two ways."""

from __future__ import annotations

from batchmill.core.collect import Collector
from batchmill.core.failing import failure_of
from batchmill.core.work import OpenShard
from batchmill.failures import Failures
from batchmill.model import Fate, Outcome, Stream
from batchmill.ports import Formats


def write_outcome(
    shard: OpenShard,
    number: int,
    local: int,
    custom_id: bytes,
    outcome: Outcome,
    formats: Formats,
    collector: Collector,
    held_bytes: int = 0,
) -> None:
    """Write the result line of one line of a shard and hand it to the collector."""
    job = shard.job
    text = formats[job.dialect].result(job, number, custom_id, outcome)
    if outcome.fate is Fate.SUCCEEDED:
        collector.add(shard, local, Stream.OUT, text, outcome.usage, held_bytes)
    else:
        collector.add(shard, local, Stream.ERR, text, outcome.usage, held_bytes)
        collector.add_failure(shard, failure_of(local, custom_id, outcome))
    _settle(shard, local, collector)


def write_copy(
    shard: OpenShard, local: int, result: bytes, failures: Failures | None, collector: Collector
) -> None:
    """Give a line the outcome of another one: its own result line, which used no tokens, and in
    `failures` it alone, where the other one failed."""
    collector.add_copy(shard, local, result, failures)
    _settle(shard, local, collector)


def _settle(shard: OpenShard, local: int, collector: Collector) -> None:
    shard.settled[local] = 1
    shard.waiting -= 1
    if not shard.waiting:
        collector.hurry()
        shard.changed()
