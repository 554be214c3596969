"""Opening a database, its migrations, and what happens when it cannot be used for a while."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from batchmill.clock import ManualClock
from batchmill.errors import ConfigError, LedgerUnavailable
from batchmill.fleet import Timing
from batchmill.ledger import SqlLedger
from batchmill.ledger.mounts import network_type
from batchmill.ledger.schema import metadata
from batchmill.ledger.sqlite import Sqlite
from batchmill.ledger.store import Rules, Store
from batchmill.ledger.upgrade import versions
from batchmill.model import Kind
from tests.conformance.ledger.world import World, only_sqlite


def _described(connection: sqlite3.Connection) -> dict[str, object]:
    """Tables with their columns and keys, and indexes with their conditions."""
    master = (
        "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE tbl_name != 'alembic_version'"
    )
    found: dict[str, object] = {}
    for type_, name, table, sql in connection.execute(master):
        if type_ == "index" and sql is not None:
            found[name] = sorted(sql.lower().replace("(", " ").replace(")", " ").split())
        if type_ == "table":
            columns = connection.execute(f"PRAGMA table_info({name})").fetchall()
            keys = connection.execute(f"PRAGMA index_list({name})").fetchall()
            unique = sorted(
                str(connection.execute(f"PRAGMA index_info({key[1]})").fetchall())
                for key in keys
                if key[2]
            )
            found[table] = ([column[1:] for column in columns], unique)
    return found


def test_the_migrations_make_the_tables_of_the_schema(migrated: Path) -> None:
    engine = sa.create_engine("sqlite://", creator=lambda: made)
    made = sqlite3.connect(":memory:", check_same_thread=False)
    metadata.create_all(engine)
    with sqlite3.connect(migrated) as connection:
        assert _described(connection) == _described(made)
    connection.close()
    engine.dispose()
    made.close()


async def test_a_database_is_made_once_by_many_who_open_it_at_once(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    ledgers = await asyncio.gather(*[SqlLedger.open(path, clock=ManualClock()) for _ in range(5)])
    assert len({await ledger.secret("x") for ledger in ledgers}) == 1
    for ledger in ledgers:
        await ledger.close_connections()
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [
            (versions()[-1],)
        ]
    connection.close()


async def test_a_new_database_is_its_owners_alone(tmp_path: Path) -> None:
    ledger = await SqlLedger.open(tmp_path / "new.db", clock=ManualClock())
    await ledger.secret("x")
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    await ledger.close_connections()


async def test_a_database_keeps_what_it_holds(world: World, open_ledger: Any) -> None:
    job = await world.queue()
    held = await world.claim_one()
    await world.commit(held, [1])
    await world.ledger.close_connections()
    again = World(await open_ledger(), world.clock)
    assert (await again.seen(job)).succeeded == 1
    assert await again.commit(held, [2])


async def test_a_database_can_be_given_as_a_url(tmp_path: Path) -> None:
    ledger = await SqlLedger.open(f"sqlite:///{tmp_path}/ü x%20.db", clock=ManualClock())
    await ledger.close_connections()
    assert (tmp_path / "ü x%20.db").exists()


@only_sqlite
async def test_a_database_of_a_newer_version_is_refused(database: Path) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0999'")
    connection.close()
    with pytest.raises(ConfigError) as refused:
        await SqlLedger.open(database, clock=ManualClock())
    (problem,) = refused.value.problems
    assert "0999" in problem.message
    assert versions()[-1] in problem.message
    assert "install the newer Batchmill" in problem.message


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mysql://me:secret@host/db", "mysql is not supported"),
        ("{}/missing/x.db", "is not a directory"),
        ("{}", "is a directory"),
    ],
)
async def test_a_place_where_no_database_can_be_is_refused(
    tmp_path: Path, name: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        await SqlLedger.open(name.format(tmp_path), clock=ManualClock())
    assert "secret" not in f"{refused.value} {refused.value.problems}"


async def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a database" * 400)
    with pytest.raises(LedgerUnavailable, match=r"notes.txt is not a SQLite database"):
        await SqlLedger.open(tmp_path / "notes.txt", clock=ManualClock())


MOUNTS = """\
/dev/vda / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
/dev/vdb /home/local\\040disk xfs rw 0 0
//nas/share /mnt/share cifs rw 0 0
tmpfs /mnt/share/over tmpfs rw 0 0
me@host: /ssh fuse.sshfs rw 0 0
broken
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/x.db", None),
        ("/home/me/x.db", "nfs4"),
        ("/home2/x.db", None),
        ("/home/local disk/x.db", None),
        ("/mnt/share/x.db", "cifs"),
        ("/mnt/share/over/x.db", None),
        ("/ssh/x.db", "fuse.sshfs"),
    ],
)
def test_network_file_systems_are_told_from_local_ones(path: str, kind: str | None) -> None:
    assert network_type(Path(path), MOUNTS) == kind


async def test_a_closed_ledger_says_so(world: World) -> None:
    await world.ledger.close_connections()
    await world.ledger.close_connections()
    with pytest.raises(LedgerUnavailable, match="closed"):
        await world.ledger.now()


@pytest.fixture
async def hasty(database: Path, clock: ManualClock) -> Any:
    """A ledger that does not wait long for a lock."""
    ledger = SqlLedger(Store(Sqlite(database, busy_seconds=0.01), clock, Rules(Timing(), 0.0)))
    yield ledger
    await ledger.close_connections()


@only_sqlite
async def test_a_locked_database_is_unavailable_until_it_is_free(
    hasty: SqlLedger, database: Path, clock: ManualClock
) -> None:
    world = World(hasty, clock)
    file = await world.upload()
    lock = sqlite3.connect(database)
    lock.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerUnavailable, match="locked by another process"):
        await world.upload()
    assert await hasty.file(file.tenant, file.id) == file
    lock.rollback()
    lock.close()
    assert await world.upload()


@only_sqlite
async def test_a_short_lock_is_waited_for(
    hasty: SqlLedger, database: Path, clock: ManualClock
) -> None:
    world = World(hasty, clock)
    await world.upload()
    lock = sqlite3.connect(database)
    lock.execute("BEGIN IMMEDIATE")
    upload = asyncio.create_task(world.upload())
    done, _ = await asyncio.wait([upload], timeout=0.03)
    assert not done
    lock.rollback()
    lock.close()
    assert await upload


@only_sqlite
@pytest.mark.parametrize(
    ("spoil", "mend", "words"),
    [
        ("PRAGMA max_page_count = 1", "PRAGMA max_page_count = 1000000", "disk that is full"),
        ("PRAGMA query_only = 1", "PRAGMA query_only = 0", "cannot be written"),
    ],
)
async def test_a_database_that_cannot_be_written_is_unavailable_and_loses_nothing(
    hasty: SqlLedger, clock: ManualClock, spoil: str, mend: str, words: str
) -> None:
    world = World(hasty, clock)
    job = await world.queue([2000])
    held = await world.claim_one()
    assert await world.commit(held, [0])
    state = [spoil]
    engine = hasty._store._database.engine
    sa.event.listen(engine, "checkout", lambda c, *_: c.cursor().execute(state[0]))
    for _ in range(3):
        with pytest.raises(LedgerUnavailable, match=words):
            await world.commit(held, range(1, 2000))
    assert (await world.seen(job)).succeeded == 1
    state[0] = mend
    assert await world.commit(held, range(1, 2000))
    assert (await world.seen(job)).succeeded == 2000


async def test_steps_whose_callers_have_gone_leave_the_ledger_whole(
    world: World, open_ledger: Any
) -> None:
    """Cancelled at every point of their way, uploads are there whole or not at all."""
    kept = 0
    for pauses in range(60):
        upload = asyncio.create_task(world.upload())
        for _ in range(pauses):
            await asyncio.sleep(0)
        upload.cancel()
        kept += not isinstance(*await asyncio.gather(upload, return_exceptions=True), BaseException)
        await world.create()
    other = World(await open_ledger(), world.clock)
    assert await other.upload()
    assert len(await asyncio.gather(*[world.upload() for _ in range(20)])) == 20


async def test_many_steps_at_once_all_come_to_their_end(world: World) -> None:
    job = await world.queue([1] * 40)
    claims = await asyncio.gather(*[world.claim(limit=2) for _ in range(20)])
    held = [each for claim in claims for each in claim]
    assert len({each.lease.key for each in held}) == 40
    await asyncio.gather(*[world.finish(each) for each in held], *[world.seen(job)] * 1)
    assert (await world.chore(Kind.FINALIZE))[1].succeeded == 40
