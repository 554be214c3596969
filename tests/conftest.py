"""What all tests share: which run together and in which order, and a quiet machine for those that
need one.

The tests of one file stay together, so that they share what they start, as do those of one release
of an SDK; the long ones share nothing, and each goes where there is room. With several pytest
workers, a test that is marked `serial` holds a lock alone, every other test holds it together
with others. A gate in front of the lock keeps a waiting serial test from being overtaken for ever.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

_LONG = frozenset({"crash", "test_engine_faults.py"})
"""Each test of these starts servers of its own, and takes from seconds to a minute."""
_RELEASE = re.compile(r"_sdks\.py::\w+\[([a-z]+-[a-z]+-[\d.]+)-")


class Companies(LoadScopeScheduling):
    """Deals out the tests: those that share what they start go to one worker. The marks for that
    in xdist 3.8 reach no scheduler under pytest 9.2, which reads names elsewhere."""

    def _split_scope(self, nodeid: str) -> str:
        path = Path(nodeid.partition("::")[0])
        if _is_long(path):
            return nodeid
        release = _RELEASE.search(nodeid)
        return str(path) if release is None else release[1]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Companies:
    config.option.loadscopereorder = False  # they are in order
    return Companies(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    """Beside the serial ones only what is over in a moment, since they wait for it; and the long
    ones before the rest, so that none is left alone at the end."""
    if _is_serial(item):
        return 0
    path = Path(item.nodeid.partition("::")[0])
    if "unit" in path.parts:
        return 1
    return 2 if _is_long(path) else 3


def _is_serial(item: pytest.Item) -> bool:
    return item.get_closest_marker("serial") is not None


def _is_long(path: Path) -> bool:
    return not _LONG.isdisjoint(path.parts)


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
