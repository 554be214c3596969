"""Child jobs: a retry is recorded, given what it keeps of its parent, and queued.

Shards that are kept have the state `kept` or `closed`, neither of which anybody claims, until all
are there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from batchmill.errors import Conflict, LeaseLost, StateConflict
from batchmill.failures import FailureKind
from batchmill.ledger import files
from batchmill.ledger.endings import UNFINISHED, begin_finalizing, may_become
from batchmill.ledger.jobs import create, inputs, present
from batchmill.ledger.leases import FENCE, close_fenced, fence_of
from batchmill.ledger.locks import lock_job
from batchmill.ledger.publish import part_values, segment_values
from batchmill.ledger.rows import (
    Row,
    Values,
    bitmap_bytes,
    shard_values,
    text,
    usage_values,
)
from batchmill.ledger.schema import IS_RUN, file, job, part, retry, segment, shard
from batchmill.ledger.store import Transaction
from batchmill.model import TERMINAL, Job, JobId, JobState, Lease, Stream
from batchmill.results import Choice, Kept, KeptShard

_kinds = msgspec.json.Decoder(frozenset[FailureKind])
_numbers = msgspec.msgpack.Decoder(frozenset[int])


def create_child(tx: Transaction, child: Job, choice: Choice) -> Job:
    """Record a child with its parent's inputs; asked again with the same id, nothing changes."""
    assert child.retry_of is not None
    parent = lock_job(tx, child.retry_of)
    if parent is None:
        raise StateConflict(f"there is no job {child.retry_of}")
    if tx.one(sa.select(job.c.id).where(job.c.id == child.id)) is None:
        _require_results(tx, parent)
        _require_no_child(tx, parent)
        try:
            create(tx, child, inputs(tx, parent.id), None, None)
        except StateConflict as error:
            raise _refusal(parent, str(error)) from error
        chosen = {"kinds": text(sorted(choice.kinds)), "lines": _packed(choice.lines)}
        tx.run(sa.insert(retry), {"job_id": child.id, **chosen})
        tx.run(sa.update(job).where(job.c.id == parent.id).values(retried_by=child.id))
    return present(tx, child.id)


def choice_of(tx: Transaction, id: JobId) -> Choice:
    """What the child sends again."""
    row = tx.one(sa.select(retry).where(retry.c.job_id == id))
    if row is None:
        raise StateConflict(f"job {id} is no retry")
    lines = frozenset[int]() if row.lines is None else _numbers.decode(row.lines)
    return Choice(_kinds.decode(row.kinds), lines)


def kept_shards(tx: Transaction, id: JobId) -> int:
    """How many shards are there; they are kept in order."""
    mine = sa.select(sa.func.count()).select_from(shard).where(shard.c.job_id == id, IS_RUN)
    return int(tx.value(mine))


def keep(tx: Transaction, lease: Lease, shards: Sequence[KeptShard]) -> None:
    """Record shards with their parts and segments, for nobody to see yet."""
    if tx.one(sa.select(shard.c.n).where(*FENCE).with_for_update(), fence_of(lease)) is None:
        raise LeaseLost(f"the lease on {lease.kind} {lease.n} of job {lease.job} is lost")
    if tx.again and _is_kept(tx, lease.job, shards):
        return
    tx.each(sa.insert(shard), [_shard_values(lease.job, each) for each in shards])
    parts = []
    for each in shards:
        if each.part is not None:
            state = "dropped" if each.is_whole else "live"
            values = part_values(lease.job, each.shard.n, each.shard.n + 1, each.part)
            parts.append({**values, "state": state})
    tx.each(sa.insert(part), parts)
    sides = [segment_values(lease.job, e.shard.n, side) for e in shards for side in e.segments]
    tx.each(sa.insert(segment), sides)


def _is_kept(tx: Transaction, id: JobId, shards: Sequence[KeptShard]) -> bool:
    """Whether an earlier run of the step recorded these shards: all of them, or none."""
    ns = [each.shard.n for each in shards]
    mine = sa.select(shard.c.n).where(shard.c.job_id == id, IS_RUN, shard.c.n.in_(ns))
    return tx.one(mine.limit(1)) is not None


def plan_child(tx: Transaction, lease: Lease, kept: Kept) -> Job:
    """Count what is kept and open what is not whole."""
    row = lock_job(tx, lease.job)
    if close_fenced(tx, lease):
        assert row is not None
        waiting = sa.update(shard).where(shard.c.job_id == row.id, IS_RUN, shard.c.state == "kept")
        shards_left = tx.run(waiting.values(state="open"))
        last = tx.value(sa.select(sa.func.max(part.c.sequence)).where(part.c.job_id == row.id))
        values: Values = {
            "succeeded": kept.succeeded,
            "failed": kept.failed,
            "failures": text(kept.failures),
            "sequence": last or 0,
            "shards_left": shards_left,
            **usage_values(kept.usage),
        }
        tx.run(sa.update(job).where(job.c.id == row.id).values(values))
        queued = sa.update(job).where(job.c.id == row.id, may_become(JobState.QUEUED))
        tx.run(queued.values(state=JobState.QUEUED.value, queued_at=tx.at.wall))
        tx.ring()
        if not shards_left:
            begin_finalizing(tx, row.id)
    return present(tx, lease.job)


def _require_results(tx: Transaction, parent: Row) -> None:
    wanted = {each for each in (parent.output_file, parent.error_file) if each is not None}
    if parent.state not in {state.value for state in TERMINAL}:
        raise _refusal(parent, f"it is {parent.state}; wait for its end or cancel it")
    if not wanted:
        raise _refusal(parent, "it has no results")
    there = sa.select(file.c.id).where(file.c.id.in_(wanted), *files.visible(tx))
    there = there.order_by(file.c.id).with_for_update(read=True)
    if len(tx.all(there)) < len(wanted):
        raise _refusal(parent, "its results were deleted or are past their retention")


def _require_no_child(tx: Transaction, parent: Row) -> None:
    child = tx.one(_unfinished_children(parent.id).limit(1))
    if child is not None:
        raise _refusal(parent, f"its retry {child.id} is {child.state}; wait for its end")


def _unfinished_children(parent: JobId) -> sa.Select[Any]:
    columns = (job.c.id, job.c.state)
    return sa.select(*columns).where(job.c.retry_of == parent, job.c.state.in_(UNFINISHED))


def _refusal(parent: Row, reason: str) -> Conflict:
    return Conflict(f"Job {parent.id} cannot be retried: {reason}.", state=parent.state)


def _shard_values(id: JobId, kept: KeptShard) -> Values:
    entries = kept.part.entries if kept.part is not None else ()
    done = bitmap_bytes(sum(1 << entry.line for entry in entries))
    return {
        **shard_values(id, kept.shard),
        "state": "closed" if kept.is_whole else "kept",
        "done": done if entries and not kept.is_whole else None,
        "succeeded": sum(entry.stream is Stream.OUT for entry in entries),
    }


def _packed(lines: frozenset[int]) -> bytes | None:
    return msgspec.msgpack.encode(sorted(lines)) if lines else None
