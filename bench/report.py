"""The results as JSON and Markdown, and `docs/benchmarks.md`."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from bench.scale import Scale
from bench.table import Row, Section

ROOT: Final = Path(__file__).resolve().parent.parent
RESULTS: Final = ROOT / "bench" / "results"
DOCS: Final = ROOT / "docs" / "benchmarks.md"
_INTRODUCTION: Final = """\
# Benchmarks

Written by `make bench`; everything below was measured in one run on one machine, with nginx as
an engine that answers at once and wrk as the limit of what a client can do. Ratios are what
counts: absolute figures only orient. CPU is user and system time out of `/proc/<pid>/stat` of
the process that is named, memory its `VmHWM`; every file is synced to a real disk.
"""


def write(sections: Sequence[Section], scale: Scale, seconds: float, *, whole: bool) -> None:
    """Write what was measured, and the docs after a whole full run."""
    RESULTS.mkdir(exist_ok=True)
    about = _about(scale, seconds)
    raw = {"about": about, "sections": [asdict(section) for section in sections]}
    (RESULTS / f"{scale.name}.json").write_text(json.dumps(raw, indent=1) + "\n")
    text = _INTRODUCTION + "\n" + _machine(about) + "".join(map(table, sections))
    (RESULTS / f"{scale.name}.md").write_text(text)
    if whole:
        DOCS.parent.mkdir(exist_ok=True)
        DOCS.write_text(text)


def _about(scale: Scale, seconds: float) -> dict[str, Any]:
    return {
        "scale": asdict(scale),
        "seconds": round(seconds),
        "commit": _output("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "load": os.getloadavg()[0],
    }


def _machine(about: dict[str, Any]) -> str:
    return (
        f"A {about['scale']['name']} run of {about['seconds']} s at commit {about['commit']}, on "
        f"{about['cores']} cores of {about['cpu']}, {about['system']}, Python {about['python']}; "
        f"load average at its end {about['load']:.1f}.\n"
    )


def table(section: Section) -> str:
    """A section in Markdown."""
    head = f"\n## {section.title}\n\n{section.reading}\n\n"
    head += "| what | measured | aim | reached |\n|---|---|---|---|\n"
    return head + "".join(map(_line, section.rows))


def _line(row: Row) -> str:
    reached = {True: "yes", False: "**no**", None: ""}[row.reached]
    return f"| {row.what} | {row.measured} | {row.aim} | {reached} |\n"


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _output(*command: str) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    return done.stdout.decode().strip() or "unknown"
