"""The crew: as many actors as the backlog asks for. Starts them, replaces those that died, and
drains those that are too many."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Final

import structlog

from batchmill.app.stores import open_ledger
from batchmill.clock import Clock, SystemClock
from batchmill.config import Settings
from batchmill.errors import ConfigError, LedgerUnavailable, Problem
from batchmill.ports import Ledger
from batchmill.ray.actor import RayWorker
from batchmill.ray.scaling import Bounds, Scaler

if TYPE_CHECKING:
    from ray.actor import ActorHandle

log = structlog.get_logger()

LOOK_SECONDS: Final = 2.0
LONGEST_PAUSE_SECONDS: Final = 60.0
MARGIN_SECONDS: Final = 15.0
"""What a stop may take beyond the drain time before the actor is killed."""


@dataclass(frozen=True, slots=True)
class _Member:
    """One actor, and the future that is done when it no longer works."""

    actor: ActorHandle[RayWorker]
    ended: asyncio.Future[None]


@dataclass(slots=True)
class _Crew:
    """The actors: those that work, and those that were asked to end."""

    ray: ModuleType
    settings: Settings
    options: Mapping[str, object]
    clock: Clock
    working: list[_Member] = field(default_factory=list)
    leaving: dict[asyncio.Future[None], tuple[_Member, float]] = field(default_factory=dict)
    _pause: float = 0.0
    _not_before: float = 0.0

    def resize(self, size: int) -> None:
        """Start what is missing, unless some died a moment ago; ask the newest to end that are
        too many."""
        missing = size - len(self.working)
        if missing > 0 and self.clock.boot() >= self._not_before:
            log.info("ray_workers_added", more=missing, workers=size)
            self.working += [self._start() for _ in range(missing)]
        while len(self.working) > size:
            self._ask_to_end(self.working.pop())

    def look(self) -> None:
        """Take note of those that ended, and kill those that take too long to."""
        for member in [each for each in self.working if each.ended.done()]:
            self.working.remove(member)
            self._pause = min(LONGEST_PAUSE_SECONDS, 2 * self._pause + 1.0)
            self._not_before = self.clock.boot() + self._pause
            log.error("ray_worker_died", ending=_ending(member), again_in_seconds=self._pause)
        for ended, (member, deadline) in list(self.leaving.items()):
            if ended.done():
                log.info("ray_worker_left", ending=_ending(member))
                del self.leaving[ended]
            elif self.clock.boot() >= deadline:
                log.warning("ray_worker_killed", after_seconds=self._patience)
                self.ray.kill(member.actor)
        if self.working and self.clock.boot() >= self._not_before + LONGEST_PAUSE_SECONDS:
            self._pause = 0.0

    async def wait(self, *others: asyncio.Future[None]) -> None:
        """Wait until an actor ended, one of `others` is done, or it is time to look again."""
        events = [*others, *(each.ended for each in self.working), *self.leaving]
        await asyncio.wait(events, timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)

    async def end(self) -> None:
        """Ask all to end, and wait until they have."""
        self.resize(0)
        while self.leaving:
            await self.wait()
            self.look()

    @property
    def _patience(self) -> float:
        return self.settings.drain_time.total_seconds() + MARGIN_SECONDS

    def _start(self) -> _Member:
        actor = self.ray.remote(RayWorker).options(**self.options).remote(self.settings)
        return _Member(actor, asyncio.wrap_future(actor.run.remote().future()))

    def _ask_to_end(self, member: _Member) -> None:
        log.info("ray_worker_asked_to_end", workers=len(self.working))
        member.actor.stop.remote()
        self.leaving[member.ended] = (member, self.clock.boot() + self._patience)


def _ending(member: _Member) -> str:
    """How an actor ended, in a word; its own log says more."""
    error = member.ended.exception()
    return type(error).__name__ if error else "by itself"


async def serve_workers(
    settings: Settings,
    bounds: Bounds,
    stop: asyncio.Event,
    *,
    actor_options: Mapping[str, object] | None = None,
    clock: Clock | None = None,
) -> None:
    """Keep as many workers on the connected Ray cluster as the backlog asks for, until `stop`;
    then drain them all.

    `actor_options` are Ray's own, such as `num_cpus`, `resources` and `runtime_env`. Raises
    `ConfigError` where Ray is missing or the ledger cannot be opened.
    """
    ray, ledger, clock = library(), await open_ledger(settings), clock or SystemClock()
    crew = _Crew(ray, settings, {"num_cpus": 1, **(actor_options or {})}, clock)
    scaler = Scaler(bounds)
    stopped = asyncio.ensure_future(_told(stop))
    try:
        while not stop.is_set():
            crew.look()
            if (open_lines := await _backlog(ledger)) is not None:
                crew.resize(scaler.size(open_lines, clock.boot()))
            await crew.wait(stopped)
        await crew.end()
    finally:
        stopped.cancel()
        await ledger.close_connections()


async def _told(stop: asyncio.Event) -> None:
    await stop.wait()


async def _backlog(ledger: Ledger) -> int | None:
    """The lines without an outcome; None while the ledger does not answer."""
    try:
        return await ledger.open_lines()
    except LedgerUnavailable as error:
        log.warning("backlog_unknown", error=str(error))
        return None


def library() -> ModuleType:
    """Ray itself. Raises `ConfigError` where it is not installed."""
    try:
        return importlib.import_module("ray")
    except ImportError:
        missing = "is not installed: pip install 'batchmill[ray]'"
        raise ConfigError([Problem("ray", missing)]) from None
