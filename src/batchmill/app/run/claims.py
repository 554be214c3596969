"""Which files of results a run has written itself: only these does it replace without `--force`.

Each is noted in the state directory once it is whole, durably, before it takes its name: a run that
was killed in between knows it again. What is not as it was noted is its user's.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from batchmill.app.run.targets import FileTarget, has_content
from batchmill.errors import UserError

NOTE: Final = "handed.json"


class WouldReplace(UserError):
    """A file of the user's stands where results are to go; nothing of either is lost."""

    @classmethod
    def at(cls, place: str) -> WouldReplace:
        """The refusal to write there."""
        return cls(f"{place} exists already; name another file, or replace it with --force.")

    def kept_in(self, state: Path) -> WouldReplace:
        """The same refusal of a run that has begun, with the way on."""
        return WouldReplace(
            f"{self} What is done stays in {state}; to go on with another name: --state {state}."
        )


class _Stamp(msgspec.Struct, frozen=True):
    """By what a file is known again: a rename changes neither, an edit the second at least."""

    size_bytes: int
    modified_ns: int


@dataclass(frozen=True, slots=True)
class Claims:
    """The files that the run of this state directory has written; none where `state` is None.
    With `force` it may replace all others too."""

    state: Path | None
    force: bool

    def refuse_overwriting(self, place: str) -> None:
        """Raise `WouldReplace` where a file with something in it would be lost that is not ours."""
        if self.force or not has_content(place):
            return
        if _stamp(Path(place)) not in self._noted().get(_name(place), ()):
            raise WouldReplace.at(place)

    def take(self, place: str, whole: Path) -> None:
        """Note durably that the file `whole`, about to be renamed to the place, is ours, as
        is what we wrote there before: the rename may not happen. Raises `WouldReplace` as
        `refuse_overwriting` does."""
        self.refuse_overwriting(place)
        assert self.state is not None
        noted = self._noted()
        stands = [_stamp(Path(place))] if Path(place).exists() else []
        ours = [stamp for stamp in noted.get(_name(place), ()) if stamp in stands]
        noted[_name(place)] = [*ours, _stamp(whole)]
        target = FileTarget(self.state / NOTE)
        try:
            target.write(msgspec.json.encode(noted))
            target.finish()
        finally:
            target.abort()

    def _noted(self) -> dict[str, list[_Stamp]]:
        if self.state is None or not (self.state / NOTE).exists():
            return {}
        return msgspec.json.decode((self.state / NOTE).read_bytes(), type=dict[str, list[_Stamp]])


def _name(place: str) -> str:
    """The file itself, from wherever it is looked at; the bytes of a name need not be UTF-8."""
    return os.fsencode(os.path.realpath(place)).decode(errors="backslashreplace")


def _stamp(path: Path) -> _Stamp:
    found = path.stat()
    return _Stamp(found.st_size, found.st_mtime_ns)
