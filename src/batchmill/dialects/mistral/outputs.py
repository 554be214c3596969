"""A job's `outputs`: its output file's lines inside the job's own JSON, streamed and never held."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

from fastapi import Response
from fastapi.responses import StreamingResponse

from batchmill.dialects.mistral.wire import BatchJob
from batchmill.model import TERMINAL, File, Job
from batchmill.web.downloads import begun, pieces_of, stream
from batchmill.web.replies import json_reply
from batchmill.web.services import Services

_EMPTY = b'"outputs":null'
_LINE_BREAKS = bytes.maketrans(b"\n", b",")


async def reply_with_outputs(
    services: Services, job: Job, shown: BatchJob, *, asked: bool
) -> Response:
    """The job, with its outputs where it is finished and they were asked for (`inline=true`) or
    are the job's own way (it came as inline requests), and where they are not too many."""
    if job.state not in TERMINAL or not (asked or job.inline):
        return json_reply(shown)
    if job.output_file is None:
        return json_reply(shown.model_copy(update={"outputs": []}))
    file = await services.ledger.file(job.tenant, job.output_file)
    limits = services.rules.limits
    if (
        file is None
        or file.size_bytes > limits.outputs_bytes
        or (file.lines or 0) > limits.outputs_lines
    ):
        return json_reply(shown)
    return await _spliced(services, file, shown)


async def _spliced(services: Services, file: File, shown: BatchJob) -> Response:
    pieces = await pieces_of(services.ledger, file)
    size = sum(piece.length for piece in pieces)
    head, _, tail = shown.model_dump_json(ensure_ascii=True).encode().rpartition(_EMPTY)
    head, tail = head + b'"outputs":[', b"]" + tail
    lines = await begun(stream(services.blobs, pieces))
    return StreamingResponse(
        _joined(head, lines, tail),
        headers={"content-length": str(len(head) + size - 1 + len(tail))},
        media_type="application/json",
    )


async def _joined(
    head: bytes, lines: AsyncIterator[bytes], tail: bytes
) -> AsyncGenerator[bytes, None]:
    """JSON lines as a list: every line break becomes a comma, the last one goes."""
    yield head
    last = b""
    async for chunk in lines:
        yield last + chunk[:-1].translate(_LINE_BREAKS)
        last = b"," if chunk.endswith(b"\n") else chunk[-1:]
    yield tail
