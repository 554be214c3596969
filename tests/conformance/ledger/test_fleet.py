"""The fleet, keys and secrets."""

from __future__ import annotations

from dataclasses import replace

import pytest

from batchmill.fleet import Beat, EngineState, EngineStatus, JobGauge
from batchmill.model import (
    JobId,
    JobState,
    Owner,
    TenantId,
    WaitingReason,
)
from tests.conformance.ledger.world import LEASE_SECONDS, World, only_sqlite

UP = EngineStatus("gpu", "vllm", EngineState.UP, "", ("small", "big"), 12.5, 3, True, False)
DOWN = EngineStatus("gpu", "vllm", EngineState.DOWN, "connection refused")
BEAT = Beat({JobId("j"): JobGauge(1, 2, 3.5, WaitingReason.RATE_LIMITED)}, (UP,), False)
DAY = 86_400.0


async def test_a_worker_is_known_from_its_registration_on(world: World) -> None:
    owner = await world.ledger.register("w", "1", "host", 42)
    assert owner == "w/1"
    (worker,) = await world.ledger.workers()
    assert (worker.id, worker.incarnation, worker.host, worker.pid) == ("w", "1", "host", 42)
    assert (worker.alive, worker.beat) == (True, Beat())


async def test_a_beat_is_seen_as_it_was_sent(world: World) -> None:
    owner = await world.ledger.register("w", "1", "host", 42)
    world.clock.advance(3)
    await world.ledger.renew(owner, [], BEAT)
    (worker,) = await world.ledger.workers()
    assert (worker.beat, worker.beat_at, worker.pid) == (BEAT, world.clock.wall(), 42)
    assert await world.ledger.engines() == (UP,)


async def test_a_worker_is_alive_while_it_beats_within_the_lease_time(world: World) -> None:
    owner = await world.ledger.register("w", "1", "host", 42)
    world.clock.advance(LEASE_SECONDS - 0.1)
    assert (await world.ledger.workers())[0].alive
    world.clock.advance(0.2)
    assert not (await world.ledger.workers())[0].alive
    await world.ledger.renew(owner, [], Beat())
    assert (await world.ledger.workers())[0].alive


async def test_a_beat_tells_how_many_workers_share_the_work(world: World) -> None:
    mine, other, keeper = [
        await world.ledger.register(name, "1", "host", 42) for name in ("a", "b", "keeper")
    ]
    await world.ledger.renew(keeper, [], Beat(sends=False))
    assert (await world.ledger.renew(mine, [], Beat())).workers == 2
    await world.ledger.renew(other, [], Beat(draining=True))
    assert (await world.ledger.renew(mine, [], Beat())).workers == 1


@only_sqlite
async def test_a_worker_lives_by_the_clock_of_its_machine(world: World) -> None:
    owner = await world.ledger.register("w", "1", "host", 42)
    world.clock.jump_wall(-500)
    world.clock.advance(LEASE_SECONDS + 0.1)
    assert not (await world.ledger.workers())[0].alive
    await world.ledger.renew(owner, [], Beat())
    assert (await world.ledger.workers())[0].alive
    world.clock.reboot()
    assert not (await world.ledger.workers())[0].alive


async def test_a_worker_is_forgotten_after_a_day(world: World) -> None:
    await world.ledger.register("old", "1", "host", 1)
    await world.ledger.renew(Owner("old/1"), [], BEAT)
    world.clock.advance(DAY + 1)
    assert await world.ledger.workers() == ()
    await world.ledger.register("new", "1", "host", 2)
    assert [worker.id for worker in await world.ledger.workers()] == ["new"]
    assert await world.ledger.engines() == ()


async def test_forgetting_takes_only_workers_that_were_silent_for_a_day(world: World) -> None:
    await world.ledger.register("old", "1", "host", 1)
    await world.ledger.renew(Owner("old/1"), [], BEAT)
    world.clock.advance(DAY - 1)
    await world.ledger.forget_workers()
    assert await world.ledger.engines() == (UP,)
    world.clock.advance(2)
    await world.ledger.forget_workers()
    assert await world.ledger.engines() == ()


async def test_a_worker_that_left_is_not_alive_but_seen(world: World) -> None:
    first = await world.ledger.register("w", "1", "host", 1)
    await world.ledger.renew(first, [], BEAT)
    await world.ledger.leave(first)
    (worker,) = await world.ledger.workers()
    assert (worker.alive, worker.beat) == (False, BEAT)
    await world.ledger.register("w", "2", "host", 2)
    await world.ledger.leave(first)
    assert (await world.ledger.workers())[0].alive


async def test_an_earlier_life_of_a_worker_no_longer_beats(world: World) -> None:
    await world.ledger.register("w", "1", "host", 1)
    await world.ledger.register("w", "2", "host", 2)
    await world.ledger.renew(Owner("w/1"), [], BEAT)
    (worker,) = await world.ledger.workers()
    assert (worker.incarnation, worker.pid, worker.beat) == ("2", 2, Beat())


async def test_names_with_a_slash_are_no_workers(world: World) -> None:
    for worker, incarnation in (("a/b", "1"), ("a", "1/2")):
        with pytest.raises(ValueError, match="slash"):
            await world.ledger.register(worker, incarnation, "host", 1)


async def test_an_engine_is_shown_as_the_last_worker_saw_it(world: World) -> None:
    await world.ledger.renew(Owner("a/1"), [], Beat(engines=(UP,)))
    world.clock.advance(1)
    await world.ledger.renew(Owner("b/1"), [], Beat(engines=(DOWN,)))
    [seen] = await world.ledger.engines()
    assert seen == replace(DOWN, models=UP.models)
    world.clock.advance(1)
    await world.ledger.renew(Owner("a/1"), [], Beat(engines=(UP,)))
    assert await world.ledger.engines() == (UP,)


async def test_an_engine_serves_what_any_worker_sees_under_its_name(world: World) -> None:
    other = replace(UP, models=("another",))
    await world.ledger.renew(Owner("a/1"), [], Beat(engines=(UP,)))
    await world.ledger.renew(Owner("b/1"), [], Beat(engines=(other,)))
    [seen] = await world.ledger.engines()
    assert seen.models == (*UP.models, "another")


async def test_an_engine_that_its_worker_no_longer_has_is_gone(world: World) -> None:
    other = EngineStatus("cpu", "llamacpp", EngineState.UP)
    await world.ledger.renew(Owner("a/1"), [], Beat(engines=(UP, other)))
    await world.ledger.renew(Owner("a/2"), [], Beat(engines=(other,)))
    assert await world.ledger.engines() == (other,)
    await world.ledger.renew(Owner("a/2"), [], Beat())
    assert await world.ledger.engines() == (other,)
    await world.ledger.renew(Owner("a/2"), [], Beat(since=1.0))
    assert await world.ledger.engines() == ()


async def test_an_engine_whose_worker_has_gone_is_down_and_then_left_out(world: World) -> None:
    other = EngineStatus("cpu", "llamacpp", EngineState.UP, models=("mine",))
    await world.ledger.renew(Owner("a/1"), [], Beat(engines=(UP,)))
    await world.ledger.renew(Owner("b/1"), [], Beat(engines=(other,)))
    await world.ledger.leave(Owner("a/1"))
    seen = {engine.name: engine for engine in await world.ledger.engines()}
    assert seen["cpu"] == other
    assert (seen["gpu"].state, seen["gpu"].models) == (EngineState.DOWN, UP.models)
    world.clock.advance(601)
    await world.ledger.renew(Owner("b/1"), [], Beat(engines=(other,)))
    assert await world.ledger.engines() == (other,)


async def test_while_no_worker_lives_its_engines_are_remembered(world: World) -> None:
    await world.ledger.renew(Owner("a/1"), [], Beat(engines=(UP,)))
    await world.ledger.leave(Owner("a/1"))
    world.clock.advance(3600)
    assert await world.ledger.engines() == (UP,)


async def test_open_lines_and_states_are_counted_over_all_tenants(world: World) -> None:
    await world.run(await world.queue([4], TenantId("a")))
    await world.queue([5], TenantId("b"))
    await world.commit(await world.claim_one(), [0, 1])
    await world.create(TenantId("c"), total=7)
    assert await world.ledger.open_lines() == 3 + 7
    states = await world.ledger.jobs_by_state()
    assert {state: n for state, n in states.items() if n} == {
        JobState.VALIDATING: 1,
        JobState.RUNNING: 1,
        JobState.COMPLETED: 1,
    }


async def test_an_empty_ledger_has_no_open_lines(world: World) -> None:
    assert await world.ledger.open_lines() == 0
    assert set((await world.ledger.jobs_by_state()).values()) == {0}


async def test_a_key_is_found_by_its_hash_until_it_is_revoked(world: World) -> None:
    key = await world.ledger.create_key(TenantId("new"), "digest", "bm-...x")
    assert (key.tenant, key.hint, key.created_at) == ("new", "bm-...x", world.clock.wall())
    assert await world.ledger.key_by_digest("digest") == key
    assert await world.ledger.key_by_digest("other") is None
    world.clock.advance(1)
    assert await world.ledger.revoke_key(key.id)
    assert not await world.ledger.revoke_key(key.id)
    assert await world.ledger.key_by_digest("digest") is None
    (kept,) = await world.ledger.keys()
    assert kept.revoked_at == world.clock.wall()


async def test_a_tenant_may_have_several_keys(world: World) -> None:
    made = []
    for digest in ("d1", "d2"):
        made.append(await world.ledger.create_key(TenantId("t"), digest, digest))
        world.clock.advance(1)
    assert list(await world.ledger.keys()) == made
    assert await world.ledger.create_key(TenantId("t"), "d1", "again") == made[0]


async def test_a_secret_is_made_once_and_shared(world: World, open_ledger) -> None:
    urls = await world.ledger.secret("urls")
    other = await open_ledger()
    assert len(urls) == 32
    assert await other.secret("urls") == urls == await world.ledger.secret("urls")
    assert await world.ledger.secret("else") != urls
