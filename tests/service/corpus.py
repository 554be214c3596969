"""The corpus of malformed input: requests, files and lines, each with what it must be told."""
# ruff: noqa: E501, RUF001 - tables read by rows, and look-alike characters are among the input

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.service.forms import BOUNDARY, HEADERS, file_part, form, part
from tests.service.rig import lines

FILES, JOBS = "/v1/files", "/v1/batch/jobs"
UUID = "4017dc9f-b629-42f4-9700-8c681b9e7f0f"
GOOD = lines(2)
FILE = file_part(GOOD)
DEEP = b'{"a":' * 100_000
REQUESTS = [{"body": {}}]
TWICE = (
    b'{"endpoint":"/v1/ocr","model":"small","requests":'
    b'[{"custom_id":"a","custom_id":"b","body":{"n":%b,"text":"%b"}}]}'
)


@dataclass(frozen=True)
class Case:
    name: str
    path: str
    status: int
    code: str | None
    param: str | None = None
    line: int | None = None
    method: str = "GET"
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def bad_form(
    name: str,
    content: bytes,
    code: str,
    param: str | None = None,
    status: int = 400,
    line: int | None = None,
    headers: Mapping[str, str] = HEADERS,
) -> Case:
    return Case(name, FILES, status, code, param, line, "POST", content, headers)


def bad_file(name: str, content: bytes, code: str, line: int | None = None) -> Case:
    body = form(file_part(content), part("purpose", "batch"))
    return bad_form(f"file: {name}", body, code, "file", 400, line)


def bad_field(name: str, text: str, code: str = "invalid_value", status: int = 400) -> Case:
    return bad_form(f"field: {name}={text[:20]}", form(FILE, part(name, text)), code, name, status)


def bad_body(
    name: str,
    content: bytes,
    code: str = "invalid_json",
    param: str | None = None,
    status: int = 400,
) -> Case:
    return Case(f"body: {name}", JOBS, status, code, param, None, "POST", content)


def bad_job(
    name: str,
    code: str,
    param: str,
    status: int = 422,
    headers: Mapping[str, str] | None = None,
    **fields: Any,
) -> Case:
    asked = {"endpoint": "/v1/ocr", "model": "small", "requests": REQUESTS, **fields}
    asked = {key: value for key, value in asked.items() if value is not ...}
    content = json.dumps(asked).encode()
    return Case(f"job: {name}", JOBS, status, code, param, None, "POST", content, headers or {})


def bad_query(path: str, query: str, param: str, code: str = "invalid_value") -> Case:
    return Case(f"query: {path[-10:]}?{query[:50]}", f"{path}?{query}", 422, code, param)


FORMS = [
    bad_form("JSON instead of a form", b"{}", "invalid_content_type", "content-type", headers={"content-type": "application/json"}),
    bad_form("no content-type", FILE, "invalid_content_type", "content-type", headers={}),
    bad_form("an urlencoded form", b"file=x", "invalid_content_type", "content-type", headers={"content-type": "application/x-www-form-urlencoded"}),
    bad_form("no boundary", form(FILE), "invalid_form", headers={"content-type": "multipart/form-data"}),
    bad_form("an empty boundary", form(FILE), "invalid_form", headers={"content-type": 'multipart/form-data; boundary=""'}),
    bad_form("an endless boundary", form(FILE), "invalid_form", headers={"content-type": "multipart/form-data; boundary=" + "b" * 201}),
    bad_form("another boundary", form(FILE), "invalid_form", headers={"content-type": "multipart/form-data; boundary=other"}),
    bad_form("an empty form", b"", "invalid_form"),
    bad_form("only the last boundary", form(), "missing_required_parameter", "file"),
    bad_form("cut in the file", form(FILE, end=b"")[:-20], "invalid_form"),
    bad_form("cut in a header", FILE[:30], "invalid_form"),
    bad_form("no closing boundary", FILE, "invalid_form"),
    bad_form("no file", form(part("purpose", "batch")), "missing_required_parameter", "file"),
    bad_form("a text field named file", form(part("file", "x")), "invalid_form", "file"),
    bad_form("two files", form(FILE, FILE), "invalid_form", "file"),
    bad_form("a part without a disposition", form(f"--{BOUNDARY}\r\nx: y\r\n\r\nz\r\n".encode()), "invalid_form"),
    bad_form("a part without any header", form(f"--{BOUNDARY}\r\n\r\nz\r\n".encode()), "invalid_form"),
    bad_form("a part without a name", form(f"--{BOUNDARY}\r\ncontent-disposition: form-data\r\n\r\nz\r\n".encode()), "invalid_form"),
    bad_form("an attachment", form(f'--{BOUNDARY}\r\ncontent-disposition: attachment; name="file"\r\n\r\nz\r\n'.encode()), "invalid_form"),
    bad_form("a header without a colon", form(f"--{BOUNDARY}\r\nnonsense\r\n\r\nz\r\n".encode()), "invalid_form"),
    bad_form("a header of 10,000 bytes", form(part("file", GOOD, filename="x" * 10_000)), "invalid_form"),
    bad_form("a thousand headers", form(part("file", GOOD, filename="x", extra="x: y\r\n" * 1000)), "invalid_form"),
    bad_form("65 parts", form(*(part(f"f{n}", "x") for n in range(65)), FILE), "invalid_form"),
    bad_form("a file in base64", form(part("file", "e30=", filename="x", extra="content-transfer-encoding: base64\r\n")), "invalid_form", "file"),
    bad_form("a field of 5,000 bytes", form(part("purpose", "x" * 5000), FILE), "invalid_form", "purpose"),
    bad_form("a field twice", form(part("purpose", "batch"), FILE, part("purpose", "batch")), "invalid_form", "purpose"),
    bad_form("a field that is not UTF-8", form(part("purpose", b"\xff"), FILE), "invalid_form", "purpose"),
    bad_form("a compressed form", form(FILE), "unsupported_encoding", "content-encoding", 415, headers={**HEADERS, "content-encoding": "gzip"}),
    bad_field("purpose", "two words"),
    bad_field("purpose", "x" * 65),
    bad_field("purpose", "größe"),
    bad_field("purpose", "a\x00b"),
    bad_field("visibility", "everybody", status=422),
    *(bad_field("expiry", text, status=422) for text in ("0", "-1", "1.5", "1e3", "soon", "9" * 30, "8785", "１")),
    bad_form("an unknown anchor", form(FILE, part("expires_after[anchor]", "now"), part("expires_after[seconds]", "3600")), "invalid_value", "expires_after[anchor]"),
    bad_form("an anchor alone", form(FILE, part("expires_after[anchor]", "created_at")), "missing_required_parameter", "expires_after[seconds]"),
    bad_form("seconds alone", form(FILE, part("expires_after[seconds]", "3600")), "missing_required_parameter", "expires_after[anchor]"),
    *(
        bad_form(f"{text} seconds", form(FILE, part("expires_after[anchor]", "created_at"), part("expires_after[seconds]", text)), "invalid_value", "expires_after[seconds]")
        for text in ("3599", "2592001", "9" * 400, "an hour")
    ),
]  # fmt: skip

CONTENTS = [
    bad_file("nothing", b"", "empty_file"),
    bad_file("only blank lines", b"\n \r\n\t\n", "empty_file"),
    bad_file("only a BOM", b"\xef\xbb\xbf", "empty_file"),
    bad_file("an array", b"[{}]\n", "invalid_json_line", 1),
    bad_file("a string", b'"x"\n', "invalid_json_line", 1),
    bad_file("a number", b"1\n{}\n", "invalid_json_line", 1),
    bad_file("an object over several lines", b'{\n"custom_id":"a"}\n', "invalid_json_line", 1),
    bad_file("a CSV", b"id,text\n1,x\n", "invalid_json_line", 1),
    bad_file("single quotes", b"{'custom_id':'a'}\n", "invalid_json_line", 1),
    bad_file("a trailing comma", b'{"custom_id":"a",}\n', "invalid_json_line", 1),
    bad_file("NaN", b'{"custom_id":"a","body":{"x":NaN}}\n', "invalid_json_line", 1),
    bad_file("no UTF-8", b'{"custom_id":"\xff"}\n', "invalid_json_line", 1),
    bad_file("UTF-16", '{"custom_id":"a"}\n'.encode("utf-16"), "invalid_json_line", 1),
    bad_file("too deep", DEEP[:50_000] + b"}" * 10_000 + b"\n", "invalid_json_line", 1),
    bad_file("two objects on a line", b"{}{}\n", "invalid_json_line", 1),
    bad_file("a zip", b"PK\x03\x04\x00\x00\n\x00", "invalid_json_line", 1),
]

BODIES = [
    bad_body("nothing", b""),
    bad_body("spaces", b" \n"),
    bad_body("cut", b'{"endpoint":'),
    bad_body("a trailing comma", b'{"endpoint":"/v1/ocr",}'),
    bad_body("something after", b"{} {}"),
    bad_body("single quotes", b"{'endpoint': 1}"),
    bad_body("NaN", b'{"timeout_hours":NaN}'),
    bad_body("Infinity", b'{"timeout_hours":-Infinity}'),
    bad_body("no UTF-8", b'{"model":"\xff"}'),
    bad_body("UTF-16", '{"model":"x"}'.encode("utf-16")),
    bad_body("a BOM", b"\xef\xbb\xbf{}"),
    bad_body("half a surrogate pair", b'{"model":"\\ud83d"}'),
    bad_body("half a pair beside one in a request", b'{"model":"\\ud83d","requests":[{"body":{"a":"\\ud83d"}}]}'),
    bad_body("a control character", b'{"model":"a\nb"}'),
    bad_body("too deep", DEEP),
    bad_body("too deep but whole", DEEP + b"1" + b"}" * 100_000),
    bad_body("a number of 5,000 digits", b'{"timeout_hours":' + b"9" * 5000 + b"}"),
    bad_body("a list", b"[]", "invalid_type"),
    bad_body("a string", b'"x"', "invalid_type"),
    bad_body("null", b"null", "invalid_type"),
    bad_body("a key twice", b'{"model":"a","model":"b"}', "duplicate_key", "model"),
    bad_body("a metadata key twice", b'{"metadata":{"a":"1","a":"2"}}', "duplicate_key", "a"),
    bad_body("an unknown key twice", b'{"x":1,"x":2}', "duplicate_key", "x"),
    bad_body("over a thousand keys", json.dumps({str(n): n for n in range(1001)}).encode(), "invalid_value"),
    bad_body("2 MB of an unknown key", b'{"x":"%b"}' % (b"x" * 2_000_000), "body_too_large", status=413),
    Case("body: 2 MB where nothing is large", f"{JOBS}/{UUID}/extend", 413, "body_too_large", None, None, "POST", b" " * 2_000_000),
    Case("body: compressed", JOBS, 415, "unsupported_encoding", "content-encoding", None, "POST", b"x", {"content-encoding": "br"}),
    Case("body: a form", JOBS, 400, "invalid_json", None, None, "POST", form(FILE), HEADERS),
]  # fmt: skip

FIELDS = [
    bad_job("no endpoint", "missing_required_parameter", "endpoint", endpoint=...),
    bad_job("endpoint null", "missing_required_parameter", "endpoint", endpoint=None),
    bad_job("endpoint a number", "invalid_type", "endpoint", endpoint=1),
    bad_job("endpoint unknown", "invalid_value", "endpoint", endpoint="/v1/nothing"),
    bad_job("endpoint with a slash", "invalid_value", "endpoint", endpoint="/v1/ocr/"),
    bad_job("endpoint as a URL", "invalid_value", "endpoint", endpoint="http://x/v1/ocr"),
    bad_job("no model", "missing_required_parameter", "model", model=...),
    bad_job("model a number", "invalid_type", "model", model=1),
    bad_job("model empty", "invalid_value", "model", model=""),
    bad_job("model too long", "invalid_value", "model", model="m" * 257),
    bad_job("model with NUL", "invalid_value", "model", model="a\x00"),
    bad_job("model unknown", "model_not_found", "model", model="gpt-9"),
    bad_job("agent", "unsupported_value", "agent_id", model=None, agent_id="ag_1"),
    bad_job("agent a list", "invalid_type", "agent_id", agent_id=["a"]),
    bad_job("neither input", "missing_required_parameter", "input_files", requests=...),
    bad_job("both empty", "missing_required_parameter", "input_files", requests=[], input_files=[]),
    bad_job("both inputs", "invalid_value", "requests", input_files=[UUID]),
    bad_job("input_files a string", "invalid_type", "input_files", requests=..., input_files=UUID),
    bad_job("input_files of numbers", "invalid_type", "input_files.0", requests=..., input_files=[1]),
    bad_job("input_files unknown", None, "input_files.0", 404, requests=..., input_files=[UUID]),
    bad_job("input_files no id", None, "input_files.0", 404, requests=..., input_files=["x"]),
    bad_job("input_files too many", "invalid_value", "input_files", requests=..., input_files=[UUID] * 1001),
    bad_job("requests an object", "invalid_type", "requests", requests={}),
    bad_job("requests a string", "invalid_type", "requests", requests="x"),
    bad_job("requests of numbers", "invalid_type", "requests.1", requests=[REQUESTS[0], 1]),
    bad_job("requests too many", "invalid_value", "requests", requests=REQUESTS * 10_001),
    bad_job("a request without body", "missing_required_parameter", "requests.0.body", requests=[{}]),
    bad_job("a body null", "missing_required_parameter", "requests.0.body", requests=[{"body": None}]),
    bad_job("a body a list", "invalid_type", "requests.0.body", requests=[{"body": []}]),
    bad_job("a custom_id a number", "invalid_type", "requests.0.custom_id", requests=[{"custom_id": 1, "body": {}}]),
    bad_job("a custom_id half a pair", "invalid_value", "requests.1.custom_id", requests=[REQUESTS[0], {"custom_id": "a\ud83d", "body": {}}]),
    Case("job: an id twice, an endless number and 70 kB", JOBS, 422, "invalid_value", "requests.0.custom_id", None, "POST", TWICE % (b"9" * 5000, b"x" * 70_000)),
    bad_job("metadata a list", "invalid_type", "metadata", metadata=[]),
    bad_job("metadata a number", "invalid_type", "metadata.a", metadata={"a": 1}),
    bad_job("metadata null inside", "invalid_type", "metadata.a", metadata={"a": None}),
    bad_job("metadata nested", "invalid_type", "metadata.a", metadata={"a": {}}),
    bad_job("metadata key empty", "invalid_value", "metadata..[key]", metadata={"": "x"}),
    bad_job("metadata key too long", "invalid_value", f"metadata.{'k' * 33}.[key]", metadata={"k" * 33: "x"}),
    bad_job("metadata value empty", "invalid_value", "metadata.a", metadata={"a": ""}),
    bad_job("metadata value too long", "invalid_value", "metadata.a", metadata={"a": "x" * 513}),
    bad_job("metadata value with NUL", "invalid_value", "metadata.a", metadata={"a": "\x00"}),
    bad_job("metadata too many", "invalid_value", "metadata", metadata={str(n): "x" for n in range(257)}),
    bad_job("timeout 0", "invalid_value", "timeout_hours", timeout_hours=0),
    bad_job("timeout 169", "invalid_value", "timeout_hours", timeout_hours=169),
    bad_job("timeout text", "invalid_type", "timeout_hours", timeout_hours="24"),
    bad_job("timeout a fraction", "invalid_type", "timeout_hours", timeout_hours=1.5),
    bad_job("timeout true", "invalid_type", "timeout_hours", timeout_hours=True),
    bad_job("priority 101", "invalid_value", "priority", priority=101),
    bad_job("priority text", "invalid_type", "priority", priority="high"),
    bad_job("dedupe text", "invalid_type", "dedupe", dedupe="true"),
    bad_job("dedupe in a header", "invalid_type", "x-batchmill-dedupe", headers={"x-batchmill-dedupe": "maybe"}),
    bad_job("priority in a header", "invalid_type", "x-batchmill-priority", headers={"x-batchmill-priority": "high"}),
    bad_job("priority too high in a header", "invalid_value", "priority", headers={"x-batchmill-priority": "999"}),
    bad_job("on_invalid", "invalid_value", "on_invalid", on_invalid="skip"),
    *(
        bad_job(f"window {window}", "invalid_value", "window", window=window)
        for window in ("29m", "31d", "1w", "", "24H", "24", "1h30m", "9999999h", "１h", " 1h")
    ),
    bad_job("window a number", "invalid_type", "window", window=24),
    bad_job("window in a header", "invalid_value", "window", headers={"x-batchmill-window": "5m"}),
    bad_job("a webhook", "unsupported_parameter", "webhook_url", 400, webhook_url="https://x.example"),
]  # fmt: skip

QUERIES = [
    *(bad_query(JOBS, f"page={text}", "page", "invalid_type") for text in ("x", "1.5", "1e3", "")),
    *(bad_query(JOBS, f"page={text}", "page") for text in ("-1", "1000000001", "9" * 30, "9" * 5000)),
    *(bad_query(JOBS, f"page_size={text}", "page_size") for text in ("0", "-5", "10001")),
    bad_query(JOBS, "created_by_me=perhaps", "created_by_me", "invalid_type"),
    bad_query(JOBS, "status=DONE", "status.0"),
    bad_query(JOBS, "status=QUEUED&status=queued", "status.1"),
    bad_query(JOBS, "order_by=name", "order_by"),
    *(
        bad_query(JOBS, f"created_after={text}", "created_after", "invalid_type")
        for text in (
            *("yesterday", "2026-13-01", "2026-07-01T25:00:00", "99999-01-01", "1730000000"),
            "T" * 60_000,
            "2026-07-01T12:30:00Z" + " " * 60,
        )
    ),
    bad_query(f"{JOBS}/{UUID}", "inline=maybe", "inline", "invalid_type"),
    bad_query(FILES, "page=x", "page", "invalid_type"),
    bad_query(FILES, "page_size=0", "page_size"),
    bad_query(FILES, "search=" + "a" * 60_000, "search"),
    bad_query(FILES, "limit=0", "limit"),
    bad_query(FILES, "limit=10001", "limit"),
    bad_query(FILES, "limit=many", "limit", "invalid_type"),
    bad_query(FILES, "order=up", "order"),
    bad_query(FILES, "include_total=x", "include_total", "invalid_type"),
    *(bad_query(f"{FILES}/{UUID}/url", f"expiry={text}", "expiry") for text in ("0", "169", "-1")),
    bad_query(f"{FILES}/{UUID}/url", "expiry=soon", "expiry", "invalid_type"),
    Case("query: NUL", f"{FILES}?search=a%00b", 400, "invalid_value"),
    Case("query: NUL as a key", f"{JOBS}?a%00=b", 400, "invalid_value"),
    Case("query: no UTF-8", f"{JOBS}?team=%ff", 400, "invalid_value"),
]  # fmt: skip

_IDS = (
    "x",
    UUID[:-1],
    f"{UUID}0",
    f"{{{UUID}}}",
    f"urn:uuid:{UUID}",
    f"file_{UUID}",
    f"{UUID}%0a",
    f"%20{UUID}",
    UUID.replace("4", "٤"),
    UUID.replace("-", "_"),
    "9" * 5000,
    "'%20OR%201=1--",
    "..%2e",
)
NAMES = [
    *(Case(f"file id: {text[:50]}", f"{FILES}/{text}", 404, None, "id") for text in _IDS),
    *(Case(f"job id: {text[:50]}", f"{JOBS}/{text}", 404, "not_found", "job_id") for text in _IDS),
    Case("file id: unknown", f"{FILES}/{UUID}", 404, None, "id"),
    Case("file id: unknown content", f"{FILES}/{UUID}/content", 404, None, "id"),
    Case("file id: unknown url", f"{FILES}/{UUID}/url", 404, None, "id"),
    Case("file id: unknown delete", f"{FILES}/{UUID}", 404, None, "id", method="DELETE"),
    Case("file id: signed", f"{FILES}/x/signed?token=1.YQ.x", 403, "invalid_link"),
    Case("job id: unknown", f"{JOBS}/{UUID}", 404, "not_found", "job_id"),
    Case("job id: unknown cancel", f"{JOBS}/{UUID}/cancel", 404, "not_found", "job_id", method="POST"),
    Case("job id: unknown delete", f"{JOBS}/{UUID}", 404, "not_found", "job_id", method="DELETE"),
    Case("path: NUL", f"{FILES}/a%00b", 400, "invalid_value"),
    Case("path: no UTF-8", f"{FILES}/%ff%fe", 400, "invalid_value"),
    Case("path: unknown", "/v1/batch/nothing", 404, "unknown_route"),
    Case("path: unknown below a file", f"{FILES}/{UUID}/nothing", 404, "unknown_route"),
    Case("path: not a method of it", f"{JOBS}/{UUID}", 405, "method_not_allowed", method="PATCH"),
    Case("path: only POST", f"{JOBS}/{UUID}/cancel", 405, "method_not_allowed"),
    Case("model: unknown", "/v1/models/%F0%9F%98%80", 404, "model_not_found", "model"),
    Case("model: endless", "/v1/models/" + "a/" * 4000 + "a", 404, "model_not_found", "model"),
]  # fmt: skip

CASES = [*FORMS, *CONTENTS, *BODIES, *FIELDS, *QUERIES, *NAMES]


def line(**fields: Any) -> bytes:
    return json.dumps({"custom_id": "a", "body": {}, **fields}).encode()


GOOD_LINE = b'{"custom_id":"good","body":{}}'
LINES = [
    ("no JSON", b"nonsense", "invalid_json_line", None),
    ("cut", b'{"custom_id":"a","bo', "invalid_json_line", None),
    ("no UTF-8", b'{"custom_id":"\xff","body":{}}', "invalid_json_line", None),
    ("an array", b"[]", "invalid_request", None),
    ("too deep", DEEP[:50_000] + b"1" + b"}" * 10_000, "invalid_json_line", None),
    ("no custom_id", b'{"body":{}}', "missing_required_parameter", "custom_id"),
    ("custom_id null", line(custom_id=None), "missing_required_parameter", "custom_id"),
    ("custom_id a number", line(custom_id=1), "invalid_type", "custom_id"),
    ("custom_id half a pair", line(custom_id="\ud83d"), "invalid_value", "custom_id"),
    ("custom_id twice", b'{"custom_id":"a","custom_id":"b","body":{}}', "invalid_request", "custom_id"),
    ("the same custom_id", line(custom_id="good"), "duplicate_custom_id", "custom_id"),
    ("no body", b'{"custom_id":"a"}', "missing_required_parameter", "body"),
    ("body a list", line(body=[]), "invalid_type", "body"),
    ("stream", line(body={"stream": True}), "streaming_unsupported", "body.stream"),
    ("model twice", b'{"custom_id":"a","body":{"model":"a","model":"b"}}', "invalid_request", "body.model"),
]  # fmt: skip
