"""JSON: an array of objects, or one object on each line. Rows may have columns of their own."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from batchmill.tables.rows import Names, Row, Table, unreadable

READ_CHARACTERS: Final = 1024 * 1024
MOST_ROW_CHARACTERS: Final = 256 * 1024 * 1024
Reading = Callable[[int], str]
_SPACE: Final = " \t\r\n"
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")
_ROW = msgspec.json.Decoder(dict[str, object])
_encode = msgspec.json.Encoder().encode


def _all_columns(rows: Iterator[Row]) -> Names:
    """The columns of all rows, as they first come."""
    names: dict[str, None] = {}
    for row in rows:
        if not names.keys() >= row.keys():
            names |= dict.fromkeys(row)
    return tuple(names)


class JsonLines:
    """One object on each line; blank lines are passed over."""

    def __init__(self, path: Path, shown: str) -> None:
        self._path, self._shown = path, shown

    def columns(self) -> Names:
        return _all_columns(self.rows())

    def rows(self, only: Collection[str] = ()) -> Iterator[Row]:  # noqa: ARG002 - read anyway
        with self._path.open("rb") as file:
            for number, line in enumerate(file, 1):
                text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
                if not text.strip():
                    continue
                try:
                    yield _ROW.decode(text)
                except (ValueError, RecursionError) as error:
                    problem = f"this is no JSON object: {error}."
                    raise unreadable(self._shown, f"line {number}", problem) from error


class JsonArray:
    """An array of objects, read one after the other."""

    def __init__(self, path: Path, shown: str) -> None:
        self._path, self._shown = path, shown

    def columns(self) -> Names:
        return _all_columns(self.rows())

    def rows(self, only: Collection[str] = ()) -> Iterator[Row]:  # noqa: ARG002 - read anyway
        with self._path.open(encoding="utf-8-sig", newline="") as file:
            try:
                for number, value in enumerate(_values(file.read), 1):
                    if not isinstance(value, dict):
                        raise unreadable(self._shown, f"row {number}", "this is no object.")
                    yield value
            except _BrokenError as error:
                raise unreadable(self._shown, f"after row {error.rows}", str(error)) from error
            except UnicodeDecodeError as error:
                raise unreadable(self._shown, "somewhere in it", "this is not UTF-8.") from error


class _BrokenError(Exception):
    """The text is not an array; so many values of it could be read."""

    def __init__(self, rows: int, message: str) -> None:
        super().__init__(message)
        self.rows = rows


def _values(read: Reading) -> Iterator[object]:
    """The values of an array, of which no more is held than a value and a piece."""
    text = _Text(read)
    if text.next_character() != "[":
        raise _BrokenError(0, "the file should be an array of objects: [{...}, ...].")
    text.at += 1
    rows = 0
    while (character := text.next_character()) != "]":
        if rows:
            if character != ",":
                raise _BrokenError(rows, "a comma or the end of the array should follow.")
            text.at += 1
            text.next_character()
        yield text.value(rows)
        rows += 1
    text.at += 1
    if text.next_character():
        raise _BrokenError(rows, "something follows the end of the array.")


class _Text:
    """A window on a text that is read on when it is needed."""

    def __init__(self, read: Reading) -> None:
        self._read, self._text, self.at = read, "", 0
        self._decoder = json.JSONDecoder()

    def next_character(self) -> str:
        """The next character that is not white space, where `at` then is; empty at the end."""
        while True:
            while self.at < len(self._text) and self._text[self.at] in _SPACE:
                self.at += 1
            if self.at < len(self._text) or not self._more():
                return self._text[self.at : self.at + 1]

    def value(self, rows: int) -> object:
        """The value that begins at `at`."""
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self.at)
            except (ValueError, RecursionError) as error:
                if self._is_long() or not self._more():
                    raise _BrokenError(rows, f"this is not valid JSON: {error}.") from error
                continue
            if end < len(self._text) or not self._more():
                self._refuse_halves(value, end, rows)
                self.at = end
                return value

    def _refuse_halves(self, value: object, end: int, rows: int) -> None:
        """JSON can write half of a surrogate pair, which UTF-8 cannot hold."""
        if _SURROGATE.search(self._text, self.at, end) is None:
            return
        try:
            _encode(value)
        except UnicodeEncodeError as error:
            message = "half of a surrogate pair (\\ud800 to \\udfff) is no character; take it out."
            raise _BrokenError(rows, message) from error

    def _is_long(self) -> bool:
        return len(self._text) - self.at > MOST_ROW_CHARACTERS

    def _more(self) -> bool:
        """Read on, as much again as is left, so that a long value is not tried too often."""
        left = self._text[self.at :]
        piece = self._read(max(READ_CHARACTERS, len(left)))
        self._text, self.at = left + piece, 0
        return bool(piece)


class JsonLinesWriter:
    """One object on each line."""

    def __init__(self, sink: BinaryIO, table: Table) -> None:
        self._sink, self._rows = sink, table.rows()

    def add(self, values: Row) -> None:
        self._sink.write(_encode({**next(self._rows), **values}) + b"\n")

    def close(self) -> None:
        return


class JsonArrayWriter:
    """An array with one object on each line."""

    def __init__(self, sink: BinaryIO, table: Table) -> None:
        self._sink, self._rows, self._before = sink, table.rows(), b"[\n"

    def add(self, values: Row) -> None:
        self._sink.write(self._before + _encode({**next(self._rows), **values}))
        self._before = b",\n"

    def close(self) -> None:
        self._sink.write(b"[]\n" if self._before == b"[\n" else b"\n]\n")
