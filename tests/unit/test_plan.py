from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from batchmill.core.lines import Block, ShardSize
from batchmill.core.plan import ShardCutter
from batchmill.model import Shard


def block(lengths: list[int], gap: int = 0, at: int = 0, physical: int = 1) -> Block:
    ends = [sum(lengths[: n + 1]) + n * gap + at for n in range(len(lengths))]
    starts = [end - length for end, length in zip(ends, lengths, strict=True)]
    return Block([b"x"] * len(lengths), starts, ends, list(range(physical, physical + len(ends))))


def cut(lines: Block, size: ShardSize) -> list[Shard]:
    cutter = ShardCutter(size)
    shards = []
    at = 0
    while at < len(lines.texts):
        end = cutter.take(lines, at)
        if end < len(lines.texts):
            shards.append(cutter.cut())
        at = end
    return shards if cutter.is_empty else [*shards, cutter.cut()]


@given(
    st.lists(st.integers(1, 50), max_size=60),
    st.builds(ShardSize, st.integers(1, 9), st.integers(1, 100)),
    st.integers(0, 3),
)
def test_every_line_is_in_one_shard_and_no_shard_beyond_its_limits(
    lengths: list[int], size: ShardSize, gap: int
) -> None:
    shards = cut(block(lengths, gap), size)
    assert sum(shard.lines for shard in shards) == len(lengths)
    assert [shard.n for shard in shards] == list(range(len(shards)))
    for before, after in pairwise(shards):
        assert after.first_line == before.first_line + before.lines
        assert after.first_physical == before.first_physical + before.lines
        assert after.offset >= before.offset + before.length
    for shard in shards:
        assert 1 <= shard.lines <= size.lines
        assert shard.length <= size.size_bytes or shard.lines == 1


def test_a_line_beyond_the_limit_is_a_shard_alone() -> None:
    shards = cut(block([10, 10, 500, 10]), ShardSize(100, 64))
    assert [(shard.lines, shard.offset, shard.length) for shard in shards] == [
        (2, 0, 20),
        (1, 20, 500),
        (1, 520, 10),
    ]


def test_numbers_go_on_over_inputs_and_offsets_begin_anew() -> None:
    cutter = ShardCutter(ShardSize())
    assert cutter.take(block([10]), 0) == 1
    first = cutter.cut()
    cutter.input = 1
    assert cutter.take(block([7], at=3, physical=2), 0) == 1
    assert first == Shard(0, 0, 0, 1, 0, 10, 1)
    assert cutter.cut() == Shard(1, 1, 1, 1, 3, 7, 2)
