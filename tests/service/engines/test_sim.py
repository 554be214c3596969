from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from batchmill.calls import (
    Answered,
    Broken,
    Call,
    EngineDown,
    Overloaded,
    Refused,
    Unreachable,
)
from batchmill.clock import SystemClock
from batchmill.engines.budget import ByteBudget
from batchmill.engines.sim.server import Simulator
from batchmill.engines.sim.settings import parse_spec
from batchmill.engines.transport import HttpTransport
from batchmill.fleet import EngineSpec
from tests.asking import ask
from tests.scripted import until


@asynccontextmanager
async def simulated(spec: str = "") -> AsyncIterator[tuple[Simulator, HttpTransport]]:
    simulator = Simulator(parse_spec(spec))
    await simulator.listen(0)
    transport = transport_to(simulator)
    try:
        yield simulator, transport
    finally:
        await transport.close()
        await simulator.close()


def transport_to(simulator: Simulator, key: str | None = None) -> HttpTransport:
    spec = EngineSpec("sim", simulator.url, key=key)
    return HttpTransport(spec, SystemClock(), ByteBudget(96_000_000))


def chat(text: str, seconds: float = 20.0) -> Call:
    body = json.dumps({"model": "sim", "messages": [{"role": "user", "content": text}]})
    return Call("/v1/chat/completions", body.encode(), seconds)


async def get(simulator: Simulator, request: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
    writer.write(request.encode())
    answer = await reader.readuntil(b"\r\n\r\n")
    length = int(answer.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    body = await reader.readexactly(length)
    writer.close()
    return body


async def control(simulator: Simulator, **settings: object) -> bytes:
    body = json.dumps(settings)
    return await get(
        simulator, f"POST /sim/control HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    )


async def test_every_call_is_counted_by_its_id_once_it_has_arrived() -> None:
    async with simulated() as (simulator, transport):
        for n in range(3):
            assert isinstance(await ask(transport, chat(f"id:line-{n}")), Answered)
        await ask(transport, chat("again id:line-1"))
        counts = json.loads(await get(simulator, "GET /sim/calls HTTP/1.1\r\n\r\n"))
    assert counts["total"] == 4
    assert counts["by_id"] == {"line-0": 1, "line-1": 2, "line-2": 1}
    assert counts["by_status"] == {"200": 4}
    assert counts["in_flight"] == 0


async def test_no_more_than_the_batch_is_served_at_once() -> None:
    async with simulated("latency=40ms,batch=4") as (simulator, transport):
        began = asyncio.get_running_loop().time()
        await asyncio.gather(*(ask(transport, chat(f"{n}")) for n in range(16)))
        took = asyncio.get_running_loop().time() - began
        assert took >= 0.16
        assert simulator.counts.max_in_flight == 16


async def test_a_full_queue_answers_503() -> None:
    async with simulated("latency=50ms,batch=1,queue=2") as (_, transport):
        replies = await asyncio.gather(*(ask(transport, chat(f"{n}")) for n in range(6)))
    assert sum(isinstance(reply, Answered) for reply in replies) == 3
    assert sum(isinstance(reply, Overloaded) for reply in replies) == 3


async def test_a_key_can_be_revoked_and_given_back_while_it_runs() -> None:
    async with simulated("key=one") as (simulator, _):
        transport = transport_to(simulator, key="one")
        assert await transport.models() == ("sim",)
        await control(simulator, key="two")
        reply = await ask(transport, chat("x"))
        assert isinstance(reply, Refused)
        assert reply.status == 401
        with pytest.raises(EngineDown, match="refuses our key"):
            await transport.models()
        await control(simulator, key="one")
        assert isinstance(await ask(transport, chat("x")), Answered)
        await transport.close()


async def test_models_can_be_loaded_and_unloaded_while_it_runs() -> None:
    async with simulated() as (simulator, transport):
        await control(simulator, models=["other"])
        assert await transport.models() == ("other",)
        reply = await ask(transport, chat("x"))
        assert isinstance(reply, Refused)
        assert (reply.status, reply.param) == (404, "model")


async def test_a_bad_setting_is_refused_and_changes_nothing() -> None:
    async with simulated() as (simulator, _):
        answer = await control(simulator, batch=3, nonsense=1)
        assert b"nonsense" in answer
        assert simulator.engine.settings.batch == 0


@pytest.mark.parametrize(
    ("text", "kind"),
    [("!fault:reset", "reset"), ("!fault:cut", "reset"), ("!fault:notjson", "not_json")],
)
async def test_faults_arrive_as_what_they_are(text: str, kind: str) -> None:
    async with simulated() as (_, transport):
        reply = await ask(transport, chat(text))
        assert isinstance(reply, Broken)
        assert reply.kind == kind


async def test_a_hanging_call_ends_with_its_client() -> None:
    async with simulated("batch=1") as (simulator, transport):
        reply = await ask(transport, chat("!fault:hang", 0.1))
        assert isinstance(reply, Broken)
        assert reply.kind == "timeout"
        assert isinstance(await ask(transport, chat("next")), Answered)
        assert simulator.counts.aborted == 1
        assert simulator.counts.in_flight == 0


async def test_a_crash_loses_every_call_and_the_engine_comes_back() -> None:
    async with simulated("latency=100ms") as (simulator, transport):
        victim = asyncio.create_task(ask(transport, chat("!fault:slow=5")))
        await until(lambda: simulator.counts.in_flight)
        crashed, lost = await asyncio.gather(ask(transport, chat("!fault:crash")), victim)
        assert isinstance(crashed, Broken)
        assert isinstance(lost, Broken)
        assert isinstance(await ask(transport, chat("x")), Unreachable)
        async with asyncio.timeout(5):
            while isinstance(await ask(transport, chat("x")), Unreachable):
                await asyncio.sleep(0.05)
            assert isinstance(await ask(transport, chat("x")), Answered)


async def test_metrics_have_the_names_of_vllm() -> None:
    async with simulated("latency=10s,batch=1") as (simulator, transport):
        calls = [asyncio.create_task(ask(transport, chat(f"{n}"))) for n in range(3)]
        await until(lambda: simulator.counts.in_flight == 3)
        text = (await get(simulator, "GET /metrics HTTP/1.1\r\n\r\n")).decode()
        assert 'vllm:num_requests_running{model_name="sim"} 1\n' in text
        assert 'vllm:num_requests_waiting{model_name="sim"} 2\n' in text
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)


async def test_a_reset_forgets_the_counts() -> None:
    async with simulated() as (simulator, transport):
        await ask(transport, chat("id:a"))
        await get(simulator, "POST /sim/reset HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
        assert simulator.counts.total == 0
        assert not simulator.counts.by_id


def test_the_process_says_where_it_listens_and_ends_when_told() -> None:
    command = [sys.executable, "-m", "batchmill.engines.sim", "--spec", "batch=2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.terminate()
        assert process.wait(10) == 0
    assert line.startswith("ready http://127.0.0.1:")
    assert line.endswith("/v1\n")


def test_a_process_with_a_bad_spec_says_so_in_one_line() -> None:
    command = [sys.executable, "-m", "batchmill.engines.sim", "--spec", "nonsense=1"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith("sim: ")
    assert ended.stderr.count("\n") == 1
