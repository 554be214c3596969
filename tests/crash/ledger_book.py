"""What the ledger must say: an account of every grant, outcome and stop, kept beside it.

`Book` is told what was done and what the ledger answered, and asserts that the answer was the
only right one. `Photo` is what stands in the database at one moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from batchmill.clock import ManualClock
from batchmill.model import (
    MOVES,
    STOPPED,
    TERMINAL,
    JobId,
    JobState,
    Kind,
    Lease,
    Part,
    ShardLease,
    Stream,
)
from tests.conformance.ledger.world import BEAT_SECONDS, LEASE_SECONDS

Key = tuple[JobId, Kind, int]
Ask = Callable[[str], Sequence[Any]]
"""Asks a database; rows by the names of their columns."""
COUNTERS = (
    "succeeded",
    "failed",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "sequence",
)


@dataclass
class Grant:
    """One grant of a row, and when it is over."""

    lease: Lease
    until: float
    boot: str
    settling: bool
    committed: bool = False
    alone: int | None = None


@dataclass
class ShardBook:
    """One run shard: its outcomes in the order they were published, strikes and deaths."""

    lines: int
    outcomes: dict[int, Stream] = field(default_factory=dict)
    parts: list[Part] = field(default_factory=list)
    closed_by: Lease | None = None
    strikes: int = 0
    suspect: int | None = None
    deaths: int = 0
    waits: Wait | None = None


@dataclass
class Wait:
    """Until when a released shard is left alone; `settling`: asked for by who settled it."""

    until: float
    boot: str
    settling: bool


@dataclass
class Book:
    """Grants by row, the highest epoch of each, shards, and when jobs were seen to stop."""

    clock: ManualClock
    grants: dict[Key, Grant] = field(default_factory=dict)
    epochs: dict[Key, int] = field(default_factory=dict)
    shards: dict[tuple[JobId, int], ShardBook] = field(default_factory=dict)
    stops: dict[JobId, tuple[float, str]] = field(default_factory=dict)

    def holds(self, lease: Lease) -> bool:
        grant = self.grants.get(lease.key)
        return grant is not None and grant.lease == lease

    def granted(self, lease: Lease, *, settling: bool) -> bool:
        """A row was granted: nobody else may have held it. Whether its last owner died."""
        before = self.grants.get(lease.key)
        died = before is not None and self._has_died(before)
        assert before is None or died or self._may_be_taken(before), f"{lease} was held"
        assert lease.epoch == self.epochs.get(lease.key, 0) + 1
        self.epochs[lease.key] = lease.epoch
        until = self.clock.boot() + LEASE_SECONDS
        self.grants[lease.key] = Grant(lease, until, self.clock.boot_id(), settling)
        return died

    def granted_shard(self, held: ShardLease, ending: str | None) -> None:
        """A run shard was granted, with all that is known of it."""
        shard = self.shards[held.lease.job, held.lease.n]
        before = self.grants.get(held.lease.key)
        died = self.granted(held.lease, settling=held.stop is not None)
        if died and before is not None:
            self._count_death(shard, before)
        shard.waits = None
        assert shard.closed_by is None, f"{held.lease} was closed"
        assert held.stop == ending
        assert held.parts == tuple(shard.parts)
        assert held.strikes == shard.strikes
        assert held.alone_deaths == shard.deaths
        assert held.alone == (shard.suspect if shard.deaths else None)

    def renewed(self, lease: Lease) -> None:
        grant = self.grants[lease.key]
        grant.until, grant.boot = self.clock.boot() + LEASE_SECONDS, self.clock.boot_id()

    def released(self, lease: Lease, *, after: float) -> None:
        if self.holds(lease):
            grant = self.grants.pop(lease.key)
            wait = Wait(self.clock.boot() + after, self.clock.boot_id(), grant.settling)
            self.shards[lease.job, lease.n].waits = wait

    def may_be_claimed(self, job: JobId, n: int, *, stopped: bool) -> bool:
        """Nobody holds this open shard, or only who has died; and nobody asked to wait."""
        grant = self.grants.get((job, Kind.RUN, n))
        if grant is not None:
            return self._has_died(grant) or self._may_be_taken(grant)
        wait = self.shards[job, n].waits
        if wait is None or wait.boot != self.clock.boot_id() or wait.until <= self.clock.boot():
            return True
        return stopped and not wait.settling

    def worker_gone(self, worker: str, *, struck: bool) -> int:
        """All leases of a worker are open; how many there were."""
        its = [g for g in self.grants.values() if g.lease.owner.startswith(f"{worker}/")]
        for grant in its:
            shard = self.shards.get((grant.lease.job, grant.lease.n))
            if struck and shard is not None and grant.lease.kind is Kind.RUN:
                self._count_death(shard, grant)
            del self.grants[grant.lease.key]
        return len(its)

    def noted(self, lease: Lease, line: int | None, *, answer: bool) -> None:
        assert answer is self.holds(lease)
        if answer:
            shard = self.shards[lease.job, lease.n]
            self.grants[lease.key].alone = line
            if line is not None and line != shard.suspect:
                shard.suspect, shard.deaths = line, 0

    def committed(self, lease: Lease, part: Part, *, answer: bool) -> None:
        """A part was published, or refused; both only where that is right."""
        shard = self.shards[lease.job, lease.n]
        lines = [entry.line for entry in part.entries]
        fresh = not any(line in shard.outcomes for line in lines)
        known = part.blob in {each.blob for each in shard.parts}
        right = known or (self.holds(lease) and fresh and all(n < shard.lines for n in lines))
        assert answer is right, (lease, part)
        if answer and not known:
            shard.parts.append(part)
            shard.outcomes |= {entry.line: entry.stream for entry in part.entries}
            shard.strikes = 0
            self.grants[lease.key].committed = True
            if shard.suspect in shard.outcomes:
                shard.suspect, shard.deaths = None, 0
                self.grants[lease.key].alone = None

    def closed(self, lease: Lease, *, answer: bool) -> None:
        shard = self.shards[lease.job, lease.n]
        right = shard.closed_by == lease or self.holds(lease)
        assert answer is right, lease
        if answer and shard.closed_by is None:
            assert len(shard.outcomes) == shard.lines
            shard.closed_by = lease
            del self.grants[lease.key]

    def counts(self, job: JobId) -> tuple[int, int]:
        """Lines in the output and in the error file."""
        streams = [
            s for (id_, _), b in self.shards.items() if id_ == job for s in b.outcomes.values()
        ]
        return streams.count(Stream.OUT), streams.count(Stream.ERR)

    def _has_died(self, grant: Grant) -> bool:
        return grant.boot == self.clock.boot_id() and grant.until <= self.clock.boot()

    def _may_be_taken(self, grant: Grant) -> bool:
        """Its machine has started anew, or its job stopped two beats ago and it still runs."""
        if grant.boot != self.clock.boot_id():
            return True
        stop = self.stops.get(grant.lease.job)
        if stop is None or grant.settling or grant.lease.kind is not Kind.RUN:
            return False
        return stop[1] != self.clock.boot_id() or stop[0] + 2 * BEAT_SECONDS <= self.clock.boot()

    def _count_death(self, shard: ShardBook, grant: Grant) -> None:
        shard.strikes += not grant.committed
        if grant.alone is not None:
            shard.deaths += 1


@dataclass
class Photo:
    """Jobs and leased rows as they stand in the database, and the highest time recorded."""

    wall: float
    jobs: dict[JobId, dict[str, Any]]
    rows: dict[Key, dict[str, Any]]

    @classmethod
    def take(cls, ask: Ask) -> Photo:
        jobs = {JobId(row["id"]): dict(row) for row in ask("SELECT * FROM job")}
        found = ask("SELECT job_id, kind, n, epoch, state FROM shard")
        rows = {(JobId(r["job_id"]), Kind(r["kind"]), r["n"]): dict(r) for r in found}
        (wall,) = ask("SELECT value FROM meta WHERE name = 'wall'")
        return cls(wall["value"], jobs, rows)

    def follows(self, before: Photo) -> None:
        """Nothing here may be, seeing what was before: counters that fell, a terminal job that
        changed, a move the table does not have, an epoch that fell, a row reopened, a time that
        ran backwards."""
        assert self.wall >= before.wall
        for job, was in before.jobs.items():
            now = self.jobs[job]
            assert all(now[name] >= was[name] for name in COUNTERS), (was, now)
            assert JobState(now["state"]) in _reachable(JobState(was["state"])), (was, now)
            assert was["ending"] in {None, now["ending"]}, (was, now)
            if JobState(was["state"]) in TERMINAL:
                free = {"hidden", "prune_at"}
                assert {k: v for k, v in was.items() if k not in free} == {
                    k: v for k, v in now.items() if k not in free
                }
        for key, row in before.rows.items():
            assert self.rows[key]["epoch"] >= row["epoch"]
            if row["state"] == "closed":
                assert self.rows[key]["state"] == "closed"

    def agrees_with(self, book: Book) -> None:
        """Counters are exactly the published outcomes; epochs are exactly the grants."""
        for job, row in self.jobs.items():
            assert (row["succeeded"], row["failed"]) == book.counts(job), row
            assert row["succeeded"] + row["failed"] <= row["total"]
            steps = ("created_at", "started_at", "cancelling_at", "finalizing_at", "ended_at")
            times = [row[name] for name in steps if row[name] is not None]
            assert times == sorted(times), row
        for key, epoch in book.epochs.items():
            assert self.rows[key]["epoch"] == epoch
            held = self.rows[key]["state"] == "leased"
            assert held is (key in book.grants), key

    def note_stops(self, book: Book) -> None:
        for job, row in self.jobs.items():
            if JobState(row["state"]) in STOPPED and row["stopped_tick"] is not None:
                book.stops[job] = (row["stopped_tick"], row["stopped_boot"])

    def unfinished(self) -> Iterable[JobId]:
        return [j for j, row in self.jobs.items() if JobState(row["state"]) not in TERMINAL]


def _reachable(state: JobState) -> set[JobState]:
    found, new = {state}, {state}
    while new:
        new = {to for each in new for to in MOVES[each]} - found
        found |= new
    return found
