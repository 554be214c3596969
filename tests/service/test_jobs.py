from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from batchmill.core.models import Catalogue
from batchmill.core.submit import ENDPOINTS, Limits
from batchmill.fleet import Beat, EngineState, EngineStatus
from batchmill.model import (
    Fate,
    LineError,
    Outcome,
)
from tests.service.rig import BODY, Rig, answered, lines, open_rig

JOBS = "/v1/batch/jobs"


def some_fail(number: int, line: dict[str, Any]) -> Outcome:
    if number == 1:
        return Outcome(Fate.FAILED, 422, b'{"detail":"x"}', code="invalid", message="no\u2028")
    if number == 2:
        return Outcome(Fate.EXPIRED)
    return answered(number, line)


async def test_a_job_from_files_runs_to_its_end_with_its_results(rig: Rig) -> None:
    first, second = await rig.upload(lines(3)), await rig.upload(lines(4))
    job = await rig.create(input_files=[first["id"], second["id"]], metadata={"a": "b"})
    assert job == {
        "id": job["id"],
        "object": "batch",
        "input_files": [first["id"], second["id"]],
        "metadata": {"a": "b"},
        "endpoint": "/v1/chat/completions",
        "model": "small",
        "agent_id": None,
        "output_file": None,
        "error_file": None,
        "errors": [],
        "outputs": None,
        "status": "QUEUED",
        "created_at": 1_800_000_000,
        "started_at": None,
        "completed_at": None,
        "total_requests": 7,
        "completed_requests": 0,
        "succeeded_requests": 0,
        "failed_requests": 0,
        "expires_at": 1_800_000_000 + 86400,
        "window": "24h",
        "priority": 0,
        "on_invalid": "fail",
        "dedupe": False,
        "webhook_url": None,
        "paused": False,
        "error_summary": [],
        "retry_of": None,
        "retried_by": None,
        "progress": job["progress"],
    }
    assert rig.woken == 1
    await rig.finish(some_fail, shard_lines=2)
    done = await rig.get(f"{JOBS}/{job['id']}")
    assert (done["status"], done["completed_at"]) == ("SUCCESS", 1_800_000_000)
    assert (done["succeeded_requests"], done["failed_requests"]) == (5, 2)
    assert done["completed_requests"] == 7
    assert done["outputs"] is None
    assert done["progress"]["left"] == 0
    assert done["progress"]["waiting_reason"] is None
    errors = await rig.call("GET", f"/v1/files/{done['error_file']}/content")
    found = [json.loads(line) for line in errors.content.splitlines()]
    assert [line["error"]["code"] for line in found] == ["invalid", "timeout_exceeded"]
    assert [line["id"].split("-")[2] for line in found] == ["2", "3"]


async def test_an_inline_job_has_its_outputs_and_its_files(rig: Rig) -> None:
    job = await rig.create(requests=[{"body": BODY}, {"custom_id": "ü\u2028", "body": {"x": 1.0}}])
    assert (job["input_files"], job["total_requests"]) == ([], 2)
    await rig.finish(answered)
    done = await rig.get(f"{JOBS}/{job['id']}")
    assert [line["custom_id"] for line in done["outputs"]] == ["0", "ü\u2028"]
    assert done["outputs"][1]["response"] == {"status_code": 200, "body": {"n": 1}}
    content = (await rig.call("GET", f"/v1/files/{done['output_file']}/content")).content
    assert content.isascii()
    assert [json.loads(line) for line in content.splitlines()] == done["outputs"]
    assert (await rig.get(f"{JOBS}"))["data"][0]["outputs"] is None
    assert "outputs" not in json.dumps(await rig.get("/v1/files"))
    files = await rig.get("/v1/files")
    kept = next(file for file in files["data"] if file["sample_type"] == "batch_request")
    assert (kept["num_lines"], kept["source"]) == (2, "mistral")
    written = (await rig.call("GET", f"/v1/files/{kept['id']}/content")).content
    assert json.loads(written.splitlines()[1]) == {"custom_id": "ü\u2028", "body": {"x": 1.0}}
    assert b"1.0" in written


async def test_inline_bodies_reach_the_input_as_they_came(rig: Rig) -> None:
    body = b'{"n": 1e400, "big": 123456789012345678901234567890,\n "s": "\xc3\xa9"}'
    asked = (
        b'{"endpoint":"/v1/ocr","model":"small","requests":[{"custom_id":null,"body":'
        + body
        + b',"method":"GET","url":"/x"}]}'
    )
    reply = await rig.call("POST", JOBS, content=asked)
    assert reply.status_code == 200, reply.text
    kept = (await rig.get("/v1/files"))["data"][0]
    written = (await rig.call("GET", f"/v1/files/{kept['id']}/content")).content
    wanted = body.replace(b"\n", b" ").replace(b"\xc3\xa9", b"\\u00e9")
    assert written == b'{"custom_id":"0","body":' + wanted + b"}\n"


@pytest.mark.parametrize("text", [b'"\\ud83d"', b'{"k":1,"k":2}', b"9" * 5_000])
@pytest.mark.parametrize("size", [1, 100_000])
async def test_an_inline_body_is_judged_as_a_line_of_a_file_is(
    rig: Rig, text: bytes, size: int
) -> None:
    request = b'{"custom_id":"\\ufffd","body":{"a":%b,"pad":"%b"}}' % (text, b"x" * size)
    asked = b'{"endpoint":"/v1/ocr","model":"small","requests":[%b]}' % request
    reply = await rig.call("POST", JOBS, content=asked)
    assert reply.status_code == 200, reply.text
    file = await rig.upload(request + b"\n")
    worker = await rig.worker()
    for job in (reply.json(), await rig.create(input_files=[file["id"]])):
        await rig.validate(worker)
        seen = await rig.get(f"{JOBS}/{job['id']}")
        assert (seen["errors"], seen["total_requests"]) == ([], 1)


async def test_outputs_come_for_file_jobs_only_when_asked_for(rig: Rig) -> None:
    file = await rig.upload(lines(9))
    job = await rig.create(input_files=[file["id"]])
    path = f"{JOBS}/{job['id']}"
    assert (await rig.get(f"{path}?inline=true"))["outputs"] is None
    await rig.finish(some_fail, shard_lines=2)
    for yes in ("true", "1", "True"):
        found = (await rig.get(f"{path}?inline={yes}"))["outputs"]
        assert [line["custom_id"] for line in found] == [f"c{n}" for n in (0, 3, 4, 5, 6, 7, 8)]
    for no in ("false", "0", "False"):
        assert (await rig.get(f"{path}?inline={no}"))["outputs"] is None


async def test_outputs_over_the_limit_are_null(tmp_path: Path) -> None:
    async with open_rig(tmp_path, limits=Limits(outputs_lines=3)) as rig:
        job = await rig.create(requests=[{"body": BODY}] * 4)
        await rig.finish(answered)
        done = await rig.get(f"{JOBS}/{job['id']}?inline=true")
        assert (done["outputs"], done["succeeded_requests"]) == (None, 4)


async def test_outputs_without_any_success_are_an_empty_list(rig: Rig) -> None:
    job = await rig.create(requests=[{"body": BODY}])
    await rig.finish(lambda *_: Outcome(Fate.FAILED, message="no"))
    done = await rig.get(f"{JOBS}/{job['id']}")
    assert (done["outputs"], done["output_file"]) == ([], None)


async def test_outputs_of_a_deleted_result_file_are_null_and_the_job_is_as_before(rig: Rig) -> None:
    job = await rig.create(requests=[{"body": BODY}])
    await rig.finish(answered)
    before = await rig.get(f"{JOBS}/{job['id']}")
    assert (await rig.call("DELETE", f"/v1/files/{before['output_file']}")).status_code == 200
    assert await rig.get(f"{JOBS}/{job['id']}") == {**before, "outputs": None}


@pytest.mark.parametrize(
    ("fields", "headers", "shown"),
    [
        ({}, {}, ("24h", 0, "fail")),
        ({"timeout_hours": 168}, {}, ("168h", 0, "fail")),
        ({"timeout_hours": 24, "window": "30m"}, {}, ("30m", 0, "fail")),
        ({"timeout_hours": 24}, {"x-batchmill-window": "30d"}, ("30d", 0, "fail")),
        ({"window": "7d"}, {"x-batchmill-window": "1h"}, ("7d", 0, "fail")),
        ({}, {"x-batchmill-priority": "-5"}, ("24h", -5, "fail")),
        ({"priority": 100}, {"x-batchmill-priority": "junk"}, ("24h", 100, "fail")),
        ({}, {"x-batchmill-on_invalid": "quarantine"}, ("24h", 0, "quarantine")),
        ({"on_invalid": None}, {"x-batchmill-on-invalid": "quarantine"}, ("24h", 0, "quarantine")),
    ],
)
async def test_extensions_come_in_the_body_or_as_headers(
    rig: Rig, fields: dict[str, Any], headers: dict[str, str], shown: tuple[str, int, str]
) -> None:
    asked = {"endpoint": "/v1/ocr", "model": "small", "requests": [{"body": {}}], **fields}
    reply = await rig.call("POST", JOBS, json=asked, headers=headers)
    assert reply.status_code == 200, reply.text
    job = reply.json()
    assert (job["window"], job["priority"], job["on_invalid"]) == shown


async def test_the_window_is_kept_to_the_second(rig: Rig) -> None:
    job = await rig.create(requests=[{"body": BODY}], window="45m")
    assert job["expires_at"] - job["created_at"] == 45 * 60


async def test_large_metadata_beside_small_and_large_requests_is_kept(rig: Rig) -> None:
    metadata = {f"k{n}": "x" * 512 for n in range(200)}
    for size in (1, 200_000):
        job = await rig.create(requests=[{"body": {"text": "y" * size}}], metadata=metadata)
        assert job["metadata"] == metadata


async def test_explicit_nulls_are_the_same_as_absent(rig: Rig) -> None:
    nulls = dict.fromkeys(("input_files", "agent_id", "metadata", "timeout_hours", "window"))
    job = await rig.create(requests=[{"custom_id": None, "body": {}}], **nulls)
    assert (job["metadata"], job["window"]) == (None, "24h")
    file = await rig.upload(lines(1))
    assert (await rig.create(input_files=[file["id"]], requests=None))["total_requests"] == 1


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_every_endpoint_is_accepted(rig: Rig, endpoint: str) -> None:
    assert (await rig.create(endpoint=endpoint, requests=[{"body": {}}]))["endpoint"] == endpoint


async def test_a_model_that_only_an_unseen_engine_may_serve_is_accepted(rig: Rig) -> None:
    rig.catalogue = Catalogue({}, (EngineStatus("new", "vllm", EngineState.UNKNOWN),))
    job = await rig.create(model="anything", requests=[{"body": {}}])
    await rig.worker()
    owner = await rig.worker()
    await rig.plan(owner)
    waiting = await rig.get(f"{JOBS}/{job['id']}")
    assert waiting["progress"]["waiting_reason"] == "engine_down"


async def test_agents_need_an_engine_of_mistrals(rig: Rig) -> None:
    asked = {"endpoint": "/v1/conversations", "agent_id": "ag_1", "requests": [{"body": {}}]}
    refused = await rig.call("POST", JOBS, json=asked)
    assert (refused.status_code, refused.json()["param"]) == (422, "agent_id")
    rig.catalogue = Catalogue({}, (EngineStatus("m", "mistral", EngineState.UP, seen_at=1.0),))
    assert (await rig.call("POST", JOBS, json=asked)).json()["agent_id"] == "ag_1"


async def test_lists_are_filtered_by_everything(rig: Rig) -> None:
    async def make(**fields: Any) -> str:
        job = await rig.create(requests=[{"body": BODY}], **fields)
        rig.clock.advance(60)
        return str(job["id"])

    a = await make(metadata={"team": "x", "a b": "x&y=1"})
    b = await make(metadata={"team": "y", "n": "1"}, model="org/large")
    c = await make(metadata={"team": "x"})
    await rig.call("POST", f"{JOBS}/{b}/cancel")

    async def found(query: str) -> list[str]:
        page = await rig.get(f"{JOBS}?{query}")
        assert page["total"] == len(page["data"])
        return [job["id"] for job in page["data"]]

    assert await found("") == [c, b, a]
    assert await found("order_by=created&created_by_me=false") == [a, b, c]
    assert await found("created_by_me=true") == [c, b, a]
    assert await found("model=org/large") == [b]
    assert await found("agent_id=ag_1") == []
    assert await found("status=QUEUED") == [c, a]
    assert await found("status=QUEUED&status=CANCELLATION_REQUESTED") == [c, b, a]
    assert await found("team=x") == [c, a]
    assert await found("team=x&a+b=x%26y%3D1") == [a]
    assert await found("a%20b=x%26y%3D1") == [a]
    assert await found("metadata[team]=y&n=1") == [b]
    assert await found('metadata={"team":"y"}') == [b]
    assert await found("team=x&team=y") == []
    assert await found("nobody=has-this") == []
    assert await found(r'metadata={"team":"\ud83d"}') == []
    assert await found("&".join(f"k{n}=x" for n in range(1100))) == []
    assert await found("created_after=2027-01-15T08:00:00") == [c, b]
    assert await found("created_after=2027-01-15T08:00:00Z") == [c, b]
    assert await found("created_after=2027-01-15T09:00:00%2B01:00") == [c, b]
    assert await found("created_after=2027-01-15T09:00:00+01:00") == [c, b]
    assert await found("created_after=2027-01-15T08:00:59.999Z") == [c, b]
    assert await found("created_after=2027-01-15") == [c, b, a]
    assert await found("created_after=2030-01-01T00%3A00%3A00") == []


async def test_lists_tell_the_total_of_all_pages(rig: Rig) -> None:
    ids = [(await rig.create(requests=[{"body": BODY}]))["id"] for _ in range(5)]
    page = await rig.get(f"{JOBS}?page=1&page_size=2")
    assert (page["object"], page["total"]) == ("list", 5)
    assert [job["id"] for job in page["data"]] == [ids[2], ids[1]]
    assert (await rig.get(f"{JOBS}?page=1000000000&page_size=10000"))["data"] == []


async def test_created_by_me_is_the_key_that_asks(rig: Rig) -> None:
    one, two = await rig.key("team", "key-1"), await rig.key("team", "key-2")
    asked = {"endpoint": "/v1/ocr", "model": "small", "requests": [{"body": {}}]}
    job = (await rig.call("POST", JOBS, json=asked, headers=one)).json()
    for headers, mine in ((one, [job["id"]]), (two, [])):
        page = await rig.get(f"{JOBS}?created_by_me=true", headers=headers)
        assert [each["id"] for each in page["data"]] == mine
        assert (await rig.get(JOBS, headers=headers))["total"] == 1


async def test_cancel_is_answered_by_what_the_job_is(rig: Rig) -> None:
    job = await rig.create(requests=[{"body": BODY}])
    path = f"{JOBS}/{job['id']}/cancel"
    odd = {"content-type": "application/octet-stream", "content-length": "0"}
    for headers in ({}, odd, {"content-type": "application/json"}):
        reply = await rig.call("POST", path, headers=headers)
        assert (reply.status_code, reply.json()["status"]) == (200, "CANCELLATION_REQUESTED")
    assert rig.woken == 4


async def test_a_finished_job_cannot_be_cancelled_and_clients_do_not_retry(rig: Rig) -> None:
    job = await rig.create(requests=[{"body": BODY}])
    await rig.finish(answered)
    reply = await rig.call("POST", f"{JOBS}/{job['id']}/cancel")
    assert (reply.status_code, reply.headers["x-should-retry"]) == (409, "false")
    assert (await rig.get(f"{JOBS}/{job['id']}"))["status"] == "SUCCESS"


async def test_a_deleted_job_is_gone_and_its_files_stay(rig: Rig) -> None:
    job = await rig.create(requests=[{"body": BODY}])
    await rig.finish(answered)
    output = (await rig.get(f"{JOBS}/{job['id']}"))["output_file"]
    reply = await rig.call("DELETE", f"{JOBS}/{job['id']}")
    assert reply.json() == {"id": job["id"], "object": "batch", "deleted": True}
    assert (await rig.call("GET", f"{JOBS}/{job['id']}")).status_code == 404
    assert (await rig.call("DELETE", f"{JOBS}/{job['id']}")).status_code == 404
    assert (await rig.call("POST", f"{JOBS}/{job['id']}/cancel")).status_code == 404
    assert (await rig.get(JOBS))["total"] == 0
    assert (await rig.call("GET", f"/v1/files/{output}/content")).status_code == 200


async def test_an_unfinished_job_is_deleted_at_once(rig: Rig) -> None:
    job = await rig.create(requests=[{"body": BODY}])
    assert (await rig.call("DELETE", f"{JOBS}/{job['id']}")).status_code == 200
    assert (await rig.call("GET", f"{JOBS}/{job['id']}")).status_code == 404


async def test_every_spelling_of_a_jobs_id_is_understood(rig: Rig) -> None:
    job = await rig.create(requests=[{"body": BODY}])
    plain = job["id"].replace("-", "")
    for spelling in (job["id"].upper(), f"batch_{plain}", plain):
        assert (await rig.get(f"{JOBS}/{spelling}"))["id"] == job["id"]


async def test_bad_lines_are_told_grouped_with_the_first_line(rig: Rig) -> None:
    file = await rig.upload(lines(200))
    job = await rig.create(input_files=[file["id"]])
    owner = await rig.worker()
    errors = [LineError("duplicate_custom_id", "Twice.", n, "custom_id") for n in range(5, 95)]
    errors += [LineError("invalid_json_line", "No JSON.", 7), LineError("empty_file", "Empty.")]
    await rig.refuse(owner, errors, 150)
    done = await rig.get(f"{JOBS}/{job['id']}")
    assert done["status"] == "FAILED"
    assert done["errors"] == [
        {"message": "Line 5: Twice. [duplicate_custom_id]", "count": 90},
        {"message": "Line 7: No JSON. [invalid_json_line]", "count": 1},
        {"message": "Empty. [empty_file]", "count": 1},
        {"message": "58 more errors are not listed.", "count": 58},
    ]
    assert (done["completed_requests"], done["total_requests"]) == (0, 200)
    assert done["completed_at"] is not None
    assert done["progress"]["left"] == 0


async def test_another_tenants_jobs_do_not_exist(rig: Rig) -> None:
    mine, theirs = await rig.key("a", "key-a"), await rig.key("b", "key-b")
    asked = {"endpoint": "/v1/ocr", "model": "small", "requests": [{"body": {}}]}
    job_id = (await rig.call("POST", JOBS, json=asked, headers=mine)).json()["id"]
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "?inline=1")):
        reply = await rig.call(method, f"{JOBS}/{job_id}{path}", headers=theirs)
        assert (reply.status_code, reply.json()["param"]) == (404, "job_id")
    assert (await rig.get(JOBS, headers=theirs))["data"] == []
    assert (await rig.get(f"{JOBS}/{job_id}", headers=mine))["status"] == "QUEUED"


async def test_a_running_job_shows_its_progress(rig: Rig) -> None:
    file = await rig.upload(lines(10))
    job = await rig.create(input_files=[file["id"]])
    path = f"{JOBS}/{job['id']}"
    assert (await rig.get(path))["progress"]["waiting_reason"] == "no_worker"
    owner = await rig.worker()
    await rig.ledger.renew(owner, (), Beat())
    assert (await rig.get(path))["progress"]["waiting_reason"] == "validating"
    await rig.plan(owner, shard_lines=4)
    assert (await rig.get(path))["progress"]["waiting_reason"] == "queued_behind_jobs"
    rig.clock.advance(10)
    await rig.run(owner, answered, shards=2)
    rig.clock.advance(4)
    shown = await rig.get(path)
    assert shown["status"] == "RUNNING"
    assert (shown["progress"]["done"], shown["progress"]["left"]) == (8, 2)
    assert shown["progress"]["last_progress_at"] == 1_800_000_010
    assert shown["progress"]["estimated_seconds_left"] == 1
