"""How an input is cut into shards: so many lines or bytes, never across two inputs. Pure."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from batchmill.core.lines import Block, ShardSize
from batchmill.model import Shard


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

    def take(self, block: Block, at: int) -> int:
        """Add as many lines of the block, from place `at` on, as fit into the shard being
        filled; the place of the first that does not. Cut there and take again."""
        if not self._count:
            self._start, self._physical = block.starts[at], block.physicals[at]
        stop = min(len(block.ends), at + self.size.lines - self._count)
        fits = bisect_right(block.ends, self._start + self.size.size_bytes, at, stop)
        if fits == at and not self._count:
            fits += 1
        if fits > at:
            self._count += fits - at
            self.lines += fits - at
            self._end = block.ends[fits - 1]
        return fits

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
