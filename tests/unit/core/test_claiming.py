"""What a worker claims beyond what keeps its engines busy, and what it gives back
(core/claiming.py)."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from batchmill.core.claiming import Appetite, Room, has_own_room, surplus, what_to_claim, worth_more
from batchmill.core.gate import ASIDE_SECONDS
from batchmill.core.holdings import Held, Holdings
from batchmill.core.models import Catalogue
from batchmill.core.pool import Pool
from batchmill.core.retry import Scope
from batchmill.core.spread import Spread
from batchmill.core.work import OpenShard
from batchmill.fleet import EngineState
from batchmill.model import Answer, JobId, Verdict
from batchmill.ports import Want
from tests.unit.core.test_linkset import A, links_of
from tests.unit.core.test_pool import line_of, shard_of

ROOM = Room(open_shards=8, open_bytes=80_000, ahead_shards=5, ahead_bytes=50_000)
LINES = 1000


def opened(
    n: int, job: str = "a", *, left: int = 100_000, size: int = 1000, model: str = "m"
) -> OpenShard:
    """A shard that is open, none of its lines sent."""
    lease = shard_of(job, n=n).lease
    where = replace(lease.shard, lines=LINES, length=size)
    shard = OpenShard(replace(lease, job=replace(lease.job, total=left, model=model), shard=where))
    shard.opened, shard.waiting = True, LINES
    return shard


def spread_over(*jobs: str) -> Spread:
    """Of these jobs 300 templates stand in every shard."""
    chance, spread = random.Random(1), Spread()
    for job in jobs:
        for _ in range(2):
            keys = [chance.randrange(300).to_bytes(8) for _ in range(LINES)]
            spread.opened(JobId(job), keys)
    return spread


def more(shards: list[OpenShard], workers: int = 1, room: Room = ROOM) -> frozenset[str]:
    return worth_more(shards, room, {JobId("a")}, workers)


def test_more_shards_are_opened_of_jobs_that_gain_from_them() -> None:
    assert more([opened(0), opened(1)]) == {"a"}
    assert more([opened(0, "b")]) == frozenset()


def test_shards_are_opened_ahead_up_to_a_number_and_to_bytes_of_input() -> None:
    assert more([opened(n) for n in range(4)])
    assert not more([opened(n) for n in range(5)])
    assert not more([opened(0, size=50_000)])


def test_workers_that_share_a_job_open_half_of_their_part_ahead() -> None:
    shards = [opened(n, left=12_500) for n in range(3)]
    assert more(shards, workers=2)
    assert not more(shards, workers=3)


def want(shards: list[OpenShard], more_of: frozenset[JobId] = frozenset(), *, low: bool = False):
    return what_to_claim(
        shards, ROOM, low=low, may_send=True, serving=None, servable=None, more_of=more_of
    )


def test_a_job_of_which_more_is_wanted_is_claimed_from_beside_new_ones() -> None:
    asked = want([opened(0), opened(1, "b")], frozenset({JobId("a")}))
    assert asked is not None
    assert asked.not_jobs == {"b"}
    assert asked.limit == 3


def test_no_more_is_claimed_ahead_at_once_than_has_room() -> None:
    asked = want([opened(0, size=20_000)], frozenset({JobId("a")}))
    assert asked is not None
    assert asked.limit == 1


def test_what_is_open_ahead_leaves_room_for_other_jobs_and_for_more_lines() -> None:
    shards = [opened(n, size=10_000) for n in range(5)]
    assert not more(shards)
    for low in (False, True):
        asked = want(shards, low=low)
        assert asked is not None
        assert asked.running


@pytest.mark.parametrize("low", [True, False])
def test_a_full_worker_has_room_left_for_jobs_of_which_nothing_is_here(*, low: bool) -> None:
    full = [opened(n) for n in range(ROOM.open_shards)]
    asked = want(full, frozenset({JobId("a")}), low=low)
    assert asked is not None
    assert (asked.running, asked.limit, asked.not_jobs) == (True, 1, {"a"})
    others = [opened(0, name) for name in map(str, range(ROOM.spare_shards))]
    asked = want(full + others, low=low)
    assert asked is not None
    assert not asked.running


def test_a_worker_gives_a_shard_back_where_another_finds_nothing_to_claim() -> None:
    shards = [opened(0), opened(1)]
    shards[0].waiting = 900
    assert surplus(shards, 1900, 512, 2, work=False) is shards[1]


@pytest.mark.parametrize(
    ("ready", "workers", "work"), [(1900, 1, False), (1900, 2, True), (1400, 2, False)]
)
def test_it_keeps_what_nobody_lacks_and_what_it_needs_itself(
    ready: int, workers: int, work: bool
) -> None:
    assert surplus([opened(0), opened(1)], ready, 512, workers, work=work) is None


def test_it_keeps_a_jobs_only_shard_and_one_that_is_nearly_done() -> None:
    assert surplus([opened(0), opened(0, "b")], 1900, 512, 2, work=False) is None
    shards = [opened(0), opened(1)]
    for shard in shards:
        shard.flights = 600
    assert surplus(shards, 1900, 512, 2, work=False) is None


def test_an_engine_has_room_of_its_own_up_to_a_number_of_shards_and_to_bytes() -> None:
    [link] = links_of(A)
    link.status = replace(link.status, state=EngineState.UP, models=("m",))
    catalogue = Catalogue({}, (link.status,))
    others = [opened(n, model="other") for n in range(20)]

    def has_room(mine: list[OpenShard]) -> bool:
        return has_own_room(link, others + mine, ROOM, catalogue)

    assert has_room([opened(n) for n in range(ROOM.own_shards - 1)])
    assert not has_room([opened(n) for n in range(ROOM.own_shards)])
    assert not has_room([opened(0, size=ROOM.own_bytes)])


class Hungry:
    """A worker's appetite for the shards it holds, of which so many lines wait."""

    def __init__(self, **waiting: int) -> None:
        self.pool, self.holdings = Pool(), Holdings()
        for n, (job, lines) in enumerate(waiting.items()):
            shard = opened(n, job)
            self.holdings.hold(Held(shard.lease.lease, shard.tell, shard))
            self.pool.offer([line_of(shard, number) for number in range(lines)])
        self.links = links = links_of(A)  # 4 calls at once
        for each in links:
            each.status = replace(each.status, state=EngineState.UP, models=("m",))
        self.appetite = Appetite(links, {}, self.pool, self.holdings, ROOM)

    def want(self) -> Want | None:
        return self.appetite.want(self.appetite.low(), 0.0, may_send=True)

    def not_jobs(self) -> frozenset[JobId]:
        """The jobs here of which it wants no more."""
        want = self.want()
        assert want is not None
        return want.not_jobs


def test_a_job_that_runs_low_is_claimed_from_though_others_have_lines_enough() -> None:
    worker = Hungry(big=900, small=3)
    assert not worker.appetite.low()
    assert worker.appetite.is_low(JobId("small"), 3, 0.0)
    want = worker.want()
    assert want is not None
    assert want.not_jobs == {"big"}


def test_a_job_of_which_nothing_is_left_is_asked_for_no_more_until_there_may_be_some() -> None:
    worker = Hungry(big=900, small=3)
    want = worker.want()
    assert want is not None
    worker.appetite.found_none(frozenset(), want)
    assert not worker.appetite.is_low(JobId("small"), 3, 0.0)
    assert worker.want() is None
    worker.appetite.look_again()
    assert worker.appetite.is_low(JobId("small"), 3, 0.0)


def test_a_job_with_lines_enough_is_not_low() -> None:
    worker = Hungry(big=900, other=8)
    assert not worker.appetite.is_low(JobId("other"), 8, 0.0)
    want = worker.want()
    assert want is not None
    assert want.not_jobs == {"big", "other"}


def test_a_job_whose_prefixes_stand_in_many_shards_is_claimed_from() -> None:
    worker = Hungry(a=900)
    assert worker.not_jobs() == {"a"}
    worker.pool.spread = spread_over("a")
    assert worker.not_jobs() == frozenset()


@pytest.mark.parametrize(
    ("aside", "names", "small", "wanted"),
    [
        (True, "m small", 3, True),
        (True, "m small", 4, False),
        (False, "m small", 3, False),
        (True, "m", 0, False),
    ],
    ids=["held up", "enough others", "not held up", "no others"],
)
def test_what_waits_for_a_model_that_is_held_up_is_not_enough_for_a_job_of_several(
    names: str, small: int, *, aside: bool, wanted: bool
) -> None:
    worker = Hungry(a=900)
    [shard], [link] = worker.holdings.shards(), worker.links
    shard.names = {name: name for name in names.split()}
    link.status = replace(link.status, models=("m", "small"))
    worker.pool.offer([line_of(shard, number, model="small") for number in range(small)])
    if aside:
        route = (shard.job.endpoint, "m")
        link.gate.set_aside(Scope.ROUTE, route, "404", sent_at=0.0, now=0.0)
    assert worker.not_jobs() == (frozenset() if wanted else {"a"})


@pytest.mark.parametrize(("ready", "needed"), [(7, True), (8, False)])
def test_a_shard_that_is_let_go_of_is_kept_where_its_engine_would_run_dry(
    ready: int, *, needed: bool
) -> None:
    worker = Hungry(a=ready)
    shard = opened(7)
    shard.settled, shard.flights = bytearray(LINES), 1
    shard.lines = [line_of(shard, number) for number in range(2)]
    worker.holdings.hold(Held(shard.lease.lease, shard.tell, shard))
    shard.let_go()
    shard.tell(Answer(Verdict.KEEP))
    assert not shard.goes_on()
    assert worker.appetite.needed() == ([shard] if needed else [])
    shard.stay()
    assert shard.goes_on()


def test_a_job_is_low_where_the_lines_it_has_here_may_not_be_sent() -> None:
    worker = Hungry(big=900)
    assert not worker.appetite.is_low(JobId("big"), 3, 0.0)
    endpoint = worker.holdings.shards()[0].job.endpoint
    for each in worker.links:
        each.gate.set_aside(Scope.ROUTE, (endpoint, "m"), "404", sent_at=0.0, now=0.0)
    assert worker.appetite.is_low(JobId("big"), 3, 0.0)
    assert not worker.appetite.is_low(JobId("big"), 3, ASIDE_SECONDS)
