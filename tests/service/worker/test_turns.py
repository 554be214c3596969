"""Jobs and tenants take turns: a small job does not wait for a big one, whatever blocks it."""

from __future__ import annotations

from pathlib import Path

from batchmill.calls import Overloaded, Reply
from batchmill.core.claiming import Room
from batchmill.model import TenantId
from tests.service.worker.engine import Engine, Held, InTurn, answers
from tests.service.worker.mill import Mill, milling


async def test_a_line_that_is_refused_for_overload_holds_up_no_other(mill: Mill) -> None:
    """The engine rests for a moment, the line for as long as its own tries ask."""
    engine = Engine(InTurn(is_busy, answers))
    await mill.start(engine, concurrency=1)
    assert (await mill.ended(await mill.job(4))).succeeded == 4
    refused = engine.sent[0]
    assert engine.sent.index(refused, 1) == 4, engine.sent


async def test_a_small_job_does_not_wait_for_a_big_one(mill: Mill) -> None:
    held = Held()
    engine = Engine(held)
    await mill.start(engine, concurrency=2)
    big = await mill.job(60, tag="big")
    await engine.has(2)
    small = await mill.job(4, tag="small")
    await mill.until(lambda: is_open(mill, small.id))
    held.let_go()
    await mill.ended(big)
    await mill.ended(small)
    last = max(n for n, text in enumerate(engine.sent) if text.startswith("small"))
    assert last < 20, engine.sent


async def test_jobs_take_turns_where_one_call_at_a_time_is_out(mill: Mill) -> None:
    held = Held()
    engine = Engine(held)
    await mill.start(engine, concurrency=1)
    big = await mill.job(40, tag="big")
    await engine.has(1)
    small = await mill.job(4, tag="small")
    await mill.until(lambda: is_open(mill, small.id))
    held.let_go()
    await mill.ended(big)
    await mill.ended(small)
    last = max(n for n, text in enumerate(engine.sent) if text.startswith("small"))
    assert last < 15, engine.sent


async def test_a_tenant_of_many_jobs_gets_no_more_than_one_of_few(tmp_path: Path) -> None:
    async with milling(tmp_path, shard_lines=12) as mill:
        await share(mill)


async def share(mill: Mill) -> None:
    held = Held()
    engine = Engine(held)
    await mill.start(engine, concurrency=2)
    greedy, modest = TenantId("greedy"), TenantId("modest")
    many = [await mill.job(12, tag=f"greedy{n}", tenant=greedy) for n in range(4)]
    one = await mill.job(12, tag="modest", tenant=modest)
    for job in (*many, one):
        await mill.until(lambda job=job: is_open(mill, job.id))  # type: ignore[misc]
    held.let_go()
    for job in (*many, one):
        await mill.ended(job)
    last = max(n for n, text in enumerate(engine.sent) if text.startswith("modest"))
    assert last < 36, engine.sent


async def test_a_job_whose_engine_is_away_holds_up_no_other(mill: Mill) -> None:
    async def busy(_: str) -> Reply:
        return Overloaded(503, b"{}", 0.2)

    stuck = Engine(busy, models=("away",))
    works = Engine()
    await mill.start(stuck, works, concurrency=2)
    waits = await mill.job(64, tag="waits", model="away")
    await stuck.got(1)
    other = await mill.job(40, tag="other")
    assert (await mill.ended(other)).succeeded == 40
    stuck.script = answers
    assert (await mill.ended(waits, seconds=12)).succeeded == 64


async def test_a_window_stays_full_beside_a_slow_engine_with_many_lines(mill: Mill) -> None:
    """Two models: the lines that wait for one of them are no reason to open none for the other."""
    slow = Engine(Held(), models=("slow",))
    held = Held()
    fast = Engine(held)
    await mill.start(slow, fast, concurrency=6)
    waits = await mill.job(80, tag="waits", model="slow")
    await slow.has(6)
    job = await mill.job(40, tag="other")
    await fast.has(6)
    await mill.until(lambda: is_open(mill, job.id, shards=4))
    held.let_go()
    await mill.ended(job)
    slow.script.let_go()  # type: ignore[attr-defined]
    await mill.ended(waits)


async def test_small_jobs_of_a_slow_engine_leave_room_for_another_engine(mill: Mill) -> None:
    slow = Engine(Held(), models=("slow",))
    room = Room(open_shards=6, spare_shards=2)
    running = await mill.start(slow, Engine(), concurrency=2, room=room)
    waits = [await mill.job(1, tag=f"waits-{n}", model="slow") for n in range(12)]
    await slow.has(2)
    await mill.until(lambda: are_held(mill, 8))
    assert (await mill.ended(await mill.job(20))).succeeded == 20
    before = running.ledger.begun["claim_shards"]
    for _ in range(5):
        await mill.beaten()
    assert running.ledger.begun["claim_shards"] - before <= 20, "it asks again and again"
    assert await are_held(mill, 8)
    slow.script.let_go()  # type: ignore[attr-defined]
    for job in waits:
        await mill.ended(job)


async def are_held(mill: Mill, shards: int) -> bool:
    return await mill.leased_rows() == shards


async def test_a_paused_job_holds_up_no_other(mill: Mill) -> None:
    engine = Engine(Held(lambda text: text.startswith("paused")))
    await mill.start(engine, concurrency=2)
    paused = await mill.job(40, tag="paused")
    await engine.got(2)
    await mill.pause(paused)
    other = await mill.job(8, tag="other")
    engine.script.let_go()  # type: ignore[attr-defined]
    assert (await mill.ended(other)).succeeded == 8
    await mill.resume(paused)
    assert (await mill.ended(paused)).succeeded == 40


async def is_open(mill: Mill, job: str, shards: int = 1) -> bool:
    """Whether so many shards of the job are held, and were two beats before: their lines have
    been read."""
    held = await mill.leased_shards(job) >= shards
    for _ in range(2):
        await mill.beaten()
    return held and await mill.leased_shards(job) >= shards


async def is_busy(text: str) -> Reply:
    return Overloaded(429, b"{}")


async def test_a_worker_without_room_waits_for_some_instead_of_asking_again(
    calm_mill: Mill,
) -> None:
    held = Held()
    engine = Engine(held)
    running = await calm_mill.start(engine, concurrency=8, room=Room(open_shards=2))
    job = await calm_mill.job(40)
    await engine.has(8)
    before = running.ledger.begun["claim_shards"]
    for _ in range(100):  # long enough for ten claims, one after the other
        await calm_mill.ledger.job(job.tenant, job.id)
    assert running.ledger.begun["claim_shards"] - before <= 3
    held.let_go()
    assert (await calm_mill.ended(job)).succeeded == 40


async def test_a_worker_that_comes_late_is_given_of_what_another_holds(tmp_path: Path) -> None:
    async with milling(tmp_path, shard_lines=8) as mill:
        held = Held()
        first, second = Engine(held), Engine()
        await mill.start(first, concurrency=1)
        job = await mill.job(32)
        await first.has(1)
        await mill.until(lambda: is_open(mill, job.id))
        await mill.start(second, concurrency=1, name="late")
        await second.got(8)
        held.let_go()
        assert (await mill.ended(job)).succeeded == 32
        assert len(first.sent) + len(second.sent) == 32
