"""Uploads on the wire: what creates and completes one, and how it and its parts are shown. Pure."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, WithJsonSchema

from batchmill.assembly import MAX_PIECES, Assembly, AssemblyId, AssemblyState, Piece, PieceId
from batchmill.core.submit import BATCH_PURPOSE
from batchmill.dialects.fileforms import MAX_EXPIRES_SECONDS, MIN_EXPIRES_SECONDS
from batchmill.dialects.fileobjects import FileObject
from batchmill.dialects.ids import uuid_in
from batchmill.errors import NotFound

_MD5 = re.compile(r"[0-9a-fA-F]{32}")
_Text = Annotated[str, StringConstraints(min_length=1, max_length=4096, pattern=r"^[^\x00]*$")]


class ExpiresAfter(BaseModel):
    """When the file expires, counted from when the upload is completed."""

    model_config = ConfigDict(strict=True, extra="ignore")

    anchor: Literal["created_at"]
    seconds: int = Field(ge=MIN_EXPIRES_SECONDS, le=MAX_EXPIRES_SECONDS)


_ExpiresAfter = Annotated[ExpiresAfter | None, WithJsonSchema(ExpiresAfter.model_json_schema())]


class CreateUpload(BaseModel):
    """What announces a file that comes in parts. Null is the same as absent."""

    model_config = ConfigDict(strict=True, extra="ignore")

    bytes: int = Field(ge=1, description="Of all parts together")
    filename: _Text
    mime_type: Annotated[str, StringConstraints(pattern=r"^[\x20-\x7e]{1,100}$")] | None = None
    purpose: str = BATCH_PURPOSE
    expires_after: _ExpiresAfter = None


class CompleteUpload(BaseModel):
    """The parts in the order of their bytes, and the whole's MD5 in hex if it is to be checked."""

    model_config = ConfigDict(strict=True, extra="ignore")

    part_ids: list[str] = Field(min_length=1, max_length=MAX_PIECES)
    md5: Annotated[str, StringConstraints(pattern=f"^{_MD5.pattern}$")] | None = None


class UploadObject(BaseModel):
    """A file that comes in parts."""

    id: str = Field(examples=["upload_4017dc9fb62942f497008c681b9e7f0f"])
    object: Literal["upload"] = "upload"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: AssemblyState
    file: FileObject | None = None


class UploadPart(BaseModel):
    """A part of an upload."""

    id: str
    object: Literal["upload.part"] = "upload.part"
    created_at: int
    upload_id: str


def upload_object(assembly: Assembly, file: FileObject | None) -> UploadObject:
    """The upload as it is shown, with its file once there is one."""
    return UploadObject(
        id=_shown("upload", assembly.id),
        bytes=assembly.size_bytes,
        created_at=int(assembly.created_at),
        expires_at=int(assembly.expires_at),
        filename=assembly.filename,
        purpose=assembly.purpose,
        status=assembly.state,
        file=file,
    )


def upload_part(piece: Piece) -> UploadPart:
    """The part as it is shown."""
    return UploadPart(
        id=_shown("part", piece.id),
        created_at=int(piece.created_at),
        upload_id=_shown("upload", piece.assembly),
    )


def assembly_id(text: str) -> AssemblyId:
    """The id of an upload. Raises `NotFound` for what cannot be one."""
    found = uuid_in(text.removeprefix("upload_"))
    if found is None:
        raise no_such_upload(text)
    return AssemblyId(found)


def piece_id(text: str) -> PieceId | None:
    """The id of a part, None for what cannot be one."""
    found = uuid_in(text.removeprefix("part_"))
    return None if found is None else PieceId(found)


def no_such_upload(text: str) -> NotFound:
    """The error for an upload that does not exist for its asker."""
    return NotFound(f"No such Upload object: {text[:100]}", param="upload_id", code="not_found")


def _shown(kind: str, id: str) -> str:
    return f"{kind}_{id.replace('-', '')}"
