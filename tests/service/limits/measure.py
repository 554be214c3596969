"""Limits by an engine's own count, with 1, then 4, then 2 workers on one ledger.

    python -m tests.service.limits.measure

runs the whole of it, some ten minutes: 50 calls at once and 600 a minute, once on an engine that
is so quick that the rate decides, once on one so slow that the calls at once do, side by side.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from batchmill.blobs.local import LocalBlobs
from batchmill.clock import SystemClock, new_id
from batchmill.ledger import SqlLedger
from batchmill.model import (
    DEFAULT_TENANT,
    BlobName,
    Dialect,
    File,
    FileId,
    FileSource,
    Job,
    JobId,
    JobInput,
    JobState,
)
from tests.serving import Process, Sim, chat_lines, eventually

WORKER = Path(__file__).parent / "worker.py"


@dataclass(frozen=True)
class Trial:
    """What is tried: the limits, the engine's latency, and for how long each number of workers."""

    concurrency: int = 50
    requests_per_minute: int = 600
    latency_seconds: float = 1.0
    window_seconds: float = 60.0
    lease_seconds: float = 15.0
    beat_seconds: float = 1.0
    settle_seconds: float = 8.0
    seconds: float = 100.0
    lines: int = 12_000
    shard_lines: int = 256


@dataclass
class Phase:
    """What became of it with so many workers, by the engine's own count."""

    workers: int
    rate_used: float
    calls_used: float


@dataclass
class Found:
    """The most that the engine ever saw, all changes included."""

    phases: list[Phase] = field(default_factory=list)
    max_in_flight: int = 0
    max_in_window: int = 0
    workers_ever: int = 0


class Trying:
    """One trial under way."""

    def __init__(self, trial: Trial, data: Path) -> None:
        self.trial, self.data = trial, data
        self.sim = Sim(f"latency={trial.latency_seconds}s,window={trial.window_seconds}s")
        self.workers: list[Process] = []
        self.found = Found()

    def start(self) -> None:
        trial, number = self.trial, self.found.workers_ever
        told = {
            "name": f"w{number}",
            "data": str(self.data),
            "url": self.sim.url,
            "lease_seconds": trial.lease_seconds,
            "beat_seconds": trial.beat_seconds,
            "shard_lines": trial.shard_lines,
            "limit": {
                "concurrency": trial.concurrency,
                "requests_per_minute": trial.requests_per_minute,
            },
        }
        worker = Process([str(WORKER), json.dumps(told)], log=self.data / f"w{number}.log")
        worker.start("ready")
        self.workers.append(worker)
        self.found.workers_ever += 1

    def have(self, workers: int) -> None:
        """Start workers, or end some: the first by SIGTERM, the others without a word."""
        while len(self.workers) < workers:
            self.start()
        if len(self.workers) > workers:
            self.workers.pop(0).stop()
        waits = 0.0
        while len(self.workers) > workers:
            self.workers.pop(0).kill()
            waits = self.trial.lease_seconds
        time.sleep(waits + self.trial.settle_seconds + self.trial.latency_seconds)

    def phase(self, workers: int) -> None:
        trial = self.trial
        self.have(workers)
        began, before = time.monotonic(), self.sim.calls()
        time.sleep(trial.seconds)
        after, passed = self.sim.calls(), time.monotonic() - began
        calls = after["total"] - before["total"]
        at_once = (after["in_flight_seconds"] - before["in_flight_seconds"]) / passed
        rate_used = calls / (trial.requests_per_minute * passed / 60)
        self.found.phases.append(Phase(workers, rate_used, at_once / trial.concurrency))
        self.found.max_in_flight = after["max_in_flight"]
        self.found.max_in_window = after["max_in_window"]

    def end(self) -> None:
        for worker in self.workers:
            worker.kill()
        self.sim.stop()


def measure(trial: Trial, data: Path) -> Found:
    """Run a trial with 1, 4 and 2 workers."""
    (data / "blobs").mkdir(parents=True)
    asyncio.run(create_job(trial, data))
    trying = Trying(trial, data)
    try:
        trying.start()
        eventually(lambda: trying.sim.calls()["total"] > 0, 60, "the first call")
        for workers in (1, 4, 2):
            trying.phase(workers)
    finally:
        trying.end()
    return trying.found


def side_by_side(trials: list[Trial], data: Path) -> list[Found]:
    with ThreadPoolExecutor() as threads:
        runs = [threads.submit(measure, trial, data / str(n)) for n, trial in enumerate(trials)]
        return [run.result() for run in runs]


async def create_job(trial: Trial, data: Path) -> None:
    """A job that lasts longer than the trial."""
    ledger = await SqlLedger.open(data / "ledger.db", clock=SystemClock())
    text, file = chat_lines(trial.lines), FileId(new_id())
    blob = BlobName(f"inputs/{file}")
    await LocalBlobs(data / "blobs").put_many([(blob, [text])])
    upload = File(
        file, DEFAULT_TENANT, "in.jsonl", "batch", FileSource.UPLOAD, len(text), 0.0, blob=blob
    )
    await ledger.add_file(replace(upload, lines=trial.lines))
    job = Job(
        JobId(new_id()),
        DEFAULT_TENANT,
        Dialect.MISTRAL,
        "/v1/chat/completions",
        JobState.VALIDATING,
        0.0,
        86_400.0,
        trial.lines,
        model="sim",
        input_files=(file,),
    )
    source = JobInput(file, "in.jsonl", blob, len(text), trial.lines)
    await ledger.create_job(job, [source], None)
    await ledger.close_connections()


def main(say: Callable[[str], None] = print) -> None:
    """Run the whole of it and say what came out."""
    trials = [Trial(), Trial(latency_seconds=10.0)]
    with tempfile.TemporaryDirectory() as folder:
        for trial, found in zip(trials, side_by_side(trials, Path(folder)), strict=True):
            say(f"latency {trial.latency_seconds:g} s, {os.cpu_count()} processors:")
            say(f"  most at once {found.max_in_flight} of {trial.concurrency}")
            most = trial.requests_per_minute
            say(f"  most in any minute {found.max_in_window} of {most} + {found.workers_ever}")
            for phase in found.phases:
                say(
                    f"  {phase.workers} workers: {phase.rate_used:.1%} of the rate,"
                    f" {phase.calls_used:.1%} of the calls at once"
                )


if __name__ == "__main__":
    main()
