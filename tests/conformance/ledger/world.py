"""What tests of the ledger stand on: a real ledger, a clock that moves when told, and short
words for the steps that lead somewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import pytest

from batchmill.clock import ManualClock, new_id
from batchmill.model import (
    DEFAULT_TENANT,
    BlobName,
    Dialect,
    File,
    FileId,
    FileSource,
    Job,
    JobId,
    JobInput,
    JobState,
    Kind,
    Lease,
    Owner,
    Part,
    PartEntry,
    Segment,
    Shard,
    ShardLease,
    Stream,
    TenantId,
)
from batchmill.ports import Ledger, Plan, Want
from batchmill.usage import Usage

LEASE_SECONDS = 15.0
BEAT_SECONDS = 1.0
WINDOW = 3600.0
ALICE = Owner("alice/1")
BOB = Owner("bob/1")
OUT, ERR = Stream.OUT, Stream.ERR
only_sqlite = pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
"""Of a file, or of a machine with two clocks: PostgreSQL has one, its server's."""
only_postgres = pytest.mark.parametrize("kind", ["postgres"], indirect=True)


@dataclass
class World:
    ledger: Ledger
    clock: ManualClock
    _numbers: Any = field(default_factory=lambda: count(1))

    async def upload(self, tenant: TenantId = DEFAULT_TENANT, **values: Any) -> File:
        new = FileId(new_id())
        given: dict[str, Any] = {"filename": "in.jsonl", "purpose": "batch", "size_bytes": 100}
        given |= {"source": FileSource.UPLOAD, "created_at": 0.0, "lines": 4}
        given |= {"blob": BlobName(f"inputs/{new}")} | values
        return await self.ledger.add_file(File(id=new, tenant=tenant, **given))

    async def create(
        self,
        tenant: TenantId = DEFAULT_TENANT,
        *,
        file: File | None = None,
        window: float = WINDOW,
        dialect: Dialect = Dialect.MISTRAL,
        **values: Any,
    ) -> Job:
        """A job in VALIDATING."""
        file = file or await self.upload(tenant)
        new = Job(
            id=JobId(new_id()),
            tenant=tenant,
            dialect=dialect,
            endpoint="/v1/chat/completions",
            state=JobState.VALIDATING,
            created_at=0.0,
            deadline=window,
            total=values.pop("total", file.lines or 0),
            input_files=(file.id,),
            **values,
        )
        return await self.ledger.create_job(new, [source_of(file)], None)

    async def validate(self, job: Job, shards: Sequence[int] = (4,), **values: Any) -> Job:
        """End the validation of this job with shards of so many lines."""
        lease, found = await self.chore(Kind.VALIDATE)
        assert found is not None
        assert found.id == job.id
        return await self.ledger.plan(lease, plan_of(shards, **values))

    async def queue(
        self, shards: Sequence[int] = (4,), tenant: TenantId = DEFAULT_TENANT, **values: Any
    ) -> Job:
        """A job in QUEUED, with shards of so many lines."""
        job = await self.create(tenant, total=sum(shards), **values)
        return await self.validate(job, shards)

    async def claim(self, owner: Owner = ALICE, limit: int = 8, **want: Any) -> list[ShardLease]:
        return list(await self.ledger.claim_shards(owner, Want(limit, **want)))

    async def claim_one(self, owner: Owner = ALICE, **want: Any) -> ShardLease:
        (only,) = await self.claim(owner, 1, **want)
        return only

    async def chore(self, kind: Kind, owner: Owner = ALICE) -> tuple[Lease, Job | None]:
        found = await self.ledger.claim_chore(owner, [kind])
        assert found is not None
        return found

    def part(
        self, lease: Lease, lines: Iterable[int] | Mapping[int, Stream], usage: Usage | None = None
    ) -> Part:
        """A part of these lines; without streams, all in the output."""
        streams = lines if isinstance(lines, Mapping) else dict.fromkeys(lines, OUT)
        entries = tuple(
            PartEntry(line, place * 10, 10, stream)
            for place, (line, stream) in enumerate(streams.items())
        )
        blob = f"jobs/{lease.job}/parts/{lease.n}.{lease.epoch}.{next(self._numbers)}"
        return Part(BlobName(blob), entries, 10 * len(entries), usage or Usage())

    async def commit(self, held: ShardLease, lines: Iterable[int] | Mapping[int, Stream]) -> bool:
        (answer,) = await self.ledger.commit([(held.lease, self.part(held.lease, lines))])
        return answer

    async def finish(self, held: ShardLease, stream: Stream = OUT) -> None:
        """Commit what is left of a shard to one side, and close it."""
        streams = {e.line: e.stream for part in held.parts for e in part.entries}
        left = {n: stream for n in range(held.shard.lines) if n not in streams}
        assert not left or await self.commit(held, left)
        assert await self.ledger.close(held.lease, segments(held, streams | left))

    async def close(self, held: ShardLease) -> bool:
        """Close a shard whose every line is in the output."""
        return await self.ledger.close(
            held.lease, segments(held, dict.fromkeys(range(held.shard.lines), OUT))
        )

    async def finalize(self, owner: Owner = ALICE) -> Job:
        lease, _ = await self.chore(Kind.FINALIZE, owner)
        return await self.end(lease)

    async def end(self, lease: Lease) -> Job:
        """End the job whose finalize row is leased."""
        ids = (FileId(new_id()), FileId(new_id()))
        return await self.ledger.finalize(lease, *ids, ("out.jsonl", "err.jsonl"))

    async def run(self, job: Job, stream: Stream = OUT) -> Job:
        """Carry a queued or stopped job to its end."""
        while held := await self.claim():
            for each in held:
                await self.finish(each, stream)
        ended = await self.finalize()
        assert ended.id == job.id
        return ended

    async def seen(self, job: Job) -> Job:
        """The job as it is now."""
        found = await self.ledger.job(job.tenant, job.id)
        assert found is not None
        return found

    def pass_lease_time(self) -> None:
        self.clock.advance(LEASE_SECONDS + 0.1)

    def pass_two_beats(self) -> None:
        self.clock.advance(2 * BEAT_SECONDS + 0.1)


def source_of(file: File) -> JobInput:
    assert file.blob is not None
    return JobInput(file.id, file.filename, file.blob, file.size_bytes, file.lines or 0)


def plan_of(shards: Sequence[int], **values: Any) -> Plan:
    made, first = [], 0
    for n, lines in enumerate(shards):
        made.append(Shard(n, 0, first, lines, first * 10, lines * 10, first + 1))
        first += lines
    return replace(Plan(tuple(made), first), **values)


def segments(held: ShardLease, streams: Mapping[int, Stream]) -> list[Segment]:
    """The segments of a shard whose lines stand on these sides."""
    lease, made = held.lease, []
    for stream in Stream:
        lines = sum(each is stream for each in streams.values())
        if lines:
            blob = BlobName(f"jobs/{lease.job}/{stream.value}/{lease.n}.{lease.epoch}")
            made.append(Segment(stream, blob, 10 * lines, lines))
    return made
