"""What a lease is in SQL: its fence, when it has run out, and giving, renewing and ending it.

A lease is (owner, epoch) on one row of `shard`. Nothing but another grant, a release or a close
takes it away: a lease that has run out still counts until someone else is granted the row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from batchmill.errors import LeaseLost
from batchmill.fleet import Beat
from batchmill.ledger import grants
from batchmill.ledger.endings import expire
from batchmill.ledger.fleet import at_work, record_beat
from batchmill.ledger.rows import Row, Values
from batchmill.ledger.schema import IS_CHORE, IS_LEASED, IS_OPEN, IS_RUN, job, shard
from batchmill.ledger.store import Moment, Transaction
from batchmill.model import (
    STOPPED,
    Answer,
    Ending,
    JobState,
    Kind,
    Lease,
    Owner,
    Verdict,
)
from batchmill.ports import Renewal

FENCE = (
    shard.c.job_id == sa.bindparam("at_job"),
    shard.c.kind == sa.bindparam("at_kind"),
    shard.c.n == sa.bindparam("at_n"),
    shard.c.owner == sa.bindparam("at_owner"),
    shard.c.epoch == sa.bindparam("at_epoch"),
    IS_LEASED,
)
"""The row is held by this very lease; fill it from `fence_of`."""

STOPPED_STATES = sorted(state.value for state in STOPPED)
CLAIMABLE_STATES = sorted({*STOPPED_STATES, JobState.QUEUED.value, JobState.RUNNING.value})

_GIVE_BACK = (
    sa.update(shard)
    .where(*FENCE)
    .values(
        state="open",
        owner=None,
        lease_until=None,
        alone_in_flight=False,
        run_after=sa.bindparam("again_at"),
        run_boot=sa.bindparam("boot"),
        wanted=sa.bindparam("wanted_model"),
    )
)
_RENEW = (
    sa.update(shard)
    .where(*FENCE)
    .values(lease_until=sa.bindparam("until"), lease_boot=sa.bindparam("boot"))
)
_HELD = (
    sa.select(shard.c.job_id, shard.c.kind, shard.c.n, shard.c.epoch)
    .add_columns(job.c.state, job.c.ending, job.c.paused)
    .join(job, job.c.id == shard.c.job_id, isouter=True)
    .where(shard.c.owner == sa.bindparam("owner"), IS_LEASED)
)


def fence_of(lease: Lease) -> Values:
    """The values of `FENCE` for this lease."""
    return {
        "at_job": lease.job,
        "at_kind": lease.kind.value,
        "at_n": lease.n,
        "at_owner": lease.owner,
        "at_epoch": lease.epoch,
    }


HAS_RUN_OUT = sa.or_(
    shard.c.lease_boot != sa.bindparam("now_boot"), shard.c.lease_until <= sa.bindparam("now_tick")
)
"""The lease is over by time, or was given before the machine started anew. This and what follows
asks for the values of `clock_of`."""


def is_held(tx: Transaction, row: Row) -> bool:
    """Whether somebody holds the row on a lease that has not run out."""
    if row.state != "leased" or row.lease_boot != tx.at.boot:
        return False
    return bool(row.lease_until > tx.at.tick)


IS_DUE = sa.or_(
    shard.c.run_after.is_(None),
    shard.c.run_boot != sa.bindparam("now_boot"),
    shard.c.run_after <= sa.bindparam("now_tick"),
)
"""Nothing asks the row to wait any longer."""

IS_CLAIMABLE = sa.or_(
    IS_DUE, sa.and_(job.c.state.in_(STOPPED_STATES), shard.c.settling.is_(sa.false()))
)
"""The open run shard may be claimed now. A wait ends when its job stops, but one that was asked
for while settling counts."""

HAS_OPEN = sa.exists().where(shard.c.job_id == job.c.id, IS_RUN, IS_OPEN, IS_CLAIMABLE)
"""The job has an open run shard that may be claimed; looks at one shard per job."""

_RUNS = sa.or_(job.c.paused.is_(sa.false()), job.c.state.in_(STOPPED_STATES))
_IS_REVOCABLE = (
    sa.select(sa.literal(1))
    .select_from(shard)
    .join(job, job.c.id == shard.c.job_id)
    .where(
        IS_LEASED,
        IS_RUN,
        shard.c.settling.is_(sa.false()),
        shard.c.owner != sa.bindparam("owner"),
        job.c.state.in_(STOPPED_STATES),
        sa.or_(
            job.c.stopped_boot != sa.bindparam("now_boot"),
            job.c.stopped_tick <= sa.bindparam("two_beats_ago"),
        ),
    )
    .exists()
)
"""Another owner has had two beats to close a shard of a stopped job, and has not."""

_HAS_WORK = sa.select(
    sa.or_(
        sa.exists().where(job.c.state.in_(CLAIMABLE_STATES), _RUNS, HAS_OPEN),
        sa.exists().where(IS_LEASED, HAS_RUN_OUT),
        sa.exists().where(IS_OPEN, IS_CHORE, IS_DUE),
        _IS_REVOCABLE,
    )
)
"""Something is there to be claimed, by whoever can serve it."""


def clock_of(at: Moment) -> Values:
    """The values of the conditions on time."""
    return {"now_boot": at.boot, "now_tick": at.tick}


def after_death(row: Row, at: Moment) -> Values:
    """What a leased row's strikes become when its lease ran out and it is granted anew.

    A lease that is taken away because its job stopped, or that ended with its machine, is no
    strike.
    """
    died = row.state == "leased" and row.lease_boot == at.boot and row.lease_until <= at.tick
    return {
        "strikes": row.strikes + (died and not row.committed),
        "alone_deaths": row.alone_deaths + (died and row.alone_in_flight),
        "alone_in_flight": False,
    }


def granted(tx: Transaction, owner: Owner, row: Row, *, settling: bool) -> Values:
    """The new values of a row that is granted to this owner."""
    return {
        **after_death(row, tx.at),
        "state": "leased",
        "owner": owner,
        "epoch": row.epoch + 1,
        "lease_until": tx.at.tick + tx.rules.timing.lease_seconds,
        "lease_boot": tx.at.boot,
        "committed": False,
        "settling": settling,
        "run_after": None,
        "wanted": None,
    }


GRANT = sa.update(shard).where(*FENCE[:3], shard.c.epoch == sa.bindparam("at_epoch"))
"""Grant a row that still has the epoch that was seen."""


def grant(tx: Transaction, rows: Sequence[tuple[Row, Values]]) -> None:
    """Give these rows away, each with the values `granted` made for it."""
    seen = [
        {"at_job": r.job_id, "at_kind": r.kind, "at_n": r.n, "at_epoch": r.epoch, **values}
        for r, values in rows
    ]
    tx.each(GRANT, seen)


def renew(tx: Transaction, owner: Owner, held: Sequence[Lease], beat: Beat) -> Renewal:
    """Beat, expire jobs, extend the held leases and shares, and answer for each of them.

    Leases of this owner that it does not know of (the answer to its claim was lost) are left
    to run out.
    """
    record_beat(tx, owner, beat)
    expire(tx)
    rows = {(r.job_id, r.kind, r.n, r.epoch): r for r in tx.all(_HELD, {"owner": owner})}
    mine = {lease: rows.get((lease.job, lease.kind.value, lease.n, lease.epoch)) for lease in held}
    until = tx.at.tick + tx.rules.timing.lease_seconds
    clock = {"until": until, "boot": tx.at.boot}
    present = [lease for lease in _in_order(held) if mine[lease] is not None]
    tx.each(_RENEW, [fence_of(lease) | clock for lease in present])
    answers = {lease.key: _answer(lease, row) for lease, row in mine.items()}
    work = _has_work(tx, owner)
    shares = grants.renew(tx, owner, beat.asks)
    return Renewal(answers, tx.at.wall, work, shares, max(1, at_work(tx)))


def _has_work(tx: Transaction, owner: Owner) -> bool:
    two_beats_ago = tx.at.tick - 2 * tx.rules.timing.beat_seconds
    asked = {"owner": owner, "two_beats_ago": two_beats_ago, **clock_of(tx.at)}
    return bool(tx.value(_HAS_WORK, asked))


def release(
    tx: Transaction, leases: Sequence[Lease], after: float, wanted: str | None = None
) -> None:
    """Give leases back without a strike, for whoever serves the `wanted` model; lost ones are
    passed over."""
    again_at = tx.at.tick + after if after > 0 else None
    values = {"again_at": again_at, "boot": tx.at.boot, "wanted_model": wanted}
    tx.each(_GIVE_BACK, [fence_of(lease) | values for lease in _in_order(leases)])
    if leases and after <= 0:
        tx.ring()


def _in_order(leases: Iterable[Lease]) -> list[Lease]:
    """As rows are locked, see `locks.py`."""
    return sorted(leases, key=lambda lease: (lease.job, lease.kind, lease.n))


def note_alone(tx: Transaction, lease: Lease, line: int | None) -> bool:
    """Note which line is in flight alone. Its deaths are kept until another line is noted."""
    if line is None:
        values: dict[str, Any] = {"alone_in_flight": False}
    else:
        same = shard.c.alone == line
        deaths = sa.case((same, shard.c.alone_deaths), else_=0)
        values = {"alone": line, "alone_in_flight": True, "alone_deaths": deaths}
    return tx.run(sa.update(shard).where(*FENCE).values(values), fence_of(lease)) == 1


def close_fenced(tx: Transaction, lease: Lease) -> bool:
    """Close the leased row. True: done now; False: done before by this very lease.

    Raises `LeaseLost` when the lease is no longer held.
    """
    closed = sa.update(shard).where(*FENCE).values(state="closed", lease_until=None)
    if tx.run(closed, fence_of(lease)):
        return True
    if was_closed_by(tx, lease):
        return False
    raise LeaseLost(f"the lease on {lease.kind} {lease.n} of job {lease.job} is lost")


def was_closed_by(tx: Transaction, lease: Lease) -> bool:
    """Whether this very lease closed the row: the answer was lost, and it asks again."""
    closed = sa.select(shard.c.n).where(*FENCE[:5], shard.c.state == "closed")
    return tx.one(closed, fence_of(lease)) is not None


def _answer(lease: Lease, row: Row | None) -> Answer:
    if row is None:
        return Answer(Verdict.GONE)
    if lease.kind is not Kind.RUN:
        return Answer(Verdict.KEEP)
    if row.state in STOPPED_STATES:
        return Answer(Verdict.STOP, Ending(row.ending))
    return Answer(Verdict.PAUSE if row.paused else Verdict.KEEP)
