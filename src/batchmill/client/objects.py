"""What a server shows, typed: jobs, results, files, models. `raw` is all of it, as it came."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Raw, Struct, field

from batchmill.client.answers import said
from batchmill.client.errors import NotBatchmill
from batchmill.jsontext import value_of

T = TypeVar("T", bound=Struct)

STATES: Final[Mapping[str, str]] = {
    "QUEUED": "queued",
    "RUNNING": "running",
    "SUCCESS": "completed",
    "FAILED": "failed",
    "TIMEOUT_EXCEEDED": "expired",
    "CANCELLATION_REQUESTED": "cancelling",
    "CANCELLED": "cancelled",
}
"""Mistral's statuses, which the server sends, in Batchmill's words."""

ENDED: Final = frozenset({"completed", "failed", "expired", "cancelled"})


class JobError(Struct, frozen=True):
    """A problem of a job's input, and how many lines have it."""

    message: str
    count: int = 1


class ErrorKind(Struct, frozen=True):
    """Failed lines with one code; the message and the custom_id are of the first of them."""

    code: str
    count: int
    retryable: bool
    message: str
    custom_id: str | None


class Progress(Struct, frozen=True):
    """How far a job is; `waiting_reason` says why nothing moves, null while lines do."""

    done: int = 0
    failed: int = 0
    retrying: int = 0
    in_flight: int = 0
    left: int = 0
    lines_per_second: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    estimated_seconds_left: float | None = None
    last_progress_at: float | None = None
    waiting_reason: str | None = None
    opens_at: float | None = None


class Job(Struct, frozen=True):
    """A job as it stood when it was asked for."""

    id: str
    status: str
    endpoint: str
    created_at: int
    total_requests: int
    succeeded_requests: int
    failed_requests: int
    model: str | None = None
    input_files: tuple[str, ...] = ()
    output_file: str | None = None
    error_file: str | None = None
    metadata: dict[str, str] | None = None
    errors: tuple[JobError, ...] = ()
    error_summary: tuple[ErrorKind, ...] = ()
    started_at: int | None = None
    completed_at: int | None = None
    expires_at: int | None = None
    window: str = ""
    priority: int = 0
    paused: bool = False
    retry_of: str | None = None
    retried_by: str | None = None
    progress: Progress = Progress()
    raw: dict[str, Any] = field(default_factory=dict)

    @property
    def state(self) -> str:
        """`validating`, `queued`, `running`, `completed`, `failed`, `expired`, `cancelling` or
        `cancelled`."""
        if self.progress.waiting_reason == "validating":
            return "validating"
        return STATES.get(self.status, self.status.lower())

    @property
    def is_ended(self) -> bool:
        """Whether nothing about it will change any more."""
        return self.state in ENDED

    @property
    def is_whole(self) -> bool:
        """Whether every line was answered."""
        return self.state == "completed" and self.succeeded_requests == self.total_requests

    def __str__(self) -> str:
        done = self.succeeded_requests + self.failed_requests
        failed = f", {self.failed_requests:,} failed" if self.failed_requests else ""
        return f"job {self.id} {self.state}, {done:,} of {self.total_requests:,} lines{failed}"


class File(Struct, frozen=True):
    """A file's facts. `signature` is the SHA-256 of its bytes, where the server knows it."""

    id: str
    filename: str
    purpose: str
    bytes: int
    created_at: int
    num_lines: int | None = None
    expires_at: int | None = None
    signature: str | None = None
    raw: dict[str, Any] = field(default_factory=dict)


class Model(Struct, frozen=True):
    """A name that can be asked for, what it is served as, and by which engines."""

    id: str
    served_as: str
    engines: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    simulated: bool = False
    raw: dict[str, Any] = field(default_factory=dict)


class _Response(Struct, frozen=True):
    status_code: int
    body: Raw = Raw(b"null")


class Result(Struct, frozen=True):
    """The result of one line. `cursor` is only there where results come in order of completion:
    given back as `after`, the results that follow come."""

    custom_id: str | None = None
    response: _Response | None = None
    error: dict[str, Any] | None = None
    cursor: str | None = None
    id: str = ""
    raw: bytes = b""

    @property
    def ok(self) -> bool:
        """Whether the line was answered."""
        return self.error is None and self.status is not None and 200 <= self.status < 300

    @property
    def status(self) -> int | None:
        """The HTTP status of the engine's answer, None where there was none."""
        return None if self.response is None else self.response.status_code

    @property
    def body(self) -> Any:
        """What the engine answered, decoded. A number that Python cannot hold is its text."""
        return None if self.response is None else value_of(self.response.body)

    @property
    def text(self) -> str | None:
        """The answer's text where it is one of chat, completions or responses."""
        return said(self.body).text if self.ok else None

    @property
    def usage(self) -> dict[str, Any] | None:
        """The tokens that the engine counted."""
        body = self.body
        usage = body.get("usage") if isinstance(body, dict) else None
        return usage if isinstance(usage, dict) else None

    @property
    def failure(self) -> tuple[str, str] | None:
        """The code and the message of a line that failed, None for one that was answered."""
        if self.ok:
            return None
        told = self.error or {}
        if not told:
            body = self.body
            inner = body.get("error", body) if isinstance(body, dict) else body
            told = inner if isinstance(inner, dict) else {"message": inner}
        code = told.get("code") or (f"http_{self.status}" if self.status else "request_failed")
        message = told.get("message") or told.get("detail") or ""
        return str(code), message if isinstance(message, str) else str(message)


_RESULT = msgspec.json.Decoder(Result)


def result(line: bytes) -> Result:
    """A result line, read. Raises `NotBatchmill` for what no server of ours writes."""
    try:
        read = _RESULT.decode(line)
    except (ValueError, RecursionError):
        raise NotBatchmill("A result line cannot be read; is this a file of results?") from None
    return msgspec.structs.replace(read, raw=line)


def job(raw: dict[str, Any]) -> Job:
    """A job object of Mistral's kind, read."""
    return _read(raw, Job)


def file(raw: dict[str, Any]) -> File:
    """A file object, read."""
    return _read(raw, File)


def model(raw: dict[str, Any]) -> Model:
    """A model card, read."""
    return _read(raw, Model)


def _read(raw: dict[str, Any], kind: type[T]) -> T:
    try:
        return msgspec.convert({**raw, "raw": raw}, kind)
    except msgspec.ValidationError as error:
        message = f"The answer is not Batchmill's ({error}). Check the URL and the versions."
        raise NotBatchmill(message) from None
