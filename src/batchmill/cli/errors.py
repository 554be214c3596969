"""`batchmill errors`: the lines that failed, by what is wrong with them, each with examples."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from batchmill.cli import words
from batchmill.cli.output import AsJson, Column, Output, note
from batchmill.cli.server import Url, connected
from batchmill.cli.watch import wait_shown
from batchmill.cli.which import Which, find_job

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batchmill.client import Result

MAX_GROUPS: Final = 200
_VARIES: Final = re.compile(
    r"'[^']*'|\"[^\"]*\"|\b[0-9a-f]{8}-[0-9a-f-]{27}\b|\b0x[0-9a-f]+\b|\d+(?:[.,]\d+)*"
)


@dataclass(slots=True)
class Group:
    """Lines with one code, whose messages differ in figures and names alone."""

    code: str
    shape: str
    message: str
    count: int = 0
    examples: list[str | None] = field(default_factory=list)


def errors(
    which: Which,
    examples: Annotated[int, typer.Option("-n", min=0, help="Examples of each kind.")] = 3,
    url: Url = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Show why lines failed: by code and kind of message, with counts and examples."""
    with connected(url) as client:
        job = find_job(client, which)
        if not job.is_ended:
            job = wait_shown(client, job)
        groups = grouped(client.errors(job), examples)
    out = Output(as_json=as_json)
    out.rows(groups, columns(), as_object, "No line failed.")
    if out.is_for_people and groups:
        note(f"again: batchmill retry {job.id}")
        note(f"all:   batchmill files get {job.error_file}")
    for each in job.errors if not groups else ():
        note(words.printable(each.message))


def grouped(failed: Iterable[Result], examples: int) -> list[Group]:
    """The groups, the largest first; those beyond the first two hundred as one."""
    groups: dict[tuple[str, str], Group] = {}
    for result in failed:
        code, message = result.failure or ("", "")
        key = (code, shape_of(message))
        if key not in groups and len(groups) >= MAX_GROUPS:
            key = ("other", "")
        group = groups.setdefault(key, Group(*key, message))
        group.count += 1
        if len(group.examples) < examples:
            group.examples.append(result.custom_id)
    return sorted(groups.values(), key=lambda group: -group.count)


def shape_of(message: str) -> str:
    """A message without what differs from line to line."""
    return _VARIES.sub("*", message)


def as_object(group: Group) -> dict[str, Any]:
    """A group for programs."""
    return {
        "code": group.code,
        "count": group.count,
        "message": group.message,
        "shape": group.shape,
        "custom_ids": group.examples,
    }


def columns() -> list[Column[Group]]:
    """The table of groups."""
    return [
        Column("lines", lambda group: words.number(group.count), right=True),
        Column("code", lambda group: group.code),
        Column("message of the first", lambda group: group.message, flexible=True),
        Column("such as", lambda group: ", ".join(map(str, group.examples)), flexible=True, rank=1),
    ]
