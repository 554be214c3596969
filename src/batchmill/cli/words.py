"""Figures, moments and reasons as people read them. Pure; what programs read stays as it came."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

UNKNOWN = "unknown"
REASONS: Mapping[str, str] = {
    "validating": "its lines are being checked",
    "queued_behind_jobs": "other jobs have their turn",
    "no_worker": "no worker runs: start `batchmill serve` or `batchmill worker`",
    "engine_down": "no engine that serves its model answers",
    "model_not_served": "no engine serves its model",
    "rate_limited": "the engine's limit is reached",
    "retrying": "its lines wait for another try",
    "storage_unavailable": "the storage is full, or away",
    "outside_schedule": "its engines are outside their schedule",
    "tenant_quota": "as many lines are pending as its owner may have",
    "paused": "it is paused: `batchmill resume` lets it go on",
}
"""Each waiting reason, as the end of `it waits: ...`."""

_UNITS = ("B", "kB", "MB", "GB", "TB")
_SPANS = ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "m"), (60, "m", 1, "s"))
_ESCAPED = {**{n: f"\\x{n:02x}" for n in (*range(32), *range(127, 160))}, 10: " ", 9: " ", 13: " "}


def size(count: int | None) -> str:
    """Bytes: `512 B`, `25.6 kB`, `1.2 GB`."""
    return UNKNOWN if count is None else _scaled(count, 1_000.0, _UNITS)


def amount(count: int | None) -> str:
    """How many, short: `999`, `25.6k`, `1.2M`."""
    return (
        UNKNOWN if count is None else _scaled(count, 1_000.0, ("", "k", "M", "G")).replace(" ", "")
    )


def number(count: int | None) -> str:
    """How many, exactly: `1,234,567`."""
    return UNKNOWN if count is None else f"{count:,}"


def rate(per_second: float | None) -> str:
    """`0.5`, `12` or `3.4k`; the unit follows it."""
    if per_second is None:
        return UNKNOWN
    return f"{per_second:.1f}" if per_second < 10 else amount(round(per_second))


def duration(seconds: float | None) -> str:
    """`0.3s`, `42s`, `2m 5s`, `3h 20m`, `4d 7h`."""
    if seconds is None:
        return UNKNOWN
    if 0 < seconds < 1:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    for large, large_name, small, small_name in _SPANS:
        if whole >= large:
            rest = whole % large // small
            return f"{whole // large}{large_name}" + (f" {rest}{small_name}" if rest else "")
    return f"{whole}s"


def ago(at: float | None, now: float) -> str:
    """How long since that moment: `3m 5s ago`."""
    return "" if at is None else f"{duration(max(0.0, now - at))} ago"


def moment(at: float | None) -> str:
    """A Unix time, in UTC."""
    return "" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def percent(part: int, whole: int) -> str:
    """A share; 100% only where nothing is missing."""
    if whole <= 0:
        return ""
    return f"{min(part * 100 // whole, 100)}%"


def plural(count: int, noun: str) -> str:
    """`1 line`, `1,000 lines`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def reason(name: str | None) -> str | None:
    """A waiting reason in words; one that is not known here stays as it came."""
    return None if name is None else REASONS.get(name, name.replace("_", " "))


def printable(text: str) -> str:
    """A text of somebody's as it may go to a terminal: on one line, and unable to steer it."""
    return text.translate(_ESCAPED)


def clipped(text: str, characters: int) -> str:
    """A printable text of at most that many characters."""
    text = printable(text)
    return text if len(text) <= characters else text[: characters - 3] + "..."


def _scaled(count: int, step: float, units: tuple[str, ...]) -> str:
    value = float(count)
    for unit in units:
        if round(value, 1) < step or unit == units[-1]:
            break
        value /= step
    shown = f"{value:.0f}" if unit == units[0] or value >= 100 else f"{value:.1f}"
    return f"{shown} {unit}"
