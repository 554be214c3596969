"""A delivery is signed with its tenant's own secret, under each root that is valid."""

from __future__ import annotations

import base64
import hashlib
import hmac

from batchmill.model import TenantId
from batchmill.webhooks.signing import signature_headers, tenant_secret

OLD, NEW = "old-root-secret-of-this-server", "new-root-secret-of-this-server"
A, B = TenantId("a"), TenantId("b")
BODY = b'{"a": 1}'


def expected(secret: str, text: bytes) -> str:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    return "v1," + base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode()


def test_a_tenants_secret_has_the_form_that_sdks_take() -> None:
    secret = tenant_secret(NEW, A)
    assert secret.startswith("whsec_")
    assert len(base64.b64decode(secret.removeprefix("whsec_"))) == 32


def test_a_secret_stays_the_same_from_release_to_release() -> None:
    assert tenant_secret(NEW, A) == "whsec_Likq16iVI6aNesT0ueXQrkfmajRjon4w/h8DfYvdGZc="


def test_each_tenant_and_each_root_has_a_secret_of_its_own() -> None:
    assert len({tenant_secret(root, tenant) for root in (OLD, NEW) for tenant in (A, B)}) == 4


def test_the_id_the_second_and_the_body_are_signed() -> None:
    headers = signature_headers([NEW], A, "evt_1", 1_700_000_000.9, BODY)
    signature = expected(tenant_secret(NEW, A), b"evt_1.1700000000." + BODY)
    assert headers == {
        "webhook-id": "evt_1",
        "webhook-timestamp": "1700000000",
        "webhook-signature": signature,
    }


def test_two_roots_give_two_signatures_the_new_one_first() -> None:
    both = signature_headers([NEW, OLD], A, "evt_1", 5.0, BODY)["webhook-signature"]
    ones = [signature_headers([r], A, "evt_1", 5.0, BODY)["webhook-signature"] for r in (NEW, OLD)]
    assert both.split(" ") == ones
