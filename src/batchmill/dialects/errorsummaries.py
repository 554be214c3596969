"""The `error_summary` that every job carries in both dialects. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, Field

from batchmill.model import Job


class ErrorSummary(BaseModel):
    """The lines that failed with one code; the message and custom_id are of the first of them."""

    code: str = Field(description="`other` stands for all codes beyond the first 19")
    count: int
    retryable: bool = Field(description="Whether `retry` may help")
    message: str
    custom_id: str | None


def error_summary(job: Job, codes: Mapping[str, str] | None = None) -> list[ErrorSummary]:
    """The job's failed lines by code, most lines first; `codes` gives the dialect's own names
    for some of ours."""
    named = codes or {}
    return [
        ErrorSummary(
            code=named.get(each.code, each.code),
            count=each.count,
            retryable=each.retryable,
            message=each.message,
            custom_id=each.custom_id,
        )
        for each in sorted(job.failures.summary, key=lambda each: -each.count)
    ]
