"""Which jobs gain from more open shards: those whose prompt prefixes stand in many of them.

Lines with a common prefix that wait here together are computed once between them. Where all lines
of a job share one prefix, or none two, one open shard is as good as many. Pure but for its own
state.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from batchmill.model import JobId

GAIN = 0.02
"""More shards are opened while they spare so large a share of the lines a prefix of their own."""
FEW = 4
"""So few prefixes stay in an engine's cache from one shard to the next."""
MOST_PREFIXES = 4096
"""So many prefixes of a job and level are remembered; then it begins anew."""
JOBS = 16
"""Of so many jobs, those that came last."""

_LEVELS = (4, 6, 8)
"""How many bytes of a key are compared: two levels of it and more. Two bytes alone are equal by
chance too often."""


@dataclass(slots=True)
class _Level:
    """The prefixes of one length: those seen so far, and how large a share of the newest shard's
    lines began with one of an earlier shard's."""

    seen: set[bytes] = field(default_factory=set)
    shared: float = 0.0

    def opened(self, keys: Sequence[bytes], length: int) -> bool:
        """Take note of a shard's keys; whether any two have this prefix in common."""
        prefixes = {key[:length] for key in keys}
        found = len(prefixes & self.seen)
        if not self.seen:  # as far as one shard tells
            found = min(len(prefixes), len(keys) - len(prefixes))
        self.shared = found / len(keys) if found > FEW else 0.0
        if len(self.seen) > MOST_PREFIXES:
            self.seen.clear()
        self.seen |= prefixes
        return found > 0 or len(prefixes) < len(keys)


class Spread:
    """How the prompt prefixes of each job are spread over its shards."""

    def __init__(self) -> None:
        self._jobs: dict[JobId, tuple[_Level, ...]] = {}

    def opened(self, job: JobId, keys: Sequence[bytes]) -> None:
        """A shard was opened whose lines have these keys."""
        if job not in self._jobs:
            if len(self._jobs) >= JOBS:
                del self._jobs[next(iter(self._jobs))]
            self._jobs[job] = tuple(_Level() for _ in _LEVELS)
        is_shared = len(keys) > 0
        for level, length in zip(self._jobs[job], _LEVELS, strict=True):
            if is_shared:
                is_shared = level.opened(keys, length)
            else:  # nor any longer one
                level.shared = 0.0

    def gains(self, job: JobId, lines: int) -> bool:
        """Whether opening more than so many lines spares the engine prefixes."""
        return any(
            min(level.shared, len(level.seen) / max(1, lines)) >= GAIN
            for level in self._jobs.get(job, ())
        )

    def keep(self, jobs: Collection[JobId]) -> None:
        """Forget all other jobs."""
        self._jobs = {job: levels for job, levels in self._jobs.items() if job in jobs}
