"""Results as they were published: parts by sequence, and shards with all that is in them."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from batchmill.ledger.leases import is_held
from batchmill.ledger.rows import to_part, to_segment, to_shard
from batchmill.ledger.schema import IS_RUN, job, part, segment, shard
from batchmill.ledger.store import Transaction
from batchmill.model import JobId, Part, Segment
from batchmill.results import PublishedPart, ShardResults


def parts_since(tx: Transaction, id: JobId, sequence: int, limit: int) -> tuple[PublishedPart, ...]:
    """Parts in the order they were counted; those that are not counted yet are not shown."""
    counted = sa.select(job.c.sequence).where(job.c.id == id).scalar_subquery()
    mine = sa.select(part).where(
        part.c.job_id == id, part.c.sequence >= sequence, part.c.sequence <= counted
    )
    rows = tx.all(mine.order_by(part.c.sequence).limit(limit))
    return tuple(
        PublishedPart(row.sequence, row.n, to_part(row), row.state == "live") for row in rows
    )


def shard_results(tx: Transaction, id: JobId, ns: Sequence[int]) -> tuple[ShardResults, ...]:
    """Shards with their parts and segments."""
    mine = sa.select(shard).where(shard.c.job_id == id, IS_RUN, shard.c.n.in_(ns))
    rows = tx.all(mine.order_by(shard.c.n))
    parts: dict[int, list[Part]] = {row.n: [] for row in rows}
    its_parts = sa.select(part).where(part.c.job_id == id, part.c.n.in_(ns))
    for row in tx.all(its_parts.order_by(part.c.sequence)):
        parts[row.n].append(to_part(row))
    segments: dict[int, list[Segment]] = {row.n: [] for row in rows}
    its_segments = sa.select(segment).where(segment.c.job_id == id, segment.c.n.in_(ns))
    for row in tx.all(its_segments):
        segments[row.n].append(to_segment(row))
    return tuple(
        ShardResults(to_shard(row), tuple(parts[row.n]), tuple(segments[row.n]), is_held(tx, row))
        for row in rows
    )
