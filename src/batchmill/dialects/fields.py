"""The JSON body of a route: read into a model, and told of in the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from batchmill.web.errors import ErrorDetail, InvalidFields

Fields = TypeVar("Fields", bound=BaseModel)
_MAX_DETAILS = 100


def read_fields(model: type[Fields], values: Mapping[str, Any], status: int) -> Fields:
    """The fields of a body; null is the same as absent. Raises `InvalidFields` with that status."""
    try:
        return model.model_validate({k: v for k, v in values.items() if v is not None})
    except ValidationError as e:
        details = [
            ErrorDetail(type=str(p["type"]), loc=["body", *p["loc"]], msg=p["msg"])
            for p in e.errors()[:_MAX_DETAILS]
        ]
        raise InvalidFields(details, status=status) from None


def body_of(model: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    """The request body of a route that reads it itself, for the OpenAPI document."""
    content = {"application/json": {"schema": model.model_json_schema()}}
    return {"requestBody": {"required": required, "content": content}}
