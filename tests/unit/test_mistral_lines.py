from __future__ import annotations

import json
import re
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchmill.dialects.mistral.lines import MistralLines
from batchmill.model import DEFAULT_TENANT, Dialect, Fate, Job, JobId, JobState, Outcome

JOB = Job(
    id=JobId("4017dc9f-b629-42f4-9700-8c681b9e7f0f"),
    tenant=DEFAULT_TENANT,
    dialect=Dialect.MISTRAL,
    endpoint="/v1/chat/completions",
    state=JobState.RUNNING,
    created_at=0.0,
    deadline=1.0,
    total=3,
)


def written(outcome: Outcome, line: int = 0, custom_id: bytes = b'"a"') -> dict[str, Any]:
    raw = MistralLines().result(JOB, line, custom_id, outcome)
    assert raw.isascii()
    assert raw.endswith(b"}\n")
    assert raw.count(b"\n") == 1
    return dict(json.loads(raw))


def test_a_success_has_the_body_as_it_came_and_no_error() -> None:
    raw = MistralLines().result(
        JOB, 41, b'"a\\u00e9"', Outcome(Fate.SUCCEEDED, 200, b'{"n": 1.0 }')
    )
    assert b'"response":{"status_code":200,"body":{"n": 1.0 }},"error":null}\n' in raw
    line = json.loads(raw)
    assert line["custom_id"] == "aé"
    head, number, rest = re.fullmatch(r"batch-([0-9a-f]{8})-(\d+)-(.*)", line["id"]).groups()
    assert (head, number) == ("4017dc9f", "42")
    assert str(uuid.UUID(rest)) == rest


def test_a_line_written_again_has_the_same_id_and_no_other_has_it() -> None:
    ids = [written(Outcome(Fate.CANCELLED), n)["id"] for n in (0, 1, 2, 0)]
    assert ids[0] == ids[3]
    assert len(set(ids)) == 3


@pytest.mark.parametrize(
    ("outcome", "response", "error"),
    [
        (
            Outcome(Fate.FAILED, 422, b'{"detail":"x"}', code="bad", message="No \u2028é😀"),
            {"status_code": 422, "body": {"detail": "x"}},
            ("No \u2028é😀", "invalid_request_error", "bad", 422),
        ),
        (
            Outcome(Fate.FAILED, 500, None),
            {"status_code": 500, "body": None},
            ("The request failed.", "server_error", "request_failed", 500),
        ),
        (
            Outcome(Fate.FAILED, 429, b'"slow"', message="Slow."),
            {"status_code": 429, "body": "slow"},
            ("Slow.", "rate_limit_error", "request_failed", 429),
        ),
        (
            Outcome(Fate.FAILED, 401, b"{}", message="Key."),
            {"status_code": 401, "body": {}},
            ("Key.", "authentication_error", "request_failed", 401),
        ),
        (
            Outcome(Fate.FAILED, code="request_timeout", message="Late."),
            None,
            ("Late.", "server_error", "request_timeout", None),
        ),
        (
            Outcome(Fate.FAILED, code="duplicate_custom_id", message="Twice."),
            None,
            ("Twice.", "invalid_request_error", "duplicate_custom_id", None),
        ),
        (
            Outcome(Fate.EXPIRED, 503, b'"busy"', code="overloaded"),
            {"status_code": 503, "body": "busy"},
            (
                "The job's time ended before this request was answered.",
                "timeout_exceeded",
                "timeout_exceeded",
                503,
            ),
        ),
        (
            Outcome(Fate.CANCELLED),
            None,
            (
                "The job was cancelled before this request was answered.",
                "cancelled",
                "cancelled",
                None,
            ),
        ),
    ],
)
def test_an_error_is_always_an_object_and_the_response_as_answered(
    outcome: Outcome, response: Any, error: tuple[Any, ...]
) -> None:
    line = written(outcome)
    assert line["response"] == response
    assert line["error"] == dict(
        zip(("message", "type", "code", "status_code"), error, strict=True)
    )


def test_a_line_without_an_id_says_null() -> None:
    assert written(Outcome(Fate.FAILED, message="no"), 0, b"null")["custom_id"] is None


@given(st.text(), st.text(), st.integers(0, 10**6))
def test_any_message_and_code_make_one_line_of_ascii(message: str, code: str, line: int) -> None:
    found = written(Outcome(Fate.FAILED, message=message, code=code), line)
    clean = message.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert found["error"]["message"] == (clean or "The request failed.")
