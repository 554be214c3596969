"""The nouns of webhooks: who is told of a job's end, and what became of telling them; with the
ledger's steps for them, and the port of one try.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NewType, Protocol
from urllib.parse import urlsplit

from batchmill.model import Ending, Job, JobId, Lease, Owner, TenantId

DeliveryId = NewType("DeliveryId", str)
EventId = NewType("EventId", str)


@dataclass(frozen=True, slots=True)
class WebhookEndpoint:
    """A receiver that the operator configured: of one tenant's jobs or of all (None), told of
    these endings."""

    url: str
    tenant: TenantId | None = None
    endings: frozenset[Ending] = frozenset(Ending)


class DeliveryState(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    GIVEN_UP = "given_up"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event on its way to one receiver. A job has one event, whatever the number of
    receivers; `n` tells these apart.

    `since` is when the present run of tries began: at the event, or when it was asked for again.
    `last_error` is a short sentence of ours, never what the receiver wrote. `next_at` is None
    while a try is under way and once there are no more.
    """

    id: DeliveryId
    event: EventId
    job: JobId
    n: int
    tenant: TenantId
    url: str
    configured: bool
    ending: Ending
    state: DeliveryState
    created_at: float
    since: float
    attempts: int = 0
    last_at: float | None = None
    last_status: int | None = None
    last_error: str | None = None
    next_at: float | None = None
    ended_at: float | None = None

    @property
    def receiver(self) -> str:
        return receiver_of(self.url)


def receiver_of(url: str) -> str:
    """The host and port of a webhook's URL: whom it burdens."""
    return urlsplit(url).netloc.lower()


@dataclass(frozen=True, slots=True)
class Tried:
    """What one try came to: acknowledged, or `error` says in a short sentence why not. `status`
    is the receiver's where it answered, `retry_after_seconds` what it asked for."""

    acknowledged: bool
    status: int | None = None
    error: str | None = None
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class DeliveryLease:
    """A leased delivery with the job that it tells of."""

    lease: Lease
    delivery: Delivery
    job: Job


@dataclass(frozen=True, slots=True)
class DeliveryQuery:
    """Which webhook deliveries to list, newest first."""

    job: JobId | None = None
    state: DeliveryState | None = None
    after: DeliveryId | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True)
class DeliveryPage:
    """One page of a list."""

    items: tuple[Delivery, ...]
    has_more: bool


class DeliveryLedger(Protocol):
    """The part of `ports.Ledger` that is about webhooks. A job's event is recorded by whichever
    step ends the job."""

    async def claim_delivery(
        self,
        owner: Owner,
        *,
        not_receivers: Collection[str] = (),
        not_tenants: Collection[TenantId] = (),
    ) -> DeliveryLease | None:
        """Lease a due delivery, never tried ones first, but none to these receivers (origins)
        and of these tenants."""

    async def next_delivery(self) -> float | None:
        """In how many seconds the next delivery that waits now becomes due, if one waits."""

    async def note_try(self, lease: Lease, tried: Tried, again_after: float | None) -> Delivery:
        """Record what a try came to. Not acknowledged, it is tried again in so many seconds, or
        given up where that is None. Raises `LeaseLost`."""

    async def delivery(self, tenant: TenantId, delivery: DeliveryId) -> Delivery | None:
        """That delivery of that tenant's jobs."""

    async def deliveries(self, tenant: TenantId, query: DeliveryQuery) -> DeliveryPage:
        """The tenant's deliveries that match. An unknown `after` gives an empty page."""

    async def redeliver(self, tenant: TenantId, delivery: DeliveryId) -> Delivery | None:
        """Make a delivery due now, with all its tries before it where it had ended. Returns it
        as it then is, None if there is none."""

    async def deliveries_by_state(self) -> Mapping[DeliveryState, int]:
        """How many deliveries are in each state, over all tenants; for metrics."""

    async def prune_deliveries(self, ended_before: float) -> int:
        """Forget some of the deliveries that ended before that time; how many."""


Post = Callable[[Delivery, Job], Awaitable[Tried]]
"""One try of a delivery; implemented by `webhooks/post.py`. Whatever the receiver does is a
value, and comes within seconds."""
