"""Blobs as plain files below one directory: the `Blobs` port over `files.py`, in threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TypeVar

from batchmill.blobs.disk import Disk
from batchmill.blobs.files import Files, Place
from batchmill.errors import BlobsUnavailable
from batchmill.model import BlobName
from batchmill.ports import Range

T = TypeVar("T")

PIECE_BYTES = 1024 * 1024
THREADS = 8
GROUP_SECONDS = 0.25


class LocalBlobs:
    """Blobs below `root`, which is made if it does not exist. Files are for their owner alone."""

    group_seconds = GROUP_SECONDS

    def __init__(self, root: Path, disk: Disk | None = None) -> None:
        self._files = Files(root, disk or Disk())
        self._threads = Threads()

    async def put_many(self, blobs: Sequence[tuple[BlobName, Sequence[bytes]]]) -> None:
        files, pieces = self._files, dict(blobs)
        places = [files.place(name) for name in pieces]
        by_directory: dict[Path, list[Place]] = {}
        for place in places:
            by_directory.setdefault(place.final.parent, []).append(place)
        try:
            await self._threads.run_all(
                partial(files.write, place, pieces[place.name]) for place in places
            )
            await self._threads.run_all(
                partial(files.publish, directory, group)
                for directory, group in by_directory.items()
            )
        except BlobsUnavailable:
            await self._threads.run(partial(files.clear, places))
            raise

    async def writer(self, name: BlobName) -> LocalWriter:
        return LocalWriter(self._files, self._threads, self._files.place(name))

    async def read(
        self, name: BlobName, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[bytes]:
        if length is None:
            length = max(0, await self._threads.run(partial(self._files.size, name)) - offset)
        end = offset + length
        for start in range(offset, end, PIECE_BYTES):
            wanted = min(PIECE_BYTES, end - start)
            yield await self._threads.run(partial(self._files.read, name, start, wanted))

    async def read_ranges(self, ranges: Sequence[Range]) -> list[bytes]:
        return await self._threads.run(partial(self._files.read_ranges, ranges))

    async def delete_many(self, names: Sequence[BlobName]) -> None:
        await self._threads.run(partial(self._files.remove, names))

    async def names(self, prefix: str, older_than_seconds: float) -> AsyncIterator[BlobName]:
        now = await self._threads.run(self._files.now)
        directories = [self._files.directory(prefix.rpartition("/")[0])]
        while directories:
            inner, found = await self._threads.run(
                partial(self._files.listing, directories.pop(), now, older_than_seconds)
            )
            directories += inner
            for name in found:
                if name.startswith(prefix):
                    yield name

    async def free_bytes(self) -> int | None:
        return await self._threads.run(self._files.free_bytes)


class LocalWriter:
    """A file being written. Pieces are gathered up to 1 MiB before a thread is bothered."""

    def __init__(self, files: Files, threads: Threads, place: Place) -> None:
        self._files, self._threads, self._place = files, threads, place
        self._fd: int | None = None
        self._ended = False
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._size_bytes = 0
        self._lock = Lock()
        """Held by the one thread at the file: an abort waits for a write that was cancelled."""

    async def write(self, data: bytes) -> None:
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes >= PIECE_BYTES:
            await self._threads.run(partial(self._locked, self._append, self._taken()))

    async def commit(self) -> int:
        await self._threads.run(partial(self._locked, self._commit, self._taken()))
        return self._size_bytes

    async def abort(self) -> None:
        if not self._ended:
            await self._threads.run(partial(self._locked, self._discard))

    def _taken(self) -> bytes:
        data = b"".join(self._held)
        self._held.clear()
        self._held_bytes = 0
        return data

    def _locked(self, call: Callable[..., None], *arguments: bytes) -> None:
        with self._lock:
            call(*arguments)

    def _append(self, data: bytes) -> None:
        if self._ended:
            name = self._place.name
            raise BlobsUnavailable(f"Blob {name} is no longer being written.", name=name)
        if self._fd is None:
            self._fd = self._files.create(self._place)
        self._files.append(self._place, self._fd, data)
        self._size_bytes += len(data)

    def _commit(self, data: bytes) -> None:
        try:
            self._append(data)
            assert self._fd is not None
            self._files.sync(self._place, self._fd)
            self._close()
            self._files.publish(self._place.final.parent, [self._place])
            self._ended = True
        except BlobsUnavailable:
            self._discard()
            raise

    def _discard(self) -> None:
        """Leave nothing; what cannot be closed or removed is left to the sweeper."""
        if self._ended:
            return
        self._ended = True
        with suppress(BlobsUnavailable):
            self._close()
        self._files.clear([self._place])

    def _close(self) -> None:
        if self._fd is not None:
            fd, self._fd = self._fd, None
            self._files.close(self._place, fd)


class Threads:
    """A few threads for blocking calls."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="blobs")

    async def run(self, call: Callable[[], T]) -> T:
        """Run one call in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)

    async def run_all(self, calls: Iterable[Callable[[], None]]) -> None:
        """Run the calls side by side; all have ended when it returns or raises the first error."""
        ended = await asyncio.gather(*map(self.run, calls), return_exceptions=True)
        for result in ended:
            if result is not None:
                raise result
