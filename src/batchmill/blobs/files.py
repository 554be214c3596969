"""A directory of immutable files, blocking: where each goes and in which order it is made durable.

A file is written under a temporary name beside its own, synced and closed (`write`); then it
gets its name and its directory is synced (`publish`). A crash in between leaves a leftover that
`listing` shows. `local.py` runs all this in threads.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from batchmill.blobs.disk import Disk
from batchmill.blobs.naming import check_known, check_new
from batchmill.clock import new_id
from batchmill.errors import BlobMissing, BlobsUnavailable
from batchmill.model import BlobName
from batchmill.ports import Range

EMPTY_DIRECTORY_SECONDS = 86_400.0
_KNOWN_DIRECTORIES = 4096
_NEARBY_BYTES = 64 * 1024
WRITE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Place:
    """Where a blob goes, and where it is written before it has its name."""

    name: BlobName
    final: Path
    temporary: Path


class Files:
    """The files below `root`. Every method that touches the disk blocks."""

    def __init__(self, root: Path, disk: Disk) -> None:
        self._root, self._disk = root, disk
        self._known: set[Path] = set()
        with _unavailable(""):
            root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def place(self, name: BlobName) -> Place:
        """Where a new blob goes. Raises `BlobsUnavailable` for a name that cannot be a blob's."""
        check_new(name)
        final = self._root / name
        return Place(name, final, final.with_name(f"{final.name}~{new_id()}"))

    def path(self, name: BlobName) -> Path:
        """Where a blob or leftover is. Raises `BlobMissing` for a name that none can have."""
        check_known(name)
        return self._root / name

    def directory(self, below: str) -> Path:
        """Where the blobs are whose names begin with that and a slash; `""` is the top."""
        return self.path(BlobName(below)) if below else self._root

    def create(self, place: Place) -> int:
        """Open a new temporary file, in a directory whose own name is durable."""
        with _unavailable(place.name):
            for _ in range(2):
                with suppress(FileNotFoundError):
                    return self._create(place)
                self._known.clear()  # another process has cleared empty directories
            return self._create(place)

    def append(self, place: Place, fd: int, data: bytes) -> None:
        """Write to an open temporary file."""
        with _unavailable(place.name):
            self._disk.write(fd, data)

    def sync(self, place: Place, fd: int) -> None:
        """Make what was written durable."""
        with _unavailable(place.name):
            self._disk.sync_data(fd)

    def close(self, place: Place, fd: int) -> None:
        """Let go of an open temporary file."""
        with _unavailable(place.name):
            self._disk.close(fd)

    def write(self, place: Place, pieces: Sequence[bytes]) -> None:
        """Write a whole temporary file and make its bytes durable; none is left on failure."""
        fd = self.create(place)
        try:
            try:
                for data in _gathered(pieces):
                    self.append(place, fd, data)
                self.sync(place, fd)
            finally:
                self.close(place, fd)
        except BlobsUnavailable:
            self.clear([place])
            raise

    def publish(self, directory: Path, places: Sequence[Place]) -> None:
        """Give the files of one directory their names and make those durable."""
        with _unavailable(places[0].name):
            for place in places:
                self._disk.rename(place.temporary, place.final)
            self._disk.sync_directory(directory)

    def clear(self, places: Sequence[Place]) -> None:
        """Remove what temporary files there are; what cannot be removed stays a leftover."""
        for place in places:
            with suppress(OSError):
                self._disk.remove(place.temporary)

    def remove(self, names: Sequence[BlobName]) -> None:
        """Delete; names that do not exist are passed over."""
        for name in names:
            with _unavailable(name), suppress(NotADirectoryError):
                self._disk.remove(self.path(name))

    def read(self, name: BlobName, offset: int, length: int) -> bytes:
        """Exactly that run of a blob."""
        [data] = self.read_ranges([Range(name, offset, length)])
        return data

    def size(self, name: BlobName) -> int:
        """How many bytes a blob has."""
        with _readable(name):
            return self.path(name).stat().st_size

    def read_ranges(self, ranges: Sequence[Range]) -> list[bytes]:
        """Those runs, in the order given."""
        by_blob: dict[BlobName, list[int]] = {}
        for place, run in enumerate(ranges):
            by_blob.setdefault(run.blob, []).append(place)
        if len(by_blob) == 1:
            return self._read_runs(ranges[0].blob, ranges)
        found = [b""] * len(ranges)
        for name, places in by_blob.items():
            runs = self._read_runs(name, [ranges[place] for place in places])
            for place, data in zip(places, runs, strict=True):
                found[place] = data
        return found

    def _read_runs(self, name: BlobName, runs: Sequence[Range]) -> list[bytes]:
        """One read for runs that lie close together, else one for each."""
        start = min([run.offset for run in runs])
        end = max([run.offset + run.length for run in runs])
        with _readable(name):
            fd = os.open(self.path(name), os.O_RDONLY | os.O_CLOEXEC)
            try:
                if end - start > 2 * sum([run.length for run in runs]) + _NEARBY_BYTES:
                    return [_exactly(name, fd, run.offset, run.length) for run in runs]
                data = _exactly(name, fd, start, end - start)
            finally:
                os.close(fd)
        return [data[(at := run.offset - start) : at + run.length] for run in runs]

    def now(self) -> float:
        """The time by which the file system stamps files."""
        with _unavailable(""):
            os.utime(self._root)
            return self._root.stat().st_mtime

    def listing(
        self, directory: Path, now: float, older_than_seconds: float
    ) -> tuple[list[Path], list[BlobName]]:
        """The directories within a directory, and its files last written that long ago.

        A directory that has been empty for a day is removed.
        """
        with _unavailable(""):
            try:
                with os.scandir(directory) as entries:
                    found = list(entries)
                if not found and directory != self._root:
                    self._remove_empty(directory, now)
            except (FileNotFoundError, NotADirectoryError):
                return [], []
            inner = [Path(entry.path) for entry in found if entry.is_dir(follow_symlinks=False)]
            files = [entry for entry in found if entry.is_file(follow_symlinks=False)]
            return inner, [
                BlobName(str(Path(entry.path).relative_to(self._root)))
                for entry in files
                if _written_before(entry, now - older_than_seconds)
            ]

    def free_bytes(self) -> int:
        """Room left for us."""
        with _unavailable(""):
            room = os.statvfs(self._root)
            return room.f_bavail * room.f_frsize

    def _create(self, place: Place) -> int:
        self._ensure(place.final.parent)
        return self._disk.create(place.temporary)

    def _ensure(self, directory: Path) -> None:
        """Make the directory and its parents, and make their names durable. Those that another
        process made are synced too: it may have died before it did."""
        if directory == self._root or directory in self._known:
            return
        self._ensure(directory.parent)
        self._disk.make_directory(directory)
        self._disk.sync_directory(directory.parent)
        if len(self._known) >= _KNOWN_DIRECTORIES:
            self._known.clear()
        self._known.add(directory)

    def _remove_empty(self, directory: Path, now: float) -> None:
        if directory.stat().st_mtime < now - EMPTY_DIRECTORY_SECONDS:
            self._known.discard(directory)
            with suppress(OSError):
                directory.rmdir()


def _gathered(pieces: Sequence[bytes]) -> Iterator[bytes]:
    """The same bytes in writes of a useful size: small pieces joined, large ones as they are."""
    held: list[bytes] = []
    size = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= WRITE_BYTES:
            yield held[0] if len(held) == 1 else b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)


def _exactly(name: BlobName, fd: int, offset: int, length: int) -> bytes:
    data = os.pread(fd, length, offset)
    while len(data) < length:
        more = os.pread(fd, length - len(data), offset + len(data))
        if not more:
            raise BlobMissing(
                f"Blob {name} is shorter than what was written; it is damaged.", name=name
            )
        data += more
    return data


def _written_before(entry: os.DirEntry[str], moment: float) -> bool:
    try:
        return entry.stat(follow_symlinks=False).st_mtime <= moment
    except FileNotFoundError:
        return False


@contextmanager
def _unavailable(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = f"Blob {name}" if name else "The blob directory"
        raise BlobsUnavailable(
            f"{what} cannot be used now ({error.strerror}); see to the disk or its permissions.",
            name=name,
        ) from error


@contextmanager
def _readable(name: BlobName) -> Iterator[None]:
    with _unavailable(name):
        try:
            yield
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise BlobMissing(f"Blob {name} is not in the store.", name=name) from error
