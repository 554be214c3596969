"""What was measured, as values: rows of a table and the figures behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.scale import Scale


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: what was measured, what came out, what was aimed at; `reached` is
    None where there is no aim."""

    what: str
    measured: str
    aim: str = ""
    reached: bool | None = None


@dataclass(frozen=True, slots=True)
class Section:
    """One table, the sentences that say how to read it, and every figure that it stands on."""

    title: str
    reading: str
    rows: Sequence[Row]
    figures: Mapping[str, Any] = field(default_factory=dict)
    failed: bool = False
    """It could not be measured."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a measurement works: its directory, the instant engine, how much to measure."""

    home: Path
    origin: str
    scale: Scale


def at_most(what: str, value: float, limit: float, unit: str, digits: int = 1) -> Row:
    """A row whose value should not be over the limit."""
    shown = f"{value:,.{digits}f}{unit}"
    return Row(what, shown, f"at most {limit:g}{unit}", reached=value <= limit)


def at_least(what: str, value: float, limit: float, unit: str, digits: int = 1) -> Row:
    """A row whose value should not be under the limit."""
    shown = f"{value:,.{digits}f}{unit}"
    return Row(what, shown, f"at least {limit:g}{unit}", reached=value >= limit)


def megabytes(size_bytes: float) -> str:
    """A size for people."""
    return f"{size_bytes / 1e6:,.0f} MB"
