"""No step that runs every second looks at more shards than it touches, whatever their number."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from batchmill.assembly import Assembly, AssemblyId, Piece, PieceId
from batchmill.clock import ManualClock, new_id
from batchmill.deliveries import DeliveryQuery, Tried
from batchmill.fleet import Beat
from batchmill.ledger import SqlLedger
from batchmill.ledger.postgres import Postgres
from batchmill.model import (
    DEFAULT_TENANT,
    BlobName,
    JobId,
    Kind,
    Lease,
    ShardLease,
)
from batchmill.once import Once
from batchmill.queries import JobQuery
from batchmill.quotas import Quotas
from tests.conformance.ledger.world import (
    ALICE,
    BOB,
    OUT,
    World,
    only_postgres,
    only_sqlite,
    segments,
    source_of,
)
from tests.postgres import run_apart

GROWING = {"shard", "job", "part", "segment", "file", "delivery", "idempotency"}
GROWING |= {"job_input", "job_metadata"}
SMALL_INDEXES = ("shard_leased", "shard_owned", "shard_chore", "shard_deliver", "shard_wanted")
"""Leased rows, open chores and shards that want a model are few: reading all of them is right.
Deliveries that wait may be many, and have an index of their own that holds all that is asked of
them."""


class Statements:
    """What the ledger has sent to its database since it was last asked."""

    def __init__(self, engine: sa.Engine) -> None:
        self._seen: dict[str, Any] = {}
        sa.event.listen(getattr(engine, "sync_engine", engine), "before_cursor_execute", self._note)

    def _note(self, *event: Any) -> None:
        _, _, sql, values, _, many = event
        if not sql.startswith(("BEGIN", "INSERT", "NOTIFY")):
            self._seen[sql] = values[0] if many else values

    def plans(self, database: Path) -> Iterator[tuple[str, str]]:
        """Each statement with each step of its plan."""
        connection = sqlite3.connect(database)
        for sql, values in self._seen.items():
            for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values):
                yield sql, row[3]
        connection.close()
        self._seen.clear()

    def clear(self) -> None:
        self._seen.clear()

    def explained(self, url: str) -> Iterator[tuple[str, str]]:
        """Each statement with PostgreSQL's plan, made under the ledger's own settings."""
        plans = run_apart(self._explain(url))
        self._seen.clear()
        yield from plans

    async def _explain(self, url: str) -> list[tuple[str, str]]:
        connection = await Postgres(url, url)._connect()
        plans = []
        for sql, values in self._seen.items():
            rows = await connection.fetch(f"EXPLAIN {sql}", *values)
            plans.append((sql, "\n".join(row[0] for row in rows)))
        await connection.close()
        return plans


MANY = """
INSERT INTO shard (job_id, kind, n, state)
SELECT job.id, 'run', n, 'closed' FROM job, generate_series(1000, 5000) AS n;
INSERT INTO job (id, tenant, dialect, endpoint, state, created_at, deadline, metadata, input_files,
                 on_invalid, "window", errors)
SELECT 'old' || n, 'a', 'openai', '/v1/x', 'completed', n, n, '{}', '[]', 'fail', '24h', '[]'
FROM generate_series(1, 5000) AS n;
INSERT INTO file (id, tenant, filename, purpose, source, created_at)
SELECT 'old' || n, 'a', 'x', 'batch', 'result', n FROM generate_series(1, 5000) AS n;
ANALYZE;
"""
"""What has ended long since; the statistics know of it."""
_SCAN = re.compile(r"(Seq Scan|Index Scan|Index Only Scan|Bitmap Heap Scan)[^\n]*? on (\w+)")
_THROUGH_THE_KEY = re.compile(
    r"using shard_pkey on shard[^\n]*\n\s*Index Cond: \((?![^\n]*\bn\b)", re.MULTILINE
)


@pytest.fixture
def statements(world: World) -> Statements:
    return Statements(world.ledger._store._database.engine)


async def _steps(world: World) -> dict[str, Any]:
    """Every step of a worker's day, each ready to be taken."""
    for n in range(3):
        await world.run(await world.queue(webhook_url=f"https://{n}.example/"))
    job = await world.queue([2] * 30)
    stopped = await world.queue([2] * 30)
    held: list[ShardLease] = await world.claim(limit=9)
    await world.ledger.commit([(each.lease, world.part(each.lease, [0])) for each in held])
    world.pass_lease_time()
    held = await world.claim(limit=9)
    mine = [each for each in held if each.job.id == job.id]
    await world.ledger.cancel(stopped.tenant, stopped.id)
    world.pass_two_beats()
    await world.create()
    chore: Lease = (await world.chore(Kind.VALIDATE, BOB))[0]
    told = await world.ledger.claim_delivery(BOB)
    waits = await world.ledger.claim_delivery(ALICE)
    assert told is not None
    assert waits is not None
    await world.ledger.note_try(waits.lease, Tried(acknowledged=False), 900.0)
    ledger = world.ledger
    sides = segments(mine[0], {0: OUT, 1: OUT})
    return {
        "claim": lambda: world.claim(limit=20),
        "claim_for": lambda: world.claim(limit=20, serving=frozenset({"m"})),
        "renew": lambda: ledger.renew(ALICE, [each.lease for each in held], Beat()),
        "commit": lambda: ledger.commit([(h.lease, world.part(h.lease, [1])) for h in mine]),
        "close": lambda: ledger.close(mine[0].lease, sides),
        "note_alone": lambda: ledger.note_alone(mine[1].lease, 1),
        "release": lambda: ledger.release([mine[2].lease]),
        "strike": lambda: ledger.strike(chore, "x"),
        "chore": lambda: ledger.claim_chore(ALICE, list(Kind)),
        "expire": ledger.expire_jobs,
        "release_worker": lambda: ledger.release_worker("alice", struck=True),
        "referenced": lambda: ledger.referenced([BlobName(f"jobs/{job.id}/parts/0.1.1")]),
        "part_blobs_to_drop": lambda: ledger.part_blobs_to_drop(10),
        "dropped": lambda: ledger.dropped([BlobName("x")]),
        "claim_delivery": lambda: ledger.claim_delivery(BOB, not_receivers=["x"]),
        "next_delivery": ledger.next_delivery,
        "note_try": lambda: ledger.note_try(told.lease, Tried(acknowledged=True), None),
        "deliveries": lambda: ledger.deliveries(DEFAULT_TENANT, DeliveryQuery(job=job.id)),
        "redeliver": lambda: ledger.redeliver(DEFAULT_TENANT, waits.delivery.id),
        "prune_deliveries": lambda: ledger.prune_deliveries(1.0),
        "expire_files": lambda: ledger.expire_files(1.0),
        "jobs": lambda: ledger.jobs(DEFAULT_TENANT, JobQuery(metadata={"a": "1", "b": "2"})),
    }


@only_sqlite
async def test_no_step_scans_the_shards(
    world: World, statements: Statements, database: Path
) -> None:
    seen = 0
    for name, step in (await _steps(world)).items():
        list(statements.plans(database))
        await step()
        for sql, plan in statements.plans(database):
            seen += "shard" in plan
            if plan.startswith("SCAN shard"):
                assert plan.endswith(SMALL_INDEXES), (name, sql, plan)
            if plan.startswith("SCAN"):
                assert not plan.startswith(("SCAN job", "SCAN part ", "SCAN file")) or (
                    plan.endswith("part_spent")
                ), (name, sql, plan)
    assert seen > 20


@only_sqlite
async def test_a_claim_under_a_quota_takes_as_many_statements_for_many_jobs_as_for_few(
    open_ledger: Callable[..., Awaitable[SqlLedger]], clock: ManualClock, database: Path
) -> None:
    ledger = await open_ledger(quotas=Quotas(1000))
    world, counts = World(ledger, clock), []
    statements = Statements(ledger._store._database.engine)
    for jobs in (2, 60):
        for _ in range(jobs):
            await world.queue([2, 2])
        list(statements.plans(database))
        assert len(await world.claim(limit=1)) == 1
        plans = list(statements.plans(database))
        assert not [plan for _, plan in plans if plan.startswith("SCAN job")]
        counts.append(len({sql for sql, _ in plans}))
    assert counts[0] == counts[1]


@only_sqlite
async def test_open_and_leased_shards_are_found_without_passing_the_closed_ones(
    world: World, statements: Statements, database: Path
) -> None:
    """`SEARCH shard ... (job_id=? AND kind=?)` through the primary key would pass them all."""
    steps = await _steps(world)
    found = 0
    for name in ("claim", "renew", "chore"):
        list(statements.plans(database))
        await steps[name]()
        for sql, plan in statements.plans(database):
            if plan.startswith("SEARCH shard") and "n=?" not in plan:
                found += 1
                assert any(index in plan for index in ("shard_open", *SMALL_INDEXES)), (sql, plan)
    assert found >= 4


@only_sqlite
async def test_creates_and_assemblies_are_found_without_passing_the_old_ones(
    world: World, statements: Statements, database: Path
) -> None:
    keyed = Once(DEFAULT_TENANT, "/v1/x", "body", key="key")
    resent = Once(DEFAULT_TENANT, "/v1/x", "body", resent=True)
    file = await world.upload()
    assembly = Assembly(AssemblyId("a"), DEFAULT_TENANT, "in.jsonl", "batch", 10)
    piece = Piece(PieceId("p"), assembly.id, BlobName("uploads/a/p"), 10)
    ledger = world.ledger
    list(statements.plans(database))
    for once in (keyed, resent):
        await ledger.made_by(once)
        new = replace(await world.create(file=file), id=JobId(new_id()))
        await ledger.create_job(new, [source_of(file)], None, once)
    await ledger.add_assembly(assembly)
    await ledger.add_piece(piece)
    await ledger.pieces(assembly.id)
    await ledger.cancel_assembly(assembly.id)
    await ledger.forget_pieces(assembly.id)
    await ledger.expire_assemblies()
    await ledger.expire_files(1.0)
    await ledger.referenced([piece.blob])
    plans = [plan for _, plan in statements.plans(database)]
    assert [plan for plan in plans if "idempotency" in plan]
    assert [plan for plan in plans if "assembly" in plan]
    for plan in plans:
        if plan.startswith(("SCAN idempotency", "SCAN assembly")):
            assert plan == "SCAN assembly_piece" or plan.endswith("assembly_pending"), plan


@only_postgres
async def test_no_step_of_postgresql_scans_a_table_or_passes_closed_shards(
    world: World, statements: Statements, database: str, sql: Any
) -> None:
    """No table that grows with the jobs is read from end to end, and shards are reached by their
    whole key or by an index of the few that are open or leased."""
    steps = await _steps(world)
    sql(MANY)
    seen = 0
    for name, step in steps.items():
        statements.clear()
        await step()
        for statement, plan in statements.explained(database):
            where = (name, statement, plan)
            for how, table in _SCAN.findall(plan):
                seen += table == "shard"
                assert how != "Seq Scan" or table not in GROWING, where
            if name in {"claim", "renew", "chore", "claim_delivery"}:
                assert not _THROUGH_THE_KEY.search(plan), where
    assert seen > 20
