"""Which blobs nobody needs any more. Published names decide, never age alone.

A row goes first, then its blob; whoever dies between leaves a blob that `referenced` disowns.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from batchmill.ledger import replays
from batchmill.ledger.endings import UNFINISHED, open_chore
from batchmill.ledger.rows import Row
from batchmill.ledger.schema import (
    IS_LEASED,
    IS_RUN,
    IS_SPENT,
    assembly_piece,
    file,
    job,
    job_input,
    meta,
    part,
    segment,
    shard,
)
from batchmill.ledger.store import Transaction
from batchmill.model import BlobName, FileSource, JobId, Kind

AT_ONCE = 500
"""Names in one statement, and files forgotten in one transaction."""

_SCANNED = "scanned"
_OF_JOB = re.compile(r"jobs/(?P<job>[^/]+)/(?P<folder>[^/]+)/(?P<rest>.+)")
_OF_GRANT = re.compile(r"(?P<n>\d+)\.(?P<epoch>\d+)(\.\d+)?")
_OF_A_GRANT = frozenset({"parts", "out", "err"})
_UPLOADED = (FileSource.UPLOAD.value, FileSource.INLINE.value)


@dataclass(frozen=True, slots=True)
class _Name:
    """What a blob's name says: its job, and the grant of a shard that may publish it."""

    job: JobId
    grant: tuple[int, int] | None


def referenced(tx: Transaction, names: Sequence[BlobName]) -> frozenset[BlobName]:
    """Those of the names that are published, or may still be."""
    found: set[BlobName] = set()
    for some in _chunks(names):
        found |= _published(tx, some)
        found |= _publishable(tx, [name for name in some if name not in found])
    return frozenset(found)


def scan_is_due(tx: Transaction, every_seconds: float) -> bool:
    """Whether nobody has looked through all blobs for so long; then it counts as begun now."""
    tx.run(tx.insert_new(meta), {"name": _SCANNED, "value": -every_seconds})
    due = sa.update(meta).where(meta.c.name == _SCANNED, meta.c.value <= tx.at.wall - every_seconds)
    return tx.run(due.values(value=tx.at.wall)) == 1


def part_blobs_to_drop(tx: Transaction, limit: int) -> tuple[BlobName, ...]:
    """Blobs of parts whose shard is closed."""
    rows = tx.all(sa.select(part.c.blob).where(IS_SPENT).limit(limit))
    return tuple(row.blob for row in rows)


def dropped(tx: Transaction, names: Sequence[BlobName]) -> None:
    """These part blobs are gone."""
    for some in _chunks(names):
        gone = sa.update(part).where(part.c.blob.in_(some), part.c.state == "spent")
        tx.run(gone.values(state="dropped"))


def prune(tx: Transaction, id: JobId, most: int) -> tuple[BlobName, ...] | None:
    """Forget the results of a job past their retention, and the shards they came from: its files at
    first, some parts at a time, the rest at last. None where nothing is left or it is not due."""
    due = sa.select(job.c.id).where(
        job.c.id == id, job.c.prune_at <= tx.at.wall, sa.not_(_has_unfinished_child(job.c.id))
    )
    if tx.one(due.with_for_update()) is None:
        return None
    tx.run(sa.delete(file).where(file.c.job_id == id, file.c.source == FileSource.RESULT.value))
    mine = part.c.job_id == id
    last = tx.value(
        sa.select(part.c.sequence).where(mine).order_by(part.c.sequence).offset(most - 1).limit(1)
    )
    some = mine if last is None else sa.and_(mine, part.c.sequence <= last)
    rows = tx.all(sa.delete(part).where(some).returning(part.c.blob, part.c.state))
    blobs = [row.blob for row in rows if row.state != "dropped"]
    if last is None:
        segments = sa.delete(segment).where(segment.c.job_id == id).returning(segment.c.blob)
        blobs += [row.blob for row in tx.all(segments)]
        tx.run(sa.delete(shard).where(shard.c.job_id == id, IS_RUN))
        tx.run(sa.update(job).where(job.c.id == id).values(prune_at=None))
    return tuple(blobs)


def expire_files(tx: Transaction, uploads_before: float) -> tuple[BlobName, ...]:
    """Forget files whose time is over, and queue the pruning of jobs whose results' is."""
    unneeded = _unneeded(tx, uploads_before)
    some = unneeded.limit(AT_ONCE).with_for_update(skip_locked=True, of=file)
    locked = [row.id for row in tx.all(some)]
    rows = tx.all(
        unneeded.where(file.c.id.in_(locked))
    )  # a job may have come to need it until then
    tx.run(sa.delete(file).where(file.c.id.in_([row.id for row in rows])))
    blobs = [row.blob for row in rows if row.blob is not None]
    for row in rows:
        if row.stream is not None:
            blobs += _forget_segments(tx, row)
    over = sa.select(job.c.id).where(
        job.c.prune_at <= tx.at.wall, sa.not_(_has_unfinished_child(job.c.id))
    )
    for row in tx.all(over.limit(AT_ONCE)):
        open_chore(tx, row.id, Kind.PRUNE)
    replays.forget(tx)
    return tuple(blobs)


def _unneeded(tx: Transaction, uploads_before: float) -> sa.Select[Any]:
    """Files that were deleted, have expired or are old uploads without a time of their own,
    and that no unfinished job has for input or retries."""
    deleted = sa.select(file.c.ordinal).where(file.c.deleted_at.is_not(None))
    expired = sa.select(file.c.ordinal).where(file.c.expires_at <= tx.at.wall)
    old = sa.select(file.c.ordinal).where(
        file.c.source.in_(_UPLOADED),
        file.c.created_at < uploads_before,
        file.c.expires_at.is_(None),
    )
    over = file.c.ordinal.in_(sa.union_all(deleted, expired, old))
    user = sa.exists().where(
        job_input.c.file_id == file.c.id,
        job.c.id == job_input.c.job_id,
        job.c.state.in_(UNFINISHED),
    )
    columns = (file.c.id, file.c.blob, file.c.job_id, file.c.stream)
    used = sa.or_(user, _has_unfinished_child(file.c.job_id))
    return sa.select(*columns).where(over, sa.not_(used))


def _has_unfinished_child(parent: sa.ColumnElement[str | None]) -> sa.Exists:
    """A retry of that job has not ended: it may still need the results."""
    child = job.alias("child")
    return sa.exists().where(child.c.retry_of == parent, child.c.state.in_(UNFINISHED))


def _forget_segments(tx: Transaction, row: Row) -> list[BlobName]:
    """A result file has gone: so may the segments it was made of."""
    mine = sa.delete(segment).where(segment.c.job_id == row.job_id, segment.c.stream == row.stream)
    return [gone.blob for gone in tx.all(mine.returning(segment.c.blob))]


def _published(tx: Transaction, names: Sequence[BlobName]) -> set[BlobName]:
    """Names that a row refers to."""
    live = sa.select(part.c.blob).where(part.c.blob.in_(names), part.c.state == "live")
    inputs = (
        sa.select(job_input.c.blob)
        .join(job, job.c.id == job_input.c.job_id)
        .where(job_input.c.blob.in_(names), job.c.state.in_(UNFINISHED))
    )
    files = sa.select(file.c.blob).where(file.c.blob.in_(names))
    segments = sa.select(segment.c.blob).where(segment.c.blob.in_(names))
    pieces = sa.select(assembly_piece.c.blob).where(assembly_piece.c.blob.in_(names))
    return {row.blob for row in tx.all(sa.union(live, inputs, files, segments, pieces))}


def _publishable(tx: Transaction, names: Sequence[BlobName]) -> set[BlobName]:
    """Names that the present owner of a shard may still publish, and what an unfinished job
    keeps beside its parts and segments."""
    parsed = {name: what for name in names if (what := _parse(name)) is not None}
    ids = {what.job for what in parsed.values()}
    held = sa.select(shard.c.job_id, shard.c.n, shard.c.epoch).where(
        IS_RUN, IS_LEASED, shard.c.job_id.in_(ids)
    )
    grants = {(row.job_id, row.n, row.epoch) for row in tx.all(held)}
    open_jobs = sa.select(job.c.id).where(job.c.id.in_(ids), job.c.state.in_(UNFINISHED))
    unfinished = {row.id for row in tx.all(open_jobs)}
    return {
        name
        for name, what in parsed.items()
        if ((what.job, *what.grant) in grants if what.grant else what.job in unfinished)
    }


def _parse(name: BlobName) -> _Name | None:
    found = _OF_JOB.fullmatch(name)
    if found is None:
        return None
    its = JobId(found["job"])
    if found["folder"] not in _OF_A_GRANT:
        return _Name(its, None)
    grant = _OF_GRANT.fullmatch(found["rest"])
    return _Name(its, (int(grant["n"]), int(grant["epoch"]))) if grant else None


def _chunks(names: Sequence[BlobName]) -> Iterable[Sequence[BlobName]]:
    return (names[i : i + AT_ONCE] for i in range(0, len(names), AT_ONCE))
