"""Open shards for tests that need no worker."""

from __future__ import annotations

from batchmill.core.work import OpenLine, OpenShard
from batchmill.model import (
    BlobName,
    Dialect,
    FileId,
    Job,
    JobId,
    JobInput,
    JobState,
    Kind,
    Lease,
    Owner,
    Shard,
    ShardLease,
    TenantId,
)


def open_shard(data: bytes = b"", n: int = 0, lines: int = 1) -> OpenShard:
    """A shard of the job `j` with these bytes, which has been read."""
    job = Job(
        JobId("j"),
        TenantId("t"),
        Dialect.MISTRAL,
        "/v1/embeddings",
        JobState.RUNNING,
        0.0,
        1e12,
        100,
        dedupe=True,
    )
    lease = Lease(job.id, Kind.RUN, n, Owner("w/1"), 1)
    where = Shard(n, 0, n * lines, lines, 0, len(data), 1)
    source = JobInput(FileId("f"), "f", BlobName("f"), len(data), lines)
    shard = OpenShard(ShardLease(lease, job, where, source), data)
    shard.settled = bytearray(lines)
    shard.waiting = lines
    shard.opened = True
    return shard


def open_line(shard: OpenShard, local: int = 0) -> OpenLine:
    """A line of it without any bytes."""
    return OpenLine(shard, shard.lease.shard.first_line + local, local, 0, 0, "m")
