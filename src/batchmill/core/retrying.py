"""Retrying a job: which of its lines, and the child that sends them again.

What a child begins with is in `children.py`; one line's attempts are in `retry.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace

import msgspec

from batchmill.clock import new_id
from batchmill.core.children import chosen_of
from batchmill.errors import BlobMissing, Conflict, InvalidInput
from batchmill.failures import NO_FAILURES, FailureKind
from batchmill.model import (
    TERMINAL,
    Job,
    JobId,
    JobState,
    KeyId,
    Segment,
    Stream,
)
from batchmill.ports import Blobs, Ledger
from batchmill.results import Choice, ShardResults
from batchmill.usage import NO_USAGE

RETRIED = frozenset({FailureKind.FAILED, FailureKind.EXPIRED, FailureKind.CANCELLED})
SHARDS_AT_ONCE = 8


class _Named(msgspec.Struct, gc=False):
    custom_id: str | None = None


_NAMED = msgspec.json.Decoder(_Named)


def require_results(job: Job) -> None:
    """Raise `Conflict` unless the job has ended with results."""
    if job.state not in TERMINAL:
        raise _refusal(job, f"it is {job.state.value}; wait for its end or cancel it")
    if job.output_file is None and job.error_file is None:
        raise _refusal(job, "it has no results; create it anew")


def require_failed(job: Job, kinds: frozenset[FailureKind]) -> None:
    """Raise `Conflict` unless lines of the job failed in one of these ways."""
    if not any(job.failures.count(kind) for kind in kinds):
        which = " or ".join(sorted(kinds))
        raise _refusal(job, f"it has no line that {which} and that validation did not refuse")


async def choose(job: Job, custom_ids: Sequence[str], ledger: Ledger, blobs: Blobs) -> Choice:
    """The choice of these lines. Raises `InvalidInput` for a custom_id that is not one of a failed
    line, and `Conflict` where the job's results cannot be read."""
    wanted = dict.fromkeys(custom_ids)
    try:
        found = await _find_lines(job.id, wanted, ledger, blobs)
    except BlobMissing as error:
        raise _refusal(job, "its results can no longer be read") from error
    for place, custom_id in enumerate(custom_ids):
        if custom_id not in found:
            raise InvalidInput(
                f"custom_ids.{place}: No line of this job that failed, and that validation did "
                f"not refuse, has the custom_id {custom_id[:80]!r}.",
                param=f"custom_ids.{place}",
                code="invalid_value",
            )
    return Choice(lines=frozenset(found.values()))


def child_of(parent: Job, key: KeyId | None) -> Job:
    """A retry of the job as its user asks for it: the same lines, in the same window."""
    return replace(
        parent,
        id=JobId(new_id()),
        key=key,
        state=JobState.VALIDATING,
        created_at=0.0,
        deadline=parent.deadline - parent.created_at,
        ending=None,
        queued_at=None,
        started_at=None,
        finalizing_at=None,
        cancelling_at=None,
        ended_at=None,
        last_progress_at=None,
        succeeded=0,
        failed=0,
        deduplicated=0,
        usage=NO_USAGE,
        errors=(),
        errors_total=0,
        failures=NO_FAILURES,
        retry_of=parent.id,
        retried_by=None,
        output_file=None,
        error_file=None,
    )


def _refusal(job: Job, reason: str) -> Conflict:
    return Conflict(f"Job {job.id} cannot be retried: {reason}.", state=job.state)


async def _find_lines(
    job: JobId, wanted: Mapping[str, None], ledger: Ledger, blobs: Blobs
) -> dict[str, int]:
    """The lines with these ids that may be sent again, by their numbers in the job."""
    found: dict[str, int] = {}
    n = 0
    while shards := await ledger.shard_results(job, range(n, n + SHARDS_AT_ONCE)):
        n += SHARDS_AT_ONCE
        for results in shards:
            async for custom_id, line in _failed_lines(results, blobs):
                if custom_id in wanted:
                    found[custom_id] = results.shard.first_line + line
            if len(found) == len(wanted):
                return found
    return found


async def _failed_lines(results: ShardResults, blobs: Blobs) -> AsyncIterator[tuple[str, int]]:
    """The custom_id and number of each line of a shard that failed and may be sent again."""
    failures = [each for part in results.parts for each in part.failures]
    chosen = chosen_of(0, failures, Choice(RETRIED))
    if not chosen:
        return
    errors = (e for part in results.parts for e in part.entries if e.stream is Stream.ERR)
    lines = sorted(entry.line for entry in errors)
    segments = [each for each in results.segments if each.stream is Stream.ERR]
    if not segments:
        raise BlobMissing(f"The errors of shard {results.shard.n} have gone.")
    place = 0
    async for text in _lines_of(segments[0], blobs):
        if lines[place] in chosen:
            named = _NAMED.decode(text).custom_id
            if named is not None:
                yield named, lines[place]
        place += 1


async def _lines_of(segment: Segment, blobs: Blobs) -> AsyncIterator[bytes]:
    held: list[bytes] = []
    async for chunk in blobs.read(segment.blob):
        *whole, rest = chunk.split(b"\n")
        for line in whole:
            yield b"".join((*held, line))
            held = []
        held.append(rest)
