"""What a local directory promises beyond the port: modes, leftovers, full and broken disks."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from batchmill.blobs.disk import Disk
from batchmill.blobs.files import EMPTY_DIRECTORY_SECONDS
from batchmill.blobs.local import LocalBlobs
from batchmill.errors import BlobMissing, BlobsUnavailable
from batchmill.model import BlobName
from batchmill.ports import Range

PART = BlobName("jobs/j1/parts/0.1.0")


class BrokenDisk(Disk):
    """A disk on which one kind of call fails with one error."""

    def __init__(self) -> None:
        self.breaks = ""
        self.errno = errno.EIO

    def _may_fail(self, call: str) -> None:
        if call == self.breaks:
            raise OSError(self.errno, os.strerror(self.errno))

    def create(self, path: Path) -> int:
        self._may_fail("create")
        return super().create(path)

    def write(self, fd: int, data: bytes) -> None:
        super().write(fd, data[: len(data) // 2])
        self._may_fail("write")
        super().write(fd, data[len(data) // 2 :])

    def sync_data(self, fd: int) -> None:
        self._may_fail("sync_data")
        super().sync_data(fd)

    def rename(self, source: Path, target: Path) -> None:
        self._may_fail("rename")
        super().rename(source, target)

    def sync_directory(self, path: Path) -> None:
        self._may_fail("sync_directory")
        super().sync_directory(path)


async def written_in_pieces(blobs: LocalBlobs) -> None:
    writer = await blobs.writer(PART)
    try:
        for _ in range(3):
            await writer.write(b"x" * 600_000)
        await writer.commit()
    finally:
        await writer.abort()


async def listed(blobs: LocalBlobs, prefix: str = "") -> list[str]:
    return sorted([name async for name in blobs.names(prefix, 0.0)])


async def test_files_and_directories_are_for_their_owner_alone(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path / "a" / "blobs")
    await blobs.put_many([(PART, [b"secret"])])
    for path in (tmp_path / "a" / "blobs").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o600 if path.is_file() else 0o700)
    assert stat.S_IMODE((tmp_path / "a" / "blobs").stat().st_mode) == 0o700


@pytest.mark.parametrize("call", ["create", "write", "sync_data", "rename", "sync_directory"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EACCES])
async def test_a_disk_that_fails_is_unavailable_and_works_again_later(
    tmp_path: Path, call: str, number: int
) -> None:
    disk = BrokenDisk()
    blobs = LocalBlobs(tmp_path, disk)
    disk.breaks, disk.errno = call, number
    other = BlobName("jobs/j1/parts/1.1.0")
    with pytest.raises(BlobsUnavailable, match=os.strerror(number)):
        await blobs.put_many([(PART, [b"first"]), (other, [b"other"])])
    with pytest.raises(BlobsUnavailable):
        await written_in_pieces(blobs)
    leftovers = [name for name in await listed(blobs) if "~" in name]
    assert leftovers == []
    disk.breaks = ""
    await blobs.put_many([(PART, [b"second"])])
    assert await blobs.read_ranges([Range(PART, 0, 6)]) == [b"second"]


async def test_one_blob_that_fails_does_not_stop_the_threads_of_the_others(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    names = [BlobName(f"jobs/j1/parts/{n}.1.0") for n in range(40)]
    (tmp_path / "jobs").write_bytes(b"in the way")
    with pytest.raises(BlobsUnavailable):
        await blobs.put_many([(name, [b"x"]) for name in names])
    (tmp_path / "jobs").unlink()
    await blobs.put_many([(name, [b"x"]) for name in names])
    assert await listed(blobs) == sorted(names)


async def test_what_an_interrupted_write_left_is_listed_and_can_be_deleted(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    writer = await blobs.writer(PART)
    await writer.write(b"x" * 2_000_000)
    again = LocalBlobs(tmp_path)
    [leftover] = await listed(again, "jobs/")
    assert leftover.startswith(f"{PART}~")
    await again.delete_many([BlobName(leftover)])
    assert await listed(again) == []
    await writer.abort()


async def test_a_write_that_is_cancelled_can_be_aborted(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    writer = await blobs.writer(PART)
    task = asyncio.create_task(writer.write(b"x" * 50_000_000))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await writer.abort()
    assert await listed(blobs) == []


async def test_a_directory_that_another_process_cleared_is_made_again(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    await blobs.put_many([(PART, [b"x"])])
    await blobs.delete_many([PART])
    (tmp_path / "jobs/j1/parts").rmdir()
    (tmp_path / "jobs/j1").rmdir()
    await blobs.put_many([(PART, [b"y"])])
    assert await listed(blobs) == [PART]


async def test_directories_that_have_been_empty_for_a_day_are_cleared(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    kept = BlobName("jobs/j2/out/0.1")
    await blobs.put_many([(PART, [b"x"]), (kept, [b"y"])])
    await blobs.delete_many([PART])
    await listed(blobs)
    assert (tmp_path / "jobs/j1/parts").is_dir()
    old = (tmp_path / kept).stat().st_mtime - EMPTY_DIRECTORY_SECONDS - 1
    for directory in ("jobs/j1/parts", "jobs/j1", "jobs/j2/out"):
        os.utime(tmp_path / directory, (old, old))
    await listed(blobs)
    assert not (tmp_path / "jobs/j1/parts").exists()
    assert (tmp_path / "jobs/j2/out").is_dir()
    await blobs.put_many([(PART, [b"x"])])


async def test_a_root_that_has_gone_is_unavailable_and_not_made_anew(tmp_path: Path) -> None:
    root = tmp_path / "mounted"
    blobs = LocalBlobs(root)
    root.rmdir()
    with pytest.raises(BlobsUnavailable):
        await blobs.put_many([(PART, [b"x"])])
    assert not root.exists()
    with pytest.raises(BlobsUnavailable):
        await blobs.free_bytes()


def test_a_root_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BlobsUnavailable, match="permissions"):
        LocalBlobs(tmp_path / "file" / "blobs")


async def test_a_file_cut_short_is_missing_not_empty(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    await blobs.put_many([(PART, [b"0123456789"])])
    os.truncate(tmp_path / PART, 5)
    with pytest.raises(BlobMissing, match="damaged"):
        await blobs.read_ranges([Range(PART, 4, 3)])


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("/etc/passwd")])
async def test_what_is_no_file_of_ours_is_not_listed(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    blobs = LocalBlobs(tmp_path)
    make(tmp_path / "odd")
    assert await listed(blobs) == []
