"""The blocking system calls that durable files are made of; their order stands in `local.py`.

They are one small class so that `tests/crash` can put a disk in their place that loses what was
never synced.
"""

from __future__ import annotations

import os
from pathlib import Path


class Disk:
    """A real disk. Every method blocks and raises `OSError`."""

    def make_directory(self, path: Path) -> None:
        """Make one directory for its owner alone; one that exists is fine."""
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            if not path.is_dir():
                raise

    def create(self, path: Path) -> int:
        """Open a new file for its owner alone."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def write(self, fd: int, data: bytes) -> None:
        """Append all of the data."""
        left = memoryview(data)
        while left:
            left = left[os.write(fd, left) :]

    def sync_data(self, fd: int) -> None:
        """Bring what was written to the medium."""
        os.fdatasync(fd)

    def close(self, fd: int) -> None:
        os.close(fd)

    def rename(self, source: Path, target: Path) -> None:
        """Give the file its name, in place of whatever had it."""
        source.rename(target)

    def sync_directory(self, path: Path) -> None:
        """Bring the names in a directory to the medium."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def remove(self, path: Path) -> None:
        """Remove the file; one that is not there is fine."""
        path.unlink(missing_ok=True)
