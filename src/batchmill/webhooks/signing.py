"""Signatures as Standard Webhooks has them, with a secret of each tenant's own. Pure.

A tenant's secret is derived from the operator's root secret and kept nowhere. While two roots
are valid, every delivery carries a signature of each, so that receivers may change theirs at any
time between.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence

from batchmill.model import TenantId

_PREFIX = "whsec_"
_SALT = b"batchmill webhook secret"


def tenant_secret(root: str, tenant: TenantId) -> str:
    """The tenant's secret in the form that SDKs take: HKDF-SHA256 of the root (RFC 5869)."""
    extracted = hmac.digest(_SALT, root.encode(), hashlib.sha256)
    derived = hmac.digest(extracted, tenant.encode() + b"\x01", hashlib.sha256)
    return _PREFIX + base64.b64encode(derived).decode()


def signature_headers(
    roots: Sequence[str], tenant: TenantId, id: str, at: float, body: bytes
) -> dict[str, str]:
    """The three headers of a delivery that is sent at that time."""
    timestamp = str(int(at))
    signed = f"{id}.{timestamp}.".encode() + body
    return {
        "webhook-id": id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(_sign(tenant_secret(r, tenant), signed) for r in roots),
    }


def _sign(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
