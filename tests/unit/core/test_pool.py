"""Whose line is next (core/pool.py)."""

from __future__ import annotations

from itertools import pairwise

from batchmill.core.gate import ASIDE_SECONDS, Gate, Route
from batchmill.core.pool import Pool
from batchmill.core.retry import History, Scope
from batchmill.core.slots import Slot, Slots
from batchmill.core.work import OpenLine, OpenShard
from batchmill.model import (
    Answer,
    BlobName,
    Dialect,
    FileId,
    Job,
    JobId,
    JobInput,
    JobState,
    Kind,
    Lease,
    Owner,
    Shard,
    ShardLease,
    TenantId,
    Verdict,
)

CHAT = "/v1/chat/completions"


def shard_of(job: str, tenant: str = "t", n: int = 0, priority: int = 0) -> OpenShard:
    noun = Job(
        JobId(job),
        TenantId(tenant),
        Dialect.MISTRAL,
        CHAT,
        JobState.RUNNING,
        0.0,
        1e12,
        100,
        priority=priority,
    )
    lease = Lease(noun.id, Kind.RUN, n, Owner("w/1"), 1)
    where = Shard(n, 0, n * 100, 100, 0, 1000, 1)
    return OpenShard(
        ShardLease(lease, noun, where, JobInput(FileId("f"), "f", BlobName("f"), 1000, 100))
    )


def line_of(shard: OpenShard, number: int, prefix: bytes = b"", model: str = "m") -> OpenLine:
    return OpenLine(shard, number, number % 100, 0, 0, model, prefix)


def drain(pool: Pool, gate: Gate, model: str = "m") -> list[tuple[str, int]]:
    """Send everything that may be sent, none of it returning."""
    taken = []
    while (line := pool.next(gate, lambda name: name == model, 0.0)) is not None:
        gate.sent((line.shard.job.endpoint, line.model))
        taken.append((line.shard.job.id, line.number))
    return taken


def test_lines_of_a_job_go_in_the_order_of_their_prefix_over_its_shards() -> None:
    pool, first, second = Pool(), shard_of("a"), shard_of("a", n=1)
    for line in (
        line_of(first, 0, b"x"),
        line_of(first, 1, b"y"),
        line_of(second, 100, b"x"),
        line_of(second, 101, b"w"),
    ):
        pool.add(line)
    assert [number for _, number in drain(pool, Gate(9))] == [101, 0, 100, 1]


def test_a_small_job_takes_turns_with_a_big_one() -> None:
    pool, big, small = Pool(), shard_of("big"), shard_of("small")
    for number in range(50):
        pool.add(line_of(big, number))
    for number in range(3):
        pool.add(line_of(small, number))
    taken = [job for job, _ in drain(pool, Gate(8))]
    assert taken.count("small") == 3


def test_tenants_share_however_many_jobs_each_has() -> None:
    pool = Pool()
    for job in ("a1", "a2", "a3"):
        for number in range(20):
            pool.add(line_of(shard_of(job, tenant="a"), number))
    for number in range(20):
        pool.add(line_of(shard_of("b1", tenant="b"), number))
    taken = [job for job, _ in drain(pool, Gate(10))]
    assert taken.count("b1") == 5


def test_a_higher_priority_goes_first() -> None:
    pool = Pool()
    pool.add(line_of(shard_of("low"), 0))
    pool.add(line_of(shard_of("high", priority=5), 0))
    assert drain(pool, Gate(1)) == [("high", 0)]


def test_a_line_goes_only_to_an_engine_that_serves_its_model() -> None:
    pool = Pool()
    pool.add(line_of(shard_of("a"), 0, model="other"))
    assert drain(pool, Gate(4)) == []
    assert drain(pool, Gate(4), model="other") == [("a", 0)]


def test_a_delayed_line_is_not_ready_before_its_time() -> None:
    pool, gate = Pool(), Gate(1)
    pool.delay(line_of(shard_of("a"), 0), until=5.0)
    assert pool.next(gate, lambda _: True, 4.9) is None
    assert pool.wakes_at() == 5.0
    assert pool.next(gate, lambda _: True, 5.0) is not None


def test_a_withdrawn_shard_gives_no_line_ready_or_delayed() -> None:
    pool, shard = Pool(), shard_of("a")
    pool.add(line_of(shard, 0))
    pool.delay(line_of(shard, 1), until=1.0)
    pool.forget(shard)
    assert pool.next(Gate(4), lambda _: True, 9.0) is None
    assert pool.ready_lines().total() == 0


def test_lines_of_a_paused_shard_are_passed_over() -> None:
    pool, shard = Pool(), shard_of("a")
    pool.add(line_of(shard, 0))
    shard.tell(Answer(Verdict.PAUSE))
    assert pool.next(Gate(4), lambda _: True, 0.0) is None


def test_a_line_with_three_strikes_waits_until_the_engine_is_empty_and_blocks_the_rest() -> None:
    pool, gate = Pool(), Gate(4)
    shard = shard_of("a")
    gate.sent(("/v1/chat/completions", "m"))
    poison = line_of(shard, 0)
    poison.history = History(strikes=3)
    pool.add(poison)
    pool.add(line_of(shard, 1))
    assert pool.next(gate, lambda _: True, 0.0) is None
    gate.returned(("/v1/chat/completions", "m"))
    assert pool.next(gate, lambda _: True, 0.0) is poison


def test_jobs_of_equal_standing_take_turns_however_few_calls_are_out() -> None:
    pool, gate = Pool(), Gate(1)
    shards = [shard_of("first"), shard_of("second"), shard_of("third")]
    for number in range(3):
        for shard in shards:
            pool.add(line_of(shard, number))
    taken = one_at_a_time(pool, gate)
    assert taken == ["first", "second", "third"] * 3


def test_tenants_of_equal_standing_take_turns_whatever_the_number_of_their_jobs() -> None:
    pool, gate = Pool(), Gate(1)
    shards = [shard_of("a", "many"), shard_of("b", "many"), shard_of("c", "one")]
    for number in range(2):
        for shard in shards:
            pool.add(line_of(shard, number))
    assert one_at_a_time(pool, gate) == ["a", "c", "b", "c", "a", "b"]


def test_a_line_that_must_run_alone_holds_up_nothing_once_its_shard_sends_no_more() -> None:
    pool, doomed, other = Pool(), shard_of("doomed"), shard_of("other")
    alone = line_of(doomed, 0)
    alone.history = History(strikes=3)
    pool.add(alone)
    pool.add(line_of(other, 0))
    doomed.tell(Answer(Verdict.PAUSE))
    taken = pool.next(Gate(4), lambda _: True, 0.0)
    assert taken is not None
    assert taken.shard is other


def one_at_a_time(pool: Pool, gate: Gate) -> list[str]:
    """The jobs whose lines go, each back before the next is sent."""
    taken = []
    while (line := pool.next(gate, lambda _: True, 0.0)) is not None:
        pool.returned(line.shard.job)
        taken.append(str(line.shard.job.id))
    return taken


def test_jobs_take_turns_of_lines_that_begin_alike_where_a_window_has_room_for_it() -> None:
    pool, gate = Pool(), Gate(160)
    for n in range(8):
        shard = shard_of(f"job-{n}", tenant=f"tenant-{n}")
        pool.offer([line_of(shard, number, bytes([n + 1] * 16)) for number in range(50)])
    taken = [job for job, _ in drain(pool, gate)]
    assert sum(a != b for a, b in pairwise(taken)) < 20
    assert {taken.count(job) for job in set(taken)} == {20}


def test_a_turn_ends_with_its_lines_and_gives_way_to_a_shard_of_higher_priority() -> None:
    pool, gate = Pool(), Gate(160)
    low, other = shard_of("low"), shard_of("other")
    pool.offer([line_of(low, number, b"\1" * 16) for number in range(20)])
    pool.offer([line_of(other, number, b"\2" * 16) for number in range(20)])
    taken = [pool.next(gate, lambda _: True, 0.0) for _ in range(3)]
    high = shard_of("high", priority=5)
    pool.offer([line_of(high, 0, b"\3" * 16)])
    taken += [pool.next(gate, lambda _: True, 0.0) for _ in range(40)]
    jobs = [line.shard.job.id for line in taken if line is not None]
    assert jobs[3] == "high"
    assert len(jobs) == 41


def test_an_engine_that_serves_another_model_keeps_no_line_from_the_one_that_serves_it() -> None:
    pool, mine, other = Pool(), Gate(9), Gate(9)
    shard = shard_of("a")
    pool.offer([line_of(shard, number, bytes([number])) for number in range(6)])
    for n in range(6):
        assert pool.next(other, lambda model: model == "other", 0.0) is None
        line = pool.next(mine, lambda model: model == "m", 0.0)
        assert line is not None
        assert line.number == n


def test_slots_with_a_cache_each_take_the_lines_of_a_prefix_one_after_the_other() -> None:
    pool, gate = Pool(), Gate(4, slots=Slots())
    shard = shard_of("a")
    pool.offer([line_of(shard, number, bytes([number % 20]) * 4) for number in range(100)])
    running: list[tuple[OpenLine, Slot]] = []
    slots_of: dict[bytes, set[int]] = {}
    for n in range(100):
        assert gate.slots is not None
        if len(running) == 4:
            _, slot = running.pop(n % 4)
            gate.slots.returned(slot)
        taken = pool.next(gate, lambda _: True, 0.0)
        assert taken is not None
        slot = gate.slots.sent()
        running.append((taken, slot))
        slots_of.setdefault(taken.prefix, set()).add(id(slot))
    assert sum(map(len, slots_of.values())) <= 24


def models_taken(pool: Pool, *gates: Gate, serves: str = "abcdef") -> list[list[str]]:
    """The models each engine takes, one line at a time in turn, each back before the next."""
    taken: list[list[str]] = [[] for _ in gates]
    found = True
    while found:
        found = False
        for its, gate in zip(taken, gates, strict=True):
            if (line := pool.next(gate, lambda model: model in serves, 0.0)) is not None:
                pool.returned(line.shard.job)
                its.append(line.model)
                found = True
    return taken


def changes(models: list[str]) -> int:
    return sum(before != after for before, after in pairwise(models))


def mixed(shard: OpenShard, models: str, lines: int = 60) -> list[OpenLine]:
    return [line_of(shard, n, bytes([n]), models[n % len(models)]) for n in range(lines)]


def test_an_engine_takes_all_lines_of_a_model_before_it_goes_to_the_next() -> None:
    pool = Pool()
    pool.offer(mixed(shard_of("a"), "abc"))
    assert models_taken(pool, Gate(1)) == [["a"] * 20 + ["b"] * 20 + ["c"] * 20]


def test_engines_that_serve_the_same_models_each_stay_at_their_own() -> None:
    pool = Pool()
    pool.offer(mixed(shard_of("a"), "ab"))
    assert [set(its) for its in models_taken(pool, Gate(1), Gate(1))] == [{"a"}, {"b"}]


def test_engines_at_the_same_models_help_each_other_where_no_other_waits() -> None:
    pool = Pool()
    pool.offer(mixed(shard_of("a"), "abb"))
    one, other = models_taken(pool, Gate(1), Gate(1))
    assert (len(one), len(other)) == (30, 30)
    assert changes(one) + changes(other) == 1


def test_an_engine_that_serves_some_of_the_models_of_a_job_goes_through_those() -> None:
    pool = Pool()
    pool.offer(mixed(shard_of("a"), "abcdef"))
    assert models_taken(pool, Gate(1), serves="be") == [["b"] * 10 + ["e"] * 10]


def test_a_line_that_comes_back_to_a_model_that_was_done_is_taken_after_the_present_one() -> None:
    pool, gate = Pool(), Gate(1)
    shard = shard_of("a")
    pool.offer(mixed(shard, "ab", lines=6))
    taken = [pool.next(gate, lambda _: True, 0.0) for _ in range(4)]
    assert taken[0] is not None
    pool.add(taken[0])
    assert models_taken(pool, gate) == [["b", "b", "a"]]


def test_a_model_that_an_engine_comes_to_serve_is_taken_once_that_is_said() -> None:
    pool, gate, served = Pool(), Gate(1), {"a"}
    pool.offer(mixed(shard_of("a"), "ab", lines=4))
    taken = [pool.next(gate, served.__contains__, 0.0) for _ in range(3)]
    assert taken[2] is None
    served.add("b")
    pool.engines_changed()
    line = pool.next(gate, served.__contains__, 0.0)
    assert line is not None
    assert line.model == "b"


def test_jobs_take_turns_however_many_models_each_has() -> None:
    pool, gate = Pool(), Gate(1)
    many, one = shard_of("many"), shard_of("one")
    pool.offer(mixed(many, "abcdef", lines=12))
    pool.offer(mixed(one, "a", lines=12))
    assert one_at_a_time(pool, gate) == ["many", "one"] * 12


def test_picking_a_line_asks_each_model_once_whether_the_engine_serves_it() -> None:
    pool, gate, asked = Pool(), Gate(1), list[str]()
    shard = shard_of("a")
    pool.offer([line_of(shard, n, b"", f"m{n % 50}") for n in range(100)])
    for _ in range(100):
        assert pool.next(gate, lambda model: asked.append(model) is None, 0.0) is not None
    assert len(asked) == 50


def test_few_lines_are_left_only_where_the_engine_has_few_of_all_its_models() -> None:
    said: list[tuple[JobId, int]] = []
    pool, gate = Pool(4, lambda job, lines: said.append((job, lines))), Gate(1)
    pool.offer(mixed(shard_of("a"), "abcdef", lines=6))
    models_taken(pool, gate)
    assert said == [(JobId("a"), lines) for lines in (3, 2, 1, 0)]


def test_lines_that_the_engine_may_not_have_now_do_not_count_as_left() -> None:
    said: list[int] = []
    pool, gate = Pool(4, lambda _, lines: said.append(lines)), Gate(1)
    pool.offer(mixed(shard_of("j"), "ab", lines=12))
    gate.set_aside(Scope.ROUTE, (CHAT, "a"), "404", sent_at=0.0, now=0.0)
    taken = [pool.next(gate, lambda _: True, 0.1) for _ in range(6)]
    assert [line.model for line in taken if line is not None] == ["b"] * 6
    assert said[-4:] == [3, 2, 1, 0]


def test_a_queue_whose_last_line_was_taken_is_counted_no_more() -> None:
    pool, gate = Pool(), Gate(1)
    pool.offer(mixed(shard_of("a"), "abcdef", lines=6))
    for left in ("bcdef", "cdef", "def", "ef"):
        assert pool.next(gate, lambda _: True, 0.0) is not None
        assert "".join(pool.ready_lines()) == left


class Asked(Gate):
    """A gate that counts how often it is asked for a route."""

    asked = 0

    def admits(self, route: Route, now: float) -> bool:
        self.asked += 1
        return super().admits(route, now)


def with_many_models_aside(models: int) -> tuple[Pool, Asked]:
    """A job with a line for each of so many models, all of them refused at 0.0, and one of `m`."""
    pool, gate, shard = Pool(), Asked(8), shard_of("j")
    names = [f"x{n}" for n in range(models)]
    pool.offer([line_of(shard, n, model=name) for n, name in enumerate([*names, "z"])])
    for name in names:
        gate.set_aside(Scope.ROUTE, (CHAT, name), "404", sent_at=0.0, now=0.0)
    assert pool.next(gate, lambda _: True, 0.1) is not None
    return pool, gate


def test_models_that_are_aside_are_looked_at_once_until_their_time_comes() -> None:
    pool, gate = with_many_models_aside(1000)
    first = gate.asked
    assert all(pool.next(gate, lambda _: True, 0.2) is None for _ in range(100))
    assert gate.asked <= first + 200
    line = pool.next(gate, lambda _: True, ASIDE_SECONDS)
    assert line is not None
    assert line.model.startswith("x")


def test_a_model_that_works_again_is_taken_at_once() -> None:
    pool, gate = with_many_models_aside(10)
    assert pool.next(gate, lambda _: True, 0.2) is None
    gate.answered((CHAT, "x7"), well=True)
    line = pool.next(gate, lambda _: True, 0.3)
    assert line is not None
    assert line.model == "x7"
    assert pool.next(gate, lambda _: True, 0.3) is None
    gate.open_all()
    assert pool.next(gate, lambda _: True, 0.3) is not None
