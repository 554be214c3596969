"""`batchmill files`: what lies on the server: uploads, and the results of jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from batchmill.cli import words
from batchmill.cli.checks import opened
from batchmill.cli.output import AsJson, Column, Output, note
from batchmill.cli.results import write_lines
from batchmill.cli.server import Url, connected
from batchmill.cli.uploads import shown_while_read

if TYPE_CHECKING:
    from batchmill.client import File

app = typer.Typer(
    help="List, fetch, send and delete files.", no_args_is_help=True, rich_markup_mode=None
)
Id = Annotated[str, typer.Argument(metavar="FILE_ID", help="A file's id, as `files ls` shows it.")]


@app.command()
def ls(
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, help="How many at most.")] = 20,
    purpose: Annotated[
        str | None, typer.Option(help="Only those for that: batch, batch_output.")
    ] = None,
    url: Url = None,
    *,
    everything: Annotated[bool, typer.Option("-a", "--all", help="All of them.")] = False,
    as_json: AsJson = False,
) -> None:
    """List files, the newest first."""
    with connected(url) as client:
        found = client.files(None if everything else limit, purpose=purpose)
        Output(as_json=as_json).rows(found, columns(), lambda file: file.raw, "No files.")


@app.command()
def get(
    id: Id,
    output: Annotated[
        str | None, typer.Option("-o", "--output", help="The file to write (standard output).")
    ] = None,
    url: Url = None,
    *,
    info: Annotated[bool, typer.Option("--info", help="Its facts instead of its lines.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print a file's lines, or write them into a file."""
    with connected(url) as client:
        if info:
            file = client.file(id)
            Output(as_json=as_json).fields(fields(file), file.raw)
        else:
            write_lines(client.download(id), output)


@app.command()
def upload(
    path: Annotated[str, typer.Argument(metavar="FILE", help="A file of lines; - is stdin.")],
    purpose: Annotated[str, typer.Option(help="What it is for.")] = "batch",
    url: Url = None,
    *,
    detach: Annotated[bool, typer.Option("-d", "--id-only", help="Print only the id.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send a file; `batchmill submit` with its id makes a job of it."""
    out = Output(as_json=as_json)
    with connected(url) as client, opened(path) as local, shown_while_read(local) as content:
        file = client.upload(content, name=local.name, purpose=purpose)
        if detach:
            out.line(file.id)
        else:
            out.fields(fields(file), file.raw)


@app.command()
def rm(
    ids: Annotated[list[str], typer.Argument(metavar="FILE_ID...", help="Files' ids.")],
    url: Url = None,
) -> None:
    """Delete files that no unfinished job needs."""
    with connected(url) as client:
        for each in ids:
            client.delete_file(each)
            note(f"deleted {each}")


def fields(file: File) -> dict[str, str | None]:
    """What people want to know of a file."""
    return {
        "id": file.id,
        "name": file.filename,
        "purpose": file.purpose,
        "size": words.size(file.bytes),
        "lines": None if file.num_lines is None else words.number(file.num_lines),
        "created": words.moment(file.created_at),
        "kept until": "for ever" if file.expires_at is None else words.moment(file.expires_at),
    }


def columns() -> list[Column[File]]:
    """The table of files."""
    return [
        Column("id", lambda file: file.id),
        Column("name", lambda file: file.filename, flexible=True, rank=1),
        Column("size", lambda file: words.size(file.bytes), right=True, rank=2),
        Column(
            "lines",
            lambda file: "" if file.num_lines is None else words.amount(file.num_lines),
            right=True,
            rank=2,
        ),
        Column("purpose", lambda file: file.purpose, rank=3),
        Column("created", lambda file: words.moment(file.created_at), rank=4),
    ]
