"""What is lost when a process is killed: time, and calls that are sent once more."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from bench.engine import Engine, slow_engine
from bench.inputs import write_input
from bench.processes import running, wait_until
from bench.server import IN_FLIGHT, Server, batchmill_with, started
from bench.table import Place, Row, Section, at_most

DELAY_MS: Final = 50
LEASE_SECONDS: Final = 15.0
GROUP_SECONDS: Final = 0.25
JOB_SECONDS: Final = 60.0
_FLEET_IN_FLIGHT: Final = 32
_FLEET_LINES: Final = 6_000
"""Few enough shards that one worker holds all of them."""
_CONFIG: Final = """\
[[engines]]
name = "bench"
url = "{url}/v1"
concurrency = {in_flight}
"""
_READING: Final = (
    f"Against an engine that takes {DELAY_MS} ms for every answer. *Restart*: the whole of a "
    "`serve` is killed with -9 in the middle of a job and started again; the time is from the "
    "start of the new one to its first call. *Take-over*: of two workers beside an API the one "
    "that holds all open lines is killed with its parent; the time is from the kill to the "
    "other's first call. *Repeated calls* are what the engine counted beyond the lines of the "
    "job; the bound is what was in flight, and what comes in at the engine's best rate while one "
    "group fills and one is written."
)


def measure(place: Place) -> Section:
    """The restart of a `serve`, and a take-over between workers."""
    with slow_engine(place.home, DELAY_MS) as engine:
        restart, repeated = _restart(place, engine)
        taken_over, repeated_there = _taken_over(place, engine)
    bound = IN_FLIGHT + 2 * GROUP_SECONDS * IN_FLIGHT * 1000 / DELAY_MS
    rows = [
        at_most("restart to the first call", restart, 3.0, " s", 2),
        at_most("repeated calls, by the engine's count", repeated, bound, "", 0),
        at_most("take-over by another worker", taken_over, LEASE_SECONDS + 2.0, " s", 1),
        Row("repeated calls there", f"{repeated_there:,}"),
    ]
    figures = {
        "restart_seconds": restart,
        "repeated": repeated,
        "takeover_seconds": taken_over,
        "repeated_at_takeover": repeated_there,
    }
    return Section("When a process is killed", _READING, rows, figures)


def _config(place: Place, engine: Engine, name: str, in_flight: int) -> Path:
    path = place.home / f"{name}.toml"
    path.write_text(_CONFIG.format(url=engine.origin, in_flight=in_flight))
    return path


def _restart(place: Place, engine: Engine) -> tuple[float, int]:
    """Seconds to the first call of the next life, calls too many."""
    lines, home = place.scale.slow_lines // 2, place.home
    config = _config(place, engine, "restart", IN_FLIGHT)
    engine.stamp()
    with ExitStack() as stack:
        server = stack.enter_context(started(config, home, "restart"))
        job = server.create(server.upload(write_input(home / "restart.jsonl", lines)))
        wait_until(lambda: server.job(job)["completed_requests"] > lines // 4, 60, "some lines")
        os.kill(server.pid, signal.SIGKILL)
        time.sleep(1.0)  # what it had out has landed nowhere by now
        before = engine.stamp()["count"]
        began = time.monotonic()
        again = stack.enter_context(started(config, home, "restart", settle=False))
        again.finish(job, JOB_SECONDS)
        stamp = engine.stamp()
    shutil.rmtree(home / "restart")
    return stamp["first"] - began, before + stamp["count"] - lines


def _taken_over(place: Place, engine: Engine) -> tuple[float, int]:
    """Seconds from the kill of a worker to the first call of another one, calls too many."""
    home, config = place.home, _config(place, engine, "fleet", _FLEET_IN_FLIGHT)
    engine.stamp()
    with batchmill_with(config, home, "fleet", "--role", "api") as server, ExitStack() as stack:
        batch = write_input(home / "fleet.jsonl", _FLEET_LINES)
        first = stack.enter_context(running(_worker(config, server), home / "first.log"))
        job = server.create(server.upload(batch))
        wait_until(lambda: server.job(job)["completed_requests"] > 500, 60, "some lines")
        second = home / "second.log"
        stack.enter_context(running(_worker(config, server), second))
        wait_until(lambda: b"works as" in second.read_bytes(), 60, "another worker")
        first.kill()
        first.wait()
        killed = time.monotonic()
        time.sleep(1.0)
        before = engine.stamp()["count"]
        server.finish(job, JOB_SECONDS)
        stamp = engine.stamp()
    return stamp["first"] - killed, before + stamp["count"] - _FLEET_LINES


def _worker(config: Path, server: Server) -> list[str]:
    place = ["--config", str(config), "--data", str(server.data)]
    return [sys.executable, "-m", "batchmill", "worker", *place]
