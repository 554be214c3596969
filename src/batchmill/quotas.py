"""How much of a tenant's work may be pending at once. Pure; see `docs/decisions/0008`.

A job is let in when its first shard is claimed. From then on its open lines are pending, until it
stops or is paused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from batchmill.model import JobId, TenantId


@dataclass(frozen=True, slots=True)
class Quotas:
    """How many lines of one tenant's jobs may be pending at once; 0: any number."""

    of_each: int = 0
    of_tenants: Mapping[TenantId, int] = field(default_factory=dict)

    def of(self, tenant: TenantId) -> int:
        """That tenant's quota."""
        return self.of_tenants.get(tenant, self.of_each)


@dataclass(frozen=True, slots=True)
class InLine:
    """A job that has not been let in. `age` orders jobs by when they were made."""

    job: JobId
    priority: int
    age: int
    lines: int


@dataclass(frozen=True, slots=True)
class TenantQuota:
    """What a tenant may have pending (0: any number), what it has, and the jobs for which there is
    no room now."""

    max_lines: int
    pending_lines: int
    held_back: frozenset[JobId] = frozenset()


def may_enter(line: Iterable[InLine], pending: int, max_lines: int) -> frozenset[JobId]:
    """The jobs in line for which there is room beside what is pending: the higher priority first,
    then the older. None passes one that has to wait, or a big one would wait for ever; one that
    is larger than all the room enters once nothing is pending."""
    entering = set()
    for each in sorted(line, key=lambda it: (-it.priority, it.age)):
        if max_lines and pending and pending + each.lines > max_lines:
            break
        entering.add(each.job)
        pending += each.lines
    return frozenset(entering)
