"""Request bodies of JSON: read within limits, and as strict as JSON is."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from fastapi import Request
from pydantic import BaseModel

from batchmill.errors import InvalidInput, TooLarge, Unavailable
from batchmill.jsontext import (
    MOST_MEMBERS,
    REPLACEMENTS,
    TooManyValues,
    is_utf8,
    members,
    without_lone_surrogates,
)
from batchmill.web.services import LARGE_BODY_BYTES, Services
from batchmill.web.spool import Spool

Value = TypeVar("Value")
LEAST_BYTES_PER_SECOND = 1024


@dataclass(frozen=True, slots=True)
class JsonObject:
    """A body: every key's value as text in `raw`, and those that the route knows decoded in
    `values`, but for the one that may be large. `digest` is the SHA-256 of the bytes as they came.

    Where `half` is set, it stands in that one for each half of a surrogate pair that was sent, and
    nowhere else.
    """

    raw: Mapping[str, msgspec.Raw]
    values: Mapping[str, Any]
    digest: bytes = b""
    half: bytes | None = None


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
    request: Request, services: Services, fields: type[BaseModel], *, bulky: str | None = None
) -> AsyncIterator[JsonObject]:
    """The JSON object that the request carries; let go of it when the block ends, since only a
    few large ones may be held at once. `fields` has the keys that the route knows; `bulky` is the
    one of them whose value may be large, if there is one: all else has at most 1 MiB.

    Raises `TooLarge`, `Unavailable` where a large one does not get its turn, or `InvalidInput` for
    what is no JSON, no object, or has a key twice.
    """
    refuse_encoded(request)
    async with Spool(services) as spool, AsyncExitStack() as held:
        limit = services.rules.limits.body_bytes
        limit = limit if bulky else min(limit, LARGE_BODY_BYTES)
        digest = await _receive(request, services, spool, limit)
        if spool.is_large:
            await held.enter_async_context(_turn(services))
        body = await spool.read()
        yield await asyncio.to_thread(parse, body, fields.model_fields, bulky, digest)


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


async def _receive(request: Request, services: Services, spool: Spool, limit: int) -> bytes:
    """Take the whole body in; its SHA-256."""
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


def parse(body: bytes, known: Collection[str], bulky: str | None, digest: bytes) -> JsonObject:
    """The object that these bytes are; raises as `json_object` does. Whatever stands in it, no
    more is held than it has bytes, and about twenty times those of what may not be large."""
    if not body.strip():
        raise _malformed("The body is empty; send a JSON object.")
    if not is_utf8(body):
        raise _malformed("The body is not UTF-8.")
    try:
        found, half = _members(body, bulky)
        raw = _unique(found)
        if bulky is not None:
            _refuse_large_rest(len(body), raw.get(bulky), bulky)
        if half is not None and any(half in bytes(raw[key]) for key in raw if key != bulky):
            raise _malformed("The body has half of a surrogate pair, which is no character.")
        values = {
            key: json.loads(bytes(raw[key]), object_pairs_hook=_unique)
            for key in known
            if key in raw and key != bulky
        }
    except TooManyValues as e:
        says = f"The body has more than {MOST_MEMBERS:,} keys; leave out what is not known here."
        raise InvalidInput(says, code="invalid_value") from e
    except RecursionError as e:
        raise _malformed("The body is nested too deeply.") from e
    except msgspec.ValidationError as e:
        raise InvalidInput("The body must be a JSON object.", code="invalid_type") from e
    except (msgspec.DecodeError, ValueError) as e:
        raise _malformed(f"The body is not valid JSON: {e}") from e
    return JsonObject(raw, values, digest, half)


def _members(body: bytes, bulky: str | None) -> tuple[list[tuple[str, msgspec.Raw]], bytes | None]:
    """The members, and what stands for halves of surrogate pairs, if there are any. Only a value
    that may be large may have them, as a line of a file may."""
    try:
        return members(body), None
    except msgspec.DecodeError:
        half = next((each for each in REPLACEMENTS if each not in body), None)
        if bulky is None or half is None:
            raise
    return members(without_lone_surrogates(body, half)), half


def _refuse_large_rest(size_bytes: int, large: msgspec.Raw | None, bulky: str) -> None:
    """Raise `TooLarge` where too much stands beside the value that may be large."""
    if size_bytes - len(memoryview(large or b"")) > LARGE_BODY_BYTES:
        raise TooLarge(
            f"The body may have at most {LARGE_BODY_BYTES:,} bytes beside its `{bulky}`; leave out "
            "what is not known here.",
            code="body_too_large",
        )


def _unique(pairs: Sequence[tuple[str, Value]]) -> dict[str, Value]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise InvalidInput(f"The key '{twice}' stands twice.", param=twice, code="duplicate_key")
    return found


def _malformed(message: str) -> InvalidInput:
    return InvalidInput(message, code="invalid_json")
