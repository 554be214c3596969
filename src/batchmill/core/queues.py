"""The ready lines of one job, a queue for each model, and which model an engine is at.

An engine stays at a model until no line of it waits, so that it loads each model once; then it
goes to the next it serves, one that no other engine is at where there is such. Pure but for its
own state. Whose turn it is among jobs: `pool.py`.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from batchmill.core.gate import Gate, Route
from batchmill.core.sweep import Sweep
from batchmill.core.work import OpenLine
from batchmill.model import Job, JobId

Serves = Callable[[str], bool]


@dataclass(slots=True, eq=False)
class Queue:
    """The ready lines of one job and one model, in the order in which they are to be sent."""

    job: JobId
    route: Route
    sweep: Sweep = field(default_factory=Sweep)
    ends_here: bool = False
    """The job's last lines are here, as far as is known."""


LOOK_SECONDS = 0.05
"""How often it is looked whether a trial of what is set aside is still out."""


class Course:
    """One engine's way through the models of a job: those that it serves, in the order in which
    lines of them came. Which these are is not asked anew until `begin`.

    A job may name thousands of models that the engine has refused: each is looked at once until
    its time comes, not with every line.
    """

    __slots__ = ("_gate", "_held", "_openings", "_queues", "_serves", "_times", "at")

    def __init__(self, gate: Gate, serves: Serves, queues: Iterable[Queue]) -> None:
        self._gate, self._serves = gate, serves  # it keeps its gate, and so its number
        self.at: Queue | None = None
        self.begin(queues)

    def begin(self, queues: Iterable[Queue]) -> None:
        """Ask anew which of these the engine serves; it stays where it is, if it may."""
        its = (queue for queue in queues if queue.sweep.lines and self._serves(queue.route[1]))
        self._queues = OrderedDict((queue.route[1], queue) for queue in its)
        self._held: dict[str, Queue] = {}
        """Those whose model was aside when it was looked at, out of the others' way,"""
        self._times: list[tuple[float, str]] = []
        """and when to look at each again."""
        self._openings = self._gate.openings
        if self.at is not None and self.at.route[1] not in self._queues:
            self.at = None

    def join(self, queue: Queue) -> None:
        """There are lines in a queue that had none."""
        model = queue.route[1]
        if model in self._held:
            self._held[model] = queue
        elif self._serves(model):
            self._queues[model] = queue

    def next(self, now: float, others: Collection[Course]) -> Queue | None:
        """The queue whose line the engine takes now. While it may get none of the model it is at,
        others go, and it comes back."""
        if self._held:
            self._look_again(now)
        if self.at is None or not self.at.sweep.lines:
            self.at = self._following({course.at for course in others if course is not self})
        gate = self._gate
        if self.at is None or not (gate.asides or gate.limits is not None):
            return self.at
        if gate.admits(self.at.route, now):
            return self.at
        return self._first_admitted(now)

    def lines(self, most: int, now: float) -> int:
        """How many lines wait that the engine may have now, counted until there are so many."""
        found, limits = 0, self._gate.limits
        for queue in self._queues.values():
            if limits is None or limits.admits(queue.route[1], now):
                found += queue.sweep.lines
            if found >= most:
                break
        return found

    def _first_admitted(self, now: float) -> Queue | None:
        found: Queue | None = None
        held = []
        for queue in self._queues.values():
            if not queue.sweep.lines:
                continue
            if self._gate.admits(queue.route, now):
                found = queue
                break
            if self._gate.is_aside(queue.route):
                held.append(queue)
        for queue in held:
            model = queue.route[1]
            self._held[model] = self._queues.pop(model)
            until = max(now + LOOK_SECONDS, self._gate.aside_until(queue.route))
            heapq.heappush(self._times, (until, model))
        return found

    def _look_again(self, now: float) -> None:
        """Let those in again whose time has come; all of them, where something works again."""
        if self._openings != self._gate.openings:
            self._openings = self._gate.openings
            self._queues.update(self._held)
            self._held.clear()
            self._times.clear()
        while self._times and self._times[0][0] <= now:
            _, model = heapq.heappop(self._times)
            self._queues[model] = self._held.pop(model)

    def _following(self, taken: Collection[Queue | None]) -> Queue | None:
        """The first that waits and that no other engine is at, else the first that waits."""
        found: Queue | None = None
        empty = []
        for model, queue in self._queues.items():
            if not queue.sweep.lines:
                empty.append(model)
            elif queue not in taken:
                found = queue
                break
            elif found is None:
                found = queue
        for model in empty:
            del self._queues[model]
        return found


class JobQueues:
    """The queues of one job, by model, and the engines' courses through them."""

    __slots__ = ("_courses", "_endpoint", "job", "priority", "queues", "tenant", "turn")

    def __init__(self, job: Job) -> None:
        self.job, self.tenant, self.priority = job.id, job.tenant, job.priority
        self._endpoint = job.endpoint
        self.turn = 0
        """When a line of it was taken last; never: 0."""
        self.queues: dict[str, Queue] = {}
        self._courses: dict[int, Course] = {}

    def add(self, line: OpenLine) -> None:
        """Put back one line that was tried before, or that goes by itself."""
        queue = self._queue(line.model)
        queue.sweep.add(line)
        if queue.sweep.lines == 1:
            self._join(queue)

    def merge(self, model: str, lines: list[OpenLine]) -> None:
        """Put the lines of a shard that are for this model in their places."""
        queue = self._queue(model)
        was_empty = not queue.sweep.lines
        queue.sweep.merge(lines)
        queue.ends_here = lines[0].shard.is_last
        if was_empty:
            self._join(queue)

    def next(self, gate: Gate, serves: Serves, now: float) -> Queue | None:
        """The queue whose line the engine takes, if it may take any of the job."""
        course = self._courses.get(id(gate))
        if course is None:
            course = self._courses[id(gate)] = Course(gate, serves, self.queues.values())
        return course.next(now, self._courses.values())

    def lines_for(self, gate: Gate, most: int, now: float) -> int:
        """How many lines wait that an engine which took some may have now, counted until there are
        so many."""
        course = self._courses.get(id(gate))
        return 0 if course is None else course.lines(most, now)

    def engines_changed(self) -> None:
        """Engines may serve other models than before."""
        for course in self._courses.values():
            course.begin(self.queues.values())

    def drop(self, queue: Queue) -> None:
        """Forget a queue whose last line was taken: others are counted with many a line."""
        if self.queues.get(queue.route[1]) is queue:
            del self.queues[queue.route[1]]

    def drop_empty(self) -> None:
        """Forget the queues in which no line waits."""
        self.queues = {model: queue for model, queue in self.queues.items() if queue.sweep.lines}

    def _join(self, queue: Queue) -> None:
        for course in self._courses.values():
            course.join(queue)

    def _queue(self, model: str) -> Queue:
        queue = self.queues.get(model)
        if queue is None:
            queue = self.queues[model] = Queue(self.job, (self._endpoint, model))
        return queue
