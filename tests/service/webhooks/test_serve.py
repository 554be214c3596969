"""A real `serve` and a real receiver: down for a while, failing, hanging, killed in between."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from batchmill.model import TenantId
from batchmill.webhooks.signing import tenant_secret
from tests.receiver import Hangs, Receiver, answers, receiving, resets
from tests.serving import Serve, chat_lines, eventually

ROOT = "root-secret-of-these-tests-only"
LIST = "/v1/webhook_deliveries"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


@pytest.fixture
def serve(tmp_path: Path, receiver: Receiver) -> Iterator[Serve]:
    environment = {
        "BATCHMILL_WEBHOOK_SECRET": ROOT,
        "BATCHMILL_WEBHOOK_ALLOW_HOSTS": f"{receiver.host},localhost",
    }
    running = Serve(tmp_path / "data", "--engine", "sim", **environment).start()
    yield running
    running.kill()


def ended(serve: Serve, url: str, lines: int = 2) -> dict[str, Any]:
    file = serve.upload(chat_lines(lines))
    job = serve.create(input_files=[file], webhook_url=url)
    return serve.wait_ended(job["id"])


def deliveries(serve: Serve, query: str = "") -> list[dict[str, Any]]:
    return list(serve.http.call("GET", LIST + query).json()["data"])


def until_tried(serve: Serve, times: int = 1) -> dict[str, Any]:
    def is_tried() -> bool:
        return deliveries(serve)[0]["attempts"] >= times

    eventually(is_tried, 30, f"{times} tries")
    return deliveries(serve)[0]


def until_delivered(serve: Serve) -> dict[str, Any]:
    def are_delivered() -> bool:
        return {each["state"] for each in deliveries(serve)} == {"delivered"}

    eventually(are_delivered, 60, "the event to be delivered")
    return deliveries(serve)[0]


def test_the_event_arrives_once_a_receiver_that_was_down_is_back(
    serve: Serve, receiver: Receiver
) -> None:
    receiver.stop()
    ended(serve, receiver.url())
    tried = until_tried(serve, 2)
    assert (tried["state"], tried["last_status"]) == ("pending", None)
    assert tried["last_error"] == "it refuses connections"
    receiver.start()
    over = until_delivered(serve)
    assert over["event_id"] == tried["event_id"]
    assert {each.id for each in receiver.received} == {tried["event_id"]}
    assert over["last_error"] is None


def test_errors_resets_and_redirects_are_outlived_under_one_id(
    serve: Serve, receiver: Receiver
) -> None:
    with receiving() as elsewhere:
        redirect = answers(307, location=elsewhere.url("localhost"))
        receiver.script = [answers(500), resets, redirect, answers(200)]
        ended(serve, receiver.url())
        over = until_delivered(serve)
        assert elsewhere.connections == 0
    assert over["attempts"] == 4
    assert [each.id for each in receiver.received] == [over["event_id"]] * 4
    assert len({each.body for each in receiver.received}) == 1
    stamps = [int(each.headers["webhook-timestamp"]) for each in receiver.received]
    assert stamps == sorted(stamps)
    assert stamps[0] < stamps[-1]


def test_receivers_that_hang_slow_neither_jobs_nor_other_receivers(
    serve: Serve, receiver: Receiver
) -> None:
    hangs = Hangs()
    receiver.script = [hangs]
    with receiving() as well:
        for _ in range(3):
            ended(serve, receiver.url())
        eventually(lambda: receiver.received, 30, "a try that hangs")
        ended(serve, well.url("localhost"), lines=500)
        eventually(lambda: well.received, 30, "the other receiver to be told")
        assert not [each for each in deliveries(serve) if each["last_status"] == 200][1:]
        assert {each["state"] for each in deliveries(serve)[1:]} == {"pending"}
    hangs.free.set()
    receiver.script = [answers(200)]
    until_delivered(serve)
    assert len({each.id for each in receiver.received}) == 3


def test_an_event_outlives_a_kill_between_the_end_of_its_job_and_its_delivery(
    serve: Serve, receiver: Receiver
) -> None:
    receiver.stop()
    job = ended(serve, receiver.url())
    (recorded,) = deliveries(serve, f"?job_id={job['id']}")
    serve.kill()
    receiver.start()
    serve.start()
    over = until_delivered(serve)
    assert over["event_id"] == recorded["event_id"]
    assert {each.id for each in receiver.received} == {recorded["event_id"]}


def test_a_kill_during_a_try_loses_nothing(serve: Serve, receiver: Receiver) -> None:
    hangs = Hangs()
    receiver.script = [hangs, answers(200)]
    ended(serve, receiver.url())
    eventually(lambda: receiver.received, 30, "a try that hangs")
    serve.kill()
    hangs.free.set()
    serve.start()
    over = until_delivered(serve)
    assert {each.id for each in receiver.received} == {over["event_id"]}
    assert len(receiver.received) == 2


def test_a_redelivery_sends_the_same_event_once_more(serve: Serve, receiver: Receiver) -> None:
    ended(serve, receiver.url())
    over = until_delivered(serve)
    answer = serve.http.call("POST", f"{LIST}/{over['id']}/redeliver")
    assert answer.status == 200
    eventually(lambda: len(receiver.received) == 2, 30, "the event to come again")
    first, second = receiver.received
    assert (first.id, first.body) == (second.id, second.body)


def test_failed_and_cancelled_jobs_are_told_too(serve: Serve, receiver: Receiver) -> None:
    file = serve.upload(b'{"no": "request"}\n')
    serve.create(input_files=[file], webhook_url=receiver.url())
    eventually(lambda: receiver.received, 60, "the failure")
    job = serve.create(input_files=[serve.upload(chat_lines(20_000))], webhook_url=receiver.url())
    assert serve.http.call("POST", f"/v1/batch/jobs/{job['id']}/cancel").status == 200
    eventually(lambda: len(receiver.received) == 2, 60, "the cancellation")
    kinds = [each.body.split(b'"type":"')[1].split(b'"')[0] for each in receiver.received]
    assert kinds == [b"batch.failed", b"batch.cancelled"]


def test_no_secret_stands_in_logs_or_the_database(serve: Serve, receiver: Receiver) -> None:
    receiver.script = [answers(500), answers(200)]
    ended(serve, receiver.url() + "?token=hidden-token")
    over = until_delivered(serve)
    with closing(sqlite3.connect(serve.data / "ledger.sqlite")) as database:
        stored = "\n".join(database.iterdump())
    log = serve.log.read_text()
    assert over["event_id"] in stored
    assert over["id"] in log
    signature = receiver.received[-1].headers["webhook-signature"]
    for secret in (ROOT, tenant_secret(ROOT, TenantId("default"))[6:], signature[3:]):
        assert secret not in stored
        assert secret not in log
    assert "hidden-token" not in log


def test_receivers_of_the_settings_file_hear_of_every_job(
    tmp_path: Path, receiver: Receiver
) -> None:
    config = tmp_path / "batchmill.toml"
    config.write_text(
        f'webhook_secret = "{ROOT}"\nwebhook_allow_hosts = ["127.0.0.1"]\n'
        f'[[webhooks]]\nurl = "{receiver.url()}"\nevents = ["batch.completed"]\n'
        f'[[webhooks]]\nurl = "{receiver.url()}2"\ntenant = "other"\n'
    )
    arguments = ("--engine", "sim", "--config", str(config))
    serve = Serve(tmp_path / "data", *arguments).start()
    try:
        serve.create(input_files=[serve.upload(b'{"no": "request"}\n')])
        serve.create(input_files=[serve.upload(chat_lines(2))])
        over = until_delivered(serve)
    finally:
        serve.kill()
    (received,) = receiver.received
    assert (received.path, received.id) == ("/hook", over["event_id"])
    assert b'"type":"batch.completed"' in received.body
    assert over["url"] == receiver.host
