"""Looking at engines' load once in a while (core/loads.py), time given by hand."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import structlog

from batchmill.calls import Load
from batchmill.clock import ManualClock
from batchmill.core.links import Link, link
from batchmill.core.loads import follow_load, is_news
from batchmill.core.window import Decision
from batchmill.fleet import EngineSpec, EngineState
from tests.service.worker.engine import Engine

ROUTE = ("/v1/chat/completions", "m")


class Told(Engine):
    """Counts how often it was asked."""

    asked = 0

    async def load(self) -> Load | None:
        self.asked += 1
        return self.told_load


def link_to(engine: Engine, *, polite: bool = False) -> Link:
    spec = EngineSpec("e", "http://none", concurrency=1024, adaptive=True, polite=polite)
    return link(spec, engine)


@asynccontextmanager
async def followed(link: Link):
    clock = ManualClock()
    task = asyncio.create_task(follow_load(link, clock))

    async def seconds(count: int) -> None:
        for _ in range(count):
            await settle()
            clock.advance(1.0)
        await settle()

    async def settle() -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    yield seconds
    task.cancel()


async def test_an_engine_is_asked_once_a_second_and_only_while_it_has_calls() -> None:
    engine = Told()
    engine.told_load = Load(1, 0)
    its = link_to(engine)
    async with followed(its) as seconds:
        await seconds(5)
        assert engine.asked == 0
        its.gate.sent(ROUTE)
        await seconds(5)
        assert engine.asked == 5
        assert its.load == Load(1, 0)
        its.gate.returned(ROUTE)
        await seconds(1)
        assert its.load is None


async def test_an_engine_that_does_not_tell_is_asked_seldom_and_told_of_once() -> None:
    engine = Told()
    its = link_to(engine, polite=True)
    its.gate.sent(ROUTE)
    with structlog.testing.capture_logs() as logs:
        async with followed(its) as seconds:
            await seconds(40)
    assert engine.asked == 3
    [said] = [each for each in logs if each["event"] == "engine_metrics"]
    assert not said["found"]
    assert "politeness goes by how long our own answers take" in said["means"]


async def test_an_engine_that_told_is_asked_again_at_once_and_missed_after_three_looks() -> None:
    engine = Told()
    engine.told_load = Load(1, 0)
    its = link_to(engine)
    its.gate.sent(ROUTE)
    with structlog.testing.capture_logs() as logs:
        async with followed(its) as seconds:
            await seconds(2)
            engine.told_load = None
            await seconds(10)
    assert engine.asked == 5
    found = [each["found"] for each in logs if each["event"] == "engine_metrics"]
    assert found == [True, False]


async def test_a_window_that_moves_far_is_told_of_with_its_reason() -> None:
    engine = Told()
    engine.told_load = Load(4, 96)
    its = link_to(engine)
    its.gate.in_flight = 100
    assert its.gate.window is not None
    its.gate.window.size = its.gate.window._size = 100.0
    with structlog.testing.capture_logs() as logs:
        async with followed(its) as seconds:
            await seconds(10)
    [said] = [each for each in logs if each["event"] == "engine_window"]
    assert said["why"] == "calls wait in the engine"
    assert said["window"] == its.seen(0.0, 0.0).window == 5


def test_small_moves_are_no_news() -> None:
    assert is_news(None, Decision(10, "a", 1.0))
    assert not is_news(Decision(10, "a", 1.0), Decision(12, "b", 2.0))
    assert is_news(Decision(10, "a", 1.0), Decision(13, "b", 2.0))


def test_a_fixed_window_asks_nobody() -> None:
    its = link(EngineSpec("e", "http://none", concurrency=4), Told())
    asyncio.run(follow_load(its, ManualClock()))
    assert (its.window, its.seen(0.0, 0.0).adaptive) == (4, False)


def test_what_is_seen_of_a_link_tells_of_its_window() -> None:
    its = link_to(Told(), polite=True)
    its.load = Load(3, 2)
    seen = its.seen(1000.0, 50.0)
    assert (seen.window, seen.adaptive, seen.polite) == (1, True, True)
    assert (seen.running, seen.waiting, seen.state) == (3, 2, EngineState.UNKNOWN)
    assert (seen.decision, seen.decided_at) == ("it begins", 1000.0)
