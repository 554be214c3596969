"""Claiming run shards: the job is chosen first, then some of its shards.

The choice itself is `turns.py`. Nothing here looks at more shards than it grants, whatever the
number of open ones; leased ones are few, and are counted per job.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from batchmill.ledger.admission import held_back
from batchmill.ledger.claimable import Claimable, claimable_jobs
from batchmill.ledger.endings import may_become
from batchmill.ledger.leases import (
    HAS_RUN_OUT,
    IS_CLAIMABLE,
    STOPPED_STATES,
    clock_of,
    grant,
    granted,
    release,
)
from batchmill.ledger.locks import lock_jobs_at_once
from batchmill.ledger.rows import Row, Values, to_input, to_job, to_part, to_shard
from batchmill.ledger.schema import IS_LEASED, IS_OPEN, IS_RUN, job, job_input, part, shard
from batchmill.ledger.store import Transaction
from batchmill.ledger.turns import Candidate, deal
from batchmill.model import (
    Ending,
    Job,
    JobId,
    JobInput,
    JobState,
    Kind,
    Lease,
    Owner,
    Part,
    ShardLease,
    TenantId,
)
from batchmill.ports import Want

_Key = tuple[JobId, int]


_LEASED_BY_JOB = (
    sa.select(
        shard.c.job_id,
        sa.func.count().label("leased"),
        sa.func.sum(sa.case((HAS_RUN_OUT, 1), else_=0)).label("over"),
        sa.func.sum(sa.case((shard.c.settling.is_(sa.false()), 1), else_=0)).label("unaware"),
    )
    .where(IS_RUN, IS_LEASED)
    .group_by(shard.c.job_id)
)
"""Leased run shards of each job: all, those that have run out, and those granted before their job
stopped."""


def _some_of_a_job(*conditions: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """Up to `number` run shards of one job, but those of `taken`, in their order."""
    return (
        sa.select(shard)
        .where(shard.c.job_id == sa.bindparam("of_job"), IS_RUN, *conditions)
        .where(shard.c.n.not_in(sa.bindparam("taken", expanding=True)))
        .order_by(shard.c.n)
        .limit(sa.bindparam("number"))
    )


_ABANDONED = _some_of_a_job(IS_LEASED, HAS_RUN_OUT).with_for_update(skip_locked=True)
_REVOCABLE = _some_of_a_job(
    IS_LEASED, sa.or_(HAS_RUN_OUT, shard.c.settling.is_(sa.false()))
).with_for_update(skip_locked=True)
_IS_SUITABLE = sa.or_(
    sa.bindparam("of_any_model", type_=sa.Boolean),
    sa.and_(shard.c.wanted.is_(None), sa.bindparam("unless_wanted", type_=sa.Boolean)),
    shard.c.wanted.in_(sa.bindparam("served", expanding=True)),
)
_FRESH = (
    _some_of_a_job(IS_OPEN, IS_CLAIMABLE, _IS_SUITABLE)
    .join(job, job.c.id == shard.c.job_id)
    .with_for_update(skip_locked=True, of=shard)
)
_WANTED = sa.select(shard.c.job_id, shard.c.wanted).distinct()
_WANTED = _WANTED.where(IS_OPEN, shard.c.wanted.is_not(None))
"""The models that open shards wait for."""


@dataclass(frozen=True, slots=True)
class _Load:
    """How many shards run now for each job and tenant; grows while shards are dealt."""

    jobs: dict[JobId, int]
    tenants: dict[TenantId, int]

    def add(self, candidate: Candidate, shards: int) -> None:
        self.jobs[candidate.job] = self.jobs.get(candidate.job, 0) + shards
        self.tenants[candidate.tenant] = self.tenants.get(candidate.tenant, 0) + shards


@dataclass(frozen=True, slots=True)
class _Turn:
    """A job that may give shards: to run, or to settle where `stop` is set. `revocable` says
    that leases from before the stop may be taken away, `abandoned` that some lease may, `fresh`
    that some that nobody holds may be given: where `served` is a set only those that want one of
    these models, or where the job's own suits (`is_suited`) none in particular."""

    candidate: Candidate
    stop: Ending | None
    revocable: bool
    abandoned: bool
    fresh: bool
    served: frozenset[str] | None
    is_suited: bool


@dataclass(frozen=True, slots=True)
class _Grant:
    """A shard's row as it was, its new values, and why it is settled if it is."""

    row: Row
    values: Values
    stop: Ending | None

    @property
    def key(self) -> _Key:
        return (self.row.job_id, self.row.n)

    def lease_of(self, owner: Owner) -> Lease:
        return Lease(self.row.job_id, Kind.RUN, self.row.n, owner, self.row.epoch + 1)

    def lease(
        self, owner: Owner, its: Job, inputs: Mapping[_Key, JobInput], parts: Sequence[Part]
    ) -> ShardLease:
        row, deaths = self.row, int(str(self.values["alone_deaths"]))
        return ShardLease(
            lease=self.lease_of(owner),
            job=its,
            shard=to_shard(row),
            input=inputs[its.id, row.input],
            parts=tuple(parts),
            strikes=int(str(self.values["strikes"])),
            alone=row.alone if deaths else None,
            alone_deaths=deaths,
            stop=self.stop,
        )


def claim(tx: Transaction, owner: Owner, want: Want, lost: list[Lease]) -> tuple[ShardLease, ...]:
    """Lease up to `want.limit` shards, or `want.settle_limit` where some are to be settled: these
    first, then by turns.

    `lost` keeps what is granted. Where an earlier run may have been committed, it is given back
    first: its owner has not learnt of it. An owner claims one thing after the other, so that
    this is its own.
    """
    if tx.again:
        release(tx, lost, 0.0)
    leased = {row.job_id: row for row in tx.all(_LEASED_BY_JOB, clock_of(tx.at))}
    rows = claimable_jobs(tx)
    running = {each: row.leased - row.over for each, row in leased.items()}
    load = _Load(running, _by_tenant(rows, running))
    barred = held_back(tx, rows, lambda row: _lines_up(row, want))
    mine = [row for row in rows if row.id not in barred]
    wanting = _wanting(tx, want)
    turns = [turn for row in mine if (turn := _turn(tx, row, leased.get(row.id), want, wanting))]
    settle = [turn for turn in turns if turn.stop is not None]
    run = [turn for turn in turns if turn.stop is None]
    taken = _deal(tx, settle, load, max(want.limit, want.settle_limit))
    taken += _deal(tx, run, load, want.limit - len(taken))
    grants = [
        _Grant(row, granted(tx, owner, row, settling=turn.stop is not None), turn.stop)
        for turn, row in taken
    ]
    grant(tx, [(each.row, each.values) for each in grants])
    lost[:] = [each.lease_of(owner) for each in grants]
    waiting = {row.id for row in rows if row.state not in STOPPED_STATES and not row.let_in}
    return _leases(tx, owner, grants, waiting)


def _deal(
    tx: Transaction, turns: Sequence[_Turn], load: _Load, limit: int
) -> list[tuple[_Turn, Row]]:
    """Take shards by turns until there are `limit`, or no more."""
    open_turns = {turn.candidate.job: turn for turn in turns}
    taken: list[tuple[_Turn, Row]] = []
    while open_turns and len(taken) < limit:
        candidates = [turn.candidate for turn in open_turns.values()]
        hand = deal(candidates, load.jobs, load.tenants, limit - len(taken))
        for chosen, number in hand.items():
            turn = open_turns[chosen]
            rows = _take(tx, turn, number, [row.n for t, row in taken if t is turn])
            taken += [(turn, row) for row in rows]
            load.add(turn.candidate, len(rows))
            if len(rows) < number:
                del open_turns[chosen]
    return taken


def _by_tenant(jobs: Sequence[Claimable], running: Mapping[JobId, int]) -> dict[TenantId, int]:
    """How many shards run now for each tenant."""
    tenants: dict[TenantId, int] = {}
    for row in jobs:
        tenants[row.tenant] = tenants.get(row.tenant, 0) + running.get(row.id, 0)
    return tenants


def _wanting(tx: Transaction, want: Want) -> Mapping[JobId, frozenset[str]]:
    """The jobs with shards that want a model which the worker serves, and these models."""
    found: dict[JobId, frozenset[str]] = {}
    for row in () if want.serving is None else tx.all(_WANTED):
        if want.serving is not None and row.wanted in want.serving:
            found[row.job_id] = found.get(row.job_id, frozenset()) | {row.wanted}
    return found


def _turn(
    tx: Transaction,
    row: Claimable,
    leased: Row | None,
    want: Want,
    wanting: Mapping[JobId, frozenset[str]],
) -> _Turn | None:
    """The job as one that may give shards to this worker, or None."""
    stopped = row.state in STOPPED_STATES
    is_suited = stopped or _suits(row, want)
    runs = want.running and not row.paused and (is_suited or row.id in wanting)
    if not (want.settling if stopped else runs):
        return None
    revocable = stopped and _stop_is_old(tx, row)
    abandoned = is_suited and leased is not None and _is_takeable(leased, revocable=revocable)
    fresh = row.has_open and (stopped or row.id not in want.not_jobs)
    if not (fresh or abandoned):
        return None
    candidate = Candidate(row.id, row.tenant, row.priority, row.deadline, row.ordinal)
    stop = Ending(str(row.ending)) if stopped else None
    any_model = stopped or want.serving is None
    served = None if any_model else wanting.get(row.id, frozenset())
    return _Turn(candidate, stop, revocable, abandoned, fresh, served, is_suited)


def _is_takeable(leased: Row, *, revocable: bool) -> bool:
    """Whether some lease of the job may be taken away."""
    return bool(leased.over or (revocable and leased.unaware))


def _lines_up(row: Claimable, want: Want) -> bool:
    """The job waits for its tenant's quota, and nothing else keeps it from running here."""
    servable = want.servable
    is_served = servable is None or row.model is None or row.model in servable
    return not row.paused and row.has_open and is_served


def _suits(row: Claimable, want: Want) -> bool:
    """The job may run, and on this worker."""
    if row.paused:
        return False
    return want.serving is None or row.model is None or row.model in want.serving


def _stop_is_old(tx: Transaction, row: Claimable) -> bool:
    """Owners have had two beats to close their shards since the job stopped."""
    two_beats = 2 * tx.rules.timing.beat_seconds
    if row.stopped_tick is None or row.stopped_boot != tx.at.boot:
        return True
    return row.stopped_tick + two_beats <= tx.at.tick


def _take(tx: Transaction, turn: _Turn, number: int, but: Sequence[int]) -> list[Row]:
    """Up to that many claimable shards of one job, but those: abandoned ones first."""
    asked = {"of_job": turn.candidate.job, "taken": but, **clock_of(tx.at)}
    rows: list[Row] = []
    if turn.abandoned:
        abandoned = _REVOCABLE if turn.revocable else _ABANDONED
        rows += tx.all(abandoned, {**asked, "number": number})
    if turn.fresh and len(rows) < number:
        suits = {
            "of_any_model": turn.served is None,
            "unless_wanted": turn.is_suited,
            "served": sorted(turn.served or ()),
        }
        rows += tx.all(_FRESH, {**asked, **suits, "number": number - len(rows)})
    return rows


def _leases(
    tx: Transaction, owner: Owner, grants: Sequence[_Grant], waiting: set[JobId]
) -> tuple[ShardLease, ...]:
    """The granted rows with all that running them needs. `waiting` jobs begin to run, or are let
    in again."""
    its = {each.row.job_id for each in grants}
    if not its:
        return ()
    _start(tx, its & waiting)
    jobs = {row.id: to_job(row) for row in tx.all(sa.select(job).where(job.c.id.in_(its)))}
    inputs = _inputs(tx, its)
    parts = _parts(tx, [each.row for each in grants if each.row.done])
    return tuple(
        each.lease(owner, jobs[each.row.job_id], inputs, parts.get(each.key, ())) for each in grants
    )


def _start(tx: Transaction, ids: set[JobId]) -> None:
    """Let these jobs be running, and let in but where one was paused meanwhile."""
    if ids:
        lock_jobs_at_once(tx, ids)
        outside = sa.and_(job.c.state == JobState.RUNNING.value, job.c.let_in.is_(sa.false()))
        starts = sa.or_(may_become(JobState.RUNNING), outside)
        since = sa.func.coalesce(job.c.started_at, tx.at.wall)
        mine = sa.update(job).where(job.c.id.in_(ids), starts)
        let_in = job.c.paused.is_(sa.false())
        tx.run(mine.values(state=JobState.RUNNING.value, started_at=since, let_in=let_in))


def _inputs(tx: Transaction, ids: set[JobId]) -> dict[_Key, JobInput]:
    rows = tx.all(sa.select(job_input).where(job_input.c.job_id.in_(ids)))
    return {(row.job_id, row.place): to_input(row) for row in rows}


def _parts(tx: Transaction, rows: Sequence[Row]) -> dict[_Key, list[Part]]:
    """The parts that earlier owners published, in the order they did."""
    found: dict[_Key, list[Part]] = {}
    for row in rows:
        mine = sa.select(part).where(part.c.job_id == row.job_id, part.c.n == row.n)
        published = tx.all(mine.order_by(part.c.sequence))
        found[row.job_id, row.n] = [to_part(each) for each in published]
    return found
