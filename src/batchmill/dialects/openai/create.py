"""Reading what asks for a batch: the body, the headers. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
)

from batchmill.core.submit import Order, window_seconds
from batchmill.dialects.extensions import Extensions, add_headers
from batchmill.dialects.ids import uuid_in
from batchmill.dialects.openai.refusals import refused, unsupported
from batchmill.model import Dialect, FileId, OnInvalid
from batchmill.web.auth import Caller
from batchmill.web.bodies import JsonObject
from batchmill.web.services import ApiRules

MAX_METADATA_PAIRS = 16
MIN_KEPT_SECONDS, MAX_KEPT_SECONDS = 3_600, 2_592_000
_WINDOWS = "'24h', and a number with m, h or d from '30m' to '30d'"


_Name = Annotated[
    str, StringConstraints(min_length=1, max_length=256, pattern=r"^[^\x00]*$", strict=True)
]
_Window = Annotated[str, StringConstraints(strict=True), Field(examples=["24h", "30m", "7d"])]
_Key = Annotated[str, StringConstraints(max_length=64, pattern=r"^[^\x00]*$", strict=True)]
_Value = Annotated[str, StringConstraints(max_length=512, pattern=r"^[^\x00]*$", strict=True)]


class OutputExpiresAfter(BaseModel):
    """How long the result files last, from when they are made."""

    model_config = ConfigDict(strict=True, extra="ignore")

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=MIN_KEPT_SECONDS, le=MAX_KEPT_SECONDS)]


class CreateBatch(Extensions):
    """What creates a batch over one uploaded file. Null is the same as absent.

    `priority`, `on_invalid`, `window`, `webhook_url` and `dedupe` are extensions, also taken as
    headers `x-batchmill-<key>`; `window` wins over `completion_window`.
    """

    input_file_id: _Name
    endpoint: _Name
    completion_window: _Window
    metadata: Annotated[dict[_Key, _Value] | None, Field(max_length=MAX_METADATA_PAIRS)] = None
    output_expires_after: Annotated[
        OutputExpiresAfter | None, WithJsonSchema(OutputExpiresAfter.model_json_schema())
    ] = None


def read_order(
    body: JsonObject, headers: Mapping[str, str], caller: Caller, rules: ApiRules
) -> Order:
    """What the request asks for. Raises `InvalidInput`; null is the same as absent."""
    asked = _read(body, headers)
    if asked.endpoint not in rules.endpoints:
        known = ", ".join(f"'{name}'" for name in rules.endpoints)
        raise unsupported("endpoint", asked.endpoint, known)
    seconds = _seconds("completion_window", asked.completion_window)
    if asked.window is not None:
        seconds = _seconds("window", asked.window)
    kept = asked.output_expires_after
    return Order(
        tenant=caller.tenant,
        key=caller.key,
        dialect=Dialect.OPENAI,
        endpoint=asked.endpoint,
        window=asked.window or asked.completion_window,
        window_seconds=seconds,
        metadata=asked.metadata or {},
        input_files=(FileId(uuid_in(asked.input_file_id) or asked.input_file_id),),
        priority=asked.priority,
        on_invalid=OnInvalid(asked.on_invalid),
        dedupe=asked.dedupe,
        webhook_url=asked.webhook_url,
        keep_results_seconds=None if kept is None else kept.seconds,
    )


def _read(body: JsonObject, headers: Mapping[str, str]) -> CreateBatch:
    fields = {name: value for name, value in body.values.items() if value is not None}
    for each in add_headers(fields, headers):
        raise refused(each.type, each.loc[1:], each.msg)
    try:
        return CreateBatch.model_validate(fields)
    except ValidationError as e:
        first = e.errors()[0]
        raise refused(first["type"], first["loc"], first["msg"]) from None


def _seconds(param: str, window: str) -> int:
    seconds = window_seconds(window)
    if seconds is None:
        raise unsupported(param, window, _WINDOWS)
    return seconds
