"""Leases: who holds a shard, until when, and what a stale owner can no longer do."""

from __future__ import annotations

import pytest

from batchmill.errors import LeaseLost
from batchmill.fleet import Beat
from batchmill.model import (
    Answer,
    Ending,
    Kind,
    Lease,
    LineError,
    Owner,
    Verdict,
)
from tests.conformance.ledger.world import (
    ALICE,
    BOB,
    LEASE_SECONDS,
    OUT,
    World,
    only_sqlite,
    plan_of,
    segments,
)


async def test_a_leased_shard_is_nobody_elses(world: World) -> None:
    await world.queue()
    await world.claim_one(ALICE)
    assert await world.claim(BOB) == []


async def test_a_lease_that_ran_out_is_granted_to_another_with_a_higher_epoch(world: World) -> None:
    await world.queue()
    first = await world.claim_one(ALICE)
    world.pass_lease_time()
    second = await world.claim_one(BOB)
    assert second.lease.key == first.lease.key
    assert second.lease.epoch == first.lease.epoch + 1


async def test_every_grant_raises_the_epoch(world: World) -> None:
    await world.queue()
    epochs = []
    for _ in range(4):
        held = await world.claim_one()
        epochs.append(held.lease.epoch)
        await world.ledger.release([held.lease])
    assert epochs == [1, 2, 3, 4]


async def test_a_stale_epoch_cannot_commit(world: World) -> None:
    job = await world.queue()
    stale = await world.claim_one(ALICE)
    world.pass_lease_time()
    await world.claim_one(BOB)
    assert not await world.commit(stale, range(4))
    assert (await world.seen(job)).succeeded == 0


async def test_a_stale_epoch_cannot_close_release_or_note(world: World) -> None:
    await world.queue()
    stale = await world.claim_one(ALICE)
    await world.commit(stale, range(4))
    world.pass_lease_time()
    fresh = await world.claim_one(BOB)
    assert not await world.ledger.close(stale.lease, segments(stale, dict.fromkeys(range(4), OUT)))
    assert not await world.ledger.note_alone(stale.lease, 1)
    await world.ledger.release([stale.lease])
    answers = (await world.ledger.renew(BOB, [fresh.lease], Beat())).answers
    assert answers[fresh.lease.key] == Answer(Verdict.KEEP)


async def test_the_same_owner_granted_anew_is_fenced_from_its_earlier_lease(world: World) -> None:
    await world.queue()
    stale = await world.claim_one(ALICE)
    world.pass_lease_time()
    fresh = await world.claim_one(ALICE)
    assert not await world.commit(stale, [0])
    assert await world.commit(fresh, [0])


async def test_an_owner_whose_lease_ran_out_may_still_commit_until_another_has_it(
    world: World,
) -> None:
    job = await world.queue()
    late = await world.claim_one(ALICE)
    world.pass_lease_time()
    assert await world.commit(late, [0, 1])
    assert (await world.seen(job)).succeeded == 2


async def test_a_stale_validator_cannot_plan_or_refuse(world: World) -> None:
    await world.create()
    stale, _ = await world.chore(Kind.VALIDATE, ALICE)
    world.pass_lease_time()
    await world.chore(Kind.VALIDATE, BOB)
    with pytest.raises(LeaseLost):
        await world.ledger.plan(stale, plan_of([4]))
    with pytest.raises(LeaseLost):
        await world.ledger.refuse(stale, [LineError("bad", "bad")], 1)


async def test_renew_keeps_a_lease_beyond_its_time(world: World) -> None:
    await world.queue()
    held = await world.claim_one(ALICE)
    for _ in range(4):
        world.clock.advance(LEASE_SECONDS - 1)
        await world.ledger.renew(ALICE, [held.lease], Beat())
    assert await world.claim(BOB) == []
    assert await world.commit(held, range(4))


async def test_renew_leaves_leases_that_their_owner_does_not_know_of(world: World) -> None:
    await world.queue()
    await world.claim_one(ALICE)
    world.clock.advance(LEASE_SECONDS - 1)
    await world.ledger.renew(ALICE, [], Beat())
    world.clock.advance(2)
    assert len(await world.claim(BOB)) == 1


async def test_renew_says_gone_for_a_lease_that_another_has(world: World) -> None:
    await world.queue()
    stale = await world.claim_one(ALICE)
    world.pass_lease_time()
    await world.claim_one(BOB)
    answers = (await world.ledger.renew(ALICE, [stale.lease], Beat())).answers
    assert answers == {stale.lease.key: Answer(Verdict.GONE)}


async def test_renew_says_gone_for_a_lease_that_never_was(world: World) -> None:
    job = await world.queue()
    made_up = Lease(job.id, Kind.RUN, 77, ALICE, 1)
    answers = (await world.ledger.renew(ALICE, [made_up], Beat())).answers
    assert answers == {made_up.key: Answer(Verdict.GONE)}


async def test_renew_says_pause_and_then_keep(world: World) -> None:
    job = await world.queue()
    held = await world.claim_one()
    await world.ledger.set_paused(job.tenant, job.id, True)
    first = (await world.ledger.renew(ALICE, [held.lease], Beat())).answers
    await world.ledger.set_paused(job.tenant, job.id, False)
    then = (await world.ledger.renew(ALICE, [held.lease], Beat())).answers
    assert (first[held.lease.key].verdict, then[held.lease.key].verdict) == (
        Verdict.PAUSE,
        Verdict.KEEP,
    )


async def test_renew_says_why_a_job_stopped(world: World) -> None:
    cancelled, failed = await world.queue(), await world.queue()
    late = await world.queue(window=30.0)
    held = {each.job.id: each.lease for each in await world.claim()}
    await world.ledger.cancel(cancelled.tenant, cancelled.id)
    await world.ledger.fail_job(failed.id, LineError("internal_error", "the input is damaged"))
    world.clock.advance(31.0)
    answers = (await world.ledger.renew(ALICE, list(held.values()), Beat())).answers
    said = {job: answers[lease.key] for job, lease in held.items()}
    assert said == {
        cancelled.id: Answer(Verdict.STOP, Ending.CANCELLED),
        failed.id: Answer(Verdict.STOP, Ending.FAILED),
        late.id: Answer(Verdict.STOP, Ending.EXPIRED),
    }


async def test_renew_keeps_the_validation_of_a_cancelled_job(world: World) -> None:
    job = await world.create()
    lease, _ = await world.chore(Kind.VALIDATE)
    await world.ledger.cancel(job.tenant, job.id)
    world.clock.advance(LEASE_SECONDS - 1)
    renewal = await world.ledger.renew(ALICE, [lease], Beat())
    world.clock.advance(LEASE_SECONDS - 1)
    assert renewal.answers[lease.key] == Answer(Verdict.KEEP)
    assert await world.ledger.claim_chore(BOB, [Kind.VALIDATE]) is None


async def test_renew_says_whether_there_is_work(world: World) -> None:
    lease, _ = await world.chore(Kind.SWEEP)
    assert not (await world.ledger.renew(ALICE, [lease], Beat())).work
    job = await world.queue(shards=[2, 2])
    assert (await world.ledger.renew(ALICE, [lease], Beat())).work
    await world.ledger.set_paused(job.tenant, job.id, True)
    assert not (await world.ledger.renew(ALICE, [lease], Beat())).work
    await world.ledger.set_paused(job.tenant, job.id, False)
    held = await world.claim(BOB)
    assert not (await world.ledger.renew(ALICE, [lease], Beat())).work
    await world.ledger.release([held[0].lease], after=5)
    assert not (await world.ledger.renew(ALICE, [lease], Beat())).work
    world.clock.advance(5.1)
    assert (await world.ledger.renew(ALICE, [lease], Beat())).work


async def test_renew_finds_abandoned_work(world: World) -> None:
    lease, _ = await world.chore(Kind.SWEEP)
    await world.queue()
    await world.claim_one(BOB)
    world.clock.advance(LEASE_SECONDS - 1)
    assert not (await world.ledger.renew(ALICE, [lease], Beat())).work
    world.clock.advance(1.1)
    assert (await world.ledger.renew(ALICE, [lease], Beat())).work


async def test_renew_finds_shards_that_an_owner_has_not_closed_two_beats_after_a_stop(
    world: World,
) -> None:
    lease, _ = await world.chore(Kind.SWEEP)
    job = await world.queue()
    await world.claim_one(BOB)
    await world.ledger.cancel(job.tenant, job.id)
    assert not (await world.ledger.renew(ALICE, [lease], Beat())).work
    world.pass_two_beats()
    assert (await world.ledger.renew(ALICE, [lease], Beat())).work
    assert not (await world.ledger.renew(BOB, [], Beat())).work
    await world.claim_one(ALICE)
    assert not (await world.ledger.renew(ALICE, [lease], Beat())).work


async def test_a_released_shard_waits_as_long_as_was_asked(world: World) -> None:
    await world.queue()
    held = await world.claim_one()
    await world.ledger.release([held.lease], after=7)
    world.clock.advance(6.9)
    assert await world.claim() == []
    world.clock.advance(0.2)
    assert len(await world.claim()) == 1


async def test_releasing_twice_does_no_harm(world: World) -> None:
    await world.queue()
    held = await world.claim_one(ALICE)
    await world.ledger.release([held.lease, held.lease])
    fresh = await world.claim_one(BOB)
    await world.ledger.release([held.lease])
    assert await world.commit(fresh, [0])


async def test_a_release_is_no_strike(world: World) -> None:
    await world.queue()
    for _ in range(3):
        await world.ledger.release([(await world.claim_one()).lease])
    assert (await world.claim_one()).strikes == 0


async def test_a_lease_that_ran_out_with_nothing_committed_is_a_strike(world: World) -> None:
    await world.queue()
    strikes = []
    for _ in range(4):
        strikes.append((await world.claim_one()).strikes)
        world.pass_lease_time()
    assert strikes == [0, 1, 2, 3]


async def test_a_commit_clears_the_strikes(world: World) -> None:
    await world.queue()
    await world.claim_one()
    world.pass_lease_time()
    second = await world.claim_one()
    await world.commit(second, [0])
    world.pass_lease_time()
    assert (second.strikes, (await world.claim_one()).strikes) == (1, 0)


async def test_strikes_outlast_a_release(world: World) -> None:
    await world.queue()
    await world.claim_one()
    world.pass_lease_time()
    await world.ledger.release([(await world.claim_one()).lease])
    assert (await world.claim_one()).strikes == 1


@only_sqlite
async def test_after_a_reboot_every_lease_is_open_and_none_is_a_strike(world: World) -> None:
    await world.queue()
    held = await world.claim_one(ALICE)
    await world.ledger.note_alone(held.lease, 2)
    world.clock.reboot()
    fresh = await world.claim_one(BOB)
    assert fresh.lease.epoch == held.lease.epoch + 1
    assert (fresh.strikes, fresh.alone, fresh.alone_deaths) == (0, None, 0)


@only_sqlite
async def test_a_lease_from_before_a_reboot_is_no_strike_however_late_it_is_found(
    world: World,
) -> None:
    await world.queue()
    held = await world.claim_one()
    await world.ledger.note_alone(held.lease, 2)
    world.clock.reboot()
    world.clock.advance(100_000)
    fresh = await world.claim_one()
    assert (fresh.strikes, fresh.alone_deaths) == (0, 0)


@only_sqlite
async def test_a_wait_ends_with_a_reboot(world: World) -> None:
    await world.queue()
    await world.ledger.release([(await world.claim_one()).lease], after=10_000)
    world.clock.reboot()
    assert len(await world.claim()) == 1


@only_sqlite
async def test_leases_do_not_mind_the_wall_clock(world: World) -> None:
    await world.queue(window=1e9)
    held = await world.claim_one(ALICE)
    for jump in (86_400.0, -864_000.0):
        world.clock.jump_wall(jump)
        assert await world.claim(BOB) == []
    assert await world.commit(held, range(4))


async def test_a_line_that_died_alone_is_remembered_with_its_deaths(world: World) -> None:
    await world.queue()
    for deaths in range(3):
        held = await world.claim_one()
        assert (held.alone, held.alone_deaths) == ((2, deaths) if deaths else (None, 0))
        assert await world.ledger.note_alone(held.lease, 2)
        world.pass_lease_time()
    assert (await world.claim_one()).alone_deaths == 3


async def test_a_line_that_was_no_longer_in_flight_did_not_die(world: World) -> None:
    await world.queue()
    held = await world.claim_one()
    await world.ledger.note_alone(held.lease, 2)
    await world.ledger.note_alone(held.lease, None)
    world.pass_lease_time()
    assert (await world.claim_one()).alone_deaths == 0


async def test_deaths_survive_until_another_line_is_noted(world: World) -> None:
    await world.queue()
    await world.ledger.note_alone((await world.claim_one()).lease, 2)
    world.pass_lease_time()
    held = await world.claim_one()
    await world.ledger.note_alone(held.lease, None)
    await world.ledger.release([held.lease])
    held = await world.claim_one()
    assert (held.alone, held.alone_deaths) == (2, 1)
    await world.ledger.note_alone(held.lease, 3)
    world.pass_lease_time()
    held = await world.claim_one()
    assert (held.alone, held.alone_deaths) == (3, 1)


async def test_committing_the_line_that_ran_alone_clears_its_deaths(world: World) -> None:
    await world.queue()
    await world.ledger.note_alone((await world.claim_one()).lease, 2)
    world.pass_lease_time()
    held = await world.claim_one()
    await world.ledger.note_alone(held.lease, 2)
    await world.commit(held, [2])
    world.pass_lease_time()
    held = await world.claim_one()
    assert (held.alone, held.alone_deaths) == (None, 0)


async def test_committing_another_line_keeps_the_deaths(world: World) -> None:
    await world.queue()
    await world.ledger.note_alone((await world.claim_one()).lease, 2)
    world.pass_lease_time()
    held = await world.claim_one()
    await world.commit(held, [1])
    world.pass_lease_time()
    held = await world.claim_one()
    assert (held.alone, held.alone_deaths) == (2, 1)


async def test_a_worker_that_is_gone_gives_up_all_leases_of_all_its_lives(world: World) -> None:
    await world.queue(shards=[1, 1, 1, 1])
    await world.claim(Owner("w/1"), 1)
    await world.claim(Owner("w/2"), 1)
    await world.claim(Owner("w2/1"), 1)
    await world.create()
    await world.chore(Kind.VALIDATE, Owner("w/2"))
    assert await world.ledger.release_worker("w", struck=False) == 3
    freed = await world.claim()
    assert len(freed) == 3
    assert {each.strikes for each in freed} == {0}


async def test_a_worker_that_died_by_itself_is_a_strike_where_it_had_committed_nothing(
    world: World,
) -> None:
    await world.queue(shards=[2, 2])
    helpful, useless = await world.claim(Owner("w/1"))
    await world.commit(helpful, [0])
    await world.ledger.note_alone(useless.lease, 1)
    assert await world.ledger.release_worker("w", struck=True) == 2
    found = {each.lease.n: each for each in await world.claim()}
    assert found[helpful.lease.n].strikes == 0
    assert found[useless.lease.n].strikes == 1
    assert (found[useless.lease.n].alone, found[useless.lease.n].alone_deaths) == (1, 1)
