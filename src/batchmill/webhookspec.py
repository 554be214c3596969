"""How a webhook endpoint is written down: a `[[webhooks]]` table.

Whether its host may be called is asked before each delivery, in `webhooks/guard.py`.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator

from batchmill.deliveries import WebhookEndpoint
from batchmill.model import Ending, TenantId
from batchmill.webhooks.target import Refused, target_of


class WebhookSetting(BaseModel):
    """One receiver of the events of all jobs, or of one tenant's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(description="Where events are posted; https, except on an allowed host")
    tenant: str | None = Field(None, description="Whose jobs; all when not set")
    events: tuple[Ending, ...] = Field(
        tuple(Ending), description="`completed`, `failed`, `expired`, `cancelled`; all when not set"
    )

    @field_validator("url")
    @classmethod
    def _is_plain(cls, url: str) -> str:
        try:
            target_of(url)
        except Refused as e:
            raise ValueError(f"cannot be called: {e}") from e
        return url

    @field_validator("events", mode="before")
    @classmethod
    def _may_be_named_in_full(cls, events: object) -> object:
        if not isinstance(events, list | tuple):
            return events
        return tuple(str(event).removeprefix("batch.") for event in events)

    def as_noun(self) -> WebhookEndpoint:
        """The endpoint as the ledger knows it."""
        tenant = None if self.tenant is None else TenantId(self.tenant)
        return WebhookEndpoint(self.url, tenant, frozenset(self.events))
