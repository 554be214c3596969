"""Handing out what came of a job: to files that are there whole or not at all, to a pipe, or to a
URL."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from batchmill.app.run.claims import Claims
from batchmill.app.run.puts import put
from batchmill.app.run.results import lines, side
from batchmill.app.run.tablejob import TableJob
from batchmill.app.run.targets import (
    FileTarget,
    Target,
    check_writable,
    file_of,
    is_url,
    shown,
    target_of,
)
from batchmill.app.run.wanted import STANDARD, Wanted
from batchmill.errors import UserError
from batchmill.model import Job, Stream
from batchmill.ports import Blobs, Ledger
from batchmill.tables.answers import Standing

WRITE_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Places:
    """Where the two sides of the results go; `errors` None: to the same place, in input order."""

    output: str
    errors: str | None

    @classmethod
    def of(cls, wanted: Wanted) -> Places:
        """Failed lines go beside an output that is a file, else into it; a table holds all."""
        output, errors = wanted.output, wanted.errors
        if wanted.table is not None:
            return cls(output, None)
        if errors is None:
            path = file_of(output)
            beside = None if path is None else str(path.with_suffix(f".errors{path.suffix}"))
            return cls(output, beside)
        return cls(output, None if _same(errors, output) else errors)

    @property
    def all(self) -> tuple[str, ...]:
        return (self.output,) if self.errors is None else (self.output, self.errors)

    def check(self, wanted: Wanted) -> None:
        """Raise `UserError` where results could not be written, or would replace the input."""
        for place in self.all:
            check_writable(place)
            if wanted.input != STANDARD and _same(place, wanted.input):
                raise UserError(f"{place} is the input; name another file for the results.")

    def refuse_overwriting(self, claims: Claims) -> None:
        """Raise `WouldReplace` where a file of somebody else's would be replaced or removed."""
        for place in self.all:
            claims.refuse_overwriting(place)


@dataclass(frozen=True, slots=True)
class HandedOut:
    """Where the results are, as people read it; None: there were none of that side."""

    output: str | None
    errors: str | None
    standing: Mapping[Standing, int] = field(default_factory=dict)
    """How many rows of a table stand how."""
    has_errors: bool = False
    """Whether bad answers of a table count as errors."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """How results get to their places. `spool` is a file that may be written on the way to a URL;
    files are refused and noted by `claims`."""

    spool: Path
    claims: Claims

    async def target(self, place: str) -> Target:
        """What takes the bytes for that place."""
        if is_url(place):
            return FileTarget(self.spool)
        return await target_of(place, partial(self.claims.take, place))

    async def send_off(self, place: str) -> None:
        """All has been written: what lies in the spool goes to its URL."""
        if is_url(place):
            await asyncio.to_thread(put, place, self.spool)

    async def deliver(self, place: str, chunks: AsyncIterator[bytes]) -> None:
        """Write the chunks to their place, in a thread: a pipe's reader may take its time."""
        await write_all(await self.target(place), chunks)
        await self.send_off(place)

    def remove(self, place: str) -> None:
        """No line failed: the error file of an earlier run, that may be replaced, says
        otherwise."""
        self.claims.refuse_overwriting(place)
        path = file_of(place)
        if path is not None:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()


async def hand_out_table(
    table: TableJob,
    jobs: Sequence[Job],
    place: str,
    stores: tuple[Ledger, Blobs],
    delivery: Delivery,
) -> HandedOut:
    """Write the table with its answers."""
    tally = await table.hand_out(jobs, await delivery.target(place), *stores)
    await delivery.send_off(place)
    return HandedOut(shown(place), None, tally, table.has_errors(tally))


async def hand_out(
    job: Job, places: Places, ledger: Ledger, blobs: Blobs, delivery: Delivery
) -> HandedOut:
    """Write both sides of the results; a side that is empty leaves an empty output, or no error
    file."""
    if places.errors is None:
        await delivery.deliver(places.output, _joined(lines(job.id, ledger, blobs)))
        return HandedOut(shown(places.output), None)
    if job.failed:
        await delivery.deliver(places.errors, side(job.id, Stream.ERR, ledger, blobs))
    else:
        delivery.remove(places.errors)
    await delivery.deliver(places.output, side(job.id, Stream.OUT, ledger, blobs))
    return HandedOut(shown(places.output), shown(places.errors) if job.failed else None)


async def _joined(batches: AsyncIterator[list[bytes]]) -> AsyncIterator[bytes]:
    async for batch in batches:
        yield b"".join(batch)


async def write_all(target: Target, chunks: AsyncIterator[bytes]) -> None:
    """Write the chunks and make them durable; nothing is left of what could not be."""
    try:
        async for chunk in chunks:
            await asyncio.to_thread(target.write, chunk)
        await asyncio.to_thread(target.finish)
    finally:
        target.abort()


def _same(one: str, other: str) -> bool:
    if one == other:
        return True
    paths = file_of(one), file_of(other)
    return None not in paths and paths[0].resolve() == paths[1].resolve()  # type: ignore[union-attr]
