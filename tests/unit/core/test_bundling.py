"""A call with many lines on its way: its slot, its tokens, and lines that leave it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from batchmill.calls import Answered, Call, Refused, Reply
from batchmill.clock import ManualClock
from batchmill.core.bundle import BUNDLE_BYTES
from batchmill.core.bundling import Bundles
from batchmill.core.gate import Gate, Route
from batchmill.core.limits import Limits
from batchmill.core.links import Link
from batchmill.core.pool import Pool
from batchmill.core.retry import Decision
from batchmill.core.work import OpenLine, OpenShard
from batchmill.fleet import EngineSpec, EngineState, EngineStatus
from batchmill.grants import Grants, Limit, Measure, Resource, Share
from batchmill.model import Answer, Outcome, Verdict
from tests.unit.core.shards import open_shard

ROUTE = ("/v1/embeddings", "m")


@dataclass
class Way:
    """A transport whose call lands when the test says so."""

    calls: list[Call] = field(default_factory=list)
    landings: list[Callable[[Reply], None]] = field(default_factory=list)
    aborted: int = 0

    def send(self, call: Call, landed: Callable[[Reply], None]) -> Way:
        self.calls.append(call)
        self.landings.append(landed)
        return self

    def abort(self) -> None:
        self.aborted += 1

    async def models(self) -> tuple[str, ...]:
        return ("m",)

    async def close(self) -> None: ...

    def inputs(self) -> list[list[str]]:
        return [json.loads(call.body)["input"] for call in self.calls]


@dataclass
class Desk:
    """What became of the lines."""

    finished: dict[int, Outcome] = field(default_factory=dict)
    held_bytes: list[int] = field(default_factory=list)
    delayed: list[OpenLine] = field(default_factory=list)
    refills: int = 0

    def finish(self, line: OpenLine, custom_id: bytes, outcome: Outcome, held: int = 0) -> None:
        assert custom_id == b'"c%d"' % line.local
        self.finished[line.number] = outcome
        self.held_bytes.append(held)

    def delay(self, line: OpenLine, until: float) -> None:
        self.delayed.append(line)

    def note(
        self, gate: Gate, route: Route, reply: Reply, decision: Decision, sent_at: float, now: float
    ) -> None: ...

    def refill(self, link: Link) -> None:
        self.refills += 1

    def broke(self, error: Exception) -> None:
        raise error


@dataclass
class Scene:
    """Two shards of three lines, all of them waiting."""

    link: Link
    way: Way
    desk: Desk
    pool: Pool
    bundles: Bundles
    shards: Sequence[OpenShard]
    released: list[int]

    def send(self) -> bool:
        """Send what is next, as the dispatcher does."""
        line = self.pool.next(self.link.gate, lambda _: True, 60.0)
        assert line is not None
        return self.bundles.send(self.link, line, ROUTE, 60.0)

    def land(self, count: int) -> None:
        data = [{"index": n, "embedding": [n]} for n in range(count)]
        body = json.dumps({"data": data}).encode()
        self.way.landings[-1](Answered(200, body, held_bytes=len(body)))


def scene(most: int = 6, limits: Limits | None = None, text: str = "") -> Scene:
    rows = [
        json.dumps({"custom_id": f"c{n}", "body": {"input": f"t{n}{text}"}}).encode()
        for n in range(3)
    ]
    data = b"\n".join(rows)
    shards = [open_shard(data, n, 3) for n in range(2)]
    pool = Pool()
    for shard in shards:
        start = 0
        lines = []
        for local, row in enumerate(rows):
            number = shard.lease.shard.first_line + local
            lines.append(OpenLine(shard, number, local, start, start + len(row), "m"))
            start += len(row) + 1
        pool.offer(lines)
    way, desk, released = Way(), Desk(), list[int]()
    spec = EngineSpec("e", "http://none", embeddings_per_call=most)
    status = EngineStatus("e", "auto", EngineState.UP, models=("m",))
    link = Link(spec, way, Gate(4, limits), status)
    bundles = Bundles(desk, pool, ManualClock(), released.append)
    return Scene(link, way, desk, pool, bundles, shards, released)


def test_a_call_takes_one_slot_and_all_its_lines_are_in_flight() -> None:
    it = scene(most=5)
    assert it.send()
    assert it.way.inputs() == [["t0", "t1", "t2", "t0", "t1"]]
    assert (it.link.gate.in_flight, it.pool.in_flight["j"]) == (1, 5)
    assert [shard.flights for shard in it.shards] == [3, 2]
    assert it.bundles.routes_out(it.link) == [ROUTE]
    it.land(5)
    assert (it.link.gate.in_flight, it.pool.in_flight) == (0, {})
    assert [shard.flights for shard in it.shards] == [0, 0]
    assert sorted(it.desk.finished) == [0, 1, 2, 3, 4]
    assert (it.desk.held_bytes[1:], it.released, it.desk.refills) == ([0] * 4, [0], 1)


def test_the_last_line_of_all_goes_by_itself() -> None:
    it = scene(most=5)
    assert it.send()
    assert not it.send()
    assert len(it.way.calls) == 1


def test_a_call_has_only_so_much_text() -> None:
    it = scene(text="x" * (BUNDLE_BYTES // 3))
    assert it.send()
    assert [len(inputs) for inputs in it.way.inputs()] == [2]


def test_lines_that_leave_a_call_get_nothing_of_its_answer() -> None:
    it = scene()
    assert it.send()
    it.bundles.abort(it.shards[0])
    assert (it.way.aborted, it.link.gate.in_flight) == (0, 1)
    assert ([shard.flights for shard in it.shards], it.pool.in_flight["j"]) == ([0, 3], 3)
    it.land(6)
    assert {n: json.loads(o.body or b"")["data"] for n, o in it.desk.finished.items()} == {
        n: [{"index": 0, "embedding": [n]}] for n in (3, 4, 5)
    }


def test_a_call_that_all_its_lines_left_is_aborted() -> None:
    it = scene()
    assert it.send()
    for shard in it.shards:
        it.bundles.abort(shard)
    assert (it.way.aborted, it.link.gate.in_flight, it.pool.in_flight) == (1, 0, {})


def test_nothing_is_given_to_a_shard_that_is_gone_and_its_bytes_go_back() -> None:
    it = scene()
    assert it.send()
    for shard in it.shards:
        shard.tell(Answer(Verdict.GONE))
    it.land(6)
    assert not it.desk.finished
    assert sum(it.released) > 0


def test_after_a_refusal_each_line_goes_by_itself() -> None:
    it = scene()
    assert it.send()
    it.way.landings[0](Refused(400, b"{}", "no"))
    assert [it.send() for _ in range(6)] == [False] * 6
    assert len(it.way.calls) == 1


@pytest.mark.parametrize("most", [2, 6])
def test_a_call_is_one_request_with_the_tokens_of_all(most: int) -> None:
    limits = Limits("e", [Limit("", 0, 60_000, 60_000_000)])
    shares = (
        Share(Resource("e", "", each), 60_000.0) for each in (Measure.REQUESTS, Measure.TOKENS)
    )
    limits.hear(Grants(shares=tuple(shares)), 1e9, 0.0)
    it = scene(most, limits)
    meter = limits._whole
    assert meter is not None
    assert meter.requests is not None
    assert meter.tokens is not None
    assert it.send()
    assert meter.requests._spent == 1.0
    one = meter.guess.of(it.shards[0].data.split(b"\n")[0])
    assert meter.tokens._spent == pytest.approx(most * one)
