"""Every error reply: one body that both vendors' SDKs read.

`{"object":"error","message","type","param","code","error":{the same four}}`, a `line` where an
uploaded file is at fault, and a `detail` list (as FastAPI writes it) for 422. Mistral reads the
outer four and OpenAI the inner; they differ only in the type of a 401.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute, Match
from starlette.types import Scope
from structlog import get_logger

from batchmill.errors import (
    BlobMissing,
    BlobsUnavailable,
    Conflict,
    InvalidFile,
    InvalidInput,
    LedgerUnavailable,
    NotFound,
    TooMany,
    Unavailable,
    UserError,
)

log = get_logger(__name__)
METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
RETRY_AFTER_SECONDS = 5


class ErrorFacts(BaseModel):
    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorDetail(BaseModel):
    """One field that is wrong: where it stands in the request, and why."""

    type: str
    loc: list[str | int]
    msg: str


class ErrorBody(BaseModel):
    """Any error."""

    object: Literal["error"] = "error"
    message: str
    type: Literal[
        "invalid_request_error", "authentication_error", "rate_limit_error", "server_error"
    ]
    param: str | None = None
    code: str | None = None
    error: ErrorFacts
    line: int | None = None
    detail: list[ErrorDetail] | None = None


class InvalidFields(InvalidInput):
    """Several fields of a request are wrong; each stands in `details`."""

    def __init__(self, details: Sequence[ErrorDetail], *, status: int = 422) -> None:
        first = details[0]
        more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
        param = _param(first.loc)
        super().__init__(
            f"{param}: {first.msg}{more}" if param else f"{first.msg}{more}",
            param=param,
            code=_code(first.type),
            status=status,
        )
        self.details = tuple(details)


def error_reply(
    status: int,
    message: str,
    *,
    param: str | None = None,
    code: str | None = None,
    line: int | None = None,
    details: Sequence[ErrorDetail] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The reply for an error that the caller describes."""
    facts = {"message": message, "type": _type(status), "param": param, "code": code}
    inner = {**facts, "type": "invalid_request_error"} if status == 401 else facts
    body: dict[str, Any] = {"object": "error", **facts, "error": inner}
    if line is not None:
        body["line"] = line
    if details:
        body["detail"] = [detail.model_dump() for detail in details]
    return Response(
        json.dumps(body), status, headers=dict(headers or {}), media_type="application/json"
    )


def user_error_reply(error: UserError) -> Response:
    """The reply for an error of the caller's."""
    details: Sequence[ErrorDetail] = ()
    if isinstance(error, InvalidFields):
        details = error.details
    elif error.status == 422:
        place = [] if error.param is None else error.param.split(".")
        details = [
            ErrorDetail(
                type=error.code or "value_error",
                loc=["body", *(int(p) if p.isdecimal() else p for p in place)],
                msg=error.message,
            )
        ]
    return error_reply(
        error.status,
        error.message,
        param=error.param,
        code=error.code,
        line=error.line if isinstance(error, InvalidFile) else None,
        details=details,
        headers=_headers(error),
    )


def unexpected_reply(request_id: str) -> Response:
    """The reply for a mistake of ours; the log has the rest under the request's id."""
    return error_reply(
        500,
        f"Batchmill made a mistake; its log says more about request {request_id}.",
        code="internal_error",
    )


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route may answer beside its success, for the OpenAPI document."""
    return {
        status: {"model": ErrorBody, "description": _DESCRIPTIONS[status]}
        for status in sorted({400, 401, 403, 422, 503, *statuses})
    }


def answer_errors(app: FastAPI) -> None:
    """Give the app a reply for everything that may be raised below it."""
    app.add_exception_handler(UserError, _on_user_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_parameters)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(LedgerUnavailable, _on_unavailable)
    app.add_exception_handler(BlobsUnavailable, _on_unavailable)
    app.add_exception_handler(BlobMissing, _on_missing_blob)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)


async def _on_user_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, UserError)
    return user_error_reply(error)


async def _on_invalid_parameters(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    details = [
        ErrorDetail(type=str(e["type"]), loc=list(e["loc"]), msg=str(e["msg"]))
        for e in error.errors()
    ]
    return user_error_reply(InvalidFields(details))


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return user_error_reply(
            NotFound(f"There is no {request.method} {request.url.path} here.", code="unknown_route")
        )
    if error.status_code == 405:
        allowed = ", ".join(_allowed_methods(request.scope))
        return error_reply(
            405,
            f"{request.method} is not allowed at {request.url.path}; allowed are {allowed}.",
            code="method_not_allowed",
            headers={"allow": allowed},
        )
    return error_reply(error.status_code, str(error.detail), headers=error.headers)


def answers(scope: Scope, method: str) -> bool:
    """Whether some route answers that method at the path of a request."""
    routes: Sequence[BaseRoute] = scope["app"].routes
    asked = {**scope, "method": method}
    return any(route.matches({**asked})[0] is Match.FULL for route in routes)


def _allowed_methods(scope: Scope) -> list[str]:
    """Every method that is answered there (HEAD wherever GET is, see `heads.py`); Starlette tells
    only those of the first route."""
    return [method for method in METHODS if answers(scope, "GET" if method == "HEAD" else method)]


async def _on_unavailable(request: Request, error: Exception) -> Response:
    log.warning("store_unavailable", path=request.url.path, reason=str(error))
    return error_reply(
        503,
        "The server cannot reach its storage now, and nothing was changed; try again later.",
        code="storage_unavailable",
        headers={"retry-after": str(RETRY_AFTER_SECONDS)},
    )


async def _on_missing_blob(request: Request, error: Exception) -> Response:
    assert isinstance(error, BlobMissing)
    log.error("blob_missing", path=request.url.path, blob=error.name)
    return error_reply(
        500,
        "The content is missing from the server's storage; its operator must restore it.",
        code="blob_missing",
        headers={"x-should-retry": "false"},
    )


async def _on_disconnect(_: Request, __: Exception) -> Response:
    return error_reply(400, "The connection was closed before the request had ended.")


def _headers(error: UserError) -> dict[str, str]:
    if isinstance(error, TooMany | Unavailable):
        return {"retry-after": str(error.retry_after)}
    if isinstance(error, Conflict):
        return {"x-should-retry": "false"}
    return {"www-authenticate": "Bearer"} if error.status == 401 else {}


def _param(loc: Sequence[str | int]) -> str | None:
    named = loc[1:] if loc and loc[0] in {"body", "query", "path", "header"} else loc
    return ".".join(str(part) for part in named) or None


def _code(kind: str) -> str:
    """Pydantic's kind of error in OpenAI's words."""
    if kind == "missing":
        return "missing_required_parameter"
    return "invalid_type" if kind.endswith(("_type", "_parsing")) else "invalid_value"


def _type(status: int) -> str:
    if status >= 500:
        return "server_error"
    if status in {401, 403}:
        return "authentication_error"
    return "rate_limit_error" if status == 429 else "invalid_request_error"


_DESCRIPTIONS = {
    400: "The request is malformed.",
    401: "No API key, or one that is unknown or revoked.",
    403: "This address or origin may not be used, or the link is not valid.",
    404: "There is no such thing for this key.",
    408: "The body stood still for too long.",
    409: "The thing is in a state in which this cannot be done.",
    410: "The thing is no longer kept.",
    413: "The body or file is over a limit.",
    415: "The body is encoded in a way that is not understood.",
    416: "The file has no such range.",
    422: "A field or parameter has an impossible value.",
    500: "The server lost something it should have.",
    503: "The server's storage is away or full, or it is too busy; nothing was changed.",
}
