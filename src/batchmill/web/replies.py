"""Success replies: 200 with JSON in ASCII, which every SDK and every proxy reads."""

from __future__ import annotations

from fastapi import Response
from pydantic import BaseModel


def json_reply(model: BaseModel) -> Response:
    """The model as JSON, nulls included: SDKs tell an absent field from a null one."""
    return Response(model.model_dump_json(ensure_ascii=True), media_type="application/json")
