"""`/v1/files` for both vendors: upload, list, retrieve, delete, content and signed links."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from batchmill.clock import new_id
from batchmill.core.names import input_name
from batchmill.dialects.fileforms import FORM_SCHEMA, new_file, read_fields
from batchmill.dialects.fileobjects import (
    RESULT_PURPOSE,
    DeletedFile,
    FileDetails,
    FileList,
    FileObject,
    SignedUrl,
    file_object,
    sources_of,
)
from batchmill.dialects.ids import file_id as id_of_file
from batchmill.dialects.ids import no_such_file, uuid_in
from batchmill.model import File, FileId
from batchmill.queries import FileQuery, Page
from batchmill.web import signing
from batchmill.web.auth import Caller, CallerOf, is_host
from batchmill.web.downloads import content
from batchmill.web.errors import error_responses
from batchmill.web.paging import MAX_LIMIT, Limit, PageNumber, PageSize
from batchmill.web.replies import json_reply
from batchmill.web.services import Services, Wired
from batchmill.web.uploads import Reception

router = APIRouter(prefix="/v1/files", tags=["Files"])

_BINARY: dict[str, Any] = {
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
}
_CONTENT: dict[int | str, dict[str, Any]] = {
    200: {**_BINARY, "description": "The whole file"},
    206: {**_BINARY, "description": "The range that was asked for"},
    304: {"description": "The bytes are those of the `etag` that was sent"},
    **error_responses(404, 416, 500),
}
_CONDITIONAL: dict[str, Any] = {
    "parameters": [
        {
            "name": name,
            "in": "header",
            "required": False,
            "schema": {"type": "string"},
            "description": says,
        }
        for name, says in (
            ("range", "One run of bytes, such as `bytes=0-999`"),
            ("if-range", "The `etag` that the range belongs to"),
            ("if-none-match", "The `etag` of the bytes that are there already"),
        )
    ]
}
_HEADERS: dict[int | str, dict[str, Any]] = {
    status: {"description": told["description"]} for status, told in _CONTENT.items()
}


@router.post(
    "",
    response_model=FileObject,
    responses=error_responses(408, 413, 415),
    openapi_extra={"requestBody": FORM_SCHEMA},
)
async def upload_file(request: Request, services: Wired, caller: CallerOf) -> Response:
    """Upload a file, streamed; with purpose `batch` (the default) it must be JSON lines."""
    new = FileId(new_id())
    async with Reception(request, services, input_name(new)) as reception:
        upload = await reception.receive()
        fields, now = read_fields(upload.fields), await services.ledger.now()
        keep = services.rules.keep_uploads_seconds
        file = new_file(new, upload, fields, caller.tenant, now, keep)
        await reception.commit()
    return json_reply(file_object(await services.ledger.add_file(file), services.rules))


@router.get("", response_model=FileList, responses=error_responses())
async def list_files(
    services: Wired,
    caller: CallerOf,
    page: PageNumber | None = None,
    page_size: PageSize | None = None,
    _include_total: Annotated[
        bool | None, Query(alias="include_total", description="`total` is always sent")
    ] = None,
    sample_type: Annotated[list[str] | None, Query()] = None,
    source: Annotated[list[str] | None, Query()] = None,
    search: Annotated[
        str | None, Query(description="A part of the file's name", max_length=255)
    ] = None,
    mimetypes: Annotated[list[str] | None, Query()] = None,
    purpose: Annotated[str | None, Query()] = None,
    after: Annotated[str | None, Query(description="The id of the last file seen")] = None,
    limit: Limit | None = None,
    order: Annotated[Literal["asc", "desc"], Query()] = "desc",
) -> Response:
    """List files, newest first; paged by the parameters that come, 10,000 without any."""
    of_mistral = page is not None or page_size is not None or bool(sample_type or source)
    purposes: tuple[str, ...] = (purpose,) if purpose else ()
    if of_mistral and purpose == "batch":
        purposes = ("batch", RESULT_PURPOSE)
    sources = sources_of(source or [])
    cursor = uuid_in(after) if after else None
    if (source and not sources) or (after and cursor is None):
        return json_reply(_list(Page((), 0, has_more=False), services))
    size = page_size or (100 if page is not None else limit or MAX_LIMIT)
    query = FileQuery(
        purposes=purposes,
        sources=sources,
        sample_types=frozenset(sample_type or ()),
        mimetypes=tuple(mimetypes or ()),
        search=search or None,
        after=None if cursor is None else FileId(cursor),
        offset=(page or 0) * size,
        limit=size,
        oldest_first=order == "asc",
    )
    return json_reply(_list(await services.ledger.files(caller.tenant, query), services))


@router.get("/{file_id}", response_model=FileDetails, responses=error_responses(404))
async def retrieve_file(file_id: str, services: Wired, caller: CallerOf) -> Response:
    """A file's facts (its bytes are at `/content`)."""
    return json_reply(_details(await _find(file_id, services, caller), services))


@router.delete("/{file_id}", response_model=DeletedFile, responses=error_responses(404, 409))
async def delete_file(file_id: str, services: Wired, caller: CallerOf) -> Response:
    """Delete a file. One that an unfinished job needs is refused."""
    file = await _find(file_id, services, caller)
    if not await services.ledger.delete_file(caller.tenant, file.id):
        raise no_such_file(file_id)
    return json_reply(DeletedFile(id=file.id))


@router.head(
    "/{file_id}/content", response_class=Response, responses=_HEADERS, openapi_extra=_CONDITIONAL
)
@router.get(
    "/{file_id}/content", response_class=Response, responses=_CONTENT, openapi_extra=_CONDITIONAL
)
async def download_file(
    request: Request, file_id: str, services: Wired, caller: CallerOf
) -> Response:
    """A file's bytes, streamed; `Range` and `If-None-Match` are understood."""
    return await content(request, services, await _find(file_id, services, caller))


@router.get("/{file_id}/url", response_model=SignedUrl, responses=error_responses(404))
async def get_signed_url(
    request: Request,
    file_id: str,
    services: Wired,
    caller: CallerOf,
    expiry: Annotated[int, Query(ge=1, le=168, description="Hours until it expires")] = 24,
) -> Response:
    """A link to the file's bytes that needs no key."""
    file = await _find(file_id, services, caller)
    ledger = services.ledger
    secret = await ledger.secret(signing.PURPOSE)
    expires_at = int(await ledger.now()) + expiry * 3600
    token = signing.sign(secret, file.id, caller.tenant, expires_at)
    return json_reply(
        SignedUrl(url=f"{_base(request, services)}/v1/files/{file.id}/signed?token={token}")
    )


@router.head(
    "/{file_id}/signed", response_class=Response, responses=_HEADERS, openapi_extra=_CONDITIONAL
)
@router.get(
    "/{file_id}/signed", response_class=Response, responses=_CONTENT, openapi_extra=_CONDITIONAL
)
async def download_by_signed_url(
    request: Request, file_id: str, services: Wired, token: Annotated[str, Query()] = ""
) -> Response:
    """A file's bytes by a signed link; no key is needed."""
    asked = FileId(uuid_in(file_id) or "")
    ledger = services.ledger
    secret = await ledger.secret(signing.PURPOSE)
    tenant = signing.read(secret, asked, token, await ledger.now())
    return await content(request, services, await _find(file_id, services, Caller(tenant)))


async def _find(text: str, services: Services, caller: Caller) -> File:
    file = await services.ledger.file(caller.tenant, id_of_file(text))
    if file is None:
        raise no_such_file(text)
    return file


def _details(file: File, services: Services) -> FileDetails:
    return FileDetails(**file_object(file, services.rules).model_dump())


def _list(page: Page[File], services: Services) -> FileList:
    data = [file_object(file, services.rules) for file in page.items]
    return FileList(
        data=data,
        total=page.total,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
        has_more=page.has_more,
    )


def _base(request: Request, services: Services) -> str:
    """What links start with: the setting, or the address that the request came to."""
    if services.rules.public_url is not None:
        return services.rules.public_url
    host = request.headers.get("host", "")
    if not is_host(host):
        server = request.scope.get("server") or ("127.0.0.1", 80)
        host = f"{server[0]}:{server[1]}"
    return f"{request.url.scheme}://{host}"
