"""Parts are shown in the order in which they were counted, and shards with all that is in them."""

from __future__ import annotations

from dataclasses import replace

from batchmill.model import Job, JobId
from tests.conformance.ledger.world import BOB, ERR, OUT, World, segments


async def test_parts_are_shown_in_the_order_they_were_published(world: World) -> None:
    job = await world.queue(shards=[4, 4])
    first, second = await world.claim()
    parts = [
        (second.lease, world.part(second.lease, [0])),
        (first.lease, world.part(first.lease, [0, 1])),
        (second.lease, world.part(second.lease, [3])),
    ]
    for each in parts:
        await world.ledger.commit([each])
    shown = await world.ledger.parts_since(job.id, 0, 10)
    assert [each.sequence for each in shown] == [1, 2, 3]
    assert [(each.n, each.part) for each in shown] == [(lease.n, part) for lease, part in parts]
    assert await world.ledger.parts_since(job.id, 2, 1) == shown[1:2]
    assert await world.ledger.parts_since(job.id, 4, 10) == ()
    assert await world.ledger.parts_since(JobId("none"), 0, 10) == ()


async def test_a_part_is_live_until_its_shard_is_closed(world: World) -> None:
    job = await world.queue(shards=[2, 2])
    first, second = await world.claim()
    await world.commit(first, [0, 1])
    await world.commit(second, [0])
    assert await world.close(first)
    states = {each.n: each.is_live for each in await world.ledger.parts_since(job.id, 0, 10)}
    assert states == {0: False, 1: True}


async def test_a_shards_results_are_its_parts_and_segments(world: World) -> None:
    job = await world.queue(shards=[2, 2])
    first, second = await world.claim()
    streams = {1: ERR, 0: OUT}
    await world.commit(first, {1: ERR})
    await world.commit(first, {0: OUT})
    made = segments(first, streams)
    assert await world.ledger.close(first.lease, made)
    closed, still_open = await world.ledger.shard_results(job.id, [0, 1, 7])
    assert closed.shard == first.shard
    assert [entry.line for part in closed.parts for entry in part.entries] == [1, 0]
    assert sorted(closed.segments, key=str) == sorted(made, key=str)
    assert (still_open.shard, still_open.parts, still_open.segments) == (second.shard, (), ())


async def test_a_shard_is_held_as_long_as_its_lease_says(world: World) -> None:
    job = await world.queue(shards=[2, 2])
    held = await world.claim_one()
    assert await _held(world, job) == [True, False]
    world.pass_lease_time()
    assert await _held(world, job) == [False, False]
    again = await world.claim_one(BOB)
    assert again.lease.n == held.lease.n
    await world.commit(again, [0, 1])
    assert await world.close(again)
    assert await _held(world, job) == [False, False]


async def _held(world: World, job: Job) -> list[bool]:
    return [each.is_held for each in await world.ledger.shard_results(job.id, [0, 1])]


async def test_copied_outcomes_are_counted_with_their_parts(world: World) -> None:
    job = await world.queue(shards=[4], dedupe=True)
    held = await world.claim_one()
    assert held.job.dedupe
    for lines, copied in (([0], 0), ([1, 2], 2), ([3], 1)):
        part = replace(world.part(held.lease, lines), deduplicated=copied)
        assert await world.ledger.commit([(held.lease, part)]) == (True,)
        assert await world.ledger.commit([(held.lease, part)]) == (True,)
    assert (await world.seen(job)).deduplicated == 3
