"""The `progress` object that every job carries in both dialects. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict

from pydantic import BaseModel, Field

from batchmill.core.models import Catalogue
from batchmill.core.progress import progress
from batchmill.fleet import Worker
from batchmill.model import Job, JobId, WaitingReason


class ProgressObject(BaseModel):
    """How far the job is. `waiting_reason` says why nothing moves; null while lines do."""

    done: int = Field(description="Lines that were answered")
    failed: int = Field(description="Lines in the error file: failed, expired, cancelled")
    retrying: int = Field(description="Lines that wait for another try")
    in_flight: int = Field(description="Lines at an engine now")
    deduplicated: int = Field(
        description="Lines with the outcome of another one of the same body: they were not sent"
    )
    left: int
    lines_per_second: float
    input_tokens: int
    output_tokens: int
    estimated_seconds_left: int | None
    last_progress_at: int | None
    waiting_reason: WaitingReason | None
    opens_at: int | None = Field(
        description="When an engine opens, where the job waits for its schedule"
    )


class Watch:
    """What the workers and engines last said, read once for all jobs of one reply."""

    def __init__(
        self,
        workers: tuple[Worker, ...],
        catalogue: Catalogue,
        now: float,
        *,
        has_room: bool = True,
        held_back: Collection[JobId] = (),
    ) -> None:
        self._workers = workers
        self._catalogue = catalogue
        self._now = now
        self._has_room = has_room
        self._held_back = held_back

    def progress_of(self, job: Job) -> ProgressObject:
        """That job's progress as of now."""
        said = progress(
            job,
            self._workers,
            self._catalogue,
            self._now,
            has_room=self._has_room,
            held_back=job.id in self._held_back,
        )
        return ProgressObject(**asdict(said))


FINISHED = Watch((), Catalogue(), 0.0)
"""Over finished jobs, of which nobody has anything to say."""
