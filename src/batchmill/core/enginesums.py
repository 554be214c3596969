"""Engines as all workers together see them. Pure: out of what the workers' beats say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from batchmill.fleet import EngineState, EngineStatus, Worker


@dataclass(frozen=True, slots=True)
class EngineSum:
    """One engine over the workers that live: `seen` is what they see of it together, its window
    and its calls in flight their sums, its decision the newest."""

    seen: EngineStatus
    workers: int


def sums(workers: Iterable[Worker], known: Iterable[EngineStatus]) -> tuple[EngineSum, ...]:
    """Every engine, by name; `known` are those that may have no worker now."""
    seen: dict[str, list[EngineStatus]] = {}
    for worker in workers:
        if worker.alive and worker.beat.sends:
            for status in worker.beat.engines:
                seen.setdefault(status.name, []).append(status)
    found = [EngineSum(_sum(statuses), len(statuses)) for statuses in seen.values()]
    found += [EngineSum(_unseen(each), 0) for each in known if each.name not in seen]
    return tuple(sorted(found, key=lambda each: each.seen.name))


def _sum(statuses: Sequence[EngineStatus]) -> EngineStatus:
    ups = [each for each in statuses if each.state is EngineState.UP]
    best = max(ups or statuses, key=lambda each: each.seen_at)
    decided = max(statuses, key=lambda each: each.decided_at)
    return replace(
        best,
        models=tuple(sorted({model for each in statuses for model in each.models})),
        in_flight=sum(each.in_flight for each in statuses),
        window=sum(each.window for each in statuses),
        limited=any(each.limited for each in statuses),
        running=max((each.running for each in statuses if each.running is not None), default=None),
        waiting=max((each.waiting for each in statuses if each.waiting is not None), default=None),
        decision=decided.decision,
        decided_at=decided.decided_at,
    )


def _unseen(status: EngineStatus) -> EngineStatus:
    """What is left of an engine that no living worker uses."""
    return EngineStatus(
        status.name,
        status.kind,
        EngineState.UNKNOWN,
        "no worker that uses it is alive",
        status.models,
        status.seen_at,
        simulated=status.simulated,
    )
