"""Workers keep to the limits of their engines, each to its share."""

from __future__ import annotations

import asyncio
import time

from batchmill.calls import Reply
from batchmill.core.models import Catalogue
from batchmill.core.progress import progress
from batchmill.grants import Limit
from batchmill.model import WaitingReason
from tests.service.worker.engine import Engine, Held, answer_to
from tests.service.worker.mill import Mill


async def test_two_workers_together_keep_to_the_calls_of_an_engine(calm_mill: Mill) -> None:
    mill, together = calm_mill, 0
    most, all_are_out = 0, asyncio.Event()

    async def slowly(text: str) -> Reply:
        nonlocal together, most
        together += 1
        most = max(most, together)
        if together == 6:
            all_are_out.set()
        await all_are_out.wait()
        await asyncio.sleep(0.02)
        together -= 1
        return answer_to(text)

    engines = Engine(slowly), Engine(slowly)
    for name, engine in zip("ab", engines, strict=True):
        await mill.start(engine, name=name, concurrency=6, limits=(Limit("", concurrency=6),))
    jobs = [await mill.job(60, tag) for tag in ("first", "second")]
    for job in jobs:
        assert (await mill.ended(job, 20)).succeeded == 60
    assert most == 6
    assert len(engines[0].sent) + len(engines[1].sent) == 120


async def test_a_limit_on_one_model_holds_up_no_other(calm_mill: Mill) -> None:
    mill, big_ones, most = calm_mill, 0, 0

    def is_big(text: str) -> bool:
        return int(text.rpartition("-")[2]) % 2 == 0

    held = Held(is_big)

    async def counted(text: str) -> Reply:
        nonlocal big_ones, most
        big_ones += is_big(text)
        most = max(most, big_ones)
        reply = await held(text)
        big_ones -= is_big(text)
        return reply

    engine = Engine(counted, models=("big", "small"))
    await mill.start(engine, concurrency=8, limits=(Limit("big", concurrency=2),))
    job = await mill.job(60, models=("big", "small"))  # many more than it keeps ready

    async def small_ones_are_done() -> bool:
        return await mill.done(job) == 30

    await mill.until(small_ones_are_done)
    await engine.has(2)
    held.let_go()
    assert (await mill.ended(job)).succeeded == 60
    assert most == 2


async def test_calls_go_at_an_even_pace(calm_mill: Mill) -> None:
    mill, engine = calm_mill, Engine()
    await mill.start(engine, concurrency=50, limits=(Limit("", requests_per_minute=1200),))
    began = time.monotonic()
    job = await mill.job(30)
    await mill.ended(job)
    assert time.monotonic() - began > 30 / 20 - 0.2


async def test_a_job_that_only_a_rate_holds_up_says_so(calm_mill: Mill) -> None:
    mill, engine = calm_mill, Engine()
    await mill.start(engine, limits=(Limit("", requests_per_minute=1),))
    job = await mill.job(5)

    async def says_so() -> bool:
        now = await mill.look(job)
        workers = await mill.ledger.workers()
        seen = progress(now, workers, Catalogue({}, await mill.ledger.engines()), time.time())
        return seen.waiting_reason is WaitingReason.RATE_LIMITED

    await mill.until(says_so)
    assert engine.sent == []


async def test_tokens_that_were_used_are_paid_back_before_the_next_line(calm_mill: Mill) -> None:
    mill, engine = calm_mill, Engine()
    await mill.start(engine, limits=(Limit("", tokens_per_minute=300),))
    await mill.job(5)
    await engine.got(1)
    for _ in range(3):
        await mill.beaten()
    await asyncio.sleep(0.3)
    assert len(engine.sent) == 1


async def test_a_drained_workers_share_is_free_at_once(calm_mill: Mill) -> None:
    mill, held = calm_mill, Held()
    first, second = Engine(held), Engine()
    limits = (Limit("", concurrency=2),)
    leaving = await mill.start(first, name="a", limits=limits)
    await mill.job(40)
    await first.has(2)
    held.let_go()
    await leaving.drain()
    assert await mill.shares() == 0
    await mill.start(second, name="b", limits=limits)
    await second.got(3)
