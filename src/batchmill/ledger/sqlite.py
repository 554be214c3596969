"""SQLite's side of the store: one file on a local disk, shared by the processes of one machine.

WAL, every commit synced, writers take the lock when they begin. Leases run on CLOCK_BOOTTIME.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import Insert, insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from batchmill.clock import Clock
from batchmill.ledger.schema import meta
from batchmill.ledger.store import Moment

T = TypeVar("T")

BUSY_SECONDS = 3.0
READERS = 3
"""How many threads read, each on a connection of its own."""

_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA cache_size = -4096",
)

_RAISE_WALL = (
    sa.update(meta)
    .where(meta.c.name == "wall")
    .values(value=sa.func.max(meta.c.value, sa.bindparam("now")))
)
_READ_WALL = sa.select(meta.c.value).where(meta.c.name == "wall")

_WHAT_TO_DO = (
    ("SQLITE_BUSY", "is locked by another process; try again, or stop what holds it"),
    ("SQLITE_LOCKED", "is locked by another process; try again, or stop what holds it"),
    ("SQLITE_FULL", "is on a disk that is full; free some space"),
    ("SQLITE_READONLY", "cannot be written; check its owner and permissions"),
    ("SQLITE_CANTOPEN", "cannot be opened; check that its directory exists and is writable"),
    ("SQLITE_PERM", "cannot be opened; check its owner and permissions"),
    ("SQLITE_IOERR", "cannot be read or written; check its disk"),
    ("SQLITE_CORRUPT", "is damaged; restore it from a backup"),
    ("SQLITE_NOTADB", "is not a SQLite database; give another path or move the file away"),
)


class Sqlite:
    """The `Database` for one SQLite file.

    A transaction is run as a whole in a thread: writers in one of their own, where they wait
    for each other rather than in the database, readers in a few others. Writers being alone,
    they need not `hold` anything; processes of one machine wake each other without `ring`.
    """

    writes_alone: bool = True
    errors: tuple[type[Exception], ...] = (DBAPIError, PoolTimeoutError, sqlite3.Error, OSError)
    pauses: tuple[float, ...] = (0.05, 0.25)

    def __init__(self, path: Path, *, busy_seconds: float = BUSY_SECONDS) -> None:
        self.path = path
        self.engine = _engine(path, busy_seconds)
        self._writer = self.engine.execution_options(begin_immediate=True)
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="ledger-writing")
        self._reading = ThreadPoolExecutor(READERS, thread_name_prefix="ledger-reading")

    async def run(self, work: Callable[[sa.Connection], T], *, write: bool) -> T:
        threads = self._writing if write else self._reading
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(threads, self._transact, work, write)

    def _transact(self, work: Callable[[sa.Connection], T], write: bool) -> T:  # noqa: FBT001 - an executor passes no names
        with (self._writer if write else self.engine).begin() as connection:
            connection.info["changes"] = _changes(connection)
            return work(connection)

    async def close(self) -> None:
        self._writing.shutdown()
        self._reading.shutdown()
        self.engine.dispose()

    def moment(self, connection: sa.Connection, clock: Clock) -> Moment:
        highest = float(connection.execute(_READ_WALL).scalar_one())
        return Moment(max(highest, clock.wall()), clock.boot(), clock.boot_id())

    def remember(self, connection: sa.Connection, at: Moment) -> None:
        if _changes(connection) != connection.info["changes"]:
            connection.execute(_RAISE_WALL, {"now": at.wall})

    def hold(self, connection: sa.Connection, name: str) -> None:
        pass

    def ring(self, connection: sa.Connection) -> None:
        pass

    async def listen(self, rung: Callable[[], None]) -> None:  # noqa: ARG002 - nobody rings
        await asyncio.Event().wait()

    def insert(self, table: sa.Table) -> Insert:
        return insert(table)

    def is_busy(self, error: BaseException) -> bool:
        return _name(error).startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))

    def leaves_doubt(self, error: BaseException) -> bool:  # noqa: ARG002 - none of them does
        return False

    def describe(self, error: BaseException) -> str:
        name = _name(error)
        for prefix, advice in _WHAT_TO_DO:
            if name.startswith(prefix):
                return f"The database {self.path} {advice}."
        cause = error.orig if isinstance(error, DBAPIError) else error
        return f"The database {self.path} did not do what was asked: {cause}."


def _changes(connection: sa.Connection) -> int:
    """How many rows were changed on this connection since it was opened."""
    changes: int = connection.connection.driver_connection.total_changes  # type: ignore[union-attr]
    return changes


def _name(error: BaseException) -> str:
    cause = error.orig if isinstance(error, DBAPIError) else error
    return getattr(cause, "sqlite_errorname", "") or ""


def _engine(path: Path, busy_seconds: float) -> sa.Engine:
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        pool_size=1 + READERS,
        max_overflow=0,
        connect_args={"timeout": busy_seconds},
    )
    sa.event.listen(engine, "connect", _prepare)
    sa.event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: Any, _record: object) -> None:
    """Set up a new connection; one that cannot be is closed, or its thread would stay."""
    connection.isolation_level = None
    try:
        cursor = connection.cursor()
        for pragma in _PRAGMAS:
            cursor.execute(pragma)
        cursor.execute("PRAGMA journal_mode")
        (mode,) = cursor.fetchone()
        cursor.close()
        if mode != "wal":
            raise sqlite3.OperationalError(f"its file system allows no log (mode {mode})")
    except BaseException:
        connection.close()
        raise


def _begin(connection: sa.Connection) -> None:
    immediate = connection.get_execution_options().get("begin_immediate", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
