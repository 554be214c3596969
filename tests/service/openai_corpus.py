"""Every error that OpenAI's routes tell: requests with their answers, lines with their entries in
a batch's `errors`."""
# ruff: noqa: E501 - tables read by rows

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.service.forms import HEADERS, file_part, form, part
from tests.service.rig import BODY

BATCHES, FILES, JOBS = "/v1/batches", "/v1/files", "/v1/batch/jobs"
CHAT = "/v1/chat/completions"
UUID = "4017dc9f-b629-42f4-9700-8c681b9e7f0f"
BATCH = f"batch_{UUID.replace('-', '')}"
LONG = {f"k{n}": "v" for n in range(17)}


@dataclass(frozen=True)
class Refusal:
    """A request, and the `error` object that it must get (its message only begins so)."""

    name: str
    method: str
    path: str
    status: int
    code: str | None
    param: str | None
    message: str = ""
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    type: str = "invalid_request_error"


def create(
    name: str,
    code: str | None,
    param: str | None,
    message: str = "",
    headers: Mapping[str, str] | None = None,
    **fields: Any,
) -> Refusal:
    asked = {"input_file_id": UUID, "endpoint": CHAT, "completion_window": "24h", **fields}
    asked = {key: value for key, value in asked.items() if value is not ...}
    content = json.dumps(asked).encode()
    return Refusal(
        f"create: {name}", "POST", BATCHES, 400, code, param, message, content, headers or {}
    )


def body(name: str, content: bytes, code: str, param: str | None = None) -> Refusal:
    return Refusal(f"body: {name}", "POST", BATCHES, 400, code, param, "", content)


def window(text: Any) -> Refusal:
    message = f"Invalid value: '{text}'. Supported values are: '24h'"
    return create(
        f"window {text!r}", "invalid_value", "completion_window", message, completion_window=text
    )


def upload(name: str, content: bytes, code: str) -> Refusal:
    asked = form(file_part(content), part("purpose", "batch"))
    return Refusal(f"upload: {name}", "POST", FILES, 400, code, "file", "", asked, HEADERS)


def kept(name: str, code: str, param: str, value: Any) -> Refusal:
    place = f"output_expires_after.{param}".rstrip(".")
    return create(f"output_expires_after {name}", code, place, output_expires_after=value)


REFUSALS = [
    Refusal("file not found", "GET", f"{FILES}/file-abc123", 404, None, "id", "No such File object: file-abc123"),
    Refusal("file not found, delete", "DELETE", f"{FILES}/{UUID}", 404, None, "id", "No such File object: "),
    Refusal("file not found, content", "GET", f"{FILES}/{UUID}/content", 404, None, "id", "No such File object: "),
    Refusal("batch not found", "GET", f"{BATCHES}/{BATCH}", 404, None, None, f"No batch found with id '{BATCH}'"),
    Refusal("batch not found, no id", "GET", f"{BATCHES}/batch_abc", 404, None, None, "No batch found with id 'batch_abc'"),
    Refusal("batch not found, cancel", "POST", f"{BATCHES}/{BATCH}/cancel", 404, None, None, f"No batch found with id '{BATCH}'"),
    Refusal("model not found", "GET", "/v1/models/org%2Fnone", 404, "model_not_found", "model", "The model 'org/none' does not exist"),
    Refusal("no such route", "GET", f"{BATCHES}/{BATCH}/nothing", 404, "unknown_route", None),
    Refusal("no such method", "DELETE", f"{BATCHES}/{BATCH}", 405, "method_not_allowed", None),
    create("unknown endpoint", "invalid_value", "endpoint", "Invalid value: '/v1/nothing'. Supported values are: '/v1/chat/completions', ", endpoint="/v1/nothing"),
    create("endpoint empty", "invalid_value", "endpoint", endpoint=""),
    create("endpoint a number", "invalid_type", "endpoint", "Invalid type for 'endpoint'", endpoint=1),
    window("48"),
    window("29m"),
    window("31d"),
    window("721h"),
    window("junk"),
    window(""),
    window("-1h"),
    create("window a number", "invalid_type", "completion_window", completion_window=24),
    create("no input_file_id", "missing_required_parameter", "input_file_id", "Missing required parameter: 'input_file_id'.", input_file_id=...),
    create("no endpoint", "missing_required_parameter", "endpoint", "Missing required parameter: 'endpoint'.", endpoint=...),
    create("no completion_window", "missing_required_parameter", "completion_window", "Missing required parameter: 'completion_window'.", completion_window=...),
    create("endpoint null", "missing_required_parameter", "endpoint", endpoint=None),
    create("input_file_id a list", "invalid_type", "input_file_id", input_file_id=[UUID]),
    create("input_file_id empty", "invalid_value", "input_file_id", input_file_id=""),
    create("input_file_id endless", "invalid_value", "input_file_id", input_file_id="x" * 257),
    create("input_file_id with a NUL", "invalid_value", "input_file_id", input_file_id="a\0"),
    create("metadata value a list", "invalid_type", "metadata.k", "Invalid type for 'metadata.k'", metadata={"k": ["v"]}),
    create("metadata value null", "invalid_type", "metadata.k", metadata={"k": None}),
    create("metadata a list", "invalid_type", "metadata", metadata=["v"]),
    create("metadata of 17 pairs", "invalid_value", "metadata", metadata=LONG),
    create("metadata key too long", "invalid_value", f"metadata.{'k' * 65}", metadata={"k" * 65: "v"}),
    create("metadata value too long", "invalid_value", "metadata.k", metadata={"k": "v" * 513}),
    create("metadata with a NUL", "invalid_value", "metadata.k", metadata={"k": "\0"}),
    kept("a number", "invalid_type", "", 3600),
    kept("without seconds", "missing_required_parameter", "seconds", {"anchor": "created_at"}),
    kept("of another anchor", "invalid_value", "anchor", {"anchor": "now", "seconds": 3600}),
    kept("too short", "invalid_value", "seconds", {"anchor": "created_at", "seconds": 3599}),
    kept("too long", "invalid_value", "seconds", {"anchor": "created_at", "seconds": 2_592_001}),
    kept("in words", "invalid_type", "seconds", {"anchor": "created_at", "seconds": "3600"}),
    create("priority in words", "invalid_type", "priority", priority="high"),
    create("priority too high", "invalid_value", "priority", priority=101),
    create("priority in words, header", "invalid_type", "x-batchmill-priority", headers={"x-batchmill-priority": "high"}),
    create("dedupe in words", "invalid_type", "dedupe", dedupe="yes"),
    create("dedupe in words, header", "invalid_type", "x-batchmill-dedupe", headers={"x-batchmill-dedupe": "maybe"}),
    create("on_invalid unknown", "invalid_value", "on_invalid", on_invalid="ignore"),
    create("the extension window", "invalid_value", "window", "Invalid value: '1w'. Supported values are: ", window="1w"),
    body("empty", b"", "invalid_json"),
    body("no JSON", b"{", "invalid_json"),
    body("no UTF-8", b'{"endpoint":"\xff"}', "invalid_json"),
    body("a list", b"[]", "invalid_type"),
    body("half a surrogate pair", b'{"metadata":{"k":"\\ud83d"}}', "invalid_json"),
    body("a key twice", b'{"endpoint":"a","endpoint":"b"}', "duplicate_key", "endpoint"),
    body("too deep", b'{"a":' * 4_000, "invalid_json"),
    Refusal("body: compressed", "POST", BATCHES, 415, "unsupported_encoding", "content-encoding", "", b"{}", {"content-encoding": "gzip"}),
    Refusal("body: too large", "POST", BATCHES, 413, "body_too_large", None, "", b" " * 20_001),
    Refusal("limit 0", "GET", f"{BATCHES}?limit=0", 400, "invalid_value", "limit", "Invalid value for 'limit'"),
    Refusal("limit 101", "GET", f"{BATCHES}?limit=101", 400, "invalid_value", "limit", "Invalid value for 'limit'"),
    Refusal("limit in words", "GET", f"{BATCHES}?limit=all", 400, "invalid_type", "limit", "Invalid type for 'limit'"),
    upload("empty", b"", "empty_file"),
    upload("only blanks", b"\n \n", "empty_file"),
    upload("no JSON lines", b"hello\n", "invalid_json_line"),
    Refusal("upload: too large", "POST", FILES, 413, "file_too_large", "file", "", form(file_part(b'{"a":1}\n' * 3000)), HEADERS),
]  # fmt: skip


def line(**fields: Any) -> bytes:
    """A line that differs from a good one in these; `...` leaves a field out."""
    given = {"custom_id": "a", "method": "POST", "url": CHAT, "body": {"model": "small", **BODY}}
    given |= fields
    return json.dumps({key: value for key, value in given.items() if value is not ...}).encode()


def inside(**fields: Any) -> bytes:
    """The same of a line's body."""
    given = {"model": "small", **BODY, **fields}
    return line(body={key: value for key, value in given.items() if value is not ...})


GOOD_LINE = line(custom_id="good")
TWICE = GOOD_LINE.replace(b'"model": "small"', b'"model": "small", "model": "small"', 1)
LINES: list[tuple[str, bytes, str, str | None, str]] = [
    ("no JSON", b"nonsense", "invalid_json_line", None, "This line is not parseable as valid JSON"),
    ("cut", GOOD_LINE[:30], "invalid_json_line", None, "This line is not parseable as valid JSON"),
    ("no UTF-8", b'{"custom_id":"\xff"}', "invalid_json_line", None, ""),
    ("too deep", b'{"body":' * 20_000, "invalid_json_line", None, ""),
    ("a list", b"[1]", "invalid_request", None, ""),
    ("no custom_id", line(custom_id=...), "missing_required_parameter", "custom_id", "Missing required parameter: 'custom_id'."),
    ("no method", line(method=...), "missing_required_parameter", "method", "Missing required parameter: 'method'."),
    ("no url", line(url=...), "missing_required_parameter", "url", "Missing required parameter: 'url'."),
    ("no body", line(body=...), "missing_required_parameter", "body", "Missing required parameter: 'body'."),
    ("custom_id null", line(custom_id=None), "missing_required_parameter", "custom_id", ""),
    ("custom_id a number", line(custom_id=1), "invalid_type", "custom_id", ""),
    ("custom_id half a pair", line(custom_id="\ud83d"), "invalid_value", "custom_id", ""),
    ("custom_id again", line(custom_id="good"), "duplicate_custom_id", "custom_id", ""),
    ("custom_id twice", line().replace(b"{", b'{"custom_id":"b",', 1), "invalid_request", "custom_id", ""),
    ("method GET", line(method="GET"), "invalid_value", "method", ""),
    ("method a number", line(method=1), "invalid_type", "method", ""),
    ("another url", line(url="/v1/embeddings"), "invalid_url", "url", "The URL provided for this request"),
    ("url a list", line(url=[]), "invalid_type", "url", ""),
    ("body a list", line(body=[]), "invalid_type", "body", ""),
    ("no model", inside(model=...), "invalid_request", "body.model", "Model parameter is required."),
    ("model a number", inside(model=1), "invalid_type", "body.model", ""),
    ("model twice", TWICE.replace(b"good", b"a"), "invalid_request", "body.model", ""),
    ("unknown model", inside(model="gpt-9"), "model_not_found", "body.model", "The provided model 'gpt-9' is not"),
    ("no messages", inside(messages=...), "invalid_request", "body.messages", "Messages parameter is required."),
    ("messages a string", inside(messages="hi"), "invalid_type", "body.messages", ""),
    ("stream", inside(stream=True), "streaming_unsupported", "body.stream", "Streaming is not supported"),
    ("stream a string", inside(stream="yes"), "invalid_type", "body.stream", ""),
]  # fmt: skip
"""Name, line, code, param, and how the message begins."""
