"""The end of a validation: shards are made and the job queued, or it is refused."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from batchmill.ledger.endings import begin_finalizing, end_unvalidated, may_become
from batchmill.ledger.jobs import present
from batchmill.ledger.leases import STOPPED_STATES, close_fenced
from batchmill.ledger.locks import lock_job
from batchmill.ledger.rows import Row, Values, errors_text, shard_values
from batchmill.ledger.schema import job, shard
from batchmill.ledger.store import Transaction
from batchmill.model import Dialect, Job, JobState, Lease, LineError, OnInvalid
from batchmill.ports import Plan

_EMPTY = LineError("empty_file", "the input has no lines; give a file with one request per line")


def plan(tx: Transaction, lease: Lease, found: Plan) -> Job:
    """Make the shards and queue the job, fail it, or leave it stopped with shards to settle."""
    row = lock_job(tx, lease.job)
    if close_fenced(tx, lease):
        assert row is not None
        stopped = row.state in STOPPED_STATES
        if found.errors_total and row.on_invalid == OnInvalid.FAIL.value and not stopped:
            end_unvalidated(tx, row, found.errors, found.errors_total)
        elif not found.lines and not stopped:
            errors = found.errors or (_EMPTY,)
            end_unvalidated(tx, row, errors, max(1, found.errors_total))
        else:
            _queue(tx, row, found)
    return present(tx, lease.job)


def refuse(tx: Transaction, lease: Lease, errors: Sequence[LineError], total: int) -> Job:
    """End the job without shards."""
    row = lock_job(tx, lease.job)
    if close_fenced(tx, lease):
        assert row is not None
        end_unvalidated(tx, row, errors, total)
    return present(tx, lease.job)


def _queue(tx: Transaction, row: Row, found: Plan) -> None:
    """Make the shards, to be run or, where the job has stopped, to be settled."""
    tx.each(sa.insert(shard), [shard_values(row.id, each) for each in found.shards])
    is_shown = row.dialect == Dialect.OPENAI.value  # one of those that its lines name
    values: Values = {
        "total": found.lines,
        "model": found.model if row.model is None and is_shown else row.model,
        "errors": errors_text(found.errors),
        "errors_total": found.errors_total,
        "shards_left": len(found.shards),
    }
    tx.run(sa.update(job).where(job.c.id == row.id).values(values))
    queued = sa.update(job).where(job.c.id == row.id, may_become(JobState.QUEUED))
    tx.run(queued.values(state=JobState.QUEUED.value, queued_at=tx.at.wall))
    tx.ring()
    if not found.shards:
        begin_finalizing(tx, row.id)
