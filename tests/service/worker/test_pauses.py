"""Jobs that are resumed while calls are still out: they go on, and no line goes twice."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path

import pytest

from batchmill.calls import Broken, Overloaded, Reply
from batchmill.model import TERMINAL
from tests.service.worker.engine import Engine, Held, InTurn, Script, answers
from tests.service.worker.mill import CALM, Mill, milling
from tests.service.worker.test_bundles import Embedder, embeds


async def test_a_job_resumed_while_a_call_is_out_goes_on_beside_it(tmp_path: Path) -> None:
    async with milling(tmp_path, shard_lines=100) as mill:
        stuck, held = Held(), Held()
        engine = Engine(InTurn(stuck, held, answers))
        await mill.start(engine, concurrency=2)
        job = await mill.job(20)
        await engine.has(2)
        await mill.pause(job)
        held.let_go()
        await engine.has(1)
        assert len(engine.sent) == 2
        await mill.resume(job)
        await engine.got(20)
        stuck.let_go()
        assert (await mill.ended(job)).succeeded == 20
        assert len(engine.sent) == 20


async def test_a_line_that_is_to_wait_does_so_through_a_pause(tmp_path: Path) -> None:
    async def busy(_: str) -> Reply:
        return Overloaded(429, b"{}", 1.0)

    async with milling(tmp_path, shard_lines=100) as mill:
        held = Held()
        engine = Engine(InTurn(held, busy, held))
        await mill.start(engine, concurrency=4)
        job = await mill.job(2)
        await engine.got(2)
        await engine.has(1)
        engine.script = answers
        await mill.pause(job)
        await mill.resume(job)
        await mill.beaten()
        await mill.beaten()
        assert len(engine.sent) == 2, "it was sent before its time"
        await engine.got(3)
        held.let_go()
        assert (await mill.ended(job)).succeeded == 2


class Unsteady:
    """A script that is late, busy or cut off now and then; `twice` are the lines that came while
    they were out."""

    def __init__(self, kind: str, then: Script) -> None:
        self._chance, self._then = random.Random(kind), then
        self._out: set[str] = set()
        self.twice: list[str] = []

    async def __call__(self, text: str) -> Reply:
        lines = set(json.loads(text)) if text.startswith("[") else {text}
        self.twice += self._out & lines
        self._out |= lines
        await asyncio.sleep(self._chance.choice((0.0, 0.01, 0.2)))
        self._out -= lines
        if self._chance.random() < 0.2:
            return Overloaded(429, b"{}", 0.01)
        if self._chance.random() < 0.1:
            return Broken("reset", "cut off")
        return await self._then(text)


@pytest.mark.parametrize("kind", ["plain", "embeddings", "distinct", "serial"])
async def test_no_line_is_out_twice_however_often_its_job_is_paused(
    tmp_path: Path, kind: str
) -> None:
    async with milling(tmp_path, timing=CALM, shard_lines=100) as mill:
        is_serial, embeds_it = kind == "serial", kind == "embeddings"
        script = Unsteady(kind, embeds if embeds_it else answers)
        engine = Embedder(script) if embeds_it else Engine(script)
        lines = 12 if is_serial else 100
        distinct = 30 if kind == "distinct" else 0
        job = await mill.job(lines, distinct=distinct, embeddings=embeds_it)
        if is_serial:
            await strike(mill)
        await mill.start(engine, per_call=4)
        chance = random.Random(kind)
        while (await mill.look(job)).state not in TERMINAL:
            for paused in (True, False):
                await mill.ledger.set_paused(job.tenant, job.id, paused)
                mill.wake()
                await asyncio.sleep(chance.uniform(0.0, 0.15))
        await mill.ended(job)
        assert script.twice == []


async def strike(mill: Mill) -> None:
    """Let the shard that is there look as if its owners had died over it."""
    holder = Engine(Held())
    dying = await mill.start(holder, name="dies")
    await holder.got(1)
    await dying.kill()
    await mill.poison()
