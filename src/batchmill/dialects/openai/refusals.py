"""What OpenAI's routes say of a field or parameter that is wrong: 400, the first one only. Pure."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from batchmill.errors import InvalidInput

_KEY = "[key]"
"""Where pydantic says that a key is at fault, not its value."""
_SHOWN = 100


class OpenAIRoute(APIRoute):
    """A route whose parameters are refused as its body is."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def answer_or_refuse(request: Request) -> Response:
            try:
                return await answer(request)
            except RequestValidationError as e:
                first = e.errors()[0]
                raise refused(str(first["type"]), first["loc"][1:], str(first["msg"])) from None

        return answer_or_refuse


def refused(kind: str, loc: Sequence[str | int], says: str) -> InvalidInput:
    """One problem as pydantic names it, in OpenAI's words."""
    param = ".".join(str(part)[:_SHOWN] for part in loc if part != _KEY)
    if kind == "missing":
        return InvalidInput(
            f"Missing required parameter: '{param}'.",
            param=param,
            code="missing_required_parameter",
        )
    reason = f"{says[:1].lower()}{says[1:]}"
    if kind.endswith(("_type", "_parsing")):
        message = f"Invalid type for '{param}': {reason}."
        return InvalidInput(message, param=param, code="invalid_type")
    place = f"a key of '{param.rpartition('.')[0]}'" if _KEY in loc else f"'{param}'"
    return InvalidInput(f"Invalid value for {place}: {reason}.", param=param, code="invalid_value")


def unsupported(param: str, value: str, supported: str) -> InvalidInput:
    """A value that is none of those that may be asked for."""
    return InvalidInput(
        f"Invalid value: '{value[:_SHOWN]}'. Supported values are: {supported}.",
        param=param,
        code="invalid_value",
    )
