"""`/v1/batch/jobs`: Mistral's Batch Jobs API."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from batchmill.core.submit import submit
from batchmill.dialects.extensions import PARAMETERS
from batchmill.dialects.fields import body_of
from batchmill.dialects.ids import job_id as id_of_job
from batchmill.dialects.ids import no_such_job
from batchmill.dialects.jobforms import JobForm
from batchmill.dialects.jobroutes import add_job_routes
from batchmill.dialects.mistral.create import read_order
from batchmill.dialects.mistral.filters import metadata_filters, moment
from batchmill.dialects.mistral.outputs import reply_with_outputs
from batchmill.dialects.mistral.wire import (
    BatchJob,
    BatchJobList,
    CreateBatchJob,
    DeletedBatchJob,
    Status,
    batch_job,
    states_of,
)
from batchmill.dialects.watching import watch_over
from batchmill.errors import Conflict, InvalidInput
from batchmill.model import TERMINAL, Job, JobState
from batchmill.queries import JobQuery, Page
from batchmill.web.auth import Caller, CallerOf
from batchmill.web.bodies import json_object
from batchmill.web.errors import error_responses
from batchmill.web.idempotency import HEADER_PARAMETER, once_of
from batchmill.web.paging import PageNumber, PageSize
from batchmill.web.replies import json_reply
from batchmill.web.services import Services, Wired
from batchmill.web.webhooks import require_webhook

router = APIRouter(prefix="/v1/batch/jobs", tags=["Batch jobs (Mistral)"])
add_job_routes(router, JobForm(BatchJob, batch_job, invalid_status=422))

_CREATE: dict[str, Any] = {
    **body_of(CreateBatchJob),
    "parameters": [*PARAMETERS, HEADER_PARAMETER],
}


@router.get("", response_model=BatchJobList, responses=error_responses())
async def list_batch_jobs(
    request: Request,
    services: Wired,
    caller: CallerOf,
    page: PageNumber = 0,
    page_size: PageSize = 100,
    model: Annotated[str | None, Query()] = None,
    agent_id: Annotated[str | None, Query()] = None,
    created_after: Annotated[
        str | None, Query(description="ISO 8601; without a zone it is UTC")
    ] = None,
    created_by_me: Annotated[bool | None, Query(description="Only of the key that asks")] = None,
    status: Annotated[list[Status] | None, Query()] = None,
    order_by: Annotated[Literal["created", "-created"], Query()] = "-created",
    _metadata: Annotated[
        str | None,
        Query(
            alias="metadata",
            description="A JSON object; `metadata[key]=value` and `key=value` mean the same",
        ),
    ] = None,
) -> Response:
    """List jobs, newest first. Every other parameter is a filter on the metadata of that name."""
    metadata = metadata_filters(request.query_params.multi_items())
    if metadata is None:
        return json_reply(BatchJobList(total=0, data=[]))
    query = JobQuery(
        states=tuple(state for each in status or () for state in states_of(each)),
        model=model or None,
        agent_id=agent_id or None,
        metadata=metadata,
        created_after=moment(created_after) if created_after else None,
        key=caller.key if created_by_me else None,
        offset=page * page_size,
        limit=page_size,
        oldest_first=order_by == "created",
    )
    found: Page[Job] = await services.ledger.jobs(caller.tenant, query)
    watch = await watch_over(services, *found.items)
    data = [batch_job(job, watch.progress_of(job)) for job in found.items]
    return json_reply(BatchJobList(total=found.total, data=data))


@router.post(
    "",
    response_model=BatchJob,
    responses=error_responses(404, 408, 409, 413, 415),
    openapi_extra=_CREATE,
)
async def create_batch_job(request: Request, services: Wired, caller: CallerOf) -> Response:
    """Create a job from uploaded files or inline requests; it starts at once."""
    async with json_object(request, services, CreateBatchJob, bulky="requests") as body:
        once, rules = once_of(request, body, caller), services.rules
        order = await asyncio.to_thread(read_order, body, request.headers, caller, rules)
        order = replace(order, once=once)
        await require_webhook(services, order)
        catalogue = await services.catalogue()
        try:
            job = await submit(
                services.ledger,
                services.blobs,
                catalogue,
                rules.limits,
                order,
                rules.low_disk_bytes,
            )
        except InvalidInput as e:
            e.status = 422
            raise
    services.wake()
    return json_reply(await _shown(services, job))


@router.get("/{job_id}", response_model=BatchJob, responses=error_responses(404, 500))
async def get_batch_job(
    job_id: str,
    services: Wired,
    caller: CallerOf,
    inline: Annotated[bool | None, Query(description="With `outputs`, once finished")] = None,
) -> Response:
    """A job with its counters and progress; `outputs` for inline jobs, or where asked for."""
    job = await _find(job_id, services, caller)
    shown = await _shown(services, job)
    return await reply_with_outputs(services, job, shown, asked=bool(inline))


@router.post("/{job_id}/cancel", response_model=BatchJob, responses=error_responses(404, 409))
async def cancel_batch_job(job_id: str, services: Wired, caller: CallerOf) -> Response:
    """Cancel a job; results that it has are kept. One that is finished otherwise is refused."""
    job = await services.ledger.cancel(caller.tenant, id_of_job(job_id))
    if job is None:
        raise no_such_job(job_id)
    if job.state in TERMINAL and job.state is not JobState.CANCELLED:
        raise Conflict(
            f"Job {job.id} is {job.state.value} and can no longer be cancelled.", state=job.state
        )
    services.wake()
    return json_reply(await _shown(services, job))


@router.delete("/{job_id}", response_model=DeletedBatchJob, responses=error_responses(404))
async def delete_batch_job(job_id: str, services: Wired, caller: CallerOf) -> Response:
    """Delete a job, cancelling it if it is unfinished; its files stay."""
    deleted = id_of_job(job_id)
    if not await services.ledger.delete_job(caller.tenant, deleted):
        raise no_such_job(job_id)
    services.wake()
    return json_reply(DeletedBatchJob(id=deleted))


async def _find(text: str, services: Services, caller: Caller) -> Job:
    job = await services.ledger.job(caller.tenant, id_of_job(text))
    if job is None:
        raise no_such_job(text)
    return job


async def _shown(services: Services, job: Job) -> BatchJob:
    watch = await watch_over(services, job)
    return batch_job(job, watch.progress_of(job))
