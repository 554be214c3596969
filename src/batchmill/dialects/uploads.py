"""`/v1/uploads`: files that come in parts, as OpenAI's SDKs send large ones."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from fastapi import APIRouter, Request, Response

from batchmill.assembly import (
    MAX_PIECE_BYTES,
    Assembly,
    AssemblyId,
    AssemblyState,
    Piece,
    PieceId,
)
from batchmill.clock import new_id
from batchmill.core.joining import Content, joined
from batchmill.core.names import input_name, piece_name
from batchmill.core.submit import refuse_when_full
from batchmill.dialects.fields import body_of, read_fields
from batchmill.dialects.fileforms import FileFields, check_purpose, new_file
from batchmill.dialects.fileobjects import file_object
from batchmill.dialects.uploadobjects import (
    CompleteUpload,
    CreateUpload,
    UploadObject,
    UploadPart,
    assembly_id,
    no_such_upload,
    piece_id,
    upload_object,
    upload_part,
)
from batchmill.errors import BlobMissing, BlobsUnavailable, Conflict, InvalidInput, TooLarge
from batchmill.model import BlobName, File, FileId
from batchmill.web.auth import Caller, CallerOf
from batchmill.web.bodies import json_object
from batchmill.web.errors import error_responses
from batchmill.web.replies import json_reply
from batchmill.web.services import Services, Wired
from batchmill.web.uploads import Expected, Reception, Upload, plain_filename

router = APIRouter(prefix="/v1/uploads", tags=["Uploads (OpenAI)"])

INVALID_STATUS = 400


_PART: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["data"],
                    "properties": {"data": {"type": "string", "format": "binary"}},
                }
            }
        },
    }
}


@router.post(
    "",
    response_model=UploadObject,
    responses=error_responses(408, 413, 415),
    openapi_extra=body_of(CreateUpload),
)
async def create_upload(request: Request, services: Wired, caller: CallerOf) -> Response:
    """Announce a file that comes in parts; they are taken for an hour."""
    async with json_object(request, services, CreateUpload) as body:
        asked = read_fields(CreateUpload, body.values, INVALID_STATUS)
    check_purpose(asked.purpose)
    limit = services.rules.limits.file_bytes
    if asked.bytes > limit:
        raise TooLarge(
            f"A file may have at most {limit:,} bytes; split it.",
            param="bytes",
            code="file_too_large",
        )
    await refuse_when_full(services.blobs, services.rules.low_disk_bytes, asked.bytes)
    new = Assembly(
        id=AssemblyId(new_id()),
        tenant=caller.tenant,
        filename=plain_filename(asked.filename),
        purpose=asked.purpose,
        size_bytes=asked.bytes,
        mimetype=asked.mime_type,
        lasts_seconds=None if asked.expires_after is None else asked.expires_after.seconds,
    )
    return await _shown(await services.ledger.add_assembly(new), services)


@router.get("/{upload_id}", response_model=UploadObject, responses=error_responses(404))
async def retrieve_upload(upload_id: str, services: Wired, caller: CallerOf) -> Response:
    """An upload as it is now."""
    return await _shown(await _find(upload_id, services, caller), services)


@router.post(
    "/{upload_id}/parts",
    response_model=UploadPart,
    responses=error_responses(404, 408, 409, 413, 415),
    openapi_extra=_PART,
)
async def add_upload_part(
    request: Request, upload_id: str, services: Wired, caller: CallerOf
) -> Response:
    """Send a part of at most 64 MiB, streamed. Parts may come side by side and in any order."""
    assembly = await _find(upload_id, services, caller)
    _refuse_ended(assembly)
    new = PieceId(new_id())
    blob = piece_name(assembly.id, new)
    limit = min(MAX_PIECE_BYTES, assembly.size_bytes)
    expected = Expected("data", "A part of this upload", limit, whole=False)
    async with Reception(request, services, blob, expected) as reception:
        received = await reception.receive()
        if not received.size_bytes:
            raise InvalidInput("The part is empty.", param="data", code="empty_file")
        await reception.commit()
    try:
        piece = await services.ledger.add_piece(Piece(new, assembly.id, blob, received.size_bytes))
    except Conflict:
        await _drop(services, [blob])
        raise
    return json_reply(upload_part(piece))


@router.post(
    "/{upload_id}/complete",
    response_model=UploadObject,
    responses=error_responses(404, 408, 409, 413, 415, 500),
    openapi_extra=body_of(CompleteUpload),
)
async def complete_upload(
    request: Request, upload_id: str, services: Wired, caller: CallerOf
) -> Response:
    """Put the parts together into a file. Asked again with the same parts, it gives the same."""
    async with json_object(request, services, CompleteUpload) as body:
        asked = read_fields(CompleteUpload, body.values, INVALID_STATUS)
    assembly = await _find(upload_id, services, caller)
    ids = tuple(piece_id(text) or PieceId("") for text in asked.part_ids)
    if assembly.state is AssemblyState.PENDING:
        try:
            assembly = await _put_together(assembly, ids, asked.md5, services)
        except BlobMissing:  # or another request has ended it meanwhile
            assembly = await _find(upload_id, services, caller)
            if assembly.state is AssemblyState.PENDING:
                raise
    if assembly.state is not AssemblyState.COMPLETED or assembly.pieces != ids:
        _refuse_ended(assembly)
    await _drop(services, await services.ledger.forget_pieces(assembly.id))
    return await _shown(assembly, services)


@router.post(
    "/{upload_id}/cancel", response_model=UploadObject, responses=error_responses(404, 409)
)
async def cancel_upload(upload_id: str, services: Wired, caller: CallerOf) -> Response:
    """Give an upload up; its parts are dropped."""
    assembly = await _find(upload_id, services, caller)
    assembly = await services.ledger.cancel_assembly(assembly.id)
    if assembly.state is not AssemblyState.CANCELLED:
        _refuse_ended(assembly)
    await _drop(services, await services.ledger.forget_pieces(assembly.id))
    return await _shown(assembly, services)


async def _put_together(
    assembly: Assembly, ids: Sequence[PieceId], md5: str | None, services: Services
) -> Assembly:
    """Make the file of those pieces; the assembly as it then is. Raises `InvalidInput`,
    `InvalidFile`, and `BlobMissing` where the pieces were dropped meanwhile."""
    ledger, blobs = services.ledger, services.blobs
    pieces = _in_order(assembly, ids, await ledger.pieces(assembly.id))
    await refuse_when_full(blobs, services.rules.low_disk_bytes, assembly.size_bytes)
    new = FileId(new_id())
    async with joined(blobs, pieces, input_name(new)) as (writer, content):
        if md5 is not None and content.md5.hexdigest() != md5.lower():
            raise InvalidInput(
                f"The parts have the MD5 {content.md5.hexdigest()} in this order, not {md5}.",
                param="md5",
                code="checksum_mismatch",
            )
        file = _file_of(new, assembly, content, await ledger.now(), services)
        await writer.commit()
    ended = await ledger.complete_assembly(assembly.id, ids, file)
    if ended.file != new:
        await _drop(services, [input_name(new)])
    return ended


def _in_order(
    assembly: Assembly, ids: Sequence[PieceId], pieces: Sequence[Piece]
) -> tuple[Piece, ...]:
    """The pieces that were named. Raises `InvalidInput` when they are not the whole file."""
    known = {piece.id: piece for piece in pieces}
    named: list[Piece] = []
    for place, wanted in enumerate(ids):
        piece = known.pop(wanted, None)
        if piece is None:
            raise InvalidInput(
                f"Part {place} in the list is no part of this upload, or stands in it twice.",
                param=f"part_ids.{place}",
                code="invalid_value",
            )
        named.append(piece)
    size_bytes = sum(piece.size_bytes for piece in named)
    if size_bytes != assembly.size_bytes:
        raise InvalidInput(
            f"The parts have {size_bytes:,} bytes together, and the upload was announced with "
            f"{assembly.size_bytes:,}; name every part once.",
            param="part_ids",
            code="size_mismatch",
        )
    return tuple(named)


def _file_of(
    new: FileId, assembly: Assembly, content: Content, now: float, services: Services
) -> File:
    upload = Upload(
        filename=assembly.filename,
        mimetype=assembly.mimetype,
        size_bytes=content.size_bytes,
        digest=content.sha256,
        lines=content.lines,
    )
    fields = FileFields(assembly.purpose, lasts_seconds=assembly.lasts_seconds)
    keep = services.rules.keep_uploads_seconds
    return new_file(new, upload, fields, assembly.tenant, now, keep)


def _refuse_ended(assembly: Assembly) -> None:
    """Raise `Conflict` unless the upload is pending."""
    if assembly.state is not AssemblyState.PENDING:
        raise Conflict(
            f"The upload is {assembly.state.value}, and nothing more can be done with it; "
            "begin a new one.",
            state=assembly.state,
        )


async def _find(text: str, services: Services, caller: Caller) -> Assembly:
    assembly = await services.ledger.assembly(caller.tenant, assembly_id(text))
    if assembly is None:
        raise no_such_upload(text)
    return assembly


async def _drop(services: Services, names: Sequence[BlobName]) -> None:
    """Delete blobs that no row names any more."""
    with suppress(BlobsUnavailable):  # the sweep finds them
        await services.blobs.delete_many(names)


async def _shown(assembly: Assembly, services: Services) -> Response:
    file = None
    if assembly.file is not None:
        file = await services.ledger.file(assembly.tenant, assembly.file)
    shown = None if file is None else file_object(file, services.rules)
    return json_reply(upload_object(assembly, shown))
