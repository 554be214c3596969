"""What a worker lets go of when its engines close for the day, or leave. Pure."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Sequence

from batchmill.core.links import Link
from batchmill.core.models import WILDCARD
from batchmill.core.pool import Pool
from batchmill.core.work import OpenShard
from batchmill.model import JobId, Verdict


def out_of_hours(
    shards: Sequence[OpenShard],
    pool: Pool,
    links: Iterable[Link],
    serving: Container[str] | None,
) -> list[OpenShard]:
    """The shards of jobs none of whose waiting lines is for an engine within its schedule: they
    are released, for whoever has one. A job that would be claimed here again at once, by its
    first line's model, stays."""
    running = [s for s in shards if s.opened and s.sends and s.answer.verdict is Verdict.KEEP]
    jobs = {shard.job.id: shard.job.model for shard in running}
    closed = {
        job
        for job, model in jobs.items()
        if serving is not None and model is not None and model not in serving
        if _waits_for_others(job, pool, links)
    }
    return [shard for shard in running if shard.job.id in closed]


def without_engine(
    shards: Sequence[OpenShard], pool: Pool, links: Collection[Link]
) -> list[OpenShard]:
    """The shards that have lines left to send, and none of them for an engine that is here, up or
    down."""
    if any(link.status.seen_at == 0.0 for link in links):
        return []
    running = [s for s in shards if s.opened and s.sends and s.answer.verdict is Verdict.KEEP]

    def is_served(model: str) -> bool:
        return any(link.serves(model) for link in links)

    unserved = {
        job
        for job in {shard.job.id for shard in running}
        for _, model in (*pool.routes(job), *pool.delayed_routes(job))
        if not is_served(model)
    }
    some = [shard for shard in running if shard.job.id in unserved]
    return [s for s in some if (left := s.models_left()) and not any(map(is_served, left))]


def pass_on(shards: Sequence[OpenShard], elsewhere: Collection[str]) -> None:
    """Let go of those shards that have lines left for a model which is served elsewhere."""
    for shard in shards:
        found = (m for m in sorted(shard.models_left()) if {m, WILDCARD} & {*elsewhere})
        if (wanted := next(found, None)) is not None:
            shard.let_go(wanted)


def _waits_for_others(job: JobId, pool: Pool, links: Iterable[Link]) -> bool:
    models = {model for _, model in (*pool.routes(job), *pool.delayed_routes(job))}
    may_take = (link.status for link in links if any(link.serves(model) for model in models))
    return bool(models) and not any(status.is_open for status in may_take)
