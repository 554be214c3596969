"""The ledger's wall time: whatever the machine's clock does, it never runs backwards."""

from __future__ import annotations

from batchmill.model import JobState
from tests.conformance.ledger.world import World


async def test_wall_time_never_runs_backwards(world: World) -> None:
    await world.upload()
    before = await world.ledger.now()
    world.clock.jump_wall(-3600)
    assert await world.ledger.now() == before
    assert (await world.upload()).created_at == before
    world.clock.advance(3601)
    assert await world.ledger.now() == before + 1


async def test_the_highest_time_seen_outlives_its_process(world: World, open_ledger) -> None:
    before = (await world.upload()).created_at
    await world.ledger.close_connections()
    world.clock.jump_wall(-3600)
    again = await open_ledger()
    assert await again.now() == before


async def test_a_clock_that_is_set_back_neither_ends_nor_revives_a_window(world: World) -> None:
    ending, lasting = await world.queue(window=10), await world.queue(window=1000)
    world.clock.advance(11)
    await world.ledger.expire_jobs()
    world.clock.jump_wall(-100_000)
    assert await world.ledger.expire_jobs() == 0
    assert (await world.seen(ending)).state is JobState.FINALIZING
    assert (await world.seen(lasting)).state is JobState.QUEUED


async def test_a_clock_that_is_set_forward_ends_the_windows_it_passes(world: World) -> None:
    job = await world.queue(window=1000)
    world.clock.jump_wall(1001)
    assert await world.ledger.expire_jobs() == 1
    assert (await world.seen(job)).state is JobState.FINALIZING
