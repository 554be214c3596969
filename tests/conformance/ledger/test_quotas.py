"""A tenant's quota: which jobs give shards, and what its tenant is told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from batchmill.clock import ManualClock
from batchmill.ledger import SqlLedger
from batchmill.model import DEFAULT_TENANT, Job, JobState, Owner, ShardLease, TenantId
from batchmill.ports import Want
from batchmill.quotas import Quotas
from tests.conformance.ledger.world import ALICE, World

ACME, FREE = TenantId("acme"), TenantId("free")
QUOTAS = Quotas(10, {ACME: 4, FREE: 0})
Open = Callable[..., Awaitable[SqlLedger]]


@pytest.fixture
async def ledger(open_ledger: Open) -> SqlLedger:
    return await open_ledger(quotas=QUOTAS)


async def claimed(world: World, **want: object) -> list[str]:
    """The jobs that a claim takes shards of, each once, in order."""
    held = await world.claim(limit=100, **want)
    return list(dict.fromkeys(each.job.id for each in held))


async def waiting(world: World, tenant: TenantId = DEFAULT_TENANT) -> frozenset[str]:
    return (await world.ledger.quota(tenant)).held_back


async def pending(world: World, tenant: TenantId = DEFAULT_TENANT) -> int:
    return (await world.ledger.quota(tenant)).pending_lines


async def test_jobs_beyond_the_quota_wait_until_there_is_room(world: World) -> None:
    first, second = await world.queue([4, 3]), await world.queue([4])
    held = await world.claim(limit=100)
    assert {each.job.id for each in held} == {first.id}
    assert (await pending(world), await waiting(world)) == (7, {second.id})
    assert (await world.seen(second)).state is JobState.QUEUED
    await world.finish(held[1])
    assert (await pending(world), await waiting(world)) == (4, frozenset())
    assert await claimed(world) == [second.id]
    assert await pending(world) == 8


async def test_lines_that_were_done_make_room_one_by_one(world: World) -> None:
    await world.queue([9])
    held = await world.claim_one()
    second = await world.queue([3])
    assert await claimed(world) == []
    await world.commit(held, [0])
    assert await claimed(world) == []
    await world.commit(held, [1])
    assert await claimed(world) == [second.id]


async def test_no_job_passes_one_that_waits_but_by_its_priority(world: World) -> None:
    await world.queue([5])
    await world.claim_one()
    big, small = await world.queue([8]), await world.queue([1])
    assert await claimed(world) == []
    assert await waiting(world) == {big.id, small.id}
    urgent = await world.queue([1], priority=1)
    assert await claimed(world) == [urgent.id]


async def test_a_job_larger_than_the_quota_runs_alone(world: World) -> None:
    huge, small = await world.queue([12, 9]), await world.queue([1])
    held = await world.claim(limit=100)
    assert {each.job.id for each in held} == {huge.id}
    await world.finish(held[0])
    assert await claimed(world) == [small.id]


async def test_a_job_larger_than_the_quota_waits_until_nothing_is_pending(world: World) -> None:
    first = await world.queue([1])
    held = await world.claim_one()
    huge = await world.queue([30])
    assert await claimed(world) == []
    await world.finish(held)
    assert (await world.finalize()).id == first.id
    assert await claimed(world) == [huge.id]


async def test_each_tenant_has_a_quota_of_its_own(world: World) -> None:
    acme = [await world.queue([3], ACME), await world.queue([3], ACME)]
    free = [await world.queue([30], FREE), await world.queue([30], FREE)]
    other = [await world.queue([6], TenantId("other")) for _ in range(2)]
    taken = await claimed(world)
    assert set(taken) == {acme[0].id, free[0].id, free[1].id, other[0].id}
    assert (await world.ledger.quota(FREE)).max_lines == 0
    assert await pending(world, FREE) == 60
    assert await waiting(world, ACME) == {acme[1].id}


async def test_a_paused_job_makes_room_and_lines_up_again(world: World) -> None:
    big, small = await world.queue([4, 6]), await world.queue([1])
    await world.ledger.release([each.lease for each in await world.claim(limit=100)])
    await world.ledger.set_paused(big.tenant, big.id, True)
    assert await pending(world) == 0
    held = await world.claim(limit=100)
    assert [each.job.id for each in held] == [small.id]
    await world.ledger.set_paused(big.tenant, big.id, False)
    assert (await claimed(world), await waiting(world)) == ([], {big.id})
    await world.finish(held[0])
    started = (await world.seen(big)).started_at
    world.clock.advance(5)
    assert await claimed(world) == [big.id]
    assert (await world.seen(big)).started_at == started


async def test_resuming_a_job_that_is_not_paused_changes_nothing(world: World) -> None:
    job = await world.queue([4, 6])
    await world.claim_one()
    await world.ledger.set_paused(job.tenant, job.id, False)
    assert await pending(world) == 10


async def test_stopped_jobs_are_settled_whatever_is_pending_and_take_no_room(world: World) -> None:
    first, second = await world.queue([9]), await world.queue([9])
    third = await world.queue([5])
    await world.claim_one()
    for job in (first, second):
        await world.ledger.cancel(job.tenant, job.id)
    world.pass_two_beats()
    assert set(await claimed(world)) == {first.id, second.id, third.id}
    assert await pending(world) == 5


async def test_a_job_that_could_not_run_here_is_in_nobodys_way(world: World) -> None:
    await world.queue([5])
    await world.claim_one()
    paused, away = await world.queue([8]), await world.queue([8], model="away")
    await world.ledger.set_paused(paused.tenant, paused.id, True)
    small = await world.queue([1], model="here")
    here = frozenset({"here"})
    assert await claimed(world, serving=here, servable=here | {"away"}) == []
    assert await claimed(world, serving=here, servable=here) == [small.id]
    assert away.id in await waiting(world)


async def test_shards_that_were_given_back_are_claimed_again(world: World) -> None:
    first = await world.queue([4, 4])
    await world.queue([4])
    await world.ledger.release([each.lease for each in await world.claim(limit=100)])
    assert await claimed(world) == [first.id]


async def test_claims_at_once_never_let_in_more_than_the_quota(
    world: World, open_ledger: Open, clock: ManualClock
) -> None:
    for _ in range(12):
        await world.queue([3])
    ledgers = [await open_ledger(quotas=QUOTAS) for _ in range(4)]

    async def claim(n: int, each: SqlLedger) -> Sequence[ShardLease]:
        return await each.claim_shards(Owner(f"w{n}/1"), Want(2))

    taken = await asyncio.gather(*(claim(n, each) for n, each in enumerate(ledgers)))
    assert sum(each.shard.lines for some in taken for each in some) == 9
    assert await pending(world) == 9


async def test_every_job_gets_its_turn(world: World) -> None:
    jobs = [await world.queue([size]) for size in (3, 40, 2, 10, 1, 1)]
    ended: list[Job] = []
    for _ in jobs:
        for held in await world.claim(ALICE, 100):
            assert await pending(world) <= max(10, held.shard.lines)
            await world.finish(held)
            ended.append(await world.finalize())
    assert [job.id for job in ended] == [job.id for job in jobs]
