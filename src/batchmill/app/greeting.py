"""What a parent says at its start of the engines, once its worker has looked at them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final

from batchmill.app.children import Children
from batchmill.app.supervise import Supervisor
from batchmill.errors import LedgerError
from batchmill.fleet import EngineState, EngineStatus

ENGINES_SEEN_SECONDS: Final = 5.0
MODELS_SHOWN: Final = 5
_POLL_SECONDS: Final = 0.05


async def engines_seen(children: Children, supervisor: Supervisor) -> tuple[EngineStatus, ...]:
    """The engines as the first worker sees them first, or what is known when that takes too
    long."""
    seen = unseen_engines(children)
    if not seen:
        return seen
    with contextlib.suppress(TimeoutError, LedgerError):
        async with asyncio.timeout(ENGINES_SEEN_SECONDS):
            while True:
                for worker in await children.ledger.workers():
                    its = worker.pid == supervisor.pid("worker")
                    mine = worker.id == children.names[0] and its
                    seen = worker.beat.engines if mine and worker.beat.engines else seen
                if all(engine.state is not EngineState.UNKNOWN for engine in seen):
                    break
                await asyncio.sleep(_POLL_SECONDS)
    return seen


def unseen_engines(children: Children) -> tuple[EngineStatus, ...]:
    """The engines while nobody has looked at them."""
    specs = children.roster.specs()
    return tuple(EngineStatus(spec.name, spec.kind, EngineState.UNKNOWN) for spec in specs)


def engine_line(engines: Sequence[EngineStatus]) -> str:
    """All engines in one line, or how to have one."""
    if not engines:
        return "none; add one with --engine http://host:8000/v1, or --engine local for a demo"
    return "; ".join(_described(engine) for engine in engines)


def _described(engine: EngineStatus) -> str:
    match engine.state:
        case EngineState.UP:
            left_out = len(engine.models) - MODELS_SHOWN
            more = f" and {left_out} more" if left_out > 0 else ""
            models = ", ".join(engine.models[:MODELS_SHOWN]) + more or "no models"
            return f"{engine.name} serves {models}"
        case EngineState.DOWN:
            return f"{engine.name} is down: {engine.reason or 'no answer'}"
        case _:
            return f"{engine.name} has not answered yet"
