"""Commit, close, finalize: how outcomes become visible, each under its lease and counted once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from batchmill.errors import StateConflict
from batchmill.failures import Failures
from batchmill.ledger.endings import Names, ResultIds, begin_finalizing
from batchmill.ledger.endings import publish as publish_files
from batchmill.ledger.jobs import present
from batchmill.ledger.leases import FENCE, close_fenced, fence_of, was_closed_by
from batchmill.ledger.locks import lock_job, lock_jobs
from batchmill.ledger.rows import (
    Row,
    Values,
    bitmap,
    bitmap_bytes,
    pack_entries,
    pack_failures,
    text,
    to_tally,
    usage_values,
)
from batchmill.ledger.schema import IS_LEASED, IS_RUN, job, part, segment, shard
from batchmill.ledger.store import Transaction
from batchmill.model import (
    Job,
    JobId,
    Lease,
    Part,
    Segment,
    Stream,
)
from batchmill.usage import total

_Key = tuple[JobId, int]
_bit = (1).__lshift__

_HELD = (
    sa.select(shard)
    .where(
        IS_RUN,
        IS_LEASED,
        sa.tuple_(shard.c.job_id, shard.c.n).in_(sa.bindparam("keys", expanding=True)),
    )
    .order_by(shard.c.job_id, shard.c.n)
    .with_for_update()
)
_COMMITTED = sa.update(shard).where(*FENCE)
_COMPLETE = (
    sa.select(shard.c.lines, shard.c.done, shard.c.succeeded).where(*FENCE).with_for_update()
)
_CLOSE = sa.update(shard).where(*FENCE).values(state="closed", lease_until=None, done=None)
_SPEND = (
    sa.update(part)
    .where(part.c.job_id == sa.bindparam("at_job"), part.c.n == sa.bindparam("at_n"))
    .values(state="spent")
)
_ONE_LESS = (
    sa.update(job)
    .where(job.c.id == sa.bindparam("at_job"))
    .values(shards_left=job.c.shards_left - 1)
    .returning(job.c.shards_left)
)
_PUBLISHED = sa.select(part.c.blob).where(part.c.blob.in_(sa.bindparam("blobs", expanding=True)))


@dataclass(slots=True)
class _Progress:
    """One shard while parts are published in it. Only the present lease changes it."""

    row: Row
    done: int
    succeeded: int
    parts: list[Part] = field(default_factory=list)

    def take(self, lease: Lease, each: Part) -> bool:
        """Accept the part, or refuse all of it: it is fenced off, or a line has an outcome."""
        row, lines = self.row, [entry.line for entry in each.entries]
        if (row.owner, row.epoch) != (lease.owner, lease.epoch):
            return False
        if not lines or min(lines) < 0 or max(lines) >= row.lines:
            return False
        bits = sum(map(_bit, lines))  # two of one line are fewer bits than lines
        if bits & self.done or bits.bit_count() != len(lines):
            return False
        self.done |= bits
        self.succeeded += [entry.stream for entry in each.entries].count(Stream.OUT)
        self.parts.append(each)
        return True

    def values(self) -> Values:
        row = self.row
        survived = row.alone is not None and bool(self.done >> row.alone & 1)
        return {
            "at_job": row.job_id,
            "at_kind": row.kind,
            "at_n": row.n,
            "at_owner": row.owner,
            "at_epoch": row.epoch,
            "done": bitmap_bytes(self.done),
            "succeeded": self.succeeded,
            "committed": True,
            "strikes": 0,
            "alone": None if survived else row.alone,
            "alone_in_flight": row.alone_in_flight and not survived,
            "alone_deaths": 0 if survived else row.alone_deaths,
        }


def commit(tx: Transaction, lease_parts: Sequence[tuple[Lease, Part]]) -> tuple[bool, ...]:
    """Publish parts, each fenced alone, and count their lines."""
    if not lease_parts:
        return ()
    lock_jobs(tx, {lease.job for lease, _ in lease_parts})
    shards = _held(tx, [lease for lease, _ in lease_parts])
    before = _published(tx, [each.blob for _, each in lease_parts])
    answers = [False] * len(lease_parts)
    order = sorted(range(len(lease_parts)), key=lambda i: (lease_parts[i][0].key, i))
    for i in order:
        lease, each = lease_parts[i]
        progress = shards.get((lease.job, lease.n))
        if each.blob in before:
            answers[i] = True
        elif progress is not None and progress.take(lease, each):
            before.add(each.blob)
            answers[i] = True
    changed = [progress for progress in shards.values() if progress.parts]
    tx.each(_COMMITTED, [each.values() for each in changed])
    _count(tx, changed)
    return tuple(answers)


def close(tx: Transaction, lease: Lease, segments: Sequence[Segment]) -> bool:
    """Close a complete shard with its segments; the last one makes its job finalizable."""
    lock_jobs(tx, [lease.job])
    row = tx.one(_COMPLETE, fence_of(lease))
    if row is None:
        return was_closed_by(tx, lease)
    _require_complete(lease, row, segments)
    tx.run(_CLOSE, fence_of(lease))
    tx.each(sa.insert(segment), [segment_values(lease.job, lease.n, side) for side in segments])
    tx.run(_SPEND, {"at_job": lease.job, "at_n": lease.n})
    if tx.value(_ONE_LESS, {"at_job": lease.job}) == 0:
        begin_finalizing(tx, lease.job)
    return True


def finalize(tx: Transaction, lease: Lease, ids: ResultIds, names: Names) -> Job:
    """End the job with its files."""
    row = lock_job(tx, lease.job)
    if close_fenced(tx, lease):
        assert row is not None
        publish_files(tx, row, ids, names)
    return present(tx, lease.job)


def _published(tx: Transaction, blobs: Sequence[str]) -> set[str]:
    """Those of the parts that are published already."""
    return {row.blob for row in tx.all(_PUBLISHED, {"blobs": blobs})}


def _held(tx: Transaction, leases: Sequence[Lease]) -> dict[_Key, _Progress]:
    """The leased shards among these, locked in (job, n) order."""
    keys = sorted({(lease.job, lease.n) for lease in leases})
    rows = tx.all(_HELD, {"keys": keys})
    return {(row.job_id, row.n): _Progress(row, bitmap(row.done), row.succeeded) for row in rows}


def _count(tx: Transaction, changed: Sequence[_Progress]) -> None:
    """Record the parts, numbered as they are published, and add their lines to their jobs."""
    rows: list[Values] = []
    for its in dict.fromkeys(progress.row.job_id for progress in changed):
        mine = [(p.row.n, each) for p in changed if p.row.job_id == its for each in p.parts]
        last = tx.value(_add_up(tx, its, [each for _, each in mine]))
        _count_failures(tx, its, [found for _, each in mine for found in each.failures])
        first = last - len(mine) + 1
        rows += [part_values(its, n, first + i, each) for i, (n, each) in enumerate(mine)]
    tx.each(sa.insert(part), rows)


def _add_up(tx: Transaction, id: JobId, parts: Sequence[Part]) -> Any:
    """Add the parts to the counters of their job; gives the job's last sequence number."""
    streams = [entry.stream for each in parts for entry in each.entries]
    succeeded = streams.count(Stream.OUT)
    usage = usage_values(total([each.usage for each in parts]))
    grown = {
        "succeeded": succeeded,
        "failed": len(streams) - succeeded,
        "deduplicated": sum(each.deduplicated for each in parts),
        "sequence": len(parts),
        **usage,
    }
    values: dict[str, Any] = {name: job.c[name] + number for name, number in grown.items()}
    values["last_progress_at"] = tx.at.wall
    return sa.update(job).where(job.c.id == id).values(values).returning(job.c.sequence)


def _count_failures(tx: Transaction, id: JobId, found: Sequence[Failures]) -> None:
    """Add failed lines to the tally of their job, whose row is locked; most commits have none."""
    if found:
        tally = to_tally(tx.value(sa.select(job.c.failures).where(job.c.id == id)))
        mine = sa.update(job).where(job.c.id == id)
        tx.run(mine.values(failures=text(tally.plus(found))))


def _require_complete(lease: Lease, row: Row, segments: Sequence[Segment]) -> None:
    """Every line has an outcome, and the segments hold each on its side."""
    done = bitmap(row.done).bit_count()
    sides = {side.stream: side.lines for side in segments}
    lines = sum(side.lines for side in segments)
    if (
        done != row.lines
        or lines != row.lines
        or len(sides) != len(segments)
        or sides.get(Stream.OUT, 0) != row.succeeded
    ):
        raise StateConflict(
            f"shard {lease.n} of job {lease.job} has {row.lines} lines; {done} have an outcome, "
            f"{row.succeeded} of them in the output, and the segments hold {lines}"
        )


def segment_values(id: JobId, n: int, side: Segment) -> Values:
    """A new row of `segment`."""
    return {
        "job_id": id,
        "stream": side.stream.value,
        "n": n,
        "blob": side.blob,
        "size_bytes": side.size_bytes,
        "lines": side.lines,
    }


def part_values(id: JobId, n: int, sequence: int, each: Part) -> Values:
    """A new row of `part`."""
    return {
        "job_id": id,
        "n": n,
        "sequence": sequence,
        "blob": each.blob,
        "size_bytes": each.size_bytes,
        "entries": pack_entries(each.entries),
        **usage_values(each.usage),
        "failures": pack_failures(each.failures),
    }
