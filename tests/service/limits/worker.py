"""A worker in a process of its own, with the engine and the limits that it is told as JSON:
`python worker.py '{"name": ..., "data": ..., "url": ..., ...}'`. Drains on SIGTERM."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import uvloop

from batchmill.blobs.local import LocalBlobs
from batchmill.clock import SystemClock
from batchmill.core.lines import LineRules
from batchmill.core.plan import ShardSize
from batchmill.core.rules import Stores, WorkerRules
from batchmill.core.worker import Worker
from batchmill.dialects.formats import FORMATS
from batchmill.engines.budget import ByteBudget
from batchmill.engines.transport import HttpTransport
from batchmill.fleet import EngineSpec, Timing
from batchmill.grants import Limit
from batchmill.ledger import SqlLedger
from batchmill.ports import Ledger


async def run(told: dict[str, Any]) -> None:
    clock, budget = SystemClock(), ByteBudget(96_000_000)
    data, timing = Path(told["data"]), Timing(told["lease_seconds"], told["beat_seconds"])

    async def opened() -> Ledger:
        return await SqlLedger.open(data / "ledger.db", clock=clock, timing=timing)

    ledger, limit = await opened(), Limit(**told["limit"])
    spec = EngineSpec("e", told["url"], concurrency=limit.concurrency, limits=(limit,))
    worker = Worker(
        told["name"],
        Stores(ledger, LocalBlobs(data / "blobs"), opened),
        [(spec, HttpTransport(spec, clock, budget))],
        {},
        FORMATS,
        LineRules(shard=ShardSize(lines=told["shard_lines"])),
        clock,
        WorkerRules(timing, low_disk_bytes=0),
        released=budget.release,
    )
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    print("ready", flush=True)
    await worker.run(stop)
    await ledger.close_connections()


if __name__ == "__main__":
    uvloop.run(run(json.loads(sys.argv[1])))
