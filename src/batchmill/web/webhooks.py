"""What a create's `webhook_url` must be: checked in one place for both dialects."""

from __future__ import annotations

from batchmill.core.submit import Order
from batchmill.errors import InvalidInput, Unavailable
from batchmill.web.services import Services
from batchmill.webhooks.guard import Unresolved
from batchmill.webhooks.target import Refused

PARAM = "webhook_url"


async def require_webhook(services: Services, order: Order) -> None:
    """Raise `InvalidInput` (400) unless its `webhook_url` may be called and what is sent can be
    signed, and `Unavailable` (503) where that cannot be said now. None asks for nothing, and
    neither does an order whose job was made before. Call it before the job is made."""
    url = order.webhook_url
    if url is None or (order.once is not None and await services.ledger.made_by(order.once)):
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
    except Unresolved as e:
        raise Unavailable(f"The webhook_url cannot be checked now: {e}; try again.") from e
    except Refused as e:
        raise InvalidInput(
            f"The webhook_url cannot be called: {e}.", param=PARAM, code="invalid_value"
        ) from e
