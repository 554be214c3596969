"""The ledger and the blobs that the settings name, opened for one process."""

from __future__ import annotations

from typing import Final

from batchmill.app.datadir import blobs_path
from batchmill.blobs.local import LocalBlobs
from batchmill.config import Settings
from batchmill.ports import Blobs

WORKER: Final = "serve"
"""What the ledger calls the one worker of a data directory, through all its lives."""


def open_blobs(settings: Settings) -> Blobs:
    """The blob store of the data directory."""
    return LocalBlobs(blobs_path(settings.data))
