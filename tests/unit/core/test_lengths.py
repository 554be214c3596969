"""How long a line's answer will be (core/lengths.py), and that the longest go first at the end."""

from __future__ import annotations

from batchmill.core.gate import Gate
from batchmill.core.lengths import ANSWERS, JOBS, Lengths, expected
from batchmill.core.pool import Pool
from batchmill.core.work import OpenLine, OpenShard
from tests.unit.core.test_pool import drain, shard_of

ESSAY, LABEL, NEW = b"\1\1\2\2", b"\1\1\3\3", b"\4\4\5\5"


def line(shard: OpenShard, number: int, key: bytes, allowed: int = 0) -> OpenLine:
    return OpenLine(shard, number, number, 0, 0, "m", key, allowed)


def test_a_line_is_as_long_as_those_that_begin_alike() -> None:
    answers = [(ESSAY + b"\7\7", 0, 900), (ESSAY + b"\6\6", 0, 1100), (LABEL, 0, 3), (LABEL, 0, 5)]
    assert expected([(ESSAY + b"\5\5", 0), (LABEL + b"\5\5", 0)], answers) == [1000, 4]


def test_a_line_like_no_other_is_as_long_as_those_that_allow_as_much_or_as_all() -> None:
    answers = [(b"\7\7", 4000, 50), (b"\6\6", 4000, 70), (b"\5\5", 10, 4), (b"\3\3", 10, 6)]
    assert expected([(NEW, 4000), (NEW, 10), (NEW, 100)], answers) == [60, 5, 32]


def test_no_answer_is_longer_than_allowed_and_without_any_that_is_all_there_is_to_know() -> None:
    assert expected([(ESSAY, 200)], [(ESSAY, 900, 900), (ESSAY, 900, 800)]) == [200]
    assert expected([(ESSAY, 200), (LABEL, 0)], []) == [200, 0]


def test_what_is_remembered_does_not_grow_with_jobs_nor_lines() -> None:
    lengths = Lengths()
    for n in range(2 * JOBS):
        lengths.learn(line(shard_of(f"job-{n}"), 0, ESSAY), 10)
    last = shard_of(f"job-{2 * JOBS - 1}")
    for _ in range(2 * ANSWERS):
        lengths.learn(line(last, 0, ESSAY), 1000)
    kept = lengths._answers
    assert len(kept) == JOBS
    assert max(map(len, kept.values())) == ANSWERS


def pool_of(*keys: bytes) -> Pool:
    pool, shard = Pool(low_lines=100), shard_of("a")
    pool.offer([line(shard, n, key) for n, key in enumerate(keys)])
    for tokens, key in ((1000, ESSAY), (10, LABEL)):
        for _ in range(3):
            pool.lengths.learn(line(shard, 0, key), tokens)
    return pool


def test_towards_the_end_of_a_job_the_longest_go_first_and_equals_stay_together() -> None:
    pool = pool_of(LABEL, ESSAY, LABEL, ESSAY)
    pool.finish(lambda model: model == "m")
    assert [number for _, number in drain(pool, Gate(9))] == [1, 3, 0, 2]


def test_a_job_with_many_lines_left_goes_on_by_prefix() -> None:
    pool = pool_of(*[ESSAY + b"\1", LABEL, b"\1\1\1\1"] * 200)
    pool.finish(lambda _: True)
    assert [number % 3 for _, number in drain(pool, Gate(3))] == [2, 2, 2]


def test_a_job_is_known_to_end_by_its_last_shard_and_judged_anew_as_it_goes_on() -> None:
    pool, gate, shard = Pool(low_lines=10), Gate(1), shard_of("a")  # lines 0 to 99 of 100
    pool.offer([line(shard, n, LABEL if n % 3 == 2 else ESSAY) for n in range(39)])
    taken = [pool.next(gate, lambda _: True, 0.0) for _ in range(2)]
    for one in taken:
        assert one is not None
        assert one.prefix == ESSAY
    for tokens, key in ((10, ESSAY), (1000, LABEL)):
        for _ in range(3):
            pool.lengths.learn(line(shard, 0, key), tokens)
    keys = [each.prefix for each in iter(lambda: pool.next(gate, lambda _: True, 0.0), None)]
    first = keys.index(LABEL)
    assert first < 24
    assert keys[first : first + 13] == [LABEL] * 13
