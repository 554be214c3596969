from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchmill.calls import Answered, Broken, Overloaded, Refused, Reply
from batchmill.engines.faults import fault_of
from batchmill.engines.replies import classify, error_body, retry_after_seconds, usage_of
from batchmill.jsontext import is_json
from batchmill.usage import Usage

NOW = 1_800_000_000.0


def reply(status: int, raw: bytes, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return classify(status, named.get, raw, now=NOW)


# answered


@pytest.mark.parametrize("status", [200, 201, 202, 299])
def test_2xx_with_one_json_value_is_answered(status: int) -> None:
    got = reply(status, b'{"a":\n1}\n', x_request_id="r1")
    assert got == Answered(status, b'{"a": 1}', "r1", Usage(), 8)


@pytest.mark.parametrize("raw", [b"[1]", b"null", b'"text"', b"1e400", b'{"usage":null}'])
def test_any_json_value_is_an_answer(raw: bytes) -> None:
    got = reply(200, raw)
    assert isinstance(got, Answered)
    assert got.body == raw
    assert got.usage == Usage()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" \n",
        b"<html>",
        b"{}{}",
        b"data: {}\n\ndata: [DONE]\n\n",
        b'{"a":"\xff"}',
        b'{"a":NaN}',
        b'{"a":1',
        b"[" * 100_000,
    ],
)
def test_2xx_without_json_is_broken_and_keeps_its_text(raw: bytes) -> None:
    got = reply(200, raw)
    assert isinstance(got, Broken)
    assert (got.kind, got.status) == ("not_json", 200)
    assert got.body is not None
    assert json.loads(got.body) == raw.decode(errors="replace")[: 64 * 1024]


def test_text_beyond_ascii_is_escaped_and_counted_as_escaped() -> None:
    got = reply(200, '{"t":"é😀\u2028"}'.encode())
    assert isinstance(got, Answered)
    assert got.body == rb'{"t":"\u00e9\ud83d\ude00\u2028"}'
    assert got.held_bytes == len(got.body)


def test_half_an_emoji_does_not_cost_the_answer() -> None:
    got = reply(200, rb'{"t":"cut \ud83d","usage":{"prompt_tokens":3}}')
    assert isinstance(got, Answered)
    assert json.loads(got.body)["t"] == "cut \ufffd"
    assert got.usage.input_tokens == 3


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ({"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}, (12, 5, 0, 0)),
        ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 4}}, (9, 0, 4, 0)),
        (
            {
                "input_tokens": 7,
                "input_tokens_details": {"cached_tokens": 3},
                "output_tokens": 6,
                "output_tokens_details": {"reasoning_tokens": 2},
            },
            (7, 6, 3, 2),
        ),
        (
            {"completion_tokens": 8, "completion_tokens_details": {"reasoning_tokens": 5}},
            (0, 8, 0, 5),
        ),
        (
            {"prompt_tokens": 3, "prompt_tokens_details": None, "prompt_audio_seconds": 1},
            (3, 0, 0, 0),
        ),
        ({"prompt_tokens": "12", "completion_tokens": 5}, (0, 5, 0, 0)),
        ({"prompt_tokens": 12.0, "completion_tokens": 2.5}, (12, 0, 0, 0)),
        ({"prompt_tokens": -1, "completion_tokens": True}, (0, 0, 0, 0)),
        ({"prompt_tokens": 10**30, "completion_tokens": 2**62}, (0, 0, 0, 0)),
        ({"prompt_tokens": None, "prompt_tokens_details": [1]}, (0, 0, 0, 0)),
        ({"prompt_tokens": 4, "prompt_tokens_details": {"cached_tokens": "x"}}, (4, 0, 0, 0)),
        ("lots", (0, 0, 0, 0)),
        ([1, 2], (0, 0, 0, 0)),
    ],
)
def test_usage_is_read_in_every_shape_and_lies_count_zero(
    usage: object, counts: tuple[int, int, int, int]
) -> None:
    body = json.dumps({"choices": [], "usage": usage}).encode()
    assert usage_of(body) == Usage(*counts)
    got = reply(200, body)
    assert isinstance(got, Answered)
    assert got.usage == Usage(*counts)


def test_an_ocr_answer_has_no_tokens() -> None:
    assert usage_of(b'{"pages":[],"usage_info":{"pages_processed":3}}') == Usage()


@given(st.binary(max_size=200))
def test_no_bytes_make_it_fail(raw: bytes) -> None:
    usage_of(raw)
    assert is_json(error_body(raw))
    for status in (200, 400, 429, 500):
        got = reply(status, raw)
        body = got.body if not isinstance(got, Broken) else got.body or b""
        assert is_json(body)
        assert body.isascii()
        assert b"\n" not in body


# overloaded


@pytest.mark.parametrize("status", [429, 503])
def test_429_and_503_are_overload(status: int) -> None:
    assert reply(status, b"busy") == Overloaded(status, b'"busy"', None)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "7"}, 7.0),
        ({"retry_after": "0.5"}, 0.5),
        ({"retry_after_ms": "250", "retry_after": "9"}, 0.25),
        ({"retry_after_ms": "soon", "retry_after": "9"}, 9.0),
        ({"retry_after": "Fri, 15 Jan 2027 08:00:30 GMT"}, 30.0),
        ({"retry_after": "Fri, 15 Jan 2027 07:00:00 GMT"}, 0.0),
        ({"retry_after": "-5"}, 0.0),
        ({"retry_after": "1e300"}, 86_400.0),
        ({"retry_after": "inf"}, None),
        ({"retry_after": "nan"}, None),
        ({"retry_after": "later"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_read_in_every_form(headers: dict[str, str], seconds: float | None) -> None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    assert retry_after_seconds(named.get, now=NOW) == seconds


# refused

SHAPES = [
    (400, {"error": {"code": 400, "message": "bad", "type": "invalid"}}, ("bad", None, "invalid")),
    (
        404,
        {"error": {"message": "no model", "type": "NotFoundError", "param": "model", "code": 404}},
        ("no model", "model", "NotFoundError"),
    ),
    (
        400,
        {"error": {"message": "long", "type": "x", "param": None, "code": "context_length"}},
        ("long", None, "context_length"),
    ),
    (
        400,
        {"object": "error", "message": "m", "type": "BadRequestError", "param": "n", "code": 400},
        ("m", "n", "BadRequestError"),
    ),
    (
        422,
        {"detail": [{"type": "missing", "loc": ["body", "messages"], "msg": "Field required"}]},
        ("messages: Field required", "messages", "missing"),
    ),
    (
        422,
        {"detail": [{"loc": ["body", "messages", 0, "role"], "msg": "a"}, {"msg": "b"}]},
        ("messages.0.role: a (and 1 more)", "messages.0.role", None),
    ),
    (
        422,
        {
            "object": "error",
            "message": {"detail": [{"type": "missing", "loc": ["body", "x"], "msg": "gone"}]},
            "type": "invalid_request_error",
            "param": None,
            "code": None,
        },
        ("x: gone", "x", "missing"),
    ),
    (404, {"detail": "Not Found"}, ("Not Found", None, None)),
    (401, {"message": "Unauthorized", "request_id": "1"}, ("Unauthorized", None, None)),
    (400, {"error": "plain"}, ("plain", None, None)),
    (400, {"error": "plain", "code": "why", "param": "p"}, ("plain", "p", "why")),
    (400, "a string", ("a string", None, None)),
]


@pytest.mark.parametrize(("status", "body", "says"), SHAPES)
def test_an_error_body_of_any_shape_is_understood(
    status: int, body: object, says: tuple[str, str | None, str | None]
) -> None:
    raw = json.dumps(body).encode()
    got = reply(status, raw, x_request_id="r9")
    assert isinstance(got, Refused)
    assert (got.message, got.param, got.code) == says
    assert json.loads(got.body) == body
    assert (got.status, got.request_id) == (status, "r9")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"Internal Server Error", "Internal Server Error"),
        (b"<html><head><title>502 Bad\nGateway</title></head>", "502 Bad Gateway"),
        (b"<p>oh <b>no</b></p>", "oh no"),
        (b"", "The engine answered HTTP 500 without a word."),
        (b"{}", "{}"),
        (b'{"error":{}}', '{"error":{}}'),
        (b'{"error":{"message":null}}', '{"error":{"message":null}}'),
        (b"\xff\xfe", "\ufffd\ufffd"),
    ],
)
def test_what_is_no_error_object_is_quoted(raw: bytes, message: str) -> None:
    got = reply(500, raw)
    assert isinstance(got, Refused)
    assert got.message == message


def test_long_texts_are_cut() -> None:
    got = reply(500, b"word " * 100_000)
    assert isinstance(got, Refused)
    assert len(got.message) == 1_000
    assert len(got.body) == 64 * 1024 + 2
    huge = json.dumps({"detail": "x" * 2_000_000}).encode()
    assert len(error_body(huge)) < 70_000 * 2


def test_deeply_nested_errors_are_text() -> None:
    nested = b'{"error":' * 900 + b'"deep"' + b"}" * 900
    assert fault_of(400, nested).message


@pytest.mark.parametrize("status", [100, 101, 301, 307, 400, 402, 404, 413, 418, 500, 502, 599])
def test_every_other_status_is_refused(status: int) -> None:
    assert isinstance(reply(status, b"{}"), Refused)
