"""A file on its way to the server, shown as it goes."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, Final, cast

from batchmill.cli import words
from batchmill.cli.checks import LocalFile
from batchmill.cli.progressbar import ProgressBar, Standing
from batchmill.clock import SystemClock

LARGE_BYTES: Final = 20_000_000
"""Smaller ones are sent before anybody wonders."""


@contextmanager
def shown_while_read(file: LocalFile) -> Iterator[BinaryIO]:
    """The file's content, whose reading moves a progress bar where it is large."""
    if file.size_bytes < LARGE_BYTES:
        yield file.content
        return
    clock, whole = SystemClock(), file.size_bytes
    said = f"uploading {words.size(whole)}"
    with ProgressBar() as bar:

        def on_read(at: int) -> None:
            bar.show(Standing(said, whole // 1000, at // 1000), clock.boot())

        with _Watched(file.content, on_read) as content:
            yield cast("BinaryIO", content)


class _Watched(io.BufferedReader):
    """A file that tells how much of it was read."""

    def __init__(self, content: BinaryIO, on_read: Callable[[int], None]) -> None:
        super().__init__(io.FileIO(os.dup(content.fileno())))
        self._on_read = on_read

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self._on_read(self.tell())
        return data
