"""`mistralai.extra.batch`, the SDK's own wrapper: asynchronous, typed, and it tidies up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from mistral_python.harness import World, chat, custom_id, refused, refused_chat, slow_chat
from mistral_python.release import models
from operations import operation


def batch_client(world: World, client: Any) -> Any:
    from mistralai.extra.batch import BatchClient  # not in releases before 2.10

    return BatchClient(
        client,
        endpoint="/v1/chat/completions",
        response_body_type=models.ChatCompletionResponse,
    )


def _with_batch_client(world: World, use: Callable[[Any], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with world.client_for(world.key) as client:
            return await use(batch_client(world, client))

    return asyncio.run(run())


@operation(since="2.10.0")
def run_inline(world: World) -> None:
    payload = {custom_id(n): _request(world, n) for n in range(3)}
    result = _with_batch_client(
        world, lambda batch: batch.run(payload, model=world.model, poll_interval_seconds=0.05)
    )
    _is_complete(world, result, 3)
    assert result.job.input_files == [], result.job


@operation(since="2.10.0")
def run_by_upload(world: World) -> None:
    result = _with_batch_client(
        world,
        lambda batch: batch.run(
            chat(5), model=world.model, poll_interval_seconds=0.05, inline_threshold=0
        ),
    )
    _is_complete(world, result, 5)
    (uploaded,) = result.job.input_files
    refused(404, world.client.files.retrieve, file_id=uploaded)


@operation(since="2.10.0")
def run_with_failures(world: World) -> None:
    result = _with_batch_client(
        world,
        lambda batch: batch.run(
            chat(2) + refused_chat("bad"), model=world.model, poll_interval_seconds=0.05
        ),
    )
    assert (result.status, result.succeeded, result.failed) == ("SUCCESS", 2, 1), result.job
    (error,) = result.errors()
    assert (error.custom_id, error.status_code) == ("bad", 422), error
    assert set(result.by_id()) == {custom_id(0), custom_id(1)}


@operation(since="2.10.0")
def stream_results(world: World) -> None:
    from mistralai.extra.batch import BatchInput

    async def use(batch: Any) -> list[Any]:
        file = await batch.upload(BatchInput.from_jsonl_bytes(chat(4)), expiry_hours=1)
        handle = await batch.create(file, model=world.model, metadata={"by": "stream"})
        results = batch.stream_results(handle, poll_interval_seconds=0.05)
        return [item async for item in results]

    results = _with_batch_client(world, use)
    assert [who for who, _ in results] == [custom_id(n) for n in range(4)], results
    assert all(answer.choices for _, answer in results), results


@operation(since="2.10.0")
def cancel(world: World) -> None:
    from mistralai.extra.batch import BatchInput

    async def use(batch: Any) -> Any:
        source = BatchInput.from_jsonl_bytes(slow_chat(2))
        handle = await batch.create(source, model=world.model)
        await batch.cancel(handle)
        return await batch.wait(handle, poll_interval_seconds=0.05)

    assert _with_batch_client(world, use).status == "CANCELLED"


@operation(since="2.10.0")
def signed_url(world: World) -> None:
    url = _with_batch_client(
        world, lambda batch: batch.signed_url(world.finished.output_file, expiry_hours=1)
    )
    assert url.startswith(world.url), url


def _request(world: World, n: int) -> Any:
    return models.ChatCompletionRequest(
        model=world.model, messages=[{"role": "user", "content": f"say {n}"}]
    )


def _is_complete(world: World, result: Any, count: int) -> None:
    assert (result.status, result.succeeded, result.failed) == ("SUCCESS", count, 0), result.job
    assert result.errors() == [], result.errors()
    assert result.response_errors() == [], result.response_errors()
    answers = result.ordered([custom_id(n) for n in range(count)])
    assert all(answer.choices[0].message.content for answer in answers), answers
    job = world.client.batch.jobs.get(job_id=result.job.id)
    assert job.output_file == result.job.output_file, job
    refused(404, world.client.files.retrieve, file_id=job.output_file)
