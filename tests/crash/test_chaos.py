"""The short form of `make chaos`: a storm on each kind of stores. The blows are a fixed seed's."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path

import pytest

from tests.chaos.run import Plan, run
from tests.chaos.schedule import Blow, Outage, outages, strikes
from tests.chaos.stores import Stores, on_files, on_servers
from tests.s3 import needs_s3

LINES = 4_000


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("stores", "outage_every_seconds"),
    [(on_files, 0.0), (on_servers, 8.0)],
    ids=["files", "servers"],
)
def test_no_line_is_lost_or_doubled_in_a_storm(
    tmp_path: Path,
    stores: Callable[[Path], AbstractContextManager[Stores]],
    outage_every_seconds: float,
) -> None:
    needs_s3()
    plan = Plan(
        seed=7,
        lines=LINES,
        every_seconds=2.0,
        outage_every_seconds=outage_every_seconds,
        strike_seconds=30.0,
        settle_seconds=200.0,
    )
    with stores(tmp_path) as made:
        verdict = run(plan, made, tmp_path)
    print(verdict.figures)
    assert not verdict.broken, verdict.figures
    assert sum(verdict.figures.get(blow.value, 0) for blow in Blow) > 0, "nobody was struck"


def test_the_same_seed_deals_the_same_blows() -> None:
    first, again, other = (list(islice(strikes(seed, 1.0, workers=3), 200)) for seed in (1, 1, 2))
    assert first == again != other
    assert {strike.blow for strike in first} == set(Blow)
    assert {strike.worker for strike in first} == {0, 1, 2}
    assert all(n < strike.at <= n + 1 for n, strike in enumerate(first))
    assert {outage for _, outage in islice(outages(1, 10.0), 3)} == set(Outage)
