"""Jobs as their users see them: made, found, listed, cancelled, paused, hidden."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from batchmill.errors import StateConflict
from batchmill.ledger import files, replays
from batchmill.ledger.endings import open_chore, stopping
from batchmill.ledger.rows import input_values, job_values, to_input, to_job
from batchmill.ledger.schema import file, job, job_input, job_metadata
from batchmill.ledger.store import Transaction
from batchmill.model import Ending, File, Job, JobId, JobInput, JobState, Kind, TenantId
from batchmill.once import Once
from batchmill.queries import JobQuery, Page

_PAUSABLE = (JobState.QUEUED.value, JobState.RUNNING.value)


def create(
    tx: Transaction, new: Job, inputs: Sequence[JobInput], inline: File | None, once: Once | None
) -> Job:
    """Record a job with its validate row; asked again with the same id, nothing changes."""
    before = tx.one(sa.select(job).where(job.c.id == new.id))
    if before is not None:
        return to_job(before)
    if once is not None and (earlier := replays.admit(tx, once, new.id)) is not None:
        return present(tx, earlier)
    if inline is not None:
        files.add(tx, inline)
    _require_files(tx, new.tenant, inputs)
    tx.run(sa.insert(job), job_values(new, tx.at.wall))
    tx.each(
        sa.insert(job_input), [input_values(new.id, i, source) for i, source in enumerate(inputs)]
    )
    pairs = [{"job_id": new.id, "key": k, "value": v} for k, v in new.metadata.items()]
    tx.each(sa.insert(job_metadata), pairs)
    open_chore(tx, new.id, Kind.VALIDATE)
    return present(tx, new.id)


def made_by(tx: Transaction, once: Once) -> Job | None:
    """The job that the same create made before."""
    earlier = replays.find(tx, once)
    return None if earlier is None else present(tx, earlier)


def present(tx: Transaction, id: JobId) -> Job:
    """The job as it is now; it exists."""
    row = tx.one(sa.select(job).where(job.c.id == id))
    if row is None:
        raise StateConflict(f"there is no job {id}")
    return to_job(row)


def find(tx: Transaction, tenant: TenantId, id: JobId) -> Job | None:
    """That job as its tenant sees it."""
    row = tx.one(sa.select(job).where(job.c.id == id, *_seen_by(tenant)))
    return None if row is None else to_job(row)


def page(tx: Transaction, tenant: TenantId, query: JobQuery) -> Page[Job]:
    """One page of the tenant's jobs."""
    conditions = [*_seen_by(tenant), *_asked_for(query)]
    total = tx.value(sa.select(sa.func.count()).select_from(job).where(*conditions))
    place = sa.tuple_(job.c.created_at, job.c.ordinal)
    if query.after is not None:
        cursor = tx.one(_place_of(tenant, query.after))
        if cursor is None:
            return Page((), total, has_more=False)
        conditions.append(place > tuple(cursor) if query.oldest_first else place < tuple(cursor))
    up = query.oldest_first
    order = [c.asc() if up else c.desc() for c in (job.c.created_at, job.c.ordinal)]
    wanted = sa.select(job).where(*conditions).order_by(*order)
    rows = tx.all(wanted.limit(query.limit + 1).offset(query.offset))
    items = tuple(to_job(row) for row in rows[: query.limit])
    return Page(items, total, has_more=len(rows) > query.limit)


def inputs(tx: Transaction, id: JobId) -> tuple[JobInput, ...]:
    """The job's inputs in order."""
    mine = sa.select(job_input).where(job_input.c.job_id == id).order_by(job_input.c.place)
    return tuple(to_input(row) for row in tx.all(mine))


def cancel(tx: Transaction, tenant: TenantId, id: JobId) -> Job | None:
    """Stop the job if it may be cancelled; the job as it then is."""
    _stop(tx, tenant, id)
    return find(tx, tenant, id)


def hide(tx: Transaction, tenant: TenantId, id: JobId) -> bool:
    """Take the job from its user, stopping it first if it is unfinished."""
    _stop(tx, tenant, id)
    seen = job.c.tenant == tenant if tx.again else sa.and_(*_seen_by(tenant))
    if not tx.run(sa.update(job).where(job.c.id == id, seen).values(hidden=True)):
        return False
    replays.forget_job(tx, tenant, id)
    return True


def set_paused(tx: Transaction, tenant: TenantId, id: JobId, *, paused: bool) -> Job | None:
    """Pause or resume a job that is queued or running; the job as it then is. A paused one makes
    room in its tenant's quota, and lines up again when it is resumed."""
    mine = sa.update(job).where(
        job.c.id == id, *_seen_by(tenant), job.c.state.in_(_PAUSABLE), job.c.paused != paused
    )
    if tx.run(mine.values(paused=paused, let_in=False)) and not paused:
        tx.ring()
    return find(tx, tenant, id)


def extend(tx: Transaction, tenant: TenantId, id: JobId, window: str, seconds: float) -> Job | None:
    """Move the end of a job's window further away; the job as it then is."""
    until = job.c.created_at + seconds
    mine = sa.update(job).where(
        job.c.id == id,
        *_seen_by(tenant),
        job.c.state.in_((JobState.VALIDATING.value, *_PAUSABLE)),
        job.c.deadline < until,
        until > tx.at.wall,
    )
    tx.run(mine.values(deadline=until, window=window))
    return find(tx, tenant, id)


def _require_files(tx: Transaction, tenant: TenantId, wanted: Sequence[JobInput]) -> None:
    ids = {source.file for source in wanted}
    query = sa.select(file.c.id).where(
        file.c.id.in_(ids), file.c.tenant == tenant, *files.visible(tx)
    )
    none_may_go = query.order_by(file.c.id).with_for_update(read=True)
    gone = ids - {row.id for row in tx.all(none_may_go)}
    if gone:
        raise StateConflict(f"input file {min(gone)} has gone; upload it again")


def _stop(tx: Transaction, tenant: TenantId, id: JobId) -> None:
    if tx.run(stopping(tx, Ending.CANCELLED).where(job.c.id == id, *_seen_by(tenant))):
        tx.ring()


def _seen_by(tenant: TenantId) -> list[sa.ColumnElement[bool]]:
    return [job.c.tenant == tenant, job.c.hidden.is_(sa.false())]


def _asked_for(query: JobQuery) -> list[sa.ColumnElement[bool]]:
    """The filters of a list request as conditions; metadata pairs must all match."""
    conditions: list[sa.ColumnElement[bool]] = []
    if query.states:
        conditions.append(job.c.state.in_([state.value for state in query.states]))
    if query.model is not None:
        conditions.append(job.c.model == query.model)
    if query.agent_id is not None:
        conditions.append(job.c.agent_id == query.agent_id)
    if query.created_after is not None:
        conditions.append(_created_after(query.created_after))
    if query.key is not None:
        conditions.append(job.c.key_id == query.key)
    if query.metadata:
        conditions.append(_matching_pairs(query.metadata) == len(query.metadata))
    return conditions


def _created_after(bound: float) -> sa.ColumnElement[bool]:
    """Jobs show the second of their creation: after a whole second are those of a later one."""
    return job.c.created_at >= bound + 1 if bound.is_integer() else job.c.created_at > bound


def _matching_pairs(wanted: Mapping[str, str]) -> sa.ScalarSelect[int]:
    """How many of these pairs a job has."""
    pair = sa.tuple_(job_metadata.c.key, job_metadata.c.value)
    mine = job_metadata.c.job_id == job.c.id
    matching = sa.select(sa.func.count()).where(mine, pair.in_(list(wanted.items())))
    return matching.select_from(job_metadata).scalar_subquery()


def _place_of(tenant: TenantId, id: JobId) -> sa.Select[Any]:
    """Where a list goes on after a job; one hidden meanwhile still marks the place."""
    return sa.select(job.c.created_at, job.c.ordinal).where(job.c.tenant == tenant, job.c.id == id)
