"""Routes on a job that both dialects mount below their own jobs: pause, resume, extend,
retry, results and progress.

Each answers with the job object of the dialect that mounts them (`JobForm.render`).
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from batchmill.core.submit import window_seconds
from batchmill.dialects import jobstreams
from batchmill.dialects.fields import body_of, read_fields
from batchmill.dialects.ids import job_id as id_of_job
from batchmill.dialects.ids import no_such_job
from batchmill.dialects.jobforms import JobForm
from batchmill.dialects.jobretries import RetryJob, retry
from batchmill.errors import Conflict
from batchmill.model import STOPPED, TERMINAL, Job, JobState
from batchmill.web.auth import Caller, CallerOf
from batchmill.web.bodies import json_object
from batchmill.web.errors import error_responses
from batchmill.web.services import Services, Wired

_PAUSABLE = frozenset({JobState.QUEUED, JobState.RUNNING})


class ExtendJob(BaseModel):
    """How long the job may take in all, from its creation."""

    model_config = ConfigDict(strict=True, extra="ignore")

    window: str = Field(
        examples=["7d"], description="`30m` to `30d`, counted from the job's creation"
    )


def add_job_routes(router: APIRouter, form: JobForm) -> None:
    """Add these routes to a dialect's own, for jobs of its form."""
    routes = JobRoutes(form)
    for path, route in (("pause", routes.pause), ("resume", routes.resume)):
        router.post(
            f"/{{job_id}}/{path}", response_model=form.shown, responses=error_responses(404, 409)
        )(route)
    router.post(
        "/{job_id}/extend",
        response_model=form.shown,
        responses=error_responses(404, 408, 409, 413, 415),
        openapi_extra=body_of(ExtendJob),
    )(routes.extend)
    router.post(
        "/{job_id}/retry",
        response_model=form.shown,
        responses=error_responses(404, 408, 409, 413, 415),
        openapi_extra=body_of(RetryJob, required=False),
    )(routes.retry)
    router.get("/{job_id}/results", response_class=Response, responses=jobstreams.RESULTS)(
        routes.results
    )
    router.get("/{job_id}/progress", response_class=Response, responses=jobstreams.PROGRESS)(
        routes.progress
    )


class JobRoutes:
    """The routes of one dialect."""

    def __init__(self, form: JobForm) -> None:
        self._form = form

    async def pause(self, job_id: str, services: Wired, caller: CallerOf) -> Response:
        """Pause a job that is queued or running: nothing new of it is sent, what is in flight
        comes to its end. Its window goes on."""
        return await self._set_paused(job_id, services, caller, paused=True)

    async def resume(self, job_id: str, services: Wired, caller: CallerOf) -> Response:
        """Let a paused job go on."""
        return await self._set_paused(job_id, services, caller, paused=False)

    async def extend(
        self, request: Request, job_id: str, services: Wired, caller: CallerOf
    ) -> Response:
        """Give an unfinished job more time: a longer window, counted from its creation."""
        asked = id_of_job(job_id)
        async with json_object(request, services, ExtendJob) as body:
            window = read_fields(ExtendJob, body.values, self._form.invalid_status).window
        seconds = window_seconds(window)
        if seconds is None:
            raise self._form.invalid("window", "Must be a number with m, h or d, from 30m to 30d.")
        job = await services.ledger.extend(caller.tenant, asked, window, seconds)
        if job is None:
            raise no_such_job(job_id)
        if job.state in TERMINAL | STOPPED:
            raise Conflict(
                f"Job {job.id} is {job.state.value} and can no longer be extended.",
                state=job.state,
            )
        if abs(job.deadline - job.created_at - seconds) >= 1.0:
            raise self._form.invalid(
                "window", f"Must end after now and later than the present one of {job.window}."
            )
        return await self._form.reply(services, job)

    async def retry(
        self, request: Request, job_id: str, services: Wired, caller: CallerOf
    ) -> Response:
        """Send lines of a finished job that did not succeed once more: answers with a child job
        that keeps the outcomes of all other lines."""
        parent = await self._find(job_id, services, caller)
        child = await retry(request, services, parent, caller, self._form)
        services.wake()
        return await self._form.reply(services, child)

    async def results(
        self,
        request: Request,
        job_id: str,
        services: Wired,
        caller: CallerOf,
        after: Annotated[
            str | None, Query(description="The `cursor` of the last line that was read")
        ] = None,
        follow: Annotated[bool | None, Query(description="Go on until the job has ended")] = None,
        limit: Annotated[
            int, Query(ge=1, le=jobstreams.NO_LIMIT, description="How many lines at most")
        ] = jobstreams.NO_LIMIT,
    ) -> Response:
        """The result lines in the order in which they were made, as JSON lines, while the job
        runs and afterwards. Each has a `cursor`: given back as `after`, it is the last one
        before those that are answered, so that every line is read exactly once."""
        job = await self._find(job_id, services, caller)
        return await jobstreams.results(request, services, job, after, limit, follow=bool(follow))

    async def progress(
        self, request: Request, job_id: str, services: Wired, caller: CallerOf
    ) -> Response:
        """The job as server-sent events: `progress` for each change, at most once a second, and
        `end` when it has ended."""
        job = await self._find(job_id, services, caller)
        return jobstreams.progress(request, services, job, self._form)

    async def _find(self, text: str, services: Services, caller: Caller) -> Job:
        job = await services.ledger.job(caller.tenant, id_of_job(text))
        if job is None:
            raise no_such_job(text)
        return job

    async def _set_paused(
        self, text: str, services: Services, caller: Caller, *, paused: bool
    ) -> Response:
        job = await services.ledger.set_paused(caller.tenant, id_of_job(text), paused)
        if job is None:
            raise no_such_job(text)
        if job.state not in _PAUSABLE:
            verb = "paused" if paused else "resumed"
            raise Conflict(
                f"Job {job.id} is {job.state.value}; only a queued or running one can be {verb}.",
                state=job.state,
            )
        services.wake()
        return await self._form.reply(services, job)
