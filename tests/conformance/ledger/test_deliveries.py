"""A job's end has one event, recorded with it; its deliveries are leased, tried and kept."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from batchmill.clock import ManualClock
from batchmill.deliveries import (
    Delivery,
    DeliveryId,
    DeliveryLease,
    DeliveryQuery,
    DeliveryState,
    Tried,
    WebhookEndpoint,
)
from batchmill.errors import LeaseLost
from batchmill.fleet import Beat
from batchmill.model import DEFAULT_TENANT, Ending, Job, Kind, LineError, TenantId, Verdict
from tests.conformance.ledger.conftest import Open
from tests.conformance.ledger.world import ALICE, BOB, ERR, WINDOW, World

URL = "https://example.com/hook"
OTHER = TenantId("other")
OK = Tried(acknowledged=True, status=204)
DOWN = Tried(acknowledged=False, status=500, error="it answered 500")


async def found(world: World, tenant: TenantId = DEFAULT_TENANT, **query: Any) -> list[Delivery]:
    return list((await world.ledger.deliveries(tenant, DeliveryQuery(**query))).items)


async def ended(world: World, url: str | None = URL, **values: Any) -> Job:
    """A job that completed."""
    job = await world.queue(webhook_url=url, **values)
    return await world.run(job)


async def claim(world: World, owner: Any = ALICE, **busy: Any) -> DeliveryLease:
    leased = await world.ledger.claim_delivery(owner, **busy)
    assert leased is not None
    return leased


async def completes(world: World) -> Job:
    return await ended(world)


async def is_refused(world: World) -> Job:
    await world.create(webhook_url=URL)
    lease, _ = await world.chore(Kind.VALIDATE)
    return await world.ledger.refuse(lease, [LineError("bad", "bad")], 1)


async def plans_nothing(world: World) -> Job:
    job = await world.create(webhook_url=URL)
    return await world.validate(job, ())


async def has_bad_lines(world: World) -> Job:
    job = await world.create(webhook_url=URL)
    return await world.validate(job, errors=(LineError("bad", "bad", 1),), errors_total=1)


async def fails_in_validation(world: World) -> Job:
    job = await world.create(webhook_url=URL)
    await world.ledger.fail_job(job.id, LineError("internal_error", "gone"))
    return await world.seen(job)


async def fails_late(world: World) -> Job:
    job = await world.queue(webhook_url=URL)
    await world.ledger.fail_job(job.id, LineError("internal_error", "gone"))
    return await world.run(job, ERR)


async def is_given_up(world: World) -> Job:
    job = await world.create(webhook_url=URL)
    for _ in range(5):
        lease, _ = await world.chore(Kind.VALIDATE)
        await world.ledger.strike(lease, "no such blob")
        world.clock.advance(60)
    return await world.seen(job)


async def cannot_be_finalized(world: World) -> Job:
    job = await world.queue(webhook_url=URL)
    await world.finish(await world.claim_one())
    for _ in range(5):
        lease, _ = await world.chore(Kind.FINALIZE)
        await world.ledger.strike(lease, "broken")
        world.clock.advance(60)
    return await world.seen(job)


async def expires(world: World) -> Job:
    job = await world.queue(webhook_url=URL)
    world.clock.advance(WINDOW)
    await world.ledger.expire_jobs()
    return await world.run(job, ERR)


async def expires_in_validation(world: World) -> Job:
    await world.create(webhook_url=URL)
    world.clock.advance(WINDOW)
    await world.ledger.expire_jobs()
    lease, _ = await world.chore(Kind.VALIDATE)
    return await world.ledger.refuse(lease, [LineError("bad", "bad")], 1)


async def is_cancelled(world: World) -> Job:
    job = await world.queue(webhook_url=URL)
    await world.ledger.cancel(job.tenant, job.id)
    return await world.run(job, ERR)


ENDINGS = [
    (completes, Ending.COMPLETED),
    (is_refused, Ending.FAILED),
    (plans_nothing, Ending.FAILED),
    (has_bad_lines, Ending.FAILED),
    (fails_in_validation, Ending.FAILED),
    (fails_late, Ending.FAILED),
    (is_given_up, Ending.FAILED),
    (cannot_be_finalized, Ending.FAILED),
    (expires, Ending.EXPIRED),
    (expires_in_validation, Ending.EXPIRED),
    (is_cancelled, Ending.CANCELLED),
]


@pytest.mark.parametrize(("end", "ending"), ENDINGS, ids=[end.__name__ for end, _ in ENDINGS])
async def test_each_way_to_end_has_one_event(world: World, end: Any, ending: Ending) -> None:
    job = await end(world)
    assert job.state.value == ending.value
    (only,) = await found(world)
    assert (only.job, only.ending, only.url) == (job.id, ending, URL)
    assert (only.state, only.attempts) == (DeliveryState.PENDING, 0)
    assert only.event.startswith("evt_")
    assert not only.configured


async def test_a_job_that_has_not_ended_has_no_event(world: World) -> None:
    job = await world.queue(webhook_url=URL)
    await world.finish(await world.claim_one())
    assert (await world.seen(job)).webhook_url == URL
    assert await found(world) == []
    assert await world.ledger.claim_delivery(ALICE) is None


async def test_a_job_without_receivers_has_no_delivery(world: World) -> None:
    await ended(world, None)
    assert await found(world) == []


async def test_a_finalize_that_is_asked_for_again_makes_no_second_event(world: World) -> None:
    await world.queue(webhook_url=URL)
    await world.finish(await world.claim_one())
    lease, _ = await world.chore(Kind.FINALIZE)
    for _ in range(3):
        await world.end(lease)
    assert len(await found(world)) == 1


async def test_all_receivers_of_a_job_get_the_same_event(
    open_ledger: Open, clock: ManualClock
) -> None:
    webhooks = (
        WebhookEndpoint("https://all.example/"),
        WebhookEndpoint("https://mine.example/", DEFAULT_TENANT),
        WebhookEndpoint("https://theirs.example/", OTHER),
        WebhookEndpoint("https://failures.example/", None, frozenset({Ending.FAILED})),
        WebhookEndpoint(URL),
    )
    world = World(await open_ledger(webhooks=webhooks), clock)
    await ended(world)
    rows = await found(world)
    urls = {row.url: row.configured for row in rows}
    assert urls == {URL: False, "https://all.example/": True, "https://mine.example/": True}
    assert len({row.event for row in rows}) == 1
    assert len({row.id for row in rows}) == 3
    await ended(world, None, tenant=OTHER)
    assert {row.url for row in await found(world, OTHER)} == {
        "https://all.example/",
        "https://theirs.example/",
        URL,
    }


async def test_a_delivery_is_leased_once_with_its_ended_job(world: World) -> None:
    job = await ended(world)
    leased = await claim(world)
    assert leased.job == job
    assert (leased.delivery.job, leased.delivery.next_at) == (job.id, None)
    assert await world.ledger.claim_delivery(BOB) is None
    assert await world.ledger.claim_chore(BOB, list(Kind)[1:]) is not None  # the sweep alone
    assert await world.ledger.claim_chore(BOB, list(Kind)[1:]) is None


async def test_a_lease_is_kept_by_renewing_and_taken_over_when_its_owner_is_gone(
    world: World,
) -> None:
    await ended(world)
    mine = await claim(world)
    world.clock.advance(14)
    renewal = await world.ledger.renew(ALICE, [mine.lease], Beat())
    assert renewal.answers[mine.lease.key].verdict is Verdict.KEEP
    world.clock.advance(14)
    assert await world.ledger.claim_delivery(BOB) is None
    world.pass_lease_time()
    theirs = await claim(world, BOB)
    assert theirs.delivery.event == mine.delivery.event
    for again in (None, 5.0):
        with pytest.raises(LeaseLost):
            await world.ledger.note_try(mine.lease, DOWN, again)
    assert (await world.ledger.note_try(theirs.lease, OK, None)).attempts == 1


async def test_a_delivery_that_was_acknowledged_is_over(world: World) -> None:
    await ended(world)
    leased = await claim(world)
    noted = await world.ledger.note_try(leased.lease, OK, 5.0)
    assert (noted.state, noted.attempts, noted.last_status, noted.last_error) == (
        DeliveryState.DELIVERED,
        1,
        204,
        None,
    )
    assert noted.last_at == noted.ended_at == await world.ledger.now()
    assert await world.ledger.note_try(leased.lease, OK, 5.0) == noted
    world.clock.advance(1e6)
    assert await world.ledger.claim_delivery(BOB) is None
    assert await world.ledger.next_delivery() is None


async def test_a_failed_try_waits_as_long_as_it_is_told(world: World) -> None:
    await ended(world)
    noted = await world.ledger.note_try((await claim(world)).lease, DOWN, 30.0)
    assert (noted.state, noted.last_status, noted.last_error) == (
        DeliveryState.PENDING,
        500,
        "it answered 500",
    )
    assert noted.next_at == await world.ledger.now() + 30
    assert await world.ledger.next_delivery() == 30.0
    world.clock.advance(29.5)
    assert await world.ledger.claim_delivery(BOB) is None
    world.clock.advance(1)
    again = await claim(world, BOB)
    assert again.delivery.attempts == 1


async def test_a_delivery_that_is_given_up_says_so(world: World) -> None:
    await ended(world)
    noted = await world.ledger.note_try((await claim(world)).lease, DOWN, None)
    assert (noted.state, noted.next_at) == (DeliveryState.GIVEN_UP, None)
    assert await world.ledger.claim_delivery(BOB) is None
    assert await found(world, state=DeliveryState.GIVEN_UP) == [noted]
    assert await found(world, state=DeliveryState.PENDING) == []


async def test_busy_receivers_and_tenants_are_passed_over(world: World) -> None:
    await ended(world, "https://Slow.example/a")
    await ended(world, "https://slow.example/b")
    await ended(world, "https://quick.example/", tenant=OTHER)
    busy = {"not_receivers": ["slow.example"], "not_tenants": [OTHER]}
    assert await world.ledger.claim_delivery(ALICE, **busy) is None
    quick = await claim(world, not_receivers=["slow.example"])
    assert quick.delivery.receiver == "quick.example"
    slow = await claim(world, not_tenants=[OTHER])
    assert slow.delivery.receiver == "slow.example"


async def test_a_new_event_goes_before_those_that_failed(world: World) -> None:
    await ended(world, "https://down.example/")
    await world.ledger.note_try((await claim(world)).lease, DOWN, 1.0)
    world.clock.advance(5)
    await ended(world, "https://new.example/")
    assert (await claim(world)).delivery.receiver == "new.example"


@pytest.mark.parametrize("how", [OK, DOWN], ids=["delivered", "given up"])
async def test_what_is_over_can_be_sent_once_more_under_the_same_id(
    world: World, how: Tried
) -> None:
    await ended(world)
    first = await claim(world)
    await world.ledger.note_try(first.lease, how, None)
    world.clock.advance(86_400)
    again = await world.ledger.redeliver(DEFAULT_TENANT, first.delivery.id)
    assert again is not None
    now = await world.ledger.now()
    assert (again.state, again.since, again.next_at, again.ended_at, again.attempts) == (
        DeliveryState.PENDING,
        now,
        now,
        None,
        1,
    )
    second = await claim(world)
    assert second.delivery.event == first.delivery.event
    assert (await world.ledger.note_try(second.lease, OK, None)).attempts == 2


async def test_what_waits_can_be_sent_at_once(world: World) -> None:
    await ended(world)
    leased = await claim(world)
    assert await world.ledger.redeliver(DEFAULT_TENANT, leased.delivery.id) == leased.delivery
    await world.ledger.note_try(leased.lease, DOWN, 3600.0)
    asked = await world.ledger.redeliver(DEFAULT_TENANT, leased.delivery.id)
    assert asked is not None
    assert asked.since == leased.delivery.since
    assert (await claim(world)).delivery.id == leased.delivery.id


async def test_a_tenant_sees_and_asks_for_its_own_deliveries_alone(world: World) -> None:
    await ended(world)
    (mine,) = await found(world)
    assert await found(world, OTHER) == []
    assert await world.ledger.delivery(OTHER, mine.id) is None
    assert await world.ledger.redeliver(OTHER, mine.id) is None
    assert await world.ledger.delivery(DEFAULT_TENANT, mine.id) == mine
    assert await found(world, OTHER, after=mine.id) == []


async def test_deliveries_are_listed_in_pages_newest_first(world: World) -> None:
    jobs = [(await ended(world)).id for _ in range(5)]
    seen: list[Any] = []
    after, more = None, True
    while more:
        query = DeliveryQuery(after=after, limit=2)
        page = await world.ledger.deliveries(DEFAULT_TENANT, query)
        seen += [each.job for each in page.items]
        after, more = page.items[-1].id, page.has_more
    assert seen == jobs[::-1]
    assert [each.job for each in await found(world, job=jobs[2])] == [jobs[2]]
    assert await found(world, after=DeliveryId("whd_unknown")) == []


async def test_deliveries_that_ended_long_ago_are_forgotten(world: World) -> None:
    for url in ("https://old.example/", "https://open.example/"):
        await ended(world, url)
    old = await claim(world, not_receivers=["open.example"])
    await world.ledger.note_try(old.lease, OK, None)
    before = await world.ledger.now()
    assert await world.ledger.prune_deliveries(before) == 0
    world.clock.advance(1)
    assert await world.ledger.prune_deliveries(before + 1) == 1
    (left,) = await found(world)
    assert left.receiver == "open.example"
    assert await world.ledger.redeliver(DEFAULT_TENANT, old.delivery.id) is None


async def test_the_longest_waits_stand_in_no_chores_way(world: World) -> None:
    await ended(world)
    await world.ledger.note_try((await claim(world)).lease, DOWN, 0.0)
    lease, _ = await world.chore(Kind.SWEEP)
    await world.ledger.done(lease, again_after=100.0)
    renewal = await world.ledger.renew(ALICE, [], Beat())
    assert not renewal.work


def test_a_delivery_knows_whom_it_burdens() -> None:
    delivery = Delivery(*[None] * 5, URL, *[None] * 5)  # type: ignore[arg-type]
    assert replace(delivery, url="https://A.example:81/b?c").receiver == "a.example:81"
