"""The nouns of what runs: engines as configured and as seen, workers and what they tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from batchmill.grants import Asks, Limit
from batchmill.model import JobId, WaitingReason
from batchmill.schedules import ALWAYS, Schedule


class EngineState(StrEnum):
    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a lease lasts without a beat, and how often a worker beats. The same for all
    that share a ledger."""

    lease_seconds: float = 15.0
    beat_seconds: float = 1.0

    @property
    def fence_seconds(self) -> float:
        """After so long without a renewal a worker holds its leases for lost."""
        return self.lease_seconds - self.beat_seconds

    @property
    def renew_seconds(self) -> float:
        """A renewal that takes longer is given up, so that others can be tried before the fence."""
        return self.lease_seconds / 3


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """A configured engine. `url` is the base that ends before `/chat/completions`, usually in
    `/v1`; `key` is sent as a bearer token and never shown."""

    name: str
    url: str
    kind: str = "auto"
    key: str | None = field(default=None, repr=False)
    concurrency: int = 64
    adaptive: bool = False
    """How many calls it gets at once is found while it works; `concurrency` is the most."""
    polite: bool = False
    """Others use it, too: it gets no more of ours than leaves them fast."""
    timeout_seconds: float = 600.0
    simulated: bool = False
    schedule: Schedule = ALWAYS
    limits: tuple[Limit, ...] = ()
    """What all workers together keep to; `concurrency` is for each of them alone."""
    connect_to: str = ""
    """The address to connect to, where it is not looked up anew for each connection: that of one
    replica. TLS and the Host header name the URL's host all the same."""
    embeddings_per_call: int = 1
    """How many lines of `/v1/embeddings` may go in one call."""

    @property
    def lines_at_once(self) -> int:
        """How many lines it may have at most at once."""
        return self.concurrency * self.embeddings_per_call


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """What a worker last saw of an engine. `reason` is for people; no secrets in it."""

    name: str
    kind: str
    state: EngineState
    reason: str = ""
    models: tuple[str, ...] = ()
    seen_at: float = 0.0
    """When it last answered; 0.0: never."""
    in_flight: int = 0
    limited: bool = False
    """It answered 429 or 503 last and is being given time."""
    simulated: bool = False
    is_open: bool = True
    """It is within its schedule."""
    changes_at: float | None = None
    """When its schedule opens or closes it next (wall time)."""
    window: int = 0
    """How many calls it may have at once of this worker; 0: it has not said."""
    adaptive: bool = False
    polite: bool = False
    running: float | None = None
    waiting: float | None = None
    """Calls of all its users that it works on, and that wait in it; None: it does not tell."""
    decision: str = ""
    """Why the window is what it is."""
    decided_at: float = 0.0
    """Wall time."""


@dataclass(frozen=True, slots=True)
class JobGauge:
    """A worker's live view of one job; gone when the worker is."""

    in_flight: int = 0
    retrying: int = 0
    lines_per_second: float = 0.0
    blocked: WaitingReason | None = None
    """Set when this worker holds lines of the job and can send none of them, and why."""
    follows: bool = False
    """It has nothing to send: its lines get the outcomes of others, which are elsewhere."""


@dataclass(frozen=True, slots=True)
class Beat:
    """What a worker tells the ledger once a second."""

    gauges: Mapping[JobId, JobGauge] = field(default_factory=dict)
    engines: tuple[EngineStatus, ...] = ()
    storage_ok: bool = True
    since: float = 0.0
    """When it began to work, by its own clock; 0.0: it has not said yet."""
    shards: int = 0
    """How many it holds."""
    draining: bool = False
    """It was asked to end: it sends nothing new."""
    sends: bool = True
    """False: it only keeps house beside an API process, and never sends a line."""
    asks: Asks = field(default_factory=Asks)


@dataclass(frozen=True, slots=True)
class Worker:
    """A registered worker as last seen; `alive` while it beats within the lease time."""

    id: str
    incarnation: str
    host: str
    pid: int
    beat_at: float
    alive: bool
    beat: Beat = Beat()

    @property
    def in_flight(self) -> int:
        """Lines that it has at engines, as of its last beat."""
        return sum(gauge.in_flight for gauge in self.beat.gauges.values())
