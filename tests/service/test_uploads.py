"""`/v1/uploads`: a file in parts, put together, given up, expired."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from batchmill.core.chores import sweep_orphans
from batchmill.core.submit import Limits
from tests.service.forms import HEADERS, form, part
from tests.service.rig import Rig, lines, open_rig

GOOD = lines(40)
HOUR = 3600


async def announce(rig: Rig, content: bytes = GOOD, **fields: Any) -> Any:
    asked = {
        "bytes": len(content),
        "filename": "in.jsonl",
        "mime_type": "application/jsonl",
        "purpose": "batch",
    }
    reply = await rig.call("POST", "/v1/uploads", json={**asked, **fields})
    assert reply.status_code == 200, reply.text
    return reply.json()


async def send(rig: Rig, upload: Any, data: bytes, **given: Any) -> httpx2.Response:
    body = form(part("data", data, filename="upload"))
    path = f"/v1/uploads/{upload['id']}/parts"
    return await rig.call("POST", path, content=body, headers=HEADERS | given)


async def send_all(rig: Rig, upload: Any, content: bytes = GOOD, size: int = 1000) -> list[str]:
    pieces = [content[at : at + size] for at in range(0, len(content), size)]
    replies = await asyncio.gather(*[send(rig, upload, each) for each in pieces])
    assert {reply.status_code for reply in replies} == {200}
    return [reply.json()["id"] for reply in replies]


async def complete(rig: Rig, upload: Any, parts: list[str], **fields: Any) -> httpx2.Response:
    asked = {"part_ids": parts, **fields}
    return await rig.call("POST", f"/v1/uploads/{upload['id']}/complete", json=asked)


async def test_a_file_in_parts_sent_side_by_side_is_one_file(rig: Rig) -> None:
    upload = await announce(rig)
    assert upload == {
        "id": upload["id"],
        "object": "upload",
        "bytes": len(GOOD),
        "created_at": 1_800_000_000,
        "expires_at": 1_800_000_000 + HOUR,
        "filename": "in.jsonl",
        "purpose": "batch",
        "status": "pending",
        "file": None,
    }
    parts = await send_all(rig, upload)
    done = (await complete(rig, upload, parts, md5=hashlib.md5(GOOD).hexdigest().upper())).json()
    assert done["status"] == "completed"
    direct = await rig.upload(GOOD)
    assert {**done["file"], "id": ""} == {**direct, "id": ""}
    assert (await rig.call("GET", f"/v1/files/{done['file']['id']}/content")).content == GOOD
    assert (await rig.get(f"/v1/uploads/{upload['id']}")) == done
    assert len(rig.stored_files()) == 2, "the parts are gone"


async def test_the_order_is_told_at_the_end(rig: Rig) -> None:
    upload = await announce(rig, b'{"a":1}\n{"b":2}\n')
    later = (await send(rig, upload, b'{"b":2}\n')).json()
    first = (await send(rig, upload, b'{"a":1}\n')).json()
    assert first == {
        "id": first["id"],
        "object": "upload.part",
        "created_at": 1_800_000_000,
        "upload_id": upload["id"],
    }
    done = (await complete(rig, upload, [first["id"], later["id"]])).json()
    content = await rig.call("GET", f"/v1/files/{done['file']['id']}/content")
    assert content.content == b'{"a":1}\n{"b":2}\n'


async def test_a_file_made_of_parts_can_be_run(rig: Rig) -> None:
    upload = await announce(rig)
    done = (await complete(rig, upload, await send_all(rig, upload))).json()
    job = await rig.create(input_files=[done["file"]["id"]])
    assert job["total_requests"] == 40


async def test_the_file_lasts_as_the_upload_said(rig: Rig) -> None:
    after = {"anchor": "created_at", "seconds": 2 * HOUR}
    upload = await announce(rig, expires_after=after)
    rig.clock.advance(600)
    done = (await complete(rig, upload, await send_all(rig, upload))).json()
    assert done["file"]["expires_at"] == done["file"]["created_at"] + 2 * HOUR


async def test_completing_twice_with_the_same_parts_gives_the_same_file(rig: Rig) -> None:
    upload = await announce(rig)
    parts = await send_all(rig, upload)
    replies = await asyncio.gather(*[complete(rig, upload, parts) for _ in range(5)])
    assert {reply.status_code for reply in replies} == {200}
    assert len({reply.json()["file"]["id"] for reply in replies}) == 1
    assert (await rig.get("/v1/files"))["total"] == 1
    assert len(rig.stored_files()) == 1
    other = await complete(rig, upload, parts[::-1])
    assert (other.status_code, other.headers["x-should-retry"]) == (409, "false")


async def test_nothing_is_taken_after_the_end(rig: Rig) -> None:
    upload = await announce(rig)
    parts = await send_all(rig, upload)
    await complete(rig, upload, parts)
    for reply in (
        await send(rig, upload, b"x"),
        await rig.call("POST", f"/v1/uploads/{upload['id']}/cancel"),
    ):
        assert (reply.status_code, reply.headers["x-should-retry"]) == (409, "false")
        assert "completed" in reply.json()["message"]
    assert len(rig.stored_files()) == 1


async def test_a_cancelled_upload_leaves_nothing(rig: Rig) -> None:
    upload = await announce(rig)
    parts = await send_all(rig, upload)
    for _ in range(2):
        cancelled = await rig.call("POST", f"/v1/uploads/{upload['id']}/cancel")
        assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    assert rig.stored_files() == []
    assert (await complete(rig, upload, parts)).status_code == 409
    assert (await send(rig, upload, b"x")).status_code == 409


async def test_an_upload_expires_after_an_hour_and_is_swept(rig: Rig) -> None:
    upload = await announce(rig)
    parts = await send_all(rig, upload)
    rig.clock.advance(HOUR - 1)
    assert (await rig.get(f"/v1/uploads/{upload['id']}"))["status"] == "pending"
    rig.clock.advance(1)
    assert (await rig.get(f"/v1/uploads/{upload['id']}"))["status"] == "expired"
    for reply in (
        await send(rig, upload, b"x"),
        await complete(rig, upload, parts),
        await rig.call("POST", f"/v1/uploads/{upload['id']}/cancel"),
    ):
        assert (reply.status_code, reply.headers["x-should-retry"]) == (409, "false")
    rig.clock.advance(HOUR)
    await rig.sweep()
    assert rig.stored_files() == []
    assert (await rig.get(f"/v1/uploads/{upload['id']}"))["status"] == "expired"
    rig.clock.advance(8 * 86_400)
    await rig.sweep()
    assert (await rig.call("GET", f"/v1/uploads/{upload['id']}")).status_code == 404


async def test_parts_of_a_pending_upload_are_never_swept(rig: Rig) -> None:
    upload = await announce(rig)
    parts = await send_all(rig, upload)
    await rig.sweep()
    await sweep_orphans(rig.ledger, rig.blobs, results_age_seconds=0, uploads_age_seconds=0)
    assert (await complete(rig, upload, parts)).status_code == 200


async def test_a_part_that_no_row_names_is_swept(rig: Rig) -> None:
    writer = await rig.blobs.writer("uploads/a/b")
    await writer.write(b"lost")
    await writer.commit()
    await sweep_orphans(rig.ledger, rig.blobs, uploads_age_seconds=0)
    assert rig.stored_files() == []


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"\n\n", "empty_file"),
        (b"[1]\n", "invalid_json_line"),
        (b"plain text\n", "invalid_json_line"),
    ],
)
async def test_the_checks_are_those_of_a_direct_upload(rig: Rig, content: bytes, code: str) -> None:
    upload = await announce(rig, content)
    parts = await send_all(rig, upload, content)
    refused = await complete(rig, upload, parts)
    assert (refused.status_code, refused.json()["code"]) == (400, code)
    assert (await rig.get("/v1/files"))["total"] == 0
    assert len(rig.stored_files()) == 1, "the part, and no file"
    other = await announce(rig, content, purpose="ocr")
    done = await complete(rig, other, await send_all(rig, other, content))
    assert done.json()["file"]["purpose"] == "ocr"


async def test_parts_that_are_not_the_whole_file_are_refused(rig: Rig) -> None:
    upload, other = await announce(rig), await announce(rig)
    parts, strange = await send_all(rig, upload), await send_all(rig, other)
    for ids, param in (
        (parts[:-1], "part_ids"),
        ([*parts[:-1], strange[0]], f"part_ids.{len(parts) - 1}"),
        ([*parts, parts[0]], f"part_ids.{len(parts)}"),
        ([*parts, "part_x"], f"part_ids.{len(parts)}"),
        ([], "part_ids"),
    ):
        refused = await complete(rig, upload, ids)
        assert (refused.status_code, refused.json()["param"]) == (400, param), refused.text
    wrong = await complete(rig, upload, parts, md5="0" * 32)
    assert (wrong.status_code, wrong.json()["param"]) == (400, "md5")
    assert (await complete(rig, upload, parts)).status_code == 200, "it may be tried again"


async def test_a_part_sent_twice_is_left_out_and_dropped(rig: Rig) -> None:
    upload = await announce(rig)
    await send_all(rig, upload)
    parts = await send_all(rig, upload)
    assert (await complete(rig, upload, parts)).status_code == 200
    assert len(rig.stored_files()) == 1


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"bytes": 0}, 400, "bytes"),
        ({"bytes": "12"}, 400, "bytes"),
        ({"bytes": True}, 400, "bytes"),
        ({"bytes": None}, 400, "bytes"),
        ({"bytes": 10**30}, 413, "bytes"),
        ({"bytes": 1001}, 413, "bytes"),
        ({"filename": None}, 400, "filename"),
        ({"filename": "\ud800"}, 400, None),
        ({"filename": "a\x00b"}, 400, "filename"),
        ({"purpose": "no way"}, 400, "purpose"),
        ({"mime_type": "a\nb"}, 400, "mime_type"),
        ({"expires_after": {"seconds": HOUR}}, 400, "expires_after.anchor"),
        ({"expires_after": {"anchor": "created_at", "seconds": 1}}, 400, "expires_after.seconds"),
    ],
)
async def test_what_cannot_be_announced_says_which_field(
    tmp_path: Path, change: dict[str, Any], status: int, param: str | None
) -> None:
    async with open_rig(tmp_path, limits=Limits(file_bytes=1000)) as rig:
        asked = {"bytes": 10, "filename": "a", "mime_type": "text/plain", "purpose": "batch"}
        body = json.dumps(asked | change)
        refused = await rig.call("POST", "/v1/uploads", content=body)
        assert (refused.status_code, refused.json()["param"]) == (status, param), refused.text


async def test_a_part_larger_than_the_upload_is_refused_and_leaves_nothing(rig: Rig) -> None:
    upload = await announce(rig, b"{}\n")
    refused = await send(rig, upload, b"x" * 100_000)
    assert (refused.status_code, refused.json()["param"]) == (413, "data")
    empty = await send(rig, upload, b"")
    assert (empty.status_code, empty.json()["param"]) == (400, "data")
    assert rig.stored_files() == []


async def test_an_upload_without_room_is_refused(tmp_path: Path) -> None:
    async with open_rig(tmp_path, low_disk_bytes=1 << 60) as rig:
        asked = {"bytes": 10, "filename": "a", "mime_type": "text/plain", "purpose": "batch"}
        refused = await rig.call("POST", "/v1/uploads", json=asked)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "30")


async def test_another_tenants_upload_is_not_found(rig: Rig) -> None:
    mine, theirs = await rig.key("a", "key-of-a"), await rig.key("b", "key-of-b")
    asked = {"bytes": 3, "filename": "a", "mime_type": "text/plain", "purpose": "batch"}
    reply = await rig.call("POST", "/v1/uploads", json=asked, headers=mine)
    upload = reply.json()
    path = f"/v1/uploads/{upload['id']}"
    replies = [
        await rig.call("GET", path, headers=theirs),
        await send(rig, upload, b"{}\n", **theirs),
        await rig.call("POST", f"{path}/complete", json={"part_ids": ["part_x"]}, headers=theirs),
        await rig.call("POST", f"{path}/cancel", headers=theirs),
        await rig.call("GET", "/v1/uploads/upload_x", headers=mine),
    ]
    assert [reply.status_code for reply in replies] == [404] * 5
    assert (await rig.call("GET", path, headers=mine)).json()["status"] == "pending"
