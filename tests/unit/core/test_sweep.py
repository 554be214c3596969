"""In which order engines take the lines of a job (core/sweep.py)."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchmill.core.gate import Gate
from batchmill.core.sweep import RUN_LINES, Sweep
from batchmill.core.work import OpenLine, OpenShard
from tests.unit.core.test_pool import line_of, shard_of


def lines_of(shard: OpenShard, *prefixes: bytes) -> list[OpenLine]:
    first = 100 * shard.lease.lease.n
    return [line_of(shard, first + n, prefix) for n, prefix in enumerate(prefixes)]


def key(template: int, number: int) -> bytes:
    return template.to_bytes(4) + number.to_bytes(4)


def drained(sweep: Sweep, gate: Gate) -> bytes:
    """The first bytes of the prefixes, in the order in which one engine takes them."""
    return b"".join(sweep.take(gate).prefix[:1] for _ in range(sweep.lines))


def test_lines_that_come_ahead_of_the_sweep_are_taken_on_its_way_and_others_in_the_next_round() -> (
    None
):
    sweep, gate = Sweep(), Gate(1)
    sweep.merge(lines_of(shard_of("a"), b"b", b"d", b"f"))
    assert [sweep.take(gate).prefix for _ in range(2)] == [b"b", b"d"]
    sweep.merge(lines_of(shard_of("a", n=1), b"a", b"c", b"e", b"g"))
    assert drained(sweep, gate) == b"efgac"


def test_a_sweep_never_restarts_however_often_shards_come() -> None:
    sweep, gate = Sweep(), Gate(1)
    taken = []
    for n in range(9):
        sweep.merge(lines_of(shard_of("a", n=n), *(bytes([k]) for k in range(0, 240, 3))))
        taken += [sweep.take(gate).prefix for _ in range(40)]
    backwards = sum(a > b for a, b in pairwise(taken))
    assert backwards <= 3


def test_a_line_that_is_put_back_goes_next_and_does_not_turn_the_sweep_back() -> None:
    sweep, gate = Sweep(), Gate(1)
    shard = shard_of("a")
    sweep.merge(lines_of(shard, b"b", b"d", b"f"))
    tried, _ = sweep.take(gate), sweep.take(gate)
    sweep.add(tried)
    assert sweep.take(gate) is tried
    sweep.merge(lines_of(shard_of("a", n=1), b"c", b"e"))
    assert drained(sweep, gate) == b"efc"


def test_two_engines_do_not_both_take_the_lines_of_a_prefix() -> None:
    sweep, gates = Sweep(), [Gate(9), Gate(9)]
    sweep.merge(lines_of(shard_of("a"), *(key(n % 400, n) for n in range(2000))))
    engines: dict[bytes, Counter[int]] = {}
    chance = random.Random(1)
    while sweep.lines:
        engine = chance.choices((0, 1), (3, 1))[0]
        template = sweep.take(gates[engine]).prefix[:4]
        engines.setdefault(template, Counter())[engine] += 1
    assert sum(len(each) for each in engines.values()) <= 420


def test_no_engine_is_idle_while_another_has_lines_left() -> None:
    sweep, gates = Sweep(), [Gate(9), Gate(9), Gate(9)]
    sweep.merge(lines_of(shard_of("a"), *(key(0, n) for n in range(90))))
    taken = [sweep.take(gate) for gate in gates]
    taken += [sweep.take(gates[2]) for _ in range(sweep.lines)]
    assert len(set(map(id, taken))) == 90
    assert sweep.lines == 0


def test_an_engine_that_went_away_keeps_no_line_once_another_shard_came() -> None:
    sweep, stays, goes = Sweep(), Gate(9), Gate(9)
    sweep.merge(lines_of(shard_of("a"), *(key(n, 0) for n in range(900))))
    sweep.take(stays)
    sweep.take(goes)
    sweep.merge([])
    held = sweep.take(stays).prefix
    sweep.merge([])
    taken = [held, *(sweep.take(stays).prefix for _ in range(3 * RUN_LINES))]
    assert taken == sorted(taken)


def test_the_end_of_a_job_goes_by_rank_and_within_one_rank_as_before() -> None:
    sweep, gate = Sweep(), Gate(1)
    sweep.merge(lines_of(shard_of("a"), b"a", b"b", b"c", b"d"))
    sweep.finish_with(lambda lines: [line.prefix in {b"b", b"d"} for line in lines])
    assert drained(sweep, gate) == b"bdac"


def test_lines_that_come_after_all_end_the_order_by_rank() -> None:
    sweep, gate = Sweep(), Gate(1)
    sweep.merge(lines_of(shard_of("a"), b"a", b"b"))
    sweep.finish_with(lambda lines: range(len(lines)))
    sweep.merge(lines_of(shard_of("a", n=1), b"c"))
    assert drained(sweep, gate) == b"abc"


steps = st.lists(
    st.one_of(
        st.tuples(st.just("merge"), st.lists(st.binary(max_size=2), max_size=30)),
        st.tuples(st.just("take"), st.integers(0, 2)),
        st.tuples(st.just("put back"), st.integers(0, 2)),
        st.tuples(st.just("drop"), st.integers(0, 3)),
        st.tuples(st.just("finish"), st.none()),
    ),
    max_size=60,
)


@pytest.mark.parametrize("engines", [1, 3])
@given(steps=steps)
def test_every_line_is_taken_once_whatever_happens(engines: int, steps: list) -> None:
    sweep, gates = Sweep(), [Gate(9) for _ in range(engines)]
    here: set[int] = set()
    lines: dict[int, OpenLine] = {}
    shards: list[OpenShard] = []
    for step, what in steps:
        if step == "merge":
            shards.append(shard_of("a", n=len(shards)))
            new = lines_of(shards[-1], *what)
            lines |= {line.number: line for line in new}
            sweep.merge(new)
            here |= {line.number for line in new}
        elif step in ("take", "put back") and here:
            line = sweep.take(gates[what % engines])
            assert line.number in here
            here.remove(line.number)
            if step == "put back":
                sweep.add(line)
                here.add(line.number)
        elif step == "drop" and what < len(shards):
            sweep.drop(shards[what])
            here = {number for number in here if lines[number].shard is not shards[what]}
        elif step == "finish":
            sweep.finish_with(lambda found: [line.number % 3 for line in found])
        assert sweep.lines == len(here)
    while here:
        here.remove(sweep.take(gates[0]).number)
    assert sweep.lines == 0
