"""A worker runs jobs to their end: every line once, in order, over whatever engines there are."""

from __future__ import annotations

import asyncio
import gc

import pytest

from batchmill.calls import Broken, Overloaded, Refused, Reply, Unreachable
from batchmill.core.work import OpenShard
from batchmill.model import JobState, Stream
from tests.service.worker.engine import Engine, Held, InTurn, answer_to, answers
from tests.service.worker.mill import Mill, text_of


async def test_every_line_is_sent_once_and_stands_in_input_order(mill: Mill) -> None:
    engine = Engine()
    await mill.start(engine)
    job = await mill.ended(await mill.job(30))
    assert (job.state, job.succeeded) == (JobState.COMPLETED, 30)
    assert sorted(engine.sent) == sorted(text_of("line", n) for n in range(30))
    rows = await mill.results(job, Stream.OUT)
    assert all(row["response"]["body"] == {"said": row["custom_id"]} for row in rows)


async def test_a_line_the_engine_refuses_stands_in_the_error_file(mill: Mill) -> None:
    async def refuses_one(text: str) -> Reply:
        return Refused(400, b"{}", "no", held_bytes=2) if text == "line-3" else answer_to(text)

    await mill.start(Engine(refuses_one))
    job = await mill.ended(await mill.job(9))
    assert (job.state, job.succeeded, job.failed) == (JobState.COMPLETED, 8, 1)


@pytest.mark.parametrize(
    "reply",
    [
        Refused(500, b"x" * 1000, "no", held_bytes=1000),
        Broken("not_json", "no", 200, b"y" * 1000, 1000),
    ],
    ids=["fault", "no JSON"],
)
async def test_what_is_no_answer_holds_no_bytes_while_its_line_waits(
    mill: Mill, reply: Reply
) -> None:
    async def once(_: str) -> Reply:
        return reply

    held = Held()
    engine = Engine(InTurn(once, held))
    running = await mill.start(engine, concurrency=1)
    job = await mill.job(1)
    await engine.got(2)
    assert running.held_bytes == 0
    held.let_go()
    assert (await mill.ended(job)).succeeded == 1


async def test_an_engine_that_is_busy_or_away_gets_the_line_again(mill: Mill) -> None:
    async def busy(_: str) -> Reply:
        return Overloaded(429, b"{}", 0.05)

    async def away(_: str) -> Reply:
        return Unreachable("nobody there")

    engine = Engine(InTurn(busy, away, answers))
    await mill.start(engine)
    job = await mill.ended(await mill.job(6))
    assert (job.succeeded, len(engine.sent)) == (6, 8)


async def test_the_engines_of_one_model_share_its_lines(mill: Mill) -> None:
    slow, fast = Engine(Held()), Engine()
    await mill.start(slow, fast, concurrency=2)
    job = await mill.job(20)
    await slow.got(2)
    await fast.got(18)
    slow.script.let_go()  # type: ignore[attr-defined]
    await mill.ended(job)
    assert (len(slow.sent), len(fast.sent)) == (2, 18)


async def test_a_slow_line_holds_one_slot_and_nothing_else(mill: Mill) -> None:
    held = Held(lambda text: text == "line-0")
    engine = Engine(held)
    await mill.start(engine, concurrency=2)
    job = await mill.job(24)
    await engine.got(24)
    held.let_go()
    assert (await mill.ended(job)).succeeded == 24


async def test_no_more_calls_are_out_than_the_engine_takes(mill: Mill) -> None:
    engine = Engine()
    await mill.start(engine, concurrency=3)
    await mill.ended(await mill.job(30))
    assert engine.most_in_flight <= 3


async def test_a_window_that_is_found_grows_while_the_engine_keeps_up(mill: Mill) -> None:
    async def takes_its_time(text: str) -> Reply:
        await asyncio.sleep(0.02)
        return answer_to(text)

    mill.shard_lines = 200
    engine = Engine(takes_its_time)
    await mill.start(engine, concurrency=64, adaptive=True)
    job = await mill.ended(await mill.job(160))
    assert (job.succeeded, len(engine.sent)) == (160, 160)
    assert 8 < engine.most_in_flight <= 64


async def test_each_line_of_openais_goes_to_an_engine_of_its_own_model(mill: Mill) -> None:
    small, large = Engine(models=("small",)), Engine(models=("large",))
    await mill.start(small, large)
    job = await mill.ended(await mill.job(20, models=("small", "large")))
    assert (job.state, job.succeeded, job.model) == (JobState.COMPLETED, 20, "small")
    assert sorted(small.sent) == sorted(text_of("line", n) for n in range(0, 20, 2))
    assert sorted(large.sent) == sorted(text_of("line", n) for n in range(1, 20, 2))


async def test_nothing_of_an_ended_job_is_held(mill: Mill) -> None:
    """A line holds its shard with all its bytes, and the collector of garbage looks at no line."""

    async def busy(_: str) -> Reply:
        return Overloaded(429, b"{}", 0.05)

    held = Held(lambda text: text == "line-7")
    await mill.start(Engine(InTurn(busy, answers)), Engine(held))
    jobs = [await mill.job(30), await mill.job(30, distinct=10), await mill.job(30)]
    await mill.cancel(jobs[-1])
    held.let_go()
    ids = {(await mill.ended(job)).id for job in jobs}

    async def nothing_is_held() -> bool:
        gc.collect()
        held = (each for each in gc.get_objects() if isinstance(each, OpenShard))
        return not any(shard.job.id in ids for shard in held)

    await mill.until(nothing_is_held)
