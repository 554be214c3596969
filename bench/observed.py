"""A worker that joins a data directory and writes down how many tasks its loop has.

    python -m bench.observed CONFIG DATA TALLY

TALLY gets one number a line, every second. Its engines are those of the file, looked up once.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import uvloop

from batchmill.app.orders import Orders
from batchmill.app.roster import Roster
from batchmill.app.worker import collect_seldom, run_worker
from batchmill.config import load
from batchmill.telemetry import configure_logs


async def _observed(config: Path, data: Path, tally: Path) -> None:
    roster = Roster(load({"config": config, "data": data}, {}))
    orders = Orders.of(roster.settings, roster.specs(), worker="observed")
    with tally.open("a", buffering=1) as out:
        counting = asyncio.create_task(_count(out.write))
        await run_worker(orders)
        counting.cancel()


async def _count(write: object) -> None:
    assert callable(write)
    while True:
        write(f"{len(asyncio.all_tasks())}\n")
        await asyncio.sleep(1.0)


if __name__ == "__main__":
    configure_logs("worker")
    collect_seldom()
    uvloop.run(_observed(*map(Path, sys.argv[1:4])))
