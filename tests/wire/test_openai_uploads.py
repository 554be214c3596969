"""OpenAI's own Python SDK, newest release, against a live server: files, and uploads in parts."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.serving import Serve, chat_lines, serving
from tests.wire.conftest import make_key, missing

MIB = 1024 * 1024
LIMIT_BYTES = 100_000_000
GOOD = chat_lines(50)


class Tenant:
    """A server, a key, and the SDK's client with it."""

    def __init__(self, serve: Serve, key: str) -> None:
        self.serve, self.key = serve, key
        self.base = f"http://127.0.0.1:{serve.port}/v1"

    def client(self, key: str | None = None) -> openai.OpenAI:
        return openai.OpenAI(base_url=self.base, api_key=key or self.key)

    def api_peak_bytes(self) -> int:
        """The most memory that the API process ever had."""
        pid = self.serve.child("api")
        assert pid is not None
        status = Path(f"/proc/{pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024


@pytest.fixture(scope="module")
def tenant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenant]:
    data = tmp_path_factory.mktemp("uploads") / "data"
    key = make_key(data, "somebody")
    limit = {"BATCHMILL_MAX_FILE_SIZE": f"{LIMIT_BYTES}"}
    with serving(data, "--engine", "sim", **limit) as serve:
        yield Tenant(serve, key)


@pytest.fixture
def client(tenant: Tenant) -> Iterator[openai.OpenAI]:
    with tenant.client() as opened:
        yield opened


def large(size_bytes: int) -> bytes:
    """Good lines of that many bytes in all, the last padded."""
    line = chat_lines(1, "x" * 5000)
    lines = line * (size_bytes // len(line))
    return lines + b" " * (size_bytes - len(lines) - 1) + b"\n"


def test_a_large_file_goes_up_in_parts_of_64_mib(
    tenant: Tenant, client: openai.OpenAI, tmp_path: Path
) -> None:
    content = large(90 * 1_000_000)
    path = tmp_path / "large.jsonl"
    path.write_bytes(content)
    client.files.create(file=("small.jsonl", GOOD), purpose="batch")
    before = tenant.api_peak_bytes()
    upload = client.uploads.upload_file_chunked(
        file=path,
        mime_type="application/jsonl",
        purpose="batch",
        md5=hashlib.md5(content).hexdigest(),
    )
    grown = tenant.api_peak_bytes() - before
    assert (upload.status, upload.bytes) == ("completed", len(content))
    assert upload.file is not None
    assert (upload.file.bytes, upload.file.status) == (len(content), "processed")
    assert upload.file.filename == "large.jsonl"
    assert client.files.content(upload.file.id).read() == content
    print(f"memory of the API grew by {grown / MIB:.0f} MiB for a file of 90 MB in parts")
    assert grown < 40 * MIB


async def test_parts_go_up_side_by_side(tenant: Tenant) -> None:
    content = large(4_000_000)
    pieces = [content[at : at + 100_000] for at in range(0, len(content), 100_000)]
    async with openai.AsyncOpenAI(base_url=tenant.base, api_key=tenant.key) as client:
        upload = await client.uploads.create(
            bytes=len(content), filename="a b ü.jsonl", mime_type="text/plain", purpose="batch"
        )
        assert (upload.status, upload.object, upload.file) == ("pending", "upload", None)
        assert upload.expires_at - upload.created_at == 3600
        parts = await asyncio.gather(
            *[client.uploads.parts.create(upload.id, data=piece) for piece in pieces]
        )
        assert {part.upload_id for part in parts} == {upload.id}
        done = await client.uploads.complete(upload.id, part_ids=[part.id for part in parts])
        assert done.file is not None
        assert done.file.filename == "a b ü.jsonl"
        found = await client.files.retrieve(done.file.id)
        assert found.bytes == len(content)
        read = await client.files.content(done.file.id)
        assert read.read() == content


def test_an_upload_that_was_cancelled_takes_nothing_and_is_tried_once(
    client: openai.OpenAI,
) -> None:
    upload = client.uploads.create(
        bytes=10, filename="a.jsonl", mime_type="text/plain", purpose="batch"
    )
    assert client.uploads.cancel(upload.id).status == "cancelled"
    for attempt in (
        lambda: client.uploads.parts.create(upload.id, data=b"{}\n"),
        lambda: client.uploads.complete(upload.id, part_ids=["part_1"]),
    ):
        with pytest.raises(openai.ConflictError) as refused:
            attempt()
        assert refused.value.response.request.headers["x-stainless-retry-count"] == "0"
        assert refused.value.response.headers["x-should-retry"] == "false"


def test_a_part_over_64_mib_is_refused(client: openai.OpenAI) -> None:
    upload = client.uploads.create(
        bytes=80 * MIB, filename="a.jsonl", mime_type="text/plain", purpose="batch"
    )
    with pytest.raises(openai.APIStatusError) as refused:
        client.uploads.parts.create(upload.id, data=b" " * (64 * MIB + 1))
    assert (refused.value.status_code, refused.value.param) == (413, "data")
    assert client.uploads.cancel(upload.id).status == "cancelled"


def test_a_wrong_checksum_and_missing_bytes_are_bad_requests(client: openai.OpenAI) -> None:
    upload = client.uploads.create(
        bytes=len(GOOD), filename="a.jsonl", mime_type="text/plain", purpose="batch"
    )
    part = client.uploads.parts.create(upload.id, data=GOOD)
    short = client.uploads.parts.create(upload.id, data=GOOD[:-1])
    for given, param in (
        ({"part_ids": [part.id], "md5": "0" * 32}, "md5"),
        ({"part_ids": [short.id]}, "part_ids"),
        ({"part_ids": [part.id, short.id]}, "part_ids"),
    ):
        with pytest.raises(openai.BadRequestError) as refused:
            client.uploads.complete(upload.id, **given)
        assert refused.value.param == param
    assert client.uploads.complete(upload.id, part_ids=[part.id]).status == "completed"


def test_a_file_is_what_the_sdk_takes_it_for(client: openai.OpenAI) -> None:
    file = client.files.create(
        file=("data set.jsonl", GOOD),
        purpose="batch",
        expires_after={"anchor": "created_at", "seconds": 3600},
    )
    assert (file.object, file.purpose, file.bytes) == ("file", "batch", len(GOOD))
    assert (file.filename, file.status) == ("data set.jsonl", "processed")
    assert file.expires_at == file.created_at + 3600
    assert abs(file.created_at - time.time()) < 60
    assert client.files.wait_for_processing(file.id, max_wait_seconds=10).id == file.id
    assert client.files.content(file.id).text == GOOD.decode()
    deleted = client.files.delete(file.id)
    assert (deleted.id, deleted.object, deleted.deleted) == (file.id, "file", True)
    with pytest.raises(openai.NotFoundError) as gone:
        client.files.retrieve(file.id)
    assert gone.value.param == "id"
    assert file.id not in {each.id for each in client.files.list()}


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"anchor": "created_at", "seconds": 3599}, "expires_after[seconds]"),
        ({"anchor": "created_at", "seconds": 2_592_001}, "expires_after[seconds]"),
        ({"anchor": "now", "seconds": 3600}, "expires_after[anchor]"),
        ({"seconds": 3600}, "expires_after[anchor]"),
        ({"anchor": "created_at"}, "expires_after[seconds]"),
    ],
)
def test_an_expiry_that_cannot_be_is_a_bad_request(
    client: openai.OpenAI, given: dict[str, object], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.files.create(file=("a.jsonl", GOOD), purpose="batch", expires_after=given)
    assert refused.value.param == param


def test_files_page_by_the_last_id_seen(tenant: Tenant) -> None:
    with tenant.client(make_key(tenant.serve.data, "pager")) as client:
        made = [
            client.files.create(file=(f"{n}.jsonl", GOOD), purpose="batch").id for n in range(25)
        ]
        other = client.files.create(file=("x.png", b"png"), purpose="vision").id
        first = client.files.list(limit=10)
        assert [file.id for file in first.data] == [other, *made[:-10:-1]]
        assert first.has_more
        assert (first.first_id, first.last_id) == (other, first.data[-1].id)
        assert [file.id for file in client.files.list(limit=10)] == [other, *made[::-1]]
        assert [
            file.id for file in client.files.list(limit=7, order="asc", purpose="batch")
        ] == made
        assert [file.id for file in client.files.list(purpose="vision")] == [other]
        last = client.files.list(after=made[0])
        assert (last.data, last.has_more) == ([], False)
        assert client.files.list(after="file-unknown").data == []
        for limit in (0, 10_001):
            with pytest.raises(openai.APIStatusError) as refused:
                client.files.list(limit=limit)
            assert refused.value.status_code in {400, 422}


def test_a_large_upload_that_is_refused_early_says_why(tenant: Tenant) -> None:
    content = b"{}\n" + b" " * (LIMIT_BYTES + 10_000_000)
    with tenant.client() as client, pytest.raises(openai.APIStatusError) as large:
        client.files.create(file=("a.jsonl", content), purpose="batch")
    assert (large.value.status_code, large.value.code) == (413, "file_too_large")
    with tenant.client("wrong") as client, pytest.raises(openai.AuthenticationError) as stranger:
        client.files.create(file=("a.jsonl", content[:60_000_000]), purpose="batch")
    assert stranger.value.code == "invalid_api_key"


NODE = """
const [base, size, how] = process.argv.slice(1);
const body = Buffer.alloc(Number(size), 32);
const form = 'multipart/form-data; boundary=b';
const headers = { authorization: 'Bearer wrong', 'content-type': form };
if (how === 'fetch') {
  const reply = await fetch(base + '/files', { method: 'POST', headers, body });
  console.log(reply.status, (await reply.json()).error.code);
} else {
  const http = await import('node:http');
  const request = http.request(base + '/files', { method: 'POST', headers });
  request.on('response', async (reply) => {
    let text = '';
    for await (const piece of reply) text += piece;
    console.log(reply.statusCode, JSON.parse(text).error.code);
  });
  request.on('error', (error) => console.log('error', error.code));
  for (let at = 0; at < body.length; at += 65536) {
    if (!request.write(body.subarray(at, at + 65536))) {
      await new Promise((resolve) => request.once('drain', resolve));
    }
  }
  request.end();
}
"""


@pytest.mark.parametrize("how", ["fetch", "http"])
def test_node_reads_an_early_refusal_of_60_mb(tenant: Tenant, how: str) -> None:
    command = ["node", "--input-type=module", "-e", NODE, tenant.base, "60000000", how]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        missing("node is missing: an early refusal is not tested with it")
    assert done.stdout.strip() == "401 invalid_api_key", (done.stdout, done.stderr)


def test_a_plain_client_that_sends_all_first_reads_an_early_refusal(tenant: Tenant) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", tenant.serve.port, timeout=60)
    headers = {"content-type": "multipart/form-data; boundary=b", "authorization": "Bearer wrong"}
    try:
        connection.request("POST", "/v1/files", b" " * 60_000_000, headers)
        assert connection.getresponse().status == 401
    finally:
        connection.close()
