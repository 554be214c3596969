"""What blobs are called. The epoch in a name keeps a stale owner from a blob that is read."""

from __future__ import annotations

from batchmill.assembly import AssemblyId, PieceId
from batchmill.model import BlobName, FileId, JobId, Stream


def input_name(file: FileId) -> BlobName:
    """An upload, or the inline requests of a job."""
    return BlobName(f"inputs/{file}")


def piece_name(assembly: AssemblyId, piece: PieceId) -> BlobName:
    """A piece of a file that is not yet put together."""
    return BlobName(f"uploads/{assembly}/{piece}")


def body_name(id: str) -> BlobName:
    """A large body of a request, between its arrival and its reading."""
    return BlobName(f"bodies/{id}")


def part_name(job: JobId, n: int, epoch: int, i: int) -> BlobName:
    """The `i`th part that the owner of that epoch wrote for shard `n`."""
    return BlobName(f"jobs/{job}/parts/{n}.{epoch}.{i}")


def segment_name(job: JobId, stream: Stream, n: int, epoch: int) -> BlobName:
    """One side of shard `n` as the owner of that epoch closed it."""
    return BlobName(f"jobs/{job}/{stream}/{n}.{epoch}")


def kept_name(job: JobId, n: int, what: str) -> BlobName:
    """What a child keeps of its parent's shard `n`: a side of it, or a part."""
    return BlobName(f"jobs/{job}/kept/{n}.{what}")


def order_name(job: JobId, n: int) -> BlobName:
    """The dispatch order of shard `n`, written by validation."""
    return BlobName(f"jobs/{job}/order/{n}")


def probe_name(worker: str) -> BlobName:
    """What a worker writes to learn that the store can be written again."""
    return BlobName(f"probes/{worker}")
