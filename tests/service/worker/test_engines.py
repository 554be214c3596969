"""Engines that are added, removed and changed while a worker runs (core/linkset.py)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from batchmill.calls import Call, Flight, Reply, Transport
from batchmill.fleet import EngineSpec
from batchmill.model import JobState, WaitingReason
from tests.service.worker.engine import Engine, Held, InTurn, answers
from tests.service.worker.mill import Mill, Running, milling, texts_of

SPEC = EngineSpec("e0", "http://none", concurrency=4)


async def use(running: Running, engines: dict[str, Engine], **aliases: str) -> None:
    """Let a worker go on with these engines."""
    specs = [replace(SPEC, name=name) for name in engines]
    running.engines = {*running.engines, *engines.values()}

    def opened(spec: EngineSpec) -> Transport:
        return engines[spec.name]

    await running.worker.change_engines(specs, aliases, opened)


async def test_an_engine_that_is_added_takes_its_part(mill: Mill) -> None:
    held = Held()
    first, second = Engine(held), Engine()
    running = await mill.start(first)
    job = await mill.job(60)
    await first.has(4)
    await use(running, {"e0": first, "e1": second})
    await second.got(50)
    held.let_go()
    await mill.ended(job)


async def test_a_removed_engine_gets_nothing_new_and_its_calls_land(mill: Mill) -> None:
    held = Held()
    first, second = Engine(held), Engine()
    running = await mill.start(first, second)
    job = await mill.job(60)
    await first.has(4)
    await use(running, {"e1": second})
    await second.got(50)
    held.let_go()
    await mill.ended(job)
    assert len(first.sent) == 4
    assert first.aborted == []


async def test_lines_are_let_go_until_an_engine_is_there_again(mill: Mill) -> None:
    held = Held()
    first, second = Engine(held), Engine()
    running = await mill.start(first)
    job = await mill.job(12)
    await first.has(4)
    await use(running, {})
    held.let_go()
    await mill.until(mill.nothing_is_leased)
    await use(running, {"e1": second})
    await mill.ended(job)
    assert len(first.sent) + len(second.sent) == 12


class Noting(Engine):
    """Notes the model that each call asks for."""

    def send(self, call: Call, landed: Callable[[Reply], None]) -> Flight:
        self.asked = [*getattr(self, "asked", ()), json.loads(call.body)["model"]]
        return super().send(call, landed)


async def test_lines_at_hand_are_read_anew_under_a_new_alias(mill: Mill) -> None:
    held = Held()
    engine = Noting(held, models=("m", "other"))
    running = await mill.start(engine)
    job = await mill.job(12)
    await engine.has(4)
    await use(running, {"e0": engine}, m="other")
    held.let_go()
    await mill.ended(job)
    assert engine.asked == ["m"] * 4 + ["other"] * 8


async def test_a_line_for_a_model_that_no_engine_serves_is_bad(mill: Mill) -> None:
    """By what all engines serve now, those of other workers included."""
    await mill.start(Engine(), name="other")
    await mill.start(Engine(), Engine(models=("n",)))

    async def are_told() -> bool:
        told = await mill.ledger.engines()
        return {model for engine in told for model in engine.models} == {"m", "n"}

    await mill.until(are_told)
    job = await mill.job(4, models=("m", "typo", "n"))

    async def is_refused() -> bool:
        return (await mill.look(job)).state is JobState.FAILED

    await mill.until(is_refused)
    [error] = (await mill.look(job)).errors
    assert (error.code, error.line) == ("model_not_found", 2)


async def test_a_line_is_not_bad_while_an_engine_was_never_seen(mill: Mill) -> None:
    away = Engine(models=("late",))
    away.is_down = True
    await mill.start(Engine(), away)
    await mill.ended(await mill.job(4))
    job = await mill.job(4, models=("late",))
    await mill.waits(job, WaitingReason.ENGINE_DOWN)
    away.is_down = False
    await mill.ended(job)


async def test_lines_at_hand_go_under_a_new_alias_while_calls_are_out(tmp_path: Path) -> None:
    async with milling(tmp_path, shard_lines=12) as mill:
        held = Held()
        engine = Noting(InTurn(Held(), held, answers), models=("m", "other"))
        running = await mill.start(engine, concurrency=2)
        job = await mill.job(12)
        await engine.has(2)
        await mill.beaten()
        await use(running, {"e0": engine}, m="other")
        held.let_go()
        await engine.got(12)
        assert engine.asked == ["m"] * 2 + ["other"] * 10
        await mill.cancel(job)
        await mill.ended(job)


async def test_lines_of_one_job_go_to_the_workers_that_serve_their_models(mill: Mill) -> None:
    engines = [Engine(models=(model,)) for model in ("a", "b", "c")]
    for n, engine in enumerate(engines):
        await mill.start(engine, name=f"w{n}")
    await mill.beaten()
    job = await mill.job(24, models=("a", "b", "c"))
    assert (await mill.ended(job)).succeeded == 24
    for n, engine in enumerate(engines):
        assert sorted(engine.sent) == sorted(texts_of("line", range(n, 24, 3)))


async def test_lines_whose_worker_has_left_stay_until_one_comes_that_serves_them(
    mill: Mill,
) -> None:
    first, second = Engine(models=("a",)), Engine(models=("b",))
    left = await mill.start(Engine(models=("x",)), Engine(models=("b",)), name="left")
    await mill.beaten()
    await left.drain()
    await mill.start(first)
    job = await mill.job(8, models=("a", "b"))
    await mill.waits(job, WaitingReason.MODEL_NOT_SERVED)
    assert (await mill.leased_shards(job.id), await mill.done(job)) == (2, 4)
    await mill.start(second, name="late")
    assert (await mill.ended(job)).succeeded == 8
    assert (len(first.sent), len(second.sent)) == (4, 4)
