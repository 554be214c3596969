"""What arrives at a receiver is what the vendor's own SDK unwraps; a real `serve` sends it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import InvalidWebhookSignatureError, OpenAI

from batchmill.model import TenantId
from batchmill.webhooks.signing import tenant_secret
from tests.receiver import Received, Receiver, receiving
from tests.serving import Serve, chat_lines, eventually, serving

OLD, NEW = "old-root-secret-of-this-server", "new-root-secret-of-this-server"
DEFAULT = TenantId("default")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Serve, Receiver]]:
    """A server with two root secrets, and a receiver that heard of one completed batch."""
    data = tmp_path_factory.mktemp("webhooks") / "data"
    with receiving() as receiver:
        allow = {"BATCHMILL_WEBHOOK_ALLOW_HOSTS": receiver.host}
        secrets = {"BATCHMILL_WEBHOOK_SECRET": f"{NEW},{OLD}"}
        with serving(data, "--engine", "sim", **allow, **secrets) as serve:
            file = serve.upload(chat_lines(3))
            serve.create(input_files=[file], webhook_url=receiver.url(), metadata={"a": "é"})
            eventually(lambda: receiver.received, 60, "the webhook")
            yield serve, receiver


def only(receiver: Receiver) -> Received:
    (received,) = receiver.received
    return received


def unwrap(received: Received, root: str, tenant: TenantId = DEFAULT, **changed: Any) -> Any:
    client = OpenAI(api_key="any", webhook_secret=tenant_secret(root, tenant))
    headers = received.headers | changed.pop("headers", {})
    return client.webhooks.unwrap(changed.pop("body", received.body), headers)


@pytest.mark.parametrize("root", [NEW, OLD])
def test_the_sdk_unwraps_a_delivery_with_the_new_and_with_the_old_secret(
    told: tuple[Serve, Receiver], root: str
) -> None:
    serve, receiver = told
    received = only(receiver)
    event = unwrap(received, root)
    assert event.type == "batch.completed"
    assert event.id == received.id
    assert event.object == "event"
    assert abs(event.created_at - time.time()) < 300
    (job,) = serve.http.call("GET", "/v1/batch/jobs").json()["data"]
    batch = json.loads(received.body)["data"]
    assert event.data.id == batch["id"] == f"batch_{job['id'].replace('-', '')}"
    assert batch["status"] == "completed"
    assert batch["request_counts"] == {"total": 3, "completed": 3, "failed": 0}
    assert batch["output_file_id"] == job["output_file"]
    assert batch["completed_at"] == job["completed_at"]
    assert batch["metadata"] == {"a": "é"}


def test_the_sdk_refuses_what_was_tampered_with(told: tuple[Serve, Receiver]) -> None:
    received = only(told[1])
    stamp = str(int(received.headers["webhook-timestamp"]) + 1)
    tampered: tuple[dict[str, Any], ...] = (
        {"body": received.body.replace(b'"failed":0', b'"failed":1')},
        {"headers": {"webhook-id": "evt_other"}},
        {"headers": {"webhook-timestamp": stamp}},
        {"headers": {"webhook-signature": "v1,AAAA"}},
    )
    for change in tampered:
        with pytest.raises(InvalidWebhookSignatureError):
            unwrap(received, NEW, **change)


def test_another_tenants_secret_and_another_root_verify_nothing(
    told: tuple[Serve, Receiver],
) -> None:
    received = only(told[1])
    for root, tenant in ((NEW, TenantId("other")), ("another-root-secret-entirely", DEFAULT)):
        with pytest.raises(InvalidWebhookSignatureError):
            unwrap(received, root, tenant)


@pytest.mark.skipif("BATCHMILL_RECORD_WEBHOOK" not in os.environ, reason="records on request")
def test_record_a_delivery_for_other_clients(told: tuple[Serve, Receiver]) -> None:
    """Write one delivery and its secret to the named file, for a client in another language."""
    received = only(told[1])
    recorded = {
        "secret": tenant_secret(NEW, DEFAULT),
        "headers": received.headers,
        "body": received.body.decode(),
    }
    Path(os.environ["BATCHMILL_RECORD_WEBHOOK"]).write_text(json.dumps(recorded))
