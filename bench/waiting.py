"""What a user waits for: the first call, an answer from a slow engine, the end after a cancel."""

from __future__ import annotations

import time
from statistics import median

from bench.engine import Engine, slow_engine
from bench.inputs import write_input
from bench.processes import wait_until
from bench.server import IN_FLIGHT, TERMINAL, Server, batchmill
from bench.table import Place, Section, at_least, at_most

DELAY_MS = 50
_IDEAL = IN_FLIGHT * 1000 / DELAY_MS
_READING = (
    f"Against an engine that takes {DELAY_MS} ms for every answer, {IN_FLIGHT} calls in flight. "
    "*Create to first call* is from sending the create to the engine reading its first request."
)


def measure(place: Place) -> Section:
    """First call, slow engine, cancel: on one server."""
    with (
        slow_engine(place.home, DELAY_MS) as engine,
        batchmill(f"{engine.origin}/v1", place.home, "waiting") as server,
    ):
        first = _first_calls(place, server, engine)
        rate = _rate(place, server)
        left, ending = _cancel(place, server)
    rows = [
        at_most("create to first call, median", median(first) * 1000, 200, " ms", 0),
        at_most("create to first call, worst", max(first) * 1000, 200, " ms", 0),
        at_least(
            f"lines a second, of the ideal {_IDEAL:,.0f} ({rate:,.0f})",
            rate / _IDEAL * 100,
            90,
            " %",
        ),
        at_most(f"cancel to the end, {left:,} lines left", ending, 3.0, " s", 2),
    ]
    figures = {
        "first_call_seconds": first,
        "lines_per_second": rate,
        "cancel_left": left,
        "cancel_seconds": ending,
    }
    return Section("Waiting", _READING, rows, figures)


def _first_calls(place: Place, server: Server, engine: Engine) -> list[float]:
    file = server.upload(write_input(place.home / "hundred.jsonl", 100))
    taken = []
    for _ in range(place.scale.first_calls):
        time.sleep(0.37)
        engine.stamp()
        began = time.monotonic()
        server.finish(server.create(file), 30)
        taken.append(engine.stamp()["first"] - began)
    return taken


def _rate(place: Place, server: Server) -> float:
    lines = place.scale.slow_lines
    file = server.upload(write_input(place.home / "slow.jsonl", lines))
    life = server.finish(server.create(file), 120)
    assert life.started is not None
    assert life.ended is not None
    return lines / (life.ended - life.started)


def _cancel(place: Place, server: Server) -> tuple[int, float]:
    """How many lines were left at a cancel, and the seconds until the job had ended."""
    lines = place.scale.left_lines + 5_000
    job = server.create(server.upload(write_input(place.home / "left.jsonl", lines)))
    wait_until(lambda: server.job(job)["completed_requests"] > 0, 30, "the first lines")
    began = time.monotonic()
    left = lines - server.cancel(job)["completed_requests"]
    wait_until(lambda: server.job(job)["status"] in TERMINAL, 60, "a cancel")
    taken = time.monotonic() - began
    shown = server.job(job)
    assert shown["status"] == "CANCELLED"
    assert shown["succeeded_requests"] + shown["failed_requests"] == lines
    return left, taken
