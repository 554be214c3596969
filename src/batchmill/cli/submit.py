"""`batchmill submit`: from a file of lines to a job, whose id is never lost.

What is done is noted before its answer can be missed (`submitted.py`): the same command, run again
after it was cut off, goes on, and makes no second job.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from batchmill.cli import words
from batchmill.cli.checks import STDIN, LocalFile, check, opened
from batchmill.cli.exits import FAILED, Failure
from batchmill.cli.jobs import tell_of_new
from batchmill.cli.output import AsJson, Output, note
from batchmill.cli.server import Url, connected
from batchmill.cli.submitted import Submitted
from batchmill.cli.uploads import shown_while_read
from batchmill.cli.validate import report, summary
from batchmill.cli.which import LOOKED_AT, notes
from batchmill.clock import SystemClock, new_id

if TYPE_CHECKING:
    from batchmill.client import Client, Job


class Invalid(StrEnum):
    """What bad lines do."""

    FAIL = "fail"
    QUARANTINE = "quarantine"


Source = Annotated[
    str,
    typer.Argument(
        metavar="FILE", help="Lines of Mistral's or OpenAI's kind; - is stdin; or a file's id."
    ),
]


def submit(
    path: Source,
    model: Annotated[
        str | None, typer.Option("-m", "--model", help="For lines that name none.")
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="Such as /v1/embeddings (what the lines say, else chat).")
    ] = None,
    window: Annotated[str | None, typer.Option(help="How long it may take, 30m to 30d.")] = None,
    priority: Annotated[int | None, typer.Option(help="A higher one goes first.")] = None,
    metadata: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="May be repeated.")
    ] = None,
    on_invalid: Annotated[
        Invalid, typer.Option(help="Bad lines fail the job, or go to its error file.")
    ] = Invalid.FAIL,
    webhook_url: Annotated[str | None, typer.Option(help="Is told of the job's end.")] = None,
    url: Url = None,
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Stay until the job has ended.")] = False,
    detach: Annotated[bool, typer.Option("-d", "--detach", help="Print only the id.")] = False,
    check_first: Annotated[
        bool, typer.Option("--check/--no-check", help="Check the file before it is sent.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Make a job of a file of lines, and print it.

    The file is checked first, as `validate` does. The same command again after it was cut off goes
    on with the same job; after it was done it makes another.
    """
    out = Output(as_json=as_json)
    asked: dict[str, Any] = {
        "endpoint": endpoint,
        "model": model,
        "window": window,
        "priority": priority,
        "metadata": _pairs(metadata or []),
        "on_invalid": on_invalid.value,
        "webhook_url": webhook_url,
    }
    with connected(url) as client:
        if _is_id(path):
            job = _made(client, _mark(path, [path], client.url, asked, file=path), asked)
        else:
            job = _submit_file(client, path, asked, out, checked=check_first)
        tell_of_new(client, job, out, only_id=detach, watch=watch)


def _submit_file(
    client: Client, path: str, asked: dict[str, Any], out: Output, *, checked: bool
) -> Job:
    with opened(path) as file:
        if checked:
            _require_good(file, asked, out)
        mark = _mark(*_state_of(path, file), client.url, asked)
        if mark.file is not None:
            job = _gone_on(client, mark, asked)
            if job is not None:
                return job
            mark = replace(mark, key=new_id(), at=SystemClock().wall(), file=None)
        with shown_while_read(file) as content:
            mark = replace(mark, file=client.upload(content, name=file.name).id)
        notes().write(mark)
    return _made(client, mark, asked)


def _gone_on(client: Client, mark: Submitted, asked: dict[str, Any]) -> Job | None:
    """The job over what a cut-off submit had uploaded, also one that it had made; None where the
    upload was deleted and no job was made of it."""
    from batchmill.client import Gone, NotFound  # noqa: PLC0415 - help is there at once

    try:
        return _made(client, mark, asked)
    except (Gone, NotFound):
        for job in client.jobs(limit=LOOKED_AT):
            if mark.file in job.input_files:
                notes().write(replace(mark, job=job.id))
                return job
    note("What it had uploaded was deleted; sending the file once more.")
    return None


def _made(client: Client, mark: Submitted, asked: dict[str, Any]) -> Job:
    """The job over the file that the server has, noted."""
    job = client.submit(mark.file or "", idempotency_key=mark.key, **asked)
    notes().write(replace(mark, job=job.id))
    return job


def _require_good(file: LocalFile, asked: dict[str, Any], out: Output) -> None:
    """Stop here where lines are bad; else take the model that all lines name."""
    found = check(file, asked["endpoint"])
    if (found.bad and asked["on_invalid"] == Invalid.FAIL) or not found.lines:
        report(file, found, out)
        note(summary(file, found, asked["endpoint"]))
        if found.lines:
            note("Nothing was sent. With --on-invalid quarantine the good lines run.")
        raise typer.Exit(FAILED)
    if file.is_openai and asked["model"] is not None:
        raise Failure("Lines of OpenAI's kind name their own model; leave --model out.")
    if not file.is_openai and asked["model"] is None and not found.unnamed:
        if len(found.models) > 1:
            some = words.printable(", ".join(sorted(found.models)[:5]))
            raise Failure(
                f"The lines name several models ({some}); a job of such lines runs on one. "
                "Give --model, or send lines of OpenAI's kind."
            )
        asked["model"] = next(iter(found.models), None)


def _state_of(path: str, file: LocalFile) -> tuple[str, list[Any]]:
    """Where a file lies, and what of it differs once it has changed."""
    if path == STDIN:
        return STDIN, [STDIN, file.size_bytes, new_id()]
    place = str(Path(path).absolute())
    return place, [place, file.size_bytes, Path(place).stat().st_mtime_ns]


def _mark(
    place: str, state: list[Any], url: str, asked: dict[str, Any], file: str | None = None
) -> Submitted:
    """The note of this submit: a cut-off one's, or a new one's."""
    now = SystemClock().wall()
    wish = hashlib.sha256(json.dumps([state, url, asked], sort_keys=True).encode()).hexdigest()
    cut_off = notes().unfinished(wish, now)
    if cut_off is not None:
        note("An earlier submit of this file was cut off; going on with it.")
        return cut_off
    mark = Submitted(key=new_id(), path=place, url=url, wish=wish, at=now, file=file)
    notes().write(mark)
    return mark


def _pairs(texts: list[str]) -> dict[str, str] | None:
    pairs = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not (name and sign):
            raise typer.BadParameter(f"{text!r} should be KEY=VALUE", param_hint="--metadata")
        pairs[name] = value
    return pairs or None


def _is_id(text: str) -> bool:
    from batchmill.client.sources import file_id  # noqa: PLC0415 - help is there at once

    return file_id(text) is not None
