"""Files on the wire: one object with the fields of both vendors, and what its filters mean."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from batchmill.model import File, FileSource, Stream
from batchmill.web.services import ApiRules

RESULT_PURPOSE = "batch_output"
_SAMPLE_TYPES = {None: "batch_request", Stream.OUT: "batch_result", Stream.ERR: "batch_error"}
_SOURCES = {
    "upload": (FileSource.UPLOAD,),
    "mistral": (FileSource.RESULT, FileSource.INLINE),
    "repository": (),
}


class FileObject(BaseModel):
    """A file, for either vendor's SDK."""

    id: str = Field(examples=["4017dc9f-b629-42f4-9700-8c681b9e7f0f"])
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    filename: str
    purpose: str
    sample_type: str
    source: str
    num_lines: int | None
    mimetype: str | None
    signature: str | None
    expires_at: int | None
    visibility: str | None
    status: Literal["processed"] = "processed"
    status_details: None = None


class FileDetails(FileObject):
    """A file as retrieving it alone shows it."""

    deleted: bool = False


class FileList(BaseModel):
    """A page of files; both vendors' ways of paging at once."""

    object: Literal["list"] = "list"
    data: list[FileObject]
    total: int
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedFile(BaseModel):
    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


class SignedUrl(BaseModel):
    """A link that needs no key until it expires."""

    url: str


def file_object(file: File, rules: ApiRules) -> FileObject:
    """The file as lists and uploads show it."""
    return FileObject(
        id=file.id,
        bytes=file.size_bytes,
        created_at=int(file.created_at),
        filename=file.filename,
        purpose=file.purpose,
        sample_type=_SAMPLE_TYPES[file.stream],
        source="upload" if file.source is FileSource.UPLOAD else "mistral",
        num_lines=file.lines,
        mimetype=file.mimetype,
        signature=file.signature,
        expires_at=_expires_at(file, rules),
        visibility=file.visibility or "workspace",
    )


def sources_of(names: list[str]) -> tuple[str, ...]:
    """The sources that the wire's names stand for."""
    return tuple(source.value for name in names for source in _SOURCES.get(name, ()))


def _expires_at(file: File, rules: ApiRules) -> int | None:
    """The earlier of the file's own end and the installation's."""
    is_result = file.source is FileSource.RESULT
    kept = rules.keep_results_seconds if is_result else rules.keep_uploads_seconds
    ends = [at for at in (file.expires_at, file.created_at + kept if kept else None) if at]
    return int(min(ends)) if ends else None
