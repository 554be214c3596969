"""The engines and the worker of a run, in this process and under it, for as long as a job takes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from batchmill.app.children import Children, check_extras
from batchmill.app.orders import Orders
from batchmill.app.roster import Roster
from batchmill.app.stopping import ENGINES_SECONDS
from batchmill.app.stores import WORKER
from batchmill.app.supervise import supervising
from batchmill.app.worker import make_worker, opener
from batchmill.clock import Clock
from batchmill.config import Settings
from batchmill.core.models import Catalogue
from batchmill.core.progress import Progress, progress
from batchmill.core.worker import Worker
from batchmill.engines.budget import ByteBudget
from batchmill.errors import BatchmillError
from batchmill.fleet import EngineState, EngineStatus
from batchmill.model import DEFAULT_TENANT, Job, JobId
from batchmill.ports import Blobs, Ledger

LOOK_SECONDS: Final = 0.2
LEAST_HELD: Final = 32
HELD_SHARE: Final = 400
"""Of a job's lines so small a share may be answered and not durable yet: what a kill costs stays
small beside the job, however slow the disk is."""


@dataclass(frozen=True, slots=True)
class Mill:
    """A worker that runs, and what it works on."""

    ledger: Ledger
    blobs: Blobs
    settings: Settings
    clock: Clock
    _worker: Worker
    _running: asyncio.Future[None]

    @property
    def catalogue(self) -> Catalogue:
        """What the engines serve, as they were last seen."""
        return self._worker.catalogue()

    @property
    def engines(self) -> tuple[EngineStatus, ...]:
        return self.catalogue.engines

    def begin(self, job: Job) -> None:
        """Work on that job."""
        self._worker.hold_at_most(max(LEAST_HELD, job.total // HELD_SHARE))
        self._worker.wake()

    async def rest(self) -> None:
        """Wait for a moment. Raises what the worker broke with."""
        await asyncio.wait([self._running], timeout=LOOK_SECONDS)
        if self._running.done():
            self._running.result()

    async def look(self, job: JobId) -> tuple[Job, Progress]:
        """The job as it is now, and how far it is."""
        found = await self.ledger.job(DEFAULT_TENANT, job)
        assert found is not None
        workers, now = await self.ledger.workers(), await self.ledger.now()
        return found, progress(found, workers, self.catalogue, now)


@asynccontextmanager
async def milling(
    settings: Settings, ledger: Ledger, blobs: Blobs, clock: Clock, only_model: str | None
) -> AsyncIterator[Mill]:
    """The engines and the worker, running within the block and drained at its end."""
    check_extras(settings.engines)
    children = Children(Roster(settings), ledger, (WORKER,))
    failed: BatchmillError | None = None
    async with supervising() as supervisor:
        for child in (engines := children.engines()):
            supervisor.start(child)
        await children.engines_accept()
        worker = _worker(children, ledger, blobs, clock, only_model)
        stop = asyncio.Event()
        running = asyncio.ensure_future(worker.run(stop))
        try:
            yield Mill(ledger, blobs, settings, clock, worker, running)
        except BatchmillError as error:
            failed = error
        finally:
            stop.set()
            await running
        await supervisor.stop([child.name for child in engines], ENGINES_SECONDS)
    if failed is not None:
        raise failed


def _worker(
    children: Children, ledger: Ledger, blobs: Blobs, clock: Clock, only_model: str | None
) -> Worker:
    orders = Orders.of(children.settings, children.roster.specs(), worker=WORKER)
    budget = ByteBudget(children.settings.memory_budget)
    opened = opener(clock, budget)
    return make_worker(orders, ledger, blobs, clock, budget, opened, only_model=only_model)


def any_seen(engines: tuple[EngineStatus, ...]) -> bool:
    """Whether one has answered, so that its models are known."""
    return any(engine.state is EngineState.UP for engine in engines)
