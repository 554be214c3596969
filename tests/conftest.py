"""What all tests share: the order in which they go, and a quiet machine for those that need one.

The tests of one file stay together, so that they share what they start; the long ones share
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

_LONG = frozenset({"crash", "test_engine_faults.py"})
"""Each test of these starts servers of its own, and takes from seconds to a minute."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        apart = item.nodeid if _is_long(item) else str(item.path)
        item.add_marker(pytest.mark.xdist_group("serial" if _is_serial(item) else apart))
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    """Beside the serial ones only what is over in a moment, since they wait for it; and the long
    ones before the rest, so that none is left alone at the end."""
    if _is_serial(item):
        return 0
    if "unit" in item.path.parts:
        return 1
    return 2 if _is_long(item) else 3


def _is_serial(item: pytest.Item) -> bool:
    return item.get_closest_marker("serial") is not None


def _is_long(item: pytest.Item) -> bool:
    return not _LONG.isdisjoint(item.path.parts)


@pytest.fixture(autouse=True)
def _alone_or_together(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        yield
        return
    shared = tmp_path_factory.getbasetemp().parent
    how = fcntl.LOCK_EX if _is_serial(request.node) else fcntl.LOCK_SH
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
