"""Mistral's objects for batch jobs, and how our nouns map to them. Pure.

The fields and their rules are in the vendor's OpenAPI document; where its SDKs need more than it
says (no null lists, all counters, integer seconds) they win.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints, WithJsonSchema

from batchmill.dialects.errorsummaries import ErrorSummary, error_summary
from batchmill.dialects.extensions import Extensions
from batchmill.dialects.progressobjects import ProgressObject
from batchmill.model import Job, JobState, LineError

MAX_METADATA_PAIRS = 256


class Status(StrEnum):
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    TIMEOUT_EXCEEDED = "TIMEOUT_EXCEEDED"
    CANCELLATION_REQUESTED = "CANCELLATION_REQUESTED"
    CANCELLED = "CANCELLED"


STATUSES: Mapping[JobState, Status] = {
    JobState.VALIDATING: Status.QUEUED,
    JobState.QUEUED: Status.QUEUED,
    JobState.RUNNING: Status.RUNNING,
    JobState.FINALIZING: Status.RUNNING,
    JobState.COMPLETED: Status.SUCCESS,
    JobState.FAILED: Status.FAILED,
    JobState.EXPIRED: Status.TIMEOUT_EXCEEDED,
    JobState.CANCELLING: Status.CANCELLATION_REQUESTED,
    JobState.CANCELLED: Status.CANCELLED,
}


ERROR_CODES: Mapping[str, str] = {
    "batch_expired": "timeout_exceeded",
    "batch_cancelled": "cancelled",
}
"""What Mistral's error lines call some of our codes (see `lines.py`)."""

Name = Annotated[
    str, StringConstraints(min_length=1, max_length=256, pattern=r"^[^\x00]*$", strict=True)
]
MetadataKey = Annotated[
    str, StringConstraints(min_length=1, max_length=32, pattern=r"^[^\x00]*$", strict=True)
]
MetadataValue = Annotated[
    str, StringConstraints(min_length=1, max_length=512, pattern=r"^[^\x00]*$", strict=True)
]


_REQUESTS: dict[str, Any] = {
    "type": ["array", "null"],
    "items": {
        "type": "object",
        "required": ["body"],
        "properties": {
            "custom_id": {
                "type": ["string", "null"],
                "description": "Without it the zero-based index is taken",
            },
            "body": {"type": "object", "description": "As the endpoint takes it"},
        },
    },
}


class CreateBatchJob(Extensions):
    """What creates a job: exactly one of `input_files` and `requests`, and a `model`.

    Null is the same as absent. `priority`, `on_invalid`, `window`, `webhook_url` and `dedupe` are
    extensions, also taken as headers `x-batchmill-<key>`; `window` wins over `timeout_hours`.
    """

    endpoint: Name
    input_files: list[str] | None = None
    requests: Annotated[None, WithJsonSchema(_REQUESTS)] = None
    """Read by `create.py`, which leaves their bodies as they came."""
    model: Name | None = None
    agent_id: Name | None = None
    metadata: Annotated[
        dict[MetadataKey, MetadataValue] | None, Field(max_length=MAX_METADATA_PAIRS)
    ] = None
    timeout_hours: Annotated[int, Field(ge=1, le=168)] = 24


class JobError(BaseModel):
    """A problem of the input, and how many lines have it."""

    message: str
    count: int


class BatchJob(BaseModel):
    """A job as Mistral shows it, and beyond it `progress` and what was asked for."""

    id: str
    object: Literal["batch"] = "batch"
    input_files: list[str]
    metadata: dict[str, str] | None
    endpoint: str
    model: str | None
    agent_id: str | None
    output_file: str | None
    error_file: str | None
    errors: list[JobError]
    outputs: list[dict[str, Any]] | None = None
    status: Status
    created_at: int
    started_at: int | None
    completed_at: int | None
    total_requests: int
    completed_requests: int
    succeeded_requests: int
    failed_requests: int
    expires_at: int
    window: str
    priority: int
    on_invalid: str
    dedupe: bool
    webhook_url: str | None
    paused: bool
    error_summary: list[ErrorSummary]
    retry_of: str | None
    retried_by: str | None
    progress: ProgressObject


class BatchJobList(BaseModel):
    object: Literal["list"] = "list"
    total: int
    data: list[BatchJob]


class DeletedBatchJob(BaseModel):
    id: str
    object: Literal["batch"] = "batch"
    deleted: Literal[True] = True


def batch_job(job: Job, progress: ProgressObject) -> BatchJob:
    """The job without its `outputs`."""
    return BatchJob(
        id=job.id,
        input_files=[] if job.inline else list(job.input_files),
        metadata=dict(job.metadata) or None,
        endpoint=job.endpoint,
        model=job.model if job.model is not None or job.agent_id is not None else "",
        agent_id=job.agent_id,
        output_file=job.output_file,
        error_file=job.error_file,
        errors=job_errors(job.errors, job.errors_total),
        status=STATUSES[job.state],
        created_at=int(job.created_at),
        started_at=_seconds(job.started_at),
        completed_at=_seconds(job.ended_at),
        total_requests=job.total,
        completed_requests=job.succeeded + job.failed,
        succeeded_requests=job.succeeded,
        failed_requests=job.failed,
        expires_at=int(job.deadline),
        window=job.window,
        priority=job.priority,
        on_invalid=job.on_invalid.value,
        dedupe=job.dedupe,
        webhook_url=job.webhook_url,
        paused=job.paused,
        error_summary=error_summary(job, ERROR_CODES),
        retry_of=job.retry_of,
        retried_by=job.retried_by,
        progress=progress,
    )


def job_errors(errors: Sequence[LineError], total: int) -> list[JobError]:
    """The errors grouped by what is wrong, each with the first line that shows it."""
    groups: dict[tuple[str, str | None], tuple[LineError, int]] = {}
    for error in errors:
        first, count = groups.get((error.code, error.param), (error, 0))
        groups[error.code, error.param] = (first, count + 1)
    found = [JobError(message=_message(first), count=count) for first, count in groups.values()]
    if total > len(errors):
        rest = total - len(errors)
        found.append(JobError(message=f"{rest} more errors are not listed.", count=rest))
    return found


def states_of(status: Status) -> tuple[JobState, ...]:
    """The states that are shown as that status."""
    return tuple(state for state, shown in STATUSES.items() if shown is status)


def _message(error: LineError) -> str:
    place = "" if error.line is None else f"Line {error.line}: "
    return f"{place}{error.message} [{error.code}]"


def _seconds(at: float | None) -> int | None:
    return None if at is None else int(at)
