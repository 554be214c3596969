"""A mill for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.service.worker.mill import CALM, Mill, milling


@pytest.fixture
async def mill(tmp_path: Path) -> AsyncIterator[Mill]:
    async with milling(tmp_path) as opened:
        yield opened


@pytest.fixture
async def calm_mill(tmp_path: Path) -> AsyncIterator[Mill]:
    """A mill whose beat is long enough for a stopped shard's owner to close it itself."""
    async with milling(tmp_path, timing=CALM) as opened:
        yield opened
