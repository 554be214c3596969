"""The ledger and the blobs that the settings name, opened for one process."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Final

import structlog

from batchmill.app.datadir import blobs_path, ledger_path, make_layout
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
"""What the ledger calls the first worker of the one `serve` of a data directory, through all its
lives; the others have a number behind it. Workers that join it have names of their own."""
PROBE: Final = probe_name("start")


def is_own(worker: str) -> bool:
    """Whether that is the name of a worker of the one `serve` of a data directory."""
    return re.fullmatch(rf"{WORKER}(-\d{{1,3}})?", worker) is not None


def prepare_data(settings: Settings) -> None:
    """Make the data directory, unless neither the ledger nor the blobs lie there. Raises
    `ConfigError` where it cannot be made or written."""
    if settings.database_url is None or settings.storage_url is None:
        make_layout(settings.data)


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
        quotas=settings.quotas,
        webhooks=tuple(endpoint.as_noun() for endpoint in settings.webhooks),
    )


async def upgrade_ledger(settings: Settings) -> str:
    """Bring the ledger's tables up to date; their version. Raises as `open_ledger` does."""
    return await SqlLedger.upgrade(database_of(settings))


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
