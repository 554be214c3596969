"""The lines of all open shards that wait to be sent, and which one is next.

Pure but for its own state. Jobs take turns: priority first, then the tenant and the job with
the fewest lines in flight, and where these are equal the one whose last turn is longest ago.
Within a job lines go in the order of their prompt prefix, over all its open shards, so that an
engine's prefix cache hits.
"""

from __future__ import annotations

import heapq
from bisect import insort
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, groupby
from operator import attrgetter

from batchmill.core.gate import Gate, Route
from batchmill.core.work import OpenLine, OpenShard
from batchmill.model import Job, JobId, TenantId

Serves = Callable[[str], bool]
_model = attrgetter("model")


_Place = tuple[bytes, int, OpenLine]
"""A line by its prompt prefix, then its number: no two of a job are equal in both."""
_TAKEN = 1024
"""So many places of lines that were taken are kept before they are cut off."""


@dataclass(slots=True)
class Queue:
    """The ready lines of one job and one model, in the order in which they are to be sent."""

    job: JobId
    tenant: TenantId
    priority: int
    route: Route
    turn: int = 0
    """When a line of it was taken last; never: 0."""
    lines: int = 0
    _places: list[_Place] = field(default_factory=list)
    _next: int = 0

    def is_live(self) -> bool:
        """Whether there is a line that may go; forgets those that may not and stand before it."""
        while self.lines:
            if self._places[self._next][2].shard.sends:
                return True
            self.take()
        return False

    def add(self, line: OpenLine) -> None:
        """Put one line in its place."""
        insort(self._places, (line.prefix, line.number, line), lo=self._next)
        self.lines += 1

    def merge(self, lines: Iterable[OpenLine]) -> None:
        """Put many lines in their places."""
        del self._places[: self._next]
        self._next = 0
        self._places += [(line.prefix, line.number, line) for line in lines]
        self._places.sort()
        self.lines = len(self._places)

    def take(self) -> OpenLine:
        """The line to be sent next; it is no longer here."""
        line = self._places[self._next][2]
        self._next += 1
        self.lines -= 1
        if self._next >= _TAKEN:
            del self._places[: self._next]
            self._next = 0
        return line

    @property
    def first(self) -> OpenLine:
        """The line to be sent next, where there is one."""
        return self._places[self._next][2]

    def drop(self, shard: OpenShard) -> None:
        """Forget every line of a shard."""
        left = self._places[self._next :]
        self._places = [place for place in left if place[2].shard is not shard]
        self._next, self.lines = 0, len(self._places)


class Pool:
    """Ready and delayed lines; hands out the next one for an engine.

    `on_low` is called where fewer than `low_lines` of its model and job wait behind the line
    that is handed out.
    """

    def __init__(self, low_lines: int = 0, on_low: Callable[[], None] = lambda: None) -> None:
        self.low_lines, self._on_low = low_lines, on_low
        self._queues: dict[tuple[JobId, str], Queue] = {}
        self._delayed: list[tuple[float, int, OpenLine]] = []
        self._alone: list[OpenLine] = []
        self._order = count(1)
        self._tenant_turns: dict[TenantId, int] = {}
        self.in_flight: Counter[JobId] = Counter()
        self.tenant_in_flight: Counter[TenantId] = Counter()

    def add(self, line: OpenLine) -> None:
        """The line may be sent from now on."""
        if line.history is not None and line.history.must_run_alone:
            self._alone.append(line)
        else:
            self._queue(line.shard.job, line.model).add(line)

    def offer(self, lines: Sequence[OpenLine]) -> None:
        """The lines of a shard, none of them tried yet, may be sent from now on."""
        for model, its in groupby(sorted(lines, key=_model), _model):
            many = list(its)
            self._queue(many[0].shard.job, model).merge(many)

    def delay(self, line: OpenLine, until: float) -> None:
        """The line may be sent from that moment on; it holds no slot while it waits."""
        heapq.heappush(self._delayed, (until, next(self._order), line))

    def wake(self, now: float) -> None:
        """Make the delayed lines ready whose time has come."""
        while self._delayed and self._delayed[0][0] <= now:
            line = heapq.heappop(self._delayed)[2]
            if line.shard.sends:
                self.add(line)

    def wakes_at(self) -> float | None:
        """When the next delayed line becomes ready."""
        return self._delayed[0][0] if self._delayed else None

    def next(self, gate: Gate, serves: Serves, now: float) -> OpenLine | None:
        """Take the line that goes to this engine now, if any may; from here on it is in flight
        for its job and tenant."""
        if not gate.has_room(now):
            return None
        if self._delayed:
            self.wake(now)
        line = self._next(gate, serves, now)
        if line is not None:
            job = line.shard.job
            self.in_flight[job.id] += 1
            self.tenant_in_flight[job.tenant] += 1
        return line

    def take_more(self, line: OpenLine, most: int, fits: Callable[[OpenLine], bool]) -> None:
        """Take up to so many lines that go out with this one, which was taken before: those that
        follow it in its queue, as long as each `fits`."""
        job = line.shard.job
        queue = self._queues.get((job.id, line.model))
        while queue is not None and most and queue.is_live() and fits(queue.first):
            queue.take()
            most -= 1
            self.in_flight[job.id] += 1
            self.tenant_in_flight[job.tenant] += 1
        if queue is not None and queue.lines < self.low_lines:
            self._on_low()

    def returned(self, job: Job) -> None:
        """A line of the job is in flight no longer."""
        self.in_flight[job.id] -= 1
        self.tenant_in_flight[job.tenant] -= 1
        if not self.in_flight[job.id]:
            del self.in_flight[job.id]
        if not self.tenant_in_flight[job.tenant]:
            del self.tenant_in_flight[job.tenant]

    def _next(self, gate: Gate, serves: Serves, now: float) -> OpenLine | None:
        if self._alone and (place := self._turn_alone(gate, serves, now)) is not None:
            return self._alone.pop(place) if gate.in_flight == 0 else None
        best = self._best(gate, serves, now)
        if best is None:
            return None
        best.turn = self._tenant_turns[best.tenant] = next(self._order)
        line = best.take()
        if best.lines < self.low_lines:
            self._on_low()
        return line

    def _best(self, gate: Gate, serves: Serves, now: float) -> Queue | None:
        """The queue whose turn it is at this engine."""
        best: Queue | None = None
        rank: tuple[int, int, int, int, int] | None = None
        many = len(self._queues) > 1
        for queue in self._queues.values():
            if not queue.is_live() or not serves(queue.route[1]):
                continue
            is_selective = gate.asides or gate.limits is not None
            if is_selective and not gate.admits(queue.route, now):
                continue
            if not many:
                return queue
            its = (
                -queue.priority,
                self.tenant_in_flight[queue.tenant],
                self._tenant_turns.get(queue.tenant, 0),
                self.in_flight[queue.job],
                queue.turn,
            )
            if rank is None or its < rank:
                best, rank = queue, its
        return best

    def forget(self, shard: OpenShard) -> None:
        """Drop every waiting line of a shard that sends no more."""
        for key, queue in list(self._queues.items()):
            if queue.job == shard.job.id:
                queue.drop(shard)
                if not queue.lines:
                    del self._queues[key]
        tenants = {queue.tenant for queue in self._queues.values()}
        self._tenant_turns = {t: n for t, n in self._tenant_turns.items() if t in tenants}
        self._delayed = [entry for entry in self._delayed if entry[2].shard is not shard]
        heapq.heapify(self._delayed)
        self._alone = [line for line in self._alone if line.shard is not shard]

    def ready_lines(self) -> Counter[str]:
        """How many lines of each model wait to be sent, the delayed ones left out."""
        ready = Counter(line.model for line in self._alone)
        for queue in self._queues.values():
            ready[queue.route[1]] += queue.lines
        return ready

    def routes(self, job: JobId) -> Iterator[Route]:
        """The routes for which the job has ready lines."""
        for queue in self._queues.values():
            if queue.job == job and queue.lines:
                yield queue.route
        for line in self._alone:
            if line.shard.job.id == job:
                yield (line.shard.job.endpoint, line.model)

    def delayed_routes(self, job: JobId) -> set[Route]:
        """The routes on which lines of the job wait for their next try."""
        return {
            (job_line.shard.job.endpoint, job_line.model)
            for _, _, job_line in self._delayed
            if job_line.shard.job.id == job
        }

    def delayed_lines(self) -> Counter[JobId]:
        """How many lines of each job wait for their next try."""
        return Counter(line.shard.job.id for _, _, line in self._delayed)

    def _turn_alone(self, gate: Gate, serves: Serves, now: float) -> int | None:
        """The place of a line that has to run alone at this engine. While there is one nothing
        else is sent there, so that its turn comes."""
        for place, line in enumerate(self._alone):
            route = (line.shard.job.endpoint, line.model)
            if line.shard.sends and serves(line.model) and gate.admits(route, now):
                return place
        return None

    def _queue(self, job: Job, model: str) -> Queue:
        key = (job.id, model)
        queue = self._queues.get(key)
        if queue is None:
            route = (job.endpoint, model)
            queue = self._queues[key] = Queue(job.id, job.tenant, job.priority, route)
        return queue
