"""Receiving a file as `multipart/form-data`: parsed as it comes, spooled to a blob, never held.

Fields may stand before or after the file, with or without a `content-length`. What the fields
mean is the dialects' matter (`dialects/files.py`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from batchmill.core.lines import LineCounter
from batchmill.core.submit import refuse_when_full
from batchmill.errors import InvalidInput, TooLarge
from batchmill.model import BlobName
from batchmill.ports import BlobWriter
from batchmill.web.bodies import chunks, refuse_encoded
from batchmill.web.services import Services

MAX_PARTS = 64
MAX_FIELD_BYTES = 4096
MAX_NAME_CHARACTERS = 255
_FORM_BYTES = 64 * 1024
"""What a form may hold beside its file."""
_WRITE_BYTES = 1024 * 1024
_CHECK_ROOM_BYTES = 64 * 1024 * 1024
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(slots=True)
class Upload:
    """A received form: its text fields, and the file, spooled but not yet committed."""

    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None
    mimetype: str | None = None
    size_bytes: int = 0
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)
    lines: LineCounter = field(default_factory=LineCounter)


@dataclass(frozen=True, slots=True)
class Expected:
    """The part of a form that holds the bytes: its name, what people call it, and how many bytes
    it may have. Only of a `whole` file are the lines counted and the digest taken."""

    field: str
    called: str
    limit_bytes: int
    whole: bool = True


class Reception:
    """`async with Reception(...) as reception`: receive the form, then commit the blob.

    Without a commit nothing is left of it, however the block ends.
    """

    def __init__(
        self, request: Request, services: Services, blob: BlobName, expected: Expected | None = None
    ) -> None:
        self._request = request
        self._services = services
        self._blob = blob
        limit = services.rules.limits.file_bytes
        self._expected = expected or Expected("file", "A file", limit)
        self._writer: BlobWriter | None = None
        self._committed = False
        self._room_checked_bytes = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is not None and not self._committed:
            await self._writer.abort()

    async def receive(self) -> Upload:
        """The whole form. Raises `InvalidInput`, `TooLarge`, `Unavailable` (disk nearly full)."""
        refuse_encoded(self._request)
        form = Form(_boundary(self._request.headers), self._expected.field)
        announced = self._announced_bytes()
        self._refuse_large(announced - _FORM_BYTES)
        await self._refuse_full(announced)
        self._writer = await self._services.blobs.writer(self._blob)
        upload = Upload()
        held: list[bytes] = []
        async for chunk in chunks(self._request, self._services.rules.idle_seconds):
            for piece in form.feed(chunk):
                held.append(piece)
                upload.size_bytes += len(piece)
                self._refuse_large(upload.size_bytes)
            if sum(map(len, held)) >= _WRITE_BYTES:
                await self._take(upload, b"".join(held))
                held = []
        form.end()
        await self._take(upload, b"".join(held))
        upload.fields = form.fields
        upload.filename, upload.mimetype = form.filename, form.mimetype
        return upload

    async def commit(self) -> None:
        """Make the file's blob durable."""
        assert self._writer is not None
        await self._writer.commit()
        self._committed = True

    async def _take(self, upload: Upload, data: bytes) -> None:
        """Count and keep a run of the file's bytes, as long as there is room."""
        assert self._writer is not None
        if self._expected.whole:
            upload.digest.update(data)
            upload.lines.feed(data)
        await self._writer.write(data)
        if upload.size_bytes - self._room_checked_bytes > _CHECK_ROOM_BYTES:
            self._room_checked_bytes = upload.size_bytes
            await self._refuse_full(0)

    def _announced_bytes(self) -> int:
        text = self._request.headers.get("content-length", "")
        return int(text) if text.isdecimal() and len(text) < 20 else 0

    async def _refuse_full(self, coming_bytes: int) -> None:
        services = self._services
        await refuse_when_full(services.blobs, services.rules.low_disk_bytes, coming_bytes)

    def _refuse_large(self, size_bytes: int) -> None:
        expected = self._expected
        if size_bytes > expected.limit_bytes:
            raise TooLarge(
                f"{expected.called} may have at most {expected.limit_bytes:,} bytes; split it.",
                param=expected.field,
                code="file_too_large",
            )


class Form:
    """A push parser of one form: gives the file's bytes back, keeps the text fields. The file is
    the part of that name."""

    def __init__(self, boundary: bytes, file_field: str = "file") -> None:
        self._file_field = file_field
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self.mimetype: str | None = None
        self._pieces: list[bytes] = []
        self._headers: dict[bytes, bytes] = {}
        self._header_name = b""
        self._header_value = b""
        self._name = ""
        self._text = b""
        self._parts = 0
        self._in_file = False
        self._ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": self._on_header_name,
                "on_header_value": self._on_header_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": self._on_data,
                "on_part_end": self._end_part,
                "on_end": self._on_end,
            },
        )

    def feed(self, chunk: bytes) -> list[bytes]:
        """What of the chunk belongs to the file. Raises `InvalidInput`."""
        try:
            self._parser.write(chunk)
        except FormParserError as e:
            raise _malformed(f"The form cannot be read: {e}") from e
        pieces, self._pieces = self._pieces, []
        return pieces

    def end(self) -> None:
        """Check that the form was whole and had a file. Raises `InvalidInput`."""
        if not self._ended:
            raise _malformed("The form ends before its closing boundary; send it again.")
        if self.filename is None:
            raise InvalidInput(
                f"The form has no part named `{self._file_field}`.",
                param=self._file_field,
                code="missing_required_parameter",
            )

    def _begin_part(self) -> None:
        self._parts += 1
        self._headers = {}
        self._text = b""
        if self._parts > MAX_PARTS:
            raise _malformed(f"The form has more than {MAX_PARTS} parts.")

    def _on_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        self._headers[self._header_name.lower()] = self._header_value
        self._header_name = self._header_value = b""

    def _end_headers(self) -> None:
        kind, options = parse_options_header(self._headers.get(b"content-disposition"))
        if kind != b"form-data" or b"name" not in options:
            raise _malformed(
                'Every part of the form needs `content-disposition: form-data; name="..."`.'
            )
        self._name = options[b"name"].decode(errors="replace")
        self._in_file = self._name == self._file_field
        if self._in_file:
            self._begin_file(options)

    def _begin_file(self, options: Mapping[bytes, bytes]) -> None:
        name = self._file_field
        if self.filename is not None:
            raise _malformed(f"The form has two parts named `{name}`.", name)
        if b"filename" not in options:
            raise _malformed(f"The part named `{name}` must have a filename, as a file has.", name)
        transfer = self._headers.get(b"content-transfer-encoding", b"binary").strip().lower()
        if transfer not in {b"binary", b"8bit", b"7bit"}:
            raise _malformed(
                "The file must be sent as it is, without a content-transfer-encoding.", name
            )
        self.filename = plain_filename(options[b"filename"].decode(errors="replace"))
        self.mimetype, _ = _media_type(self._headers.get(b"content-type", b""))

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._pieces.append(data[start:end])
            return
        self._text += data[start:end]
        if len(self._text) > MAX_FIELD_BYTES:
            raise _malformed(f"The field is longer than {MAX_FIELD_BYTES} bytes.", self._name)

    def _end_part(self) -> None:
        if not self._in_file:
            self._end_field()

    def _end_field(self) -> None:
        if self._name in self.fields:
            raise _malformed("The field stands twice.", self._name)
        try:
            self.fields[self._name] = self._text.decode()
        except UnicodeDecodeError as e:
            raise _malformed("The field is not UTF-8.", self._name) from e

    def _on_end(self) -> None:
        self._ended = True


def plain_filename(name: str) -> str:
    """The name without folders and control characters, at most 255 characters long; never a
    path."""
    name = _CONTROLS.sub("_", re.split(r"[/\\]", name)[-1]).strip()
    return name[:MAX_NAME_CHARACTERS] if name.strip(".") else "upload"


def _boundary(headers: Mapping[str, str]) -> bytes:
    kind, options = parse_options_header(headers.get("content-type", ""))
    if kind != b"multipart/form-data":
        raise InvalidInput(
            "Send the bytes as `multipart/form-data`, in a part with a filename.",
            param="content-type",
            code="invalid_content_type",
        )
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 200 or not boundary.isascii():
        raise _malformed("The content-type has no usable boundary.")
    return boundary


def _media_type(raw: bytes) -> tuple[str | None, Mapping[bytes, bytes]]:
    raw_kind, options = parse_options_header(raw.decode("latin-1"))
    kind = raw_kind.decode("latin-1")[:100]
    return None if not kind or _CONTROLS.search(kind) else kind, options


def _malformed(message: str, field_name: str | None = None) -> InvalidInput:
    return InvalidInput(
        message, param=None if field_name is None else field_name[:64], code="invalid_form"
    )
