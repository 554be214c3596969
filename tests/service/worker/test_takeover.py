"""Workers that die, lose their leases or hear nothing: what they did counts once, and others go
on from there."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import pytest

from batchmill.calls import Broken, Reply
from batchmill.clock import SystemClock
from batchmill.fleet import Timing
from batchmill.model import Job, JobState, Stream
from batchmill.ports import Want
from tests.service.worker.engine import Engine, Held, InTurn, answer_to
from tests.service.worker.mill import Mill, milling, texts_of
from tests.service.worker.stores import LeavingLedger


async def test_a_second_worker_goes_on_from_what_a_killed_one_published(mill: Mill) -> None:
    engine = Engine(Held(lambda text: text == "line-2"))
    first = await mill.start(engine, name="first", concurrency=2)
    job = await mill.job(4)
    await mill.until(lambda: has_done(mill, job, 3))
    await first.kill()
    second = Engine()
    await mill.start(second, name="second")
    over = await mill.ended(job)
    assert (over.succeeded, second.sent) == (4, ["line-2"])


async def test_a_killed_workers_unpublished_answers_are_asked_again(mill: Mill) -> None:
    engine = Engine()
    first = await mill.start(engine, name="first")
    first.ledger.away.add("commit")
    job = await mill.job(4)
    await engine.got(4)
    await first.kill()
    second = Engine()
    await mill.start(second, name="second")
    assert (await mill.ended(job)).succeeded == 4
    assert sorted(second.sent) == texts_of("line", range(4))


async def test_a_worker_whose_shard_was_granted_to_another_publishes_nothing(mill: Mill) -> None:
    held = Held(lambda text: text == "line-2")
    engine = Engine(held)
    first = await mill.start(engine, name="first", concurrency=2)
    job = await mill.job(4)
    await mill.until(lambda: has_done(mill, job, 3))
    await mill.revoke(job)
    await mill.until(lambda: was_aborted(engine))
    assert engine.aborted == ["line-2"]
    held.let_go()
    await mill.expire_leases()
    over = await mill.ended(job)
    assert over.succeeded == 4
    assert not first.task.done()


async def test_a_stale_answer_that_lands_late_is_thrown_away(calm_mill: Mill) -> None:
    """The shard is granted to another, and its line answered, before the old owner's next beat."""
    mill = calm_mill
    held = Held()
    engine = Engine(held)
    first = await mill.start(engine, name="first", concurrency=4)
    first.heart.away.add("renew")
    job = await mill.job(4)
    await engine.got(4)
    await mill.revoke(job)
    held.let_go()
    await mill.until(lambda: answers_were_refused(first.ledger.taken["commit"]))
    assert await mill.done(job) == 0
    await first.kill()
    await mill.expire_leases()
    second = Engine()
    await mill.start(second, name="second")
    assert (await mill.ended(job)).succeeded == 4


async def test_a_worker_that_cannot_renew_stops_all_it_does(mill: Mill) -> None:
    held = Held()
    engine = Engine(held)
    first = await mill.start(engine, name="first", concurrency=2)
    job = await mill.job(8)
    await engine.got(2)
    first.heart.away.add("*")
    await mill.until(lambda: was_aborted(engine, 2))
    calls = len(engine.sent)
    other = Engine()
    second = await mill.start(other, name="second")
    assert (await mill.ended(job)).succeeded == 8
    assert len(engine.sent) == calls == 2, "a fenced worker sent"
    await second.drain()
    first.heart.away.clear()
    held.let_go()
    assert (await mill.ended(await mill.job(4, tag="later"))).succeeded == 4
    assert len(engine.sent) == 6, "the fence was not lifted"


async def test_a_worker_that_fenced_itself_lets_go_of_what_is_still_its_own(mill: Mill) -> None:
    """A beat on its way may have renewed the leases when it found that it was late."""
    held = Held()
    engine = Engine(held)
    first = await mill.start(engine, name="first", concurrency=2)
    job = await mill.job(4)
    await engine.got(2)
    first.heart.away.add("renew")
    await mill.lengthen_leases(60)
    await mill.until(lambda: was_aborted(engine, 2))
    await mill.start(Engine(), name="second")
    assert (await mill.ended(job)).succeeded == 4
    assert await mill.strikes() == 0
    first.heart.away.clear()


async def test_senders_that_found_the_worker_fenced_are_woken_when_it_is_not(
    tmp_path: Path,
) -> None:
    """The worker looks for the fence once a beat from its start, and renews a third of a beat
    later, at the claim: the fence falls long before it looks again."""
    async with milling(tmp_path, timing=Timing(lease_seconds=4.5, beat_seconds=1.5)) as mill:
        held = Held()
        engine = Engine(held)
        first = await mill.start(engine, concurrency=2)
        await SystemClock().sleep(0.5)
        job = await mill.job(4)
        await engine.got(2)
        await first.heart.takes("renew")
        first.heart.away.add("*")
        await SystemClock().sleep(mill.timing.fence_seconds + 0.05)
        held.let_go()
        await mill.until(lambda: has_done(mill, job, 2))
        first.heart.away.clear()
        mill.wake()
        assert (await mill.ended(job)).succeeded == 4
        assert len(engine.sent) == 4


async def test_a_shard_that_killed_three_owners_runs_one_line_at_a_time(mill: Mill) -> None:
    job = await mill.job(4)
    await struck(mill, job, times=3)
    engine = Engine()
    worker = await mill.start(engine, concurrency=4)
    over = await mill.ended(job)
    assert (over.succeeded, engine.most_in_flight) == (4, 1)
    assert worker.ledger.taken["note_alone"] >= 4


async def test_a_line_alone_is_followed_only_once_it_is_durable(mill: Mill) -> None:
    job = await mill.job(4)
    await struck(mill, job, times=3)
    engine = Engine()
    worker = await mill.start(engine)
    worker.ledger.away.add("commit")
    await engine.got(1)
    for _ in range(3):
        await mill.beaten()
    assert engine.sent == ["line-0"]
    worker.ledger.away.clear()
    assert (await mill.ended(job)).succeeded == 4


async def test_a_line_alone_at_two_deaths_fails_and_the_rest_goes_on(mill: Mill) -> None:
    job = await mill.job(4)
    await struck(mill, job, times=3)
    for _ in range(2):
        engine = Engine(Held(lambda text: text == "line-1"))
        doomed = await mill.start(engine, concurrency=4)
        await engine.has(1)
        await mill.until(lambda engine=engine: is_at(engine, "line-1"))  # type: ignore[misc]
        await doomed.kill()
        await mill.expire_leases()
        await struck(mill, job, times=3)
    last = Engine()
    await mill.start(last)
    over = await mill.ended(job)
    assert (over.state, over.succeeded, over.failed) == (JobState.COMPLETED, 3, 1)
    [row] = await mill.results(job, Stream.ERR)
    assert (row["custom_id"], row["error"]["code"]) == ("line-1", "worker_lost")
    assert "line-1" not in last.sent


async def test_a_line_that_waits_for_its_engine_dies_no_lonely_death(mill: Mill) -> None:
    """Noted as alone, refused by the engine and waiting: not in flight when its owner dies."""
    job = await mill.job(2)
    await struck(mill, job, times=3)

    async def loses(_: str) -> Reply:
        return Broken("timeout", "too slow")

    for _ in range(2):
        engine = Engine(InTurn(loses, Held()))
        doomed = await mill.start(engine)
        await engine.got(1)
        await mill.until(lambda engine=engine: is_idle(engine))  # type: ignore[misc]
        await mill.until(lambda: nothing_is_noted(mill))
        await doomed.kill()
        await mill.expire_leases()
        await struck(mill, job, times=3)
    await mill.start(Engine())
    assert (await mill.ended(job)).succeeded == 2


async def test_a_line_whose_answer_cannot_be_made_durable_dies_no_lonely_death(mill: Mill) -> None:
    """The storage is away while two owners are killed that have its answer."""
    job = await mill.job(2)
    await struck(mill, job, times=3)
    for _ in range(2):
        engine = Engine()
        doomed = await mill.start(engine)
        doomed.ledger.away.add("commit")
        await engine.got(1)
        await mill.until(lambda: nothing_is_noted(mill))
        await doomed.kill()
        await mill.expire_leases()
        await struck(mill, job, times=3)
    await mill.start(Engine())
    assert (await mill.ended(job)).succeeded == 2


async def test_a_line_that_loses_connections_runs_alone_and_then_fails(mill: Mill) -> None:
    async def kills(text: str) -> Reply:
        return Broken("reset", "gone") if text == "line-1" else answer_to(text)

    engine = Engine(kills)
    await mill.start(engine)
    over = await mill.ended(await mill.job(4), seconds=30)
    assert (over.succeeded, over.failed, engine.sent.count("line-1")) == (3, 1, 5)


async def test_a_result_that_was_lost_from_storage_leaves_a_line_that_says_so(mill: Mill) -> None:
    engine = Engine(Held(lambda text: text == "line-2"))
    first = await mill.start(engine, name="first", concurrency=2)
    job = await mill.job(4)
    await mill.until(lambda: has_done(mill, job, 3))
    await first.kill()
    parts = [name async for name in mill.blobs.names(f"jobs/{job.id}/parts/", 0.0)]
    await mill.blobs.delete_many(parts)
    await mill.start(Engine(), name="second")
    over = await mill.ended(job)
    assert (over.state, over.succeeded) == (JobState.COMPLETED, 4)
    rows = await mill.results(job, Stream.OUT)
    assert [row["custom_id"] for row in rows] == texts_of("line", range(4))
    lost = [row["custom_id"] for row in rows if row["error"] is not None]
    assert lost == ["line-0", "line-1", "line-3"]


async def test_lost_results_of_a_complete_shard_keep_their_ids(mill: Mill) -> None:
    first = await mill.start(Engine(), name="first")
    first.ledger.away.add("close")
    job = await mill.job(4)
    await mill.until(lambda: has_done(mill, job, 4))
    await first.kill()
    parts = [name async for name in mill.blobs.names(f"jobs/{job.id}/parts/", 0.0)]
    await mill.blobs.delete_many(parts)
    await mill.start(Engine(), name="second")
    await mill.ended(job)
    assert len(await mill.results(job, Stream.OUT)) == 4


async def test_input_that_is_lost_fails_the_job_with_a_line_for_each_line(mill: Mill) -> None:
    engine = Engine()
    job = await mill.job(8)
    planner = await mill.start(Engine(models=()))
    await mill.until(lambda: is_in(mill, job, JobState.QUEUED))
    await planner.drain()
    inputs = [name async for name in mill.blobs.names("inputs/", 0.0)]
    await mill.blobs.delete_many(inputs)
    await mill.start(engine)

    async def ends() -> bool:
        return (await mill.look(job)).state is JobState.FAILED

    await mill.until(ends)
    over = await mill.look(job)
    rows = await mill.results(job, Stream.ERR)
    assert (over.failed, len(rows), engine.sent) == (8, 8, [])


async def struck(mill: Mill, job: Job, *, times: int) -> None:
    """Let owners die over the job's shards, so many times."""
    planner = await mill.start(Engine(models=()), name="planner")
    await mill.until(lambda: is_validated(mill, job))
    await planner.drain()
    for n in range(times):
        owner = await mill.ledger.register(f"dying{n}", "1", "host", 1)
        assert await mill.ledger.claim_shards(owner, Want(8))
        await mill.expire_leases()


async def has_done(mill: Mill, job: Job, lines: int) -> bool:
    return await mill.done(job) >= lines


async def was_aborted(engine: Engine, calls: int = 1) -> bool:
    return len(engine.aborted) >= calls


async def answers_were_refused(commits: int) -> bool:
    return commits >= 1


async def is_at(engine: Engine, text: str) -> bool:
    return bool(engine.sent) and engine.sent[-1] == text


async def is_idle(engine: Engine) -> bool:
    return engine.in_flight == 0


async def nothing_is_noted(mill: Mill) -> bool:
    return await mill.noted_rows() == 0


async def is_in(mill: Mill, job: Job, state: JobState) -> bool:
    return (await mill.look(job)).state is state


async def is_validated(mill: Mill, job: Job) -> bool:
    return not await is_in(mill, job, JobState.VALIDATING)


async def test_a_worker_ends_where_the_landing_of_a_reply_breaks_and_another_takes_over(
    mill: Mill,
) -> None:
    async def nonsense(_: str) -> Reply:
        return cast(Reply, object())

    running = await mill.start(Engine(nonsense))
    job = await mill.job(3)
    await asyncio.wait([running.task], timeout=5)
    assert running.task.done(), "its lines would hang for ever"
    with pytest.raises(ExceptionGroup):
        running.task.result()
    mill.workers.remove(running)
    await running.heart.close_connections()
    await mill.start(Engine(), name="another")
    assert (await mill.ended(job)).succeeded == 3


async def test_a_ledger_that_is_away_for_longer_than_a_lease_is_no_strike(mill: Mill) -> None:
    held = Held()
    engine = Engine(held)
    running = await mill.start(engine, concurrency=4)
    job = await mill.job(4)
    await engine.got(4)
    both = (running.ledger, running.heart)
    for ledger in both:
        ledger.away.add("*")
    await mill.until(lambda: was_aborted(engine))
    asked = running.ledger.begun["release"]
    await mill.until(lambda: has_asked(running.ledger, asked + 4))
    held.let_go()
    for ledger in both:
        ledger.away.clear()
    assert (await mill.ended(job)).succeeded == 4
    assert await mill.strikes() == 0


async def has_asked(ledger: LeavingLedger, times: int) -> bool:
    return ledger.begun["release"] >= times
