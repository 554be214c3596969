"""Small engines on paper, for the controller of `core/window.py`: they serve some calls at once and
let the others wait, and time is a number."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from batchmill.calls import Load
from batchmill.core.window import Window

Shape = Callable[[float], float]
"""Something that may change with time."""
Asks = Callable[[float], int]
"""How many calls a person makes at a moment."""


def always(value: float) -> Shape:
    """It never changes."""
    return lambda _: value


@dataclass(slots=True)
class Engine:
    """`slots` calls are served at once; one takes `seconds`, spread by `spread` (0: not at all, 1:
    exponentially), `slowdown` of it more for each other call that is served with it. It refuses
    everything while `refuses`, and where more than `most` are there."""

    slots: Shape
    seconds: Shape
    spread: float = 0.0
    slowdown: float = 0.0
    refuses: Callable[[float], bool] = lambda _: False
    most: int = 1_000_000
    tells: bool = False
    told_waiting: int | None = None
    """What it tells of its queue, whatever waits; None: the truth."""
    tokens: Callable[[random.Random], int] = lambda _: 0
    token_seconds: float = 0.0


@dataclass(slots=True)
class Run:
    """What came of it: answers by worker, and now and then the windows."""

    answers: list[int]
    windows: list[tuple[float, ...]] = field(default_factory=list)
    waiting: list[tuple[float, int]] = field(default_factory=list)
    refused: int = 0
    probes: list[float] = field(default_factory=list)
    """How long each call of a person took."""


@dataclass(slots=True)
class _Call:
    worker: int
    sent_at: float
    tokens: int


class Fixed:
    """A window that never moves, to compare with."""

    def __init__(self, size: int) -> None:
        self.size = size

    def answered(self, now: float, seconds: float, tokens: int, in_flight: int) -> None: ...
    def refused(self, now: float) -> bool:
        return True

    def heard(self, load: Load | None, in_flight: int, now: float) -> None: ...


class Bench:
    """Workers that keep their windows full at one engine, and perhaps a person who calls it once in
    a while."""

    def __init__(
        self,
        engine: Engine,
        windows: list[Window | Fixed],
        seed: int = 1,
        *,
        joins: tuple[float, ...] = (),
        asks: Asks = lambda _: 0,
        ask_every: float = 0.25,
    ) -> None:
        self.engine, self.windows = engine, windows
        self.random = random.Random(seed)
        self.now, self.order = 0.0, 0
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.waiting: deque[_Call] = deque()
        self.running = 0
        self.in_flight = [0] * len(windows)
        self.paused = [0.0] * len(windows)
        self.run_ = Run([0] * len(windows))
        self.joins = joins or (0.0,) * len(windows)
        self.asks, self.ask_every = asks, ask_every

    def at(self, when: float, what: Callable[[], None]) -> None:
        self.order += 1
        heapq.heappush(self.events, (when, self.order, what))

    def run(self, seconds: float) -> Run:
        """Let so much time pass from the beginning."""
        for worker, at in enumerate(self.joins):
            self.at(at, lambda worker=worker: self.fill(worker))
            self.at(at + 1.0, lambda worker=worker: self.scrape(worker))
        self.at(1.0, self.note)
        self.at(self.ask_every, self.ask)
        while self.events and self.events[0][0] <= seconds:
            self.now, _, what = heapq.heappop(self.events)
            what()
        return self.run_

    def note(self) -> None:
        self.run_.windows.append((self.now, *(float(each.size) for each in self.windows)))
        self.run_.waiting.append((self.now, len(self.waiting)))
        self.refill()
        self.at(self.now + 0.5, self.note)

    def ask(self) -> None:
        for _ in range(self.asks(self.now)):
            self.arrive(_Call(-1, self.now, 0))
        self.at(self.now + self.ask_every, self.ask)

    def scrape(self, worker: int) -> None:
        if self.engine.tells:
            waiting = self.engine.told_waiting
            load = Load(self.running, len(self.waiting) if waiting is None else waiting, 0.0)
            self.windows[worker].heard(load, self.in_flight[worker], self.now)
            self.fill(worker)
        self.at(self.now + 1.0, lambda: self.scrape(worker))

    def fill(self, worker: int) -> None:
        if self.now < max(self.paused[worker], self.joins[worker]):
            return
        while self.in_flight[worker] + 1 <= self.windows[worker].size:
            self.in_flight[worker] += 1
            self.arrive(_Call(worker, self.now, self.engine.tokens(self.random)))

    def arrive(self, call: _Call) -> None:
        there = self.running + len(self.waiting)
        if self.engine.refuses(self.now) or there >= self.engine.most:
            self.at(self.now + 0.002, lambda: self.refuse(call))
        elif self.running < self.engine.slots(self.now):
            self.serve(call)
        else:
            self.waiting.append(call)

    def refuse(self, call: _Call) -> None:
        worker = call.worker
        self.run_.refused += 1
        if worker < 0:
            return
        pauses = self.windows[worker].refused(self.now)
        self.in_flight[worker] -= 1
        if not pauses:
            self.at(self.now, lambda: self.fill(worker))
        elif self.now >= self.paused[worker]:
            self.paused[worker] = self.now + 0.1
            self.at(self.now + 0.101, lambda: self.fill(worker))

    def serve(self, call: _Call) -> None:
        self.running += 1
        engine = self.engine
        seconds = engine.seconds(self.now) + call.tokens * engine.token_seconds
        if engine.spread:
            drawn = self.random.expovariate(1.0)
            seconds *= 1.0 - engine.spread + engine.spread * drawn
        seconds *= 1.0 + engine.slowdown * (self.running - 1)
        self.at(self.now + seconds, lambda: self.end(call))

    def end(self, call: _Call) -> None:
        self.running -= 1
        self.refill()
        worker, seconds = call.worker, self.now - call.sent_at
        if worker < 0:
            self.run_.probes.append(seconds)
            return
        self.run_.answers[worker] += 1
        window = self.windows[worker]
        window.answered(self.now, seconds, call.tokens, self.in_flight[worker])
        self.in_flight[worker] -= 1
        self.fill(worker)

    def refill(self) -> None:
        while self.waiting and self.running < self.engine.slots(self.now):
            self.serve(self.waiting.popleft())
