"""`/v1/webhook_deliveries`: what became of telling receivers about jobs' ends."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from batchmill.deliveries import Delivery, DeliveryId, DeliveryQuery, DeliveryState
from batchmill.dialects.ids import job_id as id_of_job
from batchmill.errors import NotFound
from batchmill.web.auth import CallerOf
from batchmill.web.errors import error_responses
from batchmill.web.paging import Limit
from batchmill.web.replies import json_reply
from batchmill.web.services import Wired

router = APIRouter(prefix="/v1/webhook_deliveries", tags=["Webhook deliveries"])


class DeliveryObject(BaseModel):
    """One event on its way to one receiver. Times are Unix seconds."""

    id: str
    object: Literal["webhook_delivery"] = "webhook_delivery"
    event_id: str = Field(description="The event's `id` and the header `webhook-id`")
    event_type: str
    job_id: str
    batch_id: str
    url: str = Field(description="Of a receiver that the operator configured: its host alone")
    state: DeliveryState
    attempts: int
    created_at: int
    last_attempt_at: int | None
    last_status: int | None = Field(description="The HTTP status, where one came")
    last_error: str | None
    next_attempt_at: int | None = Field(description="Null during a try, and after the last")
    ended_at: int | None


class DeliveryList(BaseModel):
    object: Literal["list"] = "list"
    data: list[DeliveryObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


@router.get("", response_model=DeliveryList, responses=error_responses(404))
async def list_webhook_deliveries(
    services: Wired,
    caller: CallerOf,
    job_id: Annotated[str | None, Query(description="Only of this job")] = None,
    state: Annotated[DeliveryState | None, Query(description="Only in this state")] = None,
    after: Annotated[str | None, Query(description="The last id of the page before")] = None,
    limit: Limit = 100,
) -> Response:
    """List deliveries, newest first."""
    query = DeliveryQuery(
        job=None if job_id is None else id_of_job(job_id),
        state=state,
        after=DeliveryId(after) if after else None,
        limit=limit,
    )
    found = await services.ledger.deliveries(caller.tenant, query)
    data = [_shown(each) for each in found.items]
    return json_reply(
        DeliveryList(
            data=data,
            first_id=data[0].id if data else None,
            last_id=data[-1].id if data else None,
            has_more=found.has_more,
        )
    )


@router.get("/{delivery_id}", response_model=DeliveryObject, responses=error_responses(404))
async def get_webhook_delivery(delivery_id: str, services: Wired, caller: CallerOf) -> Response:
    """A delivery with what its last try came to."""
    found = await services.ledger.delivery(caller.tenant, DeliveryId(delivery_id))
    return json_reply(_shown(_there(found, delivery_id)))


@router.post(
    "/{delivery_id}/redeliver", response_model=DeliveryObject, responses=error_responses(404)
)
async def redeliver_webhook(delivery_id: str, services: Wired, caller: CallerOf) -> Response:
    """Send an event once more, at once and under the same id, then with retries for 72 hours."""
    found = await services.ledger.redeliver(caller.tenant, DeliveryId(delivery_id))
    shown = _shown(_there(found, delivery_id))
    services.wake()
    return json_reply(shown)


def _there(found: Delivery | None, text: str) -> Delivery:
    if found is None:
        message = f"No webhook delivery found with id '{text[:100]}'."
        raise NotFound(message, param="delivery_id", code="not_found")
    return found


def _shown(each: Delivery) -> DeliveryObject:
    return DeliveryObject(
        id=each.id,
        event_id=each.event,
        event_type=f"batch.{each.ending.value}",
        job_id=each.job,
        batch_id=f"batch_{each.job.replace('-', '')}",
        url=each.receiver if each.configured else each.url,
        state=each.state,
        attempts=each.attempts,
        created_at=int(each.created_at),
        last_attempt_at=_seconds(each.last_at),
        last_status=each.last_status,
        last_error=each.last_error,
        next_attempt_at=_seconds(each.next_at),
        ended_at=_seconds(each.ended_at),
    )


def _seconds(at: float | None) -> int | None:
    return None if at is None else int(at)
