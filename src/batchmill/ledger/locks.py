"""The order in which steps lock rows, so that none that run side by side wait in a circle.

First rows of `job` by id, then rows of `shard` by job, kind and number, then everything that hangs
on them; of files, rows of `file` come after those of `job`. A step that meets a shard before it
knows its job (a claim) never waits for the job: it takes what is free, or is run again. Where
writers are alone, as on SQLite, nothing is locked.
"""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from batchmill.ledger.rows import Row
from batchmill.ledger.schema import job
from batchmill.ledger.store import Transaction
from batchmill.model import JobId

_JOBS = (
    sa.select(job.c.id).where(job.c.id.in_(sa.bindparam("ids", expanding=True))).order_by(job.c.id)
)
_WAIT = _JOBS.with_for_update(key_share=True)
_AT_ONCE = _JOBS.with_for_update(key_share=True, nowait=True)


def lock_jobs(tx: Transaction, ids: Iterable[JobId]) -> None:
    """Wait until these jobs are this transaction's to change. To be called before any shard is
    locked."""
    if not tx.database.writes_alone:
        tx.all(_WAIT, {"ids": sorted(ids)})


def lock_jobs_at_once(tx: Transaction, ids: Iterable[JobId]) -> None:
    """The same while shards are locked: where another has a job, the step is run again soon."""
    if not tx.database.writes_alone:
        tx.all(_AT_ONCE, {"ids": sorted(ids)})


def lock_job(tx: Transaction, id: JobId) -> Row | None:
    """That job as it now is, this transaction's to change; to be called before any shard is
    locked."""
    return tx.one(sa.select(job).where(job.c.id == id).with_for_update(key_share=True))
