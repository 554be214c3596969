"""One HTTP/1.1 connection to an engine: a request goes out once, its answer comes back whole.

`parsing.py` reads the answer, `replies.py` says what it means, `transport.py` chooses the
connection. One on which anything was odd is dropped, never used again.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from batchmill.calls import Broken
from batchmill.engines.budget import ByteBudget, Ticket
from batchmill.engines.parsing import AnswerParser, HttpAnswer


@dataclass(frozen=True, slots=True)
class Room:
    """Where the bytes of one answer are counted, and how many it may have.

    Answers count in full from the first piece on, those without a length as `usual_bytes`: so
    that a hundred half-read ones do not fill the budget and wait for each other.
    """

    budget: ByteBudget
    ticket: Ticket
    max_reply_bytes: int
    usual_bytes: int = 0


class Connection(asyncio.BufferedProtocol):
    """Carries one exchange after the other; made by `loop.create_connection`.

    `buffer` is where the loop reads to before it calls back: all connections of one loop may
    share it, and none holds more than its size before the budget is asked.
    """

    def __init__(self, buffer: bytearray) -> None:
        self._buffer = buffer
        self._is_lost = False
        self._idle_since = 0.0
        self._exchange: _Exchange | None = None

    def is_fit(self, idle_seconds: float) -> bool:
        """Whether a request may go out on this connection, which has been idle for no longer
        than that. The engine may have closed it without the loop having looked."""
        is_fresh = asyncio.get_running_loop().time() - self._idle_since < idle_seconds
        return is_fresh and self.is_open() and not self._is_readable()

    def is_open(self) -> bool:
        """Whether anything can be sent on it, as far as the loop knows."""
        return not self._is_lost and not self._transport.is_closing()

    def drop(self) -> None:
        """Close at once; what is under way is lost."""
        self._transport.abort()

    async def exchange(
        self, request: Sequence[bytes], room: Room, seconds: float
    ) -> tuple[HttpAnswer | Broken, bool]:
        """Send a request and read its answer; the flag says whether the connection is still good.
        It has to be open.

        Cancelled, or where it is no longer good, the connection is closed. The time for which
        reading waits for room in the budget is ours and does not count against the engine.
        """
        exchange = self._exchange = _Exchange(self._transport, room, seconds)
        good = False
        try:
            self._transport.writelines(request)
            outcome = await exchange.outcome()
            unsent = self._transport.get_write_buffer_size()
            good = exchange.parser.keeps and not self._is_lost and not unsent
            return outcome, good
        finally:
            exchange.timer.cancel()
            exchange.parser.close()
            self._exchange = None
            self._idle_since = asyncio.get_running_loop().time()
            if not good:
                self.drop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        is_tls = transport.get_extra_info("ssl_object") is not None
        raw = None if is_tls else transport.get_extra_info("socket")
        self._fd = raw.fileno() if raw is not None else -1

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002 - asyncio's signature
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        data = bytes(memoryview(self._buffer)[:nbytes])
        if self._exchange is None or self._exchange.parser.outcome is not None:
            self.drop()  # nobody asked for it
        else:
            self._exchange.receive(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True
        if self._exchange is not None:
            self._exchange.lose(exc)

    def _is_readable(self) -> bool:
        if self._fd < 0:
            return False
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(0))


class _Exchange:
    """One request's time on a connection."""

    def __init__(self, transport: asyncio.Transport, room: Room, seconds: float) -> None:
        self.parser = AnswerParser(room.max_reply_bytes)
        self._transport, self._room, self._seconds = transport, room, seconds
        self._counted_bytes = self._owed_bytes = 0
        self._waiter: asyncio.Future[None] | None = None
        self.timer = asyncio.get_running_loop().call_later(seconds, self._expire)

    async def outcome(self) -> HttpAnswer | Broken:
        """Wait until there is one, and room for it."""
        parser = self.parser
        while True:
            if self._owed_bytes:
                await self._take_owed()
            if parser.outcome is not None:
                return parser.outcome
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def receive(self, data: bytes) -> None:
        """Parse what came and count it; where there is no room, stop reading until there is."""
        parser = self.parser
        parser.feed(data)
        if parser.body_bytes > self._counted_bytes and not isinstance(parser.outcome, Broken):
            self._count()
        if parser.outcome is not None or self._owed_bytes:
            self._wake()

    def lose(self, error: Exception | None) -> None:
        """The connection is gone."""
        if self.parser.outcome is None:
            if error is None:
                self.parser.end()
            else:
                self.parser.fail("reset", f"The connection to the engine was lost: {_why(error)}.")
        self._wake()

    def _count(self) -> None:
        parser, room = self.parser, self._room
        expected = parser.promised_bytes
        if expected is None and parser.outcome is None:
            expected = room.usual_bytes
        fresh = max(parser.body_bytes, expected or 0) - self._counted_bytes
        self._counted_bytes += fresh
        if not room.budget.takes_at_once(room.ticket, fresh):
            self._owed_bytes = fresh
            self._transport.pause_reading()

    async def _take_owed(self) -> None:
        """Take what was read beyond the budget; the clock stands still meanwhile."""
        loop = asyncio.get_running_loop()
        left = self.timer.when() - loop.time()
        self.timer.cancel()
        await self._room.budget.take(self._room.ticket, self._owed_bytes)
        self._owed_bytes = 0
        if self.parser.outcome is None:
            self.timer = loop.call_later(left, self._expire)
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def _expire(self) -> None:
        self.parser.fail("timeout", f"The engine gave no whole answer in {self._seconds:g} s.")
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _why(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()
