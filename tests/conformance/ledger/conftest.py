"""One suite for every database the ledger runs on."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from batchmill.clock import ManualClock
from batchmill.fleet import Timing
from batchmill.ledger import SqlLedger
from tests.conformance.ledger.world import BEAT_SECONDS, LEASE_SECONDS, World
from tests.postgres import postgres_server

__all__ = ["postgres_server"]

TIMING = Timing(LEASE_SECONDS, BEAT_SECONDS)
Open = Callable[..., Awaitable[SqlLedger]]


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with its tables and nothing else, to be copied."""
    path = tmp_path_factory.mktemp("ledger") / "template.db"

    async def make() -> None:
        ledger = await SqlLedger.open(path, clock=ManualClock())
        await ledger.close_connections()

    asyncio.run(make())
    return path


@pytest.fixture(params=["sqlite", "postgres"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which database; a test of one kind only says so by `@pytest.mark.parametrize`."""
    return request.param


@pytest.fixture
def place(
    request: pytest.FixtureRequest, kind: str, tmp_path: Path, migrated: Path
) -> Iterator[tuple[Path | str, ManualClock]]:
    """A fresh database, by path or URL, and the clock that it follows."""
    if kind == "sqlite":
        yield Path(shutil.copyfile(migrated, tmp_path / "ledger.db")), ManualClock()
        return
    server = request.getfixturevalue("postgres_server")
    with server.database() as (name, clock):
        yield server.url(name), clock


@pytest.fixture
def database(place: tuple[Path | str, ManualClock]) -> Path | str:
    return place[0]


@pytest.fixture
def clock(place: tuple[Path | str, ManualClock]) -> ManualClock:
    return place[1]


@pytest.fixture
def sql(request: pytest.FixtureRequest, kind: str, database: Path | str) -> Callable[[str], Any]:
    """Asks the database something behind the ledger's back; its rows."""
    if kind == "postgres":
        server, name = request.getfixturevalue("postgres_server"), str(database).rpartition("/")[2]
        return lambda statement: [tuple(row) for row in server.sql(statement, name)]

    def ask(statement: str) -> Any:
        with closing(sqlite3.connect(database)) as connection, connection:
            return connection.execute(statement).fetchall()

    return ask


@pytest.fixture
async def open_ledger(database: Path | str, clock: ManualClock) -> AsyncIterator[Open]:
    """Opens the database again, as another process would."""
    opened: list[SqlLedger] = []

    async def open_one(**values: object) -> SqlLedger:
        given = {"clock": clock, "timing": TIMING} | values
        ledger = await SqlLedger.open(database, **given)
        opened.append(ledger)
        return ledger

    yield open_one
    for ledger in opened:
        await ledger.close_connections()


@pytest.fixture
async def ledger(open_ledger: Open) -> SqlLedger:
    return await open_ledger()


@pytest.fixture
def world(ledger: SqlLedger, clock: ManualClock) -> World:
    return World(ledger, clock)
