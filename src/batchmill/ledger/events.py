"""The event of a job's end: recorded by the very transaction that ends the job.

What becomes of it stands in `deliveries.py`.
"""

from __future__ import annotations

import sqlalchemy as sa

from batchmill.clock import new_id
from batchmill.deliveries import receiver_of
from batchmill.ledger.rows import Row, Values
from batchmill.ledger.schema import delivery, shard
from batchmill.ledger.store import Transaction
from batchmill.model import Ending, Kind


def record_event(tx: Transaction, ended: Row, ending: Ending) -> None:
    """Give the job its one event, with a delivery for each receiver. `ended` is the job's row;
    call it exactly once, where the row became terminal."""
    event_id = f"evt_{new_id().replace('-', '')}"
    receivers = {} if ended.webhook_url is None else {ended.webhook_url: False}
    for endpoint in tx.rules.webhooks:
        if endpoint.tenant in {None, ended.tenant} and ending in endpoint.endings:
            receivers.setdefault(endpoint.url, True)
    rows: list[Values] = [
        {
            "id": f"whd_{new_id().replace('-', '')}",
            "event_id": event_id,
            "job_id": ended.id,
            "n": n,
            "tenant": ended.tenant,
            "url": url,
            "receiver": receiver_of(url),
            "configured": configured,
            "ending": ending.value,
            "created_at": tx.at.wall,
            "since": tx.at.wall,
            "next_at": tx.at.wall,
        }
        for n, (url, configured) in enumerate(receivers.items())
    ]
    tx.each(sa.insert(delivery), rows)
    leases = [{"job_id": ended.id, "kind": Kind.DELIVER.value, "n": row["n"]} for row in rows]
    tx.each(sa.insert(shard), leases)
    if rows:
        tx.ring()
