"""Why a job whose lines are here has none in flight (core/gauges.py)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from batchmill.core.gate import Gate
from batchmill.core.gauges import Rates, gauges
from batchmill.core.links import Link
from batchmill.core.pool import Pool
from batchmill.core.work import OpenShard
from batchmill.fleet import EngineSpec, EngineState, EngineStatus
from batchmill.model import JobId, WaitingReason
from tests.unit.core.test_pool import line_of, shard_of

JOB = JobId("a")
UP = EngineStatus("e", "auto", EngineState.UP, models=("m",))


class NoWay:
    """A transport that is never asked."""

    def send(self, call: object, landed: object) -> None: ...
    async def models(self) -> tuple[str, ...]:
        return ()

    async def load(self) -> None: ...

    async def close(self) -> None: ...


def blocked(pool: Pool, *statuses: EngineStatus) -> WaitingReason | None:
    links = [
        Link(EngineSpec("e", "http://none"), NoWay(), Gate(4), status)  # type: ignore[arg-type]
        for status in statuses
    ]
    found = gauges([shard_of(JOB)], pool, links, Rates(), storage_ok=True, now=0.0)
    return found[JOB].blocked


@pytest.mark.parametrize("delayed", [False, True])
@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (replace(UP, models=("other",)), WaitingReason.MODEL_NOT_SERVED),
        (
            replace(UP, models=("other",), state=EngineState.DOWN),
            WaitingReason.ENGINE_DOWN,
        ),
    ],
)
def test_lines_whose_model_left_its_engine_say_so(
    status: EngineStatus, reason: WaitingReason, *, delayed: bool
) -> None:
    pool = Pool()
    line = line_of(shard_of(JOB), 0)
    if delayed:
        pool.delay(line, 9.0)
    else:
        pool.add(line)
    assert blocked(pool, status) is reason


def test_nothing_is_said_of_a_job_whose_lines_are_all_on_their_way() -> None:
    assert blocked(Pool(), replace(UP, models=())) is None


def test_lines_that_wait_for_those_of_other_workers_are_told_apart() -> None:
    def follows(pool: Pool, shard: OpenShard) -> bool:
        return gauges([shard], pool, [], Rates(), storage_ok=True, now=0.0)[JOB].follows

    shard, pool = shard_of(JOB), Pool()
    assert not follows(pool, shard)
    shard.followers = 1
    assert follows(pool, shard)
    pool.add(line_of(shard, 0))
    assert not follows(pool, shard)
