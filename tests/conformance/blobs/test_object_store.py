"""What an object store promises beyond the port: bounds, leftovers, faults and what they are
called."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest

from batchmill.blobs.object_store import AHEAD_BYTES, PART_BYTES, PIECE_BYTES
from batchmill.errors import BlobMissing, BlobsRefused, BlobsUnavailable
from batchmill.model import BlobName
from batchmill.ports import Blobs, Range
from tests.conformance.blobs.conftest import opened
from tests.proxy import Proxy, proxied
from tests.s3 import KEY, SECRET, Bucket

PART = BlobName("jobs/j1/parts/0.1.0")
SERVER_ERROR = b"HTTP/1.1 500 Oh\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


@pytest.fixture
def proxy(bucket: Bucket) -> Iterator[Proxy]:
    with proxied(("127.0.0.1", bucket.server.port)) as proxy:
        bucket.port = proxy.port
        yield proxy


@pytest.fixture
def blobs(proxy: Proxy, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Blobs:
    """The bucket as it is seen through the proxy."""
    return opened(bucket, monkeypatch)


async def everything(blobs: Blobs, name: BlobName = PART) -> bytes:
    return b"".join([piece async for piece in blobs.read(name)])


async def written(blobs: Blobs, size_bytes: int) -> None:
    """Write a blob of that size, or leave nothing."""
    writer = await blobs.writer(PART)
    try:
        await writer.write(bytes(size_bytes))
        await writer.commit()
    finally:
        await writer.abort()


async def test_a_large_blob_is_written_in_parts_and_none_is_left_of_an_aborted_one(
    blobs: Blobs, bucket: Bucket
) -> None:
    data = os.urandom(2 * PART_BYTES + 17)
    for ends_well in (False, True):
        writer = await blobs.writer(PART)
        for at in range(0, len(data), PIECE_BYTES):
            await writer.write(data[at : at + PIECE_BYTES])
        assert bucket.unfinished() == 1
        assert bucket.names() == []
        await (writer.commit() if ends_well else writer.abort())
        assert bucket.unfinished() == 0
    assert await everything(blobs) == data


async def test_a_small_blob_of_unknown_size_costs_one_request(blobs: Blobs, proxy: Proxy) -> None:
    await written(blobs, 1000)
    assert proxy.requests == 1


async def test_a_large_put_is_written_in_parts_too(blobs: Blobs, bucket: Bucket) -> None:
    data = os.urandom(2 * PART_BYTES + 17)
    await blobs.put_many([(PART, [data[:100], data[100:]])])
    assert await everything(blobs) == data
    assert bucket.unfinished() == 0


async def test_runs_that_lie_close_together_come_with_one_request(
    blobs: Blobs, proxy: Proxy
) -> None:
    await blobs.put_many([(PART, [bytes(range(250)) * 400])])
    before = proxy.requests
    ranges = [Range(PART, at, 50) for at in range(0, 50_000, 100)]
    found = await blobs.read_ranges(ranges)
    assert {bytes(data[:1]) for data in found} == {b"\0", b"\x64", b"\xc8", b"\x32", b"\x96"}
    assert proxy.requests == before + 1


async def test_a_reader_who_stops_early_leaves_no_requests_running(
    blobs: Blobs, proxy: Proxy
) -> None:
    await blobs.put_many([(PART, [bytes(8 * PIECE_BYTES)])])
    before = proxy.requests
    pieces = blobs.read(PART)
    await anext(aiter(pieces))
    await anext(aiter(pieces))
    await pieces.aclose()  # type: ignore[attr-defined]
    assert proxy.requests - before <= 1 + AHEAD_BYTES // PIECE_BYTES
    assert len(asyncio.all_tasks()) == 1


async def test_a_blob_that_is_changed_while_it_is_read_is_noticed(
    blobs: Blobs, bucket: Bucket
) -> None:
    await blobs.put_many([(PART, [b"a" * 8 * PIECE_BYTES])])
    pieces = blobs.read(PART)
    assert await anext(aiter(pieces))
    bucket.put(PART, b"b" * 8 * PIECE_BYTES)
    with pytest.raises(BlobMissing, match="damaged"):
        assert b"b" not in b"".join([piece async for piece in pieces])


async def test_a_blob_that_was_cut_is_missing_and_not_short(blobs: Blobs, bucket: Bucket) -> None:
    await blobs.put_many([(PART, [b"0123456789"])])
    bucket.put(PART, b"01234")
    with pytest.raises(BlobMissing, match="damaged"):
        await blobs.read_ranges([Range(PART, 4, 3)])
    with pytest.raises(BlobMissing, match="damaged"):
        assert [piece async for piece in blobs.read(PART, 0, 10)] == []


async def test_a_few_faults_in_a_row_are_passed_over(blobs: Blobs, proxy: Proxy) -> None:
    data = os.urandom(3 * PIECE_BYTES)
    proxy.rules.says, proxy.rules.says_times = SERVER_ERROR, 2
    await blobs.put_many([(PART, [data])])
    proxy.rules.loses = 2
    await blobs.put_many([(PART, [data])])
    proxy.rules.cuts, proxy.rules.cut_bytes = 2, 100_000
    assert await everything(blobs) == data


@pytest.mark.parametrize("fault", ["refuses", "500"])
async def test_a_store_that_is_away_is_unavailable_soon_and_works_again_later(
    blobs: Blobs, proxy: Proxy, fault: str
) -> None:
    await blobs.put_many([(PART, [b"first"])])
    if fault == "refuses":
        proxy.refuse()
    else:
        proxy.rules.says = SERVER_ERROR
    many = [(BlobName(f"jobs/j1/parts/{n}.1.0"), [b"x"]) for n in range(100)]
    async with asyncio.timeout(20):
        for call in (
            blobs.put_many(many),
            everything(blobs),
            blobs.read_ranges([Range(PART, 0, 1)]),
            blobs.delete_many([PART]),
            anext(aiter(blobs.names("", 0.0))),
        ):
            with pytest.raises(BlobsUnavailable, match="can be reached") as caught:
                await call
            assert not isinstance(caught.value, BlobsRefused)
        with pytest.raises(BlobsUnavailable, match="can be reached"):
            await written(blobs, 2 * PART_BYTES)
    proxy.resume()
    assert await everything(blobs) == b"first"


async def test_a_bucket_that_does_not_exist_is_refused_and_no_blob_is_called_missing(
    blobs: Blobs, bucket: Bucket
) -> None:
    bucket.delete()
    with pytest.raises(BlobsRefused, match="NoSuchBucket"):
        await blobs.put_many([(PART, [b"x"])])
    with pytest.raises(BlobsRefused, match="NoSuchBucket"):
        await everything(blobs)


async def test_wrong_credentials_are_refused_and_not_shown(blobs: Blobs, bucket: Bucket) -> None:
    bucket.server.let_in(everybody=False)
    try:
        with pytest.raises(BlobsRefused, match="credentials") as caught:
            await blobs.put_many([(PART, [b"x"])])
    finally:
        bucket.server.let_in(everybody=True)
    assert KEY not in str(caught.value)
    assert SECRET not in str(caught.value)
