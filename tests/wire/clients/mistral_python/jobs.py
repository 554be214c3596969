"""Operations of the Batch Jobs API: create, get, inline outputs, cancel, delete."""

from __future__ import annotations

import json
import time
from typing import Any

from mistral_python.harness import (
    World,
    chat,
    chat_body,
    constant,
    custom_id,
    is_uuid,
    refused,
    refused_chat,
    slow_chat,
)
from operations import operation


@operation
def create_from_file(world: World) -> None:
    file = world.upload(chat(4))
    job = world.client.batch.jobs.create(
        input_files=[file],
        endpoint="/v1/chat/completions",
        model=world.model,
        metadata={"job_type": "testing", "Größe": "数据"},
        timeout_hours=1,
    )
    assert is_uuid(job.id), job
    assert (constant(job, "object"), job.input_files) == ("batch", [file]), job
    assert job.status in {"QUEUED", "RUNNING", "SUCCESS"}, job
    assert job.total_requests == 4, job
    assert (job.endpoint, job.model) == ("/v1/chat/completions", world.model), job
    assert job.metadata == {"job_type": "testing", "Größe": "数据"}, job
    assert abs(job.created_at - time.time()) < 60, job
    assert job.errors == [], job
    if job.status == "QUEUED":
        # `is None`: 2.x and 3.x show a field that was not sent as a sentinel
        assert job.output_file is None, job
        assert job.error_file is None, job
        assert job.started_at is None, job
        assert job.completed_at is None, job
    done = world.ended(job)
    assert done.status == "SUCCESS", done
    assert (done.total_requests, done.completed_requests) == (4, 4), done
    assert (done.succeeded_requests, done.failed_requests) == (4, 0), done
    assert done.created_at <= done.started_at <= done.completed_at, done
    assert done.error_file is None, done
    assert [line["custom_id"] for line in world.lines(done.output_file)] == [
        custom_id(n) for n in range(4)
    ]


@operation
def create_from_files(world: World) -> None:
    files = [
        world.upload(chat(2)),
        world.upload(chat(3, start=2).rstrip(b"\n")),
        world.upload(chat(1, start=5)),
    ]
    job = world.client.batch.jobs.create(
        input_files=files, endpoint="/v1/chat/completions", model=world.model
    )
    assert (job.input_files, job.total_requests) == (files, 6), job
    done = world.ended(job)
    assert [line["custom_id"] for line in world.lines(done.output_file)] == [
        custom_id(n) for n in range(6)
    ]


@operation
def create_from_loose_lines(world: World) -> None:
    """Blank lines, CRLF, a byte order mark and a missing last newline are fine."""
    data = b"\xef\xbb\xbf\n" + chat(3).replace(b"\n", b"\r\n\r\n").rstrip()
    job = world.create(data)
    assert job.total_requests == 3, job
    assert world.ended(job).succeeded_requests == 3


@operation(since="1.10.1")
def create_inline(world: World) -> None:
    job = world.client.batch.jobs.create(
        requests=_requests(3), endpoint="/v1/chat/completions", model=world.model
    )
    assert (job.input_files, job.total_requests) == ([], 3), job
    done = world.ended(job)
    assert done.status == "SUCCESS", done
    assert [line["custom_id"] for line in done.outputs] == [custom_id(n) for n in range(3)], done
    assert all(line["response"]["body"]["choices"] for line in done.outputs), done
    assert world.lines(done.output_file) == done.outputs


@operation(since="1.10.1")
def create_inline_without_ids(world: World) -> None:
    requests = [{"body": chat_body(0)}, {"body": chat_body(1), "custom_id": None}]
    job = world.client.batch.jobs.create(
        requests=requests, endpoint="/v1/chat/completions", model=world.model
    )
    assert [line["custom_id"] for line in world.ended(job).outputs] == ["0", "1"]


@operation(since="1.10.1")
def create_with_nulls(world: World) -> None:
    job = world.client.batch.jobs.create(
        input_files=[world.upload(chat(1))],
        requests=None,
        endpoint="/v1/chat/completions",
        model=world.model,
        agent_id=None,
        metadata=None,
    )
    assert not job.metadata, job
    assert world.ended(job).status == "SUCCESS"


@operation(since="1.10.1")
def create_inline_with_nulls(world: World) -> None:
    job = world.client.batch.jobs.create(
        input_files=None,
        requests=_requests(1),
        endpoint="/v1/chat/completions",
        model=world.model,
        agent_id=None,
        metadata=None,
    )
    assert world.ended(job).status == "SUCCESS"


@operation
def create_with_model_in_the_body_alone(world: World) -> None:
    lines = [{"custom_id": "a", "body": chat_body(0) | {"model": world.model}}]
    job = world.client.batch.jobs.create(
        input_files=[world.upload(json.dumps(lines[0]).encode())],
        endpoint="/v1/chat/completions",
        model=world.model,
    )
    done = world.ended(job)
    assert (done.status, done.model) == ("SUCCESS", world.model), done


@operation(since="1.5.0")
def create_with_headers(world: World) -> None:
    """The SDK refuses arguments it does not know; headers carry our own."""
    headers = {"x-batchmill-priority": "5", "x-batchmill-on-invalid": "quarantine"}
    job = world.ended(world.create(chat(1) + b'{"custom_id": "x"}\n', http_headers=headers))
    assert (job.status, job.succeeded_requests, job.failed_requests) == ("SUCCESS", 1, 1), job
    (line,) = world.lines(job.error_file)
    assert (line["custom_id"], line["response"]) == ("x", None), line
    assert line["error"]["message"], line


@operation
def get(world: World) -> None:
    job = world.client.batch.jobs.get(job_id=world.finished.id)
    assert (job.id, constant(job, "object"), job.status) == (
        world.finished.id,
        "batch",
        "SUCCESS",
    ), job
    assert job.metadata == {"which": "finished"}, job
    assert (job.total_requests, job.succeeded_requests) == (3, 3), job


@operation(since="1.10.1")
def get_outputs_inline(world: World) -> None:
    job = world.client.batch.jobs.get(job_id=world.finished.id, inline=True)
    assert job.outputs == world.lines(job.output_file), job
    plain = world.client.batch.jobs.get(job_id=world.finished.id, inline=False)
    assert plain.outputs is None, plain


@operation
def result_lines(world: World) -> None:
    content = world.content(world.finished.output_file)
    assert content.isascii(), content
    assert content.endswith(b"\n"), content
    lines = world.lines(world.finished.output_file)
    assert [line["custom_id"] for line in lines] == [custom_id(n) for n in range(3)], lines
    assert len({line["id"] for line in lines}) == 3, lines
    for line in lines:
        assert line["error"] is None, line
        assert line["response"]["status_code"] == 200, line
        assert line["response"]["body"]["choices"][0]["message"]["content"], line
        assert line["response"]["body"]["usage"]["total_tokens"] > 0, line


@operation
def failed_lines(world: World) -> None:
    """A line that the engine refuses fails alone, and its job succeeds."""
    job = world.ended(world.create(chat(2) + refused_chat("bad") + chat(1, start=2)))
    assert job.status == "SUCCESS", job
    assert (job.succeeded_requests, job.failed_requests, job.completed_requests) == (3, 1, 4), job
    assert len(world.lines(job.output_file)) == 3
    (line,) = world.lines(job.error_file)
    assert line["custom_id"] == "bad", line
    assert line["response"]["status_code"] == line["error"]["status_code"] >= 400, line
    assert isinstance(line["error"]["message"], str), line
    assert {"type", "code"} <= set(line["error"]), line


@operation
def nothing_but_failed_lines(world: World) -> None:
    job = world.ended(world.create(refused_chat("bad")))
    assert (job.status, job.failed_requests, job.output_file) == ("SUCCESS", 1, None), job
    assert len(world.lines(job.error_file)) == 1


@operation
def bad_file(world: World) -> None:
    job = world.ended(world.create(chat(2) + b'{"custom_id": "x"}\n{"custom_id": "y"}\n'))
    assert job.status == "FAILED", job
    assert job.errors, job
    assert sum(error.count for error in job.errors) == 2, job
    assert all("3" in error.message for error in job.errors), job
    assert (job.output_file, job.error_file) == (None, None), job
    assert job.completed_at is not None, job


@operation
def cancel(world: World) -> None:
    job = world.create(slow_chat(4))
    stopped = world.client.batch.jobs.cancel(job_id=job.id)
    assert stopped.id == job.id, stopped
    assert stopped.status in {"CANCELLATION_REQUESTED", "CANCELLED"}, stopped
    done = world.ended(job)
    assert done.status == "CANCELLED", done
    assert done.completed_at is not None, done
    again = world.client.batch.jobs.cancel(job_id=job.id)
    assert again.status == "CANCELLED", again


@operation
def cancel_while_running(world: World) -> None:
    """What was answered is kept, the rest are error lines."""
    job = world.create(chat(5) + slow_chat(3))
    world.reached(job, 5)
    world.client.batch.jobs.cancel(job_id=job.id)
    done = world.ended(job)
    assert (done.status, done.total_requests, done.completed_requests) == ("CANCELLED", 8, 8), done
    assert (done.succeeded_requests, done.failed_requests) == (5, 3), done
    kept, lost = world.lines(done.output_file), world.lines(done.error_file)
    assert [line["custom_id"] for line in kept] == [custom_id(n) for n in range(5)], kept
    assert [line["custom_id"] for line in lost] == [f"slow-{n}" for n in range(3)], lost
    assert {line["error"]["code"] for line in lost} == {"cancelled"}, lost


@operation
def cancel_finished(world: World) -> None:
    refused(409, world.client.batch.jobs.cancel, job_id=world.finished.id)


@operation(since="2.2.0")
def delete(world: World) -> None:
    job = world.ended(world.create(chat(1)))
    gone = world.client.batch.jobs.delete(job_id=job.id)
    assert (gone.id, constant(gone, "object"), gone.deleted) == (job.id, "batch", True), gone
    refused(404, world.client.batch.jobs.get, job_id=job.id)
    refused(404, world.client.batch.jobs.delete, job_id=job.id)
    assert len(world.lines(job.output_file)) == 1


@operation(since="2.2.0")
def delete_unfinished(world: World) -> None:
    job = world.create(slow_chat(4))
    assert world.client.batch.jobs.delete(job_id=job.id).deleted is True
    refused(404, world.client.batch.jobs.get, job_id=job.id)


def _requests(count: int) -> list[dict[str, Any]]:
    return [{"custom_id": custom_id(n), "body": chat_body(n)} for n in range(count)]
