"""Operations of the Files API."""

from __future__ import annotations

import json
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from mistral_python.harness import LARGE, World, chat, custom_id, is_uuid, refused
from operations import operation


@operation
def upload_bytes(world: World) -> None:
    data = chat(3)
    file = world.client.files.upload(
        file={"file_name": "bytes.jsonl", "content": data}, purpose="batch"
    )
    assert is_uuid(file.id), file
    assert file.object == "file", file
    assert _size(file) == len(data), file
    assert abs(file.created_at - time.time()) < 60, file
    assert (file.filename, file.purpose) == ("bytes.jsonl", "batch"), file
    assert (file.sample_type, file.source) == ("batch_request", "upload"), file
    assert file.num_lines == 3, file


@operation
def upload_file_object(world: World) -> None:
    data = chat(50)
    with tempfile.NamedTemporaryFile() as kept:
        Path(kept.name).write_bytes(data)
        opened = Path(kept.name).open("rb")  # noqa: SIM115 - the SDK closes it
        file = world.client.files.upload(
            file={"file_name": "opened.jsonl", "content": opened, "content_type": "text/plain"},
            purpose="batch",
        )
    assert _size(file) == len(data), file
    assert world.content(file.id) == data


@operation
def upload_large(world: World) -> None:
    data = chat(20_000)
    file = world.client.files.upload(
        file={"file_name": "large.jsonl", "content": data}, purpose="batch"
    )
    assert (_size(file), file.num_lines) == (len(data), 20_000), file
    assert world.content(file.id) == data


@operation
def upload_unicode_name(world: World) -> None:
    for name in ("données 数据 🐋.jsonl", "a;b=c.jsonl", "x" * 200 + ".jsonl"):
        file = world.client.files.upload(
            file={"file_name": name, "content": chat(1)}, purpose="batch"
        )
        assert world.client.files.retrieve(file_id=file.id).filename == file.filename
        assert file.filename == name, file


@operation
def upload_without_purpose(world: World) -> None:
    file = world.client.files.upload(file={"file_name": "plain.jsonl", "content": chat(1)})
    assert file.purpose == "batch", file


@operation
def upload_for_other_purposes(world: World) -> None:
    for purpose in ("fine-tune", "ocr"):
        file = world.client.files.upload(
            file={"file_name": "page.pdf", "content": b"%PDF-1.7 \xff\x00"}, purpose=purpose
        )
        assert file.purpose == purpose, file
        assert world.content(file.id) == b"%PDF-1.7 \xff\x00"


@operation(since="2.0.0")
def upload_with_expiry(world: World) -> None:
    file = world.client.files.upload(
        file={"file_name": "brief.jsonl", "content": chat(1)},
        purpose="batch",
        expiry=2,
        visibility="user",
    )
    assert abs(file.expires_at - time.time() - 2 * 3600) < 60, file
    assert file.visibility == "user", file


@operation
def list_(world: World) -> None:
    first, second = (world.upload(chat(1)) for _ in range(2))
    listed = world.client.files.list()
    assert listed.object == "list", listed
    ids = [file.id for file in listed.data]
    assert {first, second} <= set(ids), ids
    assert listed.total >= len(ids), listed.total
    times = [file.created_at for file in listed.data]
    assert times == sorted(times, reverse=True), times


@operation
def list_pages(world: World) -> None:
    word = world.mark()
    made = {world.upload(chat(1), f"{word}-{n}.jsonl") for n in range(3)}
    pages = [world.client.files.list(search=word, page=n, page_size=2) for n in range(3)]
    assert [page.total for page in pages] == [3, 3, 3], pages
    assert [len(page.data) for page in pages] == [2, 1, 0], pages
    assert {file.id for page in pages for file in page.data} == made


@operation
def list_by_search(world: World) -> None:
    word = world.mark()
    wanted = world.upload(chat(1), f"début {word} 100%_x.jsonl")
    world.upload(chat(1), "other.jsonl")
    assert _listed(world, search=word) == [wanted]
    assert _listed(world, search=f"{word} 100%_x") == [wanted]
    assert _listed(world, search="no such name") == []


@operation
def list_by_purpose(world: World) -> None:
    batch = world.upload(chat(1))
    other = world.client.files.upload(
        file={"file_name": "page.pdf", "content": b"%PDF"}, purpose="ocr"
    ).id
    assert batch in _listed(world, purpose="batch")
    assert other not in _listed(world, purpose="batch")
    assert other in _listed(world, purpose="ocr")


@operation
def list_by_sample_type(world: World) -> None:
    job = world.finished
    assert job.output_file in _listed(world, sample_type=["batch_result"])
    assert job.input_files[0] not in _listed(world, sample_type=["batch_result"])
    both = _listed(world, sample_type=["batch_result", "batch_request"])
    assert {job.output_file, job.input_files[0]} <= set(both), both
    assert job.output_file in _listed(world, sample_type=["batch_result"], purpose="batch")


@operation
def list_by_source(world: World) -> None:
    job = world.finished
    assert job.output_file in _listed(world, source=["mistral"])
    assert job.output_file not in _listed(world, source=["upload"])
    assert job.input_files[0] in _listed(world, source=["upload", "repository"])


@operation(since="1.12.0")
def list_by_mimetypes(world: World) -> None:
    file = world.upload(chat(1))
    mimetype = world.client.files.retrieve(file_id=file).mimetype
    assert mimetype == "application/jsonl", mimetype
    assert file in _listed(world, mimetypes=["image/png", mimetype])
    assert file not in _listed(world, mimetypes=["image/png"])


@operation(since="1.10.0")
def list_without_total(world: World) -> None:
    file = world.upload(chat(1))
    listed = world.client.files.list(include_total=False)
    assert file in [file.id for file in listed.data]


@operation
def retrieve(world: World) -> None:
    uploaded = world.client.files.upload(
        file={"file_name": "one.jsonl", "content": chat(1)}, purpose="batch"
    )
    file = world.client.files.retrieve(file_id=uploaded.id)
    assert file.deleted is False, file
    for name in ("id", "object", "created_at", "filename", "purpose", "num_lines", "source"):
        assert getattr(file, name) == getattr(uploaded, name), name
    result = world.client.files.retrieve(file_id=world.finished.output_file)
    assert (result.sample_type, result.source, result.num_lines) == ("batch_result", "mistral", 3)
    assert _size(result) == len(world.content(result.id)), result


@operation
def download(world: World) -> None:
    data = chat(100)
    answer = world.client.files.download(file_id=world.upload(data))
    assert answer.status_code == 200, answer
    assert answer.headers["content-type"].startswith("application/octet-stream"), answer.headers
    assert "content-encoding" not in answer.headers, answer.headers
    assert answer.read() == data


@operation
def download_raw_stream(world: World) -> None:
    """As Mistral's sample does: every network chunk is decoded by itself."""
    chunks = list(world.client.files.download(file_id=world.large.output_file).stream)
    assert len(chunks) > 1, "this result should come in several chunks"
    _is_large("".join(chunk.decode("utf-8") for chunk in chunks).split("\n"))


@operation
def download_one_byte_chunks(world: World) -> None:
    answer = world.client.files.download(file_id=world.large.output_file)
    _is_large("".join(chunk.decode("utf-8") for chunk in answer.iter_raw(1)).split("\n"))


@operation
def download_lines(world: World) -> None:
    """httpx splits lines at U+2028, U+2029 and U+0085 too."""
    answer = world.client.files.download(file_id=world.large.output_file)
    _is_large([*answer.iter_lines(), ""])


@operation(since="1.2.5")
def get_signed_url(world: World) -> None:
    data = chat(10)
    for options in ({}, {"expiry": 1}, {"expiry": 168}):
        url = world.client.files.get_signed_url(file_id=world.upload(data), **options).url
        with urllib.request.urlopen(url) as answer:
            assert answer.read() == data
    result = world.client.files.get_signed_url(file_id=world.finished.output_file).url
    with urllib.request.urlopen(result) as answer:
        assert answer.read() == world.content(world.finished.output_file)


@operation(since="1.2.5")
def get_signed_url_refuses_expiry(world: World) -> None:
    file = world.upload(chat(1))
    for hours in (0, 169):
        refused(422, world.client.files.get_signed_url, file_id=file, expiry=hours)


@operation
def delete(world: World) -> None:
    file = world.upload(chat(1))
    gone = world.client.files.delete(file_id=file)
    assert (gone.id, gone.object, gone.deleted) == (file, "file", True), gone
    refused(404, world.client.files.retrieve, file_id=file)
    refused(404, world.client.files.delete, file_id=file)
    assert file not in _listed(world)


@operation
def delete_result(world: World) -> None:
    job = world.ended(world.create(chat(1)))
    assert world.client.files.delete(file_id=job.output_file).deleted is True
    refused(404, world.client.files.retrieve, file_id=job.output_file)
    assert world.client.batch.jobs.get(job_id=job.id).output_file == job.output_file


def _listed(world: World, **filters: Any) -> Any:
    return [file.id for file in world.client.files.list(**filters).data]


def _size(file: Any) -> int:
    """1.4 renamed `bytes`."""
    return int(getattr(file, "size_bytes", None) or file.bytes)


def _is_large(lines: Any) -> None:
    """These are the lines of the large result; the last one ends with a line break."""
    *lines, last = lines
    assert last == "", last
    assert [json.loads(line)["custom_id"] for line in lines] == [custom_id(n) for n in range(LARGE)]
