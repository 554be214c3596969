"""`GET /v1/workers`: who works, and what they hold. The command `workers` shows the same."""

from __future__ import annotations

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from batchmill.fleet import Worker
from batchmill.web.auth import NeedsKey
from batchmill.web.errors import error_responses
from batchmill.web.replies import json_reply
from batchmill.web.services import Wired

router = APIRouter(prefix="/v1/workers", tags=["Server"], dependencies=[NeedsKey])


class WorkersEngine(BaseModel):
    """An engine as one worker sees it."""

    name: str
    state: str
    in_flight: int


class WorkerObject(BaseModel):
    """A worker seen within a day; times in Unix seconds."""

    name: str
    host: str
    pid: int
    since: float | None
    last_beat: float
    alive: bool
    state: str = Field(description="`alive`, `housekeeping`, `draining`, `left` or `dead`")
    shards: int
    in_flight: int
    engines: list[WorkersEngine]


class WorkerList(BaseModel):
    """The workers; `now` is the ledger's time, by which `last_beat` counts."""

    object: str = "list"
    now: float
    data: list[WorkerObject]


@router.get("", response_model=WorkerList, responses=error_responses())
async def list_workers(services: Wired) -> Response:
    """The workers seen within a day, and what they hold."""
    now = await services.ledger.now()
    data = [worker_object(worker) for worker in await services.ledger.workers()]
    return json_reply(WorkerList(now=now, data=data))


def worker_object(worker: Worker) -> WorkerObject:
    """A worker for programs."""
    beat = worker.beat
    return WorkerObject(
        name=worker.id,
        host=worker.host,
        pid=worker.pid,
        since=beat.since or None,
        last_beat=worker.beat_at,
        alive=worker.alive,
        state=state_of(worker),
        shards=beat.shards,
        in_flight=worker.in_flight,
        engines=[
            WorkersEngine(name=each.name, state=each.state.value, in_flight=each.in_flight)
            for each in beat.engines
        ],
    )


def state_of(worker: Worker) -> str:
    """One word for what it is up to."""
    if not worker.alive:
        return "left" if worker.beat.draining else "dead"
    if worker.beat.draining:
        return "draining"
    return "alive" if worker.beat.sends else "housekeeping"
