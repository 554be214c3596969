"""Routes on a job that both dialects mount below their own jobs: pause, resume, extend.

Each answers with the job object of the dialect that mounts them (`JobForm.render`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from batchmill.core.submit import window_seconds
from batchmill.dialects.ids import job_id as id_of_job
from batchmill.dialects.ids import no_such_job
from batchmill.dialects.progressobjects import ProgressObject, Watch
from batchmill.errors import Conflict, InvalidInput
from batchmill.model import STOPPED, TERMINAL, Job, JobState
from batchmill.web.auth import Caller, CallerOf
from batchmill.web.bodies import json_object
from batchmill.web.errors import ErrorDetail, InvalidFields, error_responses
from batchmill.web.replies import json_reply
from batchmill.web.services import Services, Wired

Fields = TypeVar("Fields", bound=BaseModel)
_PAUSABLE = frozenset({JobState.QUEUED, JobState.RUNNING})


@dataclass(frozen=True, slots=True)
class JobForm:
    """How a dialect shows a job: the model of its object, how one is made, and the status with
    which it refuses a bad field."""

    shown: type[BaseModel]
    render: Callable[[Job, ProgressObject], BaseModel]
    invalid_status: int

    async def reply(self, services: Services, job: Job) -> Response:
        """The job as it is now."""
        watch = await Watch.over(services, job)
        return json_reply(self.render(job, watch.progress_of(job)))


class ExtendJob(BaseModel):
    """How long the job may take in all, from its creation."""

    model_config = ConfigDict(strict=True, extra="ignore")

    window: str = Field(
        examples=["7d"], description="`30m` to `30d`, counted from the job's creation"
    )


def job_routes(prefix: str, tag: str, form: JobForm) -> APIRouter:
    """The routes below `prefix`, for jobs of that form."""
    router = APIRouter(prefix=prefix, tags=[tag])
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
    return router


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
        async with json_object(request, services, bulky="") as body:
            window = self._form_of(ExtendJob, body.values).window
        seconds = window_seconds(window)
        if seconds is None:
            raise self._invalid("window", "Must be a number with m, h or d, from 30m to 30d.")
        job = await services.ledger.extend(caller.tenant, asked, window, seconds)
        if job is None:
            raise no_such_job(job_id)
        if job.state in TERMINAL | STOPPED:
            raise Conflict(
                f"Job {job.id} is {job.state.value} and can no longer be extended.",
                state=job.state,
            )
        if abs(job.deadline - job.created_at - seconds) >= 1.0:
            raise self._invalid(
                "window", f"Must end after now and later than the present one of {job.window}."
            )
        return await self._form.reply(services, job)

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

    def _form_of(self, model: type[Fields], values: Any) -> Fields:
        """The fields of a body; null is the same as absent."""
        try:
            return model.model_validate({k: v for k, v in values.items() if v is not None})
        except ValidationError as e:
            details = [
                ErrorDetail(type=str(p["type"]), loc=["body", *p["loc"]], msg=p["msg"])
                for p in e.errors()
            ]
            raise InvalidFields(details[:100], status=self._form.invalid_status) from None

    def _invalid(self, param: str, message: str) -> InvalidInput:
        return InvalidInput(
            f"{param}: {message}",
            param=param,
            code="invalid_value",
            status=self._form.invalid_status,
        )


def body_of(model: type[BaseModel]) -> dict[str, Any]:
    """The request body of a route that reads it itself, for the OpenAPI document."""
    schema = model.model_json_schema()
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
