"""A job's result lines in the order in which they were published, from any cursor on.

A cursor is (sequence, position): a part, and the place of a line in it. It stays good for as long
as the results are kept, whatever has become of the part's own blob meanwhile.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass

from batchmill.core.places import places
from batchmill.core.segments import Piece, batches
from batchmill.errors import BlobMissing
from batchmill.model import JobId
from batchmill.ports import Blobs, Ledger, Range
from batchmill.results import PublishedPart

PARTS_AT_ONCE = 8
SHARDS_KNOWN = 32
LONG_LINE_BYTES = 1024 * 1024
_CURSOR = re.compile(r"([0-9a-f]{8})-([0-9]{1,12})-([0-9]{1,6})")


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last line that was seen; before the first one both are 0 and -1."""

    sequence: int = 0
    position: int = -1

    def text(self, job: JobId) -> str:
        """What a client hands back; it says of which job it is."""
        return f"{job[:8]}-{self.sequence}-{self.position}"

    @classmethod
    def read(cls, text: str, job: JobId) -> Cursor | None:
        """The cursor that the text stands for; None if it is none of this job's."""
        match = _CURSOR.fullmatch(text)
        if match is None or match[1] != job[:8]:
            return None
        return cls(int(match[2]), int(match[3]))


class Follower:
    """Reads one job's results for one client. Holds about a megabyte, no transaction, and what
    it knows about the shards it met last."""

    def __init__(self, job: JobId, ledger: Ledger, blobs: Blobs, at: Cursor) -> None:
        self.at = at
        self.given = 0
        """How many lines `read` gave when it was called last."""
        self._is_within_line = False
        self._job, self._ledger, self._blobs = job, ledger, blobs
        self._known: OrderedDict[int, Mapping[int, Range]] = OrderedDict()

    async def read(self, limit: int) -> AsyncGenerator[bytes, None]:
        """The bytes of up to `limit` lines that have an outcome by now, in pieces. `at` is the
        last line that was given whole."""
        self.given = 0
        while parts := await self._ledger.parts_since(self._job, self.at.sequence, PARTS_AT_ONCE):
            before = self.at
            for part in parts:
                async for piece in self._read_part(part, limit):
                    yield piece
                if self.given >= limit:
                    return
            if len(parts) < PARTS_AT_ONCE or self.at == before:
                return

    async def _read_part(self, part: PublishedPart, limit: int) -> AsyncGenerator[bytes, None]:
        """What of the part follows the cursor. Its shard may be closed meanwhile, and its own
        blob deleted."""
        try:
            async for piece in self._copy(part, limit):
                yield piece
        except BlobMissing:
            now = await self._ledger.parts_since(self._job, part.sequence, 1)
            closed = [each for each in now if each.sequence == part.sequence and not each.is_live]
            if not part.is_live or not closed or self._is_within_line:
                raise
            async for piece in self._copy(closed[0], limit):
                yield piece

    async def _copy(self, published: PublishedPart, limit: int) -> AsyncGenerator[bytes, None]:
        pieces = await self._pieces(published)
        first = self.at.position + 1 if published.sequence == self.at.sequence else 0
        for batch in batches(pieces[first : first + limit - self.given]):
            if batch[0][1].length > LONG_LINE_BYTES:
                async for piece in self._long(published.sequence, batch[0]):
                    yield piece
                continue
            found = await self._blobs.read_ranges([source for _, source in batch])
            lines = [
                self._head(published.sequence, position) + data[1:]
                for (position, _), data in zip(batch, found, strict=True)
            ]
            self.at = Cursor(published.sequence, batch[-1][0])
            self.given += len(lines)
            yield b"".join(lines)

    async def _long(self, sequence: int, piece: Piece) -> AsyncGenerator[bytes, None]:
        """A line that is too long to be held."""
        position, source = piece
        chunks = self._blobs.read(source.blob, source.offset + 1, source.length - 1)
        head = self._head(sequence, position)
        async for chunk in chunks:
            self._is_within_line = True
            yield head + chunk
            head = b""
        self._is_within_line = False
        self.at = Cursor(sequence, position)
        self.given += 1

    def _head(self, sequence: int, position: int) -> bytes:
        """What a line begins with here, in place of its brace."""
        cursor = Cursor(sequence, position).text(self._job)
        return b'{"cursor":"%b",' % cursor.encode()

    async def _pieces(self, published: PublishedPart) -> list[Piece]:
        """Where each line of the part lies, by its position."""
        part = published.part
        if published.is_live:
            sources = [Range(part.blob, entry.offset, entry.length) for entry in part.entries]
        else:
            known = await self._places(published.n)
            sources = [known[entry.line] for entry in part.entries]
        return list(enumerate(sources))

    async def _places(self, n: int) -> Mapping[int, Range]:
        known = self._known.get(n)
        if known is None:
            [results] = await self._ledger.shard_results(self._job, [n])
            known = self._known[n] = await places(results, self._blobs)
            if len(self._known) > SHARDS_KNOWN:
                self._known.popitem(last=False)
        self._known.move_to_end(n)
        return known
