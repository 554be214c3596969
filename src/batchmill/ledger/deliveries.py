"""Webhook deliveries: recorded where a job ends, leased, tried, asked for again, forgotten.

A delivery is a row of `delivery` and, for its lease, a `deliver` row of `shard`. How long a try
waits for the next is decided in `core/deliver.py`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from batchmill.deliveries import (
    Delivery,
    DeliveryId,
    DeliveryLease,
    DeliveryPage,
    DeliveryQuery,
    DeliveryState,
    Tried,
)
from batchmill.errors import LeaseLost
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
from batchmill.ledger.rows import Row, to_delivery, to_job
from batchmill.ledger.schema import IS_DELIVER, IS_LEASED, IS_OPEN, delivery, job, shard
from batchmill.ledger.store import Transaction
from batchmill.model import Kind, Lease, Owner, TenantId

AT_ONCE = 500
"""Deliveries forgotten in one transaction."""


_ITS_LEASE = sa.and_(delivery.c.job_id == shard.c.job_id, delivery.c.n == shard.c.n)


def claim(
    tx: Transaction,
    owner: Owner,
    not_receivers: Collection[str],
    not_tenants: Collection[TenantId],
    lost: list[Lease],
) -> DeliveryLease | None:
    """Lease one delivery that is due, or whose lease has run out. `lost` is as in
    `claims.claim`."""
    if tx.again:
        release(tx, lost, 0.0)
    may_be = [
        delivery.c.receiver.not_in(sorted(not_receivers)),
        delivery.c.tenant.not_in(sorted(not_tenants)),
    ]
    now = clock_of(tx.at)
    row = tx.one(_leasable(IS_LEASED, HAS_RUN_OUT, *may_be), now) or tx.one(
        _leasable(IS_OPEN, IS_DUE, *may_be), now
    )
    if row is None:
        return None
    grant(tx, [(row, granted(tx, owner, row, settling=False))])
    mine = (delivery.c.job_id == row.job_id, delivery.c.n == row.n)
    its = _changed(tx, sa.update(delivery).where(*mine).values(next_at=None))
    ended = tx.one(sa.select(job).where(job.c.id == row.job_id))
    assert its is not None
    assert ended is not None
    lease = Lease(row.job_id, Kind.DELIVER, row.n, owner, row.epoch + 1)
    lost[:] = [lease]
    return DeliveryLease(lease, its, to_job(ended))


def next_wait(tx: Transaction) -> float | None:
    """In how many seconds the next of those that wait is due."""
    waiting = (IS_OPEN, IS_DELIVER, shard.c.run_boot == tx.at.boot, shard.c.run_after > tx.at.tick)
    soonest = tx.value(sa.select(sa.func.min(shard.c.run_after)).where(*waiting))
    return None if soonest is None else float(soonest) - tx.at.tick


def note_try(tx: Transaction, lease: Lease, tried: Tried, again_after: float | None) -> Delivery:
    """Record a try under its lease, and end the delivery or let it wait for the next."""
    values: dict[str, Any] = {
        "attempts": delivery.c.attempts + 1,
        "last_at": tx.at.wall,
        "last_status": tried.status,
        "last_error": tried.error,
    }
    mine = (delivery.c.job_id == lease.job, delivery.c.n == lease.n)
    if tried.acknowledged or again_after is None:
        first = close_fenced(tx, lease)
        over = DeliveryState.DELIVERED if tried.acknowledged else DeliveryState.GIVEN_UP
        values |= {"state": over.value, "next_at": None, "ended_at": tx.at.wall}
    else:
        held = sa.update(shard).where(*FENCE).values(strikes=0)
        if not tx.run(held, fence_of(lease)):
            if tx.again and (noted := _noted(tx, lease)) is not None:
                return noted
            raise LeaseLost(f"the lease on delivery {lease.n} of job {lease.job} is lost")
        release(tx, [lease], again_after)
        first = True
        values["next_at"] = tx.at.wall + again_after
    changed = sa.update(delivery).where(*mine).values(values)
    found = _changed(tx, changed) if first else _one(tx, *mine)
    assert found is not None
    return found


def find(tx: Transaction, tenant: TenantId, id: DeliveryId) -> Delivery | None:
    """That delivery as its tenant sees it."""
    return _one(tx, delivery.c.tenant == tenant, delivery.c.id == id)


def page(tx: Transaction, tenant: TenantId, query: DeliveryQuery) -> DeliveryPage:
    """One page of the tenant's deliveries, newest first."""
    conditions = [delivery.c.tenant == tenant]
    if query.job is not None:
        conditions.append(delivery.c.job_id == query.job)
    if query.state is not None:
        conditions.append(delivery.c.state == query.state.value)
    if query.after is not None:
        seen = sa.select(delivery.c.ordinal).where(delivery.c.id == query.after)
        place = tx.value(seen.where(delivery.c.tenant == tenant))
        if place is None:
            return DeliveryPage((), has_more=False)
        conditions.append(delivery.c.ordinal < place)
    wanted = sa.select(delivery).where(*conditions).order_by(delivery.c.ordinal.desc())
    rows = tx.all(wanted.limit(query.limit + 1))
    found = tuple(to_delivery(row) for row in rows[: query.limit])
    return DeliveryPage(found, has_more=len(rows) > query.limit)


def redeliver(tx: Transaction, tenant: TenantId, id: DeliveryId) -> Delivery | None:
    """Make it due now; one that had ended begins anew."""
    its = find(tx, tenant, id)
    if its is None:
        return None
    row = (shard.c.job_id == its.job, shard.c.kind == Kind.DELIVER.value, shard.c.n == its.n)
    at_once = {"state": "open", "owner": None, "run_after": None, "strikes": 0}
    if not tx.run(sa.update(shard).where(*row, shard.c.state != "leased").values(at_once)):
        return its  # a try is under way
    values: dict[str, Any] = {"next_at": tx.at.wall}
    if its.state is not DeliveryState.PENDING:
        values |= {"state": DeliveryState.PENDING.value, "since": tx.at.wall, "ended_at": None}
    tx.ring()
    return _changed(tx, sa.update(delivery).where(delivery.c.id == id).values(values))


def prune(tx: Transaction, ended_before: float) -> int:
    """Forget the oldest that ended before that time, with their leases' rows."""
    over = delivery.c.ended_at < ended_before
    old = sa.select(delivery.c.ordinal).join(shard, _ITS_LEASE).where(IS_DELIVER, over)
    some = old.limit(AT_ONCE).with_for_update(skip_locked=True, of=shard)
    ordinals = [row.ordinal for row in tx.all(some)]
    gone = sa.delete(delivery).where(delivery.c.ordinal.in_(ordinals), over)
    rows = tx.all(gone.returning(delivery.c.job_id, delivery.c.n))
    tx.each(
        sa.delete(shard).where(
            shard.c.job_id == sa.bindparam("of_job"),
            shard.c.kind == Kind.DELIVER.value,
            shard.c.n == sa.bindparam("of_n"),
        ),
        [{"of_job": row.job_id, "of_n": row.n} for row in rows],
    )
    return len(rows)


def by_state(tx: Transaction) -> dict[DeliveryState, int]:
    """How many deliveries are in each state."""
    counts = sa.select(delivery.c.state, sa.func.count().label("number"))
    found = {row.state: row.number for row in tx.all(counts.group_by(delivery.c.state))}
    return {state: found.get(state.value, 0) for state in DeliveryState}


def _noted(tx: Transaction, lease: Lease) -> Delivery | None:
    """The delivery, if an earlier run of the step gave back this very lease."""
    given_back = sa.select(shard.c.n).where(*FENCE[:3], FENCE[4], IS_OPEN)
    if tx.one(given_back, fence_of(lease)) is None:
        return None
    return _one(tx, delivery.c.job_id == lease.job, delivery.c.n == lease.n)


def _leasable(*conditions: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """One lease row for which these hold: never tried ones first, then whose time came first."""
    rows = sa.select(shard).join(delivery, _ITS_LEASE).where(IS_DELIVER, *conditions)
    first = shard.c.run_after.asc().nulls_first()
    return rows.order_by(first).limit(1).with_for_update(skip_locked=True, of=shard)


def _one(tx: Transaction, *conditions: sa.ColumnElement[bool]) -> Delivery | None:
    return _noun(tx.one(sa.select(delivery).where(*conditions)))


def _changed(tx: Transaction, update: sa.Update) -> Delivery | None:
    return _noun(tx.one(update.returning(delivery)))


def _noun(row: Row | None) -> Delivery | None:
    return None if row is None else to_delivery(row)
