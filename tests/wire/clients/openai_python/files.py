"""Operations of the Files API."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

from openai import ConflictError
from openai_python.harness import CHAT, World, custom_id, refused
from operations import operation


@operation
def upload(world: World) -> None:
    data = world.chat(2)
    file = world.client.files.create(file=("lines.jsonl", data), purpose="batch")
    assert (file.object, file.purpose, file.bytes) == ("file", "batch", len(data)), file
    assert (file.filename, file.status) == ("lines.jsonl", "processed"), file


@operation
def upload_in_every_form(world: World) -> None:
    data = world.chat(2)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "größe 数据.jsonl"
        path.write_bytes(data)
        with path.open("rb") as opened:
            for given, name in (
                (path, path.name),
                (opened, path.name),
                (data, "upload"),
                (io.BytesIO(data), "upload"),
            ):
                file = world.client.files.create(file=given, purpose="batch")
                assert (file.filename, file.bytes) == (name, len(data)), file


@operation
def list_(world: World) -> None:
    ids = [world.upload(world.chat(1)) for _ in range(3)]
    listed = [file.id for file in world.client.files.list()]
    assert set(ids) <= set(listed), listed
    assert len(listed) == len(set(listed)), listed
    batch = [file.purpose for file in world.client.files.list(purpose="batch")]
    assert set(batch) == {"batch"}, batch
    output = [file.id for file in world.client.files.list(purpose="batch_output")]
    assert ids[0] not in output, output


@operation(since="1.50.0")
def list_in_pages(world: World) -> None:
    ids = [world.upload(world.chat(1)) for _ in range(5)]
    listed = [file.id for file in world.client.files.list(limit=2, order="desc")]
    assert listed[:5] == ids[::-1], listed
    assert len(listed) == len(set(listed)), listed


@operation
def retrieve(world: World) -> None:
    made = world.upload(world.chat(2), "größe.jsonl")
    file = world.client.files.retrieve(made)
    assert (file.id, file.object, file.filename) == (made, "file", "größe.jsonl"), file


@operation
def wait_for_processing(world: World) -> None:
    made = world.upload(world.chat(1))
    assert world.client.files.wait_for_processing(made, max_wait_seconds=1).id == made


@operation
def delete(world: World) -> None:
    made = world.upload(world.chat(1))
    gone = world.client.files.delete(made)
    assert (gone.id, gone.object, gone.deleted) == (made, "file", True), gone
    assert made not in [file.id for file in world.client.files.list()]


@operation
def delete_one_in_use(world: World) -> None:
    batch = world.create(world.slow_chat(2))
    refused(ConflictError, None, None, world.client.files.delete, batch.input_file_id)
    world.client.batches.cancel(batch.id)


@operation
def content(world: World) -> None:
    data = world.chat(3)
    got = world.client.files.content(world.upload(data))
    assert got.read() == data
    assert got.text == data.decode()
    assert b"".join(got.iter_bytes(7)) == data


@operation
def content_streamed_to_disk(world: World) -> None:
    streaming = world.client.files.with_streaming_response
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out.jsonl"
        with streaming.content(world.finished.output_file_id) as response:
            response.stream_to_file(path)
        assert path.read_bytes().count(b"\n") == 3


@operation
def content_by_lines(world: World) -> None:
    """Result files are ASCII, so that no client splits them where a character looks like an end."""
    text = world.client.files.content(world.finished.output_file_id).text
    assert text.isascii()
    assert len(text.splitlines()) == 3
    lines = world.lines(world.finished.output_file_id)
    assert [line["custom_id"] for line in lines] == [custom_id(n) for n in range(3)]


@operation
def other_forms_of_ids(world: World) -> None:
    made = world.upload(world.chat(1))
    bare = made.replace("-", "")
    for form in (f"file-{bare}", bare):
        assert world.client.files.retrieve(form).id == made
        batch = world.client.batches.create(
            input_file_id=form, endpoint=CHAT, completion_window="24h"
        )
        assert batch.input_file_id == made, batch
