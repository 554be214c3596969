"""A worker as several run at once over one database: in processes, and in threads of each."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from batchmill.clock import SystemClock
from batchmill.fleet import Timing
from batchmill.ledger import SqlLedger
from batchmill.model import DEFAULT_TENANT, FileId, JobId, Kind, Owner
from batchmill.ports import Want
from tests.conformance.ledger.world import LEASE_SECONDS, World


def contend(database: str, job: JobId, name: str, threads: int = 2) -> int:
    """Work on the job from several threads until it has ended; lines counted by them all."""
    with ThreadPoolExecutor(threads) as pool:
        runs = [pool.submit(_thread, database, job, f"{name}{n}") for n in range(threads)]
        return sum(run.result() for run in runs)


def _thread(database: str, job: JobId, name: str) -> int:
    return asyncio.run(_work(database, job, name))


async def _work(database: str, job: JobId, name: str) -> int:
    ledger = await SqlLedger.open(database, clock=SystemClock(), timing=Timing(LEASE_SECONDS, 1.0))
    world = World(ledger, None)
    owner = await ledger.register(name, "1", "host", 1)
    counted = 0
    try:
        while (now := await ledger.job(DEFAULT_TENANT, job)) and now.ended_at is None:
            counted += await _turn(world, owner)
        return counted
    finally:
        await ledger.close_connections()


async def _turn(world: World, owner: Owner) -> int:
    """Claim two shards, give one back, do the other in two commits; or finalize."""
    held = await world.ledger.claim_shards(owner, Want(2))
    await world.ledger.release([each.lease for each in held[1:]])
    counted = 0
    for each in held[:1]:
        for half in (range(each.shard.lines // 2), range(each.shard.lines // 2, each.shard.lines)):
            part = world.part(each.lease, half)
            counted += len(half) * (await world.ledger.commit([(each.lease, part)]))[0]
        await world.close(each)
    chore = await world.ledger.claim_chore(owner, [Kind.FINALIZE])
    if chore is not None:
        ids = (FileId(f"o-{chore[0].job}"), FileId(f"e-{chore[0].job}"))
        await world.ledger.finalize(chore[0], *ids, ("o", "e"))
    return counted
