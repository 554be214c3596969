"""How shares are dealt (ledger/dealing.py), and that no order of events breaks a limit."""

from __future__ import annotations

import random
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from batchmill.grants import Demand, Limit, Measure, Resource
from batchmill.ledger.dealing import targets
from batchmill.model import Owner
from tests.unit.limits.fleet import Fleet, Member

CALLS = Resource("e", "", Measure.CONCURRENCY)
RATE = Resource("e", "", Measure.REQUESTS)
BOTH = Limit("", concurrency=10, requests_per_minute=600)


def dealt(of: Resource, limit: float, *wants: float, turn: int = 0) -> list[float]:
    owners = {Owner(f"w{n}"): want for n, want in enumerate(wants)}
    return list(dict(sorted(targets(Demand(of, limit, 0, 0), owners, turn).items())).values())


def test_workers_that_want_all_get_equal_parts() -> None:
    assert dealt(CALLS, 50, 50, 50, 50, 50) == [13, 13, 12, 12]
    assert dealt(RATE, 600, 600, 600, 600, 600) == [150, 150, 150, 150]


def test_what_one_does_not_want_goes_to_the_others() -> None:
    assert dealt(CALLS, 50, 0, 4, 50, 50) == [0, 4, 23, 23]


def test_half_of_what_nobody_wants_is_dealt_out_and_half_lies_ready() -> None:
    assert dealt(CALLS, 50, 0) == [25]
    assert dealt(RATE, 600, 100, 100) == [200, 200]


def test_workers_take_turns_where_there_are_fewer_calls_than_workers() -> None:
    turns = [dealt(CALLS, 1, 5, 5, 5, turn=turn) for turn in range(3)]
    assert turns == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


ALWAYS = ("stock", "beat", "beat", "hear", "hear", "send", "return", "lines", "round", "time")
SELDOM = ("join", "join", "die", "leave", "hang", "wake", "wake", "lost", "no_deck")


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.integers(0, 2**32))
def test_shares_in_force_never_exceed_the_limit(seed: int) -> None:
    fleet, chance = Fleet(BOTH), random.Random(seed)
    fleet.join(lines=99)
    fleet.join(lines=99)
    for _ in range(250):
        event = chance.choice(ALWAYS if chance.random() < 0.8 else SELDOM)
        seconds = chance.choice([0.0, 0.1, 0.3, 1.0, 2.5, 6.0, 16.0])
        happen(fleet, event, chance.randrange(9), seconds)
        assert fleet.calls <= BOTH.concurrency
        assert fleet.requests_per_minute <= BOTH.requests_per_minute * 1.000001


def happen(fleet: Fleet, event: str, number: int, seconds: float) -> None:
    if event == "join" and len(fleet.members) < 5:
        fleet.join(skew=1000.0 * number, lines=8)
    if event == "time":
        fleet.pass_time(seconds)
    if not fleet.members:
        return
    member = fleet.members[number % len(fleet.members)]
    if event == "die":
        fleet.die(member)
    elif event == "wake":
        fleet.wake(member)
    elif not member.hangs:
        of_one(fleet, member, event, number)


def of_one(fleet: Fleet, member: Member, event: str, number: int) -> None:
    steps: dict[str, Callable[[], object]] = {
        "stock": lambda: member.take_stock(fleet.now),
        "beat": lambda: fleet.beat(member),
        "lost": lambda: fleet.beat(member, answered=False),
        "no_deck": lambda: fleet.beat(member, may_grow=False),
        "hear": lambda: member.unheard and member.hear(fleet.now),
        "round": lambda: member.unheard or fleet.round(member),
        "send": lambda: member.send_all(fleet.now),
        "return": lambda: member.take_back(number),
        "lines": lambda: setattr(member, "lines", number * 3),
        "leave": lambda: fleet.leave(member),
        "hang": lambda: setattr(member, "hangs", True),
    }
    steps.get(event, lambda: None)()


def settled(fleet: Fleet, beats: int = 6) -> list[float]:
    """The calls that each may have out, after so many beats of all."""
    for _ in range(beats):
        fleet.pass_time(1.0)
        for member in fleet.members:
            fleet.round(member)
            member.take_back(member.out)
            member.send_all(fleet.now)
    return [member.meter.slots for member in fleet.members]


def test_a_worker_that_joins_gets_its_part_within_seconds() -> None:
    fleet = Fleet(Limit("", concurrency=50))
    fleet.join(lines=500)
    assert settled(fleet) == [50]
    fleet.join(lines=500)
    assert settled(fleet, 3) == [25, 25]


def test_the_share_of_a_worker_without_work_goes_to_the_others() -> None:
    fleet = Fleet(Limit("", concurrency=50))
    first, _ = fleet.join(lines=500), fleet.join(lines=500)
    assert settled(fleet) == [25, 25]
    first.lines = 0
    first.take_back(first.out)
    assert settled(fleet, 3) == [0, 50]


def test_the_share_of_a_dead_worker_is_dealt_after_its_lease_and_no_sooner() -> None:
    fleet = Fleet(Limit("", concurrency=50))
    first = fleet.join(lines=500)
    fleet.join(lines=500)
    settled(fleet)
    fleet.die(first)
    assert settled(fleet, 14) == [25]
    assert settled(fleet, 3) == [50]


def test_a_share_that_is_given_back_is_dealt_at_once() -> None:
    fleet = Fleet(Limit("", concurrency=50))
    first = fleet.join(lines=500)
    fleet.join(lines=500)
    settled(fleet)
    fleet.leave(first)
    assert settled(fleet, 1) == [50]


def test_nobody_grows_before_the_calls_of_another_have_come_down() -> None:
    fleet = Fleet(Limit("", concurrency=50))
    first = fleet.join(lines=500)
    settled(fleet)
    second = fleet.join(lines=500)
    for _ in range(5):
        fleet.round(first)
        fleet.round(second)
    assert (first.meter.slots, first.out, second.meter.slots) == (25, 50, 0)
    first.take_back(10)
    fleet.round(first)
    fleet.round(second)
    assert second.meter.slots == 10
