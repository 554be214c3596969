"""The heart of a worker: it beats, renews leases and looks for work, once a second.

It runs in a thread of its own, on its own event loop and its own connection to the ledger, so
that busy parsing cannot starve it. When it has not renewed for the lease time minus one beat,
the worker is fenced: it stops all it does. It renews nothing for a worker whose own loop has stood
still for as long: that one runs no shard, and another may.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence

import structlog

from batchmill.clock import Clock
from batchmill.errors import LedgerError
from batchmill.fleet import Beat, Timing
from batchmill.model import (
    Lease,
    Owner,
)
from batchmill.ports import Ledger, Renewal

log = structlog.get_logger()


class Heart:
    """Beats for one owner until `stop`.

    `held` and `beat` are read from the heart's thread: they must only hand over values that
    are complete. `told` is called on the worker's loop with each renewal, with the leases that it
    was asked for, and with the moment up to which what it says is good.
    """

    def __init__(
        self,
        open_ledger: Callable[[], Awaitable[Ledger]],
        owner: Owner,
        clock: Clock,
        timing: Timing,
        *,
        held: Callable[[], Sequence[Lease]],
        beat: Callable[[], Beat],
        told: Callable[[Sequence[Lease], Renewal, float], None],
    ) -> None:
        self._open_ledger, self._owner, self._clock, self._timing = (
            open_ledger,
            owner,
            clock,
            timing,
        )
        self._held, self._beat, self._told = held, beat, told
        self._renewed_at = clock.boot()
        self._fence_seconds = timing.fence_seconds
        self._stirred_at, self._stood_still = self._renewed_at, False
        self._worker_loop = asyncio.get_running_loop()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._nudged: asyncio.Event | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._live, name="heart", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    async def stop(self) -> None:
        """Beat no more; returns when the thread has ended."""
        self._stopping = True
        self.nudge()
        await asyncio.to_thread(self._thread.join, 5.0)

    def stir(self) -> None:
        """The worker's own loop runs: to be said once a beat, or nothing is renewed any more."""
        self._stirred_at = self._clock.boot()

    def nudge(self) -> None:
        """Beat now instead of at the next second."""
        if self._loop is not None and self._nudged is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._nudged.set)

    def fenced(self, now: float) -> bool:
        """Whether the leases may have passed to somebody else at that moment of the boot clock:
        then nothing may be sent."""
        return now - self._renewed_at > self._fence_seconds

    def is_latest(self, until: float) -> bool:
        """Whether no later renewal has come than the one that holds until then."""
        return until >= self._renewed_at + self._fence_seconds

    def _live(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        self._loop, self._nudged = asyncio.get_running_loop(), asyncio.Event()
        ledger: Ledger | None = None
        while not self._stopping:
            try:
                if ledger is None:
                    ledger = await self._open_ledger()
                if not self._stands_still():
                    async with asyncio.timeout(self._timing.renew_seconds):
                        await self._renew(ledger)
            except TimeoutError:
                log.warning("renew_failed", error="the database does not answer in time")
            except LedgerError as error:
                log.warning("renew_failed", error=str(error))
            except Exception:
                log.exception("renew_broke")
            await self._pause(self._nudged)
        if ledger is not None:
            await ledger.close_connections()

    def _stands_still(self) -> bool:
        """Whether the worker's loop has not run for so long that its leases must go."""
        before, seconds = self._stood_still, self._clock.boot() - self._stirred_at
        self._stood_still = seconds > self._fence_seconds
        if self._stood_still and not before:
            log.error("worker_stands_still", seconds=round(seconds, 1))
        return self._stood_still

    async def _renew(self, ledger: Ledger) -> None:
        began = self._clock.boot()
        held = self._held()
        renewal = await ledger.renew(self._owner, held, self._beat())
        self._renewed_at = began
        if not self._worker_loop.is_closed():
            until = began + self._fence_seconds
            self._worker_loop.call_soon_threadsafe(self._told, held, renewal, until)

    async def _pause(self, nudged: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(self._timing.beat_seconds):
                await nudged.wait()
        except TimeoutError:
            return
        nudged.clear()
