"""One suite for every database the ledger runs on; PostgreSQL joins by another parameter."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from batchmill.clock import ManualClock
from batchmill.fleet import Timing
from batchmill.ledger import SqlLedger
from tests.conformance.ledger.world import BEAT_SECONDS, LEASE_SECONDS, World

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


@pytest.fixture(params=["sqlite"])
def database(request: pytest.FixtureRequest, tmp_path: Path, migrated: Path) -> Path:
    """A fresh database, by path or URL."""
    assert request.param == "sqlite"
    path = tmp_path / "ledger.db"
    shutil.copyfile(migrated, path)
    return path


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def open_ledger(database: Path, clock: ManualClock) -> AsyncIterator[Open]:
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
