"""Where the input comes from: a file (gzip too), standard input, or a URL, read piece by piece."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import os
import sys
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, cast

import msgspec

from batchmill.app.run.targets import PACKED, is_url, request_to, shown
from batchmill.app.run.wanted import STANDARD
from batchmill.errors import UserError

PIECE_BYTES: Final = 1024 * 1024
CONNECT_SECONDS: Final = 60.0


def shown_input(place: str) -> str:
    """The place of an input without what only its owner may see."""
    return "standard input" if place == STANDARD else shown(place)


class Origin(msgspec.Struct, frozen=True):
    """Which input a run has taken in. Size and time are 0 where there is no file; of a URL, whose
    query may hold a secret, a digest of the whole says whether it is the same."""

    place: str
    sha256: str
    size_bytes: int = 0
    modified_ns: int = 0
    url_sha256: str = ""

    @classmethod
    def of(cls, place: str, sha256: str, size_bytes: int, modified_ns: int) -> Origin:
        """What was read from that place."""
        return cls(shown_input(place), sha256, size_bytes, modified_ns, _url_digest(place))

    def refuse_change(self, place: str, state: Path) -> None:
        """Raise `UserError` where the input is not what was taken in. What a URL gave is not
        fetched again; standard input is read to its end."""
        if self.place != shown_input(place):
            what = f"This run was begun with -i {self.place}, and this is -i {shown_input(place)}."
        elif self.url_sha256 != _url_digest(place):
            what = f"This run was begun with another query or password in {self.place}."
        elif is_url(place) or self._is_same(place):
            return
        else:
            what = f"{shown_input(place)} has changed since this run was begun."
        raise UserError(
            f"{what} Give the input it was begun with to go on, or --restart to throw away what "
            f"is done (in {state}) and begin anew."
        )

    def _is_same(self, place: str) -> bool:
        if place != STANDARD:
            size_bytes, modified_ns = measure(place)
            if (size_bytes, modified_ns) == (self.size_bytes, self.modified_ns):
                return True
        digest = hashlib.sha256()
        for piece in pieces(place):
            digest.update(piece)
        return digest.hexdigest() == self.sha256


def _url_digest(place: str) -> str:
    return hashlib.sha256(place.encode()).hexdigest() if is_url(place) else ""


def measure(place: str) -> tuple[int, int]:
    """The size of an input file and when it was changed, 0 and 0 where it is none."""
    if place == STANDARD or is_url(place):
        return 0, 0
    try:
        found = Path(place).stat()
    except OSError as error:
        raise _unreadable(place, error) from error
    return found.st_size, found.st_mtime_ns


def check_readable(place: str) -> None:
    """Raise `UserError` where the input cannot be opened, or is packed as nobody here unpacks."""
    name = shown_input(place)
    packing = next((each for each in PACKED if name.lower().endswith(each)), ".gz")
    if packing != ".gz":
        raise UserError(f"{name} is packed: of these only .gz is read; unpack it first.")
    if place == STANDARD or is_url(place):
        return
    path = Path(place)
    if path.is_dir():
        raise UserError(f"{place} is a directory; name a file in it.")
    if not path.exists():
        raise UserError(f"There is no input file {place}.")
    if not os.access(path, os.R_OK):
        raise UserError(f"{place} cannot be read: permission denied.")


def plain_file(place: str) -> Path | None:
    """The file that the input is, where its bytes are the content."""
    path = None if place == STANDARD or is_url(place) else Path(place)
    is_plain = path is not None and path.is_file() and not place.lower().endswith(PACKED)
    return path if is_plain else None


def pieces(place: str) -> Iterator[bytes]:
    """The bytes of the input, unpacked where its name ends in `.gz`. Raises `UserError` where it
    cannot be read."""
    try:
        with _opened(place) as file:
            while piece := file.read(PIECE_BYTES):
                yield piece
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise UserError(f"{shown_input(place)} is no whole gzip file: {error}.") from error
    except urllib.error.HTTPError as error:
        message = f"{shown_input(place)} answered {error.code} {error.reason}; check the URL."
        raise UserError(message) from error
    except urllib.error.URLError as error:
        raise UserError(f"{shown_input(place)} cannot be fetched: {error.reason}.") from error
    except (OSError, http.client.HTTPException) as error:
        raise _unreadable(place, error) from error


@contextmanager
def _opened(place: str) -> Iterator[BinaryIO]:
    if place == STANDARD:
        yield sys.stdin.buffer
        return
    with _raw(place) as raw:
        is_packed = shown_input(place).lower().endswith(".gz")
        yield cast("BinaryIO", gzip.GzipFile(fileobj=raw)) if is_packed else raw
        missing = getattr(raw, "length", None)  # what a server promised and did not send
        if missing:
            message = f"{shown_input(place)} broke off {missing:,} bytes before its end"
            raise UserError(f"{message}; try again.")


def _raw(place: str) -> BinaryIO:
    if not is_url(place):
        return Path(place).open("rb")
    request = request_to(place)
    return cast("BinaryIO", urllib.request.urlopen(request, timeout=CONNECT_SECONDS))  # noqa: S310 - http(s), by is_url


def _unreadable(place: str, error: Exception) -> UserError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return UserError(f"{shown_input(place)} cannot be read: {reason}.")
