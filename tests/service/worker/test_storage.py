"""A ledger or a blob store that is away: nothing is sent whose answer could not be kept, nothing
is dropped, and all goes on by itself."""

from __future__ import annotations

import asyncio
from pathlib import Path

from batchmill.calls import Reply
from batchmill.fleet import Timing
from batchmill.model import Job, JobState, Stream, WaitingReason
from tests.service.worker.clocks import SettableClock
from tests.service.worker.engine import Engine, Held, answer_to
from tests.service.worker.mill import Mill, milling, texts_of


async def test_while_the_disk_is_full_nothing_is_sent_and_then_it_goes_on(mill: Mill) -> None:
    held = Held()
    engine = Engine(held)
    await mill.start(engine, concurrency=2)
    job = await mill.job(200)
    await engine.got(2)
    mill.blobs.is_full = True
    held.let_go()
    await mill.until(lambda: says_full(mill))
    calls = len(engine.sent)
    assert calls < 100
    for _ in range(3):
        await mill.beaten()
    assert len(engine.sent) == calls, "a line was sent whose answer cannot be kept"
    mill.blobs.is_full = False
    assert (await mill.ended(job)).succeeded == 200
    assert len(engine.sent) == 200, "a line was sent twice"


async def test_a_worker_ends_though_the_disk_is_full_and_another_asks_again(mill: Mill) -> None:
    held = Held()
    engine = Engine(held)
    running = await mill.start(engine, concurrency=2)
    job = await mill.job(8)
    await engine.got(2)
    mill.blobs.is_full = True
    held.let_go()
    await mill.until(lambda: says_full(mill))
    await running.drain()
    running.wrote_off = True
    assert (await mill.leased_rows(), await mill.strikes()) == (0, 0)
    mill.blobs.is_full = False
    await mill.start(Engine(), name="next")
    assert (await mill.ended(job)).succeeded == 8


async def test_a_drain_makes_answers_durable_for_as_long_as_it_has_time(tmp_path: Path) -> None:
    async with milling(tmp_path, timing=Timing(15.0, 0.2)) as mill:
        held, clock = Held(), SettableClock(1.0)
        engine = Engine(held)
        running = await mill.start(engine, concurrency=2, drain_seconds=60.0, clock=clock)
        job = await mill.job(8)
        await engine.got(2)
        mill.blobs.is_full = True
        held.let_go()
        await mill.until(lambda: says_full(mill))
        running.stop.set()
        await mill.until(lambda: is_draining(mill))
        clock.skip(5.0)
        await asyncio.wait([running.task], timeout=0.2)
        mill.blobs.is_full = False
        async with asyncio.timeout(10):
            await running.task
        assert await mill.done(job) == len(engine.sent)


async def test_a_job_says_that_the_store_is_away_while_its_results_are_put_in_order(
    mill: Mill,
) -> None:
    """Every answer is kept by then: nothing but the shard's closing meets the store."""
    await mill.start(Engine())
    mill.blobs.leaves_writers = True
    job = await mill.job(4)
    await mill.waits(job, WaitingReason.STORAGE_UNAVAILABLE)
    assert await mill.done(job) == 4
    mill.blobs.leaves_writers = mill.blobs.is_full = mill.blobs.is_dark = False
    assert (await mill.ended(job)).succeeded == 4


async def test_a_job_says_that_the_store_is_away_while_its_input_is_read(mill: Mill) -> None:
    job = await mill.job(4)
    mill.blobs.is_full = mill.blobs.is_dark = True
    await mill.start(Engine())
    await mill.waits(job, WaitingReason.STORAGE_UNAVAILABLE)
    mill.blobs.is_full = mill.blobs.is_dark = False
    assert (await mill.ended(job)).succeeded == 4


async def test_while_the_ledger_is_away_no_answers_pile_up(mill: Mill) -> None:
    """The blobs can be written all the time: that alone is no reason to send."""
    engine = Engine()
    running = await mill.start(engine, concurrency=2)
    running.ledger.away.add("commit")
    job = await mill.job(200, tag="big")
    await mill.until(lambda: says_full(mill))
    calls = len(engine.sent)
    for _ in range(4):
        await mill.beaten()
    assert len(engine.sent) <= calls + 2
    running.ledger.away.clear()
    assert (await mill.ended(job)).succeeded == 200
    assert len(engine.sent) == 200


async def test_a_ledger_that_is_away_for_a_moment_loses_nothing(mill: Mill) -> None:
    engine = Engine()
    running = await mill.start(engine, concurrency=2)
    job = await mill.job(24)
    await engine.got(4)
    running.ledger.away.add("*")
    await mill.until(lambda: says_full(mill))
    running.ledger.away.clear()
    assert (await mill.ended(job)).succeeded == 24
    assert len(engine.sent) == 24


async def test_a_commit_whose_answer_is_lost_counts_once(mill: Mill) -> None:
    engine = Engine()
    running = await mill.start(engine)
    running.ledger.mute.add("commit")
    job = await mill.job(8)
    await mill.until(lambda: has_happened(running.ledger.taken["commit"]))
    running.ledger.mute.clear()
    assert (await mill.ended(job)).succeeded == 8
    assert len(engine.sent) == 8


async def test_a_close_whose_answer_is_lost_closes_once(mill: Mill) -> None:
    engine = Engine()
    running = await mill.start(engine)
    running.ledger.mute.add("close")
    job = await mill.job(8)
    assert (await mill.ended(job)).succeeded == 8
    running.ledger.mute.clear()
    assert (await mill.ended(await mill.job(4, tag="later"))).succeeded == 4


async def test_a_close_that_is_tried_again_writes_nothing_over_what_was_published(
    calm_mill: Mill,
) -> None:
    mill = calm_mill
    running = await mill.start(Engine())
    running.ledger.mute.add("close")
    job = await mill.job(4)
    await mill.until(lambda: has_happened(running.ledger.taken["close"]))
    running.heart.away.add("*")  # so that nobody says yet that the lease is over
    spent = await mill.ledger.part_blobs_to_drop(500)  # as another worker's sweep does
    await mill.blobs.delete_many(spent)
    await mill.ledger.dropped(spent)
    tries = running.ledger.begun["close"]
    await mill.until(lambda: has_happened(running.ledger.begun["close"] > tries + 1))
    running.ledger.mute.clear()
    running.heart.away.clear()
    ended = await mill.ended(job)
    rows = await mill.results(ended, Stream.OUT)
    assert [row["response"]["body"] for row in rows] == [
        {"said": text} for text in texts_of("line", range(4))
    ]


async def test_input_that_cannot_be_read_now_is_read_later(mill: Mill) -> None:
    engine = Engine()
    running = await mill.start(engine)
    await mill.until(lambda: has_happened(running.ledger.taken["register"]))
    mill.blobs.is_dark = True
    job = await mill.job(8)
    await mill.until(lambda: has_happened(running.ledger.taken["release"]))
    mill.blobs.is_dark = False
    assert (await mill.ended(job)).succeeded == 8
    assert len(engine.sent) == 8


async def test_a_release_that_the_ledger_refuses_is_tried_again(mill: Mill) -> None:
    held = Held()
    engine = Engine(held)
    running = await mill.start(engine, concurrency=2)
    job = await mill.job(4)
    await engine.got(2)
    running.ledger.away.add("release")
    await mill.pause(job)
    held.let_go()
    await mill.until(lambda: all_done(mill, job, 2))
    await mill.beaten()
    running.ledger.away.clear()
    await mill.until(mill.nothing_is_leased, seconds=1.0)
    assert await mill.strikes() == 0
    await mill.resume(job)
    assert (await mill.ended(job)).succeeded == 4


async def test_a_cancelled_job_ends_once_the_disk_has_room(mill: Mill) -> None:
    engine = Engine()
    await mill.start(engine)
    mill.blobs.is_full = False
    job = await mill.job(12)
    await engine.got(1)
    mill.blobs.is_full = True
    await mill.cancel(job)
    await mill.beaten()
    mill.blobs.is_full = False
    over = await mill.ended(job)
    assert over.state in {JobState.CANCELLED, JobState.COMPLETED}


async def test_answers_of_a_megabyte_leave_the_budget_as_they_came(mill: Mill) -> None:
    async def large(text: str) -> Reply:
        return answer_to(text + "x" * 1_000_000)

    running = await mill.start(Engine(large))
    assert (await mill.ended(await mill.job(8))).succeeded == 8
    assert running.held_bytes == 0


async def all_done(mill: Mill, job: Job, lines: int) -> bool:
    return await mill.done(job) >= lines


async def has_happened(times: int) -> bool:
    return times >= 1


async def says_full(mill: Mill) -> bool:
    return any(not worker.beat.storage_ok for worker in await mill.ledger.workers())


async def is_draining(mill: Mill) -> bool:
    return any(worker.beat.draining for worker in await mill.ledger.workers())
