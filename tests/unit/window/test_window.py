"""The window of an engine (core/window.py), on engines on paper (engines.py)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from batchmill.calls import Load
from batchmill.core.window import Window
from tests.unit.window.engines import Bench, Engine, Fixed, Shape, always

HALVES: Shape = lambda now: 48 if now < 60 else 24  # noqa: E731
DOUBLES: Shape = lambda now: 48 if now < 60 else 96  # noqa: E731
SLOWS: Shape = lambda now: 0.3 if now < 60 else 0.6  # noqa: E731
ENGINES: dict[str, Callable[[bool], Engine]] = {
    "saturates": lambda tells: Engine(always(48), always(0.3), spread=0.3, tells=tells),
    "halves": lambda tells: Engine(HALVES, always(0.3), spread=0.3, tells=tells),
    "doubles": lambda tells: Engine(DOUBLES, always(0.3), spread=0.3, tells=tells),
    "slows": lambda tells: Engine(always(48), SLOWS, spread=0.3, tells=tells),
    "four slots": lambda tells: Engine(
        always(4), always(0.1), spread=0.5, slowdown=0.25, tells=tells
    ),
    "one slot": lambda tells: Engine(always(1), always(0.05), spread=0.5, tells=tells),
    "by tokens": lambda tells: Engine(
        always(48),
        always(0.02),
        token_seconds=0.002,
        tokens=lambda drawn: int(drawn.lognormvariate(5, 1)),
        tells=tells,
    ),
}
LEAST = {True: 0.95, False: 0.93}
"""Of what a window that never runs dry brings; engines that tell of their queue, and others."""


@pytest.mark.parametrize("tells", [True, False], ids=["told", "untold"])
@pytest.mark.parametrize("name", ENGINES)
def test_as_much_is_answered_as_with_the_best_fixed_window(name: str, *, tells: bool) -> None:
    best = Bench(ENGINES[name](tells), [Fixed(256)]).run(120).answers[0]
    found = Bench(ENGINES[name](tells), [Window()]).run(120).answers[0]
    assert found >= LEAST[tells] * best


@pytest.mark.parametrize("tells", [True, False], ids=["told", "untold"])
@pytest.mark.parametrize(("slots", "most"), [(48, 100), (4, 20), (1, 20)])
def test_the_window_stays_near_what_an_engine_works_on(
    slots: int, most: int, *, tells: bool
) -> None:
    engine = Engine(always(slots), always(0.2), spread=0.5, tells=tells)
    windows = Bench(engine, [Window()]).run(120).windows
    sizes = [size for at, size in windows if at > 20]
    assert slots <= max(sizes) <= (most if not tells else 1.3 * slots + 3)


@pytest.mark.parametrize("times", [5, 10, 20])
def test_an_engine_whose_calls_become_much_longer_is_still_filled(times: float) -> None:
    """A job of long prompts after one of short ones."""
    slower: Shape = lambda now: 0.1 if now < 60 else 0.1 * times  # noqa: E731
    engine = lambda: Engine(always(64), slower, spread=0.1)  # noqa: E731

    def later(make: Callable[[], Window | Fixed]) -> int:
        before, whole = (Bench(engine(), [make()]).run(until).answers[0] for until in (60, 240))
        return whole - before

    assert later(Window) >= 0.9 * later(lambda: Fixed(256))


def test_a_window_follows_a_queue_that_is_told_of_at_once() -> None:
    run = Bench(Engine(HALVES, always(0.3), tells=True), [Window()]).run(70)
    [before, *_] = [size for at, size in run.windows if at >= 58]
    [after, *_] = [size for at, size in run.windows if at >= 64]
    assert before >= 48
    assert after <= 32


def test_an_instant_engine_has_hundreds_in_flight_within_a_second() -> None:
    run = Bench(Engine(always(1), always(0.0002)), [Window()]).run(1.1)
    assert run.windows[-1][1] >= 200


def test_an_engine_that_never_saturates_gets_the_most_there_is() -> None:
    run = Bench(Engine(always(10_000), always(0.05)), [Window(ceiling=512)]).run(3)
    assert run.windows[-1][1] == 512


@pytest.mark.parametrize("seconds", [0.02, 0.1, 0.4])
def test_a_worker_that_is_killed_soon_had_little_out(seconds: float) -> None:
    """Beside what it had been answered; and a few seconds later it has as much out as it can."""
    for lived in (1.0, 3.0, 9.0):
        run = Bench(Engine(always(10_000), always(seconds)), [Window(ceiling=512)]).run(lived)
        assert run.windows[-1][1] <= max(64, run.answers[0] / 16 + 1)
    run = Bench(Engine(always(10_000), always(seconds)), [Window(ceiling=512)]).run(20)
    assert run.windows[-1][1] == 512


def test_a_slow_engine_without_a_queue_is_filled_before_it_has_answered() -> None:
    run = Bench(Engine(always(256), always(60), tells=True), [Window()]).run(15)
    assert run.windows[-1][1] >= 128


def burst(now: float) -> bool:
    return 30.0 <= now < 31.0


@pytest.mark.parametrize("tells", [True, False], ids=["told", "untold"])
@pytest.mark.parametrize("seconds", [0.1, 0.3])
def test_a_burst_of_refusals_costs_little_more_than_it_lasts(
    seconds: float, *, tells: bool
) -> None:
    def engine(refuses: Callable[[float], bool]) -> Engine:
        return Engine(always(48), always(seconds), spread=0.3, tells=tells, refuses=refuses)

    quiet = Bench(engine(lambda _: False), [Window()]).run(60).answers[0]
    struck = Bench(engine(burst), [Window()]).run(60).answers[0]
    assert struck > 0.95 * quiet


def test_an_engine_that_refuses_beyond_a_number_is_kept_just_below_it() -> None:
    run = Bench(Engine(always(48), always(0.3), most=32), [Window()]).run(60)
    assert run.answers[0] > 0.93 * 60 * 32 / 0.3
    assert run.refused < 0.05 * run.answers[0]


def test_a_few_refusals_among_many_answers_change_nothing() -> None:
    bench = Bench(Engine(always(48), always(0.3), spread=0.3, tells=True), [Window()])
    bench.engine.refuses = lambda _: bench.random.random() < 0.02
    assert bench.run(60).answers[0] > 0.9 * 60 * 48 / 0.3


@pytest.mark.parametrize("joins", [(0.0, 0.0), (0.0, 30.0)], ids=["together", "later"])
def test_workers_that_see_the_same_queue_come_to_equal_windows(joins: tuple[float, ...]) -> None:
    engine = Engine(always(48), always(0.3), spread=0.5, tells=True)
    run = Bench(engine, [Window(), Window()], joins=joins).run(150)
    late = [(one, two) for at, one, two in run.windows if at > 110]
    assert all(0.5 <= one / two <= 2.0 for one, two in late)
    assert max(one + two for one, two in late) <= 72
    assert sum(run.answers) > 0.95 * 150 * 48 / 0.3


def test_workers_that_see_no_queue_do_not_drive_each_other_up_for_ever() -> None:
    engine = Engine(always(48), always(0.3), spread=0.5)
    run = Bench(engine, [Window(), Window()]).run(300)
    assert max(one + two for at, one, two in run.windows if at > 60) < 48 * 6
    assert sum(run.answers) > 0.95 * 300 * 48 / 0.3


def test_a_queue_that_others_fill_does_not_starve_us() -> None:
    window = Window(64)
    for look in range(1, 60):
        window.heard(Load(48, 200), int(window.size), float(look))
    assert window.size == 4


def test_a_queue_that_stays_as_it_is_while_answers_are_fast_is_not_believed() -> None:
    window = Window()
    engine = Engine(always(64), always(0.2), tells=True, told_waiting=1000)
    run = Bench(engine, [window]).run(120)
    assert run.answers[0] >= 0.8 * 120 * 64 / 0.2
    assert window.decision.why.endswith("what the engine tells of its queue is not believed")


def test_a_queue_that_others_do_fill_is_believed_once_it_tells_of_our_calls() -> None:
    engine = Engine(always(48), always(0.3), tells=True)
    run = Bench(engine, [Fixed(400), Window()]).run(300)
    assert max(size for at, _, size in run.windows if at > 60) <= 8
    assert max(size for _, _, size in run.windows) <= 64


def test_a_window_that_lines_do_not_fill_stays_as_it_is() -> None:
    window = Window()
    for call in range(2000):
        window.answered(0.1 * call, 0.1, 0, 3)
    assert window.size == 8


def test_metrics_of_one_of_several_replicas_are_not_believed() -> None:
    window = Window(200)
    window.heard(Load(50, 10), 200, 1.0)
    window.heard(Load(50, 10), 200, 2.0)
    assert window.size == 200


def test_a_decision_says_why() -> None:
    window = Window(100)
    for look in range(1, 4):
        window.heard(Load(48, 52), 100, float(look))
    assert window.decision.why == "calls wait in the engine"
    assert window.decision.size == int(window.size) == 50
