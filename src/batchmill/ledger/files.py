"""Files and segments: uploads, and the virtual files that finished jobs leave."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from batchmill.errors import Conflict
from batchmill.ledger.endings import UNFINISHED
from batchmill.ledger.rows import file_values, to_file, to_segment
from batchmill.ledger.schema import file, job, job_input, segment
from batchmill.ledger.store import Transaction
from batchmill.model import File, FileId, JobId, JobState, Segment, Stream, TenantId
from batchmill.queries import FileQuery, Page

_SAMPLE_TYPES: dict[str, sa.ColumnElement[bool]] = {
    "batch_request": file.c.stream.is_(None),
    "batch_result": file.c.stream == Stream.OUT.value,
    "batch_error": file.c.stream == Stream.ERR.value,
}


def add(tx: Transaction, new: File) -> File:
    """Record a file; asked again with the same id, nothing changes."""
    tx.run(tx.insert_new(file), file_values(new, tx.at.wall))
    row = tx.one(sa.select(file).where(file.c.id == new.id))
    assert row is not None
    return to_file(row)


def find(tx: Transaction, tenant: TenantId, id: FileId) -> File | None:
    """That file as its tenant sees it."""
    row = tx.one(sa.select(file).where(file.c.id == id, *_seen_by(tx, tenant)))
    return None if row is None else to_file(row)


def page(tx: Transaction, tenant: TenantId, query: FileQuery) -> Page[File]:
    """One page of the tenant's files."""
    conditions = [*_seen_by(tx, tenant), *_asked_for(query)]
    total = tx.value(sa.select(sa.func.count()).select_from(file).where(*conditions))
    place = sa.tuple_(file.c.created_at, file.c.ordinal)
    if query.after is not None:
        cursor = tx.one(_place_of(tenant, query.after))
        if cursor is None:
            return Page((), total, has_more=False)
        conditions.append(place > tuple(cursor) if query.oldest_first else place < tuple(cursor))
    up = query.oldest_first
    order = [c.asc() if up else c.desc() for c in (file.c.created_at, file.c.ordinal)]
    wanted = sa.select(file).where(*conditions).order_by(*order)
    rows = tx.all(wanted.limit(query.limit + 1).offset(query.offset))
    items = tuple(to_file(row) for row in rows[: query.limit])
    return Page(items, total, has_more=len(rows) > query.limit)


def delete(tx: Transaction, tenant: TenantId, id: FileId) -> bool:
    """Take the file from its user; its row stays until its blob may go."""
    mine = sa.select(file).where(file.c.id == id, file.c.tenant == tenant)
    row = tx.one(
        mine.with_for_update()
    )  # whoever makes a job of it now comes first or finds it gone
    if row is None or not (tx.again or find(tx, tenant, id)):
        return False
    user = tx.one(_unfinished_user(id))
    if user is not None:
        raise Conflict(
            f"file {id} is the input of job {user.id}, which is {user.state}; "
            "cancel the job or wait for its end",
            state=user.state,
        )
    tx.run(sa.update(file).where(file.c.id == id).values(deleted_at=tx.at.wall))
    return True


def segments(tx: Transaction, id: JobId, stream: Stream) -> tuple[Segment, ...]:
    """The closed segments of one side, in input order."""
    mine = sa.select(segment).where(segment.c.job_id == id, segment.c.stream == stream.value)
    return tuple(to_segment(row) for row in tx.all(mine.order_by(segment.c.n)))


def visible(tx: Transaction) -> list[sa.ColumnElement[bool]]:
    """Neither deleted nor past its time."""
    lasting = sa.or_(file.c.expires_at.is_(None), file.c.expires_at > tx.at.wall)
    return [file.c.deleted_at.is_(None), lasting]


def _seen_by(tx: Transaction, tenant: TenantId) -> list[sa.ColumnElement[bool]]:
    return [file.c.tenant == tenant, *visible(tx)]


def _asked_for(query: FileQuery) -> list[sa.ColumnElement[bool]]:
    """The filters of a list request as conditions."""
    conditions: list[sa.ColumnElement[bool]] = []
    if query.purposes:
        conditions.append(file.c.purpose.in_(query.purposes))
    if query.sources:
        conditions.append(file.c.source.in_(query.sources))
    if query.sample_types:
        known = [_SAMPLE_TYPES[name] for name in query.sample_types & _SAMPLE_TYPES.keys()]
        conditions.append(sa.or_(sa.false(), *known))
    if query.mimetypes:
        conditions.append(file.c.mimetype.in_(query.mimetypes))
    if query.search is not None:
        conditions.append(file.c.filename.icontains(query.search, autoescape=True))
    return conditions


def _place_of(tenant: TenantId, id: FileId) -> sa.Select[Any]:
    """Where a list goes on after a file; one deleted meanwhile still marks the place."""
    return sa.select(file.c.created_at, file.c.ordinal).where(
        file.c.tenant == tenant, file.c.id == id
    )


def _unfinished_user(id: FileId) -> sa.Select[Any]:
    """A job that forbids deleting this file: it is its input, or a result of its parent."""
    blocking = [state for state in UNFINISHED if state != JobState.CANCELLING.value]
    users = sa.select(job_input.c.job_id).where(job_input.c.file_id == id)
    parents = sa.select(file.c.job_id).where(file.c.id == id)
    children = sa.select(job.c.id).where(job.c.retry_of.in_(parents))
    user = job.c.id.in_(sa.union_all(users, children))
    return (
        sa.select(job.c.id, job.c.state)
        .where(user, job.c.state.in_(blocking), job.c.hidden.is_(sa.false()))
        .limit(1)
    )
