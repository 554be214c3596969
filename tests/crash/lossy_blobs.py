"""A blob store on a disk that loses, when the power goes, whatever was not synced.

`LossyBlobs` is the real local store over `LossyDisk`. After `lose_power_after(n)` the nth system
call from then on fails with `PowerLost`, and so does every later one, until `crash()` has taken
away what was not durable and the store runs again, as after a restart.

What a crash takes: the bytes of files that were not synced after their last write; and, from
the names made, changed or removed in directories that were not synced since, all but the first
`kept`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from batchmill.blobs.disk import Disk
from batchmill.blobs.local import LocalBlobs


class PowerLost(Exception):
    """The machine is off."""


@dataclass
class Change:
    """A name in a directory that a crash may still undo."""

    directory: Path
    undo: Callable[[], None]


class LossyDisk(Disk):
    """A disk whose power can be lost between any two calls."""

    def __init__(self) -> None:
        self.calls_left: int | None = None
        self._lock = Lock()
        self._open: dict[int, Path] = {}
        self._unsynced: set[int] = set()
        """Inodes with bytes that are only in memory."""
        self._changes: list[Change] = []

    def make_directory(self, path: Path) -> None:
        with self._lock:
            self._tick()
            is_new = not path.exists()
            super().make_directory(path)
            if is_new:
                self._changed(path, lambda: shutil.rmtree(path, ignore_errors=True))

    def create(self, path: Path) -> int:
        with self._lock:
            self._tick()
            fd = super().create(path)
            self._open[fd] = path
            self._changed(path, lambda: path.unlink(missing_ok=True))
            return fd

    def write(self, fd: int, data: bytes) -> None:
        with self._lock:
            self._tick()
            self._unsynced.add(os.fstat(fd).st_ino)
            super().write(fd, data)

    def sync_data(self, fd: int) -> None:
        with self._lock:
            self._tick()
            self._unsynced.discard(os.fstat(fd).st_ino)

    def close(self, fd: int) -> None:
        with self._lock:
            del self._open[fd]
            super().close(fd)

    def rename(self, source: Path, target: Path) -> None:
        with self._lock:
            self._tick()
            before = target.read_bytes() if target.exists() else None
            super().rename(source, target)

            def undo() -> None:
                target.rename(source)
                if before is not None:
                    target.write_bytes(before)

            self._changed(target, undo)

    def sync_directory(self, path: Path) -> None:
        with self._lock:
            self._tick()
            self._changes = [change for change in self._changes if change.directory != path]

    def remove(self, path: Path) -> None:
        with self._lock:
            self._tick()
            if path.exists():
                before = path.read_bytes()
                super().remove(path)
                self._changed(path, lambda: path.write_bytes(before) and None)

    def crash(self, kept: int = 0) -> None:
        """Lose the power, with what was not durable, and come back."""
        for fd in list(self._open):
            self.close(fd)
        for change in reversed(self._changes[kept:]):
            if change.directory.exists():
                change.undo()
        self._changes.clear()
        self.calls_left = None

    def lose_bytes(self, root: Path) -> None:
        """Cut every file that was not synced in half."""
        for path in root.rglob("*"):
            if path.is_file() and path.stat().st_ino in self._unsynced:
                os.truncate(path, path.stat().st_size // 2)
        self._unsynced.clear()

    def _changed(self, path: Path, undo: Callable[[], None]) -> None:
        self._changes.append(Change(path.parent, undo))

    def _tick(self) -> None:
        if self.calls_left is not None:
            if self.calls_left <= 0:
                raise PowerLost
            self.calls_left -= 1


class LossyBlobs(LocalBlobs):
    """The local store on a `LossyDisk`."""

    def __init__(self, root: Path, disk: LossyDisk | None = None) -> None:
        self.root = root
        self.disk = disk or LossyDisk()
        super().__init__(root, self.disk)

    def lose_power_after(self, calls: int) -> None:
        """Let so many system calls succeed and no other."""
        self.disk.calls_left = calls

    def crash(self, kept: int = 0) -> None:
        """Lose what was not durable, but for the first `kept` changes of names, and restart."""
        self.disk.lose_bytes(self.root)
        self.disk.crash(kept)
        super().__init__(self.root, self.disk)
