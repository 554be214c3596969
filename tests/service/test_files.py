from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from batchmill.core.submit import Limits
from batchmill.model import Fate, Outcome
from tests.service.forms import HEADERS, file_part, form, in_pieces, part
from tests.service.rig import Rig, answered, lines, open_rig

GOOD = lines(3)


async def test_an_uploaded_file_is_shown_with_the_fields_of_both_vendors(rig: Rig) -> None:
    file = await rig.upload(GOOD, "requests.jsonl")
    assert file == {
        "id": file["id"],
        "object": "file",
        "bytes": len(GOOD),
        "created_at": 1_800_000_000,
        "filename": "requests.jsonl",
        "purpose": "batch",
        "sample_type": "batch_request",
        "source": "upload",
        "num_lines": 3,
        "mimetype": "application/jsonl",
        "signature": hashlib.sha256(GOOD).hexdigest(),
        "expires_at": 1_800_000_000 + 30 * 86400,
        "visibility": "workspace",
        "status": "processed",
        "status_details": None,
    }
    assert await rig.get(f"/v1/files/{file['id']}") == {**file, "deleted": False}


@pytest.mark.parametrize("size", [1, 7, 64, 100_000])
@pytest.mark.parametrize("file_first", [True, False])
async def test_a_form_is_understood_in_any_order_and_any_cut(
    rig: Rig, size: int, *, file_first: bool
) -> None:
    fields = [part("purpose", "batch"), part("visibility", "user"), part("expiry", "2")]
    parts = [file_part(GOOD), *fields] if file_first else [*fields, file_part(GOOD)]

    async def chunked() -> AsyncIterator[bytes]:
        for piece in in_pieces(form(*parts, end=b"--b0undary--\r\n\r\n"), size):
            yield piece

    reply = await rig.call("POST", "/v1/files", content=chunked(), headers=HEADERS)
    assert reply.status_code == 200, reply.text
    file = reply.json()
    assert (file["num_lines"], file["visibility"]) == (3, "user")
    assert file["expires_at"] == file["created_at"] + 7200
    assert (await rig.call("GET", f"/v1/files/{file['id']}/content")).content == GOOD


async def test_openais_expiry_is_kept(rig: Rig) -> None:
    file = await rig.upload(
        GOOD, **{"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    )
    assert file["expires_at"] == file["created_at"] + 3600
    rig.clock.advance(3601)
    assert (await rig.call("GET", f"/v1/files/{file['id']}")).status_code == 404


@pytest.mark.parametrize(("kept", "expires"), [(0.0, None), (60.0, 60)])
async def test_uploads_show_when_the_server_forgets_them(
    tmp_path: Path, kept: float, expires: int | None
) -> None:
    async with open_rig(tmp_path, keep_uploads_seconds=kept) as rig:
        file = await rig.upload(GOOD)
        assert file["expires_at"] == (None if expires is None else file["created_at"] + expires)
        longer = await rig.upload(GOOD, expiry="5")
        rig.clock.advance(60)
        status = (await rig.call("GET", f"/v1/files/{file['id']}")).status_code
        assert status == (200 if expires is None else 404), "gone at once, before any sweep"
        assert longer["expires_at"] == longer["created_at"] + (expires or 5 * 3600)


async def test_a_missing_purpose_is_batch(rig: Rig) -> None:
    reply = await rig.call("POST", "/v1/files", content=form(file_part(GOOD)), headers=HEADERS)
    assert reply.json()["purpose"] == "batch"


async def test_other_purposes_take_any_content(rig: Rig) -> None:
    content = bytes(range(256)) * 10
    file = await rig.upload(content, "photo.png", purpose="ocr")
    assert file["num_lines"] is None
    assert (await rig.call("GET", f"/v1/files/{file['id']}/content")).content == content


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("日本語 ñ 😀.jsonl", "日本語 ñ 😀.jsonl"),
        ("../../etc/passwd", "passwd"),
        ("C:\\temp\\x.jsonl", "x.jsonl"),
        ("..", "upload"),
        ("", "upload"),
        ("a\tb\x7f.jsonl", "a_b_.jsonl"),
        ("x" * 5000, "x" * 255),
        ("bad;name=\\'.jsonl", "'.jsonl"),
    ],
)
async def test_a_filename_is_text_and_never_a_path(rig: Rig, sent: str, kept: str) -> None:
    if len(sent) > 1000:
        sent = sent[:3000]
    body = form(part("file", GOOD, filename=sent))
    reply = await rig.call("POST", "/v1/files", content=body, headers=HEADERS)
    assert reply.status_code == 200, reply.text
    assert reply.json()["filename"] == kept
    assert len(rig.stored_files()) == 1


async def test_a_media_type_with_control_characters_is_none(rig: Rig) -> None:
    """PostgreSQL keeps no NUL, and would refuse a file whose bytes have come."""
    odd = part("file", GOOD, filename="a.bin", extra="content-type: a/\x00b\r\n")
    body = form(part("purpose", "ocr"), odd)
    reply = await rig.call("POST", "/v1/files", content=body, headers=HEADERS)
    assert (reply.status_code, reply.json()["mimetype"]) == (200, None)


async def test_a_filename_cannot_add_headers_to_a_download(rig: Rig) -> None:
    name = 'a"; x=é😀.jsonl'
    file = await rig.upload(GOOD, "plain.jsonl")
    body = form(part("file", GOOD, filename=name.replace('"', '\\"')))
    file = (await rig.call("POST", "/v1/files", content=body, headers=HEADERS)).json()
    assert file["filename"] == name
    reply = await rig.call("GET", f"/v1/files/{file['id']}/content")
    assert reply.headers["content-disposition"] == (
        'attachment; filename="a__ x___.jsonl"; '
        "filename*=UTF-8''a%22%3B%20x%3D%C3%A9%F0%9F%98%80.jsonl"
    )


async def test_nothing_is_left_of_a_refused_upload(rig: Rig) -> None:
    for content in (b"", b"\n \n", b"[1]\n", b"nonsense"):
        body = form(file_part(content), part("purpose", "batch"))
        reply = await rig.call("POST", "/v1/files", content=body, headers=HEADERS)
        assert reply.status_code == 400
    cut = form(file_part(GOOD), end=b"")[:-20]
    assert (await rig.call("POST", "/v1/files", content=cut, headers=HEADERS)).status_code == 400
    assert rig.stored_files() == []
    assert (await rig.get("/v1/files"))["total"] == 0


async def test_a_file_over_the_limit_is_413_and_leaves_nothing(tmp_path: Path) -> None:
    async with open_rig(tmp_path, limits=Limits(file_bytes=100_000)) as rig:
        body = form(file_part(GOOD + b" " * 100_000))
        reply = await rig.call("POST", "/v1/files", content=body, headers=HEADERS)
        assert (reply.status_code, reply.json()["code"]) == (413, "file_too_large")
        huge = {**HEADERS, "content-length": "999999999"}
        reply = await rig.call("POST", "/v1/files", content=body, headers=huge)
        assert reply.status_code == 413
        assert rig.stored_files() == []


async def test_uploads_stop_before_the_disk_is_full(tmp_path: Path) -> None:
    async with open_rig(tmp_path, low_disk_bytes=1 << 60) as rig:
        body = form(file_part(GOOD))
        reply = await rig.call("POST", "/v1/files", content=body, headers=HEADERS)
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "30")
        reply = await rig.call(
            "POST",
            "/v1/batch/jobs",
            json={"endpoint": "/v1/ocr", "model": "small", "requests": [{"body": {}}]},
        )
        assert reply.status_code == 503
        assert rig.stored_files() == []


async def test_lists_page_by_number_for_mistral(rig: Rig) -> None:
    ids = [(await rig.upload(GOOD, f"{n}.jsonl"))["id"] for n in range(5)]
    page = await rig.get("/v1/files?page=1&page_size=2")
    assert [file["id"] for file in page["data"]] == [ids[2], ids[1]]
    assert (page["total"], page["has_more"]) == (5, True)
    assert (page["first_id"], page["last_id"]) == (ids[2], ids[1])
    assert (await rig.get("/v1/files?page=9"))["data"] == []


async def test_lists_page_by_cursor_for_openai(rig: Rig) -> None:
    ids = [(await rig.upload(GOOD, f"{n}.jsonl"))["id"] for n in range(5)]
    first = await rig.get("/v1/files?limit=2")
    assert [file["id"] for file in first["data"]] == [ids[4], ids[3]]
    second = await rig.get(f"/v1/files?limit=3&after=file-{ids[3].replace('-', '')}")
    assert [file["id"] for file in second["data"]] == [ids[2], ids[1], ids[0]]
    assert second["has_more"] is False
    assert (await rig.get("/v1/files?limit=2&after=")) == first
    assert (await rig.get(f"/v1/files?after={ids[0]}"))["data"] == []
    assert (await rig.get("/v1/files?after=file-unknown"))["data"] == []
    upwards = await rig.get("/v1/files?order=asc&limit=1")
    assert upwards["data"][0]["id"] == ids[0]
    assert len((await rig.get("/v1/files"))["data"]) == 5


async def test_lists_are_filtered(rig: Rig) -> None:
    wanted = await rig.upload(GOOD, "Wanted-100%.jsonl")
    other = await rig.upload(b"{}", "other.bin", purpose="fine-tune")

    async def found(query: str) -> list[str]:
        return [file["id"] for file in (await rig.get(f"/v1/files?{query}"))["data"]]

    assert await found("purpose=fine-tune") == [other["id"]]
    assert await found("search=wanted") == [wanted["id"]]
    assert await found("search=100%25") == [wanted["id"]]
    assert await found("search=%25x%25") == []
    assert await found("source=upload") == [other["id"], wanted["id"]]
    assert await found("source=mistral") == []
    assert await found("source=repository") == []
    assert await found("source=repository&source=upload") == [other["id"], wanted["id"]]
    assert await found("sample_type=batch_request&sample_type=batch_result") != []
    assert await found("sample_type=batch_error") == []
    assert await found("mimetypes=application/jsonl&include_total=false") == [wanted["id"]]
    assert await found("&".join(["sample_type=batch_result"] * 1100)) == []


async def test_a_deleted_file_is_gone_at_once(rig: Rig) -> None:
    file = await rig.upload(GOOD)
    reply = await rig.call("DELETE", f"/v1/files/{file['id']}")
    assert reply.json() == {"id": file["id"], "object": "file", "deleted": True}
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/content"), ("GET", "/url")):
        reply = await rig.call(method, f"/v1/files/{file['id']}{path}")
        assert (reply.status_code, reply.json()["param"]) == (404, "id")


async def test_a_file_in_use_cannot_be_deleted_and_clients_do_not_retry(rig: Rig) -> None:
    file = await rig.upload(GOOD)
    job = await rig.create(input_files=[file["id"]])
    reply = await rig.call("DELETE", f"/v1/files/{file['id']}")
    assert (reply.status_code, reply.headers["x-should-retry"]) == (409, "false")
    await rig.call("POST", f"/v1/batch/jobs/{job['id']}/cancel")
    assert (await rig.call("DELETE", f"/v1/files/{file['id']}")).status_code == 200


async def test_every_spelling_of_an_id_is_understood(rig: Rig) -> None:
    file = await rig.upload(GOOD)
    plain = file["id"].replace("-", "")
    for spelling in (file["id"].upper(), f"file-{plain}", plain, f"file-{file['id']}"):
        assert (await rig.get(f"/v1/files/{spelling}"))["id"] == file["id"]


@pytest.mark.parametrize(
    ("asked", "status", "start", "end"),
    [
        ("bytes=0-0", 206, 0, 1),
        ("bytes=5-9", 206, 5, 10),
        ("bytes=5-", 206, 5, None),
        ("bytes=-7", 206, -7, None),
        ("bytes=-999999", 206, 0, None),
        ("bytes=0-999999", 206, 0, None),
        ("bytes=3-1", 200, 0, None),
        ("bytes=0-1,3-4", 200, 0, None),
        ("bytes=-", 200, 0, None),
        ("lines=1-2", 200, 0, None),
        ("bytes=" + "9" * 40 + "-", 200, 0, None),
        ("bytes=999999-", 416, 0, 0),
        ("bytes=-0", 416, 0, 0),
    ],
)
async def test_a_download_understands_ranges(
    rig: Rig, asked: str, status: int, start: int, end: int | None
) -> None:
    file = await rig.upload(GOOD)
    reply = await rig.call("GET", f"/v1/files/{file['id']}/content", headers={"range": asked})
    assert reply.status_code == status
    if status == 416:
        assert reply.headers["content-range"] == f"bytes */{len(GOOD)}"
        return
    wanted = GOOD[start:end]
    assert reply.content == wanted
    assert reply.headers["content-length"] == str(len(wanted))
    assert reply.headers["content-type"] == "application/octet-stream"
    assert "content-encoding" not in reply.headers
    if status == 206:
        at = GOOD.index(wanted) if start >= 0 else len(GOOD) + start
        assert reply.headers["content-range"] == f"bytes {at}-{at + len(wanted) - 1}/{len(GOOD)}"


async def test_a_range_of_another_version_is_the_whole_file(rig: Rig) -> None:
    file = await rig.upload(GOOD)
    path = f"/v1/files/{file['id']}/content"
    etag = (await rig.call("HEAD", path)).headers["etag"]
    same = await rig.call("GET", path, headers={"range": "bytes=0-1", "if-range": etag})
    other = await rig.call("GET", path, headers={"range": "bytes=0-1", "if-range": '"x"'})
    assert (same.status_code, other.status_code) == (206, 200)


@pytest.mark.parametrize(
    ("told", "status"),
    [("{}", 304), ('"x", W/{}', 304), ("*", 304), ('"x"', 206), ("", 206), ("{}x", 206)],
)
async def test_bytes_that_the_asker_has_are_not_sent_again(
    rig: Rig, told: str, status: int
) -> None:
    file = await rig.upload(GOOD)
    path = f"/v1/files/{file['id']}/content"
    etag = (await rig.call("HEAD", path)).headers["etag"]
    headers = {"if-none-match": told.format(etag), "range": "bytes=0-1"}
    for method in ("GET", "HEAD"):
        reply = await rig.call(method, path, headers=headers)
        assert (reply.status_code, reply.headers["etag"]) == (status, etag)
        assert reply.content == (GOOD[:2] if (status, method) == (206, "GET") else b"")


async def test_head_tells_the_length_without_the_bytes(rig: Rig) -> None:
    file = await rig.upload(GOOD)
    reply = await rig.call("HEAD", f"/v1/files/{file['id']}/content")
    assert (reply.status_code, reply.content) == (200, b"")
    assert reply.headers["content-length"] == str(len(GOOD))


def half_fails(number: int, line: object) -> Outcome:
    if number % 2:
        return Outcome(Fate.FAILED, 400, b'{"error":"no"}', code="bad", message="no")
    return answered(number, {})


async def test_result_files_are_read_from_their_segments_with_ranges(rig: Rig) -> None:
    file = await rig.upload(lines(40))
    job = await rig.create(input_files=[file["id"]])
    await rig.finish(half_fails, shard_lines=7)
    done = await rig.get(f"/v1/batch/jobs/{job['id']}")
    for side, sample, first in (("output", "batch_result", 0), ("error", "batch_error", 1)):
        shown = await rig.get(f"/v1/files/{done[f'{side}_file']}")
        assert (shown["purpose"], shown["sample_type"]) == ("batch_output", sample)
        assert (shown["source"], shown["num_lines"]) == ("mistral", 20)
        path = f"/v1/files/{shown['id']}/content"
        whole = (await rig.call("GET", path)).content
        assert len(whole) == shown["bytes"]
        ids = [json.loads(line)["custom_id"] for line in whole.splitlines()]
        assert ids == [f"c{n}" for n in range(first, 40, 2)]
        for start, end in ((0, 1), (900, 2500), (len(whole) - 5, len(whole))):
            asked = {"range": f"bytes={start}-{end - 1}"}
            assert (await rig.call("GET", path, headers=asked)).content == whole[start:end]


async def test_result_files_match_purpose_batch_where_mistral_asks(rig: Rig) -> None:
    file = await rig.upload(lines(2))
    await rig.create(input_files=[file["id"]])
    await rig.finish(answered)
    assert (await rig.get("/v1/files?purpose=batch&page=0&page_size=10"))["total"] == 2
    assert (await rig.get("/v1/files?purpose=batch&limit=10"))["total"] == 1
    assert (await rig.get("/v1/files?source=mistral"))["total"] == 1
    assert (await rig.get("/v1/files?sample_type=batch_result"))["total"] == 1


async def test_a_missing_blob_is_told_before_the_first_byte(rig: Rig) -> None:
    file = await rig.upload(GOOD)
    for path in rig.root.rglob("*"):
        if path.is_file():
            path.unlink()
    reply = await rig.call("GET", f"/v1/files/{file['id']}/content")
    assert (reply.status_code, reply.json()["code"]) == (500, "blob_missing")


async def test_a_signed_link_needs_no_key_and_ends(rig: Rig) -> None:
    file = await rig.upload(GOOD)
    url = (await rig.get(f"/v1/files/{file['id']}/url?expiry=1"))["url"]
    assert url.startswith("http://127.0.0.1:8470/v1/files/")
    await rig.key("default", "secret-key")
    assert (await rig.call("GET", f"/v1/files/{file['id']}")).status_code == 401
    reply = await rig.call("GET", url)
    assert (reply.status_code, reply.content) == (200, GOOD)
    assert (await rig.call("HEAD", url)).headers["content-length"] == str(len(GOOD))
    rig.clock.advance(3600)
    late = await rig.call("GET", url)
    assert (late.status_code, late.json()["code"]) == (401, "link_expired")


async def test_a_signed_link_opens_only_its_own_file(rig: Rig) -> None:
    file, other = await rig.upload(GOOD), await rig.upload(GOOD)
    url = (await rig.get(f"/v1/files/{file['id']}/url"))["url"]
    expires, tenant, mac = url.partition("token=")[2].split(".")
    forged = [
        url.replace(file["id"], other["id"]),
        url.replace(expires, str(int(expires) + 3600)),
        url.replace(f".{tenant}.", ".b3RoZXI."),
        url[:-1] + ("0" if mac[-1] != "0" else "1"),
        url.partition("token=")[0],
        url.partition("token=")[0] + "token=%F0%9F%98%80.a.b",
        url.partition("token=")[0] + "token=1.%2B%2B%2B.b",
        url.partition("token=")[0] + "token=" + "9" * 5000 + ".b.c",
    ]
    for link in forged:
        reply = await rig.call("GET", link)
        assert (reply.status_code, reply.json()["code"]) == (403, "invalid_link"), link


async def test_links_start_with_the_public_url(tmp_path: Path) -> None:
    async with open_rig(tmp_path, public_url="https://batch.example.com/api") as rig:
        file = await rig.upload(GOOD)
        url = (await rig.get(f"/v1/files/{file['id']}/url"))["url"]
        assert url.startswith(f"https://batch.example.com/api/v1/files/{file['id']}/")


async def test_another_tenants_files_do_not_exist(rig: Rig) -> None:
    mine, theirs = await rig.key("a", "key-a"), await rig.key("b", "key-b")
    reply = await rig.call("POST", "/v1/files", files={"file": ("x", GOOD)}, headers=mine)
    file_id = reply.json()["id"]
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/content"), ("GET", "/url")):
        assert (
            await rig.call(method, f"/v1/files/{file_id}{path}", headers=theirs)
        ).status_code == 404
    assert (await rig.get("/v1/files", headers=theirs))["data"] == []
    assert (await rig.get("/v1/files", headers=mine))["total"] == 1
    asked = {"endpoint": "/v1/ocr", "model": "small", "input_files": [file_id]}
    reply = await rig.call("POST", "/v1/batch/jobs", json=asked, headers=theirs)
    assert (reply.status_code, reply.json()["param"]) == (404, "input_files.0")


async def test_an_expired_file_is_gone_at_once_and_its_blob_when_no_job_needs_it(rig: Rig) -> None:
    after = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    file = await rig.upload(GOOD, **after)
    job = await rig.create(input_files=[file["id"]])
    rig.clock.advance(3600)
    assert (await rig.call("GET", f"/v1/files/{file['id']}")).status_code == 404
    assert (await rig.call("GET", f"/v1/files/{file['id']}/content")).status_code == 404
    assert (await rig.get("/v1/files"))["total"] == 0
    refused = await rig.call(
        "POST",
        "/v1/batch/jobs",
        json={"endpoint": "/v1/chat/completions", "model": "small", "input_files": [file["id"]]},
    )
    assert refused.status_code == 404
    await rig.sweep()
    assert len(rig.stored_files()) == 1, "the job still reads it"
    await rig.finish(answered)
    assert (await rig.get(f"/v1/batch/jobs/{job['id']}"))["status"] == "SUCCESS"
    rig.clock.advance(60)
    await rig.sweep()
    assert not [name for name in rig.stored_files() if name.startswith("inputs/")]
