"""Keeping every engine's window full from the open shards. No barriers: a slow line holds one
slot and nothing else.

Each engine has as many senders as it may have calls in flight. A sender takes the next line of
the pool, sends it once, and acts on what `retry.decide` says; a line that has to wait goes back
to the pool and holds no slot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from batchmill.calls import Answered, Call, Overloaded, Refused, Reply
from batchmill.clock import Clock, jitter
from batchmill.core.collect import Collector
from batchmill.core.failing import failure_of
from batchmill.core.gate import Gate, Route
from batchmill.core.lines import open_line, with_model
from batchmill.core.links import Link
from batchmill.core.pool import Pool
from batchmill.core.retry import Again, Decision, Finish, SetAside, decide
from batchmill.core.work import OpenLine, OpenShard
from batchmill.errors import LedgerUnavailable
from batchmill.model import Answer, Fate, Outcome, Stream, Verdict
from batchmill.ports import (
    Formats,
    Ledger,
)

log = structlog.get_logger()


class Dispatcher:
    """The senders of all engines over one pool."""

    def __init__(
        self,
        links: tuple[Link, ...],
        pool: Pool,
        collector: Collector,
        ledger: Ledger,
        formats: Formats,
        clock: Clock,
        may_send: Callable[[], bool],
        on_line: Callable[[], None],
        released: Callable[[int], None],
    ) -> None:
        self.links, self.pool = links, pool
        self._collector, self._ledger, self._formats = collector, ledger, formats
        self._clock, self._may_send, self._on_line = clock, may_send, on_line
        self._released = released
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = 0.0

    async def run(self) -> None:
        """Send for ever; cancelled by its owner."""
        async with asyncio.TaskGroup() as senders:
            for link in self.links:
                for _ in range(link.spec.concurrency):
                    senders.create_task(self._send_lines(link))

    def offer(self, shard: OpenShard, lines: list[OpenLine]) -> None:
        """Let the lines of a shard be sent; a serial shard's one after the other."""
        if shard.serial:
            shard.backlog.extend(lines)
            self.offer_next(shard)
        else:
            for line in lines:
                self.pool.add(line)
        self.ring()

    def offer_next(self, shard: OpenShard) -> None:
        """Let a serial shard's next line be sent once none is out and every outcome is durable:
        else the lines before one that kills its worker would be sent, and noted, once more."""
        none_is_out = shard.waiting == len(shard.backlog)
        if shard.backlog and none_is_out and not shard.uncommitted:
            self.pool.add(shard.backlog.popleft())
            self.ring()

    def withdraw(self, shard: OpenShard) -> None:
        """Send none of the shard's waiting lines any more; others may have waited for them."""
        shard.backlog.clear()
        self.pool.forget(shard)
        self.ring()

    def ring(self) -> None:
        """Something may be sendable now: wake one idle sender of each engine. A sender that
        finds a line wakes the next."""
        for link in self.links:
            _wake_one(link)

    async def _send_lines(self, link: Link) -> None:
        while True:
            await self._attempt(link, await self._next(link))

    async def _next(self, link: Link) -> OpenLine:
        while True:
            now = self._clock.boot()
            line = self.pool.next(link.gate, link.serves, now) if self._may_send() else None
            if line is not None:
                _wake_one(link)
                self._on_line()
                return line
            self._set_alarm(link, now)
            turn = asyncio.get_running_loop().create_future()
            link.idle.append(turn)
            await turn

    def _set_alarm(self, link: Link, now: float) -> None:
        """Ring when the next delayed line or closed gate opens."""
        moments = [m for m in (self.pool.wakes_at(), link.gate.opens_at(now)) if m is not None]
        if not moments:
            return
        at = min(moments)
        if self._alarm is not None:
            if self._alarm_at <= at:
                return
            self._alarm.cancel()
        self._alarm_at = at
        wait = max(0.001, at - now)
        self._alarm = asyncio.get_running_loop().call_later(wait, self._alarm_rings)

    def _alarm_rings(self) -> None:
        self._alarm = None
        self.ring()

    async def _attempt(self, link: Link, line: OpenLine) -> None:
        shard, gate = line.shard, link.gate
        route: Route = (shard.job.endpoint, line.model)
        alone = line.history is not None and line.history.must_run_alone
        self.pool.sent(line)
        gate.sent(route)
        gate.alone = alone
        task = asyncio.current_task()
        assert task is not None
        shard.flights.add(task)
        try:
            opened = await self._open(line)
            if opened is None:
                return
            custom_id, body = opened
            sent_at = self._clock.boot()
            reply = await link.transport.send(
                Call(shard.job.endpoint, body, link.spec.timeout_seconds)
            )
        except asyncio.CancelledError:
            if task not in shard.aborted or task.uncancel():
                raise
            return
        finally:
            shard.flights.discard(task)
            shard.aborted.discard(task)
            self.pool.returned(line)
            gate.returned(route)
            if alone:
                gate.alone = False
            if not shard.sends:
                shard.changed()
        if not shard.gone:
            self._act(link, route, line, custom_id, reply, sent_at=sent_at, alone=alone)
            if shard.serial and not shard.settled[line.local]:
                await self._note_none(shard)
        elif isinstance(reply, Answered):
            self._released(reply.held_bytes)

    async def _open(self, line: OpenLine) -> tuple[bytes, bytes] | None:
        """The line's custom_id and the body to send; None when it may not be sent after all."""
        shard = line.shard
        if shard.serial and not await self._noted(line):
            return None
        try:
            custom_id, body = open_line(line.raw)
            return custom_id, with_model(body, line.model) if line.model else body
        except ValueError:
            message = "The input of this line could not be read back; it has been damaged."
            self.finish(line, b"null", Outcome(Fate.FAILED, code="internal_error", message=message))
            return None

    async def _noted(self, line: OpenLine) -> bool:
        """Note in the ledger that this line goes alone, before it does."""
        shard = line.shard
        while not shard.gone:
            try:
                if await self._ledger.note_alone(shard.lease.lease, line.local):
                    return shard.sends
                shard.tell(Answer(Verdict.GONE))
            except LedgerUnavailable:
                await self._clock.sleep(0.5)
        return False

    async def _note_none(self, shard: OpenShard) -> None:
        """Note that the line which was sent alone now waits: a death meanwhile is not its own."""
        try:
            await self._ledger.note_alone(shard.lease.lease, None)
        except LedgerUnavailable as error:
            log.warning("note_failed", job=shard.job.id, error=str(error))

    def _act(
        self,
        link: Link,
        route: Route,
        line: OpenLine,
        custom_id: bytes,
        reply: Reply,
        *,
        sent_at: float,
        alone: bool,
    ) -> None:
        """Do what follows from a reply."""
        gate = link.gate
        if isinstance(reply, Answered):
            gate.answered(route, well=True)
            outcome = Outcome(
                Fate.SUCCEEDED, reply.status, reply.body, reply.request_id, usage=reply.usage
            )
            self.finish(line, custom_id, outcome, held_bytes=reply.held_bytes)
            return
        decision = decide(
            reply,
            line.begun_history(),
            answers=gate.answers.get(route, 0),
            alone=alone,
            jitter=jitter(),
        )
        now = self._clock.boot()
        self._note(gate, route, reply, decision, sent_at, now)
        match decision:
            case Finish(outcome):
                self.finish(line, custom_id, outcome)
            case Again(after_seconds=after) | SetAside(after_seconds=after):
                if line.shard.sends:
                    self.pool.delay(line, now + after)
                    self.ring()

    def _note(
        self, gate: Gate, route: Route, reply: Reply, decision: Decision, sent_at: float, now: float
    ) -> None:
        """Tell the gate what a reply that is no answer says about the engine."""
        match decision:
            case SetAside(scope, reason):
                gate.set_aside(scope, route, reason, sent_at=sent_at, now=now)
            case Again(overloaded=True):
                asked = reply.retry_after_seconds if isinstance(reply, Overloaded) else None
                gate.overloaded(asked, now=now)
            case _ if isinstance(reply, Refused):
                gate.answered(route, well=False)

    def finish(
        self, line: OpenLine, custom_id: bytes, outcome: Outcome, held_bytes: int = 0
    ) -> None:
        """Give the line its outcome: from here on it is the collector's to make durable."""
        shard = line.shard
        if shard.settled[line.local]:
            self._released(held_bytes)
            return
        write_outcome(
            shard,
            line.number,
            line.local,
            custom_id,
            outcome,
            self._formats,
            self._collector,
            held_bytes,
        )
        if shard.serial:
            self._collector.hurry()


def write_outcome(
    shard: OpenShard,
    number: int,
    local: int,
    custom_id: bytes,
    outcome: Outcome,
    formats: Formats,
    collector: Collector,
    held_bytes: int = 0,
) -> None:
    """Write the result line of one line of a shard and hand it to the collector."""
    job = shard.job
    text = formats[job.dialect].result(job, number, custom_id, outcome)
    if outcome.fate is Fate.SUCCEEDED:
        collector.add(shard, local, Stream.OUT, text, outcome.usage, held_bytes)
    else:
        collector.add(shard, local, Stream.ERR, text, outcome.usage, held_bytes)
        collector.add_failure(shard, failure_of(local, custom_id, outcome))
    shard.settled[local] = 1
    shard.waiting -= 1
    if not shard.waiting:
        collector.hurry()
        shard.changed()


def _wake_one(link: Link) -> None:
    while link.idle:
        turn = link.idle.popleft()
        if not turn.done():
            turn.set_result(None)
            return
