"""Jobs as their users see them: made, listed, cancelled, paused, hidden; validation's end."""

from __future__ import annotations

import asyncio

import pytest

from batchmill.errors import StateConflict
from batchmill.model import (
    BlobName,
    Dialect,
    Ending,
    File,
    FileId,
    FileSource,
    Job,
    JobId,
    JobInput,
    JobState,
    KeyId,
    Kind,
    LineError,
    OnInvalid,
    TenantId,
)
from batchmill.queries import JobQuery
from tests.conformance.ledger.world import ALICE, ERR, World, plan_of, source_of

A, B = TenantId("a"), TenantId("b")
BAD = LineError("invalid_json_line", "no JSON", 3, "body")


async def test_a_new_job_is_as_it_was_asked_for(world: World) -> None:
    file = await world.upload(lines=7)
    asked = {
        "key": KeyId("k"),
        "model": "small",
        "agent_id": "agent",
        "metadata": {"a": "b", 'q"\\': "ü"},
        "inline": True,
        "priority": -3,
        "on_invalid": OnInvalid.QUARANTINE,
        "window": 86_400.0,
    }
    job = await world.create(A, file=await world.upload(A, lines=7), **asked)
    assert file.lines == job.total == 7
    for name, value in asked.items():
        if name != "window":
            assert getattr(job, name) == value
    assert job.state is JobState.VALIDATING
    assert job.created_at == world.clock.wall()
    assert job.deadline == job.created_at + 86_400.0
    assert await world.ledger.job(A, job.id) == job


async def test_a_job_created_twice_is_one_job(world: World) -> None:
    file = await world.upload()
    new = Job(
        JobId("j"), file.tenant, Dialect.OPENAI, "/v1/embeddings", JobState.VALIDATING, 0, 60, 4
    )
    first = await world.ledger.create_job(new, [source_of(file)], None)
    world.clock.advance(5)
    assert await world.ledger.create_job(new, [source_of(file)], None) == first
    assert (await world.ledger.jobs(file.tenant, JobQuery())).total == 1


async def test_inputs_keep_their_order(world: World) -> None:
    files = [await world.upload() for _ in range(5)]
    new = Job(
        JobId("j"), files[0].tenant, Dialect.MISTRAL, "/v1/ocr", JobState.VALIDATING, 0, 60, 20
    )
    await world.ledger.create_job(new, [source_of(file) for file in files], None)
    assert [i.file for i in await world.ledger.job_inputs(JobId("j"))] == [f.id for f in files]


async def test_inline_requests_become_a_file_of_the_same_transaction(world: World) -> None:
    blob = BlobName("inputs/inline")
    inline = File(
        FileId("inline"), A, "requests.jsonl", "batch", FileSource.INLINE, 9, 0, 2, blob=blob
    )
    new = Job(JobId("j"), A, Dialect.MISTRAL, "/v1/ocr", JobState.VALIDATING, 0, 60, 2, inline=True)
    source = JobInput(inline.id, inline.filename, blob, 9, 2)
    await world.ledger.create_job(new, [source], inline)
    assert (await world.ledger.file(A, inline.id)).source is FileSource.INLINE


async def test_a_job_whose_input_has_gone_is_not_made(world: World) -> None:
    deleted, expired = (
        await world.upload(A),
        await world.upload(A, expires_at=world.clock.wall() + 1),
    )
    await world.ledger.delete_file(A, deleted.id)
    world.clock.advance(2)
    foreign = await world.upload(B)
    for file in (deleted, expired, foreign):
        with pytest.raises(StateConflict, match=file.id):
            await world.create(A, file=file)
    assert (await world.ledger.jobs(A, JobQuery())).total == 0
    assert await world.ledger.claim_chore(ALICE, [Kind.VALIDATE]) is None


async def test_another_tenants_job_is_not_there(world: World) -> None:
    job = await world.queue([4], A)
    assert await world.ledger.job(B, job.id) is None
    assert await world.ledger.cancel(B, job.id) is None
    assert await world.ledger.set_paused(B, job.id, True) is None
    assert not await world.ledger.delete_job(B, job.id)
    assert (await world.ledger.jobs(B, JobQuery())).items == ()
    assert await world.seen(job) == job


async def test_jobs_are_listed_newest_first_or_oldest_first(world: World) -> None:
    made = [(await world.create()).id for _ in range(3)]
    world.clock.advance(1)
    made += [(await world.create()).id for _ in range(2)]
    tenant = (await world.create(A)).tenant
    newest = await world.ledger.jobs(TenantId("default"), JobQuery())
    oldest = await world.ledger.jobs(TenantId("default"), JobQuery(oldest_first=True))
    assert [job.id for job in oldest.items] == made
    assert [job.id for job in newest.items] == made[::-1]
    assert tenant == A


async def test_pages_meet_without_gap_or_overlap(world: World) -> None:
    made = [(await world.create()).id for _ in range(7)]
    ledger, tenant = world.ledger, TenantId("default")
    by_offset, by_after, after = [], [], None
    for offset in range(0, 8, 2):
        page = await ledger.jobs(tenant, JobQuery(offset=offset, limit=2))
        assert (page.total, page.has_more) == (7, offset < 6)
        by_offset += [job.id for job in page.items]
    for _ in range(4):
        page = await ledger.jobs(tenant, JobQuery(after=after, limit=2))
        by_after += [job.id for job in page.items]
        after = page.items[-1].id
    assert by_offset == by_after == made[::-1]


async def test_a_page_after_an_unknown_job_is_empty(world: World) -> None:
    job = await world.create(A)
    for after in (JobId("nobody"), (await world.create(B)).id):
        page = await world.ledger.jobs(A, JobQuery(after=after))
        assert (page.items, page.total, page.has_more) == ((), 1, False)
    assert (await world.ledger.jobs(A, JobQuery(after=job.id))).items == ()


async def test_metadata_filters_must_all_match_exactly(world: World) -> None:
    both = await world.create(metadata={"a": "1", "b": "2"})
    one = await world.create(metadata={"a": "1", "weird ' \" $.x %": "_"})
    await world.create(metadata={"a": "11", "A": "1"})

    async def found(**pairs: str) -> set[str]:
        page = await world.ledger.jobs(both.tenant, JobQuery(metadata=pairs))
        return {job.id for job in page.items}

    assert await found(a="1") == {both.id, one.id}
    assert await found(a="1", b="2") == {both.id}
    assert await found(**{"weird ' \" $.x %": "_"}) == {one.id}
    assert await found(a="%") == await found(c="1") == await found(a="1", b="1") == set()


async def test_as_many_metadata_filters_as_a_job_has_pairs_are_answered_at_once(
    world: World,
) -> None:
    pairs = {f"key-{n}": f"value {n}" for n in range(256)}
    job = await world.create(metadata=pairs)
    for n in range(0, 256, 17):
        await world.create(metadata=pairs | {f"key-{n}": "another"})
    async with asyncio.timeout(5):
        page = await world.ledger.jobs(job.tenant, JobQuery(metadata=pairs))
    assert ([each.id for each in page.items], page.total) == ([job.id], 1)


async def test_jobs_are_filtered_by_state_model_agent_key_and_time(world: World) -> None:
    old = await world.queue(model="small", key=KeyId("k1"))
    world.clock.advance(10)
    new = await world.create(model="big", agent_id="agent", key=KeyId("k2"))

    async def found(**query: object) -> list[str]:
        return [job.id for job in (await world.ledger.jobs(old.tenant, JobQuery(**query))).items]

    assert await found(states=(JobState.QUEUED,)) == [old.id]
    assert await found(states=(JobState.VALIDATING, JobState.QUEUED)) == [new.id, old.id]
    assert await found(model="small") == [old.id]
    assert await found(agent_id="agent") == [new.id]
    assert await found(key=KeyId("k1")) == [old.id]
    assert await found(created_after=old.created_at) == [new.id]
    assert await found(created_after=old.created_at - 0.001) == [new.id, old.id]
    assert await found(model="small", key=KeyId("k2")) == []


async def test_no_job_is_created_after_the_second_that_it_shows(world: World) -> None:
    world.clock.advance(0.7)
    job = await world.create()

    async def is_after(bound: float) -> bool:
        return bool((await world.ledger.jobs(job.tenant, JobQuery(created_after=bound))).items)

    second = float(int(job.created_at))
    assert job.created_at > second
    assert not await is_after(second)
    assert await is_after(second - 1)
    assert await is_after(second + 0.5)
    assert not await is_after(job.created_at)


@pytest.mark.parametrize("phase", ["validating", "queued", "running"])
async def test_an_unfinished_job_can_be_cancelled(world: World, phase: str) -> None:
    job = await world.create()
    if phase != "validating":
        await world.validate(job)
    if phase == "running":
        await world.claim_one()
    world.clock.advance(1)
    now = await world.ledger.cancel(job.tenant, job.id)
    assert (now.state, now.ending) == (JobState.CANCELLING, Ending.CANCELLED)
    assert now.cancelling_at == world.clock.wall()
    world.clock.advance(1)
    assert await world.ledger.cancel(job.tenant, job.id) == now


async def test_a_terminal_job_never_changes(world: World) -> None:
    job = await world.run(await world.queue(window=50))
    world.clock.advance(100)
    assert await world.ledger.cancel(job.tenant, job.id) == job
    assert await world.ledger.expire_jobs() == 0
    await world.ledger.fail_job(job.id, BAD)
    await world.ledger.set_paused(job.tenant, job.id, True)
    assert await world.seen(job) == job


async def test_a_deleted_job_is_gone_for_its_user_at_once_and_its_files_stay(world: World) -> None:
    job = await world.run(await world.queue())
    assert await world.ledger.delete_job(job.tenant, job.id)
    assert not await world.ledger.delete_job(job.tenant, job.id)
    assert await world.ledger.job(job.tenant, job.id) is None
    assert (await world.ledger.jobs(job.tenant, JobQuery())).total == 0
    assert await world.ledger.cancel(job.tenant, job.id) is None
    assert await world.ledger.file(job.tenant, job.output_file) is not None


async def test_deleting_an_unfinished_job_cancels_it(world: World) -> None:
    job = await world.queue()
    await world.ledger.delete_job(job.tenant, job.id)
    await world.finish(await world.claim_one(), ERR)
    ended = await world.finalize()
    assert (ended.state, ended.hidden) == (JobState.CANCELLED, True)


async def test_only_queued_and_running_jobs_are_paused(world: World) -> None:
    validating = await world.create()
    assert not (await world.ledger.set_paused(validating.tenant, validating.id, True)).paused
    job = await world.validate(validating)
    assert (await world.ledger.set_paused(job.tenant, job.id, True)).paused
    stopped = await world.ledger.cancel(job.tenant, job.id)
    assert not stopped.paused
    assert await world.ledger.set_paused(job.tenant, job.id, True) == stopped


async def test_jobs_expire_when_their_window_ends_paused_or_not(world: World) -> None:
    queued, paused = await world.queue(window=1000), await world.queue(window=10)
    later = await world.queue(window=11)
    await world.create(window=10)
    await world.ledger.set_paused(paused.tenant, paused.id, True)
    world.clock.advance(9.9)
    assert await world.ledger.expire_jobs() == 0
    world.clock.advance(0.1)
    assert await world.ledger.expire_jobs() == 2
    assert await world.ledger.expire_jobs() == 0
    now = await world.seen(paused)
    assert (now.state, now.ending) == (JobState.FINALIZING, Ending.EXPIRED)
    assert (await world.seen(queued)).state is JobState.QUEUED
    assert (await world.seen(later)).state is JobState.QUEUED


async def test_validation_queues_the_job_with_what_it_found(world: World) -> None:
    job = await world.create(total=99, dialect=Dialect.OPENAI)
    now = await world.validate(job, [3, 2], model="small")
    assert (now.state, now.total, now.model) == (JobState.QUEUED, 5, "small")
    assert [held.shard.lines for held in await world.claim()] == [3, 2]


async def test_the_model_of_one_line_is_not_that_of_a_job_whose_lines_may_name_others(
    world: World,
) -> None:
    job = await world.create()
    assert (await world.validate(job, model="first")).model is None


async def test_the_model_asked_for_wins_over_the_one_found(world: World) -> None:
    job = await world.create(model="asked")
    assert (await world.validate(job, model="found")).model == "asked"


async def test_a_plan_whose_answer_was_lost_is_known(world: World) -> None:
    job = await world.create()
    lease, _ = await world.chore(Kind.VALIDATE)
    first = await world.ledger.plan(lease, plan_of([2, 2]))
    assert await world.ledger.plan(lease, plan_of([2, 2])) == first
    assert len(await world.claim()) == 2
    assert (await world.seen(job)).total == 4


async def test_bad_lines_fail_the_job_without_result_files(world: World) -> None:
    job = await world.create()
    errors = tuple(LineError("bad", f"line {n}", n) for n in range(150))
    world.clock.advance(2)
    now = await world.validate(job, errors=errors, errors_total=150)
    assert (now.state, now.ending, now.ended_at) == (
        JobState.FAILED,
        Ending.FAILED,
        world.clock.wall(),
    )
    assert (now.errors, now.errors_total) == (errors[:100], 150)
    assert (now.succeeded, now.failed, now.output_file, now.error_file) == (0, 0, None, None)
    assert await world.claim() == []


async def test_bad_lines_are_quarantined_where_that_was_asked_for(world: World) -> None:
    job = await world.create(on_invalid=OnInvalid.QUARANTINE)
    now = await world.validate(job, errors=(BAD,), errors_total=1)
    assert (now.state, now.errors, now.errors_total) == (JobState.QUEUED, (BAD,), 1)
    assert (await world.run(job)).state is JobState.COMPLETED


async def test_an_input_without_lines_fails_the_job(world: World) -> None:
    now = await world.validate(await world.create(), [])
    assert now.state is JobState.FAILED
    assert [error.code for error in now.errors] == ["empty_file"]


async def test_an_input_that_has_too_many_lines_is_not_said_to_be_empty(world: World) -> None:
    job = await world.create(on_invalid=OnInvalid.QUARANTINE)
    now = await world.validate(job, [], errors=(BAD,), errors_total=1)
    assert (now.state, now.errors, now.errors_total) == (JobState.FAILED, (BAD,), 1)


async def test_a_refused_job_fails_with_its_errors(world: World) -> None:
    await world.create()
    lease, _ = await world.chore(Kind.VALIDATE)
    now = await world.ledger.refuse(lease, [BAD], 7)
    assert (now.state, now.errors, now.errors_total) == (JobState.FAILED, (BAD,), 7)
    assert await world.ledger.refuse(lease, [BAD], 7) == now


async def test_a_job_cancelled_while_validating_settles_every_line(world: World) -> None:
    job = await world.create()
    await world.ledger.cancel(job.tenant, job.id)
    now = await world.validate(job, [3, 2], errors=(BAD,), errors_total=1)
    assert (now.state, now.total) == (JobState.CANCELLING, 5)
    ended = await world.run(job, ERR)
    assert (ended.state, ended.failed) == (JobState.CANCELLED, 5)


async def test_a_job_that_expires_while_validating_settles_every_line(world: World) -> None:
    job = await world.create(window=10)
    world.clock.advance(11)
    await world.ledger.expire_jobs()
    assert (await world.validate(job, [3, 2])).state is JobState.FINALIZING
    ended = await world.run(job, ERR)
    assert (ended.state, ended.failed) == (JobState.EXPIRED, 5)


async def test_a_stopped_job_without_lines_ends_as_it_was_ending(world: World) -> None:
    job = await world.create()
    await world.ledger.cancel(job.tenant, job.id)
    await world.validate(job, [])
    ended = await world.finalize()
    assert (ended.state, ended.total, ended.output_file) == (JobState.CANCELLED, 0, None)


@pytest.mark.parametrize("ending", [Ending.CANCELLED, Ending.EXPIRED])
async def test_a_refused_job_that_was_stopped_ends_as_it_was_ending(
    world: World, ending: Ending
) -> None:
    job = await world.create(window=10)
    if ending is Ending.CANCELLED:
        await world.ledger.cancel(job.tenant, job.id)
    world.clock.advance(11)
    await world.ledger.expire_jobs()
    lease, _ = await world.chore(Kind.VALIDATE)
    now = await world.ledger.refuse(lease, [BAD], 1)
    assert (now.state.value, now.errors) == (ending.value, (BAD,))


async def test_a_job_that_cannot_go_on_settles_its_open_lines_as_failed(world: World) -> None:
    job = await world.queue(shards=[1, 1])
    await world.ledger.fail_job(job.id, BAD)
    await world.ledger.fail_job(job.id, BAD)
    now = await world.seen(job)
    assert (now.state, now.ending, now.errors) == (JobState.FINALIZING, Ending.FAILED, (BAD,))
    assert (await world.run(job, ERR)).state is JobState.FAILED


async def test_a_job_that_cannot_be_validated_fails_at_once(world: World) -> None:
    job = await world.create()
    await world.ledger.fail_job(job.id, BAD)
    assert (await world.seen(job)).state is JobState.FAILED
    assert await world.ledger.claim_chore(ALICE, [Kind.VALIDATE]) is None
