"""A job's progress while somebody watches: one line that changes on a terminal, a line now and
then in a log. Always on standard error."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from batchmill.cli import words
from batchmill.cli.output import note, terminal

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

LOG_SECONDS: Final = 30.0
"""How often a log gets a line."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a job is. `waiting` says in words why nothing moves."""

    state: str
    total: int
    answered: int = 0
    failed: int = 0
    in_flight: int = 0
    lines_per_second: float | None = None
    tokens_per_second: float | None = None
    seconds_left: float | None = None
    waiting: str | None = None
    errors: Mapping[str, int] = field(default_factory=dict)
    """How many lines failed, by code."""

    @property
    def done(self) -> int:
        return self.answered + self.failed


class ProgressBar:
    """Shows standings, the newest over the last; to be used as a context."""

    def __init__(self, *, quiet: bool = False, log_seconds: float = LOG_SECONDS) -> None:
        self._quiet, self._log_seconds = quiet, log_seconds
        self._live: Live | None = None
        self._said: tuple[str, float] | None = None

    def __enter__(self) -> Self:
        if not self._quiet and sys.stderr.isatty():
            from rich.live import Live  # noqa: PLC0415 - only people wait for it

            self._live = Live(console=terminal(error=True), auto_refresh=False)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, standing: Standing, now: float) -> None:
        """The standing at that moment of a clock that never jumps."""
        if self._quiet:
            return
        if self._live is None:
            self._log(standing, now)
            return
        self._live.update(_drawn(standing), refresh=True)

    def _log(self, standing: Standing, now: float) -> None:
        kind = f"{standing.state} {standing.waiting}"
        if self._said is None or self._said[0] != kind or now - self._said[1] >= self._log_seconds:
            parts = (counts(standing), pace(standing), trouble(standing))
            note("  ".join(part for part in (standing.state, *parts) if part))
            self._said = (kind, now)


def counts(standing: Standing) -> str:
    """`120/1,000 12%`; nothing while nobody knows how many there are."""
    if not standing.total:
        return ""
    share = words.percent(standing.done, standing.total)
    return f"{standing.done:,}/{standing.total:,} {share}".rstrip()


def pace(standing: Standing) -> str:
    """`34 lines/s  1.2k tokens/s  2m 5s left`, as far as it is known."""
    parts = []
    if standing.lines_per_second:
        parts.append(f"{words.rate(standing.lines_per_second)} lines/s")
    if standing.tokens_per_second:
        parts.append(f"{words.rate(standing.tokens_per_second)} tokens/s")
    if standing.seconds_left is not None:
        parts.append(f"{words.duration(standing.seconds_left)} left")
    return "  ".join(parts)


def trouble(standing: Standing) -> str:
    """`waits: ...`, and the failed lines by code."""
    parts = [f"waits: {standing.waiting}"] if standing.waiting else []
    if standing.failed:
        most = sorted(standing.errors.items(), key=lambda each: -each[1])[:3]
        kinds = ", ".join(f"{count:,} {words.clipped(code, 32)}" for code, count in most)
        parts.append(f"{standing.failed:,} failed" + (f" ({kinds})" if kinds else ""))
    return "  ".join(parts)


def _drawn(standing: Standing) -> RenderableType:
    """A bar with its figures, and below it what is wrong, at any width."""
    from rich.console import Group  # noqa: PLC0415 - only people wait for it
    from rich.progress_bar import ProgressBar as Bar  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    grid = Table.grid(padding=(0, 2, 0, 0))
    bar = Bar(total=standing.total or 1, completed=standing.done, width=20)
    figures = [
        Text(each, no_wrap=True, overflow="ellipsis") for each in (counts(standing), pace(standing))
    ]
    grid.add_row(bar, *figures)
    said = trouble(standing) or ("" if standing.done else standing.state)
    return Group(grid, Text(said, style="yellow")) if said else grid
