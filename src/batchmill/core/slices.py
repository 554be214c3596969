"""What came back from an engine over a stretch of time, and how two such stretches compare.

By Little's law calls in flight are throughput times latency, so that a slice needs no clock to
tell its throughput: where answers come in bursts, and the calls of one window do, a count over
a short time is off by a burst.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log

FORGETTING, MANY = 0.8, 64.0
"""What each slice leaves of what was known before, where that are many answers."""


@dataclass(slots=True)
class Slice:
    """Sums over the answers of one stretch: the time each took, its tokens, and how many calls
    were in flight as it came."""

    answers: int = 0
    seconds: float = 0.0
    tokens: float = 0.0
    in_flight: float = 0.0

    def add(self, seconds: float, tokens: int, in_flight: int) -> None:
        """Take in one answer."""
        self.answers += 1
        self.seconds += seconds
        self.tokens += tokens
        self.in_flight += in_flight

    def with_faded(self, before: Slice | None) -> Slice:
        """This one and half of what was before."""
        if before is None:
            return self
        return Slice(
            self.answers + before.answers // 2,
            self.seconds + before.seconds / 2,
            self.tokens + before.tokens / 2,
            self.in_flight + before.in_flight / 2,
        )

    @property
    def calls(self) -> float:
        """How many calls were in flight on average."""
        return self.in_flight / max(1, self.answers)

    @property
    def latency(self) -> float:
        """How long an answer took on average."""
        return self.seconds / max(1, self.answers)


@dataclass(slots=True)
class Cost:
    """How much of an answer's time goes by its tokens, learned: answers of ten tokens and of ten
    thousand are then weighed alike. `per_token` is in units of an answer without any."""

    per_token: float = 0.0
    _n: float = 0.0
    _t: float = 0.0
    _s: float = 0.0
    _tt: float = 0.0
    _ts: float = 0.0

    def add(self, seconds: float, tokens: int) -> None:
        """Take in one answer."""
        self._n += 1.0
        self._t += tokens
        self._s += seconds
        self._tt += tokens * tokens
        self._ts += tokens * seconds

    def learn(self) -> None:
        """Fit a line through what was taken in, newer answers counting more."""
        spread = self._n * self._tt - self._t * self._t
        if self._n >= 16.0 and spread > 1e-6 * self._n * self._tt > 0.0:
            slope = (self._n * self._ts - self._t * self._s) / spread
            least = 0.05 * self._s / self._n
            base = max(least, (self._s - slope * self._t) / self._n)
            self.per_token = max(0.0, slope / base) if base > 0.0 else 0.0
        if self._n < MANY:
            return
        self._n *= FORGETTING
        self._t *= FORGETTING
        self._s *= FORGETTING
        self._tt *= FORGETTING
        self._ts *= FORGETTING

    def seconds_of(self, slice: Slice) -> float:
        """How long its answers took, each weighed by its tokens."""
        return slice.seconds / max(1e-9, slice.answers + self.per_token * slice.tokens)

    def rate_of(self, slice: Slice) -> float:
        """How much was answered a second, so weighed."""
        return slice.calls / max(1e-9, self.seconds_of(slice))

    def gain(self, before: Slice, after: Slice) -> float:
        """How much more was answered for more calls in flight: 1 where it grew alike, 0 where
        only the answers took longer. Zero where the calls were as many."""
        calls = log(max(1e-9, after.calls / max(1e-9, before.calls)))
        if abs(calls) < 1e-3:
            return 0.0
        return log(max(1e-9, self.rate_of(after) / max(1e-9, self.rate_of(before)))) / calls
