"""Where results go: a file that is there whole or not at all, standard output, or a URL."""

from __future__ import annotations

import asyncio
import base64
import errno
import os
import stat
import sys
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO, Final, Protocol
from urllib.parse import unquote, urlsplit, urlunsplit

from batchmill.app.run.wanted import STANDARD
from batchmill.errors import UserError

LOOK_SECONDS: Final = 0.1
_PARTIAL = ".batchmill-partial"
PACKED: Final = (".gz", ".zst", ".bz2", ".xz", ".zip")
"""Endings of names that say the content is packed."""


class Target(Protocol):
    """One place that takes bytes; nobody sees a file before `finish`."""

    def write(self, data: bytes) -> None:
        """Append. Raises `UserError` where it cannot be written."""

    def finish(self) -> None:
        """All has been written: make it durable, and visible under its name."""

    def abort(self) -> None:
        """Leave nothing behind; safe to call after `finish`."""


def is_url(place: str) -> bool:
    """Whether the place is fetched or put by HTTP."""
    return place.startswith(("http://", "https://"))


def shown(place: str) -> str:
    """A place without what only its owner may see: a URL's query and password. Raises `UserError`
    for a URL that is none."""
    if not is_url(place):
        return "standard output" if place == STANDARD else place
    try:
        parts = urlsplit(place)
        _ = parts.port
    except ValueError as error:
        message = "A URL for input or output cannot be used: its host or port cannot be one."
        raise UserError(message) from error
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def request_to(
    url: str, body: BinaryIO | None = None, headers: Mapping[str, str] | None = None
) -> urllib.request.Request:
    """A GET, or with a body a PUT. A user and password of the URL go in a header, to this server
    and no other that it redirects to."""
    parts = urlsplit(url)
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    method = "GET" if body is None else "PUT"
    request = urllib.request.Request(bare, body, dict(headers or {}), method=method)  # noqa: S310 - http(s)
    if "@" in parts.netloc:
        pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
        basic = base64.b64encode(pair.encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {basic}")
    return request


def file_of(place: str) -> Path | None:
    """The file that the place is or will be; None for standard output, URLs, pipes and devices."""
    if place == STANDARD or is_url(place):
        return None
    path = Path(place)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return path
    except OSError as error:
        raise UserError(f"{place} cannot be used: {error.strerror}.") from error
    if stat.S_ISDIR(mode):
        raise UserError(f"{place} is a directory; name a file in it.")
    return path if stat.S_ISREG(mode) else None


def has_content(place: str) -> bool:
    """Whether something stands there that would be lost."""
    path = file_of(place)
    return path is not None and path.exists() and path.stat().st_size > 0


def check_writable(place: str) -> None:
    """Raise `UserError` now rather than hours later where the file could not be made, or its name
    promised what is not in it."""
    name = shown(place)
    packing = next((each for each in PACKED if name.lower().endswith(each)), None)
    if packing is not None:
        raise UserError(
            f"Results are not packed; leave out the {packing} of {name} and pack them later."
        )
    path = file_of(place)
    if path is None:
        return
    real = Path(os.path.realpath(path))
    folder = real.parent
    if not folder.is_dir():
        raise UserError(
            f"{place} cannot be written: there is no directory {folder}; make it first."
        )
    if not os.access(folder, os.W_OK):
        raise UserError(f"{place} cannot be written: {folder} is not writable.")
    if len(os.fsencode(partial_of(real).name)) > os.pathconf(folder, "PC_NAME_MAX"):
        raise UserError(f"{place} cannot be written: its name is too long; choose a shorter one.")


def partial_of(path: Path) -> Path:
    """Where the file is written until it is whole."""
    return path.with_name(f".{path.name}{_PARTIAL}")


async def target_of(place: str, agree: Callable[[Path], None] | None = None) -> Target:
    """A target for the place, for a named pipe once somebody reads it; a URL is put by `puts.py`,
    from a file. `agree` is for a file, as `FileTarget` says."""
    path = file_of(place)
    if path is not None:
        return FileTarget(path, agree)
    if place == STANDARD:
        return StreamTarget(sys.stdout.buffer, place)
    while (stream := _read_by_somebody(Path(place))) is None:  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(LOOK_SECONDS)
    return StreamTarget(stream, place)


class FileTarget:
    """A file beside the one that is wanted, renamed to it when all is durable. A link stays one:
    what it leads to is replaced. `agree` is called with the whole file before the rename, and may
    raise to prevent it."""

    def __init__(self, path: Path, agree: Callable[[Path], None] | None = None) -> None:
        self._agree = agree
        self._path = Path(os.path.realpath(path))
        self._partial = partial_of(self._path)
        self._file = _opened(self._partial, "wb")
        self._is_open = True

    def write(self, data: bytes) -> None:
        _written(self._file, data, str(self._path))

    def finish(self) -> None:
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            if self._agree is not None:
                self._agree(self._partial)
            self._partial.replace(self._path)
            self._is_open = False
            _sync_directory(self._path.parent)
        except OSError as error:
            raise _unwritten(str(self._path), error) from error

    def abort(self) -> None:
        if self._is_open:
            self._is_open = False
            self._file.close()
            self._partial.unlink(missing_ok=True)


class StreamTarget:
    """Standard output, a pipe or a device: bytes are gone once they are written."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._stream, self._name = stream, name

    def write(self, data: bytes) -> None:
        _written(self._stream, data, shown(self._name))

    def finish(self) -> None:
        try:
            self._stream.flush()
            if self._stream is not sys.stdout.buffer:
                self._stream.close()
        except OSError as error:
            raise _unwritten(shown(self._name), error) from error

    def abort(self) -> None:
        """Nothing can be taken back; closing could wait for a reader that never reads on."""


def _opened(path: Path, mode: str) -> BinaryIO:
    try:
        return path.open(mode)  # type: ignore[return-value]  # the mode is binary
    except OSError as error:
        raise _unwritten(str(path), error) from error


def _read_by_somebody(path: Path) -> BinaryIO | None:
    """A pipe or device to write to, None for a pipe that nobody reads yet, where opening blocks."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ENXIO and path.is_fifo():
            return None
        raise _unwritten(str(path), error) from error
    os.set_blocking(handle, True)
    return os.fdopen(handle, "wb")


def _written(file: BinaryIO, data: bytes, name: str) -> None:
    try:
        file.write(data)
    except OSError as error:
        raise _unwritten(name, error) from error


def _unwritten(name: str, error: OSError) -> UserError:
    if isinstance(error, BrokenPipeError):
        return UserError(f"Nobody reads {name} any more.")
    return UserError(f"{name} cannot be written: {error.strerror or error}.")


def _sync_directory(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
