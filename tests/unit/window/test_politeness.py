"""Leaving room for others (core/politeness.py), on engines on paper."""

from __future__ import annotations

import pytest

from batchmill.calls import Load
from batchmill.core.politeness import Manners
from batchmill.core.window import Window
from tests.unit.window.engines import Asks, Bench, Engine, always


def polite() -> Window:
    return Window(1, 1024, Manners())


def batch_of_48(*, tells: bool = True) -> Engine:
    return Engine(always(48), always(0.3), tells=tells)


def p99(seconds: list[float]) -> float:
    return sorted(seconds)[int(0.99 * len(seconds))]


@pytest.mark.parametrize("tells", [True, False], ids=["told", "untold"])
@pytest.mark.parametrize("probes", [1, 6])
def test_a_steady_probe_stays_fast_and_we_get_most_of_what_is_left(
    probes: int, *, tells: bool
) -> None:
    run = Bench(batch_of_48(tells=tells), [polite()], asks=lambda _: probes, ask_every=0.3).run(90)
    assert p99(run.probes) <= 2 * 0.3
    assert run.answers[0] >= 0.7 * 90 * (48 - probes) / 0.3


BURSTS: Asks = lambda now: 10 if int(now) % 15 < 2 else 1  # noqa: E731


def test_a_burst_finds_room_within_two_seconds_and_it_is_given_back() -> None:
    run = Bench(batch_of_48(), [polite()], asks=BURSTS, ask_every=0.1).run(60)
    for began in (30, 45):
        [soon, *_] = [size for at, size in run.windows if at >= began + 2]
        [later, *_] = [size for at, size in run.windows if at >= began + 12]
        assert soon <= 48 - 25
        assert later >= 48 - 15
    assert run.answers[0] >= 0.5 * 60 * (48 - 8) / 0.3


def test_the_whole_engine_is_ours_while_nobody_else_is_there() -> None:
    run = Bench(batch_of_48(), [polite()]).run(60)
    assert run.answers[0] >= 0.9 * 60 * 48 / 0.3


def test_an_engine_that_slows_down_for_all_is_left_to_others_but_for_one_call() -> None:
    engine = Engine(always(4), always(0.05), slowdown=0.9, tells=True)
    run = Bench(engine, [polite()], asks=lambda _: 1, ask_every=0.27).run(60)
    assert {int(size) for at, size in run.windows if at > 20} == {1}


def test_calls_on_their_way_are_nobody_elses() -> None:
    manners = Manners()
    manners.hear(Load(203, 0), 200, 1.0)
    assert not manners.gives_way


def test_a_look_in_vain_is_no_reason_to_forget_others() -> None:
    manners = Manners()
    manners.hear(Load(48, 2), 30, 100.0)
    before = manners.most
    manners.hear(None, 30, 101.0)
    assert manners.most == before < 30
    manners.hear(None, 30, 111.0)
    assert manners.most > 1000


def test_others_are_expected_back_for_a_minute() -> None:
    manners = Manners()
    manners.hear(Load(3, 0), 0, 1.0)
    manners.hear(Load(0, 0), 0, 60.0)
    assert manners.gives_way
    manners.hear(Load(0, 0), 0, 62.0)
    assert not manners.gives_way
