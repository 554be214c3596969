"""The same create makes one job, whoever sends it how often."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from batchmill.clock import new_id
from batchmill.errors import Conflict, StateConflict
from batchmill.model import DEFAULT_TENANT, Dialect, File, Job, JobId, JobState, KeyId, TenantId
from batchmill.once import KEPT_SECONDS, RESENT_SECONDS, Once
from batchmill.queries import JobQuery
from tests.conformance.ledger.world import World, source_of

KEYED = Once(DEFAULT_TENANT, "/v1/batch/jobs", "body", key="key")
FIRST = Once(DEFAULT_TENANT, "/v1/batches", "body", KeyId("k1"))
RETRY = replace(FIRST, resent=True)


@pytest.fixture
async def file(world: World) -> File:
    return await world.upload()


async def create(world: World, file: File, once: Once | None) -> Job:
    new = Job(
        id=JobId(new_id()),
        tenant=DEFAULT_TENANT,
        dialect=Dialect.OPENAI,
        endpoint="/v1/chat/completions",
        state=JobState.VALIDATING,
        created_at=0.0,
        deadline=3600.0,
        total=4,
        input_files=(file.id,),
    )
    return await world.ledger.create_job(new, [source_of(file)], None, once)


async def jobs_made(world: World) -> int:
    return (await world.ledger.jobs(DEFAULT_TENANT, JobQuery())).total


async def test_one_key_makes_one_job_also_at_once(
    world: World, file: File, open_ledger: Any
) -> None:
    other = World(await open_ledger(), world.clock)
    made = await asyncio.gather(*[create(each, file, KEYED) for each in [world, other] * 10])
    assert len({job.id for job in made}) == 1
    assert await jobs_made(world) == 1


async def test_a_replay_shows_the_job_as_it_is_now(world: World, file: File) -> None:
    job = await create(world, file, KEYED)
    assert await world.ledger.made_by(KEYED) == job
    await world.ledger.cancel(DEFAULT_TENANT, job.id)
    again = await create(world, file, KEYED)
    assert (again.id, again.state) == (job.id, JobState.CANCELLING)
    assert await world.ledger.made_by(KEYED) == again


@pytest.mark.parametrize(("once", "again"), [(KEYED, KEYED), (FIRST, RETRY)])
async def test_the_create_of_a_job_that_was_deleted_makes_a_new_one(
    world: World, file: File, once: Once, again: Once
) -> None:
    job = await create(world, file, once)
    assert await world.ledger.delete_job(DEFAULT_TENANT, job.id)
    assert await world.ledger.made_by(again) is None
    new = await create(world, file, again)
    assert new.id != job.id
    assert await world.ledger.made_by(again) == new


async def test_a_key_with_another_body_is_a_conflict(world: World, file: File) -> None:
    await create(world, file, KEYED)
    other = replace(KEYED, body="other")
    with pytest.raises(Conflict):
        await create(world, file, other)
    with pytest.raises(Conflict):
        await world.ledger.made_by(other)
    assert await jobs_made(world) == 1


@pytest.mark.parametrize(
    "other", [{"tenant": TenantId("b")}, {"route": "/v1/batches"}, {"key": "other"}]
)
async def test_a_key_counts_for_its_tenant_and_route(
    world: World, file: File, other: dict[str, str]
) -> None:
    job = await create(world, file, KEYED)
    assert (await create(world, file, replace(KEYED, **other))).id != job.id


async def test_a_key_is_free_again_after_a_day(world: World, file: File) -> None:
    job = await create(world, file, KEYED)
    world.clock.advance(KEPT_SECONDS - 1)
    assert (await create(world, file, KEYED)).id == job.id
    world.clock.advance(1)
    assert await world.ledger.made_by(KEYED) is None
    later = await create(world, file, replace(KEYED, body="other"))
    assert later.id != job.id


async def test_a_create_that_failed_leaves_its_key_free(world: World, file: File) -> None:
    await world.ledger.delete_file(DEFAULT_TENANT, file.id)
    with pytest.raises(StateConflict):
        await create(world, file, KEYED)
    assert await world.ledger.made_by(KEYED) is None
    await create(world, await world.upload(), replace(KEYED, body="other"))


async def test_a_retry_without_a_key_is_known_by_its_body(world: World, file: File) -> None:
    job = await create(world, file, FIRST)
    assert (await create(world, file, RETRY)).id == job.id
    for other in (
        FIRST,
        replace(RETRY, body="other"),
        replace(RETRY, api_key=KeyId("k2")),
        replace(RETRY, api_key=None),
    ):
        assert (await create(world, file, other)).id != job.id


async def test_a_retry_without_a_key_is_known_for_five_minutes(world: World, file: File) -> None:
    job = await create(world, file, FIRST)
    world.clock.advance(RESENT_SECONDS - 1)
    assert (await create(world, file, RETRY)).id == job.id
    world.clock.advance(1)
    assert (await create(world, file, RETRY)).id != job.id


async def test_a_retry_whose_first_try_never_came_makes_a_job_for_the_next_retry(
    world: World, file: File
) -> None:
    job = await create(world, file, RETRY)
    assert (await create(world, file, RETRY)).id == job.id


async def test_old_creates_are_forgotten_by_housekeeping(
    world: World, file: File, sql: Callable[[str], Any]
) -> None:
    for once in (KEYED, FIRST):
        await create(world, file, once)
    world.clock.advance(KEPT_SECONDS / 2)
    await create(world, file, replace(KEYED, key="later"))
    world.clock.advance(KEPT_SECONDS / 2)
    await world.ledger.expire_files(0.0)
    assert sql("SELECT key FROM idempotency") == [("later",)]
