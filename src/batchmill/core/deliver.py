"""Delivers webhooks: claims the deliveries that are due and tries each once.

Apart from the housekeepers, and with room for many tries at a time, so that a receiver that
hangs keeps neither a job nor another receiver waiting. How a try is made stands in `webhooks/`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import Final, TypeVar

import structlog

from batchmill.clock import Clock, jitter
from batchmill.core.holdings import Held, Holdings, claimed, give_back
from batchmill.deliveries import Delivery, DeliveryLease, Post, Tried
from batchmill.errors import LeaseLost, LedgerUnavailable
from batchmill.model import Answer, Lease, Owner, TenantId, Verdict
from batchmill.ports import Ledger

log = structlog.get_logger()

T = TypeVar("T", bound=str)

GIVE_UP_SECONDS: Final = 72 * 3600.0
FIRST_WAIT_SECONDS: Final = 1.0
LONGEST_WAIT_SECONDS: Final = 3600.0
LOOK_SECONDS: Final = 15.0
"""At the latest after so long it looks again: deliveries of a worker that died become due."""

TRIES: Final = 32
TRIES_PER_RECEIVER: Final = 2
TRIES_PER_TENANT: Final = 8
"""Tries under way at most: in all, to one host and port, and of one tenant's jobs."""


def again_after(
    elapsed_seconds: float, chance: float, asked_seconds: float | None = None
) -> float | None:
    """How long to wait after a failed try, so long after the first: about as long as it has
    been, a second at least and an hour at most; None when the 72 hours are over.

    `chance` in [0, 1) spreads the waits over half of that and all of it; the last try comes when
    the time is over, not earlier. What the receiver asked for is waited at least, up to an hour.
    """
    left = GIVE_UP_SECONDS - elapsed_seconds
    if left <= 0:
        return None
    wait = min(max(elapsed_seconds, FIRST_WAIT_SECONDS), LONGEST_WAIT_SECONDS)
    asked = min(asked_seconds or 0.0, LONGEST_WAIT_SECONDS)
    return min(max(wait * (1.0 + chance) / 2, asked), left)


class Courier:
    """Tries deliveries for one process."""

    def __init__(self, ledger: Ledger, holdings: Holdings, post: Post, clock: Clock) -> None:
        self._ledger, self._holdings, self._post, self._clock = ledger, holdings, post, clock
        self._wake = asyncio.Event()
        self._tries = 0
        self._receivers: Counter[str] = Counter()
        self._tenants: Counter[TenantId] = Counter()

    def wake(self) -> None:
        """Something may be due."""
        self._wake.set()

    async def run(self, owner: Owner) -> None:
        """Deliver for ever; cancelled, it gives back what it holds, to be tried again."""
        async with asyncio.TaskGroup() as tries:
            while True:
                while self._tries < TRIES and (due := await self._claim(owner)) is not None:
                    tries.create_task(self._try(due))
                await self._rest()

    async def _claim(self, owner: Owner) -> DeliveryLease | None:
        """Claim the next due delivery, counted at once."""
        claim = self._ledger.claim_delivery(
            owner,
            not_receivers=_full(self._receivers, TRIES_PER_RECEIVER),
            not_tenants=_full(self._tenants, TRIES_PER_TENANT),
        )
        due = await claimed(claim, self._ledger, _lease_of)
        if due is not None:
            self._count(due.delivery, 1)
        return due

    async def _rest(self) -> None:
        """Wait until it is woken, or a delivery that waits is due."""
        seconds = None
        with contextlib.suppress(LedgerUnavailable):
            seconds = await self._ledger.next_delivery()
        most = LOOK_SECONDS if seconds is None else min(LOOK_SECONDS, seconds)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(most):
                await self._wake.wait()
        self._wake.clear()

    async def _try(self, due: DeliveryLease) -> None:
        task = asyncio.ensure_future(self._post(due.delivery, due.job))

        def tell(answer: Answer) -> None:
            if answer.verdict is Verdict.GONE:
                task.cancel()

        self._holdings.hold(Held(due.lease, tell))
        try:
            await asyncio.wait([task])
            if not task.cancelled():
                await self._note(due, task)
        except asyncio.CancelledError:
            task.cancel()
            await give_back(due.lease, self._ledger)
            raise
        finally:
            self._holdings.drop(due.lease)
            self._count(due.delivery, -1)
            self.wake()

    async def _note(self, due: DeliveryLease, task: asyncio.Future[Tried]) -> None:
        """Record what the try came to. Where that cannot be done it will be tried again."""
        error = task.exception()
        if error is None:
            tried = task.result()
        else:
            log.error("delivery_broke", delivery=due.delivery.id, error=type(error).__name__)
            tried = Tried(acknowledged=False, error="Batchmill could not make the request")
        try:
            elapsed = await self._ledger.now() - due.delivery.since
            after = again_after(elapsed, jitter(), tried.retry_after_seconds)
            noted = await self._ledger.note_try(due.lease, tried, after)
        except (LeaseLost, LedgerUnavailable) as away:
            log.warning("delivery_unnoted", delivery=due.delivery.id, error=str(away))
            return
        log.info(
            "delivery_tried",
            delivery=noted.id,
            job=noted.job,
            state=noted.state,
            attempts=noted.attempts,
            status=noted.last_status,
            error=noted.last_error,
        )

    def _count(self, delivery: Delivery, by: int) -> None:
        self._tries += by
        self._receivers[delivery.receiver] += by
        self._tenants[delivery.tenant] += by
        self._receivers, self._tenants = +self._receivers, +self._tenants


def _lease_of(due: DeliveryLease) -> Lease:
    return due.lease


def _full(tries: Counter[T], limit: int) -> list[T]:
    """Those with as many tries under way as they may have."""
    return [each for each, number in tries.items() if number >= limit]
