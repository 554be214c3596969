"""What housekeeping leaves of a data directory once everything is old enough for it."""

from __future__ import annotations

from pathlib import Path

from batchmill.app.datadir import blobs_path, ledger_path
from batchmill.blobs.local import LocalBlobs
from batchmill.clock import SystemClock
from batchmill.core.chores import sweep_orphans
from batchmill.ledger import SqlLedger


async def uploaded_blobs_left(data: Path) -> list[str]:
    """Sweep the data directory of a stopped `serve`; the blobs of inputs and parts that stay."""
    ledger = await SqlLedger.open(ledger_path(data), clock=SystemClock())
    try:
        blobs = LocalBlobs(blobs_path(data))
        await sweep_orphans(ledger, blobs, results_age_seconds=0, uploads_age_seconds=0)
        return [name for kind in ("inputs/", "uploads/") async for name in blobs.names(kind, 0)]
    finally:
        await ledger.close_connections()
