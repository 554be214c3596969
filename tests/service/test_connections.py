"""A connection over a real socket that brings no request, or brings it slowly."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn

from batchmill.web.connections import PromptProtocol

REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


class Prompt(PromptProtocol):
    header_seconds = 0.4


async def slow_app(scope: Any, receive: Any, send: Any) -> None:
    """Answers after twice the time that headers may take."""
    assert scope["type"] == "http"
    await asyncio.sleep(0.8)
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.fixture
async def port() -> AsyncIterator[int]:
    config = uvicorn.Config(
        slow_app, port=0, http=Prompt, log_config=None, lifespan="off", timeout_keep_alive=30
    )
    server = uvicorn.Server(config)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
        server.should_exit = True


async def is_cut(reader: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(10):
            return await reader.read() == b""
    except ConnectionError:
        return True


async def test_headers_that_come_byte_by_byte_are_given_a_time(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def trickle() -> None:
        try:
            for byte in b"GET / HTTP/1.1\r\nx: " + b"y" * 1000:
                writer.write(bytes([byte]))
                await asyncio.sleep(0.05)
        except ConnectionError:
            pass

    sending = asyncio.create_task(trickle())
    assert await is_cut(reader)
    sending.cancel()
    writer.close()


async def test_a_connection_that_says_nothing_is_cut(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert await is_cut(reader)
    writer.close()


@pytest.mark.parametrize("requests", [1, 3])
async def test_an_answer_may_take_longer_and_then_the_time_begins_anew(
    port: int, requests: int
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(REQUEST * requests)
    for _ in range(requests):
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 204")
    writer.write(b"\r\n")
    assert await is_cut(reader)
    writer.close()


@pytest.mark.parametrize("piece", [b"x-more: b\r\n" * 100, b"y" * 1000])
async def test_headers_without_an_end_are_refused(port: int, piece: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def pour() -> None:
        with contextlib.suppress(ConnectionError):
            writer.write(b"GET / HTTP/1.1\r\nx: ")
            for _ in range(100_000):
                writer.write(piece)
                await writer.drain()

    sending = asyncio.create_task(pour())
    async with asyncio.timeout(10):
        assert (await reader.readline()).startswith(b"HTTP/1.1 431 ")
        await sending
    writer.close()


async def test_a_large_body_and_many_headers_are_no_headers_without_an_end(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    many = b"".join(b"x-%d: %s\r\n" % (n, b"y" * 500) for n in range(100))
    for _ in range(2):
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\n%bcontent-length: 1000000\r\n\r\n" % many)
        writer.write(b"z" * 1_000_000)
        async with asyncio.timeout(10):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204 ")
    writer.close()
