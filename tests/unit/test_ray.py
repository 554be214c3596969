"""How many workers a backlog asks for: up at once, down only when fewer were enough for long."""

from __future__ import annotations

import pytest

from batchmill.errors import ConfigError
from batchmill.ray.scaling import Bounds, Scaler


@pytest.mark.parametrize(
    ("open_lines", "workers"),
    [(0, 1), (1, 1), (1_000, 1), (1_001, 2), (3_000, 3), (10_000_000, 4)],
)
def test_a_backlog_asks_for_one_worker_for_so_many_lines(open_lines: int, workers: int) -> None:
    assert Bounds(1, 4, lines_per_worker=1_000).wanted(open_lines) == workers


def test_without_work_there_may_be_no_worker() -> None:
    assert Bounds(0, 4).wanted(0) == 0


def test_the_crew_grows_at_once_and_shrinks_when_fewer_were_enough_for_long() -> None:
    scaler = Scaler(Bounds(1, 4, lines_per_worker=10), quiet_seconds=60.0)
    looks = [(0.0, 35, 4), (1.0, 5, 4), (40.0, 5, 4), (61.0, 5, 1), (62.0, 15, 2)]
    assert [scaler.size(lines, now) for now, lines, _ in looks] == [size for _, _, size in looks]


def test_a_new_backlog_ends_the_wait_to_shrink() -> None:
    scaler = Scaler(Bounds(1, 4, lines_per_worker=10), quiet_seconds=60.0)
    looks = [(0.0, 35, 4), (1.0, 5, 4), (50.0, 35, 4), (70.0, 5, 4), (129.0, 5, 4), (131.0, 5, 1)]
    assert [scaler.size(lines, now) for now, lines, _ in looks] == [size for _, _, size in looks]


@pytest.mark.parametrize("bounds", [(-1, 2, 1), (3, 2, 1), (0, 2, 0)])
def test_bounds_that_cannot_be_are_refused(bounds: tuple[int, int, int]) -> None:
    with pytest.raises(ConfigError, match="workers"):
        Bounds(*bounds)
