"""A run from the first step to the last: find or make its job, let it be run, hand out what came.

Whatever ends the process on the way, the same command goes on: the ledger says how far it was.
The job carries what it was made from (`Terms`, `Origin`) in its metadata, in the transaction that
makes it; without a job there is nothing to go on from.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import msgspec

from batchmill.app.run.claims import Claims, WouldReplace
from batchmill.app.run.handing import Delivery, HandedOut, Places, hand_out, hand_out_table
from batchmill.app.run.intake import Manner, asked, manner_of, take_in
from batchmill.app.run.mill import Mill, any_seen, milling
from batchmill.app.run.sources import Origin, check_readable
from batchmill.app.run.statedir import StateDir, held
from batchmill.app.run.tablejob import TableJob
from batchmill.app.run.wanted import Terms, Wanted
from batchmill.app.stores import WORKER, open_blobs, open_ledger
from batchmill.clock import SystemClock
from batchmill.config import Settings
from batchmill.core.models import Catalogue
from batchmill.core.progress import Progress
from batchmill.core.submit import Limits, Order, submit
from batchmill.errors import ConfigError, Problem, UserError
from batchmill.fleet import EngineStatus
from batchmill.model import DEFAULT_TENANT, TERMINAL, Dialect, File, Job
from batchmill.ports import Blobs, Ledger
from batchmill.queries import JobQuery

_TERMS: Final = "terms"
_ORIGIN: Final = "origin"
_WINDOW_SECONDS: Final = 10 * 365 * 86_400
"""A run takes as long as it takes: its user can see it, and stop it."""
_LONGEST_FIRST_LINE: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Taken:
    """An input that has been taken in, and what it says of itself."""

    file: File
    origin: Origin
    manner: Manner


class Watch(Protocol):
    """Sees how a run fares."""

    def said(self, line: str) -> None:
        """Something that is said once."""

    def looked(
        self, job: Job | None, progress: Progress | None, engines: tuple[EngineStatus, ...]
    ) -> None:
        """How far it is, some times a second; no job while there is none yet."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended. `job` is its first one; `handed` is None where the run was interrupted, or
    there were no results."""

    job: Job | None
    state: StateDir
    is_interrupted: bool = True
    handed: HandedOut | None = None


async def conduct(wanted: Wanted, watch: Watch, stop: asyncio.Event) -> Ended:
    """Run the job to its end, or until `stop`. Raises `UserError` and `ConfigError` for what its
    user can set right, and whatever the stores raise."""
    places = Places.of(wanted)
    places.check(wanted)
    if not wanted.settings.engines:
        message = "none is given; add --engine http://host:8000/v1, or --engine local for a demo"
        raise ConfigError([Problem("engines", message)])
    with held(wanted) as state:
        table = _table_of(wanted, state)
        if wanted.restart:
            _check(wanted, places)
            if table is not None:
                table.check_in_place()
            state.clear()
        settings = wanted.settings_in(state.path)
        blobs = open_blobs(settings)
        ledger = await open_ledger(settings)
        try:
            run = Run(wanted, table, places, state, settings, ledger, blobs, watch, stop)
            ended = await run.to_its_end()
        except UserError as error:
            if not await run.has_begun():
                state.remove()
            elif isinstance(error, WouldReplace):
                raise error.kept_in(state.path) from error
            raise
        finally:
            await ledger.close_connections()
        if ended.job is None or not (ended.is_interrupted or wanted.keep):
            state.remove()
    return ended


def _check(wanted: Wanted, places: Places) -> None:
    """Raise `UserError` where the input cannot be read, or the results have no place."""
    check_readable(wanted.input)
    places.refuse_overwriting(Claims(None, wanted.force))


def _table_of(wanted: Wanted, state: StateDir) -> TableJob | None:
    if wanted.table is None:
        return None
    return TableJob.of(wanted.table, wanted.input, wanted.endpoint, state.path / "input")


@dataclass(frozen=True, slots=True)
class Run:
    """One run over its stores."""

    wanted: Wanted
    table: TableJob | None
    places: Places
    state: StateDir
    settings: Settings
    ledger: Ledger
    blobs: Blobs
    watch: Watch
    stop: asyncio.Event

    async def to_its_end(self) -> Ended:
        """Go on with the jobs of an earlier run, or begin one; a table may need several."""
        jobs = await self._earlier()
        taken = None if jobs else await self._unless_stopped(self._taken())
        if not jobs and taken is None:
            return Ended(None, self.state)
        if any(engine.embedded == "sim" for engine in self.settings.engines):
            self.watch.said("the engine sim only simulates answers")
        await self.ledger.release_worker(WORKER, struck=False)
        if taken is not None or not await self._are_done(jobs):
            jobs = await self._worked_off(jobs, taken)
        if not jobs or jobs[-1].state not in TERMINAL:
            return Ended(jobs[0] if jobs else None, self.state)
        return await self._handed(jobs)

    async def has_begun(self) -> bool:
        """Whether there is a job to go on with."""
        return bool((await self.ledger.jobs(DEFAULT_TENANT, JobQuery(limit=1))).items)

    @property
    def _claims(self) -> Claims:
        return Claims(self.state.path, self.wanted.force)

    async def _earlier(self) -> list[Job]:
        """The jobs of an earlier run with the same terms, the first one first. Raises `UserError`
        where they differ, or the results have no place."""
        found = await self.ledger.jobs(DEFAULT_TENANT, JobQuery(oldest_first=True))
        if not found.items:
            return []
        job = found.items[0]
        terms = msgspec.json.decode(job.metadata[_TERMS], type=Terms)
        accepted = self.wanted.accept_changes
        terms.refuse_changes(Terms.of(self.wanted), self.state.path, accepted=accepted)
        origin = msgspec.json.decode(job.metadata[_ORIGIN], type=Origin)
        await asyncio.to_thread(origin.refuse_change, self.wanted.input, self.state.path)
        self.places.refuse_overwriting(self._claims)
        done = job.total - job.left
        self.watch.said(f"going on where it was: {done:,} of {job.total:,} lines are done")
        return list(found.items)

    async def _taken(self) -> Taken:
        """Take the input in, once it is clear that its results will have a place."""
        _check(self.wanted, self.places)
        if not self.state.lasts:
            self.watch.said("stopped, this run cannot go on later; --state DIR makes it so")
        self.watch.looked(None, None, ())
        if self.table is not None:
            file, origin = await self.table.take_in(self.ledger, self.blobs)
            return Taken(file, origin, Manner(Dialect.MISTRAL, self.table.asking.endpoint))
        file, origin = await take_in(self.wanted.input, self.ledger, self.blobs)
        assert file.blob is not None
        return Taken(file, origin, await manner_of(file.blob, self.blobs, _LONGEST_FIRST_LINE))

    async def _unless_stopped(self, step: Coroutine[Any, Any, Taken]) -> Taken | None:
        """What the step comes to, unless the run is stopped before."""
        doing, stopped = asyncio.ensure_future(step), asyncio.ensure_future(self.stop.wait())
        await asyncio.wait([doing, stopped], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not doing.done():
            doing.cancel()
            await asyncio.wait([doing])
            return None
        return doing.result()

    async def _worked_off(self, jobs: list[Job], taken: Taken | None) -> list[Job]:
        """The jobs once all of them have ended, or as they are when the run is stopped."""
        stores = (self.ledger, self.blobs, SystemClock())
        async with milling(self.settings, *stores, self.wanted.model) as mill:
            if taken is not None and (first := await self._begun(taken, mill)) is not None:
                jobs = [first]
            while jobs:
                jobs[-1] = await self._ran(jobs[-1], mill)
                if jobs[-1].state not in TERMINAL:
                    break
                if (again := await self._again(jobs, mill.catalogue)) is None:
                    break
                jobs.append(again)
        if jobs:
            jobs[-1] = await self._now(jobs[-1])
        return jobs

    async def _are_done(self, jobs: Sequence[Job]) -> bool:
        return jobs[-1].state in TERMINAL and (
            self.table is None or not await self.table.has_more(jobs, self.ledger, self.blobs)
        )

    async def _again(self, jobs: Sequence[Job], catalogue: Catalogue) -> Job | None:
        """The job that asks the rows with bad answers again, recorded; None where there is none."""
        if self.table is None or not jobs[0].succeeded:
            return None
        file = await self.table.again(jobs, self.ledger, self.blobs)
        if file is None:
            return None
        self.watch.said(f"asking {file.lines:,} rows again whose answers are bad")
        first = jobs[0]
        manner = Manner(first.dialect, first.endpoint, first.model)
        order = replace(self._order(file, manner), metadata=first.metadata)
        return await self._submitted(order, catalogue)

    async def _begun(self, taken: Taken, mill: Mill) -> Job | None:
        """Make the job, once an engine has said which models there are; None where the run was
        stopped before."""
        while not any_seen(mill.engines):
            if self.stop.is_set():
                return None
            self.watch.looked(None, None, mill.engines)
            await mill.rest()
        catalogue = mill.catalogue
        manner, said = asked(taken.manner, self.wanted, catalogue)
        if said is not None:
            self.watch.said(said)
        metadata = {
            _TERMS: msgspec.json.encode(Terms.of(self.wanted)).decode(),
            _ORIGIN: msgspec.json.encode(taken.origin).decode(),
        }
        order = replace(self._order(taken.file, manner), metadata=metadata)
        return await self._submitted(order, catalogue)

    async def _submitted(self, order: Order, catalogue: Catalogue) -> Job:
        limits = Limits(job_lines=self.settings.max_job_lines)
        return await submit(self.ledger, self.blobs, catalogue, limits, order)

    def _order(self, file: File, manner: Manner) -> Order:
        return Order(
            tenant=DEFAULT_TENANT,
            dialect=manner.dialect,
            endpoint=manner.endpoint,
            window="3650d",
            window_seconds=_WINDOW_SECONDS,
            model=manner.model,
            input_files=(file.id,),
            on_invalid=self.wanted.on_invalid,
        )

    async def _ran(self, job: Job, mill: Mill) -> Job:
        """The job once it has ended or the run was stopped."""
        mill.begin(job)
        while True:
            job, progress = await mill.look(job.id)
            self.watch.looked(job, progress, mill.engines)
            if job.state in TERMINAL or self.stop.is_set():
                return job
            await mill.rest()

    async def _now(self, job: Job) -> Job:
        return await self.ledger.job(DEFAULT_TENANT, job.id) or job

    async def _handed(self, jobs: Sequence[Job]) -> Ended:
        ended = Ended(jobs[0], self.state, is_interrupted=False)
        if not (jobs[0].succeeded or jobs[0].failed):
            return ended
        self.places.refuse_overwriting(self._claims)
        stores = (self.ledger, self.blobs)
        delivery = Delivery(self.state.path / "upload", self._claims)
        if self.table is None:
            handed = await hand_out(jobs[0], self.places, *stores, delivery)
        else:
            output = self.places.output
            handed = await hand_out_table(self.table, jobs, output, stores, delivery)
        return replace(ended, handed=handed)
