"""Claiming: whose shards come next, and what comes with them."""

from __future__ import annotations

import pytest

from batchmill.fleet import Beat, EngineState, EngineStatus
from batchmill.ledger.turns import Candidate, choose, deal
from batchmill.model import (
    Ending,
    JobId,
    JobState,
    Kind,
    LineError,
    Owner,
    PartEntry,
    TenantId,
)
from batchmill.ports import Want
from batchmill.usage import Usage
from tests.conformance.ledger.world import ALICE, BOB, ERR, OUT, World


async def test_the_first_claim_of_a_queued_job_makes_it_running(world: World) -> None:
    job = await world.queue(shards=[2, 2])
    assert (job.state, job.started_at) == (JobState.QUEUED, None)
    started = world.clock.wall()
    held = await world.claim_one()
    world.clock.advance(1)
    again = await world.claim_one()
    assert held.job.state is JobState.RUNNING
    assert held.job.started_at == again.job.started_at == started


async def test_a_claim_brings_the_shard_its_input_and_its_job(world: World) -> None:
    file = await world.upload(filename="zwölf.jsonl", lines=6)
    job = await world.queue(shards=[4, 2], file=file, metadata={"a": "b"})
    first, second = await world.claim()
    assert (first.shard.first_line, first.shard.lines) == (0, 4)
    assert (second.shard.first_line, second.shard.lines, second.shard.first_physical) == (4, 2, 5)
    assert (first.input.blob, first.input.filename) == (file.blob, "zwölf.jsonl")
    assert (first.job.id, first.job.metadata, first.stop) == (job.id, {"a": "b"}, None)


async def test_a_claim_brings_the_parts_of_earlier_owners_in_the_order_of_their_commits(
    world: World,
) -> None:
    await world.queue(shards=[6])
    first = await world.claim_one(ALICE)
    one = world.part(first.lease, {3: OUT, 1: ERR}, Usage(1, 2, 3, 4))
    await world.ledger.commit([(first.lease, one)])
    world.pass_lease_time()
    second = await world.claim_one(BOB)
    two = world.part(second.lease, {0: OUT})
    await world.ledger.commit([(second.lease, two)])
    world.pass_lease_time()
    assert (await world.claim_one()).parts == (one, two)


async def test_part_entries_of_any_size_come_back_as_they_were(world: World) -> None:
    await world.queue(shards=[2000])
    held = await world.claim_one()
    part = world.part(held.lease, {1999: ERR})
    big = PartEntry(1999, 5_000_000_000, 4_000_000_000, ERR)
    part = type(part)(part.blob, (big,), 9_000_000_000, Usage(2**40, 1, 2, 3))
    assert await world.ledger.commit([(held.lease, part)]) == (True,)
    world.pass_lease_time()
    assert (await world.claim_one()).parts == (part,)


async def test_shards_are_claimed_in_line_order(world: World) -> None:
    await world.queue(shards=[1] * 6)
    assert [held.lease.n for held in await world.claim(limit=4)] == [0, 1, 2, 3]
    assert [held.lease.n for held in await world.claim(limit=4)] == [4, 5]


async def test_no_more_shards_are_claimed_than_asked_for(world: World) -> None:
    for _ in range(3):
        await world.queue(shards=[1] * 3)
    assert len(await world.claim(limit=5)) == 5
    assert len(await world.claim(limit=0)) == 0
    assert len(await world.claim(limit=50)) == 4


async def test_abandoned_shards_come_before_fresh_ones(world: World) -> None:
    await world.queue(shards=[1] * 4)
    await world.claim(limit=1)
    second = (await world.claim(limit=1))[0]
    world.pass_lease_time()
    assert [held.lease.n for held in await world.claim(limit=3)] == [0, second.lease.n, 2]


async def test_the_higher_priority_comes_first(world: World) -> None:
    low = await world.queue(shards=[1] * 3)
    high = await world.queue(shards=[1] * 3, priority=5)
    claimed = [held.job.id for held in await world.claim(limit=4)]
    assert claimed == [high.id, high.id, high.id, low.id]


async def test_tenants_share_whatever_the_number_of_their_jobs(world: World) -> None:
    for _ in range(4):
        await world.queue([1] * 8, TenantId("many"))
    await world.queue([1] * 8, TenantId("one"))
    claimed = [held.job.tenant for held in await world.claim(limit=8)]
    assert sorted(claimed) == ["many"] * 4 + ["one"] * 4


async def test_shards_that_run_already_count_against_their_tenant(world: World) -> None:
    await world.queue([1] * 8, TenantId("early"))
    await world.claim(limit=3)
    await world.queue([1] * 8, TenantId("late"))
    claimed = [held.job.tenant for held in await world.claim(limit=5)]
    assert sorted(claimed) == ["early"] + ["late"] * 4


async def test_a_small_job_does_not_wait_for_a_big_one(world: World) -> None:
    await world.queue(shards=[1] * 50)
    await world.claim(limit=4)
    small = await world.queue(shards=[1])
    assert (await world.claim_one()).job.id == small.id


async def test_of_equal_jobs_the_earlier_deadline_and_then_the_older_comes_first(
    world: World,
) -> None:
    older = await world.queue(window=5000)
    urgent = await world.queue(window=100)
    younger = await world.queue(window=5000)
    claimed = [(await world.claim_one()).job.id for _ in range(3)]
    assert claimed == [urgent.id, older.id, younger.id]


async def test_leases_that_ran_out_do_not_count_as_running(world: World) -> None:
    dead = await world.queue([1] * 4, TenantId("dead"))
    await world.claim(limit=3)
    live = await world.queue([1] * 4, TenantId("live"))
    await world.claim(limit=1)
    world.pass_lease_time()
    claimed = [held.job.id for held in await world.claim(limit=4)]
    assert sorted(claimed) == sorted([dead.id, dead.id, live.id, live.id])


async def test_only_jobs_whose_model_is_served_are_claimed(world: World) -> None:
    mine = await world.queue(model="small")
    await world.queue(model="big")
    any_model = await world.queue()
    claimed = await world.claim(serving=frozenset({"small"}))
    assert {held.job.id for held in claimed} == {mine.id, any_model.id}
    assert len(await world.claim()) == 1


async def test_jobs_that_were_named_are_left_out(world: World) -> None:
    job = await world.queue(shards=[1, 1])
    assert await world.claim(not_jobs=frozenset({job.id})) == []
    assert len(await world.claim()) == 2


async def test_shards_whose_owner_died_are_given_whatever_is_left_out(world: World) -> None:
    job = await world.queue(shards=[1, 1, 1])
    await world.claim(BOB, 2)
    world.pass_lease_time()
    taken = await world.claim(not_jobs=frozenset({job.id}))
    assert [each.shard.n for each in taken] == [0, 1]
    assert await world.claim(not_jobs=frozenset({job.id})) == []
    assert len(await world.claim()) == 1


async def test_a_paused_job_gives_no_shards_until_it_is_resumed(world: World) -> None:
    job = await world.queue()
    assert (await world.ledger.set_paused(job.tenant, job.id, True)).paused
    assert await world.claim() == []
    await world.ledger.set_paused(job.tenant, job.id, False)
    assert len(await world.claim()) == 1


async def test_shards_of_a_stopped_job_come_with_the_reason(world: World) -> None:
    cancelled, late, broken = await world.queue(), await world.queue(window=9), await world.queue()
    await world.ledger.cancel(cancelled.tenant, cancelled.id)
    world.clock.advance(10)
    await world.ledger.expire_jobs()
    await world.ledger.fail_job(broken.id, LineError("internal_error", "damaged"))
    stops = {held.job.id: held.stop for held in await world.claim()}
    assert stops == {
        cancelled.id: Ending.CANCELLED,
        late.id: Ending.EXPIRED,
        broken.id: Ending.FAILED,
    }


async def test_settling_needs_no_engine_and_minds_no_pause(world: World) -> None:
    job = await world.queue(model="big")
    await world.ledger.set_paused(job.tenant, job.id, True)
    await world.ledger.cancel(job.tenant, job.id)
    claimed = await world.claim(serving=frozenset(), running=False)
    assert [held.stop for held in claimed] == [Ending.CANCELLED]


async def test_what_is_to_be_settled_comes_first(world: World) -> None:
    await world.queue(priority=9)
    stopped = await world.queue()
    await world.ledger.cancel(stopped.tenant, stopped.id)
    assert (await world.claim_one()).job.id == stopped.id


@pytest.mark.parametrize(("running", "settling", "number"), [(1, 0, 1), (0, 1, 2), (0, 0, 0)])
async def test_a_worker_takes_only_the_kind_of_work_it_wants(
    world: World, running: int, settling: int, number: int
) -> None:
    await world.queue()
    stopped = await world.queue(shards=[1, 1])
    await world.ledger.cancel(stopped.tenant, stopped.id)
    want = Want(8, running=bool(running), settling=bool(settling))
    assert len(await world.ledger.claim_shards(ALICE, want)) == number


async def test_the_owner_of_a_shard_has_two_beats_to_close_it_after_a_stop(world: World) -> None:
    job = await world.queue()
    slow = await world.claim_one(ALICE)
    await world.ledger.cancel(job.tenant, job.id)
    assert await world.claim(BOB) == []
    assert await world.commit(slow, [0])
    world.pass_two_beats()
    taken = await world.claim_one(BOB)
    assert (taken.stop, taken.lease.epoch) == (Ending.CANCELLED, slow.lease.epoch + 1)
    assert [e.line for part in taken.parts for e in part.entries] == [0]
    assert not await world.commit(slow, [1])


async def test_who_settles_a_shard_is_not_revoked(world: World) -> None:
    job = await world.queue()
    await world.claim_one(ALICE)
    await world.ledger.cancel(job.tenant, job.id)
    world.pass_two_beats()
    settler = await world.claim_one(BOB)
    world.pass_two_beats()
    assert await world.claim(ALICE) == []
    await world.finish(settler, ERR)


async def test_being_revoked_is_no_strike(world: World) -> None:
    job = await world.queue()
    held = await world.claim_one(ALICE)
    await world.ledger.note_alone(held.lease, 1)
    await world.ledger.cancel(job.tenant, job.id)
    world.pass_two_beats()
    taken = await world.claim_one(BOB)
    assert (taken.strikes, taken.alone_deaths) == (0, 0)


async def test_a_stop_ends_the_wait_of_a_released_shard(world: World) -> None:
    job = await world.queue()
    await world.ledger.release([(await world.claim_one()).lease], after=1000)
    await world.ledger.cancel(job.tenant, job.id)
    assert (await world.claim_one()).stop is Ending.CANCELLED


async def test_a_wait_is_over_once_its_shard_was_claimed_again(world: World) -> None:
    job = await world.queue()
    await world.ledger.release([(await world.claim_one()).lease], after=1000)
    await world.ledger.cancel(job.tenant, job.id)
    await world.claim_one(ALICE)
    await world.ledger.release_worker("alice", struck=False)
    assert (await world.claim_one(BOB)).stop is Ending.CANCELLED


async def test_a_wait_asked_for_while_settling_counts(world: World) -> None:
    job = await world.queue()
    await world.ledger.cancel(job.tenant, job.id)
    await world.ledger.release([(await world.claim_one()).lease], after=5)
    assert await world.claim() == []
    world.clock.advance(5.1)
    assert (await world.claim_one()).stop is Ending.CANCELLED


async def test_closed_shards_are_never_claimed_again(world: World) -> None:
    job = await world.queue(shards=[1, 1])
    done = await world.claim_one()
    await world.finish(done)
    other = await world.claim_one()
    assert other.lease.n != done.lease.n
    await world.ledger.cancel(job.tenant, job.id)
    world.pass_lease_time()
    assert [held.lease.n for held in await world.claim()] == [other.lease.n]


async def test_hidden_jobs_are_still_settled(world: World) -> None:
    job = await world.queue()
    await world.ledger.delete_job(job.tenant, job.id)
    assert (await world.claim_one()).stop is Ending.CANCELLED


async def test_chores_are_not_claimed_as_shards(world: World) -> None:
    await world.create()
    assert await world.claim() == []
    assert (await world.chore(Kind.VALIDATE))[0].kind is Kind.VALIDATE


def _candidate(name: str, tenant: str = "t", priority: int = 0, age: int = 0) -> Candidate:
    return Candidate(JobId(name), TenantId(tenant), priority, 100.0, age)


def test_nobody_is_chosen_where_nobody_is() -> None:
    assert choose([], {}, {}) is None
    assert deal([], {}, {}, 5) == {}


def test_shards_are_dealt_round_the_tenants_and_then_their_jobs() -> None:
    jobs = [_candidate("a1", "a", age=1), _candidate("a2", "a", age=2), _candidate("b1", "b")]
    hand = deal(jobs, {}, {}, 8)
    assert hand == {JobId("b1"): 4, JobId("a1"): 2, JobId("a2"): 2}


def test_a_lower_priority_is_dealt_nothing_while_a_higher_one_is_there() -> None:
    jobs = [_candidate("low"), _candidate("high", priority=1)]
    assert deal(jobs, {JobId("high"): 50}, {}, 3) == {JobId("high"): 3}


async def test_a_shard_that_wants_a_model_goes_to_who_serves_it(world: World) -> None:
    await world.queue(shards=[2, 2], model="a")
    first, second = await world.claim()
    await world.ledger.release([first.lease], wanted="b")
    served = frozenset({"a"}), frozenset({"b"})
    assert await world.claim(serving=served[0]) == []
    assert await world.claim(BOB, serving=frozenset({"c"})) == []
    taken = await world.claim(BOB, serving=served[1])
    assert [each.shard.n for each in taken] == [first.shard.n]
    await world.ledger.release([taken[0].lease])
    await world.ledger.release([second.lease])
    assert await world.claim(BOB, serving=served[1]) == []
    assert len(await world.claim(serving=served[0])) == 2


async def test_who_serves_what_a_shard_wants_takes_nothing_else_of_its_job(world: World) -> None:
    await world.queue(shards=[2, 2, 2], model="a")
    held = await world.claim(limit=2)
    await world.ledger.release([held[0].lease], wanted="b")
    world.pass_lease_time()
    [taken] = await world.claim(BOB, serving=frozenset({"b"}))
    assert taken.shard.n == held[0].shard.n


async def test_any_worker_settles_a_shard_that_wants_a_model(world: World) -> None:
    job = await world.queue(shards=[2], model="a")
    await world.ledger.release([(await world.claim_one()).lease], wanted="b")
    await world.ledger.cancel(job.tenant, job.id)
    assert (await world.claim_one(serving=frozenset({"c"}))).stop is Ending.CANCELLED


async def test_the_models_of_other_workers_are_those_that_they_serve_now(world: World) -> None:
    def seen(model: str, state: EngineState = EngineState.UP) -> Beat:
        return Beat(engines=(EngineStatus(model, "http://x", state, models=(model,)),))

    await world.ledger.renew(ALICE, [], seen("a"))
    await world.ledger.renew(BOB, [], seen("b"))
    await world.ledger.renew(Owner("carol/1"), [], seen("c", EngineState.DOWN))
    assert await world.ledger.models_elsewhere(ALICE) == {"b"}
    world.pass_lease_time()
    await world.ledger.renew(ALICE, [], seen("a"))
    assert await world.ledger.models_elsewhere(ALICE) == frozenset()
