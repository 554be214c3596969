"""Embeddings in one call: what may go together, and the answer taken apart."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchmill.calls import Answered
from batchmill.core.bundle import Piece, body_of, piece_of, shares, taken_apart
from batchmill.core.retry import History
from batchmill.core.trust import BELIEVED_REFUSALS, REFUSED_SECONDS, Trust
from batchmill.core.work import OpenLine
from batchmill.usage import Usage
from tests.unit.core.shards import open_shard

ROUTE = ("/v1/embeddings", "m")


def line(body: object, model: str = "m", **history: int) -> OpenLine:
    raw = json.dumps({"custom_id": "c", "body": body}).encode()
    its = History(**history) if history else None
    return OpenLine(open_shard(raw), 0, 0, 0, len(raw), model, history=its)


def piece(text: str) -> Piece:
    found = piece_of(line({"input": text}))
    assert found is not None
    return found


@pytest.mark.parametrize(
    "given", ["a", ["a"], ['é " \\u0000 😀'], "x" * 10_000], ids=lambda given: str(given)[:9]
)
def test_one_text_may_go_with_others(given: object) -> None:
    found = piece_of(line({"input": given, "dimensions": 3}))
    assert found is not None
    text = given if isinstance(given, str) else given[0]  # type: ignore[index]
    assert json.loads(body_of([found, found])) == {
        "input": [text, text],
        "dimensions": 3,
        "model": "m",
    }


@pytest.mark.parametrize(
    "body",
    [
        {"messages": []},
        *({"input": given} for given in (["a", "b"], [1, 2], [[1]], [], "", None, {"a": "b"}, 1)),
    ],
    ids=str,
)
def test_anything_else_goes_by_itself(body: object) -> None:
    assert piece_of(line(body)) is None


@pytest.mark.parametrize("history", [{"by_itself": 1}, {"waits": 4}, {"strikes": 1}], ids=str)
def test_what_came_to_nothing_before_goes_by_itself(history: dict[str, int]) -> None:
    assert piece_of(line({"input": "a"}, **history)) is None


def test_what_is_asked_for_otherwise_has_another_form() -> None:
    plain, small, base64 = (
        piece_of(line({"input": "a", **more}))
        for more in ({}, {"dimensions": 3}, {"encoding_format": "base64"})
    )
    assert plain is not None
    assert small is not None
    assert base64 is not None
    assert len({plain.form, small.form, base64.form}) == 3
    other = piece_of(line({"input": "b", "model": "theirs"}))
    assert other is not None
    assert other.form == plain.form, "the model that is sent counts, not what the body names"


@given(st.integers(0, 10**12), st.lists(st.integers(1, 10**6), min_size=1, max_size=64))
def test_shares_add_up_and_are_near_their_weights(amount: int, weights: list[int]) -> None:
    found = shares(amount, weights)
    assert sum(found) == amount
    for share, weight in zip(found, weights, strict=True):
        assert abs(share - amount * weight / sum(weights)) <= 1


def answered(*indexes: object, usage: object = None) -> Answered:
    data = [{"object": "embedding", "embedding": "AAAA", "index": index} for index in indexes]
    body = {"id": "x", "object": "list", "data": data, "model": "m", "usage": usage}
    return Answered(200, json.dumps(body).encode(), "r1", Usage(7, 0, 2))


def test_each_line_gets_the_answer_it_would_have_got_alone() -> None:
    usage = {"prompt_tokens": 7, "total_tokens": 7, "details": {"cached_tokens": 2}, "tier": "a"}
    outcomes = taken_apart(
        answered(1, 0, 2, usage=usage), [piece("a"), piece("bb"), piece("c" * 9)]
    )
    assert outcomes is not None
    bodies = [json.loads(outcome.body or b"") for outcome in outcomes]
    for body in bodies:
        assert list(body) == ["id", "object", "data", "model", "usage"]
        assert body["data"] == [{"object": "embedding", "embedding": "AAAA", "index": 0}]
        assert body["usage"]["tier"] == "a"
    assert sum(body["usage"]["total_tokens"] for body in bodies) == 7
    assert sum(body["usage"]["details"]["cached_tokens"] for body in bodies) == 2
    assert [body["usage"]["prompt_tokens"] for body in bodies] == [
        outcome.usage.input_tokens for outcome in outcomes
    ]
    assert sum(outcome.usage.cached_tokens for outcome in outcomes) == 2
    assert all(outcome.request_id == "r1" for outcome in outcomes)


def test_an_embedding_stays_as_its_bytes_were() -> None:
    body = b'{"data":[{"index":0,"embedding":[1.0e-7,0.10]},{"index":1,"embedding":[-0,2]}]}'
    outcomes = taken_apart(Answered(200, body), [piece("a"), piece("b")])
    assert outcomes is not None
    assert [outcome.body for outcome in outcomes] == [
        b'{"data":[{"index":0,"embedding":[1.0e-7,0.10]}]}',
        b'{"data":[{"index":0,"embedding":[-0,2]}]}',
    ]


@pytest.mark.parametrize(
    "reply",
    [answered(0), answered(0, 0), answered(0, 1, 2), answered(1, 2), answered(-1, 0)]
    + [answered("0", "1"), answered(None, 1), answered(0, 1.5)]
    + [Answered(200, body) for body in (b"[]", b"{}", b'{"data":1}', b'{"data":[1,2]}')],
    ids=lambda reply: reply.body.decode()[:200],
)
def test_an_answer_that_is_not_one_to_each_is_none(reply: Answered) -> None:
    assert taken_apart(reply, [piece("a"), piece("b")]) is None


@given(st.binary(max_size=60))
def test_no_answer_breaks_it(body: bytes) -> None:
    try:
        msgspec.json.decode(body)
    except ValueError:
        return
    taken_apart(Answered(200, body), [piece("a"), piece("b")])


def test_three_refusals_on_end_are_believed_for_an_hour() -> None:
    trust = Trust()
    said = [trust.refused(ROUTE, 0.0, is_certain=False) for _ in range(BELIEVED_REFUSALS)]
    assert said == [False, False, True]
    assert not trust.may_ask(ROUTE, REFUSED_SECONDS - 1)
    assert trust.may_ask(("/v1/embeddings", "other"), 0.0)
    assert trust.may_ask(ROUTE, REFUSED_SECONDS)


def test_an_answer_in_between_makes_refusals_the_lines_own() -> None:
    trust = Trust()
    for _ in range(2 * BELIEVED_REFUSALS):
        assert not trust.refused(ROUTE, 0.0, is_certain=False)
        trust.went_well(ROUTE)
    assert trust.may_ask(ROUTE, 0.0)


def test_another_form_is_believed_at_once_until_the_engine_came_back() -> None:
    trust = Trust()
    assert trust.refused(ROUTE, 0.0, is_certain=True)
    assert not trust.may_ask(ROUTE, 1.0)
    trust.forget()
    assert trust.may_ask(ROUTE, 1.0)
