"""Why lines did not succeed, counted by code: what `error_summary` and `retry` stand on. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

MAX_CODES = 20
OTHER = "other"
"""Stands for all codes beyond the first `MAX_CODES` - 1, so that the counts add up."""


class FailureKind(StrEnum):
    """What `retry` chooses lines by."""

    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    INVALID = "invalid"
    """Refused by validation: sent again, it would be refused again."""


class Failures(Struct, frozen=True, gc=False):
    """The lines of one part that failed with one code, and an example: what was said of the
    first of them. `lines` count from the shard's first; `custom_id` is None where the line has
    none that can be shown. Every text is short."""

    code: str
    kind: FailureKind
    retryable: bool
    message: str
    custom_id: str | None
    lines: tuple[int, ...]


class ErrorCount(Struct, frozen=True, gc=False):
    """How many lines of a job failed with one code, with the example that came first."""

    code: str
    count: int
    retryable: bool
    message: str
    custom_id: str | None = None


class FailureTally(Struct, frozen=True, gc=False):
    """All failed lines of a job: at most `MAX_CODES` codes whose counts add up to all of them,
    and how many were not failed by an engine."""

    summary: tuple[ErrorCount, ...] = ()
    expired: int = 0
    cancelled: int = 0
    invalid: int = 0

    @property
    def total(self) -> int:
        return sum(each.count for each in self.summary)

    def count(self, kind: FailureKind) -> int:
        """How many lines failed in that way."""
        counts = {
            FailureKind.EXPIRED: self.expired,
            FailureKind.CANCELLED: self.cancelled,
            FailureKind.INVALID: self.invalid,
        }
        return counts[kind] if kind in counts else self.total - sum(counts.values())

    def plus(self, found: Iterable[Failures]) -> FailureTally:
        """The tally with these lines counted too."""
        codes = {each.code: each for each in self.summary}
        kinds = dict.fromkeys(FailureKind, 0)
        for each in found:
            kinds[each.kind] += len(each.lines)
            is_named = each.code in codes or len(codes.keys() - {OTHER}) < MAX_CODES - 1
            code = each.code if is_named else OTHER
            first = ErrorCount(code, 0, each.retryable, each.message, each.custom_id)
            known = codes.get(code, first)
            codes[code] = replace(known, count=known.count + len(each.lines))
        return FailureTally(
            tuple(codes.values()),
            self.expired + kinds[FailureKind.EXPIRED],
            self.cancelled + kinds[FailureKind.CANCELLED],
            self.invalid + kinds[FailureKind.INVALID],
        )


NO_FAILURES = FailureTally()
