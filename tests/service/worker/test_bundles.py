"""Many embeddings in one call: each line gets its own, and none fails because of its neighbours."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from batchmill.calls import Answered, Broken, Overloaded, Refused, Reply, Unreachable
from batchmill.model import Job, Stream
from batchmill.usage import Usage
from tests.service.worker.engine import Engine, Held, InTurn, Script
from tests.service.worker.mill import Mill, Running, texts_of


async def embeds(inputs: str) -> Reply:
    """The script of an engine that embeds whatever it is given, last input first."""
    texts = json.loads(inputs)
    data = [{"index": n, "embedding": [text]} for n, text in enumerate(texts)]
    used = {"prompt_tokens": 10 * len(texts) + 1, "total_tokens": 10 * len(texts) + 1}
    body = json.dumps({"object": "list", "data": data[::-1], "usage": used}).encode()
    return Answered(200, body, usage=Usage(10 * len(texts) + 1), held_bytes=len(body))


@pytest.fixture
async def mill(calm_mill: Mill) -> Mill:
    """Calls are counted here: no lease is to run out on a busy machine."""
    return calm_mill


class Embedder(Engine):
    """Its script is asked with the inputs of a call, as a list in JSON."""

    def __init__(self, script: Script = embeds) -> None:
        super().__init__(script)

    def text_of(self, body: dict[str, Any]) -> str:
        given = body["input"]
        return json.dumps(given if isinstance(given, list) else [given])

    @property
    def calls(self) -> list[list[str]]:
        """The inputs of each call."""
        return [json.loads(text) for text in self.sent]


async def has_waiting(running: Running, job: Job, *, lines: int) -> bool:
    """Of shards of four lines each: beside those that the first calls took."""
    return running.worker._pool.lines_by_job()[job.id] >= lines


async def has_its_own(mill: Mill, job: Job) -> None:
    for row in await mill.results(job, Stream.OUT):
        [entry] = row["response"]["body"]["data"]
        assert entry == {"index": 0, "embedding": [row["custom_id"]]}


def together(then: Reply) -> Script:
    """Answers as ever to one input, and so to many."""

    async def script(inputs: str) -> Reply:
        return await embeds(inputs) if len(json.loads(inputs)) == 1 else then

    return script


async def test_lines_go_together_and_each_gets_its_own_answer(mill: Mill) -> None:
    begun = asyncio.Event()

    async def once_begun(inputs: str) -> Reply:
        await begun.wait()
        return await embeds(inputs)

    engine = Embedder(once_begun)
    running = await mill.start(engine, per_call=8, concurrency=2)
    unfinished = await mill.job(40, embeddings=True)
    await mill.until(lambda: has_waiting(running, unfinished, lines=16))
    begun.set()
    job = await mill.ended(unfinished, 20)
    assert job.succeeded == 40
    await has_its_own(mill, job)
    assert sorted(text for call in engine.calls for text in call) == sorted(
        texts_of("line", range(40))
    )
    assert max(map(len, engine.calls)) == 8
    assert engine.most_in_flight <= 2
    assert job.usage.input_tokens == sum(10 * len(call) + 1 for call in engine.calls)
    rows = await mill.results(job, Stream.OUT)
    shown = sum(row["response"]["body"]["usage"]["prompt_tokens"] for row in rows)
    assert shown == job.usage.input_tokens


async def test_without_leave_every_line_goes_by_itself(mill: Mill) -> None:
    engine = Embedder()
    await mill.start(engine)
    assert (await mill.ended(await mill.job(12, embeddings=True))).succeeded == 12
    assert [len(call) for call in engine.calls] == [1] * 12


async def test_chats_are_never_put_together(mill: Mill) -> None:
    engine = Engine()
    await mill.start(engine, per_call=8)
    assert (await mill.ended(await mill.job(12))).succeeded == 12
    assert len(engine.sent) == 12


@pytest.mark.parametrize(
    "reply",
    [
        Refused(400, b"{}", "one of them is too long", held_bytes=2),
        Refused(500, b"{}", "no"),
        Refused(502, b"{}", "no"),
        Broken("reset", "lost"),
        Broken("timeout", "slow"),
        Answered(200, b'{"data":[{"index":0}]}', held_bytes=22),
        Answered(200, b'{"data":{}}', held_bytes=11),
    ],
    ids=str,
)
async def test_what_fails_together_goes_again_one_by_one(mill: Mill, reply: Reply) -> None:
    engine = Embedder(together(reply))
    await mill.start(engine, per_call=4)
    job = await mill.ended(await mill.job(12, embeddings=True), 20)
    assert job.succeeded == 12
    await has_its_own(mill, job)
    alone = [call for call in engine.calls if len(call) == 1]
    assert sorted(text for [text] in alone) == sorted(texts_of("line", range(12)))


async def test_a_line_at_fault_fails_by_itself(mill: Mill) -> None:
    async def refuses_one(inputs: str) -> Reply:
        return Refused(400, b"{}", "no") if '"line-5"' in inputs else await embeds(inputs)

    engine = Embedder(refuses_one)
    await mill.start(engine, per_call=4)
    job = await mill.ended(await mill.job(12, embeddings=True), 20)
    assert (job.succeeded, job.failed) == (11, 1)
    [row] = await mill.results(job, Stream.ERR)
    assert row["custom_id"] == "line-5"


@pytest.mark.parametrize("reply", [Overloaded(429, b"{}"), Unreachable("away")], ids=str)
async def test_what_was_not_taken_goes_together_again(mill: Mill, reply: Reply) -> None:
    async def not_yet(_: str) -> Reply:
        return reply

    engine = Embedder(InTurn(not_yet, embeds))
    await mill.start(engine, per_call=4, concurrency=1)
    job = await mill.ended(await mill.job(4, embeddings=True), 20)
    assert job.succeeded == 4
    sizes = [len(call) for call in engine.calls]
    assert sizes in ([4, 4], [4, 1, 3]), "a trial is sent by itself"


async def test_a_model_that_is_refused_keeps_no_others_from_going_together(mill: Mill) -> None:
    async def knows_no_n(inputs: str) -> Reply:
        return Refused(404, b"{}", "no such model") if "other-" in inputs else await embeds(inputs)

    engine = Embedder(knows_no_n)
    engine.served = ("m", "n")
    await mill.start(engine, per_call=4)
    unknown = await mill.job(1, "other", model="n", embeddings=True)
    await engine.got(1)
    assert (await mill.ended(await mill.job(12, embeddings=True))).succeeded == 12
    assert sum(len(call) > 1 for call in engine.calls) >= 3
    await mill.cancel(unknown)


async def test_an_engine_that_answers_in_another_form_is_not_asked_again(mill: Mill) -> None:
    engine = Embedder(together(Answered(200, b'{"data":[]}', held_bytes=11)))
    await mill.start(engine, per_call=4, concurrency=1)
    assert (await mill.ended(await mill.job(40, embeddings=True), 20)).succeeded == 40
    assert sum(len(call) > 1 for call in engine.calls) == 1


async def test_a_cancelled_job_ends_its_calls(mill: Mill) -> None:
    engine = Embedder(Held(then=embeds))
    await mill.start(engine, per_call=4)
    job = await mill.job(12, embeddings=True)
    await engine.got(3)
    await mill.cancel(job)
    over = await mill.ended(job)
    assert over.failures.cancelled == 12
    assert engine.in_flight == 0


async def test_duplicates_and_calls_of_many_go_well_together(mill: Mill) -> None:
    engine = Embedder()
    await mill.start(engine, per_call=4)
    job = await mill.ended(await mill.job(30, embeddings=True, distinct=6), 20)
    assert (job.succeeded, job.deduplicated) == (30, 24)
    assert sorted(text for call in engine.calls for text in call) == texts_of("line", range(6))
