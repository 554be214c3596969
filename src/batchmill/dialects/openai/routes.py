"""`/v1/batches`: OpenAI's Batch API."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from batchmill.core.submit import submit_for_validation
from batchmill.dialects.extensions import PARAMETERS
from batchmill.dialects.fields import body_of
from batchmill.dialects.ids import batch_id, uuid_in
from batchmill.dialects.jobforms import JobForm
from batchmill.dialects.jobroutes import add_job_routes
from batchmill.dialects.openai.create import CreateBatch, read_order
from batchmill.dialects.openai.refusals import OpenAIRoute
from batchmill.dialects.openai.wire import Batch, BatchList, batch
from batchmill.dialects.watching import watch_over
from batchmill.errors import Conflict, NotFound
from batchmill.model import TERMINAL, Job, JobId, JobState
from batchmill.queries import JobQuery, Page
from batchmill.web.auth import CallerOf
from batchmill.web.bodies import json_object
from batchmill.web.errors import error_responses
from batchmill.web.idempotency import HEADER_PARAMETER, once_of
from batchmill.web.replies import json_reply
from batchmill.web.services import Services, Wired
from batchmill.web.webhooks import require_webhook

router = APIRouter(prefix="/v1/batches", tags=["Batches (OpenAI)"], route_class=OpenAIRoute)
add_job_routes(router, JobForm(Batch, batch, invalid_status=400))

MAX_LIMIT = 100

_CREATE: dict[str, Any] = {
    **body_of(CreateBatch),
    "parameters": [*PARAMETERS, HEADER_PARAMETER],
}


@router.get("", response_model=BatchList, responses=error_responses())
async def list_batches(
    services: Wired,
    caller: CallerOf,
    after: Annotated[
        str | None, Query(description="The id of the last batch seen; none follow an unknown one")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="How many at most")] = 20,
) -> Response:
    """List batches, newest first."""
    cursor = uuid_in(after) if after else None
    if after and cursor is None:
        return json_reply(await _shown_page(services, Page((), 0, has_more=False)))
    query = JobQuery(after=None if cursor is None else JobId(cursor), limit=limit)
    return json_reply(await _shown_page(services, await services.ledger.jobs(caller.tenant, query)))


@router.post(
    "",
    response_model=Batch,
    responses=error_responses(408, 409, 413, 415),
    openapi_extra=_CREATE,
)
async def create_batch(request: Request, services: Wired, caller: CallerOf) -> Response:
    """Create a batch over an uploaded file; it starts at once."""
    async with json_object(request, services, CreateBatch) as body:
        once = once_of(request, body, caller, counts_retries=True)
        order = replace(read_order(body, request.headers, caller, services.rules), once=once)
    await require_webhook(services, order)
    job = await submit_for_validation(services.ledger, order)
    services.wake()
    return json_reply(await _shown(services, job))


@router.get("/{batch_id}", response_model=Batch, responses=error_responses(404))
async def retrieve_batch(batch_id: str, services: Wired, caller: CallerOf) -> Response:
    """A batch with its counters and progress."""
    job = await services.ledger.job(caller.tenant, _job_id(batch_id))
    if job is None:
        raise _no_such_batch(batch_id)
    return json_reply(await _shown(services, job))


@router.post("/{batch_id}/cancel", response_model=Batch, responses=error_responses(404, 409))
async def cancel_batch(batch_id: str, services: Wired, caller: CallerOf) -> Response:
    """Cancel a batch; results that it has are kept. One that is finished otherwise is refused."""
    job = await services.ledger.cancel(caller.tenant, _job_id(batch_id))
    if job is None:
        raise _no_such_batch(batch_id)
    if job.state in TERMINAL and job.state is not JobState.CANCELLED:
        raise Conflict(
            f"Cannot cancel a batch with status '{job.state.value}'.", state=job.state.value
        )
    services.wake()
    return json_reply(await _shown(services, job))


def _job_id(text: str) -> JobId:
    found = uuid_in(text)
    if found is None:
        raise _no_such_batch(text)
    return JobId(found)


def _no_such_batch(text: str) -> NotFound:
    return NotFound(f"No batch found with id '{text[:100]}'.")


async def _shown(services: Services, job: Job) -> Batch:
    watch = await watch_over(services, job)
    return batch(job, watch.progress_of(job))


async def _shown_page(services: Services, page: Page[Job]) -> BatchList:
    watch = await watch_over(services, *page.items)
    ids = [batch_id(job.id) for job in page.items]
    return BatchList(
        data=[batch(job, watch.progress_of(job)) for job in page.items],
        first_id=ids[0] if ids else None,
        last_id=ids[-1] if ids else None,
        has_more=page.has_more,
    )
