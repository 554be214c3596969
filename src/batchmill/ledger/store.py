"""Transactions, time and errors: how every step of the ledger reaches its database.

What differs between databases stands behind `Database`; `sqlite.py` is the one for SQLite.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from batchmill.clock import Clock, jitter
from batchmill.deliveries import WebhookEndpoint
from batchmill.errors import LedgerUnavailable, StateConflict
from batchmill.fleet import Timing
from batchmill.quotas import Quotas

T = TypeVar("T")
Insert = postgresql.Insert | sqlite.Insert


@dataclass(frozen=True, slots=True)
class Moment:
    """When a transaction happens: wall time for windows, a lease tick that never jumps, and
    the boot within which ticks may be compared."""

    wall: float
    tick: float
    boot: str


@dataclass(frozen=True, slots=True)
class Rules:
    """What the ledger was opened with. Results are kept for ever where retention is 0."""

    timing: Timing
    result_retention_seconds: float
    webhooks: Sequence[WebhookEndpoint] = ()
    """Receivers of the events of jobs that end, besides those that the jobs name."""
    quotas: Quotas = field(default_factory=Quotas)


class Database(Protocol):
    """What SQLite and PostgreSQL do differently."""

    writes_alone: bool
    """Whether no two transactions that write run side by side."""
    errors: tuple[type[Exception], ...]
    """What `run` may raise of the database's own."""
    pauses: tuple[float, ...]
    """Seconds before each new try of a step that `is_busy`; then it is given up."""

    async def run(self, work: Callable[[sa.Connection], T], *, write: bool) -> T:
        """Do a transaction's work and commit it; roll it back where the work raises. One that
        may `write` is ready to when it begins."""

    async def close(self) -> None:
        """Let go of the connections, once no work is under way."""

    def moment(self, connection: sa.Connection, clock: Clock) -> Moment:
        """The present moment, within the transaction; wall time never runs backwards."""

    def remember(self, connection: sa.Connection, at: Moment) -> None:
        """Let no later transaction have an earlier wall time than this one, if it has changed
        anything; one that found nothing to do costs no write."""

    def hold(self, connection: sa.Connection, name: str) -> None:
        """Let no other transaction that asks for this name go on before this one has ended."""

    def ring(self, connection: sa.Connection) -> None:
        """Once the transaction is committed, tell all who `listen` that there is work."""

    async def listen(self, rung: Callable[[], None]) -> None:
        """Call `rung` whenever somebody rang, until cancelled; comes back by itself."""

    def insert(self, table: sa.Table) -> Insert:
        """An insert that can say what becomes of a row whose key is there already."""

    def is_busy(self, error: BaseException) -> bool:
        """Whether the step may succeed when tried again soon."""

    def leaves_doubt(self, error: BaseException) -> bool:
        """Whether the step may have been committed all the same."""

    def describe(self, error: BaseException) -> str:
        """One sentence for people: what is wrong with the database, and what to do."""


@dataclass(frozen=True, slots=True)
class Transaction:
    """One transaction as the SQL modules see it. Their steps are plain functions: a database
    that needs a thread is given the whole of one, not each statement."""

    connection: sa.Connection
    database: Database
    at: Moment
    rules: Rules
    again: bool = False
    """This very step was run before, and may have been committed: no answer came."""

    def hold(self, name: str) -> None:
        """Go on alone among the transactions that hold this name, where they may run at once."""
        self.database.hold(self.connection, name)

    def ring(self) -> None:
        """This transaction makes something claimable: wake who waits for it."""
        self.database.ring(self.connection)

    def insert_new(self, table: sa.Table) -> sa.Insert:
        """An insert that passes over rows whose key is there already."""
        return self.database.insert(table).on_conflict_do_nothing()

    def upsert(self, table: sa.Table, keys: Sequence[str]) -> sa.Insert:
        """An insert that overwrites a row of the same key."""
        statement = self.database.insert(table)
        fresh = {c.name: statement.excluded[c.name] for c in table.c if c.name not in keys}
        return statement.on_conflict_do_update(index_elements=keys, set_=fresh)

    def all(self, statement: sa.Executable, values: Any = None) -> Sequence[sa.Row[Any]]:
        return self.connection.execute(statement, values).all()

    def one(self, statement: sa.Executable, values: Any = None) -> sa.Row[Any] | None:
        return self.connection.execute(statement, values).first()

    def value(self, statement: sa.Executable, values: Any = None) -> Any:
        return self.connection.execute(statement, values).scalar()

    def run(self, statement: sa.Executable, values: Any = None) -> int:
        """Execute a write; how many rows it touched."""
        return self.connection.execute(statement, values).rowcount

    def each(self, statement: sa.Executable, rows: Iterable[Mapping[str, object]]) -> int:
        """Execute a write once per row, or not at all where there is none."""
        many = list(rows)
        return self.run(statement, many) if many else 0


class Store:
    """Runs steps, each in one transaction of its own.

    A step that was begun is carried to its end even when its caller is cancelled, so that no
    connection is left in the middle of anything. Steps are run again when the database was
    busy or lost its connection, hence must not touch anything but the transaction, and must
    find what they did before (`Transaction.again`).
    """

    def __init__(self, database: Database, clock: Clock, rules: Rules) -> None:
        self._database = database
        self._clock = clock
        self._rules = rules
        self._steps: set[asyncio.Task[Any]] = set()
        self._closed = False

    async def read(self, step: Callable[[Transaction], T]) -> T:
        """Run a step that changes nothing, on one snapshot."""
        return await self._to_its_end(self._patiently(step, write=False))

    async def write(self, step: Callable[[Transaction], T]) -> T:
        """Run a step that may change something; all of it is durable when this returns."""
        return await self._to_its_end(self._patiently(step, write=True))

    async def listen(self, rung: Callable[[], None]) -> None:
        """Call `rung` whenever a transaction rang, until cancelled."""
        await self._database.listen(rung)

    async def close(self) -> None:
        """Wait for the steps under way and let go of the connections; refuse steps from now."""
        self._closed = True
        await asyncio.gather(*self._steps, return_exceptions=True)
        await self._database.close()

    async def _to_its_end(self, work: Coroutine[Any, Any, T]) -> T:
        if self._closed:
            work.close()
            raise LedgerUnavailable("The ledger is closed; open it again.")
        task = asyncio.ensure_future(work)
        self._steps.add(task)
        task.add_done_callback(self._steps.discard)
        task.add_done_callback(_retrieve)
        return await asyncio.shield(task)

    async def _patiently(self, step: Callable[[Transaction], T], *, write: bool) -> T:
        return await patiently(
            self._database, lambda again: self._transact(step, write=write, again=again)
        )

    async def _transact(self, step: Callable[[Transaction], T], *, write: bool, again: bool) -> T:
        database, clock, rules = self._database, self._clock, self._rules

        def work(connection: sa.Connection) -> T:
            at = database.moment(connection, clock)
            result = step(Transaction(connection, database, at, rules, again))
            if write:
                database.remember(connection, at)
            return result

        return await database.run(work, write=write)


async def patiently(database: Database, attempt: Callable[[bool], Awaitable[T]]) -> T:
    """Try until the database is no longer busy, or for as long as it asks to be waited for. The
    attempt is told whether an earlier one may have been committed.

    What breaks a rule of the tables is tried once more: an earlier try may have been committed
    while this one ran. Raises `StateConflict` or `LedgerUnavailable`.
    """
    doubt, conflicts = False, 0
    for pause in (*database.pauses, None):
        try:
            return await attempt(doubt)
        except IntegrityError as error:
            doubt, conflicts = True, conflicts + 1
            if pause is None or conflicts > 1:
                raise StateConflict(database.describe(error)) from error
        except database.errors as error:
            doubt = doubt or database.leaves_doubt(error)
            if pause is None or not database.is_busy(error):
                raise LedgerUnavailable(database.describe(error)) from error
            await asyncio.sleep(pause * (0.5 + jitter()))
    raise AssertionError("unreachable")


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Look at a step's error, so that one whose caller has gone is not reported as unseen."""
    if not task.cancelled():
        task.exception()
