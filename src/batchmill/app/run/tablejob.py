"""A table as the input of a run: its rows become lines, and its answers come back beside them.

A copy of the table is kept in the state directory: results join the rows that were asked, whatever
becomes of the file meanwhile. With `retry`, rows whose answer is bad are asked again by further
jobs over the same rows; the last answer of a row is the one that counts.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from batchmill.app.run.intake import write_lines
from batchmill.app.run.results import lines
from batchmill.app.run.sources import Origin, measure, pieces, plain_file, shown_input
from batchmill.app.run.tablewanted import TableWanted
from batchmill.app.run.targets import Target
from batchmill.errors import UserError
from batchmill.model import File, Job
from batchmill.ports import Blobs, Ledger
from batchmill.tables.answers import Answer, Reader, Standing, check_by, number_of
from batchmill.tables.policies import OnBadAnswer
from batchmill.tables.requests import Asking
from batchmill.tables.result import added_to, values_of
from batchmill.tables.rows import Format, RowWriter, Table, open_table, open_writer

PIECE_BYTES: Final = 1024 * 1024
WRITE_BYTES: Final = 256 * 1024
_FOUND_LATE: Final = {(Format.PARQUET, each) for each in Format if each is not Format.PARQUET}
"""From one format to another, where columns that nobody asked about are first read as results are
written: too late to say that one cannot be."""


@dataclass(frozen=True, slots=True)
class TableJob:
    """One table of one run, whose copy is at `copy`."""

    wanted: TableWanted
    asking: Asking
    place: str
    copy: Path
    reader: Reader

    @classmethod
    def of(cls, wanted: TableWanted, place: str, endpoint: str | None, copy: Path) -> TableJob:
        """Raises `UserError` where something asked for cannot be."""
        asking = wanted.asking(endpoint)
        check = None if wanted.schema is None else check_by(wanted.schema)
        return cls(wanted, asking, place, copy, Reader(asking.endpoint, check))

    def check_in_place(self) -> None:
        """Look at the table where it lies, if it is a file that need not be unpacked, before
        anything is thrown away for it. Raises `UserError` as `take_in` does."""
        if (path := plain_file(self.place)) is not None:
            self._check_columns(path)

    async def take_in(self, ledger: Ledger, blobs: Blobs) -> tuple[File, Origin]:
        """Copy the table and write the lines of its rows. Raises `UserError` where it cannot be
        read, or the prompt names a column that it does not have."""
        size_bytes, modified_ns = await asyncio.to_thread(measure, self.place)
        sha256 = await asyncio.to_thread(_copy, self.place, self.copy)
        await asyncio.to_thread(self._check_columns, self.copy)
        file, _ = await write_lines(self._pieces(None), shown_input(self.place), ledger, blobs)
        if not file.lines:
            raise UserError(f"{shown_input(self.place)} has no rows.")
        return file, Origin.of(self.place, sha256, size_bytes, modified_ns)

    async def again(self, jobs: Sequence[Job], ledger: Ledger, blobs: Blobs) -> File | None:
        """The lines of the rows that are to be asked again after these jobs, if any."""
        bad = await self._to_ask(jobs, ledger, blobs)
        if bad is None:
            return None
        file, _ = await write_lines(self._pieces(bad), shown_input(self.place), ledger, blobs)
        return file

    async def has_more(self, jobs: Sequence[Job], ledger: Ledger, blobs: Blobs) -> bool:
        """Whether rows are to be asked again after these jobs."""
        return await self._to_ask(jobs, ledger, blobs) is not None

    async def _to_ask(self, jobs: Sequence[Job], ledger: Ledger, blobs: Blobs) -> bytearray | None:
        if self.wanted.on_bad_answer is not OnBadAnswer.RETRY or len(jobs) >= self.wanted.tries:
            return None
        bad = await self._bad(jobs[-1], jobs[0].total, ledger, blobs)
        return bad if any(bad) else None

    async def hand_out(
        self, jobs: Sequence[Job], target: Target, ledger: Ledger, blobs: Blobs
    ) -> Counter[Standing]:
        """Write the table with its answers; how many rows stand how."""
        table = self._table()
        added = await asyncio.to_thread(added_to_table, table, self.asking.endpoint)
        sink = _Sink(target)
        format_ = self.wanted.output_format
        try:
            writer = await asyncio.to_thread(
                open_writer, cast("BinaryIO", sink), format_, table, added
            )
            tally: Counter[Standing] = Counter()
            async with aclosing(_merged(jobs, ledger, blobs)) as batches:
                async for batch in batches:
                    await asyncio.to_thread(self._add, batch, writer, added, tally)
            await asyncio.to_thread(writer.close)
            sink.flush()
            await asyncio.to_thread(target.finish)
        finally:
            target.abort()
        return tally

    def has_errors(self, tally: Mapping[Standing, int]) -> bool:
        """Whether answers that are bad count as errors, and there are some."""
        is_kept = self.wanted.on_bad_answer is OnBadAnswer.KEEP
        return not is_kept and any(tally[standing] for standing in tally if standing.is_bad)

    def _add(
        self, batch: Sequence[_Results], writer: RowWriter, added: Any, tally: Counter[Standing]
    ) -> None:
        for results in batch:
            answer = self._best(results)
            tally[answer.status] += 1
            if answer.status.is_bad and self.wanted.on_bad_answer is not OnBadAnswer.KEEP:
                answer = _as_error(answer)
            writer.add(values_of(answer, added))

    def _best(self, results: _Results) -> Answer:
        """The last answer that came; one that only failed later does not take its place."""
        answers = [self.reader.read(line, results.number) for line in results.lines]
        came = [answer for answer in answers if answer.status is not Standing.FAILED]
        return (came or answers)[-1]

    async def _bad(self, job: Job, rows: int, ledger: Ledger, blobs: Blobs) -> bytearray:
        """A byte for each row, 1 where its answer in that job is bad."""
        bad = bytearray(rows + 1)

        def look(batch: Sequence[bytes]) -> None:
            for line in batch:
                if self.reader.read(line, 0).status.is_bad:
                    bad[number_of(line)] = 1

        async with aclosing(lines(job.id, ledger, blobs)) as batches:
            async for batch in batches:
                await asyncio.to_thread(look, batch)
        return bad

    def _table(self) -> Table:
        return self._table_at(self.copy)

    def _table_at(self, path: Path) -> Table:
        return open_table(path, self.wanted.input_format, shown_input(self.place))

    def _check_columns(self, path: Path) -> None:
        table = self._table_at(path)
        columns = table.columns()
        for option, its in (("--prompt", self.asking.prompt), ("--system", self.asking.system)):
            if its is not None and (wrong := its.complaint(columns)) is not None:
                raise UserError(f"{option} {wrong}")
        if (self.wanted.input_format, self.wanted.output_format) in _FOUND_LATE:
            try:
                for _ in table.rows():
                    pass
            except UserError as error:
                next_step = "Write Parquet, which keeps columns as they are, or take it out."
                raise UserError(f"{error} {next_step}") from error

    def _pieces(self, only: bytearray | None) -> Iterator[bytes]:
        """The lines of the rows, of all or of those marked, about a megabyte at a time."""
        held: list[bytes] = []
        held_bytes = 0
        for number, row in enumerate(self._table().rows(self.asking.columns), 1):
            if only is not None and not only[number]:
                continue
            held.append(self.asking.line(number, row))
            held_bytes += len(held[-1])
            if held_bytes >= PIECE_BYTES:
                yield b"".join(held)
                held, held_bytes = [], 0
        if held:
            yield b"".join(held)


def added_to_table(table: Table, endpoint: str) -> Any:
    """The columns that answers add to it."""
    return added_to(table.columns(), endpoint)


@dataclass(frozen=True, slots=True)
class _Results:
    """The result lines of one row, the latest last."""

    number: int
    lines: tuple[bytes, ...]


async def _merged(
    jobs: Sequence[Job], ledger: Ledger, blobs: Blobs
) -> AsyncGenerator[list[_Results], None]:
    """The results of every row of the first job, with what later jobs brought of it."""
    later = [_Later(lines(job.id, ledger, blobs)) for job in jobs[1:]]
    number = 0
    async for batch in lines(jobs[0].id, ledger, blobs):
        known = [await each.up_to(number + len(batch)) for each in later]
        found = []
        for line in batch:
            number += 1
            more = tuple(each[number] for each in known if number in each)
            found.append(_Results(number, (line, *more)))
        yield found


class _Later:
    """The results of a job over some of the rows, taken along as the rows go by."""

    def __init__(self, batches: AsyncIterator[list[bytes]]) -> None:
        self._batches = batches
        self._held: dict[int, bytes] = {}
        self._ended = False

    async def up_to(self, number: int) -> dict[int, bytes]:
        """Those of rows up to that number that were not given before."""
        while not self._ended and not any(each > number for each in self._held):
            batch = await anext(self._batches, None)
            self._ended = batch is None
            self._held |= {number_of(line): line for line in batch or ()}
        given = {n: line for n, line in self._held.items() if n <= number}
        self._held = {n: line for n, line in self._held.items() if n > number}
        return given


def _as_error(answer: Answer) -> Answer:
    """A bad answer that counts as none; the beginning of it stays to be seen."""
    shown_text = str(answer.response or "")[:200]
    error = f"{answer.status.value}: {answer.error}" + (f": {shown_text}" if shown_text else "")
    return Answer(answer.number, answer.status, None, error, answer.usage)


class _Sink:
    """A target as a file that is only written to, some of it at once."""

    closed = False

    def __init__(self, target: Target) -> None:
        self._target = target
        self._held: list[bytes] = []
        self._held_bytes = self._at = 0

    def write(self, data: bytes) -> int:
        data = bytes(data)
        self._held.append(data)
        self._held_bytes += len(data)
        self._at += len(data)
        if self._held_bytes >= WRITE_BYTES:
            self.flush()
        return len(data)

    def flush(self) -> None:
        self._target.write(b"".join(self._held))
        self._held, self._held_bytes = [], 0

    def tell(self) -> int:
        return self._at

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def close(self) -> None:
        return


def _copy(place: str, copy: Path) -> str:
    """Copy the table durably; its SHA-256."""
    digest = hashlib.sha256()
    with copy.open("wb") as file:
        for piece in pieces(place):
            digest.update(piece)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()
