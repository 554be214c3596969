"""The seams: what the core needs from the ledger, the blobs and the engines.

Every method is one whole, atomic domain step. Implementations: `ledger/`, `blobs/`, `engines/`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from msgspec import Struct

from batchmill.assembly import Assemblies
from batchmill.deliveries import DeliveryLedger
from batchmill.fleet import Beat, EngineStatus, Worker
from batchmill.grants import Grants
from batchmill.keys import KeyLedger
from batchmill.model import (
    Answer,
    BlobName,
    Dialect,
    File,
    FileId,
    Job,
    JobId,
    JobInput,
    JobState,
    Kind,
    Lease,
    LineError,
    Outcome,
    Owner,
    Part,
    Segment,
    Shard,
    ShardLease,
    Stream,
    TenantId,
)
from batchmill.once import Once
from batchmill.queries import FileQuery, JobQuery, Page
from batchmill.quotas import TenantQuota
from batchmill.results import ResultLedger

T = TypeVar("T")

# ---- the ledger -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Want:
    """What a worker would take: at most `limit` shards, of jobs whose model it can serve.

    `serving` None serves every model (a wildcard). Of `not_jobs` only shards whose owner died are
    given: the worker holds shards of them already and only wants to give others their turn, but
    nobody waits for it to run low before a dead owner's shards go on. `settling` False takes no
    shards of stopped jobs; of these it takes up to `settle_limit` where that is more than
    `limit`, since they cost no engine. `servable` are all models that the worker could serve
    now (None: any): of jobs that their tenant's quota lets in one by one, these take their turn.
    """

    limit: int
    serving: Container[str] | None = None
    not_jobs: frozenset[JobId] = frozenset()
    running: bool = True
    settling: bool = True
    settle_limit: int = 0
    servable: Container[str] | None = None


@dataclass(frozen=True, slots=True)
class Renewal:
    """What one beat learnt: an answer for every lease this owner was told to hold, the
    ledger's wall time, whether there is work that could be claimed, its shares of the limits
    (None where it asked for none), and how many workers share the work, this one included."""

    answers: Mapping[tuple[JobId, Kind, int], Answer]
    now: float
    work: bool
    grants: Grants | None = None
    workers: int = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """What validation found: the shards, and how many lines they hold in all.

    `errors` (at most 100 kept) and `errors_total` describe bad lines; with
    `on_invalid = fail` any error fails the job.
    """

    shards: tuple[Shard, ...]
    lines: int
    errors: tuple[LineError, ...] = ()
    errors_total: int = 0
    model: str | None = None
    """The first line's model; kept on the job when it has none of its own."""


class Ledger(Assemblies, DeliveryLedger, KeyLedger, ResultLedger, Protocol):
    """The one place of truth for state. Never stores bodies or results. Its steps for uploads in
    pieces stand in `assembly.py`, for webhooks in `deliveries.py`, for results in `results.py`.

    Any method raises `LedgerUnavailable` when the database cannot be reached or written; what
    it was to do has then not happened, or is recognised when it is asked again.
    """

    async def now(self) -> float:
        """Wall time as the ledger counts it: never runs backwards."""

    # files

    async def add_file(self, file: File) -> File:
        """Record an upload whose blob is already durable. `created_at` is set by the ledger."""

    async def file(self, tenant: TenantId, file: FileId) -> File | None:
        """That file of that tenant, if it exists, is not deleted and has not expired."""

    async def files(self, tenant: TenantId, query: FileQuery) -> Page[File]:
        """The tenant's files that match. An unknown `after` gives an empty page."""

    async def delete_file(self, tenant: TenantId, file: FileId) -> bool:
        """Take the file from its user at once; False if there is none.

        Raises `Conflict` when an unfinished job, neither cancelling nor hidden, needs it. The
        blob goes when the last reference does (see `orphans`).
        """

    async def segments(self, job: JobId, stream: Stream) -> tuple[Segment, ...]:
        """The closed segments of one side of a job, in input order."""

    # jobs

    async def create_job(
        self, job: Job, inputs: Sequence[JobInput], inline: File | None, once: Once | None = None
    ) -> Job:
        """Record a job in VALIDATING with its validate row, and the file of its inline
        requests, in one transaction. `created_at` and `deadline` are set by the ledger
        (`deadline` of the argument is the window in seconds).
        Raises `StateConflict` when an input file has gone meanwhile. Where the same create
        made a job before, that one is returned as it is now and nothing is recorded."""

    async def made_by(self, once: Once) -> Job | None:
        """The job that the same create made before, as it is now. Raises `Conflict` when its
        key came with another body, as `create_job` does."""

    async def job(self, tenant: TenantId, job: JobId) -> Job | None:
        """That job of that tenant unless hidden."""

    async def jobs(self, tenant: TenantId, query: JobQuery) -> Page[Job]:
        """The tenant's jobs that match. An unknown `after` gives an empty page."""

    async def cancel(self, tenant: TenantId, job: JobId) -> Job | None:
        """Move the job to CANCELLING if its state allows; else leave it as it is. Returns the
        job as it then is, None if there is none."""

    async def set_paused(self, tenant: TenantId, job: JobId, paused: bool) -> Job | None:  # noqa: FBT001 - set to what it says
        """Pause or resume a queued or running job. The job as it then is, None if there is none."""

    async def extend(self, tenant: TenantId, job: JobId, window: str, seconds: float) -> Job | None:
        """Give a job that has not stopped a longer window from its creation on, unless that one
        would be over. The job as it then is, None if there is none."""

    async def delete_job(self, tenant: TenantId, job: JobId) -> bool:
        """Hide the job at once, cancelling it if unfinished; its files stay. False if there is
        none, or it was deleted before."""

    async def quota(self, tenant: TenantId) -> TenantQuota:
        """How many lines of the tenant's jobs may be pending, how many are, and which jobs wait
        for room."""

    async def expire_jobs(self) -> int:
        """Stop every job whose window has ended; how many. Any process may call it, any
        number of times."""

    # leases

    async def claim_shards(self, owner: Owner, want: Want) -> tuple[ShardLease, ...]:
        """Lease open run shards, the job chosen first (`ledger/turns.py`). Each grant raises
        the shard's epoch. The first claim of a queued job makes it running.

        An expired lease is open, and counts a strike if nothing was committed under it. Shards
        of a stopped job come with `stop` set; one whose owner has not closed it two beats
        after the stop is taken from it. Paused jobs give no shards to run.
        """

    async def claim_chore(
        self, owner: Owner, kinds: Sequence[Kind]
    ) -> tuple[Lease, Job | None] | None:
        """Lease one due row of another kind (validate, finalize, prune, sweep), if any. The job
        is None for the sweep."""

    async def job_inputs(self, job: JobId) -> tuple[JobInput, ...]:
        """The job's inputs in order."""

    async def renew(self, owner: Owner, held: Sequence[Lease], beat: Beat) -> Renewal:
        """Beat, renew the leases of this owner, expire jobs, and answer for each of `held`. Deal
        anew what the beat asks for: the shares of all workers never exceed a limit."""

    async def release(
        self, leases: Sequence[Lease], *, after: float = 0.0, wanted: str | None = None
    ) -> None:
        """Give leases back without a strike; they may be claimed again `after` seconds, where a
        model is `wanted` only by who serves it, whatever the job's. A lost lease is passed over."""

    async def note_alone(self, lease: Lease, line: int | None) -> bool:
        """Durably note that only this line of the shard is about to be sent (None: none is);
        False if the lease is lost."""

    async def plan(self, lease: Lease, plan: Plan) -> Job:
        """End a validation: create the shards and queue the job, or fail it when it may not
        run. Stopped meanwhile: create the shards so that they can be settled. A job without
        lines or shards fails. Raises `LeaseLost`."""

    async def refuse(self, lease: Lease, errors: Sequence[LineError], total: int) -> Job:
        """End a validation by failing the job; it gets no result files. Raises `LeaseLost`."""

    async def commit(self, lease_parts: Sequence[tuple[Lease, Part]]) -> tuple[bool, ...]:
        """Publish parts whose blobs are durable, each fenced alone, in one transaction, and
        count their lines. False: refused, throw that part away. A part published before (its
        answer was lost) is True again and counted once."""

    async def close(self, lease: Lease, segments: Sequence[Segment]) -> bool:
        """Close a shard whose every line has an outcome and publish its segments; the last one
        makes the job finalizable. False if the lease is lost. Closed before by this very
        lease: True."""

    async def finalize(
        self, lease: Lease, output: FileId, error: FileId, names: tuple[str, str]
    ) -> Job:
        """End the job as it was ending: make its virtual files (those that are not empty) and
        the terminal state visible in one transaction. Raises `LeaseLost`."""

    async def done(self, lease: Lease, *, again_after: float | None = None) -> None:
        """Close a prune or sweep row, or open it again after that many seconds."""

    async def strike(self, lease: Lease, reason: str) -> bool:
        """Count a failed try of a chore and put it back with backoff; at the fifth, fail its
        job (a finalize or validate that cannot be done) and answer True."""

    async def fail_job(self, job: JobId, error: LineError) -> None:
        """Stop an unfinished job that cannot go on; its open lines settle as failed."""

    # blobs that nobody needs

    async def referenced(self, names: Sequence[BlobName]) -> frozenset[BlobName]:
        """Those of the names that a file, piece, job input, live part or segment refers to, or
        that a present owner may still publish (its epoch is the shard's and it is leased)."""

    async def scan_is_due(self, every_seconds: float) -> bool:
        """Whether it is for the asker to look through all blobs: nobody has for so long."""

    async def part_blobs_to_drop(self, limit: int) -> tuple[BlobName, ...]:
        """Blobs of parts whose shard is closed: their rows stay, their bytes may go."""

    async def dropped(self, names: Sequence[BlobName]) -> None:
        """These part blobs are gone from the store."""

    async def prune(self, job: JobId, most: int) -> tuple[BlobName, ...] | None:
        """Forget a finished job's result files and part rows, past their retention, so many rows
        at a time, which may be many; returns the blobs that may go, None once nothing is left."""

    async def expire_files(self, uploads_before: float) -> tuple[BlobName, ...]:
        """Forget files that were deleted, have passed `expires_at`, or are uploads without
        one that were made before that time, unless an unfinished job needs them; returns the
        blobs that may go. Queues the pruning of jobs whose results are past their retention,
        and forgets creates that are too old to be known again."""

    # the fleet

    async def register(self, worker: str, incarnation: str, host: str, pid: int) -> Owner:
        """Make a worker known before its first claim."""

    async def release_worker(self, worker: str, *, struck: bool) -> int:
        """Open every lease of a worker whose process is known to be gone; `struck` when it
        died by itself: then its shares of the limits run out like leases. How many were opened."""

    async def leave(self, owner: Owner) -> None:
        """This life of a worker has ended by itself, with nothing in flight: it is no longer alive,
        though its last beat is kept, and its shares of the limits may be used by others at once.
        A later life is not touched."""

    async def workers(self) -> tuple[Worker, ...]:
        """Every worker seen within a day, with its last beat."""

    async def forget_workers(self) -> None:
        """Drop workers, and what they saw of engines, that have not beaten for a day."""

    async def engines(self) -> tuple[EngineStatus, ...]:
        """Every engine as some living worker last saw it. One that only workers had which have gone
        is down for some minutes, and then left out; while no worker lives it is as it was."""

    async def models_elsewhere(self, owner: Owner) -> frozenset[str]:
        """The models that the engines of other living workers serve now; `*` is any."""

    async def open_lines(self) -> int:
        """Lines of unfinished jobs that have no outcome yet, over all tenants; for metrics."""

    async def jobs_by_state(self) -> Mapping[JobState, int]:
        """How many jobs are in each state, over all tenants; for metrics."""

    async def listen(self, rung: Callable[[], None]) -> None:
        """Call `rung` whenever something may have become claimable, as far as the database can
        tell, until cancelled. Whoever needs to know must look now and then all the same."""

    async def close_connections(self) -> None:
        """Let go of the database; whoever opened the ledger calls it."""


# ---- blobs ------------------------------------------------------------------------------


class Range(Struct, frozen=True, gc=False):
    """A run of bytes of one blob."""

    blob: BlobName
    offset: int
    length: int


class BlobWriter(Protocol):
    """A blob being written. Nobody sees it before `commit`; without it nothing is left."""

    async def write(self, data: bytes) -> None:
        """Append; raises `BlobsUnavailable` (disk full, say)."""

    async def commit(self) -> int:
        """Make it durable and visible under its name; its size in bytes."""

    async def abort(self) -> None:
        """Throw it away; safe to call after `commit` or twice."""


class Blobs(Protocol):
    """Immutable objects, written once under a new name, durable before the call returns.

    Raises `BlobMissing` where a blob or a part of it is not there and `BlobsUnavailable` where
    the store cannot be used now.
    """

    @property
    def group_seconds(self) -> float:
        """How long outcomes may gather before they are written: a write costs little on a disk
        and a round trip elsewhere."""

    async def put_many(self, blobs: Sequence[tuple[BlobName, Sequence[bytes]]]) -> None:
        """Write several blobs, in parallel and with one directory sync per directory; all are
        durable when it returns. Writing the same name again replaces it."""

    async def writer(self, name: BlobName) -> BlobWriter:
        """Start a blob of unknown size; the caller commits or aborts it."""

    def read(
        self, name: BlobName, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[bytes]:
        """Stream a blob or a run of it in pieces of at most 1 MiB."""

    async def read_ranges(self, ranges: Sequence[Range]) -> list[bytes]:
        """Read several runs at once, in the order given. The caller bounds their sum."""

    async def delete_many(self, names: Sequence[BlobName]) -> None:
        """Delete; names that do not exist are passed over."""

    def names(self, prefix: str, older_than_seconds: float) -> AsyncIterator[BlobName]:
        """Every blob below the prefix written at least that long ago; also what an
        interrupted write left behind."""

    async def free_bytes(self) -> int | None:
        """Room left, or None where the store has no such limit."""


# ---- result lines -----------------------------------------------------------------------


class LineFormat(Protocol):
    """How one dialect writes a result line. Pure; implemented by `dialects/<name>/lines.py`."""

    def result(self, job: Job, line: int, custom_id: bytes, outcome: Outcome) -> bytes:
        """One JSON object in ASCII and a line break. `line` is the 0-based job-wide number,
        `custom_id` its JSON text in ASCII (`b"null"` where a bad line has none)."""

    def copied(self, job: Job, line: int, custom_id: bytes, result: bytes) -> bytes | None:
        """The same for a line that has the outcome of another one, whose `result` that is; None
        where that one was lost."""


Formats = Mapping[Dialect, LineFormat]
