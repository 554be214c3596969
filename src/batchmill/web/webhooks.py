"""What a create's `webhook_url` must be: checked in one place for both dialects."""

from __future__ import annotations

from batchmill.errors import InvalidInput
from batchmill.web.services import Services
from batchmill.webhooks.target import Refused

PARAM = "webhook_url"


async def require_webhook(services: Services, url: str | None) -> None:
    """Raise `InvalidInput` (400) unless the URL may be called and what is sent can be signed.
    None asks for nothing. Call it before the job is made."""
    if url is None:
        return
    if services.webhooks is None:
        raise InvalidInput(
            "This server signs no webhooks: its operator has set no BATCHMILL_WEBHOOK_SECRET. "
            "Poll the job instead.",
            param=PARAM,
            code="unsupported_parameter",
        )
    try:
        await services.webhooks.admit(url)
    except Refused as e:
        raise InvalidInput(
            f"The webhook_url cannot be called: {e}.", param=PARAM, code="invalid_value"
        ) from e
