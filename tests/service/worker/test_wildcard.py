"""A wildcard stands for what no engine serves, never for what one does that is away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

from batchmill.calls import Call, Flight, Reply
from batchmill.model import Job, WaitingReason
from tests.service.worker.engine import Engine, Held
from tests.service.worker.mill import Mill

WILD = {"*": "small"}


class Named(Engine):
    """Notes the model that each call asks for. While it `starts` it does not say what it serves."""

    def __init__(self, *models: str, script: Held | None = None) -> None:
        super().__init__(*([script] if script else []), models=models)
        self.asked: list[str] = []
        self.starts = False

    def send(self, call: Call, landed: Callable[[Reply], None]) -> Flight:
        self.asked.append(json.loads(call.body)["model"])
        return super().send(call, landed)

    async def models(self) -> tuple[str, ...]:
        while self.starts:
            await asyncio.sleep(0.01)
        return await super().models()


async def sent(mill: Mill, job: Job, small: Named, big: Named) -> tuple[set[str], set[str]]:
    """What each engine was asked for until the job ended."""
    await mill.ended(job)
    return set(small.asked), set(big.asked)


async def test_a_worker_that_starts_anew_waits_for_the_engine_it_knows(mill: Mill) -> None:
    held = Held()
    small, big = Named("small"), Named("big", script=held)
    first = await mill.start(small, big, aliases=WILD)
    job = await mill.job(40, model="big")
    await big.has(4)
    await first.kill()
    big.starts = True
    await mill.expire_leases()
    await mill.start(small, big, aliases=WILD)
    await mill.waits(job, WaitingReason.ENGINE_DOWN)
    assert small.asked == []
    big.starts = False
    held.let_go()
    assert await sent(mill, job, small, big) == (set(), {"big"})


async def test_lines_of_several_models_wait_for_an_engine_never_seen(mill: Mill) -> None:
    small, big = Named("small"), Named("big")
    big.starts = True
    await mill.start(small, big, aliases=WILD)
    job = await mill.job(12, models=("small", "big", "gpt"))
    await small.got(4)
    await mill.waits(job, WaitingReason.ENGINE_DOWN)
    assert set(small.sent) == {f"line-{n}" for n in range(0, 12, 3)}
    big.starts = False
    assert await sent(mill, job, small, big) == ({"small"}, {"big"})
    assert len(small.sent) == 8


async def test_a_name_that_another_workers_engine_serves_is_no_wildcards(mill: Mill) -> None:
    other = await mill.start(Named("small"), Named("big"), name="v", aliases=WILD)
    await mill.ended(await mill.job(4, tag="first", model="big"))
    await other.drain()
    alone, small, big = Named("small"), Named("small"), Named("big")
    await mill.start(alone, aliases=WILD)
    job = await mill.job(40, model="big")
    await mill.waits(job, WaitingReason.ENGINE_DOWN)
    await mill.start(small, big, name="v", aliases=WILD)
    assert await sent(mill, job, small, big) == (set(), {"big"})
    assert alone.asked == []


async def test_lines_are_read_anew_where_an_engine_serves_what_it_did_not(mill: Mill) -> None:
    """What an earlier life saw holds only until the engine is seen again."""
    held = Held()
    small, big = Named("small"), Named("big", script=held)
    first = await mill.start(small, big, aliases=WILD)
    await mill.job(4, tag="first", model="big")
    await big.has(4)
    await first.kill()
    big.starts, big.served = True, ("huge",)
    await mill.start(small, big, aliases=WILD)
    job = await mill.job(12, models=("small", "big"))
    await small.got(6)
    big.starts = False
    await small.got(12)
    held.let_go()
    await mill.ended(job)
    assert set(big.asked) == {"big"}
