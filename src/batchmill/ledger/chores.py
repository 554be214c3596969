"""Chores: the leased rows that are not shards (validate, finalize, prune, sweep)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from batchmill.ledger.endings import end_unvalidated, publish_anyhow
from batchmill.ledger.leases import (
    FENCE,
    HAS_RUN_OUT,
    IS_DUE,
    clock_of,
    close_fenced,
    fence_of,
    grant,
    granted,
    release,
)
from batchmill.ledger.locks import lock_jobs, lock_jobs_at_once
from batchmill.ledger.rows import Row, to_job
from batchmill.ledger.schema import IS_CHORE, IS_LEASED, IS_OPEN, job, shard
from batchmill.ledger.store import Transaction
from batchmill.model import Job, JobId, Kind, Lease, LineError, Owner

STRIKES = 5
"""A chore that failed this often is given up, and its job with it."""

LONGEST_BACKOFF_SECONDS = 60.0

_ORDER = (Kind.FINALIZE, Kind.VALIDATE, Kind.SWEEP, Kind.PRUNE)
_ENDS_A_JOB = frozenset({Kind.FINALIZE, Kind.VALIDATE})


def backoff_seconds(strikes: int) -> float:
    """How long a chore waits after that many failures: 1, 2, 4 ... up to a minute."""
    return min(2.0 ** (strikes - 1), LONGEST_BACKOFF_SECONDS)


def claim(
    tx: Transaction, owner: Owner, kinds: Sequence[Kind], lost: list[Lease]
) -> tuple[Lease, Job | None] | None:
    """Lease the next due chore of these kinds; gives up those whose owners died five times.
    `lost` is as in `claims.claim`."""
    if tx.again:
        release(tx, lost, 0.0)
    lost.clear()
    for kind in (kind for kind in _ORDER if kind in kinds):
        while (row := _next(tx, kind)) is not None:
            values = granted(tx, owner, row, settling=False)
            grant(tx, [(row, values)])
            lease = Lease(row.job_id, kind, row.n, owner, row.epoch + 1)
            lost.append(lease)
            if kind not in _ENDS_A_JOB or int(str(values["strikes"])) < STRIKES:
                return lease, _job_of(tx, row.job_id)
            close_fenced(tx, lease)
            _give_up(tx, lease, f"whoever did it died {STRIKES} times")
    return None


def done(tx: Transaction, lease: Lease, again_after: float | None) -> None:
    """Close the row or open it again later. The sweep has no end: it is always opened again."""
    if again_after is not None or lease.kind is Kind.SWEEP:
        clean = sa.update(shard).where(*FENCE).values(strikes=0)
        tx.run(clean, fence_of(lease))
        release(tx, [lease], again_after or 0.0)
    else:
        closed = sa.update(shard).where(*FENCE).values(state="closed", lease_until=None)
        tx.run(closed, fence_of(lease))


def strike(tx: Transaction, lease: Lease, reason: str) -> bool:
    """Count a failed try and put the chore back, or give it up at the fifth: then True."""
    if lease.kind in _ENDS_A_JOB:
        lock_jobs(tx, [lease.job])
    counted = sa.update(shard).where(*FENCE).values(strikes=shard.c.strikes + 1)
    strikes = tx.value(counted.returning(shard.c.strikes), fence_of(lease))
    if strikes is None:
        return False
    if strikes < STRIKES or lease.kind not in _ENDS_A_JOB:
        release(tx, [lease], backoff_seconds(strikes))
        return False
    close_fenced(tx, lease)
    _give_up(tx, lease, reason)
    return True


def _give_up(tx: Transaction, lease: Lease, reason: str) -> None:
    """End the job of a chore that cannot be done; what results it has are kept."""
    lock_jobs_at_once(tx, [lease.job])
    row = tx.one(sa.select(job).where(job.c.id == lease.job))
    if row is None:
        return
    message = f"{lease.kind} was given up: {reason}"
    if lease.kind is Kind.VALIDATE:
        end_unvalidated(tx, row, [LineError("internal_error", message)], 1)
    else:
        publish_anyhow(tx, row, message)


def _next(tx: Transaction, kind: Kind) -> Row | None:
    """The chore of that kind to do next: of the highest priority, then of the oldest job."""
    values = {"kind": kind.value, **clock_of(tx.at)}
    return tx.one(_ABANDONED, values) or tx.one(_DUE, values)


def _by_turn(state: sa.ColumnElement[bool]) -> sa.Select[Any]:
    return (
        sa.select(shard)
        .join(job, job.c.id == shard.c.job_id, isouter=True)
        .where(shard.c.kind == sa.bindparam("kind"), state)
        .order_by(job.c.priority.desc(), job.c.ordinal)
        .limit(1)
        .with_for_update(skip_locked=True, of=shard)
    )


_ABANDONED = _by_turn(sa.and_(IS_LEASED, HAS_RUN_OUT))
_DUE = _by_turn(sa.and_(IS_OPEN, IS_CHORE, IS_DUE))


def _job_of(tx: Transaction, id: JobId) -> Job | None:
    row = tx.one(sa.select(job).where(job.c.id == id))
    return None if row is None else to_job(row)
