"""When a delivery that failed is tried again, and when it is given up."""

from __future__ import annotations

import pytest

from batchmill.core.deliver import GIVE_UP_SECONDS, LONGEST_WAIT_SECONDS, again_after

HOUR = 3600.0


@pytest.mark.parametrize(
    ("elapsed", "chance", "wait"),
    [
        (0.0, 0.0, 0.5),
        (0.0, 0.999999, 1.0),
        (10.0, 0.0, 5.0),
        (10.0, 0.5, 7.5),
        (HOUR * 10, 0.0, HOUR / 2),
        (HOUR * 72 - 5, 0.9, 5.0),
        (HOUR * 72, 0.0, None),
        (HOUR * 100, 0.0, None),
    ],
)
def test_the_next_try_waits_about_as_long_as_it_has_been(
    elapsed: float, chance: float, wait: float | None
) -> None:
    found = again_after(elapsed, chance)
    assert found == (wait if wait is None else pytest.approx(wait, abs=1e-5))


@pytest.mark.parametrize(
    ("elapsed", "asked", "wait"),
    [
        (0.0, 30.0, 30.0),
        (100.0, 30.0, 50.0),
        (0.0, HOUR * 5, HOUR),
        (HOUR * 72 - 5, 30.0, 5.0),
        (HOUR * 72, 30.0, None),
    ],
)
def test_what_a_receiver_asks_for_is_waited_up_to_an_hour(
    elapsed: float, asked: float, wait: float | None
) -> None:
    assert again_after(elapsed, 0.0, asked) == wait


@pytest.mark.parametrize(("chance", "most"), [(0.0, 170), (0.5, 120), (0.999, 90)])
def test_tries_grow_rare_and_end_when_the_72_hours_are_over(chance: float, most: int) -> None:
    elapsed, tries, waits = 0.0, 1, []
    while (wait := again_after(elapsed, chance)) is not None:
        waits.append(wait)
        elapsed += wait
        tries += 1
    assert elapsed == GIVE_UP_SECONDS
    assert 70 < tries < most
    assert max(waits) <= LONGEST_WAIT_SECONDS
