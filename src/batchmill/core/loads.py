"""Looking at what engines say of their load, and telling operators of what follows from it."""

from __future__ import annotations

import structlog

from batchmill.clock import Clock
from batchmill.core.links import Link
from batchmill.core.window import Decision

log = structlog.get_logger()

LOOK_SECONDS = 1.0
ABSENT_SECONDS = 15.0
"""An engine that does not tell is asked again after so long."""
MISSES = 3
"""Looks in vain after which one that told does not tell any more: a busy one may be late."""
NEWS = 1.25
"""A window is told of when it is by so much another than when it was told of last."""


async def follow_load(link: Link, clock: Clock, _changed: object = None) -> None:
    """Ask an engine for its load for ever, at most once a second and only while it has calls of
    ours; returns where its window is fixed."""
    told: Decision | None = None
    tells: bool | None = None
    asked_at, misses = -ABSENT_SECONDS, 0
    while (window := link.gate.window) is not None:
        await clock.sleep(LOOK_SECONDS)
        if not link.gate.in_flight:
            link.load = None
        elif tells is not False or clock.boot() >= asked_at + ABSENT_SECONDS:
            asked_at = clock.boot()
            misses = 0 if await _look(link, clock) else misses + 1
            before, tells = tells, not misses or (bool(tells) and misses < MISSES)
            if tells is not before:
                log.info("engine_metrics", engine=link.spec.name, found=tells, means=_means(link))
        if is_news(told, window.decision):
            told = window.decision
            log.info("engine_window", engine=link.spec.name, window=told.size, why=told.why)


async def _look(link: Link, clock: Clock) -> bool:
    """Ask once; whether it told. What came and went meanwhile is taken for ours."""
    before = link.gate.in_flight
    link.load = await link.transport.load()
    link.gate.heard(link.load, max(before, link.gate.in_flight), clock.boot())
    return link.load is not None


def is_news(told: Decision | None, decision: Decision) -> bool:
    """Whether operators should hear of a decision: the window moved far, and not merely on."""
    if told is None:
        return bool(decision.at)
    moved = decision.size / max(1, told.size)
    return not 1.0 / NEWS <= moved <= NEWS and decision.at != told.at


def _means(link: Link) -> str:
    """What it means for the window that an engine tells of its load, or does not."""
    if link.load is not None:
        return "the window follows its queue"
    if link.spec.polite:
        return "others cannot be seen; politeness goes by how long our own answers take"
    return "the window goes by throughput alone"
