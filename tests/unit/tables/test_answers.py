from __future__ import annotations

import json
import struct
from base64 import b64encode
from typing import Any

import pytest

from batchmill.errors import UserError
from batchmill.tables.answers import Answer, Counts, Reader, Standing, check_by
from batchmill.tables.result import added_to, values_of

CHAT = "/v1/chat/completions"


def line(body: Any, status: int = 200) -> bytes:
    response = {"status_code": status, "body": body}
    return json.dumps({"id": "x", "custom_id": "1", "response": response, "error": None}).encode()


def chat(content: Any, finish: str = "stop", **more: Any) -> bytes:
    message = {"role": "assistant", "content": content, **more}
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    return line({"choices": [{"message": message, "finish_reason": finish}], "usage": usage})


def test_an_answer_comes_with_its_text_and_its_tokens() -> None:
    found = Reader(CHAT).read(chat("fine"), 1)
    assert found == Answer(1, Standing.OK, "fine", None, Counts(3, 4, 7))


@pytest.mark.parametrize(
    ("result", "status", "response"),
    [
        (chat("cut", "length"), Standing.TRUNCATED, "cut"),
        (chat("", "stop"), Standing.EMPTY, ""),
        (chat(None), Standing.EMPTY, None),
        (chat("  \n"), Standing.EMPTY, "  \n"),
        (chat(None, refusal="I cannot"), Standing.REFUSAL, "I cannot"),
        (chat("x", "content_filter"), Standing.REFUSAL, "x"),
        (chat([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), Standing.OK, "ab"),
    ],
)
def test_an_answer_that_is_none_is_told_from_one_that_is(
    result: bytes, status: Standing, response: str | None
) -> None:
    found = Reader(CHAT).read(result, 1)
    assert (found.status, found.response) == (status, response)


@pytest.mark.parametrize(
    ("endpoint", "body", "response"),
    [
        ("/v1/completions", {"choices": [{"text": "t", "finish_reason": "stop"}]}, "t"),
        ("/v1/embeddings", {"data": [{"embedding": [0.5, 1.0]}]}, [0.5, 1.0]),
        ("/v1/moderations", {"results": [{"flagged": True}]}, '[{"flagged":true}]'),
        (
            "/v1/responses",
            {
                "status": "completed",
                "output": [{"content": [{"type": "output_text", "text": "o"}]}],
            },
            "o",
        ),
    ],
)
def test_each_endpoint_has_its_answer_somewhere(endpoint: str, body: Any, response: Any) -> None:
    text = json.dumps(body, separators=(",", ":")).encode()
    raw = b'{"custom_id":"1","response":{"status_code":200,"body":%b},"error":null}' % text
    assert Reader(endpoint).read(raw, 1).response == response


def test_a_failed_line_says_why_and_has_no_answer() -> None:
    error = {"message": "too long", "type": "x", "code": "context_length", "status_code": 400}
    result = {"custom_id": "1", "response": {"status_code": 400, "body": {}}, "error": error}
    found = Reader(CHAT).read(json.dumps(result).encode(), 1)
    assert (found.status, found.response) == (Standing.FAILED, None)
    assert found.error == "context_length: too long"


def test_answers_are_held_against_their_schema() -> None:
    check = check_by(
        {"type": "object", "properties": {"label": {"enum": ["a", "b"]}}, "required": ["label"]}
    )
    assert check('{"label": "a"}') is None
    assert check("nonsense") == "the answer is not JSON"
    assert "label" in (check('{"label": "c"}') or "")
    assert check("{}") is not None
    assert Reader(CHAT, check).read(chat('{"label":"z"}'), 1).status is Standing.INVALID_SCHEMA


def test_a_schema_that_is_none_is_refused_before_anything_is_asked() -> None:
    with pytest.raises(UserError, match="no JSON Schema"):
        check_by({"type": "nonsense"})


def test_added_columns_take_a_prefix_where_the_table_has_one_of_their_names() -> None:
    assert [each.name for each in added_to(("id", "text"))] == [
        "response",
        "status",
        "error",
        "usage",
    ]
    added = added_to(("id", "status"))
    values = values_of(Answer(1, Standing.OK, "r", None, Counts(1, 2, 3)), added)
    assert values == {
        "batchmill_response": "r",
        "batchmill_status": "ok",
        "batchmill_error": None,
        "batchmill_usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    }


@pytest.mark.parametrize(
    ("columns", "first"),
    [
        (("batchmill_status",), "response"),
        (("status", "batchmill_response"), "batchmill_batchmill_response"),
    ],
)
def test_no_column_of_the_table_is_replaced(columns: tuple[str, ...], first: str) -> None:
    added = [each.name for each in added_to(columns)]
    assert added[0] == first
    assert not set(added) & set(columns)


@pytest.mark.parametrize("body", [[], {"choices": None}, "fine", {"choices": [{"message": 5}]}])
@pytest.mark.parametrize("check", [None, lambda _: None])
def test_an_answer_of_no_known_form_is_none(body: Any, check: Any) -> None:
    found = Reader(CHAT, check).read(line(body), 1)
    assert (found.status, found.error) == (Standing.EMPTY, "the answer is of no known form")
    assert json.loads(str(found.response)) == body


def test_embeddings_of_no_known_form_are_no_text_where_numbers_belong() -> None:
    found = Reader("/v1/embeddings").read(line([1]), 1)
    assert (found.status, found.response) == (Standing.EMPTY, None)


def test_where_any_json_is_an_answer_it_counts_as_one() -> None:
    found = Reader("/v1/moderations").read(line([1]), 1)
    assert (found.status, found.response) == (Standing.OK, "[1]")


ODD_NUMBERS = ["1e999", "9" * 5000, "-1e999", "123456789012345678901234567890"]


@pytest.mark.parametrize("number", ODD_NUMBERS)
@pytest.mark.parametrize(
    "body",
    [
        '{"choices":[{"message":{"content":"fine","x":N},"finish_reason":"stop"}]}',
        '{"x":[N],"choices":[{"message":{"content":"fine"},"finish_reason":"stop"}]}',
        '{"usage":{"x":N},"choices":[{"message":{"content":"fine"},"finish_reason":"stop"}]}',
    ],
)
def test_a_number_that_python_cannot_hold_spoils_no_answer(number: str, body: str) -> None:
    text = body.replace("N", number).encode()
    raw = b'{"custom_id":"1","response":{"status_code":200,"body":%b},"error":null}' % text
    found = Reader(CHAT).read(raw, 1)
    assert (found.status, found.response) == (Standing.OK, "fine")


@pytest.mark.parametrize("count", [True, 1.5, "3", [3], {"n": 3}, -1, 2**63, 10**30, None])
def test_what_is_no_count_of_tokens_is_none(count: Any) -> None:
    body = {
        "choices": [{"message": {"content": "fine"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": count, "completion_tokens": 2},
    }
    found = Reader(CHAT).read(line(body), 1)
    assert (found.response, found.usage) == ("fine", Counts(None, 2, None))


def embedding(text: str) -> Answer:
    body = b'{"data":[{"embedding":%b}]}' % text.encode()
    raw = b'{"custom_id":"1","response":{"status_code":200,"body":%b},"error":null}' % body
    return Reader("/v1/embeddings").read(raw, 1)


def test_embeddings_in_base64_are_numbers_too() -> None:
    packed = b64encode(struct.pack("<3f", 0.5, -1.0, 2.0)).decode()
    assert embedding(f'"{packed}"') == Answer(1, Standing.OK, [0.5, -1.0, 2.0])


@pytest.mark.parametrize(
    "text",
    [
        *('"no base64!"', '"AAA="', '""', "[]", "[null]", '["a"]', "[[1]]", "[1e999]", "{}", "5"),
        '"AADAfw=="',  # not a number, as a float of four bytes
    ],
)
def test_an_embedding_that_is_none_costs_its_own_row_alone(text: str) -> None:
    found = embedding(text)
    assert (found.status, found.response) == (Standing.EMPTY, None)
    assert "embedding" in str(found.error)
