"""Prompts over rows, and what counts as an answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel

from batchmill.client import objects
from batchmill.client.errors import Unreadable
from batchmill.client.mapping import Task, answer_to, response_format


class Mood(BaseModel):
    mood: str
    sure: bool = True


def result(text: str | None, reason: str = "stop", **message: Any) -> objects.Result:
    choice = {"message": {"content": text, **message}, "finish_reason": reason}
    body = {"choices": [choice], "usage": {"total_tokens": 3}}
    shown = {"custom_id": "0", "response": {"status_code": 200, "body": body}, "error": None}
    return objects.result(json.dumps(shown).encode())


def test_a_prompt_takes_a_rows_columns() -> None:
    row = {"text": "Good {{x}}", "n": 3, "none": None, "list": [1]}
    [line] = Task("{{ text }}|{{n}}|{{none}}|{{list}}").lines([row])
    assert line["body"]["messages"][0]["content"] == "Good {{x}}|3||[1]"


def test_a_column_that_is_not_there_is_named() -> None:
    with pytest.raises(Unreadable, match=r"'txt'.*text"):
        list(Task("{{txt}}").lines([{"text": ""}]))


def test_each_row_becomes_a_line_with_its_number() -> None:
    task = Task("Is {{a}} good?", Mood, "Be brief.", {"temperature": 0})
    first, second = task.lines([{"a": 1}, {"a": 2}])
    assert [first["custom_id"], second["custom_id"]] == ["0", "1"]
    assert [each["role"] for each in first["body"]["messages"]] == ["system", "user"]
    assert first["body"]["temperature"] == 0
    assert first["body"]["response_format"] == response_format(Mood)


@pytest.mark.parametrize(
    ("came", "value", "error"),
    [
        (result('{"mood":"glad"}'), Mood(mood="glad"), None),
        (result('{"mood":3}'), None, "invalid_schema: mood: Input should be a valid string"),
        (result("glad"), None, "invalid_schema: Invalid JSON"),
        (result('{"mood"', "length"), None, "truncated"),
        (result(""), None, "empty"),
        (result(None, refusal="I will not."), None, "refusal: I will not."),
    ],
)
def test_only_an_answer_in_the_schema_has_a_value(
    came: objects.Result, value: Any, error: str | None
) -> None:
    answer = answer_to({}, came, Mood)
    assert answer.value == value
    assert answer.ok is (error is None)
    assert (answer.error or "").startswith(error or "")


def test_without_a_schema_the_value_is_the_text() -> None:
    assert answer_to({"a": 1}, result("glad"), None).value == "glad"


def of_body(body: dict[str, Any]) -> objects.Result:
    shown = {"custom_id": "0", "response": {"status_code": 200, "body": body}, "error": None}
    return objects.result(json.dumps(shown).encode())


THOUGHT = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
PIECES: Any = [THOUGHT, {"type": "text", "text": "gl"}, {"type": "text", "text": "ad"}]
MESSAGE = {"type": "message", "content": [{"type": "output_text", "text": "glad"}]}
REASONED = {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "hm"}]}
DECLINED = {"type": "message", "content": [{"type": "refusal", "refusal": "No."}]}
FILTERED = {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}


@pytest.mark.parametrize(
    ("came", "text", "error"),
    [
        (result(PIECES), "glad", None),
        (of_body({"output": [REASONED, MESSAGE], "status": "completed"}), "glad", None),
        (of_body({"choices": [{"text": "glad", "finish_reason": "stop"}]}), "glad", None),
        (result("gl", "model_length"), "gl", "truncated"),
        (result("gl", "content_filter"), "gl", "refusal"),
        (result(" \n"), " \n", "empty"),
        (of_body({"output": [MESSAGE], "status": "incomplete"}), "glad", "truncated"),
        (of_body({"output": [MESSAGE], **FILTERED}), "glad", "refusal"),
        (of_body({"output": [DECLINED], "status": "completed"}), "", "refusal: No."),
    ],
)
def test_answers_of_every_form_are_read_and_judged(
    came: objects.Result, text: str, error: str | None
) -> None:
    answer = answer_to({}, came, None)
    assert (answer.text, came.text) == (text, text)
    assert answer.value == (None if error else text)
    assert (answer.error or "").startswith(error or "")
    assert answer.ok is (error is None)


def test_a_failed_line_has_its_reason() -> None:
    shown = {"custom_id": "0", "response": None, "error": {"code": "timeout", "message": "late"}}
    answer = answer_to({}, objects.result(json.dumps(shown).encode()), None)
    assert (answer.value, answer.error) == (None, "timeout: late")


@pytest.mark.parametrize("number", ["1e999", "9" * 5000])
def test_a_number_that_python_cannot_hold_spoils_no_result(number: str) -> None:
    choices = b'[{"message":{"content":"fine"},"finish_reason":"stop"}]'
    body = b'{"choices":%b,"x":%b}' % (choices, number.encode())
    line = b'{"custom_id":"0","response":{"status_code":200,"body":%b},"error":null}' % body
    read = objects.result(line)
    assert (read.text, read.usage, read.failure) == ("fine", None, None)
    assert read.body["x"] == number
    assert answer_to({}, read, None).value == "fine"


def test_a_schema_of_another_kind_is_refused_before_anything_is_sent() -> None:
    for schema in (dict, list[int], "{}"):
        with pytest.raises(TypeError, match="pydantic model, or a JSON Schema"):
            list(Task("{{a}}", schema).lines([{"a": 1}]))  # type: ignore[arg-type]
