"""Creating a job: checks that are decided here, then a few steps over the ledger and the blobs.

What a request looks like on the wire is the dialects' matter; they hand in an `Order`. The lines
themselves are checked later, by validation.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from batchmill.clock import new_id
from batchmill.core.models import Catalogue
from batchmill.core.names import input_name
from batchmill.errors import BlobsUnavailable, InvalidInput, NotFound, StateConflict, Unavailable
from batchmill.model import (
    BlobName,
    Dialect,
    File,
    FileId,
    FileSource,
    Job,
    JobId,
    JobInput,
    JobState,
    KeyId,
    OnInvalid,
    TenantId,
)
from batchmill.once import Once
from batchmill.ports import Blobs, Ledger

log = structlog.get_logger()

BATCH_PURPOSE = "batch"
ENDPOINTS = (
    "/v1/chat/completions",
    "/v1/embeddings",
    "/v1/fim/completions",
    "/v1/moderations",
    "/v1/chat/moderations",
    "/v1/ocr",
    "/v1/classifications",
    "/v1/chat/classifications",
    "/v1/conversations",
    "/v1/audio/transcriptions",
    "/v1/completions",
    "/v1/responses",
)
MIN_WINDOW_SECONDS = 30 * 60
MAX_WINDOW_SECONDS = 30 * 24 * 3600
MAX_PRIORITY = 100
_WINDOW = re.compile(r"([0-9]{1,6})([mhd])")
_UNIT_SECONDS = {"m": 60, "h": 3600, "d": 86400}
_WRITE_BYTES = 1024 * 1024

LEAST_FREE_BYTES = 1024 * 1024
"""With less than this the ledger itself can hardly write, whatever the watermark is."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one job, file or request may hold at most; shown by `GET /v1/limits`."""

    job_lines: int = 1_000_000
    file_bytes: int = 512_000_000
    inline_requests: int = 10_000
    line_bytes: int = 10_000_000
    body_bytes: int = 64 * 1024 * 1024
    input_files: int = 1_000
    outputs_lines: int = 10_000
    outputs_bytes: int = 256_000_000


@dataclass(frozen=True, slots=True)
class Order:
    """What somebody asks for, in our nouns: one of `input_files` and `requests` is not empty.

    `requests` are input lines in their final bytes, each with its line break.
    """

    tenant: TenantId
    dialect: Dialect
    endpoint: str
    window: str
    window_seconds: int
    key: KeyId | None = None
    model: str | None = None
    agent_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    input_files: tuple[FileId, ...] = ()
    requests: Sequence[bytes] = ()
    priority: int = 0
    on_invalid: OnInvalid = OnInvalid.FAIL
    dedupe: bool = False
    once: Once | None = None
    webhook_url: str | None = None
    keep_results_seconds: int | None = None


def window_seconds(text: str) -> int | None:
    """The length of a window such as `30m`, `24h` or `7d`; None if it is none or out of range."""
    match = _WINDOW.fullmatch(text)
    if match is None:
        return None
    seconds = int(match[1]) * _UNIT_SECONDS[match[2]]
    return seconds if MIN_WINDOW_SECONDS <= seconds <= MAX_WINDOW_SECONDS else None


async def submit(
    ledger: Ledger,
    blobs: Blobs,
    catalogue: Catalogue,
    limits: Limits,
    order: Order,
    low_disk_bytes: int = 0,
) -> Job:
    """Record the job durably and return it, its total already right. An order that came before
    gives the job that it made, as it is now, even where it could no longer be made.

    Raises `InvalidInput` (model, purpose, too many lines), `NotFound` (an input file),
    `Conflict` (a key with another body), `Unavailable` (no room for inline requests) and
    whatever the stores raise; then there is no job.
    """
    if order.once is not None and (made := await ledger.made_by(order.once)) is not None:
        return made
    refuse_unserved(order.model, order.agent_id, catalogue)
    if order.requests:
        await refuse_when_full(blobs, low_disk_bytes, sum(map(len, order.requests)))
        return await _submit_inline(ledger, blobs, limits, order)
    inputs = await _find_inputs(ledger, limits, order)
    try:
        return await ledger.create_job(_new_job(order, inputs), inputs, None, order.once)
    except StateConflict as e:
        raise NotFound(
            "An input file was deleted while the job was being created; upload it again.",
            param="input_files",
        ) from e


def refuse_unserved(model: str | None, agent_id: str | None, catalogue: Catalogue) -> None:
    """Raise `InvalidInput` when no engine can ever answer for that model or agent."""
    if agent_id is not None and not any(e.kind == "mistral" for e in catalogue.engines):
        raise InvalidInput(
            "Agents need an engine of kind `mistral`, and none is configured; name a `model`.",
            param="agent_id",
            code="unsupported_value",
        )
    if model is not None and not catalogue.can_serve(model):
        known = ", ".join(catalogue.names()[:10]) or "none"
        raise InvalidInput(
            f"No engine serves the model '{model}'. Models that can be asked for: {known}.",
            param="model",
            code="model_not_found",
        )


async def has_room(blobs: Blobs, low_disk_bytes: int) -> bool:
    """Whether the storage has more room than the low-disk watermark, and some at all."""
    free = await blobs.free_bytes()
    return free is None or free >= max(low_disk_bytes, LEAST_FREE_BYTES)


async def refuse_when_full(blobs: Blobs, low_disk_bytes: int, coming_bytes: int) -> None:
    """Raise `Unavailable` when so much more would leave less than the low-disk watermark."""
    free = await blobs.free_bytes()
    if free is not None and free - coming_bytes < low_disk_bytes:
        raise Unavailable(
            "The storage is nearly full, so nothing new is taken in; free some space or try later.",
            retry_after=30,
        )


async def submit_for_validation(ledger: Ledger, order: Order) -> Job:
    """Record a job over one input file whose faults, its absence included, validation is to tell.
    An order that came before gives the job that it made.

    Raises `InvalidInput` for a file of another purpose, `Conflict` for a key with another body,
    and whatever the ledger raises.
    """
    if order.once is not None and (made := await ledger.made_by(order.once)) is not None:
        return made
    [asked] = order.input_files
    file = await ledger.file(order.tenant, asked)
    if file is not None:
        inputs = (_as_input(file, "input_file_id"),)
        try:
            return await ledger.create_job(_new_job(order, inputs), inputs, None, order.once)
        except StateConflict:
            log.info("input_deleted_meanwhile", file=asked)
    return await ledger.create_job(_new_job(order, ()), (), None, order.once)


async def _find_inputs(ledger: Ledger, limits: Limits, order: Order) -> tuple[JobInput, ...]:
    inputs: list[JobInput] = []
    for place, file_id in enumerate(order.input_files):
        file = await ledger.file(order.tenant, file_id)
        if file is None:
            raise NotFound(f"No such File object: {file_id}", param=f"input_files.{place}")
        inputs.append(_as_input(file, f"input_files.{place}"))
    _refuse_too_many(sum(each.lines for each in inputs), limits.job_lines, "input_files")
    return tuple(inputs)


def _as_input(file: File, param: str) -> JobInput:
    if file.blob is None or file.lines is None or file.purpose != BATCH_PURPOSE:
        raise InvalidInput(
            f"File {file.id} has the purpose '{file.purpose}'; upload it with purpose 'batch'.",
            param=param,
            code="invalid_purpose",
        )
    return JobInput(file.id, file.filename, file.blob, file.size_bytes, file.lines)


async def _submit_inline(ledger: Ledger, blobs: Blobs, limits: Limits, order: Order) -> Job:
    _refuse_too_many(len(order.requests), min(limits.inline_requests, limits.job_lines), "requests")
    file_id = FileId(new_id())
    blob = input_name(file_id)
    size_bytes, signature = await _write(blobs, blob, order.requests)
    file = File(
        id=file_id,
        tenant=order.tenant,
        filename=f"{file_id}_requests.jsonl",
        purpose=BATCH_PURPOSE,
        source=FileSource.INLINE,
        size_bytes=size_bytes,
        created_at=0.0,
        lines=len(order.requests),
        mimetype="application/jsonl",
        signature=signature,
        blob=blob,
    )
    inputs = (JobInput(file_id, file.filename, blob, size_bytes, len(order.requests)),)
    new = _new_job(order, inputs)
    job = await ledger.create_job(new, inputs, file, order.once)
    if job.id != new.id:
        with suppress(BlobsUnavailable):  # the sweep finds it
            await blobs.delete_many([blob])
    return job


async def _write(blobs: Blobs, name: BlobName, lines: Sequence[bytes]) -> tuple[int, str]:
    """The size and SHA-256 of the lines, now durable. A blob that no row will name is swept."""
    digest = hashlib.sha256()
    writer = await blobs.writer(name)
    committed = False
    try:
        for piece in _pieces(lines):
            digest.update(piece)
            await writer.write(piece)
        size_bytes = await writer.commit()
        committed = True
    finally:
        if not committed:
            await writer.abort()
    return size_bytes, digest.hexdigest()


def _pieces(lines: Sequence[bytes]) -> Iterator[bytes]:
    held: list[bytes] = []
    held_bytes = 0
    for line in lines:
        held.append(line)
        held_bytes += len(line)
        if held_bytes >= _WRITE_BYTES:
            yield b"".join(held)
            held, held_bytes = [], 0
    yield b"".join(held)


def _refuse_too_many(lines: int, limit: int, param: str) -> None:
    if lines > limit:
        raise InvalidInput(
            f"The job has {lines:,} requests and may have at most {limit:,}; split it.",
            param=param,
            code="too_many_requests",
        )


def _new_job(order: Order, inputs: Sequence[JobInput]) -> Job:
    return Job(
        id=JobId(new_id()),
        tenant=order.tenant,
        dialect=order.dialect,
        endpoint=order.endpoint,
        state=JobState.VALIDATING,
        created_at=0.0,
        deadline=float(order.window_seconds),
        total=sum(each.lines for each in inputs),
        key=order.key,
        model=order.model,
        agent_id=order.agent_id,
        metadata=order.metadata,
        input_files=tuple(each.file for each in inputs) or order.input_files,
        inline=bool(order.requests),
        priority=order.priority,
        on_invalid=order.on_invalid,
        dedupe=order.dedupe,
        window=order.window,
        webhook_url=order.webhook_url,
        keep_results_seconds=order.keep_results_seconds,
    )
