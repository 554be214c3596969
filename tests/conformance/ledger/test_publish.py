"""Commit, close, finalize: every line is counted once, and files hold what was counted."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from batchmill.clock import ManualClock
from batchmill.errors import LeaseLost, StateConflict
from batchmill.model import (
    BlobName,
    Ending,
    FileId,
    FileSource,
    JobState,
    Kind,
    LineError,
    PartEntry,
    Segment,
    TenantId,
)
from batchmill.queries import FileQuery
from batchmill.usage import Usage
from tests.conformance.ledger.world import ALICE, BOB, ERR, OUT, World, segments


async def test_counters_show_what_was_committed(world: World) -> None:
    job = await world.queue(shards=[4])
    held = await world.claim_one()
    part = world.part(held.lease, {0: OUT, 1: ERR, 2: OUT}, Usage(10, 20, 3, 4))
    world.clock.advance(5)
    assert await world.ledger.commit([(held.lease, part)]) == (True,)
    now = await world.seen(job)
    assert (now.succeeded, now.failed, now.left, now.usage) == (2, 1, 1, Usage(10, 20, 3, 4))
    assert now.last_progress_at == world.clock.wall()


async def test_usage_adds_up_over_parts(world: World) -> None:
    job = await world.queue(shards=[4])
    held = await world.claim_one()
    parts = [world.part(held.lease, [n], Usage(1, 2, 3, 4)) for n in range(3)]
    await world.ledger.commit([(held.lease, part) for part in parts])
    assert (await world.seen(job)).usage == Usage(3, 6, 9, 12)


async def test_a_part_whose_answer_was_lost_is_counted_once(world: World) -> None:
    job = await world.queue()
    held = await world.claim_one()
    part = world.part(held.lease, [0, 1])
    assert await world.ledger.commit([(held.lease, part)]) == (True,)
    assert await world.ledger.commit([(held.lease, part)]) == (True,)
    assert await world.ledger.commit([(held.lease, part)] * 2) == (True, True)
    assert (await world.seen(job)).succeeded == 2


async def test_a_published_part_is_known_even_when_the_lease_is_lost_since(world: World) -> None:
    job = await world.queue()
    held = await world.claim_one(ALICE)
    part = world.part(held.lease, [0])
    await world.ledger.commit([(held.lease, part)])
    world.pass_lease_time()
    await world.claim_one(BOB)
    assert await world.ledger.commit([(held.lease, part)]) == (True,)
    assert (await world.seen(job)).succeeded == 1


async def test_a_line_that_has_an_outcome_refuses_the_whole_part(world: World) -> None:
    job = await world.queue()
    held = await world.claim_one()
    assert await world.commit(held, {0: ERR})
    assert not await world.commit(held, [0, 1, 2])
    assert not await world.commit(held, [0])
    now = await world.seen(job)
    assert (now.succeeded, now.failed) == (0, 1)


async def test_two_parts_of_one_commit_do_not_count_a_line_twice(world: World) -> None:
    job = await world.queue()
    held = await world.claim_one()
    parts = [world.part(held.lease, lines) for lines in ([0, 1], [1, 2], [2, 3])]
    answers = await world.ledger.commit([(held.lease, part) for part in parts])
    assert answers == (True, False, True)
    assert (await world.seen(job)).succeeded == 4


@pytest.mark.parametrize("lines", [[4], [-1], [0, 4]])
async def test_lines_beyond_the_shard_are_refused(world: World, lines: list[int]) -> None:
    job = await world.queue(shards=[4, 4])
    held = await world.claim_one()
    assert not await world.commit(held, lines)
    assert (await world.seen(job)).succeeded == 0


async def test_a_line_named_twice_in_one_part_is_refused(world: World) -> None:
    await world.queue()
    held = await world.claim_one()
    part = world.part(held.lease, [0])
    twice = type(part)(part.blob, (*part.entries, PartEntry(0, 10, 10, ERR)), 20)
    assert await world.ledger.commit([(held.lease, twice)]) == (False,)


async def test_each_part_of_a_group_is_fenced_alone(world: World) -> None:
    one, two = await world.queue(shards=[2, 2]), await world.queue(shards=[2, 2])
    held = await world.claim(ALICE, limit=4)
    lost = held[1]
    await world.ledger.release([lost.lease])
    await world.claim_one(BOB)
    group = [(each.lease, world.part(each.lease, {0: OUT, 1: ERR})) for each in reversed(held)]
    answers = await world.ledger.commit(group)
    assert answers == tuple(lease is not lost.lease for lease, _ in group)
    counts = [(await world.seen(job)).succeeded for job in (one, two)]
    assert sorted(counts) == [1, 2]


async def test_an_empty_group_commits_nothing(world: World) -> None:
    assert await world.ledger.commit([]) == ()


async def test_the_parts_of_a_job_are_numbered_in_the_order_they_were_published(
    world: World,
) -> None:
    await world.queue(shards=[3, 3])
    held = await world.claim()
    for line in range(3):
        await world.ledger.commit([(each.lease, world.part(each.lease, [line])) for each in held])
    world.pass_lease_time()
    orders = [[e.line for p in each.parts for e in p.entries] for each in await world.claim()]
    assert orders == [[0, 1, 2], [0, 1, 2]]


async def test_the_last_shard_makes_the_job_finalizable(world: World) -> None:
    job = await world.queue(shards=[2, 2])
    first, second = await world.claim()
    await world.finish(first)
    assert (await world.seen(job)).state is JobState.RUNNING
    assert await world.ledger.claim_chore(ALICE, [Kind.FINALIZE]) is None
    await world.finish(second)
    now = await world.seen(job)
    assert (now.state, now.ending) == (JobState.FINALIZING, Ending.COMPLETED)
    assert now.finalizing_at == world.clock.wall()
    assert (await world.chore(Kind.FINALIZE))[1] == now


async def test_two_last_closes_at_once_leave_one_finalize(world: World) -> None:
    job = await world.queue(shards=[2, 2])
    await asyncio.gather(*[world.finish(held) for held in await world.claim()])
    assert (await world.seen(job)).state is JobState.FINALIZING
    await world.chore(Kind.FINALIZE)
    assert await world.ledger.claim_chore(BOB, [Kind.FINALIZE]) is None


async def test_a_close_whose_answer_was_lost_is_known(world: World) -> None:
    job = await world.queue(shards=[2, 2])
    held = await world.claim_one()
    await world.finish(held)
    assert await world.ledger.close(held.lease, segments(held, {0: OUT, 1: OUT}))
    (other,) = await world.claim()
    await world.finish(other)
    assert (await world.run(job)).succeeded == 4


async def test_a_shard_with_open_lines_cannot_be_closed(world: World) -> None:
    job = await world.queue()
    held = await world.claim_one()
    await world.commit(held, [0, 1, 2])
    with pytest.raises(StateConflict, match="4 lines; 3 have an outcome"):
        await world.ledger.close(held.lease, segments(held, dict.fromkeys(range(4), OUT)))
    assert (await world.seen(job)).state is JobState.RUNNING
    assert await world.commit(held, [3])
    assert await world.ledger.close(held.lease, segments(held, dict.fromkeys(range(4), OUT)))


@pytest.mark.parametrize(
    "sides",
    [
        [],
        [(OUT, 3)],
        [(OUT, 3), (ERR, 2)],
        [(OUT, 2), (ERR, 2)],
        [(OUT, 4)],
        [(OUT, 3), (OUT, 1)],
    ],
)
async def test_segments_must_hold_what_was_committed(
    world: World, sides: list[tuple[object, int]]
) -> None:
    job = await world.queue()
    held = await world.claim_one()
    await world.commit(held, {0: OUT, 1: OUT, 2: OUT, 3: ERR})
    wrong = [Segment(s, BlobName(f"x{i}"), 10, lines) for i, (s, lines) in enumerate(sides)]
    with pytest.raises(StateConflict):
        await world.ledger.close(held.lease, wrong)
    assert await world.ledger.segments(job.id, OUT) == ()


async def test_segments_come_in_input_order_whatever_the_order_of_closing(world: World) -> None:
    job = await world.queue(shards=[1, 2, 3])
    for held in reversed(await world.claim()):
        await world.finish(held)
    assert [s.lines for s in await world.ledger.segments(job.id, OUT)] == [1, 2, 3]
    assert await world.ledger.segments(job.id, ERR) == ()


async def test_a_successor_that_finds_all_lines_done_only_closes(world: World) -> None:
    job = await world.queue()
    dead = await world.claim_one(ALICE)
    await world.commit(dead, range(4))
    world.pass_lease_time()
    await world.finish(await world.claim_one(BOB))
    assert (await world.run(job)).succeeded == 4


async def test_a_finished_job_has_files_that_hold_every_line_once(world: World) -> None:
    job = await world.queue(shards=[2, 2])
    good, bad = await world.claim()
    await world.finish(good, OUT)
    await world.finish(bad, ERR)
    world.clock.advance(3)
    ended = await world.finalize()
    assert (ended.state, ended.ended_at) == (JobState.COMPLETED, world.clock.wall())
    assert (ended.succeeded, ended.failed, ended.total) == (2, 2, 4)
    output = await world.ledger.file(job.tenant, ended.output_file)
    error = await world.ledger.file(job.tenant, ended.error_file)
    assert (output.lines, error.lines, output.size_bytes) == (2, 2, 20)
    assert (output.job, output.stream, error.stream) == (job.id, OUT, ERR)
    assert (output.filename, error.filename) == ("out.jsonl", "err.jsonl")
    assert output.source is FileSource.RESULT
    assert (output.purpose, output.mimetype, output.blob) == (
        "batch_output",
        "application/jsonl",
        None,
    )
    assert output.created_at == ended.ended_at


@pytest.mark.parametrize(("stream", "has_output", "has_error"), [(OUT, 1, 0), (ERR, 0, 1)])
async def test_an_empty_result_file_does_not_exist(
    world: World, stream: object, has_output: int, has_error: int
) -> None:
    job = await world.run(await world.queue(), stream)
    assert (job.output_file is not None, job.error_file is not None) == (has_output, has_error)
    sources = (FileSource.RESULT.value,)
    assert (await world.ledger.files(job.tenant, FileQuery(sources=sources))).total == 1


async def test_a_finalize_whose_answer_was_lost_is_known(world: World) -> None:
    job = await world.queue()
    await world.finish(await world.claim_one())
    lease, _ = await world.chore(Kind.FINALIZE)
    ids = (FileId("out"), FileId("err"))
    first = await world.ledger.finalize(lease, *ids, ("o", "e"))
    again = await world.ledger.finalize(lease, *ids, ("o", "e"))
    assert first == again == await world.seen(job)


async def test_a_stale_finalizer_cannot_end_a_job(world: World) -> None:
    job = await world.queue()
    await world.finish(await world.claim_one())
    stale, _ = await world.chore(Kind.FINALIZE, ALICE)
    world.pass_lease_time()
    await world.chore(Kind.FINALIZE, BOB)
    with pytest.raises(LeaseLost):
        await world.ledger.finalize(stale, FileId("o"), FileId("e"), ("o", "e"))
    assert (await world.seen(job)).state is JobState.FINALIZING


@pytest.mark.parametrize("ending", [Ending.CANCELLED, Ending.EXPIRED, Ending.FAILED])
async def test_a_stopped_job_keeps_what_it_has_and_ends_as_it_was_ending(
    world: World, ending: Ending
) -> None:
    job = await world.queue(shards=[2, 2], window=100)
    first = await world.claim_one()
    await world.finish(first, OUT)
    if ending is Ending.CANCELLED:
        await world.ledger.cancel(job.tenant, job.id)
    elif ending is Ending.FAILED:
        await world.ledger.fail_job(job.id, LineError("internal_error", "damaged"))
    else:
        world.clock.advance(101)
        await world.ledger.expire_jobs()
    ended = await world.run(job, ERR)
    assert (ended.state.value, ended.ending) == (ending.value, ending)
    assert (ended.succeeded, ended.failed) == (2, 2)
    assert ended.output_file is not None
    assert ended.error_file is not None


async def test_a_cancel_during_finalizing_changes_nothing(world: World) -> None:
    job = await world.queue()
    await world.finish(await world.claim_one())
    now = await world.ledger.cancel(job.tenant, job.id)
    assert (now.state, now.ending) == (JobState.FINALIZING, Ending.COMPLETED)
    assert (await world.finalize()).state is JobState.COMPLETED


async def test_a_stop_between_the_last_commit_and_its_close_keeps_its_ending(
    world: World,
) -> None:
    job = await world.queue()
    held = await world.claim_one()
    await world.commit(held, range(4))
    await world.ledger.cancel(job.tenant, job.id)
    assert await world.ledger.close(held.lease, segments(held, dict.fromkeys(range(4), OUT)))
    ended = await world.finalize()
    assert (ended.state, ended.succeeded) == (JobState.CANCELLED, 4)


async def test_results_stay_as_long_as_the_ledger_was_told(world: World, open_ledger) -> None:
    week = World(await open_ledger(result_retention_seconds=7 * 86_400.0), world.clock)
    ever = World(await open_ledger(result_retention_seconds=0), world.clock)
    for keeper, until in ((week, world.clock.wall() + 7 * 86_400.0), (ever, None)):
        job = await keeper.run(await keeper.queue())
        file = await keeper.ledger.file(job.tenant, job.output_file)
        assert file.expires_at == until


async def test_another_tenants_results_are_not_there(world: World) -> None:
    job = await world.run(await world.queue([4], TenantId("a")))
    assert await world.ledger.file(TenantId("b"), job.output_file) is None
    assert await world.ledger.file(TenantId("a"), job.output_file) is not None


@pytest.mark.parametrize(
    ("asked", "most", "kept"),
    [(3600, 7200.0, 3600), (7200, 3600.0, 3600), (3600, 0, 3600), (None, 3600.0, 3600)],
)
async def test_results_stay_as_long_as_their_job_asked_but_no_longer_than_all(
    clock: ManualClock, open_ledger: Any, asked: int | None, most: float, kept: float
) -> None:
    world = World(await open_ledger(result_retention_seconds=most), clock)
    ended = await world.run(await world.queue((2,), keep_results_seconds=asked))
    assert ended.output_file is not None
    file = await world.ledger.file(ended.tenant, ended.output_file)
    assert file is not None
    assert file.expires_at == clock.wall() + kept


async def test_a_job_knows_when_it_was_queued(world: World) -> None:
    job = await world.create()
    assert job.queued_at is None
    world.clock.advance(5)
    queued = await world.validate(job)
    world.clock.advance(5)
    await world.claim()
    assert (await world.seen(job)).queued_at == queued.queued_at == job.created_at + 5
