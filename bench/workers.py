"""One machine with one worker process and with two, on an engine that answers at once."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Final

from bench.inputs import write_input
from bench.server import batchmill
from bench.table import Place, Row, Section

COUNTS: Final = (1, 2)
JOB_SECONDS: Final = 240.0
_READING: Final = (
    "One job on a fresh server with `--workers` 1 and 2, on nginx, which answers at once and takes "
    f"its own part of this machine's {os.cpu_count()} cores; CPU is that of all of Batchmill's "
    "processes, lines a second from the first claim to the end."
)


@dataclass(frozen=True, slots=True)
class Speed:
    """What one job cost with so many workers."""

    workers: int
    lines_per_second: float
    cpu_us: float
    """For each line."""


def measure(place: Place) -> Section:
    """The same job with each number of workers."""
    found = [_speed(place, count) for count in COUNTS]
    rows = [
        Row(
            f"--workers {each.workers}",
            f"{each.lines_per_second:,.0f} lines/s, {each.cpu_us:.0f} us of CPU a line",
        )
        for each in found
    ]
    ratio = found[-1].lines_per_second / found[0].lines_per_second
    rows.append(Row("lines a second, two workers over one", f"{ratio:.2f} x"))
    return Section("Several workers", _READING, rows, {"speeds": list(map(asdict, found))})


def _speed(place: Place, count: int) -> Speed:
    lines, url = place.scale.lines, f"{place.origin}/v1"
    with batchmill(url, place.home, f"workers-{count}", "--workers", str(count)) as server:
        file = server.upload(write_input(place.home / "workers.jsonl", lines))
        server.finish(server.create(file), JOB_SECONDS)
        before = sum(server.cpu().values())
        life = server.finish(server.create(file), JOB_SECONDS)
        spent = sum(server.cpu().values()) - before
    assert life.started is not None
    assert life.ended is not None
    return Speed(count, lines / (life.ended - life.started), spent / lines * 1e6)
