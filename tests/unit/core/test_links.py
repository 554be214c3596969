"""What a probe says of an engine (core/links.py)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from timeit import repeat

import pytest

from batchmill.calls import EngineDown, EngineSilent
from batchmill.clock import ManualClock
from batchmill.core.links import Link, link, watch
from batchmill.fleet import EngineState
from tests.unit.core.test_gauges import NoWay
from tests.unit.core.test_linkset import CHAT, A

S = EngineState


class Failing(NoWay):
    """Its models cannot be listed; it answers so many calls while they are asked for."""

    def __init__(self, error: EngineDown, answers: int) -> None:
        self.error, self.answers = error, answers
        self.link: Link

    async def models(self) -> tuple[str, ...]:
        for _ in range(self.answers):
            self.link.gate.answered(CHAT, well=True)
        raise self.error


async def probed(error: EngineDown, before: EngineState, answers: int, out: int) -> Link:
    """The link after one probe."""
    way = Failing(error, answers)
    way.link = seen = link(A, way)  # type: ignore[arg-type]
    seen.status = replace(seen.status, state=before, models=("m",), seen_at=1.0)
    for _ in range(out):
        seen.gate.sent(CHAT)
    task = asyncio.create_task(watch(seen, ManualClock(), lambda: None))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    return seen


@pytest.mark.parametrize(
    ("before", "answers", "out", "after"),
    [
        (S.UP, 0, 1, S.UP),
        (S.UP, 1, 0, S.UP),
        (S.UP, 0, 0, S.DOWN),
        (S.DOWN, 0, 1, S.DOWN),
        (S.DOWN, 1, 1, S.UP),
    ],
)
async def test_a_busy_engine_that_is_slow_to_list_its_models_is_not_down(
    before: EngineState, answers: int, out: int, after: EngineState
) -> None:
    seen = await probed(EngineSilent("no answer in time"), before, answers, out)
    assert seen.status.state is after
    assert seen.status.models == ("m",)


async def test_an_engine_that_cannot_be_reached_is_down_whatever_is_out() -> None:
    seen = await probed(EngineDown("refused"), S.UP, 1, 1)
    assert (seen.status.state, seen.status.reason) == (S.DOWN, "refused")
    assert seen.status.models == ("m",)


def test_an_engine_serves_what_it_listed_last() -> None:
    seen = link(A, NoWay())  # type: ignore[arg-type]
    assert not seen.serves("m")
    for models, serves in ((("m",), True), (("n",), False), (("*",), True), ((), False)):
        seen.status = replace(seen.status, models=models)
        assert seen.serves("m") is serves


def test_many_models_make_no_line_slower() -> None:
    few, many = link(A, NoWay()), link(A, NoWay())  # type: ignore[arg-type]
    few.status = replace(few.status, models=("m",))
    many.status = replace(many.status, models=tuple(f"m{n}" for n in range(5_000)))

    def seconds(each: Link) -> float:
        return min(repeat(lambda: each.serves("m"), number=200, repeat=5))

    assert seconds(many) < 10 * seconds(few)
