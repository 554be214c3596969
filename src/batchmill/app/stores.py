"""The ledger and the blobs that the settings name, opened for one process."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from batchmill.app.datadir import blobs_path, ledger_path
from batchmill.blobs.local import LocalBlobs
from batchmill.clock import SystemClock
from batchmill.config import Settings
from batchmill.fleet import Timing
from batchmill.ledger import SqlLedger
from batchmill.ports import Blobs, Ledger

WORKER: Final = "serve"
"""What the ledger calls the one worker of a data directory, through all its lives."""


def database_of(settings: Settings) -> str | Path:
    """Where the ledger is: a URL with its password, or a file of the data directory."""
    url = settings.database_url
    return ledger_path(settings.data) if url is None else url.get_secret_value()


async def open_ledger(settings: Settings) -> Ledger:
    """The ledger that the settings name; the caller closes its connections.

    Raises `ConfigError` or `LedgerUnavailable` as `SqlLedger.open` does.
    """
    return await SqlLedger.open(
        database_of(settings),
        clock=SystemClock(),
        timing=Timing(settings.lease_time.total_seconds(), settings.beat.total_seconds()),
        result_retention_seconds=settings.keep_results.total_seconds(),
        webhooks=tuple(endpoint.as_noun() for endpoint in settings.webhooks),
    )


async def upgrade_ledger(settings: Settings) -> str:
    """Bring the ledger's tables up to date; their version. Raises as `open_ledger` does."""
    return await SqlLedger.upgrade(database_of(settings))


def open_blobs(settings: Settings) -> Blobs:
    """The blob store of the data directory."""
    return LocalBlobs(blobs_path(settings.data))
