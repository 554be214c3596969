"""How many calls came, for tests that must know exactly. A call counts once its whole request
has arrived, whatever becomes of it."""

from __future__ import annotations

import re
from collections import Counter, deque
from dataclasses import dataclass, field

import msgspec

MOST_IN_WINDOW = 1_000_000
"""So many arrivals are remembered; more in one window are counted as these."""
_ID = re.compile(rb"\bid:([A-Za-z0-9_.\-]+)")


@dataclass(slots=True)
class Counts:
    """Calls by the first `id:NAME` in their body, by path and by the status they were given; times
    are seconds of a clock that never jumps."""

    total: int = 0
    in_flight: int = 0
    max_in_flight: int = 0
    aborted: int = 0
    """Calls whose client went away before it was answered."""
    max_in_window: int = 0
    """Most calls that came in any run of `window_seconds`."""
    window_seconds: float = 60.0
    in_flight_seconds: float = 0.0
    """The sum over all calls of how long each was here."""
    by_id: Counter[str] = field(default_factory=Counter)
    by_path: Counter[str] = field(default_factory=Counter)
    by_status: Counter[str] = field(default_factory=Counter)
    _recent: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_IN_WINDOW))
    _moved_at: float = 0.0

    def arrived(self, path: str, body: bytes, now: float) -> None:
        self._move(now, 1)
        self.total += 1
        self._recent.append(now)
        while self._recent[0] <= now - self.window_seconds:
            self._recent.popleft()
        self.max_in_window = max(self.max_in_window, len(self._recent))
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        self.by_path[path] += 1
        if (match := _ID.search(body)) is not None:
            self.by_id[match[1].decode()] += 1

    def ended(self, status: int | None, now: float) -> None:
        """The call was answered with that status, or with none."""
        self._move(now, -1)
        if status is not None:
            self.by_status[str(status)] += 1

    def went_away(self, now: float) -> None:
        self._move(now, -1)
        self.aborted += 1

    def seen(self, now: float) -> bytes:
        """All of it as JSON, as of now."""
        self._move(now, 0)
        fields = {n: getattr(self, n) for n in self.__slots__ if not n.startswith("_")}
        return msgspec.json.encode(fields)

    def reset(self, now: float) -> None:
        """Forget all but what is in flight now, and what came within the window."""
        self._move(now, 0)
        self.total = self.aborted = 0
        self.in_flight_seconds = 0.0
        self.max_in_window = 0
        self.max_in_flight = self.in_flight
        for counter in (self.by_id, self.by_path, self.by_status):
            counter.clear()

    def _move(self, now: float, calls: int) -> None:
        """So many calls more are here from now on."""
        self.in_flight_seconds += self.in_flight * (now - self._moved_at)
        self._moved_at = now
        self.in_flight += calls
