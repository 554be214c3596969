"""A soak: half an hour of jobs that are made, cancelled and pruned, over engines that fail in every
way, while a worker is killed now and then. Does anything grow, and is any line lost?

    python -m bench.soak [--minutes 30] [--lines-per-second 60]

One `serve` has two workers, of which the second is killed again and again; a third worker has
joined and says how many tasks its loop has. The engines of the configuration file come and go.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from bench.client import Refused
from bench.inputs import write_input
from bench.processes import Failure, free_port, listens, running, wait_until
from bench.report import RESULTS
from bench.sampling import Sampler, Trend, trend
from bench.server import Server, batchmill_with
from bench.table import megabytes

FAULTS: Final = (
    "latency=60ms,jitter=0.5,batch=64,rate_500=0.01,rate_503=0.01,rate_429=0.005,rate_reset=0.005,"
    "rate_hang=0.002,rate_cut=0.003,rate_notjson=0.003"
)
CONFIG: Final = """\
beat = "1s"
lease_time = "6s"
keep_results = "45s"
keep_uploads = "45s"
workers = 2
"""
ENGINE: Final = '[[engines]]\nname = "{name}"\nurl = "{url}"\nconcurrency = 32\ntimeout = "3s"\n'
LINES: Final = 240
SAMPLE_SECONDS: Final = 3.0
KILL_SECONDS: Final = 50.0
CHANGE_SECONDS: Final = 40.0
WARM_UP: Final = 0.25
"""This share of the time may pass before what a process holds has to be level."""
MORE_MEMORY: Final = 1.05
MORE_MEMORY_BYTES: Final = 4_000_000
MORE: Final = {"files": 4, "sockets": 16, "threads": 4, "tasks": 8}
"""There may be so many more at the end: what is in flight differs, and so do idle connections."""
OVER: Final = {"SUCCESS", "FAILED", "CANCELLED", "TIMEOUT_EXCEEDED"}


@dataclass
class Told:
    """What became of the jobs."""

    states: dict[str, int] = field(default_factory=dict)
    lines: int = 0
    faults: list[str] = field(default_factory=list)
    kills: int = 0
    changes: int = 0


def main() -> int:
    """Soak, print the table and the verdict, write both down; 0 where all is well."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--lines-per-second", type=float, default=60.0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="batchmill-soak-") as folder:
        home = Path(folder)
        told, sampler, tasks = soak(home, asked.minutes * 60, asked.lines_per_second)
        shutil.copy(home / "soak.log", RESULTS / "soak.log")
    rows = judged(sampler, tasks)
    text = report(rows, told, asked.minutes)
    print(text)
    raw = {
        "minutes": asked.minutes,
        "told": asdict(told),
        "trends": {row.what: asdict(row.trend) for row in rows},
        "memory": {
            name: [[round(s.at - taken[0].at), s.memory_bytes] for s in taken]
            for name, taken in sampler.taken.items()
        },
        "text": text,
    }
    (RESULTS / "soak.json").write_text(json.dumps(raw) + "\n")
    return int(bool(told.faults) or not all(row.is_level for row in rows))


def soak(
    home: Path, seconds: float, lines_per_second: float
) -> tuple[Told, Sampler, list[tuple[float, float]]]:
    """Run for that long; what became of the jobs, what the processes held, the tasks seen."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    told, tally = Told(), home / "tasks"
    with _sims(home, 2) as urls:
        config = home / "soak.toml"
        config.write_text(CONFIG + _engines(urls, 2))
        with batchmill_with(config, home, "soak") as server:
            command = [sys.executable, "-m", "bench.observed"]
            command += [str(config), str(server.data), str(tally)]
            with running(command, home / "observed.log", piped=True) as observed:

                def pids() -> dict[str, int]:
                    with suppress(OSError):
                        return {**server.roles(), "joined worker": observed.pid}
                    return {}

                began = time.monotonic()
                with Sampler(pids, SAMPLE_SECONDS) as sampler:
                    _load(server, config, urls, told, began + seconds, lines_per_second)
                counts = [float(line) for line in tally.read_text().split()]
    return told, sampler, list(enumerate(counts))  # type: ignore[arg-type]


def _engines(urls: list[str], count: int) -> str:
    return "".join(ENGINE.format(name=f"sim{n}", url=urls[n]) for n in range(count))


@contextmanager
def _sims(home: Path, count: int) -> Iterator[list[str]]:
    if not count:
        yield []
        return
    port = free_port()
    command = [sys.executable, "-m", "batchmill.engines.sim", "--port", str(port)]
    command += ["--spec", f"{FAULTS},seed={count}"]
    with running(command, home / f"sim{count}.log"), _sims(home, count - 1) as others:
        wait_until(lambda: listens(port), 20, "the start of the simulator")
        yield [*others, f"http://127.0.0.1:{port}/v1"]


def _load(
    server: Server, config: Path, urls: list[str], told: Told, until: float, rate: float
) -> None:
    """Jobs at that rate until then, and what disturbs them."""
    chance, open_jobs, made = random.Random(5), {}, 0  # noqa: S311 - a load, no secret
    kill_at = time.monotonic() + KILL_SECONDS
    change_at = time.monotonic() + CHANGE_SECONDS
    next_at = time.monotonic()
    batch = write_input(config.parent / "soak.jsonl", LINES)
    while time.monotonic() < until or open_jobs:
        now = time.monotonic()
        if now >= next_at and now < until:
            next_at = now + LINES / rate
            made += 1
            job = server.create(server.upload(batch), model="sim")
            open_jobs[job] = now + 180.0
            if made % 5 == 0:
                time.sleep(chance.uniform(0.0, 1.0))
                with suppress(Refused):  # it has ended meanwhile
                    server.cancel(job)
        if now >= kill_at and now < until:
            kill_at = now + KILL_SECONDS
            _kill_second_worker(server, told)
        if now >= change_at and now < until:
            change_at, told.changes = now + CHANGE_SECONDS, told.changes + 1
            config.write_text(CONFIG + _engines(urls, 1 + told.changes % 2))
        for job, deadline in list(open_jobs.items()):
            if _is_over(server, job, told, late=now > deadline):
                del open_jobs[job]
        time.sleep(0.25)


def _kill_second_worker(server: Server, told: Told) -> None:
    pid = server.roles().get("worker-2")
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
        told.kills += 1


def _is_over(server: Server, job: str, told: Told, *, late: bool) -> bool:
    """Whether the job has ended; then it is held to the promises."""
    shown = server.job(job)
    if shown["status"] not in OVER:
        if late:
            told.faults.append(f"job {job} has not ended: {shown['progress']}")
        return late
    told.states[shown["status"]] = told.states.get(shown["status"], 0) + 1
    told.faults += [f"job {job}: {fault}" for fault in _faults(server, shown)]
    told.lines += shown["total_requests"]
    return True


def _faults(server: Server, shown: dict[str, Any]) -> Iterator[str]:
    """What is wrong with an ended job's results."""
    if shown["status"] not in {"SUCCESS", "CANCELLED"}:
        yield f"it ended as {shown['status']}"
    sides = (("output_file", "succeeded_requests"), ("error_file", "failed_requests"))
    seen: list[str] = []
    for name, count in sides:
        ids = server.custom_ids(shown[name]) if shown[name] else []
        if len(ids) != shown[count]:
            yield f"{name} has {len(ids)} lines, {count} is {shown[count]}"
        seen += ids
    if len(seen) != LINES or len(set(seen)) != LINES:
        yield f"{len(seen)} lines, {len(set(seen))} different ones, of {LINES}"


@dataclass(frozen=True, slots=True)
class Judged:
    """One thing that should be level, and whether it is."""

    what: str
    trend: Trend
    is_level: bool
    shown: str


def judged(sampler: Sampler, tasks: list[tuple[float, float]]) -> list[Judged]:
    """Every thing that each process held; those of a worker that was killed again and again
    are left out."""
    rows = []
    for name, taken in sampler.taken.items():
        level = taken[int(len(taken) * WARM_UP) :]
        if name == "worker-2" or len(level) < 4:
            continue
        times = [each.at for each in level]
        memory = trend(times, [float(each.memory_bytes) for each in level])
        allowed = max(memory.first * MORE_MEMORY, memory.first + MORE_MEMORY_BYTES)
        shown = f"{megabytes(memory.first)} to {megabytes(memory.last)}"
        shown += f", {memory.hourly / 1e6:+.1f} MB an hour"
        rows.append(Judged(f"{name}: memory", memory, memory.last <= allowed, shown))
        for thing in ("files", "sockets", "threads"):
            found = trend(times, [float(getattr(each, thing)) for each in level])
            rows.append(_things(name, thing, found))
    level = tasks[int(len(tasks) * WARM_UP) :]
    if len(level) >= 4:
        found = trend([at for at, _ in level], [count for _, count in level])
        rows.append(_things("joined worker", "tasks", found))
    return rows


def _things(name: str, thing: str, found: Trend) -> Judged:
    shown = f"{found.first:g} to {found.last:g}, at most {found.most:g}"
    is_level = found.last <= found.first + MORE[thing]
    return Judged(f"{name}: {thing}", found, is_level, shown)


def report(rows: list[Judged], told: Told, minutes: float) -> str:
    """The table and the verdict."""
    states = ", ".join(f"{n} {state}" for state, n in sorted(told.states.items()))
    head = f"A soak of {minutes:g} minutes: {sum(told.states.values()):,} jobs ({states}), "
    head += f"{told.lines:,} lines, {told.kills} workers killed, {told.changes} changes of engines."
    lines = [
        head,
        "",
        "| what | after the warm-up, and at the end | level |",
        "|---|---|---|",
        *(f"| {row.what} | {row.shown} | {'yes' if row.is_level else '**no**'} |" for row in rows),
        "",
    ]
    lines += [f"- {fault}" for fault in told.faults[:20]]
    grown = [row.what for row in rows if not row.is_level]
    if grown:
        lines.append(f"It grows: {', '.join(grown)}.")
    if told.faults:
        lines.append(f"{len(told.faults)} promises were broken.")
    if not grown and not told.faults:
        lines.append("Nothing grows, and every line of every job stands once.")
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as error:
        sys.exit(f"bench.soak: {error}")
