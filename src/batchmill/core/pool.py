"""The lines of all open shards that wait to be sent, and which one is next.

Pure but for its own state. Jobs take turns: priority first, then the tenant and the job with
the fewest lines in flight, and where these are equal the one whose last turn is longest ago. A
turn is one line, or in a large window a few that begin alike.
Within a job lines go by model (`queues.py`), then in the order of their prompt prefix, over all its
open shards (`sweep.py`).
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, groupby
from operator import attrgetter

from batchmill.core.gate import Gate, Route
from batchmill.core.lengths import Lengths
from batchmill.core.queues import JobQueues, Queue, Serves
from batchmill.core.spread import Spread
from batchmill.core.sweep import Taker
from batchmill.core.work import OpenLine, OpenShard
from batchmill.model import Job, JobId, TenantId

_model = attrgetter("model")

_TURN = 1 / 16
"""So large a part of an engine's window may go to one job before another's turn comes."""
TAIL = 4
"""The end of a job is so many times the lines that count as few."""
_HEAD = 2
"""Bytes of a key that are equal where prompts begin alike."""


@dataclass(slots=True)
class Turn:
    """Whose line an engine took last, how its prompt began, and how many more like it the engine
    may take before it asks again whose turn it is."""

    queue: Queue
    head: bytes
    left: int


class Pool:
    """Ready and delayed lines; hands out the next one for an engine.

    `on_low` is called where behind the line that is handed out fewer than `low_lines` of its job
    wait that the same engine may have (with the job, and how many), `on_spread` where a job gains
    from more open shards.
    """

    def __init__(
        self,
        low_lines: int = 0,
        on_low: Callable[[JobId, int], None] = lambda _, __: None,
        on_spread: Callable[[], None] = lambda: None,
    ) -> None:
        self.low_lines, self._on_low, self._on_spread = low_lines, on_low, on_spread
        self.spread, self.lengths = Spread(), Lengths()
        self._jobs: dict[JobId, JobQueues] = {}
        self._delayed: list[tuple[float, int, OpenLine]] = []
        self._alone: list[OpenLine] = []
        self._order = count(1)
        self._tenant_turns: dict[TenantId, int] = {}
        self._turns: dict[int, Turn] = {}
        self.in_flight: Counter[JobId] = Counter()
        self.tenant_in_flight: Counter[TenantId] = Counter()

    def add(self, line: OpenLine) -> None:
        """The line may be sent from now on; where its shard sends no more, it is let go of."""
        line.out = False
        if not line.shard.sends:
            return
        if line.history is not None and line.history.must_run_alone:
            self._alone.append(line)
        else:
            self._queues_of(line.shard.job).add(line)

    def offer(self, lines: Sequence[OpenLine]) -> None:
        """The lines of a shard, none of them tried yet, may be sent from now on."""
        for model, its in groupby(sorted(lines, key=_model), _model):
            self._queues_of(lines[0].shard.job).merge(model, list(its))
        self._turns.clear()
        if lines:
            job = lines[0].shard.job.id
            self.spread.opened(job, [line.prefix for line in lines])
            if self.spread.gains(job, self.lines_by_job()[job]):
                self._on_spread()

    def engines_changed(self) -> None:
        """Engines may serve other models than when they were asked."""
        for its in self._jobs.values():
            its.engines_changed()

    def finish(self, serves: Serves) -> None:
        """No shard is left to be claimed of these models: their jobs come to their end."""
        for queue in self._queues():
            if serves(queue.route[1]):
                queue.ends_here = True
                self._finish(queue)

    def _finish(self, queue: Queue) -> None:
        """Let the last windows of a job's lines go longest first, so that none is left alone at
        the end; judged anew whenever half of them are left."""
        sweep = queue.sweep
        if 0 < sweep.lines < TAIL * self.low_lines and 2 * sweep.lines <= sweep.ranked_lines:
            sweep.finish_with(self.lengths.ranks)

    def delay(self, line: OpenLine, until: float) -> None:
        """The line may be sent from that moment on; it holds no slot while it waits. Where its
        shard sends no more, it is let go of."""
        line.out, line.again_at = False, until
        if not line.shard.sends:
            return
        heapq.heappush(self._delayed, (until, next(self._order), line))

    def wake(self, now: float) -> None:
        """Make the delayed lines ready whose time has come."""
        while self._delayed and self._delayed[0][0] <= now:
            self.add(heapq.heappop(self._delayed)[2])

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
            line.out = True
            job = line.shard.job
            self.in_flight[job.id] += 1
            self.tenant_in_flight[job.tenant] += 1
        return line

    def take_more(
        self, gate: Gate, line: OpenLine, most: int, fits: Callable[[OpenLine], bool], now: float
    ) -> None:
        """Take up to so many lines that go out with this one, which was taken before: those that
        the engine would take next of its job, as long as each `fits`."""
        job = line.shard.job
        its = self._jobs.get(job.id)
        queue = None if its is None else its.queues.get(line.model)
        if its is None or queue is None:
            return
        taker, sweep = _taker(gate), queue.sweep
        while most and sweep.lines:
            following = sweep.peek(taker)
            if following.shard.sends:
                if not fits(following):
                    break
                most -= 1
                following.out = True
                self.in_flight[job.id] += 1
                self.tenant_in_flight[job.tenant] += 1
            sweep.take(taker)
        self._watch_level(its, queue, gate, now)

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
        taker = _taker(gate)
        while True:
            queue = self._staying(gate, taker, serves, now) if self._turns else None
            if queue is None:
                queue = self._best(gate, serves, now)
            if queue is None:
                return None
            line = queue.sweep.take(taker)
            if line.shard.sends:  # others are no longer to be sent
                break
        its = self._jobs[queue.job]
        if len(self._jobs) > 1:
            its.turn = self._tenant_turns[its.tenant] = next(self._order)
            self._note_turn(queue, gate, line)
        if queue.ends_here:
            self._finish(queue)
        self._watch_level(its, queue, gate, now)
        return line

    def _watch_level(self, its: JobQueues, queue: Queue, gate: Gate, now: float) -> None:
        """Say so where few of the job's lines are left for the engine."""
        if not queue.sweep.lines and len(its.queues) > 1:
            its.drop(queue)
        if queue.sweep.lines < self.low_lines:
            lines = its.lines_for(gate, self.low_lines, now)
            if lines < self.low_lines:
                self._on_low(its.job, lines)

    def _note_turn(self, queue: Queue, gate: Gate, line: OpenLine) -> None:
        if id(gate) not in self._turns:
            left = int(gate.allowed * _TURN) - 1
            self._turns[id(gate)] = Turn(queue, line.prefix[:_HEAD], left)

    def _staying(self, gate: Gate, taker: Taker, serves: Serves, now: float) -> Queue | None:
        """The queue whose turn goes on: few lines that begin alike go one after the other, so that
        an engine's prefix cache need not hold those of all jobs at once."""
        turn = self._turns.get(id(gate))
        if turn is None:
            return None
        queue = turn.queue
        if turn.left > 0 and turn.head and queue.sweep.lines and serves(queue.route[1]):
            is_selective = gate.asides or gate.limits is not None
            if not is_selective or gate.admits(queue.route, now):
                turn.left -= 1
                if queue.sweep.peek(taker).prefix[:_HEAD] == turn.head:
                    return queue
        del self._turns[id(gate)]
        return None

    def _best(self, gate: Gate, serves: Serves, now: float) -> Queue | None:
        """The queue whose turn it is at this engine."""
        if len(self._jobs) == 1:
            return next(iter(self._jobs.values())).next(gate, serves, now)
        best: Queue | None = None
        rank: tuple[int, int, int, int, int] | None = None
        for its in self._jobs.values():
            standing = (
                -its.priority,
                self.tenant_in_flight[its.tenant],
                self._tenant_turns.get(its.tenant, 0),
                self.in_flight[its.job],
                its.turn,
            )
            if rank is None or standing < rank:
                queue = its.next(gate, serves, now)
                if queue is not None:
                    best, rank = queue, standing
        return best

    def forget(self, shard: OpenShard) -> None:
        """Drop every waiting line of a shard that sends no more."""
        its = self._jobs.get(shard.job.id)
        if its is not None:
            for queue in its.queues.values():
                queue.sweep.drop(shard)
            its.drop_empty()
            if not its.queues:
                del self._jobs[its.job]
        tenants = {its.tenant for its in self._jobs.values()}
        self._tenant_turns = {t: n for t, n in self._tenant_turns.items() if t in tenants}
        self._delayed = [entry for entry in self._delayed if entry[2].shard is not shard]
        heapq.heapify(self._delayed)
        self._alone = [line for line in self._alone if line.shard is not shard]

    def ready_lines(self) -> Counter[str]:
        """How many lines of each model wait to be sent, the delayed ones left out."""
        ready = Counter(line.model for line in self._alone)
        for queue in self._queues():
            ready[queue.route[1]] += queue.sweep.lines
        return ready

    def lines_by_job(self, of: Callable[[Route], bool] = lambda _: True) -> Counter[JobId]:
        """How many lines of each job wait to be sent, on the routes in question, the delayed ones
        left out."""
        ready = Counter(line.shard.job.id for line in self._alone if of(_route(line)))
        for queue in self._queues():
            if of(queue.route):
                ready[queue.job] += queue.sweep.lines
        return ready

    def routes(self, job: JobId) -> Iterator[Route]:
        """The routes for which the job has ready lines."""
        for queue in self._queues():
            if queue.job == job and queue.sweep.lines:
                yield queue.route
        for line in self._alone:
            if line.shard.job.id == job:
                yield _route(line)

    def delayed_routes(self, job: JobId) -> set[Route]:
        """The routes on which lines of the job wait for their next try."""
        return {_route(line) for _, _, line in self._delayed if line.shard.job.id == job}

    def delayed_lines(self) -> Counter[JobId]:
        """How many lines of each job wait for their next try."""
        return Counter(line.shard.job.id for _, _, line in self._delayed)

    def _turn_alone(self, gate: Gate, serves: Serves, now: float) -> int | None:
        """The place of a line that has to run alone at this engine. While there is one nothing
        else is sent there, so that its turn comes."""
        for place, line in enumerate(self._alone):
            if line.shard.sends and serves(line.model) and gate.admits(_route(line), now):
                return place
        return None

    def _queues(self) -> Iterator[Queue]:
        for its in self._jobs.values():
            yield from its.queues.values()

    def _queues_of(self, job: Job) -> JobQueues:
        its = self._jobs.get(job.id)
        if its is None:
            its = self._jobs[job.id] = JobQueues(job)
        return its


def _route(line: OpenLine) -> Route:
    return (line.shard.job.endpoint, line.model)


def _taker(gate: Gate) -> Taker:
    """Who takes the next line: the engine, or a slot of it."""
    return gate if gate.slots is None else gate.slots.next()
