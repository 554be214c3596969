"""Reading what asks for a job: the body, the headers, the inline requests. Pure.

Every problem of the fields is found together and told in FastAPI's `detail` form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
from pydantic import ValidationError

from batchmill.core.submit import Order, window_seconds
from batchmill.dialects.extensions import add_headers
from batchmill.dialects.ids import file_id
from batchmill.dialects.mistral.wire import CreateBatchJob
from batchmill.jsontext import (
    MOST_MEMBERS,
    TooManyValues,
    ascii_line,
    items,
    json_string,
    members,
)
from batchmill.model import Dialect, OnInvalid
from batchmill.web.auth import Caller
from batchmill.web.bodies import JsonObject
from batchmill.web.errors import ErrorDetail, InvalidFields
from batchmill.web.services import ApiRules

_MAX_DETAILS = 100
_NULL = msgspec.Raw(b"null")
_CUSTOM_ID = msgspec.json.Decoder(str | None)


@dataclass(frozen=True, slots=True)
class _Inline:
    lines: tuple[bytes, ...] = ()
    details: tuple[ErrorDetail, ...] = ()


def read_order(
    body: JsonObject, headers: Mapping[str, str], caller: Caller, rules: ApiRules
) -> Order:
    """What the request asks for. Raises `InvalidFields`, `NotFound`."""
    fields = {k: v for k, v in body.values.items() if v is not None and k != "requests"}
    details = list(add_headers(fields, headers))
    inline = _read_requests(body, rules.limits.inline_requests)
    details += inline.details
    try:
        asked = CreateBatchJob.model_validate(fields)
    except ValidationError as e:
        details += [_detail(str(p["type"]), p["loc"], p["msg"]) for p in e.errors()]
        raise InvalidFields(details[:_MAX_DETAILS]) from None
    details += _contradictions(asked, inline, rules)
    if details:
        raise InvalidFields(details[:_MAX_DETAILS])
    window = asked.window or f"{asked.timeout_hours}h"
    return Order(
        tenant=caller.tenant,
        key=caller.key,
        dialect=Dialect.MISTRAL,
        endpoint=asked.endpoint,
        window=window,
        window_seconds=window_seconds(window) or 0,
        model=asked.model,
        agent_id=asked.agent_id,
        metadata=asked.metadata or {},
        input_files=tuple(
            file_id(text, f"input_files.{place}")
            for place, text in enumerate(asked.input_files or ())
        ),
        requests=inline.lines,
        priority=asked.priority,
        on_invalid=OnInvalid(asked.on_invalid),
        dedupe=asked.dedupe,
        webhook_url=asked.webhook_url,
    )


def _contradictions(asked: CreateBatchJob, inline: _Inline, rules: ApiRules) -> list[ErrorDetail]:
    """What the fields say against each other or against the rules."""
    details = []
    if asked.endpoint not in rules.endpoints:
        known = ", ".join(rules.endpoints)
        details.append(_detail("enum", ("endpoint",), f"Must be one of {known}"))
    if asked.input_files and (inline.lines or inline.details):
        details.append(
            _detail("value_error", ("requests",), "Send either input_files or requests, not both")
        )
    if not asked.input_files and not inline.lines and not inline.details:
        details.append(
            _detail("missing", ("input_files",), "Send input_files or requests, with at least one")
        )
    if len(asked.input_files or ()) > rules.limits.input_files:
        most = rules.limits.input_files
        details.append(_detail("too_long", ("input_files",), f"At most {most} files in one job"))
    if asked.model is None and asked.agent_id is None:
        details.append(_detail("missing", ("model",), "Name the model that every request uses"))
    if asked.window is not None and window_seconds(asked.window) is None:
        says = "Must be a number with m, h or d, from 30m to 30d"
        details.append(_detail("value_error", ("window",), says))
    return details


def _read_requests(body: JsonObject, limit: int) -> _Inline:
    """The inline requests as input lines, or what is wrong with them."""
    raw = body.raw.get("requests")
    if raw is None or raw == _NULL:
        return _Inline()
    try:
        requests = items(raw, limit)
    except TooManyValues:
        says = f"At most {limit} requests; upload more as a file"
        return _Inline(details=(_detail("too_long", ("requests",), says),))
    except msgspec.ValidationError:
        return _Inline(details=(_detail("list_type", ("requests",), "Must be a list"),))
    except RecursionError:
        return _Inline(details=(_detail("value_error", ("requests",), "Is nested too deeply"),))
    lines: list[bytes] = []
    details: list[ErrorDetail] = []
    for place, each in enumerate(requests):
        line = _line(place, bytes(each), body.half)
        if isinstance(line, bytes):
            lines.append(line)
        else:
            details.append(line)
    return _Inline(tuple(lines), tuple(details))


def _line(place: int, raw: bytes, half: bytes | None) -> bytes | ErrorDetail:
    """One request as an input line: its id (else its index) and its body as it came, but for
    halves of surrogate pairs."""
    request = _request(place, raw)
    if isinstance(request, ErrorDetail):
        return request
    custom_id = _custom_id(place, request.get("custom_id", _NULL), half)
    if isinstance(custom_id, ErrorDetail):
        return custom_id
    body = bytes(request.get("body", _NULL))
    if body == b"null":
        return _detail("missing", ("requests", place, "body"), "Field required")
    if not body.startswith(b"{"):
        return _detail("dict_type", ("requests", place, "body"), "Must be an object")
    return b'{"custom_id":' + json_string(custom_id) + b',"body":' + ascii_line(body) + b"}\n"


def _custom_id(place: int, raw: msgspec.Raw, half: bytes | None) -> str | ErrorDetail:
    loc = ("requests", place, "custom_id")
    if half is not None and half in bytes(raw):
        return _detail("value_error", loc, "Has half of a surrogate pair, which is no character")
    try:
        custom_id = _CUSTOM_ID.decode(raw)
    except msgspec.ValidationError:
        return _detail("string_type", loc, "Must be a string")
    return str(place) if custom_id is None else custom_id


def _request(place: int, raw: bytes) -> dict[str, msgspec.Raw] | ErrorDetail:
    """The members of one request; `custom_id` and `body` stand in it once at most."""
    try:
        found = members(raw)
    except TooManyValues:
        return _detail("too_long", ("requests", place), f"At most {MOST_MEMBERS} keys")
    except RecursionError:
        return _detail("value_error", ("requests", place), "Is nested too deeply")
    except msgspec.ValidationError:
        return _detail("dict_type", ("requests", place), "Must be an object")
    names = [name for name, _ in found]
    for name in ("custom_id", "body"):
        if names.count(name) > 1:
            return _detail("value_error", ("requests", place, name), "The key stands twice")
    return dict(found)


def _detail(kind: str, loc: tuple[str | int, ...], says: str) -> ErrorDetail:
    return ErrorDetail(type=kind, loc=["body", *loc], msg=says)
