"""Every reason to wait, in the situation that it names, over the real ledger and worker."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from batchmill.calls import Overloaded, Refused, Reply
from batchmill.model import Job, WaitingReason
from batchmill.schedules import Schedule, parse_spans
from tests.service.worker.clocks import SettableClock
from tests.service.worker.engine import Engine, Held, answers
from tests.service.worker.mill import Mill, milling
from tests.service.worker.test_schedules import EVENING

R = WaitingReason
Situation = Callable[[Mill], Awaitable[Job]]


async def nobody_lives(mill: Mill) -> Job:
    return await mill.job(4)


async def a_worker_died(mill: Mill) -> Job:
    engine = Engine(Held())
    running = await mill.start(engine, concurrency=1)
    job = await mill.job(4)
    await engine.got(1)
    await running.kill()
    return job


async def its_engine_is_away(mill: Mill) -> Job:
    engine = Engine()
    engine.is_down = True
    await mill.start(engine)
    return await mill.job(4)


async def its_engine_went_away(mill: Mill) -> Job:
    engine = Engine()
    await mill.start(engine)
    await mill.ended(await mill.job(4))

    async def unpaid(_: str) -> Reply:
        return Refused(402, b"{}", "unpaid")

    engine.script, engine.is_down = unpaid, True
    return await mill.job(4)


async def nobody_serves_its_model(mill: Mill) -> Job:
    await mill.start(Engine(models=("other",)))
    return await mill.job(4)


async def its_engine_asks_for_time(mill: Mill) -> Job:
    async def busy(_: str) -> Reply:
        return Overloaded(429, b"{}", 5.0)

    await mill.start(Engine(busy), concurrency=1)
    return await mill.job(4)


async def its_engine_is_closed(mill: Mill) -> Job:
    night = Schedule(parse_spans("22:00-06:00"))
    await mill.start(Engine(), schedules=[night], clock=SettableClock(EVENING))
    return await mill.job(4)


async def its_tenant_has_enough(mill: Mill) -> Job:
    engine = Engine(Held())
    await mill.start(engine, concurrency=1)
    await mill.job(8, tag="first")
    await engine.got(1)
    return await mill.job(4)


async def it_is_paused(mill: Mill) -> Job:
    await mill.start(Engine(models=("other",)))
    job = await mill.job(4)
    await mill.waits(job, R.MODEL_NOT_SERVED)
    await mill.pause(job)
    return job


async def others_have_their_turn(mill: Mill) -> Job:
    engine = Engine(Held())
    await mill.start(engine, concurrency=1)
    await mill.job(8, tag="first", priority=1)
    await engine.got(1)
    return await mill.job(4)


async def its_results_cannot_be_kept(mill: Mill) -> Job:
    held = Held()
    engine = Engine(held)
    await mill.start(engine, concurrency=1)
    job = await mill.job(200)
    await engine.got(1)
    mill.blobs.is_full = True
    held.let_go()
    return job


@pytest.mark.parametrize(
    ("situation", "reason"),
    [
        (nobody_lives, R.NO_WORKER),
        (a_worker_died, R.NO_WORKER),
        (its_engine_is_away, R.ENGINE_DOWN),
        (its_engine_went_away, R.ENGINE_DOWN),
        (nobody_serves_its_model, R.MODEL_NOT_SERVED),
        (its_engine_asks_for_time, R.RATE_LIMITED),
        (its_engine_is_closed, R.OUTSIDE_SCHEDULE),
        (its_tenant_has_enough, R.TENANT_QUOTA),
        (it_is_paused, R.PAUSED),
        (others_have_their_turn, R.QUEUED_BEHIND_JOBS),
        (its_results_cannot_be_kept, R.STORAGE_UNAVAILABLE),
    ],
)
async def test_a_job_says_why_it_waits(
    tmp_path: Path, situation: Situation, reason: WaitingReason
) -> None:
    quota = 10 if situation is its_tenant_has_enough else 0
    async with milling(tmp_path, quota=quota) as mill:
        job = await situation(mill)
        await mill.waits(job, reason, 15.0)
        for running in mill.workers:
            await running.kill()


async def test_a_job_whose_lines_wait_for_their_next_try_says_so(mill: Mill) -> None:
    tries = 0

    async def fails_at_first(text: str) -> Reply:
        nonlocal tries
        tries += 1
        return Refused(500, b"{}", "broken") if tries <= 2 else await answers(text)

    await mill.start(Engine(fails_at_first), concurrency=1)
    job = await mill.job(1)

    async def retries() -> bool:
        return (await mill.progress(job)).waiting_reason is R.RETRYING

    await mill.until(retries)
    await mill.ended(job, 30)


async def test_a_job_whose_lines_are_being_checked_says_so(mill: Mill) -> None:
    running = await mill.start(Engine())
    running.ledger.away.add("plan")
    job = await mill.job(4)
    await mill.waits(job, R.VALIDATING)
    running.ledger.away.clear()
    await mill.ended(job, 30)
