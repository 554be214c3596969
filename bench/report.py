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

from bench.environments import python_with
from bench.processes import Failure
from bench.scale import Scale
from bench.table import Row, Section

ROOT: Final = Path(__file__).resolve().parent.parent
RESULTS: Final = ROOT / "bench" / "results"
DOCS: Final = ROOT / "docs" / "benchmarks.md"
PLOTS: Final = DOCS.with_suffix("")
SOAK: Final = RESULTS / "soak.json"
_PLOTTER: Final = Path(__file__).with_name("plots.py")
_CAPTIONS: Final = {
    "cpu.png": "What a line costs a worker, beside what a request costs wrk",
    "peers.png": "Lines a second of Batchmill and its peers",
    "memory.png": "Peak memory for 10,000 and for 1,000,000 lines",
    "soak.png": "Memory during a soak with faults",
}
_INTRODUCTION: Final = """\
# Benchmarks

Written by `make bench`; everything below was measured in one run on one machine, with nginx as
an engine that answers at once, a small program in C as one that takes its time, and wrk as the
limit of what a client can do. Ratios are what counts: absolute figures only orient. What is aimed
at stands first, then every measurement. CPU is user and system time out of `/proc/<pid>/stat` of
the process that is named, memory its `VmHWM`; every file is synced to a real disk.
"""


def write(sections: Sequence[Section], scale: Scale, seconds: float, *, whole: bool) -> None:
    """Write what was measured, and the docs after a whole full run."""
    RESULTS.mkdir(exist_ok=True)
    about = _about(scale, seconds)
    raw = {"about": about, "sections": [asdict(section) for section in sections]}
    (RESULTS / f"{scale.name}.json").write_text(json.dumps(raw, indent=1) + "\n")
    head, tables = _INTRODUCTION + "\n" + _machine(about), "".join(map(table, sections))
    (RESULTS / f"{scale.name}.md").write_text(head + _aims(sections) + tables)
    if whole:
        DOCS.parent.mkdir(exist_ok=True)
        plots = _plots(RESULTS / f"{scale.name}.json")
        DOCS.write_text(head + _aims(sections) + plots + tables + _soak())


def _aims(sections: Sequence[Section]) -> str:
    """Every row that has an aim, of all sections."""
    rows = [row for section in sections for row in section.rows if row.aim]
    reached = sum(bool(row.reached) for row in rows)
    head = f"\n## What is aimed at\n\n{reached} of {len(rows)} aims are reached.\n\n"
    return (
        head
        + "| what | measured | aim | reached |\n|---|---|---|---|\n"
        + "".join(map(_line, rows))
    )


def _plots(run: Path) -> str:
    """The plots as they stand in the docs; drawn anew, where matplotlib is to be had."""
    soak = [str(SOAK)] if SOAK.exists() else []
    try:
        python = python_with(_PLOTTER.with_suffix(".txt"))
    except Failure as error:
        return f"\nThe plots could not be drawn: {error}\n"
    drawn = _output(str(python), str(_PLOTTER), str(PLOTS), str(run), *soak).split()
    return "".join(f"\n![{_CAPTIONS[name]}]({PLOTS.name}/{name})\n" for name in drawn)


def _soak() -> str:
    """The last soak, where there was one."""
    if not SOAK.exists():
        return ""
    soak = json.loads(SOAK.read_text())
    head = "\n## Soak\n\nWritten by `python -m bench.soak`: half an hour of jobs that are made, "
    head += "cancelled and pruned, over engines that fail in every way and come and go, while a "
    return head + f"worker is killed now and then.\n\n{soak['text']}\n"


def _about(scale: Scale, seconds: float) -> dict[str, Any]:
    return {
        "scale": asdict(scale),
        "seconds": round(seconds),
        "commit": _output("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "load": os.getloadavg()[0],
    }


def _machine(about: dict[str, Any]) -> str:
    return (
        f"A {about['scale']['name']} run of {about['seconds']} s at commit {about['commit']}, on "
        f"{about['cores']} cores, {about['system']}, Python {about['python']}; "
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


def _output(*command: str) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    return done.stdout.decode().strip() or "unknown"
