"""From the input to a blob of lines, and what its first line says of the whole."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from batchmill.app.run.sources import Origin, measure, pieces, shown_input
from batchmill.app.run.wanted import Wanted
from batchmill.clock import new_id
from batchmill.core.joining import Content
from batchmill.core.lines import Splitter, model_of
from batchmill.core.models import Catalogue
from batchmill.core.names import input_name
from batchmill.core.submit import BATCH_PURPOSE, ENDPOINTS
from batchmill.errors import UserError
from batchmill.model import DEFAULT_TENANT, BlobName, Dialect, File, FileId, FileSource
from batchmill.ports import Blobs, Ledger

CHAT: Final = "/v1/chat/completions"
_KEYS_SHOWN: Final = 6


@dataclass(frozen=True, slots=True)
class Manner:
    """How the lines of a file are written, by its first one: `model` is what that one names."""

    dialect: Dialect
    endpoint: str
    model: str | None = None


async def take_in(place: str, ledger: Ledger, blobs: Blobs) -> tuple[File, Origin]:
    """Copy the input into a blob and record it: what the file is meanwhile changed to does not
    matter. Raises `UserError` where it cannot be read."""
    size_bytes, modified_ns = await asyncio.to_thread(measure, place)
    file, sha256 = await write_lines(pieces(place), shown_input(place), ledger, blobs)
    return file, Origin.of(place, sha256, size_bytes, modified_ns)


async def write_lines(
    source: Iterator[bytes], name: str, ledger: Ledger, blobs: Blobs
) -> tuple[File, str]:
    """Write what a thread reads piece by piece as an input file; its SHA-256 beside it."""
    content, file_id = Content(), FileId(new_id())
    writer = await blobs.writer(input_name(file_id))
    try:
        while (piece := await asyncio.to_thread(_fed, source, content)) is not None:
            await writer.write(piece)
        await writer.commit()
    finally:
        await writer.abort()
    sha256 = content.sha256.hexdigest()
    file = File(
        id=file_id,
        tenant=DEFAULT_TENANT,
        filename=name.rpartition("/")[2],
        purpose=BATCH_PURPOSE,
        source=FileSource.UPLOAD,
        size_bytes=content.size_bytes,
        created_at=0.0,
        lines=content.lines.lines,
        signature=sha256,
        blob=input_name(file_id),
    )
    return await ledger.add_file(file), sha256


def _fed(source: Iterator[bytes], content: Content) -> bytes | None:
    piece = next(source, None)
    if piece is not None:
        content.feed(piece)
    return piece


async def manner_of(blob: BlobName, blobs: Blobs, max_line_bytes: int) -> Manner:
    """How the file is written. Raises `UserError` where its first line is a row of a table."""
    splitter = Splitter(max_line_bytes)
    async for chunk in blobs.read(blob):
        if texts := splitter.feed(chunk).texts:
            return _manner(texts[0])
    texts = splitter.finish().texts
    return _manner(texts[0] if texts else b"")


class _First(Struct):
    custom_id: Raw | UnsetType = UNSET
    body: Raw | UnsetType = UNSET
    method: Raw | UnsetType = UNSET
    url: str | UnsetType = UNSET


_FIRST = msgspec.json.Decoder(_First)
_MEMBERS = msgspec.json.Decoder(dict[str, Raw])


def _manner(line: bytes) -> Manner:
    """By the first line; of one that cannot be read validation will say what is wrong."""
    try:
        first = _FIRST.decode(line)
    except (ValueError, RecursionError):
        is_openai = b'"url"' in line or b'"method"' in line
        return Manner(Dialect.OPENAI if is_openai else Dialect.MISTRAL, CHAT)
    if first.body is UNSET and first.custom_id is UNSET and first.url is UNSET:
        raise _a_row(line)
    if first.url is UNSET and first.method is UNSET:
        return Manner(Dialect.MISTRAL, CHAT, model_of(line))
    endpoint = first.url if first.url is not UNSET and first.url in ENDPOINTS else CHAT
    return Manner(Dialect.OPENAI, endpoint, model_of(line))


def _a_row(line: bytes) -> UserError:
    names = list(_MEMBERS.decode(line))
    columns = ", ".join(names[:_KEYS_SHOWN]) + (", ..." if len(names) > _KEYS_SHOWN else "")
    return UserError(
        "The first line is no request of a batch: it has no `body`. If the file is a table, say "
        "what to ask of each row, such as --prompt 'Classify: {{column}}'; its columns are "
        f"{columns}."
    )


def asked(manner: Manner, wanted: Wanted, catalogue: Catalogue) -> tuple[Manner, str | None]:
    """The endpoint and the model of the job: what was asked, else what the lines say, else the
    only model there is, which is then said. Raises `UserError` where nothing says which."""
    manner = replace(manner, endpoint=wanted.endpoint or manner.endpoint)
    served = catalogue.names()
    there_is = ", ".join(served[:_KEYS_SHOWN]) or "none yet"
    if wanted.model is not None:
        return replace(manner, model=wanted.model), None
    if manner.model is not None:
        if catalogue.can_serve(manner.model):
            return replace(manner, model=None), None
        raise UserError(
            f"The first line names the model {manner.model!r}, and no engine serves it. Send all "
            f"lines to another one with --model; there is {there_is}."
        )
    if manner.dialect is Dialect.OPENAI:
        return manner, None
    if len(served) == 1:
        return replace(manner, model=served[0]), f"model {served[0]}, the only one there is"
    raise UserError(f"Nothing says which model to ask; name one with --model: {there_is}.")
