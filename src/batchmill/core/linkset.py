"""The engines of one worker as a set, which may change while it works. One of them is a `Link`
(`links.py`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import structlog

from batchmill.calls import Transport
from batchmill.clock import Clock
from batchmill.core.gate import Route
from batchmill.core.links import Link, follow_schedule, watch
from batchmill.core.links import link as new_link
from batchmill.core.loads import follow_load
from batchmill.core.models import is_known
from batchmill.fleet import EngineSpec, EngineStatus

log = structlog.get_logger()

Opener = Callable[[EngineSpec], Transport]
Out = Callable[[Link], Iterable[Route]]
"""The routes of the calls that are out to an engine, one for each call."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What is other in a new set of engines; by name."""

    added: tuple[EngineSpec, ...] = ()
    changed: tuple[EngineSpec, ...] = ()
    removed: frozenset[str] = frozenset()

    @property
    def unused(self) -> frozenset[str]:
        """Those whose present connections nobody needs any more."""
        return self.removed | {spec.name for spec in self.changed}


def difference(before: Iterable[EngineSpec], after: Iterable[EngineSpec]) -> Difference:
    """What to do to come from one set of engines to another. Pure."""
    old, new = {spec.name: spec for spec in before}, {spec.name: spec for spec in after}
    return Difference(
        tuple(spec for name, spec in new.items() if name not in old),
        tuple(spec for name, spec in new.items() if name in old and old[name] != spec),
        frozenset(old.keys() - new.keys()),
    )


def is_same_but_for_the_way(before: EngineSpec, after: EngineSpec) -> bool:
    """Whether only the key or the time of a call changed: what is known of the engine holds."""
    new_way = replace(before, key=after.key, timeout_seconds=after.timeout_seconds)
    return new_way == after


class Links:
    """The engines of one worker, in order of their names' first appearance.

    What iterates holds the set as it is at that moment. `window` is how many lines they may soon
    have in flight together.
    """

    def __init__(self, engines: Iterable[tuple[EngineSpec, Transport]]) -> None:
        self._links = tuple(new_link(spec, transport) for spec, transport in engines)
        self._watches: dict[Link, list[asyncio.Task[None]]] = {}
        self._begin: Callable[[Link], None] | None = None

    def __iter__(self) -> Iterator[Link]:
        return iter(self._links)

    @property
    def window(self) -> int:
        return sum(each.window for each in self._links)

    def statuses(self) -> tuple[EngineStatus, ...]:
        """What was last seen of each."""
        return tuple(each.status for each in self._links)

    def remember(self, seen: Iterable[EngineStatus]) -> None:
        """Hold for what engines serve that were not seen yet what they did when somebody saw them
        last, or what another replica of the same engine does."""
        names = {engine.name: engine for engine in seen if is_known(engine)}
        replicas = {
            each.spec.url: each.status.models
            for each in self._links
            if each.spec.connect_to and each.status.models
        }
        for each in self._links:
            if is_known(each.status):
                continue
            if (before := names.get(each.spec.name)) is not None:
                each.status = replace(each.status, models=before.models, seen_at=before.seen_at)
            elif each.spec.connect_to:
                each.status = replace(each.status, models=replicas.get(each.spec.url, ()))

    def keep_routes(self, routes: Collection[Route]) -> None:
        """Keep only what is known of these routes, and what concerns all of an engine."""
        for each in self._links:
            each.gate.keep_routes(routes)

    async def watch(self, clock: Clock, changed: Callable[[], None]) -> None:
        """Probe all of them and follow their schedules for ever, also those that are added;
        `changed` is called when something about one changed."""
        async with asyncio.TaskGroup() as tasks:

            def begin(link: Link) -> None:
                self._watches[link] = [
                    tasks.create_task(keep(link, clock, changed))
                    for keep in (follow_schedule, follow_load, watch)
                ]

            self._begin = begin
            for each in self._links:
                begin(each)
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                self._begin = None

    def change(self, specs: Sequence[EngineSpec], opened: Opener, out: Out) -> list[Transport]:
        """Use these engines from now on; what is no longer used is the caller's to close. Calls
        that are out come back as they would have; an engine that is removed gets nothing new."""
        differs = difference((each.spec for each in self._links), specs)
        changed = {spec.name: spec for spec in differs.changed}
        left = [each.transport for each in self._links if each.spec.name in differs.unused]
        kept: list[Link] = []
        for each in self._links:
            if each.spec.name in differs.unused:
                self._end(each)
            if each.spec.name in differs.removed:
                each.gate.closes_at = 0.0
                continue
            if (spec := changed.get(each.spec.name)) is not None:
                _change(each, spec, opened(spec), out)
            kept.append(each)
        self._links = (*kept, *(new_link(spec, opened(spec)) for spec in differs.added))
        for each in self._links:
            if each not in self._watches and self._begin is not None:
                self._begin(each)
        _say(differs)
        return left

    async def close(self) -> None:
        """Let go of every engine's connections."""
        for each in self._links:
            await each.transport.close()

    def _end(self, link: Link) -> None:
        for task in self._watches.pop(link, ()):
            task.cancel()


def _change(link: Link, spec: EngineSpec, transport: Transport, out: Out) -> None:
    """Let the link lead to the engine as it is now. Where more than the way to it changed nothing
    that was learned holds, but what is out counts on."""
    fresh, seen = new_link(spec, transport), link.status
    if is_same_but_for_the_way(link.spec, spec):
        link.gate.open_all()
    else:
        for route in out(link):
            fresh.gate.sent(route)
        fresh.gate.alone = link.gate.alone
        link.gate, link.trust = fresh.gate, fresh.trust
    if (link.spec.url, link.spec.connect_to) == (spec.url, spec.connect_to):
        fresh.status = replace(
            fresh.status,
            state=seen.state,
            reason=seen.reason,
            models=seen.models,
            seen_at=seen.seen_at,
        )
    link.spec, link.transport, link.status = spec, transport, fresh.status


def _say(differs: Difference) -> None:
    for spec in differs.added:
        log.info("engine_added", engine=spec.name)
    for spec in differs.changed:
        log.info("engine_changed", engine=spec.name)
    for name in sorted(differs.removed):
        log.info("engine_removed", engine=name)
