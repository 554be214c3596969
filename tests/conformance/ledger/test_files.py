"""Files: recorded, listed, deleted, expired; and the blobs that may then go."""

from __future__ import annotations

import pytest

from batchmill.errors import Conflict
from batchmill.model import (
    DEFAULT_TENANT,
    BlobName,
    File,
    FileId,
    FileSource,
    JobId,
    JobState,
    Kind,
    TenantId,
)
from batchmill.queries import FileQuery
from tests.conformance.ledger.world import ERR, OUT, World

A, B = TenantId("a"), TenantId("b")
DAY = 86_400.0


async def test_a_file_is_as_it_was_given(world: World) -> None:
    given = File(
        id=FileId("f"),
        tenant=A,
        filename="../ü \U0001f600.jsonl",
        purpose="batch",
        source=FileSource.UPLOAD,
        size_bytes=2**40,
        created_at=0.0,
        lines=12,
        mimetype="application/jsonl",
        visibility="workspace",
        signature="s",
        expires_at=world.clock.wall() + 60,
        blob=BlobName("inputs/f"),
    )
    kept = await world.ledger.add_file(given)
    assert kept.created_at == world.clock.wall()
    assert (kept.filename, kept.size_bytes, kept.expires_at) == (
        given.filename,
        given.size_bytes,
        given.expires_at,
    )
    assert await world.ledger.file(A, given.id) == kept
    world.clock.advance(5)
    assert await world.ledger.add_file(given) == kept


async def test_another_tenants_file_is_not_there(world: World) -> None:
    file = await world.upload(A)
    assert await world.ledger.file(B, file.id) is None
    assert not await world.ledger.delete_file(B, file.id)
    assert (await world.ledger.files(B, FileQuery())).items == ()


async def test_an_expired_file_is_not_there(world: World) -> None:
    file = await world.upload(expires_at=world.clock.wall() + 10)
    world.clock.advance(10)
    assert await world.ledger.file(file.tenant, file.id) is None
    assert (await world.ledger.files(file.tenant, FileQuery())).total == 0
    assert not await world.ledger.delete_file(file.tenant, file.id)


async def test_a_deleted_file_is_gone_at_once(world: World) -> None:
    file = await world.upload()
    assert await world.ledger.delete_file(file.tenant, file.id)
    assert not await world.ledger.delete_file(file.tenant, file.id)
    assert await world.ledger.file(file.tenant, file.id) is None
    assert (await world.ledger.files(file.tenant, FileQuery())).total == 0


async def test_pages_meet_even_while_files_are_deleted(world: World) -> None:
    made = [(await world.upload()).id for _ in range(5)]
    first = await world.ledger.files(DEFAULT_TENANT, FileQuery(limit=2))
    assert ([f.id for f in first.items], first.total, first.has_more) == (made[:2:-1], 5, True)
    for file in first.items:
        await world.ledger.delete_file(DEFAULT_TENANT, file.id)
    after = FileQuery(limit=2, after=first.items[-1].id)
    second = await world.ledger.files(DEFAULT_TENANT, after)
    assert [f.id for f in second.items] == [made[2], made[1]]
    upwards = FileQuery(limit=9, after=made[1], oldest_first=True)
    last = await world.ledger.files(DEFAULT_TENANT, upwards)
    assert ([f.id for f in last.items], last.has_more) == ([made[2]], False)


async def test_a_page_after_an_unknown_file_is_empty(world: World) -> None:
    await world.upload(A)
    for after in (FileId("nobody"), (await world.upload(B)).id):
        page = await world.ledger.files(A, FileQuery(after=after))
        assert (page.items, page.total, page.has_more) == ((), 1, False)


async def test_files_are_filtered(world: World) -> None:
    plain = await world.upload(filename="Train 100%_a.jsonl", mimetype="application/jsonl")
    ocr = await world.upload(filename="scan.pdf", purpose="ocr", mimetype="application/pdf")
    job = await world.queue([2, 2])
    good, bad = await world.claim()
    await world.finish(good, OUT)
    await world.finish(bad, ERR)
    job = await world.finalize()
    others = {plain.id, ocr.id, *job.input_files}

    async def found(**query: object) -> set[str]:
        page = await world.ledger.files(DEFAULT_TENANT, FileQuery(**query))
        assert page.total == len(page.items)
        return {file.id for file in page.items}

    assert await found(purposes=("ocr",)) == {ocr.id}
    assert await found(purposes=("ocr", "batch_output")) == {
        ocr.id,
        job.output_file,
        job.error_file,
    }
    assert await found(sources=("result",)) == {job.output_file, job.error_file}
    assert await found(sources=("upload", "inline")) == others
    assert await found(sample_types=frozenset({"batch_result"})) == {job.output_file}
    assert await found(sample_types=frozenset({"batch_error", "pretrain"})) == {job.error_file}
    assert await found(sample_types=frozenset({"batch_request"})) == others
    assert await found(sample_types=frozenset({"pretrain"})) == set()
    assert await found(mimetypes=("application/pdf",)) == {ocr.id}
    assert await found(search="train") == {plain.id}
    assert await found(search="100%_") == {plain.id}
    assert await found(search="%n.p%") == set()


@pytest.mark.parametrize("phase", ["validating", "queued", "running", "finalizing"])
async def test_the_input_of_an_unfinished_job_cannot_be_deleted(world: World, phase: str) -> None:
    file = await world.upload()
    job = await world.create(file=file)
    if phase != "validating":
        await world.validate(job)
    if phase in {"running", "finalizing"}:
        held = await world.claim_one()
    if phase == "finalizing":
        await world.finish(held)
    with pytest.raises(Conflict) as refused:
        await world.ledger.delete_file(file.tenant, file.id)
    assert refused.value.state == phase
    assert job.id in refused.value.message
    assert await world.ledger.file(file.tenant, file.id) is not None


async def test_neither_a_cancelling_nor_a_hidden_nor_a_finished_job_keeps_a_file(
    world: World,
) -> None:
    cancelling, hidden, finished = [await world.upload() for _ in range(3)]
    job = await world.queue(file=finished)
    await world.run(job)
    job = await world.queue(file=cancelling)
    await world.ledger.cancel(job.tenant, job.id)
    job = await world.queue(file=hidden)
    await world.finish(await world.claim_one())
    await world.finish(await world.claim_one())
    await world.ledger.delete_job(job.tenant, job.id)
    for file in (cancelling, hidden, finished):
        assert await world.ledger.delete_file(file.tenant, file.id)


async def test_the_blob_of_a_deleted_input_goes_when_its_last_job_has_ended(world: World) -> None:
    file = await world.upload()
    jobs = [await world.queue(file=file) for _ in range(2)]
    for job in jobs:
        await world.ledger.cancel(job.tenant, job.id)
    await world.ledger.delete_file(file.tenant, file.id)
    assert await world.ledger.expire_files(0) == ()
    for held in await world.claim():
        await world.finish(held, ERR)
    await world.finalize()
    assert await world.ledger.expire_files(0) == ()
    assert await world.ledger.referenced([file.blob]) == {file.blob}
    await world.finalize()
    assert await world.ledger.expire_files(0) == (file.blob,)
    assert await world.ledger.expire_files(0) == ()
    assert await world.ledger.referenced([file.blob]) == frozenset()


async def test_old_uploads_are_forgotten_unless_a_job_needs_them_or_they_have_their_own_time(
    world: World,
) -> None:
    old = await world.upload()
    needed = await world.upload()
    timed = await world.upload(expires_at=world.clock.wall() + 90 * DAY)
    await world.queue(file=needed, window=99 * DAY)
    world.clock.advance(30 * DAY)
    young = await world.upload()
    assert await world.ledger.expire_files(world.clock.wall() - 1) == (old.blob,)
    assert await world.ledger.file(old.tenant, old.id) is None
    for kept in (needed, timed, young):
        assert await world.ledger.file(kept.tenant, kept.id) is not None
    world.clock.advance(61 * DAY)
    assert await world.ledger.expire_files(0) == (timed.blob,)


async def test_a_deleted_result_gives_up_its_segments_and_the_job_keeps_its_id(
    world: World,
) -> None:
    await world.queue([2, 2])
    good, bad = await world.claim()
    await world.finish(good, OUT)
    await world.finish(bad, ERR)
    job = await world.finalize()
    (out,) = await world.ledger.segments(job.id, OUT)
    assert await world.ledger.delete_file(job.tenant, job.output_file)
    assert await world.ledger.expire_files(0) == (out.blob,)
    assert await world.ledger.segments(job.id, OUT) == ()
    assert len(await world.ledger.segments(job.id, ERR)) == 1
    assert await world.ledger.file(job.tenant, job.error_file) is not None
    assert await world.seen(job) == job


async def test_a_job_is_pruned_when_its_results_have_had_their_time(world: World) -> None:
    job = await world.run(await world.queue([2, 2]))
    blobs = {segment.blob for segment in await world.ledger.segments(job.id, OUT)}
    parts = set(await world.ledger.part_blobs_to_drop(10))
    await world.ledger.dropped(list(parts)[:1])
    assert await world.ledger.prune(job.id, 100) is None
    world.clock.advance(29 * DAY)
    await world.ledger.expire_files(0)
    assert await world.ledger.claim_chore("x/1", [Kind.PRUNE]) is None
    world.clock.advance(2 * DAY)
    gone = set(await world.ledger.expire_files(0))
    lease, found = await world.chore(Kind.PRUNE)
    assert found.id == job.id
    gone |= set(await world.ledger.prune(job.id, 100) or ())
    assert await world.ledger.prune(job.id, 100) is None
    assert gone == blobs | set(list(parts)[1:])
    assert await world.ledger.shard_results(job.id, range(2)) == ()
    await world.ledger.done(lease)
    assert await world.ledger.file(job.tenant, job.output_file) is None
    assert await world.ledger.referenced([*blobs, *parts]) == frozenset()
    assert await world.seen(job) == job
    await world.ledger.expire_files(0)
    assert await world.ledger.claim_chore("x/1", [Kind.PRUNE]) is None


async def test_a_job_of_many_parts_is_pruned_some_at_a_time(world: World) -> None:
    job = await world.queue([6])
    held = await world.claim_one()
    for line in range(6):
        await world.commit(held, [line])
    assert await world.close(held)
    job = await world.finalize()
    blobs = {segment.blob for segment in await world.ledger.segments(job.id, OUT)}
    parts = [each.part.blob for each in await world.ledger.parts_since(job.id, 0, 10)]
    await world.ledger.dropped(parts[:4])
    world.clock.advance(31 * DAY)
    gone = set(await world.ledger.expire_files(0))
    await world.chore(Kind.PRUNE)
    slices = []
    while (some := await world.ledger.prune(job.id, 2)) is not None:
        slices.append(set(some))
        assert await world.ledger.file(job.tenant, job.output_file) is None
    assert [len(some) for some in slices[:3]] == [0, 0, 2]
    assert gone.union(*slices) == blobs | set(parts[4:])
    assert await world.ledger.parts_since(job.id, 0, 10) == ()


async def test_results_that_stay_for_ever_are_never_pruned(world: World, open_ledger) -> None:
    world = World(await open_ledger(result_retention_seconds=0), world.clock)
    job = await world.run(await world.queue())
    world.clock.advance(10_000 * DAY)
    assert await world.ledger.expire_files(0) == ()
    assert await world.ledger.prune(job.id, 100) is None
    assert await world.ledger.file(job.tenant, job.output_file) is not None


async def test_an_unfinished_job_is_never_pruned(world: World) -> None:
    job = await world.queue()
    await world.commit(await world.claim_one(), [0])
    world.clock.advance(100 * DAY)
    assert await world.ledger.prune(job.id, 100) is None
    assert (await world.claim_one()).parts != ()


async def test_live_parts_are_referenced_and_spent_ones_may_go(world: World) -> None:
    await world.queue()
    held = await world.claim_one()
    part = world.part(held.lease, range(4))
    await world.ledger.commit([(held.lease, part)])
    assert await world.ledger.part_blobs_to_drop(10) == ()
    world.pass_lease_time()
    taken = await world.claim_one()
    assert await world.ledger.referenced([part.blob]) == {part.blob}
    await world.finish(taken)
    assert await world.ledger.part_blobs_to_drop(10) == (part.blob,)
    assert await world.ledger.referenced([part.blob]) == frozenset()
    await world.ledger.dropped([part.blob])
    assert await world.ledger.part_blobs_to_drop(10) == ()


async def test_a_part_that_is_still_read_is_not_marked_as_gone(world: World) -> None:
    await world.queue()
    held = await world.claim_one()
    part = world.part(held.lease, [0])
    await world.ledger.commit([(held.lease, part)])
    await world.ledger.dropped([part.blob])
    world.pass_lease_time()
    assert (await world.claim_one()).parts == (part,)


@pytest.mark.parametrize("name", ["parts/0.{}.7", "out/0.{}", "err/0.{}"])
async def test_what_the_present_owner_may_still_publish_is_referenced(
    world: World, name: str
) -> None:
    job = await world.queue()
    blob = {epoch: BlobName(f"jobs/{job.id}/" + name.format(epoch)) for epoch in (1, 2, 3)}
    names = list(blob.values())
    assert await world.ledger.referenced(names) == frozenset()
    held = await world.claim_one()
    assert await world.ledger.referenced(names) == {blob[1]}
    world.pass_lease_time()
    assert await world.ledger.referenced(names) == {blob[1]}
    held = await world.claim_one()
    assert await world.ledger.referenced(names) == {blob[2]}
    await world.finish(held)
    found = await world.ledger.referenced(names)
    assert found == ({blob[2]} if name.startswith("out") else frozenset())


async def test_what_an_unfinished_job_keeps_beside_its_shards_is_referenced(world: World) -> None:
    job = await world.queue()
    order = BlobName(f"jobs/{job.id}/order/0")
    foreign = BlobName("jobs/nobody/order/0")
    assert await world.ledger.referenced([order, foreign]) == {order}
    await world.run(job)
    assert await world.ledger.referenced([order, foreign]) == frozenset()


@pytest.mark.parametrize(
    "name", ["", "inputs/", "inputs/x", "jobs", "jobs/x/parts/y", "x" * 900, "jobs//out/0.1"]
)
async def test_names_that_say_nothing_are_nobodys(world: World, name: str) -> None:
    assert await world.ledger.referenced([BlobName(name)]) == frozenset()


async def test_any_number_of_names_can_be_asked_about(world: World) -> None:
    file = await world.upload()
    names = [BlobName(f"inputs/{n}") for n in range(2500)] + [file.blob]
    assert await world.ledger.referenced(names) == {file.blob}
    await world.ledger.dropped(names)


async def test_segments_of_a_job_that_is_not_there_are_none(world: World) -> None:
    assert await world.ledger.segments(JobId("nobody"), OUT) == ()
    assert (await world.ledger.jobs_by_state())[JobState.QUEUED] == 0
