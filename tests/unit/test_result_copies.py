"""The result line of a duplicate: its own id and custom_id, and the answer of its original."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchmill.dialects.formats import FORMATS
from batchmill.jsontext import json_string
from batchmill.model import Dialect, Fate, Job, JobId, JobState, Outcome, TenantId

texts = st.text() | st.sampled_from([',"response":', '","response":null,', "\\"])
bodies = texts.map(json_string)
outcomes = st.builds(Outcome, st.just(Fate.SUCCEEDED), st.just(200), bodies, texts) | st.builds(
    Outcome,
    st.just(Fate.FAILED),
    st.sampled_from([400, 500]),
    st.none() | bodies,
    st.none() | texts,
    code=st.none() | texts,
    message=st.none() | texts,
)


def job(dialect: Dialect) -> Job:
    return Job(JobId("j"), TenantId("t"), dialect, "/", JobState.RUNNING, 0.0, 0.0, 9)


@given(st.sampled_from(Dialect), outcomes, texts, texts)
def test_a_copy_is_the_line_that_the_outcome_would_have_made(
    dialect: Dialect, outcome: Outcome, one: str, other: str
) -> None:
    lines, of = FORMATS[dialect], job(dialect)
    original = lines.result(of, 3, json_string(one), outcome)
    copy = lines.copied(of, 8, json_string(other), original)
    assert copy == lines.result(of, 8, json_string(other), outcome)


@pytest.mark.parametrize("dialect", Dialect)
def test_a_result_that_was_lost_is_not_copied(dialect: Dialect) -> None:
    lost = Outcome(Fate.FAILED, code="internal_error", message="lost")
    line = FORMATS[dialect].result(job(dialect), 0, b'"a"', lost)
    assert FORMATS[dialect].copied(job(dialect), 1, b'"b"', line) is None
    said = json.dumps({"code": "internal_error"}, separators=(",", ":")).encode()
    answered = FORMATS[dialect].result(job(dialect), 0, b'"a"', Outcome(Fate.SUCCEEDED, 200, said))
    assert FORMATS[dialect].copied(job(dialect), 1, b'"b"', answered) is not None
