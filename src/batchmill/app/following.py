"""Follows what the operator changes while the processes run: the configuration file, and the
addresses of replicas. What is made of it stands in `roster.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import structlog

from batchmill.app.roster import Roster
from batchmill.config import Settings, file_to_read, load
from batchmill.errors import ConfigError

log = structlog.get_logger()

LOOK_SECONDS: Final = 2.0
"""How often the file is looked at; what is the same twice is read, so that no half is."""
LOOK_UP_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Source:
    """Where the settings came from. `flags` are those of the command line, as `load` has them."""

    flags: Mapping[str, Any]

    def content(self) -> bytes | None:
        """The bytes of the file; None where there is none that can be read."""
        file = file_to_read(self.flags)
        try:
            return None if file is None else file.read_bytes()
        except OSError:
            return None

    def settings(self) -> Settings:
        """What they say now. Raises `ConfigError`."""
        return load(self.flags)


class File:
    """The configuration file, as it was last looked at and last read."""

    def __init__(self, source: Source, roster: Roster) -> None:
        self._source, self._roster = source, roster
        self._read: bytes | None = None
        self._seen: bytes | None = None

    def look(self) -> None:
        """Read the file where it is another one than before, and is not being written."""
        content, before = self._source.content(), self._seen
        self._seen = content
        if content == before and content != self._read:
            self.read()

    def read(self) -> None:
        """Take the engines and aliases from the file; one with a mistake in it is refused as a
        whole, and so is one that is gone."""
        content, before = self._source.content(), self._read
        self._read = content
        if content is None and before is not None:
            log.warning("configuration_refused", problems=["config: the file is gone"])
            return
        try:
            late = self._roster.take(self._source.settings())
        except ConfigError as error:
            problems = [f"{problem.field}: {problem.message}" for problem in error.problems]
            log.warning("configuration_refused", problems=problems)
            return
        if before is not None:
            log.info("configuration_read", engines=len(self._roster.settings.engines))
        if late:
            log.warning("configuration_needs_restart", settings=late)


async def follow(
    roster: Roster, source: Source, asked: asyncio.Event, changed: Callable[[], None]
) -> None:
    """Look for ever, at the file at once where `asked` is set; `changed` is called when something
    may have changed."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_follow_file(File(source, roster), asked, changed))
        tasks.create_task(_follow_names(roster, changed))


async def _follow_file(file: File, asked: asyncio.Event, changed: Callable[[], None]) -> None:
    while True:
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await asked.wait()
        except TimeoutError:
            file.look()
        else:
            asked.clear()
            file.read()
        changed()


async def _follow_names(roster: Roster, changed: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(LOOK_UP_SECONDS)
        await roster.look_up()
        changed()
