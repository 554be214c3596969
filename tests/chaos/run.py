"""One run, from the first upload to the verdict."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any
from unittest.mock import patch

from batchmill.app.stores import open_blobs, open_ledger
from batchmill.config import load
from batchmill.model import JobId
from tests.chaos.crew import Crew
from tests.chaos.schedule import Blow, outages, strikes
from tests.chaos.stores import Stores
from tests.chaos.verdict import Verdict, judge_blobs, judge_job, judge_parts
from tests.fleet import Fleet, fleet
from tests.serving import Sim, chat_lines, simulating

LEASE_SECONDS = 4.0
BEAT_SECONDS = 0.5
CONCURRENCY = 48
"""Calls in flight of all workers together."""
LATENCY_SECONDS = 0.02
LOOK_SECONDS = 0.1
TERMINAL = {"SUCCESS", "FAILED", "TIMEOUT_EXCEEDED", "CANCELLED"}


@dataclass(frozen=True, slots=True)
class Plan:
    """What is done. Nothing is struck after `strike_seconds`; a job that has not ended
    `settle_seconds` later is found broken."""

    seed: int
    lines: int = 100_000
    jobs: int = 4
    workers: int = 3
    every_seconds: float = 1.0
    outage_every_seconds: float = 0.0
    """0: the servers stay."""
    strike_seconds: float = 240.0
    settle_seconds: float = 240.0
    calls_per_line: float | None = None
    """At most so many calls for each line, where that is asked for."""


def run(plan: Plan, stores: Stores, folder: Path) -> Verdict:
    """Do it all over these stores; everything that was started is gone when it returns."""
    verdict = Verdict(figures={"stores": stores.name, "seed": plan.seed})
    with simulating(f"latency={LATENCY_SECONDS}s") as sim:
        config = _config(folder, sim.url)
        timing = {
            "BATCHMILL_LEASE_TIME": f"{LEASE_SECONDS}s",
            "BATCHMILL_BEAT": f"{int(BEAT_SECONDS * 1000)}ms",
        }
        environment = stores.environment | timing
        arguments = ("--config", str(config))
        with fleet(stores.data, *arguments, workers=plan.workers, **environment) as some:
            jobs = _begin(plan, some)
            began = time.monotonic()
            allowed = _strike(plan, stores, some, sim, jobs, verdict)
            _judge_jobs(plan, some, jobs, verdict)
            verdict.figures["seconds"] = round(time.monotonic() - began, 1)
            for member in (*some.workers, *some.apis):
                verdict.require(member.drain() == 0, f"{member.name} did not end well")
        _judge_calls(plan, sim, allowed, verdict)
    asyncio.run(_judge_stores(plan, stores, environment, jobs, verdict))
    return verdict


def _config(folder: Path, url: str) -> Path:
    path = folder / "batchmill.toml"
    engine = f'[[engines]]\nname = "counted"\nurl = "{url}"\nconcurrency = {CONCURRENCY}\n'
    path.write_text(engine)
    return path


def _begin(plan: Plan, some: Fleet) -> list[str]:
    door = some.ready()
    each = plan.lines // plan.jobs
    files = [
        door.upload(chat_lines(each, f"job {n} question {{n}} id:line-{{n}} of {n}."))
        for n in range(plan.jobs)
    ]
    return [str(door.create(input_files=[file])["id"]) for file in files]


def _strike(
    plan: Plan, stores: Stores, some: Fleet, sim: Sim, jobs: list[str], verdict: Verdict
) -> float:
    """Strike until the jobs have ended or the time is over, then wait for them. How many calls
    may have been repeated for it."""
    crew, door, allowed = Crew(some, LEASE_SECONDS), some.ready(), 0.0
    coming = strikes(plan.seed, plan.every_seconds, plan.workers)
    strike, began = next(coming), time.monotonic()
    with _counting(sim, 3 * stores.group_seconds) as recent, _weather(plan, stores, verdict):
        while (passed := time.monotonic() - began) < plan.strike_seconds + plan.settle_seconds:
            while strike.at <= passed < plan.strike_seconds:
                if crew.strike(strike):
                    group = 0.0 if strike.blow is Blow.STOPPED else recent()
                    allowed += CONCURRENCY + group
                strike = next(coming)
            if all(door.job(job)["status"] in TERMINAL for job in jobs):
                break
            time.sleep(LOOK_SECONDS)
    crew.rest()
    verdict.figures |= dict(sorted(crew.landed.items()))
    verdict.figures["missed"] = crew.missed
    return allowed


@contextmanager
def _counting(sim: Sim, window_seconds: float) -> Iterator[Any]:
    """Gives a function that says how many calls came within the last so many seconds: what the
    groups may hold that fill and that are being written. A group fills for as long as the one
    before it is written, hence three times the usual at most."""
    seen: list[tuple[float, int]] = [(time.monotonic(), 0)]
    over = Event()

    def look() -> None:
        while not over.wait(LOOK_SECONDS):
            seen.append((time.monotonic(), sim.calls()["total"]))

    def recent() -> float:
        now, last = time.monotonic(), seen[-1][1]
        before = [total for at, total in seen if at <= now - window_seconds]
        return float(last - (before[-1] if before else 0))

    thread = Thread(target=look, daemon=True)
    thread.start()
    try:
        yield recent
    finally:
        over.set()
        thread.join()


@contextmanager
def _weather(plan: Plan, stores: Stores, verdict: Verdict) -> Iterator[None]:
    """Lets the servers go and come back meanwhile."""
    over = Event()

    def blow() -> None:
        began = time.monotonic()
        for at, outage in outages(plan.seed, plan.outage_every_seconds):
            if at > plan.strike_seconds or over.wait(max(0.0, began + at - time.monotonic())):
                return
            stores.suffer(outage)
            verdict.figures[outage.name.lower()] = verdict.figures.get(outage.name.lower(), 0) + 1

    thread = Thread(target=blow, daemon=True)
    if plan.outage_every_seconds:
        thread.start()
    try:
        yield
    finally:
        over.set()
        if plan.outage_every_seconds:
            thread.join()


def _judge_jobs(plan: Plan, some: Fleet, jobs: list[str], verdict: Verdict) -> None:
    door = some.ready()
    for number, name in enumerate(jobs):
        job = door.job(name)
        judge_job(verdict, job, door, plan.lines // plan.jobs, f"of {number}.")


def _judge_calls(plan: Plan, sim: Sim, allowed: float, verdict: Verdict) -> None:
    """Repeated calls, by the engine's own count."""
    calls = sim.calls()
    repeated, per_line = calls["total"] - plan.lines, calls["total"] / plan.lines
    verdict.figures |= {
        "repeated calls": repeated,
        "allowed": int(allowed),
        "calls per line": round(per_line, 4),
    }
    verdict.require(repeated >= 0, f"{-repeated} lines were answered without a call")
    verdict.require(repeated <= allowed, f"{repeated} calls repeated, {allowed:.0f} allowed")
    most = plan.calls_per_line
    verdict.require(most is None or per_line <= most, f"{per_line:.3f} calls per line")


async def _judge_stores(
    plan: Plan, stores: Stores, environment: dict[str, str], jobs: list[str], verdict: Verdict
) -> None:
    settings = load({"data": stores.data}, environment)
    with patch.dict(os.environ, environment):  # the client of the store reads it by itself
        ledger, blobs = await open_ledger(settings), open_blobs(settings)
    try:
        for job in jobs:
            await judge_parts(verdict, ledger, JobId(job), plan.lines // plan.jobs)
        ids = [JobId(job) for job in jobs]
        await judge_blobs(verdict, ledger, blobs, ids, inputs=plan.jobs)
    finally:
        await ledger.close_connections()
