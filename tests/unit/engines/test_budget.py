from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchmill.engines.budget import ByteBudget, Ticket


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_bytes_are_taken_and_given_back() -> None:
    budget, ticket = ByteBudget(100), Ticket()
    await budget.take(ticket, 60)
    assert (budget.spent_bytes, ticket.held_bytes) == (60, 60)
    budget.resize(ticket, 20)
    assert (budget.spent_bytes, ticket.held_bytes) == (20, 20)
    budget.release(20)
    assert budget.spent_bytes == 0


async def test_a_taker_waits_until_there_is_room() -> None:
    budget, first, second, third = ByteBudget(100), Ticket(), Ticket(), Ticket()
    await budget.take(first, 100)
    await budget.take(second, 10)  # the one that may go over
    waiting = asyncio.create_task(budget.take(third, 50))
    await settle()
    assert not waiting.done()
    budget.release(100)
    await waiting
    assert third.held_bytes == 50
    assert budget.spent_bytes == 60


async def test_a_taker_that_is_cancelled_may_be_passed_over_before_it_knows() -> None:
    budget, first, second = ByteBudget(10), Ticket(), Ticket()
    await budget.take(first, 15)
    waiting = asyncio.create_task(budget.take(second, 5))
    await settle()
    waiting.cancel()
    budget.resize(first, 0)
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (budget.spent_bytes, second.held_bytes) == (0, 0)


async def test_takers_are_served_in_the_order_in_which_they_came() -> None:
    budget, holder = ByteBudget(100), Ticket()
    await budget.take(holder, 100)
    await budget.take(Ticket(), 1)
    served: list[str] = []

    async def take(name: str, size: int) -> None:
        await budget.take(Ticket(), size)
        served.append(name)

    async with asyncio.TaskGroup() as group:
        for name, size in (("large", 90), ("small", 5), ("tiny", 1)):
            group.create_task(take(name, size))
        await settle()
        assert served == []
        budget.release(101)
    assert served == ["large", "small", "tiny"]


async def test_a_newcomer_does_not_overtake_those_who_wait() -> None:
    budget, holder = ByteBudget(100), Ticket()
    await budget.take(holder, 95)
    await budget.take(Ticket(), 10)
    waiting = asyncio.create_task(budget.take(Ticket(), 50))
    await settle()
    budget.resize(holder, 90)
    assert not budget.takes_at_once(Ticket(), 1)
    budget.release(90)
    await waiting


async def test_the_one_over_the_limit_is_the_only_one() -> None:
    budget = ByteBudget(10)
    over, other = Ticket(), Ticket()
    await budget.take(Ticket(), 10)
    await budget.take(over, 5)
    await budget.take(over, 5_000)
    waiting = asyncio.create_task(budget.take(other, 1))
    await settle()
    assert not waiting.done()
    budget.resize(over, 0)
    await settle()
    assert waiting.done()
    assert budget.spent_bytes == 11


async def test_half_read_replies_cannot_wait_for_each_other_for_ever() -> None:
    budget = ByteBudget(1_000)
    done = 0

    async def read() -> None:
        nonlocal done
        ticket = Ticket()
        for _ in range(10):
            await budget.take(ticket, 100)
            await asyncio.sleep(0)
        done += 1
        budget.release(ticket.held_bytes)

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        for _ in range(50):
            group.create_task(read())
    assert done == 50
    assert budget.spent_bytes == 0


async def test_one_that_is_larger_than_the_whole_budget_runs_alone() -> None:
    budget = ByteBudget(10)
    await budget.take(Ticket(), 1_000)
    waiting = asyncio.create_task(budget.take(Ticket(), 1))
    await settle()
    assert not waiting.done()
    budget.release(1_000)
    await waiting


async def test_a_cancelled_taker_leaves_the_line_and_lets_others_go_on() -> None:
    budget = ByteBudget(100)
    await budget.take(Ticket(), 80)
    await budget.take(Ticket(), 30)
    gone = asyncio.create_task(budget.take(Ticket(), 70))
    after = asyncio.create_task(budget.take(Ticket(), 5))
    await settle()
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    budget.release(30)
    await after
    assert budget.spent_bytes == 85


async def test_a_taker_that_is_cancelled_as_its_turn_comes_holds_what_it_got() -> None:
    budget, ticket = ByteBudget(10), Ticket()
    await budget.take(Ticket(), 10)
    await budget.take(Ticket(), 1)
    waiting = asyncio.create_task(budget.take(ticket, 5))
    await settle()
    budget.release(11)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert ticket.held_bytes == 5
    budget.resize(ticket, 0)
    assert budget.spent_bytes == 0


@given(
    st.integers(1, 500),
    st.lists(st.lists(st.integers(1, 400), min_size=1, max_size=5), min_size=1, max_size=20),
    st.sets(st.integers(0, 19)),
)
def test_whatever_the_sizes_all_finish_and_nothing_stays_taken(
    limit: int, replies: list[list[int]], cancelled: set[int]
) -> None:
    async def run() -> None:
        budget = ByteBudget(limit)

        async def read(pieces: list[int]) -> None:
            ticket = Ticket()
            kept = 0
            try:
                for size in pieces:
                    await budget.take(ticket, size)
                    await asyncio.sleep(0)
                kept = sum(pieces) // 2
            finally:
                budget.resize(ticket, kept)
                budget.release(kept)

        tasks = [asyncio.create_task(read(pieces)) for pieces in replies]
        for n, task in enumerate(tasks):
            if n in cancelled:
                await asyncio.sleep(0)
                task.cancel()
        async with asyncio.timeout(5):
            await asyncio.gather(*tasks, return_exceptions=True)
        assert all(task.done() for task in tasks)
        assert budget.spent_bytes == 0

    asyncio.run(run())
