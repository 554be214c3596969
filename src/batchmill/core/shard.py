"""The run of a shard, from its lease to its closing, top to bottom.

    open     read its lines and adopt what earlier owners published
    send     until every line has an outcome, or renew says otherwise
    settle   a stopped job's remaining lines get their reason instead of an answer
    close    write its segments in line order and publish them

Whatever is told in between (`OpenShard.tell`) decides how it ends: KEEP closes, PAUSE releases,
STOP settles and closes, GONE throws everything away. A pause that is over before the shard is
released is over: its lines are sent on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass, field

import structlog

from batchmill.clock import Clock
from batchmill.core.collect import Collector, StorageSaid
from batchmill.core.dispatch import Dispatcher
from batchmill.core.duplicates import Copier
from batchmill.core.lines import Span, model_of, spans
from batchmill.core.models import Catalogue
from batchmill.core.order import Original, ShardOrder
from batchmill.core.outcomes import write_outcome
from batchmill.core.reading import custom_ids, read_shard
from batchmill.core.segments import is_large, write_segments
from batchmill.core.work import OpenLine, OpenShard
from batchmill.errors import BlobMissing, BlobsUnavailable, LedgerUnavailable
from batchmill.model import (
    Answer,
    Dialect,
    Ending,
    Fate,
    LineError,
    Outcome,
    Segment,
    Verdict,
)
from batchmill.ports import Blobs, Formats, Ledger

log = structlog.get_logger()

GRACE_SECONDS = 0.4
"""How long a stopped job's flights may still land before they are aborted."""

LARGE_CLOSINGS_AT_ONCE = 2

_REASONS = {
    Ending.EXPIRED: (
        Fate.EXPIRED,
        "batch_expired",
        "This request could not be executed before the completion window expired.",
    ),
    Ending.CANCELLED: (
        Fate.CANCELLED,
        "batch_cancelled",
        "This request was not executed because the batch was cancelled.",
    ),
    Ending.FAILED: (
        Fate.FAILED,
        "internal_error",
        "This request was not executed because its job could not go on.",
    ),
}


@dataclass(frozen=True, slots=True)
class Bench:
    """What running a shard needs."""

    ledger: Ledger
    blobs: Blobs
    dispatcher: Dispatcher
    collector: Collector
    formats: Formats
    clock: Clock
    copier: Copier
    storage: StorageSaid
    catalogue: Callable[[], Catalogue]
    """What the engines of all workers serve, as they were last seen."""
    is_ending: Callable[[], bool]
    """The worker was asked to end: nothing is waited for any more."""
    closing: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(LARGE_CLOSINGS_AT_ONCE)
    )
    """Held while a large shard's segments are written."""
    only_model: str | None = None
    """What every line is sent to, whatever it names; None: what it names."""


async def run_shard(shard: OpenShard, bench: Bench) -> None:
    """Run a leased shard to its end, its lines' models by the catalogue as it is when they are
    offered. Storage that cannot be used is waited for; a lease that is lost meanwhile ends the run
    without a trace."""
    opened = await _opened(shard, bench)
    shard.opened = True
    if opened is None:
        return
    if shard.lease.stop is None:
        await _send(shard, opened, bench)
    else:
        _settle(shard, shard.lease.stop, bench)
    await _committed(shard, bench)
    if shard.gone:
        bench.dispatcher.abort(shard)
        await _let_go(shard, bench)
    elif shard.waiting:
        await give_back(shard, bench)
    else:
        await _close(shard, bench)


async def give_back(shard: OpenShard, bench: Bench, *, after: float = 0.0) -> None:
    """Release a shard that is not complete, without a strike; it rests that many seconds."""
    lease = shard.lease.lease
    wanted = shard.wanted if shard.is_leaving else None

    async def release() -> None:
        await bench.ledger.release([lease], after=after, wanted=wanted)

    await _insist(shard, bench, release)


async def _let_go(shard: OpenShard, bench: Bench) -> None:
    """Release what a worker that fenced itself may still hold, so that nobody waits for it to
    lapse: a beat on its way may have renewed it. Until the ledger answers, or the worker ends: it
    was the ledger that was away, which is no strike. A lease of somebody else is not touched."""
    tries = 0
    while True:
        try:
            return await bench.ledger.release([shard.lease.lease])
        except LedgerUnavailable as error:
            if not tries:
                log.warning("release_failed", job=shard.job.id, error=str(error))
            if bench.is_ending():
                return None
        tries += 1
        await bench.clock.sleep(min(1.0, 0.1 * tries))


async def _send(shard: OpenShard, opened: Opened, bench: Bench) -> None:
    """Send until every line has its outcome, or until renew says otherwise. What was not sent
    before a pause is sent after it, if that ends while calls are out."""
    while True:
        left = opened.left()
        async with bench.copier.following(shard, left.same):
            bench.dispatcher.offer(shard, left.lines)
            while shard.waiting and shard.sends:
                await shard.change()
                bench.dispatcher.offer_next(shard)
        bench.dispatcher.withdraw(shard)
        while shard.flights and shard.is_leaving:
            await shard.change()
        if not shard.goes_on():
            break
        _rename(shard, bench)
    if shard.answer.verdict is Verdict.STOP:
        await _stopped(shard, bench)


@dataclass(frozen=True, slots=True)
class Opened:
    """The lines of a shard that have no outcome yet: those to be sent, and those that are the same
    as an earlier one, by that one's place."""

    lines: list[OpenLine] = field(default_factory=list)
    same: dict[Original, list[OpenLine]] = field(default_factory=dict)

    def left(self) -> Opened:
        """Those that are neither settled nor out."""
        left = Opened([line for line in self.lines if line.is_left])
        for original, lines in self.same.items():
            if its := [line for line in lines if line.is_left]:
                left.same[original] = its
        return left


async def _opened(shard: OpenShard, bench: Bench) -> Opened | None:
    """Read the shard and adopt what was published; what is left of it, or None when its job had to
    be stopped instead."""
    lease = shard.lease
    shard.parts = list(lease.parts)
    shard.settled = bytearray(lease.shard.lines)
    for part in lease.parts:
        for entry in part.entries:
            shard.settled[entry.line] = 1
    shard.waiting = lease.shard.lines - sum(shard.settled)
    if not shard.waiting:
        return Opened()
    order: ShardOrder | None = None
    lines: list[OpenLine] = []
    try:
        shard.data, order = await read_shard(lease, bench.blobs)
        lines = _lines(shard, order, bench)
    except BlobMissing as error:
        if lease.stop is None:
            await _fail_job(shard, error, bench)
            return None
        shard.data = b""
    _refuse_bad(shard, order, bench)
    _refuse_poison(shard, bench)
    opened, same = Opened(), order.same if order else {}
    for line in lines:
        if shard.settled[line.local]:
            continue
        original = same.get(line.local)
        if original is None:
            opened.lines.append(line)
        else:
            opened.same.setdefault(original, []).append(line)
    shard.lines = lines
    return opened


def _lines(shard: OpenShard, order: ShardOrder | None, bench: Bench) -> list[OpenLine]:
    served = _served(shard, bench)
    first = shard.lease.shard.first_line
    prefixes = order.prefixes() if order else [b""] * shard.lease.shard.lines
    allowed = order.allowed_tokens() if order else [0] * shard.lease.shard.lines
    return [
        OpenLine(
            shard,
            first + span.local,
            span.local,
            span.start,
            span.end,
            served(span),
            prefixes[span.local],
            allowed[span.local],
        )
        for span in spans(shard.data, shard.lease.shard)
        if not shard.settled[span.local]
    ]


def _rename(shard: OpenShard, bench: Bench) -> None:
    """Name the model of each line anew; a call that is out goes on as it is."""
    shard.names.clear()
    served = _served(shard, bench)
    for line in shard.lines:
        if not shard.settled[line.local]:
            line.model = served(Span(line.local, line.start, line.end, physical=0))


def _served(shard: OpenShard, bench: Bench) -> Callable[[Span], str]:
    """The name to send for a line: of its job's model, or of its own where lines have theirs, as
    OpenAI's do, and those of a job that was made without a model."""
    catalogue, names = bench.catalogue(), shard.names
    of_job = bench.only_model or shard.job.model or ""

    def served(asked: str) -> str:
        if asked not in names:
            names[asked] = catalogue.served_name(asked)
        return names[asked]

    has_one = shard.job.dialect is not Dialect.OPENAI and shard.job.model is not None
    if bench.only_model or has_one:
        return lambda _: served(of_job)
    return lambda span: served(model_of(shard.data[span.start : span.end]) or of_job)


def _refuse_bad(shard: OpenShard, order: ShardOrder | None, bench: Bench) -> None:
    """Lines that validation found bad fail with what it said, unsent."""
    for local, bad in (order.bad if order else {}).items():
        if not shard.settled[local]:
            outcome = Outcome(Fate.FAILED, code=bad.error.code, message=bad.error.message)
            _write(shard, local, bad.custom_id, outcome, bench)


def _refuse_poison(shard: OpenShard, bench: Bench) -> None:
    """A line that was in flight alone when two owners died is not sent a third time."""
    lease = shard.lease
    if lease.alone is None or lease.alone_deaths < 2 or shard.settled[lease.alone]:
        return
    message = "A worker died twice while this line was the only one in flight."
    outcome = Outcome(Fate.FAILED, code="worker_lost", message=message)
    custom_id = custom_ids(lease.shard, shard.data)[lease.alone]
    _write(shard, lease.alone, custom_id, outcome, bench)


async def _landed(shard: OpenShard) -> None:
    while shard.flights and not shard.gone:
        await shard.change()


async def _stopped(shard: OpenShard, bench: Bench) -> None:
    """Let flights land for a moment, abort the rest, and give what is left its reason."""
    try:
        async with asyncio.timeout(GRACE_SECONDS):
            await _landed(shard)
    except TimeoutError:
        bench.dispatcher.abort(shard)
        await _landed(shard)
    if not shard.gone:
        _settle(shard, shard.answer.ending or Ending.CANCELLED, bench)


def _settle(shard: OpenShard, ending: Ending, bench: Bench) -> None:
    fate, code, message = _REASONS[ending]
    outcome = Outcome(fate, code=code, message=message)
    for local, custom_id in enumerate(custom_ids(shard.lease.shard, shard.data)):
        if not shard.settled[local]:
            _write(shard, local, custom_id, outcome, bench)


async def _committed(shard: OpenShard, bench: Bench) -> None:
    while shard.uncommitted and not shard.gone:
        bench.collector.hurry()
        await shard.change()


async def _close(shard: OpenShard, bench: Bench) -> None:
    """Write the segments and publish them. They are written once: where the ledger gives no answer
    they may be published, and what they were made of may be gone."""
    segments: list[Segment] | None = None

    async def close() -> None:
        nonlocal segments
        if segments is None:
            async with bench.closing if is_large(shard) else nullcontext():
                segments = await write_segments(shard, bench.blobs, bench.formats)
        if not await bench.ledger.close(shard.lease.lease, segments):
            shard.tell(Answer(Verdict.GONE))

    await _insist(shard, bench, close)


async def _insist(shard: OpenShard, bench: Bench, step: Callable[[], Awaitable[None]]) -> None:
    """Take a step that the blobs or the ledger may refuse now: until it is done or the lease
    goes."""
    tries = 0
    while not shard.gone:
        try:
            await step()
        except (BlobsUnavailable, LedgerUnavailable) as error:
            if not tries:
                log.warning("storage_unavailable", job=shard.job.id, error=str(error))
            if isinstance(error, BlobsUnavailable):
                bench.storage(written=False)
            tries += 1
            await bench.clock.sleep(min(2.0, 0.2 * tries))
        else:
            return


async def _fail_job(shard: OpenShard, error: BlobMissing, bench: Bench) -> None:
    message = f"The job's input can no longer be read: {error}"
    log.warning("job_input_missing", job=shard.job.id, blob=error.name)
    reason = LineError("internal_error", message)
    await _insist(shard, bench, lambda: bench.ledger.fail_job(shard.job.id, reason))
    await give_back(shard, bench)


def _write(shard: OpenShard, local: int, custom_id: bytes, outcome: Outcome, bench: Bench) -> None:
    number = shard.lease.shard.first_line + local
    write_outcome(shard, number, local, custom_id, outcome, bench.formats, bench.collector)
