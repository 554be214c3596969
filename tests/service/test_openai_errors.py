"""Every error of OpenAI's routes, at once and in a batch's `errors`, with all that it says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from batchmill.core.submit import Limits
from batchmill.model import DEFAULT_TENANT, BlobName, File, FileId, FileSource
from tests.service.openai_corpus import BATCHES, CHAT, GOOD_LINE, JOBS, LINES, REFUSALS, Refusal
from tests.service.rig import Rig, answered, open_rig, openai_line, openai_lines

LIMITS = Limits(body_bytes=20_000, file_bytes=20_000)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """One rig for the whole table: nothing that is refused leaves a trace."""
    async with open_rig(tmp_path_factory.mktemp("openai"), limits=LIMITS) as rig:
        yield rig


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("case", REFUSALS, ids=lambda case: case.name)
async def test_a_refused_request_is_told_exactly(shared: Rig, case: Refusal) -> None:
    rig = shared
    reply = await rig.call(case.method, case.path, content=case.content, headers=dict(case.headers))
    error = reply.json()["error"]
    told = (reply.status_code, error["type"], error["code"], error["param"])
    assert told == (case.status, case.type, case.code, case.param), error["message"]
    assert error["message"].startswith(case.message)
    assert error["message"]
    assert "detail" not in reply.json()
    assert reply.headers["x-request-id"]
    assert (await rig.get(BATCHES))["data"] == []


@pytest.mark.parametrize(
    ("headers", "code"),
    [({}, None), ({"authorization": "Bearer sk-wrong"}, "invalid_api_key")],
    ids=["none", "wrong"],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", BATCHES),
        ("POST", BATCHES),
        ("GET", f"{BATCHES}/batch_abc"),
        ("POST", f"{BATCHES}/batch_abc/cancel"),
    ],
)
async def test_a_key_that_is_missing_or_wrong_is_told_in_openais_words(
    rig: Rig, method: str, path: str, headers: dict[str, str], code: str | None
) -> None:
    await rig.key("a", "right-key")
    reply = await rig.call(method, path, headers=headers)
    error = reply.json()["error"]
    assert (reply.status_code, error["type"]) == (401, "invalid_request_error")
    assert (error["code"], error["param"]) == (code, None)


async def test_a_file_of_another_purpose_is_refused_at_once(rig: Rig) -> None:
    file = await rig.upload(openai_lines(1), purpose="assistants")
    asked = {"input_file_id": file["id"], "endpoint": CHAT, "completion_window": "24h"}
    reply = await rig.call("POST", BATCHES, json=asked)
    error = reply.json()["error"]
    assert (reply.status_code, error["type"]) == (400, "invalid_request_error")
    assert (error["code"], error["param"]) == ("invalid_purpose", "input_file_id")


@pytest.mark.parametrize("state", ["completed", "failed", "expired"])
async def test_a_finished_batch_can_no_longer_be_cancelled(rig: Rig, state: str) -> None:
    owner = await rig.worker()
    batch = await rig.batch(openai_line("a", stream=state == "failed"))
    await rig.validate(owner)
    if state == "expired":
        rig.clock.advance(86400)
        await rig.ledger.expire_jobs()
    if state != "failed":
        await rig.run(owner, answered)
        await rig.finalize(owner)
    reply = await rig.call("POST", f"{BATCHES}/{batch['id']}/cancel")
    error = reply.json()["error"]
    assert reply.status_code == 409
    assert reply.headers["x-should-retry"] == "false"
    assert error == {
        "message": f"Cannot cancel a batch with status '{state}'.",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }


@pytest.mark.parametrize(
    ("name", "bad", "code", "param", "message"), LINES, ids=[each[0] for each in LINES]
)
async def test_a_bad_line_is_told_exactly(
    rig: Rig, name: str, bad: bytes, code: str, param: str | None, message: str
) -> None:
    failed = await _failed(rig, GOOD_LINE + b"\n\n" + bad + b"\n")
    [error] = failed["errors"]["data"]
    assert (error["code"], error["param"], error["line"]) == (code, param, 3), error
    assert error["message"].startswith(message)
    assert failed["errors"]["object"] == "list"
    assert failed["errors"]["total"] == 1


async def test_every_bad_line_is_told_not_only_the_first(rig: Rig) -> None:
    bad = [each[1] for each in LINES]
    errors = (await _failed(rig, b"\n".join([GOOD_LINE, *bad])))["errors"]
    assert [each["line"] for each in errors["data"]] == list(range(2, len(bad) + 2))
    assert errors["total"] == len(bad)


async def test_a_batch_of_too_many_lines_is_told_as_a_whole(rig: Rig) -> None:
    failed = await _failed(rig, openai_lines(4), max_lines=3)
    [error] = failed["errors"]["data"]
    assert (error["code"], error["param"], error["line"]) == ("too_many_tasks", None, None)


async def test_a_file_without_lines_is_told_as_a_whole(rig: Rig) -> None:
    file, blob = FileId("4017dc9f-b629-42f4-9700-8c681b9e7f0f"), BlobName("inputs/blank")
    await rig.blobs.put_many([(blob, [b"\n \n"])])
    await rig.ledger.add_file(
        File(file, DEFAULT_TENANT, "a", "batch", FileSource.UPLOAD, 3, 0.0, 0, blob=blob)
    )
    batch = await rig.batch(input_file_id=file)
    await rig.validate(await rig.worker())
    [error] = (await rig.get(f"{BATCHES}/{batch['id']}"))["errors"]["data"]
    assert (error["code"], error["param"], error["line"]) == ("empty_file", None, None)


async def test_a_file_that_is_lost_is_told_as_a_whole(rig: Rig) -> None:
    batch = await rig.batch(openai_lines(1))
    await rig.blobs.delete_many([BlobName(f"inputs/{batch['input_file_id']}")])
    await rig.validate(await rig.worker())
    [error] = (await rig.get(f"{BATCHES}/{batch['id']}"))["errors"]["data"]
    assert (error["code"], error["param"], error["line"]) == ("internal_error", None, None)


async def _failed(rig: Rig, content: bytes, **limits: int) -> dict[str, Any]:
    """The batch of these lines, after a validation that it must not pass."""
    batch = await rig.batch(content)
    await rig.validate(await rig.worker(), **limits)
    failed = await rig.get(f"{BATCHES}/{batch['id']}")
    assert failed["status"] == "failed"
    assert (await rig.get(f"{JOBS}/{batch['id']}"))["status"] == "FAILED"
    return dict(failed)
