"""One database, several processes, several threads in each: every line is counted once."""

from __future__ import annotations

import asyncio
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from batchmill.clock import SystemClock
from batchmill.ledger import SqlLedger
from batchmill.model import JobState
from tests.conformance.ledger.contender import contend
from tests.conformance.ledger.world import OUT, World

SHARDS = [6] * 24


async def test_processes_and_threads_share_one_database(database: Path) -> None:
    ledger = await SqlLedger.open(database, clock=SystemClock())
    world = World(ledger, None)
    job = await world.queue(SHARDS)
    loop = asyncio.get_running_loop()
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=spawn) as pool:
        runs = [
            loop.run_in_executor(pool, contend, str(database), job.id, name) for name in ("p", "q")
        ]
        counted = await asyncio.gather(*runs)
    ended = await world.seen(job)
    assert ended.state is JobState.COMPLETED
    assert sum(counted) == ended.succeeded == ended.total == sum(SHARDS)
    assert [s.lines for s in await ledger.segments(job.id, OUT)] == SHARDS
    assert (await ledger.file(job.tenant, ended.output_file)).lines == sum(SHARDS)
    await ledger.close_connections()
