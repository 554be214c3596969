"""What a worker holds: its leases, and how each one's runner hears what renew answered. Here also
is how a lease is taken and given back by tasks that may be cancelled at any moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog

from batchmill.core.gate import Route
from batchmill.core.work import OpenShard
from batchmill.errors import LedgerUnavailable
from batchmill.model import Answer, JobId, Kind, Lease, Verdict
from batchmill.ports import Ledger

log = structlog.get_logger()

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """One lease in hand; `shard` where it is a shard."""

    lease: Lease
    tell: Callable[[Answer], None]
    shard: OpenShard | None = None


class Holdings:
    """The leases of one worker. `leases` is replaced as a whole, so that the heart's thread
    always reads a complete tuple."""

    def __init__(self) -> None:
        self._held: dict[tuple[JobId, Kind, int], Held] = {}
        self.leases: tuple[Lease, ...] = ()

    def hold(self, held: Held) -> None:
        """From now on renew asks for this lease. An older one of the same row is gone."""
        before = self._held.get(held.lease.key)
        if before is not None:
            before.tell(Answer(Verdict.GONE))
        self._held[held.lease.key] = held
        self._publish()

    def drop(self, lease: Lease) -> None:
        """And no longer; a newer lease of the same row stays."""
        held = self._held.get(lease.key)
        if held is not None and held.lease == lease:
            del self._held[lease.key]
            self._publish()

    def tell(self, lease: Lease, answer: Answer) -> None:
        """Pass an answer to the runner of this very lease, if it still runs."""
        held = self._held.get(lease.key)
        if held is not None and held.lease == lease:
            held.tell(answer)

    def tell_all_gone(self) -> int:
        """The leases may be somebody else's: throw everything away. How many there were."""
        held = tuple(self._held.values())
        for each in held:
            each.tell(Answer(Verdict.GONE))
        return len(held)

    def shards(self) -> list[OpenShard]:
        """The shards being run."""
        return [held.shard for held in self._held.values() if held.shard is not None]

    def routes(self) -> set[Route]:
        """Where the lines of these go."""
        return {
            (shard.job.endpoint, name) for shard in self.shards() for name in shard.names.values()
        }

    def holds_of(self, job: JobId) -> bool:
        """Whether a shard of that job is being run."""
        return any(each.lease.job == job for each in self._held.values() if each.shard is not None)

    def open_shard(self, job: JobId, n: int) -> OpenShard | None:
        """That shard of that job, if it is being run here and has been read."""
        held = self._held.get((job, Kind.RUN, n))
        shard = None if held is None else held.shard
        return shard if shard is not None and shard.opened else None

    def _publish(self) -> None:
        self.leases = tuple(held.lease for held in self._held.values())


async def claimed(
    claim: Coroutine[Any, Any, T | None], ledger: Ledger, lease_of: Callable[[T], Lease]
) -> T | None:
    """What a claim was granted, None where there is nothing or the ledger is away. Cancelled
    meanwhile, it gives back what it was granted: no row stays leased that nobody runs."""
    task = asyncio.ensure_future(claim)
    try:
        return await asyncio.shield(task)
    except LedgerUnavailable as error:
        log.warning("claim_failed", error=str(error))
        return None
    except asyncio.CancelledError:
        await asyncio.wait([task])
        granted = None if task.exception() else task.result()
        if granted is not None:
            await give_back(lease_of(granted), ledger)
        raise


async def give_back(lease: Lease, ledger: Ledger, *, after: float = 0.0) -> None:
    """Release a chore or delivery, to be claimed again so many seconds later. Where the ledger is
    away the lease is left to run out."""
    try:
        await ledger.release([lease], after=after)
    except LedgerUnavailable as error:
        log.warning("release_failed", kind=lease.kind, job=lease.job, error=str(error))
