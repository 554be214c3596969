"""One part is written and published, between two marks on standard output. Run under strace."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from batchmill.blobs.local import LocalBlobs
from batchmill.clock import ManualClock
from batchmill.ledger import SqlLedger
from tests.conformance.ledger.world import World


async def main(folder: Path) -> None:
    ledger = await SqlLedger.open(folder / "ledger.db", clock=ManualClock())
    blobs = LocalBlobs(folder / "blobs")
    world = World(ledger, ManualClock())
    await world.queue([4])
    held = await world.claim_one()
    part = world.part(held.lease, [0, 1])
    os.write(1, b"BEGIN\n")
    await blobs.put_many([(part.blob, [b"0123456789", b"0123456789"])])
    assert await ledger.commit([(held.lease, part)]) == (True,)
    os.write(1, b"END\n")
    await ledger.close_connections()


asyncio.run(main(Path(sys.argv[1])))
