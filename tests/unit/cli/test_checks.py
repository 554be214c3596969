"""Checking a file without a server: the same judgement, and what people need to mend it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from batchmill.cli.checks import check, opened
from batchmill.cli.estimate import Measured, weighed
from batchmill.cli.tokens import count
from batchmill.core.checking import Checking, explained
from batchmill.core.decode import LineForm, decode
from batchmill.core.lines import LineRules
from batchmill.core.validate import Reading
from batchmill.model import (
    DEFAULT_TENANT,
    BlobName,
    Dialect,
    FileId,
    Job,
    JobId,
    JobInput,
    JobState,
    LineError,
)

CHAT = "/v1/chat/completions"
BODY = {"model": "m", "messages": [{"role": "user", "content": "x"}]}


def line(**fields: Any) -> bytes:
    whole = {"custom_id": "a", "method": "POST", "url": CHAT, "body": BODY} | fields
    return json.dumps({k: v for k, v in whole.items() if v is not ...}).encode()


BAD = [
    (b"nonsense", None, "nonsense", "one JSON object"),
    (b"[1]", None, "[1]", "one JSON object"),
    (b'{"a":"\xff"}', None, "", "UTF-8"),
    (line(custom_id=...), "custom_id", "nothing", "a string"),
    (line(custom_id=5), "custom_id", "5", "a string"),
    (b'{"custom_id":"a","custom_id":"b",' + line(custom_id=...)[1:], "custom_id", "'b'", "once"),
    (line(method="GET"), "method", "'GET'", "'POST'"),
    (line(url="/v1/x"), "url", "'/v1/x'", f"'{CHAT}'"),
    (line(url=...), "url", "nothing", f"'{CHAT}'"),
    (line(body="x"), "body", "'x'", "an object"),
    (line(body={**BODY, "model": 3}), "body.model", "3", "a string"),
    (line(body={"model": "m"}), "body.messages", "nothing", "an array"),
    (line(body={**BODY, "stream": True}), "body.stream", "true", "false"),
]


def form(max_line_bytes: int = 10_000) -> LineForm:
    return LineForm(CHAT, True, True, True, lambda _: True, max_line_bytes)


@pytest.mark.parametrize(("raw", "field", "found", "expected"), BAD)
def test_every_message_has_its_field_what_was_found_and_what_is_expected(
    raw: bytes, field: str | None, found: str, expected: str
) -> None:
    error = decode(raw, form(), 7)
    assert isinstance(error, LineError)
    finding = explained(error, raw, form())
    assert (error.line, error.param) == (7, field)
    assert error.message
    assert found in finding.found
    assert expected in finding.expected


def checked(data: bytes, step: int, max_line_bytes: int = 10_000) -> Checking:
    checking = Checking(form(max_line_bytes))
    chunks = [data[at : at + step] for at in range(0, len(data), step)]
    for chunk in chunks:
        checking.feed(chunk)
    checking.finish()
    if hashes := checking.may_repeat():
        checking.find_repeats(chunks, hashes)
    return checking


MIXED = b"\xef\xbb\xbf" + b"\r\n".join(
    [
        line(custom_id="1"),
        b"",
        line(custom_id="2", url="/v1/x"),
        b"x" * 2_000,
        line(custom_id="1"),
        b"  \t",
        line(custom_id="3"),
        b"nonsense",
    ]
)


@pytest.mark.parametrize("step", [1, 7, 100, 100_000])
def test_it_judges_as_the_server_does_however_the_file_is_read(step: int) -> None:
    job = Job(JobId("j"), DEFAULT_TENANT, Dialect.OPENAI, CHAT, JobState.VALIDATING, 0.0, 1.0, 6)
    source = JobInput(FileId("f"), "f", BlobName("b"), len(MIXED), 6)
    reading = Reading(job, [source], LineRules(max_line_bytes=1_000))
    reading.begin(0)
    reading.feed(MIXED)
    reading.finish()
    ours = checked(MIXED, step, 1_000).checked
    assert ours.lines == reading.lines == 6
    served = {(each.line, each.code) for each in reading.errors.first()}
    repeats = {(5, "duplicate_custom_id")}
    assert {(each.error.line, each.error.code) for each in ours.findings} == served | repeats
    assert ours.bad == 4
    assert ours.models == {"m"}


def test_only_the_first_findings_are_kept_and_all_are_counted() -> None:
    found = checked(b"nonsense\n" * 1_000, 500).checked
    assert (found.lines, found.bad, len(found.findings)) == (1_000, 1_000, 100)
    assert found.findings[-1].error.line == 100


def test_a_file_says_of_itself_what_its_lines_are(tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    file.write_bytes(line(url="/v1/embeddings", body={"model": "e", "input": "x"}) + b"\n")
    with opened(str(file)) as local:
        found = check(local, None)
        assert (local.is_openai, local.endpoint) == (True, "/v1/embeddings")
    assert (found.lines, found.bad) == (1, 0)


def test_a_pipe_is_checked_like_a_file() -> None:
    reading, writing = os.pipe()
    os.write(writing, line() + b"\n")
    os.close(writing)
    try:
        with opened(f"/dev/fd/{reading}") as file:
            assert check(file, None).lines == 1
            assert check(file, None).lines == 1
    finally:
        os.close(reading)


def test_tokens_of_lines_without_text_are_unknown_and_never_none(tmp_path: Path) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,xx"}}
    body = {"model": "m", "messages": [{"role": "user", "content": [image]}]}
    (tmp_path / "in.jsonl").write_bytes(line(body=body) + b"\n")
    with opened(str(tmp_path / "in.jsonl")) as file:
        made = weighed(count(file), Measured(), (1.0, None))
    assert made.input_tokens is None
    assert made.input_known == "1 line without text, such as images"
    assert (made.price, made.price_known) == (None, "the input tokens are unknown")
