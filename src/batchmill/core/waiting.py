"""Which of several reasons to wait is the one that is told. Pure."""

from __future__ import annotations

from collections.abc import Collection

from batchmill.model import WaitingReason

_GRAVEST_FIRST = (
    WaitingReason.STORAGE_UNAVAILABLE,
    WaitingReason.ENGINE_DOWN,
    WaitingReason.MODEL_NOT_SERVED,
    WaitingReason.RATE_LIMITED,
    WaitingReason.RETRYING,
    WaitingReason.QUEUED_BEHIND_JOBS,
    WaitingReason.OUTSIDE_SCHEDULE,
)
"""Outside its schedule comes last: where another engine is open, that one is what is waited for."""


def gravest(reasons: Collection[WaitingReason | None]) -> WaitingReason | None:
    """The reason to tell where several engines or workers have one each."""
    return next((reason for reason in _GRAVEST_FIRST if reason in reasons), None)
