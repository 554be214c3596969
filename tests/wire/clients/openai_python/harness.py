"""What every operation stands on: the clients, small inputs, and waiting."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import cached_property
from typing import Any

from openai import APIStatusError, OpenAI

CHAT = "/v1/chat/completions"
IN_FLIGHT = {"validating", "in_progress", "finalizing", "cancelling"}
MOMENTS = (
    "in_progress_at",
    "finalizing_at",
    "completed_at",
    "failed_at",
    "expired_at",
    "cancelling_at",
    "cancelled_at",
)
AWKWARD = 'tear\u2028here\u2029or\u0085there \U0001f40b naïve 数据 "quoted" \\ back'
"""Characters at which some clients split lines, cut bytes, or trip over escapes."""


class World:
    """The server under test, as one user sees it."""

    def __init__(self, where: dict[str, Any]) -> None:
        self.url: str = where["url"]
        self.key: str = where["key"]
        self.model: str = where["model"]
        self.client = self.client_for(where["key"])
        self.stranger = self.client_for(where["stranger_key"])
        self.crowded = self.client_for(where["crowded_key"])

    def client_for(self, key: str, **options: Any) -> Any:
        """The SDK with another key, as its users set it up."""
        return OpenAI(api_key=key, base_url=f"{self.url}/v1", timeout=30, **options)

    def upload(self, data: bytes, name: str = "lines.jsonl") -> str:
        """The id of a new batch file."""
        return str(self.client.files.create(file=(name, data), purpose="batch").id)

    def create(self, data: bytes, **options: Any) -> Any:
        """A batch over these lines."""
        given = {"endpoint": CHAT, "completion_window": "24h"} | options
        return self.client.batches.create(input_file_id=self.upload(data), **given)

    def ended(self, batch: Any) -> Any:
        """The batch once it has ended."""
        return self.until(batch, lambda seen: seen.status not in IN_FLIGHT)

    def until(self, batch: Any, holds: Callable[[Any], bool], seconds: float = 30.0) -> Any:
        """The batch once this holds of it."""
        last = time.monotonic() + seconds
        while not holds(seen := self.client.batches.retrieve(batch.id)):
            if time.monotonic() > last:
                raise AssertionError(f"batch still so after {seconds} s: {seen}")
            time.sleep(0.05)
        return seen

    def lines(self, file: str) -> list[dict[str, Any]]:
        """The result lines of a file."""
        content = self.client.files.content(file).read()
        return [json.loads(line) for line in content.split(b"\n") if line]

    def chat(self, count: int, start: int = 0) -> bytes:
        """Chat lines whose ids and texts are awkward, each with a text of its own."""
        return b"".join(
            self.line(custom_id(n), f"say {n}: {AWKWARD}") for n in range(start, start + count)
        )

    def slow_chat(self, count: int) -> bytes:
        """Chat lines that the simulated engine takes a minute for."""
        return b"".join(self.line(f"slow-{n}", f"!fault:slow=60 {n}") for n in range(count))

    def line(self, custom_id: str, text: str = "hi", **fields: Any) -> bytes:
        """One chat line that says this, and differs from a good one in the fields."""
        body = {"model": self.model, "messages": [{"role": "user", "content": text}]}
        given = {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": body} | fields
        return json.dumps(given, ensure_ascii=False).encode() + b"\n"

    @cached_property
    def finished(self) -> Any:
        """A batch of three awkward lines that has ended well."""
        return self.ended(self.create(self.chat(3), metadata={"which": "finished"}))


def custom_id(n: int) -> str:
    return f"row-{n} {AWKWARD}"


def refused(
    kind: type[APIStatusError],
    code: str | None,
    param: str | None,
    call: Callable[..., Any],
    *given: Any,
    **named: Any,
) -> Any:
    """The SDK's error of a refused call: exactly of this class, with this code and param."""
    error = _error_of(call, *given, **named)
    assert error is not None, "not refused"
    assert type(error) is kind, repr(error)
    assert (error.code, error.param) == (code, param), error.body
    assert error.type == "invalid_request_error", error.body
    assert error.message, error.body
    assert error.request_id, error.response.headers
    return error


def _error_of(call: Callable[..., Any], *given: Any, **named: Any) -> Any:
    try:
        call(*given, **named)
    except APIStatusError as error:
        return error
    return None
