"""One POST to a receiver, and one try of a delivery.

Not the engines' transport: that keeps connections, counts replies against a budget and resolves
names itself; here each try is a connection of its own to an address that was checked.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Final

import httptools

from batchmill import __version__
from batchmill.clock import Clock
from batchmill.deliveries import Delivery, Tried
from batchmill.model import Job
from batchmill.webhooks.guard import Guard, Unresolved
from batchmill.webhooks.signing import signature_headers
from batchmill.webhooks.target import Refused, Target

TRY_SECONDS: Final = 10.0
REST_SECONDS: Final = 1.0
MAX_ANSWER_BYTES: Final = 64 * 1024
MAX_ADDRESSES: Final = 4
_PIECE_BYTES: Final = 16 * 1024


@dataclass(frozen=True, slots=True)
class Poster:
    """Tries deliveries. `body_of` writes an event's body; `roots` are the root secrets, the new
    one first."""

    guard: Guard
    roots: Sequence[str]
    body_of: Callable[[Delivery, Job], bytes]
    clock: Clock
    tls: ssl.SSLContext = field(default_factory=ssl.create_default_context)
    try_seconds: float = TRY_SECONDS

    async def __call__(self, delivery: Delivery, job: Job) -> Tried:
        """Try once. Whatever the receiver does comes back as a value, in about ten seconds."""
        if not self.roots:
            return Tried(acknowledged=False, error="no webhook_secret is set to sign it with")
        body = self.body_of(delivery, job)
        headers = signature_headers(
            self.roots, delivery.tenant, delivery.event, self.clock.wall(), body
        )
        try:
            async with asyncio.timeout(self.try_seconds):
                answer = await self._send(delivery.url, headers, body)
        except TimeoutError:
            error = f"it gave no answer within {self.try_seconds:g} seconds"
            return Tried(acknowledged=False, error=error)
        except (Refused, Unresolved) as e:
            return Tried(acknowledged=False, error=str(e)[:200])
        except (OSError, httptools.HttpParserError, EOFError) as e:
            return Tried(acknowledged=False, error=_why(e)[:200])
        return self._judge(answer)

    def _judge(self, answer: _Answer) -> Tried:
        status = answer.status or 0
        if 200 <= status < 300:
            return Tried(acknowledged=True, status=status)
        told = f"it answered {status}" + _more_on(status)
        asked = seconds_asked(answer.retry_after, self.clock.wall())
        return Tried(acknowledged=False, status=status, error=told, retry_after_seconds=asked)

    async def _send(self, url: str, headers: Mapping[str, str], body: bytes) -> _Answer:
        target, addresses = await self.guard.admit(url)
        reader, writer = await self._connect(target, addresses[:MAX_ADDRESSES])
        try:
            writer.write(_head(target, headers, len(body)) + body)
            return await _read_answer(reader)
        finally:
            writer.transport.abort()

    async def _connect(
        self, target: Target, addresses: Sequence[str]
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the first of the addresses that takes one."""
        failed: OSError | None = None
        for address in addresses:
            try:
                return await asyncio.open_connection(
                    address,
                    target.port,
                    ssl=self.tls if target.is_tls else None,
                    server_hostname=target.host if target.is_tls else None,
                    limit=MAX_ANSWER_BYTES,
                )
            except OSError as e:
                failed = e
        raise failed or OSError("there is no address")


class _Answer:
    """What matters of an answer, and when it has all come."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self.status: int | None = None
        self.retry_after = b""
        self.is_whole = False
        self._reader, self._left_bytes = reader, MAX_ANSWER_BYTES
        self._parser = httptools.HttpResponseParser(self)

    async def read_some(self) -> bool:
        """Read a piece; False when there is no more, or it would be too much."""
        data = await self._reader.read(_PIECE_BYTES)
        self._left_bytes -= len(data)
        if not data or self._left_bytes <= 0:
            return False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            if self.status is None:
                raise
            return False
        return not self.is_whole

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.status is None and name.lower() == b"retry-after":
            self.retry_after = value

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200 and self.status is None:
            self.status = status

    def on_message_complete(self) -> None:
        self.is_whole = self.status is not None


async def _read_answer(reader: asyncio.StreamReader) -> _Answer:
    """The answer, its status known. The rest is waited for a moment, so that the receiver sees its
    answer taken, and cannot change it."""
    answer = _Answer(reader)
    more = True
    while answer.status is None and more:
        more = await answer.read_some()
    if answer.status is None:
        raise EOFError
    with contextlib.suppress(OSError):  # TimeoutError is an OSError
        async with asyncio.timeout(REST_SECONDS):
            while more:
                more = await answer.read_some()
    return answer


def seconds_asked(retry_after: bytes, now: float) -> float | None:
    """For how long a `Retry-After` asks to wait: seconds, or a date; None where it is neither, or
    over."""
    text = retry_after.decode("latin-1").strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        seconds = parsedate_to_datetime(text).timestamp() - now
    except (ValueError, OverflowError):
        return None
    return seconds if seconds > 0 else None


def _head(target: Target, headers: Mapping[str, str], length: int) -> bytes:
    lines = [
        f"POST {target.path} HTTP/1.1",
        f"host: {target.authority}",
        f"user-agent: batchmill/{__version__}",
        "content-type: application/json",
        f"content-length: {length}",
        "connection: close",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def _more_on(status: int) -> str:
    return "; redirects are not followed" if 300 <= status < 400 else ""


def _why(error: Exception) -> str:
    """What went wrong, without an address or a word of the receiver's."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return "it speaks no TLS that is understood"
    if isinstance(error, ConnectionRefusedError):
        return "it refuses connections"
    if isinstance(error, ConnectionError | EOFError):
        return "it closed the connection without an answer"
    if isinstance(error, OSError):
        return f"it cannot be reached: {error.strerror or type(error).__name__}"
    return "its answer is not HTTP/1.1"
