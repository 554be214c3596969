"""Many workers in several processes at once over a few jobs: whatever they do, every line is
counted once, the counters are the lines, each job ends once, and no steps wait in a circle."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest

from batchmill.clock import SystemClock
from batchmill.ledger import SqlLedger
from batchmill.ledger.rows import unpack_entries
from batchmill.model import Job, Stream
from tests.conformance.ledger.world import World
from tests.crash.ledger_stress import ENDED, SHARDS, TIMING, finish, stress
from tests.postgres import Server, postgres_server

__all__ = ["postgres_server"]

PROCESSES = 3
JOBS = 4
STEPS = int(os.environ.get("BATCHMILL_STRESS_STEPS", "150"))


@pytest.fixture
def database(postgres_server: Server) -> Iterator[str]:
    with postgres_server.database(movable=False) as (name, _):
        yield name


async def _made(url: str) -> list[Job]:
    ledger = await SqlLedger.open(url, clock=SystemClock(), timing=TIMING)
    world = World(ledger, None)
    jobs = [
        await world.create(window=20.0 if n == 0 else 1e6, webhook_url="https://x.example/")
        for n in range(JOBS)
    ]
    await ledger.close_connections()
    return jobs


@pytest.mark.timeout(400)
@pytest.mark.parametrize("seed", [1, 2])
def test_steps_side_by_side_keep_every_promise(
    postgres_server: Server, database: str, seed: int
) -> None:
    url = postgres_server.url(database)
    deadlocks = f"SELECT deadlocks FROM pg_stat_database WHERE datname = '{database}'"
    before = postgres_server.sql(deadlocks)
    jobs = asyncio.run(_made(url))
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, mp_context=spawn) as pool:
        runs = [pool.submit(stress, url, jobs, n, seed, STEPS) for n in range(PROCESSES)]
        faults = [fault for run in runs for fault in run.result()]
    assert faults == []
    asyncio.run(finish(url, jobs))
    rows = {row["id"]: row for row in postgres_server.sql("SELECT * FROM job", database)}
    for job in jobs:
        _is_whole(rows[job.id], postgres_server, database)
    assert postgres_server.sql(deadlocks) == before


def _is_whole(row: Any, server: Server, database: str) -> None:
    """The job has ended once, with every line of it counted once."""
    its = f"WHERE job_id = '{row['id']}'"
    assert row["state"] in ENDED
    assert row["shards_left"] == 0
    assert len(server.sql(f"SELECT 1 FROM delivery {its}", database)) == 1
    counted: Counter[tuple[int, int]] = Counter()
    sides: Counter[Stream] = Counter()
    parts = server.sql(f"SELECT n, sequence, entries FROM part {its} ORDER BY sequence", database)
    for part in parts:
        entries = unpack_entries(part["entries"])
        counted.update((part["n"], entry.line) for entry in entries)
        sides.update(entry.stream for entry in entries)
    assert [part["sequence"] for part in parts] == list(range(1, len(parts) + 1))
    planned = server.sql(f"SELECT n, state, done FROM shard {its} AND kind = 'run'", database)
    lines = {(shard["n"], line) for shard in planned for line in range(SHARDS[shard["n"]])}
    assert counted == dict.fromkeys(lines, 1)
    assert {shard["state"] for shard in planned} <= {"closed"}
    assert (row["succeeded"], row["failed"]) == (sides[Stream.OUT], sides[Stream.ERR])
    summed = f"SELECT stream, sum(lines) AS lines FROM segment {its} GROUP BY 1"
    segments = server.sql(summed, database)
    held = {segment["stream"]: segment["lines"] for segment in segments}
    assert {stream.value: number for stream, number in sides.items() if number} == held
    files = server.sql(f"SELECT stream, lines FROM file {its}", database)
    assert {file["stream"]: file["lines"] for file in files} == held
