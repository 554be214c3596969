"""What is told of a job while it runs: its results as they come, and its progress as events.

Both are streams that hold little, read the ledger in short steps, and wait for a slow reader
without anybody else waiting.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import structlog
from fastapi import Request
from fastapi.responses import StreamingResponse

from batchmill.core.following import Cursor, Follower
from batchmill.dialects.jobforms import JobForm
from batchmill.dialects.watching import watch_over
from batchmill.errors import Gone, InvalidInput, LedgerUnavailable, Unauthorized
from batchmill.model import TERMINAL, Job
from batchmill.web.auth import identify
from batchmill.web.downloads import begun
from batchmill.web.errors import error_responses
from batchmill.web.services import Services

log = structlog.get_logger()

LOOK_SECONDS = 0.5
EVENT_SECONDS = 1.0
HEARTBEAT_SECONDS = 15.0
NO_LIMIT = 2**53
_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}

RESULTS: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"application/x-ndjson": {"schema": {"type": "string"}}},
        "description": "One result line per line, each with its `cursor`",
    },
    **error_responses(404, 410, 500),
}
PROGRESS: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            "text/event-stream": {
                "schema": {
                    "type": "object",
                    "required": ["event", "data"],
                    "properties": {
                        "event": {"enum": ["progress", "end"]},
                        "data": {"type": "string", "description": "The job as JSON"},
                    },
                }
            }
        },
        "description": "Server-sent events: `progress` for each change, and `end` at last",
    },
    **error_responses(404),
}


async def results(
    request: Request, services: Services, job: Job, after: str | None, limit: int, *, follow: bool
) -> StreamingResponse:
    """The job's result lines from a cursor on. Raises `InvalidInput` for a cursor that this job
    never gave, `Gone` where the results are no longer kept."""
    await require_results(services, job)
    at = Cursor() if after is None else await _read_cursor(services, job, after)
    follower = Follower(job.id, services.ledger, services.blobs, at)
    if follow:
        lines = _followed(request, services, job, follower, limit)
    else:
        lines = await begun(follower.read(limit))
    return StreamingResponse(lines, headers=_HEADERS, media_type="application/x-ndjson")


async def require_results(services: Services, job: Job) -> None:
    """Raise `Gone` where a result file of the job was deleted or is past its retention."""
    for file in (job.output_file, job.error_file):
        if file is not None and await services.ledger.file(job.tenant, file) is None:
            raise Gone(
                "The results of this job were deleted or are past their retention.",
                code="results_gone",
            )


async def _read_cursor(services: Services, job: Job, text: str) -> Cursor:
    at = Cursor.read(text, job.id)
    if at is not None:
        for each in await services.ledger.parts_since(job.id, at.sequence, 1):
            if each.sequence == at.sequence and at.position < len(each.part.entries):
                return at
    raise InvalidInput(
        "after: This is no cursor of this job; take one from a line of its results.",
        param="after",
        code="invalid_value",
    )


async def _followed(
    request: Request, services: Services, job: Job, follower: Follower, limit: int
) -> AsyncGenerator[bytes, None]:
    """Results as they come, until the job has ended and all were given. Broken off where their
    reader's key is gone."""
    now: Job | None = job
    while now is not None:
        async with aclosing(follower.read(limit)) as pieces:
            async for piece in pieces:
                yield piece
        limit -= follower.given
        if now.state in TERMINAL or limit <= 0:
            return
        await services.clock.sleep(LOOK_SECONDS)
        if await _is_over(request):
            return
        await identify(request, services)
        now = await services.ledger.job(job.tenant, job.id)


def progress(request: Request, services: Services, job: Job, form: JobForm) -> StreamingResponse:
    """The job as server-sent events: one per change, at most one a second, until it has ended."""
    events = _events(request, services, job, form)
    return StreamingResponse(events, headers=_HEADERS, media_type="text/event-stream")


async def _events(
    request: Request, services: Services, job: Job, form: JobForm
) -> AsyncIterator[bytes]:
    said, quiet_seconds = "", 0.0
    now: Job | None = job
    while now is not None:
        shown = await _shown(services, now, form)
        if now.state in TERMINAL and shown is not None:
            yield _event("end", shown)
            return
        if shown is not None and shown != said:
            yield _event("progress", shown)
            said, quiet_seconds = shown, 0.0
        elif quiet_seconds >= HEARTBEAT_SECONDS:
            yield b": waiting\n\n"
            quiet_seconds = 0.0
        await services.clock.sleep(EVENT_SECONDS)
        quiet_seconds += EVENT_SECONDS
        if await _is_over(request):
            return
        now = await _present(request, services, now)


async def _is_over(request: Request) -> bool:
    """Nobody reads any more, or this process ends: another one goes on from the reader's cursor."""
    return bool(request.app.state.draining) or await request.is_disconnected()


async def _shown(services: Services, job: Job, form: JobForm) -> str | None:
    """The job as its dialect shows it; None while the ledger cannot be asked."""
    try:
        watch = await watch_over(services, job)
    except LedgerUnavailable as error:
        log.warning("progress_unavailable", job=job.id, error=str(error))
        return None
    return form.render(job, watch.progress_of(job)).model_dump_json(ensure_ascii=True)


async def _present(request: Request, services: Services, job: Job) -> Job | None:
    """The job as it is now, as it was where the ledger cannot be asked, None once it is deleted or
    its reader's key is gone."""
    try:
        await identify(request, services)
        return await services.ledger.job(job.tenant, job.id)
    except Unauthorized:
        return None
    except LedgerUnavailable as error:
        log.warning("progress_unavailable", job=job.id, error=str(error))
        return job


def _event(name: str, data: str) -> bytes:
    return f"event: {name}\ndata: {data}\n\n".encode()
