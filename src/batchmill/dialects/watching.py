"""What a reply that shows jobs needs to know of workers and engines."""

from __future__ import annotations

from batchmill.core.submit import has_room
from batchmill.dialects.progressobjects import FINISHED, Watch
from batchmill.model import TERMINAL, Job, JobId, JobState
from batchmill.web.services import Services

_LINED_UP = frozenset({JobState.QUEUED, JobState.RUNNING})


async def watch_over(services: Services, *jobs: Job) -> Watch:
    """A watch over these jobs; finished ones need nobody's word."""
    if all(job.state in TERMINAL for job in jobs):
        return FINISHED
    ledger = services.ledger
    tenants = {job.tenant for job in jobs if job.state in _LINED_UP}
    quotas = [await ledger.quota(tenant) for tenant in tenants]
    return Watch(
        await ledger.workers(),
        await services.catalogue(),
        await ledger.now(),
        has_room=await has_room(services.blobs, services.rules.low_disk_bytes),
        held_back=frozenset[JobId]().union(*(each.held_back for each in quotas)),
    )
