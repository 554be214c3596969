"""What an engine tells of its queue over the last few looks, and what follows from it.

Pure but for what it remembers: time comes in as an argument.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from batchmill.calls import Load

REMEMBERED_SECONDS = 60.0
"""An engine that had a queue so lately is steered by it alone."""
LEAST_WAITING = 1.0
WAITING_SHARE = 0.06
"""So many calls should wait in an engine, in parts of those that it works on: it never runs dry."""
TOO_MANY = 2.5
"""Times as many are too many."""
STEP_SHARE = 0.02
FRESH_SECONDS = 5.0
INSISTS_SECONDS = 10.0
"""A queue that stays as it is for so long, whatever is cut, is not ours."""
FALLS = 0.8
DOUBTED_SECONDS, LONGEST_DOUBTED_SECONDS = 300.0, 3600.0
"""It is not believed for so long; twice as long each time."""
TRUSTED_SECONDS = 3600.0
TELLING_CALLS = 16
"""So many more of ours show whether it tells of them."""
VISIBLE = 0.7
"""An engine that tells of fewer calls than so much of ours tells of a part of itself only."""


@dataclass(slots=True)
class EngineQueue:
    """The queue of one engine. All that use it see the same: each lets its window grow by the same
    step, and cuts it by its own share of what is too much, so that they come to equal windows."""

    running: float = 0.0
    waiting: float = 0.0
    _before: float = 0.0
    _seen_at: float = -inf
    _heard_at: float = -inf
    _dry_looks: int = 0
    _too_long_since: float = inf
    _too_long: float = 0.0
    _doubted_until: float = -inf
    _doubted_seconds: float = DOUBTED_SECONDS
    _trusted_until: float = -inf
    _ours: float = inf

    def hear(self, load: Load, in_flight: int, now: float) -> bool:
        """Take in a look; False where it is not of the whole engine, or not believed."""
        if self.is_doubted(now) and not self._bears_out(load, in_flight, now):
            return False
        if load.running + load.waiting < VISIBLE * in_flight - 2.0:
            return False
        self._before = self.waiting
        self.waiting, self.running = load.waiting, load.running
        self._heard_at = now
        self._dry_looks = 0 if load.waiting else self._dry_looks + 1
        if load.waiting:
            self._seen_at = now
        if self.excess() <= 0.0:
            self._too_long_since = inf
        elif self._too_long_since == inf or self.waiting < FALLS * self._too_long:
            self._too_long_since, self._too_long = now, self.waiting
        return True

    def insists(self, now: float) -> bool:
        """Whether it goes on telling of a queue that is too long, whatever was cut."""
        return now >= max(self._too_long_since + INSISTS_SECONDS, self._trusted_until)

    def doubt(self, in_flight: float, now: float) -> None:
        """Do not believe it for a while, unless it tells of what is added now."""
        self._doubted_until = now + self._doubted_seconds
        self._doubted_seconds = min(LONGEST_DOUBTED_SECONDS, 2.0 * self._doubted_seconds)
        self._ours = in_flight
        self._seen_at = self._heard_at = -inf
        self._too_long_since = inf

    def is_doubted(self, now: float) -> bool:
        """Whether it is not believed now."""
        return now < self._doubted_until

    def _bears_out(self, load: Load, in_flight: int, now: float) -> bool:
        """Whether it tells of the calls that came since it is doubted: then it is to be believed,
        and others do fill it."""
        added = in_flight - self._ours
        if added < TELLING_CALLS or load.waiting - self.waiting < 0.5 * added:
            return False
        self._doubted_until, self._trusted_until = -inf, now + TRUSTED_SECONDS
        return True

    def rules(self, now: float) -> bool:
        """Whether it tells all there is to know about the window."""
        return now < self._seen_at + REMEMBERED_SECONDS

    def is_known_empty(self, now: float) -> bool:
        """Whether nothing waits: answers that take longer do not wait, but are worked on."""
        return self.waiting < 1.0 and now < self._heard_at + FRESH_SECONDS

    def excess(self) -> float:
        """How many calls too many wait, in this look and the one before."""
        waiting, aim = min(self._before, self.waiting), self._aim()
        return waiting - aim if waiting > TOO_MANY * aim else 0.0

    def step(self) -> float:
        """How much wider a window may become: more with every look at which nothing waits."""
        if self.waiting > TOO_MANY * self._aim():
            return 0.0
        faster = 2.0 ** min(4, max(0, self._dry_looks - 1))
        return max(0.5, STEP_SHARE * (self.running + self.waiting)) * faster

    def _aim(self) -> float:
        return max(LEAST_WAITING, WAITING_SHARE * self.running)
