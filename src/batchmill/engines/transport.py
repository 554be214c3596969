"""The way to one engine over HTTP/1.1, on pyreqwest (reqwest and hyper underneath).

A call is sent at most once. hyper opens a new connection by itself only where a pooled one was
closed before the first byte of the request was handed to it; once a byte may have been sent,
it gives the error back. reqwest retries nothing over HTTP/1.1, and redirects are off.
`tests/service/test_transport.py` counts what arrives.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import (
    BodyDecodeError,
    BuilderError,
    DecodeError,
    DetailedPyreqwestError,
    PyreqwestError,
    RequestTimeoutError,
)
from pyreqwest.request import RequestBuilder
from pyreqwest.response import Response

from batchmill import __version__
from batchmill.clock import Clock
from batchmill.engines.address import address_of
from batchmill.engines.budget import ByteBudget, Ticket
from batchmill.engines.encodings import Undecodable, decoded
from batchmill.engines.listing import model_names, refusal
from batchmill.engines.replies import classify
from batchmill.model import EngineSpec
from batchmill.ports import Answered, Broken, Call, EngineDown, Reply, Unreachable

MAX_REPLY_BYTES = 64 * 1024 * 1024
CONNECT_SECONDS = 10.0
IDLE_SECONDS = 3.0
"""Idle connections are dropped before the engine does it: uvicorn and llama.cpp wait 5 s."""
LISTING_SECONDS = 10.0
_PIECE_BYTES = 64 * 1024
_NOT_SENT = ("client error (Connect)", "operation was canceled")
"""How hyper's errors say that no byte of the request has left: while connecting, or before the
connection took the request."""


class HttpTransport:
    """Implements `ports.Transport` for one engine. The caller bounds how many calls it makes at
    once; the byte budget bounds what their replies hold."""

    def __init__(
        self,
        spec: EngineSpec,
        clock: Clock,
        budget: ByteBudget,
        *,
        max_reply_bytes: int = MAX_REPLY_BYTES,
    ) -> None:
        self._spec, self._clock, self._budget = spec, clock, budget
        self._max_reply_bytes = max_reply_bytes
        self._address = address_of(spec.url, spec.key)
        self._client = _client(spec, self._address.authorization)

    async def send(self, call: Call) -> Reply:
        ticket = Ticket()
        kept = 0
        try:
            request = self._client.post(self._address.endpoint(call.path)).body_bytes(call.body)
            reply = await self._exchange(request, call.timeout_seconds, ticket)
            if isinstance(reply, Answered):
                kept = reply.held_bytes
            return reply
        finally:
            self._budget.resize(ticket, kept)

    async def models(self) -> tuple[str, ...]:
        ticket = Ticket()
        request = self._client.get(self._address.endpoint("/models"))
        try:
            answer = await self._fetch(request, LISTING_SECONDS, ticket)
        finally:
            self._budget.resize(ticket, 0)
        if isinstance(answer, Unreachable | Broken):
            raise EngineDown(answer.message)
        response, raw = answer
        if not 200 <= response.status < 300:
            keyed = self._address.authorization is not None
            raise EngineDown(refusal(response.status, raw, keyed=keyed))
        names = model_names(raw)
        if names is None:
            raise EngineDown("it answers GET /models, but not with a list of models")
        return names

    async def close(self) -> None:
        await self._client.close()

    async def _exchange(self, request: RequestBuilder, seconds: float, ticket: Ticket) -> Reply:
        answer = await self._fetch(request, seconds, ticket)
        if isinstance(answer, Unreachable | Broken):
            return answer
        response, raw = answer
        return classify(response.status, response.get_header, raw, now=self._clock.wall())

    async def _fetch(
        self, request: RequestBuilder, seconds: float, ticket: Ticket
    ) -> tuple[Response, bytes] | Unreachable | Broken:
        """Send and read the whole answer, or say how that failed."""
        streamed = request.streamed_read_buffer_limit(_PIECE_BYTES).build_streamed()
        try:
            async with asyncio.timeout(seconds) as deadline, streamed as response:
                raw = await self._read(response, ticket, deadline)
                encoding = response.get_header("content-encoding")
                if encoding is not None:
                    raw = decoded(raw, encoding, self._max_reply_bytes)
                return response, raw
        except PyreqwestError as error:
            return self._failure(error, seconds)
        except TimeoutError:
            return self._timed_out(seconds)
        except _TooLargeError:
            limit = self._max_reply_bytes // 1_000_000
            return Broken("too_large", f"The engine's answer is larger than {limit} MB.")
        except _CutError:
            return Broken("reset", "The connection was lost in the middle of the answer.")
        except Undecodable as error:
            return Broken("not_json", str(error))

    async def _read(self, response: Response, ticket: Ticket, deadline: asyncio.Timeout) -> bytes:
        """The answer's body, read in pieces for which there is room in the budget."""
        promised = _content_length(response)
        if promised is not None and promised > self._max_reply_bytes:
            raise _TooLargeError
        pieces: list[bytes] = []
        total = 0
        while total != promised and (piece := await response.body_reader.read_chunk()) is not None:
            total += len(piece)
            if total > self._max_reply_bytes:
                raise _TooLargeError
            if not self._budget.takes_at_once(ticket, len(piece)):
                await self._take(ticket, len(piece), deadline)
            pieces.append(piece.to_bytes())
        if promised is not None and total != promised:
            raise _CutError
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _take(self, ticket: Ticket, size_bytes: int, deadline: asyncio.Timeout) -> None:
        """Wait for room; that wait is ours and does not count against the engine."""
        loop = asyncio.get_running_loop()
        end, began = deadline.when(), loop.time()
        deadline.reschedule(None)
        await self._budget.take(ticket, size_bytes)
        if end is not None:
            deadline.reschedule(end + loop.time() - began)

    def _failure(self, error: PyreqwestError, seconds: float) -> Unreachable | Broken:
        causes = _causes(error)
        why = causes[-1] if causes else error.message
        if isinstance(error, BuilderError):
            return Unreachable(f"{self._address.name} has no usable URL: {why}")
        if any(cause.startswith(_NOT_SENT) for cause in causes):
            return Unreachable(f"{self._address.name} cannot be reached: {why}")
        if isinstance(error, RequestTimeoutError):
            return self._timed_out(seconds)
        if isinstance(error, DecodeError) and not isinstance(error, BodyDecodeError):
            return Broken("not_json", f"{self._address.name} does not answer in HTTP/1.1: {why}")
        return Broken("reset", f"The connection to {self._address.name} was lost: {why}")

    def _timed_out(self, seconds: float) -> Broken:
        return Broken("timeout", f"{self._address.name} gave no whole answer in {seconds:g} s.")


class _TooLargeError(Exception):
    """The reply is over the limit."""


class _CutError(Exception):
    """The body ended before the length that its header promised."""


def _client(spec: EngineSpec, authorization: str | None) -> Client:
    headers = {"content-type": "application/json", "accept-encoding": "identity"}
    if authorization is not None:
        headers["authorization"] = authorization
    connect_seconds = min(CONNECT_SECONDS, spec.timeout_seconds * 0.8)
    return (
        ClientBuilder()
        .user_agent(f"batchmill/{__version__}")
        .default_headers(headers)
        .http1_only()
        .no_proxy()
        .follow_redirects(False)
        .referer(False)
        .gzip(False)
        .brotli(False)
        .zstd(False)
        .deflate(False)
        .connect_timeout(timedelta(seconds=connect_seconds))
        .pool_max_idle_per_host(spec.concurrency)
        .pool_idle_timeout(timedelta(seconds=IDLE_SECONDS))
        .build()
    )


def _content_length(response: Response) -> int | None:
    value = response.get_header("content-length")
    return int(value) if value is not None and value.isdecimal() else None


def _causes(error: PyreqwestError) -> list[str]:
    """What went wrong, outermost first, without the URL."""
    if not isinstance(error, DetailedPyreqwestError):
        return []
    causes = [cause["message"] for cause in error.details.get("causes") or ()]
    return [cause for cause in causes if "for url (" not in cause]
