"""Batchmill and its peers one after the other on the same engine, each at its best setting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Final

from bench.engine import Engine, slow_engine
from bench.inputs import MODEL, write_input
from bench.peers import aibrix, ogx
from bench.peers.openai import write_batch
from bench.processes import Failure
from bench.server import batchmill
from bench.table import Place, Row, Section, at_least, at_most

DELAY_MS: Final = 50
SETTINGS: Final = (16, 64, 256, 1024)
"""Calls in flight at most."""
JOB_SECONDS: Final = 120.0
_READING: Final = (
    f"The same engine, which takes {DELAY_MS} ms for every answer, and the same lines. Each system "
    f"runs with {', '.join(map(str, SETTINGS[:-1]))} and {SETTINGS[-1]} calls in flight and is "
    "judged by its best setting. Lines a second are from asking for a job to its end, validation "
    "included; CPU is that of all its processes meanwhile. A first small job is not counted. "
    "Batchmill's jobs are larger: one of the peer's size would be over before it could be timed. "
    "AIBrix reaches engines only where it may start them itself, on Kubernetes or a rented "
    "machine; what runs here is its dry run, which calls no engine at all."
)


@dataclass(frozen=True, slots=True)
class Speed:
    """What one job cost, with so many calls in flight at most."""

    in_flight: int
    lines_per_second: float
    cpu_us: float
    """For each line."""


def measure(place: Place) -> Section:
    """Batchmill, OGX and AIBrix, or why one of the others could not be run."""
    with slow_engine(place.home, DELAY_MS) as engine:
        ours = [_batchmill(place, engine, setting) for setting in SETTINGS]
        theirs, why = _tried(lambda: [_ogx(place, engine, setting) for setting in SETTINGS])
    dry, why_not = _tried(lambda: [_aibrix(place)])
    best = max(ours, key=lambda speed: speed.lines_per_second)
    rows = [_row("Batchmill", best)]
    if theirs:
        other = max(theirs, key=lambda speed: speed.lines_per_second)
        frugal = min(speed.cpu_us for speed in theirs)
        rows += [
            _row("OGX", other),
            at_least(
                "lines a second, Batchmill over OGX",
                best.lines_per_second / other.lines_per_second,
                20,
                " x",
            ),
            at_most(
                "CPU a line, Batchmill over OGX at its least", best.cpu_us / frugal, 0.1, " x", 3
            ),
        ]
    else:
        rows.append(Row("OGX", f"could not be run: {why}"))
    rows += [Row("AIBrix, without an engine", _shown(speed)) for speed in dry]
    if why_not:
        rows.append(Row("AIBrix", f"could not be run: {why_not}"))
    systems = {"batchmill": ours, "ogx": theirs, "aibrix": dry}
    figures = {name: list(map(asdict, speeds)) for name, speeds in systems.items()}
    return Section("Side by side", _READING, rows, figures)


def _row(name: str, speed: Speed) -> Row:
    return Row(f"{name}, best with {speed.in_flight} in flight", _shown(speed))


def _shown(speed: Speed) -> str:
    return f"{speed.lines_per_second:,.1f} lines/s, {speed.cpu_us:,.0f} us of CPU a line"


def _tried(measured: Callable[[], list[Speed]]) -> tuple[list[Speed], str]:
    try:
        return measured(), ""
    except Failure as error:
        return [], str(error)


def _batchmill(place: Place, engine: Engine, in_flight: int) -> Speed:
    name = f"beside-{in_flight}"
    lines = min(place.scale.slow_lines, 300 * in_flight)
    with batchmill(f"{engine.origin}/v1", place.home, name, in_flight=in_flight) as server:
        server.finish(server.create(server.upload(write_input(place.home / "few.jsonl", 100))), 30)
        file = server.upload(write_input(place.home / f"{lines}.jsonl", lines))
        before = sum(server.cpu().values())
        life = server.finish(server.create(file), JOB_SECONDS)
        spent = sum(server.cpu().values()) - before
    assert life.ended is not None
    return Speed(in_flight, lines / (life.ended - life.created), spent / lines * 1e6)


def _ogx(place: Place, engine: Engine, in_flight: int) -> Speed:
    lines = place.scale.peer_lines
    few = write_batch(place.home / "ogx-few.jsonl", 20, ogx.SERVED)
    batch = write_batch(place.home / "ogx.jsonl", lines, ogx.SERVED)
    home = place.home / f"ogx-{in_flight}"
    with ogx.serving(f"{engine.origin}/v1", home, in_flight) as server:
        server.run(few, 20, JOB_SECONDS)
        before = server.cpu()
        seconds = server.run(batch, lines, JOB_SECONDS)
        spent = server.cpu() - before
    return Speed(in_flight, lines / seconds, spent / lines * 1e6)


def _aibrix(place: Place) -> Speed:
    lines = place.scale.peer_lines
    few = write_batch(place.home / "aibrix-few.jsonl", 20, MODEL)
    batch = write_batch(place.home / "aibrix.jsonl", lines, MODEL)
    with aibrix.serving(place.home / "aibrix") as server:
        server.run(few, 20, JOB_SECONDS)
        before = server.cpu()
        seconds = server.run(batch, lines, JOB_SECONDS)
        spent = server.cpu() - before
    return Speed(0, lines / seconds, spent / lines * 1e6)
