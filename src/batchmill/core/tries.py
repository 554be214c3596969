"""What a window (`window.py`) tries next, and what it remembers of tries and refusals. Pure but for
its own state."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import inf

REFUSED_SHARE = 0.08
"""Of the calls of a round trip; fewer refusals are not about the load."""
LEAST_REFUSED = 4
REFUSED_SECONDS = 60.0


class Phase(StrEnum):
    """What the window is moved for."""

    CLIMB = "climb"
    HOLD = "hold"
    WIDER = "wider"
    NARROWER = "narrower"
    RECOVER = "recover"


@dataclass(slots=True)
class Refusals:
    """What was refused of late. `size` is where the window goes back to after a burst."""

    answers: float = 0
    size: float = 0.0
    cut_at: float = -inf
    _refusals: int = 0
    _since: float = -inf
    _most: float = inf
    _most_until: float = -inf

    def come(self, size: float, now: float, round_trip: float) -> bool:
        """Take in a refusal; whether they are many."""
        if now > self._since + round_trip:
            self._since, self._refusals, self.answers = now, 0, min(self.answers, 2.0 * size)
        self._refusals += 1
        share = self._refusals / (self._refusals + self.answers)
        return share > REFUSED_SHARE and (self._refusals >= LEAST_REFUSED or share > 0.5)

    def tried(self, size: float, now: float) -> None:
        """It refused when so many were tried: so many are not, for a while."""
        self.cut_at, self._most, self._most_until = now, 0.95 * size, now + REFUSED_SECONDS

    def cut(self, size: float, now: float) -> None:
        """It refused at a window that it had kept before, or on the way back to it. Less is enough
        where that happens again."""
        again = now < self.cut_at + REFUSED_SECONDS and self.size > 0.0
        self.cut_at = now
        if not again:
            self.size = size
        elif size > 0.9 * self.size:
            self.size = max(1.0, 0.93 * self.size)

    def top(self, now: float) -> float:
        return self._most if now < self._most_until else inf


@dataclass(slots=True)
class Tries:
    """When more and when fewer calls are tried: ever more seldom while it is in vain, but more
    soon again, since that costs the engine nothing but a queue. All count slices."""

    _to_wider: int = 1
    _to_narrower: int = 2
    _wider: int = 1
    _narrower: int = 2

    def next(self, *, may_widen: bool) -> Phase:
        """What to do after one more slice."""
        self._wider -= 1
        self._narrower -= 1
        if self._wider <= 0 and may_widen:
            return Phase.WIDER
        return Phase.NARROWER if self._narrower <= 0 else Phase.HOLD

    def failed(self, phase: Phase) -> None:
        """It was in vain."""
        if phase is Phase.NARROWER:
            self._narrower = self._to_narrower = min(16, 2 * self._to_narrower)
        else:
            self._wider = self._to_wider = min(6, 2 * self._to_wider)

    def succeeded(self, phase: Phase) -> None:
        """It was not: the same is tried again soon, the other later."""
        if phase is Phase.NARROWER:
            self._narrower = self._to_narrower = 1
            self._wider = max(self._wider, 2)
        else:
            self._wider = self._to_wider = 1
            self._narrower = max(self._narrower, 2)
