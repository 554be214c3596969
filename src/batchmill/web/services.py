"""What every route works with, and the rules that an installation sets for them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, cast

from fastapi import Depends, Request

from batchmill.clock import Clock
from batchmill.core.models import Catalogue
from batchmill.core.submit import ENDPOINTS, Limits
from batchmill.ports import Blobs, Ledger
from batchmill.web.meter import Meter
from batchmill.webhooks.guard import Guard

LARGE_BODY_BYTES = 1024 * 1024


class KeyMode(StrEnum):
    """Whether requests need an API key. Once a key was made, all modes need one."""

    LOOPBACK = "loopback"
    """Without any key made, none is needed, from this machine only."""
    INSECURE = "insecure"
    """Without any key made, none is needed, from anywhere."""
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class ApiRules:
    """The settings that the API follows.

    `public_url` is what links start with (no slash at its end); None takes the request's own
    address. Uploads are refused while less than `low_disk_bytes` are free. Kept seconds of 0
    mean for ever. A body that stands still for `idle_seconds` is given up, and a large one that
    has come whole waits `turn_seconds` for its turn to be read.
    """

    limits: Limits = field(default_factory=Limits)
    key_mode: KeyMode = KeyMode.REQUIRED
    public_url: str | None = None
    keep_uploads_seconds: float = 30 * 86400.0
    keep_results_seconds: float = 30 * 86400.0
    low_disk_bytes: int = 256_000_000
    idle_seconds: float = 60.0
    turn_seconds: float = 30.0
    endpoints: tuple[str, ...] = ENDPOINTS


@dataclass(frozen=True, slots=True)
class Services:
    """The parts that the routes are wired to. `wake` tells the workers of new work."""

    ledger: Ledger
    blobs: Blobs
    catalogue: Callable[[], Awaitable[Catalogue]]
    rules: ApiRules
    clock: Clock
    wake: Callable[[], None]
    meter: Meter = field(default_factory=Meter)
    large_bodies: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))
    """Whose turn it is: bodies over 1 MiB that may be held in memory at once."""
    webhooks: Guard | None = None
    """Which webhooks may be called; None where nothing can be signed."""


def _services(request: Request) -> Services:
    return cast("Services", request.app.state.services)


Wired = Annotated[Services, Depends(_services)]
"""A route's parameter that receives the services."""
