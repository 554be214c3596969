"""What all tests share: crash tests and timings run while no other test does.

The tests of one file stay together, so that they share what they start. With several pytest
workers, a `serial` test (marked so, or below tests/crash) holds a lock
alone, every other test holds it together with others. A gate in front of the lock keeps a
waiting serial test from being overtaken for ever.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SERIAL_FOLDERS = {"crash"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if SERIAL_FOLDERS & set(item.path.relative_to(Path(__file__).parent).parts):
            item.add_marker(pytest.mark.serial)
        serial = item.get_closest_marker("serial") is not None
        item.add_marker(pytest.mark.xdist_group("serial" if serial else str(item.path)))


@pytest.fixture(autouse=True)
def _alone_or_together(request: pytest.FixtureRequest) -> Iterator[None]:
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    if run is None:
        yield
        return
    place = Path(tempfile.gettempdir()) / f"batchmill-tests-{run}"
    alone = request.node.get_closest_marker("serial") is not None
    how = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
    with _held(f"{place}.gate", fcntl.LOCK_EX) as gate, _held(f"{place}.lock", how):
        fcntl.flock(gate, fcntl.LOCK_UN)
        yield


@contextmanager
def _held(path: str, how: int) -> Iterator[int]:
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, how)
        yield lock
    finally:
        os.close(lock)
