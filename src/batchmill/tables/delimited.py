"""CSV and TSV, by the standard library: quotes, line breaks in fields, a BOM, any length of field.

The first line names the columns. A field that is empty is the empty text; in the results a missing
value is written as one. Bytes that are not UTF-8 are an error with their line, never guessed at.
Lines are read with any ending and written with a line feed; a field with a line break or a
carriage return stands in quotes, so that it is read back as the same field.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from batchmill.errors import UserError
from batchmill.tables.rows import Names, Row, Table, unreadable

MOST_FIELD_BYTES: Final = 64 * 1024 * 1024
"""A longer field is an unclosed quote rather than a text."""
WRITE_CHARACTERS: Final = 256 * 1024
_ENDING: Final = "\r\n"


class DelimitedTable:
    """A table whose lines are rows and whose fields stand between delimiters."""

    def __init__(self, path: Path, shown: str, delimiter: str) -> None:
        self._path, self._shown, self._delimiter = path, shown, delimiter
        csv.field_size_limit(MOST_FIELD_BYTES)

    def columns(self) -> Names:
        with self._opened() as file:
            return self._head(csv.reader(file, delimiter=self._delimiter, strict=True))

    def rows(self, only: Collection[str] = ()) -> Iterator[Row]:  # noqa: ARG002 - read anyway
        with self._opened() as file:
            reader = csv.reader(file, delimiter=self._delimiter, strict=True)
            names = self._head(reader)
            try:
                for fields in reader:
                    if len(fields) == len(names):
                        yield dict(zip(names, fields, strict=True))
                    elif fields:
                        raise self._uneven(reader.line_num, len(fields), names)
            except (csv.Error, UnicodeDecodeError) as error:
                raise self._broken(reader.line_num + 1, error) from error

    def _opened(self) -> io.TextIOWrapper:
        return io.TextIOWrapper(self._path.open("rb"), encoding="utf-8-sig", newline="")

    def _head(self, reader: Iterator[list[str]]) -> Names:
        try:
            names = next((fields for fields in reader if fields), None)
        except (csv.Error, UnicodeDecodeError) as error:
            raise self._broken(1, error) from error
        if names is None:
            raise UserError(f"{self._shown} is empty; its first line should name the columns.")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise unreadable(self._shown, "line 1", f"two columns are named {twice[0]!r}.")
        return tuple(names)

    def _uneven(self, line: int, found: int, names: Names) -> UserError:
        return unreadable(
            self._shown,
            f"line {line}",
            f"there are {found} fields where the first line names {len(names)} columns; a text "
            "with a delimiter in it stands in quotes.",
        )

    def _broken(self, line: int, error: Exception) -> UserError:
        if isinstance(error, UnicodeDecodeError):
            problem = "this is not UTF-8; convert the file, as with iconv -f latin1 -t utf-8."
            return unreadable(self._shown, f"at or after line {line}", problem)
        if "field larger" in str(error) or "unexpected end" in str(error):
            problem = "a field begins with a quote that is never closed."
        else:
            problem = f"{error}."
        return unreadable(self._shown, f"at or before line {line}", problem)


class DelimitedWriter:
    """Writes rows under a line of names; what is no text stands there as JSON."""

    def __init__(self, sink: BinaryIO, table: Table, added: Sequence[str], delimiter: str) -> None:
        self._sink, self._rows = sink, table.rows()
        self._names = (*table.columns(), *added)
        self._text, self._delimiter = io.StringIO(), delimiter
        self._write(self._names)

    def add(self, values: Row) -> None:
        row = {**next(self._rows), **values}
        self._write([as_field(row.get(name)) for name in self._names])
        if self._text.tell() >= WRITE_CHARACTERS:
            self._flush()

    def close(self) -> None:
        self._flush()

    def _write(self, fields: Sequence[str]) -> None:
        self._text.write(delimited_line(fields, self._delimiter) + "\n")

    def _flush(self) -> None:
        self._sink.write(self._text.getvalue().encode("utf-8", "replace"))
        self._text.seek(0)
        self._text.truncate()


def delimited_line(fields: Sequence[str], delimiter: str = ",") -> str:
    """The fields as a line without its ending."""
    line = io.StringIO()
    # Before Python 3.13 only those line breaks are quoted that the ending consists of.
    csv.writer(line, delimiter=delimiter, lineterminator=_ENDING).writerow(fields)
    return line.getvalue().removesuffix(_ENDING)


def as_field(value: object) -> str:
    """A value as the text of a field; missing: empty."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float | list | dict):
        return msgspec.json.encode(value).decode()
    return str(value)
