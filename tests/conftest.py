"""What all tests share: those that need a quiet machine run while no other test does.

The tests of one file stay together, so that they share what they start; those of `crash/` share
nothing, and each goes where there is room. With several pytest
workers, a test that is marked `serial` holds a lock alone, every other test holds it together
with others. A gate in front of the lock keeps a waiting serial test from being overtaken for ever.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        serial = item.get_closest_marker("serial") is not None
        apart = item.nodeid if "crash" in item.path.parts else str(item.path)
        item.add_marker(pytest.mark.xdist_group("serial" if serial else apart))


@pytest.fixture(autouse=True)
def _alone_or_together(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        yield
        return
    shared = tmp_path_factory.getbasetemp().parent
    alone = request.node.get_closest_marker("serial") is not None
    how = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
    with _held(shared / "gate", fcntl.LOCK_EX) as gate, _held(shared / "lock", how):
        fcntl.flock(gate, fcntl.LOCK_UN)
        yield


@contextmanager
def _held(path: Path, how: int) -> Iterator[int]:
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, how)
        yield lock
    finally:
        os.close(lock)
