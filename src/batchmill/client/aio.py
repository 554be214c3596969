"""`AsyncClient`: as `Client` of `sync.py`, which says what each method does, to be awaited."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, overload

from pydantic import BaseModel

from batchmill.client import asking, jobs, mapping, reading, submitting
from batchmill.client.address import address
from batchmill.client.awaiting import Awaiting
from batchmill.client.mapping import Answer, Prompt, Task
from batchmill.client.objects import File, Job, Model, Result
from batchmill.client.sources import Source
from batchmill.client.steps import Reply, Request
from batchmill.client.submitting import Order
from batchmill.clock import new_id

M = TypeVar("M", bound=BaseModel)
InOrder = Literal["input", "completion"]


class AsyncClient:
    """A Batchmill server, as `Client` is.

    >>> client = AsyncClient()
    >>> job = await client.submit([{"messages": [{"role": "user", "content": "Hello"}]}])
    >>> async for result in client.results(job):
    ...     print(result.custom_id, result.ok)
    """

    def __init__(self, url: str | None = None, api_key: str | None = None) -> None:
        self._connection = Awaiting(address(url, api_key))
        self.url = self._connection.address.url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._connection.close()

    async def submit(
        self,
        source: Source,
        *,
        endpoint: str | None = None,
        model: str | None = None,
        metadata: Mapping[str, str] | None = None,
        window: str | None = None,
        priority: int | None = None,
        on_invalid: Literal["fail", "quarantine"] | None = None,
        webhook_url: str | None = None,
        name: str | None = None,
        idempotency_key: str | None = None,
        **extensions: Any,
    ) -> Job:
        asked = {"priority": priority, "on_invalid": on_invalid, "webhook_url": webhook_url}
        order = Order(
            key=idempotency_key or new_id(),
            endpoint=endpoint,
            model=model,
            window=window,
            metadata=metadata,
            extensions={**asked, **extensions},
        )
        return await self._connection.run(submitting.submit(source, order, name))

    async def get(self, job: str | Job) -> Job:
        return await self._connection.run(jobs.get(_id(job)))

    def jobs(
        self, limit: int | None = None, *, status: str | None = None, model: str | None = None
    ) -> AsyncIterator[Job]:
        return self._connection.iterate(jobs.listing(limit, status, model))

    async def wait(
        self,
        job: str | Job,
        *,
        timeout: float | None = None,
        on_progress: Callable[[Job], None] | None = None,
        on_gap: Callable[[str], None] | None = None,
    ) -> Job:
        return await self._connection.run(jobs.wait(job, timeout, on_progress, on_gap))

    def results(
        self,
        job: str | Job,
        *,
        order: InOrder = "input",
        after: str | None = None,
        follow: bool = False,
    ) -> AsyncIterator[Result]:
        if order == "completion" or after is not None or follow:
            steps = reading.as_completed(_id(job), after, follow=follow)
            return self._connection.iterate(steps)
        return self._connection.iterate(reading.in_input_order(job))

    def errors(self, job: str | Job) -> AsyncIterator[Result]:
        return self._connection.iterate(reading.failed_lines(job))

    async def retry(
        self,
        job: str | Job,
        *,
        only: Sequence[str] | None = None,
        custom_ids: Sequence[str] | None = None,
    ) -> Job:
        return await self._connection.run(jobs.retry(_id(job), only, custom_ids))

    async def cancel(self, job: str | Job) -> Job:
        return await self._connection.run(jobs.act(_id(job), "cancel"))

    async def pause(self, job: str | Job) -> Job:
        return await self._connection.run(jobs.act(_id(job), "pause"))

    async def resume(self, job: str | Job) -> Job:
        return await self._connection.run(jobs.act(_id(job), "resume"))

    async def extend(self, job: str | Job, window: str) -> Job:
        return await self._connection.run(jobs.act(_id(job), "extend", {"window": window}))

    async def delete(self, job: str | Job) -> None:
        await self._connection.run(jobs.delete(_id(job)))

    async def models(self) -> list[Model]:
        return await self._connection.run(jobs.models())

    def files(self, limit: int | None = None, *, purpose: str | None = None) -> AsyncIterator[File]:
        return self._connection.iterate(jobs.files(limit, purpose))

    async def file(self, file: str) -> File:
        return await self._connection.run(jobs.file(file))

    async def upload(
        self, source: Source, *, name: str | None = None, purpose: str = "batch"
    ) -> File:
        return await self._connection.run(submitting.upload(source, name, purpose))

    def download(self, file: str) -> AsyncIterator[bytes]:
        return self._connection.iterate(reading.lines_of(file))

    async def delete_file(self, file: str) -> None:
        await self._connection.run(jobs.delete_file(file))

    async def fetch(self, path: str, *, seconds: float = 20.0) -> Reply:
        request = Request("GET", path, seconds=seconds)
        return await self._connection.run(asking.ask_once(request))

    @overload
    async def map(
        self, rows: Iterable[Mapping[str, Any]], prompt: Prompt, *, schema: type[M], **settings: Any
    ) -> list[Answer[M]]: ...
    @overload
    async def map(
        self,
        rows: Iterable[Mapping[str, Any]],
        prompt: Prompt,
        *,
        schema: None = None,
        **settings: Any,
    ) -> list[Answer[str]]: ...
    @overload
    async def map(
        self,
        rows: Iterable[Mapping[str, Any]],
        prompt: Prompt,
        *,
        schema: Mapping[str, Any],
        **settings: Any,
    ) -> list[Answer[Any]]: ...
    async def map(
        self,
        rows: Iterable[Mapping[str, Any]],
        prompt: Prompt,
        *,
        schema: Any = None,
        model: str | None = None,
        system: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        on_progress: Callable[[Job], None] | None = None,
        **extensions: Any,
    ) -> list[Answer[Any]]:
        task = Task(prompt, schema, system, parameters)
        order = Order(key=new_id(), model=model, extensions=extensions)
        steps = mapping.map_rows(list(rows), task, order, on_progress)
        return [answer async for answer in self._connection.iterate(steps)]


def _id(job: str | Job) -> str:
    return job.id if isinstance(job, Job) else job
