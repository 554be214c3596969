"""Claims the chores that are due and runs them one after the other (`chores.py` does them)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from batchmill.core.chores import Chores
from batchmill.core.collect import StorageSaid
from batchmill.core.holdings import Held, Holdings, claimed, give_back
from batchmill.errors import BlobsUnavailable, LeaseLost, LedgerUnavailable
from batchmill.model import Answer, Job, Kind, Lease, Owner, Verdict

log = structlog.get_logger()

DELETING = frozenset({Kind.PRUNE, Kind.SWEEP})
"""A store that refuses to delete may take answers all the same."""
GIVEN_BACK_SECONDS = 1.0
"""How long a row rests whose chore found a store that cannot be used now."""


class Housekeeper:
    """Runs the chores of some kinds for one process; several of them work side by side.

    `look` is called after each chore: what it changed may be work for others.
    """

    def __init__(
        self,
        chores: Chores,
        holdings: Holdings,
        kinds: Sequence[Kind],
        look: Callable[[], None],
        storage: StorageSaid,
    ) -> None:
        self._chores, self._holdings, self._kinds, self._look = chores, holdings, kinds, look
        self._wake, self._storage = asyncio.Event(), storage

    def wake(self) -> None:
        """Something may be due."""
        self._wake.set()

    async def run(self, owner: Owner) -> None:
        """Run the due chores for ever; cancelled, it gives back the one in hand."""
        while True:
            ledger = self._chores.ledger
            due = await claimed(ledger.claim_chore(owner, self._kinds), ledger, _lease_of)
            if due is None:
                await self._wake.wait()
                self._wake.clear()
            else:
                await self._do(*due)

    async def _do(self, lease: Lease, job: Job | None) -> None:
        task = asyncio.ensure_future(self._chores.run(lease, job))

        def tell(answer: Answer) -> None:
            if answer.verdict is Verdict.GONE:
                task.cancel()

        self._holdings.hold(Held(lease, tell))
        try:
            await asyncio.wait([task])
            await self._conclude(lease, task)
        except asyncio.CancelledError:
            task.cancel()
            await give_back(lease, self._chores.ledger)
            raise
        finally:
            self._holdings.drop(lease)
            self._look()

    async def _conclude(self, lease: Lease, task: asyncio.Future[None]) -> None:
        """What follows from how a chore ended. One that broke is tried again, five times."""
        error = None if task.cancelled() else task.exception()
        if error is None or isinstance(error, LeaseLost):
            return
        log.warning("chore_failed", kind=lease.kind, job=lease.job, error=str(error))
        if isinstance(error, BlobsUnavailable) and lease.kind not in DELETING:
            self._storage(written=False)
        if isinstance(error, (BlobsUnavailable, LedgerUnavailable)):
            await give_back(lease, self._chores.ledger, after=GIVEN_BACK_SECONDS)
            return
        try:
            await self._chores.ledger.strike(lease, f"{type(error).__name__}: {error}")
        except LedgerUnavailable as away:
            log.warning("strike_failed", kind=lease.kind, job=lease.job, error=str(away))


def _lease_of(due: tuple[Lease, Job | None]) -> Lease:
    return due[0]
