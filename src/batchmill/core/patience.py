"""How many calls an engine answers in the time that one is given: of more than that, some wait in
vain. Why it is so stands in `docs/decisions/0011-the-window.md`. Pure but for its own state."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import inf

USED = 0.8
"""So much of the time that a call is given its answer may take."""
SLOW = 0.1
"""Answers that take less of it are in no danger."""
FORGIVEN = 2
"""So often a call that is out alone may wait for calls that were given up: some engines go on with
them."""
GAP_SECONDS = 1.0
COUNTED = 1024


@dataclass(slots=True)
class Patience:
    """`most` calls may be out at once, and the window may grow as far as to `room`."""

    timeout_seconds: float = inf
    most: float = inf
    room: float = inf
    _times: deque[float] = field(default_factory=lambda: deque(maxlen=COUNTED))
    """When the latest answers came."""
    _since: float = -inf
    """From then on the window was full, so that the answers are as many as it brings."""
    _crowded_at: float = -inf
    _forgiven: int = 0
    _is_no_matter: bool = False
    """A call that was out alone was not answered in time either: it is not the number."""

    def answered(self, now: float, seconds: float, in_flight: int, *, is_full: bool) -> None:
        """An answer came that took so long; so many calls are out, this one included."""
        sent_at = now - seconds
        self._is_no_matter, self._forgiven = False, 0
        if not self._times or sent_at > self._times[-1] + GAP_SECONDS:
            self._since = sent_at
        elif not is_full:
            self._since = now
        self._times.append(now)
        is_slow = seconds > SLOW * self.timeout_seconds
        if sent_at < self._since or not (is_slow or self.most < inf):
            return
        in_time = self._in_time(now)
        self.room = max(1.0, USED * in_time) if is_slow else inf
        if in_flight <= in_time:
            self.most = max(self.most, self.room)
            return
        self.most = self.room
        if in_flight > self.most + 1.0:
            self._crowded_at = now

    def timed_out(self, now: float, in_flight: int) -> bool:
        """A call was not answered in its time; whether that shows that too many were out."""
        if self._is_no_matter:
            return False
        sent_at = now - self.timeout_seconds
        if in_flight <= 1 and sent_at >= self._crowded_at:
            self._forgiven -= 1
            if self._forgiven < 0:
                self._is_no_matter, self.most, self.room = True, inf, inf
                self._times.clear()
            return False
        if sent_at >= self._crowded_at and (answers := self._answers(sent_at)) < in_flight:
            self.most, self._crowded_at = max(1.0, USED * answers), now
            self._forgiven = FORGIVEN
        return sent_at < self._crowded_at

    def is_crowded(self, sent_at: float, in_flight: int) -> bool:
        """Whether a call may have got no answer only because too many others were ahead of it."""
        if sent_at < self._crowded_at:
            return True
        if in_flight <= 1:
            return self._forgiven > 0
        return not self._is_no_matter and in_flight > self._answers(sent_at)

    def _in_time(self, now: float) -> float:
        """How many are answered in the time that one is given."""
        passed = now - self._since
        if passed < self.timeout_seconds:
            return self._answers(self._since) * self.timeout_seconds / max(1e-9, passed)
        return self._answers(now - self.timeout_seconds) - 0.5

    def _answers(self, since: float) -> int:
        return sum(at > since for at in self._times)
