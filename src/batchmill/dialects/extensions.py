"""The keys of ours that a create takes beside its vendor's own: in the body, or as a header
`x-batchmill-<key>` for SDKs that refuse unknown arguments. The body wins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from batchmill.core.submit import MAX_PRIORITY
from batchmill.web.errors import ErrorDetail

_NAMES = ("priority", "on_invalid", "window", "webhook_url", "dedupe")
_TYPES = {"priority": "integer", "dedupe": "boolean"}
_FLAGS = {"true": True, "1": True, "false": False, "0": False}
_REFUSALS = {
    "priority": ("int_parsing", "Must be a whole number"),
    "dedupe": ("bool_parsing", "Must be true or false"),
}
_HEADER = "x-batchmill-"

PARAMETERS: list[dict[str, Any]] = [
    {
        "name": f"{_HEADER}{name}",
        "in": "header",
        "required": False,
        "schema": {"type": _TYPES.get(name, "string")},
        "description": f"The extension `{name}`, where the body does not have it",
    }
    for name in _NAMES
]
"""The headers, for the OpenAPI document."""


class Extensions(BaseModel):
    """The keys as the body has them. `window` wins over the vendor's own key for it."""

    model_config = ConfigDict(strict=True, extra="ignore")

    priority: Annotated[int, Field(ge=-MAX_PRIORITY, le=MAX_PRIORITY)] = 0
    on_invalid: Literal["fail", "quarantine"] = "fail"
    window: Annotated[str, Field(examples=["30m", "24h", "7d"])] | None = None
    webhook_url: Annotated[
        str | None, Field(description="Told of the job's end; https, and a public address")
    ] = None
    dedupe: Annotated[
        bool,
        Field(description="Send lines with the same body once, where the answer must be the same"),
    ] = False


def add_headers(fields: dict[str, Any], headers: Mapping[str, str]) -> list[ErrorDetail]:
    """Take extensions from the headers where the body does not have them; what is wrong there."""
    details = []
    for name in _NAMES:
        text = headers.get(_HEADER + name) or headers.get(_HEADER + name.replace("_", "-"))
        if text is None or name in fields:
            continue
        value = _value(name, text)
        if value is None:
            kind, says = _REFUSALS[name]
            details.append(ErrorDetail(type=kind, loc=["header", _HEADER + name], msg=says))
        else:
            fields[name] = value
    return details


def _value(name: str, text: str) -> str | int | None:
    """What a header says; None where it makes no sense."""
    if name == "dedupe":
        return _FLAGS.get(text.strip().lower())
    if name != "priority":
        return text
    is_number = text.removeprefix("-").isdecimal() and len(text) < 10
    return int(text) if is_number else None
