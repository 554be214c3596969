"""By what a create is known when it is sent again."""

from __future__ import annotations

import hashlib

import pytest
from fastapi import Request

from batchmill.errors import InvalidInput
from batchmill.model import KeyId, TenantId
from batchmill.once import Once
from batchmill.web.auth import Caller
from batchmill.web.bodies import JsonObject
from batchmill.web.idempotency import once_of

CALLER = Caller(TenantId("a"), KeyId("k"))


def asked(
    body: bytes = b"{}", *, counts_retries: bool = False, path: str = "/v1/x", **headers: str
) -> Once | None:
    raw = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
    request = Request({"type": "http", "method": "POST", "path": path, "headers": raw})
    given = JsonObject({}, {}, hashlib.sha256(body).digest())
    return once_of(request, given, CALLER, counts_retries=counts_retries)


def known(**given: str) -> Once:
    once = asked(**given)
    assert once is not None
    return once


def test_without_a_key_a_create_is_known_by_nothing() -> None:
    assert asked() is None
    assert asked(x_stainless_retry_count="1") is None


def test_the_same_request_is_known_as_the_same() -> None:
    assert known(idempotency_key="1") == known(idempotency_key="1")
    assert known(idempotency_key="1").api_key == "k"


@pytest.mark.parametrize(
    "other", [{"idempotency_key": "2"}, {"path": "/v1/y"}, {"x_batchmill_window": "7d"}]
)
def test_another_request_is_known_as_another(other: dict[str, str]) -> None:
    assert known(**{"idempotency_key": "1"} | other) != known(idempotency_key="1")


def test_another_body_is_known_by_its_digest() -> None:
    one, two = asked(b"1", idempotency_key="1"), asked(b"2", idempotency_key="1")
    assert one is not None
    assert two is not None
    assert one.body != two.body


def test_headers_that_ask_for_nothing_change_nothing() -> None:
    assert known(idempotency_key="1", user_agent="x") == known(idempotency_key="1")


def test_no_key_is_kept_as_it_is() -> None:
    assert "secret" not in repr(known(idempotency_key="secret"))


@pytest.mark.parametrize(
    ("count", "resent"), [("0", False), ("00", False), ("", False), ("x", False), ("2", True)]
)
def test_a_retry_is_one_that_counts_above_zero(count: str, *, resent: bool) -> None:
    once = asked(counts_retries=True, x_stainless_retry_count=count)
    assert once is not None
    assert (once.key, once.resent) == (None, resent)


def test_a_key_that_cannot_be_one_is_refused() -> None:
    with pytest.raises(InvalidInput):
        asked(idempotency_key="x" * 256)
