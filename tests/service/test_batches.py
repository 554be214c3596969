"""OpenAI's batches from creation to every end, and what both vendors' routes say of one job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from batchmill.core.submit import ENDPOINTS
from batchmill.model import (
    Ending,
    Fate,
    Outcome,
    Owner,
)
from batchmill.usage import Usage
from tests.service.rig import (
    BODY,
    Rig,
    answered,
    lines,
    open_rig,
    openai_line,
    openai_lines,
)

BATCHES, JOBS = "/v1/batches", "/v1/batch/jobs"
START = 1_800_000_000
BAD_LINE = b'{"custom_id":"bad","method":"GET","url":"/v1/chat/completions","body":{}}\n'
PAIRS = {
    "validating": "QUEUED",
    "in_progress": "RUNNING",
    "finalizing": "RUNNING",
    "completed": "SUCCESS",
    "failed": "FAILED",
    "expired": "TIMEOUT_EXCEEDED",
    "cancelling": "CANCELLATION_REQUESTED",
    "cancelled": "CANCELLED",
}
MOMENTS = (
    "in_progress_at",
    "finalizing_at",
    "completed_at",
    "failed_at",
    "expired_at",
    "cancelling_at",
    "cancelled_at",
)


def second_fails(number: int, line: dict[str, Any]) -> Outcome:
    if number == 1:
        return Outcome(Fate.FAILED, 422, b'{"error":{"message":"no"}}', code="x", message="no")
    return answered(number, line)


def cut_short(ending: Ending) -> Any:
    fate = Fate.EXPIRED if ending is Ending.EXPIRED else Fate.CANCELLED
    return lambda number, line: answered(number, line) if number == 0 else Outcome(fate)


def moments(batch: dict[str, Any]) -> dict[str, int]:
    """The times that are set, counted from the start."""
    return {name: batch[name] - START for name in MOMENTS if batch[name] is not None}


async def seen(rig: Rig, batch: dict[str, Any]) -> dict[str, Any]:
    """The batch as both vendors' routes show it, alone and in their lists; they must agree."""
    shown = await rig.get(f"{BATCHES}/{batch['id']}")
    job = await rig.get(f"{JOBS}/{batch['id']}")
    assert job["id"].replace("-", "") == shown["id"].removeprefix("batch_")
    wanted = {PAIRS[shown["status"]]}
    if shown["status"] == "in_progress":
        wanted.add("QUEUED")
    assert job["status"] in wanted
    counts = shown["request_counts"]
    assert counts["total"] == job["total_requests"]
    assert counts["completed"] == job["succeeded_requests"]
    assert counts["failed"] == job["failed_requests"]
    assert (shown["output_file_id"], shown["error_file_id"]) == (
        job["output_file"],
        job["error_file"],
    )
    assert (shown["created_at"], shown["expires_at"]) == (job["created_at"], job["expires_at"])
    assert shown["progress"] == job["progress"]
    assert shown["completion_window"] == job["window"]
    assert (shown["metadata"], shown["endpoint"]) == (job["metadata"], job["endpoint"])
    assert (shown["errors"] or {}).get("total", 0) == sum(e["count"] for e in job["errors"])
    assert shown["input_file_id"] in job["input_files"] or job["input_files"] == []
    listed = await rig.get(BATCHES)
    assert shown in listed["data"]
    assert job in (await rig.get(JOBS))["data"] or job["outputs"] is not None
    return dict(shown)


async def made(rig: Rig, dialect: str, count: int = 3) -> dict[str, Any]:
    """A batch that was created through that vendor's route, as OpenAI's shows it."""
    if dialect == "openai":
        return dict(await rig.batch(openai_lines(count)))
    job = await rig.create(requests=[{"body": BODY} for _ in range(count)])
    return dict(await rig.get(f"{BATCHES}/{job['id']}"))


async def at_work(rig: Rig, owner: Owner) -> None:
    rig.clock.advance(10)
    await rig.validate(owner)
    rig.clock.advance(10)


async def test_a_new_batch_shows_all_that_openai_shows(rig: Rig) -> None:
    file = await rig.upload(openai_lines(3))
    batch = await rig.batch(input_file_id=file["id"], metadata={"a": "b"})
    assert batch == {
        "id": batch["id"],
        "object": "batch",
        "endpoint": "/v1/chat/completions",
        "model": None,
        "errors": None,
        "input_file_id": file["id"],
        "completion_window": "24h",
        "status": "validating",
        "output_file_id": None,
        "error_file_id": None,
        "created_at": START,
        "expires_at": START + 86400,
        **dict.fromkeys(MOMENTS),
        "request_counts": {"total": 3, "completed": 0, "failed": 0},
        "usage": {
            "input_tokens": 0,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 0,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 0,
        },
        "metadata": {"a": "b"},
        "priority": 0,
        "on_invalid": "fail",
        "dedupe": False,
        "webhook_url": None,
        "paused": False,
        "error_summary": [],
        "retry_of": None,
        "retried_by": None,
        "progress": batch["progress"],
    }
    assert rig.woken == 1


@pytest.mark.parametrize("dialect", ["openai", "mistral"])
async def test_a_completed_batch_is_the_same_through_both_dialects_at_every_moment(
    rig: Rig, dialect: str
) -> None:
    batch, owner = await made(rig, dialect), await rig.worker()
    assert (await seen(rig, batch))["status"] == "validating"
    await at_work(rig, owner)
    queued = await seen(rig, batch)
    assert (queued["status"], moments(queued)) == ("in_progress", {"in_progress_at": 10})
    assert queued["model"] == "small"
    await rig.run(owner, second_fails)
    finalizing = await seen(rig, batch)
    assert (finalizing["status"], finalizing["output_file_id"]) == ("finalizing", None)
    assert moments(finalizing) == {"in_progress_at": 10, "finalizing_at": 20}
    assert finalizing["request_counts"] == {"total": 3, "completed": 2, "failed": 1}
    rig.clock.advance(10)
    await rig.finalize(owner)
    done = await seen(rig, batch)
    assert done["status"] == "completed"
    assert moments(done) == {"in_progress_at": 10, "finalizing_at": 20, "completed_at": 30}
    assert done["output_file_id"] is not None
    assert done["error_file_id"] is not None


@pytest.mark.parametrize("dialect", ["openai", "mistral"])
@pytest.mark.parametrize("cancel", [f"{BATCHES}/{{}}/cancel", f"{JOBS}/{{}}/cancel"])
async def test_a_cancelled_batch_is_the_same_through_both_dialects(
    rig: Rig, dialect: str, cancel: str
) -> None:
    batch, owner = await made(rig, dialect), await rig.worker()
    await at_work(rig, owner)
    path = cancel.format(batch["id"])
    assert (await rig.call("POST", path)).json()["status"] in {
        "cancelling",
        "CANCELLATION_REQUESTED",
    }
    stopped = await seen(rig, batch)
    assert (stopped["status"], stopped["finalizing_at"]) == ("cancelling", None)
    assert (await rig.call("POST", f"{BATCHES}/{batch['id']}/cancel")).status_code == 200
    rig.clock.advance(10)
    await rig.run(owner, cut_short(Ending.CANCELLED))
    await rig.finalize(owner)
    done = await seen(rig, batch)
    assert done["status"] == "cancelled"
    assert moments(done) == {"in_progress_at": 10, "cancelling_at": 20, "cancelled_at": 30}
    assert done["request_counts"] == {"total": 3, "completed": 1, "failed": 2}
    for again in (f"{BATCHES}/{batch['id']}/cancel", f"{JOBS}/{batch['id']}/cancel"):
        assert (await rig.call("POST", again)).status_code == 200


@pytest.mark.parametrize("dialect", ["openai", "mistral"])
async def test_an_expired_batch_is_the_same_through_both_dialects(rig: Rig, dialect: str) -> None:
    batch, owner = await made(rig, dialect), await rig.worker()
    await at_work(rig, owner)
    rig.clock.advance(86380)
    await rig.ledger.expire_jobs()
    assert (await seen(rig, batch))["status"] == "finalizing"
    await rig.run(owner, cut_short(Ending.EXPIRED))
    await rig.finalize(owner)
    done = await seen(rig, batch)
    assert done["status"] == "expired"
    assert moments(done) == {"in_progress_at": 10, "finalizing_at": 86400, "expired_at": 86400}
    for path in (f"{BATCHES}/{batch['id']}/cancel", f"{JOBS}/{batch['id']}/cancel"):
        refused = await rig.call("POST", path)
        assert (refused.status_code, refused.headers["x-should-retry"]) == (409, "false")


async def test_a_batch_of_bad_lines_fails_the_same_through_both_dialects(rig: Rig) -> None:
    batch, owner = await rig.batch(openai_lines(2) + BAD_LINE), await rig.worker()
    await at_work(rig, owner)
    failed = await seen(rig, batch)
    assert (failed["status"], moments(failed)) == ("failed", {"failed_at": 10})
    assert failed["errors"]["data"][0]["line"] == 3
    assert failed["request_counts"] == {"total": 3, "completed": 0, "failed": 0}
    assert failed["output_file_id"] is failed["error_file_id"] is None


async def test_the_unrun_lines_of_a_batch_say_why_in_openais_codes(rig: Rig) -> None:
    batch, owner = await rig.batch(openai_lines(2)), await rig.worker()
    await at_work(rig, owner)
    await rig.call("POST", f"{BATCHES}/{batch['id']}/cancel")
    await rig.run(owner, cut_short(Ending.CANCELLED))
    await rig.finalize(owner)
    done = await seen(rig, batch)
    content = await rig.call("GET", f"/v1/files/{done['error_file_id']}/content")
    [line] = map(json.loads, content.content.splitlines())
    assert (line["custom_id"], line["response"]) == ("c1", None)
    assert line["error"]["code"] == "batch_cancelled"


async def test_quarantined_lines_are_told_while_the_others_run(rig: Rig) -> None:
    batch = await rig.batch(openai_lines(2) + BAD_LINE, on_invalid="quarantine")
    await at_work(rig, await rig.worker())
    running = await seen(rig, batch)
    assert running["status"] == "in_progress"
    assert running["errors"]["total"] == 1
    assert running["errors"]["data"][0]["code"] == "invalid_value"


async def test_the_first_hundred_bad_lines_are_told_and_all_are_counted(rig: Rig) -> None:
    batch = await rig.batch(openai_lines(10) + BAD_LINE * 150)
    await rig.validate(await rig.worker())
    errors = (await seen(rig, batch))["errors"]
    assert errors["object"] == "list"
    assert [each["line"] for each in errors["data"]] == list(range(11, 111))
    assert errors["total"] == 150


async def test_usage_is_the_sum_over_answered_lines(rig: Rig) -> None:
    batch, owner = await rig.batch(openai_lines(2)), await rig.worker()
    await at_work(rig, owner)
    await rig.run(owner, answered, usage=Usage(5, 7, 2, 1))
    assert (await seen(rig, batch))["usage"] == {
        "input_tokens": 5,
        "input_tokens_details": {"cached_tokens": 2},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 1},
        "total_tokens": 12,
    }


async def test_batches_are_paged_newest_first_until_none_is_left(rig: Rig) -> None:
    file = (await rig.upload(openai_lines(1)))["id"]
    made = []
    for _ in range(7):
        made.append((await rig.batch(input_file_id=file))["id"])
        rig.clock.advance(1)
    newest = made[::-1]
    pages = [await rig.get(f"{BATCHES}?limit=3")]
    while pages[-1]["has_more"]:
        pages.append(await rig.get(f"{BATCHES}?limit=3&after={pages[-1]['last_id']}"))
    assert [[batch["id"] for batch in page["data"]] for page in pages] == [
        newest[:3],
        newest[3:6],
        newest[6:],
    ]
    assert [(page["first_id"], page["last_id"]) for page in pages] == [
        (newest[0], newest[2]),
        (newest[3], newest[5]),
        (newest[6], newest[6]),
    ]
    end = await rig.get(f"{BATCHES}?after={newest[-1]}")
    assert end == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }


@pytest.mark.parametrize("after", ["nonsense", "batch_" + "0" * 32, "file-abc"])
async def test_nothing_comes_after_an_unknown_batch(rig: Rig, after: str) -> None:
    await rig.batch(openai_lines(1))
    page = await rig.get(f"{BATCHES}?after={after}")
    assert (page["data"], page["has_more"]) == ([], False)


async def test_a_page_has_twenty_batches_unless_asked_for_more(rig: Rig) -> None:
    file = (await rig.upload(openai_lines(1)))["id"]
    for _ in range(21):
        await rig.batch(input_file_id=file)
    assert len((await rig.get(f"{BATCHES}?unknown=1"))["data"]) == 20
    assert len((await rig.get(f"{BATCHES}?limit=100"))["data"]) == 21


@pytest.mark.parametrize(
    "form", ["batch_{hex}", "{hex}", "{uuid}", "batch_{uuid}", "file-{hex}", "{HEX}"]
)
async def test_every_form_of_an_id_names_the_batch(rig: Rig, form: str) -> None:
    batch = await rig.batch(openai_lines(1))
    bare = batch["id"].removeprefix("batch_")
    uuid = "-".join((bare[:8], bare[8:12], bare[12:16], bare[16:20], bare[20:]))
    asked = form.format(hex=bare, uuid=uuid, HEX=bare.upper())
    assert (await rig.get(f"{BATCHES}/{asked}"))["id"] == batch["id"]
    assert (await rig.get(f"{JOBS}/{asked}"))["id"] == uuid


@pytest.mark.parametrize("form", ["file-{hex}", "{hex}", "{uuid}"])
async def test_every_form_of_a_files_id_names_the_input(rig: Rig, form: str) -> None:
    uuid = (await rig.upload(openai_lines(1)))["id"]
    batch = await rig.batch(input_file_id=form.format(hex=uuid.replace("-", ""), uuid=uuid))
    assert (batch["input_file_id"], batch["request_counts"]["total"]) == (uuid, 1)


async def test_extensions_are_taken_from_headers_and_the_body_wins(rig: Rig) -> None:
    file = (await rig.upload(openai_lines(1)))["id"]
    body = {
        "input_file_id": file,
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
        "priority": 7,
    }
    headers = {
        "x-batchmill-priority": "-3",
        "x-batchmill-on-invalid": "quarantine",
        "x-batchmill-window": "7d",
    }
    batch = (await rig.call("POST", BATCHES, json=body, headers=headers)).json()
    assert (batch["priority"], batch["on_invalid"]) == (7, "quarantine")
    assert batch["completion_window"] == "7d"
    assert batch["expires_at"] == batch["created_at"] + 7 * 86400


@pytest.mark.parametrize(
    ("window", "seconds"), [("30m", 1800), ("1h", 3600), ("24h", 86400), ("30d", 30 * 86400)]
)
async def test_a_window_is_echoed_as_sent(rig: Rig, window: str, seconds: int) -> None:
    batch = await rig.batch(openai_lines(1), completion_window=window)
    assert batch["completion_window"] == window
    assert batch["expires_at"] - batch["created_at"] == seconds


async def test_results_last_as_long_as_their_batch_asked(rig: Rig) -> None:
    after = {"anchor": "created_at", "seconds": 3600}
    batch = await rig.batch(openai_lines(1), output_expires_after=after)
    owner = await rig.worker()
    await at_work(rig, owner)
    await rig.run(owner, answered)
    await rig.finalize(owner)
    output = (await seen(rig, batch))["output_file_id"]
    file = await rig.get(f"/v1/files/{output}")
    assert file["expires_at"] == file["created_at"] + 3600
    rig.clock.advance(3599)
    assert (await rig.call("GET", f"/v1/files/{output}/content")).status_code == 200
    rig.clock.advance(1)
    assert (await rig.call("GET", f"/v1/files/{output}/content")).status_code == 404


async def test_no_batch_keeps_its_results_longer_than_all_others(tmp_path: Path) -> None:
    async with open_rig(tmp_path, keep_results_seconds=7200.0) as rig:
        after = {"anchor": "created_at", "seconds": 2_592_000}
        batch = await rig.batch(openai_lines(1), output_expires_after=after)
        owner = await rig.worker()
        await at_work(rig, owner)
        await rig.run(owner, answered)
        await rig.finalize(owner)
        output = (await seen(rig, batch))["output_file_id"]
        file = await rig.get(f"/v1/files/{output}")
        assert file["expires_at"] == file["created_at"] + 7200


async def test_an_unknown_input_file_fails_the_batch_and_not_the_create(rig: Rig) -> None:
    for asked in ("file-abc", "4017dc9f-b629-42f4-9700-8c681b9e7f0f"):
        batch = await rig.batch(input_file_id=asked)
        assert (batch["status"], batch["input_file_id"]) == ("validating", asked)
        await rig.validate(await rig.worker())
        failed = await seen(rig, batch)
        [error] = failed["errors"]["data"]
        assert failed["status"] == "failed"
        assert (error["code"], error["param"], error["line"]) == (
            "invalid_request",
            "file_id",
            None,
        )
        assert asked in error["message"]


async def test_another_tenants_batches_and_files_are_not_there(rig: Rig) -> None:
    mine, theirs = await rig.key("a", "key-a"), await rig.key("b", "key-b")
    data = {"purpose": "batch"}
    upload = {"files": {"file": ("in.jsonl", openai_lines(1))}, "data": data, "headers": mine}
    file = (await rig.call("POST", "/v1/files", **upload)).json()["id"]
    asked = {
        "input_file_id": file,
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
    }
    batch = (await rig.call("POST", BATCHES, json=asked, headers=mine)).json()["id"]
    for method, path in (
        ("GET", f"{BATCHES}/{batch}"),
        ("POST", f"{BATCHES}/{batch}/cancel"),
        ("GET", f"{JOBS}/{batch}"),
    ):
        assert (await rig.call(method, path, headers=theirs)).status_code == 404
    for query in ("", f"?after={batch}"):
        assert (await rig.call("GET", f"{BATCHES}{query}", headers=theirs)).json()["data"] == []
    stolen = (await rig.call("POST", BATCHES, json=asked, headers=theirs)).json()
    assert stolen["request_counts"]["total"] == 0
    await rig.validate(await rig.worker())
    await rig.validate(await rig.worker())
    ended = (await rig.call("GET", f"{BATCHES}/{stolen['id']}", headers=theirs)).json()
    assert (ended["status"], ended["errors"]["data"][0]["param"]) == ("failed", "file_id")


async def test_a_deleted_job_is_gone_from_both_dialects(rig: Rig) -> None:
    batch = await rig.batch(openai_lines(1))
    assert (await rig.call("DELETE", f"{JOBS}/{batch['id']}")).status_code == 200
    assert (await rig.call("GET", f"{BATCHES}/{batch['id']}")).status_code == 404
    assert (await rig.get(BATCHES))["data"] == []


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_every_endpoint_is_taken_in_both_dialects(rig: Rig, endpoint: str) -> None:
    line = {"custom_id": "a", "method": "POST", "url": endpoint, "body": {"model": "small", **BODY}}
    batch = await rig.batch(json.dumps(line).encode(), endpoint=endpoint)
    await rig.validate(await rig.worker())
    assert (await seen(rig, batch))["status"] == "in_progress"
    job = await rig.create(endpoint=endpoint, input_files=[(await rig.upload(lines(1)))["id"]])
    assert job["endpoint"] == endpoint


async def test_a_job_of_several_models_shows_the_first_lines(rig: Rig) -> None:
    batch = await rig.batch(openai_line("a", model="org/large") + openai_line("b", model="small"))
    job = await rig.get(f"{JOBS}/{batch['id']}")
    assert job["model"] == "", "older SDKs of Mistral read no null"
    await rig.validate(await rig.worker())
    assert (await seen(rig, batch))["model"] == "org/large"
    assert (await rig.get(f"{JOBS}/{batch['id']}"))["model"] == "org/large"


@pytest.mark.parametrize("asked", ["org/large", "org%2Flarge", "small", "alias"])
async def test_a_models_card_is_read_by_both_vendors(rig: Rig, asked: str) -> None:
    card = await rig.get(f"/v1/models/{asked}")
    assert card["id"] == asked.replace("%2F", "/")
    assert (card["object"], card["type"]) == ("model", "base")
    assert isinstance(card["created"], int)
    assert {"owned_by", "capabilities"} <= set(card)
    assert card in (await rig.get("/v1/models"))["data"]
