"""Sending a file's content: an upload's blob, or the segments that make up a result file.

Streamed as stored, never compressed, with ranges; nothing is held whole.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from functools import partial
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from batchmill.ahead import ahead
from batchmill.errors import BlobMissing
from batchmill.model import File
from batchmill.ports import Blobs, Ledger, Range
from batchmill.web.errors import error_reply
from batchmill.web.services import Services

PIECE_BYTES = 1024 * 1024
AHEAD_BYTES = 3 * PIECE_BYTES
_BYTES = re.compile(r"bytes=\s*([0-9]{0,18})-([0-9]{0,18})\s*")
_UNSAFE = re.compile(r"[^A-Za-z0-9._ -]")


async def pieces_of(ledger: Ledger, file: File) -> tuple[Range, ...]:
    """The runs of blobs that are the file, in order."""
    if file.blob is not None:
        return (Range(file.blob, 0, file.size_bytes),)
    if file.job is None or file.stream is None:
        raise BlobMissing(f"File {file.id} has no content.")
    segments = await ledger.segments(file.job, file.stream)
    return tuple(Range(segment.blob, 0, segment.size_bytes) for segment in segments)


async def stream(blobs: Blobs, pieces: Sequence[Range]) -> AsyncGenerator[bytes, None]:
    """The bytes of the pieces, one after the other, the next ones read while one is sent."""
    steps = (
        (run.length, partial(blobs.read_ranges, [run]))
        for piece in pieces
        for run in _runs(piece, PIECE_BYTES)
    )
    async with aclosing(ahead(steps, AHEAD_BYTES)) as chunks:
        async for [chunk] in chunks:
            yield chunk


def _runs(piece: Range, limit_bytes: int) -> Iterator[Range]:
    """The piece in runs of at most that many bytes."""
    for at in range(0, piece.length, limit_bytes):
        yield Range(piece.blob, piece.offset + at, min(limit_bytes, piece.length - at))


async def begun(body: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The same bytes, the first of them already read: what cannot be read at all is found out
    before a reply has begun."""
    first = await anext(body, b"")

    async def rest() -> AsyncGenerator[bytes, None]:
        async with aclosing(body):
            yield first
            async for chunk in body:
                yield chunk

    return rest()


async def content(request: Request, services: Services, file: File) -> Response:
    """The reply with the file's bytes, or those of one range of it; 304 where the asker has them.

    Raises `BlobMissing` before the first byte where the start is gone.
    """
    pieces = await pieces_of(services.ledger, file)
    size = sum(piece.length for piece in pieces)
    headers = {
        "accept-ranges": "bytes",
        "content-disposition": _disposition(file.filename),
        "etag": f'"{file.id}"',
        "x-content-type-options": "nosniff",
        "cache-control": "private, no-transform",
    }
    if _is_known(request, headers["etag"]):
        return Response(status_code=304, headers=headers)
    asked = _asked_range(request, headers["etag"], size)
    if isinstance(asked, Response):
        return asked
    start, end = asked or (0, size)
    if asked is not None:
        headers["content-range"] = f"bytes {start}-{end - 1}/{size}"
    headers["content-length"] = str(end - start)
    status, media_type = (206 if asked else 200), "application/octet-stream"
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=media_type)
    body = await begun(stream(services.blobs, cut(pieces, start, end)))
    return StreamingResponse(body, status, headers, media_type)


def cut(pieces: Sequence[Range], start: int, end: int) -> tuple[Range, ...]:
    """The part of the pieces between two offsets into all of them."""
    found: list[Range] = []
    at = 0
    for piece in pieces:
        first, last = max(start, at), min(end, at + piece.length)
        if first < last:
            found.append(Range(piece.blob, piece.offset + first - at, last - first))
        at += piece.length
    return tuple(found)


def _is_known(request: Request, etag: str) -> bool:
    """Whether the asker has this version already (RFC 9110, `If-None-Match`)."""
    tags = ",".join(request.headers.getlist("if-none-match")).split(",")
    return any(tag.strip().removeprefix("W/") in {"*", etag} for tag in tags)


def _asked_range(request: Request, etag: str, size: int) -> tuple[int, int] | Response | None:
    """The one range that was asked for, as start and end; None for all of it."""
    headers = request.headers
    if headers.get("if-range", etag) != etag:
        return None
    match = _BYTES.fullmatch(headers.get("range", ""))
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        start, end = max(0, size - int(match[2])), size
    else:
        start, end = int(match[1]), min(size, int(match[2]) + 1 if match[2] else size)
        if match[2] and int(match[2]) < start:
            return None
    if start >= end:
        return error_reply(
            416,
            f"The file has {size} bytes and none in that range.",
            param="range",
            code="invalid_range",
            headers={"content-range": f"bytes */{size}"},
        )
    return start, end


def _disposition(filename: str) -> str:
    """The name in plain letters for old clients, and all of it for the others (RFC 6266)."""
    plain = _UNSAFE.sub("_", filename)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"
