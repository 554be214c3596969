"""What surrounds every request: its id, its path's other spellings, and its clean end.

A plain ASGI layer outside of everything else, so that streams pass through untouched.
"""

from __future__ import annotations

import asyncio
import re
from typing import Final
from urllib.parse import unquote_to_bytes

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog import get_logger

from batchmill.clock import Clock, new_id
from batchmill.errors import BatchmillError
from batchmill.web.errors import error_reply, unexpected_reply
from batchmill.web.meter import Meter

log = get_logger(__name__)
_GIVEN_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
DRAIN_SECONDS: Final = 30.0
DRAIN_IDLE_SECONDS: Final = 5.0
DRAIN_BYTES: Final = 2_000_000_000


class Envelope:
    """Wraps an app: every reply gets an `x-request-id`, every exception is logged. One gets out
    where a reply has begun: the server cuts the connection, so that nobody takes it for whole."""

    def __init__(self, app: ASGIApp, clock: Clock, meter: Meter) -> None:
        self._app = app
        self._clock = clock
        self._meter = meter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = Exchange(scope, receive, send)
        started = self._clock.boot()
        try:
            if (problem := _unreadable(scope)) is not None:
                await error_reply(400, problem, code="invalid_value")(
                    scope, exchange.receive, exchange.send
                )
            else:
                await self._app(_canonical(scope), exchange.receive, exchange.send)
        except ClientDisconnect:
            log.info("client_left", request_id=exchange.id, path=scope["path"])
        except Exception as error:
            _log_failure(error, exchange.id, scope["path"])
            if exchange.status is not None:
                raise
            reply = unexpected_reply(exchange.id)
            await reply(scope, exchange.receive, exchange.send)
        finally:
            self._meter.observe(scope, exchange.status, self._clock.boot() - started)


def _log_failure(error: Exception, request_id: str, path: str) -> None:
    """What may end a stream that has begun is named; anything else is a fault of ours."""
    reason = error if isinstance(error, BatchmillError) else error.__cause__
    if isinstance(reason, BatchmillError):
        log.warning("reply_broken_off", request_id=request_id, path=path, error=str(reason))
    else:
        log.error("request_failed", request_id=request_id, path=path, exc_info=error)


class Exchange:
    """One request and its reply. An error reply to a body that is still being sent is followed
    by reading that body to its end: many clients cannot read a reply before they have sent all.
    Then the connection is closed; at once where the body stood still.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        self.id = given if _GIVEN_ID.fullmatch(given) else new_id()
        self.status: int | None = None
        self._receive = receive
        self._send = send
        has_body = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
        self._body_read = not has_body

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._body_read = True
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            more = [(b"x-request-id", self.id.encode())]
            if self._must_drain:
                more.append((b"connection", b"close"))
            message = {**message, "headers": [*message.get("headers", ()), *more]}
        elif not message.get("more_body", False) and self._must_drain:
            await self._send({**message, "more_body": True})
            if self.status != 408:
                await self._drain()
            message = {"type": "http.response.body"}
        await self._send(message)

    @property
    def _must_drain(self) -> bool:
        return self.status is not None and self.status >= 400 and not self._body_read

    async def _drain(self) -> None:
        """Read and drop the rest of the body, within reason: so long, so much, without a long
        pause."""
        left = DRAIN_BYTES
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while left > 0 and not self._body_read:
                    async with asyncio.timeout(DRAIN_IDLE_SECONDS):
                        left -= len((await self.receive()).get("body", b""))
        except TimeoutError:
            return


def _canonical(scope: Scope) -> Scope:
    """`/v1/v1/...` (a base URL that already had `/v1`) and a last slash mean the same path."""
    path: str = scope["path"]
    while path.startswith("/v1/v1/"):
        path = path[3:]
    if len(path) > 1 and path.endswith("/"):
        path = path.rstrip("/") or "/"
    if path != scope["path"]:
        scope["path"] = path
        scope["raw_path"] = path.encode()
    return scope


def _unreadable(scope: Scope) -> str | None:
    """Why the address cannot be read, if so: only UTF-8 without NUL can name anything."""
    for what, raw in (("path", scope.get("raw_path") or b""), ("query", scope["query_string"])):
        if b"%" not in raw and raw.isascii():
            continue
        text = unquote_to_bytes(raw)
        try:
            text.decode()
        except UnicodeDecodeError:
            return f"The {what} is not UTF-8."
        if b"\x00" in text:
            return f"The {what} contains a NUL character."
    return None
