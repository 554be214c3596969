"""Rates over any minute, and that they are used (core/pace.py, core/limits.py)."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections import deque
from collections.abc import Callable

import pytest

from batchmill.core.pace import Guess, Pace
from batchmill.grants import Limit
from tests.unit.limits.fleet import Fleet, Member

LIMIT = 600
STEP = 0.02


def run(
    fleet: Fleet, seconds: float, change: Callable[[float], None] = lambda _: None
) -> list[float]:
    """When each call went, every worker beating once a second and sending what it may."""
    sent: list[float] = []
    for step in range(round(seconds / STEP)):
        fleet.pass_time(STEP)
        change(step * STEP)
        for place, member in enumerate(fleet.members):
            if (step + 7 * place) % round(1.0 / STEP) == 0:
                fleet.round(member)
            sent += [fleet.now] * member.send_all(fleet.now)
    return sent


@pytest.mark.parametrize("workers", [1, 4])
def test_calls_at_once_are_used_though_a_rate_is_limited_too(workers: int) -> None:
    fleet = Fleet(Limit("", concurrency=50, requests_per_minute=LIMIT))
    for _ in range(workers):
        fleet.join(lines=99)
    out: deque[tuple[float, Member]] = deque()
    was_out: list[int] = []
    for step in range(6000):
        fleet.pass_time(STEP)
        while out and out[0][0] <= fleet.now:
            out.popleft()[1].take_back(1)
        for place, member in enumerate(fleet.members):
            if (step + 7 * place) % round(1.0 / STEP) == 0:
                fleet.round(member)
            out.extend((fleet.now + 10, member) for _ in range(member.send_all(fleet.now)))
        was_out.append(len(out))
    steady = was_out[1500:]
    assert sum(steady) / len(steady) > 0.97 * 50


def most_in_a_minute(sent: list[float]) -> int:
    return max(n + 1 - bisect_left(sent, at - 60.0) for n, at in enumerate(sent))


@pytest.mark.parametrize("seed", range(3))
def test_no_minute_has_more_calls_whatever_workers_come_and_go(seed: int) -> None:
    fleet, chance = Fleet(Limit("", requests_per_minute=LIMIT)), random.Random(seed)
    fleet.join(lines=99)
    most = 1

    def change(passed: float) -> None:
        nonlocal most
        if passed % 3.0 < STEP:
            member = chance.choice(fleet.members)
            member.lines = chance.choice([0, 1, 99])
            if len(fleet.members) > 1 and chance.random() < 0.3:
                chance.choice([fleet.die, fleet.leave])(member)
            if len(fleet.members) < 5 and chance.random() < 0.4:
                fleet.join(skew=chance.uniform(-500, 500), lines=99)
                most += 1

    sent = run(fleet, 300, change)
    assert most_in_a_minute(sent) <= LIMIT + most


@pytest.mark.parametrize("workers", [1, 4])
def test_a_rate_is_used_in_the_steady_state(workers: int) -> None:
    fleet = Fleet(Limit("", requests_per_minute=LIMIT))
    for _ in range(workers):
        fleet.join(lines=99)
    run(fleet, 5)
    assert len(run(fleet, 120)) >= 0.97 * 2 * LIMIT


def test_a_rate_that_one_does_not_need_is_used_by_the_others() -> None:
    fleet = Fleet(Limit("", requests_per_minute=LIMIT))
    busy, idle = fleet.join(lines=99), fleet.join(lines=99)
    run(fleet, 5)
    idle.lines = 0
    run(fleet, 6)
    assert len(run(fleet, 60)) >= 0.95 * LIMIT
    assert busy.out > idle.out


def test_a_pace_begins_with_nothing_and_saves_up_no_more_than_a_call() -> None:
    pace = Pace(need=1.0, slack_seconds=0.1)
    pace.change(60.0, 100.0)
    assert 101.0 < pace.opens_at(100.0) < 101.1
    assert pace.opens_at(500.0) == 0.0
    pace.spend(1.0)
    assert pace.opens_at(500.0) > 500.8


def test_what_is_overdrawn_is_paid_back_before_the_next_call() -> None:
    pace = Pace(need=0.0, slack_seconds=0.5)
    pace.change(6000.0, 0.0)
    assert pace.opens_at(1.0) == 0.0
    pace.spend(1000.0)
    assert 10.0 < pace.opens_at(1.0) < 12.0
    pace.spend(-900.0)
    assert 1.0 < pace.opens_at(1.0) < 2.0


def test_a_line_is_guessed_by_its_bytes_its_limit_and_what_lines_took_before() -> None:
    guess = Guess()
    assert guess.of(b" " * 400) == 100 + 256
    assert guess.of(b'{"max_tokens": 10}') == 18 / 4 + 10
    assert guess.of(b'{"text": "\\"max_tokens\\": 10"}') > 256
    for _ in range(200):
        guess.learn(400, 200, 50)
    assert guess.of(b" " * 400) == pytest.approx(250, rel=0.01)
    assert guess.of(b'{"max_tokens": 10}') == pytest.approx(9 + 10, rel=0.01)
