"""Links to files that need no key: who may read what until when, signed by the ledger's secret."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

from batchmill.errors import Forbidden, Unauthorized
from batchmill.model import FileId, TenantId

PURPOSE = "file-url"
"""The ledger's name for the secret."""


def sign(secret: bytes, file: FileId, tenant: TenantId, expires_at: int) -> str:
    """A token for that file, fit for a URL."""
    who = base64.urlsafe_b64encode(tenant.encode()).decode().rstrip("=")
    return f"{expires_at}.{who}.{_mac(secret, file, tenant, expires_at)}"


def read(secret: bytes, file: FileId, token: str, now: float) -> TenantId:
    """Whose file the token opens. Raises `Forbidden` (not ours) or `Unauthorized` (expired)."""
    try:
        when, who, mac = token.split(".")
        expires_at = int(when) if when.isascii() and len(when) < 16 else 0
        tenant = TenantId(base64.urlsafe_b64decode(who + "=" * (-len(who) % 4)).decode())
    except (ValueError, binascii.Error) as e:
        raise _not_ours() from e
    if not mac.isascii() or not hmac.compare_digest(mac, _mac(secret, file, tenant, expires_at)):
        raise _not_ours()
    if now >= expires_at:
        raise Unauthorized("This link has expired; ask for a new one.", code="link_expired")
    return tenant


def _mac(secret: bytes, file: FileId, tenant: TenantId, expires_at: int) -> str:
    text = f"{file}\n{tenant}\n{expires_at}"
    return hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()


def _not_ours() -> Forbidden:
    return Forbidden("This link is not valid; ask for a new one.", code="invalid_link")
