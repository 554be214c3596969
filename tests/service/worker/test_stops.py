"""Pausing, cancelling, expiring and draining: what is out lands or is aborted, nothing is lost,
and the shard ends in somebody's hands."""

from __future__ import annotations

import asyncio

from batchmill.calls import Overloaded, Reply
from batchmill.model import JobState, Stream
from batchmill.ports import Want
from tests.service.worker.engine import Engine, Held, answers
from tests.service.worker.mill import Mill


async def test_a_paused_job_lands_its_flights_and_a_resumed_one_completes(mill: Mill) -> None:
    held = Held()
    engine = Engine(held)
    await mill.start(engine, concurrency=2)
    job = await mill.job(8)
    await engine.got(2)
    await mill.pause(job)
    held.let_go()
    await mill.until(mill.nothing_is_leased)
    assert len(engine.sent) == 2, "a paused job was sent on"
    assert await mill.done(job) == 2
    await mill.resume(job)
    assert (await mill.ended(job)).succeeded == 8
    assert len(engine.sent) == 8


async def test_a_job_resumed_before_its_flights_land_goes_on(mill: Mill) -> None:
    async def busy(_: str) -> Reply:
        return Overloaded(429, b"{}", 0.01)

    held = Held(then=busy)
    engine = Engine(held)
    await mill.start(engine, concurrency=2)
    job = await mill.job(4)
    await engine.got(2)
    await mill.pause(job)
    await mill.resume(job)
    await mill.beaten()
    engine.script = answers
    held.let_go()
    assert (await mill.ended(job)).succeeded == 4


async def test_a_cancelled_job_keeps_what_lands_within_the_grace(calm_mill: Mill) -> None:
    mill = calm_mill
    held = Held()
    engine = Engine(held)
    await mill.start(engine, concurrency=2)
    job = await mill.job(12)
    await engine.has(2)
    await mill.cancel(job)
    await mill.beaten()
    held.let_go()
    over = await mill.ended(job)
    assert (over.state, over.succeeded, over.failed) == (JobState.CANCELLED, 2, 10)
    assert engine.aborted == []


async def test_a_cancelled_job_aborts_what_does_not_land(calm_mill: Mill) -> None:
    mill = calm_mill
    engine = Engine(Held())
    running = await mill.start(engine, concurrency=2)
    job = await mill.job(12)
    await engine.has(2)
    await mill.cancel(job)
    over = await mill.ended(job)
    assert (over.state, over.succeeded, over.failed) == (JobState.CANCELLED, 0, 12)
    assert sorted(engine.aborted) == sorted(engine.sent)
    codes = {row["error"]["code"] for row in await mill.results(job, Stream.ERR)}
    assert codes == {"cancelled"}
    engine.script = answers
    assert (await mill.ended(await mill.job(4))).succeeded == 4
    await running.drain()


async def test_a_paused_job_that_is_cancelled_ends_without_waiting_for_its_flights(
    calm_mill: Mill,
) -> None:
    mill = calm_mill
    engine = Engine(Held())
    await mill.start(engine, concurrency=2)
    job = await mill.job(4)
    await engine.has(2)
    await mill.pause(job)
    await mill.cancel(job)
    over = await mill.ended(job)
    assert (over.state, over.failed) == (JobState.CANCELLED, 4)


async def test_a_job_whose_window_ends_keeps_what_it_has(mill: Mill) -> None:
    engine = Engine(Held(lambda text: text == "line-3"))
    await mill.start(engine, concurrency=2)
    job = await mill.job(8, window=0.6)
    over = await mill.ended(job)
    assert (over.state, over.succeeded, over.failed) == (JobState.EXPIRED, 7, 1)
    [row] = await mill.results(job, Stream.ERR)
    assert (row["custom_id"], row["error"]["code"]) == ("line-3", "timeout_exceeded")


async def test_a_job_cancelled_while_its_engine_is_down_ends(mill: Mill) -> None:
    async def busy(_: str) -> Reply:
        return Overloaded(503, b"{}", 60.0)

    engine = Engine(busy)
    await mill.start(engine)
    job = await mill.job(12)
    await engine.got(1)
    await mill.cancel(job)
    over = await mill.ended(job)
    assert (over.state, over.failed) == (JobState.CANCELLED, 12)


async def test_a_worker_ends_at_once_while_calls_are_being_aborted(calm_mill: Mill) -> None:
    mill = calm_mill
    aborting = asyncio.Event()

    async def lingers(_: str) -> Reply:
        try:
            await asyncio.Event().wait()
        finally:
            aborting.set()
            await asyncio.Event().wait()
        raise AssertionError("unreachable")

    running = await mill.start(Engine(lingers), concurrency=1)
    job = await mill.job(4)
    await running.engines[0].got(1)
    await mill.cancel(job)
    await aborting.wait()
    await running.kill()


async def test_a_drained_worker_releases_its_shards_without_a_strike(mill: Mill) -> None:
    held = Held(lambda text: text == "line-2")
    engine = Engine(held)
    running = await mill.start(engine, concurrency=2)
    job = await mill.job(12)
    await engine.got(10)
    await running.drain()
    owner = await mill.ledger.register("other", "1", "host", 1)
    leases = await mill.ledger.claim_shards(owner, Want(8))
    assert leases
    assert {lease.strikes for lease in leases} == {0}
    await mill.ledger.release([lease.lease for lease in leases])
    assert engine.aborted == ["line-2"]
    await mill.start(Engine())
    assert (await mill.ended(job)).succeeded == 12


async def test_a_drained_worker_leaves_nothing_leased_that_it_was_about_to_claim(
    mill: Mill,
) -> None:
    for n in range(5):
        running = await mill.start(Engine(Held()), name=f"w{n}")
        await mill.job(4, tag=f"job{n}")
        await running.drain()
        assert await mill.leased_rows() == 0
