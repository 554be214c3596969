"""Draws one run of `make bench` (and a soak, where there is one) as PNGs.

    python bench/plots.py FOLDER RUN.json [SOAK.json]

Runs in an environment of its own, with matplotlib (`bench/plots.txt`), and prints the names of what
it drew.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

OURS, THEIRS, QUIET = "#1f6f8b", "#b5651d", "#9aa5ad"
Figures = dict[str, Any]


def parts(axes: Axes, figures: Figures) -> None:
    """What a line costs, part by part, beside a request of wrk."""
    rounds = figures["rounds"]

    def of(part: Callable[[Figures], float]) -> float:
        return median(map(part, rounds))

    lines = of(lambda r: r["reply"] + r["line"])
    costs = {
        "transport": of(lambda r: r["worker"] - r["in_process"]),
        "lines": lines,
        "validation": of(lambda r: r["validation"]),
        "durability": of(lambda r: r["durability"]),
    }
    known = sum(costs.values())
    costs["dispatch"] = max(0.0, of(lambda r: r["worker"]) - known)
    axes.barh("wrk", of(lambda r: r["wrk"]), color=QUIET)
    left = 0.0
    for shade, (name, cost) in enumerate(costs.items()):
        alpha = 1.0 - 0.16 * shade
        axes.barh("Batchmill's worker", cost, left=left, color=OURS, alpha=alpha, label=name)
        left += cost
    axes.set_xlabel("CPU for each request or line, in microseconds")
    axes.legend(ncols=3, fontsize=8, loc="upper center", bbox_to_anchor=(0.45, 1.28), frameon=False)


def peers(axes: Axes, figures: Figures) -> None:
    """Lines a second of each system at its best setting."""
    names = {"batchmill": "Batchmill", "ogx": "OGX", "aibrix": "AIBrix\n(calls no engine)"}
    best = {
        names[name]: max(speed["lines_per_second"] for speed in figures[name])
        for name in names
        if figures.get(name)
    }
    bars = axes.bar(list(best), list(best.values()), color=[OURS, THEIRS, QUIET][: len(best)])
    axes.bar_label(bars, fmt="{:,.0f}", padding=2)
    axes.set_yscale("log")
    axes.set_ylim(min(best.values()) / 4, max(best.values()) * 4)
    axes.set_ylabel("lines a second (log)")
    axes.set_title("An engine that takes 50 ms, each at its best setting", fontsize=10)


def memory(axes: Axes, figures: Figures) -> None:
    """Peak memory of each process for few and for many lines."""
    roles = list(figures["few"])
    for n, (name, colour) in enumerate((("few", QUIET), ("many", OURS))):
        sizes = [figures[name][role] / 1e6 for role in roles]
        places = [place + 0.4 * n - 0.2 for place in range(len(roles))]
        bars = axes.bar(places, sizes, 0.38, color=colour, label=f"{name} lines")
        axes.bar_label(bars, fmt="{:,.0f}", padding=2, fontsize=8)
    axes.set_xticks(range(len(roles)), roles)
    axes.set_ylabel("peak memory, MB")
    axes.legend(frameon=False, fontsize=8)


def soak(axes: Axes, memory: dict[str, list[tuple[float, float]]]) -> None:
    """Memory over time, process by process."""
    for name, samples in memory.items():
        if name != "worker-2" and len(samples) > 10:
            minutes = [at / 60 for at, _ in samples]
            axes.plot(minutes, [size / 1e6 for _, size in samples], label=name, linewidth=1)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("minutes")
    axes.set_ylabel("resident memory, MB")
    axes.legend(frameon=False, fontsize=8, ncols=2)


def draw(path: Path, drawn: Callable[..., None], figures: Any) -> None:
    """One plot in one file."""
    figure, axes = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    drawn(axes, figures)
    figure.savefig(path, dpi=100)
    plt.close(figure)
    print(path.name)


def main() -> None:
    """Draw what the files have."""
    folder, run, *rest = map(Path, sys.argv[1:])
    folder.mkdir(parents=True, exist_ok=True)
    sections = {each["title"]: each for each in json.loads(run.read_text())["sections"]}
    plots: tuple[tuple[str, str, Callable[..., None]], ...] = (
        ("cpu", "CPU for each line", parts),
        ("peers", "Side by side", peers),
        ("memory", "Memory, and the end of a large job", memory),
    )
    for name, title, drawn in plots:
        section = sections.get(title)
        if section and not section["failed"]:
            draw(folder / f"{name}.png", drawn, section["figures"])
    for path in rest:
        draw(folder / "soak.png", soak, json.loads(path.read_text())["memory"])


if __name__ == "__main__":
    main()
