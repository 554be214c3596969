"""A worker's live view of its jobs: what is in flight, what waits and why, and how fast."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from batchmill.core.links import Link
from batchmill.core.models import any_up, is_known
from batchmill.core.pool import Pool
from batchmill.core.waiting import gravest
from batchmill.core.work import OpenShard
from batchmill.fleet import JobGauge
from batchmill.model import (
    JobId,
    WaitingReason,
)

SMOOTHING = 0.25


@dataclass(slots=True)
class Rates:
    """Lines per second of each job, smoothed over the last few seconds."""

    done: dict[JobId, int] = field(default_factory=dict)
    rates: dict[JobId, float] = field(default_factory=dict)

    def count(self, job: JobId, lines: int) -> None:
        """So many lines of the job got their outcome."""
        self.done[job] = self.done.get(job, 0) + lines

    def tick(self, seconds: float, jobs: set[JobId]) -> None:
        """Fold the last `seconds` into the rates; jobs that are held no more are forgotten."""
        for job in jobs:
            now = self.done.get(job, 0) / seconds
            before = self.rates.get(job)
            self.rates[job] = now if before is None else before + SMOOTHING * (now - before)
        self.rates = {job: rate for job, rate in self.rates.items() if job in jobs}
        self.done = {}


def gauges(
    shards: Sequence[OpenShard],
    pool: Pool,
    links: Iterable[Link],
    rates: Rates,
    *,
    storage_ok: bool,
    now: float,
) -> dict[JobId, JobGauge]:
    """One gauge for each job that this worker holds shards of."""
    delayed = pool.delayed_lines()
    found = {}
    for job in {shard.job.id for shard in shards}:
        in_flight = pool.in_flight[job]
        found[job] = JobGauge(
            in_flight=in_flight,
            retrying=delayed[job],
            lines_per_second=round(rates.rates.get(job, 0.0), 3),
            blocked=_blocked(job, pool, links, now, storage_ok=storage_ok),
            follows=_follows(job, shards, pool),
        )
    return found


def _follows(job: JobId, shards: Sequence[OpenShard], pool: Pool) -> bool:
    """Whether the job's lines here only wait for those of other workers."""
    if pool.in_flight[job] or any(pool.routes(job)) or pool.delayed_routes(job):
        return False
    return any(shard.followers for shard in shards if shard.job.id == job)


def _blocked(
    job: JobId, pool: Pool, links: Iterable[Link], now: float, *, storage_ok: bool
) -> WaitingReason | None:
    """Why a job whose lines are here has none in flight, if that is so."""
    if pool.in_flight[job]:
        return None
    if not storage_ok:
        return WaitingReason.STORAGE_UNAVAILABLE
    routes = {*pool.routes(job), *pool.delayed_routes(job)}
    reasons = [
        link.gate.blocked(route, now) for route in routes for link in links if link.serves(route[1])
    ]
    if routes and not reasons:
        seen = [link.status for link in links]
        is_refused = any_up(seen) and all(map(is_known, seen))
        return WaitingReason.MODEL_NOT_SERVED if is_refused else WaitingReason.ENGINE_DOWN
    if reasons and all(reason is not None for reason in reasons):
        return gravest(reasons)
    if pool.delayed_lines()[job]:
        return WaitingReason.RETRYING
    return WaitingReason.QUEUED_BEHIND_JOBS if reasons else None
