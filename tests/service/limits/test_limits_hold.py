"""Limits hold over all workers together, by the engine's own count, while workers come, go and die.

`python -m tests.service.limits.measure` is the same in full, with the figures of the promise.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.service.limits.measure import Trial, side_by_side

QUICK = Trial(
    window_seconds=6.0,
    lease_seconds=3.0,
    beat_seconds=0.3,
    settle_seconds=2.5,
    seconds=6.0,
    shard_lines=64,
    lines=4_000,
)
BY_RATE = replace(QUICK, requests_per_minute=1800, latency_seconds=0.2)
BY_CALLS = replace(QUICK, requests_per_minute=6000, latency_seconds=1.0)


@pytest.mark.serial
def test_no_limit_is_exceeded_and_each_is_used_with_1_then_4_then_2_workers(
    tmp_path: Path,
) -> None:
    by_rate, by_calls = side_by_side([BY_RATE, BY_CALLS], tmp_path)
    for trial, found in ((BY_RATE, by_rate), (BY_CALLS, by_calls)):
        assert found.max_in_flight <= trial.concurrency
        share = trial.requests_per_minute * trial.window_seconds / 60
        # A busy machine delays calls; the whole trial has room for that, this short one has not.
        assert found.max_in_window <= 1.05 * share + found.workers_ever
    assert min(phase.rate_used for phase in by_rate.phases) > 0.85
    assert min(phase.calls_used for phase in by_calls.phases) > 0.85
