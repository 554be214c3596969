from __future__ import annotations

import asyncio
import gc
import gzip
import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from batchmill.calls import (
    Answered,
    Broken,
    Call,
    EngineDown,
    EngineSilent,
    Load,
    Overloaded,
    Refused,
    Reply,
    Unreachable,
)
from batchmill.clock import ManualClock
from batchmill.engines.budget import ByteBudget
from batchmill.engines.connection import JUST_USED_SECONDS, Exchange
from batchmill.engines.transport import HttpTransport
from batchmill.fleet import EngineSpec
from tests.asking import ask
from tests.scripted import OK, Connection, Script, ScriptedEngine, answering, gone, until

BODY = b'{"model":"m","messages":[]}'
CALL = Call("/v1/chat/completions", BODY, 20.0)


def transport_to(
    url: str,
    *,
    key: str | None = None,
    budget: ByteBudget | None = None,
    max_reply_bytes: int = 64_000_000,
    idle_seconds: float = 3.0,
    stale_seconds: float = 10.0,
) -> HttpTransport:
    spec = EngineSpec("e", url, key=key)
    return HttpTransport(
        spec,
        ManualClock(),
        budget or ByteBudget(96_000_000),
        max_reply_bytes=max_reply_bytes,
        idle_seconds=idle_seconds,
        stale_seconds=stale_seconds,
    )


@asynccontextmanager
async def engine(
    script: Script, **options: object
) -> AsyncIterator[tuple[ScriptedEngine, HttpTransport]]:
    async with ScriptedEngine(script) as server:
        transport = transport_to(server.url, **options)  # type: ignore[arg-type]
        try:
            yield server, transport
        finally:
            await transport.close()


async def reply_to(script: Script, call: Call = CALL, **options: object) -> Reply:
    async with engine(script, **options) as (_, transport):
        return await ask(transport, call)


def head(status: str, *headers: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode()


# what goes out


async def test_a_call_goes_out_once_with_its_bytes_as_they_are() -> None:
    body = '{ "model":"m",\t"x":"é" }'.encode()
    async with engine(answering(OK), key="secret") as (server, transport):
        reply = await ask(transport, Call("/v1/ocr", body, 5))
    assert isinstance(reply, Answered)
    assert (reply.status, reply.body) == (200, b'{"ok":true}')
    [(sent_head, sent_body)] = server.requests
    lines = sent_head.decode().lower().split("\r\n")
    assert lines[0] == "post /v1/ocr http/1.1"
    assert "content-type: application/json" in lines
    assert "authorization: bearer secret" in lines
    assert "accept-encoding: identity" in lines
    assert f"content-length: {len(body)}" in lines
    assert any(line.startswith("user-agent: batchmill/") for line in lines)
    assert sent_body == body


@pytest.mark.parametrize("status", ["401 No", "400 Bad", "429 Later", "502 Away"])
async def test_a_key_that_the_engine_repeats_is_not_passed_on(status: str) -> None:
    body = b'{"error":{"message":"Invalid token: Bearer sk-operators-key"}}'
    framed = head(status, f"Content-Length: {len(body)}") + body
    async with engine(answering(framed), key="sk-operators-key") as (_, transport):
        reply = await ask(transport, CALL)
        assert isinstance(reply, Refused | Overloaded)
        assert "Invalid token" in reply.body.decode()
        assert "operators" not in repr(reply)
        with pytest.raises(EngineDown) as down:
            await transport.models()
        assert "operators" not in str(down.value)


async def test_without_a_key_no_authorization_goes_out() -> None:
    async with engine(answering(OK)) as (server, transport):
        await ask(transport, CALL)
    assert b"authorization" not in server.requests[0][0].lower()


async def test_connections_are_kept_and_used_again() -> None:
    async with engine(answering(OK)) as (server, transport):
        for _ in range(5):
            assert isinstance(await ask(transport, CALL), Answered)
    assert server.connections == 1
    assert len(server.requests) == 5


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert isinstance(await reply_to(answering(OK)), Answered)


# answers of every framing


@pytest.mark.parametrize(
    "pieces",
    [
        [OK],
        [OK[:20], OK[20:-3], OK[-3:]],
        [
            head("200 OK", "Transfer-Encoding: chunked"),
            b'5\r\n{"ok"\r\n',
            b"6\r\n:true}\r\n0\r\n\r\n",
        ],
        [head("100 Continue"), head("103 Early Hints", "Link: </x>"), OK],
        [head("200 OK", "Content-Length: 13"), b' {"ok":true}\n'],
    ],
    ids=["at once", "in pieces", "chunked", "after 1xx", "padded"],
)
async def test_an_answer_is_read_however_it_is_framed(pieces: list[bytes]) -> None:
    reply = await reply_to(answering(*pieces))
    assert isinstance(reply, Answered)
    assert reply.body == b'{"ok":true}'


@pytest.mark.parametrize("version", [b"HTTP/1.0", b"HTTP/1.1"])
async def test_an_answer_may_end_with_its_connection(version: bytes) -> None:
    reply = await reply_to(answering(version + b' 200 OK\r\n\r\n{"ok":true}', close=True))
    assert isinstance(reply, Answered)


@pytest.mark.parametrize("status", ["422 Unprocessable", "500 Oh no", "200 OK"])
async def test_what_is_no_answer_is_counted_too(status: str) -> None:
    body = b"no JSON " * 5_000
    budget = ByteBudget(96_000_000)
    framed = head(status, f"Content-Length: {len(body)}") + body
    reply = await reply_to(answering(framed), budget=budget)
    assert isinstance(reply, Refused | Broken)
    assert budget.spent_bytes == reply.held_bytes == len(reply.body or b"") > 0


async def test_a_large_answer_is_read_whole_and_counted() -> None:
    text = "x" * 3_000_000
    body = json.dumps({"text": text}).encode()
    budget = ByteBudget(96_000_000)
    reply = await reply_to(
        answering(head("200 OK", f"Content-Length: {len(body)}") + body), budget=budget
    )
    assert isinstance(reply, Answered)
    assert reply.body == body
    assert budget.spent_bytes == reply.held_bytes == len(body)
    budget.release(reply.held_bytes)
    assert budget.spent_bytes == 0


async def test_request_id_usage_and_escapes_come_with_the_answer() -> None:
    body = '{"t":"é","usage":{"prompt_tokens":3}}'.encode()
    reply = await reply_to(
        answering(head("200 OK", "X-Request-Id: r-1", f"Content-Length: {len(body)}") + body)
    )
    assert isinstance(reply, Answered)
    assert reply.request_id == "r-1"
    assert reply.usage.input_tokens == 3
    assert reply.body == rb'{"t":"\u00e9","usage":{"prompt_tokens":3}}'


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_refused_and_never_followed(status: int) -> None:
    async with ScriptedEngine(answering(OK)) as other:
        location = f"Location: {other.url}"
        reply = await reply_to(answering(head(f"{status} Moved", location, "Content-Length: 0")))
        assert isinstance(reply, Refused)
        assert reply.status == status
        assert other.requests == []


async def test_an_overloaded_engine_says_for_how_long() -> None:
    reply = await reply_to(answering(head("429 Busy", "Retry-After: 7", "Content-Length: 0")))
    assert reply == Overloaded(429, b'""', 7.0)


async def test_gzip_that_nobody_asked_for_is_undone() -> None:
    body = gzip.compress(b'{"ok":true}')
    framed = head("200 OK", "Content-Encoding: gzip", f"Content-Length: {len(body)}") + body
    reply = await reply_to(answering(framed))
    assert isinstance(reply, Answered)
    assert reply.body == b'{"ok":true}'


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(b'"' + b"x" * 10_000_000 + b'"')),
        ("gzip", gzip.compress(b'{"ok":true}')[:-9]),
        ("gzip", b'{"ok":true}'),
        ("br", b'{"ok":true}'),
    ],
    ids=["bomb", "cut", "a lie", "unknown"],
)
async def test_an_encoding_that_cannot_be_undone_is_no_json(encoding: str, body: bytes) -> None:
    framed = head("200 OK", f"Content-Encoding: {encoding}", f"Content-Length: {len(body)}") + body
    reply = await reply_to(answering(framed), max_reply_bytes=1_000_000)
    assert isinstance(reply, Broken)
    assert reply.kind == "not_json"


# nothing was sent


async def test_a_refused_connection_is_unreachable() -> None:
    transport = transport_to("http://user:hunter2@127.0.0.1:1/v1", key="secret")
    reply = await ask(transport, CALL)
    assert isinstance(reply, Unreachable)
    assert "127.0.0.1:1" in reply.message
    assert "refused" in reply.message.lower()
    assert "hunter2" not in reply.message
    assert "secret" not in reply.message


async def test_a_name_that_does_not_resolve_is_unreachable() -> None:
    reply = await ask(transport_to("http://engine.invalid/v1"), CALL)
    assert isinstance(reply, Unreachable)
    assert "engine.invalid" in reply.message


async def test_whatever_goes_wrong_in_connecting_the_call_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def breaks(*_: object, **__: object) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", breaks)
    reply = await reply_to(answering(OK))
    assert isinstance(reply, Unreachable)
    assert "out of luck" in reply.message


async def test_a_server_without_tls_is_unreachable_over_https() -> None:
    async def garble(connection: Connection) -> None:
        await connection.reader.read(100)
        await connection.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with ScriptedEngine(garble) as server:
        reply = await ask(transport_to(server.url.replace("http:", "https:")), CALL)
    assert isinstance(reply, Unreachable)


async def test_a_connection_that_is_never_made_is_unreachable() -> None:
    with socket.socket() as listener, socket.socket() as filler:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        filler.connect(listener.getsockname())
        with socket.socket() as extra:
            extra.setblocking(False)
            extra.connect_ex(listener.getsockname())
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
            transport = transport_to(url)
            reply = await ask(transport, Call("/v1/ocr", BODY, 0.5))
    assert isinstance(reply, Unreachable)


@pytest.mark.parametrize("how", ["FIN", "RST"])
async def test_an_engine_that_closes_at_once_is_a_value_too(how: str) -> None:
    async def close_at_once(connection: Connection) -> None:
        if how == "RST":
            connection.reset()

    async with engine(close_at_once) as (server, transport):
        for n in range(1, 21):
            reply = await ask(transport, CALL)
            assert isinstance(reply, Unreachable) or (
                isinstance(reply, Broken) and reply.kind == "reset"
            )
            assert server.connections == n


# sent and lost


@pytest.mark.parametrize(
    ("pieces", "how"),
    [
        ([], "FIN"),
        ([], "RST"),
        ([b"HTTP/1.1 200 OK\r\nContent-Le"], "FIN"),
        ([head("200 OK", "Content-Length: 50"), b'{"ok":true}'], "FIN"),
        ([head("200 OK", "Content-Length: 50"), b'{"ok":true}'], "RST"),
        ([head("200 OK", "Transfer-Encoding: chunked"), b'b\r\n{"ok":true}\r\n'], "FIN"),
        ([head("200 OK", "Transfer-Encoding: chunked"), b'ff\r\n{"ok":true}'], "RST"),
        ([head("200 OK", "Transfer-Encoding: chunked"), b'zz\r\n{"ok":true}\r\n0\r\n\r\n'], "FIN"),
        ([head("200 OK", "Content-Length: 200000"), b"x" * 100_000], "RST"),
    ],
    ids=[
        "closed before the head",
        "reset before the head",
        "closed in the head",
        "closed in the body",
        "reset in the body",
        "chunks without an end",
        "reset in a chunk",
        "chunks that are none",
        "reset in a long body",
    ],
)
async def test_a_lost_answer_is_a_reset_and_is_not_sent_again(
    pieces: list[bytes], how: str
) -> None:
    async with engine(answering(*pieces, close=True, reset=how == "RST")) as (server, transport):
        reply = await ask(transport, CALL)
        assert isinstance(reply, Broken)
        assert reply.kind == "reset"
        assert len(server.requests) == 1
        assert server.connections == 1


async def one_answer_then_close(connection: Connection) -> None:
    """The engine takes a second call on a connection, too, but does not answer it."""
    await connection.request()
    await connection.write(OK)
    await connection.request()


async def one_answer_then_half(connection: Connection) -> None:
    await one_answer_then_close(connection)
    await connection.write(OK[:10])


async def test_a_kept_connection_that_breaks_under_a_call_does_not_send_it_twice() -> None:
    async with engine(one_answer_then_close) as (server, transport):
        assert isinstance(await ask(transport, CALL), Answered)
        reply = await ask(transport, CALL)
        assert isinstance(reply, Broken)
        assert reply.kind == "stale"
        assert len(server.requests) == 2


async def test_after_that_no_connection_is_used_again_for_a_while() -> None:
    async with engine(one_answer_then_close, stale_seconds=0.2) as (server, transport):
        await ask(transport, CALL)
        await ask(transport, CALL)
        for _ in range(20):
            assert isinstance(await ask(transport, CALL), Answered)
        assert server.connections == 21
        await asyncio.sleep(0.25)
        await ask(transport, CALL)
        reply = await ask(transport, CALL)
        assert isinstance(reply, Broken)
        assert reply.kind == "stale"


async def test_a_kept_connection_that_breaks_in_an_answer_is_a_reset() -> None:
    async with engine(one_answer_then_half) as (_, transport):
        await ask(transport, CALL)
        reply = await ask(transport, CALL)
        assert isinstance(reply, Broken)
        assert reply.kind == "reset"


async def test_a_call_that_asks_for_a_fresh_connection_gets_one() -> None:
    async with engine(answering(OK)) as (server, transport):
        for n in range(1, 6):
            assert isinstance(await ask(transport, Call("/v1/ocr", BODY, 20.0, True)), Answered)
            assert server.connections == n


async def test_a_connection_closed_while_idle_costs_no_call() -> None:
    closed = asyncio.Event()

    async def answer_then_close(connection: Connection) -> None:
        await connection.request()
        await connection.write(OK)
        connection.writer.close()
        await connection.writer.wait_closed()
        closed.set()

    async with engine(answer_then_close) as (server, transport):
        for _ in range(10):
            closed.clear()
            assert isinstance(await ask(transport, CALL), Answered)
            await closed.wait()
            await asyncio.sleep(0.01)  # the FIN reaches the client's pool through the kernel
        assert len(server.requests) == 10


async def test_a_connection_that_was_closed_behind_the_loops_back_costs_no_call() -> None:
    def answer_and_close(listener: socket.socket) -> None:
        accepted, _ = listener.accept()
        with accepted:
            accepted.recv(65536)
            accepted.sendall(OK)
            may_close.wait(10)

    may_close = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        transport = transport_to(f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
        for _ in range(3):
            may_close.clear()
            thread = threading.Thread(target=answer_and_close, args=(listener,))
            thread.start()
            assert isinstance(await ask(transport, CALL), Answered)
            may_close.set()
            thread.join()
            time.sleep(2 * JUST_USED_SECONDS)  # noqa: ASYNC251 - it is closed, and the loop stood still
        await transport.close()


async def test_a_connection_that_was_idle_for_long_is_not_used_again() -> None:
    async with engine(answering(OK), idle_seconds=0.05) as (server, transport):
        await ask(transport, CALL)
        await ask(transport, CALL)
        assert server.connections == 1
        await asyncio.sleep(0.06)  # the time itself is what is tested
        await ask(transport, CALL)
        assert server.connections == 2


async def test_idle_connections_are_closed_while_another_is_in_use_and_after_all() -> None:
    """Each call that goes out on a connection of its own leaves one more."""
    async with engine(answering(OK), idle_seconds=0.3) as (server, transport):
        for _ in range(8):
            await ask(transport, Call(CALL.path, BODY, 20.0, fresh=True))
        assert server.connections == server.open_connections == 8

        async def only_one_is_left() -> None:
            while server.open_connections > 1:
                await ask(transport, CALL)
                await asyncio.sleep(0.02)

        await asyncio.wait_for(only_one_is_left(), 10)
        assert server.connections == 8
        await until(lambda: not server.open_connections)


async def test_bytes_that_nobody_asked_for_end_their_connection() -> None:
    async def talk_on(connection: Connection) -> None:
        await connection.request()
        await connection.write(OK)
        await may_talk.wait()
        await connection.write(OK.replace(b"true", b"liar"))
        await gone(connection)

    may_talk = asyncio.Event()
    async with engine(talk_on) as (server, transport):
        assert isinstance(await ask(transport, CALL), Answered)
        may_talk.set()
        await asyncio.wait_for(server.lost.wait(), 5)
        reply = await ask(transport, CALL)
        assert isinstance(reply, Answered)
        assert reply.body == b'{"ok":true}'
        assert server.connections == 2


async def test_a_closed_transport_keeps_no_connection() -> None:
    async def answer_late(connection: Connection) -> None:
        await connection.request()
        asked.set()
        await may_answer.wait()
        await connection.write(OK)
        await gone(connection)

    asked, may_answer = asyncio.Event(), asyncio.Event()
    async with engine(answer_late) as (server, transport):
        late = asyncio.create_task(ask(transport, CALL))
        await asked.wait()
        await transport.close()
        may_answer.set()
        assert isinstance(await late, Answered)
        await asyncio.wait_for(server.lost.wait(), 5)


async def test_a_reply_leaves_nothing_behind_for_the_garbage_collector() -> None:
    async with engine(answering(OK)) as (_, transport):
        await ask(transport, CALL)
        gc.collect()
        gc.disable()
        try:
            for _ in range(3):
                await ask(transport, CALL)
            assert not [it for it in gc.get_objects() if isinstance(it, Exchange)]
        finally:
            gc.enable()


@pytest.mark.parametrize(
    "answer",
    [
        b"hello there\r\n\r\n",
        b'{"ok":true}',
        head("099 What"),
        head("200 OK", "X: " + "a" * 900_000),
    ],
    ids=["garbage", "no head", "odd status", "huge header"],
)
async def test_what_is_no_http_is_told_from_a_lost_connection(answer: bytes) -> None:
    reply = await reply_to(answering(answer, close=True))
    assert isinstance(reply, Broken)
    assert reply.kind == "not_json"


# time


async def test_an_engine_that_never_answers_times_out() -> None:
    async def silent(connection: Connection) -> None:
        await connection.request()
        await gone(connection)

    async with engine(silent) as (server, transport):
        reply = await ask(transport, Call("/v1/ocr", BODY, 0.1))
        assert isinstance(reply, Broken)
        assert reply.kind == "timeout"
        await asyncio.wait_for(server.lost.wait(), 5)


async def test_a_dripping_answer_times_out_as_a_whole() -> None:
    async def drip(connection: Connection) -> None:
        await connection.request()
        await connection.write(head("200 OK", "Content-Length: 100000"))
        while True:
            await connection.write(b" ")
            await asyncio.sleep(0.01)

    async with engine(drip) as (server, transport):
        reply = await ask(transport, Call("/v1/ocr", BODY, 0.2))
        assert isinstance(reply, Broken)
        assert reply.kind == "timeout"
        await asyncio.wait_for(server.lost.wait(), 5)


async def test_waiting_for_room_is_no_timeout_of_the_engine() -> None:
    body = b'"' + b"x" * 300_000 + b'"'
    budget = ByteBudget(10)
    framed = head("200 OK", f"Content-Length: {len(body)}") + body
    async with engine(answering(framed), budget=budget) as (_, transport):
        first = await ask(transport, Call("/v1/ocr", BODY, 0.2))
        assert isinstance(first, Answered)
        second = asyncio.create_task(ask(transport, Call("/v1/ocr", BODY, 0.2)))
        done, _ = await asyncio.wait({second}, timeout=0.6)
        assert not done
        budget.release(first.held_bytes)
        assert isinstance(await second, Answered)


# cancelling


async def test_a_cancelled_call_drops_its_connection() -> None:
    asked = asyncio.Event()

    async def silent(connection: Connection) -> None:
        await connection.request()
        asked.set()
        await gone(connection)

    budget = ByteBudget(1_000)
    async with engine(silent, budget=budget) as (server, transport):
        call = asyncio.create_task(ask(transport, CALL))
        await asked.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.wait_for(server.lost.wait(), 5)
    assert budget.spent_bytes == 0


async def test_a_cancelled_calls_answer_never_goes_to_another() -> None:
    async def echo_late(connection: Connection) -> None:
        while True:
            _, body = await connection.request()
            await asyncio.sleep(0.002)
            await connection.write(head("200 OK", f"Content-Length: {len(body)}") + body)

    async with engine(echo_late) as (_, transport):

        async def question(n: int) -> None:
            body = b'{"n":%d}' % n
            call = asyncio.create_task(ask(transport, Call("/v1/ocr", body, 10)))
            if n % 3:
                await asyncio.sleep(0.0005 * (n % 9))
                call.cancel()
            try:
                reply = await call
            except asyncio.CancelledError:
                return
            assert isinstance(reply, Answered)
            assert reply.body == body

        for start in range(0, 400, 20):
            await asyncio.gather(*(question(n) for n in range(start, start + 20)))


async def test_a_cancelled_reader_gives_its_bytes_back() -> None:
    started = asyncio.Event()

    async def half(connection: Connection) -> None:
        await connection.request()
        await connection.write(head("200 OK", "Content-Length: 400000") + b"x" * 300_000)
        started.set()
        await gone(connection)

    budget = ByteBudget(1_000_000)
    async with engine(half, budget=budget) as (server, transport):
        call = asyncio.create_task(ask(transport, CALL))
        await started.wait()
        await until(lambda: budget.spent_bytes)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.wait_for(server.lost.wait(), 5)
    assert budget.spent_bytes == 0


# size


@pytest.mark.parametrize("framing", ["Content-Length: 2000002", "Transfer-Encoding: chunked"])
async def test_too_large_an_answer_is_dropped_with_its_connection(framing: str) -> None:
    async def flood(connection: Connection) -> None:
        await connection.request()
        await connection.write(head("200 OK", framing))
        while True:
            await connection.write(b"%x\r\n" % 50_000 + b"1" * 50_000 + b"\r\n")

    budget = ByteBudget(96_000_000)
    async with engine(flood, budget=budget, max_reply_bytes=1_000_000) as (server, transport):
        reply = await ask(transport, CALL)
        assert isinstance(reply, Broken)
        assert reply.kind == "too_large"
        assert "1 MB" in reply.message
        await asyncio.wait_for(server.lost.wait(), 5)
    assert budget.spent_bytes == 0


async def test_reading_pauses_while_the_budget_is_spent() -> None:
    sent = 0

    async def flood(connection: Connection) -> None:
        nonlocal sent
        await connection.request()
        await connection.write(head("200 OK", "Content-Length: 30000002") + b'"')
        for _ in range(300):
            await connection.write(b"x" * 100_000)
            sent += 100_000
        await connection.write(b'"')

    budget = ByteBudget(1_000_000)
    async with engine(flood, budget=budget) as (_, transport):
        blocker = asyncio.create_task(ask(transport, CALL))
        await until(lambda: budget.spent_bytes > budget.limit_bytes)
        waiting = asyncio.create_task(ask(transport, CALL))
        first = await blocker
        assert isinstance(first, Answered)
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.05)
        assert sent < 45_000_000
        assert not waiting.done()
        budget.release(first.held_bytes)
        assert isinstance(await waiting, Answered)


async def test_a_connection_that_had_to_wait_for_room_is_used_again() -> None:
    body = b'"' + b"x" * 300_000 + b'"'
    budget = ByteBudget(10)
    framed = head("200 OK", f"Content-Length: {len(body)}") + body
    async with engine(answering(framed), budget=budget) as (server, transport):
        first = await ask(transport, CALL)
        assert isinstance(first, Answered)
        waiting = asyncio.create_task(ask(transport, CALL))
        await until(lambda: len(server.requests) == 2)
        budget.release(first.held_bytes)
        second = await waiting
        assert isinstance(second, Answered)
        budget.release(second.held_bytes)
        assert isinstance(await ask(transport, CALL), Answered)
        assert server.connections == 1


async def test_an_early_refusal_of_a_large_body_is_heard() -> None:
    async def refuse_early(connection: Connection) -> None:
        await connection.reader.readuntil(b"\r\n\r\n")
        answer = b'{"detail":"too long"}'
        await connection.write(head("413 Too Large", f"Content-Length: {len(answer)}") + answer)
        while await connection.reader.read(65536):
            pass

    async with engine(refuse_early) as (server, transport):
        reply = await ask(transport, Call("/v1/ocr", b'"' + b"x" * 5_000_000 + b'"', 20))
        assert isinstance(reply, Refused)
        assert (reply.status, reply.message) == (413, "too long")
        assert isinstance(await ask(transport, CALL), Refused)
        assert server.connections == 2


async def test_an_answer_without_a_length_counts_as_the_one_before_it() -> None:
    async def in_chunks(connection: Connection) -> None:
        while True:
            await connection.request()
            await connection.write(head("200 OK", "Transfer-Encoding: chunked"))
            await connection.write(b'1\r\n"\r\n')
            await may_end.wait()
            await connection.write(b"30d41\r\n" + b"x" * 200_000 + b'"\r\n0\r\n\r\n')

    may_end = asyncio.Event()
    may_end.set()
    budget = ByteBudget(1_000_000)
    async with engine(in_chunks, budget=budget) as (_, transport):
        first = await ask(transport, CALL)
        assert isinstance(first, Answered)
        budget.release(first.held_bytes)
        may_end.clear()
        second = asyncio.create_task(ask(transport, CALL))
        await until(lambda: budget.spent_bytes)
        assert budget.spent_bytes == 200_002
        may_end.set()
        assert isinstance(await second, Answered)


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    made = "req -x509 -newkey rsa:2048 -nodes -days 2 -keyout key.pem -out cert.pem -subj"
    names = ["/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    subprocess.run(["openssl", *made.split(), *names], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    return context


async def test_calls_go_over_tls_to_a_trusted_engine(
    tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "cert.pem"))
    async with ScriptedEngine(answering(OK), tls=tls) as server:
        transport = transport_to(server.url)
        for _ in range(3):
            reply = await ask(transport, Call("/v1/ocr", b'"' + b"x" * 300_000 + b'"', 20))
            assert isinstance(reply, Answered)
        assert server.connections == 1
        await transport.close()


async def test_a_long_answer_over_tls_comes_as_it_was_sent(
    tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "cert.pem"))
    body = json.dumps({"numbers": list(range(30_000))}).encode()
    long = head("200 OK", f"Content-Length: {len(body)}") + body
    async with ScriptedEngine(answering(long), tls=tls) as server:
        transport = transport_to(server.url)
        reply = await ask(transport, CALL)
        assert isinstance(reply, Answered)
        assert reply.body == body
        await transport.close()


async def test_an_engine_that_nobody_vouches_for_is_unreachable(tls: ssl.SSLContext) -> None:
    async with ScriptedEngine(answering(OK), tls=tls) as server:
        transport = transport_to(server.url)
        reply = await ask(transport, CALL)
        assert isinstance(reply, Unreachable)
        assert "not trusted" in reply.message
        assert server.requests == []


# models


def listing(status: str, body: bytes) -> Script:
    return answering(head(status, f"Content-Length: {len(body)}") + body)


async def test_models_are_asked_for_with_the_key() -> None:
    script = listing("200 OK", b'{"object":"list","data":[{"id":"a"},{"id":"b"}]}')
    async with engine(script, key="secret") as (server, transport):
        assert await transport.models() == ("a", "b")
    sent = server.requests[0][0].lower()
    assert sent.startswith(b"get /v1/models http/1.1\r\n")
    assert b"authorization: bearer secret" in sent


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (listing("401 Unauthorized", b'{"error":{"message":"bad key"}}'), "refuses our key"),
        (listing("404 Not Found", b"404 page not found"), "no list of models"),
        (listing("503 Loading", b'{"error":{"message":"Loading model"}}'), "Loading model"),
        (listing("200 OK", b"<html>hello</html>"), "not with a list"),
        (listing("302 Found", b""), "redirects"),
        (answering(b"SSH-2.0-OpenSSH\r\n"), "HTTP/1.1"),
        (answering(close=True), "lost"),
    ],
)
async def test_an_engine_without_models_says_why(script: Script, says: str) -> None:
    async with engine(script, key="secret") as (_, transport):
        with pytest.raises(EngineDown, match=says) as down:
            await transport.models()
    assert "secret" not in str(down.value)


async def test_an_engine_that_lists_its_models_too_late_is_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def silent(connection: Connection) -> None:
        await connection.request()
        await gone(connection)

    monkeypatch.setattr("batchmill.engines.transport.LISTING_SECONDS", 0.2)
    async with engine(silent) as (_, transport):
        with pytest.raises(EngineSilent, match="no whole answer"):
            await transport.models()


async def test_an_engine_that_is_not_there_is_down() -> None:
    with pytest.raises(EngineDown, match="refused"):
        await transport_to("http://127.0.0.1:1/v1").models()


# load


LLAMACPP = b"llamacpp:requests_processing 4\nllamacpp:requests_deferred 2\n"


async def test_the_load_is_asked_for_beside_the_engines_v1_on_the_same_host() -> None:
    async with engine(listing("200 OK", LLAMACPP), key="secret") as (server, transport):
        assert await transport.load() == Load(4, 2)
        assert await transport.load() == Load(4, 2)
    asked = [sent.split(b"\r\n")[0] for sent, _ in server.requests]
    assert asked == [b"GET /metrics HTTP/1.1"] * 2


@pytest.mark.parametrize(
    "script",
    [
        listing("404 Not Found", LLAMACPP),
        answering(head("302 Found", "Location: /elsewhere", "Content-Length: 0")),
        listing("200 OK", LLAMACPP + b"#" * 3_000_000),
        listing("200 OK", b"<html>"),
        answering(close=True),
    ],
    ids=["absent", "elsewhere", "too large", "no metrics", "lost"],
)
async def test_an_engine_that_does_not_tell_its_load_tells_nothing(script: Script) -> None:
    budget = ByteBudget(96_000_000)
    async with engine(script, budget=budget) as (server, transport):
        assert await transport.load() is None
        assert len(server.requests) == 1
    assert budget.spent_bytes == 0
