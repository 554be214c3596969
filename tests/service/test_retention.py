"""What is kept for how long: over the real ledger and blobs, with a clock that is told the day."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from batchmill.core.chores import sweep_orphans
from batchmill.core.names import body_name, probe_name
from batchmill.deliveries import Tried, WebhookEndpoint
from batchmill.model import Fate, Kind, Outcome
from tests.service.rig import Rig, answered, lines, open_rig

DAY = 86_400.0
JOBS = "/v1/batch/jobs"
HOOK = WebhookEndpoint("https://hook.example/")


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with open_rig(tmp_path, endpoints=[HOOK]) as opened:
        yield opened


async def housekeep(rig: Rig, keep_uploads: float = 30 * DAY) -> None:
    """All housekeeping that is due, and a scan for blobs that nobody needs, however young."""
    owner = await rig.worker()
    chores = rig.chores(keep_uploads)
    for _ in range(2):
        while found := await rig.ledger.claim_chore(owner, [Kind.SWEEP, Kind.PRUNE]):
            await chores.run(*found)
        rig.clock.advance(3600)
    await sweep_orphans(rig.ledger, rig.blobs, results_age_seconds=-1, uploads_age_seconds=-1)


def half(number: int, line: dict[str, Any]) -> Outcome:
    return answered(number, line) if number % 2 else Outcome(Fate.FAILED, 400, b"{}")


async def content(rig: Rig, file: str) -> int:
    return (await rig.call("GET", f"/v1/files/{file}/content")).status_code


def stored(rig: Rig, prefix: str) -> set[str]:
    return {name for name in rig.stored_files() if name.startswith(prefix)}


async def ran(rig: Rig, **fields: Any) -> Any:
    """A finished job with both result files, and its upload."""
    upload = await rig.upload(lines(4))
    job = await rig.create(input_files=[upload["id"]], **fields)
    await rig.finish(half)
    return await rig.get(f"{JOBS}/{job['id']}")


async def test_uploads_and_results_go_after_30_days_and_nothing_else_does(rig: Rig) -> None:
    old = await ran(rig)
    rig.clock.advance(10 * DAY)
    young = await ran(rig)
    await housekeep(rig)
    before = set(rig.stored_files())
    rig.clock.advance(18 * DAY)
    await housekeep(rig)
    assert set(rig.stored_files()) == before, "on the 29th day"
    rig.clock.advance(3 * DAY)
    await housekeep(rig)
    gone = before - set(rig.stored_files())
    assert gone
    assert all(old["id"] in name or old["input_files"][0] in name for name in gone)
    assert not [name for name in rig.stored_files() if old["id"] in name]
    for file in (old["input_files"][0], old["output_file"], old["error_file"]):
        assert await content(rig, file) == 404
    for file in (young["input_files"][0], young["output_file"], young["error_file"]):
        assert await content(rig, file) == 200
    told = await rig.get(f"{JOBS}/{old['id']}")
    assert (told["status"], told["succeeded_requests"]) == ("SUCCESS", 2)
    results = await rig.call("GET", f"{JOBS}/{old['id']}/results")
    assert (results.status_code, results.json()["code"]) == (410, "results_gone")
    assert (await rig.call("GET", f"{JOBS}/{young['id']}/results")).status_code == 200


async def test_a_cursor_on_pruned_results_is_410(rig: Rig) -> None:
    job = await ran(rig)
    first = (await rig.call("GET", f"{JOBS}/{job['id']}/results?limit=1")).json()["cursor"]
    rig.clock.advance(31 * DAY)
    await housekeep(rig)
    reply = await rig.call("GET", f"{JOBS}/{job['id']}/results", params={"after": first})
    assert reply.status_code == 410


async def test_an_input_never_goes_under_an_unfinished_job(rig: Rig) -> None:
    upload = await rig.upload(lines(4))
    rig.clock.advance(29 * DAY)
    job = await rig.create(input_files=[upload["id"]], timeout_hours=168)
    owner = await rig.worker()
    await rig.plan(owner)
    rig.clock.advance(5 * DAY)
    await housekeep(rig)
    assert stored(rig, "inputs/")
    await rig.run(owner, answered)
    await rig.finalize(owner)
    await housekeep(rig)
    assert not stored(rig, "inputs/")
    done = await rig.get(f"{JOBS}/{job['id']}")
    assert (done["status"], await content(rig, done["output_file"])) == ("SUCCESS", 200)


async def test_uploads_are_kept_for_ever_where_that_is_set(tmp_path: Path) -> None:
    async with open_rig(tmp_path, keep_uploads_seconds=0.0) as rig:
        upload = await rig.upload(lines(4))
        rig.clock.advance(3650 * DAY)
        await housekeep(rig, keep_uploads=0.0)
        assert await content(rig, upload["id"]) == 200


async def test_a_job_may_ask_for_its_results_to_be_kept_shorter_not_longer(rig: Rig) -> None:
    found = {}
    for days in (1, 30):
        upload = await rig.upload(lines(4))
        expiry = {"anchor": "created_at", "seconds": int(days * DAY)}
        batch = await rig.batch(
            endpoint="/v1/chat/completions",
            input_file_id=upload["id"],
            output_expires_after=expiry,
        )
        await rig.finish(half)
        found[days] = await rig.get(f"/v1/batches/{batch['id']}")
    rig.clock.advance(2 * DAY)
    await housekeep(rig)
    assert await content(rig, found[1]["output_file_id"]) == 404
    assert await content(rig, found[30]["output_file_id"]) == 200
    rig.clock.advance(30 * DAY)
    await housekeep(rig)
    assert await content(rig, found[30]["output_file_id"]) == 404
    assert not stored(rig, "jobs/")


async def test_deliveries_go_30_days_after_they_ended(rig: Rig) -> None:
    await ran(rig)
    due = await rig.ledger.claim_delivery(await rig.worker())
    assert due is not None
    await rig.ledger.note_try(due.lease, Tried(acknowledged=True, status=200), None)
    listed = "/v1/webhook_deliveries"
    for days, left in ((29.5, 1), (1, 0)):
        rig.clock.advance(days * DAY)
        await housekeep(rig)
        assert len((await rig.get(listed))["data"]) == left


async def test_what_workers_wrote_to_try_the_store_does_not_pile_up(rig: Rig) -> None:
    await rig.blobs.put_many([(probe_name("gone"), [b"written"])])
    await housekeep(rig)
    assert stored(rig, "probes/") == set()


async def test_bodies_that_a_crash_left_are_swept(rig: Rig) -> None:
    await rig.blobs.put_many([(body_name("left"), [b"{"])])
    await housekeep(rig)
    assert stored(rig, "bodies/") == set()
