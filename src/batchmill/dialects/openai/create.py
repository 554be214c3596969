"""Reading what asks for a batch: the body, the headers. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from batchmill.core.submit import Order, window_seconds
from batchmill.dialects.extensions import add_headers
from batchmill.dialects.ids import uuid_in
from batchmill.dialects.openai.refusals import refused, unsupported
from batchmill.dialects.openai.wire import CreateBatch
from batchmill.model import Dialect, FileId, OnInvalid
from batchmill.web.auth import Caller
from batchmill.web.bodies import JsonObject
from batchmill.web.services import ApiRules

_WINDOWS = "'24h', and a number with m, h or d from '30m' to '30d'"


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
