"""One HTTP/1.1 connection to an engine: a request goes out once, its answer comes back whole.

`parsing.py` reads the answer, `replies.py` says what it means, `transport.py` chooses the
connection. One on which anything was odd is dropped, never used again. Nothing here is a task
but waiting for room in the budget: what comes in calls back.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable, Sequence
from typing import cast

from batchmill.calls import Broken, Unreachable
from batchmill.engines.budget import ByteBudget, Ticket
from batchmill.engines.parsing import AnswerParser, HttpAnswer

Ending = HttpAnswer | Unreachable | Broken
JUST_USED_SECONDS = 0.01
"""A connection that is used again so soon is not looked at: that costs as much as to send."""
_FOR_EVER = float("inf")


class Exchange:
    """One request on its way: from before it has a connection to its whole answer.

    `ended` is called once with what came, unless it is aborted. Its answer is counted against
    the budget on `ticket` in full from the first piece on, one without a length as
    `usual_bytes`: so that a hundred half-read answers do not fill the budget and wait for each
    other. The time for which reading waits for room is ours and does not count against
    `deadline`, a moment of the loop's clock.
    """

    __slots__ = (
        "_counted_bytes",
        "_ended",
        "budget",
        "connecting",
        "connection",
        "deadline",
        "is_over",
        "owed_bytes",
        "seconds",
        "taking",
        "ticket",
        "usual_bytes",
    )

    def __init__(
        self,
        budget: ByteBudget,
        usual_bytes: int,
        seconds: float,
        now: float,
        ended: Callable[[Exchange, Ending | None, Connection | None], None],
    ) -> None:
        self.budget, self.usual_bytes = budget, usual_bytes
        self.seconds, self.deadline = seconds, now + seconds
        self.ticket = Ticket()
        self.connecting: asyncio.Task[None] | None = None
        self.connection: Connection | None = None
        self.taking: asyncio.Task[None] | None = None
        self.owed_bytes = 0
        """Read beyond the budget, and not yet taken from it."""
        self.is_over = False
        self._counted_bytes = 0
        self._ended = ended

    def count(self, parser: AnswerParser) -> bool:
        """Count what was read; False: there is no room for it, and it is owed."""
        expected = parser.promised_bytes
        if expected is None and parser.outcome is None:
            expected = self.usual_bytes
        fresh = max(parser.body_bytes, expected or 0) - self._counted_bytes
        if fresh <= 0:
            return True
        self._counted_bytes += fresh
        if not self.owed_bytes and self.budget.takes_at_once(self.ticket, fresh):
            return True
        self.owed_bytes += fresh
        return False

    async def take_owed(self, now: Callable[[], float]) -> None:
        """Wait for room for what is owed; the clock stands still meanwhile."""
        left, self.deadline = self.deadline - now(), _FOR_EVER
        while owed := self.owed_bytes:
            await self.budget.take(self.ticket, owed)
            self.owed_bytes -= owed
        self.deadline, self.taking = now() + left, None

    def end(self, ending: Ending | None, connection: Connection | None) -> None:
        """It is over, with that, if it was not before; the connection where it is still good."""
        if not self.is_over:
            self.is_over = True
            self._ended(self, ending, connection)

    def abort(self) -> None:
        """End it without an answer; the engine sees its connection close."""
        if self.is_over:
            return
        for task in (self.connecting, self.taking):
            if task is not None:
                task.cancel()
        if self.connection is not None:
            self.connection.drop()
            self.connection = None
        self.end(None, None)


class Connection(asyncio.BufferedProtocol):
    """Carries one exchange after the other; made by `loop.create_connection`.

    `buffer` is where the loop reads to before it calls back: all connections of one loop may
    share it, and none holds more than its size before the budget is asked.
    """

    def __init__(self, buffer: bytearray, max_reply_bytes: int) -> None:
        self._view = memoryview(buffer)
        self._parser = AnswerParser(max_reply_bytes)
        self._loop = asyncio.get_running_loop()
        self._is_lost = False
        self._is_reused = False
        self._idle_since = 0.0
        self._exchange: Exchange | None = None
        self._socket: socket.socket | None = None

    def is_fit(self, idle_seconds: float, now: float) -> bool:
        """Whether a request may go out on this connection, which has been idle for no longer than
        that. The engine may have closed it without the loop having looked."""
        idle = now - self._idle_since
        if idle >= idle_seconds or not self.is_open():
            return False
        return idle < JUST_USED_SECONDS or not self._has_news()

    def _has_news(self) -> bool:
        """Whether something has come that the loop did not read: on an idle one it is its end."""
        if self._socket is None:
            return False
        look = select.poll()
        look.register(self._socket.fileno(), select.POLLIN)
        return bool(look.poll(0))

    def is_open(self) -> bool:
        """Whether anything can be sent on it, as far as the loop knows."""
        return not self._is_lost and not self._transport.is_closing()

    def drop(self) -> None:
        """Close at once; what is under way is lost."""
        self._transport.abort()

    def begin(self, exchange: Exchange, request: Sequence[bytes]) -> None:
        """Send a request and read its answer for that exchange. It has to be open and idle."""
        self._exchange = exchange
        exchange.connection = self
        self._transport.writelines(request)

    def expire(self) -> None:
        """The exchange's time is over."""
        if self._exchange is not None:
            seconds = self._exchange.seconds
            self._parser.fail("timeout", f"The engine gave no whole answer in {seconds:g} s.")
            self._settle(self._exchange)

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if transport.get_extra_info("ssl_object") is None:
            self._socket = transport.get_extra_info("socket")

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        return self._view  # asyncio's TLS writes to a part of it, which of a bytearray is a copy

    def buffer_updated(self, nbytes: int) -> None:
        exchange, parser = self._exchange, self._parser
        if exchange is None or exchange.is_over or parser.outcome is not None:
            self.drop()  # nobody asked for it
            return
        outcome = parser.feed(bytes(self._view[:nbytes]))
        has_room = type(outcome) is Broken or exchange.count(parser)
        if not has_room and exchange.taking is None:
            self._transport.pause_reading()
            exchange.taking = self._loop.create_task(self._wait_for_room(exchange))
        if outcome is not None:
            self._settle(exchange)

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True
        exchange, parser = self._exchange, self._parser
        if exchange is not None and not exchange.is_over:
            if parser.outcome is None and self._is_reused and parser.is_blank:
                parser.fail("stale", "The engine closed a connection as a call went out on it.")
            elif parser.outcome is None and exc is None:
                parser.end()
            elif parser.outcome is None:
                parser.fail("reset", f"The connection to the engine was lost: {_why(exc)}.")
            self._settle(exchange)
        parser.close()

    async def _wait_for_room(self, exchange: Exchange) -> None:
        await exchange.take_owed(self._loop.time)
        if self.is_open():
            self._transport.resume_reading()
        if self._parser.outcome is not None:
            self._settle(exchange)

    def _settle(self, exchange: Exchange) -> None:
        """End the exchange with its outcome, once there is room for it."""
        parser = self._parser
        outcome = parser.outcome
        assert outcome is not None
        if exchange.owed_bytes and type(outcome) is not Broken:
            return
        self._exchange = exchange.connection = None
        unsent = self._transport.get_write_buffer_size()
        good = parser.keeps and not unsent and self.is_open()
        parser.begin()
        self._is_reused = True
        self._idle_since = self._loop.time()
        if not good:
            self.drop()
        if exchange.taking is not None:
            exchange.taking.cancel()
        exchange.end(outcome, self if good else None)


def _why(error: BaseException | None) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()
