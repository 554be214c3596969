"""A world with a receiver for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from batchmill.clock import ManualClock
from batchmill.ledger import SqlLedger
from tests.conformance.ledger.world import World
from tests.receiver import Receiver, receiving


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    clock = ManualClock()
    ledger = await SqlLedger.open(tmp_path / "ledger.db", clock=clock)
    yield World(ledger, clock)
    await ledger.close_connections()
