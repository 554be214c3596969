"""Blobs in a bucket: the `Blobs` port over S3, Google Cloud Storage and Azure.

A request costs tens of milliseconds, so what can go side by side does, within bounds. Objects
appear whole or not at all: a small one by a single put, a large one by a multipart upload.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import obstore

from batchmill.ahead import ahead
from batchmill.blobs.connection import Connection
from batchmill.blobs.fetching import Fetch, fetches, slices
from batchmill.blobs.naming import check_known, check_new
from batchmill.blobs.refusals import damaged, is_beyond_end
from batchmill.clock import Clock
from batchmill.errors import BlobError, BlobMissing, BlobsUnavailable
from batchmill.model import BlobName
from batchmill.ports import Range

if TYPE_CHECKING:
    from obstore import AsyncWritableFile, GetOptions

T = TypeVar("T")

PIECE_BYTES: Final = 1024 * 1024
AHEAD_BYTES: Final = 3 * PIECE_BYTES
PART_BYTES: Final = 5 * 1024 * 1024
"""The least that S3 takes as a part of a multipart upload, but for the last one."""
PARTS_AT_ONCE: Final = 2
DELETES_AT_ONCE: Final = 1000
GROUP_SECONDS: Final = 2.0


class ObjectBlobs:
    """Blobs below the prefix of a bucket, named by a URL such as `s3://bucket/prefix`."""

    group_seconds = GROUP_SECONDS

    def __init__(self, url: str, clock: Clock) -> None:
        self._bucket = Connection(url)
        self._clock = clock

    async def put_many(self, blobs: Sequence[tuple[BlobName, Sequence[bytes]]]) -> None:
        pieces = dict(blobs)
        for name in pieces:
            check_new(name)
        await _all([self._put(name, b"".join(each)) for name, each in pieces.items()])

    async def writer(self, name: BlobName) -> ObjectWriter:
        check_new(name)
        return ObjectWriter(self._bucket, name)

    async def read(
        self, name: BlobName, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[bytes]:
        check_known(name)
        if length is None:
            opening = await self._opening(name, offset)
            if opening is None:
                return
            first, size_bytes, e_tag = opening
            yield first
            start, end = offset + len(first), size_bytes
        else:
            start, end, e_tag = offset, offset + length, None
        places = [(at, min(at + PIECE_BYTES, end)) for at in range(start, end, PIECE_BYTES)]
        steps = ((until - at, partial(self._piece, name, at, until, e_tag)) for at, until in places)
        async with aclosing(ahead(steps, AHEAD_BYTES)) as pieces:
            async for piece in pieces:
                yield piece

    async def read_ranges(self, ranges: Sequence[Range]) -> list[bytes]:
        found = [b""] * len(ranges)

        async def bring(fetch: Fetch) -> None:
            data = await self._run(fetch.blob, fetch.start, fetch.end)
            for place in fetch.places:
                at = ranges[place].offset - fetch.start
                found[place] = data[at : at + ranges[place].length]

        for run in ranges:
            check_known(run.blob)
        await _all([bring(fetch) for fetch in fetches(ranges)])
        return found

    async def delete_many(self, names: Sequence[BlobName]) -> None:
        for name in names:
            check_known(name)
        distinct = list(dict.fromkeys(names))
        for at in range(0, len(distinct), DELETES_AT_ONCE):
            some = distinct[at : at + DELETES_AT_ONCE]
            if self._bucket.deletes_many:
                delete = partial(obstore.delete_async, self._bucket.store, some)
                await self._bucket.ask(some[0], delete)
            else:
                await _all([self._delete(name) for name in some])

    async def names(self, prefix: str, older_than_seconds: float) -> AsyncIterator[BlobName]:
        below = prefix.rpartition("/")[0]
        if below:
            check_known(BlobName(below))
        newest = datetime.fromtimestamp(self._clock.wall() - older_than_seconds, UTC)
        listing = aiter(obstore.list(self._bucket.store, below or None, chunk_size=1000))
        while True:
            async with self._bucket.bounded(""):
                found = await anext(listing, None)
            if found is None:
                return
            for each in found:
                if each["path"].startswith(prefix) and each["last_modified"] <= newest:
                    yield BlobName(each["path"])

    async def free_bytes(self) -> int | None:
        return None

    async def _put(self, name: BlobName, data: bytes) -> None:
        if len(data) > PART_BYTES:
            writer = ObjectWriter(self._bucket, name)
            try:
                await writer.write(data)
                await writer.commit()
            finally:
                await writer.abort()
            return
        put = partial(obstore.put_async, self._bucket.store, name, data, use_multipart=False)
        await self._bucket.ask(name, put)

    async def _delete(self, name: BlobName) -> None:
        with suppress(BlobMissing):
            delete = partial(obstore.delete_async, self._bucket.store, name)
            await self._bucket.ask(name, delete, reading=True)

    async def _opening(self, name: BlobName, offset: int) -> tuple[bytes, int, str | None] | None:
        """The first piece from there on, the blob's size and its tag; None: it ends before."""
        try:
            return await self._get(name, offset, offset + PIECE_BYTES, None)
        except BlobError as error:
            if isinstance(error.__cause__, Exception) and is_beyond_end(error.__cause__):
                return None
            raise

    async def _piece(self, name: BlobName, start: int, end: int, e_tag: str | None) -> bytes:
        """Exactly that run, of the blob with that tag where one is given."""
        data, _, _ = await self._get(name, start, end, e_tag)
        if len(data) != end - start:
            raise damaged(name)
        return data

    async def _get(
        self, name: BlobName, start: int, end: int, e_tag: str | None
    ) -> tuple[bytes, int, str | None]:
        options: GetOptions = {"range": (start, end)}
        if e_tag is not None:
            options["if_match"] = e_tag

        async def get() -> tuple[bytes, int, str | None]:
            got = await obstore.get_async(self._bucket.store, name, options=options)
            data = await got.bytes_async()
            return data.to_bytes(), got.meta["size"], got.meta["e_tag"]

        return await self._bucket.ask(name, get, reading=True)

    async def _run(self, name: BlobName, start: int, end: int) -> bytes:
        """Exactly that run; a long one in several requests."""
        parts = await _all([self._piece(name, *each, None) for each in slices(start, end)])
        return parts[0] if len(parts) == 1 else b"".join(parts)


class ObjectWriter:
    """An object being written: put at once where it is small, else in parts as they fill, of
    which at most `PARTS_AT_ONCE` are under way."""

    def __init__(self, bucket: Connection, name: BlobName) -> None:
        self._bucket, self._name = bucket, name
        self._file: AsyncWritableFile | None = obstore.open_writer_async(
            bucket.store, name, buffer_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE
        )
        self._size_bytes = 0

    async def write(self, data: bytes) -> None:
        file = self._open_file()
        for at in range(0, len(data), PART_BYTES):
            async with self._bucket.bounded(self._name):
                self._size_bytes += await file.write(data[at : at + PART_BYTES])

    async def commit(self) -> int:
        file = self._open_file()
        async with self._bucket.bounded(self._name):
            await file.close()
        self._file = None
        return self._size_bytes

    async def abort(self) -> None:
        if self._file is None:
            return
        file, self._file = self._file, None
        aborted = BlobsUnavailable("aborted", name=self._name)
        with suppress(BlobError):  # the bucket's rule for unfinished uploads ends what is left
            async with self._bucket.bounded(self._name):
                await file.__aexit__(type(aborted), aborted, None)

    def _open_file(self) -> AsyncWritableFile:
        if self._file is None:
            name = self._name
            raise BlobsUnavailable(f"Blob {name} is no longer being written.", name=name)
        return self._file


async def _all(calls: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """What the calls bring, side by side; the first that fails ends the others."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call) for call in calls]
    except ExceptionGroup as failed:
        first = failed.exceptions[0]
        raise first from first.__cause__
    return [task.result() for task in tasks]
