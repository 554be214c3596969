"""What is done with jobs one by one: `ls`, `get`, `cancel`, `pause`, `resume`, `extend`, `retry`
and `rm`."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from batchmill.cli import words
from batchmill.cli.exits import Failure
from batchmill.cli.output import AsJson, Column, Output, note
from batchmill.cli.server import Url, connected
from batchmill.cli.submitted import Submitted
from batchmill.cli.watch import standing_of, watch_to_the_end
from batchmill.cli.which import Which, find_job, notes
from batchmill.clock import SystemClock

if TYPE_CHECKING:
    from batchmill.client import Job


class Status(StrEnum):
    """The states by which `ls` can filter."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


class Only(StrEnum):
    """Which of a job's lines are sent again."""

    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


def ls(
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, help="How many at most.")] = 20,
    status: Annotated[Status | None, typer.Option(help="Only those in that state.")] = None,
    model: Annotated[str | None, typer.Option(help="Only those of that model.")] = None,
    url: Url = None,
    *,
    everything: Annotated[bool, typer.Option("-a", "--all", help="All of them.")] = False,
    as_json: AsJson = False,
) -> None:
    """List jobs, the newest first."""
    from batchmill.client.objects import STATES  # noqa: PLC0415 - help is there at once

    wire = {ours: theirs for theirs, ours in STATES.items()}
    with connected(url) as client:
        found = client.jobs(
            None if everything else limit,
            status=None if status is None else wire[status.value],
            model=model,
        )
        now = SystemClock().wall()
        Output(as_json=as_json).rows(found, columns(now), lambda job: job.raw, "No jobs.")


def get(which: Which, url: Url = None, *, as_json: AsJson = False) -> None:
    """Show a job: how far it is, why it waits, what failed."""
    with connected(url) as client:
        show(find_job(client, which), Output(as_json=as_json))


def cancel(which: Which, url: Url = None, *, as_json: AsJson = False) -> None:
    """Cancel a job; what is answered is kept."""
    with connected(url) as client:
        job = client.cancel(find_job(client, which))
        show(job, Output(as_json=as_json))


def pause(which: Which, url: Url = None, *, as_json: AsJson = False) -> None:
    """Send nothing new of a job; what is in flight is kept, and its window goes on."""
    with connected(url) as client:
        show(client.pause(find_job(client, which)), Output(as_json=as_json))


def resume(which: Which, url: Url = None, *, as_json: AsJson = False) -> None:
    """Let a paused job go on."""
    with connected(url) as client:
        show(client.resume(find_job(client, which)), Output(as_json=as_json))


def extend(
    which: Which,
    window: Annotated[str, typer.Argument(help="30m to 30d, from the job's creation on.")],
    url: Url = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Give an unfinished job more time in all."""
    with connected(url) as client:
        show(client.extend(find_job(client, which), window), Output(as_json=as_json))


def retry(
    which: Which,
    only: Annotated[
        list[Only] | None, typer.Option(help="Only lines that ended so; may be repeated.")
    ] = None,
    custom_id: Annotated[
        list[str] | None, typer.Option(help="Only the line of that id; may be repeated.")
    ] = None,
    url: Url = None,
    *,
    detach: Annotated[bool, typer.Option("-d", "--detach", help="Print only the new id.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Stay until the job has ended.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send the lines of a job that were not answered once more, as a new job.

    Its results are those of all lines: the answers that there were, and the new ones.
    """
    if only and custom_id:
        raise typer.BadParameter("give either --only or --custom-id, not both")
    with connected(url) as client:
        parent = find_job(client, which)
        job = client.retry(
            parent,
            only=None if not only else [each.value for each in only],
            custom_ids=custom_id or None,
        )
        notes().write(
            Submitted(job.id, parent.id, client.url, "", SystemClock().wall(), job=job.id)
        )
        tell_of_new(client, job, Output(as_json=as_json), only_id=detach, watch=watch)


def rm(
    which: Annotated[list[str], typer.Argument(metavar="JOB...", help="Jobs, as for `get`.")],
    url: Url = None,
    *,
    force: Annotated[
        bool, typer.Option("-f", "--force", help="Cancel those that are unfinished.")
    ] = False,
) -> None:
    """Delete jobs that have ended; their files stay (see `files rm`)."""
    with connected(url) as client:
        found = [find_job(client, each) for each in which]
        for job in found:
            if not job.is_ended and not force:
                raise Failure(
                    f"Job {job.id} is {job.state}. `batchmill cancel {job.id}` ends it and keeps "
                    "it; `batchmill rm --force` cancels and deletes it."
                )
        for job in found:
            client.delete(job)
            note(f"deleted {job.id}")


def tell_of_new(client: object, job: Job, out: Output, *, only_id: bool, watch: bool) -> None:
    """Say that a job was made, and stay with it where that was asked for."""
    from batchmill.client import Client  # noqa: PLC0415 - help is there at once

    assert isinstance(client, Client)
    if only_id:
        out.line(job.id)
    if watch:
        note(f"job {job.id}")
        watch_to_the_end(client, job, out, silent=only_id)
        return
    if not only_id:
        show(job, out)
        note(f"watch it: batchmill watch {job.id}")


def show(job: Job, out: Output) -> None:
    """The job, for people or for programs."""
    out.fields(fields(job), job.raw)


def fields(job: Job) -> dict[str, str | None]:
    """What people want to know of a job."""
    standing, progress, ended = standing_of(job), job.progress, job.completed_at
    counts = f"{words.number(job.succeeded_requests)} answered"
    if job.failed_requests:
        counts += f", {words.number(job.failed_requests)} failed"
    if not job.is_ended:
        counts += f", {words.number(progress.left)} left"
    tokens = progress.input_tokens + progress.output_tokens
    shown: dict[str, str | None] = {
        "id": job.id,
        "state": "paused" if job.paused and not job.is_ended else job.state,
        "waits": standing.waiting,
        "lines": f"{counts} of {words.number(job.total_requests)}",
        "pace": f"{words.rate(progress.lines_per_second)} lines/s" if standing.in_flight else None,
        "left": words.duration(standing.seconds_left) if not job.is_ended else None,
        "tokens": f"{progress.input_tokens:,} in, {progress.output_tokens:,} out"
        if tokens
        else None,
        "model": job.model or None,
        "endpoint": job.endpoint,
        "created": words.moment(job.created_at),
        "ended": None if ended is None else words.moment(ended),
        "took": None if ended is None else words.duration(ended - job.created_at),
        "until": words.moment(job.expires_at) if not job.is_ended else None,
        "priority": str(job.priority) if job.priority else None,
        "metadata": ", ".join(f"{k}={v}" for k, v in (job.metadata or {}).items()) or None,
        "input": ", ".join(job.input_files) or None,
        "output": job.output_file,
        "errors": job.error_file,
        "retry of": job.retry_of,
        "retried by": job.retried_by,
    }
    for n, error in enumerate(job.errors):
        shown[f"problem {n + 1}"] = error.message
    for kind in job.error_summary:
        again = ", may help to retry" if kind.retryable else ""
        shown[f"failed: {kind.code}"] = (
            f"{kind.count:,} ({words.clipped(kind.message, 120)}{again})"
        )
    return shown


def columns(now: float) -> list[Column[Job]]:
    """The table of jobs, as of now."""
    return [
        Column("id", lambda job: job.id),
        Column("state", lambda job: "paused" if job.paused and not job.is_ended else job.state),
        Column("lines", lambda job: words.amount(job.total_requests), right=True, rank=1),
        Column("done", _done, right=True, rank=2),
        Column("failed", lambda job: words.amount(job.failed_requests), right=True, rank=1),
        Column("left", _left, right=True, rank=4),
        Column("age", lambda job: words.duration(max(0.0, now - job.created_at)), rank=3),
        Column("model", lambda job: job.model or "", rank=5, flexible=True),
        Column("endpoint", lambda job: job.endpoint.removeprefix("/v1/"), rank=6),
        Column("waits", lambda job: standing_of(job).waiting or "", rank=7, flexible=True),
    ]


def _done(job: Job) -> str:
    return words.percent(job.succeeded_requests + job.failed_requests, job.total_requests)


def _left(job: Job) -> str:
    left = job.progress.estimated_seconds_left
    return "" if job.is_ended or left is None else words.duration(left)
