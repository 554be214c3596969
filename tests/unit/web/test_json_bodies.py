"""What a JSON body costs to read, whatever stands in it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import pytest

from batchmill.dialects.mistral.create import read_order
from batchmill.errors import TooLarge, UserError
from batchmill.model import DEFAULT_TENANT
from batchmill.web.auth import Caller
from batchmill.web.bodies import JsonObject, parse
from batchmill.web.services import ApiRules

KNOWN = ("endpoint", "model", "metadata", "requests")
START = b'{"endpoint":"/v1/ocr","model":"small","requests":'
MANY = b"[" + b"[]," * 1_000_000 + b"0]"
KEYS = b"{" + b",".join(b'"%d":1' % n for n in range(300_000)) + b"}"


def read(body: bytes) -> JsonObject:
    return parse(body, KNOWN, "requests", b"")


@pytest.fixture
def _traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("_traced")
@pytest.mark.parametrize(
    "body",
    [
        b'{"x":' + MANY + b"}",
        KEYS,
        START + MANY + b"}",
        START + b'[{"custom_id":"a","custom_id":"b","body":{"x":' + MANY + b"}}]}",
        START + b"[" + KEYS + b"]}",
    ],
    ids=["an unknown key", "many keys", "many requests", "a request twice", "a request's keys"],
)
def test_a_body_that_is_refused_costs_no_more_than_its_own_size(body: bytes) -> None:
    with pytest.raises(UserError):
        read_order(read(body), {}, Caller(DEFAULT_TENANT), ApiRules())
    _, peak_bytes = tracemalloc.get_traced_memory()
    assert peak_bytes < 1.5 * len(body) + 8_000_000, "a few MB are the reader of a list, made once"


@pytest.mark.parametrize("key", ["x", "metadata"])
def test_only_the_bulky_value_may_be_large(key: str) -> None:
    large = b'"%b"' % (b"x" * 2_000_000)
    read(b'{"%b":{},"requests":%b}' % (key.encode(), large))
    with pytest.raises(TooLarge) as caught:
        read(b'{"%b":%b,"requests":[]}' % (key.encode(), large))
    assert caught.value.code == "body_too_large"
    assert "`requests`" in caught.value.message


@pytest.mark.parametrize("text", [b'{"a":1,"a":2}', b"9" * 5_000])
def test_what_the_route_does_not_know_or_leaves_as_it_came_is_only_looked_through(
    text: bytes,
) -> None:
    for size in (1, 100_000):
        requests = b'[{"body":{"a":%b,"pad":"%b"}}]' % (text, b"x" * size)
        found = read(b'{"model":"m","x":%b,"requests":%b}' % (text, requests))
        assert found.values == {"model": "m"}
        assert bytes(found.raw["requests"]) == requests
