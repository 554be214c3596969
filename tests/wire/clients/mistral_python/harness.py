"""What every operation stands on: the client, two other keys, small inputs, and waiting."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import cached_property
from importlib.metadata import version
from typing import Any
from uuid import UUID

from mistral_python.release import Mistral, errors

LARGE = 600
IN_FLIGHT = {"QUEUED", "RUNNING", "CANCELLATION_REQUESTED"}

AWKWARD = 'tear\u2028here\u2029or\u0085there \U0001f40b naïve 数据 "quoted" \\ back'
"""Characters at which some clients split lines, cut bytes, or trip over escapes."""


class World:
    """The server under test, as one user sees it."""

    def __init__(self, where: dict[str, Any]) -> None:
        self.url: str = where["url"]
        self.key: str = where["key"]
        self.model: str = where["model"]
        self.release = tuple(int(part) for part in version("mistralai").split(".")[:2])
        self.client = self.client_for(where["key"])
        self.colleague = self.client_for(where["colleague_key"])
        self.stranger = self.client_for(where["stranger_key"])
        self._made = 0

    def client_for(self, key: str, url: str | None = None) -> Any:
        """The SDK with another key or address."""
        return Mistral(api_key=key, server_url=url or self.url, timeout_ms=30_000)

    def upload(self, data: bytes, name: str = "lines.jsonl") -> str:
        """The id of a new batch file."""
        file = self.client.files.upload(file={"file_name": name, "content": data}, purpose="batch")
        return str(file.id)

    def create(self, data: bytes, **options: Any) -> Any:
        """A job over these lines."""
        given = {"endpoint": "/v1/chat/completions", "model": self.model} | options
        return self.client.batch.jobs.create(input_files=[self.upload(data)], **given)

    def ended(self, job: Any, seconds: float = 30.0) -> Any:
        """The job once it has ended."""
        until = time.monotonic() + seconds
        while True:
            seen = self.client.batch.jobs.get(job_id=job.id)
            if seen.status not in IN_FLIGHT:
                return seen
            if time.monotonic() > until:
                raise AssertionError(f"job still {seen.status} after {seconds} s: {seen}")
            time.sleep(0.05)

    def reached(self, job: Any, count: int, seconds: float = 30.0) -> Any:
        """The job once so many lines have an outcome."""
        until = time.monotonic() + seconds
        while (seen := self.client.batch.jobs.get(job_id=job.id)).completed_requests < count:
            if time.monotonic() > until:
                raise AssertionError(f"{seen.completed_requests} lines after {seconds} s: {seen}")
            time.sleep(0.05)
        return seen

    def content(self, file: str) -> bytes:
        """The whole of a file."""
        return bytes(self.client.files.download(file_id=file).read())

    def lines(self, file: str) -> list[dict[str, Any]]:
        """The result lines of a file."""
        return [json.loads(line) for line in self.content(file).split(b"\n") if line]

    def mark(self) -> str:
        """A word nobody used before."""
        self._made += 1
        return f"mark-{self._made}-{time.time_ns()}"

    @cached_property
    def finished(self) -> Any:
        """A job of three awkward lines that has ended well."""
        return self.ended(self.create(chat(3), metadata={"which": "finished"}))

    @cached_property
    def large(self) -> Any:
        """A job of `LARGE` awkward lines that has ended well; its result comes in many chunks."""
        return self.ended(self.create(chat(LARGE)))


def chat(count: int, start: int = 0) -> bytes:
    """Chat lines whose ids and texts are awkward, each with a text of its own."""
    return b"".join(_line(custom_id(n), chat_body(n)) for n in range(start, start + count))


def slow_chat(count: int) -> bytes:
    """Chat lines that the simulated engine takes a minute for."""
    return b"".join(_line(f"slow-{n}", _saying(f"!fault:slow=60 {n}")) for n in range(count))


def refused_chat(custom_id: str) -> bytes:
    """A chat line that the simulated engine refuses with 422."""
    return _line(custom_id, _saying("!status:422"))


def custom_id(n: int) -> str:
    return f"row-{n} {AWKWARD}"


def chat_body(n: int) -> dict[str, Any]:
    return _saying(f"say {n}: {AWKWARD}")


def refused(status: int, call: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """The SDK's error of a call that the server refuses with this status."""
    error = _error_of(call, *given, **named)
    assert error is not None, "not refused"
    assert error.status_code == status, f"status {error.status_code}: {error.body}"
    body = json.loads(error.body)
    assert body["object"] == "error", body
    assert isinstance(body["message"], str), body
    assert body["message"], body
    if status == 422:
        for detail in body["detail"]:
            assert {"loc", "msg", "type"} <= set(detail), body
    return error


def constant(value: Any, name: str) -> Any:
    """A field that the SDK knows to have one value: old releases spell its name in capitals."""
    return getattr(value, name if hasattr(value, name) else name.upper())


def is_uuid(id: str) -> bool:
    """Whether an id is a lower-case hyphenated UUID, as code generators expect."""
    return str(UUID(id)) == id


def _line(custom_id: str, body: dict[str, Any]) -> bytes:
    text = json.dumps({"custom_id": custom_id, "body": body}, ensure_ascii=False)
    return text.encode() + b"\n"


def _saying(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 16}


def _error_of(call: Callable[..., Any], *given: Any, **named: Any) -> Any:
    try:
        call(*given, **named)
    except errors.SDKError as error:
        return error
    return None
