"""How much of an engine a polite worker leaves to others.

Who they are is not known, only how many: what the engine says it has, without what is ours. An
engine that tells nothing is judged by how long our own answers take. Pure but for what it
remembers: time comes in as an argument.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from batchmill.calls import Load

FADING = 0.87
"""What a second leaves of how many others there were: after a burst its room is given back."""
PRESENT_SECONDS = 60.0
"""Others were there so lately: they may come back any moment, or were there between two looks."""
NOISE_SHARE = 0.02
"""So much of ours is under way between an engine and us, and is nobody else's."""
SPARE_SHARE = 0.05
FORGOTTEN_SECONDS = 10.0
"""An engine that tells nothing for so long does not tell any more."""
CAPACITY_SECONDS = 300.0
TOLERATED, WELCOME = 1.5, 1.25
"""Others' answers may take so much longer for us than without us; below the second there is room
for more of ours."""
UNSEEN_TOLERATED, UNSEEN_WELCOME = 1.25, 1.1
"""The same where others cannot be seen: then our own answers must not even wait."""
WAITED_SECONDS = 2.0
"""Answers that come so soon after calls were seen to wait may have waited, too."""
PENALTY_SECONDS = 60.0
LONGEST_PENALTY_SECONDS = 960.0
"""What was too much is not tried again for so long; longer each time."""


@dataclass(slots=True)
class Manners:
    """What one engine may get of us at most; `inf`: nobody else is there."""

    others: float = 0.0
    """How many calls of others it has; falls slowly."""
    _by_queue: float = inf
    _by_latency: float = inf
    _capacity: float = 0.0
    _capacity_at: float = -inf
    _at: float = -inf
    _seen_at: float = -inf
    _is_told: bool = False
    _waited_at: float = -inf
    _too_many: float = inf
    _too_many_until: float = -inf
    _penalty: float = PENALTY_SECONDS

    @property
    def most(self) -> float:
        return max(1.0, min(self._by_queue, self._by_latency))

    @property
    def gives_way(self) -> bool:
        """Whether others are there, or may be for all that is known."""
        return not self._is_told or self._at < self._seen_at + PRESENT_SECONDS

    def hear(self, load: Load | None, in_flight: int, now: float) -> None:
        """Take in a look; `in_flight` are ours. None: the engine does not tell."""
        if load is None:
            if now > self._at + FORGOTTEN_SECONDS:
                self._is_told, self.others, self._by_queue = False, 0.0, inf
            return
        self._is_told = True
        seconds = min(60.0, max(0.0, now - self._at))
        self._at = now
        theirs = load.running + load.waiting - in_flight
        if theirs < 1.0 or theirs < NOISE_SHARE * in_flight:
            theirs = 0.0
        if theirs:
            self._seen_at = now
        self.others = max(theirs, self.others * FADING**seconds)
        self._measure(load, now)
        if not self.gives_way:
            self._by_queue = self._by_latency = inf
            self._penalty = PENALTY_SECONDS
        elif self._capacity:
            spare = max(1.0, SPARE_SHARE * self._capacity)
            self._by_queue = self._capacity - self.others - spare

    def _measure(self, load: Load, now: float) -> None:
        """Learn how many calls it works on at once: as many as it does while others wait."""
        if load.waiting >= 1.0:
            self._waited_at = now
        if load.waiting >= 1.0 or load.running > self._capacity:
            if load.waiting >= 1.0 or self._capacity:
                self._capacity, self._capacity_at = load.running, now
        elif now > self._capacity_at + CAPACITY_SECONDS:
            self._capacity = 0.0

    def took(self, seconds: float, best: float, calls: float, now: float) -> None:
        """Answers of ours took so long with so many out, and `best` at their best."""
        if not self.gives_way:
            return
        tolerated = TOLERATED if self._is_told else UNSEEN_TOLERATED
        welcome = WELCOME if self._is_told else UNSEEN_WELCOME
        if now < self._waited_at + seconds + WAITED_SECONDS:
            return  # that is what the queue is for
        if seconds > tolerated * best:
            self._too_many, self._too_many_until = calls, now + self._penalty
            self._penalty = min(LONGEST_PENALTY_SECONDS, 2.0 * self._penalty)
            self._by_latency = max(1.0, 0.75 * min(calls, self._by_latency))
        elif seconds < welcome * best and self._by_latency < inf:
            more = max(self._by_latency + 1.0, 1.15 * self._by_latency)
            if more < self._too_many or now > self._too_many_until:
                self._by_latency = more
