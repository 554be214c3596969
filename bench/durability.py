"""Making outcomes durable, in a loop of its own: group commits, segments and closing, over the
real ledger and real files, with result lines that are there already.

    python -m bench.durability DIRECTORY LINES
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import uvloop

from batchmill.blobs.local import LocalBlobs
from batchmill.clock import SystemClock, new_id
from batchmill.core.collect import Collector, GroupRules
from batchmill.core.lines import ShardSize
from batchmill.core.segments import write_segments
from batchmill.core.work import OpenShard
from batchmill.dialects.mistral.lines import MistralLines
from batchmill.ledger import SqlLedger
from batchmill.model import (
    DEFAULT_TENANT,
    BlobName,
    Dialect,
    Fate,
    File,
    FileId,
    FileSource,
    Job,
    JobId,
    JobInput,
    JobState,
    Kind,
    Outcome,
    Owner,
    Shard,
    Stream,
)
from batchmill.ports import Ledger, Plan, Want
from batchmill.usage import Usage
from bench.inputs import ENDPOINT, LINE_BYTES, MODEL, answer

_FORMATS = {Dialect.MISTRAL: MistralLines()}


async def _run(directory: Path, lines: int) -> float:
    """CPU seconds for each line."""
    clock = SystemClock()
    ledger = await SqlLedger.open(directory / "ledger.sqlite", clock=clock)
    blobs = LocalBlobs(directory / "blobs")
    collector = Collector(
        ledger,
        blobs,
        clock,
        GroupRules(),
        released=lambda _: None,
        storage=lambda **_: None,
        counted=lambda _job, _lines: None,
    )
    owner = await ledger.register("bench", new_id(), "localhost", 1)
    await _queue(ledger, owner, lines)
    committing = asyncio.create_task(collector.run())
    began = time.process_time()
    while leases := await ledger.claim_shards(owner, Want(limit=4)):
        for lease in leases:
            shard = OpenShard(lease)
            await _commit(shard, collector)
            segments = await write_segments(shard, blobs, _FORMATS)
            assert await ledger.close(lease.lease, segments)
    took = time.process_time() - began
    committing.cancel()
    await ledger.close_connections()
    return took / lines


async def _commit(shard: OpenShard, collector: Collector) -> None:
    """Give every line of the shard its outcome, in one group: at full speed a group holds a
    shard or more."""
    outcome = Outcome(Fate.SUCCEEDED, 200, answer())
    text = _FORMATS[Dialect.MISTRAL].result(shard.job, 0, b'"line-0000000"', outcome)
    usage = Usage(96, 15)
    for local in range(shard.lease.shard.lines):
        collector.add(shard, local, Stream.OUT, text, usage)
    while shard.uncommitted:
        collector.hurry()
        await shard.change()


async def _queue(ledger: Ledger, owner: Owner, lines: int) -> None:
    """A validated job of that many lines."""
    file, blob, size = FileId(new_id()), BlobName("inputs/bench"), lines * LINE_BYTES
    await ledger.add_file(
        File(
            file,
            DEFAULT_TENANT,
            "bench.jsonl",
            "batch",
            FileSource.UPLOAD,
            size,
            0.0,
            lines=lines,
            blob=blob,
        )
    )
    job = Job(
        JobId(new_id()),
        DEFAULT_TENANT,
        Dialect.MISTRAL,
        ENDPOINT,
        JobState.VALIDATING,
        0.0,
        86_400.0,
        lines,
        model=MODEL,
        input_files=(file,),
    )
    await ledger.create_job(job, [JobInput(file, "bench.jsonl", blob, size, lines)], None)
    claimed = await ledger.claim_chore(owner, (Kind.VALIDATE,))
    assert claimed is not None
    await ledger.plan(claimed[0], Plan(tuple(_shards(lines)), lines))


def _shards(lines: int) -> list[Shard]:
    each = ShardSize().lines
    return [
        Shard(n, 0, first, count, first * LINE_BYTES, count * LINE_BYTES, first + 1)
        for n, first in enumerate(range(0, lines, each))
        if (count := min(each, lines - first))
    ]


if __name__ == "__main__":
    print(uvloop.run(_run(Path(sys.argv[1]), int(sys.argv[2]))) * 1e6)
