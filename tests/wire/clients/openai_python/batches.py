"""Operations on batches: create, retrieve, results, cancel."""

from __future__ import annotations

import asyncio
import time

from openai import AsyncOpenAI
from openai_python.harness import AWKWARD, CHAT, MOMENTS, World, custom_id
from operations import operation


@operation
def create(world: World) -> None:
    file = world.upload(world.chat(4))
    batch = world.client.batches.create(
        input_file_id=file,
        endpoint=CHAT,
        completion_window="24h",
        metadata={"job_type": "testing", "Größe": "数据"},
    )
    assert batch.id.startswith("batch_"), batch
    assert len(batch.id) == len("batch_") + 32, batch
    assert (batch.object, batch.endpoint, batch.input_file_id) == ("batch", CHAT, file), batch
    assert batch.completion_window == "24h", batch
    assert batch.metadata == {"job_type": "testing", "Größe": "数据"}, batch
    assert abs(batch.created_at - time.time()) < 60, batch
    assert batch.expires_at == batch.created_at + 86400, batch
    assert batch.request_counts is not None, batch
    assert batch.request_counts.total == 4, batch
    assert batch.errors is None, batch
    if batch.status == "validating":
        assert all(getattr(batch, name) is None for name in MOMENTS), batch
        assert (batch.output_file_id, batch.error_file_id) == (None, None), batch


@operation
def run_to_the_end(world: World) -> None:
    done = world.ended(world.create(world.chat(4)))
    counts = done.request_counts
    assert (counts.total, counts.completed, counts.failed) == (4, 4, 0), done
    assert done.status == "completed", done
    assert done.created_at <= done.in_progress_at <= done.finalizing_at <= done.completed_at, done
    assert (done.failed_at, done.expired_at, done.cancelled_at) == (None, None, None), done
    assert done.error_file_id is None, done
    lines = world.lines(done.output_file_id)
    assert [line["custom_id"] for line in lines] == [custom_id(n) for n in range(4)]
    assert all(line["response"]["status_code"] == 200 for line in lines), lines
    assert all(AWKWARD in _said(line) for line in lines), lines
    assert all(line["error"] is None for line in lines), lines
    assert len({line["id"] for line in lines}) == 4, lines


@operation
def usage_and_model(world: World) -> None:
    done = world.finished.model_dump()
    assert done["model"] == world.model, done
    usage = done["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > 0, done
    assert usage["input_tokens_details"] == {"cached_tokens": 0}, done
    assert usage["output_tokens_details"] == {"reasoning_tokens": 0}, done


@operation
def failed_lines(world: World) -> None:
    data = world.chat(2) + world.line("bad", "!status:422") + world.chat(1, 2)
    done = world.ended(world.create(data))
    counts = done.request_counts
    assert (done.status, counts.completed, counts.failed) == ("completed", 3, 1), done
    [line] = world.lines(done.error_file_id)
    assert (line["custom_id"], line["error"]) == ("bad", None), line
    assert line["response"]["status_code"] == 422, line
    assert line["response"]["body"]["error"]["message"], line


@operation
def bad_lines(world: World) -> None:
    bad = world.line("x", method="GET") + b"nonsense\n" + world.line("y", url="/v1/embeddings")
    failed = world.ended(world.create(world.chat(1) + bad))
    assert failed.status == "failed", failed
    assert failed.failed_at is not None, failed
    assert (failed.output_file_id, failed.error_file_id) == (None, None), failed
    assert failed.errors.object == "list", failed
    told = [(error.line, error.code, error.param) for error in failed.errors.data]
    assert told == [
        (2, "invalid_value", "method"),
        (3, "invalid_json_line", None),
        (4, "invalid_url", "url"),
    ], failed
    assert all(error.message for error in failed.errors.data), failed


@operation
def unknown_input_file(world: World) -> None:
    batch = world.client.batches.create(
        input_file_id="file-abc123", endpoint=CHAT, completion_window="24h"
    )
    failed = world.ended(batch)
    [error] = failed.errors.data
    assert (failed.status, failed.input_file_id) == ("failed", "file-abc123"), failed
    assert (error.code, error.param, error.line) == ("invalid_request", "file_id", None), failed


@operation
def cancel(world: World) -> None:
    batch = world.create(world.chat(5) + world.slow_chat(3))
    world.until(batch, lambda seen: seen.request_counts.completed == 5)
    stopped = world.client.batches.cancel(batch.id)
    assert stopped.status in {"cancelling", "cancelled"}, stopped
    assert stopped.cancelling_at is not None, stopped
    done = world.ended(batch)
    counts = done.request_counts
    assert (done.status, counts.completed, counts.failed) == ("cancelled", 5, 3), done
    assert done.cancelled_at is not None, done
    lost = world.lines(done.error_file_id)
    assert [line["custom_id"] for line in lost] == [f"slow-{n}" for n in range(3)], lost
    assert all(line["response"] is None for line in lost), lost
    assert all(line["error"]["code"] == "batch_cancelled" for line in lost), lost
    assert world.client.batches.cancel(batch.id).status == "cancelled"


@operation
def extensions(world: World) -> None:
    """Extra keys go with `extra_body` or as headers, and come back as extra fields."""
    batch = world.create(
        world.chat(1),
        completion_window="1h",
        extra_body={
            "priority": 3,
            "output_expires_after": {"anchor": "created_at", "seconds": 3600},
        },
        extra_headers={"x-batchmill-on_invalid": "quarantine"},
    )
    shown = batch.model_dump()
    assert (shown["priority"], shown["on_invalid"]) == (3, "quarantine"), shown
    assert (shown["completion_window"], shown["expires_at"]) == ("1h", batch.created_at + 3600)
    assert shown["progress"]["done"] + shown["progress"]["left"] == 1, shown
    output = world.client.files.retrieve(world.ended(batch).output_file_id).model_dump()
    assert output["expires_at"] == output["created_at"] + 3600, output


@operation
def several_models(world: World) -> None:
    lines = b"".join(
        world.line(name, body={"model": name, "input": "hi"}, url="/v1/embeddings")
        for name in (world.model, f"org/{world.model}", world.model)
    ).replace(b'"custom_id": "sim"', b'"custom_id": "first"', 1)
    done = world.ended(world.create(lines, endpoint="/v1/embeddings"))
    answers = [line["response"]["body"]["model"] for line in world.lines(done.output_file_id)]
    assert answers == [world.model, f"org/{world.model}", world.model], answers


@operation
def every_endpoint(world: World) -> None:
    bodies = {
        "/v1/responses": {"input": "hi"},
        "/v1/completions": {"prompt": "hi"},
        "/v1/embeddings": {"input": "hi"},
        "/v1/moderations": {"input": "hi"},
    }
    for endpoint, body in bodies.items():
        line = world.line("a", url=endpoint, body={"model": world.model, **body})
        done = world.ended(world.create(line, endpoint=endpoint))
        assert (done.status, done.request_counts.completed) == ("completed", 1), done


@operation
def raw_response(world: World) -> None:
    raw = world.client.batches.with_raw_response.retrieve(world.finished.id)
    assert raw.headers["x-request-id"], raw.headers
    assert raw.headers["content-type"] == "application/json", raw.headers
    assert raw.parse().id == world.finished.id


@operation
def asynchronous(world: World) -> None:
    async def run() -> None:
        async with AsyncOpenAI(api_key=world.key, base_url=f"{world.url}/v1") as client:
            file = await client.files.create(file=("a.jsonl", world.chat(1)), purpose="batch")
            batch = await client.batches.create(
                input_file_id=file.id, endpoint=CHAT, completion_window="24h"
            )
            assert (await client.batches.retrieve(batch.id)).id == batch.id
            assert batch.id in [each.id async for each in client.batches.list(limit=5)]

    asyncio.run(run())


def _said(line: dict) -> str:
    return str(line["response"]["body"]["choices"][0]["message"]["content"])
