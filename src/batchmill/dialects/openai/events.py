"""The event that tells of a batch's end, as OpenAI's SDKs read it. Pure.

`data` is the whole batch object, so that a receiver need not ask for it.
"""

from __future__ import annotations

import msgspec

from batchmill.deliveries import Delivery
from batchmill.dialects.openai.wire import batch
from batchmill.dialects.progressobjects import FINISHED
from batchmill.model import Job


def event_body(delivery: Delivery, job: Job) -> bytes:
    """The body of a delivery: the same bytes for each try and each receiver."""
    event = {
        "id": delivery.event,
        "object": "event",
        "created_at": int(delivery.created_at),
        "type": f"batch.{delivery.ending.value}",
        "data": msgspec.Raw(_data(job)),
    }
    return msgspec.json.encode(event)


def _data(job: Job) -> bytes:
    """The batch as a GET of it answers."""
    return batch(job, FINISHED.progress_of(job)).model_dump_json().encode()
