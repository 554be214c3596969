"""What was submitted from this machine, so that no id is lost: a line for each step, in the user's
own state directory, written before the step's answer can be missed.

A submit that was cut off is found here by the same file and the same wishes, and goes on where it
was: with the same key the server makes no second job.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, TextIO

KEPT: Final = 1_000
LONGEST_BYTES: Final = 2_000_000
REPEATABLE_SECONDS: Final = 23 * 3600.0
"""The server knows a key for a day."""


@dataclass(frozen=True, slots=True)
class Submitted:
    """One submit or retry. `path` is where the lines came from: a file here, the id of one on the
    server, or the job that is retried; `wish` is a digest of the file's state and all that was
    asked for, empty for what is not sent again."""

    key: str
    path: str
    url: str
    wish: str
    at: float
    file: str | None = None
    job: str | None = None


class Notes:
    """The submits of this user, oldest first. A directory that cannot be written is no error:
    then nothing is found again."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "submitted.jsonl"

    def write(self, submitted: Submitted) -> None:
        """Note a submit as it stands; the newest note of a key holds."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._locked() as file:
                if file.seek(0, 2) > LONGEST_BYTES:
                    self._shorten(file)
                file.write(json.dumps(asdict(submitted)) + "\n")
        except OSError:
            return

    def unfinished(self, wish: str, now: float) -> Submitted | None:
        """A submit of the same wish of which no job is known, and which may be sent again."""
        for each in reversed(self._all()):
            if each.wish == wish:
                is_young = now - each.at < REPEATABLE_SECONDS
                return each if each.job is None and is_young else None
        return None

    def job_of(self, path: str, url: str) -> str | None:
        """The job last made from that file on that server."""
        return self._last(url, path)

    def last_job(self, url: str) -> str | None:
        """The job last made on that server."""
        return self._last(url, None)

    def _last(self, url: str, path: str | None) -> str | None:
        for each in reversed(self._all()):
            if each.job is not None and each.url == url and path in {None, each.path}:
                return each.job
        return None

    def _all(self) -> list[Submitted]:
        try:
            return _read(self._path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):
            return []

    @contextmanager
    def _locked(self) -> Iterator[TextIO]:
        with self._path.open("a+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file

    def _shorten(self, file: TextIO) -> None:
        file.seek(0)
        kept = _read(file.read())[-KEPT:]
        file.truncate(0)
        file.write("".join(json.dumps(asdict(each)) + "\n" for each in kept))


def _read(text: str) -> list[Submitted]:
    """The newest note of each key, in the order of the first."""
    found: dict[str, Submitted] = {}
    for line in text.splitlines():
        try:
            note = Submitted(**json.loads(line))
        except (ValueError, TypeError):
            continue
        earlier = found.get(note.key)
        found[note.key] = note if earlier is None else replace(note, at=earlier.at)
    return list(found.values())
