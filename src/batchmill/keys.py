"""What the ledger does with API keys, of which it knows hashes only. Their nouns: `model.py`."""

from __future__ import annotations

from typing import Protocol

from batchmill.model import ApiKey, KeyId, TenantId


class KeyLedger(Protocol):
    """The steps of the ledger that concern keys and secrets; part of `ports.Ledger`."""

    async def create_key(self, tenant: TenantId, digest: str, hint: str) -> ApiKey:
        """Record a key by its hash; makes the tenant if it is new."""

    async def keys(self) -> tuple[ApiKey, ...]:
        """Every key, revoked ones too."""

    async def revoke_key(self, key: KeyId) -> bool:
        """Revoke at once; False if there is no such live key."""

    async def key_by_digest(self, digest: str) -> ApiKey | None:
        """The live key with that hash."""

    async def secret(self, purpose: str) -> bytes:
        """A 32-byte secret for signing, made once and shared by all processes."""
