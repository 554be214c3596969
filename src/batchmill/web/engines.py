"""`/v1/engines`: what answers the lines, how much it is given at once, and why. Nothing in it
belongs to a tenant."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from batchmill.core.enginesums import EngineSum, sums
from batchmill.web.auth import NeedsKey
from batchmill.web.errors import error_responses
from batchmill.web.replies import json_reply
from batchmill.web.services import Wired

router = APIRouter(prefix="/v1/engines", tags=["Engines"], dependencies=[NeedsKey])


class EngineDecision(BaseModel):
    """What was decided about the window last."""

    why: str
    at: int = Field(description="Unix time")


class EngineCard(BaseModel):
    """One engine as all workers together see it now."""

    object: Literal["engine"] = "engine"
    name: str
    kind: str
    state: str = Field(description="`up`, `down` or `unknown`")
    reason: str | None = Field(description="Why it is not up")
    models: list[str]
    simulated: bool
    is_open: bool = Field(description="Whether it is within its schedule")
    is_limited: bool = Field(description="It refused calls last and is given time")
    seen_at: int | None = Field(description="When it last answered; Unix time")
    workers: int = Field(description="How many workers use it")
    concurrency: Literal["auto", "fixed"]
    politeness: Literal["full", "polite"]
    window: int = Field(description="How many calls it may have at once now")
    in_flight: int
    has_metrics: bool = Field(description="It tells of its load, while it has calls")
    running: float | None = Field(description="Calls of anybody's that it works on")
    waiting: float | None = Field(description="Calls of anybody's that wait in it")
    decision: EngineDecision | None


class EngineList(BaseModel):
    object: Literal["list"] = "list"
    data: list[EngineCard]


@router.get("", response_model=EngineList, responses=error_responses())
async def list_engines(services: Wired) -> Response:
    """Every engine, by name: whether it answers, what it is given at once, and why."""
    catalogue = await services.catalogue()
    workers = await services.ledger.workers()
    return json_reply(EngineList(data=[_card(each) for each in sums(workers, catalogue.engines)]))


def _card(engine: EngineSum) -> EngineCard:
    seen = engine.seen
    return EngineCard(
        name=seen.name,
        kind=seen.kind,
        state=seen.state.value,
        reason=seen.reason or None,
        models=list(seen.models),
        simulated=seen.simulated,
        is_open=seen.is_open,
        is_limited=seen.limited,
        seen_at=int(seen.seen_at) or None,
        workers=engine.workers,
        concurrency="auto" if seen.adaptive else "fixed",
        politeness="polite" if seen.polite else "full",
        window=seen.window,
        in_flight=seen.in_flight,
        has_metrics=seen.running is not None,
        running=seen.running,
        waiting=seen.waiting,
        decision=EngineDecision(why=seen.decision, at=int(seen.decided_at))
        if seen.decision
        else None,
    )
