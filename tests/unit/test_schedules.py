from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchmill.schedules import (
    ALWAYS,
    DAYS,
    Schedule,
    check_time_zone,
    is_open,
    next_change,
    parse_spans,
)

BERLIN = "Europe/Berlin"
NIGHT = "22:00-06:00"
WEEK = "mon-fri 20:00-07:00, sat-sun 00:00-24:00"


def schedule(text: str, zone: str = "UTC") -> Schedule:
    return Schedule(parse_spans(text), zone)


def at(text: str) -> float:
    """The Unix time of an ISO time; UTC where no offset is written."""
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


# Berlin's clocks go from 02:00+01:00 to 03:00+02:00 on 2026-03-29 and back from 03:00+02:00 to
# 02:00+01:00 on 2026-10-25; both days are Sundays.
@pytest.mark.parametrize(
    ("text", "zone", "now", "open_now", "changes"),
    [
        ("", "UTC", "2026-06-01T12:00", True, None),
        ("00:00-24:00", "UTC", "2026-06-01T12:00", True, None),
        ("00:00-12:00, 12:00-00:00", "UTC", "2026-06-01T12:00", True, None),
        # within a day, and across midnight
        ("09:00-17:00", "UTC", "2026-06-01T08:59:59.5", False, "2026-06-01T09:00"),
        ("09:00-17:00", "UTC", "2026-06-01T09:00", True, "2026-06-01T17:00"),
        ("09:00-17:00", "UTC", "2026-06-01T17:00", False, "2026-06-02T09:00"),
        (NIGHT, "UTC", "2026-06-01T21:59:59", False, "2026-06-01T22:00"),
        (NIGHT, "UTC", "2026-06-01T22:00", True, "2026-06-02T06:00"),
        (NIGHT, "UTC", "2026-06-02T00:00", True, "2026-06-02T06:00"),
        (NIGHT, "UTC", "2026-06-02T06:00", False, "2026-06-02T22:00"),
        (NIGHT, "UTC", "2026-12-31T23:00", True, "2027-01-01T06:00"),
        ("20:00-00:00", "UTC", "2026-06-01T20:00", True, "2026-06-02T00:00"),
        ("06:00-09:00, 20:00-23:00", "UTC", "2026-06-01T09:00", False, "2026-06-01T20:00"),
        ("06:00-09:00, 08:00-12:00", "UTC", "2026-06-01T06:00", True, "2026-06-01T12:00"),
        ("06:00-09:00, 09:00-12:00", "UTC", "2026-06-01T06:00", True, "2026-06-01T12:00"),
        # days: 2026-06-01 is a Monday
        (WEEK, "UTC", "2026-06-01T07:00", False, "2026-06-01T20:00"),
        (WEEK, "UTC", "2026-06-05T20:00", True, "2026-06-08T00:00"),
        (WEEK, "UTC", "2026-06-08T00:00", False, "2026-06-08T20:00"),
        ("fri 22:00-06:00", "UTC", "2026-06-06T05:59", True, "2026-06-06T06:00"),
        ("fri 22:00-06:00", "UTC", "2026-06-05T05:59", False, "2026-06-05T22:00"),
        ("sun 22:00-06:00", "UTC", "2026-06-08T05:59", True, "2026-06-08T06:00"),
        ("fri-mon 12:00-13:00", "UTC", "2026-06-02T12:30", False, "2026-06-05T12:00"),
        ("MON 12:00-13:00", "UTC", "2026-06-01T13:00", False, "2026-06-08T12:00"),
        # leap days: 2028-02-29 is a Tuesday
        (NIGHT, "UTC", "2028-02-28T23:00", True, "2028-02-29T06:00"),
        ("tue 00:00-24:00", "UTC", "2028-02-29T12:00", True, "2028-03-01T00:00"),
        (NIGHT, "UTC", "2027-02-28T23:00", True, "2027-03-01T06:00"),
        # a zone's own hours
        (NIGHT, BERLIN, "2026-01-01T21:00", True, "2026-01-02T05:00"),
        (NIGHT, BERLIN, "2026-07-01T20:00", True, "2026-07-02T04:00"),
        ("00:00-12:00", "Asia/Kathmandu", "2026-06-01T18:14", False, "2026-06-01T18:15"),
        # clocks go forward within a span: it is an hour shorter
        (NIGHT, BERLIN, "2026-03-28T22:00", True, "2026-03-29T04:00"),
        # ... over its begin: it begins when the clocks have changed
        ("02:30-06:00", BERLIN, "2026-03-29T00:59", False, "2026-03-29T01:00"),
        # ... over its end: it ends when they change
        ("01:00-02:30", BERLIN, "2026-03-29T00:00", True, "2026-03-29T01:00"),
        # ... over all of it: it is skipped
        ("02:15-02:45", BERLIN, "2026-03-28T02:00", False, "2026-03-30T00:15"),
        ("sun 02:15-02:45", BERLIN, "2026-03-23T00:00", False, "2026-04-05T00:15"),
        # clocks go back within a span: it is an hour longer
        (NIGHT, BERLIN, "2026-10-24T21:00", True, "2026-10-25T05:00"),
        # ... over its begin: open the first time round, and again the second
        ("02:30-06:00", BERLIN, "2026-10-25T00:00", False, "2026-10-25T00:30"),
        ("02:30-06:00", BERLIN, "2026-10-25T00:30", True, "2026-10-25T01:00"),
        ("02:30-06:00", BERLIN, "2026-10-25T01:00", False, "2026-10-25T01:30"),
        # ... over its end
        ("01:00-02:30", BERLIN, "2026-10-24T23:00", True, "2026-10-25T00:30"),
        ("01:00-02:30", BERLIN, "2026-10-25T00:30", False, "2026-10-25T01:00"),
        ("01:00-02:30", BERLIN, "2026-10-25T01:00", True, "2026-10-25T01:30"),
        # ... over all of it
        ("02:15-02:45", BERLIN, "2026-10-25T00:45", False, "2026-10-25T01:15"),
        # half an hour, and at midnight
        ("02:15-03:00", "Australia/Lord_Howe", "2026-10-03T15:00", False, "2026-10-03T15:30"),
        ("00:00-01:00", "America/Havana", "2026-03-08T04:00", False, "2026-03-09T04:00"),
    ],
)
def test_a_schedule_opens_and_closes_by_the_clock_on_the_wall(
    text: str, zone: str, now: str, open_now: bool, changes: str | None
) -> None:
    its = schedule(text, zone) if text else ALWAYS
    assert is_open(its, at(now)) is open_now
    expected = None if changes is None else at(changes)
    assert next_change(its, at(now)) == expected


ZONES = ("UTC", BERLIN, "America/St_Johns", "Australia/Lord_Howe", "Africa/Casablanca")
TIMES = st.integers(0, 24 * 12).map(lambda n: n * 5)


@st.composite
def spans(draw: st.DrawFn) -> str:
    start, end = draw(st.tuples(TIMES, TIMES).filter(lambda t: t[0] != t[1] and t[0] < 1440))
    days = draw(st.sampled_from(["", *DAYS, "mon-fri", "sat-sun", "fri-tue"]))
    return f"{days} {clock(start)}-{clock(end)}".strip()


def clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


def shows_open(text: str, zone: str, now: float) -> bool:
    """The same, read from the words of the schedule."""
    local = datetime.fromtimestamp(now, ZoneInfo(zone))
    shown, yesterday = f"{local:%H:%M}", local.date() - timedelta(days=1)
    for span in text.split(", "):
        days, _, times = span.rpartition(" ")
        start, end = times.split("-")
        over = end <= start
        if on(days, local.weekday()) and start <= shown and (over or shown < end):
            return True
        if over and on(days, yesterday.weekday()) and shown < end:
            return True
    return False


def on(days: str, day: int) -> bool:
    if not days:
        return True
    first, _, last = days.partition("-")
    begin, end = DAYS.index(first), DAYS.index(last or first)
    return begin <= day <= end if begin <= end else day >= begin or day <= end


AROUND_CHANGES = (
    "2026-03-27",
    "2026-10-23",
    "2026-03-06",
    "2026-10-02",
    "2026-02-13",
    "2028-02-27",
)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(spans(), min_size=1, max_size=4).map(", ".join),
    st.sampled_from(ZONES),
    st.sampled_from(AROUND_CHANGES),
    st.integers(0, 60 * 24),
)
def test_minute_by_minute_it_is_open_when_the_clock_shows_it(
    text: str, zone: str, day: str, offset: int
) -> None:
    its, start = schedule(text, zone), at(day) + offset * 60
    states = [shows_open(text, zone, start + n * 60) for n in range(3 * 24 * 60)]
    assert [is_open(its, start + n * 60) for n in range(0, len(states), 7)] == states[::7]
    found, seen = start, []
    while (change := next_change(its, found)) is not None and change < start + len(states) * 60:
        seen.append(change)
        found = change
    turns = [n for n in range(1, len(states)) if states[n] is not states[n - 1]]
    assert seen == [start + n * 60 for n in turns]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "spans such as"),
        ("at night", "'at night' is none"),
        ("22:00", "'22:00' is none"),
        ("22:00-06:00,", "'' is none"),
        ("22:00-06:00; 07:00-08:00", "is none"),
        ("22-06", "'22-06' is none"),
        ("mon-fri", "'mon-fri' is none"),
        ("mon, tue 10:00-11:00", "'mon' is none"),
        ("mon-xyz 10:00-11:00", "'xyz' is none"),
        ("xyz 10:00-11:00", "sat, sun, and 'xyz' is none"),
        ("25:00-26:00", "'25:00' is none"),
        ("10:60-11:00", "'10:60' is none"),
        ("24:00-06:00", "without length"),
        ("08:00-08:00", "without length, '08:00-08:00'"),
        (", ".join(["01:00-02:00"] * 51), "has 51 spans"),
    ],
)
def test_a_schedule_that_cannot_be_meant_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as refused:
        parse_spans(text)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["", "Mars/Base", "Europe", "../etc/passwd", "berlin", "+02:00"])
def test_a_time_zone_that_does_not_exist_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="IANA time zone"):
        check_time_zone(name)
