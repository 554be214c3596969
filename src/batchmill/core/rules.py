"""What a worker is given: its rules and its stores. What it does with them is in `worker.py`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from batchmill.core.claiming import Room
from batchmill.core.collect import GroupRules
from batchmill.core.duplicates import PATIENCE_SECONDS
from batchmill.fleet import Timing
from batchmill.ports import Blobs, Ledger

HAND_OVER_SECONDS = 1.5
"""How long a draining worker has beyond its drain time to make durable what it holds."""


@dataclass(frozen=True, slots=True)
class WorkerRules:
    """What one worker may hold, and when it gives up."""

    timing: Timing = field(default_factory=Timing)
    group: GroupRules = field(default_factory=GroupRules)
    room: Room = field(default_factory=Room)
    drain_seconds: float = 8.0
    low_disk_bytes: int = 256 * 1024 * 1024
    upload_retention_seconds: float = 30 * 86_400.0
    patience_seconds: float = PATIENCE_SECONDS
    sends: bool = True
    """False for one without engines that keeps house beside an API process: its beat says so."""
    only_model: str | None = None
    """What every line is sent to, whatever it names; None: what it names."""


@dataclass(frozen=True, slots=True)
class Stores:
    """Where a worker's state and bytes live. `open_ledger` gives the heart its own."""

    ledger: Ledger
    blobs: Blobs
    open_ledger: Callable[[], Awaitable[Ledger]]
