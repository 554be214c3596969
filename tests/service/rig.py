"""The API over a real ledger and real blobs, called in-process, and a worker driven by hand."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from fastapi import FastAPI
from structlog.testing import capture_logs

from batchmill.blobs.local import LocalBlobs
from batchmill.clock import ManualClock
from batchmill.core.chores import Chores
from batchmill.core.lines import LineRules
from batchmill.core.models import Catalogue
from batchmill.core.names import part_name, segment_name
from batchmill.deliveries import WebhookEndpoint
from batchmill.dialects.formats import FORMATS
from batchmill.dialects.routers import ROUTERS
from batchmill.fleet import EngineState, EngineStatus
from batchmill.ledger import SqlLedger
from batchmill.model import (
    Fate,
    JobId,
    Kind,
    Lease,
    LineError,
    Outcome,
    Owner,
    Part,
    PartEntry,
    Segment,
    Shard,
    ShardLease,
    Stream,
    TenantId,
)
from batchmill.ports import Plan, Want
from batchmill.usage import NO_USAGE, Usage
from batchmill.web.api import ApiRules, KeyMode, create_api
from batchmill.web.auth import key_digest
from batchmill.webhooks.guard import Guard

BASE = "http://127.0.0.1:8470"
ENGINE = EngineStatus("gpu1", "vllm", EngineState.UP, models=("small", "org/large"), seen_at=1.0)
BODY = {"messages": [{"role": "user", "content": "hi"}]}


@dataclass
class Rig:
    """Everything a test needs. `catalogue` may be replaced; `woken` counts the wake-ups."""

    ledger: SqlLedger
    blobs: LocalBlobs
    clock: ManualClock
    root: Path
    catalogue: Catalogue = field(default_factory=lambda: Catalogue({"alias": "small"}, (ENGINE,)))
    webhooks: Guard | None = None
    woken: int = 0
    logs: list[Any] = field(default_factory=list)
    app: FastAPI | None = None
    client: httpx2.AsyncClient | None = None

    def wire(self, rules: ApiRules) -> FastAPI:
        def wake() -> None:
            self.woken += 1

        parts = (self.ledger, self.blobs, self.known, rules, self.clock, wake, ROUTERS)
        self.app = create_api(*parts, webhooks=self.webhooks)
        return self.app

    async def known(self) -> Catalogue:
        """The catalogue as it is now."""
        return self.catalogue

    def chores(self, keep_uploads: float = 0.0, **limits: int) -> Chores:
        """Runs chores as a worker does."""
        rules = LineRules(**limits)
        return Chores(self.ledger, self.blobs, rules, keep_uploads, self.known)

    async def call(self, method: str, path: str, **given: Any) -> httpx2.Response:
        assert self.client is not None
        return await self.client.request(method, path, **given)

    async def get(self, path: str, **given: Any) -> Any:
        reply = await self.call("GET", path, **given)
        assert reply.status_code == 200, reply.text
        return reply.json()

    async def upload(self, content: bytes, name: str = "in.jsonl", **fields: str) -> Any:
        reply = await self.call(
            "POST",
            "/v1/files",
            files={"file": (name, content)},
            data={"purpose": "batch", **fields},
        )
        assert reply.status_code == 200, reply.text
        return reply.json()

    async def create(self, **fields: Any) -> Any:
        asked = {"endpoint": "/v1/chat/completions", "model": "small", **fields}
        reply = await self.call("POST", "/v1/batch/jobs", json=asked)
        assert reply.status_code == 200, reply.text
        return reply.json()

    async def batch(self, content: bytes | None = None, **fields: Any) -> Any:
        """A batch of OpenAI's over these lines, or over the file that the fields name."""
        if content is not None:
            fields["input_file_id"] = (await self.upload(content))["id"]
        asked = {"endpoint": "/v1/chat/completions", "completion_window": "24h", **fields}
        reply = await self.call("POST", "/v1/batches", json=asked)
        assert reply.status_code == 200, reply.text
        return reply.json()

    async def key(self, tenant: str, key: str) -> dict[str, str]:
        """Make an API key and the header that carries it."""
        await self.ledger.create_key(TenantId(tenant), key_digest(key), key[-4:])
        self.clock.advance(2)
        return {"authorization": f"Bearer {key}"}

    def stored_files(self) -> list[str]:
        """What lies in the blob directory."""
        return [str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file()]

    async def worker(self) -> Owner:
        return await self.ledger.register("w1", "i1", "host", 1)

    async def plan(self, owner: Owner, shard_lines: int = 1024) -> JobId:
        """Validate the next job without looking at it."""
        lease, _job = await self._chore(owner, Kind.VALIDATE)
        shards: list[Shard] = []
        first = 0
        for place, each in enumerate(await self.ledger.job_inputs(lease.job)):
            raw = [line async for line in self._lines(each.blob)]
            for start in range(0, len(raw), shard_lines):
                some = raw[start : start + shard_lines]
                offset = sum(map(len, raw[:start]))
                length = sum(map(len, some))
                shards.append(
                    Shard(len(shards), place, first, len(some), offset, length, start + 1)
                )
                first += len(some)
        await self.ledger.plan(lease, Plan(tuple(shards), first))
        return lease.job

    async def validate(self, owner: Owner, **limits: int) -> None:
        """Validate the next job as a worker does."""
        lease, job = await self._chore(owner, Kind.VALIDATE)
        await self.chores(**limits).run(lease, job)

    async def sweep(self) -> None:
        """Do the housekeeping that is due."""
        lease, _ = await self._chore(await self.worker(), Kind.SWEEP)
        await self.chores().run(lease, None)

    async def refuse(self, owner: Owner, errors: Sequence[LineError], total: int) -> None:
        lease, _ = await self._chore(owner, Kind.VALIDATE)
        await self.ledger.refuse(lease, errors, total)

    async def run(
        self,
        owner: Owner,
        answer: Callable[[int, dict[str, Any]], Outcome],
        *,
        shards: int = 1000,
        usage: Usage = NO_USAGE,
    ) -> None:
        """Answer every open line that can be claimed; each shard's answers took those tokens."""
        for lease in await self.ledger.claim_shards(owner, Want(limit=shards)):
            await self._run_shard(lease, answer, usage)

    async def finalize(self, owner: Owner) -> None:
        lease, job = await self._chore(owner, Kind.FINALIZE)
        names = (f"{job.id}_output.jsonl", f"{job.id}_error.jsonl")
        await self.ledger.finalize(lease, _id(job.id, "0"), _id(job.id, "1"), names)

    async def finish(
        self, answer: Callable[[int, dict[str, Any]], Outcome], shard_lines: int = 1024
    ) -> None:
        """Take the one unfinished job from validation to its end."""
        owner = await self.worker()
        await self.plan(owner, shard_lines)
        await self.run(owner, answer)
        await self.finalize(owner)

    async def _chore(self, owner: Owner, kind: Kind) -> tuple[Lease, Any]:
        claimed = await self.ledger.claim_chore(owner, [kind])
        assert claimed is not None, f"no {kind} to do"
        return claimed

    async def _lines(self, blob: str) -> AsyncIterator[bytes]:
        content = b"".join([chunk async for chunk in self.blobs.read(blob)])
        for line in content.splitlines(keepends=True):
            yield line

    async def _run_shard(
        self, lease: ShardLease, answer: Callable[[int, dict[str, Any]], Outcome], usage: Usage
    ) -> None:
        shard, job = lease.shard, lease.job
        content = b"".join(
            [c async for c in self.blobs.read(lease.input.blob, shard.offset, shard.length)]
        )
        written: dict[Stream, list[bytes]] = {Stream.OUT: [], Stream.ERR: []}
        entries: list[PartEntry] = []
        part: list[bytes] = []
        for place, raw in enumerate(content.splitlines()):
            line = json.loads(raw)
            number = shard.first_line + place
            outcome = answer(number, line)
            text = FORMATS[job.dialect].result(
                job, number, json.dumps(line.get("custom_id")).encode(), outcome
            )
            stream = Stream.OUT if outcome.fate is Fate.SUCCEEDED else Stream.ERR
            entries.append(PartEntry(place, sum(map(len, part)), len(text), stream))
            part.append(text)
            written[stream].append(text)
        name = part_name(job.id, shard.n, lease.lease.epoch, 0)
        await self.blobs.put_many([(name, part)])
        size = sum(map(len, part))
        published = Part(name, tuple(entries), size, usage)
        assert await self.ledger.commit([(lease.lease, published)]) == (True,)
        segments = []
        for stream, lines in written.items():
            if lines:
                blob = segment_name(job.id, stream, shard.n, lease.lease.epoch)
                await self.blobs.put_many([(blob, lines)])
                segments.append(Segment(stream, blob, sum(map(len, lines)), len(lines)))
        assert await self.ledger.close(lease.lease, segments)


def answered(number: int, line: dict[str, Any]) -> Outcome:
    """The outcome of a line that an engine answered."""
    return Outcome(Fate.SUCCEEDED, 200, json.dumps({"n": number}).encode())


def lines(count: int) -> bytes:
    """A good input file."""
    return b"".join(
        json.dumps({"custom_id": f"c{n}", "body": BODY}).encode() + b"\n" for n in range(count)
    )


def openai_lines(count: int, **body: Any) -> bytes:
    """A good input file of OpenAI's."""
    return b"".join(openai_line(f"c{n}", **body) for n in range(count))


def openai_line(custom_id: str, **body: Any) -> bytes:
    """A good line of OpenAI's."""
    line = {
        "custom_id": custom_id,
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": "small", **BODY, **body},
    }
    return json.dumps(line).encode() + b"\n"


@asynccontextmanager
async def open_rig(
    root: Path,
    *,
    webhooks: Guard | None = None,
    endpoints: Sequence[WebhookEndpoint] = (),
    **rules: Any,
) -> AsyncIterator[Rig]:
    """A rig in that directory; on loopback without keys unless the rules say otherwise."""
    root.mkdir(exist_ok=True)
    clock = ManualClock()
    ledger = await SqlLedger.open(root / "ledger.db", clock=clock, webhooks=endpoints)
    rig = Rig(ledger, LocalBlobs(root / "blobs"), clock, root / "blobs", webhooks=webhooks)
    rules = {"key_mode": KeyMode.LOOPBACK, "low_disk_bytes": 0, **rules}
    transport = httpx2.ASGITransport(rig.wire(ApiRules(**rules)), raise_app_exceptions=False)
    try:
        async with httpx2.AsyncClient(transport=transport, base_url=BASE) as client:
            with capture_logs() as rig.logs:
                rig.client = client
                yield rig
    finally:
        await ledger.close_connections()


def _id(job: JobId, end: str) -> Any:
    return job[:-1] + end
