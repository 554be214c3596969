from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from batchmill.errors import UserError
from batchmill.tables.requests import Asking
from batchmill.template import Template


def filled(source: str, **row: Any) -> str:
    return Template.parse(source).fill(row)


@pytest.mark.parametrize(
    ("source", "row", "text"),
    [
        ("Say {{a}}!", {"a": "b"}, "Say b!"),
        ("{{ a }}{{b}}", {"a": 1, "b": True}, "1true"),
        ("{{the column}}", {"the column": {"x": [1.5]}}, '{"x":[1.5]}'),
        ("{{a}}.", {"a": None}, "."),
        ("{{a}}.", {}, "."),
        ("{{a}}", {"a": datetime(2026, 1, 2, tzinfo=UTC)}, "2026-01-02T00:00:00+00:00"),
        ("{{a}}", {"a": "{{b}}"}, "{{b}}"),
        (r"\{{a}} { a } }}", {}, "{{a}} { a } }}"),
        ("", {}, ""),
    ],
)
def test_a_template_is_filled_with_the_values_of_a_row_and_nothing_else(
    source: str, row: dict[str, Any], text: str
) -> None:
    assert filled(source, **row) == text


def test_an_unknown_column_is_told_with_those_there_are() -> None:
    complaint = Template.parse("{{a}}{{c}}").complaint(("a", "b"))
    assert complaint == "names the column 'c', which is not there. The columns are: a, b."
    assert Template.parse("{{a}}").complaint(("a", "b")) is None


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        (
            "/v1/chat/completions",
            {
                "messages": [
                    {"role": "system", "content": "S x"},
                    {"role": "user", "content": "P x"},
                ]
            },
        ),
        ("/v1/responses", {"instructions": "S x", "input": "P x"}),
    ],
)
def test_a_row_becomes_a_request_with_its_number(endpoint: str, body: dict[str, Any]) -> None:
    asking = Asking(endpoint, Template.parse("P {{a}}"), Template.parse("S {{a}}"), {"top_p": 0.5})
    line = json.loads(asking.line(7, {"a": "x"}))
    assert line == {"custom_id": "7", "body": {**body, "top_p": 0.5}}


def test_embeddings_take_the_prompt_as_their_input() -> None:
    line = Asking("/v1/embeddings", Template.parse("{{a}}")).line(1, {"a": "x"})
    assert json.loads(line)["body"] == {"input": "x"}


def test_a_schema_is_asked_for_in_the_words_of_the_endpoint() -> None:
    asking = Asking("/v1/chat/completions", Template.parse("p"), schema={"type": "object"})
    asked = json.loads(asking.line(1, {}))["body"]["response_format"]
    assert asked["json_schema"]["schema"] == {"type": "object"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"endpoint": "/v1/ocr"},
        {"endpoint": "/v1/embeddings", "system": Template.parse("s")},
        {"endpoint": "/v1/embeddings", "schema": {"type": "object"}},
    ],
)
def test_what_an_endpoint_cannot_take_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        Asking(prompt=Template.parse("p"), **wrong)


def test_a_missing_value_is_an_error_where_it_must_be_there() -> None:
    asking = Asking("/v1/embeddings", Template.parse("{{a}}"), refuses_missing=True)
    with pytest.raises(UserError, match="Row 3 has no value in the column 'a'"):
        asking.line(3, {"a": ""})
