"""`batchmill watch`, and staying with a job until it has ended. Ctrl-C only stops the watching."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import typer

from batchmill.cli import words
from batchmill.cli.exits import INTERRUPTED, UNANSWERED, code_of
from batchmill.cli.output import AsJson, Output, note
from batchmill.cli.progressbar import ProgressBar, Standing
from batchmill.cli.server import Url, connected
from batchmill.cli.which import Which, find_job
from batchmill.clock import SystemClock

if TYPE_CHECKING:
    from batchmill.client import Client, Job

PACE_SECONDS: Final = 10.0
"""Over how long tokens a second are counted."""


def watch(which: Which, url: Url = None, *, as_json: AsJson = False) -> None:
    """Stay with a job until it has ended, then show it.

    Leaves with 0 if every line was answered, 3 if not, 1 if there are no results. Ctrl-C stops the
    watching; the job goes on.
    """
    with connected(url) as client:
        watch_to_the_end(client, find_job(client, which), Output(as_json=as_json))


def watch_to_the_end(client: Client, job: Job, out: Output, *, silent: bool = False) -> None:
    """Show the job's progress, and then the job. Ends the command where the job is not whole."""
    ended = wait_shown(client, job)
    if not silent and not out.is_for_people:
        out.json(ended.raw)
    note(summary(ended))
    if code := code_of(ended):
        raise typer.Exit(code)


def wait_shown(client: Client, job: Job) -> Job:
    """The job once it has ended, its progress shown meanwhile. On Ctrl-C it says how to come
    back and ends the command."""
    clock, pace = SystemClock(), Pace()

    def look(now: Job) -> None:
        tokens = now.progress.input_tokens + now.progress.output_tokens
        bar.show(standing_of(now, pace.of(tokens, clock.boot())), clock.boot())

    def gap(why: str) -> None:
        bar.show(Standing("unknown", job.total_requests, waiting=f"{why} Trying on."), clock.boot())

    try:
        with ProgressBar() as bar:
            return client.wait(job, on_progress=look, on_gap=gap)
    except KeyboardInterrupt:
        note(f"\nNo longer watching; the job goes on. Come back: batchmill watch {job.id}")
        raise typer.Exit(INTERRUPTED) from None


class Pace:
    """How many tokens a second, over the last seconds of watching."""

    def __init__(self) -> None:
        self._seen: list[tuple[float, int]] = []

    def of(self, tokens: int, now: float) -> float | None:
        """The pace, now that there are so many; None before there is one."""
        self._seen.append((now, tokens))
        while len(self._seen) > 2 and now - self._seen[1][0] >= PACE_SECONDS:
            self._seen.pop(0)
        since, before = self._seen[0]
        return (tokens - before) / (now - since) if now - since >= 1 else None


def standing_of(job: Job, tokens_per_second: float | None = None) -> Standing:
    """The job as a progress bar shows it."""
    progress = job.progress
    is_open = not job.is_ended
    waiting: Callable[[str | None], str | None] = words.reason
    return Standing(
        state="paused" if job.paused and is_open else job.state,
        total=job.total_requests,
        answered=job.succeeded_requests,
        failed=job.failed_requests,
        in_flight=progress.in_flight if is_open else 0,
        lines_per_second=progress.lines_per_second if is_open else None,
        tokens_per_second=tokens_per_second if is_open else None,
        seconds_left=progress.estimated_seconds_left if is_open else None,
        waiting=waiting(progress.waiting_reason) if is_open else None,
        errors={each.code: each.count for each in job.error_summary},
    )


def summary(job: Job) -> str:
    """How a job ended, in a line, and what to do next in another."""
    took = (
        ""
        if job.completed_at is None
        else f" in {words.duration(job.completed_at - job.created_at)}"
    )
    failed = f", {job.failed_requests:,} failed" if job.failed_requests else ""
    said = f"{job.state}: {job.succeeded_requests:,} of {words.plural(job.total_requests, 'line')} "
    lines = [f"{said}answered{failed}{took}"]
    if code_of(job) == UNANSWERED:
        lines += [
            f"  {each.count:,} {each.code}: {words.clipped(each.message, 160)}"
            for each in job.error_summary[:3]
        ]
        lines += [f"why:   batchmill errors {job.id}", f"again: batchmill retry {job.id}"]
    elif job.is_whole:
        lines.append(f"results: batchmill results {job.id} -o results.jsonl")
    else:
        lines += [f"  {words.printable(each.message)}" for each in job.errors[:10]]
        lines.append("check the file before the next try: batchmill validate FILE")
    return "\n".join(lines)
