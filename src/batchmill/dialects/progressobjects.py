"""The `progress` object that every job carries in both dialects."""

from __future__ import annotations

from dataclasses import asdict

from pydantic import BaseModel, Field

from batchmill.core.models import Catalogue
from batchmill.core.progress import progress
from batchmill.core.submit import has_room
from batchmill.fleet import Worker
from batchmill.model import (
    TERMINAL,
    Job,
    WaitingReason,
)
from batchmill.web.services import Services


class ProgressObject(BaseModel):
    """How far the job is. `waiting_reason` says why nothing moves; null while lines do."""

    done: int = Field(description="Lines that were answered")
    failed: int = Field(description="Lines in the error file: failed, expired, cancelled")
    retrying: int = Field(description="Lines that wait for another try")
    in_flight: int = Field(description="Lines at an engine now")
    left: int
    lines_per_second: float
    input_tokens: int
    output_tokens: int
    estimated_seconds_left: int | None
    last_progress_at: int | None
    waiting_reason: WaitingReason | None


class Watch:
    """What the workers and engines last said, read once for all jobs of one reply."""

    def __init__(
        self,
        workers: tuple[Worker, ...],
        catalogue: Catalogue,
        now: float,
        *,
        has_room: bool = True,
    ) -> None:
        self._workers = workers
        self._catalogue = catalogue
        self._now = now
        self._has_room = has_room

    @classmethod
    async def over(cls, services: Services, *jobs: Job) -> Watch:
        """A watch over these jobs; finished ones need nobody's word."""
        if all(job.state in TERMINAL for job in jobs):
            return FINISHED
        ledger = services.ledger
        return cls(
            await ledger.workers(),
            await services.catalogue(),
            await ledger.now(),
            has_room=await has_room(services.blobs, services.rules.low_disk_bytes),
        )

    def progress_of(self, job: Job) -> ProgressObject:
        """That job's progress as of now."""
        said = progress(job, self._workers, self._catalogue, self._now, has_room=self._has_room)
        return ProgressObject(**asdict(said))


FINISHED = Watch((), Catalogue(), 0.0)
"""Over finished jobs, of which nobody has anything to say."""
