"""Which job is meant: by its id in either form, the beginning of one, the file it was submitted
from, or `@last`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from batchmill.cli.exits import Failure
from batchmill.cli.submitted import Notes
from batchmill.cli.words import clipped

if TYPE_CHECKING:
    from batchmill.client import Client, Job

LAST: Final = "@last"
LOOKED_AT: Final = 10_000
"""Jobs among which the beginning of an id is looked for."""
_HEX: Final = 32
_SHORTEST: Final = 4

Which = Annotated[
    str,
    typer.Argument(
        metavar="JOB",
        help="A job: its id, the beginning of it, the file it was submitted from, or @last.",
    ),
]


def find_job(client: Client, text: str) -> Job:
    """The job that is meant, as it stands. Raises `Failure` where it is none, or more than one."""
    digits = re.sub(r"^batch_|-", "", text.lower())
    is_hex = re.fullmatch(r"[0-9a-f]+", digits) is not None
    if is_hex and len(digits) == _HEX:
        return client.get(text)
    if text == LAST:
        return _last(client)
    if is_hex and len(digits) >= _SHORTEST and not Path(text).exists():
        return _by_beginning(client, text, digits)
    job = notes().job_of(str(Path(text).absolute()), client.url)
    if job is None:
        raise Failure(
            f"No job is known for {clipped(text, 80)!r}: it is neither an id, nor a file that was "
            f"submitted to {client.url} from here. `batchmill ls` lists the jobs."
        )
    return client.get(job)


def notes() -> Notes:
    """The notes of this user's submits."""
    from batchmill.config import state_directory  # noqa: PLC0415 - help is there at once

    return Notes(state_directory())


def _last(client: Client) -> Job:
    job = notes().last_job(client.url)
    if job is not None:
        return client.get(job)
    newest = next(client.jobs(limit=1), None)
    if newest is None:
        raise Failure(f"There is no job on {client.url} yet: `batchmill submit FILE` makes one.")
    return newest


def _by_beginning(client: Client, text: str, digits: str) -> Job:
    jobs = client.jobs(limit=LOOKED_AT)
    found = [job for job in jobs if job.id.replace("-", "").startswith(digits)]
    if not found:
        raise Failure(f"No job's id begins with {text}. `batchmill ls` lists the jobs.")
    if len(found) > 1:
        some = ", ".join(job.id for job in found[:3])
        raise Failure(f"{len(found)} jobs' ids begin with {text}: {some}. Give more of it.")
    return found[0]
