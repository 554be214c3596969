"""The directory of one run: the ledger and the blobs of its job, beside the output.

It is there for as long as the job is not done, and says so to the next run of the same command.
One run at a time has it, by the lock of `datadir.py`.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import urlsplit

from batchmill.app.datadir import ledger_path, locked, make_layout
from batchmill.app.run.claims import NOTE, WouldReplace
from batchmill.app.run.targets import file_of, is_url, partial_of
from batchmill.app.run.wanted import Wanted
from batchmill.errors import UserError

SUFFIX: Final = ".batchmill"
_MARK: Final = "batchmill-run"
"""Says of a directory that it is a run's, so that none of a `serve` is ever thrown away."""
_LOCK: Final = "serve.lock"
_OURS: Final = (
    "blobs",
    "input",
    "upload",
    "ledger.sqlite-shm",
    "ledger.sqlite-wal",
    NOTE,
    partial_of(Path(NOTE)).name,
)
_UNMARKED: Final = frozenset({_LOCK, ".writable", "blobs"})
"""What a run that ended before it left its mark may have left; `blobs` is empty then."""
_TRIES: Final = 3


@dataclass(frozen=True, slots=True)
class StateDir:
    """Where a run keeps what it has; `lasts` where the next run can find it."""

    path: Path
    lasts: bool

    @property
    def is_begun(self) -> bool:
        """Whether an earlier run left a ledger here."""
        return ledger_path(self.path).exists()

    def clear(self) -> None:
        """Throw away what an earlier run left, and nothing else that may lie here."""
        ledger_path(self.path).unlink(missing_ok=True)
        for name in _OURS:
            found = self.path / name
            while found.is_dir():
                with contextlib.suppress(FileNotFoundError):  # a sweep that goes on was quicker
                    shutil.rmtree(found)
            found.unlink(missing_ok=True)

    def remove(self) -> None:
        """The job is done and its results are where they were wanted. The ledger goes first: what
        is left after a crash is no state to go on from."""
        self.clear()
        for name in (_MARK, _LOCK):
            (self.path / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.path.rmdir()


@contextmanager
def held(wanted: Wanted) -> Iterator[StateDir]:
    """The run's own directory, made and locked for the block. Raises `UserError` where it cannot
    be made or is something else's, and `ConfigError` while another run has it."""
    beside = _beside(wanted.output) if wanted.state is None else wanted.state
    if beside is None:
        with _passing() as state:
            yield state
        return
    path = beside
    if path.exists() and not path.is_dir():
        raise UserError(f"{path} is a file, and the run needs a directory there; give --state DIR.")
    for _ in range(_TRIES):
        _refuse_foreign(path)
        make_layout(path)
        with locked(path, "batchmill run"):
            if (path / _LOCK).exists():
                _refuse_foreign(path)
                (path / _MARK).touch()
                yield StateDir(path, lasts=True)
                return
    raise UserError(f"{path} is being removed by another batchmill run; try again.")


@contextmanager
def _passing() -> Iterator[StateDir]:
    """A directory that goes with the block, unless answers in it were refused their place."""
    state = StateDir(Path(tempfile.mkdtemp(prefix="batchmill-run-")), lasts=False)
    mark = state.path / _MARK
    try:
        make_layout(state.path)
        yield state
    except WouldReplace:
        if state.is_begun:
            mark.touch()
        raise
    finally:
        if not mark.exists():
            shutil.rmtree(state.path, ignore_errors=True)


def _beside(output: str) -> Path | None:
    """Where the state of a run with that output is looked for; None where nobody would find it."""
    path = file_of(output)
    if path is None and is_url(output):
        path = Path(PurePosixPath(urlsplit(output).path).name or "output")
    return None if path is None else path.with_name(f"{path.name}{SUFFIX}")


def _refuse_foreign(path: Path) -> None:
    """Raise `UserError` where the directory holds what no run has put there: it could be lost."""
    try:
        names = {each.name for each in path.iterdir()}
        if _MARK in names:
            return
        has_blobs = "blobs" in names and any((path / "blobs").iterdir())
    except FileNotFoundError:
        return
    except OSError as error:
        message = f"{path} cannot be used: {error.strerror}; choose another --state."
        raise UserError(message) from error
    if ledger_path(path).name in names:
        raise UserError(
            f"{path} is the data directory of a batchmill serve; choose another --state."
        )
    if has_blobs or names - _UNMARKED:
        raise UserError(
            f"{path} has other files in it; give --state a directory that is empty or does not "
            "exist yet."
        )
