"""`Client`: what the vendors' SDKs do not have, blocking. `aio.py` is the same to be awaited."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, overload

from pydantic import BaseModel

from batchmill.client import asking, jobs, mapping, reading, submitting
from batchmill.client.address import address
from batchmill.client.blocking import Blocking
from batchmill.client.mapping import Answer, Prompt, Task
from batchmill.client.objects import File, Job, Model, Result
from batchmill.client.sources import Source
from batchmill.client.steps import Reply, Request
from batchmill.client.submitting import Order
from batchmill.clock import new_id

M = TypeVar("M", bound=BaseModel)
InOrder = Literal["input", "completion"]


class Client:
    """A Batchmill server.

    Without arguments the address is that of BATCHMILL_URL and BATCHMILL_API_KEY, else of the
    OpenAI SDK's or Mistral's variables, else this machine. Errors are those of `errors.py`. A
    server that is away is asked again for some seconds, and while waiting for as long as it takes.
    Use it as a context, or `close` it.

    >>> client = Client()
    >>> job = client.wait(client.submit("reviews.jsonl", model="sim"))
    >>> for result in client.results(job):
    ...     print(result.custom_id, result.ok)  # in input order
    """

    def __init__(self, url: str | None = None, api_key: str | None = None) -> None:
        self._connection = Blocking(address(url, api_key))
        self.url = self._connection.address.url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        self._connection.close()

    def submit(
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
        """Make a job of a path, the id of an uploaded file, bytes, or rows.

        Lines of Mistral's kind need a `model`, where neither they nor the server name just one;
        those of OpenAI's kind name it themselves. `endpoint` is what the lines say, else chat.
        `extensions` are further keys of the create.

        A create whose answer was lost is sent again and makes no second job. With an
        `idempotency_key`, whoever makes the same call within a day gets the job of the first: with
        the id of the same file, or with the same bytes while the first upload is on the server
        (what was uploaded for the second call is then deleted). With other lines or settings, or
        once the first upload is deleted, it raises `Conflict` with the code
        `idempotency_key_reused`; then nothing was made, and the second upload is deleted too.
        """
        asked = {"priority": priority, "on_invalid": on_invalid, "webhook_url": webhook_url}
        order = Order(
            key=idempotency_key or new_id(),
            endpoint=endpoint,
            model=model,
            window=window,
            metadata=metadata,
            extensions={**asked, **extensions},
        )
        return self._connection.run(submitting.submit(source, order, name))

    def get(self, job: str | Job) -> Job:
        """The job as it stands now. Takes a UUID, or OpenAI's form of it."""
        return self._connection.run(jobs.get(_id(job)))

    def jobs(
        self, limit: int | None = None, *, status: str | None = None, model: str | None = None
    ) -> Iterator[Job]:
        """Jobs, the newest first; `status` as the server calls it (`RUNNING`, `SUCCESS`, ...)."""
        return self._connection.iterate(jobs.listing(limit, status, model))

    def wait(
        self,
        job: str | Job,
        *,
        timeout: float | None = None,
        on_progress: Callable[[Job], None] | None = None,
        on_gap: Callable[[str], None] | None = None,
    ) -> Job:
        """The job once it has ended, whatever happens to the server meanwhile.

        `on_progress` gets the job at each look, `on_gap` the reason when there is no answer.
        Raises `StillRunning` after `timeout` seconds; the job goes on.
        """
        return self._connection.run(jobs.wait(job, timeout, on_progress, on_gap))

    def results(
        self,
        job: str | Job,
        *,
        order: InOrder = "input",
        after: str | None = None,
        follow: bool = False,
    ) -> Iterator[Result]:
        """The result of each line, answered and failed, one after the other.

        In input order for a job that has ended (else it is waited for). In order of
        `"completion"` also while it runs: what is there, or with `follow` all until it has
        ended; `after` is the `cursor` of the last result that was worked off.
        """
        if order == "completion" or after is not None or follow:
            steps = reading.as_completed(_id(job), after, follow=follow)
            return self._connection.iterate(steps)
        return self._connection.iterate(reading.in_input_order(job))

    def errors(self, job: str | Job) -> Iterator[Result]:
        """The results of the lines that failed, in input order. The job must have ended."""
        return self._connection.iterate(reading.failed_lines(job))

    def retry(
        self,
        job: str | Job,
        *,
        only: Sequence[str] | None = None,
        custom_ids: Sequence[str] | None = None,
    ) -> Job:
        """A new job that sends lines of this one again and keeps all other results.

        `only`: some of `failed`, `expired` and `cancelled`, all of them when left out.
        """
        return self._connection.run(jobs.retry(_id(job), only, custom_ids))

    def cancel(self, job: str | Job) -> Job:
        """Cancel a job; what is answered is kept."""
        return self._connection.run(jobs.act(_id(job), "cancel"))

    def pause(self, job: str | Job) -> Job:
        """Send nothing new of a job; its window goes on."""
        return self._connection.run(jobs.act(_id(job), "pause"))

    def resume(self, job: str | Job) -> Job:
        """Let a paused job go on."""
        return self._connection.run(jobs.act(_id(job), "resume"))

    def extend(self, job: str | Job, window: str) -> Job:
        """Give a job more time in all, such as `7d` from its creation."""
        return self._connection.run(jobs.act(_id(job), "extend", {"window": window}))

    def delete(self, job: str | Job) -> None:
        """Delete a job, cancelling it if need be; its files stay."""
        self._connection.run(jobs.delete(_id(job)))

    def models(self) -> list[Model]:
        """Every model that can be asked for."""
        return self._connection.run(jobs.models())

    def files(self, limit: int | None = None, *, purpose: str | None = None) -> Iterator[File]:
        """Files, the newest first."""
        return self._connection.iterate(jobs.files(limit, purpose))

    def file(self, file: str) -> File:
        """A file's facts."""
        return self._connection.run(jobs.file(file))

    def upload(self, source: Source, *, name: str | None = None, purpose: str = "batch") -> File:
        """A new file of the server."""
        return self._connection.run(submitting.upload(source, name, purpose))

    def download(self, file: str) -> Iterator[bytes]:
        """The lines of a file, without their line breaks; a broken download is taken up again."""
        return self._connection.iterate(reading.lines_of(file))

    def delete_file(self, file: str) -> None:
        """Delete a file that no unfinished job needs."""
        self._connection.run(jobs.delete_file(file))

    def fetch(self, path: str, *, seconds: float = 20.0) -> Reply:
        """What the server answers to a GET, once and whatever its status, for routes that have no
        method here."""
        request = Request("GET", path, seconds=seconds)
        return self._connection.run(asking.ask_once(request))

    @overload
    def map(
        self, rows: Iterable[Mapping[str, Any]], prompt: Prompt, *, schema: type[M], **settings: Any
    ) -> list[Answer[M]]: ...
    @overload
    def map(
        self,
        rows: Iterable[Mapping[str, Any]],
        prompt: Prompt,
        *,
        schema: None = None,
        **settings: Any,
    ) -> list[Answer[str]]: ...
    @overload
    def map(
        self,
        rows: Iterable[Mapping[str, Any]],
        prompt: Prompt,
        *,
        schema: Mapping[str, Any],
        **settings: Any,
    ) -> list[Answer[Any]]: ...
    def map(
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
        """Ask one thing of every row; an answer for each, in the rows' order.

        `prompt` has the row's columns as `{{column}}`, or is a function of the row. With `schema`
        (a pydantic model, or a JSON schema) engines are told to answer in its form; an answer
        that is not in a model's form has no `value`, and says so. `parameters` go into every
        request (`temperature`, ...). All rows and answers are held in memory.
        """
        task = Task(prompt, schema, system, parameters)
        order = Order(key=new_id(), model=model, extensions=extensions)
        steps = mapping.map_rows(list(rows), task, order, on_progress)
        return list(self._connection.iterate(steps))


def _id(job: str | Job) -> str:
    return job.id if isinstance(job, Job) else job
