"""The keys of ours that a create takes beside its vendor's own: in the body, or as a header
`x-batchmill-<key>` for SDKs that refuse unknown arguments. The body wins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from batchmill.core.submit import MAX_PRIORITY
from batchmill.web.errors import ErrorDetail

_NAMES = ("priority", "on_invalid", "window", "webhook_url")
_HEADER = "x-batchmill-"

PARAMETERS: list[dict[str, Any]] = [
    {
        "name": f"{_HEADER}{name}",
        "in": "header",
        "required": False,
        "schema": {"type": "integer" if name == "priority" else "string"},
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


def add_headers(fields: dict[str, Any], headers: Mapping[str, str]) -> list[ErrorDetail]:
    """Take extensions from the headers where the body does not have them; what is wrong there."""
    details = []
    for name in _NAMES:
        text = headers.get(_HEADER + name) or headers.get(_HEADER + name.replace("_", "-"))
        if text is None or name in fields:
            continue
        if name != "priority":
            fields[name] = text
        elif text.removeprefix("-").isdecimal() and len(text) < 10:
            fields[name] = int(text)
        else:
            details.append(
                ErrorDetail(
                    type="int_parsing", loc=["header", _HEADER + name], msg="Must be a whole number"
                )
            )
    return details
