"""How jobs stop and end: every move of a job's state but the ones into queued and running.

A job stops (cancelling, or finalizing with its ending), its open lines are settled, and it ends
in the transaction that publishes its files.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from batchmill.clock import new_id
from batchmill.errors import StateConflict
from batchmill.ledger.events import record_event
from batchmill.ledger.locks import lock_job
from batchmill.ledger.rows import Row, Values, errors_text, file_values, to_errors
from batchmill.ledger.schema import IS_RUN, file, job, part, segment, shard
from batchmill.ledger.store import Transaction
from batchmill.model import (
    MOVES,
    TERMINAL,
    Ending,
    File,
    FileId,
    FileSource,
    JobId,
    JobState,
    Kind,
    LineError,
    Stream,
    TenantId,
)

UNFINISHED = sorted(state.value for state in JobState if state not in TERMINAL)
ResultIds = tuple[FileId, FileId]
Names = tuple[str, str]


def may_become(to: JobState) -> sa.ColumnElement[bool]:
    """The job is in a state from which it may move there, by the one table of moves."""
    return job.c.state.in_(sorted(state.value for state, moves in MOVES.items() if to in moves))


def stopping(tx: Transaction, ending: Ending) -> sa.Update:
    """Stop jobs that still run or may come to: no new line of them is sent from here on."""
    cancelled = ending is Ending.CANCELLED
    to = JobState.CANCELLING if cancelled else JobState.FINALIZING
    values: Values = {
        "state": to.value,
        "ending": ending.value,
        "paused": False,
        "stopped_tick": tx.at.tick,
        "stopped_boot": tx.at.boot,
        "cancelling_at" if cancelled else "finalizing_at": tx.at.wall,
    }
    return sa.update(job).where(may_become(to)).values(values)


def expire(tx: Transaction) -> int:
    """Stop every job whose window has ended; how many. One that another transaction changes now
    is left to the next call, so that no beat waits."""
    over = (
        sa.select(job.c.id)
        .where(may_become(JobState.FINALIZING), job.c.deadline <= tx.at.wall)
        .order_by(job.c.id)
        .with_for_update(skip_locked=True)
        .correlate(None)
    )
    stopped = tx.run(stopping(tx, Ending.EXPIRED).where(job.c.id.in_(over)))
    if stopped:
        tx.ring()
    return stopped


def fail(tx: Transaction, id: JobId, error: LineError) -> None:
    """Stop a job that cannot go on; in validation it fails at once, without result files."""
    row = lock_job(tx, id)
    if row is None:
        return
    if row.state == JobState.VALIDATING.value:
        close_chore(tx, id, Kind.VALIDATE)
        end_unvalidated(tx, row, [error], 1)
    elif tx.run(stopping(tx, Ending.FAILED).where(job.c.id == id)):
        _note(tx, row, error)
        tx.ring()


def end_unvalidated(tx: Transaction, row: Row, errors: Sequence[LineError], total: int) -> None:
    """End a job that has no shards: failed, or as it was ending when it was stopped before.
    What a child had kept of its parent until then is forgotten."""
    ending = Ending.FAILED if row.ending is None else Ending(row.ending)
    to = JobState(ending.value)
    ended = sa.update(job).where(job.c.id == row.id, may_become(to))
    values: Values = {
        "state": to.value,
        "ending": ending.value,
        "ended_at": tx.at.wall,
        "paused": False,
        "errors": errors_text([*to_errors(row.errors), *errors]),
        "errors_total": row.errors_total + total,
    }
    if tx.run(ended.values(values)):
        record_event(tx, row, ending)
    for table in (segment, part, shard):
        kept = sa.delete(table).where(table.c.job_id == row.id)
        tx.run(kept.where(IS_RUN) if table is shard else kept)


def begin_finalizing(tx: Transaction, id: JobId) -> None:
    """The last shard is closed: the job's files may be published. Its ending stays if it has
    one; else it has completed."""
    tx.run(stopping(tx, Ending.COMPLETED).where(job.c.id == id))
    open_chore(tx, id, Kind.FINALIZE)


def publish(tx: Transaction, row: Row, ids: ResultIds, names: Names) -> None:
    """End a job whose shards are all closed, with its files, all counted lines in them.

    Raises `StateConflict` when the counters and the segments disagree: a defect, to be seen.
    """
    sides = _sides(tx, row.id)
    lines = tuple(side[1] for side in sides)
    if lines != (row.succeeded, row.failed) or sum(lines) != row.total or row.shards_left:
        raise StateConflict(
            f"job {row.id} counts {row.succeeded} succeeded and {row.failed} failed of "
            f"{row.total}, its segments hold {lines[0]} and {lines[1]}, and {row.shards_left} "
            "shards are open"
        )
    _end(tx, row, JobState(row.ending), ids, names, sides)


def publish_anyhow(tx: Transaction, row: Row, reason: str) -> None:
    """End a job that could not be finalized in five tries: failed (a cancelled one stays
    cancelled), with the reason among its errors and with whatever segments it has as its files.

    It is not tried once more with fresh strikes: finalizing moves no bytes, so what stands in
    its way is a defect and will stand there again, and a job must end.
    """
    to = JobState.CANCELLED if row.state == JobState.CANCELLING.value else JobState.FAILED
    _note(tx, row, LineError("internal_error", reason))
    names = (f"{row.id}_output.jsonl", f"{row.id}_error.jsonl")
    ids = (FileId(new_id()), FileId(new_id()))
    _end(tx, row, to, ids, names, _sides(tx, row.id))


def open_chore(tx: Transaction, id: JobId, kind: Kind) -> None:
    """Queue a job's row of this kind, unless it is there."""
    tx.run(tx.insert_new(shard), {"job_id": id, "kind": kind.value, "n": 0})
    tx.ring()


def close_chore(tx: Transaction, id: JobId, kind: Kind) -> None:
    """Close a job's row of this kind, whoever holds it."""
    mine = sa.update(shard).where(shard.c.job_id == id, shard.c.kind == kind.value)
    tx.run(mine.values(state="closed", lease_until=None))


def _sides(tx: Transaction, id: JobId) -> list[tuple[int, int]]:
    """Bytes and lines of the output and of the error side, in this order."""
    size = sa.cast(sa.func.sum(segment.c.size_bytes), sa.BigInteger).label("size")
    lines = sa.cast(sa.func.sum(segment.c.lines), sa.BigInteger).label("lines")
    sums = sa.select(segment.c.stream, size, lines).where(segment.c.job_id == id)
    rows = tx.all(sums.group_by(segment.c.stream))
    found = {row.stream: (row.size, row.lines) for row in rows}
    return [found.get(stream.value, (0, 0)) for stream in (Stream.OUT, Stream.ERR)]


def _end(
    tx: Transaction,
    row: Row,
    to: JobState,
    ids: ResultIds,
    names: Names,
    sides: list[tuple[int, int]],
) -> None:
    until = _kept_until(tx, row)
    made: list[FileId | None] = []
    for new, name, stream, (size, lines) in zip(ids, names, Stream, sides, strict=True):
        made.append(new if lines else None)
        if lines:
            result = _result_file(row, new, name, stream, size, lines, until)
            tx.run(sa.insert(file), file_values(result, tx.at.wall))
    ended = sa.update(job).where(job.c.id == row.id, may_become(to))
    values: Values = {
        "state": to.value,
        "ending": to.value,
        "ended_at": tx.at.wall,
        "output_file": made[0],
        "error_file": made[1],
        "prune_at": until,
    }
    if not tx.run(ended.values(values)):
        raise StateConflict(f"job {row.id} is {row.state} and cannot become {to}")
    record_event(tx, row, Ending(to.value))


def _kept_until(tx: Transaction, row: Row) -> float | None:
    """When the result files of a job that ends now may go: as it asked, but no later than all."""
    asked, most = row.keep_results_seconds, tx.rules.result_retention_seconds
    keep = min(asked or most, most or asked or 0)
    return tx.at.wall + keep if keep else None


def _result_file(
    row: Row, id: FileId, name: str, stream: Stream, size: int, lines: int, until: float | None
) -> File:
    return File(
        id=id,
        tenant=TenantId(row.tenant),
        filename=name,
        purpose="batch_output",
        source=FileSource.RESULT,
        size_bytes=size,
        created_at=0.0,
        lines=lines,
        mimetype="application/jsonl",
        expires_at=until,
        job=JobId(row.id),
        stream=stream,
    )


def _note(tx: Transaction, row: Row, error: LineError) -> None:
    """Add one error to those of the job as a whole."""
    errors = errors_text([error, *to_errors(row.errors)])
    mine = sa.update(job).where(job.c.id == row.id)
    tx.run(mine.values(errors=errors, errors_total=row.errors_total + 1))
