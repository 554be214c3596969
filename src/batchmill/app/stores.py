"""The ledger and the blobs that the settings name, opened for one process."""

from __future__ import annotations

from typing import Final

from batchmill.app.datadir import blobs_path, ledger_path
from batchmill.blobs.local import LocalBlobs
from batchmill.clock import SystemClock
from batchmill.config import Settings
from batchmill.fleet import Timing
from batchmill.ledger import SqlLedger
from batchmill.ports import Blobs, Ledger

WORKER: Final = "serve"
"""What the ledger calls the worker of the one `serve` of a data directory, through all its
lives. Workers that join it have names of their own."""


async def open_ledger(settings: Settings) -> Ledger:
    """The ledger of the data directory, brought up to date; the caller closes its connections.

    Raises `ConfigError` or `LedgerUnavailable` as `SqlLedger.open` does.
    """
    return await SqlLedger.open(
        ledger_path(settings.data),
        clock=SystemClock(),
        timing=Timing(settings.lease_time.total_seconds(), settings.beat.total_seconds()),
        result_retention_seconds=settings.keep_results.total_seconds(),
        webhooks=tuple(endpoint.as_noun() for endpoint in settings.webhooks),
    )


def open_blobs(settings: Settings) -> Blobs:
    """The blob store of the data directory."""
    return LocalBlobs(blobs_path(settings.data))
