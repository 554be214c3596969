"""Reading a leased shard back from the blobs: its bytes, what validation wrote of it, and the
custom_ids of its lines."""

from __future__ import annotations

from batchmill.core.lines import open_line, spans
from batchmill.core.names import order_name
from batchmill.core.order import ShardOrder
from batchmill.errors import BlobMissing
from batchmill.model import Shard, ShardLease
from batchmill.ports import Blobs, Range


async def read_shard(lease: ShardLease, blobs: Blobs) -> tuple[bytes, ShardOrder | None]:
    """The shard's bytes and its order. Bytes of which no line is to be sent are not read: a
    single line over the limit may be as long as the file."""
    order = await _read_order(lease, blobs)
    if order is not None and len(order.bad) == lease.shard.lines:
        return b"", order
    where = Range(lease.input.blob, lease.shard.offset, lease.shard.length)
    [data] = await blobs.read_ranges([where])
    return data, order


def custom_ids(shard: Shard, data: bytes, order: ShardOrder | None = None) -> list[bytes]:
    """The custom_id of each line; null where it cannot be read back."""
    found = [b"null"] * shard.lines
    for span in spans(data, shard):
        found[span.local] = _custom_id(data[span.start : span.end])
    for local, bad in (order.bad if order else {}).items():
        found[local] = bad.custom_id
    return found


async def _read_order(lease: ShardLease, blobs: Blobs) -> ShardOrder | None:
    """What validation wrote of the shard. Lost, it is missed only where it names bad lines. A
    child's names none: its parent's bad lines are kept."""
    try:
        name = order_name(lease.job.id, lease.shard.n)
        return ShardOrder.decode(b"".join([piece async for piece in blobs.read(name)]))
    except BlobMissing:
        if lease.job.errors_total and lease.job.retry_of is None:
            raise
        return None


def _custom_id(raw: bytes) -> bytes:
    try:
        return open_line(raw)[0]
    except ValueError:
        return b"null"
