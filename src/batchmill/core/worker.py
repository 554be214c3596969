"""A worker: claims shards and chores, runs them, and tells the ledger how it fares.

It keeps no state of its own that matters: whatever it holds when it dies is claimed by another.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from batchmill.clock import Clock, new_id
from batchmill.core.beat import Heart, Timing
from batchmill.core.chores import Chores
from batchmill.core.collect import Collector, GroupRules
from batchmill.core.dispatch import Dispatcher
from batchmill.core.gauges import Rates, gauges
from batchmill.core.holdings import Held, Holdings
from batchmill.core.lines import LineRules
from batchmill.core.links import link, watch
from batchmill.core.models import Catalogue
from batchmill.core.names import probe_name
from batchmill.core.pool import Pool
from batchmill.core.shard import Bench, run_shard
from batchmill.core.work import OpenShard
from batchmill.errors import BlobError, BlobsUnavailable, LeaseLost, LedgerUnavailable
from batchmill.model import Answer, Beat, EngineSpec, Job, Kind, Lease, Verdict
from batchmill.ports import Blobs, Formats, Ledger, Renewal, Transport, Want

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class WorkerRules:
    """What one worker may hold, and when it gives up."""

    timing: Timing = field(default_factory=Timing)
    group: GroupRules = field(default_factory=GroupRules)
    open_shards: int = 64
    open_bytes: int = 24 * 1024 * 1024
    settling_shards: int = 16
    drain_seconds: float = 8.0
    low_disk_bytes: int = 256 * 1024 * 1024
    upload_retention_seconds: float = 30 * 86_400.0


@dataclass(frozen=True, slots=True)
class Stores:
    """Where a worker's state and bytes live. `open_ledger` gives the heart its own."""

    ledger: Ledger
    blobs: Blobs
    open_ledger: Callable[[], Awaitable[Ledger]]


class Worker:
    """One worker process's work; `run` is its life. The caller closes the stores."""

    def __init__(
        self,
        name: str,
        stores: Stores,
        engines: Sequence[tuple[EngineSpec, Transport]],
        aliases: Mapping[str, str],
        formats: Formats,
        lines: LineRules,
        clock: Clock,
        rules: WorkerRules | None = None,
        *,
        released: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._name, self._stores, self._clock, self._aliases = name, stores, clock, aliases
        self._rules = rules or WorkerRules()
        self._links = tuple(link(spec, transport) for spec, transport in engines)
        self._pool, self._holdings, self._rates = Pool(), Holdings(), Rates()
        ledger, blobs = stores.ledger, stores.blobs
        self._collector = Collector(
            ledger,
            blobs,
            clock,
            self._rules.group,
            released=released,
            storage=self._storage_said,
            counted=self._rates.count,
        )
        self._dispatcher = Dispatcher(
            self._links,
            self._pool,
            self._collector,
            ledger,
            formats,
            clock,
            self._may_send,
            self._when_low,
            released,
        )
        self._bench = Bench(ledger, blobs, self._dispatcher, self._collector, formats, clock)
        self._chores = Chores(ledger, blobs, lines, self._rules.upload_retention_seconds)
        self._beat = Beat()
        self._written = self._room = True
        self._stopping = False
        self._may_have_work = True
        self._claim_wake = asyncio.Event()
        self._chore_wakes = (asyncio.Event(), asyncio.Event())
        self._heart: Heart | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then drain: send nothing new, let flights land, commit,
        release. Calls that are still out after the drain time are aborted."""
        ledger = self._stores.ledger
        self._owner = await ledger.register(self._name, new_id(), socket.gethostname(), os.getpid())
        self._heart = Heart(
            self._stores.open_ledger,
            self._owner,
            self._clock,
            self._rules.timing,
            held=lambda: self._holdings.leases,
            beat=lambda: self._beat,
            told=self._told,
        )
        self._heart.start()
        self.wake()
        try:
            await self._serve(stop)
        finally:
            await self._heart.stop()
            for each in self._links:
                await each.transport.close()

    def wake(self) -> None:
        """Something changed in the ledger: look now instead of at the next beat."""
        self._look()
        if self._heart is not None:
            self._heart.nudge()

    async def _serve(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as services:
            running = [
                services.create_task(work)
                for work in (
                    self._collector.run(),
                    self._dispatcher.run(),
                    self._watch_self(),
                    *(watch(each, self._clock, self._engine_changed) for each in self._links),
                )
            ]
            async with asyncio.TaskGroup() as runs:
                claiming = [
                    runs.create_task(self._claim_shards(runs)),
                    runs.create_task(self._do_chores((Kind.FINALIZE,), self._chore_wakes[0])),
                    runs.create_task(
                        self._do_chores(
                            (Kind.VALIDATE, Kind.PRUNE, Kind.SWEEP), self._chore_wakes[1]
                        )
                    ),
                ]
                await stop.wait()
                await self._drain(claiming)
            self._dispatcher.closing = True
            for task in running:
                task.cancel()

    async def _drain(self, claiming: Sequence[asyncio.Task[None]]) -> None:
        self._stopping = True
        for task in claiming:
            task.cancel()
        shards = self._holdings.shards()
        for shard in shards:
            shard.tell(Answer(Verdict.PAUSE))
        deadline = self._clock.boot() + self._rules.drain_seconds
        while any(shard.flights for shard in shards) and self._clock.boot() < deadline:
            await self._clock.sleep(0.02)
        for shard in shards:
            shard.abort()

    # ---- what it is told

    def _may_send(self) -> bool:
        """Whether any line may be sent: its answer could be kept, and the leases are ours."""
        if self._heart is None or self._heart.fenced():
            return False
        return self._written and self._room and not self._stopping

    def _told(self, asked: Sequence[Lease], renewal: Renewal) -> None:
        for lease in asked:
            answer = renewal.answers.get(lease.key)
            if answer is None or (self._stopping and answer.verdict is Verdict.KEEP):
                continue
            self._holdings.tell(lease, answer)
        if renewal.work:
            self._look()

    def _storage_said(self, *, written: bool) -> None:
        if written != self._written:
            self._written = written
            self._dispatcher.ring()

    def _engine_changed(self) -> None:
        self._take_stock()
        if self._heart is not None:
            self._heart.nudge()
        self._dispatcher.ring()
        self._look()

    def _look(self) -> None:
        self._may_have_work = True
        self._claim_wake.set()
        for wake in self._chore_wakes:
            wake.set()

    # ---- shards

    async def _claim_shards(self, runs: asyncio.TaskGroup) -> None:
        while True:
            await self._claim_wake.wait()
            self._claim_wake.clear()
            while self._may_have_work and (want := self._want()) is not None:
                try:
                    leases = await self._stores.ledger.claim_shards(self._owner, want)
                except LedgerUnavailable as error:
                    log.warning("claim_failed", error=str(error))
                    break
                for lease in leases:
                    shard = OpenShard(lease)
                    self._holdings.hold(Held(lease.lease, shard.tell, shard))
                    runs.create_task(self._run_shard(shard))
                if not leases:
                    self._may_have_work = bool(want.not_jobs)
                    break

    def _want(self) -> Want | None:
        """What to claim: more lines when few wait to be sent, else only jobs that have none of
        theirs here, so that a small job does not wait for a big one."""
        shards = self._holdings.shards()
        running = [shard for shard in shards if shard.lease.stop is None]
        size = sum(shard.lease.shard.length for shard in running)
        room = not running or (
            len(running) < self._rules.open_shards and size < self._rules.open_bytes
        )
        serving = self._catalogue().serving()
        runs = room and self._may_send() and serving != frozenset()
        settles = len(shards) - len(running) < self._rules.settling_shards
        if self._heart is None or self._heart.fenced() or not (runs or settles):
            return None
        low = self._is_low()
        return Want(
            limit=4 if low else 1,
            serving=serving,
            not_jobs=frozenset() if low else frozenset(shard.job.id for shard in running),
            running=runs,
            settling=settles,
        )

    def _is_low(self) -> bool:
        """Whether the lines that wait, and those of shards about to be opened, are few."""
        enough = 2 * sum(each.spec.concurrency for each in self._links)
        waiting = self._pool.ready_lines()
        if waiting >= enough:
            return False
        unopened = (shard for shard in self._holdings.shards() if not shard.opened)
        return waiting + sum(shard.lease.shard.lines for shard in unopened) < enough

    def _when_low(self) -> None:
        if self._may_have_work and not self._claim_wake.is_set() and self._is_low():
            self._claim_wake.set()

    async def _run_shard(self, shard: OpenShard) -> None:
        """Run one shard. A lease given up without a release lapses, and counts a strike."""
        lease = shard.lease.lease
        try:
            await run_shard(shard, self._bench, self._catalogue())
        except BlobsUnavailable as error:
            self._storage_said(written=False)
            log.warning("shard_given_up", job=lease.job, shard=lease.n, error=str(error))
            await self._give_back(lease)
        except LedgerUnavailable as error:
            log.warning("shard_given_up", job=lease.job, shard=lease.n, error=str(error))
        except Exception:
            log.exception("shard_broke", job=lease.job, shard=lease.n)
        finally:
            self._dispatcher.withdraw(shard)
            self._holdings.drop(lease)
            self._look()

    async def _give_back(self, lease: Lease) -> None:
        try:
            await self._stores.ledger.release([lease], after=1.0)
        except LedgerUnavailable as error:
            log.warning("release_failed", job=lease.job, error=str(error))

    def _catalogue(self) -> Catalogue:
        return Catalogue(self._aliases, tuple(each.status for each in self._links))

    # ---- chores

    async def _do_chores(self, kinds: Sequence[Kind], wake: asyncio.Event) -> None:
        """Run the due chores of these kinds one after the other, for ever."""
        while True:
            claimed = None
            try:
                claimed = await self._stores.ledger.claim_chore(self._owner, kinds)
            except LedgerUnavailable as error:
                log.warning("claim_failed", error=str(error))
            if claimed is None:
                await wake.wait()
                wake.clear()
            else:
                await self._run_chore(*claimed)

    async def _run_chore(self, lease: Lease, job: Job | None) -> None:
        task = asyncio.ensure_future(self._chores.run(lease, job))

        def tell(answer: Answer) -> None:
            if answer.verdict is Verdict.GONE:
                task.cancel()

        self._holdings.hold(Held(lease, tell))
        try:
            await asyncio.wait([task])
            await self._conclude(lease, task)
        finally:
            task.cancel()
            self._holdings.drop(lease)
            self._look()

    async def _conclude(self, lease: Lease, task: asyncio.Future[None]) -> None:
        """What follows from how a chore ended. One that broke is tried again, five times."""
        error = None if task.cancelled() else task.exception()
        if error is None or isinstance(error, LeaseLost):
            return
        log.warning("chore_failed", kind=lease.kind, job=lease.job, error=str(error))
        if isinstance(error, (BlobsUnavailable, LedgerUnavailable)):
            await self._give_back(lease)
            return
        try:
            await self._stores.ledger.strike(lease, f"{type(error).__name__}: {error}")
        except LedgerUnavailable as away:
            log.warning("strike_failed", kind=lease.kind, job=lease.job, error=str(away))

    # ---- itself

    async def _watch_self(self) -> None:
        """Once a beat: room on the disk, the fence, and the gauges for the next beat."""
        seconds = self._rules.timing.beat_seconds
        while True:
            await self._measure_room()
            if self._heart is not None and self._heart.fenced() and self._holdings.leases:
                log.error("self_fenced", leases=self._holdings.tell_all_gone())
            self._rates.tick(seconds, {shard.job.id for shard in self._holdings.shards()})
            self._take_stock()
            await self._clock.sleep(seconds)

    def _take_stock(self) -> None:
        """Compose what the next beat says."""
        shards = self._holdings.shards()
        now, boot = self._clock.wall(), self._clock.boot()
        stored = self._written and self._room
        self._beat = Beat(
            gauges(shards, self._pool, self._links, self._rates, storage_ok=stored, now=boot),
            tuple(each.seen(now, boot) for each in self._links),
            stored,
        )

    async def _measure_room(self) -> None:
        try:
            free = await self._stores.blobs.free_bytes()
            room = free is None or free >= self._rules.low_disk_bytes
            if room and not self._written:
                await self._stores.blobs.put_many([(probe_name(self._name), [b"written"])])
                self._storage_said(written=True)
        except BlobError:
            room = False
        if room != self._room:
            self._room = room
            log.warning("storage_room", enough=room)
            self._dispatcher.ring()
            self._look()
