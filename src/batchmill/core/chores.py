"""The phases of a job that are not its shards: one leased row each, run by whoever claims it.

validate   reads the whole input once, plans the shards      (validate.py)
           or, for a retry, keeps what its parent has         (children.py)
finalize   makes the result files and the terminal state visible
prune      forgets a finished job's results past their retention
sweep      deletes blobs that nobody refers to
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import assert_never

import structlog

from batchmill.clock import new_id
from batchmill.core.children import begin_child
from batchmill.core.lines import LineRules
from batchmill.core.models import Catalogue
from batchmill.core.validate import no_such_input, validate
from batchmill.errors import BlobMissing
from batchmill.model import BlobName, FileId, Job, Kind, Lease, LineError
from batchmill.ports import Blobs, Ledger

log = structlog.get_logger()

SWEEP_SECONDS = 30.0
ORPHAN_SCAN_SECONDS = 3600.0
DELIVERIES_KEPT_SECONDS = 30 * 86_400.0
BATCH = 500


@dataclass(frozen=True, slots=True)
class Chores:
    """Runs one chore at a time for a process. Lines whose model the `catalogue` of that moment
    cannot serve are bad ones."""

    ledger: Ledger
    blobs: Blobs
    rules: LineRules
    upload_retention_seconds: float
    catalogue: Callable[[], Awaitable[Catalogue]]

    async def run(self, lease: Lease, job: Job | None) -> None:
        """Do the leased chore to its end. Raises what the ports raise; the caller strikes."""
        match lease.kind:
            case Kind.VALIDATE if job is not None:
                await self._validate(lease, job)
            case Kind.FINALIZE if job is not None:
                await self._finalize(lease, job)
            case Kind.PRUNE:
                while (names := await self.ledger.prune(lease.job, BATCH)) is not None:
                    await self.blobs.delete_many(names)
                await self.ledger.done(lease)
            case Kind.SWEEP:
                await self._sweep(lease)
            case Kind.RUN | Kind.VALIDATE | Kind.FINALIZE | Kind.DELIVER:
                message = f"a {lease.kind} row is no chore, or has no job"
                raise ValueError(message)
            case _:
                assert_never(lease.kind)

    async def _validate(self, lease: Lease, job: Job) -> None:
        if job.retry_of is not None:
            await begin_child(lease, job, job.retry_of, self.ledger, self.blobs)
            return
        inputs = await self.ledger.job_inputs(job.id)
        if not inputs:
            await self.ledger.refuse(lease, [no_such_input(job)], 1)
            return
        rules = replace(self.rules, can_serve=(await self.catalogue()).can_serve)
        try:
            plan = await validate(job, inputs, self.blobs, rules)
        except BlobMissing as error:
            message = f"The input file can no longer be read: {error}"
            log.warning("job_input_missing", job=job.id, blob=error.name)
            await self.ledger.refuse(lease, [LineError("internal_error", message)], 1)
            return
        planned = await self.ledger.plan(lease, plan)
        log.info(
            "job_validated",
            job=job.id,
            state=planned.state,
            lines=plan.lines,
            shards=len(plan.shards),
            bad_lines=plan.errors_total,
        )

    async def _finalize(self, lease: Lease, job: Job) -> None:
        bare = job.id.replace("-", "")
        names = (f"batch_{bare}_output.jsonl", f"batch_{bare}_error.jsonl")
        ended = await self.ledger.finalize(lease, FileId(new_id()), FileId(new_id()), names)
        log.info(
            "job_ended",
            job=job.id,
            state=ended.state,
            total=ended.total,
            succeeded=ended.succeeded,
            failed=ended.failed,
        )

    async def _sweep(self, lease: Lease) -> None:
        now = await self.ledger.now()
        keep = self.upload_retention_seconds
        await self.blobs.delete_many(await self.ledger.expire_files(now - keep if keep else 0.0))
        while names := await self.ledger.expire_assemblies():
            await self.blobs.delete_many(names)
        await self.ledger.prune_deliveries(now - DELIVERIES_KEPT_SECONDS)
        await self.ledger.forget_workers()
        while names := await self.ledger.part_blobs_to_drop(BATCH):
            await self.blobs.delete_many(names)
            await self.ledger.dropped(names)
        if await self.ledger.scan_is_due(ORPHAN_SCAN_SECONDS):
            await sweep_orphans(self.ledger, self.blobs)
        await self.ledger.done(lease, again_after=SWEEP_SECONDS)


async def sweep_orphans(
    ledger: Ledger,
    blobs: Blobs,
    *,
    results_age_seconds: float = 600.0,
    uploads_age_seconds: float = 86_400.0,
) -> int:
    """Delete every blob that nothing refers to and nobody may still publish; how many.

    Published names decide; age only keeps it from what is being written this moment.
    """
    deleted = 0
    ages = {
        "jobs/": results_age_seconds,
        "inputs/": uploads_age_seconds,
        "uploads/": uploads_age_seconds,
        "bodies/": uploads_age_seconds,
        "probes/": uploads_age_seconds,
    }
    for prefix, age in ages.items():
        batch: list[BlobName] = []
        async for name in blobs.names(prefix, age):
            batch.append(name)
            if len(batch) >= BATCH:
                deleted += await _delete_unreferenced(ledger, blobs, batch)
                batch = []
        deleted += await _delete_unreferenced(ledger, blobs, batch)
    if deleted:
        log.info("orphans_swept", blobs=deleted)
    return deleted


async def _delete_unreferenced(ledger: Ledger, blobs: Blobs, names: list[BlobName]) -> int:
    if not names:
        return 0
    kept = await ledger.referenced(names)
    orphans = [name for name in names if name not in kept]
    await blobs.delete_many(orphans)
    return len(orphans)
