"""The bytes of a file of the server, each once: read piece by piece in constant memory, and taken
up again where a stream broke. `reading.py` makes lines and results of them."""

from __future__ import annotations

import re
from typing import Any, Final

from batchmill.client.asking import pause, refusal
from batchmill.client.errors import Unreachable
from batchmill.client.jobs import FILES, quoted
from batchmill.client.steps import Close, Lost, Open, Pause, Read, Reply, Request, Steps, Stream

PATIENCE: Final = 8
"""How often in a row a stream may break without a byte in between."""

_PARTIAL: Final = 206
_RANGE: Final = re.compile(r"bytes\s+([0-9]{1,18})-", re.IGNORECASE)
_OTHER_BYTES: Final = Lost(
    "The rest of a file was asked for, and other bytes of it came. Is there a proxy before the "
    "server that does not know ranges?"
)
_TOO_SHORT: Final = Lost(
    "A file that was sent again from its beginning ended before the byte at which it had broken."
)


class Content:
    """The bytes of one file. Where a range is answered with the whole file, as by a proxy that does
    not know ranges, what was given already is left out."""

    def __init__(self, file: str) -> None:
        self._path = f"{FILES}/{quoted(file)}/content"
        self._at = self._again = self._breaks = 0
        self._stream: Stream | None = None

    def next(self) -> Steps[bytes | None]:
        """The next bytes, None after the last. Raises `Refused`, `Unreachable`."""
        while True:
            piece = yield from self._piece()
            if not isinstance(piece, Lost):
                self._at += len(piece or b"")
                self._breaks = 0 if piece else self._breaks
                return piece
            self._breaks += 1
            yield from self.close()
            if self._breaks == PATIENCE:
                raise Unreachable(piece.why)
            yield Pause(pause(self._breaks, piece))

    def close(self) -> Steps[None]:
        """Let go of the stream."""
        if self._stream is not None:
            yield Close(self._stream)
            self._stream = None

    def _piece(self) -> Steps[bytes | Lost | None]:
        """The next bytes that were not given yet; `Lost` also where a stream has not got them."""
        if self._stream is None:
            headers = {"range": f"bytes={self._at}-"} if self._at else {}
            self._stream = yield from open_stream(Request("GET", self._path, headers=headers))
            if self._stream is None:
                return None
            known = _known_bytes(self._stream, self._at)
            if known is None:
                return _OTHER_BYTES
            self._again = known
        while isinstance(piece := (yield Read(self._stream)), bytes):
            fresh = piece[self._again :]
            self._again -= len(piece) - len(fresh)
            if fresh:
                return fresh
        return _TOO_SHORT if piece is None and self._again else piece


def open_stream(request: Request) -> Steps[Any]:
    """A stream; None where a range begins at the file's end. Raises `Refused`, `Unreachable`."""
    for attempt in range(PATIENCE):
        opened = yield Open(request)
        if isinstance(opened, Reply):
            if opened.status == 416:
                return None
            if opened.status < 500 and opened.status != 429:
                raise refusal(opened)
        elif not isinstance(opened, Lost):
            return opened
        yield Pause(pause(attempt, opened))
    raise refusal(opened) if isinstance(opened, Reply) else Unreachable(opened.why)


def _known_bytes(stream: Stream, at: int) -> int | None:
    """How many bytes at the beginning of a stream stand before that place in the file; None where
    it is a part that begins elsewhere."""
    if stream.status != _PARTIAL:
        return at
    found = _RANGE.match(stream.headers.get("content-range", ""))
    return 0 if found is not None and int(found[1]) == at else None
