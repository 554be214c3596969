from __future__ import annotations

import pytest

from batchmill.engines.address import address_of
from batchmill.engines.listing import model_names, refusal


@pytest.mark.parametrize(
    ("url", "path", "target"),
    [
        ("http://h:1/v1", "/v1/ocr", "/v1/ocr"),
        ("http://h:1/v1/", "/v1/chat/completions", "/v1/chat/completions"),
        ("http://h/openai/v1", "/v1/ocr", "/openai/v1/ocr"),
        ("http://h/api/v2", "/v1/ocr", "/api/v2/ocr"),
        ("http://h:8000", "/v1/ocr", "/v1/ocr"),
        ("http://h:8000/", "/models", "/v1/models"),
        ("https://h/v1?api-version=2", "/v1/ocr", "/v1/ocr?api-version=2"),
        ("http://h/a b/v1", "/v1/ocr", "/a%20b/v1/ocr"),
    ],
)
def test_the_base_stands_for_v1(url: str, path: str, target: str) -> None:
    assert address_of(url, None).target(path) == target


@pytest.mark.parametrize(
    ("url", "host", "port", "name"),
    [
        ("http://gpu1:8000/v1", "gpu1", 8000, "gpu1:8000"),
        ("https://api.example.com/v1", "api.example.com", 443, "api.example.com"),
        ("http://[::1]:9/v1", "::1", 9, "[::1]:9"),
        ("http://user:pw@h/v1", "h", 80, "h"),
    ],
)
def test_a_url_is_taken_apart(url: str, host: str, port: int, name: str) -> None:
    address = address_of(url, None)
    assert (address.host, address.port, address.name) == (host, port, name)


def test_credentials_are_never_shown() -> None:
    address = address_of("http://user:hunter2@h/v1", "secret")
    assert address.authorization == "Bearer secret"
    assert "secret" not in repr(address)
    assert "hunter2" not in repr(address)
    assert address_of("http://user:p%40ss@h/v1", None).authorization == "Basic dXNlcjpwQHNz"
    assert address_of("http://h/v1", None).authorization is None


@pytest.mark.parametrize(
    ("url", "key"),
    [("ftp://h/v1", None), ("h:8000", None), ("http:///v1", None), ("http://h/v1", "a\r\nX: b")],
)
def test_what_cannot_be_an_engine_is_refused(url: str, key: str | None) -> None:
    with pytest.raises(ValueError, match="engine's"):
        address_of(url, key)


@pytest.mark.parametrize(
    ("raw", "names"),
    [
        (b'{"object":"list","data":[{"id":"a"},{"id":"b"}]}', ("a", "b")),
        (b'{"data":[{"id":"a","aliases":["a-latest","a"]},{"id":"b"}]}', ("a", "a-latest", "b")),
        (b'{"models":[{"name":"q","model":"q"}],"data":[{"id":"q"}]}', ("q",)),
        (b'{"models":[{"name":"q"}]}', ("q",)),
        (b'[{"id":"a"},"b"]', ("a", "b")),
        (b'{"object":"list","data":[]}', ()),
        (b'{"object":"list","data":null}', ()),
        (b'{"data":[{"id":""},{"id":7},{}]}', ()),
        (b'{"hello":1}', None),
        (b"<html>", None),
        (b'"text"', None),
        (b'{"data":"x"}', None),
    ],
)
def test_lists_of_models_are_read_in_every_shape(raw: bytes, names: object) -> None:
    assert model_names(raw) == names


@pytest.mark.parametrize(
    ("status", "keyed", "says"),
    [
        (401, True, "refuses our key"),
        (403, False, "none is set"),
        (404, True, "list of models"),
        (302, True, "redirects"),
        (500, True, "HTTP 500: oops"),
    ],
)
def test_a_refused_list_says_why(status: int, keyed: bool, says: str) -> None:
    assert says in refusal(status, b"oops", keyed=keyed)
