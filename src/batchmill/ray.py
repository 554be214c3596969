"""Workers on a Ray cluster that exists already: one actor each, as many as the backlog asks for.

    python -m batchmill.ray --config batchmill.toml --max-workers 8

A worker is the same as that of `batchmill worker`; Ray only says where it runs. Actors may go at
any moment, alone or with their node: what they held is taken over within the lease time. They live
as long as the program that started them. Secrets travel as arguments of the actor and nowhere
else. Needs the extra `[ray]`, and Batchmill installed on every node.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Final

import structlog
import typer

from batchmill.app.children import Children, check_extras, new_worker_name
from batchmill.app.datadir import make_layout
from batchmill.app.stopping import ENGINES_SECONDS, children_seconds
from batchmill.app.stores import open_ledger
from batchmill.app.supervise import supervising
from batchmill.clock import Clock, SystemClock
from batchmill.config import Settings, load
from batchmill.errors import BatchmillError, ConfigError, LedgerUnavailable, Problem
from batchmill.ports import Ledger
from batchmill.telemetry import configure_logs

if TYPE_CHECKING:
    from ray.actor import ActorHandle

log = structlog.get_logger()

LINES_PER_WORKER: Final = 20_000
QUIET_SECONDS: Final = 60.0
"""A worker is taken away when it was not needed for so long."""
LOOK_SECONDS: Final = 2.0
LONGEST_PAUSE_SECONDS: Final = 60.0
MARGIN_SECONDS: Final = 15.0
"""What a stop may take beyond the drain time before the actor is killed."""


class RayWorker:
    """The actor: one worker and its embedded engines, which end when the actor's process does."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Work until `stop`, then drain."""
        configure_logs("ray-worker")
        check_extras(self._settings.engines)
        make_layout(self._settings.data)
        ledger = await open_ledger(self._settings)
        try:
            await self._work(Children(self._settings, ledger, new_worker_name()))
        finally:
            await ledger.close_connections()

    async def stop(self) -> None:
        """Let `run` come to its end."""
        self._stop.set()

    async def _work(self, children: Children) -> None:
        engines = children.engines()
        async with supervising() as supervisor:
            for child in engines:
                supervisor.start(child)
            await children.engines_accept()
            supervisor.start(children.worker())
            log.info("ray_worker_started", worker=children.worker_name)
            await self._stop.wait()
            await supervisor.stop(["worker"], children_seconds(self._settings))
            await supervisor.stop([child.name for child in engines], ENGINES_SECONDS)
        log.info("ray_worker_ended", worker=children.worker_name)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many workers there may be, and how many open lines each is for."""

    min_workers: int
    max_workers: int
    lines_per_worker: int = LINES_PER_WORKER

    def __post_init__(self) -> None:
        if not 0 <= self.min_workers <= self.max_workers or self.lines_per_worker < 1:
            message = "min_workers should be 0 or more, max_workers not less, lines_per_worker 1"
            raise ConfigError([Problem("workers", f"{message} or more")])

    def wanted(self, open_lines: int) -> int:
        """The workers that such a backlog asks for."""
        asked = -(-open_lines // self.lines_per_worker)
        return max(self.min_workers, min(self.max_workers, asked))


@dataclass(slots=True)
class Scaler:
    """The size of the crew: up at once, down when fewer were enough for `quiet_seconds`."""

    bounds: Bounds
    quiet_seconds: float = QUIET_SECONDS
    _size: int = 0
    _ample_since: float | None = None

    def size(self, open_lines: int, now: float) -> int:
        """How many workers there should be now."""
        wanted = self.bounds.wanted(open_lines)
        if wanted >= self._size:
            self._size, self._ample_since = wanted, None
        elif self._ample_since is None:
            self._ample_since = now
        elif now - self._ample_since >= self.quiet_seconds:
            self._size, self._ample_since = wanted, None
        return self._size


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

    async def wait(self, stop: asyncio.Future[object] | None = None) -> None:
        """Wait until an actor ended, it is time to look again, or `stop`."""
        events: list[asyncio.Future[object]] = [stop] if stop else []
        members = [each.ended for each in self.working] + list(self.leaving)
        await asyncio.wait(
            [*events, *members],
            timeout=LOOK_SECONDS,
            return_when=asyncio.FIRST_COMPLETED,
        )

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
    ray, ledger, clock = _library(), await open_ledger(settings), clock or SystemClock()
    crew = _Crew(ray, settings, {"num_cpus": 1, **(actor_options or {})}, clock)
    scaler = Scaler(bounds)
    stopped = asyncio.ensure_future(stop.wait())
    try:
        while not stop.is_set():
            crew.look()
            crew.resize(scaler.size(await _backlog(ledger), clock.boot()))
            await crew.wait(stopped)
        await crew.end()
    finally:
        stopped.cancel()
        await ledger.close_connections()


async def _backlog(ledger: Ledger) -> int:
    """The lines without an outcome; none while the ledger does not answer, which takes no worker
    away before it was long enough."""
    try:
        return await ledger.open_lines()
    except LedgerUnavailable as error:
        log.warning("backlog_unknown", error=str(error))
        return 0


def _library() -> ModuleType:
    try:
        import ray  # noqa: PLC0415 - an extra, and slow to import
    except ImportError:
        missing = "is not installed: pip install 'batchmill[ray]'"
        raise ConfigError([Problem("ray", missing)]) from None
    return ray


def main(
    config: Annotated[Path | None, typer.Option(help="TOML file (./batchmill.toml).")] = None,
    address: Annotated[str, typer.Option(help="The Ray cluster.")] = "auto",
    min_workers: Annotated[int, typer.Option(help="Workers at least.")] = 1,
    max_workers: Annotated[int, typer.Option(help="Workers at most.")] = 4,
    lines_per_worker: Annotated[
        int, typer.Option(help="Open lines for which one more worker is started.")
    ] = LINES_PER_WORKER,
    cpus: Annotated[float, typer.Option(help="CPUs that Ray sets aside for a worker.")] = 1.0,
) -> None:
    """Run workers on a Ray cluster until Ctrl-C or SIGTERM, as many as the backlog asks for."""
    try:
        settings = load({"config": config})
        bounds = Bounds(min_workers, max_workers, lines_per_worker)
        ray = _library()
        configure_logs("ray")
        ray.init(address=address)
        asyncio.run(_until_a_signal(settings, bounds, cpus))
    except BatchmillError as error:
        sys.exit(f"batchmill: {error}")


async def _until_a_signal(settings: Settings, bounds: Bounds, cpus: float) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with contextlib.suppress(asyncio.CancelledError):
        await serve_workers(settings, bounds, stop, actor_options={"num_cpus": cpus})


if __name__ == "__main__":
    from batchmill import ray as importable  # so that nodes find the actor's class by its module

    typer.run(importable.main)
