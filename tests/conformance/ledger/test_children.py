"""Retries: who may be a parent, what a child begins with, and that it is whole or not there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from batchmill.clock import new_id
from batchmill.errors import Conflict, LeaseLost
from batchmill.failures import NO_FAILURES, FailureKind, Failures
from batchmill.model import (
    BlobName,
    FileId,
    Job,
    JobId,
    JobState,
    Kind,
    Lease,
    LineError,
    Part,
    PartEntry,
    Segment,
    Stream,
)
from batchmill.results import Choice, Kept, KeptShard
from batchmill.usage import Usage
from tests.conformance.ledger.world import ALICE, BOB, ERR, OUT, WINDOW, World, segments

FAILED = Choice(frozenset({FailureKind.FAILED}))
BAD = Failures("bad", FailureKind.FAILED, False, "says why", "line-1", (1,))


async def ended(world: World, shards: int = 2) -> Job:
    """A job of shards of two lines each, the second line of the last shard failed."""
    await world.queue(shards=[2] * shards)
    for held in await world.claim():
        streams = {0: OUT, 1: ERR if held.shard.n == shards - 1 else OUT}
        part = world.part(held.lease, streams, Usage(1, 2))
        found = (BAD,) if ERR in streams.values() else ()
        await world.ledger.commit([(held.lease, replace(part, failures=found))])
        assert await world.ledger.close(held.lease, segments(held, streams))
    return await world.finalize()


def child_of(parent: Job) -> Job:
    return replace(parent, id=JobId(new_id()), deadline=WINDOW, retry_of=parent.id)


async def child(world: World, parent: Job) -> Job:
    return await world.ledger.create_child(child_of(parent), FAILED)


def whole(job: JobId, shard: Any) -> KeptShard:
    entries = tuple(PartEntry(n, n * 10, 10, OUT) for n in range(shard.lines))
    part = Part(BlobName(f"jobs/{job}/kept/{shard.n}.part"), entries, 20, Usage(1, 2))
    return KeptShard(
        shard, part, (Segment(OUT, BlobName(f"jobs/{job}/kept/{shard.n}.out"), 20, 2),)
    )


def half(job: JobId, shard: Any) -> KeptShard:
    entries = (PartEntry(0, 0, 10, OUT),)
    return KeptShard(
        shard, Part(BlobName(f"jobs/{job}/kept/{shard.n}.part"), entries, 10, Usage(1, 2))
    )


async def keep_all(world: World, lease: Lease, parent: Job) -> None:
    first, second = await world.ledger.shard_results(parent.id, [0, 1])
    await world.ledger.keep(lease, [whole(lease.job, first.shard)])
    await world.ledger.keep(lease, [half(lease.job, second.shard)])


KEPT = Kept(3, 0, Usage(2, 4), NO_FAILURES)


async def test_a_child_is_a_job_of_its_own_with_its_parents_inputs(world: World) -> None:
    parent = await ended(world)
    made = await child(world, parent)
    assert (made.state, made.total, made.retry_of) == (JobState.VALIDATING, 4, parent.id)
    assert (made.succeeded, made.failed, made.output_file) == (0, 0, None)
    assert made.deadline == made.created_at + WINDOW
    assert await world.ledger.job_inputs(made.id) == await world.ledger.job_inputs(parent.id)
    now = await world.seen(parent)
    assert now == replace(parent, retried_by=made.id)


@pytest.mark.parametrize(
    "choice", [FAILED, Choice(lines=frozenset({0, 3, 999_999})), Choice(frozenset(FailureKind))]
)
async def test_what_was_chosen_is_kept(world: World, choice: Choice) -> None:
    made = await world.ledger.create_child(child_of(await ended(world)), choice)
    assert await world.ledger.choice_of(made.id) == choice


async def test_a_child_asked_for_twice_is_made_once(world: World) -> None:
    new = child_of(await ended(world))
    made = await world.ledger.create_child(new, FAILED)
    assert await world.ledger.create_child(new, FAILED) == made


async def test_a_job_that_has_not_ended_has_no_children(world: World) -> None:
    for job in (await world.queue(), await world.create()):
        with pytest.raises(Conflict):
            await child(world, job)


async def test_a_job_refused_by_validation_has_no_children(world: World) -> None:
    job = await world.create()
    lease, _ = await world.chore(Kind.VALIDATE)
    await world.ledger.refuse(lease, [LineError("bad", "bad")], 1)
    with pytest.raises(Conflict):
        await child(world, job)


@pytest.mark.parametrize("gone", ["output_file", "error_file", "input"])
async def test_a_job_of_which_a_file_is_gone_has_no_children(world: World, gone: str) -> None:
    parent = await ended(world)
    file: FileId = parent.input_files[0] if gone == "input" else getattr(parent, gone)
    assert await world.ledger.delete_file(parent.tenant, file)
    with pytest.raises(Conflict):
        await child(world, parent)


async def test_a_parent_has_one_unfinished_child(world: World) -> None:
    parent = await ended(world)
    first = await child(world, parent)
    with pytest.raises(Conflict):
        await child(world, parent)
    lease, _ = await world.chore(Kind.VALIDATE)
    await world.ledger.refuse(lease, [LineError("internal_error", "lost")], 1)
    assert (await world.seen(first)).state is JobState.FAILED
    second = await child(world, parent)
    assert (await world.seen(parent)).retried_by == second.id


async def test_what_is_kept_counts_when_the_child_is_planned(world: World) -> None:
    parent = await ended(world)
    made = await child(world, parent)
    lease, _ = await world.chore(Kind.VALIDATE)
    await keep_all(world, lease, parent)
    assert await world.ledger.kept_shards(made.id) == 2
    assert (await world.seen(made)).succeeded == 0
    assert await world.ledger.parts_since(made.id, 0, 10) == ()
    assert await world.claim() == []
    planned = await world.ledger.plan_child(lease, KEPT)
    assert (planned.state, planned.succeeded, planned.usage) == (JobState.QUEUED, 3, Usage(2, 4))
    assert planned.queued_at == world.clock.wall()
    shown = await world.ledger.parts_since(made.id, 0, 10)
    assert [(each.n, each.is_live) for each in shown] == [(0, False), (1, True)]
    assert await world.ledger.plan_child(lease, KEPT) == planned, "the answer was lost"


async def test_only_what_is_not_kept_is_run_and_the_child_ends_whole(world: World) -> None:
    parent = await ended(world)
    made = await child(world, parent)
    lease, _ = await world.chore(Kind.VALIDATE)
    await keep_all(world, lease, parent)
    await world.ledger.plan_child(lease, KEPT)
    held = await world.claim_one()
    assert (held.job.id, held.shard.n) == (made.id, 1)
    assert [entry.line for part in held.parts for entry in part.entries] == [0]
    assert not await world.commit(held, [0])
    assert await world.commit(held, [1])
    assert [each.sequence for each in await world.ledger.parts_since(made.id, 0, 10)] == [1, 2, 3]
    assert await world.close(held)
    over = await world.finalize()
    assert (over.id, over.state, over.succeeded) == (made.id, JobState.COMPLETED, 4)
    assert (await world.seen(parent)).state is JobState.COMPLETED


async def test_a_child_cancelled_while_it_begins_settles_only_what_is_not_kept(
    world: World,
) -> None:
    parent = await ended(world)
    made = await child(world, parent)
    lease, _ = await world.chore(Kind.VALIDATE)
    await world.ledger.cancel(made.tenant, made.id)
    await keep_all(world, lease, parent)
    assert await world.claim() == []
    assert (await world.ledger.plan_child(lease, KEPT)).state is JobState.CANCELLING
    held = await world.claim_one()
    await world.finish(held, ERR)
    over = await world.finalize()
    assert (over.state, over.succeeded, over.failed) == (JobState.CANCELLED, 3, 1)


async def test_a_stale_owner_can_keep_and_plan_nothing(world: World) -> None:
    parent = await ended(world)
    made = await child(world, parent)
    stale, _ = await world.chore(Kind.VALIDATE, ALICE)
    world.pass_lease_time()
    present, _ = await world.chore(Kind.VALIDATE, BOB)
    with pytest.raises(LeaseLost):
        await keep_all(world, stale, parent)
    with pytest.raises(LeaseLost):
        await world.ledger.plan_child(stale, KEPT)
    await keep_all(world, present, parent)
    assert (await world.ledger.plan_child(present, KEPT)).succeeded == 3
    assert await world.ledger.kept_shards(made.id) == 2


async def test_what_a_refused_child_had_kept_is_forgotten(world: World) -> None:
    parent = await ended(world)
    made = await child(world, parent)
    lease, _ = await world.chore(Kind.VALIDATE)
    await keep_all(world, lease, parent)
    names = [BlobName(f"jobs/{made.id}/kept/{name}") for name in ("0.out", "1.part")]
    assert await world.ledger.referenced(names) == frozenset(names)
    over = await world.ledger.refuse(lease, [LineError("internal_error", "lost")], 1)
    assert (over.state, over.output_file, over.succeeded) == (JobState.FAILED, None, 0)
    assert await world.ledger.segments(made.id, Stream.OUT) == ()
    assert await world.ledger.referenced(names) == frozenset()
    assert len(await world.ledger.segments(parent.id, Stream.OUT)) == 2


async def test_blobs_that_are_being_kept_are_not_orphans(world: World) -> None:
    made = await child(world, await ended(world))
    name = BlobName(f"jobs/{made.id}/kept/0.out")
    assert await world.ledger.referenced([name]) == {name}


async def test_a_parents_results_outlive_their_time_while_a_child_needs_them(world: World) -> None:
    parent = await ended(world)
    made = await child(world, parent)
    with pytest.raises(Conflict):
        await world.ledger.delete_file(parent.tenant, parent.error_file)  # type: ignore[arg-type]
    world.clock.advance(31 * 86_400.0)
    lease, _ = await world.chore(Kind.VALIDATE)
    await world.ledger.expire_files(0.0)
    assert await world.ledger.claim_chore(ALICE, [Kind.PRUNE]) is None
    assert len(await world.ledger.segments(parent.id, Stream.OUT)) == 2
    await world.ledger.refuse(lease, [LineError("internal_error", "lost")], 1)
    assert (await world.seen(made)).state is JobState.FAILED
    await world.ledger.expire_files(0.0)
    prune, _ = await world.chore(Kind.PRUNE)
    assert prune.job == parent.id
