"""Errors: the SDK's class, the status, and a body that says what is wrong."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from mistral_python.harness import World, chat, chat_body, refused, slow_chat
from operations import operation


@operation
def wrong_key(world: World) -> None:
    intruder = world.client_for("bm_wrong")
    refused(401, intruder.batch.jobs.list)
    refused(401, intruder.files.list)
    refused(401, intruder.models.list)
    refused(401, intruder.files.upload, file={"file_name": "a.jsonl", "content": chat(1)})
    refused(401, _create, intruder, world, input_files=[str(uuid4())])


@operation
def another_tenant(world: World) -> None:
    job, file, jobs = world.finished, world.finished.output_file, world.stranger.batch.jobs
    refused(404, jobs.get, job_id=job.id)
    refused(404, jobs.cancel, job_id=job.id)
    refused(404, world.stranger.files.retrieve, file_id=file)
    refused(404, world.stranger.files.download, file_id=file)
    refused(404, world.stranger.files.delete, file_id=file)
    refused(404, _create, world.stranger, world, input_files=job.input_files)
    assert not world.stranger.batch.jobs.list().data
    assert not world.stranger.files.list().data


@operation
def unknown_file(world: World) -> None:
    for unknown in (str(uuid4()), "no-uuid", "naïve 数据"):
        refused(404, world.client.files.retrieve, file_id=unknown)
        refused(404, world.client.files.download, file_id=unknown)
        refused(404, world.client.files.delete, file_id=unknown)


@operation
def unknown_job(world: World) -> None:
    for unknown in (str(uuid4()), "no-uuid", "naïve 数据"):
        refused(404, world.client.batch.jobs.get, job_id=unknown)
        refused(404, world.client.batch.jobs.cancel, job_id=unknown)


@operation
def unknown_input_file(world: World) -> None:
    refused(404, _create, world.client, world, input_files=[str(uuid4())])


@operation
def no_input_files(world: World) -> None:
    refused(422, _create, world.client, world, input_files=[])


@operation(since="1.10.1")
def neither_files_nor_requests(world: World) -> None:
    refused(422, _create, world.client, world)


@operation(since="1.10.1")
def both_files_and_requests(world: World) -> None:
    requests = [{"custom_id": "a", "body": chat_body(0)}]
    file = world.upload(chat(1))
    refused(422, _create, world.client, world, input_files=[file], requests=requests)


@operation(since="1.9.3")
def agent_id(world: World) -> None:
    file = world.upload(chat(1))
    refused(422, _create, world.client, world, input_files=[file], agent_id="ag_1")


@operation(since="1.9.3")
def no_model(world: World) -> None:
    file = world.upload(chat(1))
    refused(422, _create, world.client, world, input_files=[file], model=None)


@operation
def unknown_model(world: World) -> None:
    file = world.upload(chat(1))
    error = refused(422, _create, world.client, world, input_files=[file], model="no-such-model")
    assert "no-such-model" in error.body, error.body


@operation(since="1.6.0")
def unknown_endpoint(world: World) -> None:
    file = world.upload(chat(1))
    refused(422, _create, world.client, world, input_files=[file], endpoint="/v1/nothing")


@operation
def timeout_out_of_range(world: World) -> None:
    file = world.upload(chat(1))
    for hours in (0, -1, 169):
        refused(422, _create, world.client, world, input_files=[file], timeout_hours=hours)


@operation
def metadata_too_long(world: World) -> None:
    file = world.upload(chat(1))
    for metadata in ({"k" * 33: "v"}, {"k": "v" * 513}, {"": "v"}):
        refused(422, _create, world.client, world, input_files=[file], metadata=metadata)


@operation
def file_in_use(world: World) -> None:
    job = world.create(slow_chat(4))
    error = refused(409, world.client.files.delete, file_id=job.input_files[0])
    assert error.raw_response.headers["x-should-retry"] == "false", error
    world.client.batch.jobs.cancel(job_id=job.id)


@operation
def upload_of_no_lines(world: World) -> None:
    for content in (b"", b"hello\n", b"[1, 2]\n", b"\xff\xfe\x00"):
        file = {"file_name": "bad.jsonl", "content": content}
        refused(400, world.client.files.upload, file=file, purpose="batch")


@operation
def impossible_pages(world: World) -> None:
    refused(422, world.client.batch.jobs.list, page=-1)
    refused(422, world.client.files.list, page_size=-1)


def _create(client: Any, world: World, **options: Any) -> Any:
    given = {"endpoint": "/v1/chat/completions", "model": world.model} | options
    return client.batch.jobs.create(**given)
