from __future__ import annotations

from dataclasses import replace

import pytest

from batchmill.core.models import Catalogue
from batchmill.core.progress import progress
from batchmill.fleet import Beat, EngineState, EngineStatus, JobGauge, Worker
from batchmill.model import (
    DEFAULT_TENANT,
    Dialect,
    Job,
    JobId,
    JobState,
    WaitingReason,
)
from batchmill.usage import Usage

R = WaitingReason
ID = JobId("j")
JOB = Job(
    id=ID,
    tenant=DEFAULT_TENANT,
    dialect=Dialect.MISTRAL,
    endpoint="/v1/ocr",
    state=JobState.RUNNING,
    created_at=0.0,
    deadline=1000.0,
    total=100,
    model="small",
    started_at=10.0,
    succeeded=30,
    failed=10,
    usage=Usage(7, 8),
    last_progress_at=40.5,
)
UP = EngineStatus("a", "vllm", EngineState.UP, models=("small",), seen_at=1.0)
DOWN = replace(UP, name="b", state=EngineState.DOWN)
OTHER = replace(UP, name="c", models=("large",))


def worker(
    gauge: JobGauge | None = None,
    *,
    alive: bool = True,
    storage_ok: bool = True,
    sends: bool = True,
) -> Worker:
    gauges = {} if gauge is None else {ID: gauge}
    return Worker("w", "i", "host", 1, 0.0, alive, Beat(gauges, (), storage_ok, sends=sends))


def why(job: Job, *workers: Worker, engines: tuple[EngineStatus, ...] = (UP,)) -> R | None:
    return progress(job, workers, Catalogue({}, engines), 50.0).waiting_reason


def in_state(state: JobState, *, paused: bool = False) -> Job:
    return replace(JOB, state=state, paused=paused)


@pytest.mark.parametrize(
    ("job", "workers", "engines", "reason"),
    [
        (JOB, (worker(JobGauge(in_flight=1)),), (UP,), None),
        (in_state(JobState.RUNNING, paused=True), (worker(JobGauge(in_flight=1)),), (UP,), None),
        (JOB, (), (UP,), R.NO_WORKER),
        (JOB, (worker(alive=False),), (UP,), R.NO_WORKER),
        (JOB, (worker(JobGauge(in_flight=5), alive=False),), (UP,), R.NO_WORKER),
        (in_state(JobState.VALIDATING), (), (UP,), R.NO_WORKER),
        (in_state(JobState.VALIDATING), (worker(sends=False),), (UP,), R.VALIDATING),
        (JOB, (worker(sends=False),), (UP,), R.NO_WORKER),
        (in_state(JobState.CANCELLING), (worker(sends=False),), (UP,), None),
        (in_state(JobState.VALIDATING), (worker(),), (UP,), R.VALIDATING),
        (JOB, (worker(storage_ok=False),), (UP,), R.STORAGE_UNAVAILABLE),
        (JOB, (worker(storage_ok=False), worker()), (UP,), R.QUEUED_BEHIND_JOBS),
        (in_state(JobState.FINALIZING), (worker(storage_ok=False),), (UP,), R.STORAGE_UNAVAILABLE),
        (in_state(JobState.FINALIZING), (worker(),), (UP,), None),
        (in_state(JobState.CANCELLING), (worker(),), (), None),
        (in_state(JobState.CANCELLING), (), (), R.NO_WORKER),
        (in_state(JobState.QUEUED, paused=True), (worker(),), (UP,), R.PAUSED),
        (in_state(JobState.QUEUED), (worker(),), (UP,), R.QUEUED_BEHIND_JOBS),
        (JOB, (worker(),), (), R.ENGINE_DOWN),
        (JOB, (worker(),), (DOWN,), R.ENGINE_DOWN),
        (JOB, (worker(),), (DOWN, OTHER), R.ENGINE_DOWN),
        (JOB, (worker(),), (OTHER,), R.MODEL_NOT_SERVED),
        (replace(JOB, model=None), (worker(),), (OTHER,), R.QUEUED_BEHIND_JOBS),
        (JOB, (worker(),), (replace(UP, limited=True),), R.RATE_LIMITED),
        (JOB, (worker(),), (replace(UP, limited=True), UP), R.QUEUED_BEHIND_JOBS),
        (JOB, (worker(JobGauge()),), (UP,), None),
        (JOB, (worker(JobGauge(retrying=2)),), (UP,), R.RETRYING),
        (JOB, (worker(JobGauge(follows=True)),), (UP,), None),
        (
            JOB,
            (worker(JobGauge(follows=True)), worker(JobGauge(blocked=R.ENGINE_DOWN))),
            (UP,),
            R.ENGINE_DOWN,
        ),
        (JOB, (worker(JobGauge(blocked=R.RATE_LIMITED)),), (UP,), R.RATE_LIMITED),
        (JOB, (worker(JobGauge(retrying=2, blocked=R.ENGINE_DOWN)),), (UP,), R.ENGINE_DOWN),
        (
            JOB,
            (worker(JobGauge(blocked=R.RATE_LIMITED)), worker(JobGauge(blocked=R.ENGINE_DOWN))),
            (UP,),
            R.ENGINE_DOWN,
        ),
        (JOB, (worker(JobGauge(blocked=R.RETRYING)),), (UP,), R.RETRYING),
        (in_state(JobState.COMPLETED), (), (), None),
        (in_state(JobState.FAILED), (), (DOWN,), None),
    ],
)
def test_a_job_says_why_it_waits(
    job: Job, workers: tuple[Worker, ...], engines: tuple[EngineStatus, ...], reason: R | None
) -> None:
    assert why(job, *workers, engines=engines) is reason


def test_gauges_of_living_workers_are_summed() -> None:
    gauge = JobGauge(in_flight=4, retrying=1, lines_per_second=3.0)
    found = progress(
        JOB, [worker(gauge), worker(gauge), worker(gauge, alive=False)], Catalogue(), 50.0
    )
    assert (found.in_flight, found.retrying, found.lines_per_second) == (8, 2, 6.0)
    assert (found.done, found.failed, found.left) == (30, 10, 60)
    assert (found.input_tokens, found.output_tokens, found.last_progress_at) == (7, 8, 40)
    assert found.estimated_seconds_left == 10


def test_more_is_never_in_flight_than_is_left() -> None:
    found = progress(
        replace(JOB, succeeded=89), [worker(JobGauge(in_flight=8, retrying=9))], Catalogue(), 50.0
    )
    assert (found.left, found.in_flight, found.retrying) == (1, 1, 1)


@pytest.mark.parametrize(
    ("job", "gauge", "seconds"),
    [
        (JOB, JobGauge(lines_per_second=0.1), 600),
        (JOB, JobGauge(lines_per_second=0.01), 950),
        (JOB, None, 60),
        (replace(JOB, succeeded=0, failed=0), None, None),
        (replace(JOB, started_at=None), None, None),
        (replace(JOB, retry_of=JobId("parent")), None, None),
        (replace(JOB, retry_of=JobId("parent")), JobGauge(lines_per_second=0.1), 600),
        (in_state(JobState.VALIDATING), None, None),
        (replace(JOB, succeeded=90), None, 0),
        (in_state(JobState.CANCELLED), None, 0),
    ],
)
def test_the_time_left_is_estimated_where_anything_is_known(
    job: Job, gauge: JobGauge | None, seconds: int | None
) -> None:
    found = progress(job, [worker(gauge)], Catalogue({}, (UP,)), 50.0)
    assert found.estimated_seconds_left == seconds
