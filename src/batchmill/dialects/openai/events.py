"""The event that tells of a batch's end, as OpenAI's SDKs read it. Pure.

`data` is the whole batch object, so that a receiver need not ask for it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from batchmill.deliveries import Delivery
from batchmill.model import Job, JobState, LineError


def event_body(delivery: Delivery, job: Job) -> bytes:
    """The body of a delivery: the same bytes for each try and each receiver."""
    event = {
        "id": delivery.event,
        "object": "event",
        "created_at": int(delivery.created_at),
        "type": f"batch.{delivery.ending.value}",
        "data": msgspec.Raw(batch_json(job)),
    }
    return msgspec.json.encode(event)


def batch_json(job: Job) -> bytes:
    """The finished job as OpenAI's batch object."""
    return msgspec.json.encode(
        {
            "id": f"batch_{job.id.replace('-', '')}",
            "object": "batch",
            "endpoint": job.endpoint,
            "model": job.model,
            "errors": _errors(job.errors),
            "input_file_id": job.input_files[0] if job.input_files else None,
            "completion_window": job.window,
            "status": job.state.value,
            "output_file_id": job.output_file,
            "error_file_id": job.error_file,
            **_times(job),
            "request_counts": {
                "total": job.total,
                "completed": job.succeeded,
                "failed": job.failed,
            },
            "usage": _usage(job),
            "metadata": dict(job.metadata) or None,
        }
    )


def _times(job: Job) -> dict[str, int | None]:
    ended = {
        f"{state.value}_at": _seconds(job.ended_at) if job.state is state else None
        for state in (JobState.COMPLETED, JobState.FAILED, JobState.EXPIRED, JobState.CANCELLED)
    }
    return {
        "created_at": int(job.created_at),
        "in_progress_at": _seconds(job.started_at),
        "expires_at": int(job.deadline),
        "finalizing_at": _seconds(job.finalizing_at),
        "cancelling_at": _seconds(job.cancelling_at),
        **ended,
    }


def _errors(errors: tuple[LineError, ...]) -> dict[str, Any] | None:
    data = [
        {"code": each.code, "message": each.message, "param": each.param, "line": each.line}
        for each in errors
    ]
    return {"object": "list", "data": data} if data else None


def _usage(job: Job) -> dict[str, Any]:
    usage = job.usage
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


def _seconds(at: float | None) -> int | None:
    return None if at is None else int(at)
