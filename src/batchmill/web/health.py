"""Whether the server lives and can work, its figures, and its limits."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from batchmill.assembly import MAX_PIECE_BYTES, MAX_PIECES
from batchmill.core.submit import MAX_PRIORITY, MAX_WINDOW_SECONDS, MIN_WINDOW_SECONDS
from batchmill.errors import BatchmillError
from batchmill.model import BlobName
from batchmill.web.auth import CallerOf, NeedsKey
from batchmill.web.errors import error_responses
from batchmill.web.replies import json_reply
from batchmill.web.services import Services, Wired

PROBE = BlobName("probe/ready")
PROBE_SECONDS = 2.0
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

router = APIRouter(tags=["Server"])
_BAD_ADDRESS: dict[int | str, dict[str, Any]] = {400: error_responses()[400]}


class Health(BaseModel):
    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """What is well, and what is not and why."""

    status: Literal["ready", "not_ready", "draining"]
    ledger: str
    storage: str


class Bounds(BaseModel):
    min: int
    max: int


class LimitsObject(BaseModel):
    """What this installation accepts at most."""

    object: Literal["limits"] = "limits"
    job_lines: int
    file_bytes: int
    inline_requests: int
    line_bytes: int
    body_bytes: int
    input_files: int
    outputs_lines: int
    outputs_bytes: int
    upload_parts: int = MAX_PIECES
    upload_part_bytes: int = MAX_PIECE_BYTES
    metadata_key_characters: int = 32
    metadata_value_characters: int = 512
    timeout_hours: Bounds = Bounds(min=1, max=168)
    window_seconds: Bounds = Bounds(min=MIN_WINDOW_SECONDS, max=MAX_WINDOW_SECONDS)
    priority: Bounds = Bounds(min=-MAX_PRIORITY, max=MAX_PRIORITY)
    max_pending_lines: int = Field(description="Of the asking tenant's jobs; 0: any number")
    pending_lines: int = Field(description="Lines of its jobs that are pending now")
    keep_uploads_seconds: int
    keep_results_seconds: int
    endpoints: list[str]


class StorageProbe:
    """Whether the storage can be written: tried at most every two seconds, since anybody may
    ask and a try is a durable write."""

    def __init__(self) -> None:
        self._tried_at: float | None = None
        self._state = ""

    async def state(self, services: Services) -> str:
        """`ok`, `nearly full` or `cannot be written`."""
        now = services.clock.boot()
        if self._tried_at is None or now - self._tried_at >= PROBE_SECONDS:
            self._tried_at, self._state = now, await self._try(services)
        return self._state

    async def _try(self, services: Services) -> str:
        try:
            await services.blobs.put_many([(PROBE, [b"ready"])])
            free = await services.blobs.free_bytes()
        except BatchmillError:
            return "cannot be written"
        is_full = free is not None and free < services.rules.low_disk_bytes
        return "nearly full" if is_full else "ok"


@router.get("/healthz", response_model=Health, responses=_BAD_ADDRESS)
async def healthz() -> Response:
    """Whether this process answers."""
    return json_reply(Health())


@router.get(
    "/readyz", response_model=Readiness, responses={503: {"model": Readiness}, **_BAD_ADDRESS}
)
async def readyz(request: Request, services: Wired, stores: bool = True) -> Response:  # noqa: FBT001, FBT002 - of the query
    """Whether requests should come here: the ledger answers, the storage can be written, and this
    process was not asked to end. With `stores=false` only the last is asked: for whoever shares
    requests out among processes that all have the same stores."""
    probe: StorageProbe = request.app.state.probe
    ledger = storage = "not asked"
    if stores:
        ledger, storage = await _ledger_state(services), await probe.state(services)
    status: Literal["ready", "not_ready", "draining"] = "ready"
    if request.app.state.draining:
        status = "draining"
    elif stores and (ledger != "ok" or storage not in {"ok", "nearly full"}):
        status = "not_ready"
    reply = json_reply(Readiness(status=status, ledger=ledger, storage=storage))
    reply.status_code = 200 if status == "ready" else 503
    return reply


@router.get(
    "/metrics",
    dependencies=[NeedsKey],
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
        **error_responses(),
    },
)
async def metrics(services: Wired) -> Response:
    """Figures for Prometheus."""
    text = await services.meter.read(services.ledger, services.blobs, services.catalogue)
    return Response(text, headers={"content-type": METRICS_TYPE})


@router.get("/v1/limits", response_model=LimitsObject, responses=error_responses())
async def limits(services: Wired, caller: CallerOf) -> Response:
    """What this installation accepts at most, and how much of its tenant's quota is used."""
    rules, quota = services.rules, await services.ledger.quota(caller.tenant)
    return json_reply(
        LimitsObject(
            **asdict(rules.limits),
            max_pending_lines=quota.max_lines,
            pending_lines=quota.pending_lines,
            keep_uploads_seconds=int(rules.keep_uploads_seconds),
            keep_results_seconds=int(rules.keep_results_seconds),
            endpoints=list(rules.endpoints),
        )
    )


async def _ledger_state(services: Services) -> str:
    try:
        await services.ledger.now()
    except BatchmillError:
        return "does not answer"
    return "ok"
