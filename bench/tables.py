"""A Parquet table through `batchmill run`: time and peak memory for few rows and for many, and
whether every row came back in its place."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.processes import Failure, free_port, listens, peak_bytes, running, wait_until
from bench.table import Place, Row, Section, at_most, megabytes

GROWTH = 1.2
"""From a tenth of the rows to all of them: what is held is bounded, and few rows do not fill it."""
_TENTH = 10
_FAILING = 0.001
_READING = (
    "One run each, with a simulated engine in a process of its own that refuses one line in a "
    "thousand. Peak memory is the run's own VmHWM; what it holds is bounded, and the fewest "
    "rows do not fill it."
)
_BATCH_ROWS = 10_000
_LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Trip:
    """What one run took and brought."""

    seconds: float
    peak_bytes: int
    failed: int


def measure(place: Place) -> Section:
    """Few rows and many, each from Parquet to Parquet."""
    scale, port = place.scale, free_port()
    spec = f"rate_400={_FAILING}"
    sim = [sys.executable, "-m", "batchmill.engines.sim", "--port", str(port), "--spec", spec]
    with running(sim, place.home / "sim.log"):
        wait_until(lambda: listens(port), 20, "the start of the simulator")
        engine = f"http://127.0.0.1:{port}/v1"
        few = round_trip(place.home, engine, scale.few_lines)
        tenth = round_trip(place.home, engine, scale.many_lines // _TENTH)
        many = round_trip(place.home, engine, scale.many_lines)
    rows = [
        Row(f"peak memory: {scale.few_lines:,} rows", megabytes(few.peak_bytes)),
        at_most(
            f"peak memory: {scale.many_lines:,} rows against {scale.many_lines // _TENTH:,} "
            f"({megabytes(many.peak_bytes)} against {megabytes(tenth.peak_bytes)})",
            many.peak_bytes / tenth.peak_bytes,
            GROWTH,
            " x",
            2,
        ),
        Row(f"time for {scale.many_lines:,} rows", f"{many.seconds:,.0f} s"),
        Row(f"rows of {scale.many_lines:,} that failed and are null", f"{many.failed:,}"),
    ]
    return Section("A Parquet table, there and back", _READING, rows)


def round_trip(home: Path, engine: str, rows: int) -> Trip:
    """Write a table, run it, and look at every row of what came back."""
    source, result = home / f"{rows}.parquet", home / f"{rows}.answers.parquet"
    _write(source, rows)
    command = ["-m", "batchmill", "run", "-i", str(source), "-o", str(result), "-q"]
    command += ["--engine", engine, "--prompt", "Row {{n}}: {{text}}"]
    began = time.monotonic()
    with (home / "run.log").open("ab") as log:
        process = subprocess.Popen([sys.executable, *command], stdout=log, stderr=log)
        peak = _peak_until_it_ends(process)
    if process.returncode not in (0, 3):
        raise Failure(f"the run ended with {process.returncode}, see {home / 'run.log'}")
    seconds = time.monotonic() - began
    return Trip(seconds, peak, _failed(result, rows))


def _peak_until_it_ends(process: subprocess.Popen[bytes]) -> int:
    """The highest VmHWM that was seen of it. What the system tells at its end would not do: it
    counts from before the exec, when the child is a copy of this process."""
    peak = 0
    while process.poll() is None:
        with suppress(OSError, Failure):  # it is just ending
            peak = max(peak, peak_bytes(process.pid))
        time.sleep(_LOOK_SECONDS)
    return peak


def _arrow() -> Any:
    import pyarrow as pa  # noqa: PLC0415 - an extra
    import pyarrow.parquet  # noqa: PLC0415

    return pa


def _write(path: Path, rows: int) -> None:
    arrow = _arrow()
    schema = arrow.schema([("n", arrow.int64()), ("text", arrow.string())])
    with arrow.parquet.ParquetWriter(path, schema) as writer:
        for first in range(0, rows, _BATCH_ROWS):
            numbers = range(first, min(rows, first + _BATCH_ROWS))
            texts = [f"The parcel of customer {n} came late and the box was wet." for n in numbers]
            writer.write_table(arrow.table({"n": list(numbers), "text": texts}, schema))


def _failed(path: Path, rows: int) -> int:
    """How many rows have no answer. Raises `Failure` where one is missing, out of its order, or
    beside the answer of another."""
    seen = failed = 0
    for batch in _arrow().parquet.ParquetFile(path).iter_batches():
        for row in batch.to_pylist():
            if row["n"] != seen:
                raise Failure(f"row {seen} is {row['n']}")
            if row["response"] is None:
                failed += 1
            elif f"Row {seen}: " not in row["response"]:
                raise Failure(f"row {seen} has the answer of another: {row['response']}")
            seen += 1
    if seen != rows:
        raise Failure(f"{seen} rows came back of {rows}")
    return failed
