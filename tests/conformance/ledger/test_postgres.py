"""What is PostgreSQL's own: opening and upgrading, restarts, silence, and waking each other."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator

import pytest
import sqlalchemy as sa

from batchmill.clock import SystemClock
from batchmill.errors import ConfigError, InvalidInput, LedgerUnavailable
from batchmill.fleet import Timing
from batchmill.ledger import SqlLedger
from batchmill.ledger.postgres import Postgres
from batchmill.ledger.schema import metadata
from batchmill.ledger.store import Rules, Store
from batchmill.ledger.upgrade import versions
from batchmill.model import JobState
from tests.conformance.ledger.world import World
from tests.postgres import Server

COLUMNS = """
SELECT table_name, column_name, data_type, is_nullable, column_default
FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'alembic_version'
ORDER BY 1, 2
"""
INDEXES = """
SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'alembic_version'
ORDER BY 1
"""


@pytest.fixture
def url(postgres_server: Server) -> Iterator[str]:
    """A database whose time is the server's."""
    with postgres_server.database(movable=False) as (name, _):
        yield postgres_server.url(name)


@pytest.fixture
def empty(postgres_server: Server) -> Iterator[str]:
    """A database without any table."""
    name = postgres_server.make_empty()
    yield name
    postgres_server.drop(name)


@pytest.fixture
async def world(url: str) -> AsyncIterator[World]:
    ledger = await SqlLedger.open(url, clock=SystemClock())
    yield World(ledger, None)
    await ledger.close_connections()


async def test_a_database_without_tables_is_refused_with_the_command_that_makes_them(
    postgres_server: Server, empty: str
) -> None:
    with pytest.raises(ConfigError, match=r"holds no ledger yet.*batchmill db upgrade"):
        await SqlLedger.open(postgres_server.url(empty), clock=SystemClock())


async def test_a_database_of_another_version_is_refused(postgres_server: Server, url: str) -> None:
    name = url.rpartition("/")[2]
    try:
        for version, words in (
            ("0001", "run: batchmill db upgrade"),
            ("0999", "install the newer"),
        ):
            postgres_server.sql(f"UPDATE alembic_version SET version_num = '{version}'", name)
            with pytest.raises(ConfigError, match=f"{version}.*{words}"):
                await SqlLedger.open(url, clock=SystemClock())
    finally:
        newest = versions()[-1]
        postgres_server.sql(f"UPDATE alembic_version SET version_num = '{newest}'", name)


async def test_many_upgrades_at_once_make_the_tables_of_the_schema_once(
    postgres_server: Server, empty: str
) -> None:
    url = postgres_server.url(empty)
    program = "import asyncio, sys; from batchmill.ledger import SqlLedger; "
    program += "print(asyncio.run(SqlLedger.upgrade(sys.argv[1])))"
    upgrades = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", program, url), stdout=subprocess.PIPE
        )
        for _ in range(2)
    ]
    said = [(await each.communicate())[0].decode().strip() for each in upgrades]
    assert said == [versions()[-1]] * 2
    migrated = [postgres_server.sql(query, empty) for query in (COLUMNS, INDEXES)]
    postgres_server.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public", empty)
    database = Postgres(url, "")
    await database.run(metadata.create_all, write=True)
    await database.close()
    assert migrated == [postgres_server.sql(query, empty) for query in (COLUMNS, INDEXES)]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://me:s3cret@127.0.0.1:{port}/{name}", "refuses this user or password"),
        ("postgresql://postgres:{password}@127.0.0.1:{port}/nowhere", "does not exist"),
        ("postgresql://me:s3cret@127.0.0.1:{port}", "names no database"),
        ("postgresql://me:s3c/ret@127.0.0.1:5432/x", "special characters"),
        ("postgresql://me:s3cret@127.0.0.1:54x/x", "special characters"),
        ("postgresql://me:s3cret@127.0.0.1:{port}/x?sslmode=s3cret", "did not do what was asked"),
    ],
)
async def test_what_is_wrong_with_a_url_is_told_without_its_password(
    postgres_server: Server, url: str, words: str
) -> None:
    given = {"port": postgres_server.port, "password": postgres_server.password}
    with pytest.raises((ConfigError, LedgerUnavailable), match=words) as refused:
        await SqlLedger.open(url.format(name="postgres", **given), clock=SystemClock())
    told = f"{refused.value!r} {getattr(refused.value, 'problems', '')}"
    assert postgres_server.password not in told
    assert "s3c" not in told


def test_without_the_extra_it_is_named() -> None:
    program = "import sys; sys.modules['asyncpg'] = None; from batchmill.cli.main import run; run()"
    environment = os.environ | {"BATCHMILL_DATABASE_URL": "postgresql://u:s3cret@127.0.0.1/x"}
    done = subprocess.run(
        [sys.executable, "-c", program, "db", "upgrade"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "pip install 'batchmill[postgres]'" in done.stderr
    assert "s3cret" not in done.stderr


async def test_a_text_that_postgresql_cannot_hold_is_refused(world: World) -> None:
    with pytest.raises(InvalidInput, match=r"U\+0000"):
        await world.upload(filename="a\0b")


async def test_steps_wait_for_a_restart_of_the_server(
    postgres_server: Server, world: World
) -> None:
    job = await world.queue([2])
    held = await world.claim_one()
    postgres_server.stop()
    steps = asyncio.gather(world.seen(job), world.commit(held, [0, 1]), world.upload())
    await asyncio.wait([steps], timeout=0.5)
    assert not steps.done()
    postgres_server.start(wait=False)
    _, committed, _ = await steps
    assert committed
    assert (await world.seen(job)).succeeded == 2


async def test_a_server_that_stays_away_makes_the_ledger_unavailable_and_is_found_again(
    postgres_server: Server, url: str
) -> None:
    database = Postgres(url, "postgresql://here/x")
    database.pauses = (0.01,)
    ledger = SqlLedger(Store(database, SystemClock(), Rules(Timing(), 0.0)))
    await ledger.now()
    postgres_server.stop()
    try:
        with pytest.raises(LedgerUnavailable, match="here/x cannot be reached"):
            await ledger.now()
    finally:
        postgres_server.start()
    assert await ledger.now() > 0
    await ledger.close_connections()


async def test_a_server_that_is_silent_is_given_up(url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        database = Postgres(f"postgresql://u:p@127.0.0.1:{port}/x", "x", step_seconds=0.2)
        ledger = SqlLedger(Store(database, SystemClock(), Rules(Timing(), 0.0)))
        with pytest.raises(LedgerUnavailable, match="does not answer"):
            await ledger.now()
        await ledger.close_connections()


async def test_connections_from_before_a_silence_are_used_no_more(url: str) -> None:
    database = Postgres(url, "x", step_seconds=0.5)
    pids = sa.text("SELECT pg_backend_pid()")
    before = await database.run(lambda c: c.execute(pids).scalar(), write=True)
    with pytest.raises(TimeoutError):
        await database.run(lambda c: c.execute(sa.text("SELECT pg_sleep(5)")), write=True)
    after = [await database.run(lambda c: c.execute(pids).scalar(), write=True) for _ in range(3)]
    assert before not in after
    await database.close()


async def test_a_frozen_transaction_holds_its_rows_only_for_so_long(url: str) -> None:
    database = Postgres(url, "x")
    asked = sa.text("SHOW idle_in_transaction_session_timeout")
    assert await database.run(lambda c: c.execute(asked).scalar(), write=True) == "10s"
    await database.close()


async def test_what_makes_work_claimable_rings_and_what_does_not_is_silent(
    world: World, url: str
) -> None:
    other = await SqlLedger.open(url, clock=SystemClock())
    rings: asyncio.Queue[None] = asyncio.Queue()
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        listening = tasks.create_task(other.listen(lambda: rings.put_nowait(None)))
        await rings.get()
        job = await world.create(total=2)
        await rings.get()
        await world.validate(job, [2])
        await rings.get()
        held = await world.claim_one()
        await world.commit(held, [0])
        await world.ledger.set_paused(job.tenant, job.id, True)
        ring = asyncio.ensure_future(rings.get())
        done, _ = await asyncio.wait([ring], timeout=0.3)
        assert not done
        await world.ledger.cancel(job.tenant, job.id)
        await ring
        listening.cancel()
    await other.close_connections()


async def test_a_listener_comes_back_after_a_restart(
    postgres_server: Server, world: World, url: str
) -> None:
    rings: asyncio.Queue[None] = asyncio.Queue()
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        listening = tasks.create_task(world.ledger.listen(lambda: rings.put_nowait(None)))
        await rings.get()
        postgres_server.stop()
        postgres_server.start()
        await rings.get()
        listening.cancel()
    assert (await world.queue()).state is JobState.QUEUED


async def test_tables_may_take_longer_to_change_than_a_statement_at_work(url: str) -> None:
    database = Postgres(url, "x", step_seconds=0.2)
    await database.migrate(lambda c: c.execute(sa.text("SELECT pg_sleep(0.5)")).close())
    await database.close()


async def test_a_pooler_that_refuses_parameters_of_the_start_is_given_none(url: str) -> None:
    """As PgBouncer does with all but a few; it reads them from the first message."""
    names: list[bytes] = []

    async def pooler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size, code = struct.unpack("!II", await reader.readexactly(8))
        if code == 80877103:
            writer.write(b"N")
            size, _ = struct.unpack("!II", await reader.readexactly(8))
        names.extend((await reader.readexactly(size - 8)).split(b"\0")[:-2:2])
        said = b"SFATAL\0VFATAL\0C08P01\0Munsupported startup parameter: x\0\0"
        writer.write(b"E" + struct.pack("!I", len(said) + 4) + said)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(pooler, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        database = Postgres(f"postgresql://u:p@127.0.0.1:{port}/x", "x")
        with pytest.raises(database.errors) as refused:
            await database.run(lambda _: None, write=False)
    assert set(names) <= {b"user", b"database", b"client_encoding"}
    assert not database.is_busy(refused.value)
    await database.close()


async def test_a_job_paused_while_a_claim_lets_it_in_stays_out(world: World, url: str) -> None:
    job = await world.queue(window=2e9)
    blocker, waits = Postgres(url, "x"), sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    async with asyncio.timeout(20), blocker.engine.begin() as connection:
        await connection.execute(sa.text("LOCK TABLE shard IN EXCLUSIVE MODE"))
        claim = asyncio.ensure_future(world.claim())
        while not (await connection.execute(waits)).scalar():
            await asyncio.sleep(0.01)
        assert (await world.ledger.set_paused(job.tenant, job.id, True)).paused  # type: ignore[union-attr]
    assert await claim
    seen = sa.text("SELECT paused, let_in FROM job")
    assert await blocker.run(lambda c: tuple(c.execute(seen).one()), write=False) == (True, False)
    await blocker.close()
