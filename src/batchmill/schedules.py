"""When an engine may be used: spans of the week by a clock on the wall in one time zone.

    mon-fri 20:00-07:00, sat-sun 00:00-24:00

Pure. What the clock on the wall shows decides, and nothing else: a span whose times are skipped
when clocks go forward is skipped, and one whose times come twice when clocks go back is open both
times. A span that ends before it begins, or at 00:00, ends on the next day by the calendar, and
belongs to the day on which it begins.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
EXPECTED: Final = (
    'should be spans such as "22:00-06:00" or "mon-fri 20:00-07:00, sat-sun 00:00-24:00"'
)
MOST_SPANS: Final = 50
_SPAN = re.compile(
    r"(?:(?P<first>[a-z]{3})(?:-(?P<last>[a-z]{3}))?\s+)?"
    r"(?P<start>\d{1,2}:\d{2})\s*-\s*(?P<end>\d{1,2}:\d{2})",
    re.IGNORECASE,
)
_MINUTES_OF_DAY: Final = 24 * 60
_LOOK_AHEAD: Final = timedelta(days=22)
"""A span of one day a week may be skipped once where clocks go forward, not twice."""


@dataclass(frozen=True, slots=True)
class Span:
    """From `start` to before `end`, in minutes since midnight, on these days of the week (0 is
    Monday). An end past 24:00 lies in the next day."""

    days: frozenset[int]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """When something is open; without spans always."""

    spans: tuple[Span, ...] = ()
    time_zone: str = "UTC"


ALWAYS = Schedule()


def parse_spans(text: str) -> tuple[Span, ...]:
    """The spans that were written down. Raises `ValueError` for anything else."""
    pieces = [piece.strip() for piece in text.split(",")]
    if len(pieces) > MOST_SPANS:
        raise ValueError(f"has {len(pieces)} spans and may have {MOST_SPANS}")
    return tuple(_span(piece) for piece in pieces)


def check_time_zone(name: str) -> str:
    """The name as it is. Raises `ValueError` where there is no such time zone."""
    try:
        _zone(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError('should be an IANA time zone such as "Europe/Berlin" or "UTC"') from None
    return name


def is_open(schedule: Schedule, now: float) -> bool:
    """Whether it is open at that Unix time."""
    return not schedule.spans or _is_within(schedule.spans, _local(schedule, now))


def next_change(schedule: Schedule, now: float) -> float | None:
    """The first Unix time after `now` at which it opens or closes; None where it never does."""
    if not schedule.spans:
        return None
    before, at = is_open(schedule, now), now
    while (at := _next_edge(schedule, at)) <= now + _LOOK_AHEAD.total_seconds():
        if is_open(schedule, at) is not before:
            return at
    return None


def _span(text: str) -> Span:
    match = _SPAN.fullmatch(text)
    if match is None:
        raise ValueError(f"{EXPECTED}, and {text!r} is none")
    start, end = _minutes(match["start"]), _minutes(match["end"])
    if start in {end, _MINUTES_OF_DAY}:
        raise ValueError(f'has a span without length, {text!r}; a whole day is "00:00-24:00"')
    days = _days(match["first"], match["last"])
    return Span(days, start, end if end > start else end + _MINUTES_OF_DAY)


def _minutes(text: str) -> int:
    hours, minutes = map(int, text.split(":"))
    found = hours * 60 + minutes
    if minutes >= 60 or found > _MINUTES_OF_DAY:
        raise ValueError(f"should have times from 00:00 to 24:00, and {text!r} is none")
    return found


def _days(first: str | None, last: str | None) -> frozenset[int]:
    """The days from the first to the last, over Sunday where need be; all where none is named."""
    if first is None:
        return frozenset(range(7))
    begin = _day(first)
    number = (_day(last or first) - begin) % 7 + 1
    return frozenset((begin + n) % 7 for n in range(number))


def _day(name: str) -> int:
    if name.lower() not in DAYS:
        raise ValueError(f"should name days as {', '.join(DAYS)}, and {name!r} is none")
    return DAYS.index(name.lower())


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def _local(schedule: Schedule, at: float) -> datetime:
    """What a clock on the wall shows."""
    return datetime.fromtimestamp(at, _zone(schedule.time_zone))


def _is_within(spans: tuple[Span, ...], local: datetime) -> bool:
    minute, day = local.hour * 60 + local.minute, local.weekday()
    return any(
        (day in span.days and span.start <= minute < span.end)
        or ((day - 1) % 7 in span.days and minute + _MINUTES_OF_DAY < span.end)
        for span in spans
    )


def _next_edge(schedule: Schedule, at: float) -> float:
    """The next moment at which something may change: where the clock shows the begin or the end
    of a span or midnight, or where the clock itself is changed."""
    local = _local(schedule, at)
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    shown = local.replace(tzinfo=None, fold=0)
    wait = min(edge for edge in _edges(schedule, midnight - shown) if edge > timedelta(0))
    there = float(round(at + wait.total_seconds()))
    if _local(schedule, there).utcoffset() == local.utcoffset():
        return there
    return _clock_change(schedule, at, there)


def _edges(schedule: Schedule, midnight: timedelta) -> Iterator[timedelta]:
    yield midnight + timedelta(days=1)
    for span in schedule.spans:
        for minutes in (span.start, span.end % _MINUTES_OF_DAY):
            yield midnight + timedelta(minutes=minutes)


def _clock_change(schedule: Schedule, before: float, after: float) -> float:
    """The second at which the clocks are changed between the two."""
    offset = _local(schedule, before).utcoffset()
    low, high = int(before), -int(-after // 1)
    while high - low > 1:
        middle = (low + high) // 2
        if _local(schedule, middle).utcoffset() == offset:
            low = middle
        else:
            high = middle
    return float(high)
