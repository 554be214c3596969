"""The courier: every due delivery is tried, and one that hangs keeps no other waiting."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from batchmill.core.deliver import TRIES_PER_RECEIVER, TRIES_PER_TENANT, Courier
from batchmill.core.holdings import Holdings
from batchmill.deliveries import Delivery, DeliveryQuery, DeliveryState, Tried
from batchmill.model import DEFAULT_TENANT, Job, TenantId
from tests.conformance.ledger.world import ALICE, World

OK = Tried(acknowledged=True, status=200)
DOWN = Tried(acknowledged=False, status=500, error="it answered 500")
SLOW, QUICK = "https://slow.example/", "https://quick.example/"


class Posts:
    """A way to receivers by their hosts: what each does, and who was told what."""

    def __init__(self, **hosts: Callable[[], Awaitable[Tried]]) -> None:
        self.hosts, self.told = hosts, []
        self.under_way: Counter[str] = Counter()

    async def __call__(self, delivery: Delivery, job: Job) -> Tried:
        host = delivery.receiver.split(".")[0]
        self.told.append((host, delivery.event))
        self.under_way[host] += 1
        try:
            return await self.hosts[host]()
        finally:
            self.under_way[host] -= 1


async def at_once() -> Tried:
    return OK


async def never() -> Tried:
    await asyncio.Event().wait()
    return OK


@asynccontextmanager
async def couriers(world: World, posts: Posts) -> AsyncIterator[Courier]:
    holdings = Holdings()
    courier = Courier(world.ledger, holdings, posts, world.clock)
    task = asyncio.create_task(courier.run(ALICE))
    try:
        yield courier
    finally:
        task.cancel()
        await asyncio.wait([task])
    assert task.cancelled()
    assert not holdings.leases


async def ended(world: World, url: str, tenant: TenantId = DEFAULT_TENANT) -> Job:
    return await world.run(await world.queue(webhook_url=url, tenant=tenant))


async def states(world: World, tenant: TenantId = DEFAULT_TENANT) -> Counter[Any]:
    page = await world.ledger.deliveries(tenant, DeliveryQuery())
    return Counter((each.receiver.split(".")[0], each.state) for each in page.items)


async def until(holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not (await found if asyncio.iscoroutine(found := holds()) else found):
            await asyncio.sleep(0.005)


async def test_a_receiver_that_hangs_keeps_no_other_waiting(world: World) -> None:
    for _ in range(6):
        await ended(world, SLOW)
    for _ in range(20):
        await ended(world, QUICK)
    posts = Posts(slow=never, quick=at_once)
    async with couriers(world, posts):

        async def quick_ones_are_told() -> bool:
            return (await states(world))["quick", DeliveryState.DELIVERED] == 20

        await until(quick_ones_are_told)
        await until(lambda: posts.under_way["slow"] == TRIES_PER_RECEIVER)
    assert (await states(world))["slow", DeliveryState.PENDING] == 6
    assert await world.ledger.claim_delivery(ALICE) is not None


async def test_a_tenant_with_many_receivers_that_hang_keeps_no_other_tenant_waiting(
    world: World,
) -> None:
    hosts = {f"slow{n}": never for n in range(TRIES_PER_TENANT + 4)}
    for host in hosts:
        await ended(world, f"https://{host}.example/")
    await ended(world, QUICK, TenantId("other"))
    posts = Posts(quick=at_once, **hosts)
    async with couriers(world, posts):

        async def is_told() -> bool:
            return (await states(world, TenantId("other")))["quick", DeliveryState.DELIVERED] == 1

        await until(is_told)
        await until(lambda: sum(posts.under_way.values()) == TRIES_PER_TENANT)


async def test_a_try_that_failed_is_made_again_under_the_same_id(world: World) -> None:
    await ended(world, QUICK)
    outcomes = iter([DOWN, DOWN, OK])

    async def in_turn() -> Tried:
        return next(outcomes)

    posts = Posts(quick=in_turn)
    async with couriers(world, posts) as courier:
        for tries in (1, 2, 3):
            await until(lambda tries=tries: len(posts.told) == tries)
            if tries < 3:
                await until(lambda: waits(world))
                world.clock.advance(10)
                courier.wake()

        async def is_told() -> bool:
            return (await states(world))["quick", DeliveryState.DELIVERED] == 1

        await until(is_told)
    assert len({event for _, event in posts.told}) == 1


async def waits(world: World) -> bool:
    page = await world.ledger.deliveries(DEFAULT_TENANT, DeliveryQuery())
    return all(each.next_at is not None for each in page.items)


async def test_after_72_hours_it_is_given_up(world: World) -> None:
    await ended(world, QUICK)

    async def down() -> Tried:
        return DOWN

    async with couriers(world, Posts(quick=down)) as courier:
        await until(lambda: waits(world))
        world.clock.advance(72 * 3600 + 1)
        courier.wake()

        async def is_given_up() -> bool:
            return (await states(world))["quick", DeliveryState.GIVEN_UP] == 1

        await until(is_given_up)


async def test_a_try_that_breaks_counts_as_failed_and_stops_nothing(world: World) -> None:
    await ended(world, SLOW)

    async def breaks() -> Tried:
        raise ValueError("token=abc")

    posts = Posts(slow=breaks, quick=at_once)
    with capture_logs() as logs:
        async with couriers(world, posts) as courier:
            await until(lambda: waits(world))
            await ended(world, QUICK)
            courier.wake()

            async def is_told() -> bool:
                return (await states(world))["quick", DeliveryState.DELIVERED] == 1

            await until(is_told)
    assert (await states(world))["slow", DeliveryState.PENDING] == 1
    assert "token=abc" not in str(logs)


async def test_a_drain_gives_back_what_is_under_way(world: World) -> None:
    await ended(world, SLOW)
    posts = Posts(slow=never)
    async with couriers(world, posts):
        await until(lambda: posts.under_way["slow"])
    leased = await world.ledger.claim_delivery(ALICE)
    assert leased is not None
    assert leased.delivery.attempts == 0


@pytest.mark.parametrize("hosts", [TRIES_PER_RECEIVER])
async def test_a_place_becomes_free_when_a_try_ends(world: World, hosts: int) -> None:
    for _ in range(hosts * 3):
        await ended(world, QUICK)
    gates = [asyncio.Event() for _ in range(hosts * 3)]
    waiting = iter(gates)

    async def gated() -> Tried:
        await next(waiting).wait()
        return OK

    posts = Posts(quick=gated)
    async with couriers(world, posts):
        for done, gate in enumerate(gates):
            expected = min(done + hosts, len(gates))
            await until(lambda expected=expected: len(posts.told) == expected)
            gate.set()
