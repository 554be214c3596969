"""A file of lines on this machine, checked as the server would check it."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from batchmill.cli.exits import Failure

if TYPE_CHECKING:
    from batchmill.core.checking import Checked

STDIN: Final = "-"
CHUNK_BYTES: Final = 96 * 1024
MAX_LINE_BYTES: Final = 10_000_000
CHAT: Final = "/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file that can be read more than once, and what its lines look like by the first of them.

    `is_openai`: lines say where they go (method, url), and name their model.
    """

    name: str
    content: BinaryIO
    size_bytes: int
    is_openai: bool
    endpoint: str | None


@contextmanager
def opened(path: str) -> Iterator[LocalFile]:
    """The file, or all of standard input. Raises `Failure` where it cannot be read or is empty."""
    from batchmill.client import sources  # noqa: PLC0415 - help is there at once

    with _readable(path) as (name, content), sources.lines_of(content, name) as lines:
        size_bytes = content.seek(0, 2)
        if not size_bytes:
            raise Failure(f"{name} is empty; it should hold one request a line.")
        url = lines.first.get("url")
        endpoint = url if isinstance(url, str) else None
        yield LocalFile(name, content, size_bytes, lines.is_openai, endpoint)


@contextmanager
def _readable(path: str) -> Iterator[tuple[str, Any]]:
    if path != STDIN:
        try:
            content = Path(path).open("rb")  # noqa: SIM115 - closed below
        except OSError as error:
            raise Failure(f"{path} cannot be read: {error.strerror}.") from error
        with content:
            if content.seekable():
                yield Path(path).name, content
            else:
                with _kept(content) as spooled:
                    yield Path(path).name, spooled
        return
    with _kept(sys.stdin.buffer) as spooled:
        yield "stdin.jsonl", spooled


@contextmanager
def _kept(content: BinaryIO) -> Iterator[Any]:
    """What can only be read once, as a file."""
    with tempfile.TemporaryFile() as spooled:
        shutil.copyfileobj(content, spooled)
        yield spooled


def check(
    file: LocalFile, endpoint: str | None, on_bytes: Callable[[int], None] | None = None
) -> Checked:
    """Judge every line by the server's own code. Which models are served only the server knows;
    every name passes."""
    from batchmill.core.checking import Checking  # noqa: PLC0415 - help is there at once
    from batchmill.core.decode import NEEDS_MESSAGES, LineForm  # noqa: PLC0415

    asked = endpoint or file.endpoint or CHAT
    checking = Checking(
        LineForm(
            endpoint=asked,
            names_url=file.is_openai,
            names_model=file.is_openai,
            needs_messages=file.is_openai and asked == NEEDS_MESSAGES,
            can_serve=lambda _: True,
            max_line_bytes=MAX_LINE_BYTES,
        )
    )
    for chunk in _chunks(file.content):
        checking.feed(chunk)
        if on_bytes is not None:
            on_bytes(len(chunk))
    checking.finish()
    if hashes := checking.may_repeat():
        checking.find_repeats(_chunks(file.content), hashes)
    return checking.checked


def _chunks(content: BinaryIO) -> Iterator[bytes]:
    content.seek(0)
    while chunk := content.read(CHUNK_BYTES):
        yield chunk
