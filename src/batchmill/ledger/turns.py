"""Whose turn it is: which jobs give the next shards. Pure; `claims.py` asks it.

The higher priority first; then the tenant with the fewest running shards, its job with the
fewest, the earlier deadline, the older job.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from batchmill.model import JobId, TenantId


@dataclass(frozen=True, slots=True)
class Candidate:
    """A job that has something to claim. `age` orders jobs by when they were made."""

    job: JobId
    tenant: TenantId
    priority: int
    deadline: float
    age: int


def choose(
    candidates: Iterable[Candidate],
    running: Mapping[JobId, int],
    tenants: Mapping[TenantId, int],
) -> Candidate | None:
    """The job whose turn is next, by the shards that run now for each job and tenant."""

    def rank(candidate: Candidate) -> tuple[int, int, int, float, int]:
        return (
            -candidate.priority,
            tenants.get(candidate.tenant, 0),
            running.get(candidate.job, 0),
            candidate.deadline,
            candidate.age,
        )

    return min(candidates, key=rank, default=None)


def deal(
    candidates: Iterable[Candidate],
    running: Mapping[JobId, int],
    tenants: Mapping[TenantId, int],
    limit: int,
) -> dict[JobId, int]:
    """How many of `limit` shards each job may give, dealt one by one by `choose`.

    In the order in which the jobs were first chosen. A job may turn out to have fewer; what
    is left is then dealt again among the others.
    """
    candidates = list(candidates)
    top = max((candidate.priority for candidate in candidates), default=0)
    first = [candidate for candidate in candidates if candidate.priority == top]
    jobs, owners, hand = dict(running), dict(tenants), dict[JobId, int]()
    for _ in range(limit):
        chosen = choose(first, jobs, owners)
        if chosen is None:
            break
        jobs[chosen.job] = jobs.get(chosen.job, 0) + 1
        owners[chosen.tenant] = owners.get(chosen.tenant, 0) + 1
        hand[chosen.job] = hand.get(chosen.job, 0) + 1
    return hand
