"""How an input is cut into shards: so many lines or bytes, never across two inputs. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from batchmill.model import Shard


@dataclass(frozen=True, slots=True)
class ShardSize:
    """A shard's limits; a single line beyond `size_bytes` is a shard alone."""

    lines: int = 1024
    size_bytes: int = 4 * 1024 * 1024


@dataclass(slots=True)
class ShardCutter:
    """Cuts shards from lines that come in input order, numbering both through a whole job."""

    size: ShardSize
    input: int = 0
    shards: int = 0
    lines: int = 0
    """Lines so far, those of the shard being filled included."""
    _count: int = 0
    _start: int = 0
    _end: int = 0
    _physical: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether the shard being filled has no line yet."""
        return self._count == 0

    def take(self, start: int, end: int, physical: int) -> bool:
        """Add a line to the shard being filled, or answer False: cut first, then try again.

        `start` and `end` (past its line break) cut the input, `physical` is 1-based in it.
        """
        if not self._count:
            self._start, self._physical = start, physical
        elif self._count >= self.size.lines or end - self._start > self.size.size_bytes:
            return False
        self._count += 1
        self._end = end
        self.lines += 1
        return True

    def cut(self) -> Shard:
        """The shard that has been filled; the next one begins."""
        shard = Shard(
            n=self.shards,
            input=self.input,
            first_line=self.lines - self._count,
            lines=self._count,
            offset=self._start,
            length=self._end - self._start,
            first_physical=self._physical,
        )
        self.shards += 1
        self._count = 0
        return shard
