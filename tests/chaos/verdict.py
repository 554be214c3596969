"""Whether the promises held, from what can be seen from outside and from the ledger itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from batchmill.core.chores import sweep_orphans
from batchmill.model import BlobName, JobId, Stream
from batchmill.ports import Blobs, Ledger
from tests.serving import Serve

PARTS_AT_ONCE = 500


@dataclass(slots=True)
class Verdict:
    """What was found broken, in sentences, and the figures of the run."""

    broken: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    def require(self, held: bool, sentence: str) -> None:
        """Note the sentence unless it holds."""
        if not held:
            self.broken.append(sentence)


def judge_job(verdict: Verdict, job: dict[str, Any], door: Serve, lines: int, mark: str) -> None:
    """Every line exactly once, in input order, with its own answer, which bears the mark of the
    job; counters equal to lines."""
    results, failed = (door.lines_of(job[each]) for each in ("output_file", "error_file"))
    name = job["id"]
    counters = (job["total_requests"], job["succeeded_requests"], job["failed_requests"])
    verdict.require(job["status"] == "SUCCESS", f"{name} ended as {job['status']}")
    verdict.require(counters == (lines, lines, 0), f"{name} counts {counters}, of {lines} lines")
    told = [(line["custom_id"], line["error"]) for line in failed]
    verdict.require(not told, f"{name} has {len(told)} failed lines, {told[:3]}")
    found = [line["custom_id"] for line in results]
    verdict.require(found == [f"line-{n}" for n in range(lines)], f"{name}: {_wrong(found, lines)}")
    swapped = [line["custom_id"] for line in results if not _is_its_own(line, mark)]
    verdict.require(not swapped, f"{name}: answers of others stand at {swapped[:5]}")


def _wrong(found: Sequence[str], lines: int) -> str:
    """In what way a job's result lines are not its lines in order."""
    expected, seen = {f"line-{n}" for n in range(lines)}, set(found)
    return (
        f"{len(expected - seen)} lines are missing, {len(found) - len(seen)} doubled, "
        f"{len(seen - expected)} of nobody, out of {lines}; or they are out of order"
    )


def _is_its_own(line: dict[str, Any], mark: str) -> bool:
    content = line["response"]["body"]["choices"][0]["message"]["content"]
    return f"id:{line['custom_id']} {mark}" in content


async def judge_parts(verdict: Verdict, ledger: Ledger, job: JobId, lines: int) -> None:
    """No line stands in two published parts: a stale owner published nothing."""
    seen: set[tuple[int, int]] = set()
    published, since = 0, 1
    while parts := await ledger.parts_since(job, since, PARTS_AT_ONCE):
        since = parts[-1].sequence + 1
        for each in parts:
            published += len(each.part.entries)
            seen.update((each.n, entry.line) for entry in each.part.entries)
    verdict.require(len(seen) == lines, f"{job}: parts hold {len(seen)} of {lines} lines")
    verdict.require(published == len(seen), f"{job}: {published - len(seen)} outcomes are doubled")


async def judge_blobs(
    verdict: Verdict, ledger: Ledger, blobs: Blobs, jobs: Sequence[JobId], inputs: int
) -> None:
    """After a sweep nothing is left but inputs, and the segments that the ledger names."""
    orphans = await sweep_orphans(ledger, blobs, results_age_seconds=0, uploads_age_seconds=0)
    named: set[BlobName] = set()
    for job in jobs:
        for stream in Stream:
            named.update(segment.blob for segment in await ledger.segments(job, stream))
    left = {name async for name in blobs.names("jobs/", 0)}
    kept = [name async for name in blobs.names("inputs/", 0)]
    verdict.require(named <= left, f"{len(named - left)} published segments are gone")
    strays = sorted(left - named)
    verdict.require(not strays, f"{len(strays)} orphans after the sweep, {strays[:3]}")
    verdict.require(len(kept) == inputs, f"{len(kept)} input blobs, of {inputs} uploads")
    verdict.figures["swept blobs"] = orphans
