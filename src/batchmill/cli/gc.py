"""`batchmill gc`: files that lie on the server for long, and how to be rid of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from batchmill.cli import words
from batchmill.cli.output import AsJson, Column, Output, note
from batchmill.cli.server import Url, connected
from batchmill.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchmill.client import Client, File


def gc(
    older_than: Annotated[str, typer.Option(help="Only files of that age, such as 7d or 12h.")],
    purpose: Annotated[
        str | None, typer.Option(help="Only uploads (batch), or only results (batch_output).")
    ] = None,
    url: Url = None,
    *,
    dry_run: Annotated[
        bool, typer.Option("-n", "--dry-run", help="Only show what would be deleted.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Delete old files, uploads and results; those that an unfinished job needs stay.

    The server deletes by itself what is past its settings keep_uploads and keep_results. A job
    whose results are deleted still shows its counts.
    """
    from batchmill.quantities import parse_duration  # noqa: PLC0415 - other commands start faster

    try:
        age = parse_duration(older_than).total_seconds()
    except ValueError as error:
        raise typer.BadParameter(f"{older_than!r} {error}", param_hint="--older-than") from None
    with connected(url) as client:
        now = SystemClock().wall()
        old = [each for each in client.files(purpose=purpose) if now - each.created_at >= age]
        Output(as_json=as_json).rows(old, columns(now), lambda file: file.raw, "Nothing that old.")
        size = words.size(sum(each.bytes for each in old))
        if dry_run:
            note(f"{words.plural(len(old), 'file')}, {size} would be deleted.")
        elif old:
            _delete(client, old, size)


def _delete(client: Client, files: Sequence[File], size: str) -> None:
    from batchmill.client.errors import Conflict, NotFound  # noqa: PLC0415 - help is there at once

    kept = 0
    for file in files:
        try:
            client.delete_file(file.id)
        except Conflict:
            kept += 1
        except NotFound:
            continue
    said = f"; {kept:,} are needed by unfinished jobs and stay" if kept else f", {size}"
    note(f"{words.plural(len(files) - kept, 'file')} deleted{said}.")


def columns(now: float) -> list[Column[File]]:
    """The table of old files."""
    return [
        Column("id", lambda file: file.id),
        Column("name", lambda file: file.filename, flexible=True, rank=1),
        Column("size", lambda file: words.size(file.bytes), right=True, rank=2),
        Column("age", lambda file: words.duration(now - file.created_at), right=True, rank=1),
        Column("purpose", lambda file: file.purpose, rank=3),
    ]
