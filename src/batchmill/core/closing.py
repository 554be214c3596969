"""What a worker lets go of when its engines close for the day, or leave. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence

from batchmill.core.links import Link
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


def _waits_for_others(job: JobId, pool: Pool, links: Iterable[Link]) -> bool:
    models = {model for _, model in (*pool.routes(job), *pool.delayed_routes(job))}
    may_take = (link.status for link in links if any(link.serves(model) for model in models))
    return bool(models) and not any(status.is_open for status in may_take)
