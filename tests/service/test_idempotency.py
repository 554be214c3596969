"""`Idempotency-Key` on create: one job, whatever is sent how often."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest

from batchmill.core.models import Catalogue
from tests.service.rig import BODY, Rig, lines, openai_lines

KEY = {"idempotency-key": "key-1"}
INLINE = {"requests": [{"body": BODY}] * 3}


async def create(rig: Rig, headers: dict[str, str] | None = None, **fields: Any) -> httpx2.Response:
    asked = {"endpoint": "/v1/chat/completions", "model": "small", **fields}
    return await rig.call("POST", "/v1/batch/jobs", json=asked, headers=headers or KEY)


async def test_the_same_inline_create_a_hundred_times_at_once_makes_one_job_and_one_file(
    rig: Rig,
) -> None:
    replies = await asyncio.gather(*[create(rig, **INLINE) for _ in range(100)])
    assert {reply.status_code for reply in replies} == {200}
    assert len({reply.json()["id"] for reply in replies}) == 1
    assert (await rig.get("/v1/batch/jobs"))["total"] == 1
    assert (await rig.get("/v1/files"))["total"] == 1
    assert len(rig.stored_files()) == 1


async def test_a_large_inline_body_is_known_again(rig: Rig) -> None:
    requests = [{"body": {**BODY, "pad": "x" * 40_000}}] * 50
    first, again = [await create(rig, requests=requests) for _ in range(2)]
    assert first.json()["id"] == again.json()["id"]
    requests[49] = {"body": {**BODY, "pad": "x" * 39_999 + "y"}}
    assert (await create(rig, requests=requests)).status_code == 409
    assert len(rig.stored_files()) == 1


async def test_another_body_with_the_same_key_is_refused_for_good(rig: Rig) -> None:
    await create(rig, **INLINE)
    refused = await create(rig, **INLINE, metadata={"a": "b"})
    assert refused.status_code == 409
    assert refused.headers["x-should-retry"] == "false"
    error = refused.json()["error"]
    assert (error["code"], error["param"]) == ("idempotency_key_reused", "idempotency-key")


async def test_an_extension_in_a_header_is_a_part_of_what_is_asked(rig: Rig) -> None:
    assert (await create(rig, {**KEY, "x-batchmill-priority": "1"}, **INLINE)).status_code == 200
    assert (await create(rig, {**KEY, "x-batchmill-priority": "1"}, **INLINE)).status_code == 200
    assert (await create(rig, {**KEY, "x-batchmill-priority": "2"}, **INLINE)).status_code == 409


async def test_a_replay_is_answered_when_the_job_could_no_longer_be_made(rig: Rig) -> None:
    file = await rig.upload(lines(2))
    job = (await create(rig, input_files=[file["id"]])).json()
    await rig.call("POST", f"/v1/batch/jobs/{job['id']}/cancel")
    assert (await rig.call("DELETE", f"/v1/files/{file['id']}")).status_code == 200
    rig.catalogue = Catalogue({}, ())
    replay = await create(rig, input_files=[file["id"]])
    assert (replay.status_code, replay.json()["id"]) == (200, job["id"])
    assert replay.json()["status"] == "CANCELLATION_REQUESTED"


async def test_a_key_of_another_tenant_is_another_key(rig: Rig) -> None:
    one, two = await rig.key("a", "key-of-a"), await rig.key("b", "key-of-b")
    jobs = [(await create(rig, {**KEY, **who}, **INLINE)).json()["id"] for who in (one, two)]
    assert jobs[0] != jobs[1]


async def test_a_refused_create_leaves_its_key_free(rig: Rig) -> None:
    assert (await create(rig, model="unknown", requests=[{"body": BODY}])).status_code == 422
    assert (await create(rig, **INLINE)).status_code == 200


@pytest.mark.parametrize("key", ["", "x" * 256, "ü", "a\tb"])
async def test_a_key_that_cannot_be_one_is_refused(rig: Rig, key: str) -> None:
    refused = await create(rig, {"idempotency-key": key.encode()}, **INLINE)  # type: ignore[dict-item]
    assert (refused.status_code, refused.json()["param"]) == (400, "idempotency-key")
    assert (await rig.get("/v1/batch/jobs"))["total"] == 0


# OpenAI's create


async def create_batch(rig: Rig, file: str, headers: dict[str, str], **fields: Any) -> Any:
    asked = {"endpoint": "/v1/chat/completions", "completion_window": "24h", **fields}
    asked["input_file_id"] = file
    return await rig.call("POST", "/v1/batches", json=asked, headers=headers)


async def test_a_batch_is_created_once_for_each_key(rig: Rig) -> None:
    file = (await rig.upload(openai_lines(2)))["id"]
    replies = await asyncio.gather(*[create_batch(rig, file, KEY) for _ in range(100)])
    assert {reply.status_code for reply in replies} == {200}
    assert len({reply.json()["id"] for reply in replies}) == 1
    assert len((await rig.get("/v1/batches"))["data"]) == 1
    refused = await create_batch(rig, file, KEY, completion_window="2d")
    assert (refused.status_code, refused.headers["x-should-retry"]) == (409, "false")


async def test_a_batch_over_an_unknown_file_is_created_once_too(rig: Rig) -> None:
    first, again = [await create_batch(rig, "file-unknown", KEY) for _ in range(2)]
    assert first.json()["id"] == again.json()["id"]


async def test_a_retry_of_openais_sdk_gives_the_batch_that_its_first_try_made(rig: Rig) -> None:
    file = (await rig.upload(openai_lines(2)))["id"]
    first, again, later = [
        (await create_batch(rig, file, {"x-stainless-retry-count": count})).json()["id"]
        for count in ("0", "1", "0")
    ]
    assert first == again
    assert later != first
    rig.clock.advance(301)
    too_late = await create_batch(rig, file, {"x-stainless-retry-count": "1"})
    assert too_late.json()["id"] not in {first, later}


async def test_a_job_of_one_dialect_is_no_replay_for_the_other(rig: Rig) -> None:
    file = (await rig.upload(openai_lines(2)))["id"]
    batch = (await create_batch(rig, file, KEY)).json()
    job = (await create(rig, input_files=[file])).json()
    assert job["id"].replace("-", "") != batch["id"].removeprefix("batch_")
