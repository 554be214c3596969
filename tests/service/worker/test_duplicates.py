"""Lines with the same deterministic body: sent once, answered all, whoever runs which of them."""

from __future__ import annotations

import asyncio
import random
from functools import partial
from pathlib import Path

import pytest

from batchmill.calls import Broken, Refused, Reply
from batchmill.model import Job, JobState, Stream
from tests.service.worker.engine import Engine, Held, answer_to
from tests.service.worker.mill import Mill, milling, texts_of


@pytest.fixture
async def mill(calm_mill: Mill) -> Mill:
    """Calls are counted here: no lease is to run out on a busy machine."""
    return calm_mill


async def answered_by(mill: Mill, job: Job, distinct: int) -> None:
    """Every line has the answer to its own text, and an id of its own."""
    rows = await mill.results(job, Stream.OUT)
    said = [row["response"]["body"]["said"] for row in rows]
    assert said == texts_of("line", [n % distinct for n in range(job.total)])
    assert len({row["id"] for row in rows}) == job.total


async def test_a_body_that_stands_on_many_lines_is_sent_once(mill: Mill) -> None:
    engine = Engine()
    await mill.start(engine)
    over = await mill.ended(await mill.job(50, distinct=7))
    assert (over.state, over.succeeded, over.deduplicated) == (JobState.COMPLETED, 50, 43)
    assert sorted(engine.sent) == sorted(texts_of("line", range(7)))
    await answered_by(mill, over, 7)


async def test_a_job_of_openais_may_name_several_models(mill: Mill) -> None:
    engine = Engine(models=("a", "b"))
    await mill.start(engine)
    over = await mill.ended(await mill.job(24, distinct=3, models=("a", "b")))
    assert (over.succeeded, over.deduplicated) == (24, 18)
    assert sorted(engine.sent) == sorted(texts_of("line", [0, 0, 1, 1, 2, 2]))


async def test_a_duplicate_fails_as_its_original_did_and_is_not_sent(mill: Mill) -> None:
    async def refuses_the_second(text: str) -> Reply:
        if text == "line-1":
            return Refused(400, b'{"error":"no"}', "no", code="bad")
        return answer_to(text)

    engine = Engine(refuses_the_second)
    await mill.start(engine)
    over = await mill.ended(await mill.job(20, distinct=4))
    assert sorted(engine.sent) == texts_of("line", range(4))
    assert (over.succeeded, over.failed, over.deduplicated) == (15, 5, 16)
    assert [(each.code, each.count) for each in over.failures.summary] == [("bad", 5)]
    rows = await mill.results(over, Stream.ERR)
    assert [row["custom_id"] for row in rows] == texts_of("line", range(1, 20, 4))
    assert {row["response"]["status_code"] for row in rows} == {400}


async def test_a_duplicate_of_what_timed_out_is_not_tried_again(mill: Mill) -> None:
    async def times_out(text: str) -> Reply:
        return Broken("timeout", "too slow")

    engine = Engine(times_out)
    await mill.start(engine)
    over = await mill.ended(await mill.job(6, distinct=1), 20)
    assert (over.failed, over.deduplicated, len(engine.sent)) == (6, 5, 3)
    assert over.failures.summary[0].code == "request_timeout"


async def test_two_workers_share_the_answers(mill: Mill) -> None:
    held = Held()
    engines = [Engine(held), Engine(held)]
    rooms = [await mill.start(each, name=f"w{n}") for n, each in enumerate(engines)]
    job = await mill.job(120, distinct=30)

    async def both_hold_some() -> bool:
        return all(room.worker._holdings.shards() for room in rooms)

    await mill.until(both_hold_some)
    held.let_go()
    over = await mill.ended(job, 20)
    assert (over.succeeded, over.deduplicated) == (120, 90)
    assert len(engines[0].sent) + len(engines[1].sent) == 30
    await answered_by(mill, over, 30)


async def test_a_successor_goes_on_with_what_a_killed_worker_published(mill: Mill) -> None:
    first = Engine(Held(lambda text: text == "line-2"))
    worker = await mill.start(first, name="first", concurrency=3)
    job = await mill.job(40, distinct=3)

    async def the_others_are_done() -> bool:
        return (await mill.look(job)).succeeded == 27

    await mill.until(the_others_are_done)
    await worker.kill()
    second = Engine()
    await mill.start(second, name="second")
    over = await mill.ended(job)
    assert (over.succeeded, second.sent) == (40, ["line-2"])
    await answered_by(mill, over, 3)


async def test_a_cancel_leaves_duplicates_of_what_was_not_answered_cancelled(mill: Mill) -> None:
    engine = Engine(Held(lambda text: text == "line-1"))
    await mill.start(engine)
    job = await mill.job(20, distinct=2)

    async def half_is_done() -> bool:
        return (await mill.look(job)).succeeded == 10

    await mill.until(half_is_done)
    await mill.cancel(job)
    over = await mill.ended(job)
    assert (over.state, over.succeeded, over.failures.cancelled) == (JobState.CANCELLED, 10, 10)


async def test_what_nobody_runs_is_not_waited_for_for_ever(mill: Mill) -> None:
    away, engine = Engine(), Engine()
    away.is_down = True
    first = await mill.start(away, name="first")
    job = await mill.job(8, distinct=4)

    async def is_planned() -> bool:
        return (await mill.look(job)).state is JobState.QUEUED

    await mill.until(is_planned)
    await first.drain()
    await mill.postpone(0)
    await mill.start(engine, name="second", patience_seconds=0.2)
    await engine.got(4)
    await mill.postpone(None)
    over = await mill.ended(job)
    assert (over.succeeded, over.deduplicated) == (8, 0)
    assert sorted(engine.sent) == sorted(2 * texts_of("line", range(4)))


async def test_a_serial_shard_waits_for_its_originals_and_sends_the_rest_in_turn(
    mill: Mill,
) -> None:
    first = await mill.start(Engine(Held()), name="first")
    job = await mill.job(12, distinct=5)
    await first.engines[0].got(4)
    await first.kill()
    await mill.poison()
    second = Engine()
    await mill.start(second, name="second")
    over = await mill.ended(job)
    assert (over.succeeded, over.deduplicated) == (12, 7)
    assert sorted(second.sent) == texts_of("line", range(5))


async def test_whoever_dies_or_is_paused_meanwhile_every_line_gets_its_answer(
    tmp_path: Path,
) -> None:
    async with milling(tmp_path) as mill:
        await _answers_all_over_deaths(mill)


async def _answers_all_over_deaths(mill: Mill) -> None:
    chance = random.Random(7)

    async def now_and_then(text: str) -> Reply:
        await asyncio.sleep(chance.random() / 50)
        return Refused(500, b"{}", "no") if chance.random() < 0.1 else answer_to(text)

    workers = [await mill.start(Engine(now_and_then), name=f"w{n}") for n in range(2)]
    job = await mill.job(80, distinct=30)
    for n in range(2):
        await mill.until(partial(_has_done, mill, job, 30 * (n + 1)), 30)
        await mill.pause(job)
        await workers.pop(0).kill()
        await mill.resume(job)
        workers.append(await mill.start(Engine(now_and_then), name=f"later{n}"))
    over = await mill.ended(job, 60)
    assert over.succeeded == 80
    await answered_by(mill, over, 30)


async def _has_done(mill: Mill, job: Job, lines: int) -> bool:
    return await mill.done(job) >= lines
