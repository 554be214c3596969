"""The window that is found, against a sweep of fixed ones: throughput over a whole run, its
beginning included."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.contest import LINES, Contestant, answered, begin, contest
from bench.inputs import write_input
from bench.processes import free_port, listens, running, wait_until
from bench.server import Server, batchmill_with
from bench.table import Place, Row, Section, at_least, at_most

SECONDS: Final = 60.0
LLAMA_SECONDS: Final = 20.0
LATENCY_MS: Final = 300
SLOTS: Final = 48
_SWEEP: Final = (16, 32, 48, 64, 128)
_LLAMA_SWEEP: Final = (1, 2, 4, 8, 16)
_READING: Final = (
    'Lines answered within a run, the beginning included, with `concurrency = "auto"` against the '
    f"best of fixed numbers in the same run. Two engines take {LATENCY_MS} ms and work on {SLOTS} "
    f"calls at once, the second on half of them from the middle on; runs of {SECONDS:.0f} s, all "
    "side by side, each with an engine of its own. llama.cpp has the demo model and four slots; "
    f"runs of {LLAMA_SECONDS:.0f} s one after the other. *Burst*: a second of nothing but 503."
)


def measure(place: Place) -> Section:
    """Both simulated engines, the burst, and llama.cpp."""
    saturating, burst = _saturating(place)
    halving = _halving(place)
    llama = _llama(place)
    rows = [
        _row(f"saturates at {SLOTS}", saturating),
        _row(f"{SLOTS} slots, half of them from the middle on", halving),
        _row("llama.cpp, 4 slots", llama),
        at_most(
            "a burst of 503 of one second costs",
            (1.0 - burst / saturating["auto"]) * 100,
            5,
            " % of the run",
        ),
    ]
    figures = {"saturating": saturating, "halving": halving, "llama": llama, "burst": burst}
    return Section("Adaptive concurrency", _READING, rows, figures)


def _row(what: str, found: Mapping[str, float]) -> Row:
    fixed = {name: n for name, n in found.items() if name != "auto"}
    best = max(fixed, key=lambda name: fixed[name])
    sweep = ", ".join(f"{name.removeprefix('n')}: {n:,.0f}" for name, n in fixed.items())
    share = found["auto"] / fixed[best] * 100
    return at_least(f"{what} (auto {found['auto']:,.0f}; {sweep})", share, 95, " % of the best")


def _contestants(sweep: tuple[int, ...]) -> list[Contestant]:
    return [Contestant("auto"), *(Contestant(f"n{n}", f"concurrency = {n}") for n in sweep)]


def _saturating(place: Place) -> tuple[dict[str, int], int]:
    """What each answered, and what the window that is found did with a burst of errors."""
    contestants = [*_contestants(_SWEEP), Contestant("burst")]
    spec = f"latency={LATENCY_MS}ms,batch={SLOTS}"
    with contest(place.home, "saturating", spec, contestants) as (server, sims):
        begin(server, place.home, sims)
        struck = sims["burst"]
        counts = answered(
            sims,
            SECONDS,
            {
                SECONDS / 2: lambda: struck.control(status=503),
                SECONDS / 2 + 1: lambda: struck.control(status=0),
            },
        )
    burst = counts.pop("burst")
    return counts, burst


def _halving(place: Place) -> dict[str, int]:
    spec = f"latency={LATENCY_MS}ms,batch={SLOTS}"
    with contest(place.home, "halving", spec, _contestants(_SWEEP)) as (server, sims):
        begin(server, place.home, sims)

        def halve() -> None:
            for sim in sims.values():
                sim.control(batch=SLOTS // 2)

        return answered(sims, SECONDS, {SECONDS / 2: halve})


def _llama(place: Place) -> dict[str, float]:
    """Lines a run of llama.cpp. Each window works on a server of its own."""
    found: dict[str, float] = {}
    for contestant in _contestants(_LLAMA_SWEEP):
        with _llama_server(place.home) as url:
            name = f"llama-{contestant.name}"
            config = place.home / f"{name}.toml"
            config.write_text(contestant.table(url))
            with batchmill_with(config, place.home, name) as server:
                found[contestant.name] = _lines_of(server, place.home)
    return found


def _lines_of(server: Server, home: Path) -> float:
    job = server.create(server.upload(write_input(home / "contest.jsonl", LINES)), "batchmill-demo")
    wait_until(lambda: server.job(job)["succeeded_requests"] > 0, 60, "a first answer")
    began, before = time.monotonic(), server.job(job)["succeeded_requests"]
    time.sleep(LLAMA_SECONDS)
    lines = server.job(job)["succeeded_requests"] - before
    return float(lines) * LLAMA_SECONDS / (time.monotonic() - began)


@contextmanager
def _llama_server(home: Path) -> Iterator[str]:
    """The base URL of a llama.cpp with the demo model."""
    port = free_port()
    command = [sys.executable, "-m", "batchmill.engines.local", "--port", str(port)]
    with running(command, home / "llama.out"):
        wait_until(lambda: listens(port), 60, "the start of llama.cpp")
        yield f"http://127.0.0.1:{port}/v1"
