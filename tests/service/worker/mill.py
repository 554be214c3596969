"""A mill for a test: a real ledger and blobs in a folder, real workers in this process, engines
that a test scripts, and what every job must come to."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

from batchmill.clock import Clock, SystemClock, new_id
from batchmill.core.collect import GroupRules
from batchmill.core.lines import LineRules
from batchmill.core.models import Catalogue
from batchmill.core.plan import ShardSize
from batchmill.core.progress import Progress, progress
from batchmill.core.rules import Stores, WorkerRules
from batchmill.core.worker import Worker
from batchmill.dialects.formats import FORMATS
from batchmill.fleet import EngineSpec, Timing
from batchmill.grants import Limit
from batchmill.ledger import SqlLedger
from batchmill.model import (
    DEFAULT_TENANT,
    TERMINAL,
    BlobName,
    Dialect,
    File,
    FileId,
    FileSource,
    Job,
    JobId,
    JobInput,
    JobState,
    Stream,
    TenantId,
    WaitingReason,
)
from batchmill.quotas import Quotas
from batchmill.schedules import ALWAYS, Schedule
from tests.service.worker.engine import Engine
from tests.service.worker.stores import FullBlobs, LeavingLedger

QUICK = Timing(lease_seconds=1.2, beat_seconds=0.1)
CALM = Timing(lease_seconds=4.0, beat_seconds=0.4)
"""Two beats of it are longer than the grace of a stopped job's flights."""


@dataclass
class Running:
    """A worker at work."""

    worker: Worker
    ledger: LeavingLedger
    heart: LeavingLedger
    task: asyncio.Task[None]
    stop: asyncio.Event
    engines: Collection[Engine]
    released_bytes: list[int]
    wrote_off: bool = False
    """It ended with answers that it could not make durable."""

    @property
    def held_bytes(self) -> int:
        """Bytes of replies that are neither durable nor given back."""
        return sum(engine.held_bytes for engine in self.engines) - sum(self.released_bytes)

    async def drain(self) -> None:
        """End it as SIGTERM does."""
        self.stop.set()
        async with asyncio.timeout(10):
            await self.task

    async def kill(self) -> None:
        """End it without a word to anybody."""
        self.wrote_off = True
        self.task.cancel()
        await asyncio.wait([self.task], timeout=5)
        assert self.task.done()


@dataclass
class Mill:
    folder: Path
    ledger: SqlLedger
    blobs: FullBlobs
    timing: Timing
    shard_lines: int
    workers: list[Running] = field(default_factory=list)

    async def job(
        self,
        lines: int,
        tag: str = "line",
        *,
        tenant: TenantId = DEFAULT_TENANT,
        window: float = 3600.0,
        model: str = "m",
        models: Sequence[str] = (),
        priority: int = 0,
        distinct: int = 0,
        embeddings: bool = False,
    ) -> Job:
        """A job of so many lines whose texts and custom_ids are `<tag>-<number>`. With `models`
        it is one of OpenAI's, whose lines name these in turn. With `distinct` its texts begin anew
        after so many, at the temperature 0, and it asks that none is sent twice."""
        form = "input" if embeddings else "messages"
        ids = [text_of(tag, n) for n in range(lines)]
        texts = [text_of(tag, n % (distinct or lines)) for n in range(lines)]
        own = [models[n % len(models)] if models else None for n in range(lines)]
        drawn = {"temperature": 0} if distinct else {}
        data = b"".join(_line(*each, form, drawn) for each in zip(ids, texts, own, strict=True))
        file = FileId(new_id())
        blob = BlobName(f"inputs/{file}")
        await self.blobs.put_many([(blob, [data])])
        size = len(data)
        await self.ledger.add_file(
            File(file, tenant, "in.jsonl", "batch", FileSource.UPLOAD, size, 0.0, lines, blob=blob)
        )
        new = Job(
            JobId(new_id()),
            tenant,
            Dialect.OPENAI if models else Dialect.MISTRAL,
            "/v1/embeddings" if embeddings else "/v1/chat/completions",
            JobState.VALIDATING,
            0.0,
            window,
            lines,
            model=None if models else model,
            priority=priority,
            input_files=(file,),
            dedupe=bool(distinct),
        )
        source = JobInput(file, "in.jsonl", blob, size, lines)
        made = await self.ledger.create_job(new, [source], None)
        self.wake()
        return made

    async def start(
        self,
        *engines: Engine,
        concurrency: int = 4,
        adaptive: bool = False,
        name: str = "w",
        group_seconds: float = 0.02,
        schedules: Sequence[Schedule] = (),
        clock: Clock | None = None,
        limits: tuple[Limit, ...] = (),
        per_call: int = 1,
        aliases: Mapping[str, str] | None = None,
        **rules: Any,
    ) -> Running:
        """A worker with these engines, which are open by these schedules, the rest always, and take
        so many embeddings `per_call`."""
        ledger = LeavingLedger(self.ledger)
        heart = LeavingLedger(await self._open())
        rules = {"drain_seconds": 0.3, "low_disk_bytes": 0} | rules

        async def open_heart() -> Any:
            return heart

        released: list[int] = []
        specs = [
            EngineSpec(
                f"e{n}",
                "http://none",
                concurrency=concurrency,
                adaptive=adaptive,
                schedule=schedule,
                limits=limits,
                embeddings_per_call=per_call,
            )
            for n, (_, schedule) in enumerate(zip_longest(engines, schedules, fillvalue=ALWAYS))
        ]
        worker = Worker(
            name,
            Stores(ledger, self.blobs, open_heart),  # type: ignore[arg-type]
            list(zip(specs, engines, strict=True)),
            aliases or {},
            FORMATS,
            LineRules(shard=ShardSize(lines=self.shard_lines)),
            clock or SystemClock(),
            WorkerRules(self.timing, GroupRules(group_seconds), **rules),
            released=released.append,
        )
        stop = asyncio.Event()
        task = asyncio.create_task(worker.run(stop))
        running = Running(worker, ledger, heart, task, stop, engines, released)
        self.workers.append(running)
        return running

    def wake(self) -> None:
        """Ring as the API does when it changed something."""
        for running in self.workers:
            if not running.task.done():
                running.worker.wake()

    async def cancel(self, job: Job) -> None:
        await self.ledger.cancel(job.tenant, job.id)
        self.wake()

    async def pause(self, job: Job) -> None:
        """Pause a job; returns when every worker has heard of it."""
        paused = await self.ledger.set_paused(job.tenant, job.id, True)
        assert paused is not None
        assert paused.paused
        await self.beaten()

    async def resume(self, job: Job) -> None:
        await self.ledger.set_paused(job.tenant, job.id, False)
        self.wake()

    async def beaten(self) -> None:
        """Let every worker hear what the ledger says now."""
        living = [running.heart for running in self.workers if not running.task.done()]
        seen = [heart.begun["renew"] for heart in living]
        self.wake()

        async def all_have() -> bool:
            return all(h.ended["renew"] > n for h, n in zip(living, seen, strict=True))

        await self.until(all_have)
        await asyncio.sleep(0)

    async def leased_rows(self) -> int:
        """How many shards and chores somebody holds."""
        [[rows]] = await self._sql("SELECT count(*) FROM shard WHERE state = 'leased'")
        return int(rows)

    async def leased_shards(self, job: str) -> int:
        """How many shards of the job somebody holds."""
        [[rows]] = await self._sql(
            "SELECT count(*) FROM shard WHERE state = 'leased' AND kind = 'run'"
            f" AND job_id = '{job}'"
        )
        return int(rows)

    async def shares(self) -> int:
        """How many workers hold shares of limits."""
        [[rows]] = await self._sql("SELECT count(*) FROM \"grant\" WHERE owner <> ''")
        return int(rows)

    async def strikes(self) -> int:
        """All strikes that run shards have."""
        [[strikes]] = await self._sql("SELECT coalesce(sum(strikes), 0) FROM shard")
        return int(strikes)

    async def noted_rows(self) -> int:
        """How many shards have a line noted that is in flight alone."""
        [[rows]] = await self._sql("SELECT count(*) FROM shard WHERE alone_in_flight")
        return int(rows)

    async def revoke(self, job: Job) -> None:
        """Grant the job's leased shards to somebody else, who never runs them."""
        await self._sql(
            "UPDATE shard SET epoch = epoch + 1, owner = 'other/1', committed = 1"
            f" WHERE job_id = '{job.id}' AND kind = 'run' AND state = 'leased'"
        )

    async def expire_leases(self) -> None:
        """Let every lease run out now."""
        await self._sql("UPDATE shard SET lease_until = 0 WHERE state = 'leased'")

    async def poison(self) -> None:
        """Let every shard look as if its owners had died over it, and every lease run out."""
        await self._sql("UPDATE shard SET strikes = 3 WHERE kind = 'run'")
        await self.expire_leases()

    async def postpone(self, n: int | None) -> None:
        """Let nobody claim shard `n` of any job; None: let everybody claim all."""
        later = "state = 'kept'" if n is not None else "state = 'open'"
        where = f"n = {n} AND state = 'open'" if n is not None else "state = 'kept'"
        await self._sql(f"UPDATE shard SET {later} WHERE kind = 'run' AND {where}")

    async def lengthen_leases(self, seconds: int) -> None:
        """Let every shard be leased for so much longer."""
        await self._sql(
            f"UPDATE shard SET lease_until = lease_until + {seconds}"
            " WHERE state = 'leased' AND kind = 'run'"
        )

    async def _sql(self, statement: str) -> list[Any]:
        return await asyncio.to_thread(_run_sql, self.folder / "ledger.db", statement)

    async def nothing_is_leased(self) -> bool:
        return await self.leased_rows() == 0

    async def progress(self, job: Job, *, has_room: bool = True) -> Progress:
        """What its user is told of the job, by what was last said in the ledger."""
        ledger = self.ledger
        catalogue = Catalogue({}, await ledger.engines())
        held_back = job.id in (await ledger.quota(job.tenant)).held_back
        workers, now = await ledger.workers(), await ledger.now()
        job = await self.look(job)
        return progress(job, workers, catalogue, now, has_room=has_room, held_back=held_back)

    async def waits(self, job: Job, reason: WaitingReason, seconds: float = 8.0) -> None:
        """Wait until this is why the job waits, for some beats on end."""

        async def does() -> bool:
            for _ in range(3):
                await self.beaten()
                if (await self.progress(job)).waiting_reason is not reason:
                    return False
            return True

        await self.until(does, seconds)

    async def look(self, job: Job) -> Job:
        found = await self.ledger.job(job.tenant, job.id)
        assert found is not None
        return found

    async def until(self, holds: Callable[[], Awaitable[bool]], seconds: float = 8.0) -> None:
        """Look again and again until it holds, every worker that works being well."""
        async with asyncio.timeout(seconds):
            while not await holds():
                for running in self.workers:
                    if running.task.done() and not running.task.cancelled():
                        running.task.result()
                await asyncio.sleep(0.005)

    async def ended(self, job: Job, seconds: float = 8.0) -> Job:
        """Wait for the job's end and hold it to the promises: every line stands on one side,
        once, in input order, and the counters say the same."""

        async def is_over() -> bool:
            return (await self.look(job)).state in TERMINAL

        await self.until(is_over, seconds)
        over = await self.look(job)
        out, err = await self.results(job, Stream.OUT), await self.results(job, Stream.ERR)
        assert (over.succeeded, over.failed) == (len(out), len(err))
        assert over.total == over.succeeded + over.failed
        numbers = [[_number(row) for row in side] for side in (out, err)]
        assert [sorted(side) for side in numbers] == numbers
        assert sorted(numbers[0] + numbers[1]) == list(range(over.total))
        return over

    async def done(self, job: Job) -> int:
        """How many lines have an outcome."""
        now = await self.look(job)
        return now.succeeded + now.failed

    async def results(self, job: Job, stream: Stream) -> list[Any]:
        """The result lines of one side, as a download has them."""
        segments = await self.ledger.segments(job.id, stream)
        rows = []
        for segment in segments:
            data = b"".join([piece async for piece in self.blobs.read(segment.blob)])
            rows += [json.loads(row) for row in data.splitlines()]
        return rows

    async def _open(self) -> SqlLedger:
        return await SqlLedger.open(
            self.folder / "ledger.db", clock=SystemClock(), timing=self.timing
        )


@asynccontextmanager
async def milling(
    folder: Path, *, timing: Timing = QUICK, shard_lines: int = 4, quota: int = 0
) -> AsyncIterator[Mill]:
    """A mill whose tenants may have so many lines pending (0: any number); what still works at the
    end is drained, and then holds no byte of any reply."""
    ledger = await SqlLedger.open(
        folder / "ledger.db", clock=SystemClock(), timing=timing, quotas=Quotas(quota)
    )
    mill = Mill(folder, ledger, FullBlobs(folder / "blobs"), timing, shard_lines)
    try:
        yield mill
        for running in mill.workers:
            if not running.task.done():
                await running.drain()
            assert running.wrote_off or running.held_bytes == 0
    finally:
        for running in mill.workers:
            await running.kill()
            await running.heart.close_connections()
        await ledger.close_connections()


def _run_sql(path: Path, statement: str) -> list[Any]:
    with closing(sqlite3.connect(path, timeout=5.0)) as database, database:
        return database.execute(statement).fetchall()


def text_of(tag: str, number: int) -> str:
    return f"{tag}-{number}"


def texts_of(tag: str, numbers: Sequence[int]) -> list[str]:
    return [text_of(tag, number) for number in numbers]


def _line(custom_id: str, text: str, model: str | None, form: str, drawn: dict[str, Any]) -> bytes:
    asked: object = text if form == "input" else [{"role": "user", "content": text}]
    body: dict[str, Any] = {form: asked, **drawn}
    line: dict[str, Any] = {"custom_id": custom_id, "body": body}
    if model is not None:
        body["model"] = model
        line |= {"method": "POST", "url": "/v1/chat/completions"}
    return json.dumps(line).encode() + b"\n"


def _number(row: Any) -> int:
    return int(row["custom_id"].rpartition("-")[2])
