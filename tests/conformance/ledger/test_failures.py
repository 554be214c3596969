"""Failed lines are tallied with the outcomes they belong to: once, and only if published."""

from __future__ import annotations

from dataclasses import replace

from batchmill.failures import FailureKind, Failures
from batchmill.model import Lease, Part
from tests.conformance.ledger.world import ALICE, BOB, ERR, World


def failing(world: World, lease: Lease, *lines: int, code: str = "bad") -> Part:
    part = world.part(lease, dict.fromkeys(lines, ERR))
    found = Failures(code, FailureKind.FAILED, True, "says why", f"line-{lines[0]}", lines)
    return replace(part, failures=(found,))


async def counts(world: World, job: object) -> dict[str, int]:
    tally = (await world.seen(job)).failures  # type: ignore[arg-type]
    return {each.code: each.count for each in tally.summary}


async def test_failed_lines_are_tallied_by_code_over_parts_and_shards(world: World) -> None:
    job = await world.queue(shards=[4, 4])
    first, second = await world.claim()
    await world.ledger.commit(
        [
            (first.lease, failing(world, first.lease, 0, 1)),
            (second.lease, failing(world, second.lease, 2, code="other_one")),
        ]
    )
    await world.ledger.commit([(first.lease, failing(world, first.lease, 3))])
    assert await counts(world, job) == {"bad": 3, "other_one": 1}
    example = (await world.seen(job)).failures.summary[0]
    assert (example.message, example.custom_id) == ("says why", "line-0")


async def test_jobs_of_one_commit_keep_their_failures_apart(world: World) -> None:
    jobs = [await world.queue(), await world.queue()]
    held = await world.claim()
    await world.ledger.commit(
        [
            (each.lease, failing(world, each.lease, n, code=each.job.id))
            for n, each in enumerate(held)
        ]
    )
    for job in jobs:
        assert await counts(world, job) == {job.id: 1}


async def test_a_part_published_twice_is_tallied_once(world: World) -> None:
    job = await world.queue()
    held = await world.claim_one()
    part = failing(world, held.lease, 0, 1)
    for _ in range(2):
        assert await world.ledger.commit([(held.lease, part)]) == (True,)
    assert await counts(world, job) == {"bad": 2}


async def test_a_stale_owners_failures_are_not_tallied(world: World) -> None:
    job = await world.queue()
    stale = await world.claim_one(ALICE)
    world.pass_lease_time()
    present = await world.claim_one(BOB)
    assert await world.ledger.commit([(stale.lease, failing(world, stale.lease, 0))]) == (False,)
    assert await counts(world, job) == {}
    assert await world.ledger.commit([(present.lease, failing(world, present.lease, 0))]) == (True,)
    assert await counts(world, job) == {"bad": 1}


async def test_a_successor_adopts_a_part_with_its_failures(world: World) -> None:
    await world.queue()
    first = await world.claim_one(ALICE)
    part = failing(world, first.lease, 1, 2)
    await world.ledger.commit([(first.lease, part)])
    world.pass_lease_time()
    second = await world.claim_one(BOB)
    assert second.parts == (part,)
