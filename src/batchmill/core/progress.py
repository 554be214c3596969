"""How far a job is, how long it may take and why it waits. Pure.

The counters are the ledger's and exact; what is in flight comes from the workers' last beats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from batchmill.core.models import Catalogue, any_up
from batchmill.core.waiting import gravest
from batchmill.fleet import EngineStatus, JobGauge, Worker
from batchmill.model import (
    STOPPED,
    TERMINAL,
    Job,
    JobState,
    WaitingReason,
)

_WEAKER_THAN_QUOTA = frozenset({WaitingReason.QUEUED_BEHIND_JOBS, WaitingReason.RATE_LIMITED})
"""What is told of a job that nobody runs, although an engine could: its quota says more."""


@dataclass(frozen=True, slots=True)
class Progress:
    """`done + failed + left` is the job's total; `in_flight` and `retrying` are of those left,
    `deduplicated` of those that are done or failed.

    `estimated_seconds_left` is None where nothing is known, and 0 at the end.
    """

    done: int
    failed: int
    retrying: int
    in_flight: int
    deduplicated: int
    left: int
    lines_per_second: float
    input_tokens: int
    output_tokens: int
    estimated_seconds_left: int | None
    last_progress_at: int | None
    waiting_reason: WaitingReason | None
    opens_at: int | None
    """When an engine that could go on opens, where the reason is `outside_schedule`."""


def progress(
    job: Job,
    workers: Sequence[Worker],
    catalogue: Catalogue,
    now: float,
    *,
    has_room: bool = True,
    held_back: bool = False,
) -> Progress:
    """What can be said of the job at `now` (the ledger's wall time). Where the storage has no
    room even a worker's beat may not be written, so that the asker says it: `has_room`. So it is
    with a job that its tenant's quota holds back."""
    ended = job.state in TERMINAL
    alive = () if ended else tuple(worker for worker in workers if worker.alive)
    gauges = tuple(w.beat.gauges[job.id] for w in alive if job.id in w.beat.gauges)
    left = 0 if ended else job.left
    rate = sum(gauge.lines_per_second for gauge in gauges)
    in_flight = min(left, sum(gauge.in_flight for gauge in gauges))
    said = None if ended else _why(job, alive, gauges, in_flight, catalogue, has_room=has_room)
    reason = WaitingReason.TENANT_QUOTA if held_back and said in _WEAKER_THAN_QUOTA else said
    hours = _hours(job, catalogue)
    return Progress(
        done=job.succeeded,
        failed=job.failed,
        retrying=min(left, sum(gauge.retrying for gauge in gauges)),
        in_flight=in_flight,
        deduplicated=job.deduplicated,
        left=left,
        lines_per_second=round(rate, 2),
        input_tokens=job.usage.input_tokens,
        output_tokens=job.usage.output_tokens,
        estimated_seconds_left=_estimate(job, left, rate, now, hours),
        last_progress_at=None if job.last_progress_at is None else int(job.last_progress_at),
        waiting_reason=reason,
        opens_at=hours.opens_at if reason is WaitingReason.OUTSIDE_SCHEDULE else None,
    )


@dataclass(frozen=True, slots=True)
class _Hours:
    """The schedules of the engines that could serve a job, taken together: whether one is open
    and until when (None: for ever), else when the first one opens."""

    is_open: bool
    closes_at: float | None = None
    opens_at: int | None = None


def _hours(job: Job, catalogue: Catalogue) -> _Hours:
    engines = _that_serve(job, catalogue)
    changes = [e.changes_at for e in engines if e.is_open]
    if not engines or changes:
        known = [change for change in changes if change is not None]
        return _Hours(True, max(known) if known and len(known) == len(changes) else None)
    opening = [engine.changes_at for engine in engines if engine.changes_at is not None]
    return _Hours(False, opens_at=int(min(opening)) if opening else None)


def _estimate(job: Job, left: int, rate: float, now: float, hours: _Hours) -> int | None:
    """By the present rate; without one by the average since the start; never past the window.
    Nothing is known of work that goes on in another span of the engines' schedules, nor of a retry
    without a rate: what it keeps took no time."""
    if left == 0:
        return 0
    done = job.succeeded + job.failed
    began = job.started_at if job.retry_of is None else None
    if rate <= 0.0 and began is not None and now > began:
        rate = done / (now - began)
    if rate <= 0.0 or job.state is JobState.VALIDATING:
        return None
    seconds = left / rate
    if not hours.is_open or (hours.closes_at is not None and now + seconds > hours.closes_at):
        return None
    return min(round(seconds), max(0, round(job.deadline - now)))


def _why(
    job: Job,
    alive: Sequence[Worker],
    gauges: Sequence[JobGauge],
    in_flight: int,
    catalogue: Catalogue,
    *,
    has_room: bool,
) -> WaitingReason | None:
    """The one reason why nothing moves; None while lines are in flight or results are made."""
    reason: WaitingReason | None = None
    if not has_room:
        reason = WaitingReason.STORAGE_UNAVAILABLE
    elif in_flight:
        reason = None
    elif not alive:
        reason = WaitingReason.NO_WORKER
    elif not any(worker.beat.storage_ok for worker in alive):
        reason = WaitingReason.STORAGE_UNAVAILABLE
    elif job.state in STOPPED:
        reason = None
    elif job.state is JobState.VALIDATING:
        reason = WaitingReason.VALIDATING
    elif job.paused:
        reason = WaitingReason.PAUSED
    elif not any(worker.beat.sends for worker in alive):
        reason = WaitingReason.NO_WORKER
    elif gauges:
        reason = _why_held(gauges)
    else:
        reason = _why_engines(job, catalogue) or WaitingReason.QUEUED_BEHIND_JOBS
    return reason


def _why_held(gauges: Sequence[JobGauge]) -> WaitingReason | None:
    """What the workers that hold its lines say, those that have some to send first."""
    blocked = {gauge.blocked for gauge in gauges if not gauge.follows} or {None}
    if None not in blocked:
        return gravest(blocked)
    return WaitingReason.RETRYING if any(gauge.retrying for gauge in gauges) else None


def _why_engines(job: Job, catalogue: Catalogue) -> WaitingReason | None:
    """What the engines' last known states say of a job that no worker holds."""
    serving = _that_serve(job, catalogue)
    if not serving:
        is_any_up = any_up(catalogue.engines)
        return WaitingReason.MODEL_NOT_SERVED if is_any_up else WaitingReason.ENGINE_DOWN
    within = [engine for engine in serving if engine.is_open]
    if not within:
        return WaitingReason.OUTSIDE_SCHEDULE
    if not any_up(within):
        return WaitingReason.ENGINE_DOWN
    return WaitingReason.RATE_LIMITED if all(engine.limited for engine in within) else None


def _that_serve(job: Job, catalogue: Catalogue) -> tuple[EngineStatus, ...]:
    """The engines that could go on with the job. Any may, where its model is not known, and one
    that was never seen may serve it, where no other does."""
    if job.model is None:
        return catalogue.engines
    unseen = tuple(engine for engine in catalogue.engines if engine.seen_at == 0.0)
    return catalogue.engines_for(job.model) or unseen
