"""A commit whose answer was lost is recognised when the step is run again: what it did stands once,
and its caller is told what it would have been told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import TypeVar

import pytest
import sqlalchemy as sa

from batchmill.assembly import Assembly, AssemblyId, AssemblyState, Piece, PieceId
from batchmill.clock import new_id
from batchmill.deliveries import DeliveryState, Tried
from batchmill.fleet import Beat, Timing
from batchmill.ledger import SqlLedger
from batchmill.ledger.postgres import Postgres
from batchmill.ledger.store import Rules, Store
from batchmill.model import DEFAULT_TENANT, BlobName, JobId, JobState, Kind, Verdict
from batchmill.once import Once
from tests.conformance.ledger.test_children import KEPT, child, ended, keep_all
from tests.conformance.ledger.world import ALICE, BEAT_SECONDS, LEASE_SECONDS, World, source_of
from tests.postgres import PostgresClock, Server

T = TypeVar("T")
TWO_LIVES = 2


class Forgetful(Postgres):
    """PostgreSQL behind a network that loses the answer to every first commit of a step."""

    pauses = (0.0, 0.0, 0.0)
    lost = 0
    _tries = 0

    async def run(self, work: Callable[[sa.Connection], T], *, write: bool) -> T:
        answer = await super().run(work, write=write)
        self._tries = self._tries + 1 if write else 0
        if write and self._tries == 1:
            self.lost += 1
            raise ConnectionResetError("the answer was lost")
        self._tries = 0
        return answer


@pytest.fixture
def place(postgres_server: Server) -> Iterator[tuple[str, PostgresClock]]:
    with postgres_server.database() as (name, clock):
        yield postgres_server.url(name), clock


@pytest.fixture
async def world(place: tuple[str, PostgresClock]) -> AsyncIterator[World]:
    url, clock = place
    database = Forgetful(url, url)
    rules = Rules(Timing(LEASE_SECONDS, BEAT_SECONDS), 3600.0)
    ledger = SqlLedger(Store(database, clock, rules))
    yield World(ledger, clock)
    assert database.lost > 0
    await ledger.close_connections()


async def test_a_job_runs_from_create_to_its_end(world: World) -> None:
    job = await world.queue([3, 2])
    held = await world.claim()
    assert [each.lease.n for each in held] == [0, 1]
    renewal = await world.ledger.renew(ALICE, [each.lease for each in held], Beat())
    assert {answer.verdict for answer in renewal.answers.values()} == {Verdict.KEEP}
    for each in held:
        assert await world.ledger.note_alone(each.lease, 0)
        assert await world.commit(each, [0])
        assert await world.commit(each, range(1, each.shard.lines))
        assert await world.close(each)
    ended = await world.finalize()
    assert (ended.id, ended.state) == (job.id, JobState.COMPLETED)
    assert (ended.succeeded, ended.failed, ended.total) == (5, 0, 5)


async def test_what_a_lost_claim_granted_is_not_left_to_run_out(world: World) -> None:
    await world.queue([1] * 6)
    held = await world.claim(limit=4)
    assert len(await world.claim(limit=4)) == 2
    assert all(each.strikes == 0 for each in held)
    world.pass_lease_time()
    assert len(await world.claim(limit=9)) == 6


async def test_a_create_makes_one_job_and_a_delete_deletes(world: World) -> None:
    file = await world.upload()
    once = Once(DEFAULT_TENANT, "/v1/x", "body", key="key")
    first = await world.create(file=file)
    new = replace(first, id=JobId(new_id()), deadline=60.0)
    made = await world.ledger.create_job(new, [source_of(file)], None, once)
    assert made.id == new.id
    assert (await world.ledger.made_by(once)).id == new.id
    assert await world.ledger.delete_job(DEFAULT_TENANT, new.id)
    assert not await world.ledger.delete_job(DEFAULT_TENANT, JobId("nowhere"))
    assert await world.ledger.delete_job(DEFAULT_TENANT, first.id)
    assert await world.ledger.delete_file(DEFAULT_TENANT, file.id)
    key = await world.ledger.create_key(DEFAULT_TENANT, "digest", "hint")
    assert await world.ledger.revoke_key(key.id)


async def test_chores_are_refused_struck_and_released_once(world: World) -> None:
    job = await world.create()
    lease, _ = await world.chore(Kind.VALIDATE)
    await world.ledger.strike(lease, "x")
    world.clock.advance(2.0)
    lease, _ = await world.chore(Kind.VALIDATE)
    await world.ledger.release([lease])
    lease, _ = await world.chore(Kind.VALIDATE)
    assert (await world.ledger.refuse(lease, [], 0)).state is JobState.FAILED
    assert (await world.seen(job)).errors_total == 0


async def test_a_cancelled_job_is_cancelled_and_settled(world: World) -> None:
    job = await world.queue([2])
    stopped = await world.ledger.cancel(job.tenant, job.id)
    assert stopped is not None
    assert stopped.state is JobState.CANCELLING
    assert (await world.run(job)).state is JobState.CANCELLED


async def test_a_try_of_a_delivery_is_counted_once(world: World) -> None:
    await world.run(await world.queue(webhook_url="https://x.example/"))
    due = await world.ledger.claim_delivery(ALICE)
    assert due is not None
    waits = await world.ledger.note_try(due.lease, Tried(acknowledged=False, status=500), 60.0)
    assert (waits.attempts, waits.state) == (1, DeliveryState.PENDING)
    assert await world.ledger.claim_delivery(ALICE) is None
    world.clock.advance(61.0)
    due = await world.ledger.claim_delivery(ALICE)
    assert due is not None
    over = await world.ledger.note_try(due.lease, Tried(acknowledged=True, status=200), None)
    assert (over.attempts, over.state) == (TWO_LIVES, DeliveryState.DELIVERED)


async def test_a_retry_is_one_child_with_what_it_keeps(world: World) -> None:
    parent = await ended(world)
    made = await child(world, parent)
    lease, _ = await world.chore(Kind.VALIDATE)
    await keep_all(world, lease, parent)
    assert await world.ledger.kept_shards(made.id) == 2
    queued = await world.ledger.plan_child(lease, KEPT)
    assert (queued.state, queued.succeeded) == (JobState.QUEUED, 3)
    assert (await world.run(made)).succeeded == 4


async def test_pieces_are_counted_and_put_together_once(world: World) -> None:
    new = Assembly(AssemblyId("a"), DEFAULT_TENANT, "in.jsonl", "batch", 10)
    await world.ledger.add_assembly(new)
    piece = Piece(PieceId("p"), new.id, BlobName("uploads/a/p"), 10)
    await world.ledger.add_piece(piece)
    file = await world.upload()
    whole = replace(file, id=type(file.id)(new_id()))
    done = await world.ledger.complete_assembly(new.id, [piece.id], whole)
    assert (done.state, done.file) == (AssemblyState.COMPLETED, whole.id)
    assert await world.ledger.forget_pieces(new.id) in {(), (piece.blob,)}


async def test_a_worker_that_is_gone_gives_up_its_leases(world: World) -> None:
    await world.queue([1])
    await world.claim_one()
    await world.ledger.release_worker("alice", struck=True)
    assert (await world.claim_one()).strikes == 1
