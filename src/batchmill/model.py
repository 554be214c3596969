"""The nouns of Batchmill, and the one table of a job's legal moves.

Plain immutable values; nothing here does I/O. Those made once a line are msgspec Structs, which
cost a tenth of a frozen dataclass to make. What is done with them stands in `ports.py`.
Times are Unix seconds as float unless a name says otherwise; sizes end in `_bytes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

from msgspec import Struct

from batchmill.failures import NO_FAILURES, Failures, FailureTally
from batchmill.usage import NO_USAGE, Usage

JobId = NewType("JobId", str)
FileId = NewType("FileId", str)
TenantId = NewType("TenantId", str)
KeyId = NewType("KeyId", str)
BlobName = NewType("BlobName", str)
Owner = NewType("Owner", str)
"""`worker/incarnation`: one life of one worker process."""

DEFAULT_TENANT = TenantId("default")


# ---- a job's life -----------------------------------------------------------------------


class JobState(StrEnum):
    VALIDATING = "validating"
    QUEUED = "queued"
    RUNNING = "running"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


class Ending(StrEnum):
    """How a job is going to end; set once, when it stops running."""

    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


_S = JobState
MOVES: Mapping[JobState, frozenset[JobState]] = {
    _S.VALIDATING: frozenset({_S.QUEUED, _S.FINALIZING, _S.CANCELLING, _S.FAILED}),
    _S.QUEUED: frozenset({_S.RUNNING, _S.FINALIZING, _S.CANCELLING}),
    _S.RUNNING: frozenset({_S.FINALIZING, _S.CANCELLING}),
    _S.FINALIZING: frozenset({_S.COMPLETED, _S.FAILED, _S.EXPIRED}),
    _S.CANCELLING: frozenset({_S.CANCELLED}),
    _S.COMPLETED: frozenset(),
    _S.FAILED: frozenset(),
    _S.EXPIRED: frozenset(),
    _S.CANCELLED: frozenset(),
}
"""Every legal move. VALIDATING -> FINALIZING is a window that ended before validation did."""

TERMINAL = frozenset(state for state, moves in MOVES.items() if not moves)
STOPPED = frozenset({_S.FINALIZING, _S.CANCELLING})
"""States in which no new line may be sent: what is left is settled."""
CANCELLABLE = frozenset(state for state, moves in MOVES.items() if _S.CANCELLING in moves)


class WaitingReason(StrEnum):
    """Why an unfinished job makes no progress now. A closed set."""

    VALIDATING = "validating"
    QUEUED_BEHIND_JOBS = "queued_behind_jobs"
    NO_WORKER = "no_worker"
    ENGINE_DOWN = "engine_down"
    MODEL_NOT_SERVED = "model_not_served"
    RATE_LIMITED = "rate_limited"
    RETRYING = "retrying"
    STORAGE_UNAVAILABLE = "storage_unavailable"
    OUTSIDE_SCHEDULE = "outside_schedule"
    TENANT_QUOTA = "tenant_quota"
    PAUSED = "paused"


class Dialect(StrEnum):
    MISTRAL = "mistral"
    OPENAI = "openai"


class OnInvalid(StrEnum):
    """What bad lines do: fail the whole job, or go to the error file while the rest runs."""

    FAIL = "fail"
    QUARANTINE = "quarantine"


@dataclass(frozen=True, slots=True)
class LineError:
    """What is wrong with one input line, or with the input as a whole (`line` is None).

    `line` is the 1-based physical line within its own file.
    """

    code: str
    message: str
    line: int | None = None
    param: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One accepted batch, as the ledger knows it.

    `total` is right from creation on; `succeeded + failed <= total`, both only grow, and a
    finished job that passed validation has `succeeded + failed == total`. `failed` counts every
    line of the error file: failed, expired and cancelled ones.
    """

    id: JobId
    tenant: TenantId
    dialect: Dialect
    endpoint: str
    state: JobState
    created_at: float
    deadline: float
    total: int
    key: KeyId | None = None
    model: str | None = None
    agent_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    input_files: tuple[FileId, ...] = ()
    inline: bool = False
    priority: int = 0
    on_invalid: OnInvalid = OnInvalid.FAIL
    dedupe: bool = False
    """Lines that are the same request are sent once, where their answer is sure to be the same."""
    window: str = "24h"
    keep_results_seconds: int | None = None
    """How long its result files last, where its user said so."""
    ending: Ending | None = None
    paused: bool = False
    hidden: bool = False
    queued_at: float | None = None
    """When validation had found it good."""
    started_at: float | None = None
    finalizing_at: float | None = None
    cancelling_at: float | None = None
    ended_at: float | None = None
    last_progress_at: float | None = None
    succeeded: int = 0
    failed: int = 0
    deduplicated: int = 0
    """Lines that got the outcome of another one and were not sent; their tokens were not used."""
    usage: Usage = NO_USAGE
    errors: tuple[LineError, ...] = ()
    errors_total: int = 0
    failures: FailureTally = NO_FAILURES
    retry_of: JobId | None = None
    retried_by: JobId | None = None
    output_file: FileId | None = None
    error_file: FileId | None = None
    webhook_url: str | None = None

    @property
    def left(self) -> int:
        return self.total - self.succeeded - self.failed


@dataclass(frozen=True, slots=True)
class JobInput:
    """One input blob of a job, at its place in the order of inputs."""

    file: FileId
    filename: str
    blob: BlobName
    size_bytes: int
    lines: int


# ---- files ------------------------------------------------------------------------------


class FileSource(StrEnum):
    UPLOAD = "upload"
    RESULT = "result"
    """Virtual: the ordered segments of a job."""
    INLINE = "inline"
    """The input file that holds a job's inline requests."""


class Stream(StrEnum):
    """The two sides of a job's results."""

    OUT = "out"
    ERR = "err"


@dataclass(frozen=True, slots=True)
class File:
    """An upload, or a virtual result file (`job` and `stream` set, `blob` None)."""

    id: FileId
    tenant: TenantId
    filename: str
    purpose: str
    source: FileSource
    size_bytes: int
    created_at: float
    lines: int | None = None
    mimetype: str | None = None
    visibility: str | None = None
    signature: str | None = None
    expires_at: float | None = None
    blob: BlobName | None = None
    job: JobId | None = None
    stream: Stream | None = None


# ---- shards and leases ------------------------------------------------------------------


class Kind(StrEnum):
    """What a leased row is for. One mechanism leases every phase of a job."""

    RUN = "run"
    VALIDATE = "validate"
    FINALIZE = "finalize"
    PRUNE = "prune"
    SWEEP = "sweep"
    DELIVER = "deliver"


@dataclass(frozen=True, slots=True)
class Shard:
    """A run of consecutive lines of one input blob, leased, run and committed together.

    `first_line` is the job-wide 0-based number of its first line, counted over all inputs
    without blank lines. `offset` and `length` (bytes) cut the input blob; the range begins at
    the start of a physical line and ends after a line break or at the end of the blob.
    `first_physical` is the 1-based physical line at `offset` within its file.
    """

    n: int
    input: int
    first_line: int
    lines: int
    offset: int
    length: int
    first_physical: int


class PartEntry(Struct, frozen=True, gc=False):
    """Where one line's outcome lies in a part or segment; `line` counts from the shard's first."""

    line: int
    offset: int
    length: int
    stream: Stream


@dataclass(frozen=True, slots=True)
class Part:
    """An immutable blob of outcomes of one open shard: result lines in their final bytes,
    each with its line break, in the order they came. Named `jobs/<job>/parts/<n>.<epoch>.<i>`.
    """

    blob: BlobName
    entries: tuple[PartEntry, ...]
    size_bytes: int
    usage: Usage = NO_USAGE
    failures: tuple[Failures, ...] = ()
    deduplicated: int = 0
    """How many of its outcomes are another line's; not told of a part that is read back."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One side of a closed shard: its result lines in line order."""

    stream: Stream
    blob: BlobName
    size_bytes: int
    lines: int


@dataclass(frozen=True, slots=True)
class Lease:
    """An exclusive claim on one leased row. Every use of it is fenced by owner and epoch."""

    job: JobId
    kind: Kind
    n: int
    owner: Owner
    epoch: int

    @property
    def key(self) -> tuple[JobId, Kind, int]:
        return (self.job, self.kind, self.n)


@dataclass(frozen=True, slots=True)
class ShardLease:
    """A leased run shard with all that running it needs.

    `stop` is set when the job stopped before the claim: then the remaining lines are settled
    (written with that reason), not sent. `strikes` counts expired leases in which lines were
    sent and none committed; `alone` is the line that was in flight alone when the last owner
    died, `alone_deaths` how often that line did so.
    """

    lease: Lease
    job: Job
    shard: Shard
    input: JobInput
    parts: tuple[Part, ...] = ()
    strikes: int = 0
    alone: int | None = None
    alone_deaths: int = 0
    stop: Ending | None = None


class Verdict(StrEnum):
    """What renew answers for one lease."""

    KEEP = "keep"
    PAUSE = "pause"
    """Send nothing new, let flights finish, commit, release."""
    STOP = "stop"
    """The job was cancelled, expired or failed: commit what came, settle the rest, close."""
    GONE = "gone"
    """Owner or epoch differ: throw everything away and touch nothing."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Renew's answer for one lease; `ending` says why where the verdict is STOP."""

    verdict: Verdict
    ending: Ending | None = None


# ---- lines and outcomes -----------------------------------------------------------------


class Fate(StrEnum):
    """The final fate of a line. SUCCEEDED stands in the output file, the rest in the error
    file."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class Outcome(Struct, frozen=True, gc=False):
    """What became of a line.

    `status` and `body` are the engine's last answer where there was one: `body` is one JSON
    value in ASCII bytes without line breaks, or None. `code` and `message` say what went wrong
    where the fate is not SUCCEEDED.
    """

    fate: Fate
    status: int | None = None
    body: bytes | None = None
    request_id: str | None = None
    code: str | None = None
    message: str | None = None
    usage: Usage = NO_USAGE


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key's record; the key itself is shown once and never stored."""

    id: KeyId
    tenant: TenantId
    hint: str
    created_at: float
    revoked_at: float | None = None
