"""Engines as all workers together see them (core/enginesums.py)."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from batchmill.core.enginesums import sums
from batchmill.fleet import Beat, EngineState, EngineStatus, Worker

UP = EngineStatus("gpu", "vllm", EngineState.UP, "", ("m",), 90.0, in_flight=4, window=8)


def worker(*engines: EngineStatus, alive: bool = True) -> Worker:
    return Worker("w", "i", "host", 1, 100.0, alive, Beat(engines=engines))


def test_windows_and_calls_of_all_living_workers_add_up_and_the_newest_decision_counts() -> None:
    old = replace(UP, decision="first", decided_at=10.0, running=9.0, waiting=1.0)
    new = replace(UP, decision="second", decided_at=20.0, models=("n",))
    [found] = sums([worker(old), worker(new), worker(UP, alive=False)], [UP])
    assert (found.workers, found.seen.window, found.seen.in_flight) == (2, 16, 8)
    assert (found.seen.decision, found.seen.models) == ("second", ("m", "n"))
    assert (found.seen.running, found.seen.waiting) == (9.0, 1.0)


def test_an_engine_is_up_when_one_worker_reaches_it() -> None:
    down = replace(UP, state=EngineState.DOWN, reason="refused", seen_at=99.0)
    [found] = sums([worker(down), worker(UP)], [])
    assert (found.seen.state, found.seen.reason) == (EngineState.UP, "")


def test_an_engine_without_a_living_worker_is_unknown_and_says_so() -> None:
    [found] = sums([worker(UP, alive=False)], [UP])
    assert (found.workers, found.seen.state, found.seen.window) == (0, EngineState.UNKNOWN, 0)
    assert found.seen.reason == "no worker that uses it is alive"


def test_the_beat_of_an_older_worker_is_still_read() -> None:
    text = b'{"engines":[{"name":"gpu","kind":"vllm","state":"up","models":["m"],"in_flight":3}]}'
    [found] = sums([worker(*msgspec.json.decode(text, type=Beat).engines)], [])
    assert (found.seen.in_flight, found.seen.window, found.seen.decision) == (3, 0, "")
