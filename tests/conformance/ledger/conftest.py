"""One suite for every database the ledger runs on."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

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
