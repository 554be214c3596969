"""What only a real connection shows: bodies cut, stalled or refused while they are being sent."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from batchmill.core.submit import Limits
from tests.service.forms import BOUNDARY, file_part, form, part
from tests.service.rig import BODY, Rig, answered, lines, open_rig

FORM = f"content-type: multipart/form-data; boundary={BOUNDARY}"


@asynccontextmanager
async def serving(root: Path, **rules: Any) -> AsyncIterator[tuple[Rig, int]]:
    """The rig behind a real server on a free port."""
    async with open_rig(root, **rules) as rig:
        listener = socket.create_server(("127.0.0.1", 0))
        assert rig.app is not None
        config = uvicorn.Config(
            rig.app, http="httptools", log_config=None, timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.serve(sockets=[listener]))
            try:
                yield rig, listener.getsockname()[1]
            finally:
                server.should_exit = True


class Wire:
    """One connection, spoken by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def to(cls, port: int) -> Wire:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def ask(self, head: str, body: bytes = b"") -> None:
        await self.send(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        status, headers = await self.head()
        body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return status, headers, body

    async def head(self) -> tuple[int, dict[str, str]]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        first, *rest = head.strip().split("\r\n")
        return int(first.split()[1]), dict(line.lower().split(": ", 1) for line in rest)

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


def post(length: int | None, *headers: str, path: str = "/v1/files") -> str:
    size = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    return "\n".join((f"POST {path} HTTP/1.1", "host: 127.0.0.1", size, *headers))


async def test_a_client_that_sends_all_before_it_reads_can_read_a_413(tmp_path: Path) -> None:
    async with serving(tmp_path, limits=Limits(file_bytes=1_000_000)) as (rig, port):
        body = form(file_part(b"{}\n" + b" " * 20_000_000))
        for announced in (len(body), None):
            wire = await Wire.to(port)
            await wire.ask(post(announced, FORM))
            for at in range(0, len(body), 1_000_000):
                piece = body[at : at + 1_000_000]
                size = b"" if announced else f"{len(piece):x}\r\n".encode()
                await wire.send(size + piece + (b"" if announced else b"\r\n"))
            if not announced:
                await wire.send(b"0\r\n\r\n")
            status, headers, content = await wire.answer()
            assert (status, json.loads(content)["code"]) == (413, "file_too_large")
            assert headers["connection"] == "close"
            assert await wire.reader.read() == b""
            await wire.close()
        assert rig.stored_files() == []


async def test_a_refused_key_is_read_after_the_whole_body_was_sent(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, port):
        await rig.key("a", "right-key")
        body = form(file_part(b"{}\n" + b" " * 5_000_000))
        wire = await Wire.to(port)
        await wire.ask(post(len(body), FORM), body)
        assert (await wire.answer())[0] == 401
        await wire.close()


async def test_a_chunked_upload_without_length_arrives_whole(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, port):
        content = lines(1000)
        wire = await Wire.to(port)
        await wire.ask(post(None, FORM))
        body = form(file_part(content))
        for at in range(0, len(body), 777):
            piece = body[at : at + 777]
            await wire.send(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        await wire.send(b"0\r\n\r\n")
        status, _, answer = await wire.answer()
        file = json.loads(answer)
        assert (status, file["num_lines"], file["bytes"]) == (200, 1000, len(content))
        await wire.ask(f"GET /v1/files/{file['id']}/content HTTP/1.1\nhost: localhost")
        assert (await wire.answer())[2] == content
        await wire.close()
        assert len(rig.stored_files()) == 1


async def test_nothing_is_left_when_a_client_leaves_in_the_middle(tmp_path: Path) -> None:
    async with serving(tmp_path, idle_seconds=5.0) as (rig, port):
        body = form(file_part(lines(50_000)))
        wire = await Wire.to(port)
        await wire.ask(post(len(body), FORM), body[: len(body) // 2])
        await _until(lambda: len(rig.stored_files()) == 1)
        wire.writer.transport.abort()
        await _until(lambda: rig.stored_files() == [])
        assert (await rig.get("/v1/files"))["total"] == 0


async def test_a_body_that_stands_still_is_given_up(tmp_path: Path) -> None:
    async with serving(tmp_path, idle_seconds=0.1) as (rig, port):
        body = form(file_part(lines(10)))
        for path, headers in (("/v1/files", FORM), ("/v1/batch/jobs", "x: y")):
            wire = await Wire.to(port)
            await wire.ask(post(len(body), headers, path=path), body[:100])
            status, _, content = await wire.answer()
            assert (status, json.loads(content)["code"]) == (408, "request_timeout")
            async with asyncio.timeout(4):
                assert await wire.reader.read() == b"", "the connection is closed"
            await wire.close()
        assert rig.stored_files() == []


async def test_a_body_that_trickles_is_given_up(tmp_path: Path) -> None:
    async with serving(tmp_path, idle_seconds=0.5) as (rig, port):
        body = form(file_part(lines(1000)))
        wire = await Wire.to(port)
        await wire.ask(post(len(body), FORM), body[:200])
        answer = asyncio.create_task(wire.answer())
        for byte in body[200:]:
            if answer.done():
                break
            await wire.send(bytes([byte]))
            await asyncio.sleep(0.02)
        status, _, content = await answer
        assert (status, json.loads(content)["code"]) == (408, "request_timeout")
        await wire.close()
        assert rig.stored_files() == []


async def test_a_slow_body_that_goes_on_arrives(tmp_path: Path) -> None:
    async with serving(tmp_path, idle_seconds=1.5) as (rig, port):
        body = form(file_part(lines(100)))
        wire = await Wire.to(port)
        await wire.ask(post(len(body), FORM))
        for at in range(0, len(body), 1000):
            await wire.send(body[at : at + 1000])
            await asyncio.sleep(0.2)
        assert (await wire.answer())[0] == 200
        await wire.close()
        assert len(rig.stored_files()) == 1


async def test_slow_senders_of_large_bodies_keep_nobody_waiting(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, port):
        slow = [await Wire.to(port) for _ in range(3)]
        for wire in slow:
            start = b'{"x":"' + b"x" * 2_500_000
            await wire.ask(post(5_000_000, path="/v1/batch/jobs"), start)
        await _until(lambda: len(rig.stored_files()) == 3)
        request = {"body": {**BODY, "text": "x" * 2_000_000}}
        asked = {"endpoint": "/v1/chat/completions", "model": "small", "requests": [request]}
        body = json.dumps(asked).encode()
        quick = await Wire.to(port)
        await quick.ask(post(len(body), path="/v1/batch/jobs"), body)
        async with asyncio.timeout(10):
            assert (await quick.answer())[0] == 200
        await quick.close()
        for wire in slow:
            wire.writer.transport.abort()
        await _until(lambda: len(rig.stored_files()) == 1)


async def test_a_refused_client_that_never_ends_its_body_is_let_go(tmp_path: Path) -> None:
    async with serving(tmp_path, limits=Limits(file_bytes=1000)) as (_, port):
        wire = await Wire.to(port)
        await wire.ask(post(50_000_000, FORM), b"x" * 1_000_000)
        assert (await wire.answer())[0] == 413
        async with asyncio.timeout(20):
            assert await wire.reader.read() == b""
        await wire.close()


async def test_a_refused_client_that_pauses_may_still_send_the_rest(tmp_path: Path) -> None:
    async with serving(tmp_path, limits=Limits(file_bytes=1000)) as (rig, port):
        body = form(file_part(b"x" * 3_000_000))
        wire = await Wire.to(port)
        await wire.ask(post(len(body), FORM), body[:1_000_000])
        await asyncio.sleep(1.0)
        await wire.send(body[1_000_000:])
        assert (await wire.answer())[0] == 413
        assert await wire.reader.read() == b"", "closed, not reset"
        await wire.close()
        assert rig.stored_files() == []


async def test_a_client_that_asks_first_is_refused_without_being_told_to_go_on(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, limits=Limits(file_bytes=1000)) as (_, port):
        wire = await Wire.to(port)
        await wire.ask(post(5_000_000, FORM, "expect: 100-continue"))
        assert (await wire.answer())[0] == 413
        wire.writer.write_eof()
        assert await wire.reader.read() == b""
        await wire.close()


async def test_a_full_disk_is_told_to_a_client_that_sends_all_before_it_reads(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, low_disk_bytes=1 << 60) as (rig, port):
        body = form(file_part(b"{}\n" + b" " * 20_000_000))
        wire = await Wire.to(port)
        await wire.ask(post(len(body), FORM), body)
        status, headers, content = await wire.answer()
        assert (status, headers["retry-after"]) == (503, "30")
        assert "nearly full" in json.loads(content)["message"]
        await wire.close()
        assert rig.stored_files() == []


async def test_a_part_for_an_upload_that_has_ended_is_refused_before_it_is_sent(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as (rig, port):
        asked = {"bytes": 20_000_000, "filename": "a", "mime_type": "text/plain"}
        upload = (await rig.call("POST", "/v1/uploads", json=asked)).json()["id"]
        await rig.call("POST", f"/v1/uploads/{upload}/cancel")
        body = form(part("data", b" " * 20_000_000, filename="upload"))
        wire = await Wire.to(port)
        await wire.ask(post(len(body), FORM, path=f"/v1/uploads/{upload}/parts"))
        status, headers, _ = await wire.answer()
        assert (status, headers["x-should-retry"]) == (409, "false")
        await wire.send(body)
        assert await wire.reader.read() == b"", "closed, not reset"
        await wire.close()
        assert rig.stored_files() == []


async def test_requests_without_a_body_may_say_anything_about_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, port):
        job = await rig.create(requests=[{"body": BODY}])
        wire = await Wire.to(port)
        odd = "content-type: application/octet-stream"
        for head in (
            f"GET /v1/batch/jobs/{job['id']} HTTP/1.1\nhost: localhost\n{odd}",
            "GET /v1/files HTTP/1.1\nhost: localhost\ncontent-type: application/json",
            post(0, odd, path=f"/v1/batch/jobs/{job['id']}/cancel"),
            f"DELETE /v1/batch/jobs/{job['id']} HTTP/1.1\nhost: localhost\n{odd}",
        ):
            await wire.ask(head)
            assert (await wire.answer())[0] == 200
        await wire.close()


async def test_head_has_the_headers_of_get_and_no_body(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, port):
        file, job = await rig.upload(lines(1)), await rig.create(requests=[{"body": BODY}])
        wire = await Wire.to(port)
        for path in (
            *("/healthz", "/readyz", "/docs", "/openapi.json", "/v1/limits", "/v1/files/"),
            f"/v1/files/{file['id']}",
            f"/v1/files/{file['id']}/content",
            f"/v1/batch/jobs/{job['id']}",
            "/v1/files/nobody",
        ):
            await wire.ask(f"GET {path} HTTP/1.1\nhost: localhost")
            status, wanted, _ = await wire.answer()
            await wire.ask(f"HEAD {path} HTTP/1.1\nhost: localhost")
            told, headers = await wire.head()
            for each in (wanted, headers):
                del each["x-request-id"], each["date"]
            assert (told, headers) == (status, wanted), path
        await wire.close()


async def test_head_of_a_stream_ends_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, port):
        job = await rig.create(requests=[{"body": BODY}])
        wire = await Wire.to(port)
        for route in ("progress", "results?follow=true"):
            path = f"/v1/batch/jobs/{job['id']}/{route}"
            async with asyncio.timeout(5):
                await wire.ask(f"HEAD {path} HTTP/1.1\nhost: localhost")
                assert (await wire.head())[0] == 200
                await wire.ask("GET /healthz HTTP/1.1\nhost: localhost")
                assert (await wire.answer())[0] == 200
        await wire.close()


async def test_a_raw_address_beyond_ascii_is_a_4xx(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, port):
        for path in ("/v1/files/é", "/v1/files?search=é", "/v1/files/%zz", "/v1/files?a=%"):
            wire = await Wire.to(port)
            await wire.ask(f"GET {path} HTTP/1.1\nhost: localhost\nconnection: close")
            answer = await wire.reader.read()
            assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 200")), (path, answer[:200])
            await wire.close()


async def test_a_reader_that_leaves_a_download_hurts_nobody(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, port):
        file = await rig.upload(b"{}\n" + b" " * 30_000_000)
        wire = await Wire.to(port)
        await wire.ask(f"GET /v1/files/{file['id']}/content HTTP/1.1\nhost: localhost")
        await wire.reader.readexactly(10_000)
        wire.writer.transport.abort()
        assert (await rig.get(f"/v1/files/{file['id']}"))["bytes"] == 30_000_003


async def test_a_download_whose_blob_is_lost_midway_ends_short(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, port):
        job = await rig.create(requests=[{"body": BODY}] * 20)
        await rig.finish(answered, shard_lines=10)
        done = await rig.get(f"/v1/batch/jobs/{job['id']}")
        second = sorted(path for path in rig.root.rglob("out/*") if path.is_file())[1]
        second.unlink()
        for path in (f"files/{done['output_file']}/content", f"batch/jobs/{job['id']}"):
            wire = await Wire.to(port)
            await wire.ask(f"GET /v1/{path} HTTP/1.1\nhost: localhost")
            with pytest.raises(asyncio.IncompleteReadError):
                await wire.answer()
            await wire.close()
        assert (await rig.get("/healthz")) == {"status": "ok"}


async def _until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)
