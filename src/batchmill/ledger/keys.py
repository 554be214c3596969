"""API keys by their hashes, tenants, and the secrets that all processes share."""

from __future__ import annotations

import secrets

import sqlalchemy as sa

from batchmill.clock import new_id
from batchmill.ledger.rows import Values, to_key
from batchmill.ledger.schema import api_key, secret, tenant
from batchmill.ledger.store import Transaction
from batchmill.model import ApiKey, KeyId, TenantId

SECRET_BYTES = 32


def create(tx: Transaction, owner: TenantId, digest: str, hint: str) -> ApiKey:
    """Record a key; asked again with the same hash, nothing changes."""
    tx.run(tx.insert_new(tenant), {"id": owner, "created_at": tx.at.wall})
    values: Values = {
        "id": new_id(),
        "tenant": owner,
        "digest": digest,
        "hint": hint,
        "created_at": tx.at.wall,
    }
    tx.run(tx.insert_new(api_key), values)
    row = tx.one(sa.select(api_key).where(api_key.c.digest == digest))
    assert row is not None
    return to_key(row)


def every(tx: Transaction) -> tuple[ApiKey, ...]:
    """Every key, oldest first."""
    rows = tx.all(sa.select(api_key).order_by(api_key.c.created_at, api_key.c.id))
    return tuple(to_key(row) for row in rows)


def revoke(tx: Transaction, id: KeyId) -> bool:
    """Revoke a live key."""
    live = sa.update(api_key).where(api_key.c.id == id)
    if not tx.again:
        live = live.where(api_key.c.revoked_at.is_(None))
    return tx.run(live.values(revoked_at=tx.at.wall)) == 1


def by_digest(tx: Transaction, digest: str) -> ApiKey | None:
    """The live key with that hash."""
    row = tx.one(
        sa.select(api_key).where(api_key.c.digest == digest, api_key.c.revoked_at.is_(None))
    )
    return None if row is None else to_key(row)


def find_secret(tx: Transaction, purpose: str) -> bytes | None:
    """The secret, if it was made."""
    found = tx.value(sa.select(secret.c.value).where(secret.c.purpose == purpose))
    return None if found is None else bytes(found)


def make_secret(tx: Transaction, purpose: str) -> bytes:
    """The secret, made now if nobody has yet."""
    fresh = {"purpose": purpose, "value": secrets.token_bytes(SECRET_BYTES)}
    tx.run(tx.insert_new(secret), fresh)
    found = find_secret(tx, purpose)
    assert found is not None
    return found
