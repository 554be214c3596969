"""How far a job is, how long it may take and why it waits. Pure.

The counters are the ledger's and exact; what is in flight comes from the workers' last beats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from batchmill.core.models import Catalogue, any_up
from batchmill.fleet import JobGauge, Worker
from batchmill.model import (
    STOPPED,
    TERMINAL,
    Job,
    JobState,
    WaitingReason,
)

_GRAVEST_FIRST = (
    WaitingReason.STORAGE_UNAVAILABLE,
    WaitingReason.ENGINE_DOWN,
    WaitingReason.MODEL_NOT_SERVED,
    WaitingReason.RATE_LIMITED,
)


@dataclass(frozen=True, slots=True)
class Progress:
    """`done + failed + left` is the job's total; `in_flight` and `retrying` are of those left.

    `estimated_seconds_left` is None where nothing is known, and 0 at the end.
    """

    done: int
    failed: int
    retrying: int
    in_flight: int
    left: int
    lines_per_second: float
    input_tokens: int
    output_tokens: int
    estimated_seconds_left: int | None
    last_progress_at: int | None
    waiting_reason: WaitingReason | None


def progress(
    job: Job,
    workers: Sequence[Worker],
    catalogue: Catalogue,
    now: float,
    *,
    has_room: bool = True,
) -> Progress:
    """What can be said of the job at `now` (the ledger's wall time). Where the storage has no
    room even a worker's beat may not be written, so that the asker says it: `has_room`."""
    ended = job.state in TERMINAL
    alive = () if ended else tuple(worker for worker in workers if worker.alive)
    gauges = tuple(w.beat.gauges[job.id] for w in alive if job.id in w.beat.gauges)
    left = 0 if ended else job.left
    rate = sum(gauge.lines_per_second for gauge in gauges)
    in_flight = min(left, sum(gauge.in_flight for gauge in gauges))
    return Progress(
        done=job.succeeded,
        failed=job.failed,
        retrying=min(left, sum(gauge.retrying for gauge in gauges)),
        in_flight=in_flight,
        left=left,
        lines_per_second=round(rate, 2),
        input_tokens=job.usage.input_tokens,
        output_tokens=job.usage.output_tokens,
        estimated_seconds_left=_estimate(job, left, rate, now),
        last_progress_at=None if job.last_progress_at is None else int(job.last_progress_at),
        waiting_reason=(
            None if ended else _why(job, alive, gauges, in_flight, catalogue, has_room=has_room)
        ),
    )


def _estimate(job: Job, left: int, rate: float, now: float) -> int | None:
    """By the present rate; without one by the average since the start; never past the window."""
    if left == 0:
        return 0
    done = job.succeeded + job.failed
    if rate <= 0.0 and job.started_at is not None and now > job.started_at:
        rate = done / (now - job.started_at)
    if rate <= 0.0 or job.state is JobState.VALIDATING:
        return None
    return min(round(left / rate), max(0, round(job.deadline - now)))


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
    """What the workers that hold its lines say."""
    blocked = {gauge.blocked for gauge in gauges}
    if None not in blocked:
        return next((reason for reason in _GRAVEST_FIRST if reason in blocked), None) or next(
            iter(blocked)
        )
    return WaitingReason.RETRYING if any(gauge.retrying for gauge in gauges) else None


def _why_engines(job: Job, catalogue: Catalogue) -> WaitingReason | None:
    """What the engines' last known states say of a job that no worker holds."""
    if not any_up(catalogue.engines):
        return WaitingReason.ENGINE_DOWN
    if job.model is None:
        return None
    serving = catalogue.engines_for(job.model)
    if not serving:
        return WaitingReason.MODEL_NOT_SERVED
    if not any_up(serving):
        return WaitingReason.ENGINE_DOWN
    return WaitingReason.RATE_LIMITED if all(engine.limited for engine in serving) else None
