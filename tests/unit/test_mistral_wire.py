from __future__ import annotations

import json

import msgspec
import pytest

from batchmill.core.submit import window_seconds
from batchmill.dialects.ids import uuid_in
from batchmill.dialects.mistral.create import read_order
from batchmill.dialects.mistral.filters import metadata_filters, moment
from batchmill.dialects.mistral.wire import (
    STATUSES,
    CreateBatchJob,
    Status,
    job_errors,
    states_of,
)
from batchmill.model import DEFAULT_TENANT, JobState, LineError
from batchmill.web.auth import Caller
from batchmill.web.bodies import JsonObject, parse
from batchmill.web.errors import InvalidFields
from batchmill.web.services import ApiRules
from batchmill.web.uploads import plain_filename

UUID = "4017dc9f-b629-42f4-9700-8c681b9e7f0f"


def test_every_state_has_a_status_and_every_status_a_state() -> None:
    assert set(STATUSES) == set(JobState)
    assert {state for status in Status for state in states_of(status)} == set(JobState)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30m", 1800),
        ("1h", 3600),
        ("7d", 604800),
        ("30d", 2592000),
        ("29m", None),
        ("721h", None),
        ("31d", None),
        ("0h", None),
        ("24", None),
        ("24h ", None),
        ("٣h", None),
    ],
)
def test_a_window_is_read_within_its_bounds(text: str, seconds: int | None) -> None:
    assert window_seconds(text) == seconds


@pytest.mark.parametrize(
    "text", [UUID, UUID.upper(), UUID.replace("-", ""), f"file-{UUID}", f"batch_{UUID}"]
)
def test_all_spellings_of_an_id_mean_the_same(text: str) -> None:
    assert uuid_in(text) == UUID


@pytest.mark.parametrize("text", ["", "x", UUID[:-1], f"{UUID}\n", f"{UUID[:8]}{UUID[9:]}"])
def test_half_an_id_is_none(text: str) -> None:
    assert uuid_in(text) is None


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ([], {}),
        ([("page", "1"), ("status", "QUEUED"), ("order_by", "created")], {}),
        ([("a", "1"), ("b c", "x&y")], {"a": "1", "b c": "x&y"}),
        ([("a", "1"), ("a", "1")], {"a": "1"}),
        ([("a", "1"), ("a", "2")], None),
        ([("metadata[a]", "1"), ("metadata[b[c]]", "2")], {"a": "1", "b[c]": "2"}),
        ([("metadata", '{"a":"1","n":2}')], {"a": "1", "n": "2"}),
        ([("metadata", "text")], {"metadata": "text"}),
        ([("metadata", "[1]")], {"metadata": "[1]"}),
        ([("metadata[]", "1")], {"metadata[]": "1"}),
        ([("metadata", r'{"a":"\ud83d"}')], None),
        ([("metadata", r'{"a\udc00":"b"}')], None),
        ([("metadata", r'{"a":"\ud83d\ude00"}')], {"a": "\U0001f600"}),
        ([("metadata", r'{"a":"\u0000"}')], None),
        ([(f"k{n}", "v") for n in range(256)], {f"k{n}": "v" for n in range(256)}),
        ([(f"k{n}", "v") for n in range(257)], None),
    ],
)
def test_parameters_that_are_not_known_are_metadata(
    query: list[tuple[str, str]], wanted: dict[str, str] | None
) -> None:
    assert metadata_filters(query) == wanted


@pytest.mark.parametrize("ids", ['"custom_id":"a",', '"custom_id":"a","custom_id":"b",'])
def test_a_request_that_is_nested_too_deeply_is_told(ids: str) -> None:
    raw = f'[{{{ids}"body":{{"x":{"[" * 50_000}{"]" * 50_000}}}}}]'
    body = JsonObject({"requests": msgspec.Raw(raw)}, {"endpoint": "/v1/ocr", "model": "m"})
    with pytest.raises(InvalidFields) as caught:
        read_order(body, {}, Caller(DEFAULT_TENANT), ApiRules())
    assert caught.value.details[0].loc == ["body", "requests"]


def test_half_a_pair_is_replaced_in_a_body_and_told_from_what_was_sent() -> None:
    sent = (
        rb'{"endpoint":"/v1/ocr","model":"m","requests":[{"custom_id":"\ufffd\ud83d\ude00",'
        rb'"body":{"a":"cut \ud83d","b":"\\ud83d\ufffd"}}]}'
    )
    body = parse(sent, CreateBatchJob.model_fields, "requests", b"")
    [line] = read_order(body, {}, Caller(DEFAULT_TENANT), ApiRules()).requests
    assert json.loads(line) == {
        "custom_id": "\ufffd\U0001f600",
        "body": {"a": "cut \ufffd", "b": "\\ud83d\ufffd"},
    }


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("1970-01-02", 86400.0),
        ("1970-01-01T00:00:01", 1.0),
        ("1970-01-01T00:00:01.500Z", 1.5),
        ("1970-01-01T02:00:01+02:00", 1.0),
        ("1970-01-01T02:00:01 02:00", 1.0),
    ],
)
def test_a_time_without_zone_is_utc(text: str, at: float) -> None:
    assert moment(text) == at


def test_errors_of_one_kind_are_counted_together() -> None:
    errors = [LineError("a", "A.", n, "x") for n in (3, 4)] + [LineError("a", "A.", 5, "y")]
    found = [(each.message, each.count) for each in job_errors(errors, 3)]
    assert found == [("Line 3: A. [a]", 2), ("Line 5: A. [a]", 1)]


@pytest.mark.parametrize(
    ("name", "plain"),
    [("a/b\\c", "c"), (" x ", "x"), ("a\u2028b", "a_b"), ("...", "upload"), ("/", "upload")],
)
def test_a_filename_is_plain(name: str, plain: str) -> None:
    assert plain_filename(name) == plain
