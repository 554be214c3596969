"""One try: what a receiver does becomes a value, and nothing but the checked address is called."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from batchmill.clock import ManualClock
from batchmill.deliveries import Tried
from batchmill.dialects.openai.events import event_body
from batchmill.webhooks import guard
from batchmill.webhooks.guard import MAX_LOOKUPS, Guard, SystemResolver, Unresolved
from batchmill.webhooks.post import Poster
from batchmill.webhooks.target import Refused
from tests.conformance.ledger.world import ALICE, World
from tests.receiver import Act, Hangs, Receiver, answers, receiving, resets
from tests.unit.webhooks.test_target import PUBLIC, Names
from tests.webhook_targets import ODD, closed_literals

ROOT = "a-root-secret-for-these-tests"
OK = Tried(acknowledged=True, status=200)


async def tried(
    world: World,
    url: str,
    *,
    allowed: Sequence[str] = ("127.0.0.1",),
    resolve: Any = None,
    roots: Sequence[str] = (ROOT,),
    **given: Any,
) -> Tried:
    """What one try of a finished job's delivery to that URL comes to."""
    await world.run(await world.queue(webhook_url=url))
    leased = await world.ledger.claim_delivery(ALICE)
    assert leased is not None
    post = Poster(Guard(allowed, resolve or Names([])), roots, event_body, ManualClock(), **given)
    return await post(leased.delivery, leased.job)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_any_2xx_acknowledges(world: World, status: int) -> None:
    with receiving(answers(status)) as receiver:
        said = await tried(world, receiver.url())
    assert said == Tried(acknowledged=True, status=status)
    (only,) = receiver.received
    assert only.path == "/hook"
    assert only.headers["content-type"] == "application/json"
    assert only.headers["host"] == receiver.host


@pytest.mark.parametrize("status", [300, 304, 400, 401, 404, 410, 429, 500, 503])
async def test_any_other_status_is_a_failure(world: World, status: int) -> None:
    with receiving(answers(status)) as receiver:
        said = await tried(world, receiver.url())
    assert (said.acknowledged, said.status) == (False, status)
    assert str(status) in (said.error or "")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_never_followed(world: World, receiver: Receiver, status: int) -> None:
    with receiving(answers(status, location=receiver.url())) as first:
        said = await tried(world, first.url(), allowed=[first.host])
    assert said.status == status
    assert "not followed" in (said.error or "")
    assert (first.connections, receiver.connections) == (1, 0)


async def test_a_receiver_that_hangs_is_left_when_its_time_is_over(world: World) -> None:
    hangs = Hangs()
    with receiving(hangs) as receiver:
        said = await tried(world, receiver.url(), try_seconds=0.3)
        hangs.free.set()
    assert said == Tried(acknowledged=False, error="it gave no answer within 0.3 seconds")


@pytest.mark.parametrize(
    ("act", "error"),
    [
        (resets, "it closed the connection without an answer"),
        (lambda handler: handler.wfile.write(b"SSH-2.0-x\r\n"), "its answer is not HTTP/1.1"),
        (lambda handler: handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n"), None),
        (lambda handler: handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 10**6), None),
    ],
    ids=["resets", "no HTTP", "only 100", "endless head"],
)
async def test_what_is_no_answer_is_a_failure(world: World, act: Act, error: str | None) -> None:
    with receiving(act) as receiver:
        said = await tried(world, receiver.url())
    assert not said.acknowledged
    assert said.status is None
    assert error in {None, said.error}


async def test_an_answer_counts_however_long_it_goes_on(world: World) -> None:
    def act(handler: Any) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9000000\r\n\r\n" + b"x" * 10**6)

    with receiving(act) as receiver:
        assert await tried(world, receiver.url()) == OK


async def test_a_receiver_that_is_not_there_refuses(world: World) -> None:
    with receiving() as receiver:
        pass
    said = await tried(world, receiver.url())
    assert said == Tried(acknowledged=False, error="it refuses connections")


async def test_nothing_is_sent_that_cannot_be_signed(world: World, receiver: Receiver) -> None:
    said = await tried(world, receiver.url(), roots=())
    assert "webhook_secret" in (said.error or "")
    assert receiver.connections == 0


async def test_no_closed_address_is_connected_to_in_any_notation(
    world: World, receiver: Receiver
) -> None:
    """Each of these would reach the receiver if anything connected."""
    urls = [*ODD, *closed_literals(receiver.port)]
    urls += [url.replace("/hook", f":{receiver.port}/hook", 1) for url in ODD if ":" not in url[8:]]
    for url in urls:
        guard = Guard((), SystemResolver())
        with pytest.raises(Refused):
            await guard.admit(url)
    said = await tried(world, receiver.url(scheme="https"), allowed=())
    assert "not a public address" in (said.error or "")
    assert receiver.connections == 0


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST", "localhost."])
async def test_no_name_of_this_machine_is_connected_to(
    world: World, receiver: Receiver, name: str
) -> None:
    url = receiver.url(name, "https")
    said = await tried(world, url, allowed=(), resolve=SystemResolver())
    assert not said.acknowledged
    assert receiver.connections == 0


async def test_a_name_that_changes_its_address_after_the_check_is_not_connected_to(
    world: World, receiver: Receiver
) -> None:
    names = Names([PUBLIC], ["127.0.0.1"])
    url = receiver.url("rebind.example", "https")
    await Guard((), names).admit(url)
    said = await tried(world, url, allowed=(), resolve=names)
    assert "not a public address" in (said.error or "")
    assert (receiver.connections, len(names.asked)) == (0, 2)


async def test_a_try_connects_to_the_address_that_was_checked_and_asks_no_more(
    world: World, receiver: Receiver
) -> None:
    names = Names(["127.0.0.1"], ["203.0.113.1"])
    assert await tried(world, receiver.url("hook"), allowed=["hook"], resolve=names) == OK
    assert names.asked == ["hook"]
    assert receiver.received[0].headers["host"] == f"hook:{receiver.port}"


async def test_the_next_address_is_tried_where_one_does_not_answer(
    world: World, receiver: Receiver
) -> None:
    names = Names(["127.0.0.2", "127.0.0.1"])
    assert await tried(world, receiver.url("hook"), allowed=["hook"], resolve=names) == OK


async def test_no_proxy_of_the_environment_is_used(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://{receiver.host}")
    with receiving() as real:
        assert await tried(world, real.url()) == OK
    assert (real.connections, receiver.connections) == (1, 0)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate for `hook.example`, in one file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the openssl command")
    path = tmp_path_factory.mktemp("tls") / "hook.pem"
    key = path.with_suffix(".key")
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=hook"]
    command += ["-addext", "subjectAltName=DNS:hook.example", "-keyout", str(key)]
    subprocess.run([*command, "-out", str(path)], check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + key.read_bytes())
    return path


@pytest.mark.parametrize(
    ("name", "trusted", "error"),
    [
        ("hook.example", True, None),
        ("other.example", True, "its certificate is not trusted"),
        ("hook.example", False, "its certificate is not trusted"),
    ],
)
async def test_tls_is_verified_against_the_name(
    world: World, certificate: Path, name: str, trusted: bool, error: str | None
) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    receiver = Receiver().start(server)
    client = ssl.create_default_context(cafile=str(certificate) if trusted else None)
    try:
        url = receiver.url(name, "https")
        names = Names(["127.0.0.1"])
        said = await tried(world, url, allowed=[name], resolve=names, tls=client)
    finally:
        receiver.stop()
    assert said.acknowledged == (error is None)
    assert (error or "") in (said.error or "")
    assert len(receiver.received) == (error is None)


@pytest.mark.parametrize(
    ("sent", "asked"),
    [
        ("120", 120.0),
        (" 7 ", 7.0),
        ("9" * 40, 999_999_999.0),
        ("Fri, 15 Jan 2027 08:01:00 GMT", 60.0),
        ("Fri, 15 Jan 2027 07:00:00 GMT", None),
        ("soon", None),
        ("-5", None),
        ("", None),
    ],
)
async def test_a_receiver_may_ask_for_time(world: World, sent: str, asked: float | None) -> None:
    """The clock of the test stands at 2027-01-15T08:00:00Z."""
    with receiving(answers(503, **{"Retry-After": sent})) as receiver:
        said = await tried(world, receiver.url())
    assert (said.acknowledged, said.status, said.retry_after_seconds) == (False, 503, asked)


async def test_a_lookup_that_cannot_be_begun_fails_the_try(world: World) -> None:
    said = await tried(world, "https://example.com/", allowed=(), resolve=overrun)
    assert (said.acknowledged, said.error) == (False, "too many host names are being looked up")


async def test_no_more_lookups_are_begun_than_may_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's resolver cannot be made to hang: its function is stood in for."""
    goes_on = threading.Event()
    monkeypatch.setattr(guard, "_look_up", lambda *_: goes_on.wait(20) and [PUBLIC])
    resolve = SystemResolver()
    hanging = [asyncio.create_task(resolve("a.example", 443)) for _ in range(MAX_LOOKUPS)]
    await asyncio.sleep(0)
    with pytest.raises(Unresolved, match="too many host names are being looked up"):
        await resolve("b.example", 443)
    goes_on.set()
    assert await asyncio.gather(*hanging) == [[PUBLIC]] * MAX_LOOKUPS


async def overrun(host: str, port: int) -> Sequence[str]:
    raise Unresolved("too many host names are being looked up")
