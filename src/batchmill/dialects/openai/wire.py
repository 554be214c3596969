"""OpenAI's objects for batches, and how our nouns map to them. Pure.

The fields are those of the vendor's SDKs, all present, null where there is nothing yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, Field

from batchmill.dialects.errorsummaries import ErrorSummary, error_summary
from batchmill.dialects.ids import batch_id
from batchmill.dialects.progressobjects import ProgressObject
from batchmill.model import (
    Job,
    JobState,
    LineError,
)
from batchmill.usage import Usage


class Status(StrEnum):
    VALIDATING = "validating"
    FAILED = "failed"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


STATUSES: Mapping[JobState, Status] = {
    JobState.VALIDATING: Status.VALIDATING,
    JobState.QUEUED: Status.IN_PROGRESS,
    JobState.RUNNING: Status.IN_PROGRESS,
    JobState.FINALIZING: Status.FINALIZING,
    JobState.COMPLETED: Status.COMPLETED,
    JobState.FAILED: Status.FAILED,
    JobState.EXPIRED: Status.EXPIRED,
    JobState.CANCELLING: Status.CANCELLING,
    JobState.CANCELLED: Status.CANCELLED,
}


class BatchError(BaseModel):
    """One problem of the input; `line` counts from 1, and is null where it is the whole file's."""

    code: str
    message: str
    param: str | None
    line: int | None


class BatchErrors(BaseModel):
    """The first 100 problems, and how many there are."""

    object: Literal["list"] = "list"
    data: list[BatchError]
    total: int


class RequestCounts(BaseModel):
    total: int
    completed: int
    failed: int


class InputTokens(BaseModel):
    cached_tokens: int


class OutputTokens(BaseModel):
    reasoning_tokens: int


class BatchUsage(BaseModel):
    """Tokens of all lines that were answered so far."""

    input_tokens: int
    input_tokens_details: InputTokens
    output_tokens: int
    output_tokens_details: OutputTokens
    total_tokens: int


class Batch(BaseModel):
    """A job as OpenAI shows it, and beyond it `progress` and what was asked for."""

    id: str = Field(examples=["batch_4017dc9fb62942f497008c681b9e7f0f"])
    object: Literal["batch"] = "batch"
    endpoint: str
    model: str | None
    errors: BatchErrors | None
    input_file_id: str
    completion_window: str
    status: Status
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    usage: BatchUsage
    metadata: dict[str, str] | None
    priority: int
    on_invalid: str
    dedupe: bool
    webhook_url: str | None
    paused: bool
    error_summary: list[ErrorSummary]
    retry_of: str | None
    retried_by: str | None
    progress: ProgressObject


class BatchList(BaseModel):
    """A page of batches, newest first."""

    object: Literal["list"] = "list"
    data: list[Batch]
    first_id: str | None
    last_id: str | None
    has_more: bool


def batch(job: Job, progress: ProgressObject) -> Batch:
    """The job; one of several input files shows the first."""
    return Batch(
        id=batch_id(job.id),
        endpoint=job.endpoint,
        model=job.model,
        errors=_errors(job.errors, job.errors_total),
        input_file_id=job.input_files[0],
        completion_window=job.window,
        status=STATUSES[job.state],
        output_file_id=job.output_file,
        error_file_id=job.error_file,
        created_at=int(job.created_at),
        in_progress_at=_seconds(job.queued_at),
        expires_at=int(job.deadline),
        finalizing_at=_seconds(job.finalizing_at),
        completed_at=_ended(job, JobState.COMPLETED),
        failed_at=_ended(job, JobState.FAILED),
        expired_at=_ended(job, JobState.EXPIRED),
        cancelling_at=_seconds(job.cancelling_at),
        cancelled_at=_ended(job, JobState.CANCELLED),
        request_counts=RequestCounts(total=job.total, completed=job.succeeded, failed=job.failed),
        usage=_usage(job.usage),
        metadata=dict(job.metadata) or None,
        priority=job.priority,
        on_invalid=job.on_invalid.value,
        dedupe=job.dedupe,
        webhook_url=job.webhook_url,
        paused=job.paused,
        error_summary=error_summary(job),
        retry_of=None if job.retry_of is None else batch_id(job.retry_of),
        retried_by=None if job.retried_by is None else batch_id(job.retried_by),
        progress=progress,
    )


def _errors(errors: tuple[LineError, ...], total: int) -> BatchErrors | None:
    if not errors:
        return None
    data = [
        BatchError(code=each.code, message=each.message, param=each.param, line=each.line)
        for each in errors
    ]
    return BatchErrors(data=data, total=total)


def _usage(usage: Usage) -> BatchUsage:
    return BatchUsage(
        input_tokens=usage.input_tokens,
        input_tokens_details=InputTokens(cached_tokens=usage.cached_tokens),
        output_tokens=usage.output_tokens,
        output_tokens_details=OutputTokens(reasoning_tokens=usage.reasoning_tokens),
        total_tokens=usage.input_tokens + usage.output_tokens,
    )


def _ended(job: Job, state: JobState) -> int | None:
    """When it ended, if it ended so."""
    return _seconds(job.ended_at) if job.state is state else None


def _seconds(at: float | None) -> int | None:
    return None if at is None else int(at)
