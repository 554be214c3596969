"""Whatever happens in whatever order, the ledger keeps every promise that a ledger can break.

Two workers with several lives, users, chores, deaths, clock jumps, reboots and restarts, drawn
at random; after each step the database is compared with the account in `ledger_book.py`, and at
the end every job is driven to its end.
"""

from __future__ import annotations

import asyncio
import atexit
import shutil
import sqlite3
import tempfile
from collections.abc import Coroutine, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from batchmill.clock import ManualClock
from batchmill.errors import Conflict, LeaseLost, StateConflict
from batchmill.fleet import Beat, Timing
from batchmill.ledger import SqlLedger
from batchmill.model import (
    STOPPED,
    Ending,
    Job,
    JobId,
    JobState,
    Kind,
    Lease,
    LineError,
    OnInvalid,
    Owner,
    Part,
    ShardLease,
    Stream,
    TenantId,
    Verdict,
)
from batchmill.ports import Want
from tests.conformance.ledger.world import (
    BEAT_SECONDS,
    LEASE_SECONDS,
    World,
    plan_of,
    segments,
)
from tests.crash.ledger_book import Book, Photo, ShardBook

OWNERS = [Owner("alice/1"), Owner("bob/1")]
RESCUER = Owner("rescuer/1")
ERROR = LineError("internal_error", "the input is damaged")
PICK = st.integers(0, 10_000)
OWNER = st.sampled_from(OWNERS)
SHARDS = st.lists(st.integers(1, 4), min_size=1, max_size=4)
CHORES = [Kind.VALIDATE, Kind.FINALIZE]


class LedgerMachine(RuleBasedStateMachine):
    """Everything that may happen to a ledger."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = self.make_database()
        self.book = Book(self.clock)
        self.jobs: list[Job] = []
        self.plans: dict[JobId, list[int]] = {}
        self.leases: list[ShardLease] = []
        self.chores: list[Lease] = []
        self.published: list[tuple[Lease, Part]] = []

    def make_database(self) -> ManualClock:
        """Make an empty database; the clock that it follows."""
        self.folder = Path(tempfile.mkdtemp(prefix="batchmill-"))
        self.path: Path | str = Path(shutil.copyfile(_template(), self.folder / "ledger.db"))
        return ManualClock()

    def remove_database(self) -> None:
        shutil.rmtree(self.folder)

    def ask(self, statement: str) -> Sequence[Any]:
        """Rows of the database, behind the ledger's back."""
        with closing(sqlite3.connect(self.path)) as connection:
            connection.row_factory = sqlite3.Row
            return connection.execute(statement).fetchall()

    def photo(self) -> Photo:
        return Photo.take(self.ask)

    def run(self, step: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(step)

    @initialize(
        planned=st.lists(SHARDS, min_size=1, max_size=3), window=st.sampled_from([1e6, 60.0])
    )
    def start(self, planned: list[list[int]], window: float) -> None:
        self.open()
        self.before = self.photo()
        for shards in planned:
            self._create(shards, window=window)
            self._claim_chore(RESCUER)
            self._do_chore(self.chores[-1], "do")
        for owner in OWNERS:
            self._claim(owner, Want(3))

    def open(self) -> None:
        timing = Timing(LEASE_SECONDS, BEAT_SECONDS)
        self.ledger = self.run(SqlLedger.open(self.path, clock=self.clock, timing=timing))
        self.world = World(self.ledger, self.clock)

    # ---- users

    @rule(
        shards=SHARDS,
        window=st.sampled_from([20.0, 100.0, 1e6]),
        tenant=st.sampled_from(["a", "b"]),
        priority=st.integers(0, 1),
        on_invalid=st.sampled_from(OnInvalid),
    )
    def create(self, shards: list[int], tenant: str, **values: Any) -> None:
        self._create(shards, tenant, **values)

    def _create(self, shards: list[int], tenant: str = "a", **values: Any) -> None:
        made = self.world.create(TenantId(tenant), total=sum(shards), **values)
        job = self.run(made)
        self.jobs.append(job)
        self.plans[job.id] = shards

    @precondition(lambda self: self.jobs)
    @rule(pick=PICK, how=st.sampled_from(["cancel", "delete", "fail", "pause", "resume", "input"]))
    def meddle(self, pick: int, how: str) -> None:
        job, ledger = self.jobs[pick % len(self.jobs)], self.ledger
        at = (job.tenant, job.id)
        match how:
            case "cancel":
                self.run(ledger.cancel(*at))
            case "delete":
                self.run(ledger.delete_job(*at))
            case "fail":
                if self.photo().jobs[job.id]["state"] == "validating":
                    self.book.grants.pop((job.id, Kind.VALIDATE, 0), None)
                self.run(ledger.fail_job(job.id, ERROR))
            case "input":
                self._delete_input(job)
            case _:
                self.run(ledger.set_paused(*at, how == "pause"))

    def _delete_input(self, job: Job) -> None:
        row = self.photo().jobs[job.id]
        going_on = row["state"] in {"validating", "queued", "running", "finalizing"}
        try:
            self.run(self.ledger.delete_file(job.tenant, job.input_files[0]))
        except Conflict:
            assert going_on
            assert not row["hidden"]
        else:
            assert row["hidden"] or not going_on

    # ---- workers

    @rule(
        owner=OWNER,
        limit=st.integers(1, 6),
        wanted=st.sampled_from([(True, True), (True, True), (False, True), (True, False)]),
    )
    def claim(self, owner: Owner, limit: int, wanted: tuple[bool, bool]) -> None:
        self._claim(owner, Want(limit, settling=wanted[0], running=wanted[1]))

    def _claim(self, owner: Owner, want: Want) -> None:
        states = self.photo().jobs
        held = self.run(self.ledger.claim_shards(owner, want))
        assert len(held) <= want.limit
        for each in held:
            state = JobState(states[each.job.id]["state"])
            stopped = state in STOPPED
            assert want.settling if stopped else want.running
            assert stopped or not states[each.job.id]["paused"]
            ending = Ending(states[each.job.id]["ending"]) if stopped else None
            self.book.granted_shard(each, ending)
            self.leases.append(each)
        if len(held) < want.limit:
            self._nothing_was_left_lying(states, want)

    def _nothing_was_left_lying(self, states: dict[JobId, dict[str, Any]], want: Want) -> None:
        """A worker that got less than it wanted got all there was."""
        for (job, n), shard in self.book.shards.items():
            row = states[job]
            stopped = JobState(row["state"]) in STOPPED
            wanted = want.settling if stopped else want.running and not row["paused"]
            if wanted and shard.closed_by is None:
                assert not self.book.may_be_claimed(job, n, stopped=stopped), (job, n, row)

    @rule(owner=OWNER)
    def renew(self, owner: Owner) -> None:
        mine = [each.lease for each in self.leases if each.lease.owner == owner]
        mine += [lease for lease in self.chores if lease.owner == owner]
        holding = {lease for lease in mine if self.book.holds(lease)}
        latest = {lease.key: lease for lease in mine}
        renewal = self.run(self.ledger.renew(owner, list(latest.values()), Beat()))
        states = self.photo().jobs
        for lease in latest.values():
            answer = renewal.answers[lease.key]
            assert (answer.verdict is not Verdict.GONE) is (lease in holding)
            if lease in holding:
                self.book.renewed(lease)
                row = states[lease.job]
                stopped = row["state"] in {"cancelling", "finalizing"} and lease.kind is Kind.RUN
                assert (answer.verdict is Verdict.STOP) is stopped
                assert answer.ending == (row["ending"] if stopped else None)

    @precondition(lambda self: self.leases)
    @rule(
        picks=st.lists(PICK, min_size=1, max_size=4),
        lines=st.lists(st.dictionaries(st.integers(0, 4), st.sampled_from(Stream), min_size=1)),
    )
    def commit(self, picks: list[int], lines: list[dict[int, Stream]]) -> None:
        group = []
        for pick, chosen in zip(picks, lines, strict=False):
            lease = self.leases[-1 - pick % len(self.leases)].lease
            group.append((lease, self.world.part(lease, chosen)))
        self._publish(group)

    @precondition(lambda self: self.leases)
    @rule(pick=PICK, stream=st.sampled_from(Stream))
    def commit_the_rest(self, pick: int, stream: Stream) -> None:
        held = self.leases[-1 - pick % len(self.leases)]
        done = self._shard(held).outcomes
        left = {n: stream for n in range(held.shard.lines) if n not in done}
        if left:
            self._publish([(held.lease, self.world.part(held.lease, left))])

    @precondition(lambda self: self.published)
    @rule(pick=PICK)
    def commit_again(self, pick: int) -> None:
        self._publish([self.published[pick % len(self.published)]])

    def _publish(self, group: list[tuple[Lease, Part]]) -> None:
        answers = self.run(self.ledger.commit(group))
        order = sorted(range(len(group)), key=lambda i: (group[i][0].key, i))
        for i in order:
            self.book.committed(*group[i], answer=answers[i])
        self.published += [each for each, answer in zip(group, answers, strict=True) if answer]

    @precondition(lambda self: self.leases)
    @rule(pick=PICK, stream=st.sampled_from(Stream))
    def finish(self, pick: int, stream: Stream) -> None:
        self.commit_the_rest(pick, stream)
        self.close(pick)

    @precondition(lambda self: self.leases)
    @rule(pick=PICK)
    def close(self, pick: int) -> None:
        held = self.leases[-1 - pick % len(self.leases)]
        shard = self._shard(held)
        complete = len(shard.outcomes) == shard.lines
        try:
            answer = self.run(self.ledger.close(held.lease, segments(held, shard.outcomes)))
        except StateConflict:
            assert self.book.holds(held.lease)
            assert not complete
        else:
            self.book.closed(held.lease, answer=answer)

    @precondition(lambda self: self.leases)
    @rule(pick=PICK, after=st.sampled_from([0.0, 5.0, 500.0]))
    def release(self, pick: int, after: float) -> None:
        lease = self.leases[-1 - pick % len(self.leases)].lease
        self.run(self.ledger.release([lease], after=after))
        self.book.released(lease, after=after)

    @precondition(lambda self: self.leases)
    @rule(pick=PICK, line=st.none() | st.integers(0, 3))
    def note_alone(self, pick: int, line: int | None) -> None:
        held = self.leases[-1 - pick % len(self.leases)]
        if line is None or (line < held.shard.lines and line not in self._shard(held).outcomes):
            answer = self.run(self.ledger.note_alone(held.lease, line))
            self.book.noted(held.lease, line, answer=answer)

    def _shard(self, held: ShardLease) -> ShardBook:
        return self.book.shards[held.lease.job, held.lease.n]

    # ---- chores

    @rule(owner=OWNER)
    def claim_chore(self, owner: Owner) -> None:
        self._claim_chore(owner)

    def _claim_chore(self, owner: Owner) -> bool:
        found = self.run(self.ledger.claim_chore(owner, CHORES))
        self._learn_of_chores_given_up()
        if found is not None:
            self.book.granted(found[0], settling=False)
            self.chores.append(found[0])
        return found is not None

    def _learn_of_chores_given_up(self) -> None:
        """Chores that killed five owners end in the same step; each had one more grant."""
        for key, row in self.photo().rows.items():
            if key[1] in CHORES and row["state"] == "closed" and key in self.book.grants:
                last = self.book.grants.pop(key)
                assert row["epoch"] == last.lease.epoch + 1
                self.book.epochs[key] = row["epoch"]

    @precondition(lambda self: self.chores)
    @rule(pick=PICK, how=st.sampled_from(["do", "do", "do", "strike", "refuse", "release", "bad"]))
    def do_chore(self, pick: int, how: str) -> None:
        self._do_chore(self.chores[-1 - pick % len(self.chores)], how)

    def _do_chore(self, lease: Lease, how: str) -> None:
        holding = self.book.holds(lease)
        if how == "release":
            self.run(self.ledger.release([lease]))
        elif how == "strike":
            self.run(self.ledger.strike(lease, "no luck"))
        else:
            self._end_chore(lease, how, holding=holding)
        if holding:
            del self.book.grants[lease.key]

    def _end_chore(self, lease: Lease, how: str, *, holding: bool) -> None:
        closed = self.photo().rows[lease.key]["state"] == "closed"
        try:
            if lease.kind is Kind.FINALIZE:
                job = self.run(self.world.end(lease))
                assert (job.state.value, job.left) == (job.ending, 0)
            elif how == "refuse":
                self.run(self.ledger.refuse(lease, [ERROR], 1))
            else:
                bad = {"errors": (ERROR,), "errors_total": 1} if how == "bad" else {}
                self.run(self.ledger.plan(lease, plan_of(self.plans[lease.job], **bad)))
        except LeaseLost:
            assert not holding
        else:
            assert holding or closed
            self._learn_of_shards(lease.job)

    def _learn_of_shards(self, job: JobId) -> None:
        planned = [key for key in self.photo().rows if key[:2] == (job, Kind.RUN)]
        for _, _, n in planned:
            self.book.shards.setdefault((job, n), ShardBook(self.plans[job][n]))

    # ---- the world

    @rule(worker=st.sampled_from(["alice", "bob"]), struck=st.booleans())
    def worker_dies(self, *, worker: str, struck: bool) -> None:
        opened = self.run(self.ledger.release_worker(worker, struck=struck))
        assert opened == self.book.worker_gone(worker, struck=struck)

    @rule(seconds=st.sampled_from([0.5, 2.5, 6.0, LEASE_SECONDS + 1, LEASE_SECONDS + 1, 200.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.run(self.ledger.expire_jobs())

    @rule(jump=st.sampled_from([-1e6, -30.0, 30.0, 1e5, None, "reboot", "reboot", "reopen"]))
    def the_world_changes(self, jump: float | str | None) -> None:
        match jump:
            case "reboot":
                self.clock.reboot()
            case "reopen":
                self.run(self.ledger.close_connections())
                self.open()
            case None:
                self.run(self.ledger.expire_jobs())
            case _:
                self.clock.jump_wall(jump)

    # ---- promises

    @invariant()
    def nothing_is_lost_doubled_or_undone(self) -> None:
        now = self.photo()
        now.follows(self.before)
        now.agrees_with(self.book)
        now.note_stops(self.book)
        self.before = now

    def teardown(self) -> None:
        try:
            if hasattr(self, "before"):
                self._drive_every_job_to_its_end()
        finally:
            if hasattr(self, "ledger"):
                self.run(self.ledger.close_connections())
            self.remove_database()
            self.runner.close()

    def _drive_every_job_to_its_end(self) -> None:
        for job in self.jobs:
            self.run(self.ledger.set_paused(job.tenant, job.id, False))
        for _ in range(40):
            if not self.photo().unfinished():
                break
            self.clock.advance(LEASE_SECONDS + 500)
            self._rescue()
        last = self.photo()
        last.follows(self.before)
        assert not last.unfinished()
        for job in self.jobs:
            self.run(self._results_are_whole(job, last.jobs[job.id]))

    def _rescue(self) -> None:
        while self._claim_chore(RESCUER):
            self._do_chore(self.chores[-1], "do")
        for held in self.run(self.ledger.claim_shards(RESCUER, Want(50))):
            shard = self._shard(held)
            assert held.parts == tuple(shard.parts)
            shard.outcomes |= {
                n: Stream.ERR for n in range(held.shard.lines) if n not in shard.outcomes
            }
            self.run(self.world.finish(held, Stream.ERR))

    async def _results_are_whole(self, job: Job, row: dict[str, Any]) -> None:
        """Every line of a job that was planned stands in one of its files, exactly once."""
        mine = {n: book for (id_, n), book in self.book.shards.items() if id_ == job.id}
        if not mine:
            assert (row["output_file"], row["error_file"]) == (None, None)
            return
        assert row["succeeded"] + row["failed"] == row["total"] == sum(self.plans[job.id])
        for stream, column in ((Stream.OUT, "output_file"), (Stream.ERR, "error_file")):
            wanted = [list(mine[n].outcomes.values()).count(stream) for n in sorted(mine)]
            found = [each.lines for each in await self.ledger.segments(job.id, stream)]
            assert found == [lines for lines in wanted if lines]
            assert (row[column] is not None) is (sum(wanted) > 0)


@cache
def _template() -> Path:
    """A database with its tables, to be copied; made once."""
    folder = tempfile.mkdtemp(prefix="batchmill-")
    atexit.register(shutil.rmtree, folder)
    path = Path(folder) / "template.db"

    async def make() -> None:
        ledger = await SqlLedger.open(path, clock=ManualClock())
        await ledger.close_connections()

    asyncio.run(make())
    return path


TestTheLedgerKeepsItsPromises = LedgerMachine.TestCase
TestTheLedgerKeepsItsPromises.settings = settings(
    max_examples=60,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestTheLedgerKeepsItsPromises.pytestmark = pytest.mark.timeout(400)
