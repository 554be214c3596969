"""`POST .../retry`: what the body asks for, and the child job that comes of it."""

from __future__ import annotations

from typing import Literal

import msgspec
from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field

from batchmill.core.retrying import RETRIED, child_of, choose, require_failed, require_results
from batchmill.core.submit import refuse_unserved, refuse_when_full
from batchmill.dialects.jobforms import JobForm
from batchmill.errors import Conflict, InvalidInput
from batchmill.failures import FailureKind
from batchmill.jsontext import TooManyValues, items
from batchmill.model import Job
from batchmill.results import Choice
from batchmill.web.auth import Caller
from batchmill.web.bodies import JsonObject, json_object
from batchmill.web.services import Services

Which = Literal["failed", "expired", "cancelled"]
_NAMES = {kind.value: kind for kind in RETRIED}
_TEXT = msgspec.json.Decoder(str)
_NULL = msgspec.Raw(b"null")


class RetryJob(BaseModel):
    """Which lines to send again: those that failed in one of these ways (all of them when left
    out), or those with these ids. At most one of the two."""

    model_config = ConfigDict(strict=True, extra="ignore")

    only: Which | list[Which] | None = None
    custom_ids: list[str] | None = Field(
        default=None, description="As many as inline requests may be (`/v1/limits`)"
    )


async def retry(
    request: Request, services: Services, parent: Job, caller: Caller, form: JobForm
) -> Job:
    """The child, recorded. Raises `InvalidInput` and `Conflict`; then there is none."""
    if _has_body(request):
        async with json_object(request, services, RetryJob, bulky="custom_ids") as body:
            kinds, custom_ids = _read(body, services, form)
    else:
        kinds, custom_ids = RETRIED, None
    require_results(parent)
    if custom_ids is None:
        require_failed(parent, kinds)
    await _require_files(services, parent)
    await _require_served(services, parent, form)
    if custom_ids is None:
        choice = Choice(kinds)
    else:
        choice = await choose(parent, custom_ids, services.ledger, services.blobs)
    return await services.ledger.create_child(child_of(parent, caller.key), choice)


async def _require_files(services: Services, parent: Job) -> None:
    """The results are there, and there is room for a copy of them."""
    size_bytes = 0
    for each in (parent.output_file, parent.error_file):
        file = None if each is None else await services.ledger.file(parent.tenant, each)
        if each is not None and file is None:
            raise Conflict(
                f"Job {parent.id} cannot be retried: its results were deleted or are past their "
                "retention.",
                state=parent.state,
            )
        size_bytes += file.size_bytes if file is not None else 0
    await refuse_when_full(services.blobs, services.rules.low_disk_bytes, size_bytes)


async def _require_served(services: Services, parent: Job, form: JobForm) -> None:
    """Raise `InvalidInput` as a create would, where no engine serves the model any more."""
    try:
        refuse_unserved(parent.model, parent.agent_id, await services.catalogue())
    except InvalidInput as error:
        error.status = form.invalid_status
        raise


def _has_body(request: Request) -> bool:
    headers = request.headers
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


def _read(
    body: JsonObject, services: Services, form: JobForm
) -> tuple[frozenset[FailureKind], list[str] | None]:
    """The kinds of lines, or the ids of some."""
    asked = body.values.get("only")
    custom_ids = _custom_ids(body, services, form)
    if asked is None:
        return RETRIED, custom_ids
    if custom_ids is not None:
        raise form.invalid("custom_ids", "Send either only or custom_ids, not both.")
    names = [asked] if isinstance(asked, str) else asked
    if (
        not isinstance(names, list)
        or not names
        or not all(isinstance(each, str) and each in _NAMES for each in names)
    ):
        raise form.invalid("only", "Must be one or more of failed, expired and cancelled.")
    return frozenset(_NAMES[each] for each in names), None


def _custom_ids(body: JsonObject, services: Services, form: JobForm) -> list[str] | None:
    raw = body.raw.get("custom_ids")
    if raw is None or raw == _NULL:
        return None
    most = services.rules.limits.inline_requests
    try:
        texts = items(raw, most)
        custom_ids = [_TEXT.decode(text) for text in texts]
    except TooManyValues:
        texts, custom_ids = [], []
    except (msgspec.DecodeError, RecursionError):
        raise form.invalid("custom_ids", "Must be a list of texts.") from None
    if not custom_ids:
        raise form.invalid("custom_ids", f"Must hold from 1 to {most:,} ids.")
    for place, text in enumerate(texts):
        if body.half is not None and body.half in bytes(text):
            says = "Has half of a surrogate pair, which is no character."
            raise form.invalid(f"custom_ids.{place}", says)
    return custom_ids
