"""What every blob store promises, whatever it stands on."""

from __future__ import annotations

import os

import pytest

from batchmill.errors import BlobMissing, BlobsUnavailable
from batchmill.model import BlobName
from batchmill.ports import Blobs, Range

PART = BlobName("jobs/j1/parts/0.1.0")


async def everything(blobs: Blobs, name: BlobName, offset: int = 0, length: int | None = None):
    return b"".join([piece async for piece in blobs.read(name, offset, length)])


async def listed(blobs: Blobs, prefix: str, older_than_seconds: float = 0.0) -> list[str]:
    return sorted([name async for name in blobs.names(prefix, older_than_seconds)])


async def test_what_was_put_reads_back_equal(blobs: Blobs) -> None:
    await blobs.put_many([(PART, [b"one\n", b"", b"two\n"])])
    assert await everything(blobs, PART) == b"one\ntwo\n"


async def test_several_blobs_in_several_directories_are_put_at_once(blobs: Blobs) -> None:
    names = [BlobName(f"jobs/j{job}/parts/{n}.1.0") for job in range(3) for n in range(5)]
    await blobs.put_many([(name, [name.encode()]) for name in names])
    for name in names:
        assert await everything(blobs, name) == name.encode()
    assert await listed(blobs, "jobs/") == sorted(names)


async def test_putting_nothing_does_nothing(blobs: Blobs) -> None:
    await blobs.put_many([])
    assert await listed(blobs, "") == []


async def test_an_empty_blob_exists(blobs: Blobs) -> None:
    await blobs.put_many([(PART, [])])
    assert await everything(blobs, PART) == b""
    assert await listed(blobs, "jobs/") == [PART]


async def test_writing_the_same_name_again_replaces_it(blobs: Blobs) -> None:
    await blobs.put_many([(PART, [b"a longer first"])])
    await blobs.put_many([(PART, [b"second"])])
    assert await everything(blobs, PART) == b"second"


async def test_the_last_of_two_blobs_of_one_name_wins(blobs: Blobs) -> None:
    await blobs.put_many([(PART, [b"first"]), (PART, [b"second"])])
    assert await everything(blobs, PART) == b"second"
    assert await listed(blobs, "") == [PART]


async def test_a_run_of_a_blob_is_read_by_offset_and_length(blobs: Blobs) -> None:
    await blobs.put_many([(PART, [b"0123456789"])])
    assert await everything(blobs, PART, 3) == b"3456789"
    assert await everything(blobs, PART, 3, 4) == b"3456"
    assert await everything(blobs, PART, 10) == b""


async def test_a_big_blob_comes_in_pieces_of_at_most_a_mebibyte(blobs: Blobs) -> None:
    data = os.urandom(2_500_000)
    await blobs.put_many([(PART, [data[:7], data[7:]])])
    pieces = [piece async for piece in blobs.read(PART)]
    assert b"".join(pieces) == data
    assert max(map(len, pieces)) <= 1024 * 1024


async def test_reading_a_blob_that_is_not_there_raises_missing(blobs: Blobs) -> None:
    with pytest.raises(BlobMissing) as caught:
        await everything(blobs, PART)
    assert caught.value.name == PART
    with pytest.raises(BlobMissing):
        await blobs.read_ranges([Range(PART, 0, 1)])


async def test_a_run_beyond_the_end_raises_missing(blobs: Blobs) -> None:
    await blobs.put_many([(PART, [b"0123456789"])])
    with pytest.raises(BlobMissing):
        await everything(blobs, PART, 8, 3)
    with pytest.raises(BlobMissing):
        await blobs.read_ranges([Range(PART, 0, 2), Range(PART, 9, 2)])


@pytest.mark.parametrize("gap", [0, 1000, 1_000_000])
async def test_ranges_come_in_the_order_given(blobs: Blobs, gap: int) -> None:
    other = BlobName("jobs/j1/parts/0.1.1")
    data = os.urandom(3 * gap + 30)
    await blobs.put_many([(PART, [data]), (other, [b"other"])])
    offsets = [2 * gap + 10, 0, gap, 0]
    ranges = [Range(PART, offset, 10) for offset in offsets]
    found = await blobs.read_ranges([*ranges, Range(other, 1, 3), Range(PART, 5, 0)])
    assert found == [*(data[at : at + 10] for at in offsets), b"the", b""]


async def test_no_ranges_read_nothing(blobs: Blobs) -> None:
    assert await blobs.read_ranges([]) == []


async def test_a_blob_of_unknown_size_is_written_piece_by_piece(blobs: Blobs) -> None:
    data = os.urandom(3_000_001)
    writer = await blobs.writer(PART)
    for start in range(0, len(data), 65_536):
        await writer.write(data[start : start + 65_536])
    assert await writer.commit() == len(data)
    assert await everything(blobs, PART) == data
    assert await listed(blobs, "") == [PART]


async def test_nobody_sees_a_blob_before_its_commit(blobs: Blobs) -> None:
    writer = await blobs.writer(PART)
    await writer.write(b"x" * 2_000_000)
    with pytest.raises(BlobMissing):
        await everything(blobs, PART)
    await writer.commit()
    assert len(await everything(blobs, PART)) == 2_000_000


async def test_an_aborted_blob_leaves_nothing(blobs: Blobs) -> None:
    writer = await blobs.writer(PART)
    await writer.write(b"x" * 2_000_000)
    await writer.abort()
    await writer.abort()
    assert await listed(blobs, "") == []
    with pytest.raises(BlobsUnavailable):
        await writer.commit()


async def test_an_abort_after_the_commit_keeps_the_blob(blobs: Blobs) -> None:
    writer = await blobs.writer(PART)
    await writer.write(b"kept")
    await writer.commit()
    await writer.abort()
    assert await everything(blobs, PART) == b"kept"


async def test_deleted_blobs_are_gone_and_missing_ones_passed_over(blobs: Blobs) -> None:
    kept = BlobName("jobs/j1/parts/1.1.0")
    await blobs.put_many([(PART, [b"x"]), (kept, [b"y"])])
    await blobs.delete_many([PART, PART, BlobName("jobs/none/parts/0.1.0")])
    await blobs.delete_many([])
    assert await listed(blobs, "jobs/") == [kept]


async def test_names_are_those_below_the_prefix(blobs: Blobs) -> None:
    names = ["inputs/a", "inputs/ab", "jobs/j1/out/0.1", "jobs/j1/parts/0.1.0", "jobs/j2/out/0.1"]
    await blobs.put_many([(BlobName(name), [b"x"]) for name in names])
    assert await listed(blobs, "") == names
    assert await listed(blobs, "inputs/") == names[:2]
    assert await listed(blobs, "inputs/ab") == names[1:2]
    assert await listed(blobs, "jobs/j1/") == names[2:4]
    assert await listed(blobs, "nothing/here/") == []


async def test_young_blobs_are_not_listed(blobs: Blobs) -> None:
    await blobs.put_many([(PART, [b"x"])])
    assert await listed(blobs, "jobs/", 3600.0) == []


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "/etc/x",
        "a/../b",
        "a//b",
        "a/",
        "a/./b",
        ".x",
        "a\nb",
        "a\0b",
        "é",
        "a~b",
    ],
)
async def test_a_name_that_could_lead_elsewhere_is_refused(blobs: Blobs, name: str) -> None:
    with pytest.raises(BlobsUnavailable):
        await blobs.put_many([(BlobName(name), [b"x"])])
    with pytest.raises(BlobsUnavailable):
        await blobs.writer(BlobName(name))
    with pytest.raises(BlobMissing):
        await everything(blobs, BlobName(name))
    assert await listed(blobs, "") == []


async def test_room_left_is_a_number_or_unknown(blobs: Blobs) -> None:
    free = await blobs.free_bytes()
    assert free is None or free > 0
