"""How processes speak to operators: structured logs on standard error, JSON unless a person reads.

Events are constants with fields: identifiers and counts, never bodies, prompts or keys.
"""

from __future__ import annotations

import contextlib
import logging
import select
import sys
from typing import TextIO, cast

import structlog
from structlog.typing import Processor

_PIECE_CHARACTERS = 1024
"""At most PIPE_BUF bytes: what a pipe takes at once where it says that it has room."""
_PATIENCE_MILLISECONDS = 100


class LossyText:
    """A text stream that drops what it cannot write: with a full disk under the log, or nobody
    reading it, the jobs go on. A reader that does not keep up is waited for once, and then no more
    until it reads again."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._stalled = stream, False

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            for at in range(0, len(text), _PIECE_CHARACTERS):
                if not self._has_room():
                    break
                self._stream.write(text[at : at + _PIECE_CHARACTERS])
                self._stream.flush()
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""

    def _has_room(self) -> bool:
        ready = select.poll()
        ready.register(self._stream, select.POLLOUT)
        self._stalled = not ready.poll(0 if self._stalled else _PATIENCE_MILLISECONDS)
        return not self._stalled


def configure_logs(process: str, level: int = logging.INFO) -> None:
    """Send this process's logs from that level on, and the warnings of the libraries it uses, to
    standard error."""
    shared: list[Processor] = [
        lambda _logger, _method, event: {"process": process, **event},
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    for_people = sys.stderr.isatty()
    stream = cast("TextIO", LossyText(sys.stderr))
    rendering: list[Processor] = (
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if for_people
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(level, logging.WARNING))
