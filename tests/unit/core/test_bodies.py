"""Which lines ask for the same: only what has the same answer for sure, byte for byte."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchmill.core import bodies
from batchmill.core.bodies import Bodies, is_deterministic, place_of
from batchmill.core.order import Original
from batchmill.model import Shard

CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"


def line(body: bytes, custom_id: str = "a") -> bytes:
    return b'{"custom_id":"%b","body":%b}' % (custom_id.encode(), body)


@pytest.mark.parametrize(
    ("endpoint", "body", "is_so"),
    [
        (CHAT, {}, False),
        (CHAT, {"temperature": 0}, True),
        (CHAT, {"temperature": 0.0}, True),
        (CHAT, {"temperature": -0.0}, True),
        (CHAT, {"temperature": 0.01}, False),
        (CHAT, {"temperature": None}, False),
        (CHAT, {"temperature": "0"}, False),
        (CHAT, {"temperature": False}, False),
        (CHAT, {"temperature": 1, "seed": 0}, True),
        (CHAT, {"temperature": 1, "random_seed": 7}, True),
        (CHAT, {"seed": None, "random_seed": None}, False),
        ("/v1/completions", {"temperature": 0}, True),
        ("/v1/ocr", {}, False),
        ("/v1/conversations", {"completion_args": {"temperature": 0}}, False),
        (EMBEDDINGS, {}, True),
        ("/v1/moderations", {}, True),
        ("/v1/chat/moderations", {}, True),
        ("/v1/classifications", {"temperature": 1}, True),
        ("/v1/chat/classifications", {}, True),
    ],
)
def test_an_answer_is_sure_by_its_endpoint_its_temperature_or_a_seed(
    endpoint: str, body: object, is_so: bool
) -> None:
    assert is_deterministic(endpoint, json.dumps(body).encode()) is is_so


def test_a_body_is_known_by_its_bytes_whatever_the_custom_id() -> None:
    found = Bodies(EMBEDDINGS)
    assert found.first(line(b'{"input":"a"}'), 0) is None
    assert found.first(line(b'{"input":"a"}', "b"), 1) == 0
    assert found.first(b'{"body":{"input":"a"} , "custom_id":"c"}', 2) == 0
    assert found.first(line(b'{"input": "a"}'), 3) is None
    assert found.first(line(b'{"input":"a","model":"m"}'), 4) is None
    assert found.first(line(b'{"input": "a"}', "d"), 5) == 3


def test_bodies_drawn_by_chance_are_never_the_same() -> None:
    found = Bodies(CHAT)
    assert [found.first(line(b'{"temperature":1}'), n) for n in range(3)] == [None] * 3


@given(st.lists(st.integers(0, 400), max_size=3000))
def test_each_line_is_told_the_first_of_its_kind(kinds: list[int]) -> None:
    found, firsts = Bodies(EMBEDDINGS), dict[int, int]()
    for number, kind in enumerate(kinds):
        first = firsts.setdefault(kind, number)
        wanted = None if first == number else first
        assert found.first(line(b'{"input":%d}' % kind), number) == wanted


def test_the_table_grows_with_what_it_holds() -> None:
    found, count = Bodies(EMBEDDINGS), 3 * bodies._FIRST_SLOTS
    for number in range(count):
        assert found.first(line(b'{"input":%d}' % number), number) is None
    for number in range(count):
        assert found.first(line(b'{"input":%d}' % number), count + number) == number


def test_a_line_stands_in_a_shard_before_or_in_the_one_that_is_being_filled() -> None:
    shards = [Shard(n, 0, first, 4, 0, 0, 1) for n, first in ((0, 0), (2, 8), (5, 20))]
    asked = (0, 3, 8, 11, 20, 30, 31)
    assert [place_of(number, shards, 7, 30) for number in asked] == [
        Original(0, 0),
        Original(0, 3),
        Original(2, 0),
        Original(2, 3),
        Original(5, 0),
        Original(7, 0),
        Original(7, 1),
    ]
