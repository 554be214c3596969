"""Workers that do whatever a ledger lets them do, at random and side by side, over a few jobs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from batchmill.clock import SystemClock, new_id
from batchmill.errors import LeaseLost
from batchmill.fleet import Beat, Timing
from batchmill.ledger import SqlLedger
from batchmill.model import (
    FileId,
    Job,
    JobId,
    Kind,
    Lease,
    LineError,
    Owner,
    ShardLease,
    Stream,
    Verdict,
)
from batchmill.ports import Ledger, Want
from tests.conformance.ledger.world import World, plan_of, segments

TIMING = Timing(0.6, 0.1)
CHORES = (Kind.VALIDATE, Kind.FINALIZE)
SHARDS = (9, 4, 12, 1) * 12
"""Of every job."""


@dataclass
class Worker:
    """One owner's view: the shards it holds and their outcomes, and what is left to be done."""

    ledger: Ledger
    owner: Owner
    chance: random.Random
    jobs: Sequence[Job]
    held: dict[tuple[JobId, int], ShardLease] = field(default_factory=dict)
    outcomes: dict[tuple[JobId, int], dict[int, Stream]] = field(default_factory=dict)
    chores: list[Lease] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.world = World(self.ledger, None)

    async def act(self) -> None:
        """Do one thing."""
        often: list[Callable[[], Awaitable[object]]] = [self.claim, self.commit, self.commit]
        often += [self.close, self.close, self.chore]
        seldom = [self.release, self.note, self.meddle, self.ledger.expire_jobs]
        await self.chance.choice(often if self.chance.random() < 0.85 else [*often, *seldom])()

    async def claim(self, limit: int = 3) -> int:
        granted = await self.ledger.claim_shards(self.owner, Want(limit, settle_limit=limit))
        for each in granted:
            key = (each.lease.job, each.lease.n)
            self.held[key] = each
            self.outcomes[key] = {e.line: e.stream for part in each.parts for e in part.entries}
        return len(granted)

    async def commit(self, least: int = 1) -> None:
        group = []
        for key in self._some(len(self.held) if least > 1 else 4):
            left = set(range(self.held[key].shard.lines)) - self.outcomes[key].keys()
            most = max(least, self.chance.randint(1, 6))
            lines = self.chance.sample(sorted(left), min(len(left), most))
            if lines:
                streams = {line: self.chance.choice(list(Stream)) for line in lines}
                group.append((key, streams))
        parts = [
            (self.held[key].lease, self.world.part(self.held[key].lease, streams))
            for key, streams in group
        ]
        for (key, streams), answer in zip(group, await self.ledger.commit(parts), strict=True):
            if answer:
                self.outcomes[key] |= streams
            else:
                self.held.pop(key, None)

    async def close(self) -> None:
        for key in self._some(len(self.held)):
            held = self.held.get(key)
            if held is not None and len(self.outcomes[key]) == held.shard.lines:
                await self.ledger.close(held.lease, segments(held, self.outcomes[key]))
                self.held.pop(key, None)

    async def renew(self) -> None:
        leases = [each.lease for each in self.held.values()]
        renewal = await self.ledger.renew(self.owner, [*leases, *self.chores], Beat())
        for lease in leases:
            if renewal.answers[lease.key].verdict is Verdict.GONE and self.chance.random() < 0.5:
                self.held.pop((lease.job, lease.n), None)

    async def chore(self) -> bool:
        found = await self.ledger.claim_chore(self.owner, CHORES)
        if found is not None:
            self.chores.append(found[0])
        while self.chores and (found is not None or self.chance.random() < 0.5):
            await self._do(self.chores.pop())
        return found is not None

    async def _do(self, lease: Lease) -> None:
        try:
            if self.chance.random() < 0.1:
                await self.ledger.strike(lease, "no luck")
            elif lease.kind is Kind.VALIDATE:
                await self.ledger.plan(lease, plan_of(SHARDS))
            else:
                ids = (FileId(new_id()), FileId(new_id()))
                await self.ledger.finalize(lease, *ids, ("out", "err"))
        except LeaseLost:
            pass

    async def release(self) -> None:
        keys = self._some(2)
        await self.ledger.release([self.held.pop(key).lease for key in keys])

    async def note(self) -> None:
        for key in self._some(1):
            await self.ledger.note_alone(self.held[key].lease, 0)

    async def meddle(self) -> None:
        """What users and operators do."""
        job, ledger = self.chance.choice(self.jobs), self.ledger
        match self.chance.randint(0, 40):
            case 0:
                await ledger.cancel(job.tenant, job.id)
            case 1:
                await ledger.fail_job(job.id, LineError("internal_error", "x"))
            case 2:
                await ledger.delete_job(job.tenant, job.id)
            case number if number < 12:
                await ledger.set_paused(job.tenant, job.id, number % 2 == 0)
            case number if number < 20:
                await ledger.release_worker(f"w{number % 4}", struck=number % 2 == 0)
            case number if number < 30:
                await ledger.claim_delivery(self.owner)
            case _:
                await self.world.upload()

    def _some(self, number: int) -> list[tuple[JobId, int]]:
        return self.chance.sample(sorted(self.held), min(number, len(self.held)))


def stress(database: str, jobs: list[Job], process: int, seed: int, steps: int) -> list[str]:
    """Three workers at once in this process; what went wrong."""
    return asyncio.run(_stress(database, jobs, process, seed, steps))


async def _stress(database: str, jobs: list[Job], process: int, seed: int, steps: int) -> list[str]:
    ledger = await SqlLedger.open(database, clock=SystemClock(), timing=TIMING)
    faults: list[str] = []

    async def noted(step: Callable[[], Awaitable[object]]) -> None:
        try:
            await step()
        except Exception as error:  # noqa: BLE001 - whatever it is, the test tells
            faults.append(f"{type(error).__name__}: {error}")

    async def live(number: int) -> None:
        chance = random.Random(f"{seed} {process} {number}")
        owner = await ledger.register(f"w{process}{number}", "1", "host", 1)
        worker = Worker(ledger, owner, chance, jobs)
        async with asyncio.TaskGroup() as tasks:
            heart = tasks.create_task(_beat(worker, noted))
            for _ in range(steps):
                await noted(worker.act)
            heart.cancel()

    await asyncio.gather(*(live(number) for number in range(3)))
    await ledger.close_connections()
    return faults


async def _beat(worker: Worker, noted: Callable[..., Awaitable[None]]) -> None:
    """Renew beside all else, now and then too late."""
    while True:
        await noted(worker.renew)
        late = worker.chance.random() < 0.03
        await asyncio.sleep(TIMING.lease_seconds * 1.2 if late else 0.02)


async def finish(database: str, jobs: list[Job]) -> None:
    """Drive every job to its end."""
    ledger = await SqlLedger.open(database, clock=SystemClock(), timing=TIMING)
    worker = Worker(ledger, Owner("rescuer/1"), random.Random(0), jobs)
    for job in jobs:
        await ledger.set_paused(job.tenant, job.id, False)
    for _ in range(200):
        await worker.renew()
        while await worker.claim(50):
            await worker.commit(least=99)
            await worker.close()
        while await worker.chore():
            pass
        states = await ledger.jobs_by_state()
        if sum(number for state, number in states.items() if state in ENDED) == len(jobs):
            break
        await asyncio.sleep(0.1)
    await ledger.close_connections()


ENDED = ("completed", "failed", "expired", "cancelled")
