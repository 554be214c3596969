"""How many workers there should be, by the lines that have no outcome yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from batchmill.errors import ConfigError, Problem

LINES_PER_WORKER: Final = 20_000
QUIET_SECONDS: Final = 60.0
"""A worker is taken away when it was not needed for so long."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many workers there may be, and how many open lines each is for."""

    min_workers: int
    max_workers: int
    lines_per_worker: int = LINES_PER_WORKER

    def __post_init__(self) -> None:
        if not 0 <= self.min_workers <= self.max_workers or self.lines_per_worker < 1:
            message = "min_workers should be 0 or more, max_workers not less, lines_per_worker 1"
            raise ConfigError([Problem("workers", f"{message} or more")])

    def wanted(self, open_lines: int) -> int:
        """The workers that such a backlog asks for."""
        asked = -(-open_lines // self.lines_per_worker)
        return max(self.min_workers, min(self.max_workers, asked))


@dataclass(slots=True)
class Scaler:
    """The size of the crew: up at once, down when fewer were enough for `quiet_seconds`."""

    bounds: Bounds
    quiet_seconds: float = QUIET_SECONDS
    _size: int = 0
    _ample_since: float | None = None

    def size(self, open_lines: int, now: float) -> int:
        """How many workers there should be now."""
        wanted = self.bounds.wanted(open_lines)
        if wanted >= self._size:
            self._size, self._ample_since = wanted, None
        elif self._ample_since is None:
            self._ample_since = now
        elif now - self._ample_since >= self.quiet_seconds:
            self._size, self._ample_since = wanted, None
        return self._size
