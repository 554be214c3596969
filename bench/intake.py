"""Uploading and validating a file beside reading and decoding it with msgspec alone."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from statistics import median

from bench.inputs import LINE_BYTES, write_input
from bench.processes import free_port, measured_loop
from bench.server import batchmill
from bench.table import Place, Row, Section, at_most

_READING = (
    "CPU of all of Batchmill's processes from the first byte of the upload until the job is "
    "queued, beside that of a loop which reads the same file and decodes every line with "
    "msgspec. No engine is there, so that nothing is sent."
)


def measure(place: Place) -> Section:
    """Interleaved rounds of Batchmill's intake and msgspec's decoding."""
    lines = place.scale.intake_lines
    batch = write_input(place.home / "intake.jsonl", lines)
    uploads, validations, decodings, checks, commands = [], [], [], [], []
    with batchmill(f"http://127.0.0.1:{free_port()}/v1", place.home, "intake") as server:
        for _ in range(place.scale.intake_rounds):
            decodings.append(measured_loop("bench.alone", "decode", str(batch)) * lines / 1e6)
            checks.append(measured_loop("bench.alone", "check", str(batch)) * lines / 1e6)
            commands.append(_command(batch))
            before = sum(server.cpu().values())
            file = server.upload(batch)
            uploaded = sum(server.cpu().values())
            job = server.create(file)
            server.leave(job, "validating", 60)
            uploads.append(uploaded - before)
            validations.append(sum(server.cpu().values()) - uploaded)
    ratio = median(
        (up + valid) / decoded
        for up, valid, decoded in zip(uploads, validations, decodings, strict=True)
    )
    size = f"{lines:,} lines, {lines * LINE_BYTES / 1e6:,.0f} MB"
    rows = [
        at_most(f"upload and validation, {size}", ratio, 3.0, " x msgspec", 2),
        Row("- upload", f"{median(uploads):.2f} s of CPU"),
        Row("- validation", f"{median(validations):.2f} s of CPU"),
        Row("msgspec alone", f"{median(decodings):.2f} s of CPU"),
    ]
    checked = median(c / d for c, d in zip(checks, decodings, strict=True))
    rows += [
        at_most(f"`batchmill validate`, {size}: judging", checked, 3.0, " x msgspec", 2),
        Row("- the whole command, Python's start included", f"{median(commands):.2f} s of CPU"),
    ]
    figures = {
        "check": checks,
        "command": commands,
        "upload": uploads,
        "validation": validations,
        "msgspec": decodings,
    }
    return Section("Intake", _READING, rows, figures)


def _command(batch: Path) -> float:
    """CPU seconds of `batchmill validate` on the file, from its start to its end."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "batchmill", "validate", str(batch)]
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
