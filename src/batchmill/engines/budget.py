"""The bytes of replies that one worker may hold at once, from reading to durable.

Whoever reads a reply opens a ticket and takes bytes on it piece by piece; a finished reply's
bytes stay taken until somebody calls `release`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class Ticket:
    """What one reply holds of the budget; used by one task at a time."""

    held_bytes: int = 0


class ByteBudget:
    """A number of bytes that is shared by all replies of a worker.

    Takers wait in order of arrival while it is spent. So that half-read replies cannot wait
    for each other for ever, the one that has waited longest may go over the limit, alone,
    until what is spent is back within it. Somebody waits only while another is over the limit,
    so a newcomer never overtakes.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.spent_bytes = 0
        self._waiting: deque[tuple[Ticket, int, asyncio.Future[None]]] = deque()
        self._favoured: Ticket | None = None

    def takes_at_once(self, ticket: Ticket, size_bytes: int) -> bool:
        """Take that many more bytes if nobody has to wait for it; whether they were taken."""
        if not self._admits(ticket, size_bytes):
            return False
        self._grant(ticket, size_bytes)
        return True

    async def take(self, ticket: Ticket, size_bytes: int) -> None:
        """Take that many more bytes, waiting for them if need be; cancelled, it took none of
        them or all."""
        if self.takes_at_once(ticket, size_bytes):
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place = (ticket, size_bytes, turn)
        self._waiting.append(place)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled() and place in self._waiting:
                self._waiting.remove(place)
            raise

    def resize(self, ticket: Ticket, size_bytes: int) -> None:
        """Hold exactly that many from now on, without waiting even where that is more."""
        freed = ticket.held_bytes - size_bytes
        ticket.held_bytes = size_bytes
        self.release(freed)

    def release(self, size_bytes: int) -> None:
        """Give bytes of a finished reply back."""
        self.spent_bytes -= size_bytes
        if self.spent_bytes <= self.limit_bytes:
            self._favoured = None
        while self._waiting and self._admits(*self._waiting[0][:2]):
            ticket, size, turn = self._waiting.popleft()
            if not turn.done():
                self._grant(ticket, size)
                turn.set_result(None)

    def _admits(self, ticket: Ticket, size_bytes: int) -> bool:
        return (
            self.spent_bytes + size_bytes <= self.limit_bytes
            or self._favoured is None
            or self._favoured is ticket
        )

    def _grant(self, ticket: Ticket, size_bytes: int) -> None:
        self.spent_bytes += size_bytes
        ticket.held_bytes += size_bytes
        if self.spent_bytes > self.limit_bytes:
            self._favoured = ticket
