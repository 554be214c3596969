"""Rates: spending evenly, and guessing what a line will cost in tokens.

Pure but for its own state: time comes in as an argument (seconds of `Clock.boot`). What paces are
for stands in `limits.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import inf

PACE = 0.985
"""How much of a rate is used: the rest makes up for calls that arrive closer together than they
were sent, so that no minute of the engine's has more than its limit."""
WAITED_SECONDS = 2.0
"""A worker that was held back by a rate so lately would use all of it."""
COUNTED_SECONDS = 0.9
FADING_SECONDS = 10.0
LEARNING = 0.05
FIRST_OUTPUT_TOKENS = 256.0
FIRST_TOKENS_PER_BYTE = 0.25
_MAX_TOKENS = re.compile(rb'"max_(?:completion_|output_)?tokens"\s*:\s*(\d{1,9})')


@dataclass(slots=True)
class Pace:
    """So much a minute, spent evenly: nothing is saved up but `need` and what `slack_seconds`
    bring. A fresh one has nothing to spend yet, so that it repeats nothing that another worker
    spent just before; what was overdrawn is paid back first."""

    need: float
    """How much has to be there for a call; what it costs may be more."""
    slack_seconds: float
    per_minute: float = 0.0
    _rate: float = 0.0
    _most: float = 0.0
    _level: float = 0.0
    _at: float = 0.0
    _spent: float = 0.0
    _asked_at: float = 0.0
    _waited_at: float = -inf
    _wanted: float = 0.0

    def change(self, per_minute: float, now: float) -> None:
        """Go on at another rate."""
        self._fill(now)
        self.per_minute, self._rate = per_minute, PACE * per_minute / 60.0
        self._most = self.need + self._rate * self.slack_seconds if self._rate else 0.0
        self._level = min(self._level, self._most)

    def restart(self, now: float) -> None:
        """Go on with nothing saved."""
        self._fill(now)
        self._level = min(self._level, 0.0)

    def opens_at(self, now: float) -> float:
        """When a call may go, for all that this says; 0: now, `inf`: not by itself."""
        self._fill(now)
        if self._rate and self._level >= self.need:
            return 0.0
        self._waited_at = now
        return now + (self.need - self._level) / self._rate + 1e-6 if self._rate else inf

    def spend(self, cost: float) -> None:
        """So much goes out now; less than nothing comes back."""
        self._level = min(self._level - cost, self._most)
        self._spent += cost

    def wants(self, most: float, now: float, *, has_lines: bool) -> float:
        """How much a minute this worker would use of the `most` there is: all where it had to wait,
        else twice what it used. That is counted over a second, in which a few calls come or do
        not: while there are lines to send it falls slowly."""
        passed = now - self._asked_at
        if passed >= COUNTED_SECONDS:
            used = 60.0 * max(0.0, self._spent) / passed
            faded = self._wanted * 0.5 ** (passed / FADING_SECONDS) if has_lines else 0.0
            self._wanted = min(most, max(2.0 * used, faded))
            self._spent, self._asked_at = 0.0, now
        if has_lines and now - self._waited_at < WAITED_SECONDS:
            self._wanted = most
        return self._wanted

    def _fill(self, now: float) -> None:
        if now > self._at:
            self._level = min(self._level + (now - self._at) * self._rate, self._most)
            self._at = now


@dataclass(slots=True)
class Guess:
    """What a line will cost in tokens, learned from those before it."""

    per_byte: float = FIRST_TOKENS_PER_BYTE
    output: float | None = None

    def of(self, body: bytes) -> float:
        """Input by its bytes; output as it mostly was, and at most what the line allows."""
        match = _MAX_TOKENS.search(body)
        most = float(match[1]) if match else inf
        known = FIRST_OUTPUT_TOKENS if self.output is None else self.output
        if self.output is None and match:
            known = most
        return len(body) * self.per_byte + min(known, most)

    def learn(self, body_bytes: int, input_tokens: int, output_tokens: int) -> None:
        """Take in what a line did cost."""
        before = float(output_tokens) if self.output is None else self.output
        self.output = before + LEARNING * (output_tokens - before)
        if body_bytes:
            self.per_byte += LEARNING * (input_tokens / body_bytes - self.per_byte)
