"""Letting jobs in: which ones their tenant's quota holds back. The rule itself is `quotas.py`.

Looks at the counters of jobs, never at shards. Only a claim lets jobs in, with the row of their
tenant locked, so that two claims at once do not both give the same room away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from operator import attrgetter

import sqlalchemy as sa

from batchmill.ledger.claimable import OPEN_LINES, Claimable
from batchmill.ledger.rows import Row
from batchmill.ledger.schema import job, tenant
from batchmill.ledger.store import Transaction
from batchmill.model import JobId, JobState, TenantId
from batchmill.quotas import InLine, TenantQuota, may_enter

_ENTERABLE = (JobState.QUEUED.value, JobState.RUNNING.value)
_STANDING = sa.select(
    job.c.id, job.c.tenant, job.c.state, job.c.priority, job.c.ordinal, job.c.paused, job.c.let_in
).add_columns(OPEN_LINES)
_by_tenant = attrgetter("tenant")


def held_back(
    tx: Transaction, rows: Sequence[Claimable], lines_up: Callable[[Claimable], bool]
) -> frozenset[JobId]:
    """The jobs among these that may give no shards to run, for want of room. `lines_up` says which
    of them would run here: only they can be in the way of others."""
    limited = [row for row in rows if _may_run(row) and tx.rules.quotas.of(row.tenant)]
    line = {row.id for row in limited if not row.let_in and lines_up(row)}
    if not line:
        return frozenset()
    if entering := _entering(tx, limited, line):
        sure = {row.tenant for row in limited if row.id in entering}
        now = _locked(tx, sorted(sure))
        entering = _entering(tx, now, line)
    return frozenset(row.id for row in limited if not row.let_in) - entering


def quota_of(tx: Transaction, id: TenantId) -> TenantQuota:
    """The tenant's quota, what is pending, and which of its jobs wait for room."""
    rows = tx.all(_STANDING.where(job.c.tenant == id, job.c.state.in_(_ENTERABLE)))
    most, pending = tx.rules.quotas.of(id), _pending(rows)
    line = [_in_line(row) for row in rows if not (row.let_in or row.paused)]
    waiting = {each.job for each in line} - may_enter(line, pending, most)
    return TenantQuota(most, pending, frozenset(waiting))


def _entering(
    tx: Transaction, rows: Iterable[Row | Claimable], line: set[JobId]
) -> frozenset[JobId]:
    """Those in line for which their tenant has room."""
    found: frozenset[JobId] = frozenset()
    for whose, its in groupby(sorted(rows, key=_by_tenant), _by_tenant):
        jobs = list(its)
        standing = [_in_line(row) for row in jobs if row.id in line and not row.let_in]
        found |= may_enter(standing, _pending(jobs), tx.rules.quotas.of(whose))
    return found


def _locked(tx: Transaction, tenants: Sequence[TenantId]) -> Sequence[Row]:
    """The jobs of these tenants as they are once nobody else lets any in."""
    new = [{"id": each, "created_at": tx.at.wall} for each in tenants]
    tx.each(tx.insert_new(tenant), new)
    mine = sa.select(tenant.c.id).where(tenant.c.id.in_(tenants)).order_by(tenant.c.id)
    tx.all(mine.with_for_update())
    return tx.all(_STANDING.where(job.c.tenant.in_(tenants), job.c.state.in_(_ENTERABLE)))


def _may_run(row: Claimable) -> bool:
    return row.state in _ENTERABLE


def _pending(rows: Iterable[Row | Claimable]) -> int:
    return sum(row.open_lines for row in rows if row.let_in)


def _in_line(row: Row | Claimable) -> InLine:
    return InLine(row.id, row.priority, row.ordinal, row.open_lines)
