"""A worker: claims shards and chores, runs them, and tells the ledger how it fares.

It keeps no state of its own that matters: whatever it holds when it dies is claimed by another.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from functools import cache

import structlog

from batchmill.calls import Transport
from batchmill.clock import Clock, new_id
from batchmill.core.beat import Heart
from batchmill.core.chores import Chores
from batchmill.core.claiming import LOW_WINDOWS, Appetite
from batchmill.core.closing import out_of_hours, without_engine
from batchmill.core.collect import Collector
from batchmill.core.deliver import Courier
from batchmill.core.dispatch import Dispatcher
from batchmill.core.duplicates import Copier
from batchmill.core.fleetview import follow_fleet, look_at_fleet, pass_lines_on
from batchmill.core.gauges import Rates, gauges
from batchmill.core.holdings import Held, Holdings
from batchmill.core.housekeeping import Housekeeper
from batchmill.core.lines import LineRules
from batchmill.core.links import Link
from batchmill.core.linkset import Links, Opener
from batchmill.core.models import Catalogue
from batchmill.core.names import probe_name
from batchmill.core.pool import Pool
from batchmill.core.rules import HAND_OVER_SECONDS, Stores, WorkerRules
from batchmill.core.shard import Bench, give_back, run_shard
from batchmill.core.shares import Shares
from batchmill.core.storeroom import Storeroom
from batchmill.core.work import OpenShard
from batchmill.deliveries import Post
from batchmill.errors import BlobsUnavailable, LedgerUnavailable
from batchmill.fleet import Beat, EngineSpec
from batchmill.model import Answer, JobId, Kind, Lease, Verdict
from batchmill.ports import Formats, Renewal, Want

log = structlog.get_logger()

CHORES = ((Kind.FINALIZE,), (Kind.VALIDATE, Kind.PRUNE, Kind.SWEEP))
"""Kinds that wait for each other; no finished job waits for another's validation."""


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
        post: Post | None = None,
    ) -> None:
        self._name, self._stores, self._clock = name, stores, clock
        self._stopping, self._since = False, clock.wall()
        self._rules = rules = rules or WorkerRules()
        self._links = Links(engines)
        self._pool = Pool(LOW_WINDOWS * self._links.window, self._when_low, self._look_for_lines)
        self._holdings, self._rates = Holdings(), Rates()
        self._shares = Shares(self._links)
        self._appetite = Appetite(self._links, aliases, self._pool, self._holdings, rules.room)
        ledger, blobs = stores.ledger, stores.blobs
        probe, low_bytes = probe_name(name), rules.low_disk_bytes
        self._storeroom = Storeroom(blobs, low_bytes, probe, self._storage_changed)
        self._collector = Collector(
            ledger,
            blobs,
            clock,
            rules.group,
            released=released,
            storage=self._storeroom.said,
            counted=self._rates.count,
        )
        to_send = (self._links, self._pool, self._collector, ledger, formats, clock)
        self._dispatcher = Dispatcher(*to_send, may_send=self._may_send, released=released)
        copying = (self._dispatcher, self._collector, formats)
        copier = Copier(ledger, blobs, *copying, self._holdings, clock, rules.patience_seconds)
        to_run = (ledger, blobs, *copying, clock, copier, self._storeroom.said)
        only, is_ending = rules.only_model, lambda: self._stopping
        self._bench = Bench(*to_run, self._appetite.fleet, is_ending=is_ending, only_model=only)
        chores = Chores(ledger, blobs, lines, rules.upload_retention_seconds, self._known)
        self._housekeepers = tuple(
            Housekeeper(chores, self._holdings, kinds, self._look_all, self._storeroom.said)
            for kinds in CHORES
        )
        self._finalizer = self._housekeepers[0]
        self._courier = None if post is None else Courier(ledger, self._holdings, post, clock)
        self._beat, self._claim_wake = Beat(), asyncio.Event()
        self._heart: Heart | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then drain: send nothing new, let flights land, commit,
        release. Calls that are still out after the drain time are aborted."""
        ledger = self._stores.ledger
        self._owner = await ledger.register(self._name, new_id(), socket.gethostname(), os.getpid())
        await self._known()
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
            await self._links.close()
            await self._leave()

    async def _leave(self) -> None:
        """Nothing is in flight any more: others need not wait for the lease time."""
        try:
            await self._stores.ledger.leave(self._owner)
        except LedgerUnavailable as error:
            log.warning("leave_failed", error=str(error))

    def catalogue(self) -> Catalogue:
        """What its engines serve, as they were last seen."""
        return self._appetite.catalogue()

    async def _known(self) -> Catalogue:
        return await look_at_fleet(self._stores.ledger, self._appetite)

    def hold_at_most(self, lines: int) -> None:
        """Send nothing new while so many outcomes are not durable yet: with what is in flight,
        these are what a kill costs."""
        self._collector.hold_at_most(lines, self._dispatcher.ring)

    def wake(self) -> None:
        """Something changed in the ledger: look now instead of at the next beat."""
        self._look_all()
        if self._heart is not None:
            self._heart.nudge()

    async def change_engines(
        self, specs: Sequence[EngineSpec], aliases: Mapping[str, str], opened: Opener
    ) -> None:
        """Work with these engines and aliases from now on."""
        left = self._links.change(specs, opened, self._dispatcher.routes_out)
        self._pool.low_lines = LOW_WINDOWS * self._links.window
        self._appetite.rename(aliases)
        self._engine_changed()
        for transport in left:
            await transport.close()

    async def _serve(self, stop: asyncio.Event) -> None:
        ledger, beat = self._stores.ledger, self._rules.timing.beat_seconds
        async with asyncio.TaskGroup() as services:
            running = [
                services.create_task(work)
                for work in (
                    self._collector.run(),
                    self._dispatcher.run(),
                    self._watch_self(),
                    self._watch_storage(),
                    self._watch_others(),
                    follow_fleet(ledger, self._appetite, self._clock, beat, self._read_anew),
                    ledger.listen(self.wake),
                    self._links.watch(self._clock, self._engine_changed),
                )
            ]
            async with asyncio.TaskGroup() as runs:
                runs.create_task(self._claim_shards(runs))
                chores = [runs.create_task(each.run(self._owner)) for each in self._housekeepers]
                if self._courier is not None:
                    chores.append(runs.create_task(self._courier.run(self._owner)))
                await stop.wait()
                await self._drain(chores)
            for task in running:
                task.cancel()

    async def _drain(self, chores: Sequence[asyncio.Task[None]]) -> None:
        self._stopping = True
        self._claim_wake.set()
        self._tell_at_once()
        for task in chores:
            task.cancel()
        shards = self._holdings.shards()
        for shard in shards:
            shard.tell(Answer(Verdict.PAUSE))
        deadline = self._clock.boot() + self._rules.drain_seconds
        while any(shard.flights for shard in shards) and self._clock.boot() < deadline:
            await self._clock.sleep(0.02)
        for shard in shards:
            self._dispatcher.abort(shard)
        await self._hand_over(deadline + HAND_OVER_SECONDS)

    async def _hand_over(self, deadline: float) -> None:
        """Release what cannot be made durable by then: others will ask for these answers again."""
        while self._holdings.leases and self._clock.boot() < deadline:
            await self._clock.sleep(0.02)
        if leases := self._holdings.leases:
            log.warning("drain_gave_up", leases=self._holdings.tell_all_gone())
            try:
                await self._stores.ledger.release(leases)
            except LedgerUnavailable as error:
                log.warning("release_failed", error=str(error))

    # ---- what it is told

    def _may_send(self, now: float) -> bool:
        """Whether any line may be sent: its answer could be kept, and the leases are ours."""
        if self._heart is None or self._heart.fenced(now) or self._stopping:
            return False
        return self._storeroom.is_open and self._collector.has_room()

    def _told(self, asked: Sequence[Lease], renewal: Renewal, until: float) -> None:
        for lease in asked:
            answer = renewal.answers.get(lease.key)
            if answer is None or (self._stopping and answer.verdict is Verdict.KEEP):
                continue
            self._holdings.tell(lease, answer)
        latest = self._heart is None or self._heart.is_latest(until)
        if renewal.grants is not None and latest:  # what a busy loop hears late is out of date
            self._shares.hear(renewal.grants, until, self._clock.boot())
        self._appetite.workers, self._appetite.work = renewal.workers, renewal.work
        self._dispatcher.ring()
        if renewal.work:
            self._look()

    def _storage_changed(self) -> None:
        self._dispatcher.ring()
        self._look()

    def _tell_at_once(self) -> None:
        """Beat now, with what there is to say now, and hear what follows."""
        self._take_stock()
        if self._heart is not None:
            self._heart.nudge()

    def _engine_changed(self) -> None:
        self._pool.engines_changed()
        self._read_anew()
        self._tell_at_once()
        self._dispatcher.ring()
        self._look()

    def _read_anew(self) -> None:
        """Lines for which other names would be sent now than when they were read."""
        served_name = cache(self._appetite.fleet().served_name)
        for shard in self._holdings.shards():
            if any(served_name(asked) != name for asked, name in shard.names.items()):
                shard.read_anew()

    def _look_for_lines(self) -> None:
        self._appetite.look_again()
        self._claim_wake.set()

    def _look(self) -> None:
        self._look_for_lines()
        for each in self._housekeepers:
            each.wake()

    def _look_all(self) -> None:
        """Look for work of every kind; a shard's end makes no webhook due."""
        self._look()
        if self._courier is not None:
            self._courier.wake()

    # ---- shards

    async def _claim_shards(self, runs: asyncio.TaskGroup) -> None:
        while not self._stopping:
            await self._claim_wake.wait()
            self._claim_wake.clear()
            while await self._claim_some(runs):
                pass

    async def _claim_some(self, runs: asyncio.TaskGroup) -> bool:
        """Claim for the engines that run low, else for jobs whose turn it is; False: nothing."""
        low = self._appetite.low()
        want = self._want(low)
        if want is None:
            return False
        try:
            leases = await self._stores.ledger.claim_shards(self._owner, want)
        except LedgerUnavailable as error:
            log.warning("claim_failed", error=str(error))
            return False
        for lease in leases:
            shard = OpenShard(lease)
            if self._stopping:
                shard.tell(Answer(Verdict.PAUSE))
            self._holdings.hold(Held(lease.lease, shard.tell, shard))
            runs.create_task(self._run_shard(shard))
        if leases and self._shares.are_limited:
            self._tell_at_once()
        if not leases and self._appetite.found_none(low, want):
            self._pool.finish(lambda model: any(each.serves(model) for each in low))
        return bool(leases) or self._appetite.low() != low

    def _want(self, low: frozenset[Link]) -> Want | None:
        now = self._clock.boot()
        if self._heart is None or self._heart.fenced(now) or self._stopping:
            return None
        return self._appetite.want(low, now, may_send=self._storeroom.is_open)

    def _when_low(self, job: JobId, lines: int) -> None:
        if self._claim_wake.is_set():
            return
        if self._appetite.low() or self._appetite.is_low(job, lines, self._clock.boot()):
            self._claim_wake.set()

    async def _run_shard(self, shard: OpenShard) -> None:
        """Run one shard. A lease given up without a release lapses, and counts a strike."""
        lease = shard.lease.lease
        try:
            try:
                await run_shard(shard, self._bench)
            except BlobsUnavailable as error:
                self._storeroom.said(written=False)
                log.warning("shard_given_up", job=lease.job, shard=lease.n, error=str(error))
                await give_back(shard, self._bench, after=1.0)
        except Exception:
            log.exception("shard_broke", job=lease.job, shard=lease.n)
        finally:
            self._dispatcher.withdraw(shard)
            shard.forget_lines()
            self._holdings.drop(lease)
            self._claim_wake.set()
            if not self._holdings.holds_of(lease.job):  # as whoever closes a job's last shard
                self._finalizer.wake()

    # ---- itself

    async def _watch_self(self) -> None:
        """Once a beat: the fence, and the gauges for the next beat."""
        seconds, fenced = self._rules.timing.beat_seconds, False
        while True:
            before = fenced
            fenced = self._heart is not None and self._heart.fenced(self._clock.boot())
            if fenced and (leases := self._holdings.tell_all_gone()) and not before:
                log.error("self_fenced", leases=leases)
            if self._heart is not None:
                self._heart.stir()
            self._rates.tick(seconds, {shard.job.id for shard in self._holdings.shards()})
            self._take_stock()
            await self._clock.sleep(seconds)

    async def _watch_storage(self) -> None:
        """Once a beat: room for answers. Apart from the fence, since a store that is away may
        take its time to say so."""
        while True:
            await self._storeroom.measure(is_held_up=self._collector.is_held_up)
            await self._clock.sleep(self._rules.timing.beat_seconds)

    async def _watch_others(self) -> None:
        """Once a beat: pass on what only engines of other workers serve; forget what is over."""
        while True:
            await self._clock.sleep(self._rules.timing.beat_seconds)
            self._links.keep_routes(self._holdings.routes())
            if shards := without_engine(self._holdings.shards(), self._pool, tuple(self._links)):
                await pass_lines_on(shards, self._stores.ledger, self._owner)

    def _take_stock(self) -> None:
        """Compose what the next beat says, and let go of what only engines that are closed for
        now could answer, and of what other workers lack."""
        shards = self._holdings.shards()
        serving = self._appetite.serving(self._links)
        for shard in out_of_hours(shards, self._pool, self._links, serving):
            shard.let_go()
        for shard in self._appetite.needed():
            shard.stay()
        if (spare := self._appetite.surplus()) is not None:
            self._appetite.work = True  # one at a time: what the next beat says counts
            spare.let_go()
        self._pool.low_lines = LOW_WINDOWS * self._links.window
        now, boot, stored = self._clock.wall(), self._clock.boot(), self._storeroom.is_open
        self._beat = Beat(
            gauges(shards, self._pool, self._links, self._rates, storage_ok=stored, now=boot),
            tuple(each.seen(now, boot) for each in self._links),
            stored,
            asks=self._shares.asks({} if self._stopping else self._appetite.waiting_lines(), boot),
            since=self._since,
            shards=len(shards),
            draining=self._stopping,
            sends=self._rules.sends,
        )
