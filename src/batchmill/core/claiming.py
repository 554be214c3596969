"""What a worker claims next, decided from what it holds. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from batchmill.core.links import Link
from batchmill.core.models import Catalogue
from batchmill.core.pool import Pool
from batchmill.core.work import OpenShard
from batchmill.ports import Want

SHARDS_AT_ONCE = 4
LOW_WINDOWS = 2
"""The next shard is opened before the last one runs dry: while so many windows of lines wait."""


@dataclass(frozen=True, slots=True)
class Room:
    """How many shards a worker may hold: open ones (also by the bytes of their input, one
    always), and ones it only settles."""

    open_shards: int = 64
    open_bytes: int = 24 * 1024 * 1024
    settling_shards: int = 32


def run_low(links: Iterable[Link], lines: Mapping[str, int], window: int) -> list[Link]:
    """The engines for whose models too few lines wait. What waits for one engine is no reason to
    let another run dry."""
    return [
        link
        for link in links
        if sum(n for model, n in lines.items() if link.serves(model)) < LOW_WINDOWS * window
    ]


def waiting_lines(pool: Pool, shards: Iterable[OpenShard], catalogue: Catalogue) -> Counter[str]:
    """How many lines of each model wait here, those of shards that are still read included."""
    waiting = pool.ready_lines()
    for shard in shards:
        if not shard.opened:
            waiting[catalogue.served_name(shard.job.model or "")] += shard.lease.shard.lines
    return waiting


def what_to_claim(
    shards: Sequence[OpenShard],
    room: Room,
    *,
    low: bool,
    may_send: bool,
    serving: frozenset[str] | None,
    servable: frozenset[str] | None = None,
) -> Want | None:
    """More lines when few are left for the engines that serve these models; else only jobs that
    have none of their lines here, so that a small job does not wait for a big one, and shards whose
    owner died. None: nothing at all."""
    running = [shard for shard in shards if shard.lease.stop is None]
    size = sum(shard.lease.shard.length for shard in running)
    fits = not running or (len(running) < room.open_shards and size < room.open_bytes)
    runs = fits and may_send and serving != frozenset()
    to_settle = room.settling_shards - (len(shards) - len(running))
    if not runs and to_settle <= 0:
        return None
    return Want(
        limit=SHARDS_AT_ONCE if low else 1,
        serving=serving,
        not_jobs=frozenset() if low else frozenset(shard.job.id for shard in running),
        running=runs,
        settling=to_settle > 0,
        settle_limit=to_settle,
        servable=servable,
    )
