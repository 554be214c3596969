"""Engines so slow that calls may wait longer than they are given (core/patience.py), with the real
window, gate and table of replies, and time as a number."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from batchmill.calls import Broken, Load
from batchmill.core.gate import Gate
from batchmill.core.patience import Patience
from batchmill.core.retry import Again, Finish, History, decide
from batchmill.core.window import Window

ROUTE = ("/v1/chat/completions", "m")
TIMEOUT = 600.0


@dataclass
class Mill:
    """A job of lines at an engine that works on `slots` calls at once, first come, first served;
    `notices`: it stops working on a call that is given up. `hangs`: lines that it never answers."""

    slots: int
    seconds: float
    lines: int = 200
    notices: bool = True
    tells: bool = False
    hangs: frozenset[int] = frozenset()
    now: float = 0.0
    answered: int = 0
    failed: list[int] = field(default_factory=list)
    calls: int = 0

    def __post_init__(self) -> None:
        self.random, self.gate = (
            random.Random(1),
            Gate(1024, window=Window(timeout_seconds=TIMEOUT)),
        )
        self.ready = list(range(self.lines))[::-1]
        self.histories = [History() for _ in range(self.lines)]
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.order = 0
        self.queue: deque[int] = deque()
        self.running: set[int] = set()
        self.out: dict[int, tuple[int, float]] = {}

    def at(self, when: float, what: Callable[[], None]) -> None:
        self.order += 1
        heapq.heappush(self.events, (when, self.order, what))

    def run(self) -> Mill:
        self.look()
        while self.answered + len(self.failed) < self.lines:
            self.now, _, what = heapq.heappop(self.events)
            what()
            self.send()
        return self

    def look(self) -> None:
        if self.tells:
            load = Load(len(self.running), len(self.queue), 0.0)
            self.gate.heard(load, self.gate.in_flight, self.now)
        self.at(self.now + 1.0, self.look)

    def send(self) -> None:
        while self.ready and self.gate.has_room(self.now):
            self.gate.sent(ROUTE)
            self.calls += 1
            call = self.calls
            self.out[call] = (self.ready.pop(), self.now)
            self.queue.append(call)
            self.at(self.now + TIMEOUT, lambda call=call: self.time_out(call))
        while self.queue and len(self.running) < self.slots:
            self.serve(self.queue.popleft())

    def serve(self, call: int) -> None:
        line, _ = self.out.get(call, (-1, 0.0))
        if line < 0 and self.notices:
            return
        self.running.add(call)
        if line not in self.hangs:
            seconds = self.seconds * self.random.uniform(0.9, 1.1)
            self.at(self.now + seconds, lambda: self.end(call))

    def end(self, call: int) -> None:
        self.running.discard(call)
        if call in self.out:
            _, sent_at = self.out.pop(call)
            self.answered += 1
            self.gate.returned(ROUTE)
            self.gate.answered(ROUTE, well=True)
            self.gate.took(self.now - sent_at, 5, self.now)

    def time_out(self, call: int) -> None:
        if call not in self.out:
            return
        line, sent_at = self.out.pop(call)
        self.gate.returned(ROUTE)
        if self.notices or line in self.hangs:
            self.running.discard(call)
        decision = decide(
            Broken("timeout", "late"),
            self.histories[line],
            answers=self.gate.answers.get(ROUTE, 0),
            alone=False,
            jitter=self.random.random(),
            crowded=self.gate.is_crowded(sent_at),
        )
        self.gate.timed_out(self.now)
        if isinstance(decision, Finish):
            self.failed.append(line)
        elif isinstance(decision, Again):
            self.at(self.now + decision.after_seconds, lambda: self.ready.append(line))


SLOW = [(1, 60), (1, 75), (1, 90), (1, 120), (1, 200), (2, 150), (2, 240), (4, 300), (48, 300)]


@pytest.mark.parametrize("tells", [True, False], ids=["told", "untold"])
@pytest.mark.parametrize("notices", [True, False], ids=["notices", "goes on"])
@pytest.mark.parametrize(("slots", "seconds"), SLOW)
def test_no_line_fails_because_others_were_ahead_of_it(
    slots: int, seconds: float, *, notices: bool, tells: bool
) -> None:
    mill = Mill(slots, seconds, notices=notices, tells=tells).run()
    assert mill.failed == []
    assert mill.calls < 1.1 * mill.lines
    if slots < 8:
        assert mill.now < 1.15 * mill.lines * seconds / slots + TIMEOUT


def test_a_line_that_a_slow_engine_never_answers_fails_and_no_other() -> None:
    mill = Mill(4, 100, hangs=frozenset({7})).run()
    assert mill.failed == [7]
    assert mill.histories[7].waits_in_vain <= 1


@pytest.mark.parametrize("seconds", [1.0, 100.0])
def test_many_lines_that_are_never_answered_do_not_go_one_after_the_other(seconds: float) -> None:
    hangs = frozenset(range(150, 200))
    mill = Mill(64, seconds, hangs=hangs).run()
    assert set(mill.failed) == hangs
    assert mill.now < 16 * TIMEOUT


def test_an_engine_that_never_answers_fails_all_its_lines() -> None:
    mill = Mill(8, 1.0, lines=16, hangs=frozenset(range(16))).run()
    assert len(mill.failed) == 16
    assert mill.now < 12 * TIMEOUT


def test_an_engine_that_is_stuck_for_a_while_gets_its_window_back_at_once() -> None:
    patience = Patience(TIMEOUT)
    for call in range(100):
        patience.answered(0.1 * call, 1.0, 10, is_full=True)
    assert patience.timed_out(700.0, 10)
    assert patience.most == 1.0
    patience.answered(702.0, 1.0, 1, is_full=True)
    assert patience.most > 100
