"""The engines as one worker uses and sees them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import inf

import structlog

from batchmill.calls import EngineDown, EngineSilent, Load, Transport
from batchmill.clock import Clock
from batchmill.core.gate import Gate
from batchmill.core.limits import Limits
from batchmill.core.models import WILDCARD
from batchmill.core.politeness import Manners
from batchmill.core.slots import KINDS, Slots
from batchmill.core.trust import Trust
from batchmill.core.window import START, Window
from batchmill.fleet import EngineSpec, EngineState, EngineStatus
from batchmill.schedules import ALWAYS, is_open, next_change

log = structlog.get_logger()

PROBE_SECONDS = 5.0
PROBE_DOWN_SECONDS = 1.0
LOOK_SECONDS = 15.0
"""The wall clock may be set: at the latest after so long a schedule is looked at again."""
LEAST_READY = 64
"""So many calls a window that is still sought may soon have room for."""


@dataclass(slots=True, eq=False)
class Link:
    """One engine as this worker uses it: the way to it, and its gate."""

    spec: EngineSpec
    transport: Transport
    gate: Gate
    status: EngineStatus
    load: Load | None = None
    """What it said of itself last, while it had calls of ours; None: nothing."""
    trust: Trust = field(default_factory=Trust)
    _listed: tuple[str, ...] = ()
    _names: frozenset[str] = frozenset()
    """What it listed, for `serves`: asked for each queue with every line."""

    @property
    def window(self) -> int:
        """How many lines it may soon have at once."""
        if self.gate.window is None:
            return self.spec.lines_at_once
        calls = max(min(LEAST_READY, self.spec.concurrency), int(self.gate.allowed))
        return calls * self.spec.embeddings_per_call

    def serves(self, model: str) -> bool:
        """Whether the engine said that it serves this name, or serves any."""
        if self._listed is not self.status.models:
            self._listed = self.status.models
            self._names = frozenset(self._listed)
        return model in self._names or WILDCARD in self._names

    def keep_hours(self, now: float, boot: float) -> float | None:
        """Open or close the gate by the engine's schedule; when that changes next."""
        opened, change = is_open(self.spec.schedule, now), next_change(self.spec.schedule, now)
        if opened:
            self.gate.closes_at = inf if change is None else boot + change - now
        else:
            self.gate.closes_at = 0.0
        self.status = replace(self.status, is_open=opened, changes_at=change)
        return change

    def seen(self, now: float, boot: float) -> EngineStatus:
        """Its status as of now: what the last probe said, and what calls met since."""
        aside = self.gate.down_reason()
        status = replace(
            self.status,
            in_flight=self.gate.in_flight,
            limited=bool(self.gate.overloads) or boot < self.gate.resume_at,
            window=int(self.gate.allowed),
            adaptive=self.spec.adaptive,
            polite=self.spec.polite,
        )
        if self.load is not None:
            status = replace(status, running=self.load.running, waiting=self.load.waiting)
        if self.gate.window is not None:
            decision = self.gate.window.decision
            decided_at = now - max(0.0, boot - decision.at) if decision.at else now
            status = replace(status, decision=decision.why, decided_at=decided_at)
        if aside is not None:
            return replace(status, state=EngineState.DOWN, reason=aside)
        return replace(status, seen_at=now) if self.gate.in_flight else status


def link(spec: EngineSpec, transport: Transport) -> Link:
    """A link to an engine that has not been seen yet."""
    status = EngineStatus(spec.name, spec.kind, EngineState.UNKNOWN, simulated=spec.simulated)
    slots = Slots() if spec.kind in KINDS else None
    limits = Limits(spec.name, spec.limits) if spec.limits else None
    gate = Gate(spec.concurrency, limits, _window(spec) if spec.adaptive else None, slots=slots)
    return Link(spec, transport, gate, status)


def _window(spec: EngineSpec) -> Window:
    """A polite one begins with one call, so that it learns how fast the engine is when idle."""
    if spec.polite:
        return Window(1, spec.concurrency, Manners(), spec.timeout_seconds)
    return Window(START, spec.concurrency, timeout_seconds=spec.timeout_seconds)


async def watch(link: Link, clock: Clock, changed: Callable[[], None]) -> None:
    """Probe an engine for ever: which models it serves, or why it does not answer. `changed`
    is called when its state or models are others than before."""
    while True:
        before, answered = link.status, link.gate.answered_calls
        try:
            models = await link.transport.models()
        except EngineSilent as error:
            link.status = _unheard(link, answered, str(error))
        except EngineDown as error:
            link.status = replace(link.status, state=EngineState.DOWN, reason=str(error))
        else:
            link.status = replace(
                link.status, state=EngineState.UP, reason="", models=models, seen_at=clock.wall()
            )
            link.gate.may_be_back()
            if before.state is EngineState.DOWN:
                link.trust.forget()
        after = link.status
        if (after.state, after.reason, after.models) != (
            before.state,
            before.reason,
            before.models,
        ):
            log.info(
                "engine_seen",
                engine=after.name,
                state=after.state,
                reason=after.reason,
                models=len(after.models),
            )
            changed()
        up = after.state is EngineState.UP
        await clock.sleep(PROBE_SECONDS if up else PROBE_DOWN_SECONDS)


def _unheard(link: Link, answered: int, reason: str) -> EngineStatus:
    """Its status where it did not say its models in time. One that is busy lets that wait like any
    call: that is no news while it has calls, and it is up where it answered some meanwhile."""
    if link.gate.answered_calls > answered:
        return replace(link.status, state=EngineState.UP, reason="")
    if link.gate.in_flight:
        return link.status
    return replace(link.status, state=EngineState.DOWN, reason=reason)


async def follow_schedule(link: Link, clock: Clock, changed: Callable[[], None]) -> None:
    """Open and close an engine by its schedule for ever; returns where it is always open.
    `changed` is called whenever it opens or closes."""
    if link.spec.schedule == ALWAYS:
        return
    was_open = True
    while True:
        now = clock.wall()
        change = link.keep_hours(now, clock.boot())
        if link.status.is_open is not was_open:
            was_open = link.status.is_open
            log.info("engine_scheduled", engine=link.spec.name, is_open=was_open)
            changed()
        await clock.sleep(LOOK_SECONDS if change is None else min(LOOK_SECONDS, change - now))
