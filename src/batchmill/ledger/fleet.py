"""Workers and what they see: registration, beats, engines, and the sums that metrics show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from batchmill.fleet import Beat, EngineState, EngineStatus, Worker
from batchmill.ledger import grants
from batchmill.ledger.endings import UNFINISHED
from batchmill.ledger.rows import Row, Values, text, to_engine, to_worker
from batchmill.ledger.schema import IS_LEASED, engine, job, shard, worker
from batchmill.ledger.store import Transaction
from batchmill.model import (
    JobState,
    Owner,
)

REMEMBERED_SECONDS = 86_400.0
RETURN_SECONDS = 600.0
"""For so long the engines of a worker that has gone count as down, and jobs for them are taken: it
is being started anew, or moved."""

_OPEN = sa.update(shard).where(
    shard.c.job_id == sa.bindparam("at_job"),
    shard.c.kind == sa.bindparam("at_kind"),
    shard.c.n == sa.bindparam("at_n"),
)


def register(tx: Transaction, id: str, incarnation: str, host: str, pid: int) -> Owner:
    """Make a worker known, and forget those not seen for a day."""
    if "/" in id or "/" in incarnation:
        raise ValueError("a worker's id and incarnation hold no slash")
    forget(tx)
    row = _worker_values(tx, id, incarnation, Beat()) | {"host": host, "pid": pid}
    tx.run(tx.upsert(worker, ["id"]), row)
    return Owner(f"{id}/{incarnation}")


def record_beat(tx: Transaction, owner: Owner, beat: Beat) -> None:
    """Keep the newest beat of a worker; an earlier incarnation no longer counts. One that has not
    looked yet leaves what was seen of engines before."""
    name, _, incarnation = owner.partition("/")
    values = _worker_values(tx, name, incarnation, beat)
    mine = sa.update(worker).where(worker.c.id == name)
    present = mine.where(worker.c.incarnation == incarnation)
    if not tx.run(present.values(values)):
        unknown = {**values, "host": "", "pid": 0}
        tx.run(tx.insert_new(worker), unknown)
    if beat.engines or beat.since:
        _record_engines(tx, name, beat)


def release_worker(tx: Transaction, id: str, *, struck: bool) -> int:
    """Open all leases of every life of a worker, and free its shares; `struck` counts the leases
    like ones that ran out, and leaves the shares to: its calls may go on at engines that do not see
    that it has gone."""
    if not struck:
        grants.release_worker(tx, id)
    values: dict[str, Any] = {"state": "open", "owner": None, "lease_until": None}
    values["alone_in_flight"] = False
    if struck:
        unhelpful = sa.case((shard.c.committed.is_(sa.true()), 0), else_=1)
        alone = sa.case((shard.c.alone_in_flight.is_(sa.true()), 1), else_=0)
        values["strikes"] = shard.c.strikes + unhelpful
        values["alone_deaths"] = shard.c.alone_deaths + alone
    key = (shard.c.job_id, shard.c.kind, shard.c.n)
    its = sa.func.substr(shard.c.owner, 1, len(id) + 1) == f"{id}/"
    held = sa.select(*key).where(IS_LEASED, its).order_by(*key)
    rows = tx.all(held.with_for_update())
    tx.each(
        _OPEN.values(values), [{"at_job": r.job_id, "at_kind": r.kind, "at_n": r.n} for r in rows]
    )
    if rows:
        tx.ring()
    return len(rows)


def leave(tx: Transaction, owner: Owner) -> None:
    """Let this life of a worker count as over: its last beat belongs to no present boot. It has
    nothing in flight, so that its shares are free."""
    name, _, incarnation = owner.partition("/")
    mine = sa.update(worker).where(worker.c.id == name, worker.c.incarnation == incarnation)
    tx.run(mine.values(beat_boot=""))
    grants.release(tx, owner)


def workers(tx: Transaction) -> tuple[Worker, ...]:
    """Every worker seen within a day; alive while it beats within the lease time."""
    recent = sa.select(worker).where(worker.c.beat_at >= tx.at.wall - REMEMBERED_SECONDS)
    rows = tx.all(recent.order_by(worker.c.id))
    return tuple(to_worker(row, alive=_lives(row, tx)) for row in rows)


def at_work(tx: Transaction) -> int:
    """How many workers that live send lines, and were not asked to end."""
    oldest = tx.at.tick - tx.rules.timing.lease_seconds
    live = sa.select(worker).where(worker.c.beat_boot == tx.at.boot, worker.c.beat_tick > oldest)
    beats = [to_worker(row, alive=True).beat for row in tx.all(live)]
    return sum(beat.sends and not beat.draining for beat in beats)


def engines(tx: Transaction) -> tuple[EngineStatus, ...]:
    """Of each engine what the worker that beat last has seen, by name, and the models that any of
    them sees: of the living workers, and of those that may come back. While none lives, all of a
    day."""
    beats = (worker.c.beat_boot, worker.c.beat_tick)
    seen = sa.select(engine, *beats).join(worker, worker.c.id == engine.c.worker)
    rows = tx.all(seen.order_by(engine.c.name, engine.c.beat_at))
    living = [row for row in rows if _lives(row, tx)]
    if not living:
        return tuple(_by_name(rows).values())
    since = tx.at.wall - RETURN_SECONDS
    left = _by_name([row for row in rows if row.beat_at >= since])
    found = {name: _left(seen) for name, seen in left.items()} | _by_name(living)
    return tuple(found[name] for name in sorted(found))


def _by_name(rows: Sequence[Row]) -> dict[str, EngineStatus]:
    """What was seen last of each engine; of models all that any of these workers sees, since
    another may have another engine under the same name."""
    found: dict[str, EngineStatus] = {}
    for row in rows:
        seen, before = to_engine(row), found.get(row.name)
        models = seen.models if before is None else (*before.models, *seen.models)
        found[row.name] = replace(seen, models=tuple(dict.fromkeys(models)))
    return found


def models_elsewhere(tx: Transaction, owner: Owner) -> frozenset[str]:
    """The models that the engines of other living workers serve now."""
    beats = (worker.c.beat_boot, worker.c.beat_tick)
    others = sa.select(engine, *beats).join(worker, worker.c.id == engine.c.worker)
    rows = tx.all(others.where(worker.c.id != owner.partition("/")[0]))
    seen = [to_engine(row) for row in rows if _lives(row, tx)]
    usable = (each for each in seen if each.state is EngineState.UP and each.is_open)
    return frozenset(model for each in usable for model in each.models)


def _left(seen: EngineStatus) -> EngineStatus:
    return replace(seen, state=EngineState.DOWN, reason="no worker that lives has it", in_flight=0)


def _lives(row: Row, tx: Transaction) -> bool:
    """Whether the worker of that row has beaten within the lease time."""
    oldest = tx.at.tick - tx.rules.timing.lease_seconds
    return bool(row.beat_boot == tx.at.boot and row.beat_tick > oldest)


def open_lines(tx: Transaction) -> int:
    """Lines of unfinished jobs that have no outcome yet."""
    left = sa.func.sum(job.c.total - job.c.succeeded - job.c.failed)
    return int(tx.value(sa.select(left).where(job.c.state.in_(UNFINISHED))) or 0)


def jobs_by_state(tx: Transaction) -> dict[JobState, int]:
    """How many jobs are in each state."""
    counts = sa.select(job.c.state, sa.func.count().label("number")).group_by(job.c.state)
    found = {row.state: row.number for row in tx.all(counts)}
    return {state: found.get(state.value, 0) for state in JobState}


def _worker_values(tx: Transaction, id: str, incarnation: str, beat: Beat) -> Values:
    return {
        "id": id,
        "incarnation": incarnation,
        "beat_at": tx.at.wall,
        "beat_tick": tx.at.tick,
        "beat_boot": tx.at.boot,
        "beat": text(beat),
    }


def _record_engines(tx: Transaction, id: str, beat: Beat) -> None:
    rows: list[Values] = [
        {"worker": id, "name": seen.name, "beat_at": tx.at.wall, "status": text(seen)}
        for seen in beat.engines
    ]
    tx.each(tx.upsert(engine, ["worker", "name"]), rows)
    names = [seen.name for seen in beat.engines]
    gone = sa.delete(engine).where(engine.c.worker == id, engine.c.name.not_in(names))
    tx.run(gone)


def forget(tx: Transaction) -> None:
    """Drop workers, and what they saw, that have not beaten for a day."""
    old = worker.c.beat_at < tx.at.wall - REMEMBERED_SECONDS
    ids = sa.select(worker.c.id).where(old)
    tx.run(sa.delete(engine).where(engine.c.worker.in_(ids)))
    tx.run(sa.delete(worker).where(old))
