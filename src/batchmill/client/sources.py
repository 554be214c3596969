"""What a job is made of: a path, bytes, an open file or rows, as a file of lines."""

from __future__ import annotations

import io
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import msgspec

from batchmill.client.errors import Unreadable

Row = Mapping[str, Any]
Source = str | os.PathLike[str] | bytes | BinaryIO | Iterable[Row]
"""A path or the id of an uploaded file; the bytes of one; or rows, each a line (`custom_id`,
`body`, ...) or the body of one."""

FILE_ID: Final = re.compile(r"(file-[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})")
_HELD_BYTES: Final = 4_000_000
_LONGEST_LINE: Final = 64_000_000
_BOM: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Lines:
    """A file of lines; `first` is the first of them, as far as it can be read."""

    name: str
    content: BinaryIO
    first: Row

    @property
    def is_openai(self) -> bool:
        """Whether its lines say where they go, as OpenAI's do."""
        return "url" in self.first or "method" in self.first

    def models(self) -> set[str | None]:
        """The models that lines name, None for those that name none; stops at two."""
        self.content.seek(0)
        found: set[str | None] = set()
        for line in self.content:
            body = _object(line).get("body") if line.strip() else None
            if isinstance(body, Mapping):
                model = body.get("model")
                found.add(model if isinstance(model, str) else None)
                if len(found) > 1:
                    break
        return found


def file_id(source: object) -> str | None:
    """The id of an uploaded file, where that is what was given, and no path."""
    if isinstance(source, str) and FILE_ID.fullmatch(source) and not Path(source).exists():
        return source
    return None


@contextmanager
def lines_of(source: Source, name: str | None = None) -> Iterator[Lines]:
    """The source as a file that can be read more than once. Raises `Unreadable`."""
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        try:
            with path.open("rb") as content:
                yield Lines(name or path.name, content, _first(content))
        except OSError as error:
            raise Unreadable(f"{path} cannot be read: {error.strerror}.") from error
    elif isinstance(source, bytes):
        held = io.BytesIO(source)
        yield Lines(name or "lines.jsonl", held, _first(held))
    elif isinstance(source, io.BufferedIOBase | io.RawIOBase):
        opened = cast("BinaryIO", source)
        yield Lines(name or "lines.jsonl", opened, _first(opened))
    else:
        with tempfile.SpooledTemporaryFile(_HELD_BYTES) as spooled:
            _write(cast("Iterable[Row]", source), spooled)
            yield Lines(name or "rows.jsonl", spooled, _first(spooled))  # type: ignore[arg-type]


def _write(rows: Iterable[Row], into: Any) -> None:
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise Unreadable(f"Row {number} is {type(row).__name__}; a row must be a dict.")
        is_line = isinstance(row.get("body"), Mapping)
        line: dict[str, Any] = dict(row) if is_line else {"body": dict(row)}
        line.setdefault("custom_id", str(number))
        try:
            into.write(msgspec.json.encode(line) + b"\n")
        except (TypeError, ValueError) as error:
            raise Unreadable(f"Row {number} cannot be written as JSON: {error}.") from None


def _first(content: BinaryIO) -> Row:
    """The first line that is not blank."""
    content.seek(0)
    for _ in range(1000):
        line = content.readline(_LONGEST_LINE)
        if not line or line.strip():
            return _object(line)
    return {}


def _object(line: bytes) -> Row:
    try:
        value = msgspec.json.decode(line.removeprefix(_BOM))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
