"""Pause, resume, extend and retry: what they change, and when they are refused."""

from __future__ import annotations

from typing import Any

import pytest

from batchmill.core.models import Catalogue
from batchmill.web.api import KeyMode
from tests.service.rig import BODY, Rig, answered, lines, open_rig

JOBS = "/v1/batch/jobs"
HOUR, DAY = 3600, 86400


async def queued(rig: Rig) -> dict[str, Any]:
    job = await rig.create(requests=[{"body": BODY}])
    await rig.plan(await rig.worker())
    return dict(job)


async def ended(rig: Rig) -> dict[str, Any]:
    job = await rig.create(input_files=[(await rig.upload(lines(2)))["id"]])
    await rig.finish(answered)
    return dict(job)


async def test_a_paused_job_says_so_and_gives_no_lines_until_it_is_resumed(rig: Rig) -> None:
    job = await queued(rig)
    paused = await rig.call("POST", f"{JOBS}/{job['id']}/pause")
    assert paused.status_code == 200
    assert paused.json()["paused"] is True
    owner = await rig.worker()
    await rig.run(owner, answered)
    assert (await rig.get(f"{JOBS}/{job['id']}"))["completed_requests"] == 0
    again = await rig.call("POST", f"{JOBS}/{job['id']}/pause")
    assert again.json()["paused"] is True
    woken = rig.woken
    resumed = await rig.call("POST", f"{JOBS}/{job['id']}/resume")
    assert resumed.json()["paused"] is False
    assert rig.woken == woken + 1
    await rig.run(owner, answered)
    assert (await rig.get(f"{JOBS}/{job['id']}"))["completed_requests"] == 1


@pytest.mark.parametrize(
    ("route", "body"), [("pause", None), ("resume", None), ("extend", {"window": "7d"})]
)
async def test_a_finished_job_is_refused_for_good(
    rig: Rig, route: str, body: dict[str, str] | None
) -> None:
    job = await ended(rig)
    reply = await rig.call("POST", f"{JOBS}/{job['id']}/{route}", json=body)
    assert reply.status_code == 409
    assert reply.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(("jobs", "status"), [(JOBS, 422), ("/v1/batches", 400)])
async def test_a_retry_for_a_model_that_nobody_serves_any_more_is_refused_as_a_create_is(
    rig: Rig, jobs: str, status: int
) -> None:
    job = await ended(rig)
    rig.catalogue = Catalogue({}, ())
    reply = await rig.call("POST", f"{jobs}/{job['id']}/retry", json={"custom_ids": ["c0"]})
    assert (reply.status_code, reply.json()["param"]) == (status, "model")


@pytest.mark.parametrize("route", ["pause", "resume"])
async def test_a_job_that_is_not_validated_yet_cannot_be_paused(rig: Rig, route: str) -> None:
    job = await rig.create(requests=[{"body": BODY}])
    reply = await rig.call("POST", f"{JOBS}/{job['id']}/{route}")
    assert reply.status_code == 409


async def test_a_job_that_stops_cannot_be_extended(rig: Rig) -> None:
    job = await queued(rig)
    await rig.call("POST", f"{JOBS}/{job['id']}/cancel")
    reply = await rig.call("POST", f"{JOBS}/{job['id']}/extend", json={"window": "7d"})
    assert reply.status_code == 409


async def test_an_extended_job_expires_at_the_end_of_its_new_window(rig: Rig) -> None:
    job = await queued(rig)
    rig.clock.advance(20 * HOUR)
    for _ in range(2):
        reply = await rig.call("POST", f"{JOBS}/{job['id']}/extend", json={"window": "2d"})
        assert reply.status_code == 200
        assert reply.json()["expires_at"] == job["created_at"] + 2 * DAY
        assert reply.json()["window"] == "2d"
    rig.clock.advance(27 * HOUR)
    assert await rig.ledger.expire_jobs() == 0
    rig.clock.advance(HOUR)
    assert await rig.ledger.expire_jobs() == 1


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"{}", 422),
        (b'{"window":null}', 422),
        (b'{"window":7}', 422),
        (b'{"window":"31d"}', 422),
        (b'{"window":"29m"}', 422),
        (b'{"window":"soon"}', 422),
        (b'{"window":"1h"}', 422),
        (b'{"window":"7d","window":"8d"}', 400),
    ],
)
async def test_a_window_that_cannot_be_is_refused(rig: Rig, body: bytes, status: int) -> None:
    job = await queued(rig)
    reply = await rig.call("POST", f"{JOBS}/{job['id']}/extend", content=body)
    assert reply.status_code == status, reply.text
    assert (await rig.get(f"{JOBS}/{job['id']}"))["expires_at"] == job["expires_at"]


@pytest.mark.parametrize("route", ["pause", "resume", "extend"])
async def test_another_tenants_job_is_not_found(tmp_path: Any, route: str) -> None:
    async with open_rig(tmp_path, key_mode=KeyMode.LOOPBACK) as rig:
        mine, theirs = await rig.key("one", "k-one"), await rig.key("two", "k-two")
        made = await rig.call(
            "POST",
            JOBS,
            json={
                "endpoint": "/v1/chat/completions",
                "model": "small",
                "requests": [{"body": BODY}],
            },
            headers=mine,
        )
        path = f"{JOBS}/{made.json()['id']}/{route}"
        body = {"window": "7d"}
        assert (await rig.call("POST", path, json=body, headers=theirs)).status_code == 404
        assert (await rig.call("POST", path, json=body, headers=mine)).status_code != 404
        assert (
            await rig.call("POST", f"{JOBS}/x/{route}", json=body, headers=mine)
        ).status_code == 404
