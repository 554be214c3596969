"""An engine outside its schedule: nothing new is sent, and others get their chance."""

from __future__ import annotations

from datetime import UTC, datetime

from batchmill.calls import Overloaded, Reply
from batchmill.model import JobState, WaitingReason
from batchmill.schedules import Schedule, parse_spans
from tests.service.worker.clocks import SettableClock
from tests.service.worker.engine import Engine, Held, answers
from tests.service.worker.mill import Mill

R = WaitingReason
NIGHT = Schedule(parse_spans("22:00-06:00"))
EVENING, OPENING, DAWN = (
    datetime(2030, 6, day, hour, minute, tzinfo=UTC).timestamp()
    for day, hour, minute in ((1, 21, 0), (1, 22, 0), (2, 6, 0))
)


async def test_a_job_waits_until_its_engine_opens(mill: Mill) -> None:
    clock, engine = SettableClock(EVENING), Engine()
    await mill.start(engine, schedules=[NIGHT], clock=clock)
    job = await mill.job(8)
    await mill.waits(job, R.OUTSIDE_SCHEDULE)
    said = await mill.progress(job)
    assert (said.opens_at, said.estimated_seconds_left) == (OPENING, None)
    assert (engine.sent, await mill.leased_shards(job.id)) == ([], 0)
    clock.set_wall(OPENING)
    assert (await mill.ended(job)).succeeded == 8


async def test_an_engine_opens_by_itself_when_its_time_has_come(mill: Mill) -> None:
    clock, engine = SettableClock(OPENING - 0.4), Engine()
    await mill.start(engine, schedules=[NIGHT], clock=clock)
    assert (await mill.ended(await mill.job(8))).succeeded == 8
    assert clock.wall() >= OPENING


async def test_calls_in_flight_finish_and_the_shards_are_given_back(mill: Mill) -> None:
    clock, held = SettableClock(OPENING), Held()
    engine = Engine(held)
    await mill.start(engine, schedules=[NIGHT], clock=clock, concurrency=3)
    job = await mill.job(12)
    await engine.has(3)
    clock.set_wall(DAWN)
    await mill.beaten()
    held.let_go()
    await mill.waits(job, R.OUTSIDE_SCHEDULE)
    assert (len(engine.sent), engine.aborted, await mill.done(job)) == (3, [], 3)
    assert (await mill.leased_shards(job.id), await mill.strikes()) == (0, 0)
    clock.set_wall(DAWN + 16 * 3600)
    assert (await mill.ended(job)).succeeded == 12
    assert len(engine.sent) == 12


async def test_lines_that_wait_for_another_try_are_given_back_too(mill: Mill) -> None:
    async def busy(_: str) -> Reply:
        return Overloaded(503, b"{}", 0.2)

    clock, engine = SettableClock(OPENING), Engine(busy)
    await mill.start(engine, schedules=[NIGHT], clock=clock)
    job = await mill.job(4)
    await engine.got(3)
    clock.set_wall(DAWN)
    await mill.waits(job, R.OUTSIDE_SCHEDULE)
    assert await mill.leased_shards(job.id) == 0
    engine.script = answers
    clock.set_wall(DAWN + 16 * 3600)
    assert (await mill.ended(job)).succeeded == 4


async def test_the_schedule_of_one_engine_holds_up_no_other(mill: Mill) -> None:
    clock, closed, opened = SettableClock(EVENING), Engine(models=("night",)), Engine()
    await mill.start(closed, opened, schedules=[NIGHT], clock=clock)
    waits = await mill.job(40, tag="night", model="night", priority=9)
    other = await mill.job(40, tag="day")
    assert (await mill.ended(other)).succeeded == 40
    await mill.waits(waits, R.OUTSIDE_SCHEDULE)
    assert closed.sent == []


async def test_another_engine_for_the_same_model_goes_on(mill: Mill) -> None:
    clock, closes, opened = SettableClock(OPENING), Engine(Held()), Engine(Held())
    await mill.start(closes, opened, schedules=[NIGHT], clock=clock, concurrency=2)
    job = await mill.job(20)
    await closes.has(2)
    await opened.has(2)
    clock.set_wall(DAWN)
    await mill.beaten()
    for engine in (closes, opened):
        engine.script.let_go()  # type: ignore[attr-defined]
    assert (await mill.ended(job)).succeeded == 20
    assert (len(closes.sent), len(opened.sent)) == (2, 18)


async def test_shards_of_an_engine_that_closed_run_on_at_another_worker(mill: Mill) -> None:
    clock, closes, late = SettableClock(OPENING), Engine(Held(then=answers)), Engine()
    await mill.start(closes, schedules=[NIGHT], clock=clock, name="night", concurrency=2)
    job = await mill.job(8)
    await closes.has(2)
    clock.set_wall(DAWN)
    await mill.beaten()
    closes.script.let_go()  # type: ignore[attr-defined]
    await mill.waits(job, R.OUTSIDE_SCHEDULE)
    await mill.start(late, name="day")
    assert (await mill.ended(job)).succeeded == 8
    assert len(closes.sent) + len(late.sent) == 8


async def test_a_job_of_several_models_goes_on_with_those_whose_engines_are_open(
    mill: Mill,
) -> None:
    clock, closes, opened = (
        SettableClock(OPENING),
        Engine(Held(), models=("a",)),
        Engine(Held(), models=("b",)),
    )
    await mill.start(closes, opened, schedules=[NIGHT], clock=clock, concurrency=1)
    job = await mill.job(8, models=["a", "b"])
    await closes.has(1)
    await opened.has(1)
    clock.set_wall(DAWN)
    await mill.beaten()
    for engine in (closes, opened):
        engine.script.let_go()  # type: ignore[attr-defined]
    await mill.waits(job, R.OUTSIDE_SCHEDULE)
    assert (len(closes.sent), len(opened.sent)) == (1, 4)
    clock.set_wall(DAWN + 16 * 3600)
    assert (await mill.ended(job)).succeeded == 8


async def test_a_cancelled_job_ends_although_its_engine_is_closed(mill: Mill) -> None:
    await mill.start(Engine(), schedules=[NIGHT], clock=SettableClock(EVENING))
    job = await mill.job(8)
    await mill.waits(job, R.OUTSIDE_SCHEDULE)
    await mill.cancel(job)
    assert (await mill.ended(job)).state is JobState.CANCELLED


async def test_a_worker_whose_engine_is_closed_does_not_spin(mill: Mill) -> None:
    """A line whose time to be tried again has come rings no bell while the gate is closed."""

    async def busy(_: str) -> Reply:
        return Overloaded(429, b"{}", 0.05)

    clock, engine, other = SettableClock(OPENING), Engine(busy), Engine(Held(), models=("b",))
    rules = {"schedules": [NIGHT], "clock": clock, "concurrency": 2}
    running = await mill.start(engine, other, **rules)
    job = await mill.job(4, models=["b", "m"])
    await engine.got(2)
    await other.has(2)
    clock.set_wall(DAWN)
    pool = running.worker._pool

    async def is_due() -> bool:
        wakes_at = pool.wakes_at()
        return wakes_at is not None and wakes_at < clock.boot()

    await mill.until(is_due)
    rings = []
    ring = running.worker._dispatcher.ring

    def counted() -> None:
        rings.append(1)
        ring()

    running.worker._dispatcher.ring = counted  # type: ignore[method-assign]
    for _ in range(40):
        await mill.beaten()
    assert len(rings) < 200
    other.script.let_go()  # type: ignore[attr-defined]
    engine.script = answers
    clock.set_wall(DAWN + 16 * 3600)
    assert (await mill.ended(job)).succeeded == 4
