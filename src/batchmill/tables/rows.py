"""Which formats of tables there are, and what each promises: rows one by one in constant memory,
in their order, again and again the same."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final, Protocol

from batchmill.errors import UserError

Row = Mapping[str, Any]
"""A row by column. A column that is not there, and None, are a missing value."""

Names = tuple[str, ...]


class Format(StrEnum):
    CSV = "csv"
    TSV = "tsv"
    JSON = "json"
    JSONL = "jsonl"
    PARQUET = "parquet"


_SUFFIXES: Final = {
    ".csv": Format.CSV,
    ".tsv": Format.TSV,
    ".tab": Format.TSV,
    ".json": Format.JSON,
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
    ".parquet": Format.PARQUET,
    ".pq": Format.PARQUET,
}


def format_of(name: str) -> Format | None:
    """The format that a file's name stands for, the packing of `.gz` aside."""
    path = PurePosixPath(name)
    suffix = PurePosixPath(path.stem).suffix if path.suffix == ".gz" else path.suffix
    return _SUFFIXES.get(suffix.lower())


class Table(Protocol):
    """A table in a file, read from its beginning each time it is asked."""

    def columns(self) -> Names:
        """All columns, in their order; reads the whole file where any row may have more."""

    def rows(self, only: Collection[str] = ()) -> Iterator[Row]:
        """Every row, of which nobody needs other columns than `only`, where some are named. Raises
        `UserError` with the line or row that cannot be read."""


class Content(StrEnum):
    """What stands in a column that is added."""

    TEXT = "text"
    VECTOR = "vector"
    COUNTS = "counts"


@dataclass(frozen=True, slots=True)
class Added:
    """A column that is added to a table."""

    name: str
    content: Content = Content.TEXT


class RowWriter(Protocol):
    """A table being written anew with more columns: it reads the rows itself, one for each."""

    def add(self, values: Row) -> None:
        """Append the table's next row with these values in the columns that are added."""

    def close(self) -> None:
        """Every row has its values."""


def open_table(path: Path, format: Format, shown: str) -> Table:
    """The table in a file, which messages call `shown`. Raises `UserError` where an extra is
    missing or the file is none of that format."""
    from batchmill.tables.delimited import DelimitedTable  # noqa: PLC0415 - they import this
    from batchmill.tables.jsonrows import JsonArray, JsonLines  # noqa: PLC0415

    match format:
        case Format.CSV:
            return DelimitedTable(path, shown, ",")
        case Format.TSV:
            return DelimitedTable(path, shown, "\t")
        case Format.JSON:
            return JsonArray(path, shown)
        case Format.JSONL:
            return JsonLines(path, shown)
        case Format.PARQUET:
            from batchmill.tables.parquet import ParquetTable, library  # noqa: PLC0415

            return ParquetTable(library(), path, shown)


def open_writer(sink: BinaryIO, format: Format, table: Table, added: Sequence[Added]) -> RowWriter:
    """A writer of the table's columns and those that are added, in the columns' order."""
    from batchmill.tables.delimited import DelimitedWriter  # noqa: PLC0415 - they import this
    from batchmill.tables.jsonrows import JsonArrayWriter, JsonLinesWriter  # noqa: PLC0415

    names = [column.name for column in added]
    match format:
        case Format.CSV:
            return DelimitedWriter(sink, table, names, ",")
        case Format.TSV:
            return DelimitedWriter(sink, table, names, "\t")
        case Format.JSON:
            return JsonArrayWriter(sink, table)
        case Format.JSONL:
            return JsonLinesWriter(sink, table)
        case Format.PARQUET:
            from batchmill.tables.parquet import library, open_parquet_writer  # noqa: PLC0415

            return open_parquet_writer(library(), sink, table, added)


def unreadable(shown: str, place: str, problem: str) -> UserError:
    """What is said of a table that cannot be read at some place in it."""
    return UserError(f"{shown}, {place}: {problem}")
