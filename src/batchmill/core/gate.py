"""Whether a line may go to an engine now: its window, its asides, its overload, its limits.

Pure but for its own state: time comes in as an argument (seconds of `Clock.boot`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from math import inf

from batchmill.calls import Load
from batchmill.core.limits import Limits
from batchmill.core.retry import OUTAGE_FAULTS, Scope
from batchmill.core.slots import Slots
from batchmill.core.window import Window
from batchmill.model import WaitingReason

ASIDE_SECONDS = 0.5
ASIDE_LIMIT_SECONDS = 10.0
OUTAGE_TRIAL_SECONDS = 1.0
"""A line that is tried in an outage may be at fault itself: a job of nothing else ends in time."""
OVERLOAD_SECONDS = 0.1
OVERLOAD_LIMIT_SECONDS = 10.0

Route = tuple[str, str]
"""(path, served model)."""
_WHOLE: Route = ("", "")


@dataclass(slots=True)
class Aside:
    """A fault that has not been seen to end. At `until` one line at a time may try."""

    reason: str
    since: float
    until: float
    tries: int = 1
    trial: bool = False
    sighted: bool = False
    """A probe has found it answering since."""


@dataclass(slots=True)
class Gate:
    """One engine's admission: as many in flight as its window says, or at most `concurrency` where
    that is fixed, fewer while it is overloaded; a single trial line through whatever is set aside,
    and no more than this worker's share of its limits, where it has any."""

    concurrency: int
    limits: Limits | None = None
    window: Window | None = None
    in_flight: int = 0
    allowed: float = 0.0
    resume_at: float = 0.0
    overloads: int = 0
    asides: dict[Route, Aside] = field(default_factory=dict)
    answers: dict[Route, int] = field(default_factory=dict)
    answered_calls: int = 0
    """How many calls it has answered well."""
    openings: int = 0
    """How often something that was aside has been found to work, or may work: then it is no longer
    so that nothing opens before its time."""
    faults: dict[Route, int] = field(default_factory=dict)
    """500 and the like on end: since it answered a line of the route last."""
    alone: bool = False
    """A line runs alone: nothing else is admitted."""
    closes_at: float = inf
    """From then on it is outside its schedule, until this is set anew."""
    slots: Slots | None = None
    """Where each of its slots has a prompt cache of its own."""

    def __post_init__(self) -> None:
        self.allowed = float(self.concurrency)
        self._follow()

    @property
    def is_full(self) -> bool:
        """Nothing may be sent until something that is out comes back."""
        if self.alone or self.in_flight + 1 > self.allowed:
            return True
        return self.limits is not None and self.limits.is_full

    def has_room(self, now: float) -> bool:
        """Whether any line at all may be sent now."""
        if self.is_full or not self.resume_at <= now < self.closes_at:
            return False
        return self.limits is None or self.limits.has_room(now)

    def admits(self, route: Route, now: float) -> bool:
        """Whether a line of that route may be sent, given that there is room."""
        if self.limits is not None and not self.limits.admits(route[1], now):
            return False
        return not self.asides or all(
            now >= aside.until and not aside.trial
            for key in (_WHOLE, route)
            if (aside := self.asides.get(key)) is not None
        )

    def sent(self, route: Route, *, alone: bool = False) -> None:
        """A line of that route goes out, `alone` where nothing else may be out with it."""
        self.in_flight += 1
        self.alone = alone
        if self.limits is not None:
            self.limits.sent(route[1])
        if self.asides:
            self._mark_trial(route, trial=True)

    def returned(self, route: Route, *, alone: bool = False) -> None:
        """It came back, whatever came."""
        self.in_flight -= 1
        if alone:
            self.alone = False
        if self.limits is not None:
            self.limits.returned(route[1])
        if self.asides:
            self._mark_trial(route, trial=False)

    def answered(self, route: Route, *, well: bool) -> None:
        """The engine gave a line an answer of its own, good or bad: what was aside works. A bad
        one ends no outage, since it may come from what stands before the model."""
        if well and self.faults:
            self.faults.pop(route, None)
        if self.asides:
            self._open(_WHOLE)
            if not self.is_in_outage(route):
                self._open(route)
        if well:
            self.answers[route] = self.answers.get(route, 0) + 1
            self.answered_calls += 1
            self.overloads = 0
            if self.window is None and self.allowed < self.concurrency:
                grown = self.allowed + 1.0 / max(1.0, self.allowed)
                self.allowed = min(float(self.concurrency), grown)

    def took(self, seconds: float, tokens: int, now: float) -> None:
        """An answer that has just come back took so long."""
        if self.window is not None:
            self.window.answered(now, seconds, tokens, self.in_flight + 1)
            self.allowed = self.window.size

    def timed_out(self, now: float) -> None:
        """A call was not answered in its time: perhaps too many wait."""
        if self.window is not None:
            self.window.timed_out(now, self.in_flight + 1)
            self._follow()

    def is_crowded(self, sent_at: float) -> bool:
        """Whether a call that has just come back without an answer may only have waited for
        others."""
        if self.window is None:
            return False
        return self.window.patience.is_crowded(sent_at, self.in_flight + 1)

    def heard(self, load: Load | None, in_flight: int, now: float) -> None:
        """What the engine says of its load while so many calls of ours were out; None: nothing."""
        if self.window is not None:
            self.window.heard(load, in_flight, now)
            self._follow()

    def _follow(self) -> None:
        if self.window is not None:
            self.allowed = self.window.size

    def _mark_trial(self, route: Route, *, trial: bool) -> None:
        for key in (_WHOLE, route):
            if (aside := self.asides.get(key)) is not None:
                aside.trial = trial

    def set_aside(
        self, scope: Scope, route: Route, reason: str, *, sent_at: float, now: float
    ) -> None:
        """Note a fault; one that was sent before the last one counts no second time."""
        key = _WHOLE if scope is Scope.ENGINE else route
        aside = self.asides.get(key)
        if aside is None:
            self.asides[key] = Aside(reason, since=now, until=now + ASIDE_SECONDS)
        elif sent_at >= aside.since:
            wait = min(ASIDE_LIMIT_SECONDS, ASIDE_SECONDS * 2.0**aside.tries)
            self.asides[key] = Aside(reason, since=now, until=now + wait, tries=aside.tries + 1)

    def faulted(self, route: Route, *, sent_at: float, now: float) -> None:
        """It answered a line with 500 or the like. That may be the line's fault; where all lines of
        the route get such answers the route is set aside."""
        self.faults[route] = self.faults.get(route, 0) + 1
        self.answered(route, well=False)
        if self.is_in_outage(route):
            aside = self.asides.get(route)
            if aside is None or sent_at >= aside.since:
                reason = "it answers every line with HTTP 500 or no JSON"
                until = now + OUTAGE_TRIAL_SECONDS
                self.asides[route] = Aside(reason, since=now, until=until)

    def is_aside(self, route: Route) -> bool:
        """Whether the engine, or the route there, has a fault that has not been seen to end."""
        return _WHOLE in self.asides or route in self.asides

    def aside_until(self, route: Route) -> float:
        """When a trial of it may go at the earliest, where none is out."""
        asides = (self.asides.get(key) for key in (_WHOLE, route))
        return max((aside.until for aside in asides if aside is not None), default=0.0)

    def open_all(self) -> None:
        """Nothing is aside any more, as far as is known."""
        self.asides.clear()
        self.openings += 1

    def _open(self, route: Route) -> None:
        self.openings += self.asides.pop(route, None) is not None

    def keep_routes(self, routes: Collection[Route]) -> None:
        """Forget what is known of all others. Names of models are the users': there is no end of
        them, and nobody waits for what is known of these."""
        for route in [each for each in self.asides if each not in routes and each != _WHOLE]:
            self._open(route)
        for known in (self.answers, self.faults):
            for route in [each for each in known if each not in routes]:
                del known[route]

    def is_in_outage(self, route: Route) -> bool:
        """Whether all lines of the route got 500 or the like, for a while."""
        return self.faults.get(route, 0) >= OUTAGE_FAULTS

    def overloaded(self, after_seconds: float | None, *, now: float) -> None:
        """It answered 429 or 503: narrow the window once per pause and send nothing meanwhile. A
        few refusals among many answers are no reason to pause, unless it asks for one."""
        if now < self.resume_at:
            return
        if self.window is None:
            self.allowed = max(1.0, self.allowed * 0.7)
        elif not self.window.refused(now) and not after_seconds:
            return
        self._follow()
        wait = after_seconds or OVERLOAD_SECONDS * 2.0 ** min(self.overloads, 10)
        self.overloads += 1
        self.resume_at = now + min(OVERLOAD_LIMIT_SECONDS, wait)

    def may_be_back(self) -> None:
        """A probe found the engine answering: let a trial line through at once."""
        if (aside := self.asides.get(_WHOLE)) is not None:
            aside.until, aside.sighted = 0.0, True
            self.openings += 1

    def was_up(self, sent_at: float) -> bool:
        """Whether the engine was not known to be away as that call went out: it had answered since
        its last fault, if only a probe."""
        aside = self.asides.get(_WHOLE)
        return aside is None or aside.sighted or sent_at < aside.since

    def down_reason(self) -> str | None:
        """Why the whole engine is aside, if it is."""
        aside = self.asides.get(_WHOLE)
        return None if aside is None else aside.reason

    def blocked(self, route: Route, now: float) -> WaitingReason | None:
        """Why no line of that route can be sent now, if none can."""
        if now >= self.closes_at:
            return WaitingReason.OUTSIDE_SCHEDULE
        if _WHOLE in self.asides:
            return WaitingReason.ENGINE_DOWN
        if route in self.asides:
            in_outage = self.is_in_outage(route)
            return WaitingReason.RETRYING if in_outage else WaitingReason.MODEL_NOT_SERVED
        if now < self.resume_at or self.overloads:
            return WaitingReason.RATE_LIMITED
        if self.limits is not None and self.limits.holds_back(route[1], now):
            return WaitingReason.RATE_LIMITED
        return None

    def opens_at(self, now: float) -> float | None:
        """The next moment at which something that is closed now may open by itself."""
        moments = [aside.until for aside in self.asides.values() if aside.until > now]
        if self.resume_at > now:
            moments.append(self.resume_at)
        if self.limits is not None and (at := self.limits.opens_at(now)) < inf:
            moments.append(at)
        return min(moments, default=None)
