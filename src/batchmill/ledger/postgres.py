"""PostgreSQL's side of the store: one server, shared by any number of processes and machines.

Transactions run side by side in READ COMMITTED; the steps lock rows in one order (`locks.py`).
Time is the server's. What its errors mean stands in `pgerrors.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import asyncpg
import sqlalchemy as sa
import structlog
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from batchmill.clock import Clock, jitter
from batchmill.errors import InvalidInput
from batchmill.ledger.pgerrors import describe, is_busy, leaves_doubt, sqlstate
from batchmill.ledger.schema import meta
from batchmill.ledger.store import Moment

T = TypeVar("T")

log = structlog.get_logger()

CONNECTIONS = 8
"""How many one ledger opens at most, the listener's aside; idle ones are opened when needed."""
CONNECT_SECONDS = 5.0
STEP_SECONDS = 20.0
"""A transaction that took so long is given up, and every connection of before is distrusted."""
BOOT = "postgresql"
"""The server's clock has no boots."""
CHANNEL = "batchmill_work"
LISTENER_CHECK_SECONDS = 30.0
AWAY_SECONDS = 2.0
SPREAD_SECONDS = 0.05
"""Rings within that time count as one, and a fleet does not answer one all at once."""

_SESSION = {
    "application_name": "batchmill",
    "default_transaction_isolation": "read committed",
    "statement_timeout": "15s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "10s",  # a frozen process holds no row for longer
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "20000",
    "timezone": "UTC",
    "enable_seqscan": "off",  # a plan made while a table was small must not last when it is big
    "jit": "off",
}
_SET_SESSION = ";".join(f"SET {name} = '{value}'" for name, value in _SESSION.items())
"""Said once connected: a pooler refuses most of them as parameters of the start."""
_NUL = "22021"

_NOW = sa.cast(sa.extract("epoch", sa.func.statement_timestamp()), sa.Double)
_READ_CLOCK = sa.select(
    _NOW.label("now"),
    sa.select(meta.c.value).where(meta.c.name == "wall").scalar_subquery().label("highest"),
)
_STALE = (
    sa.select(meta.c.name)
    .where(meta.c.name == "wall", meta.c.value < sa.bindparam("now"))
    .with_for_update(skip_locked=True)
)
_RAISE_WALL = (
    sa.update(meta)
    .where(meta.c.name.in_(_STALE))
    .values(value=sa.bindparam("now", type_=sa.Double))
)
WALL_SECONDS = 1.0
"""The highest time is noted when it is that much above the one noted last, by whoever is first."""
_HOLD = sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(sa.bindparam("name"), 0)))


class Postgres:
    """The `Database` for one PostgreSQL URL.

    A transaction's work runs as one `run_sync`. Nothing waits for ever: connecting, a statement,
    a lock, a transaction and its own silence have their times.
    """

    writes_alone: bool = False
    errors: tuple[type[Exception], ...] = (
        DBAPIError,
        PoolTimeoutError,
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
        OSError,
    )
    pauses: tuple[float, ...] = (0.05, 0.1, 0.25, 0.5, 1.0, 1.0, 1.5, 1.5, 2.0, 2.0)
    """About ten seconds: longer than a restart of the server takes."""

    def __init__(
        self,
        url: str,
        shown: str,
        *,
        connections: int = CONNECTIONS,
        step_seconds: float = STEP_SECONDS,
    ) -> None:
        self.shown, self._step_seconds = shown, step_seconds
        self._url = url
        self.engine = self._new_engine(connections)
        self._reader = self.engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        self._distrusted = 0
        """Connections opened before the latest dead silence are used no more."""

    async def run(self, work: Callable[[sa.Connection], T], *, write: bool) -> T:
        engine = self.engine if write else self._reader
        distrusted = self._distrusted
        try:
            async with asyncio.timeout(self._step_seconds), engine.begin() as connection:
                return await connection.run_sync(work)
        except DBAPIError as error:
            if sqlstate(error) == _NUL:
                raise InvalidInput("A text cannot hold the character U+0000.") from error
            raise
        except TimeoutError:
            self._distrusted = max(self._distrusted, distrusted + 1)
            raise

    async def migrate(self, work: Callable[[sa.Connection], None]) -> None:
        """Change tables in one transaction, after any other that does. Waits as long as it takes
        for that, but for a table only a little, so as not to stand in the way of those at work."""
        engine = self._new_engine(1, patient=True)
        try:
            async with engine.begin() as connection:
                await connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
                await connection.execute(sa.text("SET LOCAL lock_timeout = 0"))
                await connection.execute(_HOLD, {"name": "batchmill migrations"})
                await connection.execute(sa.text("SET LOCAL lock_timeout = '3s'"))
                await connection.run_sync(work)
        finally:
            await engine.dispose()

    async def close(self) -> None:
        await self.engine.dispose()

    def moment(self, connection: sa.Connection, clock: Clock) -> Moment:  # noqa: ARG002 - the server has its own
        now, highest = connection.execute(_READ_CLOCK).one()
        connection.info["highest"] = highest
        return Moment(max(now, highest), now, BOOT)

    def remember(self, connection: sa.Connection, at: Moment) -> None:
        if at.wall >= connection.info["highest"] + WALL_SECONDS:
            connection.execute(_RAISE_WALL, {"now": at.wall})

    def hold(self, connection: sa.Connection, name: str) -> None:
        connection.execute(_HOLD, {"name": name})

    def ring(self, connection: sa.Connection) -> None:
        connection.exec_driver_sql(f"NOTIFY {CHANNEL}")

    async def listen(self, rung: Callable[[], None]) -> None:
        while True:
            try:
                await self._hear(rung)
            except self.errors as error:
                log.info("listening_again", error=self.describe(error))
            await asyncio.sleep(AWAY_SECONDS * (0.5 + jitter()))

    def insert(self, table: sa.Table) -> Insert:
        return insert(table)

    def is_busy(self, error: BaseException) -> bool:
        return is_busy(error)

    def leaves_doubt(self, error: BaseException) -> bool:
        return leaves_doubt(error)

    def describe(self, error: BaseException) -> str:
        return describe(error, self.shown)

    async def _hear(self, rung: Callable[[], None]) -> None:
        """Listen on one connection until it is lost. What rang before it was there is unknown,
        hence it begins with a ring."""
        bell = asyncio.Event()
        connection = await self._connect()
        try:
            connection.add_termination_listener(lambda _: bell.set())
            await connection.add_listener(CHANNEL, lambda *_: bell.set())
            bell.set()
            while not connection.is_closed():
                with suppress(TimeoutError):
                    async with asyncio.timeout(LISTENER_CHECK_SECONDS):
                        await bell.wait()
                if bell.is_set():
                    await asyncio.sleep(SPREAD_SECONDS * jitter())
                    bell.clear()
                    rung()
                else:
                    await connection.execute("SELECT 1", timeout=CONNECT_SECONDS)
        finally:
            connection.terminate()

    async def _connect(self, *, patient: bool = False) -> Any:
        """A connection; a patient one waits for each statement for as long as it takes."""
        connection = await asyncpg.connect(
            self._url,
            timeout=CONNECT_SECONDS,
            command_timeout=None if patient else self._step_seconds,
        )
        try:
            await connection.execute(_SET_SESSION, timeout=CONNECT_SECONDS)
        except BaseException:
            connection.terminate()
            raise
        return connection

    def _new_engine(self, connections: int, *, patient: bool = False) -> AsyncEngine:
        engine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=lambda: self._connect(patient=patient),
            pool_size=connections,
            max_overflow=0,
            pool_timeout=STEP_SECONDS / 2,
            pool_use_lifo=True,
        )
        sa.event.listen(engine.sync_engine, "connect", self._opened)
        sa.event.listen(engine.sync_engine, "checkout", self._taken)
        return engine

    def _opened(self, _connection: object, record: Any) -> None:
        record.info["trust"] = self._distrusted

    def _taken(self, _connection: object, record: Any, _fairy: object) -> None:
        if record.info["trust"] < self._distrusted:
            raise DisconnectionError
