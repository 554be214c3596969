"""`results`: every line once in the order in which it was made, from any cursor on."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from batchmill.core.following import Cursor, Follower
from batchmill.errors import BlobMissing
from batchmill.model import Fate, Outcome
from batchmill.ports import Want
from batchmill.results import PublishedPart
from batchmill.web.api import KeyMode
from tests.service.rig import BODY, Rig, answered, lines, open_rig

JOBS = "/v1/batch/jobs"


def every_third_fails(number: int, line: dict[str, Any]) -> Outcome:
    if number % 3:
        return answered(number, line)
    return Outcome(Fate.FAILED, 400, b'{"detail":"no"}', code="bad", message="no")


async def read(rig: Rig, job: str, **query: Any) -> list[dict[str, Any]]:
    reply = await rig.call("GET", f"{JOBS}/{job}/results", params=query)
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"].startswith("application/x-ndjson")
    return [json.loads(line) for line in reply.text.splitlines()]


async def ran(rig: Rig, count: int = 10, shard_lines: int = 4) -> str:
    """A job that has ended, every third line failed."""
    job = await rig.create(input_files=[(await rig.upload(lines(count)))["id"]])
    await rig.finish(every_third_fails, shard_lines)
    return str(job["id"])


async def drop_parts(rig: Rig) -> None:
    """Sweep, as a worker does every half a minute."""
    claimed = await rig.ledger.claim_chore(await rig.worker(), ["sweep"])  # type: ignore[list-item]
    assert claimed is not None
    await rig.chores().run(*claimed)


async def test_a_line_is_the_one_of_its_file_with_a_cursor(rig: Rig) -> None:
    job = await ran(rig)
    ended = await rig.get(f"{JOBS}/{job}")
    files = []
    for file in (ended["output_file"], ended["error_file"]):
        content = await rig.call("GET", f"/v1/files/{file}/content")
        files += [json.loads(line) for line in content.text.splitlines()]
    found = await read(rig, job)
    cursors = [line.pop("cursor") for line in found]
    assert sorted(found, key=lambda line: line["custom_id"]) == sorted(
        files, key=lambda line: line["custom_id"]
    )
    assert len(set(cursors)) == 10


@pytest.mark.parametrize("dropped", [False, True])
async def test_every_cursor_goes_on_with_the_next_line(rig: Rig, dropped: bool) -> None:
    job = await ran(rig)
    before = await read(rig, job)
    if dropped:
        await drop_parts(rig)
        assert not [name for name in rig.stored_files() if "/parts/" in name]
    for place, line in enumerate(before):
        assert await read(rig, job, after=line["cursor"]) == before[place + 1 :]
    assert await read(rig, job, limit=3) == before[:3]
    assert await read(rig, job, limit=4, after=before[1]["cursor"]) == before[2:6]


async def test_a_running_job_gives_what_it_has(rig: Rig) -> None:
    job = await rig.create(input_files=[(await rig.upload(lines(8)))["id"]])
    assert await read(rig, job["id"]) == []
    owner = await rig.worker()
    await rig.plan(owner, 4)
    await rig.run(owner, answered, shards=1)
    first = await read(rig, job["id"])
    assert [line["custom_id"] for line in first] == ["c0", "c1", "c2", "c3"]
    await rig.run(owner, answered)
    rest = await read(rig, job["id"], after=first[-1]["cursor"])
    assert [line["custom_id"] for line in rest] == ["c4", "c5", "c6", "c7"]


async def test_following_goes_on_until_the_job_has_ended(rig: Rig) -> None:
    job = await rig.create(input_files=[(await rig.upload(lines(8)))["id"]])
    async with asyncio.TaskGroup() as tasks:
        whole = tasks.create_task(read(rig, job["id"], follow="true"))
        some = tasks.create_task(read(rig, job["id"], follow="true", limit=6))
        owner = await rig.worker()
        await rig.plan(owner, 4)
        for step in (rig.run(owner, answered, shards=1), rig.run(owner, answered)):
            await step
            for _ in range(10):
                await asyncio.sleep(0.01)
                rig.clock.advance(1.0)
        await asyncio.wait_for(some, 10)
        assert not whole.done()
        await rig.finalize(owner)
        while not whole.done():
            await asyncio.sleep(0.01)
            rig.clock.advance(1.0)
    assert [line["custom_id"] for line in whole.result()] == [f"c{n}" for n in range(8)]
    assert some.result() == whole.result()[:6]


async def test_a_job_refused_by_validation_has_no_results(rig: Rig) -> None:
    job = await rig.create(input_files=[(await rig.upload(b'{"custom_id":1}\n'))["id"]])
    await rig.validate(await rig.worker())
    assert (await rig.get(f"{JOBS}/{job['id']}"))["status"] == "FAILED"
    assert await read(rig, job["id"], follow="true") == []


async def test_a_long_line_is_given_whole(rig: Rig) -> None:
    long = "x" * 3_000_000

    def answer(number: int, line: dict[str, Any]) -> Outcome:
        return Outcome(Fate.SUCCEEDED, 200, json.dumps(long if number == 1 else number).encode())

    job = await rig.create(input_files=[(await rig.upload(lines(3)))["id"]])
    await rig.finish(answer)
    found = await read(rig, job["id"])
    assert [line["response"]["body"] for line in found] == [0, long, 2]
    assert await read(rig, job["id"], after=found[0]["cursor"]) == found[1:]


@pytest.mark.parametrize("file", ["output_file", "error_file"])
async def test_results_of_which_a_file_was_deleted_are_gone(rig: Rig, file: str) -> None:
    job = await ran(rig)
    cursor = (await read(rig, job))[2]["cursor"]
    await rig.call("DELETE", f"/v1/files/{(await rig.get(f'{JOBS}/{job}'))[file]}")
    for query in ({}, {"after": cursor}, {"follow": "true"}):
        reply = await rig.call("GET", f"{JOBS}/{job}/results", params=query)
        assert (reply.status_code, reply.json()["code"]) == (410, "results_gone")


async def test_results_past_their_retention_are_gone(rig: Rig) -> None:
    job = await ran(rig)
    rig.clock.advance(31 * 86400)
    assert (await rig.call("GET", f"{JOBS}/{job}/results")).status_code == 410
    await drop_parts(rig)
    claimed = await rig.ledger.claim_chore(await rig.worker(), ["prune"])  # type: ignore[list-item]
    assert claimed is not None
    await rig.chores().run(*claimed)
    assert (await rig.call("GET", f"{JOBS}/{job}/results")).status_code == 410


@pytest.mark.parametrize(
    "query",
    [
        {"after": "x"},
        {"after": ""},
        {"after": "00000000-1-0"},
        {"after": "{job}-0-0"},
        {"after": "{job}-1-4"},
        {"after": "{job}-99-0"},
        {"after": "{job}-1--1"},
        {"limit": "0"},
        {"limit": "x"},
        {"follow": "maybe"},
    ],
)
async def test_a_bad_cursor_or_limit_is_refused(rig: Rig, query: dict[str, str]) -> None:
    job = await ran(rig)
    query = {name: text.replace("{job}", job[:8]) for name, text in query.items()}
    reply = await rig.call("GET", f"{JOBS}/{job}/results", params=query)
    assert reply.status_code in {400, 422}
    assert reply.json()["param"] == next(iter(query))


async def test_a_segment_with_a_lost_line_is_still_read_line_by_line(rig: Rig) -> None:
    """Closing wrote another line in its place, of another length."""
    job = await ran(rig, 4, 4)
    before = await read(rig, job)
    await drop_parts(rig)
    out = next(rig.root.glob(f"jobs/{job}/out/*"))
    rows = out.read_bytes().splitlines(keepends=True)
    out.write_bytes(b'{"custom_id":"c1","lost":true}\n' + rows[1])
    await shorten_segment(rig, job, out.stat().st_size)
    found = await read(rig, job)
    assert [line["custom_id"] for line in found] == [line["custom_id"] for line in before]
    assert found[1]["lost"] is True
    assert found[2] == before[2]


async def shorten_segment(rig: Rig, job: str, size: int) -> None:
    with sqlite3.connect(rig.root.parent / "ledger.db") as database:
        sql = "UPDATE segment SET size_bytes = ? WHERE job_id = ? AND stream = 'out'"
        database.execute(sql, (size, job))
    database.close()


async def test_another_tenants_results_are_not_found(tmp_path: Path) -> None:
    async with open_rig(tmp_path, key_mode=KeyMode.LOOPBACK) as rig:
        mine, theirs = await rig.key("one", "k-one"), await rig.key("two", "k-two")
        fields = {
            "endpoint": "/v1/chat/completions",
            "model": "small",
            "requests": [{"body": BODY}],
        }
        made = await rig.call("POST", JOBS, json=fields, headers=mine)
        for route in ("results", "progress"):
            path = f"{JOBS}/{made.json()['id']}/{route}"
            assert (await rig.call("GET", path, headers=theirs)).status_code == 404
        assert (await rig.call("GET", f"{JOBS}/x/results", headers=mine)).status_code == 404


async def test_progress_tells_each_change_and_ends_with_the_job(rig: Rig) -> None:
    job = await rig.create(input_files=[(await rig.upload(lines(8)))["id"]])
    path = f"{JOBS}/{job['id']}/progress"
    asked = asyncio.create_task(rig.call("GET", path))
    owner = await rig.worker()

    async def seconds(count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0.02)
            rig.clock.advance(1.0)

    await seconds(2)
    await rig.plan(owner, 4)
    leases = await rig.ledger.claim_shards(owner, Want(limit=1))
    await rig.ledger.release([each.lease for each in leases])
    await seconds(2)
    await rig.run(owner, answered)
    await seconds(3)
    await rig.finalize(owner)
    while not asked.done():
        await seconds(1)
    reply = asked.result()
    assert reply.headers["content-type"].startswith("text/event-stream")
    events = [
        dict(line.split(": ", 1) for line in block.splitlines())
        for block in reply.text.split("\n\n")
        if block and not block.startswith(":")
    ]
    assert {event["event"] for event in events[:-1]} == {"progress"}
    assert events[-1]["event"] == "end"
    shown = [json.loads(event["data"]) for event in events]
    assert shown[-1] == await rig.get(f"{JOBS}/{job['id']}")
    assert shown[0]["status"] == "QUEUED"
    assert shown[-1]["status"] == "SUCCESS"
    done = [each["progress"]["done"] for each in shown]
    assert done == sorted(done)
    assert all(one != two for one, two in pairwise(events))


async def test_progress_of_a_job_that_stands_still_sends_signs_of_life(rig: Rig) -> None:
    job = await rig.create(requests=[{"body": BODY}])
    asked = asyncio.create_task(rig.call("GET", f"{JOBS}/{job['id']}/progress"))
    for _ in range(200):
        await asyncio.sleep(0.01)
        rig.clock.advance(1.0)
    assert await rig.ledger.delete_job(*_of(job["id"]))
    while not asked.done():
        await asyncio.sleep(0.01)
        rig.clock.advance(1.0)
    text = asked.result().text
    assert text.count("event: progress") == 1
    assert text.count(": waiting") >= 2


def _of(job: str) -> Any:
    return ("default", job)


@pytest.mark.parametrize("route", ["results?follow=true", "progress"])
async def test_a_stream_tells_nothing_more_once_its_key_is_revoked(rig: Rig, route: str) -> None:
    mine = await rig.key("default", "right-key")
    asked = {"endpoint": "/v1/chat/completions", "model": "small", "requests": [{"body": BODY}] * 2}
    job = (await rig.call("POST", JOBS, json=asked, headers=mine)).json()
    owner = await rig.worker()
    await rig.plan(owner, 1)
    reading = asyncio.create_task(rig.call("GET", f"{JOBS}/{job['id']}/{route}", headers=mine))

    async def seconds(count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0.02)
            rig.clock.advance(1.0)

    await rig.run(owner, answered, shards=1)
    await seconds(3)
    (record,) = await rig.ledger.keys()
    assert await rig.ledger.revoke_key(record.id)
    await seconds(2)
    await rig.run(owner, answered)
    await rig.finalize(owner)
    while not reading.done():
        await seconds(1)
    text = reading.result().text
    assert text
    assert text.count('"cursor"') == (route != "progress")
    assert "event: end" not in text
    told = {each["event"]: each for each in rig.logs}
    assert "request_failed" not in told
    if route != "progress":
        assert "revoked" in told["reply_broken_off"]["error"]


class Belated:
    """A ledger whose first answer about parts is from before their shards were closed."""

    def __init__(self, rig: Rig, before: tuple[PublishedPart, ...]) -> None:
        self._rig, self._before = rig, before

    async def parts_since(self, job: Any, sequence: int, limit: int) -> tuple[PublishedPart, ...]:
        before, self._before = self._before, ()
        return before or await self._rig.ledger.parts_since(job, sequence, limit)

    async def shard_results(self, job: Any, ns: Any) -> Any:
        return await self._rig.ledger.shard_results(job, ns)


async def test_a_part_that_is_dropped_while_it_is_read_is_read_from_its_segments(
    rig: Rig,
) -> None:
    job: Any = await ran(rig)
    wanted = await read(rig, job)
    parts = await rig.ledger.parts_since(job, 0, 100)
    await drop_parts(rig)
    before = tuple(replace(each, is_live=True) for each in parts)
    ledger: Any = Belated(rig, before)
    follower = Follower(job, ledger, rig.blobs, Cursor())
    text = b"".join([piece async for piece in follower.read(100)])
    assert [json.loads(line) for line in text.splitlines()] == wanted
    assert follower.given == len(wanted)


async def test_a_part_that_is_lost_before_its_shard_is_closed_breaks_the_stream(rig: Rig) -> None:
    job: Any = await ran(rig)
    parts = await rig.ledger.parts_since(job, 0, 100)
    await drop_parts(rig)
    lost = tuple(replace(each, is_live=True) for each in parts)
    ledger: Any = Belated(rig, lost)
    ledger.parts_since = lambda *_: _answer(lost)
    with pytest.raises(BlobMissing):
        _ = [piece async for piece in Follower(job, ledger, rig.blobs, Cursor()).read(100)]


async def _answer(parts: tuple[PublishedPart, ...]) -> tuple[PublishedPart, ...]:
    return parts
