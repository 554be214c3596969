"""An engine that answers 500 to everybody (core/retry.py, gate.py and pool.py together), time given
by hand: is it an outage, or are all lines bad?"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from itertools import count

from batchmill.calls import Answered, Refused, Reply
from batchmill.core.gate import Gate
from batchmill.core.pool import Pool
from batchmill.core.retry import Finish, decide, is_faulty
from batchmill.core.work import OpenLine
from batchmill.model import Fate
from tests.unit.core.shards import open_line, open_shard

CALL_SECONDS = 0.02


@dataclass
class Mill:
    """One engine and one job. `outage` is until when all calls get 500."""

    lines: int
    outage: float
    now: float = 0.0
    calls: int = 0
    fates: list[Fate] = field(default_factory=list)

    def run(self) -> Mill:
        """Until each line has its outcome."""
        shard = open_shard(lines=self.lines)
        gate, pool, order = Gate(32), Pool(), count()
        route = (shard.job.endpoint, "m")
        pool.offer([open_line(shard, local) for local in range(self.lines)])
        out: list[tuple[float, int, OpenLine]] = []
        while len(self.fates) < self.lines:
            while (line := pool.next(gate, lambda _: True, self.now)) is not None:
                gate.sent(route)
                heapq.heappush(out, (self.now + CALL_SECONDS, next(order), line))
            moments = [out[0][0] if out else None, pool.wakes_at(), gate.opens_at(self.now)]
            self.now = min(at for at in moments if at is not None and at > self.now)
            while out and out[0][0] <= self.now:
                landed, _, line = heapq.heappop(out)
                pool.returned(shard.job)
                gate.returned(route)
                self._act(gate, pool, line, landed - CALL_SECONDS)
        return self

    def _act(self, gate: Gate, pool: Pool, line: OpenLine, sent_at: float) -> None:
        self.calls += 1
        route = (line.shard.job.endpoint, "m")
        is_well = sent_at >= self.outage
        reply: Reply = Answered(200, b"{}") if is_well else Refused(500, b"{}", "no")
        step = decide(
            reply,
            line.begun_history(),
            answers=gate.answers.get(route, 0),
            alone=False,
            jitter=0.5,
            in_outage=gate.is_in_outage(route),
        )
        if is_faulty(reply):
            gate.faulted(route, sent_at=sent_at, now=self.now)
        else:
            gate.answered(route, well=True)
        if isinstance(step, Finish):
            self.fates.append(step.outcome.fate)
        else:
            pool.delay(line, self.now + step.after_seconds)


def test_an_outage_of_half_a_minute_fails_no_line() -> None:
    mill = Mill(2_000, outage=30.0).run()
    assert mill.fates.count(Fate.FAILED) == 0
    assert mill.calls < 2_100
    assert mill.now < 75


def test_an_outage_of_seconds_does_not_fail_the_last_lines_of_a_job_either() -> None:
    for lines in range(1, 12):
        assert Mill(lines, outage=13.0).run().fates.count(Fate.FAILED) == 0


def test_an_outage_of_ten_minutes_costs_few_lines_of_a_large_job() -> None:
    assert Mill(20_000, outage=600.0).run().fates.count(Fate.FAILED) < 200


def test_a_job_of_nothing_but_bad_lines_ends_in_minutes() -> None:
    mill = Mill(50, outage=1e9).run()
    assert mill.fates.count(Fate.FAILED) == 50
    assert mill.calls <= 250
    assert mill.now < 300


def test_a_single_bad_line_ends_in_less_than_a_minute() -> None:
    mill = Mill(1, outage=1e9).run()
    assert mill.fates == [Fate.FAILED]
    assert mill.now < 60
