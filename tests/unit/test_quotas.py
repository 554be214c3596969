from __future__ import annotations

import pytest

from batchmill.config import Settings
from batchmill.model import JobId, TenantId
from batchmill.quotas import InLine, may_enter


def line(*jobs: tuple[str, int, int]) -> list[InLine]:
    """Jobs by name, priority and lines, the oldest first."""
    return [InLine(JobId(name), prio, age, lines) for age, (name, prio, lines) in enumerate(jobs)]


@pytest.mark.parametrize(
    ("jobs", "pending", "quota", "enter"),
    [
        ([], 0, 10, ""),
        ([("a", 0, 10)], 0, 10, "a"),
        ([("a", 0, 5), ("b", 0, 5), ("c", 0, 1)], 0, 10, "ab"),
        ([("a", 0, 5)], 5, 10, "a"),
        ([("a", 0, 6)], 5, 10, ""),
        # none passes one that waits
        ([("big", 0, 8), ("a", 0, 1)], 5, 10, ""),
        # but one of a higher priority
        ([("big", 0, 8), ("a", 1, 1)], 5, 10, "a"),
        ([("a", 0, 1), ("big", 1, 8)], 5, 10, ""),
        # larger than the quota: alone, and with nothing pending
        ([("huge", 0, 50)], 0, 10, ["huge"]),
        ([("huge", 0, 50), ("a", 0, 1)], 0, 10, ["huge"]),
        ([("huge", 0, 50)], 1, 10, ""),
        ([("a", 0, 1)], 50, 10, ""),
        # a job without open lines takes no room
        ([("a", 0, 10), ("b", 0, 0)], 0, 10, "ab"),
        # no quota
        ([("a", 0, 50), ("b", 0, 50)], 99, 0, "ab"),
    ],
)
def test_jobs_enter_in_order_while_there_is_room(
    jobs: list[tuple[str, int, int]], pending: int, quota: int, enter: str
) -> None:
    assert may_enter(line(*jobs), pending, quota) == set(enter)


def test_a_tenant_has_its_own_quota_or_that_of_all() -> None:
    tenants = {"acme": {"max_pending_lines": 10}, "free": {"max_pending_lines": 0}, "plain": {}}
    quotas = Settings.model_validate({"max_pending_lines": 5, "tenants": tenants}).quotas
    names = ("acme", "free", "plain", "other")
    assert [quotas.of(TenantId(name)) for name in names] == [10, 0, 5, 5]
