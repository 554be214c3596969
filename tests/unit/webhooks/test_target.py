"""Webhook URLs are taken apart strictly, and only public addresses are open."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from ipaddress import ip_address

import pytest

from batchmill.webhooks.guard import Guard, Unresolved, is_public
from batchmill.webhooks.target import Refused, target_of
from tests.webhook_targets import CLOSED, ODD, OPEN, closed_literals

PUBLIC = "93.184.215.14"


class Names:
    """A resolver that answers in turn; the last answer goes on for ever."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers, self.asked = list(answers), []

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if not answer:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return answer


@pytest.mark.parametrize("url", ODD, ids=range(len(ODD)))
def test_an_odd_url_is_refused_and_never_repaired(url: str) -> None:
    with pytest.raises(Refused):
        target_of(url)


@pytest.mark.parametrize(
    ("url", "host", "port", "path", "authority"),
    [
        ("https://example.com", "example.com", 443, "/", "example.com"),
        ("https://EXAMPLE.com./a?b=c&d=%20", "example.com", 443, "/a?b=c&d=%20", "example.com"),
        ("https://example.com:8443/x", "example.com", 8443, "/x", "example.com:8443"),
        ("https://a_b.example-1.co.uk?q", "a_b.example-1.co.uk", 443, "/?q", "a_b.example-1.co.uk"),
        ("http://example.com:80/", "example.com", 80, "/", "example.com"),
        ("https://1.1.1.1/", "1.1.1.1", 443, "/", "1.1.1.1"),
        ("https://[2600:0::0001]:444/", "2600::1", 444, "/", "[2600::1]:444"),
        ("https://xn--p1ai.example/", "xn--p1ai.example", 443, "/", "xn--p1ai.example"),
    ],
)  # fmt: skip
def test_a_plain_url_is_taken_apart(
    url: str, host: str, port: int, path: str, authority: str
) -> None:
    target = target_of(url)
    assert (target.host, target.port, target.path) == (host, port, path)
    assert target.authority == authority


@pytest.mark.parametrize("address", CLOSED)
def test_an_address_that_is_not_public_is_closed(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", OPEN)
def test_a_public_address_is_open(address: str) -> None:
    assert is_public(ip_address(address))


async def test_a_closed_address_is_refused_in_every_notation() -> None:
    names = Names([PUBLIC])
    for url in closed_literals(8470):
        with pytest.raises(Refused, match="not a public address"):
            await Guard((), names).admit(url)
    assert not names.asked


@pytest.mark.parametrize("address", [*CLOSED, "fe80::1%eth0"])
async def test_a_name_with_one_closed_address_is_refused(address: str) -> None:
    for found in ([address], [PUBLIC, address], [address, PUBLIC]):
        with pytest.raises(Refused, match="not a public address"):
            await Guard((), Names(found)).admit("https://example.com/hook")


async def test_a_name_with_public_addresses_is_admitted_with_them() -> None:
    target, addresses = await Guard((), Names([PUBLIC, "2600::1"])).admit("https://example.com/x")
    assert (target.host, addresses) == ("example.com", (PUBLIC, "2600::1"))


@pytest.mark.parametrize("found", [[], ["no address"], ["999.1.1.1"]])
async def test_a_name_that_cannot_be_resolved_is_refused(found: list[str]) -> None:
    with pytest.raises(Refused):
        await Guard((), Names(found)).admit("https://example.com/hook")


@pytest.mark.parametrize(
    "error", [TimeoutError(), socket.gaierror(socket.EAI_AGAIN, "again"), OSError("no network")]
)
async def test_a_name_of_which_nothing_can_be_said_now_is_not_refused(error: OSError) -> None:
    async def away(host: str, port: int) -> Sequence[str]:
        raise error

    with pytest.raises(Unresolved, match=r"no name server tells the addresses of example\.com"):
        await Guard((), away).admit("https://example.com/hook")


async def test_plain_http_is_refused() -> None:
    with pytest.raises(Refused, match="https"):
        await Guard((), Names([PUBLIC])).admit("http://example.com/hook")


@pytest.mark.parametrize(
    ("allowed", "url", "admitted"),
    [
        ("hooks", "http://hooks/x", True),
        ("hooks", "http://HOOKS.:99/x", True),
        ("Hooks:99", "http://hooks:99/x", True),
        ("hooks:99", "http://hooks:98/x", False),
        ("hooks:80", "http://hooks/x", True),
        ("hooks", "http://more.hooks/x", False),
        ("hooks", "http://hooks.example/x", False),
        ("127.0.0.1", "http://127.0.0.1:7/x", True),
        ("127.0.0.1", "http://127.0.0.2/x", False),
        ("127.0.0.1", "http://2130706433/x", False),
        ("::1", "http://[::1]:7/x", True),
        ("[::1]", "http://[0::1]/x", True),
        ("[::1]:7", "http://[::1]:7/x", True),
        ("[::1]:7", "http://[::1]:8/x", False),
    ],
)
async def test_only_a_host_that_the_operator_names_is_exempt(
    allowed: str, url: str, admitted: bool
) -> None:
    guard = Guard([allowed], Names(["127.0.0.1"]))
    if admitted:
        await guard.admit(url)
    else:
        with pytest.raises(Refused):
            await guard.admit(url)
