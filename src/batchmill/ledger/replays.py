"""Creates that were sent before: each is recorded in the transaction that makes its job."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from batchmill.errors import Conflict
from batchmill.ledger.schema import idempotency
from batchmill.ledger.store import Transaction
from batchmill.model import JobId, TenantId
from batchmill.once import KEPT_SECONDS, RESENT_SECONDS, Once

FORGOTTEN_AT_ONCE = 5_000
"""Rows deleted in one transaction; housekeeping comes again."""


def find(tx: Transaction, once: Once) -> JobId | None:
    """The job that the same create made before, if any. Raises `Conflict` when its key came with
    another body."""
    if once.key is None and not once.resent:
        return None
    row = tx.one(_of_body(tx, once) if once.key is None else _of_key(tx, once))
    if row is None:
        return None
    if row.body != once.body:
        raise Conflict(
            "This Idempotency-Key was used within 24 hours for another request; take a new key "
            "for each request, and the same one only to send the same body again.",
            state="used",
            param="idempotency-key",
            code="idempotency_key_reused",
        )
    return JobId(row.job_id)


def admit(tx: Transaction, once: Once, new: JobId) -> JobId | None:
    """Record that this create makes the new job, unless the same one made a job before: then
    that one's id. Raises `Conflict` as `find` does."""
    if once.key is None:
        tx.hold(f"create {once.tenant} {once.route} {once.api_key} {once.body}")
    if (before := find(tx, once)) is not None:
        return before
    old = sa.delete(idempotency).where(*_same_key(once), idempotency.c.created_at <= _kept(tx))
    tx.run(old)
    row = {
        "tenant": once.tenant,
        "route": once.route,
        "key": once.key,
        "body": once.body,
        "api_key": once.api_key or "",
        "job_id": new,
        "created_at": tx.at.wall,
    }
    was_first = tx.run(tx.insert_new(idempotency), row)
    return None if was_first else find(tx, once)


def forget(tx: Transaction) -> None:
    """Delete what is too old to be found."""
    old = sa.select(idempotency.c.ordinal).where(idempotency.c.created_at <= _kept(tx))
    some = old.limit(FORGOTTEN_AT_ONCE)
    tx.run(sa.delete(idempotency).where(idempotency.c.ordinal.in_(some)))


def forget_job(tx: Transaction, tenant: TenantId, id: JobId) -> None:
    """The job is gone for its user: the same create makes a new one from now on."""
    mine = idempotency.c.tenant == tenant, idempotency.c.job_id == id
    tx.run(sa.delete(idempotency).where(*mine))


def _of_key(tx: Transaction, once: Once) -> sa.Select[Any]:
    columns = (idempotency.c.job_id, idempotency.c.body)
    return sa.select(*columns).where(*_same_key(once), idempotency.c.created_at > _kept(tx))


def _of_body(tx: Transaction, once: Once) -> sa.Select[Any]:
    """The newest create without a key from the same body."""
    columns = (idempotency.c.job_id, idempotency.c.body)
    return (
        sa.select(*columns)
        .where(
            *_same_key(once),
            idempotency.c.api_key == (once.api_key or ""),
            idempotency.c.body == once.body,
            idempotency.c.created_at > tx.at.wall - RESENT_SECONDS,
        )
        .order_by(idempotency.c.created_at.desc())
        .limit(1)
    )


def _same_key(once: Once) -> list[sa.ColumnElement[bool]]:
    return [
        idempotency.c.tenant == once.tenant,
        idempotency.c.route == once.route,
        idempotency.c.key == once.key,
    ]


def _kept(tx: Transaction) -> float:
    """What was made after that is still known."""
    return tx.at.wall - KEPT_SECONDS
