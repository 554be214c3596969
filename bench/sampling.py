"""What /proc says of processes again and again, and whether it grows."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import linear_regression, median
from typing import Self


@dataclass(frozen=True, slots=True)
class Sample:
    """What one process held at a moment of the monotonic clock."""

    at: float
    pid: int
    memory_bytes: int
    files: int
    """Open descriptors that are no sockets."""
    sockets: int
    threads: int


def sample(pid: int) -> Sample:
    """What the process holds now. Raises `OSError` where it is gone."""
    home = Path(f"/proc/{pid}")
    status = dict(
        line.split(":", 1) for line in (home / "status").read_text().splitlines() if ":" in line
    )
    kinds = []
    for descriptor in (home / "fd").iterdir():
        with suppress(FileNotFoundError):
            kinds.append(str(descriptor.readlink()).startswith("socket:"))
    memory = int(status["VmRSS"].split()[0]) * 1024
    sockets = sum(kinds)
    return Sample(
        time.monotonic(), pid, memory, len(kinds) - sockets, sockets, int(status["Threads"])
    )


@dataclass
class Sampler:
    """Samples processes by name in a thread of its own, while the block lasts."""

    pids: Callable[[], Mapping[str, int]]
    every_seconds: float
    taken: dict[str, list[Sample]] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(self.every_seconds):
            for name, pid in self.pids().items():
                with suppress(OSError, KeyError):
                    self.taken.setdefault(name, []).append(sample(pid))


@dataclass(frozen=True, slots=True)
class Trend:
    """How something went from after the warm-up to the end: the median of its first and last
    quarter, and how much it grows in an hour by the line through all of it."""

    first: float
    last: float
    most: float
    hourly: float


def trend(times: Sequence[float], values: Sequence[float]) -> Trend:
    """The trend of at least four values."""
    quarter = max(1, len(values) // 4)
    slope, _ = linear_regression(times, values)
    return Trend(median(values[:quarter]), median(values[-quarter:]), max(values), slope * 3600)
