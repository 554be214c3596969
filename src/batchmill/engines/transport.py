"""The way to one engine over HTTP/1.1: connections are kept and used again, calls are sent once.

Nothing here sends a request a second time, follows a redirect or uses a proxy. A call counts as
sent as soon as its connection stands; before that it is `Unreachable`, afterwards `Broken`.
"""

from __future__ import annotations

import asyncio
import os
import ssl

from batchmill import __version__
from batchmill.calls import (
    Answered,
    Broken,
    Call,
    EngineDown,
    Reply,
    Unreachable,
)
from batchmill.clock import Clock
from batchmill.engines.address import Address, address_of
from batchmill.engines.budget import ByteBudget, Ticket
from batchmill.engines.connection import Connection, Room
from batchmill.engines.encodings import Undecodable, decoded
from batchmill.engines.listing import model_names, refusal
from batchmill.engines.parsing import HttpAnswer
from batchmill.engines.replies import classify
from batchmill.fleet import EngineSpec

MAX_REPLY_BYTES = 64 * 1024 * 1024
CONNECT_SECONDS = 10.0
LISTING_SECONDS = 10.0
READ_BYTES = 64 * 1024
IDLE_SECONDS = 3.0
"""A connection idle for longer is not used again: uvicorn and llama.cpp close theirs after 5 s,
and a call that meets the closing is lost."""


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
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._clock, self._budget = clock, budget
        self._max_reply_bytes, self._idle_seconds = max_reply_bytes, idle_seconds
        self._address = address_of(spec.url, spec.key)
        self._tls = ssl.create_default_context() if self._address.is_tls else None
        self._common = _common_headers(self._address)
        self._buffer = bytearray(READ_BYTES)
        self._idle: list[Connection] = []
        self._is_closed = False
        self._usual_bytes = 0
        """About how long the answers are that do not say so; the largest of late."""

    async def send(self, call: Call) -> Reply:
        ticket = Ticket()
        kept = 0
        try:
            answer = await self._exchange(
                "POST", call.path, call.body, call.timeout_seconds, ticket
            )
            if not isinstance(answer, HttpAnswer):
                return answer
            reply = classify(answer.status, answer.headers.get, answer.body, now=self._clock.wall())
            if isinstance(reply, Answered):
                kept = reply.held_bytes
            return reply
        finally:
            self._budget.resize(ticket, kept)

    async def models(self) -> tuple[str, ...]:
        ticket = Ticket()
        try:
            answer = await self._exchange("GET", "/models", b"", LISTING_SECONDS, ticket)
        finally:
            self._budget.resize(ticket, 0)
        if not isinstance(answer, HttpAnswer):
            raise EngineDown(answer.message)
        if not 200 <= answer.status < 300:
            keyed = self._address.authorization is not None
            raise EngineDown(refusal(answer.status, answer.body, keyed=keyed))
        names = model_names(answer.body)
        if names is None:
            raise EngineDown("it answers GET /models, but not with a list of models")
        return names

    async def close(self) -> None:
        self._is_closed = True
        while self._idle:
            self._idle.pop().drop()

    async def _exchange(
        self, method: str, path: str, body: bytes, seconds: float, ticket: Ticket
    ) -> HttpAnswer | Unreachable | Broken:
        """Send once and read the whole answer, or say how that failed."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        connection = self._idle_connection() or await self._connect(seconds)
        if isinstance(connection, Unreachable):
            return connection
        left = seconds - (loop.time() - began)
        room = Room(self._budget, ticket, self._max_reply_bytes, self._usual_bytes)
        head = self._head(method, path, len(body))
        answer, good = await connection.exchange((head, body), room, left)
        if good:
            self._keep(connection)
        if not isinstance(answer, HttpAnswer):
            return answer
        if "content-length" not in answer.headers:
            self._usual_bytes = max(len(answer.body), self._usual_bytes * 7 // 8)
        return self._decoded(answer) if "content-encoding" in answer.headers else answer

    def _idle_connection(self) -> Connection | None:
        """The connection that was used last, if one is fit; the others go."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_fit(self._idle_seconds):
                return connection
            connection.drop()
        return None

    def _keep(self, connection: Connection) -> None:
        if self._is_closed:
            connection.drop()
        else:
            self._idle.append(connection)

    async def _connect(self, seconds: float) -> Connection | Unreachable:
        address = self._address
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(min(CONNECT_SECONDS, seconds)):
                _, connection = await loop.create_connection(
                    lambda: Connection(self._buffer),
                    address.host,
                    address.port,
                    ssl=self._tls,
                    server_hostname=address.host if self._tls is not None else None,
                )
        except TimeoutError:
            return Unreachable(f"{address.name} cannot be reached: connecting took too long")
        except (OSError, UnicodeError) as error:
            return Unreachable(f"{address.name} cannot be reached: {_why(error)}")
        if not connection.is_open():
            return Unreachable(f"{address.name} closes connections as soon as they are made")
        return connection

    def _head(self, method: str, path: str, length: int) -> bytes:
        target = self._address.target(path)
        return f"{method} {target} HTTP/1.1\r\n{self._common}{length}\r\n\r\n".encode("latin-1")

    def _decoded(self, answer: HttpAnswer) -> HttpAnswer | Broken:
        try:
            encoding = answer.headers["content-encoding"]
            body = decoded(answer.body, encoding, self._max_reply_bytes)
        except Undecodable as error:
            return Broken("not_json", str(error), answer.status)
        return HttpAnswer(answer.status, answer.headers, body)


def _common_headers(address: Address) -> str:
    """The headers of every request, up to the value of its Content-Length."""
    lines = [
        f"Host: {address.name}",
        f"User-Agent: batchmill/{__version__}",
        "Accept: application/json",
        "Accept-Encoding: identity",
        "Content-Type: application/json",
    ]
    if address.authorization is not None:
        lines.append(f"Authorization: {address.authorization}")
    return "\r\n".join([*lines, "Content-Length: "])


def _why(error: Exception) -> str:
    """What the system says, without the address that it repeats."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"no TLS with it: {error.reason or error}"
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno).lower()
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()
