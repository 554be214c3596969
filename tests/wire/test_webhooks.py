"""What arrives at a receiver is what the vendor's own SDK unwraps; a real `serve` sends it."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import BadRequestError, InvalidWebhookSignatureError, OpenAI
from openai.types import Batch

from batchmill.model import TenantId
from batchmill.webhooks.signing import tenant_secret
from tests.receiver import Received, Receiver, receiving
from tests.serving import Serve, as_openai, chat_lines, eventually, serving
from tools import wire_environments

OLD, NEW = "old-root-secret-of-this-server", "new-root-secret-of-this-server"
DEFAULT = TenantId("default")
UNWRAP = Path(__file__).parent / "clients" / "openai_unwrap.mjs"


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


def first(receiver: Receiver) -> Received:
    """The delivery of the job that the fixture made."""
    return receiver.received[0]


def unwrap(received: Received, root: str, tenant: TenantId = DEFAULT, **changed: Any) -> Any:
    client = OpenAI(api_key="any", webhook_secret=tenant_secret(root, tenant))
    headers = received.headers | changed.pop("headers", {})
    return client.webhooks.unwrap(changed.pop("body", received.body), headers)


@pytest.mark.parametrize("root", [NEW, OLD])
def test_the_sdk_unwraps_a_delivery_with_the_new_and_with_the_old_secret(
    told: tuple[Serve, Receiver], root: str
) -> None:
    serve, receiver = told
    received = first(receiver)
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
    received = first(told[1])
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
    received = first(told[1])
    for root, tenant in ((NEW, TenantId("other")), ("another-root-secret-entirely", DEFAULT)):
        with pytest.raises(InvalidWebhookSignatureError):
            unwrap(received, root, tenant)


def test_the_sdk_of_node_unwraps_a_delivery_and_refuses_what_was_tampered_with(
    told: tuple[Serve, Receiver],
) -> None:
    if shutil.which("node") is None:
        pytest.fail("node is missing; apt install nodejs npm")
    received = first(told[1])
    delivery = {"headers": received.headers, "body": received.body.decode()}
    asked = json.dumps({"secret": tenant_secret(NEW, DEFAULT), **delivery})
    home = str(wire_environments.node("openai-node-7"))
    done = subprocess.run(
        ["node", str(UNWRAP), home], input=asked, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "type": "batch.completed",
        "id": received.id,
        "refused": ["body", "webhook-id", "webhook-timestamp", "webhook-signature"],
    }


def test_a_batch_of_openais_sdk_is_told_of_too(told: tuple[Serve, Receiver]) -> None:
    serve, allowed = told
    with receiving() as receiver:
        client = OpenAI(api_key="any", base_url=f"{serve.http.base}/v1")
        file = client.files.create(file=as_openai(chat_lines(2)), purpose="batch")

        def create(url: str) -> Batch:
            return client.batches.create(
                input_file_id=file.id,
                endpoint="/v1/chat/completions",
                completion_window="24h",
                extra_body={"webhook_url": url},
            )

        before = len(allowed.received)
        batch = create(allowed.url())
        eventually(lambda: len(allowed.received) > before, 60, "the webhook")
        event = unwrap(allowed.received[before], NEW)
        assert (event.type, event.data.id) == ("batch.completed", batch.id)
        with pytest.raises(BadRequestError) as refusal:
            create(receiver.url())
        assert refusal.value.param == "webhook_url"
        assert not receiver.received
