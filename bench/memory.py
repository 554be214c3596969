"""Peak memory of every process, for few lines and for many; and the end of a large job."""

from __future__ import annotations

from pathlib import Path

from bench.inputs import write_input
from bench.processes import Failure, free_port
from bench.server import batchmill
from bench.table import Place, Row, Section, at_most, megabytes

FEW_SECONDS = 120.0
MANY_SECONDS = 420.0
WORKER_MB = 250.0
API_MB = 100.0
_LINE_BYTES = 300
_UPLOAD_LINE_BYTES = 511
_READING = (
    "VmHWM of each process of a fresh server that does one thing: takes an upload, runs it as "
    "one job, and hands out the whole result file."
)


def measure(place: Place) -> Section:
    """Jobs of few lines, of many lines and with large replies, each on a fresh server."""
    scale, home = place.scale, place.home
    engine = f"{place.origin}/v1"
    few, _ = _peaks(engine, home, "few", scale.few_lines, FEW_SECONDS)
    many, finalizing = _peaks(engine, home, "many", scale.many_lines, MANY_SECONDS)
    uploading = _upload_peak(home, scale.upload_lines)
    large, _ = _peaks(f"{place.origin}/large/v1", home, "large", scale.large_replies, MANY_SECONDS)
    rows = [
        at_most(
            f"{role}: {scale.many_lines:,} lines against {scale.few_lines:,}"
            f" ({megabytes(many[role])} against {megabytes(few[role])})",
            many[role] / few[role],
            1.2,
            " x",
            2,
        )
        for role in few
    ]
    rows += [
        at_most(f"worker, {what}", peaks["worker"] / 1e6, WORKER_MB, " MB", 0)
        for what, peaks in (
            (f"{scale.many_lines:,} lines", many),
            (f"{scale.large_replies:,} lines with replies of 1 MB", large),
        )
    ]
    rows += [
        Row(f"{role}, {scale.large_replies:,} lines with replies of 1 MB", megabytes(large[role]))
        for role in large
        if role != "worker"
    ]
    size = megabytes(scale.upload_lines * _UPLOAD_LINE_BYTES)
    rows.append(at_most(f"api, upload of {size}", uploading / 1e6, API_MB, " MB", 0))
    rows.append(at_most(f"finalizing {scale.many_lines:,} lines", finalizing, 1.0, " s", 3))
    figures = {
        "few": few,
        "many": many,
        "large": large,
        "upload": uploading,
        "finalizing_seconds": finalizing,
    }
    return Section("Memory, and the end of a large job", _READING, rows, figures)


def _upload_peak(home: Path, lines: int) -> int:
    """Peak bytes of the API after one large upload."""
    batch = write_input(home / "upload.jsonl", lines, _UPLOAD_LINE_BYTES)
    with batchmill(f"http://127.0.0.1:{free_port()}/v1", home, "upload") as server:
        server.upload(batch)
        batch.unlink()
        return server.peaks()["api"]


def _peaks(
    engine: str, home: Path, name: str, lines: int, seconds: float
) -> tuple[dict[str, int], float]:
    """Peak bytes of every process after one job, and how long it was finalizing."""
    batch = write_input(home / f"{name}.jsonl", lines, _LINE_BYTES)
    with batchmill(engine, home, name) as server:
        file = server.upload(batch)
        batch.unlink()
        job = server.create(file)
        life = server.finish(job, seconds)
        written = server.count_lines(server.job(job)["output_file"])
        if written != lines:
            raise Failure(f"the output file has {written} lines, not {lines}")
        assert life.ended is not None
        assert life.finalizing is not None
        return server.peaks(), life.ended - life.finalizing
