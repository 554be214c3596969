"""The data directory of one `serve`: its layout, and the locks that keep it to one at a time.

    ledger.sqlite   blobs/   serve.lock   children.lock

`serve.lock` is held by the parent, `children.lock` by it and every child: when a parent was
killed, its successor waits on the second until the last child is gone.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from batchmill.errors import ConfigError, Problem

_POLL_SECONDS = 0.05


def ledger_path(data: Path) -> Path:
    """Where the ledger's database lies."""
    return data / "ledger.sqlite"


def blobs_path(data: Path) -> Path:
    """Where the blobs lie."""
    return data / "blobs"


def make_layout(data: Path) -> None:
    """Make the directories, for this user alone. Raises `ConfigError` where that cannot be."""
    try:
        for directory in (data, blobs_path(data)):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = data / ".writable"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as e:
        raise _unusable(data, f"{data} cannot be written: {e.strerror}") from e


@contextmanager
def locked(data: Path, by: str = "batchmill serve") -> Iterator[None]:
    """Hold the directory for this process. Raises `ConfigError` while another one does, which it
    calls another `by`."""
    lock = _opened(data, "serve.lock")
    try:
        if not _taken(lock):
            holder = os.pread(lock, 32, 0).decode(errors="replace").strip() or "unknown"
            raise _unusable(data, f"{data} is in use by another {by} (process {holder})")
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(lock)


async def children_lock(data: Path, seconds: float) -> int:
    """A lock to be inherited by every child, taken once those of an earlier `serve` are gone.

    Raises `ConfigError` if they are not within that time. The caller closes it.
    """
    lock = _opened(data, "children.lock")
    try:
        async with asyncio.timeout(seconds):
            while not _taken(lock):  # noqa: ASYNC110 - nobody tells when a lock is let go
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
        os.close(lock)
        raise _unusable(
            data, f"{data} is still used by processes of an earlier batchmill serve; end them first"
        ) from None
    return lock


def _opened(data: Path, name: str) -> int:
    try:
        return os.open(data / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as e:
        raise _unusable(data, f"{data / name} cannot be opened: {e.strerror}") from e


def _taken(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _unusable(data: Path, message: str) -> ConfigError:
    return ConfigError([Problem("data", message, str(data))])
