"""What makes a create the same as an earlier one. The ledger looks for it in the transaction that
makes the job, so that no two of them make two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from batchmill.model import KeyId, TenantId

KEPT_SECONDS: Final = 24 * 3600.0
"""How long a key stands for its job."""
RESENT_SECONDS: Final = 300.0
"""How long a create without a key is known by its body."""


@dataclass(frozen=True, slots=True)
class Once:
    """One create, as the same create would look when it is sent again.

    `key` and `body` are digests. With a `key`, the same key of the tenant at the same route is
    the same create, and with another body a conflict. Without one, only where `resent` says that
    the client tries again: then it is the one that the same API key made from an equal body.
    """

    tenant: TenantId
    route: str
    body: str
    api_key: KeyId | None = None
    key: str | None = None
    resent: bool = False
