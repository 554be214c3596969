"""The nouns of limits: what an engine may be asked at most, over all workers together, and the
shares of it that workers hold. How shares are dealt stands in `ledger/dealing.py`; how a worker
keeps to its own in `core/limits.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Limit:
    """What an engine, or one model of it, is asked at most by all workers together. 0: no limit;
    without a model it is the whole engine's."""

    model: str = ""
    concurrency: int = 0
    requests_per_minute: int = 0
    tokens_per_minute: int = 0


class Measure(StrEnum):
    """What is limited."""

    CONCURRENCY = "concurrency"
    """Calls in flight; dealt in whole ones."""
    REQUESTS = "requests"
    """Calls a minute."""
    TOKENS = "tokens"
    """Tokens a minute, of input and output."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One thing that is limited."""

    engine: str
    model: str
    measure: Measure


@dataclass(frozen=True, slots=True)
class Demand:
    """What one worker would use of a resource that is limited to `limit` in all, and what it may
    still be using: its share, or more where calls are out that it began with a larger one."""

    of: Resource
    limit: float
    wants: float
    using: float


@dataclass(frozen=True, slots=True)
class Asks:
    """A worker's demands as of its stock of that number, and the version of the last grants that it
    has heard of."""

    demands: tuple[Demand, ...] = ()
    heard: int = 0
    stock: int = 0


@dataclass(frozen=True, slots=True)
class Share:
    """How much of a resource a worker may use from now on."""

    of: Resource
    amount: float


@dataclass(frozen=True, slots=True)
class Grants:
    """A worker's shares, for as long as its leases last. The version grows when a share does; the
    stock is the one that the worker was answered on."""

    version: int = 0
    shares: tuple[Share, ...] = ()
    stock: int = 0
