"""The ledger and the blobs that the settings name, opened for one process."""

from __future__ import annotations

import importlib.util
from typing import Final

import structlog

from batchmill.app.datadir import blobs_path, ledger_path
from batchmill.blobs.local import LocalBlobs
from batchmill.clock import SystemClock
from batchmill.config import Settings
from batchmill.core.names import probe_name
from batchmill.errors import BlobsRefused, BlobsUnavailable, ConfigError, Problem
from batchmill.fleet import Timing
from batchmill.ledger import SqlLedger
from batchmill.ports import Blobs, Ledger

log = structlog.get_logger()

WORKER: Final = "serve"
"""What the ledger calls the worker of the one `serve` of a data directory, through all its
lives. Workers that join it have names of their own."""
PROBE: Final = probe_name("start")


async def open_ledger(settings: Settings) -> Ledger:
    """The ledger of the data directory, brought up to date; the caller closes its connections.

    Raises `ConfigError` or `LedgerUnavailable` as `SqlLedger.open` does.
    """
    return await SqlLedger.open(
        ledger_path(settings.data),
        clock=SystemClock(),
        timing=Timing(settings.lease_time.total_seconds(), settings.beat.total_seconds()),
        result_retention_seconds=settings.keep_results.total_seconds(),
        quotas=settings.quotas,
        webhooks=tuple(endpoint.as_noun() for endpoint in settings.webhooks),
    )


def open_blobs(settings: Settings) -> Blobs:
    """The blob store that the settings name, that of the data directory when they name none.

    Raises `ConfigError` where it needs an extra or settings of its vendor that are not there.
    """
    if settings.storage_url is None:
        return LocalBlobs(blobs_path(settings.data))
    if importlib.util.find_spec("obstore") is None:
        raise _unusable("needs an extra: pip install 'batchmill[object-store]'")
    from batchmill.blobs.object_store import ObjectBlobs  # noqa: PLC0415 - an extra

    try:
        return ObjectBlobs(settings.storage_url, SystemClock())
    except BlobsUnavailable as error:
        raise _unusable(str(error)) from error


async def check_blobs(settings: Settings) -> None:
    """Raise `ConfigError` where the object store that the settings name refuses us. One that is
    away may come back: jobs wait for it, and nothing is taken in meanwhile."""
    blobs = open_blobs(settings)
    if isinstance(blobs, LocalBlobs):
        return
    try:
        await blobs.put_many([(PROBE, [b"written"])])
        await blobs.delete_many([PROBE])
    except BlobsRefused as error:
        raise _unusable(str(error)) from error
    except BlobsUnavailable as error:
        log.warning("storage_unavailable", error=str(error))


def _unusable(message: str) -> ConfigError:
    return ConfigError([Problem("storage_url", message)])
