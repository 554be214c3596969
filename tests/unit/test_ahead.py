"""Reading ahead: in order, within its bound of bytes, and nothing runs on afterwards."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from batchmill.ahead import ahead


class Reads:
    """Reads that end when they are told to, and the bytes that are under way or in use."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.ended = [asyncio.Event() for _ in range(10)]

    async def read(self, number: int) -> int:
        self.begun.append(number)
        await self.ended[number].wait()
        return number


async def test_results_come_in_order_whichever_read_ends_first() -> None:
    reads = Reads()
    steps = [(1, lambda n=n: reads.read(n)) for n in range(3)]
    for number in (2, 1, 0):
        asyncio.get_running_loop().call_soon(reads.ended[number].set)
    assert [each async for each in ahead(steps, 10)] == [0, 1, 2]


async def test_no_more_is_read_than_the_bound_together_with_what_is_in_use() -> None:
    reads = Reads()
    for ended in reads.ended:
        ended.set()
    steps = [(4, lambda n=n: reads.read(n)) for n in range(6)]
    async with aclosing(ahead(steps, 12)) as results:
        async for number in results:
            await asyncio.sleep(0)
            assert max(reads.begun) <= number + 2
    assert reads.begun == list(range(6))


async def test_a_read_above_the_bound_runs_alone() -> None:
    reads = Reads()
    for ended in reads.ended:
        ended.set()
    steps = [(100, lambda n=n: reads.read(n)) for n in range(3)]
    async for number in ahead(steps, 12):
        await asyncio.sleep(0)
        assert reads.begun[-1] == number


async def test_reads_under_way_end_when_nobody_wants_more() -> None:
    reads = Reads()
    reads.ended[0].set()
    steps = [(1, lambda n=n: reads.read(n)) for n in range(3)]
    async with aclosing(ahead(steps, 10)) as results:
        assert await anext(results) == 0
    assert len(asyncio.all_tasks()) == 1


async def test_a_read_that_fails_raises_in_its_turn() -> None:
    async def fail() -> int:
        raise OSError

    reads = Reads()
    reads.ended[0].set()
    results = ahead([(1, lambda: reads.read(0)), (1, fail), (1, lambda: reads.read(1))], 10)
    assert await anext(results) == 0
    with pytest.raises(OSError):  # noqa: PT011 - it is the bare one
        await anext(results)
    assert len(asyncio.all_tasks()) == 1
