"""`batchmill results`: every line's result, in input order, as they come, or beside the input."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from batchmill.cli.exits import INTERRUPTED, Failure, code_of
from batchmill.cli.joining import joined
from batchmill.cli.output import note
from batchmill.cli.server import Url, connected
from batchmill.cli.watch import summary, wait_shown
from batchmill.cli.which import Which, find_job

if TYPE_CHECKING:
    from batchmill.client import Client, Job, Result


def results(
    which: Which,
    output: Annotated[
        str | None, typer.Option("-o", "--output", help="The file to write (standard output).")
    ] = None,
    join: Annotated[
        Path | None,
        typer.Option(help="A .csv or .jsonl table: its rows, each with its result's columns."),
    ] = None,
    on: Annotated[
        str | None, typer.Option(help="The table's column that holds the custom_id.")
    ] = None,
    after: Annotated[
        str | None, typer.Option(help="Only what came after the result of that cursor.")
    ] = None,
    url: Url = None,
    *,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="As they come, until the job has ended.")
    ] = False,
    now: Annotated[
        bool, typer.Option("--now", help="Those that there are, in order of completion.")
    ] = False,
) -> None:
    """Print the result of every line, answered and failed, as JSON lines.

    In input order once the job has ended; it is waited for. With --follow or --now in order of
    completion, each with its cursor. Leaves with 3 where lines were not answered.
    """
    if (follow or now or after is not None) and join is not None:
        raise typer.BadParameter("--join needs the input's order; leave --follow and --now out")
    with connected(url) as client:
        job = find_job(client, which)
        if follow or now or after is not None:
            _write_as_completed(client, job, after, output, follow=follow)
            job = client.get(job) if follow else job
        else:
            job = _ended(client, job)
            rows = joined(join, on, client.results(job), job.total_requests) if join else None
            write_lines(rows if rows is not None else _raw(client.results(job)), output)
    if job.is_ended:
        note(summary(job) if code_of(job) else f"{job}")
        raise typer.Exit(code_of(job))


def _write_as_completed(
    client: Client, job: Job, after: str | None, output: str | None, *, follow: bool
) -> None:
    """Write results as they come; interrupted, say how to go on behind the last one."""
    cursor = after

    def lines() -> Iterator[bytes]:
        nonlocal cursor
        for each in client.results(job, order="completion", after=after, follow=follow):
            yield each.raw
            cursor = each.cursor

    try:
        write_lines(lines(), output)
    except KeyboardInterrupt:
        is_kept = output in {None, "-"}  # a file is there only once it is whole
        where = f" --after {cursor}" if cursor is not None and is_kept else ""
        note(f"\nThe job goes on. Come back: batchmill results {job.id} --follow{where}")
        raise typer.Exit(INTERRUPTED) from None


def _raw(found: Iterator[Result]) -> Iterator[bytes]:
    return (each.raw for each in found)


def _ended(client: Client, job: Job) -> Job:
    """The job once it has ended. Raises `Failure` where it has no results."""
    if not job.is_ended:
        job = wait_shown(client, job)
    if job.output_file is None and job.error_file is None:
        raise Failure(summary(job))
    return job


def write_lines(lines: Iterator[bytes], output: str | None) -> None:
    """Each on a line of its own, in the file or on standard output."""
    with _opened(output) as into:
        for line in lines:
            into.write(line + b"\n")
            if output is None:
                into.flush()


@contextmanager
def _opened(output: str | None) -> Iterator[BinaryIO]:
    """What to write into: a file that is there under its name only once it is whole. Raises
    `Failure` where it cannot be written."""
    if output is None or output == "-":
        yield sys.stdout.buffer
        return
    path = Path(output)
    if path.is_dir():
        raise Failure(f"{output} is a directory; name the file to write.")
    part = path.with_name(f".{path.name}.part")
    try:
        if path.exists() and not path.is_file():
            with path.open("wb") as special:
                yield special
            return
        with part.open("wb") as file:
            yield file
        part.replace(path)
    except OSError as error:
        raise Failure(f"{output} cannot be written: {error.strerror}.") from error
    finally:
        if part.is_file():
            part.unlink()
