"""How many calls came, for tests that must know exactly. A call counts once its whole request
has arrived, whatever becomes of it."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

_ID = re.compile(rb"\bid:([A-Za-z0-9_.\-]+)")


@dataclass(slots=True)
class Counts:
    """Calls by the first `id:NAME` in their body, by path and by the status they were given."""

    total: int = 0
    in_flight: int = 0
    max_in_flight: int = 0
    aborted: int = 0
    """Calls whose client went away before it was answered."""
    by_id: Counter[str] = field(default_factory=Counter)
    by_path: Counter[str] = field(default_factory=Counter)
    by_status: Counter[str] = field(default_factory=Counter)

    def arrived(self, path: str, body: bytes) -> None:
        self.total += 1
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        self.by_path[path] += 1
        if (match := _ID.search(body)) is not None:
            self.by_id[match[1].decode()] += 1

    def ended(self, status: int | None) -> None:
        """The call was answered with that status, or with none."""
        self.in_flight -= 1
        if status is not None:
            self.by_status[str(status)] += 1

    def went_away(self) -> None:
        self.in_flight -= 1
        self.aborted += 1

    def reset(self) -> None:
        """Forget all but what is in flight now."""
        self.total = self.aborted = 0
        self.max_in_flight = self.in_flight
        for counter in (self.by_id, self.by_path, self.by_status):
            counter.clear()
