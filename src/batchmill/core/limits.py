"""How one worker keeps to its shares of an engine's limits: calls in flight, requests and tokens a
minute, of the whole engine and of models of it.

Pure but for its own state: time comes in as an argument (seconds of `Clock.boot`). How large the
shares are is dealt in the ledger; they hold as long as the worker's leases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

from batchmill.calls import Answered, Broken, Reply
from batchmill.core.pace import Guess, Pace
from batchmill.core.work import OpenLine
from batchmill.grants import Demand, Grants, Limit, Measure, Resource


@dataclass(slots=True)
class Meter:
    """One limit as this worker keeps to it. `slots`: how many calls may be in flight."""

    engine: str
    limit: Limit
    slots: float = inf
    in_flight: int = 0
    requests: Pace | None = None
    tokens: Pace | None = None
    guess: Guess = field(default_factory=Guess)

    def __post_init__(self) -> None:
        if self.limit.concurrency:
            self.slots = 0.0
        if self.limit.requests_per_minute:
            self.requests = Pace(need=1.0, slack_seconds=0.1)
        if self.limit.tokens_per_minute:
            self.tokens = Pace(need=0.0, slack_seconds=0.5)

    @property
    def is_full(self) -> bool:
        return self.in_flight >= self.slots

    def opens_at(self, now: float) -> float:
        """When its rates let a call go; 0: now, `inf`: not by themselves."""
        requests = 0.0 if self.requests is None else self.requests.opens_at(now)
        tokens = 0.0 if self.tokens is None else self.tokens.opens_at(now)
        return max(requests, tokens)

    def may_send(self, now: float) -> bool:
        return not self.is_full and self.opens_at(now) == 0.0

    def demands(self, calls: float, now: float, *, has_lines: bool, valid: bool) -> list[Demand]:
        """What this worker would use, with so many `calls` to have in flight. Shares that are
        not `valid` any more are not used."""
        limit, found = self.limit, []
        if limit.concurrency:
            using = max(float(self.in_flight), self.slots if valid else 0.0)
            of = self._resource(Measure.CONCURRENCY)
            found.append(Demand(of, limit.concurrency, min(calls, limit.concurrency), using))
        for measure, pace, most in self._paces():
            wants = pace.wants(most, now, has_lines=has_lines)
            using = pace.per_minute if valid else 0.0
            found.append(Demand(self._resource(measure), most, wants, using))
        return found

    def hear(self, shares: Mapping[Resource, float], now: float, *, valid: bool) -> None:
        """Keep to these shares from now on; those before are `valid` up to now."""
        if self.limit.concurrency:
            self.slots = shares.get(self._resource(Measure.CONCURRENCY), 0.0)
        for measure, pace, _ in self._paces():
            if not valid:
                pace.restart(now)
            pace.change(shares.get(self._resource(measure), 0.0), now)

    def _paces(self) -> Sequence[tuple[Measure, Pace, int]]:
        limit = self.limit
        paces = (
            (Measure.REQUESTS, self.requests, limit.requests_per_minute),
            (Measure.TOKENS, self.tokens, limit.tokens_per_minute),
        )
        return [(measure, pace, most) for measure, pace, most in paces if pace is not None]

    def _resource(self, measure: Measure) -> Resource:
        return Resource(self.engine, self.limit.model, measure)


class Limits:
    """All limits of one engine as this worker keeps to them."""

    def __init__(self, engine: str, limits: Sequence[Limit]) -> None:
        meters = [Meter(engine, limit) for limit in limits]
        self._whole = next((meter for meter in meters if not meter.limit.model), None)
        self._models = {meter.limit.model: meter for meter in meters if meter.limit.model}
        self._meters = tuple(meters)
        self._of_any = () if self._whole is None else (self._whole,)
        self._of = {model: (*self._of_any, meter) for model, meter in self._models.items()}
        self._counts_tokens = any(meter.tokens is not None for meter in meters)
        self._until = -inf
        self._version = self._unused_as_of = 0

    # ---- what a gate asks

    @property
    def is_full(self) -> bool:
        """Nothing may be sent to the engine until something comes back."""
        return self._whole is not None and self._whole.is_full

    def has_room(self, now: float) -> bool:
        """Whether the engine may get a line now, of a model that may."""
        return now < self._until and (self._whole is None or self._whole.may_send(now))

    def admits(self, model: str, now: float) -> bool:
        """Whether that model may get one, given that there is room."""
        meter = self._models.get(model)
        return meter is None or meter.may_send(now)

    def holds_back(self, model: str, now: float) -> bool:
        """Whether a line of that model would have to wait if nothing were in flight."""
        return now >= self._until or any(
            meter.slots < 1.0 or meter.opens_at(now) > now for meter in self._meters_of(model)
        )

    def opens_at(self, now: float) -> float:
        """The next moment at which a rate lets a call go that it holds back now; `inf`: none."""
        moments = (meter.opens_at(now) for meter in self._meters)
        return min((moment for moment in moments if moment > now), default=inf)

    # ---- what becomes of a line

    def sent(self, model: str) -> None:
        """A line of that model is in flight."""
        for meter in self._meters_of(model):
            meter.in_flight += 1

    def returned(self, model: str) -> None:
        """And no longer."""
        for meter in self._meters_of(model):
            meter.in_flight -= 1

    def spend(self, line: OpenLine) -> float:
        """Take a line that goes out off the rates. How many tokens were guessed for it."""
        for meter in self._meters_of(line.model):
            if meter.requests is not None:
                meter.requests.spend(1.0)
        return self.spend_more(line)

    def spend_more(self, line: OpenLine) -> float:
        """The same for a line that goes out in the call of another one, which is one request."""
        if not self._counts_tokens:
            return 0.0
        meters = self._meters_of(line.model)
        tokens = meters[-1].guess.of(line.raw) if meters else 0.0
        for meter in meters:
            if meter.tokens is not None:
                meter.tokens.spend(tokens)
        return tokens

    def settle(self, line: OpenLine, guessed: float, reply: Reply, length: int = 0) -> None:
        """Set right what was guessed, where the reply tells. What was refused cost nothing; a
        call that broke off may have cost all. `length` is the bytes of all lines in the call,
        where there were others."""
        meters = self._meters_of(line.model)
        if not self._counts_tokens or not meters or isinstance(reply, Broken):
            return
        cost = 0
        if isinstance(reply, Answered):
            usage = reply.usage
            cost = usage.input_tokens + usage.output_tokens
            if not cost:
                return
            length = length or line.end - line.start
            meters[-1].guess.learn(length, usage.input_tokens, usage.output_tokens)
        for meter in meters:
            if meter.tokens is not None:
                meter.tokens.spend(cost - guessed)

    # ---- what is said to the ledger, and heard from it

    def demands(self, lines: Mapping[str, int], now: float, stock: int) -> list[Demand]:
        """What this worker would use, with so many lines of each model waiting for the engine, as
        of its stock of that number."""
        valid = now < self._until
        if not valid:
            self._unused_as_of = stock
        found: list[Demand] = []
        for model, meter in self._models.items():
            n = lines.get(model, 0)
            found += meter.demands(meter.in_flight + n, now, has_lines=n > 0, valid=valid)
        if self._whole is not None:
            waiting = sum(min(n, self._slots_of(model)) for model, n in lines.items())
            calls = self._whole.in_flight + waiting
            has_lines = any(lines.values())
            found += self._whole.demands(calls, now, has_lines=has_lines, valid=valid)
        return found

    def hear(self, grants: Grants, until: float, now: float) -> None:
        """Keep to these shares from now on, and until that moment. Not to those of an answer that
        is older than what was said since: that none of them is used any more. A version that was
        not heard yet is another thing: the ledger keeps what it granted until it was."""
        if grants.stock < self._unused_as_of and grants.version == self._version:
            return
        self._version = grants.version
        shares = {share.of: share.amount for share in grants.shares}
        for meter in self._meters:
            meter.hear(shares, now, valid=now < self._until)
        self._until = until

    def _meters_of(self, model: str) -> tuple[Meter, ...]:
        return self._of.get(model, self._of_any)

    def _slots_of(self, model: str) -> float:
        meter = self._models.get(model)
        return inf if meter is None else meter.slots
