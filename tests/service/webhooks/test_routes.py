"""`webhook_url` on create, and the routes for deliveries, over a real ledger."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from batchmill.deliveries import Tried, WebhookEndpoint
from batchmill.ports import Want
from batchmill.webhooks.guard import Guard
from tests.service.rig import Rig, answered, lines, open_rig
from tests.unit.webhooks.test_target import PUBLIC, Names
from tests.webhook_targets import CLOSED, ODD, closed_literals

URL = "https://example.com/hook?token=abc"
LIST = "/v1/webhook_deliveries"
HEADER = "x-batchmill-webhook-url"


@pytest.fixture
def names() -> Names:
    return Names([PUBLIC])


@pytest.fixture
async def rig(tmp_path: Path, names: Names) -> AsyncIterator[Rig]:
    async with open_rig(tmp_path, webhooks=Guard(["hooks.internal:81"], names)) as opened:
        yield opened


async def create(rig: Rig, headers: dict[str, str] | None = None, **fields: Any) -> Any:
    asked = {"endpoint": "/v1/chat/completions", "model": "small", "requests": [{"body": {}}]}
    return await rig.call("POST", "/v1/batch/jobs", json=asked | fields, headers=headers)


async def finished(rig: Rig, url: str = URL) -> Any:
    uploaded = await rig.upload(lines(1))
    job = await rig.create(input_files=[uploaded["id"]], webhook_url=url)
    await rig.finish(answered)
    return job


async def test_a_job_shows_the_webhook_that_it_was_created_with(rig: Rig) -> None:
    reply = await create(rig, webhook_url=URL)
    assert reply.json()["webhook_url"] == URL
    job = await rig.get(f"/v1/batch/jobs/{reply.json()['id']}")
    assert job["webhook_url"] == URL


async def test_the_header_counts_where_the_body_names_none(rig: Rig) -> None:
    asked = {HEADER: "https://header.example/"}
    assert (await create(rig, asked)).json()["webhook_url"] == "https://header.example/"
    assert (await create(rig, asked, webhook_url=URL)).json()["webhook_url"] == URL
    refused = await create(rig, {HEADER: "https://127.0.0.1/"})
    assert (refused.status_code, refused.json()["param"]) == (400, "webhook_url")


async def test_an_allowed_host_may_be_anywhere_and_speak_http(rig: Rig, names: Names) -> None:
    names.answers = [["10.0.0.7"]]
    assert (await create(rig, webhook_url="http://hooks.internal:81/x")).status_code == 200
    assert (await create(rig, webhook_url="http://hooks.internal:82/x")).status_code == 400


async def refusal(rig: Rig, url: str) -> None:
    reply = await create(rig, webhook_url=url)
    told = reply.json()
    assert (reply.status_code, told["param"], told["code"]) == (
        400,
        "webhook_url",
        "invalid_value",
    ), (url, told)


async def test_a_url_that_may_not_be_called_is_refused_and_makes_no_job(
    rig: Rig, names: Names
) -> None:
    for url in [*ODD, *closed_literals(443), "http://example.com/"]:
        await refusal(rig, url)
    for address in CLOSED:
        names.answers = [[address]]
        await refusal(rig, URL)
    names.answers = [[]]
    await refusal(rig, URL)
    assert (await rig.get("/v1/batch/jobs"))["total"] == 0


async def test_without_a_secret_no_webhook_is_taken(tmp_path: Path) -> None:
    async with open_rig(tmp_path / "other") as rig:
        reply = await create(rig, webhook_url=URL)
        told = reply.json()
        assert (reply.status_code, told["param"]) == (400, "webhook_url")
        assert "BATCHMILL_WEBHOOK_SECRET" in told["message"]
        assert (await create(rig, webhook_url=None)).status_code == 200


async def test_a_delivery_is_listed_with_what_its_last_try_came_to(rig: Rig) -> None:
    job = await finished(rig)
    (new,) = (await rig.get(LIST))["data"]
    bare = job["id"].replace("-", "")
    now = int(rig.clock.wall())
    assert new == {
        "id": new["id"],
        "object": "webhook_delivery",
        "event_id": new["event_id"],
        "event_type": "batch.completed",
        "job_id": job["id"],
        "batch_id": f"batch_{bare}",
        "url": URL,
        "state": "pending",
        "attempts": 0,
        "created_at": now,
        "last_attempt_at": None,
        "last_status": None,
        "last_error": None,
        "next_attempt_at": now,
        "ended_at": None,
    }
    leased = await rig.ledger.claim_delivery(await rig.worker())
    assert leased is not None
    down = Tried(acknowledged=False, status=500, error="it answered 500")
    await rig.ledger.note_try(leased.lease, down, 60.0)
    (failed,) = (await rig.get(f"{LIST}?job_id=batch_{bare}&state=pending"))["data"]
    assert failed == new | {
        "attempts": 1,
        "last_attempt_at": now,
        "last_status": 500,
        "last_error": "it answered 500",
        "next_attempt_at": now + 60,
    }
    assert await rig.get(f"{LIST}/{new['id']}") == failed


async def test_a_redelivery_makes_it_due_and_rings_the_worker(rig: Rig) -> None:
    await finished(rig)
    (listed,) = (await rig.get(LIST))["data"]
    leased = await rig.ledger.claim_delivery(await rig.worker())
    assert leased is not None
    await rig.ledger.note_try(leased.lease, Tried(acknowledged=True, status=200), None)
    woken = rig.woken
    reply = await rig.call("POST", f"{LIST}/{listed['id']}/redeliver")
    assert (reply.status_code, reply.json()["state"]) == (200, "pending")
    assert rig.woken == woken + 1
    again = await rig.ledger.claim_delivery(await rig.worker())
    assert again is not None
    assert again.delivery.event == listed["event_id"]


async def test_deliveries_are_paged_and_filtered(rig: Rig) -> None:
    for _ in range(3):
        await finished(rig)
    first = await rig.get(f"{LIST}?limit=2")
    ids = [each["id"] for each in first["data"]]
    assert (first["first_id"], first["last_id"], first["has_more"]) == (*ids, True)
    second = await rig.get(f"{LIST}?limit=2&after={ids[1]}")
    assert (len(second["data"]), second["has_more"]) == (1, False)
    assert await rig.get(f"{LIST}?limit=2&after=") == first
    empty = await rig.get(f"{LIST}?state=given_up")
    assert (empty["data"], empty["first_id"], empty["last_id"]) == ([], None, None)
    assert (await rig.call("GET", f"{LIST}?state=lost")).status_code == 422


async def test_another_tenants_deliveries_are_not_there(rig: Rig) -> None:
    await finished(rig)
    (mine,) = (await rig.get(LIST))["data"]
    theirs = await rig.key("other", "key-of-another-tenant")
    assert (await rig.get(LIST, headers=theirs))["data"] == []
    for method, path in (("GET", mine["id"]), ("POST", f"{mine['id']}/redeliver")):
        reply = await rig.call(method, f"{LIST}/{path}", headers=theirs)
        assert (reply.status_code, reply.json()["param"]) == (404, "delivery_id")
    assert (await rig.call("GET", LIST)).status_code == 401


async def test_a_configured_receivers_url_is_not_shown_to_tenants(tmp_path: Path) -> None:
    endpoint = WebhookEndpoint(URL)
    async with open_rig(tmp_path / "other", endpoints=[endpoint]) as rig:
        await rig.create(requests=[{"body": {}}])
        await rig.finish(answered)
        (only,) = (await rig.get(LIST))["data"]
        assert only["url"] == "example.com"
        assert "token" not in str(only)


async def test_a_url_that_cannot_be_checked_now_is_503_and_makes_no_job(
    rig: Rig, names: Names
) -> None:
    async def away(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    rig.webhooks._resolve = away  # type: ignore[union-attr]
    reply = await create(rig, webhook_url=URL)
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "5")
    assert (await rig.get("/v1/batch/jobs"))["total"] == 0


async def test_a_job_that_is_deleted_before_its_end_is_told_as_cancelled(rig: Rig) -> None:
    job = (await create(rig, webhook_url=URL)).json()
    assert (await rig.call("DELETE", f"/v1/batch/jobs/{job['id']}")).status_code == 200
    await rig.finish(answered)
    [told] = (await rig.get(LIST))["data"]
    assert (told["job_id"], told["event_type"]) == (job["id"], "batch.cancelled")


async def test_deliveries_are_counted_by_state(rig: Rig) -> None:
    await finished(rig)
    text = (await rig.call("GET", "/metrics")).text
    for state, number in (("pending", 1), ("delivered", 0), ("given_up", 0)):
        assert f'batchmill_webhook_deliveries{{state="{state}"}} {number}.0' in text


async def test_limits_show_what_is_pending(rig: Rig) -> None:
    uploaded = await rig.upload(lines(3))
    await rig.create(input_files=[uploaded["id"]])
    owner = await rig.worker()
    await rig.plan(owner)
    assert (await rig.get("/v1/limits"))["pending_lines"] == 0
    await rig.ledger.claim_shards(owner, Want(1))
    limits = await rig.get("/v1/limits")
    assert (limits["max_pending_lines"], limits["pending_lines"]) == (0, 3)
