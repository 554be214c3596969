"""Which server a client talks to, and which key it sends there."""

from __future__ import annotations

import pytest

from batchmill.client import Client
from batchmill.client.address import BadAddress, address

OURS = {"BATCHMILL_URL": "http://a:1/v1/", "BATCHMILL_API_KEY": "bm_a"}
OPENAI = {"OPENAI_BASE_URL": "https://b/v1", "OPENAI_API_KEY": "sk-b"}
MISTRAL = {"MISTRAL_SERVER_URL": "http://c", "MISTRAL_API_KEY": "c"}


@pytest.mark.parametrize(
    ("environ", "url", "key"),
    [
        ({}, "http://127.0.0.1:8470", None),
        (OURS | OPENAI | MISTRAL, "http://a:1", "bm_a"),
        (OPENAI | MISTRAL, "https://b", "sk-b"),
        (MISTRAL, "http://c", "c"),
    ],
)
def test_the_environment_names_the_server(
    environ: dict[str, str], url: str, key: str | None
) -> None:
    found = address(environ=environ)
    assert (found.url, found.key) == (url, key)


def test_a_key_goes_only_to_the_address_beside_it() -> None:
    assert address(environ={"BATCHMILL_URL": "http://a", **OPENAI}).key is None
    assert address("http://elsewhere", environ=OPENAI).key is None
    assert address(environ={"OPENAI_API_KEY": "sk-b"}).key is None


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("http://127.0.0.1:18999", None),
        ("http://a:2", None),
        ("https://a:1", None),
        ("http://A:1/v1", "bm_a"),
    ],
)
def test_a_given_url_gets_only_the_key_beside_its_own_origin(url: str, key: str | None) -> None:
    assert address(url, environ=OURS).key == key
    assert address(url, "given", environ=OURS).key == "given"


def test_a_key_of_batchmills_own_beside_no_url_stays_on_this_machine() -> None:
    for lone in ({"BATCHMILL_API_KEY": "secret"}, {"OPENAI_API_KEY": "bm_b"}):
        [key] = lone.values()
        assert address(environ=lone).key == key
        assert address("http://localhost:1", environ=lone).key == key
        assert address("https://api.openai.com/v1", environ=lone).key is None
        assert address(environ={"MISTRAL_SERVER_URL": "https://c", **lone}).key is None


def test_the_key_is_not_shown() -> None:
    assert "bm_a" not in repr(address(environ=OURS))


@pytest.mark.parametrize(
    "url",
    ["a:1", ":abc", "ftp://a", "http://", "http://[::1", "http://a:abc", "http://user:secret@a"],
)
def test_what_cannot_be_an_address_is_named_without_its_password(url: str) -> None:
    with pytest.raises(BadAddress, match="BATCHMILL_URL should be a URL") as refused:
        address(environ={"BATCHMILL_URL": url})
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "here"), [("http://localhost:1", True), ("http://[::1]:1", True), ("http://a", False)]
)
def test_this_machine_is_known(url: str, here: bool) -> None:
    assert address(url, environ={}).is_here is here


@pytest.mark.parametrize("key", ["a\rb", "a\nb", "schl\u00fcssel", "a\0b", "a b"])
def test_a_key_that_no_header_can_carry_is_refused_and_not_shown(key: str) -> None:
    for given, environ in ((key, {}), (None, {"BATCHMILL_API_KEY": key})):
        with pytest.raises(BadAddress) as refused:
            address("http://127.0.0.1:1", given, environ)
        assert key not in str(refused.value)


def test_white_space_around_a_key_is_none_of_it() -> None:
    assert address("http://127.0.0.1:1", " bm_a\n", {}).key == "bm_a"
    assert address(environ={"BATCHMILL_API_KEY": "bm_a\n"}).key == "bm_a"


@pytest.mark.parametrize("host", ["a" * 64 + ".com", "a..b", ".", "\u2603.net", "ex\0"])
def test_a_host_that_cannot_be_looked_up_is_no_address(host: str) -> None:
    with pytest.raises(BadAddress, match="should be a URL"):
        Client(f"http://{host}")
