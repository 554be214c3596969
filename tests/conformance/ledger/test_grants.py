"""Shares of limits: asked for with a beat, answered with its renewal."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa

from batchmill.fleet import Beat
from batchmill.grants import Asks, Demand, Grants, Measure, Resource, Share
from batchmill.ledger.dealing import Hand, Lot, deal
from batchmill.model import Owner
from tests.conformance.ledger.world import ALICE, BOB, LEASE_SECONDS, World, only_sqlite

CALLS = Resource("gpu", "", Measure.CONCURRENCY)
TOKENS = Resource("gpu", "large", Measure.TOKENS)
BEATS = 5
"""At once, of each worker. One that finds the deck in another's hand goes without."""


@pytest.fixture
def statements(world: World) -> list[str]:
    """What the ledger sends to its database."""
    sent: list[str] = []
    engine = world.ledger._store._database.engine
    engine = getattr(engine, "sync_engine", engine)
    sa.event.listen(engine, "before_cursor_execute", lambda *event: sent.append(event[2]))
    return sent


async def ask(world: World, owner: Owner, wants: float, using: float = 0, heard: int = 0) -> Grants:
    """Beat with a demand for some of 50 calls."""
    asks = Asks((Demand(CALLS, 50, wants, using),), heard)
    found = await world.ledger.renew(owner, [], Beat(asks=asks))
    assert found.grants is not None
    return found.grants


def amount(grants: Grants, of: Resource = CALLS) -> float:
    """A share; none where the deck was in another's hand."""
    return {share.of: share.amount for share in grants.shares}.get(of, 0.0)


async def both(world: World) -> tuple[Grants, Grants]:
    """Alice and Bob with half of the calls each."""
    alice = await ask(world, ALICE, 50)
    await ask(world, BOB, 50)
    await ask(world, ALICE, 50, 25, alice.version)
    bob = await ask(world, BOB, 50)
    assert amount(bob) == 25
    return alice, bob


async def test_a_beat_that_asks_for_nothing_is_granted_nothing(world: World) -> None:
    renewal = await world.ledger.renew(ALICE, [], Beat())
    assert renewal.grants is None


async def test_a_lone_worker_gets_all_that_it_wants(world: World) -> None:
    assert amount(await ask(world, ALICE, 50)) == 50


async def test_limits_of_an_engine_and_of_its_models_are_dealt_each_by_itself(
    world: World,
) -> None:
    asks = Asks((Demand(CALLS, 50, 50, 0), Demand(TOKENS, 6000, 6000, 0)))
    renewal = await world.ledger.renew(ALICE, [], Beat(asks=asks))
    assert renewal.grants is not None
    assert renewal.grants.shares == (Share(CALLS, 50), Share(TOKENS, 6000))


async def test_a_second_worker_waits_until_the_first_says_that_it_came_down(
    world: World,
) -> None:
    alice = await ask(world, ALICE, 50)
    assert amount(await ask(world, BOB, 50)) == 0
    assert amount(await ask(world, ALICE, 50, 50, alice.version)) == 25
    assert amount(await ask(world, BOB, 50)) == 0
    await ask(world, ALICE, 50, 40, alice.version)
    assert amount(await ask(world, BOB, 50)) == 10


async def test_what_a_worker_says_before_it_heard_of_its_grant_frees_nothing(
    world: World,
) -> None:
    await ask(world, ALICE, 50)
    await ask(world, BOB, 50)
    await ask(world, ALICE, 50, using=0, heard=0)
    assert amount(await ask(world, BOB, 50)) == 0


async def test_a_dead_workers_share_is_free_after_the_lease_time(world: World) -> None:
    _, bob = await both(world)
    world.clock.advance(LEASE_SECONDS - 0.1)
    assert amount(await ask(world, BOB, 50, 25, bob.version)) == 25
    world.clock.advance(0.2)
    assert amount(await ask(world, BOB, 50, 25, bob.version)) == 50


async def test_a_worker_that_comes_back_after_its_lease_has_no_share_until_others_come_down(
    world: World,
) -> None:
    alice, bob = await both(world)
    world.clock.advance(LEASE_SECONDS - 1)
    await ask(world, BOB, 50, 25, bob.version)
    world.clock.advance(2)
    bob = await ask(world, BOB, 50, 25, bob.version)
    assert amount(bob) == 50
    assert amount(await ask(world, ALICE, 50, 0, alice.version)) == 0
    await ask(world, BOB, 50, 25, bob.version)
    assert amount(await ask(world, ALICE, 50, 0, alice.version)) == 25


async def test_calls_that_are_still_out_when_a_worker_comes_back_count(world: World) -> None:
    bob = await ask(world, BOB, 50)
    assert amount(await ask(world, ALICE, 0, using=10)) == 0
    await ask(world, Owner("carol/1"), 50)
    await ask(world, BOB, 50, 50, bob.version)
    await ask(world, BOB, 50, 25, bob.version)
    assert amount(await ask(world, Owner("carol/1"), 50)) == 15


async def test_shares_are_free_at_once_when_they_are_given_back(world: World) -> None:
    _, bob = await both(world)
    await world.ledger.leave(ALICE)
    assert amount(await ask(world, BOB, 50, 25, bob.version)) == 50


async def test_shares_of_a_worker_that_died_run_out_since_its_calls_may_go_on(
    world: World,
) -> None:
    _, bob = await both(world)
    await world.ledger.release_worker("alice", struck=True)
    bob = await ask(world, BOB, 50, 25, bob.version)
    assert amount(bob) == 25
    world.clock.advance(LEASE_SECONDS - 1)
    bob = await ask(world, BOB, 50, 25, bob.version)
    world.clock.advance(2)
    assert amount(await ask(world, BOB, 50, 25, bob.version)) == 50


async def test_shares_of_a_worker_that_was_ended_are_free_at_once(world: World) -> None:
    _, bob = await both(world)
    await world.ledger.release_worker("alice", struck=False)
    assert amount(await ask(world, BOB, 50, 25, bob.version)) == 50


@only_sqlite
async def test_shares_of_an_earlier_boot_are_free(world: World) -> None:
    await ask(world, ALICE, 50)
    world.clock.reboot()
    assert amount(await ask(world, BOB, 50)) == 50


async def test_workers_that_beat_at_once_never_get_more_than_the_limit(
    world: World, open_ledger
) -> None:
    owners = [Owner(f"w{n}/1") for n in range(6)]
    worlds = [World(await open_ledger(), world.clock) for _ in owners]
    told = {owner: Grants() for owner in owners}

    async def beat(owner: Owner, its: World) -> None:
        before = told[owner]
        using = amount(before) if before.shares else 0.0
        told[owner] = await ask(its, owner, 50, using, before.version)

    for _ in range(BEATS):
        async with asyncio.TaskGroup() as beats:
            for owner, its in zip(owners, worlds, strict=True):
                beats.create_task(beat(owner, its))
        assert sum(amount(grants) for grants in told.values()) <= 50
        world.clock.advance(1)
    for _ in range(BEATS):
        for owner, its in zip(owners, worlds, strict=True):
            await beat(owner, its)
    assert sorted(amount(grants) for grants in told.values()) == [8, 8, 8, 8, 9, 9]


@pytest.mark.parametrize("engines", [1, 40])
async def test_a_beat_costs_as_many_statements_whatever_the_number_of_engines(
    world: World, statements: list[str], engines: int
) -> None:
    def asks(using: float, heard: int = 0) -> Beat:
        of = [Resource(f"e{n}", "", measure) for n in range(engines) for measure in Measure]
        return Beat(asks=Asks(tuple(Demand(each, 50, 50, using) for each in of), heard))

    first = await world.ledger.renew(ALICE, [], asks(0))
    assert first.grants is not None
    statements.clear()
    await world.ledger.renew(ALICE, [], Beat())
    without = len(statements)
    statements.clear()
    await world.ledger.renew(ALICE, [], asks(50, first.grants.version))
    assert len(statements) == without + 2


def test_only_with_the_deck_in_hand_a_share_grows() -> None:
    asks = Asks((Demand(CALLS, 50, 50, 5),), heard=3)
    mine = Hand(ALICE, 3, (Lot(CALLS, held=8, wants=50, told=5),))
    kept = deal(ALICE, mine, [], asks, 0.0, may_grow=False)
    assert (amount(kept.grants), kept.lacks, kept.grants.version) == (5, True, 3)
    grown = deal(ALICE, mine, [], asks, 0.0, may_grow=True)
    assert (amount(grown.grants), grown.grants.version > 3) == (50, True)
