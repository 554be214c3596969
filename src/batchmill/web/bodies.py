"""Request bodies of JSON: read within limits, and as strict as JSON is."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
from fastapi import Request

from batchmill.errors import InvalidInput, TooLarge, Unavailable
from batchmill.jsontext import is_utf8
from batchmill.web.services import Services
from batchmill.web.spool import Spool

_TOP = msgspec.json.Decoder(dict[str, msgspec.Raw])
_SKELETON_BYTES = 64 * 1024
LEAST_BYTES_PER_SECOND = 1024


@dataclass(frozen=True, slots=True)
class JsonObject:
    """A body: every key's value as text in `raw`, and decoded in `values`.

    The value of the `bulky` key stands in `raw` alone where it is over 64 KiB; `values` then has
    None for it. `digest` is the SHA-256 of the bytes as they came.
    """

    raw: Mapping[str, msgspec.Raw]
    values: Mapping[str, Any]
    digest: bytes = b""


async def chunks(request: Request, idle_seconds: float) -> AsyncIterator[bytes]:
    """The body as it comes. Raises `InvalidInput` (408) when it stands still for too long, or
    trickles: `LEAST_BYTES_PER_SECOND` and one pause are its least. Only waiting for it counts."""
    stream = aiter(request.stream())
    clock = asyncio.get_running_loop().time
    patience = idle_seconds
    while True:
        asked = clock()
        try:
            async with asyncio.timeout(min(idle_seconds, patience)):
                chunk = await anext(stream, None)
        except TimeoutError as e:
            raise InvalidInput(
                f"The body stood still, or all but, for {idle_seconds:g} seconds; send it again.",
                code="request_timeout",
                status=408,
            ) from e
        if chunk is None:
            return
        patience += len(chunk) / LEAST_BYTES_PER_SECOND - (clock() - asked)
        if chunk:
            yield chunk


def refuse_encoded(request: Request) -> None:
    """Raise `InvalidInput` (415) for a compressed body: none is understood."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"", "identity"}:
        raise InvalidInput(
            f"The content-encoding '{encoding[:40]}' is not understood; send the body as it is.",
            param="content-encoding",
            code="unsupported_encoding",
            status=415,
        )


@asynccontextmanager
async def json_object(
    request: Request, services: Services, *, bulky: str | None = None
) -> AsyncIterator[JsonObject]:
    """The JSON object that the request carries; let go of it when the block ends, since only a
    few large ones may be held at once. `bulky` names the key whose value may be large,
    if there is one.

    Raises `TooLarge`, `Unavailable` where a large one does not get its turn, or `InvalidInput` for
    what is no JSON, no object, or has a key twice.
    """
    refuse_encoded(request)
    async with Spool(services) as spool, AsyncExitStack() as held:
        digest = await _receive(request, services, spool)
        if spool.is_large:
            await held.enter_async_context(_turn(services))
        body = await spool.read()
        yield await asyncio.to_thread(_parse, body, bulky, digest)


@asynccontextmanager
async def _turn(services: Services) -> AsyncIterator[None]:
    """The right to hold a large body. Raises `Unavailable` when it does not come soon."""
    try:
        async with asyncio.timeout(services.rules.turn_seconds):
            await services.large_bodies.acquire()
    except TimeoutError as e:
        raise Unavailable(
            "Too many large bodies are being read; send it again later, or upload a file instead."
        ) from e
    try:
        yield
    finally:
        services.large_bodies.release()


async def _receive(request: Request, services: Services, spool: Spool) -> bytes:
    """Take the whole body in; its SHA-256."""
    limit = services.rules.limits.body_bytes
    digest = hashlib.sha256()
    async for chunk in chunks(request, services.rules.idle_seconds):
        if spool.size_bytes + len(chunk) > limit:
            raise TooLarge(
                f"A JSON body may have at most {limit:,} bytes; upload a file instead.",
                code="body_too_large",
            )
        digest.update(chunk)
        await spool.write(chunk)
    await spool.finish()
    return digest.digest()


def _parse(body: bytes, bulky: str | None, digest: bytes) -> JsonObject:
    if not body.strip():
        raise _malformed("The body is empty; send a JSON object.")
    if not is_utf8(body):
        raise _malformed("The body is not UTF-8.")
    try:
        raw = _TOP.decode(body)
        values = json.loads(
            _skeleton(body, raw.get(bulky) if bulky else None),
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
        )
    except RecursionError as e:
        raise _malformed("The body is nested too deeply.") from e
    except msgspec.ValidationError as e:
        raise InvalidInput("The body must be a JSON object.", code="invalid_type") from e
    except (msgspec.DecodeError, ValueError) as e:
        raise _malformed(f"The body is not valid JSON: {e}") from e
    return JsonObject(raw, values, digest)


def _skeleton(body: bytes, value: msgspec.Raw | None) -> bytes:
    """The body with a large value blanked, so that decoding the rest costs little."""
    if value is None or memoryview(value).nbytes < _SKELETON_BYTES:
        return body
    return body.replace(value, b"null", 1)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise InvalidInput(f"The key '{twice}' stands twice.", param=twice, code="duplicate_key")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _malformed(message: str) -> InvalidInput:
    return InvalidInput(message, code="invalid_json")
