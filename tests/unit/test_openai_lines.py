from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchmill.dialects.openai.lines import OpenAILines
from batchmill.model import DEFAULT_TENANT, Dialect, Fate, Job, JobId, JobState, Outcome

JOB = Job(
    id=JobId("4017dc9f-b629-42f4-9700-8c681b9e7f0f"),
    tenant=DEFAULT_TENANT,
    dialect=Dialect.OPENAI,
    endpoint="/v1/chat/completions",
    state=JobState.RUNNING,
    created_at=0.0,
    deadline=1.0,
    total=3,
)


def written(outcome: Outcome, line: int = 0, custom_id: bytes = b'"a"') -> dict[str, Any]:
    raw = OpenAILines().result(JOB, line, custom_id, outcome)
    assert raw.isascii()
    assert raw.endswith(b"}\n")
    assert raw.count(b"\n") == 1
    return dict(json.loads(raw))


def test_a_success_has_the_body_as_it_came_and_no_error() -> None:
    outcome = Outcome(Fate.SUCCEEDED, 200, b'{"n": 1.0 }', "req-7")
    raw = OpenAILines().result(JOB, 41, b'"a\\u00e9"', outcome)
    response = b'"response":{"status_code":200,"request_id":"req-7","body":{"n": 1.0 }}'
    assert response + b',"error":null}\n' in raw
    line = json.loads(raw)
    assert line["custom_id"] == "aé"
    assert re.fullmatch(r"batch_req_[0-9a-f]{32}", line["id"])


def test_a_line_written_again_has_the_same_id_and_no_other_has_it() -> None:
    ids = [written(Outcome(Fate.CANCELLED), n)["id"] for n in (0, 1, 2, 0)]
    assert ids[0] == ids[3]
    assert len(set(ids)) == 3


def test_what_an_engine_refused_is_a_response_without_an_error() -> None:
    body = b'{"error":{"message":"no","code":"bad"}}'
    line = written(Outcome(Fate.FAILED, 422, body, "r1", code="bad", message="no"))
    assert line["error"] is None
    assert line["response"] == {
        "status_code": 422,
        "request_id": "r1",
        "body": {"error": {"message": "no", "code": "bad"}},
    }


@pytest.mark.parametrize(
    ("status", "kind"), [(400, "invalid_request_error"), (500, "server_error")]
)
def test_a_refusal_without_a_body_gets_one_that_says_what_is_known(status: int, kind: str) -> None:
    line = written(Outcome(Fate.FAILED, status, None, code="c", message="Too\u2028long."))
    assert line["error"] is None
    assert line["response"]["status_code"] == status
    assert line["response"]["body"] == {
        "error": {"message": "Too\u2028long.", "type": kind, "param": None, "code": "c"}
    }


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (Outcome(Fate.EXPIRED), "batch_expired"),
        (Outcome(Fate.EXPIRED, 429, b"{}", code="rate_limited"), "batch_expired"),
        (Outcome(Fate.CANCELLED), "batch_cancelled"),
        (Outcome(Fate.FAILED, code="request_timeout", message="late"), "request_timeout"),
        (Outcome(Fate.FAILED, 200, code="reply_too_large", message="big"), "reply_too_large"),
        (Outcome(Fate.FAILED), "request_failed"),
    ],
)
def test_a_line_without_an_http_error_has_an_error_and_no_response(
    outcome: Outcome, code: str
) -> None:
    line = written(outcome)
    assert line["response"] is None
    assert set(line["error"]) == {"code", "message"}
    assert line["error"]["code"] == code
    assert line["error"]["message"] == (outcome.message or line["error"]["message"])


def test_the_reasons_of_unrun_lines_are_openais_own_words() -> None:
    told = [written(Outcome(fate))["error"]["message"] for fate in (Fate.EXPIRED, Fate.CANCELLED)]
    assert told == [
        "This request could not be executed before the completion window expired.",
        "This request was not executed because the batch was cancelled.",
    ]


@given(message=st.text(), code=st.text(), request_id=st.text(st.characters(codec="utf-8")))
def test_any_text_stays_what_it_is(message: str, code: str, request_id: str) -> None:
    line = written(Outcome(Fate.FAILED, code=code, message=message), custom_id=b"null")
    assert line["custom_id"] is None
    assert line["error"]["message"] == (message or "The request failed.")
    assert line["error"]["code"] == (code or "request_failed")
    line = written(Outcome(Fate.SUCCEEDED, 200, b"{}", request_id))
    assert line["response"]["request_id"] == request_id
