"""Children run by workers: of expired parents, and beside the parts they adopt."""

from __future__ import annotations

from dataclasses import replace

from batchmill.calls import Refused, Reply
from batchmill.clock import new_id
from batchmill.failures import FailureKind
from batchmill.model import Job, JobId, JobState, Stream
from batchmill.results import Choice
from tests.service.worker.engine import Engine, Held, answers
from tests.service.worker.mill import Mill, texts_of


async def child_of(mill: Mill, parent: Job, *kinds: FailureKind) -> Job:
    new = replace(parent, id=JobId(new_id()), deadline=3600.0, retry_of=parent.id)
    made = await mill.ledger.create_child(new, Choice(frozenset(kinds)))
    mill.wake()
    return made


async def test_the_lines_that_expired_are_sent_again_and_no_others(mill: Mill) -> None:
    async def refuses_the_first(text: str) -> Reply:
        if text == "line-0":
            return Refused(422, b"{}", "no")
        return await held(text)

    held = Held(lambda text: text != "line-1")
    engine = Engine(refuses_the_first)
    await mill.start(engine, concurrency=10)
    parent = await mill.ended(await mill.job(10, window=1.5))
    tally = parent.failures
    assert (parent.state, parent.succeeded) == (JobState.EXPIRED, 1)
    assert (tally.expired, tally.count(FailureKind.FAILED)) == (8, 1)
    engine.script = answers
    engine.sent.clear()
    child = await mill.ended(await child_of(mill, parent, FailureKind.EXPIRED))
    assert sorted(engine.sent) == sorted(texts_of("line", range(2, 10)))
    assert (child.state, child.succeeded, child.failed) == (JobState.COMPLETED, 9, 1)
    assert child.failures.total == 1
    [error] = await mill.results(child, Stream.ERR)
    assert error["custom_id"] == "line-0"


async def test_a_child_whose_parents_results_are_lost_fails_without_files(mill: Mill) -> None:
    async def refuses(_: str) -> Reply:
        return Refused(422, b"{}", "no")

    await mill.start(Engine(refuses))
    parent = await mill.ended(await mill.job(10))
    segments = await mill.ledger.segments(parent.id, Stream.ERR)
    await mill.blobs.delete_many([segments[-1].blob])
    child = await child_of(mill, parent, FailureKind.CANCELLED)

    async def has_failed() -> bool:
        return (await mill.look(child)).state is JobState.FAILED

    await mill.until(has_failed)
    over = await mill.look(child)
    assert (over.succeeded, over.failed, over.output_file, over.error_file) == (0, 0, None, None)
    assert "results" in over.errors[0].message


async def test_a_child_shares_no_blob_with_its_parent(mill: Mill) -> None:
    async def refuses_the_last(text: str) -> Reply:
        return Refused(422, b"{}", "no") if text == "line-9" else await answers(text)

    engine = Engine(refuses_the_last)
    await mill.start(engine)
    parent = await mill.ended(await mill.job(10))
    engine.script = answers
    engine.sent.clear()
    child = await mill.ended(await child_of(mill, parent, FailureKind.FAILED))
    assert engine.sent == ["line-9"]
    for stream in Stream:
        segments = await mill.ledger.segments(parent.id, stream)
        await mill.blobs.delete_many([each.blob for each in segments])
    assert (await mill.ended(child)).succeeded == 10
    texts = [row["response"]["body"]["said"] for row in await mill.results(child, Stream.OUT)]
    assert texts == texts_of("line", range(10))


async def test_a_child_of_a_job_that_dedupes_sends_what_failed_alike_once(mill: Mill) -> None:
    async def refuses_one(text: str) -> Reply:
        return Refused(422, b"{}", "no") if text == "line-1" else await answers(text)

    engine = Engine(refuses_one)
    await mill.start(engine)
    parent = await mill.ended(await mill.job(18, distinct=3))
    assert (parent.succeeded, parent.failed, parent.deduplicated) == (12, 6, 15)
    engine.script = answers
    engine.sent.clear()
    child = await mill.ended(await child_of(mill, parent, FailureKind.FAILED))
    assert (engine.sent, child.succeeded, child.deduplicated) == (["line-1"], 18, 5)
