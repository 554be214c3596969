"""How long a claim takes while 300 jobs are open with many shards each, on either database."""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path
from typing import Any, Final

from batchmill.clock import SystemClock
from batchmill.fleet import Beat
from batchmill.ledger import SqlLedger
from batchmill.model import Owner, TenantId
from batchmill.ports import Want
from bench.table import Place, Row, Section, at_most
from tests.conformance.ledger.world import World
from tests.postgres import serving

JOBS: Final = 300
TENANTS: Final = 10
CLAIMS: Final = 60
RENEWALS: Final = 30
_AIM_MS: Final = 30
_AT_ONCE: Final = (1, 4)
_WINDOW_SECONDS: Final = 1e6


def measure(place: Place) -> Section:
    """The table of claims."""
    shards = place.scale.open_shards
    found = {"SQLite": asyncio.run(_measured(place.home / "claims.sqlite", shards))}
    with serving() as server, server.database(movable=False) as (name, _):
        found["PostgreSQL"] = asyncio.run(_measured(server.url(name), shards))
    rows: list[Row] = []
    for database, times in found.items():
        for number in _AT_ONCE:
            what = f"{database}: a claim of {number}, median"
            rows.append(at_most(what, _median(times[f"claim {number}"]), _AIM_MS, " ms"))
        rows.append(Row(f"{database}: a beat, median", f"{_median(times['beat']):.1f} ms"))
    reading = (
        f"{JOBS} open jobs of {TENANTS} tenants with {JOBS * shards:,} open shards; one claim "
        "after the other, by four workers in turn, each durable when it returns."
    )
    return Section("Claims", reading, rows, found)


async def _measured(database: str | Path, shards: int) -> dict[str, list[float]]:
    """Milliseconds of each claim and each beat."""
    ledger = await SqlLedger.open(database, clock=SystemClock())
    world: Any = World(ledger, None)  # type: ignore[arg-type]
    for n in range(JOBS):
        tenant = TenantId(f"tenant-{n % TENANTS}")
        await world.queue([1] * shards, tenant, window=_WINDOW_SECONDS)
    times: dict[str, list[float]] = {"beat": []}
    for number in _AT_ONCE:
        times[f"claim {number}"] = []
        for i in range(CLAIMS):
            began = time.perf_counter()
            held = await ledger.claim_shards(Owner(f"worker-{i % 4}/1"), Want(number))
            times[f"claim {number}"].append(1000 * (time.perf_counter() - began))
            assert len(held) == number
    for _ in range(RENEWALS):
        began = time.perf_counter()
        await ledger.renew(Owner("worker-0/1"), [], Beat())
        times["beat"].append(1000 * (time.perf_counter() - began))
    await ledger.close_connections()
    return times


def _median(times: list[float]) -> float:
    return statistics.median(times)
