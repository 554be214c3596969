"""Chores: one at a time, tried again with backoff, given up with a clear end for their job."""

from __future__ import annotations

import pytest

from batchmill.fleet import Beat
from batchmill.model import (
    Ending,
    JobState,
    Kind,
)
from tests.conformance.ledger.world import (
    ALICE,
    BOB,
    ERR,
    LEASE_SECONDS,
    OUT,
    World,
    only_sqlite,
    plan_of,
)

ALL = list(Kind)[1:]


async def test_each_job_is_validated_once(world: World) -> None:
    job = await world.create()
    lease, found = await world.chore(Kind.VALIDATE)
    assert (found, lease.job, lease.epoch) == (job, job.id, 1)
    assert await world.ledger.claim_chore(BOB, [Kind.VALIDATE]) is None
    await world.ledger.plan(lease, plan_of([4]))
    world.pass_lease_time()
    assert await world.ledger.claim_chore(BOB, [Kind.VALIDATE]) is None


async def test_only_the_kinds_asked_for_are_claimed(world: World) -> None:
    await world.create()
    assert await world.ledger.claim_chore(ALICE, [Kind.FINALIZE, Kind.PRUNE]) is None
    assert await world.ledger.claim_chore(ALICE, []) is None


async def test_jobs_are_validated_by_priority_and_then_by_age(world: World) -> None:
    older, younger = await world.create(), await world.create()
    urgent = await world.create(priority=1)
    order = [(await world.chore(Kind.VALIDATE))[1].id for _ in range(3)]
    assert order == [urgent.id, older.id, younger.id]


async def test_ending_a_job_comes_before_starting_one(world: World) -> None:
    await world.queue()
    await world.finish(await world.claim_one())
    await world.create()
    kinds = [(await world.ledger.claim_chore(ALICE, ALL))[0].kind for _ in range(3)]
    assert kinds == [Kind.FINALIZE, Kind.VALIDATE, Kind.SWEEP]


async def test_a_chore_is_kept_by_renewing_and_taken_over_when_its_owner_is_gone(
    world: World,
) -> None:
    await world.create()
    lease, _ = await world.chore(Kind.VALIDATE, ALICE)
    for _ in range(3):
        world.clock.advance(LEASE_SECONDS - 1)
        await world.ledger.renew(ALICE, [lease], Beat())
    assert await world.ledger.claim_chore(BOB, [Kind.VALIDATE]) is None
    world.pass_lease_time()
    taken, _ = await world.chore(Kind.VALIDATE, BOB)
    assert taken.epoch == lease.epoch + 1


async def test_a_failed_try_waits_longer_each_time(world: World) -> None:
    await world.create()
    waits = []
    for _ in range(4):
        lease, _ = await world.chore(Kind.VALIDATE)
        assert not await world.ledger.strike(lease, "no such blob")
        waited = 0.0
        while await world.ledger.claim_chore(BOB, [Kind.VALIDATE]) is None:
            world.clock.advance(0.5)
            waited += 0.5
        waits.append(waited)
        await world.ledger.release_worker("bob", struck=False)
    assert waits == [1.0, 2.0, 4.0, 8.0]


async def test_a_validation_that_fails_five_times_fails_its_job(world: World) -> None:
    job = await world.create()
    said = []
    for _ in range(5):
        lease, _ = await world.chore(Kind.VALIDATE)
        said.append(await world.ledger.strike(lease, "the input cannot be read"))
        world.clock.advance(60)
    now = await world.seen(job)
    assert said == [False] * 4 + [True]
    assert (now.state, now.ending) == (JobState.FAILED, Ending.FAILED)
    assert [error.code for error in now.errors] == ["internal_error"]
    assert "the input cannot be read" in now.errors[0].message
    assert await world.ledger.claim_chore(ALICE, [Kind.VALIDATE]) is None


async def test_a_validation_that_kills_its_process_five_times_fails_its_job(world: World) -> None:
    job = await world.create()
    for _ in range(5):
        await world.chore(Kind.VALIDATE)
        world.pass_lease_time()
    assert await world.ledger.claim_chore(ALICE, [Kind.VALIDATE]) is None
    now = await world.seen(job)
    assert (now.state, now.errors[0].code) == (JobState.FAILED, "internal_error")


async def test_the_death_of_its_process_is_a_strike_for_a_chore(world: World) -> None:
    job = await world.create()
    for _ in range(5):
        await world.chore(Kind.VALIDATE)
        await world.ledger.release_worker("alice", struck=True)
    assert await world.ledger.claim_chore(ALICE, [Kind.VALIDATE]) is None
    assert (await world.seen(job)).state is JobState.FAILED


async def test_releases_are_no_strikes_for_a_chore(world: World) -> None:
    job = await world.create()
    for _ in range(5):
        lease, _ = await world.chore(Kind.VALIDATE)
        await world.ledger.release([lease])
    assert (await world.validate(job)).state is JobState.QUEUED


@only_sqlite
async def test_reboots_are_no_strikes_for_a_chore(world: World) -> None:
    job = await world.create()
    for _ in range(5):
        await world.chore(Kind.VALIDATE)
        world.clock.reboot()
    assert (await world.validate(job)).state is JobState.QUEUED


async def test_a_finalize_that_fails_five_times_ends_the_job_with_what_it_has(
    world: World,
) -> None:
    job = await world.queue([2, 2])
    good, bad = await world.claim()
    await world.finish(good, OUT)
    await world.finish(bad, ERR)
    for _ in range(5):
        lease, _ = await world.chore(Kind.FINALIZE)
        ended = await world.ledger.strike(lease, "no idea")
        world.clock.advance(60)
    now = await world.seen(job)
    assert ended
    assert (now.state, now.ending, now.errors[0].code) == (
        JobState.FAILED,
        Ending.FAILED,
        "internal_error",
    )
    assert (await world.ledger.file(job.tenant, now.output_file)).lines == 2
    assert (await world.ledger.file(job.tenant, now.error_file)).lines == 2
    assert await world.ledger.claim_chore(ALICE, [Kind.FINALIZE]) is None


async def test_a_cancelled_job_whose_finalize_is_given_up_is_cancelled(world: World) -> None:
    job = await world.queue()
    await world.ledger.cancel(job.tenant, job.id)
    await world.finish(await world.claim_one(), ERR)
    for _ in range(5):
        lease, _ = await world.chore(Kind.FINALIZE)
        await world.ledger.strike(lease, "no idea")
        world.clock.advance(60)
    now = await world.seen(job)
    assert (now.state, now.errors[0].code) == (JobState.CANCELLED, "internal_error")


async def test_a_stale_strike_counts_nothing(world: World) -> None:
    await world.create()
    stale, _ = await world.chore(Kind.VALIDATE, ALICE)
    world.pass_lease_time()
    fresh, _ = await world.chore(Kind.VALIDATE, BOB)
    for _ in range(9):
        assert not await world.ledger.strike(stale, "late")
    assert (await world.ledger.plan(fresh, plan_of([4]))).state is JobState.QUEUED


async def test_there_is_one_sweep_and_it_always_comes_again(world: World) -> None:
    lease, job = await world.chore(Kind.SWEEP)
    assert job is None
    assert await world.ledger.claim_chore(BOB, [Kind.SWEEP]) is None
    await world.ledger.done(lease, again_after=60)
    world.clock.advance(59)
    assert await world.ledger.claim_chore(BOB, [Kind.SWEEP]) is None
    world.clock.advance(2)
    lease, _ = await world.chore(Kind.SWEEP)
    await world.ledger.done(lease)
    assert await world.ledger.claim_chore(BOB, [Kind.SWEEP]) is not None


async def test_a_sweep_that_fails_is_tried_again_for_ever(world: World) -> None:
    for _ in range(20):
        lease, _ = await world.chore(Kind.SWEEP)
        assert not await world.ledger.strike(lease, "the disk is away")
        world.clock.advance(61)
    assert (await world.chore(Kind.SWEEP))[0].epoch == 21


async def test_a_stale_done_does_not_touch_the_sweep(world: World) -> None:
    stale, _ = await world.chore(Kind.SWEEP, ALICE)
    world.pass_lease_time()
    await world.chore(Kind.SWEEP, BOB)
    await world.ledger.done(stale, again_after=0)
    assert await world.ledger.claim_chore(ALICE, [Kind.SWEEP]) is None


@pytest.mark.parametrize("kind", [Kind.VALIDATE, Kind.FINALIZE])
async def test_chores_of_a_stopped_job_go_on(world: World, kind: Kind) -> None:
    job = await world.create()
    await world.ledger.cancel(job.tenant, job.id)
    if kind is Kind.FINALIZE:
        await world.validate(job)
        await world.finish(await world.claim_one(), ERR)
    assert (await world.chore(kind))[1].id == job.id


async def test_of_all_processes_one_looks_through_all_blobs_and_again_after_the_time(
    world: World,
) -> None:
    due = world.ledger.scan_is_due
    assert [await due(3600) for _ in range(3)] == [True, False, False]
    world.clock.advance(3599)
    assert not await due(3600)
    world.clock.advance(2)
    assert [await due(3600) for _ in range(2)] == [True, False]
