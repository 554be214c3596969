"""What a worker knows of the whole fleet's engines: what its own were last seen to serve in an
earlier life, and what those of other workers do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

import structlog

from batchmill.clock import Clock
from batchmill.core.claiming import Appetite
from batchmill.core.closing import pass_on
from batchmill.core.models import Catalogue, is_known
from batchmill.core.work import OpenShard
from batchmill.errors import LedgerUnavailable
from batchmill.model import Owner
from batchmill.ports import Ledger

log = structlog.get_logger()

ADVICE = (
    "Names that only a wildcard stands for wait until these engines have been seen; start them, or "
    "take them out of the settings."
)


async def look_at_fleet(ledger: Ledger, appetite: Appetite) -> Catalogue:
    """What the engines of all workers serve, by what this one and the ledger say now."""
    seen = await ledger.engines()
    appetite.hear(seen)
    fleet = appetite.fleet()
    return replace(fleet, engines=(*fleet.engines, *filter(is_known, seen)))


async def follow_fleet(
    ledger: Ledger, appetite: Appetite, clock: Clock, seconds: float, looked: Callable[[], None]
) -> None:
    """Look for ever, every so many seconds, while a wildcard stands for what no engine serves."""
    unknown: tuple[str, ...] = ()
    while True:
        await clock.sleep(seconds)
        if not appetite.has_wildcard:
            continue
        with suppress(LedgerUnavailable):
            await look_at_fleet(ledger, appetite)
            looked()
        before, unknown = unknown, appetite.fleet().unknown
        if unknown and unknown != before:
            log.warning("wildcard_waits", engines=unknown, advice=ADVICE)


async def pass_lines_on(shards: Sequence[OpenShard], ledger: Ledger, owner: Owner) -> None:
    """Let go of those shards that have lines left for a model which another worker serves."""
    try:
        pass_on(shards, await ledger.models_elsewhere(owner))
    except LedgerUnavailable as error:
        log.warning("fleet_unknown", error=str(error))
