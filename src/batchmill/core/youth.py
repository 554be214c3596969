"""How many calls a worker that has just begun may have out at an engine: whoever is killed asks
again for all of them. Why it is so stands in `docs/decisions/0011-the-window.md`. Pure but for its
own state."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

SECONDS = 10.0
"""So long it is young."""
LEAST = 64.0
SHARE = 1 / 16


@dataclass(slots=True)
class Youth:
    """`most` calls may be out at once: while it is young no more than a small share of what has
    been answered, or a few, or as many as it is to start with."""

    start: float = 0.0
    most: float = LEAST
    _answers: int = 0
    _until: float = inf

    def __post_init__(self) -> None:
        self.most = max(LEAST, self.start)

    def works(self, now: float) -> None:
        """Calls are out; from the first time on it grows older."""
        if self.most < inf:
            self._until = min(self._until, now + SECONDS)
            self.most = inf if now >= self._until else max(self.most, SHARE * self._answers)

    def answered(self, now: float, seconds: float) -> None:
        """An answer came that took so long."""
        self._answers += 1
        self._until = min(self._until, now - seconds + SECONDS)
        self.works(now)
