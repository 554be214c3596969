"""The jobs that a claim looks at: all that are neither validating nor over, by their counters."""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa

from batchmill.ledger.leases import CLAIMABLE_STATES, HAS_OPEN, clock_of
from batchmill.ledger.schema import job
from batchmill.ledger.store import Transaction
from batchmill.model import JobId, TenantId

OPEN_LINES = (job.c.total - job.c.succeeded - job.c.failed).label("open_lines")


class Claimable(NamedTuple):
    """A job whose shards may be run or settled; `has_open` where one is open. There are hundreds of
    them in each claim, hence a plain tuple."""

    id: JobId
    tenant: TenantId
    priority: int
    deadline: float
    ordinal: int
    state: str
    ending: str | None
    model: str | None
    paused: bool
    let_in: bool
    stopped_tick: float | None
    stopped_boot: str | None
    open_lines: int
    has_open: bool


_ALL = sa.select(
    *(job.c[name] for name in Claimable._fields[:-2]), OPEN_LINES, HAS_OPEN.label("has_open")
).where(job.c.state.in_(CLAIMABLE_STATES))


def claimable_jobs(tx: Transaction) -> list[Claimable]:
    """Every one of them as it is now."""
    return [Claimable._make(row) for row in tx.all(_ALL, clock_of(tx.at))]
