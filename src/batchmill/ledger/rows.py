"""Rows become nouns here, and nouns become rows; nothing else knows how either is stored."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

import msgspec
import sqlalchemy as sa

from batchmill.assembly import Assembly, AssemblyId, AssemblyState, Piece, PieceId
from batchmill.deliveries import Delivery, DeliveryId, DeliveryState, EventId
from batchmill.failures import Failures, FailureTally
from batchmill.fleet import Beat, EngineStatus, Worker
from batchmill.model import (
    ApiKey,
    BlobName,
    Dialect,
    Ending,
    File,
    FileId,
    FileSource,
    Job,
    JobId,
    JobInput,
    JobState,
    KeyId,
    LineError,
    OnInvalid,
    Part,
    PartEntry,
    Segment,
    Shard,
    Stream,
    TenantId,
)
from batchmill.usage import Usage

Row = sa.Row[Any]
Values = dict[str, object]

ERRORS_KEPT = 100

_ENTRY = struct.Struct("<IQI")
"""One entry of a part: twice its line, plus one for the error side; offset; length."""

_tally = msgspec.json.Decoder(FailureTally)
_failures = msgspec.msgpack.Decoder(tuple[Failures, ...])
_errors = msgspec.json.Decoder(tuple[LineError, ...])
_strings = msgspec.json.Decoder(dict[str, str])
_ids = msgspec.json.Decoder(tuple[str, ...])
_beat = msgspec.json.Decoder(Beat)
_engine = msgspec.json.Decoder(EngineStatus)


def text(value: object) -> str:
    """A value of ours as JSON, for a text column."""
    return msgspec.json.encode(value).decode()


# ---- files ------------------------------------------------------------------------------


def file_values(file: File, created_at: float) -> Values:
    """A new file's row."""
    return {
        "id": file.id,
        "tenant": file.tenant,
        "filename": file.filename,
        "purpose": file.purpose,
        "source": file.source.value,
        "size_bytes": file.size_bytes,
        "created_at": created_at,
        "lines": file.lines,
        "mimetype": file.mimetype,
        "visibility": file.visibility,
        "signature": file.signature,
        "expires_at": file.expires_at,
        "blob": file.blob,
        "job_id": file.job,
        "stream": None if file.stream is None else file.stream.value,
    }


def to_file(row: Row) -> File:
    """A row of `file`."""
    return File(
        id=FileId(row.id),
        tenant=TenantId(row.tenant),
        filename=row.filename,
        purpose=row.purpose,
        source=FileSource(row.source),
        size_bytes=row.size_bytes,
        created_at=row.created_at,
        lines=row.lines,
        mimetype=row.mimetype,
        visibility=row.visibility,
        signature=row.signature,
        expires_at=row.expires_at,
        blob=None if row.blob is None else BlobName(row.blob),
        job=None if row.job_id is None else JobId(row.job_id),
        stream=None if row.stream is None else Stream(row.stream),
    )


# ---- jobs -------------------------------------------------------------------------------


def job_values(job: Job, now: float) -> Values:
    """A new job's row; `job.deadline` is its window in seconds."""
    return {
        "id": job.id,
        "tenant": job.tenant,
        "key_id": job.key,
        "dialect": job.dialect.value,
        "endpoint": job.endpoint,
        "state": JobState.VALIDATING.value,
        "created_at": now,
        "deadline": now + job.deadline,
        "model": job.model,
        "agent_id": job.agent_id,
        "metadata": text(dict(job.metadata)),
        "input_files": text(job.input_files),
        "inline": job.inline,
        "priority": job.priority,
        "on_invalid": job.on_invalid.value,
        "dedupe": job.dedupe,
        "window": job.window,
        "keep_results_seconds": job.keep_results_seconds,
        "total": job.total,
        "errors": "[]",
        "webhook_url": job.webhook_url,
        "retry_of": job.retry_of,
    }


def to_job(row: Row) -> Job:
    """A row of `job`."""
    return Job(
        id=JobId(row.id),
        tenant=TenantId(row.tenant),
        key=None if row.key_id is None else KeyId(row.key_id),
        dialect=Dialect(row.dialect),
        endpoint=row.endpoint,
        state=JobState(row.state),
        ending=None if row.ending is None else Ending(row.ending),
        created_at=row.created_at,
        deadline=row.deadline,
        model=row.model,
        agent_id=row.agent_id,
        metadata=_strings.decode(row.metadata),
        input_files=tuple(FileId(each) for each in _ids.decode(row.input_files)),
        inline=row.inline,
        priority=row.priority,
        on_invalid=OnInvalid(row.on_invalid),
        dedupe=row.dedupe,
        window=row.window,
        keep_results_seconds=row.keep_results_seconds,
        paused=row.paused,
        hidden=row.hidden,
        queued_at=row.queued_at,
        started_at=row.started_at,
        finalizing_at=row.finalizing_at,
        cancelling_at=row.cancelling_at,
        ended_at=row.ended_at,
        last_progress_at=row.last_progress_at,
        total=row.total,
        succeeded=row.succeeded,
        failed=row.failed,
        deduplicated=row.deduplicated,
        usage=to_usage(row),
        errors=_errors.decode(row.errors),
        errors_total=row.errors_total,
        failures=to_tally(row.failures),
        retry_of=None if row.retry_of is None else JobId(row.retry_of),
        retried_by=None if row.retried_by is None else JobId(row.retried_by),
        output_file=None if row.output_file is None else FileId(row.output_file),
        error_file=None if row.error_file is None else FileId(row.error_file),
        webhook_url=row.webhook_url,
    )


def to_usage(row: Row) -> Usage:
    """The token columns of a job or part."""
    return Usage(row.input_tokens, row.output_tokens, row.cached_tokens, row.reasoning_tokens)


def usage_values(usage: Usage) -> dict[str, int]:
    """The token columns."""
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cached_tokens": usage.cached_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
    }


def to_errors(stored: str) -> tuple[LineError, ...]:
    """The `errors` column of a job."""
    return _errors.decode(stored)


def errors_text(errors: Iterable[LineError]) -> str:
    """The `errors` column: the first hundred."""
    return text(tuple(errors)[:ERRORS_KEPT])


def to_tally(stored: str) -> FailureTally:
    """The `failures` column of a job."""
    return _tally.decode(stored)


def pack_failures(failures: tuple[Failures, ...]) -> bytes | None:
    """The `failures` column of a part."""
    return msgspec.msgpack.encode(failures) if failures else None


def unpack_failures(packed: bytes | None) -> tuple[Failures, ...]:
    """The failed lines of a part, by code."""
    return () if packed is None else _failures.decode(packed)


def input_values(job: JobId, place: int, source: JobInput) -> Values:
    """A row of `job_input`."""
    return {
        "job_id": job,
        "place": place,
        "file_id": source.file,
        "filename": source.filename,
        "blob": source.blob,
        "size_bytes": source.size_bytes,
        "lines": source.lines,
    }


def to_input(row: Row) -> JobInput:
    """A row of `job_input`."""
    return JobInput(
        FileId(row.file_id), row.filename, BlobName(row.blob), row.size_bytes, row.lines
    )


def to_assembly(row: Row, now: float) -> Assembly:
    """A row of `assembly` at that time."""
    state = AssemblyState(row.state)
    if state is AssemblyState.PENDING and row.expires_at <= now:
        state = AssemblyState.EXPIRED
    return Assembly(
        id=AssemblyId(row.id),
        tenant=TenantId(row.tenant),
        filename=row.filename,
        purpose=row.purpose,
        size_bytes=row.size_bytes,
        mimetype=row.mimetype,
        lasts_seconds=row.lasts_seconds,
        state=state,
        created_at=row.created_at,
        expires_at=row.expires_at,
        file=None if row.file_id is None else FileId(row.file_id),
        pieces=tuple(PieceId(each) for each in _ids.decode(row.piece_ids)),
    )


def to_piece(row: Row) -> Piece:
    """A row of `assembly_piece`."""
    name = BlobName(row.blob)
    return Piece(PieceId(row.id), AssemblyId(row.assembly_id), name, row.size_bytes, row.created_at)


# ---- shards, parts, segments ------------------------------------------------------------


def shard_values(job: JobId, shard: Shard) -> Values:
    """A new run shard's row."""
    return {
        "job_id": job,
        "kind": "run",
        "n": shard.n,
        "input": shard.input,
        "first_line": shard.first_line,
        "lines": shard.lines,
        "offset": shard.offset,
        "length": shard.length,
        "first_physical": shard.first_physical,
    }


def to_shard(row: Row) -> Shard:
    """A row of `shard`, lease aside."""
    return Shard(
        n=row.n,
        input=row.input,
        first_line=row.first_line,
        lines=row.lines,
        offset=row.offset,
        length=row.length,
        first_physical=row.first_physical,
    )


def pack_entries(entries: Iterable[PartEntry]) -> bytes:
    """A part's index as its compact column."""
    pack = _ENTRY.pack
    error = Stream.ERR
    return b"".join([pack(e.line * 2 + (e.stream is error), e.offset, e.length) for e in entries])


def unpack_entries(packed: bytes) -> tuple[PartEntry, ...]:
    """A part's index from its column."""
    streams = (Stream.OUT, Stream.ERR)
    return tuple(
        [
            PartEntry(line >> 1, offset, length, streams[line & 1])
            for line, offset, length in _ENTRY.iter_unpack(packed)
        ]
    )


def to_part(row: Row) -> Part:
    """A row of `part`."""
    entries = unpack_entries(row.entries)
    return Part(
        BlobName(row.blob), entries, row.size_bytes, to_usage(row), unpack_failures(row.failures)
    )


def to_segment(row: Row) -> Segment:
    """A row of `segment`."""
    return Segment(Stream(row.stream), BlobName(row.blob), row.size_bytes, row.lines)


def bitmap(stored: bytes | None) -> int:
    """The lines of a shard that have an outcome, as the bits of a number."""
    return int.from_bytes(stored or b"", "little")


def bitmap_bytes(bits: int) -> bytes:
    """The `done` column of a shard."""
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")


# ---- the fleet and keys -----------------------------------------------------------------


def to_worker(row: Row, *, alive: bool) -> Worker:
    """A row of `worker`."""
    beat = _beat.decode(row.beat)
    return Worker(row.id, row.incarnation, row.host, row.pid, row.beat_at, alive, beat)


def to_engine(row: Row) -> EngineStatus:
    """A row of `engine`."""
    return _engine.decode(row.status)


def to_key(row: Row) -> ApiKey:
    """A row of `api_key`."""
    return ApiKey(KeyId(row.id), TenantId(row.tenant), row.hint, row.created_at, row.revoked_at)


# ---- webhooks ---------------------------------------------------------------------------


def to_delivery(row: Row) -> Delivery:
    """A row of `delivery`."""
    return Delivery(
        id=DeliveryId(row.id),
        event=EventId(row.event_id),
        job=JobId(row.job_id),
        n=row.n,
        tenant=TenantId(row.tenant),
        url=row.url,
        configured=row.configured,
        ending=Ending(row.ending),
        state=DeliveryState(row.state),
        created_at=row.created_at,
        since=row.since,
        attempts=row.attempts,
        last_at=row.last_at,
        last_status=row.last_status,
        last_error=row.last_error,
        next_at=row.next_at,
        ended_at=row.ended_at,
    )
