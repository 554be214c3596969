"""A run from the first step to the last: find or make its job, let it be run, hand out what came.

Whatever ends the process on the way, the same command goes on: the ledger says how far it was.
The job carries what it was made from (`Terms`, `Origin`) in its metadata, in the transaction that
makes it; without a job there is nothing to go on from.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Final, Protocol

import msgspec

from batchmill.app.run.handing import HandedOut, Places, hand_out
from batchmill.app.run.intake import Manner, manner_of, take_in
from batchmill.app.run.mill import Mill, any_seen, milling
from batchmill.app.run.sources import Origin, check_readable
from batchmill.app.run.statedir import StateDir, held
from batchmill.app.run.wanted import Terms, Wanted
from batchmill.app.stores import WORKER, open_blobs, open_ledger
from batchmill.clock import SystemClock
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
    """How a run ended: `handed` is None where it was interrupted, or its job had no results."""

    job: Job | None
    state: StateDir
    handed: HandedOut | None = None

    @property
    def is_interrupted(self) -> bool:
        return self.job is None or self.job.state not in TERMINAL


async def conduct(wanted: Wanted, watch: Watch, stop: asyncio.Event) -> Ended:
    """Run the job to its end, or until `stop`. Raises `UserError` and `ConfigError` for what its
    user can set right, and whatever the stores raise."""
    places = Places.of(wanted)
    places.check(wanted)
    if not wanted.settings.engines:
        message = "none is given; add --engine http://host:8000/v1, or --engine local for a demo"
        raise ConfigError([Problem("engines", message)])
    with held(wanted) as state:
        if wanted.restart:
            state.clear()
        settings = wanted.settings_in(state.path)
        ledger = await open_ledger(settings)
        try:
            run = Run(wanted, places, state, ledger, open_blobs(settings), watch, stop)
            ended = await run.to_its_end()
        finally:
            await ledger.close_connections()
        if not ended.is_interrupted and not wanted.keep:
            state.remove()
    return ended


@dataclass(frozen=True, slots=True)
class Run:
    """One run over its stores."""

    wanted: Wanted
    places: Places
    state: StateDir
    ledger: Ledger
    blobs: Blobs
    watch: Watch
    stop: asyncio.Event

    async def to_its_end(self) -> Ended:
        """Go on with the job of an earlier run, or begin one."""
        job = await self._earlier()
        if job is None:
            check_readable(self.wanted.input)
            if not self.wanted.force:
                self.places.refuse_overwriting()
            if not self.state.lasts:
                self.watch.said("stopped, this run cannot go on later; --state DIR makes it so")
        if any(engine.embedded == "sim" for engine in self.wanted.settings.engines):
            self.watch.said("the engine sim only simulates answers")
        await self.ledger.release_worker(WORKER, struck=False)
        if job is None or job.state not in TERMINAL:
            settings = self.wanted.settings_in(self.state.path)
            stores = (self.ledger, self.blobs, SystemClock())
            async with milling(settings, *stores, self.wanted.model) as mill:
                job = job or await self._begun(mill)
                if job is not None:
                    job = await self._ran(job, mill)
        return await self._handed(job)

    async def _earlier(self) -> Job | None:
        """The job of an earlier run with the same terms. Raises `UserError` where they differ."""
        found = await self.ledger.jobs(DEFAULT_TENANT, JobQuery(limit=1))
        if not found.items:
            return None
        job = found.items[0]
        terms = msgspec.json.decode(job.metadata[_TERMS], type=Terms)
        accepted = self.wanted.accept_changes
        terms.refuse_changes(Terms.of(self.wanted, {}), self.state.path, accepted=accepted)
        origin = msgspec.json.decode(job.metadata[_ORIGIN], type=Origin)
        await asyncio.to_thread(origin.refuse_change, self.wanted.input, self.state.path)
        done = job.total - job.left
        self.watch.said(f"going on where it was: {done:,} of {job.total:,} lines are done")
        return job

    async def _begun(self, mill: Mill) -> Job | None:
        """Take the input in and make the job of it; None where the run was stopped before."""
        self.watch.looked(None, None, mill.engines)
        file, origin = await take_in(self.wanted.input, self.ledger, self.blobs)
        assert file.blob is not None
        manner = await manner_of(file.blob, self.blobs, _LONGEST_FIRST_LINE)
        while not any_seen(mill.engines):
            if self.stop.is_set():
                return None
            await mill.rest()
            self.watch.looked(None, None, mill.engines)
        job = await submit(
            self.ledger,
            self.blobs,
            mill.catalogue,
            Limits(job_lines=mill.settings.max_job_lines),
            self._order(file, origin, self._asked(manner, mill)),
        )
        return job

    def _asked(self, manner: Manner, mill: Mill) -> Manner:
        """The endpoint and the model of the job: what was asked, else what the lines say, else
        the only model there is. Raises `UserError` where nothing says which."""
        endpoint = self.wanted.endpoint or manner.endpoint
        if self.wanted.model is not None:
            return replace(manner, endpoint=endpoint, model=self.wanted.model)
        served = mill.catalogue.names()
        if manner.model is not None:
            if not mill.catalogue.can_serve(manner.model):
                raise UserError(
                    f"The first line names the model {manner.model!r}, and no engine serves it. "
                    f"Send all lines to another one with --model; there is {_listed(served)}."
                )
            return replace(manner, endpoint=endpoint, model=None)
        if manner.dialect is Dialect.MISTRAL and len(served) == 1:
            self.watch.said(f"model {served[0]}, the only one there is")
            return replace(manner, endpoint=endpoint, model=served[0])
        if manner.dialect is Dialect.MISTRAL:
            message = f"The lines name no model; say which with --model: {_listed(served)}."
            raise UserError(message)
        return replace(manner, endpoint=endpoint)

    def _order(self, file: File, origin: Origin, manner: Manner) -> Order:
        terms = Terms.of(self.wanted, {})
        return Order(
            tenant=DEFAULT_TENANT,
            dialect=manner.dialect,
            endpoint=manner.endpoint,
            window="3650d",
            window_seconds=_WINDOW_SECONDS,
            model=manner.model,
            metadata={
                _TERMS: msgspec.json.encode(terms).decode(),
                _ORIGIN: msgspec.json.encode(origin).decode(),
            },
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

    async def _handed(self, job: Job | None) -> Ended:
        if job is not None:
            job = await self.ledger.job(DEFAULT_TENANT, job.id)
        ended = Ended(job, self.state)
        if job is None or ended.is_interrupted or not (job.succeeded or job.failed):
            return ended
        spool = self.state.path / "upload"
        handed = await hand_out(job, self.places, self.ledger, self.blobs, spool)
        return replace(ended, handed=handed)


def _listed(models: tuple[str, ...]) -> str:
    return ", ".join(models[:10]) or "none yet"
