"""The engines of a worker as a set that changes (core/linkset.py)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from batchmill.core.linkset import Difference, Links, difference
from batchmill.core.retry import Scope
from batchmill.fleet import EngineSpec, EngineState
from batchmill.grants import Limit
from tests.unit.core.test_gauges import NoWay

CHAT = ("/v1/chat/completions", "m")
A = EngineSpec("a", "http://a/v1", concurrency=4)
B = EngineSpec("b", "http://b/v1", concurrency=2)


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ((A, B), Difference()),
        ((B, A), Difference()),
        ((A,), Difference(removed=frozenset({"b"}))),
        ((A, B, replace(A, name="c")), Difference(added=(replace(A, name="c"),))),
        ((A, replace(B, key="new")), Difference(changed=(replace(B, key="new"),))),
        ((), Difference(removed=frozenset({"a", "b"}))),
    ],
)
def test_two_sets_of_engines_differ_by_name(
    after: tuple[EngineSpec, ...], expected: Difference
) -> None:
    assert difference((A, B), after) == expected


def links_of(*specs: EngineSpec) -> Links:
    return Links([(spec, NoWay()) for spec in specs])  # type: ignore[misc]


def change(links: Links, *specs: EngineSpec, out: int = 0) -> int:
    """Change them while so many calls are out to each; how many ways are left to be closed."""
    return len(links.change(specs, lambda _: NoWay(), lambda _: [CHAT] * out))  # type: ignore[arg-type,return-value]


def test_an_engine_that_is_removed_lets_nothing_through() -> None:
    links = links_of(A, B)
    [_, removed] = links
    assert change(links, A) == 1
    assert not removed.gate.has_room(0.0)
    assert [each.spec for each in links] == [A]
    assert links.window == A.concurrency


def test_an_engine_that_stays_keeps_its_link() -> None:
    links = links_of(A)
    [before] = links
    assert change(links, A, B) == 0
    assert next(iter(links)) is before


def test_a_new_key_clears_what_was_set_aside_and_keeps_what_was_seen() -> None:
    links = links_of(A)
    [link] = links
    link.status = replace(link.status, state=EngineState.UP, models=("m",), seen_at=1.0)
    link.gate.sent(CHAT)
    link.gate.set_aside(Scope.ENGINE, CHAT, "it refuses our key", sent_at=0.0, now=0.0)
    assert change(links, replace(A, key="new"), out=1) == 1
    assert link.gate.admits(CHAT, 0.0)
    assert link.gate.in_flight == 1
    assert link.status.models == ("m",)
    assert link.spec.key == "new"


def test_calls_that_are_out_count_against_new_limits() -> None:
    links = links_of(A)
    [link] = links
    for _ in range(3):
        link.gate.sent(CHAT)
    change(links, replace(A, concurrency=3, limits=(Limit("", 3),)), out=3)
    assert link.gate.is_full
    link.gate.returned(CHAT)
    assert link.gate.in_flight == 2


def test_an_engine_at_another_url_is_one_that_was_not_seen() -> None:
    links = links_of(A)
    [link] = links
    link.status = replace(link.status, state=EngineState.UP, models=("m",), seen_at=1.0)
    change(links, replace(A, url="http://elsewhere/v1"))
    assert link.status.state is EngineState.UNKNOWN
    assert link.status.models == ()


def test_a_new_replica_is_taken_to_serve_what_the_others_do() -> None:
    first, second = replace(A, connect_to="10.0.0.1"), replace(A, name="c", connect_to="10.0.0.2")
    links = links_of(first, second, B)
    [link, replica, other] = links
    link.status = replace(link.status, state=EngineState.UP, models=("m",), seen_at=1.0)
    links.remember(())
    assert replica.status.models == ("m",)
    assert other.status.models == ()


def test_what_was_seen_in_this_life_counts_for_more_than_what_is_remembered() -> None:
    links = links_of(A, B)
    [link, other] = links
    link.status = replace(link.status, state=EngineState.UP, models=("m",), seen_at=2.0)
    before = [replace(each.status, models=("old",), seen_at=1.0) for each in links]
    links.remember(before)
    assert [each.status.models for each in links] == [("m",), ("old",)]
    assert other.status.state is EngineState.UNKNOWN
