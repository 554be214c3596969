"""Ids on the wire. Ours are UUIDs; `file-<32 hex>` and `batch_<32 hex>` of them are understood."""

from __future__ import annotations

import re

from batchmill.errors import NotFound
from batchmill.model import FileId, JobId

_FORM = re.compile(
    r"(?:file-|batch_)?([0-9a-f]{8})(-?)([0-9a-f]{4})\2([0-9a-f]{4})\2([0-9a-f]{4})\2([0-9a-f]{12})",
    re.IGNORECASE,
)


def uuid_in(text: str) -> str | None:
    """The lower-case hyphenated UUID that the text stands for, if any."""
    match = _FORM.fullmatch(text)
    return None if match is None else "-".join(match.group(1, 3, 4, 5, 6)).lower()


def file_id(text: str, param: str = "id") -> FileId:
    """The id of a file. Raises `NotFound` for what cannot be one."""
    found = uuid_in(text)
    if found is None:
        raise no_such_file(text, param)
    return FileId(found)


def job_id(text: str) -> JobId:
    """The id of a job. Raises `NotFound` for what cannot be one."""
    found = uuid_in(text)
    if found is None:
        raise no_such_job(text)
    return JobId(found)


def batch_id(job: JobId) -> str:
    """What OpenAI's routes call that job."""
    return f"batch_{job.replace('-', '')}"


def no_such_file(text: str, param: str = "id") -> NotFound:
    """The error for a file that does not exist for its asker."""
    return NotFound(f"No such File object: {text[:100]}", param=param)


def no_such_job(text: str) -> NotFound:
    """The error for a job that does not exist for its asker."""
    return NotFound(f"No batch job found with id '{text[:100]}'.", param="job_id", code="not_found")
